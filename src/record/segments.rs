//! The segments of a recording: which one is written to, when the next one begins, which old ones go.
//!
//! A segment that has ended is sealed by a thread of its own, which may fall behind: the recording
//! never waits for it. The same thread finds out what the ring has too much of. That comes back to
//! whoever writes, who tells it in the ledger, and then lets the thread delete it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    Clock, Keep, Notice, Notify,
    clock::Watch,
    earlier::Earlier,
    hook::{self, Hooks, Wanted},
    ring::{Leaving, Ring, sealed_in},
};
use crate::{
    capture::{
        About, Compression, HOT_SUFFIX, HotSegment, LeftOver, SEALED_SUFFIX, Sealed, seal_unless,
    },
    entry::{Entry, FrameType, Timestamp},
    error::{Error, Kind, Result},
    files::folder_of,
};

/// When a segment ends and the next one begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// When it has so many bytes, before it is compressed.
    pub size: Option<u64>,
    /// At each multiple of this on the wall clock, counted from midnight UTC of 1 January 1970.
    pub every: Option<Duration>,
}

impl Split {
    /// Nothing ends a segment but the end of the recording.
    pub fn is_never(self) -> bool {
        self == Self::default()
    }

    /// When a segment ends that begins now.
    fn until(self, now: Timestamp) -> Option<Timestamp> {
        let every = u64::try_from(self.every?.as_nanos()).ok().filter(|&every| every > 0)?;
        let next = (now.as_nanos() / every).checked_add(1)?.checked_mul(every)?;
        Some(Timestamp::from_nanos(next))
    }
}

/// What a recording does when nothing can be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// Goes on without keeping anything, writes down what was lost, and keeps again when it can. Where there
    /// is one file and no folder, it ends.
    #[default]
    Wait,
    /// Ends.
    Stop,
    /// Deletes the oldest sealed segment to make room, and goes on like `Wait` where that is no help.
    DropOldest,
}

/// Where segments go, and what becomes of them.
pub(super) struct Segments {
    place: Place,
    about: About,
    kinds: Vec<Arc<FrameType>>,
    split: Split,
    open: Option<Open>,
    /// The moment in the name of the last segment in the folder. The next name is after it, also where
    /// the clock was set back: segments follow each other in the order of their names.
    named: Option<Timestamp>,
    sealer: Sealer,
}

/// How segments are named.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// There is one, and its name is given.
    File(PathBuf),
    /// Each is named by the moment at which it begins.
    Folder(PathBuf),
}

struct Open {
    segment: HotSegment,
    until: Option<Timestamp>,
}

/// What the sealing thread does besides sealing.
pub(super) struct Care {
    pub keep: Keep,
    pub compression: Compression,
    /// Is run with the path of each sealed segment as its argument.
    pub on_sealed: Option<String>,
    /// What was sealed of an earlier run, for which that is still to be done.
    pub sealed_before: Vec<Sealed>,
    /// What is not sealed so far.
    pub left_hot: Vec<LeftHot>,
    /// What earlier recordings have covered: they are read for that before they are sealed.
    pub earlier: Earlier,
    /// The user waits for the end: what an earlier run has left is for the next one.
    pub is_hurried: Arc<AtomicBool>,
    pub notify: Notify,
    pub clock: Arc<dyn Clock>,
}

/// A hot segment that an earlier run has left, or that could not be sealed.
pub(super) struct LeftHot {
    path: PathBuf,
    /// The name that it will have.
    sealed_path: PathBuf,
    /// It is no part of this recording.
    is_of_earlier_run: bool,
    /// When it could not be sealed, which was told, and how long it is left alone since then.
    failed: Option<(Instant, Duration)>,
    /// The command has had the sealed one, or will: it was there already when the recording began.
    is_handed_over: bool,
}

impl LeftHot {
    pub(super) fn of_earlier_run(left_over: LeftOver) -> Self {
        let LeftOver { path, sealed_path } = left_over;
        Self { path, sealed_path, is_of_earlier_run: true, failed: None, is_handed_over: false }
    }

    /// Another recording has sealed what both have found; or is at it, when there is no time to see that.
    fn is_sealed_by_another(&self, error: &Error, is_end: bool) -> bool {
        let is_gone = || !self.path.exists();
        self.is_of_earlier_run && (is_gone() || (is_end && error.is_in_use()))
    }

    fn fail(&mut self, now: Instant, error: &Error) {
        let longer = |(_, wait): (_, Duration)| (2 * wait).clamp(TEND_EVERY, LONGEST_WAIT);
        // Whether there is room is looked at before.
        let is_full = error.is_full();
        let wait = if is_full { Duration::ZERO } else { self.failed.map_or(TEND_EVERY, longer) };
        self.failed = Some((now, wait));
    }

