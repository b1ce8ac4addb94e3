//! The segments of a recording: which one is written to, when the next one begins, which old ones go.
//!
//! A segment that has ended is sealed by a thread of its own, which may fall behind: the recording
//! never waits for it. The same thread keeps the ring. Only what is sealed is
//! ever deleted, oldest first, and only files whose names a recording gave them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    Clock, Notice, Notify,
    clock::Watch,
    hook::{self, Hooks},
};
use crate::{
    capture::{About, Compression, HOT_SUFFIX, HotSegment, SEALED_SUFFIX, Sealed, seal},
    entry::{Entry, FrameType, Timestamp, session_event::ClockStepped},
    error::{Error, Kind, Result},
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

/// How much of what is sealed stays; everything, by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// So many segments, the one being recorded among them.
    pub files: Option<usize>,
    /// So many bytes altogether, the one being recorded among them.
    pub size: Option<u64>,
    /// What ended before that is deleted.
    pub age: Option<Duration>,
    /// So many bytes of the disk stay free.
    pub min_free: Option<u64>,
}

/// A sealed segment, as far as deleting it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Old {
    path: PathBuf,
    size: u64,
    ended: SystemTime,
}

impl Keep {
    fn is_everything(self) -> bool {
        self == Self::default()
    }

    /// How many of the oldest segments have to go. `old` are all that are sealed, the oldest first;
    /// `recorded` is the size of the one being recorded, `free` what the disk has left.
    fn too_many(self, old: &[Old], recorded: u64, free: Option<u64>, now: SystemTime) -> usize {
        let over = |files: usize| (old.len() + 1).saturating_sub(files);
        let by_files = self.files.map_or(0, over);
        let mut gone = by_files.min(old.len());
        let rest = |gone: usize| old[gone..].iter().map(|old| old.size).sum::<u64>();
        let freed = |gone: usize| old[..gone].iter().map(|old| old.size).sum::<u64>();
        let is_old = |old: &Old| {
            let age = now.duration_since(old.ended).unwrap_or_default();
            self.age.is_some_and(|most| age > most)
        };
        while gone < old.len()
            && (self.size.is_some_and(|most| rest(gone) + recorded > most)
                || is_old(&old[gone])
                || matches!((self.min_free, free), (Some(least), Some(free)) if free + freed(gone) < least))
        {
            gone += 1;
        }
        gone
    }
}

/// What a recording does when nothing can be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// Goes on without keeping anything, writes down what was lost, and keeps again when it can.
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
    pub notify: Notify,
    pub clock: Arc<dyn Clock>,
}

impl Segments {
    /// Begins the first segment.
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
        let named = folder.as_deref().and_then(last_sealed_in).as_deref().and_then(moment_in);
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

