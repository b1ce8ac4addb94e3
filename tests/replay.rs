//! Replay: what clients get, when, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    io::{BufRead, BufReader},
    num::NonZeroU64,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use centralcap::{
    accounts::Account,
    capture::Capture,
    entry::{Timestamp, envelope::MsgProto},
    net::{server::Ended, ws::Incoming},
    pace::{Limit, Rounds, Speed},
    protocol::Key,
    replay::{
        Client as Served, Close, End, Ending, LateJoin, Options, Outcome, Report, Security, Server,
        Timeline, Totals,
    },
    select::Selection,
};
use support::{
    capture::{Entries, START, envelope, message, subscription},
    client::{Answer, Client, UPGRADE, ask, connect},
    command::{Ran, centralcap},
    message::varint,
    place::names_in,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, timeout},
};

/// A running server, and what a client has to know about it.
struct Running {
    address: std::net::SocketAddr,
    ca_pem: Option<String>,
    stop: Option<oneshot::Sender<()>>,
    report: JoinHandle<Report>,
}

impl Running {
    async fn start(options: Options) -> Self {
        let server = Server::start(options).await.unwrap();
        let (address, ca_pem) = (server.address(), server.ca_pem().map(str::to_owned));
        let (stop, stopped) = oneshot::channel::<()>();
        let report = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { address, ca_pem, stop: Some(stop), report }
    }

    async fn client(&self, topic: &str) -> Client {
        self.subscribe("synthetic-key", topic).await.unwrap()
    }

    async fn subscribe(&self, key: &str, topic: &str) -> Result<Client, Answer> {
        Client::subscribe(self.address, self.ca_pem.as_deref(), (key, topic)).await
    }

    async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut stream = connect(self.address, self.ca_pem.as_deref()).await;
        ask(&mut stream, path, headers).await.0
    }

    fn stop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
    }

    /// The report of a server that ends by itself, or was stopped.
    async fn report(self) -> Report {
        let report = timeout(Duration::from_secs(20), self.report).await;
        report.expect("an end in time").unwrap()
    }
}

/// A capture of `count` frames every 10 ms in turn of monitoring (`a`), audit (`a`) and monitoring
/// (`b`), and of a security subscription on which nothing ever came.
struct Fixture {
    _folder: tempfile::TempDir,
    path: PathBuf,
    entries: Entries,
}

impl Fixture {
    fn of(count: u32) -> Self {
        let mut entries = Entries::new();
        let owners = [("a", "monitoring"), ("a", "audit"), ("b", "monitoring")]
            .map(|(name, topic)| subscription(name, topic));
        entries.event(&subscription("a", "security"));
        for number in 0..count {
            let owner = &owners[number as usize % owners.len()];
            let data = message(&owner.topic, number, (number % 7 * 100) as usize);
            entries.frame(Duration::from_millis(10) * number, owner, data);
        }
        Self::from(entries)
    }

    fn from(entries: Entries) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("feed.mcap");
        entries.write(&path);
        Self { _folder: folder, path, entries }
    }

    fn options(&self) -> Options {
        let capture = Capture::open(&[&self.path]).unwrap();
        Options { once: true, speed: Speed::MAX, ..Options::new(capture) }
    }

    /// The bytes of a topic's frames, of these subscriptions.
    fn frames(&self, names: &[&str], topic: &str) -> Vec<Bytes> {
        let own = self.entries.made.iter().filter(|entry| {
            entry.subscription.topic == topic && names.contains(&entry.subscription.name.as_str())
        });
        own.filter_map(|entry| Some(entry.frame()?.data.clone())).collect()
    }
}

fn the_one(report: &Report) -> &Served {
    assert_eq!(report.clients.len(), 1, "{report:?}");
    &report.clients[0]
}

#[tokio::test]
async fn a_client_gets_exactly_the_frames_of_its_topic_and_a_proper_end() {
    let fixture = Fixture::of(300);
    let running = Running::start(fixture.options()).await;
    let mut client = running.client("monitoring").await;
    let expected = fixture.frames(&["a", "b"], "monitoring");
    assert_eq!(expected.len(), 200);
    assert_eq!(client.rest().await, (expected.clone(), Some(1000)));

    let report = running.report().await;
    let served = the_one(&report);
    assert_eq!((served.frames, &served.ending), (200, &Ending::Played));
    assert_eq!(served.bytes, expected.iter().map(|frame| frame.len() as u64).sum::<u64>());
    let sent = served.subscriptions.iter().map(|sent| (sent.name.as_str(), sent.frames));
    assert_eq!(
        (served.topic.as_str(), sent.collect()),
        ("monitoring", vec![("a", 100), ("b", 100)])
    );
    assert_eq!((report.served, report.lossy, report.faults.len()), (1, 0, 0));
}

#[tokio::test]
async fn several_clients_at_once_get_it_each_from_the_start() {
    let fixture = Fixture::of(600);
    let options = Options { wait_clients: 3, ..fixture.options() };
    let running = Running::start(options).await;
    let mut clients = Vec::new();
    for topic in ["monitoring", "audit", "monitoring"] {
        clients.push((running.client(topic).await, topic));
    }
    for (client, topic) in &mut clients {
        let expected = fixture.frames(&["a", "b"], topic);
        assert_eq!(client.rest().await, (expected, Some(1000)));
    }
    let report = running.report().await;
    assert_eq!((report.served, report.frames), (3, 1000));
}

#[tokio::test]
async fn nothing_is_sent_before_enough_clients_are_connected() {
    let fixture = Fixture::of(3);
    let options = Options { wait_clients: 3, ..fixture.options() };
    let running = Running::start(options).await;
    let mut first = running.client("audit").await;
    // A client that has left again does not count.
    let mut gone = running.client("audit").await;
    gone.close().await;
    let mut second = running.client("monitoring").await;
    assert!(timeout(Duration::from_millis(100), first.next()).await.is_err());
    let mut third = running.client("monitoring").await;
    assert_eq!(first.rest().await.0.len(), 1);
    assert_eq!(second.rest().await.0.len(), 2);
    assert_eq!(third.rest().await.0.len(), 2);
    running.report().await;
}

#[tokio::test]
async fn nothing_is_sent_before_every_topic_has_a_client() {
    let fixture = Fixture::of(3);
    let options = Options { wait_topics: true, wait_clients: 2, ..fixture.options() };
    let running = Running::start(options).await;
    let mut audit = running.client("audit").await;
    let mut gone = running.client("security").await;
    gone.close().await;
    let mut monitoring = running.client("monitoring").await;
    assert!(timeout(Duration::from_millis(100), audit.next()).await.is_err());
    let mut security = running.client("security").await;
    assert_eq!(audit.rest().await.0.len(), 1);
    assert_eq!(monitoring.rest().await.0.len(), 2);
    assert_eq!(security.rest().await.0.len(), 0);
    running.report().await;
}

#[tokio::test]
async fn who_comes_late_to_a_shared_timeline_joins_in_the_middle_and_in_step() {
    let fixture = Fixture::of(300);
    let speed = Speed::ORIGINAL;
    let options =
        Options { timeline: Timeline::Shared, speed, wait_clients: 2, ..fixture.options() };
    let running = Running::start(options).await;
    let mut first = running.client("audit").await;
    let mut second = running.client("audit").await;
    let expected = fixture.frames(&["a"], "audit");
    let begun = first.messages(20).await;
    // What `first` had before `late` asked was due before `late` came.
    let mut late = running.client("audit").await;
    let mut other = running.client("monitoring").await;
    let (joined, _) = late.rest().await;
    assert!(!joined.is_empty() && joined.len() <= expected.len() - begun.len(), "{}", joined.len());
    assert!(joined == expected[expected.len() - joined.len()..]);
    assert!([begun, first.rest().await.0].concat() == expected);
    assert!(second.rest().await.0 == expected);
    other.rest().await;

    let report = running.report().await;
    // When the last frame was due, on the wall clock: 10 ms later on the other topic.
    let last = |client: &Served| {
        client.connected.after(client.subscriptions.last().unwrap().last.unwrap().due)
    };
    let ends: Vec<_> = report.clients.iter().map(last).collect();
    let apart = ends.iter().max().unwrap().since(*ends.iter().min().unwrap());
    // The late ones came 570 ms after the others.
    assert!(apart < Duration::from_millis(300), "{apart:?}");
}

