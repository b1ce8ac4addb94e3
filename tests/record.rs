//! Recording, at the process boundary: what is kept, what is said, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use centralcap::entry::{
    Entry, What,
    session_event::{Event, gap::Cause},
};
#[cfg(unix)]
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use support::{
    capture::proven,
    feed::{Feed, Reply, Say},
    place::Place,
};

const KEY: &str = "synthetic-key-for-tests";

impl Place {
    /// `record` of one topic from a feed.
    fn record(&self, feed: &str, more: &[&str]) -> Command {
        self.record_topic(feed, "monitoring", more)
    }

    fn record_topic(&self, feed: &str, topic: &str, more: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"));
        command
            .args(["record", "--hostname", feed, "--topic", topic, "-o"])
            .arg(self.path("capture.mcap"))
            .args(more)
            .env("CENTRALCAP_KEY", KEY)
            .stdin(Stdio::null());
        command
    }

    /// `record` of an input file with these entries.
    fn record_input(&self, feed: &str, input: &str, more: &[&str]) -> Command {
        let path = self.path("input.json");
        fs::write(&path, input).unwrap();
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"));
        command
            .args(["record", "--hostname", feed, "--input"])
            .arg(path)
            .arg("-o")
            .arg(self.path("capture.mcap"))
            .args(more)
            .stdin(Stdio::null());
        command
    }

    fn entries(&self) -> Vec<Entry> {
        read(&self.path("capture.mcap"))
    }
}

fn read(path: &Path) -> Vec<Entry> {
    proven(path)
}

fn frames(entries: &[Entry]) -> Vec<Bytes> {
    entries.iter().filter_map(|entry| Some(entry.frame()?.data.clone())).collect()
}

fn events(entries: &[Entry]) -> Vec<Event> {
    let event = |entry: &Entry| match &entry.what {
        What::Event(event) => event.event.clone(),
        What::Frame(_) => None,
    };
    entries.iter().filter_map(event).collect()
}

fn binary(data: &'static [u8]) -> Say {
    Say::Binary(Bytes::from_static(data))
}

/// A frame as small as they come: a subject.
const FRAME: &[u8] = b"\x12\x0amonitoring";

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_ends(output: &Output, code: i32, words: &[&str]) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "expected {word:?} in: {said}");
    }
    assert!(!said.contains(KEY), "the key was shown: {said}");
}

#[test]
fn frames_are_kept_bit_for_bit_and_the_request_is_the_vendors() {
    let said = vec![binary(FRAME), binary(b""), binary(b"\xff\xffno protobuf"), Say::Stay];
    let feed = Feed::start(vec![Reply::Feed(said)]);
    let place = Place::new();
    let more = ["--stop-after-messages", "3", "--username", "someone@example.com"];
    let output = place.record(&feed.url(), &more).output().unwrap();
    assert_ends(&output, 0, &["monitoring: 3 frames", "capture.mcap"]);

    let entries = place.entries();
    assert_eq!(frames(&entries), [FRAME, b"", b"\xff\xffno protobuf"]);
    let sequences: Vec<_> = entries.iter().filter_map(|e| Some(e.frame()?.sequence)).collect();
    assert_eq!(sequences, [1, 2, 3]);
    assert!(matches!(
        &events(&entries)[..],
        [Event::Connected(connected), Event::Closed(closed)]
            if connected.attempt == 1 && closed.clean && closed.last_sequence == 3
    ));
    let head = feed.heads().remove(0);
    assert!(head.starts_with("GET /streaming/api HTTP/1.1\r\n"), "{head}");
    for line in [format!("authorization: {KEY}"), "topic: monitoring".to_owned()] {
        assert!(head.to_lowercase().contains(&format!("\r\n{line}\r\n")), "{head}");
    }
    assert!(head.to_lowercase().contains("\r\nusername: someone@example.com\r\n"), "{head}");
    let bytes = fs::read(place.path("capture.mcap")).unwrap();
    assert!(!bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()));
}

#[test]
fn no_more_frames_are_kept_than_were_asked_for() {
    assert_eq!(FRAME.len(), 12);
    for more in [
        &["--stop-after-messages", "7"][..],
        &["--stop-after-size", "73B"],
        &["--stop-after-size", "84B"],
        &["--stop-after-size", "85B", "--stop-after-messages", "7"],
        &["--stop-after-size", "84B", "--stop-after-messages", "8"],
    ] {
        let said = (0..50).map(|_| binary(FRAME)).chain([Say::Stay]).collect();
        let feed = Feed::start(vec![Reply::Feed(said)]);
        let place = Place::new();
        let output = place.record(&feed.url(), more).output().unwrap();
        assert_ends(&output, 0, &["7 frames"]);
        let entries = place.entries();
        assert_eq!(frames(&entries).len(), 7, "{more:?}");
        // Those that came after them are not missing: nobody wanted them.
        assert!(matches!(events(&entries)[1], Event::Closed(ref c) if c.last_sequence == 7));
    }
}

