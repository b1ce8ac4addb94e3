//! Files and folders as one capture.
//!
//! A folder is its segments in the order of their names, which sort by time; several paths follow
//! each other as they were given. Damage in one segment ends that segment, not the capture.

use std::{
    collections::{HashSet, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    SEALED_SUFFIX,
    chunk::{Sharing, Unpacked},
    entries::{self, SegmentEntries, Shared},
    hot,
    loss::Losses,
    place::Place,
    refuse_pipe,
    summary::{of_summary, summary},
};
use crate::{
    entry::{Entry, Frame, FrameType, Subscription},
    error::{Error, Kind, Result},
    files::Identity,
};

/// One file of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// It is still being recorded, or was left behind by a recorder that was killed.
    pub hot: bool,
    /// It lies in a folder that is read, and could not be sealed as it was: what was sealed of it would come
    /// twice, so it is damage, and only read where it is named itself.
    pub set_aside: bool,
    /// It was found in a folder: it may be gone by the time that it is read, as a recorder deletes there.
    pub listed: bool,
}

impl Segment {
    /// What to tell if it cannot be opened.
    pub(crate) fn unopened(&self, error: Error) -> Error {
        if self.listed && error.is_not_found() {
            return Kind::damaged(&self.path, 0, "it is not there any more".to_owned()).into();
        }
        error
    }

    /// Why it is not read, if it is not.
    pub(crate) fn unread(&self) -> Option<Error> {
        let reason = "only what is proven of it was sealed; name it to read what else is whole";
        self.set_aside.then(|| Kind::damaged(&self.path, 0, reason.to_owned()).into())
    }

    /// A live recorder writes it right now: it is hot, something is in it, and its lock is held.
    pub fn is_being_recorded(&self) -> bool {
        self.hot
            && self.size > 0
            && fs::File::open(&self.path).is_ok_and(|file| hot::is_owned(&file))
    }
}

/// One or more segments, read as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    segments: Vec<Segment>,
    repeated: Vec<PathBuf>,
}

/// Whose a channel is, and the type of its frames; None if it holds session events.
pub type Channel = (Arc<Subscription>, Option<Arc<FrameType>>);

impl Capture {
    /// Finds the segments of files and folders, one to which several paths or links lead once. Opens none of them
    /// yet.
    pub fn open<P: AsRef<Path>>(paths: &[P]) -> Result<Self> {
        let mut all = Self { segments: Vec::new(), repeated: Vec::new() };
        for one in Self::open_each(paths)? {
            all.segments.extend(one.segments);
            all.repeated.extend(one.repeated);
        }
        Ok(all)
    }

    /// The same with a capture for each path. A file to which several lead is in that of the first.
    pub fn open_each<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<Self>> {
        let mut known = HashSet::new();
        let mut is_repeated = |segment: &mut Segment| {
            // What lies aside is not read there, so who names it itself names it once. One that is sealed since
            // it was found has another name now.
            let identity = Identity::of(&segment.path).ok().filter(|_| !segment.set_aside);
            identity.is_some_and(|identity| !known.insert(identity))
        };
        let each = paths.iter().map(|path| {
            let mut segments = segments_at(path.as_ref())?;
            let repeated = segments.extract_if(.., &mut is_repeated).map(|segment| segment.path);
            let repeated = repeated.collect();
            Ok(Self { segments, repeated })
        });
        each.collect()
    }

    /// Other names of files that are read by their first one.
    pub fn repeated(&self) -> &[PathBuf] {
        &self.repeated
    }

    /// The files, in the order in which they are read.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Every entry, in order. An error that [is damage](Error::is_damage) does not end the iteration:
    /// the next segment follows.
    pub fn entries(&self) -> Entries {
        Entries {
            waiting: self.segments.clone().into_iter(),
            current: None,
            shared: Shared::default(),
            sharing: None,
            position: 0,
            losses: Losses::default(),
            told: VecDeque::new(),
        }
    }

