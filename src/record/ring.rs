//! The ring: how much of what is sealed stays, and what is said before the rest goes.
//!
//! Only what is sealed is ever deleted, oldest first, and only files whose names a recording gave them.
//! A file is proven to be a whole capture before it may go: a damaged one is for the user to look at.
//! What goes is told in the ledger first, for each subscription that was in it, and deleted afterwards.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    Notice, Notify,
    clock::Watch,
    names::is_name,
    outage::Connections,
    room::{free_space, hot_size_in},
};
use crate::{
    capture::{Contents, contents},
    entry::{
        Entry, SessionEvent, Timestamp, What,
        session_event::{ClockStepped, Event, SegmentDeleted},
    },
    error::{Error, Kind},
};

/// How much of what is sealed stays; everything, by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// So many segments with frames, the one being recorded among them. A recorder that is refused again and
    /// again leaves segments in which there is only that: they must not push out the others.
    pub files: Option<usize>,
    /// So many bytes altogether, the one being recorded among them.
    pub size: Option<u64>,
    /// What ended before that is deleted.
    pub age: Option<Duration>,
    /// So many bytes of the disk stay free, if it is enough for that to delete segments: where something else fills
    /// the disk, none is deleted for it.
    pub min_free: Option<u64>,
}

/// A sealed segment, as far as deleting it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Old {
    path: PathBuf,
    size: u64,
    ended: SystemTime,
    has_frames: bool,
}

/// No larger segment is without frames.
const SMALL: u64 = 64 * 1024;

impl Keep {
    fn is_everything(self) -> bool {
        self == Self::default()
    }

    /// Whether the oldest segment of those that stay so far has to go, too.
    fn is_too_much(self, staying: Staying, oldest: &Old, now: SystemTime) -> bool {
        let age = now.duration_since(oldest.ended).unwrap_or_default();
        let lacks_room = |(least, free)| free < least && !self.is_hopeless(staying);
        self.files.is_some_and(|most| staying.files + 1 > most)
            || self.size.is_some_and(|most| staying.size + staying.recorded > most)
            || self.age.is_some_and(|most| age > most)
            || self.min_free.zip(staying.free).is_some_and(lacks_room)
    }

    /// So much is to be free that deleting all that is sealed is not enough for it.
    fn is_hopeless(self, staying: Staying) -> bool {
        let lacks = |(least, free)| free + staying.size < least;
        self.min_free.zip(staying.free).is_some_and(lacks)
    }
}

/// What the sealed segments come to that stay so far, and what is beside them.
#[derive(Clone, Copy)]
struct Staying {
    /// Those with frames.
    files: usize,
    size: u64,
    /// The size of the one being recorded.
    recorded: u64,
    /// What the disk has left when the others are gone.
    free: Option<u64>,
}

impl Staying {
    fn all(old: &[Old], recorded: u64, free: Option<u64>) -> Self {
        let size = old.iter().map(|old| old.size).sum();
        let files = old.iter().filter(|old| old.has_frames).count();
        Self { files, size, recorded, free }
    }

    /// That one goes.
    fn goes(&mut self, old: &Old) {
        self.does_not_count(old);
        self.free = self.free.map(|free| free + old.size);
    }

    /// That one is there, and nobody counts on it.
    fn does_not_count(&mut self, old: &Old) {
        self.files -= usize::from(old.has_frames);
        self.size -= old.size;
    }
}

/// Looks after the sealed segments of a folder.
pub(super) struct Ring {
    folder: PathBuf,
    keep: Keep,
    watch: Watch,
    /// The times at which the clock was set forward, as far as that was not undone.
    forward: Vec<ClockStepped>,
    /// What has to go and is still there.
    leaving: HashSet<PathBuf>,
    /// What cannot be proven to be whole. It stays, and does not count.
    unproven: HashSet<PathBuf>,
    /// Whether there are frames in the small ones.
    small: HashMap<PathBuf, bool>,
    /// It was told that there is too little room whatever is deleted, and so it still is.
    is_hopeless: bool,
    notify: Notify,
}

impl Ring {
    pub(super) fn new(folder: PathBuf, keep: Keep, watch: Watch, notify: Notify) -> Self {
        Self {
            folder,
            keep,
            watch,
            forward: Vec::new(),
            leaving: HashSet::new(),
            unproven: HashSet::new(),
            small: HashMap::new(),
            is_hopeless: false,
            notify,
        }
    }

