//! The segments of a recording: which one is written to, when the next one begins, which old ones go.
//!
//! A segment that has ended is sealed by a [`Sealer`], which may fall behind: the recording never waits for it.
//! What the ring has too much of comes back from there to whoever writes, who tells it in the ledger, and then
//! lets the sealer delete it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use super::{
    names::{NAME_STEP, moment_in, name_at},
    ring::{Leaving, sealed_in},
    sealer::{Care, Sealer},
};
use crate::{
    capture::{About, HotSegment, Sealed},
    entry::{Entry, FrameType, Timestamp},
    error::{Error, Kind, Result},
};

/// When a segment ends and the next one begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// When it has so many bytes, before it is compressed.
    pub size: Option<u64>,
    /// At each multiple of this on the wall clock, counted from midnight UTC of 1 January 1970, if there are frames in
    /// it: whoever is refused for days would have a folder full of segments that say only that.
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
        self.sealer.waiting()
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
        let mut over = open.until.is_some_and(|until| now >= until);
        if over && !open.segment.has_frames() {
            // The next one would be no better.
            open.until = self.split.until(now);
            over = false;
        }
        (too_large || over || asked) && !open.segment.is_empty() && has_room_for_more
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

    /// Makes room: see [`Sealer::delete_oldest_in`].
    pub(super) fn delete_oldest(&self) -> Vec<Leaving> {
        match &self.place {
            Place::Folder(folder) => self.sealer.delete_oldest_in(folder),
            Place::File(_) => Vec::new(),
        }
    }

    /// What has to go. It stays until [`delete`](Self::delete) is told that the ledger has it.
    pub(super) fn leaving(&self) -> Vec<Leaving> {
        self.sealer.leaving()
    }

    /// The same, when all that has ended is sealed: it waits for that.
    pub(super) fn last_leaving(&self) -> Vec<Leaving> {
        self.sealer.last_leaving()
    }

    /// Deletes what the ledger has been told of.
    pub(super) fn delete(&self, told: Vec<Leaving>) {
        self.sealer.delete(told);
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

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        fs,
        sync::{
            Barrier, Mutex,
            atomic::{AtomicBool, Ordering},
            mpsc,
        },
        time::Instant,
    };

    use super::*;
    use crate::{
        capture,
        entry::{Frame, SessionEvent, Subscription, What},
        record::{Notice, Notify, earlier::Earlier, sealer::LeftHot},
        schema,
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn begun(folder: &Path, notify: Notify) -> Segments {
        begun_with(folder, notify, None)
    }

    fn begun_with(folder: &Path, notify: Notify, on_sealed: Option<String>) -> Segments {
        begun_by(folder, Care { on_sealed, ..Care::with(notify) })
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
        write(segments, second, What::Event(SessionEvent::default()));
    }

    fn write(segments: &mut Segments, second: u64, what: What) {
        let subscription = Subscription::to_audit("main");
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
            let care = Care { left_hot, is_hurried: Arc::clone(&is_hurried), ..Care::with(notify) };
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
    fn what_is_left_is_read_before_it_is_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let hot = left_in(folder.path());
        let left_hot = left_overs(folder.path());
        let (known, earlier) = Earlier::by_hand();
        let care = Care { left_hot, earlier, ..Care::with(Arc::new(|_| ())) };
        let segments = begun_by(folder.path(), care);
        segments.last_leaving();
        assert!(hot.exists());
        known.send_replace(Some(Arc::default()));
        let (sealed, failed) = segments.finish();
        assert!(failed.is_none() && !hot.exists(), "{failed:?}");
        assert!(sealed.iter().any(|sealed| sealed.is_left_over), "{sealed:?}");
    }

    #[test]
    fn what_is_sealed_late_is_told_where_it_belongs() {
        let folder = tempfile::tempdir().unwrap();
        let mut segments = begun(folder.path(), Arc::new(|_| ()));
        let first = segments.segment().unwrap().sealed_path().to_owned();
        // No file gets the name of a folder.
        fs::create_dir(&first).unwrap();
        next(&mut segments, 1);
        next(&mut segments, 2);
        segments.last_leaving();
        fs::remove_dir(&first).unwrap();
        segments.give_up();
        let (sealed, failed) = segments.finish();
        assert!(failed.is_none(), "{failed:?}");
        let paths: Vec<_> = sealed.into_iter().filter_map(|sealed| sealed.path).collect();
        assert_eq!((paths.len(), &paths[0]), (2, &first));
        assert!(paths.is_sorted(), "{paths:?}");
    }

    #[test]
    fn what_is_deleted_before_it_could_be_sealed_is_not_said_to_be_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut segments = begun(folder.path(), Arc::new(|_| ()));
        let segment = segments.segment().unwrap();
        let (hot, sealed) = (segment.path().to_owned(), segment.sealed_path().to_owned());
        fs::create_dir(&sealed).unwrap();
        next(&mut segments, 1);
        segments.last_leaving();
        fs::remove_file(&hot).unwrap();
        segments.give_up();
        let failed = segments.finish().1.unwrap().to_string();
        assert!(failed.contains("what was in it is lost"), "{failed}");
    }

    /// Whoever is refused for days has one segment that says so.
    #[test]
    fn a_segment_without_frames_goes_on_unless_it_is_asked_for_another() {
        let folder = tempfile::tempdir().unwrap();
        let mut segments = begun(folder.path(), Arc::new(|_| ()));
        segments.split.every = Some(Duration::from_secs(60));
        segments.clock_stepped(at(1));
        assert!(!segments.is_over(at(30), true), "nothing is in it");
        write_into(&mut segments, 1);
        assert!(segments.is_over(at(30), true));
        assert!(!segments.is_over(at(60), false));
        let frame = Frame {
            sequence: 1,
            sent: None,
            kind: Arc::new(schema::bundled_type("classic", "audit", None)),
            data: "x".into(),
        };
        write(&mut segments, 100, What::Frame(frame));
        assert!(!segments.is_over(at(119), false));
        assert!(segments.is_over(at(120), false));
        segments.give_up();
        assert!(segments.finish().1.is_none());
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
}