#[test]
fn one_connection_is_enough_if_the_user_says_so() {
    let feed = Feed::start(vec![Reply::Feed(vec![binary(FRAME), Say::Close(1000, "done")])]);
    let place = Place::new();
    let output = place.record(&feed.url(), &["--once"]).output().unwrap();
    assert_ends(&output, 0, &["closed with 1000 done", "1 frame kept"]);

    let broken = Feed::start(vec![Reply::Feed(vec![binary(FRAME), Say::Drop])]);
    let place = Place::new();
    let output = place.record(&broken.url(), &["--once"]).output().unwrap();
    assert_ends(&output, 3, &["1 frame kept", "1 gap"]);
}

#[test]
fn a_text_message_is_kept_in_the_ledger() {
    let said = vec![Say::Text("maintenance at noon"), binary(FRAME), Say::Stay];
    let feed = Feed::start(vec![Reply::Feed(said)]);
    let place = Place::new();
    let output = place.record(&feed.url(), &["--stop-after-messages", "1"]).output().unwrap();
    assert_ends(&output, 0, &["a text message of 19 bytes came"]);
    let events = events(&place.entries());
    assert!(matches!(&events[1], Event::TextFrame(text) if *text.data == *b"maintenance at noon"));
}

#[test]
fn thousands_of_text_messages_are_kept_and_are_a_few_lines() {
    let said = (0..3000).map(|_| Say::Text("beat")).chain([binary(FRAME), Say::Stay]).collect();
    let feed = Feed::start(vec![Reply::Feed(said)]);
    let place = Place::new();
    let output = place.record(&feed.url(), &["--stop-after-messages", "1"]).output().unwrap();
    assert_ends(&output, 0, &["a text message of 4 bytes came", "2048 text messages"]);
    let lines = stderr(&output).lines().filter(|line| line.contains("text message")).count();
    assert_eq!(lines, 12, "{}", stderr(&output));
    let is_text = |event: &&Event| matches!(event, Event::TextFrame(_));
    assert_eq!(events(&place.entries()).iter().filter(is_text).count(), 3000);
}

#[test]
fn a_connection_that_breaks_is_made_again_and_the_gap_is_told() {
    let feed = Feed::start(vec![
        Reply::Feed(vec![binary(FRAME), Say::Drop]),
        Reply::Feed(vec![binary(b"\x12\x05again"), Say::Close(1001, "restart")]),
        Reply::Feed(vec![binary(b"\x12\x05third"), Say::Stay]),
    ]);
    let place = Place::new();
    let output = place.record(&feed.url(), &["--stop-after-messages", "3"]).output().unwrap();
    assert_ends(&output, 3, &["closed", "trying again in", "closed with 1001 restart", "2 gaps"]);
    let entries = place.entries();
    assert_eq!(frames(&entries), [FRAME, b"\x12\x05again", b"\x12\x05third"]);
    let events = events(&entries);
    let kinds: Vec<_> = events
        .iter()
        .map(|event| match event {
            Event::Connected(_) => "connected",
            Event::Closed(closed) if closed.clean => "closed",
            Event::Closed(_) => "broken",
            Event::Gap(gap) => {
                assert!(gap.from_ns < gap.to_ns);
                "gap"
            }
            _ => "else",
        })
        .collect();
    let expected =
        ["connected", "broken", "connected", "gap", "closed", "connected", "gap", "closed"];
    assert_eq!(kinds, expected);
}

#[test]
fn a_frame_over_the_limit_is_told_and_costs_only_itself() {
    let large = Say::Binary(Bytes::from(vec![0; 2000]));
    let feed = Feed::start(vec![
        Reply::Feed(vec![binary(FRAME), large, Say::Stay]),
        Reply::Feed(vec![binary(b"\x12\x05after"), Say::Stay]),
    ]);
    let place = Place::new();
    let more = ["--message-limit", "1000B", "--stop-after-messages", "2"];
    let output = place.record(&feed.url(), &more).output().unwrap();
    assert_ends(&output, 3, &["2000 bytes", "limit of 1000", "1 frame not kept"]);
    let entries = place.entries();
    assert_eq!(frames(&entries), [FRAME, b"\x12\x05after"]);
    assert!(
        events(&entries).iter().any(
            |event| matches!(event, Event::DroppedFrames(d) if d.count == 1 && d.bytes == 2000)
        )
    );
}