    fn is_time(&self, now: Instant) -> bool {
        self.failed.is_none_or(|(at, wait)| now.saturating_duration_since(at) >= wait)
    }

    fn of_this_run(segment: &HotSegment) -> Self {
        Self {
            path: segment.path().to_owned(),
            sealed_path: segment.sealed_path().to_owned(),
            is_of_earlier_run: false,
            failed: None,
            is_handed_over: false,
        }
    }
}

impl Segments {
    /// Begins the first segment, after those that an earlier run has left.
    pub(super) fn start(
        place: Place,
        about: About,
        kinds: Vec<Arc<FrameType>>,
        split: Split,
        care: Care,
    ) -> Result<Self> {
        let folder = match &place {
            Place::File(_) => None,
            Place::Folder(folder) => Some(folder.clone()),
        };
        let left_hot = care.left_hot.iter().filter_map(|left| moment_in(&left.sealed_path));
        let sealed = folder.as_deref().and_then(|folder| moment_in(sealed_in(folder).last()?));
        let named = left_hot.chain(sealed).max();
        let sealer = Sealer::start(folder, care);
        let now = about.started;
        let mut segments = Self { place, about, kinds, split, open: None, named, sealer };
        segments.begin(now)?;
        Ok(segments)
    }

    /// The one that is being written to.
    pub(super) fn path(&self) -> Option<&Path> {
        self.open.as_ref().map(|open| open.segment.path())
    }

    /// How many that have ended are not sealed yet, now and later.
    pub(super) fn sealing(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.sealer.waiting)
    }

    /// There can be a second one.
    pub(super) const fn has_room_for_more(&self) -> bool {
        matches!(self.place, Place::Folder(_))
    }

    /// Begins a segment. The one before it, if there is one, goes to be sealed.
    pub(super) fn begin(&mut self, now: Timestamp) -> Result<()> {
        let kinds: Vec<_> = self.kinds.iter().map(AsRef::as_ref).collect();
        let segment = match &self.place {
            Place::File(path) => HotSegment::create(path, &self.about, &kinds)?,
            Place::Folder(folder) => {
                // A name has milliseconds, and two segments may begin in one.
                let mut begins = self.named.map_or(now, |last| now.max(last.after(NAME_STEP)));
                loop {
                    let path = folder.join(name_at(begins));
                    match HotSegment::create(&path, &self.about, &kinds) {
                        Err(error) if error.is_taken() => begins = begins.after(NAME_STEP),
                        result => {
                            let segment = result?;
                            self.named = Some(begins);
                            break segment;
                        }
                    }
                }
            }
        };
        let until = self.split.until(now);
        if let Some(ended) = self.open.replace(Open { segment, until }) {
            self.sealer.seal(ended.segment);
        }
        Ok(())
    }

    /// Writes entries, all or none of them.
    pub(super) fn write<'e>(&mut self, entries: impl Iterator<Item = &'e Entry>) -> Result<()> {
        let segment = self.segment()?;
        for entry in entries {
            segment.append(entry)?;
        }
        segment.commit()
    }

    /// The segment that is being written to.
    pub(super) fn segment(&mut self) -> Result<&mut HotSegment> {
        let none = || Error::from(Kind::Internal { reason: "no segment is open".to_owned() });
        self.open.as_mut().map(|open| &mut open.segment).ok_or_else(none)
    }

    /// Whether it is time for the next segment, or it is `asked` for and there can be one.
    pub(super) fn is_over(&mut self, now: Timestamp, asked: bool) -> bool {
        let has_room_for_more = self.has_room_for_more();
        let Some(open) = &mut self.open else { return false };
        let too_large = self.split.size.is_some_and(|most| open.segment.size() >= most);
        let over = open.until.is_some_and(|until| now >= until);
        if open.segment.is_empty() {
            // The next one would be no better.
            open.until = self.split.until(now);
            return false;
        }
        (too_large || over || asked) && has_room_for_more
    }

    /// The wall clock was set: the open segment ends at the next multiple on the new one.
    pub(super) fn clock_stepped(&mut self, now: Timestamp) {
        if let Some(open) = &mut self.open {
            open.until = self.split.until(now);
        }
    }

    /// Nothing more is written to the open segment: a write to it has failed. What is whole in it will
    /// be sealed.
    pub(super) fn give_up(&mut self) {
        if let Some(Open { segment, .. }) = self.open.take() {
            if segment.is_empty() {
                self.sealer.discard(segment);
            } else {
                self.sealer.seal(segment);
            }
        }
    }

    /// Deletes the oldest sealed segments that the user's command has had, to make room: one, and more until what
    /// waits to be sealed has some, too, and is sealed. That is deleted by nobody, and would be all there is in the
    /// end. None: there are no such segments, or they stay.
    pub(super) fn delete_oldest(&self) -> Vec<Leaving> {
        let Place::Folder(folder) = &self.place else { return Vec::new() };
        let wanted = |path: &Path| self.sealer.wanted.contains(path);
        let room = room_to_seal_in(folder);
        let mut deleted = Vec::new();
        while let Some(oldest) = Leaving::oldest_in(folder, "the disk was full", wanted)
            && oldest.delete(&self.sealer.notify)
        {
            deleted.push(oldest);
            if free_space(folder).is_none_or(|free| free >= room) {
                break;
            }
        }
        if !deleted.is_empty() {
            self.sealer.seal_what_waits();
        }
        deleted
    }

    /// What has to go. It stays until [`delete`](Self::delete) is told that the ledger has it.
    pub(super) fn leaving(&self) -> Vec<Leaving> {
        let named = self.sealer.leaving.try_iter().flatten();
        // It may have been deleted meanwhile because the disk was full, and was told then.
        named.filter(Leaving::is_there).collect()
    }

    /// The same, when all that has ended is sealed: it waits for that.
    pub(super) fn last_leaving(&self) -> Vec<Leaving> {
        let (settled, is_settled) = mpsc::sync_channel(1);
        let asked = self.sealer.jobs.send(Job::Settle(settled));
        // Where the thread is gone, it has named all that it ever will.
        let _ = asked.map(|()| is_settled.recv());
        self.leaving()
    }

    /// Deletes what the ledger has been told of.
    pub(super) fn delete(&self, told: Vec<Leaving>) {
        let _ = self.sealer.jobs.send(Job::Delete(told));
    }

    /// Ends the last segment and waits until all are sealed. An error is the first thing that went wrong with one of
    /// them; the others are sealed all the same.
    pub(super) fn finish(mut self) -> (Vec<Sealed>, Option<Error>) {
        if let Some(Open { segment, .. }) = self.open.take() {
            self.sealer.seal(segment);
        }
        self.sealer.finish()
    }
}