    /// Begins the next segment if it is time, or if `asked` to, and says whether it did.
    pub(super) fn split(&mut self, now: Timestamp, asked: bool) -> Result<bool> {
        let Some(open) = &mut self.open else { return Ok(false) };
        let too_large = self.split.size.is_some_and(|most| open.segment.size() >= most);
        let over = open.until.is_some_and(|until| now >= until);
        if open.segment.is_empty() {
            // The next one would be no better.
            open.until = self.split.until(now);
            return Ok(false);
        }
        let splits = (too_large || over || asked) && self.has_room_for_more();
        if splits {
            self.begin(now)?;
        }
        Ok(splits)
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
                segment.discard();
            } else {
                self.sealer.seal(segment);
            }
        }
    }

    /// Deletes the oldest sealed segment. False: there is none.
    pub(super) fn remove_oldest(&self) -> bool {
        let Place::Folder(folder) = &self.place else { return false };
        let oldest = sealed_in(folder).into_iter().next();
        oldest.is_some_and(|old| remove(&old, &self.sealer.notify))
    }

    /// Ends the last segment and waits until all are sealed.
    pub(super) fn finish(mut self) -> Result<Vec<Sealed>> {
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
fn is_name(name: &str) -> bool {
    const SHAPE: &str = "00000000T000000.000Z";

    let Some(stem) = name.strip_suffix(SEALED_SUFFIX) else { return false };
    let fits = |(found, shape): (char, char)| match shape {
        '0' => found.is_ascii_digit(),
        _ => found == shape,
    };
    stem.len() == SHAPE.len() && stem.chars().zip(SHAPE.chars()).all(fits)
}

/// What recordings have sealed in a folder, the oldest first.
fn sealed_in(folder: &Path) -> Vec<Old> {
    let Ok(listing) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<_> = listing
        .flatten()
        .filter(|item| item.file_name().to_str().is_some_and(is_name))
        .filter_map(|item| {
            let metadata = item.metadata().ok().filter(fs::Metadata::is_file)?;
            let ended = metadata.modified().ok()?;
            Some(Old { path: item.path(), size: metadata.len(), ended })
        })
        .collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The last of them.
pub(super) fn last_sealed_in(folder: &Path) -> Option<PathBuf> {
    sealed_in(folder).pop().map(|last| last.path)
}

/// The size of what is still hot in a folder.
fn hot_size_in(folder: &Path) -> u64 {
    let Ok(listing) = fs::read_dir(folder) else { return 0 };
    let is_hot = |item: &fs::DirEntry| item.file_name().to_string_lossy().ends_with(HOT_SUFFIX);
    let sizes = listing.flatten().filter(is_hot).filter_map(|item| item.metadata().ok());
    sizes.map(|metadata| metadata.len()).sum()
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

/// Tells first, so that whoever reads the log knows where the file went.
fn remove(old: &Old, notify: &Notify) -> bool {
    notify(Notice::Removing { path: &old.path, size: old.size });
    match fs::remove_file(&old.path).map_err(Error::io("delete", &old.path)) {
        Ok(()) => true,
        Err(error) => {
            notify(Notice::Trouble { error: &error });
            false
        }
    }
}

/// The thread that seals.
struct Sealer {
    jobs: mpsc::Sender<HotSegment>,
    waiting: Arc<AtomicUsize>,
    notify: Notify,
    thread: JoinHandle<Vec<Result<Sealed>>>,
}

/// How often the ring is looked after, and what could not be sealed is tried again.
const TEND_EVERY: Duration = Duration::from_secs(2);

/// So many segments waiting are worth a word, and so are twice as many.
const BEHIND: usize = 4;

impl Sealer {
    fn start(folder: Option<PathBuf>, mut care: Care) -> Self {
        let (jobs, receiver) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let notify = Arc::clone(&care.notify);
        let hook = care.on_sealed.take();
        let hooks = hook.map(|command| Hooks::start(command, hook::LIMIT, Arc::clone(&notify)));
        let mut work = Work {
            folder,
            hooks,
            watch: Watch::new(Arc::clone(&care.clock)),
            forward: Vec::new(),
            care,
            waiting: Arc::clone(&waiting),
            results: Vec::new(),
            left_hot: Vec::new(),
        };
        let thread = std::thread::spawn(move || {
            work.run(&receiver);
            if let Some(hooks) = work.hooks {
                hooks.finish();
            }
            work.results
        });
        Self { jobs, waiting, notify, thread }
    }

    fn seal(&self, segment: HotSegment) {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        if waiting >= BEHIND && waiting.is_power_of_two() {
            (self.notify)(Notice::SealingBehind { segments: waiting });
        }
        // Where the thread is gone the segment stays hot, and the next start seals it.
        let _ = self.jobs.send(segment);
    }

    fn finish(self) -> Result<Vec<Sealed>> {
        drop(self.jobs);
        match self.thread.join() {
            Ok(results) => results.into_iter().collect(),
            Err(_) => Err(Kind::Internal { reason: "the sealing thread panicked".into() }.into()),
        }
    }
}

struct Work {
    folder: Option<PathBuf>,
    hooks: Option<Hooks>,
    care: Care,
    watch: Watch,
    /// The times at which the clock was set forward.
    forward: Vec<ClockStepped>,
    waiting: Arc<AtomicUsize>,
    results: Vec<Result<Sealed>>,
    /// What could not be sealed, with the name that it will have.
    left_hot: Vec<(PathBuf, PathBuf)>,
}

impl Work {
    fn run(&mut self, jobs: &mpsc::Receiver<HotSegment>) {
        let mut tended = Instant::now();
        loop {
            match jobs.recv_timeout(TEND_EVERY.saturating_sub(tended.elapsed())) {
                Ok(segment) => {
                    let names = (segment.path().to_owned(), segment.sealed_path().to_owned());
                    let sealed = segment.seal(self.care.compression);
                    self.waiting.fetch_sub(1, Ordering::Relaxed);
                    match sealed {
                        Ok(sealed) => self.sealed(sealed),
                        // Whatever it is, the hot segment is whole, and may be sealed later.
                        Err(error) if self.folder.is_some() => {
                            (self.care.notify)(Notice::Trouble { error: &error });
                            self.left_hot.push(names);
                        }
                        Err(error) => self.results.push(Err(error)),
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.retry();
                    self.keep_ring();
                    tended = Instant::now();
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.retry();
        for (hot, _) in std::mem::take(&mut self.left_hot) {
            self.results.push(Err(Kind::NotSealed { path: hot }.into()));
        }
        self.keep_ring();
    }

    fn retry(&mut self) {
        for (hot, path) in std::mem::take(&mut self.left_hot) {
            match seal(&hot, &path, self.care.compression) {
                Ok(sealed) => self.sealed(sealed),
                Err(_) => self.left_hot.push((hot, path)),
            }
        }
    }

    fn sealed(&mut self, sealed: Sealed) {
        if let Some(path) = &sealed.path {
            (self.care.notify)(Notice::Sealed { sealed: &sealed });
            if let Some(hooks) = &self.hooks {
                hooks.run(path);
            }
        }
        self.results.push(Ok(sealed));
        self.keep_ring();
    }

    fn keep_ring(&mut self) {
        let Some(folder) = &self.folder else { return };
        if self.care.keep.is_everything() {
            return;
        }
        let (now, step) = self.watch.look();
        self.forward.extend(step.filter(|step| step.from_ns < step.to_ns));
        let now = system_time(now.as_nanos());
        let mut old = sealed_in(folder);
        for old in &mut old {
            old.ended = by_new_clock(old.ended, &self.forward);
        }
        let (recorded, free) = (hot_size_in(folder), free_space(folder));
        let gone = self.care.keep.too_many(&old, recorded, free, now);
        for old in &old[..gone] {
            if !remove(old, &self.care.notify) {
                break;
            }
        }
    }
}

fn system_time(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
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
    use std::{collections::BTreeMap, sync::Barrier};

    use super::*;
    use crate::{
        entry::{SessionEvent, Subscription, What},
        record::SystemClock,
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
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
        let (notify, clock) = (Arc::new(notify), Arc::new(SystemClock::new()));
        let (keep, compression) = (Keep::default(), Compression::default());
        let care = Care { keep, compression, on_sealed: None, notify, clock };
        let about = About { started: at(1), host: String::new(), options: BTreeMap::new() };
        let place = Place::Folder(folder.path().to_owned());
        let mut segments =
            Segments::start(place, about, Vec::new(), Split::default(), care).unwrap();
        let subscription = Arc::new(Subscription {
            name: "main".to_owned(),
            protocol: "classic".to_owned(),
            topic: "audit".to_owned(),
            host: "feed.example.com".to_owned(),
        });
        for second in 1..4 {
            let what = What::Event(SessionEvent::default());
            let subscription = Arc::clone(&subscription);
            let entry = Entry { subscription, received: at(second), what };
            segments.write([&entry].into_iter()).unwrap();
            assert!(segments.split(at(second + 1), true).unwrap());
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
        assert_eq!(segments.finish().unwrap().len(), 3);
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
    fn a_clock_that_is_set_forward_makes_nothing_old() {
        let ended = |seconds| system_time(at(seconds).as_nanos());
        let step =
            |from, to| ClockStepped { from_ns: at(from).as_nanos(), to_ns: at(to).as_nanos() };
        let steps = [step(20, 1020), step(1050, 1060)];
        let seen = [10, 20, 1030, 1055].map(|seconds| by_new_clock(ended(seconds), &steps));
        assert_eq!(seen, [1020, 1030, 1040, 1055].map(ended));
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

    /// Ten segments of 100 bytes that ended at 10, 20, ... seconds.
    fn old() -> Vec<Old> {
        let ended = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        (1..=10)
            .map(|n| Old { path: n.to_string().into(), size: 100, ended: ended(10 * n) })
            .collect()
    }

    #[test]
    fn the_oldest_go_until_everything_that_was_asked_for_holds() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let gone = |keep: Keep| keep.too_many(&old(), 50, Some(1_000), now);
        let all = Keep::default();
        assert_eq!(gone(all), 0);
        assert_eq!(gone(Keep { files: Some(4), ..all }), 7);
        assert_eq!(gone(Keep { files: Some(1), ..all }), 10);
        assert_eq!(gone(Keep { files: Some(100), ..all }), 0);
        assert_eq!(gone(Keep { size: Some(449), ..all }), 7);
        assert_eq!(gone(Keep { size: Some(450), ..all }), 6);
        assert_eq!(gone(Keep { size: Some(0), ..all }), 10);
        assert_eq!(gone(Keep { age: Some(Duration::from_secs(45)), ..all }), 5);
        assert_eq!(gone(Keep { min_free: Some(1_150), ..all }), 2);
        assert_eq!(gone(Keep { min_free: Some(u64::MAX), ..all }), 10);
        assert_eq!(gone(Keep { files: Some(8), size: Some(450), ..all }), 6);
        // Where nothing is known of the disk, nothing is deleted for its sake.
        assert_eq!(Keep { min_free: Some(1), ..all }.too_many(&old(), 0, None, now), 0);
    }
}