    /// What has to go now, the oldest first, and has not been named before. What is `wanted` first by
    /// somebody else stays until then, and so does what is newer.
    pub(super) fn look(&mut self, wanted: impl Fn(&Path) -> bool) -> Vec<Leaving> {
        if self.keep.is_everything() {
            return Vec::new();
        }
        let (now, step) = self.watch.look();
        if let Some(step) = step {
            remember(&mut self.forward, step);
        }
        let now = system_time(now.as_nanos());
        let mut old = old_in(&self.folder);
        old.retain(|old| !self.unproven.contains(&old.path));
        for old in &mut old {
            old.ended = by_new_clock(old.ended, &self.forward);
            if self.keep.files.is_some() && old.size < SMALL {
                let known = self.small.entry(old.path.clone());
                old.has_frames = *known.or_insert_with(|| has_frames(&old.path));
            }
        }
        let (recorded, free) = (hot_size_in(&self.folder), free_space(&self.folder));
        let mut staying = Staying::all(&old, recorded, free);
        self.tell_if_hopeless(staying);
        let mut found = Vec::new();
        for old in old {
            if !self.keep.is_too_much(staying, &old, now) {
                break;
            }
            if !self.leaving.contains(&old.path) {
                if wanted(&old.path) {
                    break;
                }
                let Some(leaving) = Leaving::of(&old, "the recording is to keep no more") else {
                    staying.does_not_count(&old);
                    let error = Kind::NotProven { path: old.path.clone() }.into();
                    (self.notify)(Notice::Trouble { error: &error });
                    self.unproven.insert(old.path);
                    continue;
                };
                self.leaving.insert(leaving.path.clone());
                found.push(leaving);
            }
            staying.goes(&old);
        }
        found
    }

    /// Says once that nothing is deleted to make room, as that would not be enough.
    fn tell_if_hopeless(&mut self, all: Staying) {
        let is_hopeless = self.keep.is_hopeless(all);
        if let (true, Some(expected), Some(found)) = (is_hopeless, self.keep.min_free, all.free)
            && !self.is_hopeless
        {
            let folder = self.folder.clone();
            let error = Kind::TooLittleRoom { folder, expected, found }.into();
            (self.notify)(Notice::Trouble { error: &error });
        }
        self.is_hopeless = is_hopeless;
    }

    /// Deletes what has been told.
    pub(super) fn delete(&mut self, told: &[Leaving]) {
        for leaving in told {
            leaving.delete(&self.notify);
            // Where that failed, it is named again.
            self.leaving.remove(&leaving.path);
            self.small.remove(&leaving.path);
        }
    }
}

/// A segment that has to go.
pub(super) struct Leaving {
    path: PathBuf,
    size: u64,
    contents: Contents,
    reason: &'static str,
}

impl Leaving {
    /// None: it is not proven to be whole.
    fn of(old: &Old, reason: &'static str) -> Option<Self> {
        let contents = contents(&old.path)?;
        Some(Self { path: old.path.clone(), size: old.size, contents, reason })
    }

    pub(super) fn is_there(&self) -> bool {
        self.path.exists()
    }

    /// The oldest segment in a folder that is proven, and that nobody else wants first.
    pub(super) fn oldest_in(
        folder: &Path,
        reason: &'static str,
        wanted: impl Fn(&Path) -> bool,
    ) -> Option<Self> {
        let mut all = old_in(folder).into_iter();
        all.find_map(|old| if wanted(&old.path) { None } else { Self::of(&old, reason) })
    }

    /// What the ledger says of it, to each subscription that was in it.
    pub(super) fn told(
        &self,
        now: Timestamp,
        connections: &Connections,
    ) -> impl Iterator<Item = Entry> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.contents.frames.iter().map(move |(subscription, frames)| {
            let subscription = connections.known_as(subscription);
            let deleted = SegmentDeleted {
                segment: name.clone().into_owned(),
                frames: *frames,
                from_ns: self.contents.from.as_nanos(),
                to_ns: self.contents.to.as_nanos(),
                reason: self.reason.to_owned(),
            };
            let connection = connections.of(&subscription);
            let event = SessionEvent { connection, event: Some(Event::SegmentDeleted(deleted)) };
            Entry { subscription, received: now, what: What::Event(event) }
        })
    }

    /// Deletes the file, and says so before. False if that is not possible. Another recorder in the same folder may
    /// have deleted it since.
    pub(super) fn delete(&self, notify: &Notify) -> bool {
        notify(Notice::Removing { path: &self.path, size: self.size });
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                notify(Notice::Trouble { error: &Error::io("delete", &self.path)(error) });
                false
            }
            _ => true,
        }
    }
}