/// Names of segments differ by this at least.
const NAME_STEP: Duration = Duration::from_millis(1);

/// `20260101T080000.000Z.mcap`: names sort as the moments do.
fn name_at(moment: Timestamp) -> String {
    let text = moment.to_string();
    let to_millis = text.chars().take("2026-01-01T00:00:00.000".len());
    let stamp: String = to_millis.filter(|character| !matches!(character, '-' | ':')).collect();
    format!("{stamp}Z{SEALED_SUFFIX}")
}

/// The moment that [`name_at`] made a name of.
fn moment_in(path: &Path) -> Option<Timestamp> {
    path.file_name()?.to_str()?.strip_suffix(SEALED_SUFFIX)?.parse().ok()
}

/// Whether a recording has given the file its name. Nobody else's file is ever deleted.
pub(super) fn is_name(name: &str) -> bool {
    const SHAPE: &str = "00000000T000000.000Z";

    let Some(stem) = name.strip_suffix(SEALED_SUFFIX) else { return false };
    let fits = |(found, shape): (char, char)| match shape {
        '0' => found.is_ascii_digit(),
        _ => found == shape,
    };
    stem.len() == SHAPE.len() && stem.chars().zip(SHAPE.chars()).all(fits)
}

/// The size of what is still hot in a folder.
pub(super) fn hot_size_in(folder: &Path) -> u64 {
    hot_sizes_in(folder).sum()
}

fn hot_sizes_in(folder: &Path) -> impl Iterator<Item = u64> {
    let is_hot = |item: &fs::DirEntry| item.file_name().to_string_lossy().ends_with(HOT_SUFFIX);
    let hot = fs::read_dir(folder).into_iter().flatten().flatten().filter(is_hot);
    hot.filter_map(|item| item.metadata().ok()).map(|metadata| metadata.len())
}

/// How much has to be free so that anything hot in a folder can be sealed. Nothing, if deleting all that is sealed
/// would not be enough for it.
fn room_to_seal_in(folder: &Path) -> u64 {
    let largest = hot_sizes_in(folder).max().map_or(0, |size| size + 1);
    let sealed = sealed_in(folder).into_iter().filter_map(|path| path.metadata().ok());
    let sealed: u64 = sealed.map(|metadata| metadata.len()).sum();
    let most = free_space(folder).map_or(u64::MAX, |free| free.saturating_add(sealed));
    if most < largest { 0 } else { largest }
}

