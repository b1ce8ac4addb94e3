//! Exporting while recording: what each target gets, and that none of them holds up the recording.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Barrier},
    thread,
};

use bytes::Bytes;
use centralcap::{
    capture::Capture,
    entry::{
        SessionEvent, What,
        session_event::{Event, ExportDropped},
    },
};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, kill_process_group, prlimit, test_kill_process,
};
use support::{
    capture::envelope,
    command::centralcap,
    feed::{Feed, Reply, Say},
    place::Place,
    wait,
};

const KEY: &str = "synthetic-key-for-tests";

impl Place {
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn capture(&self) -> PathBuf {
        self.path("capture")
    }

    /// `record` of one topic, until the feed is over.
    fn record(&self, said: Vec<Say>, more: &[&str]) -> Command {
        let feed = Feed::start(vec![Reply::Feed(said)]);
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"));
        command
            .args(["record", "--hostname", &feed.url(), "--topic", "monitoring", "--once", "-o"])
            .arg(self.capture())
            .args(more)
            .env("CENTRALCAP_KEY", KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The lines that `decode` prints of the capture.
    fn decoded(&self) -> Vec<String> {
        let ran = centralcap(["decode".into(), self.capture()]);
        ran.stdout.lines().map(str::to_owned).collect()
    }

    /// What the ledger says of exports.
    fn dropped(&self) -> Vec<ExportDropped> {
        let capture = Capture::open(&[self.capture()]).unwrap();
        let dropped = |what| match what {
            What::Event(SessionEvent { event: Some(Event::ExportDropped(dropped)), .. }) => {
                Some(dropped)
            }
            _ => None,
        };
        capture.entries().filter_map(|entry| dropped(entry.unwrap().what)).collect()
    }

    /// The capture has so many frames, all of them, and nothing is wrong with it.
    #[track_caller]
    fn assert_whole(&self, frames: usize) {
        for arguments in [&["inspect"][..], &["inspect", "--gaps"]] {
            let ran = centralcap(arguments.iter().map(PathBuf::from).chain([self.capture()]));
            assert_eq!(ran.code, 0, "{}", ran.stdout);
        }
        assert_eq!(self.decoded().len(), frames);
    }

    /// What was exported and what the ledger says was not, together, are all frames: no line came twice,
    /// none in another order, and none is missing without a word. Returns how many were dropped.
    #[track_caller]
    fn assert_accounted(&self, exported: &[String], words: &str, name: &str) -> u64 {
        let decoded = self.decoded();
        let mut rest = decoded.iter();
        for line in exported {
            assert!(
                rest.any(|decoded| decoded == line),
                "not of the capture, or twice: {line:.60}"
            );
        }
        let dropped = self.dropped();
        assert!(dropped.iter().all(|dropped| dropped.exporter == name), "{dropped:?}");
        let frames = dropped.iter().map(|dropped| dropped.frames).sum::<u64>();
        assert_eq!(exported.len() as u64 + frames, decoded.len() as u64, "{dropped:?} {words}");
        let told = format!("{name}: {} frames exported, {frames} dropped\n", exported.len());
        assert!(words.contains(&told), "{told} in {words}");
        frames
    }
}

/// A frame that decodes to a line of its own, of about this size.
fn frame(number: usize, size: usize) -> Bytes {
    envelope("monitoring", &format!("{number:0size$}"), Bytes::new())
}

fn frames(numbers: std::ops::Range<usize>, size: usize) -> impl Iterator<Item = Say> {
    numbers.map(move |number| Say::Binary(frame(number, size)))
}

fn goodbye() -> [Say; 1] {
    [Say::Close(1000, "done")]
}

#[track_caller]
fn ended(output: &Output, code: i32) -> String {
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words}");
    words
}

#[track_caller]
fn wait_for(what: &str, holds: impl FnMut() -> bool) {
    wait::wait_for(what, String::new, holds);
}

fn file_target(path: &Path) -> String {
    format!("ndjson:{}", path.display())
}

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("tcp://{}", listener.local_addr().unwrap());
    (listener, target)
}

/// The next connection.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    wait_for("a connection", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (stream, _) = accepted.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream
}

/// All whole lines until the other side closes.
fn read_lines(stream: TcpStream) -> Vec<String> {
    let mut text = String::new();
    BufReader::new(stream).read_to_string(&mut text).unwrap();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(str::to_owned).collect()
}

/// The frames of one topic of a synthetic campus.
fn campus() -> Vec<Bytes> {
    let capture = Capture::open(&["fixtures/campus.mcap"]).unwrap();
    let entries = capture.entries().map(Result::unwrap);
    let of_topic = entries.filter(|entry| entry.subscription.topic == "monitoring");
    of_topic.filter_map(|entry| Some(entry.frame()?.data.clone())).collect()
}