#[tokio::test]
async fn a_shared_timeline_can_be_joined_after_many_rounds() {
    let fixture = Fixture::of(30);
    // A round takes 29 µs, in which nobody could read a capture.
    let (speed, rounds) = ("10000".parse().unwrap(), Rounds::Forever);
    let options =
        Options { timeline: Timeline::Shared, speed, rounds, once: false, ..fixture.options() };
    let mut running = Running::start(options).await;
    let mut first = running.client("security").await;
    assert!(timeout(Duration::from_millis(500), first.next()).await.is_err());
    let mut late = running.client("audit").await;
    let round = fixture.frames(&["a"], "audit");
    let joined = late.messages(35).await;
    let place = round.iter().position(|frame| *frame == joined[0]).unwrap();
    assert!(joined.iter().eq(round.iter().cycle().skip(place).take(35)));
    running.stop();
    let report = running.report().await;
    let client = report.clients.iter().find(|client| client.topic == "audit").unwrap();
    let first = client.subscriptions[0].first.unwrap();
    assert!(first.left < Duration::from_secs(10), "{first:?}");
}

/// A location every 10 ms, in turn of seven clients.
fn locations(count: u32) -> Fixture {
    let mut entries = Entries::new();
    let owner = subscription("a", "location");
    for number in 0..count {
        let client = [0x0a, 6, 2, 0, 0, 0, 0, (number % 7) as u8];
        // Field 1 is a float, field 15 the client's address.
        let location = [&[0x0d][..], &number.to_le_bytes(), &[0x7a, 8], &client].concat();
        let data = envelope("location", "c", location);
        entries.frame(Duration::from_millis(10) * number, &owner, data);
    }
    Fixture::from(entries)
}

#[tokio::test]
async fn who_comes_late_is_told_the_newest_of_everything_first() {
    let fixture = locations(200);
    let speed = Speed::ORIGINAL;
    let (timeline, late_join) = (Timeline::Shared, LateJoin::State);
    let running = Running::start(Options { timeline, late_join, speed, ..fixture.options() }).await;
    let expected = fixture.frames(&["a"], "location");
    let mut first = running.client("location").await;
    let begun = first.messages(50).await;
    let mut late = running.client("location").await;
    let (told, _) = late.rest().await;
    // Seven frames before the place at which it joined, one of each client, and all from there on.
    let begins = expected.len() - told.len();
    assert!(begins >= begun.len() - 7 && !told.is_empty(), "{begins}");
    assert!(told == expected[begins..]);
    assert!([begun, first.rest().await.0].concat() == expected);
    let report = running.report().await;
    let state = |client: &Served| (client.subscriptions[0].state, client.frames);
    let mut found: Vec<_> = report.clients.iter().map(state).collect();
    found.sort_unstable();
    assert_eq!(found, [(0, 200), (7, told.len() as u64)]);
    let late = report.clients.iter().find(|client| client.subscriptions[0].state > 0).unwrap();
    let first = late.subscriptions[0].first.unwrap();
    // What is due before it came is not late, and not counted as such.
    assert!(first.due > Duration::ZERO && late.lateness.unwrap().max < Duration::from_secs(10));
}

#[tokio::test]
async fn who_comes_after_the_end_gets_the_last_state() {
    let fixture = locations(20);
    let speed = "100".parse().unwrap();
    let (timeline, late_join) = (Timeline::Shared, LateJoin::State);
    let options = Options { timeline, late_join, speed, restamp: true, ..fixture.options() };
    let mut running = Running::start(Options { once: false, ..options }).await;
    running.client("location").await.messages(20).await;
    let mut late = running.client("location").await;
    let told = late.messages(7).await;
    assert!(timeout(Duration::from_millis(50), late.next()).await.is_err());
    // Their times are those at which they were due, and not those of the telling.
    let times = told.iter().map(|frame| {
        let message: MsgProto = prost::Message::decode(&**frame).unwrap();
        message.timestamp
    });
    let times: Vec<_> = times.collect();
    assert!(times.is_sorted() && times[6] - times[0] < 1_000_000, "{times:?}");
    running.stop();
    running.report().await;
}

#[tokio::test]
async fn nobody_is_late_for_a_clock_of_its_own() {
    let fixture = Fixture::of(3);
    let late_join = LateJoin::State;
    let options = Options { late_join, speed: Speed::ORIGINAL, ..fixture.options() };
    assert!(Server::start(options).await.err().unwrap().is_usage());
}

#[tokio::test]
async fn a_selection_that_leaves_no_topic_is_a_mistake() {
    let fixture = Fixture::of(3);
    let mut options = fixture.options();
    options.selection.topics = vec!["nope".to_owned()];
    assert!(Server::start(options).await.err().unwrap().is_usage());
}

#[tokio::test]
async fn each_topic_that_is_selected_has_to_be_there() {
    let fixture = Fixture::of(3);
    let mut options = fixture.options();
    options.selection.topics = vec!["audit".to_owned(), "monitorng".to_owned()];
    let error = Server::start(options).await.err().unwrap();
    let words = "expected one of audit, monitoring, security, found \"monitorng\"";
    assert!(error.is_usage() && error.to_string() == words, "{error}");
}

#[tokio::test]
async fn a_shared_timeline_needs_a_clock() {
    let fixture = Fixture::of(3);
    let options = Options { timeline: Timeline::Shared, ..fixture.options() };
    assert!(Server::start(options).await.err().unwrap().is_usage());
}

