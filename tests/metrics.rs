//! A recording seen from outside: what its pages say while it runs, held against what it kept.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use centralcap::{
    capture::Capture,
    entry::{
        Entry, What,
        session_event::{Event, gap::Cause},
    },
};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use support::{
    capture::{START, envelope, message},
    feed::{Feed, Reply, Say},
    wait::{self, AT_MOST},
};

const KEY: &str = "synthetic-key-for-tests";

/// A recording of an input file that can be asked how it is doing.
struct Running {
    child: Child,
    folder: tempfile::TempDir,
    pages: SocketAddr,
}

impl Running {
    fn start(feed: &Feed, names: &[&str], more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let customers: serde_json::Map<_, _> = names
            .iter()
            .map(|&name| {
                (name.to_owned(), serde_json::json!({"wsskey": KEY, "topic": "monitoring"}))
            })
            .collect();
        let input = serde_json::json!({ "customers": customers });
        fs::write(path("input.json"), input.to_string()).unwrap();
        let child = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"))
            .args(["record", "--metrics", "0", "--hostname", &feed.url(), "--input"])
            .arg(path("input.json"))
            .arg("-o")
            .arg(path("recordings"))
            .args(more)
            .stdin(Stdio::null())
            .stderr(fs::File::create(path("stderr")).unwrap())
            .spawn()
            .unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut running = Self { child, folder, pages: nowhere };
        running.wait_for("address", || running.said_address().is_some());
        running.pages = running.said_address().unwrap();
        running
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn words(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap()
    }

    fn said_address(&self) -> Option<SocketAddr> {
        let words = self.words();
        let (_, rest) = words.split_once("metrics at http://")?;
        rest.split_once("/metrics\n")?.0.parse().ok()
    }

    fn metrics(&self) -> Metrics {
        let answer = get(self.pages, "/metrics");
        assert!(answer.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", answer.head);
        let kind = "\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n";
        assert!(answer.head.contains(kind), "{}", answer.head);
        Metrics::of(&answer.body)
    }

    /// The status and the words of /healthz.
    fn health(&self) -> (u16, String) {
        let answer = get(self.pages, "/healthz");
        (answer.status(), answer.body)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it properly, and reads what it kept.
    fn stop(&mut self) -> Vec<Entry> {
        self.signal(Signal::TERM);
        let status = self.child.wait().unwrap();
        assert!(matches!(status.code(), Some(0 | 3)), "{status}: {}", self.words());
        let capture = Capture::open(&[self.path("recordings")]).unwrap();
        capture.entries().map(Result::unwrap).collect()
    }

    #[track_caller]
    fn wait_for(&self, what: &str, holds: impl Fn() -> bool) {
        wait::wait_for(what, || self.words(), holds);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Answer {
    head: String,
    body: String,
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"))
}

fn ask(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(AT_MOST)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    // A request that is too large is not read to its end, so the connection may be reset after it.
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..count]);
    }
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
    Answer { head: format!("{head}\r\n"), body: body.to_owned() }
}

/// The samples of a page by name and labels, without what all names begin with.
struct Metrics(HashMap<String, f64>);

impl Metrics {
    fn of(page: &str) -> Self {
        assert!(!page.contains(KEY), "the key was shown:\n{page}");
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        Self(
            lines
                .map(|line| {
                    let (name, number) = line.rsplit_once(' ').unwrap();
                    let name = name.strip_prefix("centralcap_record_").expect(line);
                    (name.to_owned(), number.parse().unwrap())
                })
                .collect(),
        )
    }

    #[track_caller]
    fn all(&self, name: &str) -> f64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.0))
    }

    #[track_caller]
    fn of_one(&self, name: &str, subscription: &str) -> f64 {
        self.all(&format!("{name}{{subscription={subscription:?}}}"))
    }

    #[track_caller]
    fn is_in(&self, subscription: &str, state: &str) -> bool {
        self.all(&format!("state{{subscription={subscription:?},state={state:?}}}")) > 0.0
    }
}

/// A feed that answers the first connection, the second and so on as the functions say, and then the
/// last one for ever.
fn feed_of(replies: Vec<fn() -> Vec<Say>>) -> Feed {
    let count = AtomicUsize::new(0);
    Feed::answering(move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed).min(replies.len() - 1);
        Reply::Feed(replies[number]())
    })
}

