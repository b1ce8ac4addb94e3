//! Recordings of more than one segment: when the next one begins, which old ones go, and what happens
//! when nothing can be written for a while.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Barrier, Mutex, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use centralcap::{
    accounts::Account,
    capture::{About, Capture, Compression, HOT_SUFFIX, HotSegment, seal},
    entry::{
        Entry, SessionEvent, What,
        session_event::{Event, Gap, SegmentDeleted, gap::Cause},
    },
    inspect,
    net::{
        client::Endpoint,
        trust::{self, Trust},
        ws::MESSAGE_LIMIT,
    },
    protocol::{self, Key},
    record::{Keeping, KeySource, Notice, Options, Recording, SystemClock},
    select::Selection,
};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use support::{
    capture::{Entries, START, message, proven, subscription},
    feed::{Feed, Reply, Say},
    place::names_in as names,
    wait,
};

const KEY: &str = "synthetic-key-for-tests";

/// `record` of one topic into a folder.
fn record(feed: &Feed, folder: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"));
    command
        .args(["record", "--hostname", &feed.url(), "--topic", "monitoring", "--once", "-o"])
        .arg(folder)
        .args(more)
        .env("CENTRALCAP_KEY", KEY)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// So many frames of 10 KB, each another.
fn frames(numbers: std::ops::Range<u32>) -> impl Iterator<Item = Bytes> {
    numbers.map(|number| message("monitoring", number, 10_000))
}

fn said(numbers: std::ops::Range<u32>) -> Vec<Say> {
    frames(numbers).map(Say::Binary).collect()
}

fn goodbye() -> Say {
    Say::Close(1000, "done")
}

fn entries(path: &Path) -> Vec<Entry> {
    proven(path)
}

fn frames_in(entries: &[Entry]) -> Vec<Bytes> {
    entries.iter().filter_map(|entry| Some(entry.frame()?.data.clone())).collect()
}

fn gaps(entries: &[Entry]) -> Vec<Gap> {
    let gap = |entry: &Entry| match &entry.what {
        What::Event(SessionEvent { event: Some(Event::Gap(gap)), .. }) => Some(*gap),
        _ => None,
    };
    entries.iter().filter_map(gap).collect()
}

/// What `inspect --gaps` calls the only gap, and the frames that were lost in it. All else is known to be
/// covered; another feed has another port, so it counts as another subscription.
fn only_gap(folder: &Path) -> (String, u64, u64) {
    let profile = inspect::gaps(&Capture::open(&[folder]).unwrap(), Selection::default()).unwrap();
    let found: Vec<_> = profile.subscriptions.into_iter().filter_map(|of| of.coverage).collect();
    assert!(found.iter().all(|coverage| coverage.unknown.is_empty()), "{found:?}");
    let gaps: Vec<_> = found.iter().flat_map(|coverage| &coverage.gaps).collect();
    let [gap] = &gaps[..] else { panic!("{gaps:?}") };
    (gap.cause.clone(), gap.frames, gap.bytes)
}

/// What is in a folder, sorted.
#[track_caller]
fn ended(output: &Output, code: i32) -> String {
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words}");
    words
}

#[track_caller]
fn wait_for(what: &str, holds: impl Fn() -> bool) {
    wait::wait_for(what, String::new, holds);
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

#[test]
fn a_segment_of_the_size_is_followed_by_the_next_and_nothing_is_lost_between() {
    let feed =
        Feed::start(vec![Reply::Feed(said(0..100).into_iter().chain([goodbye()]).collect())]);
    let folder = tempfile::tempdir().unwrap();
    let output = record(&feed, folder.path(), &["--split-size", "200kB"]).output().unwrap();
    let words = ended(&output, 0);
    let segments = names(folder.path());
    assert!(segments.len() >= 3, "{segments:?}");
    assert!(segments.iter().all(|name| name.ends_with("Z.mcap")), "{segments:?}");
    assert!(words.contains(&format!("100 frames kept in {} segments", segments.len())), "{words}");
    assert!(frames_in(&entries(folder.path())).into_iter().eq(frames(0..100)));
    // Each is a capture of its own, which says what it is a part of.
    let mut before = 0;
    for name in &segments {
        let entries = entries(&folder.path().join(name));
        let What::Event(SessionEvent { connection: 1, event }) = &entries[0].what else { panic!() };
        match event.as_ref().unwrap() {
            Event::Connected(_) => assert_eq!(before, 0),
            Event::Continued(continued) => assert_eq!(continued.last_sequence, before),
            other => panic!("{other:?}"),
        }
        before += frames_in(&entries).len() as u64;
    }
}

#[test]
fn the_time_since_the_last_recording_was_stopped_is_a_gap_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    for numbers in [0..3, 3..6] {
        let script = said(numbers).into_iter().chain([goodbye()]);
        let feed = Feed::start(vec![Reply::Feed(script.collect())]);
        ended(&record(&feed, folder.path(), &[]).output().unwrap(), 0);
    }
    let entries = entries(folder.path());
    let gaps = gaps(&entries);
    let [gap] = &gaps[..] else { panic!("{gaps:?}") };
    assert_eq!(gap.cause(), Cause::Shutdown);
    assert_eq!(only_gap(folder.path()), ("shutdown".to_owned(), 0, 0));
    let of_second = entries.iter().filter(|entry| entry.frame().is_some()).nth(3).unwrap();
    assert!(gap.from_ns < gap.to_ns && gap.to_ns <= of_second.received.as_nanos());
}