#[tokio::test]
async fn wrong_requests_are_refused_in_the_words_that_clients_know() {
    let fixture = Fixture::of(3);
    let mut running = Running::start(fixture.options()).await;
    let refused = async |key: &str, topic: &str| {
        let answer = running.subscribe(key, topic).await.err().unwrap();
        (
            answer.status,
            answer.head.contains("content-type: text/plain; charset=utf-8"),
            answer.body,
        )
    };
    let unsubscribed = (400, true, "Unsubscribed Topic\n".to_owned());
    assert_eq!(refused("synthetic-key", "presence").await, unsubscribed);
    assert_eq!(refused("synthetic-key", "").await, unsubscribed);
    assert_eq!(refused("", "audit").await, (401, true, "Unauthorized\n".to_owned()));
    assert_eq!(refused("", "presence").await.0, 401);

    let key = ("Authorization", "synthetic-key");
    let topic = ("Topic", "audit");
    let feed = "/streaming/api";
    assert_eq!(running.ask(feed, &UPGRADE).await.status, 401);
    assert_eq!(running.ask(feed, &[key, topic]).await.status, 426);
    assert_eq!(running.ask("/", &[key, topic]).await.status, 404);
    for (spoilt, value, status) in [
        ("Connection", "keep-alive", 426),
        ("Upgrade", "h2c", 426),
        ("Sec-WebSocket-Version", "8", 426),
        ("Sec-WebSocket-Key", "c2hvcnQ=", 400),
    ] {
        let mut headers = [&UPGRADE[..], &[key, topic]].concat();
        headers.iter_mut().filter(|(name, _)| *name == spoilt).for_each(|header| header.1 = value);
        let answer = running.ask(feed, &headers).await;
        assert_eq!(answer.status, status, "{spoilt}");
        assert!(!answer.body.is_empty() && answer.head.contains("sec-websocket-version: 13"));
    }
    let headers = [&UPGRADE[..], &[key, topic]].concat();
    let twice = [&headers[..], &[("Host", "localhost")]].concat();
    assert_eq!(running.ask(feed, &twice).await.status, 400);
    let mut stream = connect(running.address, running.ca_pem.as_deref()).await;
    let headers: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let hostless = format!("GET {feed} HTTP/1.1\r\n{headers}\r\n");
    stream.write_all(hostless.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
    running.stop();
    assert_eq!(running.report().await.served, 0);
}

#[tokio::test]
async fn an_upgrade_is_answered_so_that_strict_clients_take_it() {
    let fixture = Fixture::of(3);
    let mut running = Running::start(fixture.options()).await;
    let ask = [("Authorization", "synthetic-key"), ("Topic", "audit")];
    let answer = running.ask("/streaming/api", &ask).await;
    assert!(answer.head.contains("\r\nconnection: close\r\n"), "{}", answer.head);
    let answer = running.ask("/streaming/api", &[&UPGRADE[..], &ask].concat()).await;
    assert_eq!(answer.status, 101);
    // RFC 6455 allows a list of options. tungstenite's clients do not.
    assert!(answer.head.contains("\r\nconnection: upgrade\r\n"), "{}", answer.head);
    running.stop();
    running.report().await;
}

#[tokio::test]
async fn what_a_script_in_a_browser_cannot_say_in_headers_it_says_in_the_query() {
    let fixture = Fixture::of(3);
    let mut running = Running::start(fixture.options()).await;
    let status =
        async |query: &str| running.ask(&format!("/streaming/api?{query}"), &UPGRADE).await.status;
    assert_eq!(status("topic=presence&authorization=synthetic-key").await, 400);
    assert_eq!(status("topic=audit").await, 401);
    // Headers go before it.
    let headers = [&UPGRADE[..], &[("Topic", "presence")]].concat();
    let path = "/streaming/api?topic=audit&authorization=synthetic-key";
    assert_eq!(running.ask(path, &headers).await.status, 400);
    assert_eq!(status("topic=audit&authorization=synthetic%2Dkey").await, 101);
    running.stop();
    running.report().await;
}

#[tokio::test]
async fn a_key_is_validated_with_itself() {
    let fixture = Fixture::of(3);
    let mut running = Running::start(fixture.options()).await;
    let path = "/streaming/token/validate";
    let answer = running.ask(path, &[("Authorization", "synthetic-key")]).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"token":"synthetic-key"}"#));
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    assert_eq!(running.ask(path, &[]).await.status, 401);
    running.stop();
    running.report().await;
}

#[tokio::test]
async fn accounts_decide_which_keys_are_valid_and_what_they_get() {
    let account = |name: &str, key: &str| Account {
        name: name.to_owned(),
        username: None,
        key: Key::new(key).unwrap(),
        topic: "monitoring".to_owned(),
    };
    let accounts = vec![account("b", "key-of-b"), account("elsewhere", "other-key")];
    let fixture = Fixture::of(30);
    let options = Options { accounts: Some(accounts), ..fixture.options() };
    let options = Options { wait_clients: 2, ..options };
    let running = Running::start(options).await;
    assert_eq!(running.subscribe("synthetic-key", "monitoring").await.err().unwrap().status, 401);
    let validate = [("Authorization", "synthetic-key")];
    assert_eq!(running.ask("/streaming/token/validate", &validate).await.status, 401);

    let mut own = running.subscribe("key-of-b", "monitoring").await.unwrap();
    let mut other = running.subscribe("other-key", "monitoring").await.unwrap();
    assert_eq!(own.rest().await.0, fixture.frames(&["b"], "monitoring"));
    assert_eq!(other.rest().await.0, fixture.frames(&["a", "b"], "monitoring"));
    running.report().await;
}

#[tokio::test]
async fn a_selection_decides_what_there_is() {
    let fixture = Fixture::of(30);
    let selection =
        Selection { topics: vec!["monitoring".to_owned()], skip: 2, ..Selection::default() };
    let running = Running::start(Options { selection, ..fixture.options() }).await;
    assert_eq!(running.subscribe("synthetic-key", "audit").await.err().unwrap().status, 400);
    let mut client = running.client("monitoring").await;
    assert_eq!(client.rest().await.0, fixture.frames(&["a", "b"], "monitoring")[2..]);
    running.report().await;
}

#[tokio::test]
async fn frames_come_when_they_are_due() {
    // 30 frames in 290 ms; audit has those at 10, 40, ..., 280 ms.
    let fixture = Fixture::of(30);
    let speed = Speed::ORIGINAL;
    let running = Running::start(Options { speed, ..fixture.options() }).await;
    let mut client = running.client("audit").await;
    let connected = Instant::now();
    client.messages(10).await;
    let took = connected.elapsed();
    assert!(took >= Duration::from_millis(270), "{took:?}");
    assert_eq!(client.rest().await, (vec![], Some(1000)));
    let report = running.report().await;
    // How late depends on how busy the machine is; that it was measured does not.
    assert!(the_one(&report).lateness.is_some_and(|late| late.max < Duration::from_secs(10)));
}

#[tokio::test]
async fn the_report_says_when_each_subscription_was_due_and_when_it_left() {
    let fixture = Fixture::of(30);
    let speed = Speed::ORIGINAL;
    let running = Running::start(Options { speed, ..fixture.options() }).await;
    running.client("monitoring").await.rest().await;
    let report = running.report().await;
    let served = the_one(&report);
    // Monitoring of `a` has the frames at 0, 30, ..., 270 ms, that of `b` those at 20, 50, ..., 290 ms.
    let due: Vec<_> = served
        .subscriptions
        .iter()
        .map(|sent| {
            let (first, last) = (sent.first.unwrap(), sent.last.unwrap());
            assert!(
                first.due <= first.left && first.left < last.left && last.left <= served.stayed
            );
            let lateness = sent.lateness.unwrap();
            assert!(lateness.p50 <= lateness.p99 && lateness.p99 <= lateness.max, "{lateness:?}");
            assert!(last.left <= last.due + lateness.max, "{sent:?}");
            (sent.name.as_str(), sent.frames, first.due, last.due)
        })
        .collect();
    let zero = due[0].2;
    let after = |millis| zero + Duration::from_millis(millis);
    assert_eq!(due, [("a", 10, zero, after(270)), ("b", 10, after(20), after(290))]);
    let worst = served.subscriptions.iter().filter_map(|sent| sent.lateness).map(|late| late.max);
    assert_eq!(served.lateness.unwrap().max, worst.max().unwrap());
    assert_eq!(report.lateness, served.lateness);
}

#[tokio::test]
async fn the_report_says_who_closed_and_who_was_refused() {
    let fixture = Fixture::of(30);
    let options = Options { speed: Speed::ORIGINAL, wait_clients: 2, ..fixture.options() };
    let running = Running::start(options).await;
    for (key, topic) in [("", "audit"), ("key", "presence"), ("", "presence")] {
        running.subscribe(key, topic).await.err().unwrap();
    }
    let mut leaving = running.client("audit").await;
    let mut staying = running.client("audit").await;
    leaving.messages(1).await;
    leaving.close().await;
    staying.rest().await;
    let report = running.report().await;
    let closes: Vec<_> = report.clients.iter().map(|client| client.close.unwrap()).collect();
    let close = |by| Close { by, code: Some(1000), answered: true };
    assert_eq!(closes, [close(End::Client), close(End::Server)]);
    assert_eq!(report.answered, [(400, 1), (401, 2)].into());
    assert_eq!(report.topics["audit"].clients, 2);
    assert_eq!(report.topics["security"], Totals::default());
}

