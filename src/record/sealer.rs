//! The thread that seals segments which have ended, and what else is not the recording's own work: it finds out
//! what the ring has too much of, and deletes that once the ledger has it; it hands what is sealed to the user's
//! command, and tries again what could not be done.

use std::{
    collections::BTreeSet,
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
    ring::{Leaving, Ring},
    room::{free_space, has_room_to_seal, restore, room_to_seal_in},
};
use crate::{
    capture::{Compression, HotSegment, LeftOver, Sealed, seal_unless},
    error::{Error, Kind, Result},
};

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
    pub sealed_path: PathBuf,
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

/// The thread that seals, as whoever writes sees it.
pub(super) struct Sealer {
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
    pub(super) fn start(folder: Option<PathBuf>, mut care: Care) -> Self {
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

    /// How many segments that have ended are not sealed yet, now and later.
    pub(super) fn waiting(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.waiting)
    }

    pub(super) fn seal(&self, segment: HotSegment) {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        if waiting >= BEHIND && waiting.is_power_of_two() {
            (self.notify)(Notice::SealingBehind { segments: waiting });
        }
        // Where the thread is gone the segment stays hot, and the next start seals it.
        let _ = self.jobs.send(Job::Seal(Box::new(segment)));
    }

    /// Deletes the oldest sealed segments that the user's command has had, to make room: one, and more until what
    /// waits to be sealed has some, too, and is sealed. That is deleted by nobody, and would be all there is in the
    /// end. None: there are no such segments, or they stay.
    pub(super) fn delete_oldest_in(&self, folder: &Path) -> Vec<Leaving> {
        let wanted = |path: &Path| self.wanted.contains(path);
        let room = room_to_seal_in(folder);
        let mut deleted = Vec::new();
        while let Some(oldest) = Leaving::oldest_in(folder, "the disk was full", wanted)
            && oldest.delete(&self.notify)
        {
            deleted.push(oldest);
            if free_space(folder).is_none_or(|free| free >= room) {
                break;
            }
        }
        if !deleted.is_empty() {
            self.seal_what_waits();
        }
        deleted
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
    pub(super) fn discard(&self, segment: HotSegment) {
        if let Err(error) = segment.discard() {
            (self.notify)(Notice::Trouble { error: &error });
            let _ = self.jobs.send(Job::Discard(Box::new(segment)));
        }
    }

    /// What has to go. It stays until [`delete`](Self::delete) is told that the ledger has it.
    pub(super) fn leaving(&self) -> Vec<Leaving> {
        let named = self.leaving.try_iter().flatten();
        // It may have been deleted meanwhile because the disk was full, and was told then.
        named.filter(Leaving::is_there).collect()
    }

    /// The same, when all that has ended is sealed: it waits for that.
    pub(super) fn last_leaving(&self) -> Vec<Leaving> {
        let (settled, is_settled) = mpsc::sync_channel(1);
        let asked = self.jobs.send(Job::Settle(settled));
        // Where the thread is gone, it has named all that it ever will.
        let _ = asked.map(|()| is_settled.recv());
        self.leaving()
    }

    /// Deletes what the ledger has been told of.
    pub(super) fn delete(&self, told: Vec<Leaving>) {
        let _ = self.jobs.send(Job::Delete(told));
    }

    /// Waits until all are sealed. An error is the first thing that went wrong with one of them; the others are
    /// sealed all the same.
    pub(super) fn finish(self) -> (Vec<Sealed>, Option<Error>) {
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
        // What could not be sealed at first comes behind what followed it.
        all.sort_by(|a, b| a.path.cmp(&b.path));
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
            } else if path.exists() {
                Err(Kind::NotSealed { path }.into())
            } else {
                Err(Kind::GoneForGood { path }.into())
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
    use std::io;

    use super::*;
    use crate::record::SystemClock;

    impl Care {
        /// That of a recording which has nothing before it.
        pub(in crate::record) fn with(notify: Notify) -> Self {
            Self {
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
    }

    #[test]
    fn what_cannot_be_sealed_is_tried_less_and_less_often() {
        let [path, sealed_path] = ["a.open.mcap", "a.mcap"].map(PathBuf::from);
        let (mut left, now) =
            (LeftHot::of_earlier_run(LeftOver { path, sealed_path }), Instant::now());
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
}