    /// Everybody who has a channel in the capture, and the types of their frames; `None` stands for
    /// session events. Sealed segments answer from their summary, without being read.
    pub fn channels(&self) -> Result<Vec<Channel>> {
        let mut found: Vec<Channel> = Vec::new();
        for segment in self.segments.iter().filter(|segment| !segment.set_aside) {
            for channel in channels_of(segment)? {
                let channel = (channel.subscription, channel.kind);
                if !found.contains(&channel) {
                    found.push(channel);
                }
            }
        }
        found.sort_by(|(a, a_kind), (b, b_kind)| {
            let label =
                |kind: &Option<Arc<FrameType>>| kind.as_ref().map(|kind| kind.label.clone());
            (&a.name, &a.topic, label(a_kind)).cmp(&(&b.name, &b.topic, label(b_kind)))
        });
        Ok(found)
    }
}

fn segments_at(path: &Path) -> Result<Vec<Segment>> {
    refuse_pipe(path, "a capture in a file or a folder")?;
    let metadata = fs::metadata(path).map_err(Error::io("open", path))?;
    if !metadata.is_dir() {
        let named = segment(path.to_owned(), metadata.len());
        return Ok(vec![Segment { set_aside: false, listed: false, ..named }]);
    }
    let found = segments_in(path)?;
    if found.is_empty() {
        return Err(Kind::NoCapture { path: path.to_owned() }.into());
    }
    Ok(found)
}

fn segments_in(folder: &Path) -> Result<Vec<Segment>> {
    let mut found = Vec::new();
    for item in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let item = item.map_err(Error::io("read", folder))?;
        let path = item.path();
        if !path.to_string_lossy().ends_with(SEALED_SUFFIX) && !hot::is_set_aside(&path) {
            continue;
        }
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => found.push(segment(path, metadata.len())),
            Ok(_) => {}
            // Sealed since it was listed; the new name may not be in the list.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A link to nowhere is told when it is to be read.
                if path.is_symlink() {
                    found.push(segment(path, 0));
                    continue;
                }
                let sealed = hot::sealed_path(&path);
                if let Ok(metadata) = fs::metadata(&sealed) {
                    found.push(segment(sealed, metadata.len()));
                }
            }
            Err(error) => return Err(Error::io("look at", &path)(error)),
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.dedup_by(|a, b| a.path == b.path);
    // Killed between the rename and the deletion of the hot one, a segment is there twice.
    let sealed: Vec<_> = found.iter().filter(|s| !s.hot).map(|s| s.path.clone()).collect();
    found.retain(|s| !s.hot || !sealed.contains(&hot::sealed_path(&s.path)));
    Ok(found)
}

fn segment(path: PathBuf, size: u64) -> Segment {
    let (hot, set_aside) = (hot::is_hot(&path), hot::is_set_aside(&path));
    Segment { path, size, hot, set_aside, listed: true }
}

/// A hot segment may be sealed, and thereby get its other name, after it was found.
fn open(segment: &Segment) -> Result<SegmentEntries> {
    let sealed = segment.hot.then(|| hot::sealed_path(&segment.path));
    let opened = match (SegmentEntries::open(&segment.path), sealed) {
        (Err(_), Some(sealed)) if !segment.path.exists() && sealed.exists() => {
            SegmentEntries::open(&sealed)
        }
        (entries, _) => entries,
    };
    opened.map_err(|error| segment.unopened(error))
}

fn channels_of(segment: &Segment) -> Result<Vec<entries::Channel>> {
    if !segment.hot
        && let Some(summary) = summary(&segment.path)
    {
        return Ok(summary.channels.values().map(|channel| of_summary(channel)).collect());
    }
    let mut entries = match open(segment) {
        Err(error) if error.is_damage() => return Ok(Vec::new()),
        entries => entries?,
    };
    while let Some(entry) = entries.next() {
        match entry {
            Err(error) if !error.is_damage() => return Err(error),
            _ => {}
        }
    }
    Ok(entries.channels().cloned().collect())
}

