//! How far earlier recordings into the same folder covered each subscription.
//!
//! The last segment knows of most: a connection that was up when it began is mentioned there, and so is all
//! that happened since. Who was down for all of it has left a word in an earlier one. Where a connection has no
//! end, the recorder had none either: it was killed, and the last thing that it wrote is the last moment that is
//! known to be covered.

use std::{
    collections::{HashMap, hash_map},
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use tokio::sync::watch;

use super::{names::is_name, ring::sealed_in};
use crate::{
    capture::{Capture, LeftOver},
    entry::{
        Entry, Timestamp, What,
        session_event::{ClockStepped, Event, gap::Cause},
    },
    session::cause_after,
};

/// Until when a subscription was covered, and why not longer.
type Until = (Timestamp, Cause);

/// The same of each, by name.
type Covered = HashMap<String, Until>;

/// So long a recording waits for it before it begins. A segment of many gigabytes takes longer.
const PATIENCE: Duration = Duration::from_millis(500);

/// What earlier recordings have covered, as soon as that is known.
#[derive(Clone)]
pub(super) struct Earlier(watch::Receiver<Option<Arc<Covered>>>);

impl Earlier {
    /// There were none.
    pub(super) fn none() -> Self {
        Self(watch::channel(Some(Arc::default())).1)
    }

    /// Looks for them in a folder, of which these are hot. Nothing there is to be sealed until it is known.
    pub(super) fn look(folder: PathBuf, hot: Vec<LeftOver>, names: Vec<String>) -> Self {
        let (known, earlier) = watch::channel(None);
        let (say_done, is_done) = mpsc::sync_channel::<()>(1);
        thread::spawn(move || {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            known.send_replace(Some(Arc::new(covered_in(&folder, &hot, &names))));
            drop(say_done);
        });
        let _ = is_done.recv_timeout(PATIENCE);
        Self(earlier)
    }

    /// What a test tells by itself.
    #[cfg(test)]
    pub(super) fn by_hand() -> (watch::Sender<Option<Arc<Covered>>>, Self) {
        let (known, earlier) = watch::channel(None);
        (known, Self(earlier))
    }

    pub(super) fn is_known(&self) -> bool {
        // Where the thread is gone, nothing will ever be.
        self.0.borrow().is_some() || self.0.has_changed().is_err()
    }

    /// Waits until it is.
    pub(super) async fn known(&mut self) {
        let _ = self.0.wait_for(Option::is_some).await;
    }

    /// None, too, as long as it is not known.
    pub(super) fn until(&self, name: &str) -> Option<Until> {
        self.0.borrow().as_ref()?.get(name).copied()
    }
}

/// So many segments are looked through for who is not in the last one,
const LOOK_BACK: usize = 1000;

/// and so many bytes of them are read: nothing is recorded meanwhile.
const LOOK_BACK_SIZE: u64 = 256 * 1024 * 1024;

/// Reads the last segment in the folder in which there is something, sealed or not: whoever was killed had perhaps
/// just begun another one. Earlier ones are read for those of the `names` that it does not tell of. What cannot be
/// read says nothing, and what stands behind it counts.
fn covered_in(folder: &Path, hot: &[LeftOver], names: &[&str]) -> Covered {
    let is_ours =
        |hot: &&LeftOver| hot.sealed_path.file_name().and_then(OsStr::to_str).is_some_and(is_name);
    let hot = hot.iter().filter(is_ours).map(|hot| hot.path.clone());
    let mut segments: Vec<_> = sealed_in(folder).into_iter().chain(hot).collect();
    // A moment stands first in each name.
    segments.sort();
    let (mut courses, mut size) = (Courses::default(), 0);
    for path in segments.into_iter().rev().take(LOOK_BACK) {
        let Ok(capture) = Capture::open(&[path]) else { continue };
        let read = || Courses::of(capture.entries().filter_map(Result::ok));
        if courses.0.is_empty() {
            courses = read();
            courses.tell_killed();
        } else {
            let mut unknown = names.iter().filter(|name| !courses.know(name)).peekable();
            if unknown.peek().is_none() {
                break;
            }
            let has = capture.channels().unwrap_or_default();
            if !unknown.any(|name| has.iter().any(|(subscription, _)| subscription.name == *name)) {
                continue;
            }
            size += capture.segments().iter().map(|segment| segment.size).sum::<u64>();
            if size > LOOK_BACK_SIZE {
                break;
            }
            courses.follow(read());
        }
    }
    courses.covered()
}

/// What has become of each subscription, by its name.
#[derive(Default)]
struct Courses(HashMap<String, Course>);

#[derive(Default)]
struct Course {
    /// None: nothing tells of its connections.
    state: Option<State>,
    /// It was tried in vain to connect since then.
    tried: bool,
    /// How the wall clock was set, in this order.
    steps: Vec<ClockStepped>,
}

#[derive(Clone, Copy)]
enum State {
    /// At the end it was connected.
    Up(Timestamp),
    /// It was connected until then; the cause is that of an outage.
    Down(Timestamp, Cause),
    /// When it was stopped, it was not connected, and that was told.
    Stopped(Timestamp),
}

impl Course {
    const fn is_up(&self) -> bool {
        matches!(self.state, Some(State::Up(_)))
    }

    fn becomes(&mut self, state: State) {
        (self.state, self.tried) = (Some(state), false);
    }

    fn step(&mut self, step: ClockStepped) {
        self.state = self.state.map(|state| state.by_new_clock(&step));
        self.steps.push(step);
    }
}

impl State {
    fn by_new_clock(self, step: &ClockStepped) -> Self {
        match self {
            Self::Up(at) => Self::Up(step.by_new_clock(at)),
            Self::Down(at, cause) => Self::Down(step.by_new_clock(at), cause),
            Self::Stopped(at) => Self::Stopped(step.by_new_clock(at)),
        }
    }
}

impl Courses {
    /// Those that the entries of a segment tell of.
    fn of(entries: impl Iterator<Item = Entry>) -> Self {
        let mut last = Timestamp::default();
        let mut courses = HashMap::<String, Course>::new();
        for entry in entries {
            last = last.max(entry.received);
            let What::Event(event) = &entry.what else { continue };
            let Some(event) = &event.event else { continue };
            let course = courses.entry(entry.subscription.name.clone()).or_default();
            match event {
                Event::ClockStepped(step) => {
                    // What was latest by the old clock is so no more.
                    last = entry.received;
                    course.step(*step);
                }
                Event::Connected(_) | Event::Continued(_) => {
                    course.becomes(State::Up(entry.received));
                }
                Event::Closed(closed) => {
                    course.becomes(State::Down(entry.received, cause_after(closed)));
                }
                // Stopped while it was not connected: the gap so far is told.
                Event::Gap(gap) if !course.is_up() => {
                    course.becomes(State::Stopped(Timestamp::from_nanos(gap.to_ns)));
                }
                Event::Rejected(_) | Event::Failed(_) if !course.is_up() => course.tried = true,
                _ => {}
            }
        }
        for course in courses.values_mut().filter(|course| course.is_up()) {
            course.state = Some(State::Up(last));
        }
        Self(courses)
    }

    /// Where some were up at the end of it all, or tried to be, the others were not stopped either.
    fn tell_killed(&mut self) {
        let down = |course: &Course| matches!(course.state, Some(State::Down(..)));
        if self.0.values().any(|course| course.is_up() || (course.tried && down(course))) {
            for course in self.0.values_mut().filter(|course| down(course)) {
                course.tried = true;
            }
        }
    }

    fn know(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|course| course.state.is_some())
    }

    /// Adds what an earlier segment says of those that nothing is known of.
    fn follow(&mut self, earlier: Self) {
        for (name, earlier) in earlier.0 {
            match self.0.entry(name) {
                hash_map::Entry::Vacant(vacant) => _ = vacant.insert(earlier),
                hash_map::Entry::Occupied(mut occupied) => {
                    let course = occupied.get_mut();
                    if course.state.is_none() {
                        let by_now = |state| course.steps.iter().fold(state, State::by_new_clock);
                        course.state = earlier.state.map(by_now);
                        course.tried |= earlier.tried;
                    }
                }
            }
        }
    }

    fn covered(self) -> Covered {
        let covered = |(name, course): (String, Course)| {
            let covered = match course.state? {
                State::Up(until) => (until, Cause::Killed),
                State::Down(since, cause) if course.tried => (since, cause),
                State::Down(since, _) | State::Stopped(since) => (since, Cause::Shutdown),
            };
            Some((name, covered))
        };
        self.0.into_iter().filter_map(covered).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        capture::{About, SealedFile},
        entry::{
            SessionEvent, Subscription,
            session_event::{ClockStepped, Closed, Connected, Continued, Gap, Rejected, TextFrame},
        },
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn happened(name: &str, seconds: u64, event: Event) -> Entry {
        let subscription = Subscription::to_audit(name);
        let what = What::Event(SessionEvent { connection: 1, event: Some(event) });
        Entry { subscription, received: at(seconds), what }
    }

    fn up() -> Event {
        Event::Connected(Connected::default())
    }

    fn down() -> Event {
        Event::Closed(Closed::default())
    }

    /// What the last segment says by itself.
    fn covered(entries: impl Iterator<Item = Entry>) -> Covered {
        let mut courses = Courses::of(entries);
        courses.tell_killed();
        courses.covered()
    }

    fn refused() -> Event {
        Event::Rejected(Rejected { status: 503, ..Rejected::default() })
    }

    /// A folder with a sealed segment of each of these, in this order.
    fn folder_of(segments: &[&[Entry]]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (number, entries) in segments.iter().enumerate() {
            let about = About { started: at(0), host: String::new(), options: BTreeMap::new() };
            let name = format!("2026010{}T000000.000Z.mcap", 1 + number);
            let mut file = SealedFile::create(&folder.path().join(name), &about, &[]).unwrap();
            for entry in *entries {
                file.append(entry).unwrap();
            }
            file.finish().unwrap();
        }
        folder
    }

    #[test]
    fn who_tried_in_vain_to_connect_was_not_stopped() {
        let closed_with = |code, clean| Event::Closed(Closed { code, clean, ..Closed::default() });
        for (code, clean, cause) in [
            (Some(1001), false, Cause::Server),
            (None, true, Cause::Server),
            (None, false, Cause::Network),
        ] {
            let told = covered(
                [
                    happened("a", 1, up()),
                    happened("b", 1, up()),
                    happened("b", 2, closed_with(None, false)),
                    happened("a", 3, closed_with(code, clean)),
                    happened("a", 4, refused()),
                ]
                .into_iter(),
            );
            assert_eq!(told["a"], (at(3), cause));
            assert_eq!(told["b"], (at(2), Cause::Network));
        }
    }

    #[test]
    fn who_was_down_for_all_of_the_last_segment_is_known_from_an_earlier_one() {
        let continued = || Event::Continued(Continued::default());
        let (from_ns, to_ns) = (at(100).as_nanos(), at(200).as_nanos());
        let step = Event::ClockStepped(ClockStepped { from_ns, to_ns });
        let folder = folder_of(&[
            &[happened("gone", 1, up()), happened("busy", 2, up())],
            &[
                happened("busy", 3, continued()),
                happened("lost", 3, up()),
                happened("lost", 4, down()),
                happened("silent", 4, up()),
                happened("silent", 4, down()),
            ],
            &[happened("busy", 5, continued())],
            &[
                happened("busy", 5, continued()),
                happened("lost", 6, step),
                happened("lost", 206, refused()),
                happened("busy", 207, Event::TextFrame(TextFrame::default())),
            ],
        ]);
        let told = covered_in(folder.path(), &[], &["busy", "lost", "silent", "gone", "new"]);
        assert_eq!(told["busy"], (at(207), Cause::Killed));
        assert_eq!(told["lost"], (at(104), Cause::Network));
        // Nobody who was wanted would have been silent for so long.
        assert_eq!(told["silent"], (at(4), Cause::Shutdown));
        assert_eq!(told["gone"], (at(2), Cause::Killed));
        assert_eq!(told.get("new"), None);
        let told = covered_in(folder.path(), &[], &["busy"]);
        assert_eq!(told.len(), 1);
    }

    #[test]
    fn a_connection_without_an_end_was_covered_until_the_last_thing_that_was_written() {
        let told = covered(
            [
                happened("quiet", 1, Event::Continued(Continued::default())),
                happened("lost", 2, up()),
                happened("lost", 3, down()),
                happened("busy", 4, up()),
                happened("busy", 9, Event::TextFrame(TextFrame::default())),
            ]
            .into_iter(),
        );
        assert_eq!(told["quiet"], (at(9), Cause::Killed));
        assert_eq!(told["busy"], (at(9), Cause::Killed));
        assert_eq!(told["lost"], (at(3), Cause::Network));
        assert_eq!(told.len(), 3);
    }

    #[test]
    fn a_segment_that_was_only_just_begun_does_not_hide_the_one_before() {
        let folder = folder_of(&[&[happened("busy", 4, up())], &[]]);
        assert_eq!(covered_in(folder.path(), &[], &["busy"])["busy"], (at(4), Cause::Killed));
    }

    #[test]
    fn what_stands_behind_damage_counts() {
        let text = vec![b'a'; 1024 * 1024];
        let large = || Event::TextFrame(TextFrame { data: text.clone().into() });
        let told: &[Entry] = &[
            happened("a", 1, up()),
            happened("a", 2, large()),
            happened("a", 3, large()),
            happened("a", 4, large()),
            happened("a", 5, down()),
        ];
        let folder = folder_of(&[told]);
        let path = sealed_in(folder.path()).remove(0);
        let mut bytes = std::fs::read(&path).unwrap();
        // Behind what it says of itself and the first chunk, before the last one.
        let chunks = |bytes: &[u8]| {
            let frame = [0x28, 0xb5, 0x2f, 0xfd];
            let at = |at: &usize| bytes[*at..].starts_with(&frame);
            (0..bytes.len()).filter(at).collect::<Vec<_>>()
        };
        let chunks = chunks(&bytes);
        assert!(chunks.len() >= 3, "{chunks:?}");
        bytes[chunks[1] + 8] ^= 0xff;
        std::fs::write(&path, bytes).unwrap();
        let capture = Capture::open(&[&path]).unwrap();
        assert!(capture.entries().any(|entry| entry.is_err()));
        let told = covered_in(folder.path(), &[], &["a"]);
        assert_eq!(told["a"], (at(5), Cause::Shutdown));
    }

    #[test]
    fn a_recording_that_was_stopped_ends_every_connection() {
        let gap = Gap { from_ns: at(3).as_nanos(), to_ns: at(8).as_nanos(), cause: 1 };
        let told = covered(
            [
                happened("lost", 2, up()),
                happened("lost", 3, down()),
                happened("busy", 4, up()),
                happened("lost", 8, Event::Gap(gap)),
                happened("busy", 9, down()),
            ]
            .into_iter(),
        );
        assert_eq!(told["busy"], (at(9), Cause::Shutdown));
        assert_eq!(told["lost"], (at(8), Cause::Shutdown));
    }

    #[test]
    fn a_gap_that_a_new_connection_ends_is_no_end() {
        let told = covered(
            [happened("a", 1, up()), happened("a", 1, Event::Gap(Gap::default()))].into_iter(),
        );
        assert_eq!(told["a"], (at(1), Cause::Killed));
        assert!(covered(std::iter::empty()).is_empty());
    }

    #[test]
    fn a_clock_that_was_set_back_leaves_no_moment_in_the_future() {
        let (from_ns, to_ns) = (at(1010).as_nanos(), at(10).as_nanos());
        let step = || Event::ClockStepped(ClockStepped { from_ns, to_ns });
        let told = covered(
            [
                happened("lost", 1000, up()),
                happened("busy", 1000, up()),
                happened("lost", 1005, down()),
                happened("busy", 10, step()),
                happened("lost", 10, step()),
                happened("busy", 17, Event::TextFrame(TextFrame::default())),
            ]
            .into_iter(),
        );
        assert_eq!(told["busy"], (at(17), Cause::Killed));
        assert_eq!(told["lost"], (at(5), Cause::Network));
    }
}