#[test]
fn only_so_many_segments_stay_and_nobody_elses_files_go() {
    let feed =
        Feed::start(vec![Reply::Feed(said(0..200).into_iter().chain([goodbye()]).collect())]);
    let folder = tempfile::tempdir().unwrap();
    let others = ["precious.mcap", "notes.txt", "20200101T000000.000Z.mcap.damaged"];
    for name in others {
        fs::write(folder.path().join(name), "not ours").unwrap();
    }
    let more = ["--split-size", "200kB", "--keep-files", "3"];
    let output = record(&feed, folder.path(), &more).output().unwrap();
    let words = ended(&output, 0);
    let names = names(folder.path());
    let segments: Vec<_> = names.iter().filter(|name| name.ends_with("Z.mcap")).collect();
    // The one being recorded was one of the three.
    assert!((2..=3).contains(&segments.len()), "{names:?}");
    assert!(others.iter().all(|other| names.iter().any(|name| name == other)), "{names:?}");
    assert!(words.contains("deleting "), "{words}");
    let kept: Vec<_> =
        segments.iter().flat_map(|name| frames_in(&entries(&folder.path().join(name)))).collect();
    let all: Vec<_> = frames(0..200).collect();
    assert!(!kept.is_empty() && all.ends_with(&kept), "the newest stay");

    // What went is told in what stays, up to the last frame before it.
    let entries: Vec<_> =
        segments.iter().flat_map(|name| entries(&folder.path().join(name))).collect();
    let told = deleted(&entries);
    let last = told.last().expect("a segment was deleted for the last one");
    assert!(told.is_sorted_by(|a, b| a.segment < b.segment && a.to_ns <= b.from_ns));
    assert!(told.iter().all(|told| !names.contains(&told.segment) && told.frames > 0), "{told:?}");
    assert!(last.segment < *segments[0] && last.to_ns <= entries[0].received.as_nanos());
    let frames: u64 = told.iter().map(|told| told.frames).sum();
    assert!(frames <= 200 - kept.len() as u64);
}

fn deleted(entries: &[Entry]) -> Vec<SegmentDeleted> {
    let deleted = |entry: &Entry| match &entry.what {
        What::Event(SessionEvent { event: Some(Event::SegmentDeleted(deleted)), .. }) => {
            Some(deleted.clone())
        }
        _ => None,
    };
    entries.iter().filter_map(deleted).collect()
}