#[test]
fn each_target_gets_exactly_the_lines_that_decode_prints() {
    let place = Place::new();
    let said = campus().into_iter().chain([Bytes::from_static(b"\xff")]).chain(campus());
    let said = said.map(Say::Binary).chain(goodbye()).collect();
    let (listener, tcp) = listen();
    let peer = thread::spawn(move || read_lines(accept(&listener)));
    fs::write(place.path("file"), "there before\n").unwrap();
    let file = file_target(&place.path("file"));
    let exec = format!("exec:echo hello; cat > '{}'", place.path("piped").display());
    let more = ["--export", &file, "--export", &tcp, "--export", &exec];
    let output = place.record(said, &more).output().unwrap();
    let words = ended(&output, 0);

    let decoded = place.decoded();
    assert_eq!(decoded.len(), 2 * campus().len());
    let text: String = decoded.iter().flat_map(|line| [line, "\n"]).collect();
    assert_eq!(place.read("file"), format!("there before\n{text}"));
    assert_eq!(place.read("piped"), text);
    assert_eq!(peer.join().unwrap(), decoded);
    for name in [&*file, &*tcp, "exec #3"] {
        let frames = decoded.len();
        let told = format!("{name}: {frames} frames exported, 1 that do not decode\n");
        assert!(words.contains(&told), "{words}");
    }
    // stdout is for data of our own.
    assert!(words.contains("hello\n") && output.stdout.is_empty(), "{words}");
    assert!(place.dropped().is_empty());
}

#[test]
fn a_file_is_moved_aside_at_the_size_that_was_asked_for() {
    let place = Place::new();
    let file = file_target(&place.path("file"));
    let said = frames(0..40, 1000).chain(goodbye()).collect();
    let more = ["--export", &file, "--export-rotate", "10kB"];
    ended(&place.record(said, &more).output().unwrap(), 0);
    let parts = ["file.4", "file.3", "file.2", "file.1", "file"].map(|name| place.read(name));
    assert!(parts[..4].iter().all(|part| (8_000..=10_000).contains(&part.len())), "{parts:?}");
    let lines: Vec<_> = parts.iter().flat_map(|part| part.lines()).collect();
    // The oldest are gone, as was asked for.
    assert!(!place.path("file.5").exists() && lines.len() < 40);
    assert!(place.decoded().iter().map(String::as_str).collect::<Vec<_>>().ends_with(&lines));
}

#[test]
fn a_peer_that_never_reads_holds_up_nothing() {
    let place = Place::new();
    let (listener, tcp) = listen();
    let settled = Arc::new(Barrier::new(2));
    let said = frames(0..1500, 10_000).chain([Say::Settle(Arc::clone(&settled))]).chain(goodbye());
    let more = ["--export", &tcp, "--export-buffer", "1MB"];
    let child = place.record(said.collect(), &more).spawn().unwrap();
    let stream = accept(&listener);
    // All frames are in the capture by now, and nothing was read.
    settled.wait();
    settled.wait();
    let words = ended(&child.wait_with_output().unwrap(), 0);
    place.assert_whole(1500);
    assert!(place.assert_accounted(&read_lines(stream), &words, &tcp) > 100);
    // Once for each time: the system takes some of it, so that it may catch up, even at the end.
    let told = words.matches("frames are not exported from now on").count();
    let ended = words.matches("exporting again").count();
    assert!(told > 0 && (ended == told || ended + 1 == told), "{words}");
}

#[test]
fn a_command_that_never_reads_holds_up_nothing_and_is_ended() {
    let place = Place::new();
    let pid = place.path("pid");
    // Its descendants hold our stderr: they have to end as well for us to come back.
    let exec = format!("exec:echo $$ > '{}'; sleep 1000 | sleep 1000", pid.display());
    let settled = Arc::new(Barrier::new(2));
    let said = frames(0..100, 10_000).chain([Say::Settle(Arc::clone(&settled))]).chain(goodbye());
    let more = ["--export", &exec, "--export-buffer", "100kB"];
    let child = place.record(said.collect(), &more).spawn().unwrap();
    settled.wait();
    let is_there = || place.read("pid").ends_with('\n');
    wait_for("the command", is_there);
    settled.wait();
    let words = ended(&child.wait_with_output().unwrap(), 0);
    place.assert_whole(100);
    let (mut counts, dropped) = (BTreeMap::new(), place.dropped());
    for dropped in &dropped {
        let (frames, bytes) = counts.entry(dropped.exporter.clone()).or_insert((0, 0));
        (*frames, *bytes) = (*frames + dropped.frames, *bytes + dropped.bytes);
    }
    let (frames, bytes) = counts["exec #1"];
    // A pipe takes 64 KiB.
    assert!(counts.len() == 1 && (90..=99).contains(&frames), "{dropped:?}");
    assert_eq!(bytes, frames * frame(0, 10_000).len() as u64);
    let told = format!("exec #1: {} frames exported, {frames} dropped\n", 100 - frames);
    assert!(words.contains(&told), "{words}");
    let pid = Pid::from_raw(place.read("pid").trim().parse().unwrap()).unwrap();
    assert!(test_kill_process(pid).is_err(), "it still runs");
}

