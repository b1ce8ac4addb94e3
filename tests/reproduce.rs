//! What befell a recording befalls the clients of its replay.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use centralcap::{
    capture::Capture,
    entry::{
        Subscription, What,
        session_event::{Closed, Connected, Event, Failed, Gap, KeyRenewed, Rejected, gap::Cause},
    },
    pace::Speed,
    replay::{Close, End, Ending, Options, Report, Security, Server, Timeline},
};
use support::{
    capture::{Entries, START, message, subscription},
    client::{Answer, Client, UPGRADE, connect},
    command::centralcap,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, timeout},
};

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The ledger of one subscription, and its frames.
struct Story {
    owner: Arc<Subscription>,
    entries: Entries,
    connection: u32,
    frames: u32,
}

impl Story {
    fn of(topic: &str) -> Self {
        let owner = subscription(&format!("a-{topic}"), topic);
        Self { owner, entries: Entries::new(), connection: 0, frames: 0 }
    }

    fn event(&mut self, at: u64, event: Event) -> &mut Self {
        self.entries.happened(millis(at), &self.owner, self.connection, event);
        self
    }

    fn connected(&mut self, at: u64) -> &mut Self {
        self.connection += 1;
        self.event(at, Event::Connected(Connected { status: 101, ..Connected::default() }))
    }

    fn frame(&mut self, at: u64) -> &mut Self {
        self.frames += 1;
        let data = message(&self.owner.topic, self.frames, 50);
        self.entries.frame(millis(at), &self.owner, data);
        self
    }

    fn closed(&mut self, at: u64, code: Option<u32>, reason: &str, clean: bool) -> &mut Self {
        let reason = reason.to_owned();
        self.event(at, Event::Closed(Closed { code, reason, clean, last_sequence: 0 }))
    }

    fn rejected(&mut self, at: u64, status: u32, body: &str) -> &mut Self {
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.event(at, Event::Rejected(Rejected { attempt: 1, status, body }))
    }

    fn failed(&mut self, at: u64) -> &mut Self {
        self.event(at, Event::Failed(Failed { attempt: 1, reason: "timed out".to_owned() }))
    }

    fn gap(&mut self, from: u64, to: u64, cause: Cause) -> &mut Self {
        let [from_ns, to_ns] = [from, to].map(|at| START.after(millis(at)).as_nanos());
        self.event(to, Event::Gap(Gap { from_ns, to_ns, cause: i32::from(cause) }))
    }

    fn messages(&self) -> Vec<Bytes> {
        let frames = self.entries.made.iter().filter_map(|entry| entry.frame());
        frames.map(|frame| frame.data.clone()).collect()
    }

    /// What is to be replayed, with the rules.
    fn options(&self) -> (tempfile::TempDir, Options, usize) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("feed.mcap");
        self.entries.write(&path);
        let capture = Capture::open(&[&path]).unwrap();
        let options = Options { security: Security::Plain, ..Options::new(capture) };
        let mut options = Options { speed: Speed::MAX, ..options };
        let rules = options.reproduce_session().unwrap();
        (folder, options, rules)
    }
}

/// The rules of a recording, as they are in the head of a log.
fn rules(story: &Story) -> String {
    let (_folder, options, count) = story.options();
    let Some(faults) = options.faults else { return String::new() };
    let head: serde_json::Value = serde_json::from_str(&faults.log_head()).unwrap();
    let rules = head["rules"].as_str().unwrap().to_owned();
    assert_eq!(rules.matches("[[rule]]").count(), count);
    rules
}

/// A night with everything in it.
fn night() -> Story {
    let mut story = Story::of("audit");
    story.rejected(0, 401, "expired\n").event(0, Event::KeyRenewed(KeyRenewed::default()));
    story.connected(0).frame(0).frame(100).frame(200);
    story.closed(1000, Some(1001), "going away", true);
    story.rejected(1100, 503, "busy\n").rejected(1200, 503, "busy\n").failed(1300);
    story.connected(2000).gap(1000, 2000, Cause::Server).frame(2000).frame(2500);
    // Nothing was heard for a second.
    story.closed(4000, None, "no answer to a ping", false);
    story.connected(5000).gap(3000, 5000, Cause::Network).frame(5000);
    story.closed(6000, None, "the stream ended without a close frame", false);
    story.connected(7000).gap(6000, 7000, Cause::Network).frame(7000);
    story.closed(8000, None, "", true);
    story.connected(9000).gap(8000, 9000, Cause::Network).frame(9000);
    story
}

