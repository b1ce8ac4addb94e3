//! `inspect --follow` and `decode --follow`: each frame is shown once, within a second of its being sent, whatever
//! becomes of the file that it is in.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Barrier, mpsc},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use centralcap::{
    capture::{Compression, HotSegment, Tail},
    entry::Entry,
    inspect,
    select::Selection,
};
use support::{
    capture::{Entries, about, envelope, message, subscription},
    command::centralcap,
    feed::{Feed, Reply, Say},
    place::Place,
    wait::AT_MOST,
};

/// Frames of 10 KB, each sent when the test comes to the barrier.
fn paced(barrier: &Arc<Barrier>, count: u32) -> Vec<Say> {
    at_barrier(barrier, (1..=count).map(|number| message("monitoring", number, 10_000)))
}

fn at_barrier(barrier: &Arc<Barrier>, frames: impl Iterator<Item = Bytes>) -> Vec<Say> {
    let one = |frame| [Say::Meet(Arc::clone(barrier)), Say::Binary(frame)];
    frames.flat_map(one).chain([Say::Stay]).collect()
}

/// One that can be decoded. Its number is the customer.
fn decodable(number: u64) -> Bytes {
    envelope("monitoring", &number.to_string(), Bytes::new())
}

fn record(feed: &Feed, folder: &Path, more: &[&str]) -> Child {
    Command::new(assert_cmd::cargo::cargo_bin!("centralcap"))
        .args(["record", "--hostname", &feed.url(), "--topic", "monitoring", "-o"])
        .arg(folder)
        .args(more)
        .env("CENTRALCAP_KEY", "synthetic-key")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// `inspect --follow` or `decode --follow`, and its lines as they come.
struct Follower {
    child: Child,
    lines: mpsc::Receiver<(Instant, String)>,
}

impl Follower {
    fn start(path: &Path, more: &[&str]) -> Self {
        Self::of("inspect", path, more)
    }

    fn of(command: &str, path: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"))
            .args([command, "--follow"])
            .arg(path)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines() {
                if sender.send((Instant::now(), line.unwrap())).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The number of the next frame and its number on its connection, and when it was shown.
    fn next(&self) -> (u64, u32, Instant) {
        let (at, line) = self.line();
        let words: Vec<_> = line.split_whitespace().collect();
        let number = words[0].parse().unwrap();
        let sequence = words.iter().find_map(|word| word.strip_prefix('#')).unwrap();
        (number, sequence.parse().unwrap(), at)
    }

    fn line(&self) -> (Instant, String) {
        self.lines.recv_timeout(AT_MOST).expect("a line in time")
    }

    /// Ends by itself, and has nothing more to say.
    fn ended(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + AT_MOST;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it goes on");
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(self.lines.recv().ok(), None, "one line more");
        let output = self.child.wait_with_output().unwrap();
        (output.status, String::from_utf8(output.stderr).unwrap())
    }

    /// Ends at a signal.
    #[cfg(unix)]
    fn stop(self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)
            .unwrap();
        let (status, words) = self.ended();
        assert_eq!((status.code(), &*words), (Some(0), ""));
    }
}

/// Lets one frame after the other be sent, and sees each of them within a second.
fn see_each(barrier: &Barrier, follower: &Follower, numbers: std::ops::RangeInclusive<u64>) {
    for (number, sequence) in numbers.zip(1..) {
        let before = Instant::now();
        barrier.wait();
        let (found, on_connection, at) = follower.next();
        assert_eq!((found, on_connection), (number, sequence));
        let took = at.saturating_duration_since(before);
        assert!(took < Duration::from_secs(1), "frame {number} took {took:?}");
    }
}

#[cfg(unix)]
#[test]
fn each_frame_is_shown_within_a_second_over_rotation_and_deletion() {
    let barrier = Arc::new(Barrier::new(2));
    let feed = Feed::start(vec![Reply::Feed(paced(&barrier, 24))]);
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = record(&feed, folder.path(), &["--split-size", "30kB", "--keep-files", "2"]);
    let follower = Follower::start(folder.path(), &[]);
    see_each(&barrier, &follower, 1..=24);
    // So many were begun that most are gone.
    let names = || fs::read_dir(folder.path()).unwrap().count();
    support::wait::wait_for("deletion", || format!("{} files", names()), || names() <= 3);
    follower.stop(rustix::process::Signal::INT);
    recorder.kill().unwrap();
    recorder.wait().unwrap();
}

#[cfg(unix)]
#[test]
fn none_is_lost_and_none_comes_twice_when_the_recorder_is_killed_and_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let follower = Follower::start(folder.path(), &[]);
    for round in 0..3 {
        let barrier = Arc::new(Barrier::new(2));
        let feed = Feed::start(vec![Reply::Feed(paced(&barrier, 6))]);
        let mut recorder = record(&feed, folder.path(), &["--split-size", "30kB"]);
        see_each(&barrier, &follower, 6 * round + 1..=6 * round + 6);
        recorder.kill().unwrap();
        recorder.wait().unwrap();
    }
    follower.stop(rustix::process::Signal::TERM);
}

#[cfg(unix)]
#[test]
fn a_burst_over_many_segments_is_shown_whole_and_in_order() {
    let start = Arc::new(Barrier::new(2));
    let frames = (0..400).map(|number| Say::Binary(message("monitoring", number, 5_000)));
    let script = [Say::Meet(Arc::clone(&start))].into_iter().chain(frames).chain([Say::Stay]);
    let feed = Feed::start(vec![Reply::Feed(script.collect())]);
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = record(&feed, folder.path(), &["--split-size", "20kB"]);
    let follower = Follower::start(folder.path(), &[]);
    start.wait();
    for number in 1..=400 {
        let (found, sequence, _) = follower.next();
        assert_eq!((found, u64::from(sequence)), (number, number));
    }
    follower.stop(rustix::process::Signal::INT);
    recorder.kill().unwrap();
    recorder.wait().unwrap();
}

#[cfg(unix)]
#[test]
fn a_pipe_that_is_closed_ends_it_though_nothing_comes() {
    let place = Place::new();
    let _segment = place.recording(3);
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"))
        .args(["inspect", "--follow"])
        .arg(place.folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("1  "), "{line:?}");
    let status = || child.try_wait().unwrap();
    let mut ended = None;
    let mut status = status;
    support::wait::wait_for("end", String::new, || {
        ended = status();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(0));
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[cfg(unix)]
#[test]
fn each_frame_is_decoded_within_a_second_over_rotation_and_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let lines = Follower::of("decode", folder.path(), &[]);
    let serials = ["--select", "customer_id", "--where", ".customer_id | tonumber % 2 == 0"];
    let table = Follower::of("decode", folder.path(), &serials);
    for round in 0..2 {
        let numbers = 6 * round + 1..=6 * round + 6;
        let barrier = Arc::new(Barrier::new(2));
        let feed =
            Feed::start(vec![Reply::Feed(at_barrier(&barrier, numbers.clone().map(decodable)))]);
        let mut recorder = record(&feed, folder.path(), &["--split-size", "100B"]);
        for number in numbers {
            let before = Instant::now();
            barrier.wait();
            let (at, line) = lines.line();
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(line["customer_id"], number.to_string());
            let took = at.saturating_duration_since(before);
            assert!(took < Duration::from_secs(1), "frame {number} took {took:?}");
        }
        recorder.kill().unwrap();
        recorder.wait().unwrap();
    }
    let rows: Vec<_> = (0..7).map(|_| table.line().1).collect();
    assert_eq!(rows, ["customer_id", "2", "4", "6", "8", "10", "12"]);
    lines.stop(rustix::process::Signal::INT);
    table.stop(rustix::process::Signal::TERM);
}

#[test]
fn decode_ends_with_its_limit_or_with_its_file_and_tells_losses() {
    let place = Place::new();
    let mut segment =
        HotSegment::create(&place.path("a.mcap"), &about(Duration::ZERO), &[]).unwrap();
    let of = subscription("a", "monitoring");
    let mut entries = Entries::new();
    for number in 1..=4 {
        let frame = if number == 2 { Bytes::from_static(b"\xff") } else { decodable(number) };
        entries.numbered(Duration::from_secs(number), &of, number as u32, frame);
    }
    for entry in &entries.made {
        segment.append(entry).unwrap();
    }
    segment.commit().unwrap();
    let folder = place.folder.path().to_str().unwrap();
    let follow =
        |path: &str, more: &[&str]| centralcap(["decode", "--follow", path].iter().chain(more));
    let customers = |ran: &support::command::Ran| -> Vec<String> {
        let lines = ran.json_lines().into_iter();
        lines.map(|line| line["customer_id"].as_str().unwrap().to_owned()).collect()
    };
    let ran = follow(folder, &["--limit", "3"]);
    assert_eq!((ran.code, customers(&ran)), (3, vec!["1".to_owned(), "3".to_owned()]), "{ran:?}");
    assert!(ran.stderr.contains("cannot decode frame 2"), "{ran:?}");
    let ran = follow(folder, &["--strict"]);
    assert_eq!((ran.code, customers(&ran)), (1, vec!["1".to_owned()]), "{ran:?}");
    let ran = follow("fixtures/small.mcap", &[]);
    assert_eq!((ran.code, ran.stdout.lines().count(), &*ran.stderr), (0, 40, ""), "{ran:?}");
    let stranger = place.path("c.txt");
    fs::write(&stranger, "something else").unwrap();
    let ran = follow(stranger.to_str().unwrap(), &[]);
    assert_eq!((ran.code, &*ran.stdout), (1, ""), "{ran:?}");
    assert!(ran.stderr.contains("expected a capture"), "{ran:?}");

    let out = place.path("out.ndjson");
    let out = out.to_str().unwrap();
    for (more, expected) in [
        (&["--format", "json"][..], "expected lines for --follow"),
        (&["--format", "csv", "-o", out], "expected lines for --follow"),
        (&["-o", out], "expected stdout or a pipe for --follow"),
        (&["--threads", "2"], "cannot be used with"),
        (&[folder], "expected one file or folder to follow, found 2 paths"),
    ] {
        let ran = follow(folder, more);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains(expected), "{ran:?}");
    }
}

impl Place {
    /// A hot segment with so many frames.
    fn recording(&self, count: u32) -> HotSegment {
        let path = self.path("a.mcap");
        let mut segment = HotSegment::create(&path, &about(Duration::ZERO), &[]).unwrap();
        append(&mut segment, 1..=count);
        segment
    }
}

fn entries(numbers: std::ops::RangeInclusive<u32>) -> Vec<Entry> {
    let of = subscription("a", "audit");
    let mut entries = Entries::new();
    for number in numbers {
        let after = Duration::from_secs(number.into());
        entries.numbered(after, &of, number, message("audit", number, 100));
    }
    entries.made
}

fn append(segment: &mut HotSegment, numbers: std::ops::RangeInclusive<u32>) {
    for entry in entries(numbers) {
        segment.append(&entry).unwrap();
    }
    segment.commit().unwrap();
}

/// The numbers of the frames that are there now, and what went wrong.
fn now(follow: &mut inspect::Follow) -> (Vec<u64>, Vec<String>) {
    let (mut numbers, mut errors) = (Vec::new(), Vec::new());
    for next in follow.by_ref() {
        match next {
            Ok((number, _)) => numbers.push(number),
            Err(error) => errors.push(error.to_string()),
        }
        assert!(numbers.len() + errors.len() < 1000, "it has no end");
    }
    // A round has ended; another one finds nothing but what a segment says that is read now.
    (numbers, errors)
}

#[test]
fn a_file_is_read_as_it_grows_and_is_over_when_it_is_sealed() {
    let place = Place::new();
    let mut segment = place.recording(2);
    for name in ["a.mcap", "a.open.mcap"] {
        let path = place.path(name);
        let mut follow = inspect::follow(&path, Selection::default()).unwrap();
        assert_eq!(now(&mut follow), (vec![1, 2], vec![]), "{name}");
    }
    let mut follow = inspect::follow(&place.path("a.mcap"), Selection::default()).unwrap();
    let mut tail = Tail::open(place.folder.path()).unwrap();
    assert_eq!(now(&mut follow).0, [1, 2]);
    append(&mut segment, 3..=3);
    segment.checkpoint().unwrap();
    append(&mut segment, 4..=5);
    assert_eq!(now(&mut follow), (vec![3, 4, 5], vec![]));
    // No lock is held, and none is in the way.
    assert!(tail.by_ref().all(|entry| entry.is_ok()));
    drop(segment);
    let hot = File::open(place.path("a.open.mcap")).unwrap();
    // A process that another test begins right now may have ours a moment longer.
    support::wait::wait_for("lock", String::new, || hot.try_lock().is_ok());
    hot.unlock().unwrap();
    assert!(!follow.is_over());
    centralcap::capture::seal(
        &place.path("a.open.mcap"),
        &place.path("a.mcap"),
        Compression::default(),
    )
    .unwrap();
    assert_eq!(now(&mut follow), (vec![], vec![]));
    assert!(follow.is_over());
    assert_eq!((tail.next().is_none(), tail.is_over()), (true, false));
}

#[test]
fn half_a_record_is_waited_for() {
    let place = Place::new();
    let segment = place.recording(3);
    let whole = fs::read(segment.path()).unwrap();
    drop(segment);
    let path = place.path("b.open.mcap");
    fs::write(&path, []).unwrap();
    let mut follow = inspect::follow(&path, Selection::default()).unwrap();
    let mut seen = Vec::new();
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    for piece in whole.chunks(97) {
        std::io::Write::write_all(&mut file, piece).unwrap();
        let (numbers, errors) = now(&mut follow);
        assert_eq!(errors, [""; 0]);
        seen.extend(numbers);
    }
    assert_eq!(seen, [1, 2, 3]);
}

#[test]
fn a_file_that_is_cut_or_replaced_is_told_by_its_place() {
    let place = Place::new();
    let mut segment = place.recording(3);
    let path = segment.path().to_owned();
    let mut follow = inspect::follow(&path, Selection::default()).unwrap();
    assert_eq!(now(&mut follow).0, [1, 2, 3]);
    let size = fs::metadata(&path).unwrap().len();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(size - 5).unwrap();
    let (numbers, errors) = now(&mut follow);
    let expected =
        format!("at byte {size}: {size} bytes of it were there, now there are {}", size - 5);
    assert!(
        numbers.is_empty() && errors.len() == 1 && errors[0].ends_with(&expected),
        "{errors:?}"
    );
    assert!(follow.is_over());
    drop(segment);

    // Another file by that name is read from its beginning, behind all of the one before.
    fs::remove_file(&path).unwrap();
    segment = place.recording(2);
    let mut follow = inspect::follow(&path, Selection::default()).unwrap();
    assert_eq!(now(&mut follow).0, [1, 2]);
    append(&mut segment, 3..=3);
    let other = Place::new();
    let another = other.recording(4);
    if cfg!(unix) {
        fs::rename(another.path(), &path)
            .or_else(|_| {
                fs::copy(another.path(), place.path("tmp"))
                    .and_then(|_| fs::rename(place.path("tmp"), &path))
            })
            .unwrap();
        let (numbers, errors) = now(&mut follow);
        assert_eq!(numbers, [3]);
        assert!(errors[0].contains("another file has taken its place"), "{errors:?}");
        assert_eq!(now(&mut follow), (vec![4, 5, 6, 7], vec![]));
    }

    // And one that was written over in place.
    let place = Place::new();
    let mut segment = place.recording(3);
    let path = segment.path().to_owned();
    let mut follow = inspect::follow(place.folder.path(), Selection::default()).unwrap();
    assert_eq!(now(&mut follow).0, [1, 2, 3]);
    let size = fs::metadata(&path).unwrap().len();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(size + 4096).unwrap();
    let (numbers, errors) = now(&mut follow);
    assert!(numbers.is_empty() && errors[0].contains("opcode 0x00 with 0 bytes"), "{errors:?}");
    // The rest of the folder goes on.
    segment = HotSegment::create(&place.path("b.mcap"), &about(Duration::ZERO), &[]).unwrap();
    append(&mut segment, 4..=5);
    assert_eq!(now(&mut follow), (vec![4, 5], vec![]));
}

#[test]
fn the_selection_and_the_limit_hold() {
    let place = Place::new();
    let _segment = place.recording(9);
    let path = place.folder.path().to_str().unwrap();
    let follow = |more: &[&str]| {
        let ran = centralcap(["inspect", "--follow", path].iter().chain(more));
        assert_eq!((ran.code, &*ran.stderr), (0, ""), "{ran:?}");
        let numbers = ran.stdout.lines().map(|line| line.split(' ').next().unwrap().to_owned());
        numbers.collect::<Vec<_>>()
    };
    assert_eq!(follow(&["--skip", "2", "--limit", "3"]), ["3", "4", "5"]);
    assert_eq!(follow(&["--from", "+4s", "--limit", "2"]), ["5", "6"]);
    let ran = centralcap(["inspect", "--follow", path, path]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("expected one file or folder to follow, found 2 paths"), "{ran:?}");
    let ran = centralcap(["inspect", "--follow", "nowhere.mcap"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let stranger = place.path("c.mcap");
    fs::write(&stranger, "something else").unwrap();
    let ran = centralcap(["inspect", "--follow", stranger.to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("expected a capture"), "{ran:?}");
    // A sealed one is shown and is over.
    let ran = centralcap(["inspect", "--follow", "fixtures/small.mcap"]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (0, 40), "{ran:?}");
}