/// All that is said up to a line with these words, and that line.
fn read_to(stderr: &mut impl BufRead, words: &str) -> String {
    let mut said = String::new();
    while !said.lines().last().is_some_and(|line| line.contains(words)) {
        let more = stderr.read_line(&mut said).unwrap();
        assert!(more > 0, "expected {words:?} in {said}");
    }
    said
}

/// Sets the size beyond which no file can be written by the process.
fn limit(child: &Child, size: Option<u64>) {
    let limit = Rlimit { current: size, maximum: None };
    prlimit(Some(Pid::from_child(child)), Resource::Fsize, limit).unwrap();
}

#[test]
fn a_file_that_cannot_grow_gets_what_fits_and_goes_on_when_it_can() {
    let place = Place::new();
    let (begin, full) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let said = [Say::Settle(Arc::clone(&begin))]
        .into_iter()
        .chain(frames(0..150, 10_000))
        .chain([Say::Settle(Arc::clone(&full))])
        .chain(frames(150..155, 10_000))
        .chain(goodbye());
    let file = file_target(&place.path("file"));
    let before = format!("{:9999}\n", "there before").repeat(100);
    fs::write(place.path("file"), &before).unwrap();
    let more = ["--export", &file, "--export-buffer", "100kB"];
    let mut child = place.record(said.collect(), &more).spawn().unwrap();
    begin.wait();
    // The capture goes on in another segment where one is full; an export has only the one file.
    limit(&child, Some(1_000_500));
    begin.wait();
    full.wait();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let trouble = format!("{file}: File too large");
    let mut words = read_to(&mut stderr, &trouble);
    limit(&child, None);
    words += &read_to(&mut stderr, "exporting again; ");
    full.wait();
    stderr.read_to_string(&mut words).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{words}");
    place.assert_whole(155);
    let text = place.read("file");
    let exported: Vec<_> = text.strip_prefix(&before).unwrap().lines().map(str::to_owned).collect();
    assert!(place.assert_accounted(&exported, &words, &file) > 100);
    assert_eq!(exported.last(), place.decoded().last());
    assert_eq!(words.matches(&trouble).count(), 1, "{words}");
}

#[test]
fn a_folder_that_comes_later_gets_all_there_is() {
    let place = Place::new();
    let settled = Arc::new(Barrier::new(2));
    let said = frames(0..10, 100).chain([Say::Settle(Arc::clone(&settled))]).chain(goodbye());
    let file = file_target(&place.path("later/file"));
    let mut child = place.record(said.collect(), &["--export", &file]).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut words = read_to(&mut stderr, "No such file");
    settled.wait();
    fs::create_dir(place.path("later")).unwrap();
    settled.wait();
    stderr.read_to_string(&mut words).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{words}");
    assert_eq!(place.read("later/file").lines().collect::<Vec<_>>(), place.decoded());
    assert!(words.contains("exporting again; 0 frames"), "{words}");
}

#[test]
fn a_peer_that_comes_back_gets_what_it_has_not_got_from_the_beginning_of_a_line() {
    let place = Place::new();
    let (listener, tcp) = listen();
    let settled = Arc::new(Barrier::new(2));
    let said = frames(0..5, 1000)
        .chain([Say::Settle(Arc::clone(&settled))])
        .chain(frames(5..10, 1000))
        .chain(goodbye());
    let child = place.record(said.collect(), &["--export", &tcp]).spawn().unwrap();
    let stream = accept(&listener);
    let mut lines: Vec<_> = BufReader::new(&stream).lines().take(5).map(Result::unwrap).collect();
    // At once; dropping it would leave it open in whatever another test is just starting.
    stream.shutdown(Shutdown::Both).unwrap();
    settled.wait();
    settled.wait();
    lines.extend(read_lines(accept(&listener)));
    let words = ended(&child.wait_with_output().unwrap(), 0);
    assert_eq!(lines, place.decoded());
    assert!(words.contains("the other side has closed"), "{words}");
    assert!(words.contains("10 frames exported\n"), "{words}");
}