#[tokio::test]
async fn a_run_ends_when_its_time_is_over() {
    let fixture = Fixture::of(30);
    let timeout = Some(Duration::from_millis(300));
    let options = Options { timeout, once: false, ..fixture.options() };
    let running = Running::start(options).await;
    let mut client = running.client("audit").await;
    assert_eq!(client.rest().await, (fixture.frames(&["a"], "audit"), Some(1001)));
    let report = running.report().await;
    assert!(report.lasted >= Duration::from_millis(300), "{:?}", report.lasted);
    assert_eq!((report.timed_out, report.outcome()), (Some(1), Outcome::Failed));
}

#[tokio::test]
async fn gaps_are_cut_and_divided() {
    let mut entries = Entries::new();
    let owner = subscription("a", "audit");
    for hour in 0..4 {
        let data = message("audit", hour, 0);
        entries.frame(Duration::from_secs(3600) * hour, &owner, data);
    }
    let fixture = Fixture::from(entries);
    let max_gap = Some(Duration::from_millis(500));
    let speed = "10".parse().unwrap();
    let running = Running::start(Options { max_gap, speed, ..fixture.options() }).await;
    let mut client = running.client("audit").await;
    let first = client.messages(1).await;
    let started = Instant::now();
    let rest = client.messages(3).await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(100) && took < Duration::from_secs(10), "{took:?}");
    assert_eq!([first, rest].concat(), fixture.frames(&["a"], "audit"));
    client.rest().await;
    running.report().await;
}

#[tokio::test]
async fn rounds_follow_each_other() {
    let fixture = Fixture::of(30);
    let rounds: Rounds = "3".parse().unwrap();
    let running = Running::start(Options { rounds, ..fixture.options() }).await;
    let mut client = running.client("audit").await;
    let round = fixture.frames(&["a"], "audit");
    assert_eq!(client.rest().await.0, [&round[..]; 3].concat());
    running.report().await;
}

#[tokio::test]
async fn nothing_comes_between_two_rounds_for_as_long_as_asked() {
    let fixture = Fixture::of(30);
    let (rounds, loop_delay) = ("2".parse().unwrap(), Duration::from_millis(200));
    let running = Running::start(Options { rounds, loop_delay, ..fixture.options() }).await;
    let mut client = running.client("audit").await;
    let round = fixture.frames(&["a"], "audit");
    assert_eq!(client.messages(10).await, round);
    let first_over = Instant::now();
    assert_eq!(client.messages(1).await, round[..1]);
    // The delay is counted from when the last frame was due, which was read a little later.
    assert!(first_over.elapsed() >= Duration::from_millis(100), "{:?}", first_over.elapsed());
    assert_eq!(client.rest().await, (round[1..].to_vec(), Some(1000)));
    running.report().await;
}

#[tokio::test]
async fn no_client_gets_more_in_a_second_than_it_may() {
    let fixture = Fixture::of(30);
    let limit = |burst: u64| {
        let rate = "50".parse().unwrap();
        Some(Limit::new(rate, NonZeroU64::new(burst).unwrap()))
    };
    for (burst, least) in [(1, 180), (8, 40)] {
        let limit = limit(burst);
        let running = Running::start(Options { limit, ..fixture.options() }).await;
        let connecting = Instant::now();
        let mut client = running.client("audit").await;
        assert_eq!(client.messages(10).await, fixture.frames(&["a"], "audit"));
        // Nine tokens, of which so many were there, and 20 ms for each other.
        assert!(connecting.elapsed() >= Duration::from_millis(least), "{:?}", connecting.elapsed());
        client.rest().await;
        let report = running.report().await;
        assert!(the_one(&report).lateness.is_some(), "a rate makes frames due");
    }
}

#[tokio::test]
async fn the_schedule_begins_with_the_first_frame_that_is_wanted() {
    let mut entries = Entries::new();
    let owner = subscription("a", "audit");
    let hour = 3_600_000;
    let received = [0, hour, hour + 50, hour + 100, 2 * hour];
    for (number, millis) in (0..).zip(received) {
        let data = message("audit", number, 0);
        entries.frame(Duration::from_millis(millis), &owner, data);
    }
    let fixture = Fixture::from(entries);
    let (from, to) = (Some("+1h".parse().unwrap()), Some("+1h30m".parse().unwrap()));
    let selection = Selection { from, to, ..Selection::default() };
    let speed = Speed::ORIGINAL;
    let rounds = "2".parse().unwrap();
    let options = Options { selection, speed, rounds, ..fixture.options() };
    let running = Running::start(options).await;
    let connecting = Instant::now();
    let mut client = running.client("audit").await;
    let round = &fixture.frames(&["a"], "audit")[1..4];
    // Within the limit of a client, which is far below an hour.
    assert_eq!(client.rest().await.0, [round, round].concat());
    assert!(connecting.elapsed() >= Duration::from_millis(200), "{:?}", connecting.elapsed());
    running.report().await;
}

/// Frames 100 ms apart whose payload was made 3 s before and whose envelope 20, 10, 0 ms before.
fn timed() -> Fixture {
    let mut entries = Entries::new();
    let owner = subscription("a", "audit");
    for number in 0..3_u32 {
        let after = Duration::from_millis(100) * number;
        let received = START.after(after);
        let sent = received.before(Duration::from_millis(10) * (2 - number));
        let audit = (received.as_nanos() / 1_000_000_000 - 3) as u32;
        let payload = [&[0x10][..], &varint(audit.into()), &[0x0a, 1, b'c']].concat();
        let message = MsgProto {
            subject: "audit".to_owned(),
            data: payload.into(),
            timestamp: sent.as_nanos().cast_signed(),
            customer_id: number.to_string(),
            msp_id: None,
        };
        entries.frame(after, &owner, prost::Message::encode_to_vec(&message).into());
    }
    Fixture::from(entries)
}

#[tokio::test]
async fn a_restamped_feed_looks_live_in_every_round() {
    let fixture = timed();
    let (rounds, restamp) = ("3".parse().unwrap(), true);
    for speed in [Speed::ORIGINAL, "2".parse().unwrap(), Speed::MAX] {
        let options = Options { speed, rounds, restamp, ..fixture.options() };
        let running = Running::start(options).await;
        let before = Timestamp::now();
        let (found, _) = running.client("audit").await.rest().await;
        let after = Timestamp::now();
        let mut last = before.before(Duration::from_millis(20));
        for (number, frame) in found.iter().enumerate() {
            let message: MsgProto = prost::Message::decode(&**frame).unwrap();
            let sent = Timestamp::from_nanos(message.timestamp.cast_unsigned());
            assert!(last <= sent && sent <= after, "{number}: {last} <= {sent} <= {after}");
            last = sent;
            let seconds = classic_time(&message.data);
            let age = sent.as_nanos() / 1_000_000_000 - seconds;
            // Three seconds at the original speed, and up to the round before at any.
            let oldest = if speed == Speed::ORIGINAL { 2..=4 } else { 0..=2 };
            assert!(number >= 3 || oldest.contains(&age), "{number}: {age} s");
            // The rest is as it was.
            let mut original: MsgProto =
                prost::Message::decode(&*fixture.frames(&["a"], "audit")[number % 3]).unwrap();
            original.timestamp = message.timestamp;
            let payload = [&[0x10][..], &varint(seconds), &[0x0a, 1, b'c']].concat();
            original.data = payload.into();
            assert_eq!(prost::Message::encode_to_vec(&original), **frame);
        }
        assert_eq!(found.len(), 9);
        running.report().await;
    }
}

