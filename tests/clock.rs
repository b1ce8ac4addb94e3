//! Recordings during which somebody sets the wall clock.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    path::Path,
    sync::{
        Arc, Barrier,
        atomic::{AtomicI64, Ordering},
        mpsc,
    },
    time::Duration,
};

use bytes::Bytes;
use centralcap::{
    accounts::Account,
    entry::{
        Entry, Timestamp, What,
        session_event::{ClockStepped, Event},
    },
    net::{
        client::Endpoint,
        trust::{self, Trust},
        ws::MESSAGE_LIMIT,
    },
    protocol::{self, Key},
    record::{
        Clock, Keeping, KeySource, Notice, Options, Reading, Recording, Report, Split, SystemClock,
    },
};
use support::{
    capture::{message, proven},
    feed::{Feed, Reply, Say},
};

const DAY: i64 = 86_400_000_000_000;

/// The machine's clocks, with a wall clock that can be set.
struct Settable {
    clock: SystemClock,
    by: AtomicI64,
}

impl Settable {
    fn new() -> Arc<Self> {
        Arc::new(Self { clock: SystemClock::new(), by: AtomicI64::new(0) })
    }

    fn set(&self, by: i64) {
        self.by.store(by, Ordering::SeqCst);
    }
}

impl Clock for Settable {
    fn look(&self) -> Reading {
        let Reading { wall, steady } = self.clock.look();
        let wall = wall.as_nanos().saturating_add_signed(self.by.load(Ordering::SeqCst));
        Reading { wall: Timestamp::from_nanos(wall), steady }
    }
}

fn options(feed: &Feed, output: &Path, clock: Arc<Settable>) -> Options {
    Options {
        protocol: protocol::by_name("classic"),
        endpoint: Endpoint::parse(&feed.url()).unwrap(),
        tls: trust::client_config(Trust::Anybody).unwrap(),
        accounts: vec![Account {
            name: "main".to_owned(),
            username: None,
            key: Key::new("synthetic-key-for-tests").unwrap(),
            topic: "monitoring".to_owned(),
        }],
        unknown_topics: false,
        keys: KeySource::Memory,
        output: output.to_owned(),
        message_limit: MESSAGE_LIMIT,
        stop_after_messages: None,
        stop_after_size: None,
        stop_after_duration: None,
        once: true,
        keeping: Keeping::default(),
        exports: Vec::new(),
        clock,
    }
}

fn frames(numbers: std::ops::Range<u32>) -> impl Iterator<Item = Bytes> {
    numbers.map(|number| message("monitoring", number, 100))
}

fn said(numbers: std::ops::Range<u32>) -> impl Iterator<Item = Say> {
    frames(numbers).map(Say::Binary)
}

/// There is one connection; a second one would be refused.
fn feed(barrier: &Arc<Barrier>) -> Feed {
    let settle = || [Say::Settle(Arc::clone(barrier))];
    let script =
        said(0..10).chain(settle()).chain(said(10..20)).chain(settle()).chain(said(20..30));
    Feed::start(vec![Reply::Feed(script.chain([Say::Close(1000, "done")]).collect())])
}

/// Records it. The steps are told as soon as they are seen.
fn record(options: Options) -> (std::thread::JoinHandle<Report>, mpsc::Receiver<ClockStepped>) {
    let (steps, seen) = mpsc::channel();
    let notify = move |notice: Notice<'_>| {
        if let Notice::Event { event, .. } = notice
            && let Some(Event::ClockStepped(step)) = event.event
        {
            steps.send(step).unwrap();
        }
    };
    let recording = Recording::prepare(options, Arc::new(notify)).unwrap();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(recording.run(std::future::pending(), None)).unwrap()
    });
    (thread, seen)
}

fn entries(path: &Path) -> Vec<Entry> {
    proven(path)
}

fn event(entry: &Entry) -> Option<&Event> {
    match &entry.what {
        What::Event(event) => event.event.as_ref(),
        What::Frame(_) => None,
    }
}

fn assert_is_about(step: &ClockStepped, by: i64) {
    let found = step.to_ns.wrapping_sub(step.from_ns).cast_signed();
    assert!((found - by).abs() < 1_000_000_000, "expected {by}, found {found}");
}