#[test]
fn a_command_that_ends_is_started_again() {
    let place = Place::new();
    let settled = [(); 2].map(|()| Arc::new(Barrier::new(2)));
    let said = frames(0..1, 100)
        .chain([Say::Settle(Arc::clone(&settled[0]))])
        .chain(frames(1..2, 100))
        .chain([Say::Settle(Arc::clone(&settled[1]))])
        .chain(frames(2..3, 100))
        .chain(goodbye());
    let (lines, pid) = (place.path("lines"), place.path("pid"));
    let exec = format!(
        "exec:read -r line; printf '%s\\n' \"$line\" >> '{}'; echo $$ > '{}'; exit 3",
        lines.display(),
        pid.display()
    );
    let child = place.record(said.collect(), &["--export", &exec]).spawn().unwrap();
    for (index, settled) in settled.iter().enumerate() {
        settled.wait();
        wait_for("a line", || place.read("lines").lines().count() > index);
        // Somebody has seen that it ended.
        let pid = || Pid::from_raw(place.read("pid").trim().parse().ok()?);
        wait_for("the end of it", || pid().is_some_and(|pid| test_kill_process(pid).is_err()));
        fs::remove_file(place.path("pid")).unwrap();
        settled.wait();
    }
    let words = ended(&child.wait_with_output().unwrap(), 0);
    assert_eq!(place.read("lines").lines().collect::<Vec<_>>(), place.decoded());
    assert!(words.contains("exec #1: the command has ended: exit status: 3"), "{words}");
}

/// A Ctrl-C, for one, goes to everybody in a process group.
#[test]
fn the_end_of_a_recording_lets_a_command_read_to_the_end() {
    let place = Place::new();
    let settled = Arc::new(Barrier::new(2));
    let said = frames(0..10, 100).chain([Say::Settle(Arc::clone(&settled)), Say::Stay]);
    let exec = format!("exec:cat > '{0}'; echo end >> '{0}'", place.path("lines").display());
    let mut command = place.record(said.collect(), &["--export", &exec]);
    let child = command.process_group(0).spawn().unwrap();
    settled.wait();
    settled.wait();
    // One that is started only after the signal would not get it.
    wait_for("the lines", || place.read("lines").lines().count() == 10);
    kill_process_group(Pid::from_child(&child), Signal::TERM).unwrap();
    ended(&child.wait_with_output().unwrap(), 0);
    let text = place.read("lines");
    let (lines, end) = text.rsplit_once("end\n").unwrap_or_else(|| panic!("{text}"));
    assert_eq!(
        (lines.lines().collect::<Vec<_>>(), end),
        (place.decoded().iter().map(String::as_str).collect(), "")
    );
}

#[test]
fn no_secret_leaves_with_an_export() {
    let place = Place::new();
    let exec = format!(
        "exec:HUSH=synthetic-password; env > '{}'; cat > '{}'",
        place.path("env").display(),
        place.path("lines").display()
    );
    let said = frames(0..3, 100).chain(goodbye()).collect();
    let mut command = place.record(said, &["--export", &exec, "--verbose"]);
    let output = command.env("MARK", "what is no secret").output().unwrap();
    let words = ended(&output, 0);
    let environment = place.read("env");
    assert!(environment.contains("MARK=what is no secret\n"), "{environment}");
    assert!(!environment.contains(KEY) && !environment.contains("CENTRALCAP_KEY"), "{environment}");
    assert_eq!(place.read("lines").lines().count(), 3);
    assert!(!place.read("lines").contains(KEY));
    // Nor does a command's own secret get where others look.
    assert!(!words.contains("synthetic-password"), "{words}");
    for segment in fs::read_dir(place.capture()).unwrap() {
        let bytes = fs::read(segment.unwrap().path()).unwrap();
        let secret = b"synthetic-password";
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

#[test]
fn wrong_targets_are_refused_before_anything_is_done() {
    let place = Place::new();
    let precious = place.path("precious");
    fs::copy("fixtures/small.mcap", &precious).unwrap();
    for more in [
        &["--export", "file.ndjson"][..],
        &["--export", "tcp://nowhere"],
        &["--export", "ndjson:x", "--export", "ndjson:x"],
        &["--export", "ndjson:x", "--export-buffer", "0"],
        &["--export", &file_target(&place.path("a.mcap"))],
        &["--export", &file_target(&precious)],
    ] {
        let words = ended(&place.record(Vec::new(), more).output().unwrap(), 2);
        assert!(words.contains("hint: "), "{words}");
    }
    assert!(!place.capture().exists());
    assert_eq!(fs::read(precious).unwrap(), fs::read("fixtures/small.mcap").unwrap());
}