/// Field 2 of an audit message that begins with it.
fn classic_time(payload: &[u8]) -> u64 {
    prost::encoding::decode_varint(&mut &payload[1..]).unwrap()
}

#[tokio::test]
async fn once_and_forever_is_refused() {
    let fixture = Fixture::of(3);
    let options = Options { rounds: Rounds::Forever, ..fixture.options() };
    assert!(Server::start(options).await.err().unwrap().is_usage());
}

#[tokio::test]
async fn a_client_that_leaves_early_ends_nobody_else() {
    let fixture = Fixture::of(30);
    let speed = Speed::ORIGINAL;
    let options = Options { speed, wait_clients: 3, ..fixture.options() };
    let running = Running::start(options).await;
    let mut closing = running.client("monitoring").await;
    let vanishing = running.client("monitoring").await;
    let mut staying = running.client("monitoring").await;
    closing.messages(1).await;
    drop(vanishing);
    closing.close().await;
    assert_eq!(staying.rest().await.0, fixture.frames(&["a", "b"], "monitoring"));
    let report = running.report().await;
    let count = |wanted: fn(&Ending) -> bool| {
        report.clients.iter().filter(|client| wanted(&client.ending)).count()
    };
    assert_eq!(count(|ending| *ending == Ending::Left(Ended::Closed { code: Some(1000) })), 1);
    assert_eq!(count(|ending| matches!(ending, Ending::Left(Ended::Gone | Ended::Lost(_)))), 1);
    assert_eq!((count(|ending| *ending == Ending::Played), report.lossy), (1, 0));
}

#[tokio::test]
async fn without_once_the_feed_falls_silent_and_stopping_closes_it() {
    let fixture = Fixture::of(30);
    let mut running = Running::start(Options { once: false, ..fixture.options() }).await;
    let mut client = running.client("audit").await;
    let mut silent = running.client("security").await;
    client.messages(10).await;
    client.socket.send_ping(Bytes::from_static(b"17"));
    client.write().await;
    assert_eq!(client.bytes(4).await, [0x8a, 2, b'1', b'7'], "a pong, unmasked");
    assert!(timeout(Duration::from_millis(50), silent.next()).await.is_err());
    running.stop();
    let close = Incoming::Close { code: Some(1001), reason: "going away".to_owned() };
    assert_eq!(client.next().await, Some(close.clone()));
    assert_eq!(silent.next().await, Some(close));
    assert_eq!((client.next().await, silent.next().await), (None, None));
    let report = running.report().await;
    assert_eq!((report.served, report.frames), (2, 10));
    assert!(report.clients.iter().all(|client| client.ending == Ending::Stopped));
}

#[tokio::test]
async fn a_client_that_takes_nothing_does_not_hold_up_the_others_or_the_end() {
    let mut entries = Entries::new();
    let owner = subscription("a", "apprf");
    for number in 0..24 {
        entries.frame(Duration::ZERO, &owner, message("apprf", number, 1 << 20));
    }
    let fixture = Fixture::from(entries);
    let mut running = Running::start(fixture.options()).await;
    let _stalled = running.client("apprf").await;
    let mut client = running.client("apprf").await;
    let expected = fixture.frames(&["a"], "apprf");
    assert!(client.rest().await == (expected, Some(1000)));
    running.stop();
    let report = running.report().await;
    assert_eq!(report.clients[0].ending, Ending::Played);
    assert_eq!(report.clients[1].ending, Ending::Stopped);
}

#[tokio::test]
async fn a_certificate_of_the_users_own_is_shown() {
    let fixture = Fixture::of(30);
    let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let [cert, key] = ["own.pem", "own.key"].map(|name| fixture.path.with_file_name(name));
    std::fs::write(&cert, own.cert.pem()).unwrap();
    std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    let security = Security::Files { cert: cert.clone(), key };
    let mut running = Running::start(Options { security, ..fixture.options() }).await;
    assert_eq!(running.ca_pem, None);
    running.ca_pem = Some(own.cert.pem());
    let mut client = running.client("audit").await;
    assert_eq!(client.rest().await.0, fixture.frames(&["a"], "audit"));
    running.report().await;

    let security = Security::Files { cert: cert.clone(), key: cert };
    let error = Server::start(Options { security, ..fixture.options() }).await.err().unwrap();
    assert!(error.to_string().contains("expected a PEM private key in "), "{error}");
}

/// Where all of 127.0.0.0/8 is this machine.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_certificate_is_for_whatever_address_is_listened_on() {
    let fixture = Fixture::of(30);
    let listen = "127.0.0.5:0".parse().unwrap();
    let running = Running::start(Options { listen, ..fixture.options() }).await;
    let mut client = running.client("audit").await;
    assert_eq!(client.rest().await.0, fixture.frames(&["a"], "audit"));
    running.report().await;
}

#[tokio::test]
async fn plain_is_plain() {
    let fixture = Fixture::of(30);
    let running = Running::start(Options { security: Security::Plain, ..fixture.options() }).await;
    assert_eq!(running.ca_pem, None);
    let mut client = running.client("audit").await;
    assert_eq!(client.rest().await.0, fixture.frames(&["a"], "audit"));
    running.report().await;
}

/// 100 frames that do not compress, so that there are several chunks.
fn noise() -> Entries {
    let mut entries = Entries::new();
    let owner = subscription("a", "audit");
    for number in 0..100 {
        let noise: String = std::iter::repeat_with(fastrand::alphanumeric).take(100_000).collect();
        let mut data = message("audit", number, 0).to_vec();
        data.extend([0xa2, 0x06]);
        prost::encode_length_delimiter(noise.len(), &mut data).unwrap();
        data.extend(noise.as_bytes());
        entries.frame(Duration::from_millis(1) * number, &owner, data.into());
    }
    entries
}

fn flip_a_bit_in_the_middle(path: &Path) {
    flip_a_bit(path, 50);
}