#[test]
fn each_refusal_and_each_end_becomes_a_rule() {
    let expected = r#"
[[rule]]
when = { topic = "audit", nth = [1] }
do = { refuse = { status = 401, body = """
expired
""" } }
[[rule]]
when = { topic = "audit", nth = [3, 4] }
do = { refuse = { status = 503, body = """
busy
""" } }
[[rule]]
when = { topic = "audit", nth = [5] }
do = { raw-answer = { text = "" } }
[[rule]]
when = { topic = "audit", connection = 1, at = "1000000000ns" }
do = { close = { code = 1001, reason = "going away" } }
[[rule]]
when = { topic = "audit", connection = 2, at = "3000000000ns" }
do = { half-open = { for = "0ns" } }
[[rule]]
when = { topic = "audit", connection = 3, at = "6000000000ns" }
do = "reset"
[[rule]]
when = { topic = "audit", connection = 4, at = "8000000000ns" }
do = "close"
"#;
    assert_eq!(rules(&night()), expected[1..]);
}

#[test]
fn what_the_recorder_did_by_itself_is_nothing_that_the_feed_does() {
    let mut story = Story::of("audit");
    story.connected(0).frame(0);
    // A connection with the next key, which was refused once before it stood.
    story.rejected(100, 503, "").event(200, Event::KeyRenewed(KeyRenewed::default()));
    story.closed(200, None, "the connection with the new key stands", true).connected(210);
    story.frame(300);
    // A full disk, another run, a crash, and the end.
    story.gap(400, 500, Cause::Disk).frame(500).closed(600, Some(1000), "", true);
    story.rejected(700, 503, "").connected(800).gap(600, 800, Cause::Shutdown).frame(900);
    story.connected(2000).gap(900, 2000, Cause::Killed).frame(2100).closed(
        3000,
        Some(1000),
        "",
        true,
    );
    assert_eq!(rules(&story), "");
}

#[test]
fn two_subscriptions_to_a_topic_are_refused_unless_one_is_selected() {
    let mut story = night();
    let other = subscription("b-audit", "audit");
    story.entries.frame(millis(9000), &other, message("audit", 99, 50));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feed.mcap");
    story.entries.write(&path);
    let mut options = Options::new(Capture::open(&[&path]).unwrap());
    let error = options.reproduce_session().unwrap_err();
    let expected = "expected one subscription to audit, found a-audit and b-audit";
    assert!(error.is_usage() && error.to_string() == expected, "{error}");
    options.selection.subscriptions = vec![centralcap::select::glob("a-*").unwrap()];
    assert_eq!(options.reproduce_session().unwrap(), 7);
}

/// A server that runs.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    report: JoinHandle<Report>,
}

impl Running {
    async fn start(options: Options) -> Self {
        let server = Server::start(options).await.unwrap();
        let address = server.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let report = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { address, stop, report }
    }

    async fn subscribe(&self) -> Result<Client, Answer> {
        Client::subscribe(self.address, None, ("synthetic-key", "audit")).await
    }

    async fn refused(&self) -> (u16, String) {
        let answer = self.subscribe().await.err().expect("a refusal");
        (answer.status, answer.body)
    }

    async fn report(self) -> Report {
        let _ = self.stop.send(());
        timeout(Duration::from_secs(20), self.report).await.expect("an end in time").unwrap()
    }
}