/// Entries that are unpacked by the chunk.
pub trait InChunks: Iterator<Item = Result<Entry>> {
    /// Whether the last one was also the last one of its chunk, so that what comes next has to be unpacked
    /// first. Where there are no chunks, anything may be said.
    fn chunk_is_over(&self) -> bool;
}

/// The entries of a capture, segment after segment.
pub struct Entries {
    waiting: std::vec::IntoIter<Segment>,
    current: Option<SegmentEntries>,
    /// Of the segments so far, when none is being read.
    shared: Shared,
    sharing: Option<Arc<Sharing>>,
    position: usize,
    losses: Losses,
    /// What is to be returned before anything else.
    told: VecDeque<Result<Entry>>,
}

impl Entries {
    /// Has what is unpacked in common with all others that are given the same.
    #[must_use]
    pub fn sharing(self, unpacked: &Arc<Unpacked>) -> Self {
        Self { sharing: Some(Arc::new(Sharing::of(unpacked))), ..self }
    }

    /// The metadata records of the segment that is being read, as far as they came by.
    pub fn metadata(&self) -> &[mcap::records::Metadata] {
        self.current.as_ref().map_or(&[], SegmentEntries::metadata)
    }

    /// Where the frame is that came last.
    pub(crate) fn place_of(&self, last: &Frame) -> Place {
        let current = self.current.as_ref();
        let (offset, within) = current.map_or((0, None), |entries| entries.place_of(&last.data));
        Place { segment: self.position.saturating_sub(1) as u32, offset, within }
    }

    /// Which segment is being read, counted from 1; 0 before the first.
    pub fn segment(&self) -> usize {
        self.position
    }
}

impl InChunks for Entries {
    fn chunk_is_over(&self) -> bool {
        self.current.as_ref().is_none_or(SegmentEntries::chunk_is_over)
    }
}

impl Iterator for Entries {
    type Item = Result<Entry>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Some(told);
            }
            if let Some(entries) = &mut self.current
                && let Some(entry) = entries.next()
            {
                match &entry {
                    Ok(found) => match self.losses.see(found) {
                        None => return Some(entry),
                        Some(lost) => self.told.push_back(Err(lost.into())),
                    },
                    Err(error) => {
                        if error.is_damage()
                            && !error.is_cost_of_damage()
                            && entries.counters_tell()
                        {
                            let (recording, last) = (entries.recording(), entries.last_sequences());
                            let over = self.losses.damaged(recording, last);
                            self.told.extend(over.into_iter().map(|lost| Err(lost.into())));
                        }
                    }
                }
                self.told.push_back(entry);
                continue;
            }
            match self.open_next() {
                Some(Ok(())) => {}
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    self.told.extend(self.losses.end().map(|lost| Err(lost.into())));
                    return self.told.pop_front();
                }
            }
        }
    }
}

impl Entries {
    /// Goes on to the next segment. None if there is none.
    #[inline(never)]
    fn open_next(&mut self) -> Option<Result<()>> {
        let segment = self.waiting.next()?;
        self.position += 1;
        if let Some(ended) = self.current.take() {
            // A selection may have left out the last ones.
            let last = (!ended.has_holes()).then(|| ended.last_sequences());
            let over = self.losses.ended(ended.recording(), last);
            self.told.extend(over.into_iter().map(|lost| Err(lost.into())));
            self.shared = ended.into_shared();
        }
        if let Some(error) = segment.unread() {
            return Some(Err(error));
        }
        let opened = open(&segment).map(|entries| {
            let entries = entries.unpacking(self.sharing.clone());
            self.current = Some(entries.sharing(std::mem::take(&mut self.shared)));
        });
        Some(opened)
    }
}