/// How many bytes the disk has left for us.
#[cfg(unix)]
pub(super) fn free_space(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
pub(super) fn free_space(_: &Path) -> Option<u64> {
    None
}

/// Whether a hot segment is sure to find room for what is sealed of it.
pub(super) fn has_room_to_seal(hot: &Path) -> bool {
    let size = fs::metadata(hot).map_or(0, |metadata| metadata.len());
    let free = hot.parent().and_then(free_space);
    free.is_none_or(|free| free > size)
}

/// Gives a segment that has lost its name a file of that again. Not where there is too little room: trying fills
/// the disk, and what is recorded meanwhile is lost.
pub(super) fn restore(segment: &mut HotSegment) -> Result<()> {
    let (path, size) = (segment.path(), segment.size());
    if free_space(folder_of(path)).is_some_and(|free| free < size) {
        return Err(Error::io("write", path)(io::ErrorKind::StorageFull.into()));
    }
    segment.restore()
}

/// Says what became of a segment. What is wrong with one of an earlier run is told at once.
pub(super) fn tell_sealed(sealed: &Sealed, notify: &Notify) {
    if sealed.path.is_some() {
        notify(Notice::Sealed { sealed });
    }
    if let Some(error) = sealed.damage.as_ref().filter(|_| sealed.is_left_over) {
        notify(Notice::Trouble { error });
    }
}

/// What the sealing thread is asked for.
enum Job {
    Seal(Box<HotSegment>),
    /// Nothing is in it, and it could not be deleted.
    Discard(Box<HotSegment>),
    /// Says when all that came before is done.
    Settle(mpsc::SyncSender<()>),
    /// There may be room for what could not be sealed. Says when that is done.
    SealWaiting(mpsc::SyncSender<()>),
    Delete(Vec<Leaving>),
}

/// The thread that seals.
struct Sealer {
    jobs: mpsc::Sender<Job>,
    leaving: mpsc::Receiver<Vec<Leaving>>,
    waiting: Arc<AtomicUsize>,
    wanted: Wanted,
    notify: Notify,
    thread: JoinHandle<Vec<Result<Sealed>>>,
}

/// How often the ring is looked after, and how soon what could not be sealed is tried again.
const TEND_EVERY: Duration = Duration::from_secs(2);

/// Each time that it cannot be sealed it is left alone for twice as long, up to this: it may be a lot that is read and
/// compressed for nothing.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// So long the next segment of a full disk waits for what is being sealed.
const SEALING_PATIENCE: Duration = Duration::from_secs(1);

/// So many segments waiting are worth a word, and so are twice as many.
const BEHIND: usize = 4;

impl Sealer {
    fn start(folder: Option<PathBuf>, mut care: Care) -> Self {
        let (jobs, receiver) = mpsc::channel();
        let (named, leaving) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let notify = Arc::clone(&care.notify);
        let watch = Watch::new(Arc::clone(&care.clock));
        let hook = care.on_sealed.take();
        let hooks = hook.map(|command| {
            // Who comes next records somewhere else than in one file.
            let has_tokens = folder.is_some();
            let left = folder.as_deref().map(hook::left_in).unwrap_or_default();
            let hooks = Hooks::start(command, hook::LIMIT, has_tokens, Arc::clone(&notify));
            // Of each only once.
            let sealed = care.sealed_before.iter().filter_map(|sealed| sealed.path.as_ref());
            let wanted: BTreeSet<_> = left.iter().chain(sealed).collect();
            for left_hot in &mut care.left_hot {
                left_hot.is_handed_over = wanted.contains(&left_hot.sealed_path);
            }
            for path in wanted {
                hooks.run(path);
            }
            hooks
        });
        let ring = folder.map(|folder| Ring::new(folder, care.keep, watch, Arc::clone(&notify)));
        let wanted = hooks.as_ref().map(Hooks::wanted).unwrap_or_default();
        let mut work = Work {
            ring,
            named,
            hooks,
            results: std::mem::take(&mut care.sealed_before).into_iter().map(Ok).collect(),
            care,
            waiting: Arc::clone(&waiting),
            left_empty: Vec::new(),
            nameless: Vec::new(),
        };
        let thread = std::thread::spawn(move || {
            work.run(&receiver);
            if let Some(hooks) = work.hooks {
                hooks.finish();
            }
            work.results
        });
        Self { jobs, leaving, waiting, wanted, notify, thread }
    }

    fn seal(&self, segment: HotSegment) {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        if waiting >= BEHIND && waiting.is_power_of_two() {
            (self.notify)(Notice::SealingBehind { segments: waiting });
        }
        // Where the thread is gone the segment stays hot, and the next start seals it.
        let _ = self.jobs.send(Job::Seal(Box::new(segment)));
    }

    /// Seals what has found no room so far before the next segment takes what there is now. Whatever is large takes
    /// longer than anybody should wait, and gains more room than it needs.
    fn seal_what_waits(&self) {
        let (done, is_done) = mpsc::sync_channel(1);
        let asked = self.jobs.send(Job::SealWaiting(done));
        let _ = asked.map(|()| is_done.recv_timeout(SEALING_PATIENCE));
    }

    /// Deletes what nothing is in, or has that tried again. As long as it is there it is locked, and
    /// nobody takes it for a recording.
    fn discard(&self, segment: HotSegment) {
        if let Err(error) = segment.discard() {
            (self.notify)(Notice::Trouble { error: &error });
            let _ = self.jobs.send(Job::Discard(Box::new(segment)));
        }
    }

    fn finish(self) -> (Vec<Sealed>, Option<Error>) {
        drop(self.jobs);
        let panicked =
            |_| vec![Err(Kind::Internal { reason: "the sealing thread panicked".into() }.into())];
        let (mut all, mut failed) = (Vec::new(), None);
        for result in self.thread.join().unwrap_or_else(panicked) {
            match result {
                Ok(sealed) => all.push(sealed),
                Err(error) => _ = failed.get_or_insert(error),
            }
        }
        (all, failed)
    }
}

struct Work {
    /// None: there is one segment.
    ring: Option<Ring>,
    /// Where to say what has to go.
    named: mpsc::Sender<Vec<Leaving>>,
    hooks: Option<Hooks>,
    care: Care,
    waiting: Arc<AtomicUsize>,
    results: Vec<Result<Sealed>>,
    /// What could not be deleted, though nothing is in it.
    left_empty: Vec<HotSegment>,
    /// What somebody has deleted, and could not be written anew: it is there as long as it is open.
    nameless: Vec<HotSegment>,
}

impl Work {
    fn run(&mut self, jobs: &mpsc::Receiver<Job>) {
        // What is older has the command first, and is looked at by the ring when all of it is sealed.
        self.retry(false);
        self.name_leaving();
        let mut tended = Instant::now();
        loop {
            match jobs.recv_timeout(TEND_EVERY.saturating_sub(tended.elapsed())) {
                Ok(Job::Seal(segment)) => {
                    self.seal(*segment);
                    self.name_leaving();
                }
                Ok(Job::Discard(segment)) => self.left_empty.push(*segment),
                Ok(Job::Settle(settled)) => {
                    self.name_leaving();
                    let _ = settled.send(());
                }
                Ok(Job::SealWaiting(done)) => {
                    self.retry(false);
                    let _ = done.send(());
                }
                Ok(Job::Delete(told)) => {
                    if let Some(ring) = &mut self.ring {
                        ring.delete(&told);
                    }
                    // Before what is recorded takes the room.
                    self.retry(false);
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.retry(false);
                    self.name_leaving();
                    tended = Instant::now();
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.retry(true);
        let is_hurried = self.care.is_hurried.load(Ordering::Relaxed);
        for left in std::mem::take(&mut self.care.left_hot) {
            let LeftHot { path, is_of_earlier_run, failed, .. } = left;
            if is_hurried && is_of_earlier_run && failed.is_none() {
                (self.care.notify)(Notice::LeftForNext { path: &path });
                continue;
            }
            let result = if is_of_earlier_run {
                Ok(Sealed::unsealed(path))
            } else {
                Err(Kind::NotSealed { path }.into())
            };
            self.results.push(result);
        }
        let nameless = self.nameless.iter().map(|segment| segment.path().to_owned());
        self.results.extend(nameless.map(|path| Err(Kind::GoneForGood { path }.into())));
        let undeleted = self.left_empty.iter().filter_map(|segment| segment.discard().err());
        self.results.extend(undeleted.map(Err));
    }

    /// Tries what an earlier run left, and again what could not be done, at the end whatever it takes. Before, a
    /// segment has to find room for as much as it has: trying fills the disk, and what is recorded meanwhile is lost.
    fn retry(&mut self, is_end: bool) {
        for left in std::mem::take(&mut self.care.left_hot) {
            let is_hurried = Arc::clone(&self.care.is_hurried);
            let is_read = !left.is_of_earlier_run || self.care.earlier.is_known();
            let is_unwanted = || left.is_of_earlier_run && is_hurried.load(Ordering::Relaxed);
            let is_time = is_read && left.is_time(Instant::now());
            let may_be_sealed = is_end || (is_time && has_room_to_seal(&left.path));
            if is_unwanted() || !may_be_sealed {
                self.care.left_hot.push(left);
                continue;
            }
            self.expect(&left);
            match seal_unless(&left.path, &left.sealed_path, self.care.compression, &is_unwanted) {
                Ok(sealed) => self.sealed(sealed, &left),
                Err(_) if is_unwanted() => self.care.left_hot.push(left),
                Err(error) if left.is_sealed_by_another(&error, is_end) => {}
                Err(error) if error.is_in_use() => self.care.left_hot.push(left),
                Err(error) => self.not_sealed(&error, left),
            }
        }
        self.left_empty.retain(|segment| segment.discard().is_err());
        for mut segment in std::mem::take(&mut self.nameless) {
            // At the end whatever it takes: nothing is recorded any more.
            let restored = if is_end { segment.restore() } else { restore(&mut segment) };
            if restored.is_ok() {
                self.seal(segment);
            } else {
                self.nameless.push(segment);
            }
        }
    }

    /// Seals one of this run.
    fn seal(&mut self, mut segment: HotSegment) {
        if !segment.has_name()
            && let Err(error) = restore(&mut segment)
        {
            (self.care.notify)(Notice::Trouble { error: &error });
            self.nameless.push(segment);
            return;
        }
        let left = LeftHot::of_this_run(&segment);
        self.expect(&left);
        let sealed = segment.seal(self.care.compression);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        match sealed {
            Ok(sealed) => self.sealed(sealed, &left),
            // Whatever it is, the hot segment is whole, and may be sealed later.
            Err(error) if self.ring.is_some() => self.not_sealed(&error, left),
            Err(error) => self.results.push(Err(error)),
        }
    }

    /// It is tried again, and told once.
    fn not_sealed(&mut self, error: &Error, mut left: LeftHot) {
        if left.failed.is_none() {
            (self.care.notify)(Notice::Trouble { error });
        }
        left.fail(Instant::now(), error);
        self.care.left_hot.push(left);
    }

    fn hooks_for(&self, left: &LeftHot) -> Option<&Hooks> {
        self.hooks.as_ref().filter(|_| !left.is_handed_over)
    }

    /// Once it has its name, it is the command's before anybody deletes it.
    fn expect(&self, left: &LeftHot) {
        if let Some(hooks) = self.hooks_for(left) {
            hooks.expect(&left.sealed_path);
        }
    }

    fn sealed(&mut self, sealed: Sealed, was: &LeftHot) {
        let sealed = Sealed { is_left_over: was.is_of_earlier_run, ..sealed };
        tell_sealed(&sealed, &self.care.notify);
        match (&sealed.path, self.hooks_for(was)) {
            (Some(path), Some(hooks)) => hooks.run(path),
            (None, Some(hooks)) => hooks.expect_no_more(&was.sealed_path),
            (_, None) => {}
        }
        self.results.push(Ok(sealed));
    }

    fn name_leaving(&mut self) {
        let Some(ring) = &mut self.ring else { return };
        let hooks = self.hooks.as_ref();
        let leaving = ring.look(|path| hooks.is_some_and(|hooks| hooks.wanted().contains(path)));
        if !leaving.is_empty() {
            // Where nobody listens any more, it stays.
            let _ = self.named.send(leaving);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{Barrier, Mutex},
    };

    use super::*;
    use crate::{
        capture,
        entry::{SessionEvent, Subscription, What},
        record::SystemClock,
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn begun(folder: &Path, notify: Notify) -> Segments {
        begun_with(folder, notify, None)
    }

    fn begun_with(folder: &Path, notify: Notify, on_sealed: Option<String>) -> Segments {
        begun_by(folder, Care { on_sealed, ..care(notify) })
    }

    fn care(notify: Notify) -> Care {
        Care {
            keep: Keep::default(),
            compression: Compression::default(),
            on_sealed: None,
            sealed_before: Vec::new(),
            left_hot: Vec::new(),
            earlier: Earlier::none(),
            is_hurried: Arc::default(),
            notify,
            clock: Arc::new(SystemClock::new()),
        }
    }

    fn begun_by(folder: &Path, care: Care) -> Segments {
        let about = About { started: at(1), host: String::new(), options: BTreeMap::new() };
        let place = Place::Folder(folder.to_owned());
        Segments::start(place, about, Vec::new(), Split::default(), care).unwrap()
    }

    /// Writes something into the segment of that second, and begins the next one.
    fn next(segments: &mut Segments, second: u64) {
        write_into(segments, second);
        assert!(segments.is_over(at(second + 1), true));
        segments.begin(at(second + 1)).unwrap();
    }

    fn write_into(segments: &mut Segments, second: u64) {
        let subscription = Arc::new(Subscription {
            name: "main".to_owned(),
            protocol: "classic".to_owned(),
            topic: "audit".to_owned(),
            host: "feed.example.com".to_owned(),
        });
        let what = What::Event(SessionEvent::default());
        let entry = Entry { subscription, received: at(second), what };
        segments.write([&entry].into_iter()).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn what_the_command_has_not_had_is_not_deleted_to_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let (sealed, seals) = mpsc::channel();
        let notify = move |notice: Notice<'_>| {
            if let Notice::Sealed { sealed: new } = notice {
                let _ = sealed.send(new.path.clone().unwrap());
            }
        };
        // It waits for a file beside the segment, as long as that is there.
        let command =
            "wait() { until test -e \"$1.go\" || ! test -e \"$1\"; do sleep 0.01; done; }; wait";
        let mut segments = begun_with(folder.path(), Arc::new(notify), Some(command.to_owned()));
        let allow = |path: &Path| fs::write(format!("{}.go", path.display()), "").unwrap();
        (1..3).for_each(|second| next(&mut segments, second));
        let (first, second) = (seals.recv().unwrap(), seals.recv().unwrap());
        assert!(segments.delete_oldest().is_empty());
        assert!(first.exists() && second.exists());

        allow(&first);
        let began = Instant::now();
        while segments.delete_oldest().is_empty() {
            assert!(began.elapsed() < Duration::from_secs(60), "it was never deleted");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!first.exists() && second.exists());
        assert!(segments.delete_oldest().is_empty());
        allow(&second);
        segments.give_up();
        assert!(segments.finish().1.is_none());
    }

    #[test]
    fn segments_that_wait_to_be_sealed_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (sealed, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let held = (Arc::clone(&sealed), Arc::clone(&go_on));
        let notify = move |notice: Notice<'_>| {
            if let Notice::Sealed { .. } = notice {
                held.0.wait();
                held.1.wait();
            }
        };
        let mut segments = begun(folder.path(), Arc::new(notify));
        for second in 1..4 {
            next(&mut segments, second);
            if second == 1 {
                sealed.wait();
            }
        }
        let waiting = segments.sealing();
        assert_eq!(waiting.load(Ordering::Relaxed), 2);
        go_on.wait();
        for _ in 0..2 {
            sealed.wait();
            go_on.wait();
        }
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
        segments.give_up();
        let (sealed, failed) = segments.finish();
        assert!(failed.is_none() && sealed.len() == 3, "{failed:?} {sealed:?}");
    }

    #[test]
    fn what_could_not_be_deleted_is_told_and_tried_again() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let notify: Notify = Arc::new(move |notice: Notice<'_>| {
            if let Notice::Trouble { error } = notice {
                heard.lock().unwrap().push(error.to_string());
            }
        });
        for gone_later in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let mut segments = begun(folder.path(), Arc::clone(&notify));
            let path = segments.path().unwrap().to_owned();
            // A folder is no file that can be deleted.
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            segments.give_up();
            let told = std::mem::take(&mut *told.lock().unwrap());
            assert!(told.len() == 1 && told[0].contains(path.to_str().unwrap()), "{told:?}");
            if gone_later {
                fs::remove_dir(&path).unwrap();
            }
            assert_eq!(segments.finish().1.is_none(), gone_later);
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_has_lost_its_name_is_there_as_long_as_it_cannot_be_written_anew() {
        for is_possible in [true, false] {
            let place = tempfile::tempdir().unwrap();
            let folder = place.path().join("capture");
            fs::create_dir(&folder).unwrap();
            let mut segments = begun(&folder, Arc::new(|_| ()));
            write_into(&mut segments, 1);
            fs::remove_dir_all(&folder).unwrap();
            // No folder can be there.
            fs::write(&folder, "").unwrap();
            segments.give_up();
            segments.last_leaving();
            if is_possible {
                fs::remove_file(&folder).unwrap();
            }
            let (sealed, failed) = segments.finish();
            let kept = sealed.iter().map(|sealed| sealed.entries).sum::<u64>();
            assert_eq!((kept, failed.is_none()), (u64::from(is_possible), is_possible));
            let is_told = |error: Error| error.to_string().contains("what was in it is lost");
            assert!(failed.is_none_or(is_told));
        }
    }

    /// What a recording has left that was killed.
    fn left_in(folder: &Path) -> PathBuf {
        let mut segments = begun(folder, Arc::new(|_| ()));
        write_into(&mut segments, 1);
        let hot = segments.path().unwrap().to_owned();
        drop(segments.open.take());
        hot
    }

    fn left_overs(folder: &Path) -> Vec<LeftHot> {
        let left = capture::left_overs(folder).unwrap();
        left.into_iter().map(LeftHot::of_earlier_run).collect()
    }

    #[test]
    fn who_is_in_a_hurry_leaves_what_is_left_to_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let hot = left_in(folder.path());
        for is_hurried in [true, false] {
            let told = Arc::new(Mutex::new(Vec::new()));
            let heard = Arc::clone(&told);
            let notify: Notify = Arc::new(move |notice: Notice<'_>| {
                if let Notice::LeftForNext { path } = notice {
                    heard.lock().unwrap().push(path.to_owned());
                }
            });
            let left_hot = left_overs(folder.path());
            let is_hurried = Arc::new(AtomicBool::new(is_hurried));
            let care = Care { left_hot, is_hurried: Arc::clone(&is_hurried), ..care(notify) };
            let mut segments = begun_by(folder.path(), care);
            write_into(&mut segments, 2);
            let (sealed, failed) = segments.finish();
            assert!(failed.is_none(), "{failed:?}");
            if is_hurried.load(Ordering::Relaxed) {
                assert_eq!((sealed.len(), &**told.lock().unwrap()), (1, &[hot.clone()][..]));
            } else {
                assert!(sealed.len() == 2 && told.lock().unwrap().is_empty() && !hot.exists());
            }
        }
    }

    #[test]
    fn what_cannot_be_sealed_is_tried_less_and_less_often() {
        let folder = tempfile::tempdir().unwrap();
        left_in(folder.path());
        let (mut left, now) = (left_overs(folder.path()).remove(0), Instant::now());
        assert!(left.is_time(now));
        for seconds in [2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            left.fail(now, &Error::io_on("write", None));
            let after = |millis| left.is_time(now + Duration::from_millis(millis));
            assert!(!after(seconds * 1000 - 1) && after(seconds * 1000), "{seconds}");
        }
        let full = Error::io("write", &left.path)(io::ErrorKind::StorageFull.into());
        left.fail(now, &full);
        assert!(left.is_time(now));
    }

    #[test]
    fn what_is_left_is_read_before_it_is_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let hot = left_in(folder.path());
        let left_hot = left_overs(folder.path());
        let (known, earlier) = Earlier::by_hand();
        let care = Care { left_hot, earlier, ..care(Arc::new(|_| ())) };
        let segments = begun_by(folder.path(), care);
        segments.last_leaving();
        assert!(hot.exists());
        known.send_replace(Some(Arc::default()));
        let (sealed, failed) = segments.finish();
        assert!(failed.is_none() && !hot.exists(), "{failed:?}");
        assert!(sealed.iter().any(|sealed| sealed.is_left_over), "{sealed:?}");
    }

    #[test]
    fn segments_end_at_multiples_on_the_wall_clock() {
        let every = |seconds| Split { size: None, every: Some(Duration::from_secs(seconds)) };
        assert_eq!(every(3600).until(at(7_201)), Some(at(10_800)));
        assert_eq!(every(3600).until(at(7_200)), Some(at(10_800)));
        assert_eq!(every(60).until(at(59)), Some(at(60)));
        assert_eq!(every(0).until(at(59)), None);
        assert_eq!(Split::default().until(at(59)), None);
        assert_eq!(every(60).until(Timestamp::from_nanos(u64::MAX)), None);
    }

    #[test]
    fn names_sort_as_moments_do_and_are_known_again() {
        let name = name_at(at(1_795_000_000));
        assert_eq!(name, "20261118T110640.000Z.mcap");
        assert!(is_name(&name));
        assert_eq!(moment_in(Path::new(&name)), Some(at(1_795_000_000)));
        assert!(name < name_at(at(1_795_000_000).after(Duration::from_millis(1))));
        for other in [
            "precious.mcap",
            "20261118T110640.000Z.open.mcap",
            "20261118T110640.000Z",
            "x20261118T11264.000Z.mcap",
        ] {
            assert!(!is_name(other), "{other}");
        }
    }
}