/// Behind so much of the file.
fn flip_a_bit(path: &Path, percent: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let place = bytes.len() * percent / 100;
    bytes[place] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn what_is_whole_is_served_and_damage_reported_once() {
    let fixture = Fixture::from(noise());
    flip_a_bit_in_the_middle(&fixture.path);

    let options = Options { wait_clients: 2, ..fixture.options() };
    let running = Running::start(options).await;
    let mut clients = [running.client("audit").await, running.client("audit").await];
    let expected = fixture.frames(&["a"], "audit");
    for client in &mut clients {
        let (found, code) = client.rest().await;
        assert_eq!(code, Some(1000));
        assert!(found.len() > 60 && found.len() < expected.len(), "{}", found.len());
        let mut expected = expected.iter();
        assert!(found.iter().all(|found| expected.any(|expected| expected == found)));
    }
    let report = running.report().await;
    let told: Vec<_> = report.faults.iter().map(ToString::to_string).collect();
    let [place, cost] = &told[..] else { panic!("{told:#?}") };
    assert!(place.contains("bytes left out, up to byte"), "{place}");
    assert!(cost.starts_with("lost of a (audit): frames "), "{cost}");
}

#[tokio::test]
async fn a_capture_of_which_nothing_is_left_is_not_served() {
    let fixture = Fixture::of(30);
    let whole = std::fs::read(&fixture.path).unwrap();
    // Behind what it says of itself, within the first chunk.
    std::fs::write(&fixture.path, &whole[..1500]).unwrap();
    let error = Server::start(fixture.options()).await.err().unwrap();
    assert!(error.is_damage() && error.hint().is_some(), "{error}");
}

/// The command with these arguments, and its ready line.
fn command(fixture: &Fixture, arguments: &[&str]) -> (Child, String) {
    replay(Command::new(env!("CARGO_BIN_EXE_centralcap")), fixture, arguments)
}

/// The same, started by something else perhaps.
fn replay(mut command: Command, fixture: &Fixture, arguments: &[&str]) -> (Child, String) {
    let mut child = command
        .arg("replay")
        .arg(&fixture.path)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
    (child, ready)
}

#[tokio::test]
async fn who_breaks_the_protocol_has_not_had_all() {
    let fixture = Fixture::of(30);
    let options = Options { speed: Speed::ORIGINAL, ..fixture.options() };
    let running = Running::start(options).await;
    let mut client = running.client("audit").await;
    // A frame of a client that is not masked, RFC 6455, section 5.1.
    client.send_bytes(&[0x82, 1, 0]).await;
    assert_eq!(client.rest().await.1, Some(1002));
    let report = running.report().await;
    let served = the_one(&report);
    assert_eq!(served.ending.word(), "broken");
    assert_eq!(served.close, Some(Close { by: End::Server, code: Some(1002), answered: false }));
    assert_eq!((report.lossy, report.outcome()), (1, Outcome::Lossy));
}

#[tokio::test]
async fn a_run_that_never_began_says_whom_it_has_waited_for() {
    let fixture = Fixture::of(30);
    let timeout = Some(Duration::from_millis(300));
    let options =
        Options { wait_clients: 3, wait_topics: true, timeout, once: true, ..fixture.options() };
    let running = Running::start(options).await;
    let mut client = running.client("audit").await;
    client.rest().await;
    let checks = running.report().await.checks();
    let problem = checks.iter().find_map(|check| check.problem.as_ref()).unwrap();
    let expected = "waiting for clients to begin with: 1 of 3 clients, nobody of monitoring, \
                    nobody of security";
    assert!(problem.ends_with(expected), "{problem}");
}

#[test]
fn a_ready_line_that_nobody_reads_changes_nothing() {
    let fixture = Fixture::of(30);
    let (unread, stdout) = std::io::pipe().unwrap();
    drop(unread);
    let output = Command::new(env!("CARGO_BIN_EXE_centralcap"))
        .arg("replay")
        .arg(&fixture.path)
        .args(["--expect", "audit>=1", "--timeout", "100ms"])
        .stdout(stdout)
        .output()
        .unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("found no client for it"), "{words}");
}