#[test]
fn an_expired_key_is_renewed_once_and_written_back() {
    let new = "synthetic-renewed-key";
    let feed = Feed::start(vec![
        Reply::Answer("401 Unauthorized", "expired".to_owned()),
        Reply::Answer("200 OK", format!(r#"{{"token":"{new}"}}"#)),
        Reply::Feed(vec![binary(FRAME), Say::Stay]),
    ]);
    let place = Place::new();
    let input = format!(
        "{{\n  \"customers\": {{\n    \"main\": {{\"wsskey\": \"{KEY}\", \"topic\": \"audit\", \"x\": 1}}\n  }}\n}}\n"
    );
    let output =
        place.record_input(&feed.url(), &input, &["--stop-after-messages", "1"]).output().unwrap();
    assert_ends(&output, 0, &["refused with status 401", "the key was renewed", "1 frame"]);
    assert!(!stderr(&output).contains(new));
    let written = fs::read_to_string(place.path("input.json")).unwrap();
    assert_eq!(written, input.replace(KEY, new));

    let heads = feed.heads();
    assert!(heads[1].starts_with("GET /streaming/token/validate "));
    assert!(heads[1].contains(KEY) && heads[2].contains(new));
    let events = events(&place.entries());
    assert!(matches!(&events[0], Event::Rejected(r) if r.status == 401 && *r.body == *b"expired"));
    assert!(matches!(&events[1], Event::KeyRenewed(renewed) if renewed.written_back));
}

#[test]
fn a_recording_that_can_come_to_nothing_ends_and_says_why() {
    let no = |status: &'static str, body: &str| Reply::Answer(status, body.to_owned());
    let cases: Vec<(Vec<Reply>, &[&str])> = vec![
        (
            vec![no("401 Unauthorized", ""), no("401 Unauthorized", "")],
            &["status 401", "could not be renewed", "check the key", "nothing was recorded"],
        ),
        (vec![no("400 Bad Request", "Unsubscribed Topic\n")], &["status 400: Unsubscribed Topic"]),
        (vec![no("404 Not Found", "")], &["status 404"]),
        (vec![no("200 OK", "<html>\x1b[2J</html>")], &["status 200", "\\u{1b}[2J"]),
        (vec![Reply::Garbage(b"SSH-2.0-synthetic\r\n\r\n")], &["HTTP"]),
    ];
    for (script, words) in cases {
        let feed = Feed::start(script);
        let place = Place::new();
        let output = place.record(&feed.url(), &[]).output().unwrap();
        assert_ends(&output, 1, words);
        assert_ends(&output, 1, &["the recording ends"]);
        assert!(!stderr(&output).contains("trying again"), "{}", stderr(&output));
        assert_eq!(frames(&place.entries()).len(), 0);
        let mut inspect = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"));
        let output = inspect.arg("inspect").arg(place.path("capture.mcap")).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "a capture of refusals is not all there");
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 unconnected subscription"));
    }
}

#[test]
fn trouble_that_may_pass_is_tried_again() {
    let feed = Feed::start(vec![
        Reply::Answer("503 Service Unavailable", String::new()),
        Reply::HangUp,
        Reply::Feed(vec![binary(FRAME), Say::Stay]),
    ]);
    let place = Place::new();
    let output = place.record(&feed.url(), &["--stop-after-messages", "1"]).output().unwrap();
    assert_ends(&output, 0, &["status 503", "trying again in"]);
}

#[test]
fn an_unreachable_host_is_named_and_exits_1() {
    // The script is empty: the port was ours a moment ago and is refused now.
    let feed = Feed::start(Vec::new());
    let place = Place::new();
    let url = feed.url();
    let output = place.record(&url, &["--stop-after-duration", "300ms"]).output().unwrap();
    let address = feed.address.to_string();
    assert_ends(&output, 1, &["cannot connect to", &address, "nothing was recorded"]);
}

#[cfg(unix)]
#[test]
fn more_connections_than_a_process_may_open_unasked_are_made() {
    use std::sync::{Arc, Barrier};

    const MANY: usize = 30;

    // All of them at once.
    let barrier = Arc::new(Barrier::new(MANY));
    let feed = Feed::answering(move |_| {
        Reply::Feed(vec![Say::Meet(Arc::clone(&barrier)), Say::Close(1000, "")])
    });
    let place = Place::new();
    let entry = |n| format!(r#""a{n}": {{"wsskey": "{KEY}", "topic": "audit"}}"#);
    let entries: Vec<_> = (0..MANY).map(entry).collect();
    let input = format!(r#"{{"customers": {{{}}}}}"#, entries.join(", "));
    let command =
        place.record_input(&feed.url(), &input, &["--once", "--stop-after-duration", "30s"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", r#"ulimit -S -n 24; exec "$0" "$@""#]);
    limited.arg(command.get_program()).args(command.get_args());
    assert_ends(&limited.output().unwrap(), 0, &["a29: 0 frames", "kept in"]);
}

#[test]
fn wrong_usage_is_refused_before_anything_is_done() {
    let place = Place::new();
    let one = format!(r#"{{"customers": {{"a": {{"wsskey": "{KEY}", "topic": "audit"}}}}}}"#);
    let two =
        one.replace("}}}", &format!(r#"}}, "a": {{"wsskey": "{KEY}", "topic": "audit"}}}}}}"#));
    let refuse_input = |input: &str, code, words: &[&str]| {
        assert_ends(&place.record_input("127.0.0.1:1", input, &[]).output().unwrap(), code, words);
    };
    refuse_input("{", 1, &["expected subscriptions", "hint:"]);
    refuse_input(&two, 1, &["two subscriptions named", "hint:"]);
    let words = ["expected a topic (apprf, audit,", "--unknown-topics"];
    refuse_input(&one.replace("audit", "audits"), 2, &words);
    let mut nothing = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"));
    nothing.arg("record");
    for (mut command, words) in [
        (place.record("ws://192.0.2.1", &[]), ["expected wss://", "hint:"]),
        (place.record("ftp://192.0.2.1", &[]), ["expected a host", "hint:"]),
        (place.record("127.0.0.1:1", &["--message-limit", "1TiB"]), ["64", "hint:"]),
        (place.record("127.0.0.1:1", &["--input", "x"]), ["--input", "cannot be used"]),
        (place.record("127.0.0.1:1", &["--name", "x\ny"]), ["expected a name", "hint:"]),
        (place.record("127.0.0.1:1", &["--split-every", "0s"]), ["a length of time", "hint:"]),
        (place.record("127.0.0.1:1", &["--keep-age", "0s"]), ["a length of time", "hint:"]),
        (
            place.record("127.0.0.1:1", &["--stop-after-duration", "0s"]),
            ["a length of time", "until Ctrl-C"],
        ),
        (place.record("127.0.0.1:1", &["--on-sealed", ""]), ["expected a command", "hint:"]),
        (place.record("127.0.0.1:1", &["--on-sealed", " \n"]), ["expected a command", "hint:"]),
        (place.record("127.0.0.1:1", &["--sync", "often"]), ["each, never or a duration", "hint:"]),
        (place.record("127.0.0.1:1", &["--keep-files", "x"]), ["a whole number of at", "hint:"]),
        (place.record("127.0.0.1:1", &["--stop-after-messages", "0"]), ["of at least 1", "hint:"]),
        (
            place.record_topic("127.0.0.1:1", "", &["--unknown-topics"]),
            ["expected a topic", "hint:"],
        ),
        (
            place.record_topic("127.0.0.1:1", "x\ny", &["--unknown-topics"]),
            ["expected a topic", "hint:"],
        ),
        (nothing, ["--input <FILE>", "--topic <TOPIC>"]),
    ] {
        assert_ends(&command.output().unwrap(), 2, &words);
    }
    assert!(!place.path("capture.open.mcap").exists());
    let mut no_key = place.record("127.0.0.1:1", &[]);
    no_key.env_remove("CENTRALCAP_KEY");
    assert_ends(&no_key.output().unwrap(), 1, &["expected a key", "CENTRALCAP_KEY"]);
    no_key.env("CENTRALCAP_KEY", "synthetic\nkey");
    assert_ends(&no_key.output().unwrap(), 2, &["visible ASCII in CENTRALCAP_KEY", "hint:"]);
    let mut missing = place.record("127.0.0.1:1", &["--key-file", "/nonexistent/key"]);
    assert_ends(&missing.output().unwrap(), 1, &["cannot read /nonexistent/key"]);
}

#[test]
fn whoever_can_start_no_thread_says_so() {
    let place = Place::new();
    let mut command = place.record("127.0.0.1:1", &[]);
    // No machine has so much memory for each.
    let output = command.env("RUST_MIN_STACK", (1_u64 << 60).to_string()).output().unwrap();
    assert_ends(&output, 1, &["error: cannot start"]);
}

#[test]
fn an_output_that_exists_or_cannot_be_made_is_refused() {
    let place = Place::new();
    fs::write(place.path("capture.mcap"), "mine").unwrap();
    let output = place.record("127.0.0.1:1", &[]).output().unwrap();
    assert_ends(&output, 1, &["already there", "hint:"]);
    assert_eq!(fs::read_to_string(place.path("capture.mcap")).unwrap(), "mine");

    let mut below_a_file = place.record("127.0.0.1:1", &[]);
    below_a_file.arg("-o").arg(place.path("capture.mcap/folder"));
    let output = below_a_file.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "-o twice: {}", stderr(&output));
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"));
    command.args(["record", "--hostname", "127.0.0.1:1", "--topic", "audit", "-o"]);
    command.arg(place.path("capture.mcap/folder")).env("CENTRALCAP_KEY", KEY);
    assert_ends(&command.output().unwrap(), 1, &["cannot create", "folder"]);
}

/// Waits until a file that is being written says what it should.
#[track_caller]
fn wait_for(path: &Path, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = if path.exists() { frames(&read(path)).len() } else { 0 };
        if found >= count {
            return;
        }
        assert!(Instant::now() < deadline, "expected {count} frames, found {found}");
        std::thread::yield_now();
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[cfg(unix)]
#[test]
fn signals_are_the_normal_end() {
    for name in ["-INT", "-TERM"] {
        let feed = Feed::start(vec![Reply::Feed(vec![binary(FRAME), binary(FRAME), Say::Stay])]);
        let place = Place::new();
        let child = place.record(&feed.url(), &[]).stderr(Stdio::piped()).spawn().unwrap();
        wait_for(&place.path("capture.open.mcap"), 2);
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        assert_ends(&output, 0, &["2 frames kept in"]);
        assert_eq!(frames(&place.entries()).len(), 2);
        assert!(!place.path("capture.open.mcap").exists());
    }
}

/// A pipe in which there is no room for anything, and who would have to read.
#[cfg(unix)]
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    use std::io::Write;

    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'\n'; 4096]).is_ok() {}
    while writer.write(b"\n").is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

#[cfg(unix)]
#[test]
fn whoever_does_not_read_stderr_stops_nothing() {
    let feed = Feed::start(vec![Reply::Feed(vec![binary(FRAME), binary(FRAME), Say::Stay])]);
    let place = Place::new();
    let (_reader, writer) = full_pipe();
    let mut child = place.record(&feed.url(), &[]).stderr(writer).spawn().unwrap();
    wait_for(&place.path("capture.open.mcap"), 2);
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(frames(&place.entries()).len(), 2);
}

#[cfg(unix)]
#[test]
fn whoever_does_not_read_stdout_holds_up_no_end() {
    let said = std::iter::repeat_with(|| binary(FRAME)).take(3000).chain([Say::Close(1000, "")]);
    let feed = Feed::start(vec![Reply::Feed(said.collect())]);
    let place = Place::new();
    let mut command = place.record(&feed.url(), &["--decode", "--once"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take().unwrap());
    let words = std::io::read_to_string(stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{words}");
    drop(stdout);
    assert!(words.contains("3000 frames kept in"), "{words}");
    assert!(words.contains("error: nobody reads stdout: "), "{words}");
    assert_eq!(frames(&place.entries()).len(), 3000);
}

#[cfg(unix)]
#[test]
fn what_a_killed_recorder_had_is_sealed_by_the_next_one() {
    let said = |text| Reply::Feed(vec![binary(text), binary(FRAME), Say::Stay]);
    let feed = Feed::start(vec![said(b"\x12\x05first"), said(b"\x12\x06second")]);
    let place = Place::new();
    let folder = place.path("recordings");
    let record = || {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"));
        command
            .args(["record", "--hostname", &feed.url(), "--topic", "audit", "-o"])
            .arg(&folder)
            .env("CENTRALCAP_KEY", KEY)
            .stderr(Stdio::piped());
        command
    };
    let mut child = record().spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let hot = PathBuf::from(line.trim().rsplit_once(" to ").unwrap().1);
    wait_for(&hot, 2);
    signal(&child, "-KILL");
    child.wait().unwrap();

    let output = record().args(["--stop-after-messages", "2"]).output().unwrap();
    // What came between the kill and now is nowhere, and nobody asked for that.
    assert_ends(&output, 3, &["sealed", "of an earlier run", "1 gap"]);
    assert!(!hot.exists());
    let expected = [b"\x12\x05first", FRAME, b"\x12\x06second", FRAME];
    let entries = read(&folder);
    assert_eq!(frames(&entries), expected);
    let gaps: Vec<_> = events(&entries)
        .into_iter()
        .filter_map(|event| if let Event::Gap(gap) = event { Some(gap.cause()) } else { None })
        .collect();
    assert_eq!(gaps, [Cause::Killed]);
}

#[cfg(unix)]
#[test]
fn what_was_killed_under_the_same_name_is_sealed_and_not_overwritten() {
    let feed = Feed::start(vec![Reply::Feed(vec![binary(FRAME), binary(FRAME), Say::Stay])]);
    let place = Place::new();
    let mut child = place.record(&feed.url(), &[]).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&place.path("capture.open.mcap"), 2);
    signal(&child, "-KILL");
    child.wait().unwrap();

    let output = place.record(&feed.url(), &[]).output().unwrap();
    assert_ends(&output, 1, &["of an earlier run, now sealed as", "hint: choose another name"]);
    assert_eq!(frames(&place.entries()).len(), 2);
}

#[test]
fn decoding_while_recording_prints_each_frame() {
    let feed = Feed::start(vec![Reply::Feed(vec![binary(FRAME), binary(b"\xff"), Say::Stay])]);
    let place = Place::new();
    let more = ["--decode", "--stop-after-messages", "2"];
    let output = place.record(&feed.url(), &more).output().unwrap();
    assert_ends(&output, 3, &["cannot decode frame 2"]);
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["subject"], "monitoring");
    assert_eq!(frames(&place.entries()).len(), 2);
}

#[test]
fn a_reader_of_stdout_that_leaves_does_not_stop_the_recording() {
    let said = (0..500).map(|_| binary(FRAME)).chain([Say::Stay]).collect();
    let feed = Feed::start(vec![Reply::Feed(said)]);
    let place = Place::new();
    let more = ["--decode", "--stop-after-messages", "500"];
    let mut child = place
        .record(&feed.url(), &more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    assert_eq!(frames(&place.entries()).len(), 500);
}

/// A replay in another process, with TLS.
struct Replay {
    child: Child,
    hostname: String,
    ca: String,
}

impl Replay {
    fn start(capture: &Path) -> Self {
        let mut child = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"))
            .args(["replay", "--speed", "max"])
            .arg(capture)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        Self { child, hostname: text("hostname"), ca: text("ca") }
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn certificates_are_checked_unless_told_otherwise() {
    let place = Place::new();
    let source = place.path("source.mcap");
    let mut entries = support::capture::Entries::new();
    let owner = support::capture::subscription("main", "monitoring");
    for number in 0..3 {
        let message = support::capture::message("monitoring", number, 10);
        entries.frame(Duration::from_millis(number.into()), &owner, message);
    }
    entries.write(&source);
    let expected = frames(&entries.made);
    let replay = Replay::start(&source);
    let stop = ["--stop-after-messages", "3"];

    let output = place.record(&replay.hostname, &[]).env_remove("SSL_CERT_FILE").output().unwrap();
    assert_ends(&output, 1, &["TLS with 127.0.0.1 failed", "nothing was recorded"]);
    fs::remove_file(place.path("capture.mcap")).unwrap();

    let output = place.record(&replay.hostname, &["--ca", &replay.ca]).args(stop).output().unwrap();
    assert_ends(&output, 0, &["3 frames"]);
    assert_eq!(frames(&place.entries()), expected);
    fs::remove_file(place.path("capture.mcap")).unwrap();

    let output = place.record(&replay.hostname, &["--insecure"]).args(stop).output().unwrap();
    assert_ends(&output, 0, &["warning:", "--insecure"]);
    assert_eq!(frames(&place.entries()), expected);

    let not_pem = place.path("input.txt");
    fs::write(&not_pem, "no certificate").unwrap();
    let mut command = place.record(&replay.hostname, &["--ca"]);
    assert_ends(&command.arg(&not_pem).output().unwrap(), 1, &["PEM certificates", "found none"]);
}