/// The names of what recordings have sealed in a folder, the oldest first.
pub(super) fn sealed_in(folder: &Path) -> Vec<PathBuf> {
    old_in(folder).into_iter().map(|old| old.path).collect()
}

/// What recordings have sealed in a folder, the oldest first.
fn old_in(folder: &Path) -> Vec<Old> {
    let Ok(listing) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<_> = listing
        .flatten()
        .filter(|item| item.file_name().to_str().is_some_and(is_name))
        .filter_map(|item| {
            let metadata = item.metadata().ok().filter(fs::Metadata::is_file)?;
            let ended = metadata.modified().ok()?;
            Some(Old { path: item.path(), size: metadata.len(), ended, has_frames: true })
        })
        .collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Whether there are frames in a segment, or nobody knows.
fn has_frames(path: &Path) -> bool {
    contents(path).is_none_or(|contents| contents.frames.iter().any(|(_, frames)| *frames > 0))
}

fn system_time(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}

/// A clock that is put right again undoes what made it wrong, the last of it first.
fn remember(forward: &mut Vec<ClockStepped>, step: ClockStepped) {
    if step.from_ns < step.to_ns {
        forward.push(step);
    }
    let mut back = step.from_ns.saturating_sub(step.to_ns);
    while back > 0
        && let Some(last) = forward.last_mut()
    {
        let undone = back.min(last.to_ns - last.from_ns);
        last.to_ns -= undone;
        back -= undone;
        if last.from_ns == last.to_ns {
            forward.pop();
        }
    }
}

/// A clock that is set forward makes nothing old. One that is set back makes what there is younger for
/// a while, which costs nothing.
fn by_new_clock(ended: SystemTime, forward: &[ClockStepped]) -> SystemTime {
    forward.iter().fold(ended, |ended, step| {
        let is_older = ended <= system_time(step.from_ns);
        let by = Duration::from_nanos(step.to_ns - step.from_ns);
        if is_older { ended + by } else { ended }
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::{super::SystemClock, *};
    use crate::{
        capture::{About, SealedFile},
        entry::{Frame, Subscription, session_event::Rejected},
        schema,
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_clock_that_is_set_forward_makes_nothing_old() {
        let ended = |seconds| system_time(at(seconds).as_nanos());
        let step =
            |from, to| ClockStepped { from_ns: at(from).as_nanos(), to_ns: at(to).as_nanos() };
        let steps = [step(20, 1020), step(1050, 1060)];
        let seen = [10, 20, 1030, 1055].map(|seconds| by_new_clock(ended(seconds), &steps));
        assert_eq!(seen, [1020, 1030, 1040, 1055].map(ended));
    }

    #[test]
    fn a_clock_that_is_put_right_makes_nothing_young() {
        let step =
            |from, to| ClockStepped { from_ns: at(from).as_nanos(), to_ns: at(to).as_nanos() };
        let ended = system_time(at(10).as_nanos());
        let mut forward = Vec::new();
        for (next, expected) in [
            (step(20, 1020), 1010),
            (step(1050, 50), 10),
            // Now in two steps forward, and in two back, the last of which goes too far.
            (step(60, 1060), 1010),
            (step(1070, 1080), 1020),
            (step(1090, 990), 920),
            (step(1000, 50), 10),
        ] {
            remember(&mut forward, next);
            let seen = by_new_clock(ended, &forward);
            assert_eq!(seen, system_time(at(expected).as_nanos()), "after {next:?}");
        }
        assert!(forward.is_empty());
    }

    /// Ten segments of 100 bytes that ended at 10, 20, ... seconds.
    fn old() -> Vec<Old> {
        let ended = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        (1..=10)
            .map(|n| Old {
                path: n.to_string().into(),
                size: 100,
                ended: ended(10 * n),
                has_frames: true,
            })
            .collect()
    }

    /// Who is refused again and again leaves such.
    #[test]
    fn segments_without_frames_push_out_none_with_frames() {
        let folder = tempfile::tempdir().unwrap();
        let subscription = Subscription::to_audit("campus");
        let kind = Arc::new(schema::bundled_type("classic", "audit", None));
        let about = About { started: at(0), host: String::new(), options: BTreeMap::new() };
        let seal = |day: u32, has_frames: bool| {
            let frame =
                Frame { sequence: 1, sent: None, kind: Arc::clone(&kind), data: "x".into() };
            let refused =
                SessionEvent { connection: 0, event: Some(Event::Rejected(Rejected::default())) };
            let what = if has_frames { What::Frame(frame) } else { What::Event(refused) };
            let entry = Entry { subscription: Arc::clone(&subscription), received: at(1), what };
            let path = folder.path().join(format!("202601{day:02}T080000.000Z.mcap"));
            let mut file = SealedFile::create(&path, &about, &[]).unwrap();
            file.append(&entry).unwrap();
            file.finish().unwrap();
            path
        };
        let keep = Keep { files: Some(3), ..Keep::default() };
        let watch = Watch::new(Arc::new(SystemClock::default()));
        let mut ring = Ring::new(folder.path().to_owned(), keep, watch, Arc::new(|_| ()));
        let first = seal(1, false);
        let second = seal(2, true);
        seal(3, true);
        for day in 4..9 {
            seal(day, false);
            assert!(ring.look(|_| false).is_empty(), "{day}");
        }
        // Those that are older go with the oldest that does.
        seal(9, true);
        let leaving: Vec<_> = ring.look(|_| false).into_iter().map(|gone| gone.path).collect();
        assert_eq!(leaving, [first, second]);
    }

    #[test]
    fn what_another_recorder_has_deleted_is_no_trouble() {
        let folder = tempfile::tempdir().unwrap();
        let contents = Contents { frames: Vec::new(), from: at(1), to: at(2) };
        let path = folder.path().join("20260101T080000.000Z.mcap");
        let leaving = Leaving { path, size: 1, contents, reason: "" };
        let notify: Notify = Arc::new(|notice: Notice<'_>| {
            assert!(!matches!(notice, Notice::Trouble { .. }), "{notice:?}");
        });
        assert!(leaving.delete(&notify));
    }

    /// How many of them go.
    fn gone(keep: Keep, recorded: u64, free: Option<u64>, now: SystemTime) -> usize {
        let old = old();
        let mut staying = Staying::all(&old, recorded, free);
        let goes = |old: &&Old| {
            let goes = keep.is_too_much(staying, old, now);
            staying.goes(old);
            goes
        };
        old.iter().take_while(goes).count()
    }

    #[test]
    fn the_oldest_go_until_everything_that_was_asked_for_holds() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let went = |keep: Keep| gone(keep, 50, Some(1_000), now);
        let all = Keep::default();
        assert_eq!(went(all), 0);
        assert_eq!(went(Keep { files: Some(4), ..all }), 7);
        assert_eq!(went(Keep { files: Some(1), ..all }), 10);
        assert_eq!(went(Keep { files: Some(100), ..all }), 0);
        assert_eq!(went(Keep { size: Some(449), ..all }), 7);
        assert_eq!(went(Keep { size: Some(450), ..all }), 6);
        assert_eq!(went(Keep { size: Some(0), ..all }), 10);
        assert_eq!(went(Keep { age: Some(Duration::from_secs(45)), ..all }), 5);
        assert_eq!(went(Keep { min_free: Some(1_150), ..all }), 2);
        assert_eq!(went(Keep { min_free: Some(2_000), ..all }), 10);
        // Another program fills the disk.
        assert_eq!(went(Keep { min_free: Some(2_001), ..all }), 0);
        assert_eq!(went(Keep { min_free: Some(2_001), files: Some(4), ..all }), 7);
        assert_eq!(went(Keep { files: Some(8), size: Some(450), ..all }), 6);
        // Where nothing is known of the disk, nothing is deleted for its sake.
        assert_eq!(gone(Keep { min_free: Some(1), ..all }, 0, None, now), 0);
    }
}