#[tokio::test]
async fn a_client_is_refused_and_cut_off_as_the_recorder_was() {
    let story = night();
    let (_folder, options, _) = story.options();
    let running = Running::start(options).await;
    let frames = story.messages();
    assert_eq!(running.refused().await, (401, "expired\n".to_owned()));
    let mut client = running.subscribe().await.unwrap();
    let (received, code) = client.rest().await;
    assert_eq!((&received[..], code), (&frames[..3], Some(1001)));
    for _ in 0..2 {
        assert_eq!(running.refused().await, (503, "busy\n".to_owned()));
    }
    let mut stream = connect(running.address, None).await;
    let mut request = "GET /streaming/api HTTP/1.1\r\nHost: localhost\r\n".to_owned();
    for (name, value) in
        UPGRADE.iter().chain(&[("Authorization", "synthetic-key"), ("Topic", "audit")])
    {
        request.extend([*name, ": ", *value, "\r\n"]);
    }
    stream.write_all((request + "\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    assert_eq!(stream.read_to_end(&mut answer).await.unwrap(), 0, "{answer:?}");
    // At this speed nothing is left of the silence before a connection was given up.
    for (end, count) in
        [(Some(ErrorKind::ConnectionReset), 5), (Some(ErrorKind::ConnectionReset), 6)]
    {
        let mut client = running.subscribe().await.unwrap();
        assert_eq!(client.messages(count).await, frames[..count]);
        assert_eq!(client.try_next().await.err().map(|error| error.kind()), end);
    }
    assert_eq!(running.subscribe().await.unwrap().rest().await, (frames[..7].to_vec(), None));
    // And from then on nothing happens.
    let mut client = running.subscribe().await.unwrap();
    assert_eq!(client.messages(8).await, frames);
    client.close().await;
    let report = running.report().await;
    // In the order in which they ended, which for two that are closed takes a moment.
    let mut endings: Vec<_> =
        report.clients.iter().map(|client| (client.frames, client.ending.clone())).collect();
    endings.sort_by_key(|(frames, _)| *frames);
    let expected = [(3, "close"), (5, "half-open"), (6, "reset"), (7, "close")];
    let expected = expected.map(|(frames, fault)| (frames, Ending::Spoilt(fault)));
    assert_eq!(endings[..4], expected);
    let going_away = Close { by: End::Server, code: Some(1001), answered: true };
    assert!(report.clients.iter().any(|client| client.close == Some(going_away)), "{report:?}");
    assert_eq!(report.answered, [(401, 1), (503, 2)].into());
}

#[tokio::test]
async fn an_end_comes_at_its_own_time_and_not_with_the_next_frame() {
    let mut story = Story::of("audit");
    story.connected(0).frame(0).closed(600, Some(1012), "restart", true);
    story.connected(60_000).gap(600, 60_000, Cause::Server).frame(60_000);
    let (_folder, options, _) = story.options();
    for (timeline, speed, at_least) in
        [(Timeline::Shared, "1", 550), (Timeline::Client, "1", 550), (Timeline::Shared, "2", 250)]
    {
        let speed = speed.parse().unwrap();
        let running = Running::start(Options { timeline, speed, ..options.clone() }).await;
        let mut client = running.subscribe().await.unwrap();
        client.messages(1).await;
        let since = Instant::now();
        assert_eq!(client.rest().await, (vec![], Some(1012)));
        assert!((at_least..30_000).contains(&since.elapsed().as_millis()), "{:?}", since.elapsed());
        running.report().await;
    }
}

#[tokio::test]
async fn an_end_behind_the_last_frame_is_waited_for() {
    let mut story = Story::of("audit");
    story.connected(0).frame(0).closed(300, Some(1012), "restart", true);
    story.gap(300, 400, Cause::Server);
    let (_folder, options, _) = story.options();
    let running = Running::start(Options { once: true, speed: Speed::ORIGINAL, ..options }).await;
    let (received, code) = running.subscribe().await.unwrap().rest().await;
    assert_eq!((received, code), (story.messages(), Some(1012)));
    running.report().await;
}

/// The ledger of a recording, a word for each event.
fn told(path: &Path) -> Vec<String> {
    let entries = Capture::open(&[path]).unwrap();
    let events = entries.entries().filter_map(|entry| match entry.unwrap().what {
        What::Event(event) => event.event,
        What::Frame(_) => None,
    });
    let words = events.filter_map(|event| match event {
        Event::Connected(_) => Some("connected".to_owned()),
        Event::Closed(closed) => {
            Some(format!("{:?} {} {}", closed.code, closed.reason, closed.clean))
        }
        Event::Rejected(rejected) => Some(format!("{} {:?}", rejected.status, rejected.body)),
        Event::Gap(gap) => Some(format!("gap {:?}", gap.cause())),
        _ => None,
    });
    words.collect()
}

fn path(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

#[test]
fn a_recording_of_the_reproduction_tells_the_same() {
    let mut story = Story::of("audit");
    story.connected(0).frame(0).frame(100).closed(200, Some(1012), "restart", true);
    story.rejected(300, 503, "busy\n");
    story.connected(400).gap(200, 400, Cause::Server).frame(401).frame(402).frame(403);
    story.closed(500, Some(1000), "", true);
    let folder = tempfile::tempdir().unwrap();
    story.entries.write(&path(&folder, "feed.mcap"));
    let mut replay = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"))
        .args(["replay", "--reproduce-session", "--plain", "--timeout", "60s", "--fault-log"])
        .args([path(&folder, "faults.jsonl"), path(&folder, "feed.mcap")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(replay.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let input = r#"{"customers": {"a-audit": {"wsskey": "synthetic-key", "topic": "audit"}}}"#;
    fs::write(path(&folder, "input.json"), input).unwrap();
    let again = path(&folder, "again.mcap");
    let ran = centralcap([
        "record".as_ref(),
        "--hostname".as_ref(),
        format!("ws://{}", ready["hostname"].as_str().unwrap()).as_ref(),
        "--input".as_ref(),
        path(&folder, "input.json").as_os_str(),
        "-o".as_ref(),
        again.as_os_str(),
        // Two on the first connection, and then all of them.
        "--stop-after-messages".as_ref(),
        "7".as_ref(),
    ]);
    assert!(matches!(ran.code, 0 | 3), "{}", ran.stderr);
    replay.kill().unwrap();
    replay.wait().unwrap();
    assert_eq!(told(&again), told(&path(&folder, "feed.mcap")), "{}", ran.stderr);
    let log = fs::read_to_string(path(&folder, "faults.jsonl")).unwrap();
    let applied: Vec<serde_json::Value> =
        log.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    let moment = serde_json::json!({
        "event": "moment", "topic": "audit", "connection": 1, "ns": 200_000_000,
        "rule": 2, "fault": "close", "code": 1012,
    });
    assert_eq!(applied[0], moment);
    assert_eq!((&applied[1]["fault"], &applied[1]["status"]), (&"refuse".into(), &503.into()));
}

#[test]
fn a_recording_to_which_nothing_happened_is_said_to_be_one() {
    let mut story = Story::of("audit");
    story.connected(0).frame(0);
    let folder = tempfile::tempdir().unwrap();
    let feed = path(&folder, "feed.mcap");
    story.entries.write(&feed);
    let ran = centralcap([
        "replay".as_ref(),
        "--reproduce-session".as_ref(),
        "--timeout".as_ref(),
        "1ms".as_ref(),
        feed.as_os_str(),
    ]);
    assert_eq!(ran.code, 1);
    let expected = "the recording was neither refused nor cut off: there is nothing to reproduce";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
}

#[test]
fn times_keep_their_place_when_gaps_are_cut() {
    let mut story = Story::of("audit");
    story.connected(0).frame(0).closed(60_000, Some(1012), "", true);
    story.connected(61_000).gap(60_000, 61_000, Cause::Server).frame(61_000);
    let (_folder, options, _) = story.options();
    let mut options = Options { faults: None, max_gap: Some(millis(500)), ..options };
    options.reproduce_session().unwrap();
    let head = options.faults.unwrap().log_head();
    assert!(head.contains(r#"at = \"500000000ns\""#), "{head}");
}