fn some_frames(count: u32) -> impl Iterator<Item = Say> {
    (0..count).map(|number| Say::Binary(message("monitoring", number, 100)))
}

fn stay() -> Vec<Say> {
    vec![Say::Stay]
}

#[track_caller]
fn assert_close(name: &str, expected: f64, found: f64) {
    assert!((expected - found).abs() < 1e-3, "{name}: expected {expected}, found {found}");
}

#[test]
fn every_number_is_what_the_capture_holds() {
    let feed = feed_of(vec![
        || some_frames(5).chain([Say::Binary(vec![0; 5000].into()), Say::Stay]).collect(),
        || some_frames(3).chain([Say::Drop]).collect(),
        || vec![Say::Binary(envelope("monitoring", "synthetic", "payload")), Say::Stay],
    ]);
    // A name that a label has to escape, as Rust does in these cases.
    let name = "north \"1\" \\ two";
    let mut running = Running::start(&feed, &[name], &["--message-limit", "1000B"]);
    running.wait_for("all frames", || running.metrics().of_one("frames_total", name) >= 9.0);
    let page = running.metrics();
    let entries = running.stop();

    let frames: Vec<_> = entries.iter().filter_map(Entry::frame).collect();
    let bytes: usize = frames.iter().map(|frame| frame.data.len()).sum();
    let events: Vec<_> = entries
        .iter()
        .filter_map(|entry| match &entry.what {
            What::Event(event) => event.event.clone(),
            What::Frame(_) => None,
        })
        .collect();
    let connections = events.iter().filter(|event| matches!(event, Event::Connected(_))).count();
    let gaps: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Gap(gap) if gap.cause() != Cause::Shutdown => Some(gap.to_ns - gap.from_ns),
            _ => None,
        })
        .collect();
    let dropped = events.iter().map(|event| match event {
        Event::DroppedFrames(dropped) => dropped.count,
        _ => 0,
    });
    assert_eq!((frames.len(), connections, gaps.len()), (9, 3, 2));
    let last = entries.iter().rfind(|entry| entry.frame().is_some()).unwrap().received;
    let seconds = |nanos: u64| Duration::from_nanos(nanos).as_secs_f64();
    for (metric, expected) in [
        ("frames_total", frames.len() as f64),
        ("frame_bytes_total", bytes as f64),
        ("reconnects_total", connections as f64 - 1.0),
        ("dropped_frames_total", dropped.sum::<u64>() as f64),
        ("gaps_total", gaps.len() as f64),
        ("gap_seconds_total", seconds(gaps.iter().sum())),
        ("lag_seconds", last.since(START).as_secs_f64()),
        ("last_frame_timestamp_seconds", seconds(last.as_nanos())),
        ("down_seconds", 0.0),
    ] {
        assert_close(metric, expected, page.of_one(metric, name));
    }
    assert!(page.of_one("gap_seconds_total", name) > 0.0);
    assert!(page.is_in(name, "connected"));
    for state in ["connecting", "waiting", "stopped"] {
        assert!(!page.is_in(name, state), "{state}");
    }
    assert!(page.all("disk_free_bytes") > 0.0);
    for metric in ["queue_length", "seal_backlog_segments", "outage_seconds"] {
        assert_close(metric, 0.0, page.all(metric));
    }
    assert!(page.all("writer_stalled_seconds") < AT_MOST.as_secs_f64());
}

#[test]
fn a_subscription_that_is_down_for_too_long_is_unhealthy_until_it_is_up() {
    let is_up = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&is_up);
    let feed = Feed::answering(move |_| {
        if answers.load(Ordering::Relaxed) {
            Reply::Feed(stay())
        } else {
            Reply::Answer("503 Service Unavailable", String::new())
        }
    });
    let running = Running::start(&feed, &["south"], &["--healthy-within", "200ms"]);
    running.wait_for("503", || running.health().0 == 503);
    let (_, words) = running.health();
    assert_eq!(words, "south: down for 0 s\n");
    let page = running.metrics();
    assert!(page.of_one("down_seconds", "south") > 0.2);
    assert!(!page.is_in("south", "connected"));
    is_up.store(true, Ordering::Relaxed);
    running.wait_for("ok", || running.health() == (200, "ok\n".to_owned()));
    assert_close("down_seconds", 0.0, running.metrics().of_one("down_seconds", "south"));

    // The same outage is not too long for others.
    is_up.store(false, Ordering::Relaxed);
    let patient = Running::start(&feed, &["south"], &[]);
    patient.wait_for("refusal", || patient.metrics().is_in("south", "waiting"));
    assert_eq!(patient.health(), (200, "ok\n".to_owned()));
}