#[test]
fn a_segment_that_the_command_has_not_had_stays() {
    let feed =
        Feed::start(vec![Reply::Feed(said(0..100).into_iter().chain([goodbye()]).collect())]);
    let (folder, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hook = format!("sleep 0.1; cp -t '{}'", copies.path().display());
    let more = ["--split-size", "200kB", "--keep-files", "1", "--on-sealed", &hook];
    let words = ended(&record(&feed, folder.path(), &more).output().unwrap(), 0);
    assert!(!words.contains("expected the command"), "{words}");
    assert!(frames_in(&entries(copies.path())).into_iter().eq(frames(0..100)));
}

#[test]
fn what_the_command_has_not_had_when_the_recorder_was_killed_the_next_one_hands_over() {
    let barrier = Arc::new(Barrier::new(2));
    let settle = || [Say::Settle(Arc::clone(&barrier))];
    // Each half is a segment at least, even if it comes at once.
    let script = said(0..40).into_iter().chain(settle()).chain(said(40..80)).chain(settle());
    let feed = Feed::start(vec![Reply::Feed(script.chain([Say::Stay]).collect())]);
    let (folder, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let go = copies.path().join("go");
    let waits =
        format!("wait() {{ until test -e '{}'; do sleep 0.01; done; }}; wait", go.display());
    let more = ["--split-size", "200kB", "--on-sealed", &waits];
    let mut child = record(&feed, folder.path(), &more).spawn().unwrap();
    for _ in 0..3 {
        barrier.wait();
    }
    let sealed = || names(folder.path()).iter().filter(|name| name.ends_with("Z.mcap")).count();
    wait_for("sealed segments", || sealed() >= 2);
    child.kill().unwrap();
    child.wait().unwrap();
    fs::write(&go, "").unwrap();
    barrier.wait();

    let script = said(80..90).into_iter().chain([goodbye()]);
    let again = Feed::start(vec![Reply::Feed(script.collect())]);
    let hook = format!("cp -t '{}'", copies.path().display());
    let more = ["--keep-files", "1", "--on-sealed", &hook];
    ended(&record(&again, folder.path(), &more).output().unwrap(), 3);
    fs::remove_file(go).unwrap();
    assert!(frames_in(&entries(copies.path())).into_iter().eq(frames(0..90)));
    // All have had their turn.
    let all = fs::read_dir(folder.path()).unwrap().map(|item| item.unwrap().file_name());
    assert!(all.into_iter().all(|name| name.to_str().unwrap().ends_with("Z.mcap")));
}

#[test]
fn a_segment_that_is_not_proven_to_be_whole_stays() {
    let feed =
        || Feed::start(vec![Reply::Feed(said(0..10).into_iter().chain([goodbye()]).collect())]);
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        ended(&record(&feed(), folder.path(), &[]).output().unwrap(), 0);
    }
    let before = names(folder.path());
    let [damaged, whole] = &before[..] else { panic!("{before:?}") };
    let mut bytes = fs::read(folder.path().join(damaged)).unwrap();
    bytes.pop();
    fs::write(folder.path().join(damaged), bytes).unwrap();

    let output = record(&feed(), folder.path(), &["--keep-files", "1"]).output().unwrap();
    let words = ended(&output, 0);
    assert!(words.contains("not deleting ") && words.contains("damaged at its end"), "{words}");
    let after = names(folder.path());
    assert!(after.contains(damaged) && !after.contains(whole) && after.len() == 2, "{after:?}");
    let last = entries(&folder.path().join(&after[1]));
    let [told] = &deleted(&last)[..] else { panic!("{last:?}") };
    assert_eq!((&told.segment, told.frames), (whole, 10));
}

#[test]
fn sighup_begins_a_segment_and_each_that_is_sealed_is_handed_to_the_command() {
    let barrier = Arc::new(Barrier::new(2));
    let script = said(0..5)
        .into_iter()
        .chain([Say::Settle(Arc::clone(&barrier))])
        .chain(said(5..10))
        .chain([goodbye()]);
    let feed = Feed::start(vec![Reply::Feed(script.collect())]);
    let (folder, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hook = format!("cp -t '{}'", copies.path().display());
    let child = record(&feed, folder.path(), &["--on-sealed", &hook]).spawn().unwrap();
    barrier.wait();
    let hot = |name: &String| name.ends_with(HOT_SUFFIX);
    let first = names(folder.path()).into_iter().find(hot).unwrap();
    kill_process(pid(&child), Signal::HUP).unwrap();
    wait_for("the second segment", || {
        names(folder.path()).iter().any(|name| hot(name) && *name != first)
    });
    wait_for("the first to be handed on", || names(copies.path()).len() == 1);
    barrier.wait();
    ended(&child.wait_with_output().unwrap(), 0);
    assert_eq!(names(folder.path()), names(copies.path()));
    let segments: Vec<_> = names(copies.path());
    let of = |at: usize| frames_in(&entries(&copies.path().join(&segments[at])));
    assert!(of(0).into_iter().eq(frames(0..5)) && of(1).into_iter().eq(frames(5..10)));
}

/// What an earlier run has left under this name. A folder may be in the way of sealing it.
fn left_over(folder: &Path, name: &str, is_blocked: bool) -> PathBuf {
    let path = folder.join(name);
    let mut entries = Entries::new();
    let frame = message("monitoring", 100, 10);
    entries.frame(Duration::ZERO, &subscription("monitoring", "monitoring"), frame);
    let about = About { started: START, host: String::new(), options: BTreeMap::new() };
    let mut hot = HotSegment::create(&path, &about, &[]).unwrap();
    hot.append(&entries.made[0]).unwrap();
    hot.commit().unwrap();
    if is_blocked {
        fs::create_dir(&path).unwrap();
    }
    path
}

/// A recording of these topics into a folder.
fn options(feed: &Feed, folder: &Path, topics: &[&str]) -> Options {
    let account = |topic: &&str| Account {
        name: (*topic).to_owned(),
        username: None,
        key: Key::new(KEY).unwrap(),
        topic: (*topic).to_owned(),
    };
    Options {
        protocol: protocol::by_name("classic"),
        endpoint: Endpoint::parse(&feed.url()).unwrap(),
        tls: trust::client_config(Trust::Anybody).unwrap(),
        accounts: topics.iter().map(account).collect(),
        unknown_topics: false,
        keys: KeySource::Memory,
        output: folder.to_owned(),
        message_limit: MESSAGE_LIMIT,
        stop_after_messages: None,
        stop_after_size: None,
        stop_after_duration: None,
        once: false,
        keeping: Keeping::default(),
        exports: Vec::new(),
        clock: Arc::new(SystemClock::new()),
    }
}

#[test]
fn what_an_earlier_run_has_left_is_sealed_while_the_next_one_records() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["20260101T000000.000Z.mcap", "20260102T000000.000Z.mcap"];
    let left = names.map(|name| left_over(folder.path(), name, false));
    let feed = Feed::start(vec![Reply::Feed(said(0..5).into_iter().chain([Say::Stay]).collect())]);
    let options = Options {
        stop_after_messages: Some(5),
        once: true,
        ..options(&feed, folder.path(), &["monitoring"])
    };
    // Sealing takes as long as it takes until something is recorded.
    let (sender, receiver) = mpsc::channel();
    let (receiver, happened) = (Mutex::new(receiver), Arc::new(Mutex::new(Vec::new())));
    let heard = Arc::clone(&happened);
    let notify = move |notice: Notice<'_>| {
        if let Notice::Sealed { sealed } = notice
            && sealed.is_left_over
        {
            let came = receiver.lock().unwrap().recv_timeout(Duration::from_secs(20));
            heard.lock().unwrap().push((sealed.path.clone().unwrap(), came.is_ok()));
        }
    };
    let kept = move |kept: Vec<Entry>| frames_in(&kept).iter().for_each(|_| _ = sender.send(()));
    let recording = Recording::prepare(options, Arc::new(notify)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let running = recording.run(std::future::pending(), Some(Box::new(kept)));
    let report = runtime.block_on(running).unwrap();
    assert_eq!(*happened.lock().unwrap(), left.map(|path| (path, true)));
    let of_earlier_run = report.sealed.iter().filter(|sealed| sealed.is_left_over);
    assert_eq!((of_earlier_run.count(), report.recorded().count()), (2, 1));
    assert_eq!(frames_in(&entries(folder.path())).len(), 2 + 5);
}

/// It would be down until somebody happens to stop the recording.
#[test]
fn a_subscription_that_panics_ends_the_recording() {
    let folder = tempfile::tempdir().unwrap();
    let feed = Feed::answering(|_| Reply::Feed(vec![Say::Stay]));
    let notify = |notice: Notice<'_>| {
        if let Notice::Event { subscription, .. } = notice {
            assert_ne!(subscription.topic, "audit", "whoever is told panics");
        }
    };
    let options = options(&feed, folder.path(), &["monitoring", "audit"]);
    let recording = Recording::prepare(options, Arc::new(notify)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stop = async { tokio::time::sleep(Duration::from_secs(20)).await };
    let running = recording.run(stop, None);
    let began = Instant::now();
    assert!(runtime.block_on(running).unwrap_err().to_string().contains("panicked"));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn what_was_being_sealed_when_the_recorder_was_killed_the_command_has_once() {
    let (folder, log) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
    let name = "20260101T000000.000Z.mcap";
    let path = left_over(folder.path(), name, false);
    let hot = folder.path().join(format!("20260101T000000.000Z{HOT_SUFFIX}"));
    let bytes = fs::read(&hot).unwrap();
    seal(&hot, &path, Compression::default()).unwrap();
    fs::write(&hot, bytes).unwrap();
    fs::write(folder.path().join(format!(".centralcap-on-sealed-{name}.wanted")), "").unwrap();

    let feed = Feed::start(vec![Reply::Feed(said(0..5).into_iter().chain([goodbye()]).collect())]);
    let hook = format!("echo >>'{}'", log.path().display());
    let words = ended(&record(&feed, folder.path(), &["--on-sealed", &hook]).output().unwrap(), 0);
    assert!(words.contains(&format!("sealed {} of an earlier run", path.display())), "{words}");
    assert!(!hot.exists());
    let handed_over = fs::read_to_string(log.path()).unwrap();
    assert_eq!(handed_over.lines().filter(|line| line.ends_with(name)).count(), 1, "{handed_over}");
}

#[test]
fn what_cannot_be_sealed_of_an_earlier_run_is_sealed_when_it_can() {
    let (folder, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let blocked = left_over(folder.path(), "20260101T000000.000Z.mcap", true);
    let sealed = left_over(folder.path(), "20260102T000000.000Z.mcap", false);

    let barrier = Arc::new(Barrier::new(2));
    let script = said(0..5).into_iter().chain([Say::Settle(Arc::clone(&barrier)), goodbye()]);
    let feed = Feed::start(vec![Reply::Feed(script.collect())]);
    let hook = format!("cp -t '{}'", copies.path().display());
    let child = record(&feed, folder.path(), &["--on-sealed", &hook]).spawn().unwrap();
    barrier.wait();
    wait_for("the second one to be sealed", || sealed.is_file());
    fs::remove_dir(&blocked).unwrap();
    wait_for("the first one to be sealed", || blocked.is_file());
    barrier.wait();
    let words = ended(&child.wait_with_output().unwrap(), 0);
    assert!(words.contains(&format!("{}: Is a directory", blocked.display())), "{words}");
    assert!(words.contains("5 frames kept in"), "{words}");
    assert_eq!(names(folder.path()), names(copies.path()));
    assert_eq!(frames_in(&entries(folder.path())).len(), 2 + 5);
}

#[test]
fn what_is_wrong_with_what_an_earlier_run_has_left_is_told_at_the_end() {
    for (can_be_sealed, told) in [(true, "the last record is incomplete"), (false, "cannot seal ")]
    {
        let folder = tempfile::tempdir().unwrap();
        let blocked = left_over(folder.path(), "20260101T000000.000Z.mcap", true);
        let hot = folder.path().join("20260101T000000.000Z.open.mcap");
        let file = fs::OpenOptions::new().write(true).open(&hot).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        let barrier = Arc::new(Barrier::new(2));
        let script = said(0..5).into_iter().chain([Say::Settle(Arc::clone(&barrier)), goodbye()]);
        let feed = Feed::start(vec![Reply::Feed(script.collect())]);
        let child = record(&feed, folder.path(), &["--quiet"]).spawn().unwrap();
        barrier.wait();
        if can_be_sealed {
            fs::remove_dir(&blocked).unwrap();
            wait_for("it to be tried", || !hot.exists());
        }
        barrier.wait();
        let words = ended(&child.wait_with_output().unwrap(), 3);
        assert!(words.contains(told), "{words}");
        assert_eq!(hot.exists(), !can_be_sealed);
    }
}

#[test]
fn what_was_sealed_of_a_damaged_segment_is_the_commands_though_the_rest_cannot_be_set_aside() {
    let (folder, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // With `.damaged` it would be too long for a file.
    let name = format!("{}.mcap", "x".repeat(255 - HOT_SUFFIX.len() - 1));
    let path = folder.path().join(&name);
    let mut made = Entries::new();
    for number in 0..2 {
        let of = subscription("monitoring", "monitoring");
        made.frame(Duration::ZERO, &of, message("monitoring", number, 10));
    }
    let about = About { started: START, host: String::new(), options: BTreeMap::new() };
    let mut hot = HotSegment::create(&path, &about, &[]).unwrap();
    for entry in &made.made {
        hot.append(entry).unwrap();
        drop(hot.checkpoint().unwrap());
    }
    let hot_path = hot.path().to_owned();
    drop(hot);
    let mut bytes = fs::read(&hot_path).unwrap();
    let checkpoint = 9 + 20;
    let last = bytes.len() - checkpoint - 1;
    bytes[last] ^= 1;
    fs::write(&hot_path, bytes).unwrap();

    let feed = Feed::start(vec![Reply::Feed(said(0..5).into_iter().chain([goodbye()]).collect())]);
    let hook = format!("cp -t '{}'", copies.path().display());
    let output = record(&feed, folder.path(), &["--on-sealed", &hook]).output().unwrap();
    let words = ended(&output, 3);
    let stays = format!("all that was written stays in {}", hot_path.display());
    assert!(words.contains(&stays), "{words}");
    let copied = frames_in(&entries(&copies.path().join(&name)));
    assert_eq!(copied, [made.made[0].frame().unwrap().data.clone()]);
}

#[test]
fn what_was_kept_is_printed_before_an_error_ends_it() {
    let barrier = Arc::new(Barrier::new(2));
    let said = |count| {
        let frame = || Say::Binary(Bytes::from_static(b"\x12\x0amonitoring"));
        std::iter::repeat_with(frame).take(count)
    };
    let script = said(3000).chain([Say::Settle(Arc::clone(&barrier))]).chain(said(1));
    let feed = Feed::start(vec![Reply::Feed(script.chain([Say::Stay]).collect())]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.mcap");
    let child = record(&feed, &file, &["--decode"]).spawn().unwrap();
    barrier.wait();
    limit(&child, Some(1));
    barrier.wait();
    let output = child.wait_with_output().unwrap();
    let words = ended(&output, 1);
    assert!(words.contains("error: cannot write"), "{words}");
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(lines.ends_with("}\n"), "{lines}");
    assert_eq!(lines.lines().count(), 3000);
}

#[test]
fn a_command_that_hangs_holds_up_no_sealing() {
    let barrier = Arc::new(Barrier::new(2));
    let settle = || [Say::Settle(Arc::clone(&barrier))];
    let script = said(0..5).into_iter().chain(settle()).chain(said(5..10)).chain(settle());
    let script = script.chain(said(10..15)).chain([goodbye()]);
    let feed = Feed::start(vec![Reply::Feed(script.collect())]);
    let (folder, hooks) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = |name: &str| hooks.path().join(name);
    let (log, go) = (path("log"), path("go"));
    let hook =
        format!("run() {{ until test -e {go:?}; do sleep 0.01; done; echo $1 >>{log:?}; }}; run");
    let child = record(&feed, folder.path(), &["--on-sealed", &hook]).spawn().unwrap();
    let sealed = || names(folder.path()).into_iter().filter(|name| name.ends_with("Z.mcap"));
    for count in 1..=2 {
        barrier.wait();
        kill_process(pid(&child), Signal::HUP).unwrap();
        wait_for("the next segment to be sealed", || sealed().count() == count);
        barrier.wait();
    }
    assert!(!log.exists());
    fs::write(go, "").unwrap();
    ended(&child.wait_with_output().unwrap(), 0);
    let expected: String = names(folder.path())
        .iter()
        .map(|name| folder.path().join(name).display().to_string() + "\n")
        .collect();
    assert_eq!(fs::read_to_string(log).unwrap(), expected);
}

#[test]
fn what_a_command_prints_is_words() {
    let feed = Feed::start(vec![Reply::Feed(said(0..3).into_iter().chain([goodbye()]).collect())]);
    let folder = tempfile::tempdir().unwrap();
    let output = record(&feed, folder.path(), &["--on-sealed", "echo copied"]).output().unwrap();
    let words = ended(&output, 0);
    let [name] = &names(folder.path())[..] else { panic!("{words}") };
    let line = format!("copied {}\n", folder.path().join(name).display());
    assert!(words.contains(&line), "{words}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_command_that_fails_is_told_and_stops_nothing() {
    let feed = Feed::start(vec![Reply::Feed(said(0..3).into_iter().chain([goodbye()]).collect())]);
    let folder = tempfile::tempdir().unwrap();
    let output = record(&feed, folder.path(), &["--on-sealed", "exit 7 #"]).output().unwrap();
    let words = ended(&output, 0);
    assert!(words.contains("expected the command \"exit 7 #\" to succeed"), "{words}");
    assert_eq!(frames_in(&entries(folder.path())).len(), 3);
}

#[test]
fn a_command_that_ends_with_a_line_has_the_segment_all_the_same() {
    let feed = Feed::start(vec![Reply::Feed(said(0..3).into_iter().chain([goodbye()]).collect())]);
    let folder = tempfile::tempdir().unwrap();
    let output = record(&feed, folder.path(), &["--on-sealed", "test -s\n"]).output().unwrap();
    let words = ended(&output, 0);
    assert!(!words.contains("to succeed"), "{words}");
}

/// As where a thousand connections are all that may be open.
#[test]
fn a_recording_that_can_open_nothing_goes_on_in_the_file_that_it_has() {
    let barrier = Arc::new(Barrier::new(2));
    let settle = || [Say::Settle(Arc::clone(&barrier))];
    let script = said(0..5).into_iter().chain(settle()).chain(said(5..10)).chain(settle());
    let feed = Feed::start(vec![Reply::Feed(script.chain([goodbye()]).collect())]);
    let folder = tempfile::tempdir().unwrap();
    let child = record(&feed, folder.path(), &["--sync", "each"]).spawn().unwrap();
    let limit = |most| {
        let now = Rlimit { current: most, ..getrlimit(Resource::Nofile) };
        prlimit(Some(pid(&child)), Resource::Nofile, now).unwrap().current
    };
    barrier.wait();
    let before = limit(Some(3));
    barrier.wait();
    barrier.wait();
    limit(before);
    barrier.wait();
    let words = ended(&child.wait_with_output().unwrap(), 0);
    assert!(!words.contains("cannot open"), "{words}");
    assert!(frames_in(&entries(folder.path())).into_iter().eq(frames(0..10)));
}

/// As a tool does that copies files back and forth.
#[test]
fn a_file_that_somebody_puts_another_in_the_place_of_loses_nothing() {
    let barrier = Arc::new(Barrier::new(2));
    let settle = [Say::Settle(Arc::clone(&barrier))];
    let script = said(0..5).into_iter().chain(settle).chain(said(5..10)).chain([goodbye()]);
    let feed = Feed::start(vec![Reply::Feed(script.collect())]);
    let place = tempfile::tempdir().unwrap();
    let (folder, copy) = (place.path().join("capture"), place.path().join("copy"));
    let child = record(&feed, &folder, &[]).spawn().unwrap();
    barrier.wait();
    let hot = folder.join(&names(&folder)[0]);
    fs::copy(&hot, &copy).unwrap();
    fs::rename(&copy, &hot).unwrap();
    barrier.wait();
    ended(&child.wait_with_output().unwrap(), 0);
    let [sealed, aside] = &names(&folder)[..] else { panic!("{:?}", names(&folder)) };
    assert_eq!(*aside, format!("{sealed}.damaged"));
    assert!(frames_in(&entries(&folder.join(sealed))).into_iter().eq(frames(0..10)));
    assert!(frames_in(&entries(&folder.join(aside))).into_iter().eq(frames(0..5)));
}

/// As who wants room on a full disk empties the largest file.
#[test]
fn a_file_that_somebody_cuts_off_or_writes_to_is_followed_by_another() {
    for size in [0, 1_000_000] {
        let barrier = Arc::new(Barrier::new(2));
        let settle = [Say::Settle(Arc::clone(&barrier))];
        let script = said(0..5).into_iter().chain(settle).chain(said(5..10)).chain([goodbye()]);
        let feed = Feed::start(vec![Reply::Feed(script.collect())]);
        let folder = tempfile::tempdir().unwrap();
        let child = record(&feed, folder.path(), &[]).spawn().unwrap();
        barrier.wait();
        let first = &names(folder.path())[0];
        let file = fs::File::options().write(true).open(folder.path().join(first)).unwrap();
        file.set_len(size).unwrap();
        let is_next = |name: &String| name.ends_with(HOT_SUFFIX) && name != first;
        wait_for("the next segment", || names(folder.path()).iter().any(is_next));
        barrier.wait();
        let words = ended(&child.wait_with_output().unwrap(), 3);
        assert!(words.contains("somebody has cut off"), "{words}");
        // What was there before is proven, or can be saved of what was set aside.
        let paths = names(folder.path()).into_iter().map(|name| folder.path().join(name));
        let captures = paths.filter_map(|path| Capture::open(&[path]).ok());
        let found = captures.flat_map(|capture| capture.entries().filter_map(Result::ok));
        let found: BTreeSet<_> = frames_in(&found.collect::<Vec<_>>()).into_iter().collect();
        assert!(found == frames(if size == 0 { 5..10 } else { 0..10 }).collect());
    }
}

#[test]
fn a_file_that_cannot_grow_is_followed_by_another_and_nothing_is_lost() {
    let feed =
        Feed::start(vec![Reply::Feed(said(0..300).into_iter().chain([goodbye()]).collect())]);
    let folder = tempfile::tempdir().unwrap();
    let child = record(&feed, folder.path(), &[]).spawn();
    let child = child.unwrap();
    limit(&child, Some(1_000_000));
    let words = ended(&child.wait_with_output().unwrap(), 0);
    assert!(words.contains("cannot write"), "{words}");
    assert!(names(folder.path()).len() >= 3, "{:?}", names(folder.path()));
    assert!(frames_in(&entries(folder.path())).into_iter().eq(frames(0..300)));
}

#[test]
fn a_folder_that_somebody_deletes_while_it_is_recorded_is_there_again_with_all_frames() {
    let barrier = Arc::new(Barrier::new(2));
    let script = said(0..10)
        .into_iter()
        .chain([Say::Settle(Arc::clone(&barrier))])
        .chain(said(10..20))
        .chain([goodbye()]);
    let feed = Feed::start(vec![Reply::Feed(script.collect())]);
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("capture");
    let child = record(&feed, &folder, &[]).spawn().unwrap();
    barrier.wait();
    fs::remove_dir_all(&folder).unwrap();
    wait_for("the folder", || folder.exists());
    barrier.wait();
    let words = ended(&child.wait_with_output().unwrap(), 0);
    assert!(words.contains("somebody has deleted or moved"), "{words}");
    assert!(frames_in(&entries(&folder)).into_iter().eq(frames(0..20)));
}

/// Sets the size beyond which no file can be written by the process.
fn limit(child: &Child, size: Option<u64>) {
    prlimit(Some(pid(child)), Resource::Fsize, Rlimit { current: size, maximum: None }).unwrap();
}

/// Frames 0 to 10, 10 to 30 while nothing can be written, then 30 to 40.
/// It begins when so many segments are sealed.
fn with_an_outage(sealed: usize, more: &[&str]) -> (tempfile::TempDir, Output) {
    let (before, during) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let script = said(0..10)
        .into_iter()
        .chain([Say::Settle(Arc::clone(&before))])
        .chain(said(10..30))
        .chain([Say::Settle(Arc::clone(&during))])
        .chain(said(30..40))
        .chain([goodbye()]);
    let feed = Feed::start(vec![Reply::Feed(script.collect())]);
    let folder = tempfile::tempdir().unwrap();
    let child = record(&feed, folder.path(), more).spawn().unwrap();
    before.wait();
    let count = || names(folder.path()).iter().filter(|name| name.ends_with("Z.mcap")).count();
    wait_for("sealed segments", || count() >= sealed);
    let earlier = names(folder.path());
    limit(&child, Some(1));
    before.wait();
    during.wait();
    limit(&child, None);
    // It is tried again within seconds. While the limit holds, no new file has more than a byte.
    let is_next = |name: &String| {
        let size = fs::metadata(folder.path().join(name)).map_or(0, |metadata| metadata.len());
        name.ends_with(HOT_SUFFIX) && !earlier.contains(name) && size > 1
    };
    wait_for("a new segment", || names(folder.path()).iter().any(is_next));
    during.wait();
    (folder, child.wait_with_output().unwrap())
}

#[test]
fn what_is_lost_while_nothing_can_be_written_is_told_to_the_frame() {
    let (folder, output) = with_an_outage(0, &[]);
    let words = ended(&output, 3);
    for said in [
        "cannot write",
        "writing again; 20 frames were lost meanwhile",
        "20 frames not kept",
        "1 gap",
    ] {
        assert!(words.contains(said), "{said} in {words}");
    }
    let entries = entries(folder.path());
    assert!(frames_in(&entries).into_iter().eq(frames(0..10).chain(frames(30..40))));
    let sequences: Vec<_> =
        entries.iter().filter_map(|entry| Some(entry.frame()?.sequence)).collect();
    assert!(sequences.into_iter().eq((1..=10).chain(31..=40)));
    let lost: Vec<_> = entries
        .iter()
        .filter_map(|entry| match &entry.what {
            What::Event(event) => Some((event.connection, event.event.clone()?)),
            What::Frame(_) => None,
        })
        .filter(|(_, event)| matches!(event, Event::DroppedFrames(_) | Event::Gap(_)))
        .collect();
    let [(1, Event::DroppedFrames(dropped)), (1, Event::Gap(gap))] = &lost[..] else {
        panic!("{lost:?}")
    };
    assert_eq!((dropped.count, gap.cause()), (20, Cause::Disk));
    let bytes: usize = frames(10..30).map(|frame| frame.len()).sum();
    assert_eq!(dropped.bytes, bytes as u64);
    assert_eq!(only_gap(folder.path()), ("disk".to_owned(), 20, bytes as u64));
    let at = |index: usize| {
        let frame = entries.iter().filter(|entry| entry.frame().is_some()).nth(index).unwrap();
        frame.received.as_nanos()
    };
    assert!(at(9) <= gap.from_ns && gap.from_ns < gap.to_ns && gap.to_ns <= at(10));
}

#[test]
fn what_became_of_each_subscription_is_told_also_where_nothing_can_be_sealed() {
    let barrier = Arc::new(Barrier::new(2));
    let script = said(0..10).into_iter().chain([Say::Settle(Arc::clone(&barrier))]);
    let script = script.chain(said(10..30)).chain([goodbye()]);
    let feed = Feed::start(vec![Reply::Feed(script.collect())]);
    let folder = tempfile::tempdir().unwrap();
    let child = record(&feed, folder.path(), &[]).spawn().unwrap();
    barrier.wait();
    limit(&child, Some(1));
    barrier.wait();
    let words = ended(&child.wait_with_output().unwrap(), 1);
    assert!(words.contains(": 10 frames"), "{words}");
    // What it had is there all the same.
    let hot = names(folder.path());
    assert!(hot.len() == 1 && hot[0].ends_with(HOT_SUFFIX), "{hot:?}");
    assert_eq!(frames_in(&entries(folder.path())).len(), 10);
}

/// A limit on the size of files is no lack of room: no segment goes for it.
#[test]
fn nothing_is_deleted_to_make_room_where_room_is_not_what_is_missing() {
    let (folder, output) = with_an_outage(1, &["--on-full", "drop-oldest", "--split-size", "30kB"]);
    let words = ended(&output, 3);
    assert!(words.contains("20 frames not kept") && !words.contains("deleting"), "{words}");
    assert!(names(folder.path()).len() > 2, "{:?}", names(folder.path()));
    let kept = frames_in(&entries(folder.path()));
    assert!(kept.into_iter().eq(frames(0..10).chain(frames(30..40))));
}

#[test]
fn whoever_asks_for_it_stops_when_nothing_can_be_written() {
    let barrier = Arc::new(Barrier::new(2));
    let script = said(0..10).into_iter().chain([Say::Settle(Arc::clone(&barrier))]);
    let feed =
        Feed::start(vec![Reply::Feed(script.chain(said(10..30)).chain([Say::Stay]).collect())]);
    let folder = tempfile::tempdir().unwrap();
    let child = record(&feed, folder.path(), &["--on-full", "stop"]).spawn().unwrap();
    barrier.wait();
    limit(&child, Some(1));
    barrier.wait();
    let words = ended(&child.wait_with_output().unwrap(), 1);
    assert!(words.contains("error: cannot write"), "{words}");
    // Nothing could be sealed either; the hot segment is whole.
    assert!(frames_in(&entries(folder.path())).into_iter().eq(frames(0..10)));
}

#[test]
fn one_file_has_no_next_segment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.mcap");
    let feed = Feed::start(Vec::new());
    for more in [["--split-size", "1MB"], ["--keep-files", "2"]] {
        let output = record(&feed, &file, &more).output().unwrap();
        let words = ended(&output, 2);
        assert!(words.contains("expected a folder for more than one segment"), "{words}");
    }
    let output = record(&feed, &file, &["--on-full", "drop-oldest"]).output().unwrap();
    let words = ended(&output, 2);
    assert!(words.contains("expected a folder whose oldest segments may be deleted"), "{words}");
    for more in [["--split-size", "0"], ["--sync", "sometimes"], ["--keep-files", "0"]] {
        ended(&record(&feed, folder.path(), &more).output().unwrap(), 2);
    }
    assert!(names(folder.path()).is_empty());
}

#[test]
fn every_way_to_sync_keeps_every_frame() {
    for sync in ["each", "100ms", "never"] {
        let feed =
            Feed::start(vec![Reply::Feed(said(0..30).into_iter().chain([goodbye()]).collect())]);
        let folder = tempfile::tempdir().unwrap();
        let output = record(&feed, folder.path(), &["--sync", sync]).output().unwrap();
        ended(&output, 0);
        assert!(frames_in(&entries(folder.path())).into_iter().eq(frames(0..30)), "{sync}");
    }
}

/// Where `record` is killed between two segments, the next start seals both.
#[test]
fn a_kill_in_the_second_segment_loses_nothing_that_was_settled() {
    let barrier = Arc::new(Barrier::new(2));
    let script = said(0..50).into_iter().chain([Say::Settle(Arc::clone(&barrier)), Say::Stay]);
    let feed = Feed::start(vec![Reply::Feed(script.collect())]);
    let folder = tempfile::tempdir().unwrap();
    let mut child = record(&feed, folder.path(), &["--split-size", "200kB"]).spawn().unwrap();
    barrier.wait();
    child.kill().unwrap();
    child.wait().unwrap();
    barrier.wait();
    let again =
        Feed::start(vec![Reply::Feed(said(50..60).into_iter().chain([goodbye()]).collect())]);
    // The time in between is a gap, and nobody asked for it.
    ended(&record(&again, folder.path(), &[]).output().unwrap(), 3);
    let gaps = gaps(&entries(folder.path()));
    assert!(matches!(&gaps[..], [gap] if gap.cause() == Cause::Killed), "{gaps:?}");
    assert_eq!(only_gap(folder.path()), ("killed".to_owned(), 0, 0));
    assert!(names(folder.path()).iter().all(|name| name.ends_with("Z.mcap")));
    assert!(frames_in(&entries(folder.path())).into_iter().eq(frames(0..60)));
}