#[test]
fn a_clock_that_is_set_costs_nothing_and_stands_in_the_ledger() {
    for by in [DAY, -DAY] {
        let (barrier, folder) = (Arc::new(Barrier::new(2)), tempfile::tempdir().unwrap());
        let (feed, clock) = (feed(&barrier), Settable::new());
        let (recording, seen) = record(options(&feed, folder.path(), Arc::clone(&clock)));
        barrier.wait();
        clock.set(by);
        // Frames come at once.
        barrier.wait();
        barrier.wait();
        assert_is_about(&seen.recv_timeout(Duration::from_secs(20)).unwrap(), by);
        clock.set(0);
        // It is seen while nothing comes, too.
        assert_is_about(&seen.recv_timeout(Duration::from_secs(20)).unwrap(), -by);
        barrier.wait();
        let report = recording.join().unwrap();
        assert!(!report.is_lossy(), "{report:?}");

        let entries = entries(folder.path());
        assert_eq!(feed.heads().len(), 1, "one connection for all of it");
        let found: Vec<_> = entries.iter().filter_map(Entry::frame).collect();
        assert!(found.iter().map(|frame| frame.data.clone()).eq(frames(0..30)));
        assert!(found.iter().map(|frame| frame.sequence).eq(1..=30));
        let events: Vec<_> = entries.iter().filter_map(event).collect();
        let [
            Event::Connected(_),
            Event::ClockStepped(there),
            Event::ClockStepped(back),
            Event::Closed(_),
        ] = &events[..]
        else {
            panic!("{events:?}")
        };
        assert_is_about(there, by);
        assert_is_about(back, -by);
        // Each stands before the first thing that goes by the new clock, and after the last by the old.
        let kinds = entries.iter().map(|entry| match entry.what {
            What::Frame(_) => 'f',
            What::Event(_) => 'e',
        });
        let expected = format!("e{f}e{f}e{f}e", f = "f".repeat(10));
        assert_eq!(kinds.collect::<String>(), expected);
        let is_set = |entry: &Entry| {
            let off = entry.received.as_nanos().abs_diff(entries[0].received.as_nanos());
            off > DAY.unsigned_abs() / 2
        };
        let set: Vec<_> = entries.iter().map(is_set).collect();
        assert!(set.iter().enumerate().all(|(at, &set)| set == (11..22).contains(&at)), "{set:?}");
    }
}

/// What is a second old is no day old because somebody says so.
#[test]
fn a_clock_that_is_set_forward_deletes_no_segment_before_its_time() {
    let (barrier, folder) = (Arc::new(Barrier::new(2)), tempfile::tempdir().unwrap());
    let (feed, clock) = (feed(&barrier), Settable::new());
    let mut options = options(&feed, folder.path(), Arc::clone(&clock));
    options.keeping.split = Split { size: Some(1), every: None };
    options.keeping.keep.age = Some(Duration::from_secs(3600));
    let (recording, _seen) = record(options);
    barrier.wait();
    clock.set(DAY);
    barrier.wait();
    barrier.wait();
    barrier.wait();
    let report = recording.join().unwrap();
    assert!(report.sealed.len() > 2);
    assert!(report.paths().all(Path::exists), "{report:?}");
}

/// Names of segments are moments, and segments are read in the order of their names.
#[test]
fn segments_follow_each_other_in_order_although_the_clock_was_set_back() {
    let (barrier, folder) = (Arc::new(Barrier::new(2)), tempfile::tempdir().unwrap());
    let (feed, clock) = (feed(&barrier), Settable::new());
    let mut options = options(&feed, folder.path(), Arc::clone(&clock));
    options.keeping.split = Split { size: Some(1), every: None };
    let (recording, _seen) = record(options);
    barrier.wait();
    clock.set(-DAY);
    barrier.wait();
    barrier.wait();
    clock.set(-2 * DAY);
    barrier.wait();
    assert!(recording.join().unwrap().sealed.len() > 2);
    let found: Vec<_> = entries(folder.path());
    let found = found.iter().filter_map(Entry::frame);
    assert!(found.map(|frame| frame.data.clone()).eq(frames(0..30)));

    // The next recording begins after them, whatever the time is then.
    let feed = Feed::start(vec![Reply::Feed(said(30..40).chain([Say::Close(1000, "")]).collect())]);
    let (recording, _seen) = record(self::options(&feed, folder.path(), clock));
    recording.join().unwrap();
    let found: Vec<_> = entries(folder.path());
    let found = found.iter().filter_map(Entry::frame);
    assert!(found.map(|frame| frame.data.clone()).eq(frames(0..40)));
}