#[test]
fn a_subscription_that_nobody_wants_any_more_is_not_missed() {
    let feed = feed_of(vec![stay]);
    let running = Running::start(&feed, &["north", "south"], &["--healthy-within", "100ms"]);
    running.wait_for("connections", || {
        let page = running.metrics();
        page.is_in("north", "connected") && page.is_in("south", "connected")
    });
    let input = fs::read_to_string(running.path("input.json")).unwrap();
    let mut input: serde_json::Value = serde_json::from_str(&input).unwrap();
    input["customers"].as_object_mut().unwrap().remove("south");
    fs::write(running.path("input.json"), input.to_string()).unwrap();
    running.wait_for("its end", || running.metrics().is_in("south", "stopped"));
    assert_close("down_seconds", 0.0, running.metrics().of_one("down_seconds", "south"));
    assert_eq!(running.health(), (200, "ok\n".to_owned()));
}

#[test]
fn a_recording_that_cannot_write_is_unhealthy_until_it_can() {
    let feed = feed_of(vec![|| {
        // Something to write, again and again.
        (0..100_000).map(|_| Say::Binary(Bytes::from_static(b"\x12\x0amonitoring"))).collect()
    }]);
    let running = Running::start(&feed, &["north"], &["--healthy-within", "100ms"]);
    running.wait_for("frames", || running.metrics().of_one("frames_total", "north") > 0.0);
    let limit = |size| {
        let limit = Rlimit { current: size, maximum: None };
        prlimit(Some(Pid::from_child(&running.child)), Resource::Fsize, limit).unwrap();
    };
    limit(Some(1));
    running.wait_for("outage", || {
        running.health().1.lines().any(|line| line == "nothing could be written for 0 s")
    });
    assert!(running.metrics().all("outage_seconds") > 0.1);
    limit(None);
    running.wait_for("writing", || running.metrics().all("outage_seconds") == 0.0);
}

#[test]
fn what_is_not_asked_for_properly_is_refused() {
    let feed = feed_of(vec![stay]);
    let running = Running::start(&feed, &["north"], &[]);
    let answer = get(running.pages, "/");
    assert_eq!((answer.status(), &*answer.body), (404, "Not Found\n"));
    assert_eq!(get(running.pages, "/metrics/x").status(), 404);
    assert_eq!(get(running.pages, "/metrics?x=y").status(), 200);
    let answer =
        ask(running.pages, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(answer.status(), 405);
    assert!(answer.head.contains("\r\nallow: GET, HEAD\r\n"), "{}", answer.head);
    let answer = ask(running.pages, "HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((answer.status(), &*answer.body), (200, ""));
    let large = "x".repeat(40_000);
    let answer = ask(running.pages, &format!("GET /metrics HTTP/1.1\r\nLarge: {large}\r\n\r\n"));
    assert_eq!(answer.status(), 431);
    // Those who say nothing do not keep others from being answered.
    let silent: Vec<_> = (0..8).map(|_| TcpStream::connect(running.pages).unwrap()).collect();
    assert_eq!(running.health().0, 200);
    drop(silent);
}

#[test]
fn an_address_that_cannot_be_had_is_an_error_before_anything_is_recorded() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let record = |address: &str| {
        let output = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"))
            .args(["record", "--hostname", "127.0.0.1:1", "--topic", "audit", "--metrics", address])
            .arg("-o")
            .arg(folder.path().join("recordings"))
            .env("CENTRALCAP_KEY", KEY)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, words) = record(&address);
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains(&format!("cannot listen on {address}")), "{words}");
    assert!(words.contains("hint: choose another port"), "{words}");
    let (code, words) = record("everywhere");
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("expected a port") && words.contains("hint: "), "{words}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