/// Its exit code, and what it said on stderr.
fn ended(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

async fn client_of(ready: &str, topic: &str) -> Client {
    let ready: serde_json::Value = serde_json::from_str(ready).unwrap();
    let ca_pem = ready["ca"].as_str().map(|path| std::fs::read_to_string(path).unwrap());
    let address = ready["hostname"].as_str().unwrap().parse().unwrap();
    Client::subscribe(address, ca_pem.as_deref(), ("synthetic-key", topic)).await.unwrap()
}

#[tokio::test]
async fn the_ready_line_says_all_that_a_client_needs() {
    let fixture = Fixture::of(30);
    let ready_file = fixture.path.with_file_name("ready.json");
    std::fs::write(&ready_file, "of an earlier run").unwrap();
    let file = ready_file.to_str().unwrap();
    let (child, ready) = command(&fixture, &["--once", "--speed", "max", "--ready-file", file]);
    assert_eq!(std::fs::read_to_string(&ready_file).unwrap(), ready);
    let line: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let names: Vec<_> = line.as_object().unwrap().keys().collect();
    assert_eq!(names, ["event", "url", "hostname", "ca", "topics"]);
    assert_eq!(line["event"], "ready");
    let url = format!("wss://{}/streaming/api", line["hostname"].as_str().unwrap());
    assert_eq!(line["url"], url);
    assert_eq!(line["topics"], serde_json::json!(["audit", "monitoring", "security"]));

    let mut client = client_of(&ready, "audit").await;
    assert_eq!(client.rest().await, (fixture.frames(&["a"], "audit"), Some(1000)));
    let (code, words) = ended(child);
    assert_eq!(code, Some(0), "{words}");
    assert!(words.starts_with("1 client served: 10 frames"), "{words}");
    assert!(!Path::new(line["ca"].as_str().unwrap()).exists());
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_is_a_normal_end() {
    let fixture = Fixture::of(30);
    for signal in ["-INT", "-TERM"] {
        let ca_file = fixture.path.with_file_name("ca.pem");
        let (child, ready) = command(&fixture, &["--ca-out", ca_file.to_str().unwrap()]);
        let mut client = client_of(&ready, "security").await;
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert_eq!(client.rest().await, (vec![], Some(1001)));
        let (code, words) = ended(child);
        assert_eq!(code, Some(0), "{words}");
        assert!(ca_file.exists(), "a file that was asked for is kept");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_closed_terminal_is_a_normal_end_unless_it_is_to_be_outlived() {
    let fixture = Fixture::of(30);
    let (json, _) = reports(&fixture);
    let arguments = ["--plain", "--report", json.to_str().unwrap()];
    let signal = |signal: &str, child: &Child| {
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    };
    let (child, ready) = command(&fixture, &arguments);
    let mut client = client_of(&ready, "security").await;
    signal("-HUP", &child);
    assert_eq!(client.rest().await, (vec![], Some(1001)));
    let (code, words) = ended(child);
    assert_eq!((code, json.exists()), (Some(0), true), "{words}");

    // Nothing of it is a terminal, so that is all that nohup does.
    let mut nohup = Command::new("nohup");
    nohup.arg(env!("CARGO_BIN_EXE_centralcap")).stdin(Stdio::null());
    let (child, ready) = replay(nohup, &fixture, &arguments);
    let mut client = client_of(&ready, "audit").await;
    signal("-HUP", &child);
    assert_eq!(client.messages(10).await, fixture.frames(&["a"], "audit"));
    client_of(&ready, "security").await;
    signal("-TERM", &child);
    assert_eq!(client.rest().await, (vec![], Some(1001)));
    assert_eq!(ended(child).0, Some(0));
}

#[tokio::test]
async fn a_file_that_is_given_twice_is_played_once_and_named() {
    let fixture = Fixture::of(30);
    let twice = fixture.path.to_str().unwrap();
    let (child, ready) = command(&fixture, &[twice, "--once", "--speed", "max", "--plain"]);
    let frames = client_of(&ready, "audit").await.rest().await;
    assert_eq!(frames, (fixture.frames(&["a"], "audit"), Some(1000)));
    let (code, words) = ended(child);
    assert_eq!(code, Some(0), "{words}");
    let said = format!("warning: given twice, and read once: {twice}\n");
    assert!(words.starts_with(&said), "{words}");
}

#[tokio::test]
async fn damage_is_named_and_changes_the_exit_code() {
    let fixture = Fixture::from(noise());
    flip_a_bit(&fixture.path, 30);
    flip_a_bit(&fixture.path, 70);
    let (child, ready) = command(&fixture, &["--once", "--speed", "max", "--plain"]);
    client_of(&ready, "audit").await.rest().await;
    let (code, words) = ended(child);
    assert_eq!(code, Some(3), "{words}");
    assert_eq!(words.matches("damaged capture").count(), 2, "{words}");
    assert_eq!(words.matches("hint: what comes before").count(), 1, "the same twice: {words}");
}

#[tokio::test]
async fn a_selection_of_no_frame_is_named() {
    let fixture = Fixture::of(30);
    for (from, is_empty) in [("+0s", false), ("+1h", true)] {
        let options = ["--once", "--speed", "max", "--plain", "--from", from];
        let (child, ready) = command(&fixture, &options);
        // Whose topic has no frame at all, selected or not.
        assert_eq!(client_of(&ready, "security").await.rest().await, (vec![], Some(1000)));
        let (code, words) = ended(child);
        assert_eq!(code, Some(0), "{words}");
        assert_eq!(words.contains("no frame is selected"), is_empty, "{words}");
    }
}

#[tokio::test]
async fn a_selection_that_can_have_no_frame_is_named_before_anybody_comes() {
    let fixture = Fixture::of(30);
    let options = ["--from", "+2s", "--to", "+1s"];
    let (child, _) = command(&fixture, &options);
    let stopped = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(stopped.success());
    let (code, words) = ended(child);
    assert_eq!(code, Some(0), "{words}");
    assert_eq!(
        words.matches("no frame is selected: --to is not after --from").count(),
        1,
        "{words}"
    );
}

/// The reports of a command: JSON, and JUnit's XML.
fn reports(fixture: &Fixture) -> (PathBuf, PathBuf) {
    (fixture.path.with_file_name("report.json"), fixture.path.with_file_name("report.xml"))
}

#[tokio::test]
async fn what_was_asked_for_and_met_is_a_success() {
    let fixture = Fixture::of(30);
    let (json, junit) = reports(&fixture);
    let mut arguments = vec!["--once", "--expect", "audit>=10", "--expect", "security>=0"];
    arguments.extend(["--max-lateness", "1h", "--timeout", "1m"]);
    arguments.extend(["--report", json.to_str().unwrap()]);
    arguments.extend(["--report-junit", junit.to_str().unwrap()]);
    let (child, ready) = command(&fixture, &arguments);
    client_of(&ready, "audit").await.rest().await;
    let (code, words) = ended(child);
    assert_eq!(code, Some(0), "{words}");

    let report = std::fs::read_to_string(json).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["outcome"], "done");
    let names = report["checks"].as_array().unwrap().iter().map(|check| &check["name"]);
    let expected = ["capture", "clients", "lateness", "audit>=10", "security>=0"];
    assert!(names.eq(expected), "{report}");
    let client = &report["clients"][0];
    assert_eq!((&client["topic"], &client["frames"]), (&"audit".into(), &10.into()));
    assert_eq!(client["ending"]["kind"], "played");
    assert_eq!(client["close"]["code"], 1000);
    let sent = &client["subscriptions"][0];
    assert!(sent["lateness"]["p99"].as_f64() <= sent["lateness"]["max"].as_f64());
    let span = sent["last"]["due"].as_f64().unwrap() - sent["first"]["due"].as_f64().unwrap();
    assert!((span - 0.27).abs() < 1e-6, "{sent}");
    let junit = std::fs::read_to_string(junit).unwrap();
    assert!(junit.contains(r#"tests="6" failures="0""#), "{junit}");
}

#[tokio::test]
async fn a_client_that_never_came_is_a_failure() {
    let fixture = Fixture::of(30);
    let (json, junit) = reports(&fixture);
    for path in [&json, &junit] {
        std::fs::write(path, "of an earlier run").unwrap();
    }
    let mut arguments = vec!["--once", "--timeout", "100ms", "--expect", "audit>=1"];
    arguments.extend(["--report", json.to_str().unwrap()]);
    arguments.extend(["--report-junit", junit.to_str().unwrap()]);
    let (child, _) = command(&fixture, &arguments);
    let (code, words) = ended(child);
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("found it still open, and no client that ever came"), "{words}");
    assert!(words.contains("expected at least 1 frame of audit, found no client"), "{words}");
    let report = std::fs::read_to_string(json).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["outcome"], "failed");
    let junit = std::fs::read_to_string(junit).unwrap();
    assert!(junit.contains(r#"tests="4" failures="2""#), "{junit}");
}

#[cfg(target_os = "linux")]
#[test]
fn what_came_of_it_is_said_though_a_report_could_not_be_written() {
    let fixture = Fixture::of(30);
    let (_, junit) = reports(&fixture);
    let options = ["--expect", "audit>=1", "--report", "/dev/full", "--report-junit"];
    let (child, _) = command(&fixture, &[&options[..], &[junit.to_str().unwrap()]].concat());
    let stopped = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(stopped.success());
    let (code, words) = ended(child);
    assert_eq!(code, Some(1), "{words}");
    for said in ["0 clients served", "found no client for it", "cannot write /dev/full"] {
        assert!(words.contains(said), "{words}");
    }
    assert!(std::fs::read_to_string(junit).unwrap().contains("found no client for it"));
}

#[tokio::test]
async fn what_is_too_late_changes_the_exit_code() {
    let fixture = Fixture::of(30);
    // Nothing leaves at the very moment at which it is due.
    let (child, ready) = command(&fixture, &["--once", "--max-lateness", "0s"]);
    client_of(&ready, "audit").await.rest().await;
    let (code, words) = ended(child);
    assert_eq!(code, Some(3), "{words}");
    assert!(words.contains("expected no frame more than 0ns late, found "), "{words}");

    // Where no frame is due at any time, none is late, and that would say nothing.
    let ran = alone(&fixture.path, &["--max-lateness", "1s", "--speed", "max"]);
    let expected = "expected a speed for --max-lateness, found max";
    assert!(ran.code == 2 && ran.stderr.contains(expected), "{ran:?}");
    let arguments = ["--once", "--max-lateness", "1h", "--speed", "max", "--pps", "1000"];
    let (child, ready) = command(&fixture, &arguments);
    client_of(&ready, "audit").await.rest().await;
    assert_eq!(ended(child).0, Some(0));
}

/// What is written can be read by other users: clients may be some.
#[cfg(unix)]
#[tokio::test]
async fn files_for_others_follow_the_umask() {
    use std::os::unix::fs::PermissionsExt;

    let fixture = Fixture::of(3);
    let names = ["plain", "ready", "ca", "report", "junit"];
    let [plain, ready_file, ca, report, junit] =
        names.map(|name| fixture.path.with_file_name(name));
    std::fs::write(&plain, "").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    let arguments = [
        ("--ready-file", &ready_file),
        ("--ca-out", &ca),
        ("--report", &report),
        ("--report-junit", &junit),
    ];
    let arguments = arguments.iter().flat_map(|(option, path)| [*option, path.to_str().unwrap()]);
    let arguments: Vec<_> = arguments.chain(["--once", "--speed", "max"]).collect();
    let (child, ready) = command(&fixture, &arguments);
    client_of(&ready, "audit").await.rest().await;
    assert_eq!(ended(child).0, Some(0));
    for path in [&ready_file, &ca, &report, &junit] {
        assert_eq!(mode(path), mode(&plain), "{}", path.display());
    }
}

#[test]
fn a_report_that_cannot_be_written_is_told_at_once() {
    let fixture = Fixture::of(3);
    let nowhere = fixture.path.with_file_name("nowhere").join("report.json");
    let (child, ready) = command(&fixture, &["--report", nowhere.to_str().unwrap()]);
    let (code, words) = ended(child);
    assert_eq!((code, ready.as_str()), (Some(1), ""), "{words}");
    assert!(words.contains("cannot write "), "{words}");
}

#[test]
fn wrong_usage_is_told_before_anything_is_served() {
    let fixture = Fixture::of(3);
    for arguments in [
        &["--listen", "somewhere"][..],
        &["--speed", "0"],
        &["--loop", "0"],
        &["--pps", "0"],
        &["--expect", "audit"],
        &["--expect", "presence>=1"],
        &["--burst", "10"],
        &["--pps", "10", "--burst", "0"],
        &["--once", "--loop", "forever"],
        &["--wait-clients", "4097"],
        &["--cert", "chain.pem"],
        &["--plain", "--ca-out", "ca.pem"],
    ] {
        let (child, ready) = command(&fixture, arguments);
        assert_eq!((ended(child).0, ready.as_str()), (Some(2), ""), "{arguments:?}");
    }
}

/// A replay that nobody comes to, and that ends by itself.
fn alone(capture: &Path, arguments: &[&str]) -> Ran {
    let common = ["replay", capture.to_str().unwrap(), "--once", "--timeout", "10ms"];
    centralcap(common.iter().chain(arguments))
}

/// Files beside the capture, by name: what is in them, and what they are called.
fn files<const N: usize>(fixture: &Fixture, files: [(&str, &str); N]) -> [String; N] {
    files.map(|(name, text)| {
        let path = fixture.path.with_file_name(name);
        std::fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    })
}

#[test]
fn what_is_read_is_never_written_over() {
    const OUTPUTS: [&str; 4] = ["--report", "--report-junit", "--ready-file", "--fault-log"];
    let fixture = Fixture::of(3);
    let [accounts, rules, pem] = files(&fixture, [("a.json", "{}"), ("r.toml", ""), ("c.pem", "")]);
    let hard = fixture.path.with_file_name("hard.json");
    std::fs::hard_link(&fixture.path, &hard).unwrap();
    let folder = fixture.path.parent().unwrap();
    // The same by another name.
    let around = folder.join("..").join(folder.file_name().unwrap()).join("feed.mcap");
    let before: Vec<_> = names_in(folder)
        .into_iter()
        .map(|name| std::fs::read(folder.join(name)).unwrap())
        .collect();
    let own = fixture.path.to_str().unwrap();
    for output in OUTPUTS {
        for (capture, input, file, options) in [
            (&*fixture.path, "the capture", own, &[][..]),
            (&fixture.path, "the capture", hard.to_str().unwrap(), &[]),
            (folder, "the capture", around.to_str().unwrap(), &[]),
            (&fixture.path, "--accounts", &accounts, &["--accounts", &accounts]),
            (&fixture.path, "--faults", &rules, &["--faults", &rules]),
            (&fixture.path, "--key", &pem, &["--cert", "other.pem", "--key", &pem]),
            (&fixture.path, "--cert", &pem, &["--cert", &pem, "--key", "other.pem"]),
        ] {
            let ran = alone(capture, &[&[output, file], options].concat());
            let expected = format!("expected another file for {output} than for {input}, found ");
            assert!(ran.code == 2 && ran.stderr.contains(&expected), "{ran:?}");
        }
    }
    let ran = centralcap(["replay", own, "--ca-out", own, "--once", "--timeout", "10ms"]);
    assert!(ran.code == 2 && ran.stderr.contains("--ca-out than for the capture"), "{ran:?}");
    let after: Vec<_> = names_in(folder)
        .into_iter()
        .map(|name| std::fs::read(folder.join(name)).unwrap())
        .collect();
    assert!(before == after, "{:?}", names_in(folder));
}

#[test]
fn no_two_outputs_are_one_file_and_none_is_a_capture() {
    let fixture = Fixture::of(3);
    let [report] = files(&fixture, [("r.json", "of an earlier run")]);
    let new = fixture.path.with_file_name("new").into_os_string().into_string().unwrap();
    let capture = fixture.path.with_file_name("new.mcap").into_os_string().into_string().unwrap();
    for (arguments, words) in [
        (["--report", &report, "--report-junit", &report], "--report-junit than for --report"),
        (["--ready-file", &new, "--report", &new], "--ready-file than for --report"),
        (
            ["--report", &report, "--ready-file", &capture],
            "--ready-file that is not one of a capture",
        ),
    ] {
        let ran = alone(&fixture.path, &arguments);
        assert!(ran.code == 2 && ran.stderr.contains(words), "{ran:?}");
        assert_eq!(std::fs::read_to_string(&report).unwrap(), "of an earlier run");
        assert_eq!(names_in(fixture.path.parent().unwrap()), ["feed.mcap", "r.json"]);
    }
}

#[test]
fn a_report_comes_behind_the_ready_line_on_stdout_and_nothing_else_does() {
    let fixture = Fixture::of(3);
    let behind = |option| {
        let ran = alone(&fixture.path, &[option, "-"]);
        assert_eq!(ran.code, 1, "nobody came: {ran:?}");
        let (ready, report) = ran.stdout.split_once('\n').unwrap();
        assert!(ready.starts_with(r#"{"event":"ready""#), "{ran:?}");
        report.to_owned()
    };
    let report: serde_json::Value = serde_json::from_str(&behind("--report")).unwrap();
    assert_eq!(report["outcome"], "failed");
    assert!(behind("--report-junit").starts_with("<?xml"));

    let mut refused =
        vec![(vec!["--report", "-", "--report-junit", "-"], "--report-junit than for --report")];
    for (option, words) in [
        ("--ready-file", "a file for --ready-file, found -"),
        ("--ca-out", "a file for --ca-out, found -"),
        ("--fault-log", "a file for --fault-log, found -"),
    ] {
        refused.push((vec![option, "-"], words));
    }
    for (arguments, words) in refused {
        let own = ["replay", fixture.path.to_str().unwrap(), "--timeout", "10ms"];
        let ran = centralcap(own.iter().chain(&arguments));
        assert!(ran.code == 2 && ran.stderr.contains(words), "{ran:?}");
        assert_eq!(ran.stdout, "");
    }
    assert!(!Path::new("-").exists());
}

#[test]
fn nothing_is_written_over_a_log_that_is_repeated() {
    let fixture = Fixture::of(3);
    let log = fixture.path.with_file_name("log").into_os_string().into_string().unwrap();
    let ran = alone(&fixture.path, &["--scenario", "malformed", "--fault-log", &log]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let first = std::fs::read_to_string(&log).unwrap();
    for output in ["--fault-log", "--report"] {
        let ran = alone(&fixture.path, &["--faults", &log, output, &log]);
        assert!(ran.code == 2 && ran.stderr.contains(output), "{ran:?}");
    }
    assert_eq!(std::fs::read_to_string(&log).unwrap(), first);
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_written_into_and_a_link_stays_one() {
    use std::os::unix::fs::{FileTypeExt, symlink};

    let fixture = Fixture::of(3);
    let beside = |name: &str| fixture.path.with_file_name(name);
    let pipe = beside("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read_to_string(pipe).unwrap()
    });
    std::fs::create_dir(beside("folder")).unwrap();
    std::fs::write(beside("folder/report.json"), "of an earlier run").unwrap();
    symlink("folder/report.json", beside("report.json")).unwrap();
    symlink("to-come.xml", beside("report.xml")).unwrap();
    let outputs =
        [("--ready-file", "pipe"), ("--report", "report.json"), ("--report-junit", "report.xml")];
    let outputs =
        outputs.map(|(option, name)| [option.to_owned(), beside(name).display().to_string()]);
    let outputs = outputs.concat();
    let ran = alone(&fixture.path, &outputs.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(ran.code, 1, "{ran:?}");

    assert!(pipe.metadata().unwrap().file_type().is_fifo());
    assert_eq!(reader.join().unwrap(), ran.stdout);
    assert!(beside("report.json").is_symlink() && beside("report.xml").is_symlink());
    let report = std::fs::read_to_string(beside("folder/report.json")).unwrap();
    assert!(report.contains(r#""outcome": "failed""#), "{report}");
    assert!(std::fs::read_to_string(beside("to-come.xml")).unwrap().contains("<testsuite"));
    assert_eq!(names_in(&beside("folder")), ["report.json"]);
    // Two of them may go to what keeps nothing.
    let ran = alone(&fixture.path, &["--report", "/dev/null", "--report-junit", "/dev/null"]);
    assert!(ran.code == 1 && ran.stderr.contains("no client that ever came"), "{ran:?}");
    assert!(Path::new("/dev/null").metadata().unwrap().file_type().is_char_device());
}
