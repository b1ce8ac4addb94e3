//! Faults on the wire: a client meets each as what it claims to be.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, ErrorKind, Read},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use centralcap::{
    capture::Capture,
    fault::{Faults, SCENARIOS},
    net::{server::Ended, ws::Incoming},
    pace::Speed,
    replay::{Client as Served, Close, End, Ending, News, Options, Report, Security, Server},
};
use support::{
    capture::{Entries, message, subscription},
    client::{Answer, Client, ask, connect, try_connect},
    command::centralcap,
    wait::wait_for,
};
use tokio::{
    io::AsyncReadExt,
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::{Instant, timeout},
};

/// Long enough for anything that would come to come.
const WHILE: Duration = Duration::from_millis(200);

/// 20 frames of the topic `audit`, and 20 of `presence`.
struct Fixture {
    folder: tempfile::TempDir,
    entries: Entries,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut entries = Entries::new();
        let owners = ["audit", "presence"].map(|topic| subscription("a", topic));
        for number in 0..40 {
            let owner = &owners[number as usize % 2];
            entries.frame(Duration::ZERO, owner, message(&owner.topic, number, 100));
        }
        entries.write(&folder.path().join("feed.mcap"));
        Self { folder, entries }
    }

    fn frames(&self) -> Vec<Bytes> {
        let own = self.entries.made.iter().filter(|entry| entry.subscription.topic == "audit");
        own.filter_map(|entry| Some(entry.frame()?.data.clone())).collect()
    }

    fn options(&self, rules: &str, security: Security) -> Options {
        let capture = Capture::open(&[self.folder.path().join("feed.mcap")]).unwrap();
        let faults = Some(Faults::parse(rules, "faults.toml", Some(5)).unwrap());
        Options { speed: Speed::MAX, faults, security, ..Options::new(capture) }
    }
}

/// A server under faults.
struct Running {
    address: SocketAddr,
    ca_pem: Option<String>,
    stop: oneshot::Sender<()>,
    report: JoinHandle<Report>,
    /// Every fault, as a line of JSON.
    log: Arc<Mutex<Vec<String>>>,
    /// A fault strikes.
    struck: Arc<Notify>,
    /// A client is done.
    left: Arc<Notify>,
}

impl Running {
    async fn start(options: Options) -> Self {
        let server = Server::start(options).await.unwrap();
        let (address, ca_pem) = (server.address(), server.ca_pem().map(str::to_owned));
        let (stop, stopped) = oneshot::channel::<()>();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (struck, left) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (noted, strikes, done) = (Arc::clone(&log), Arc::clone(&struck), Arc::clone(&left));
        let tell = move |news: News<'_>| match news {
            News::Spoilt { applied, .. } => {
                noted.lock().unwrap().push(applied.to_string());
                strikes.notify_one();
            }
            News::Left(_) => done.notify_one(),
            _ => {}
        };
        let until = async {
            let _ = stopped.await;
        };
        let report = tokio::spawn(server.run_telling(until, tell));
        Self { address, ca_pem, stop, report, log, struck, left }
    }

    async fn client(&self) -> Client {
        self.subscribe("audit").await.unwrap()
    }

    async fn subscribe(&self, topic: &str) -> Result<Client, Answer> {
        Client::subscribe(self.address, self.ca_pem.as_deref(), ("synthetic-key", topic)).await
    }

    /// Ends it.
    async fn report(self) -> Report {
        let _ = self.stop.send(());
        timeout(Duration::from_secs(20), self.report).await.expect("an end in time").unwrap()
    }
}

/// The same with and without TLS.
async fn both(rules: &str, test: impl AsyncFn(&Fixture, &Running)) -> [Report; 2] {
    let fixture = Fixture::new();
    let mut reports = Vec::new();
    for security in [Security::Plain, Security::Ephemeral] {
        let running = Running::start(fixture.options(rules, security)).await;
        test(&fixture, &running).await;
        reports.push(running.report().await);
    }
    reports.try_into().unwrap()
}

/// A fault that strikes the third frame of each client.
fn third(fault: &str) -> String {
    format!("[[rule]]\nwhen = {{ nth = 3 }}\ndo = {fault}")
}

fn the_one(report: &Report) -> &Served {
    assert_eq!(report.clients.len(), 1, "{report:?}");
    &report.clients[0]
}

/// The next WebSocket frames as they stand on the wire: the first byte and the payload of each.
async fn frames(client: &mut Client, count: usize) -> Vec<(u8, Bytes)> {
    let mut frames = Vec::new();
    for _ in 0..count {
        let head = client.bytes(2).await;
        // A server does not mask, and nothing here is larger.
        assert!(head[1] < 126, "{head:?}");
        frames.push((head[0], client.bytes(usize::from(head[1])).await.into()));
    }
    frames
}

/// Frames of the feed that nothing was done to.
fn whole(messages: &[Bytes]) -> Vec<(u8, Bytes)> {
    messages.iter().map(|message| (0x82, message.clone())).collect()
}

#[tokio::test]
async fn a_close_is_that_close() {
    for (fault, code, said) in [
        ("{ close = { code = 1001, reason = \"going away\" } }", Some(1001), "going away"),
        ("{ close = { code = 1008 } }", Some(1008), ""),
        ("{ close = { code = 1011 } }", Some(1011), ""),
        ("{ close = { code = 4001, reason = \"own\" } }", Some(4001), "own"),
        ("{ close = { code = 1006 } }", Some(1006), ""),
        ("{ close = { code = 999 } }", Some(999), ""),
        ("\"close\"", None, ""),
    ] {
        let reports = both(&third(fault), async |fixture, running| {
            let mut client = running.client().await;
            // As it stands on the wire: a client's own code might not let a wrong one pass.
            assert_eq!(frames(&mut client, 2).await, whole(&fixture.frames()[..2]));
            let mut payload = code.map_or(Vec::new(), |code: u16| code.to_be_bytes().to_vec());
            payload.extend(said.as_bytes());
            assert_eq!(frames(&mut client, 1).await, [(0x88, payload.into())], "{fault}");
            client.socket.send_close(1000, "");
            client.write().await;
            assert_eq!(client.all_bytes().await.0, b"");
        })
        .await;
        for report in reports {
            let client = the_one(&report);
            assert_eq!(client.ending, Ending::Spoilt("close"));
            assert_eq!(client.close, Some(Close { by: End::Server, code, answered: true }));
            assert_eq!((client.frames, report.lossy), (2, 0));
            assert_eq!(client.faults, BTreeMap::from([("close", 1)]));
        }
    }
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    let reports = both(&third("\"reset\""), async |fixture, running| {
        let mut client = running.client().await;
        assert_eq!(client.messages(2).await, fixture.frames()[..2]);
        let error = client.try_next().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    })
    .await;
    for report in reports {
        assert_eq!(the_one(&report).ending, Ending::Spoilt("reset"));
        assert_eq!(the_one(&report).close, None);
    }
}

#[tokio::test]
async fn a_frame_is_cut_in_half() {
    both(&third("{ reset = { part = 0.5 } }"), async |fixture, running| {
        let mut client = running.client().await;
        assert_eq!(frames(&mut client, 2).await, whole(&fixture.frames()[..2]));
        let whole = &fixture.frames()[2];
        // Of all bytes, with the two of the header.
        let half = whole.len() / 2 + 1;
        let cut = client.bytes(half).await;
        assert_eq!((&cut[..2], &cut[2..]), (&[0x82, whole.len() as u8][..], &whole[..half - 2]));
        let (more, end) = client.all_bytes().await;
        assert_eq!((more.len(), end.unwrap_err().kind()), (0, ErrorKind::ConnectionReset));
    })
    .await;
}

#[tokio::test]
async fn a_half_open_connection_says_nothing_and_stays() {
    let reports = both(&third("\"half-open\""), async |_, running| {
        let mut client = running.client().await;
        client.messages(2).await;
        client.socket.send_ping(Bytes::from_static(b"anybody?"));
        client.write().await;
        assert!(timeout(WHILE, client.next()).await.is_err(), "something was said");
        // It can be written to: nothing has closed it.
        client.socket.send_ping(Bytes::from_static(b"nobody?"));
        client.write().await;
        assert!(timeout(WHILE, client.next()).await.is_err(), "something was said");
        drop(client);
        // That the client has gone is noticed without reading what it had to say.
        running.left.notified().await;
    })
    .await;
    for report in reports {
        assert_eq!(the_one(&report).ending, Ending::Spoilt("half-open"));
    }

    // And until then, or for so long.
    both(&third("{ half-open = { for = \"100ms\" } }"), async |_, running| {
        let mut client = running.client().await;
        client.messages(2).await;
        let since = Instant::now();
        assert_eq!(client.try_next().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(since.elapsed() >= Duration::from_millis(80), "{:?}", since.elapsed());
    })
    .await;
}

#[tokio::test]
async fn no_pong_is_none_and_frames_go_on() {
    let rules = "[[rule]]\nwhen = { nth = 1 }\ndo = \"no-pong\"";
    both(rules, async |fixture, running| {
        let mut client = running.client().await;
        assert_eq!(client.messages(20).await, fixture.frames());
        client.socket.send_ping(Bytes::from_static(b"17"));
        client.write().await;
        assert!(timeout(WHILE, client.next()).await.is_err());
        // It listens all the same.
        client.socket.send_close(1000, "");
        client.write().await;
        let (bytes, _) = client.all_bytes().await;
        assert_eq!(bytes, [0x88, 2, 0x03, 0xe8], "the close's answer, and no pong");
    })
    .await;
}

#[tokio::test]
async fn messages_have_the_form_that_was_asked_for() {
    let rules = [
        ("1", "{ fragment = { into = 3 } }"),
        ("2", "{ text = { words = \"maintenance\" } }"),
        ("3", "{ ping-flood = { count = 30 } }"),
        ("4", "{ truncate = { keep = 7 } }"),
        ("5", "{ duplicate = { times = 2 } }"),
        ("6", "\"drop\""),
        ("7", "{ reorder = { within = 1 } }"),
        ("9", "{ text = { content = \"bytes\" } }"),
        ("10", "{ close = { code = 1000 } }"),
    ];
    let rules =
        rules.map(|(nth, fault)| format!("[[rule]]\nwhen = {{ nth = {nth} }}\ndo = {fault}\n"));
    let reports = both(&rules.concat(), async |fixture, running| {
        let mut client = running.client().await;
        let found = frames(&mut client, 43).await;
        let all = fixture.frames();
        let third = all[0].len().div_ceil(3);
        let mut expected = vec![
            (0x02, all[0].slice(..third)),
            (0x00, all[0].slice(third..2 * third)),
            (0x80, all[0].slice(2 * third..)),
            (0x81, Bytes::from_static(b"maintenance")),
        ];
        expected.extend((1..=30).map(|number| (0x89, number.to_string().into())));
        expected.extend([(0x82, all[2].clone()), (0x82, all[3].slice(..7))]);
        expected.extend([4, 4, 4, 7, 6].map(|index| (0x82, all[index].clone())));
        expected.extend([(0x81, all[8].clone()), (0x88, Bytes::from_static(&[0x03, 0xe8]))]);
        assert_eq!(expected.len(), 43);
        assert_eq!(found, expected);
        client.close().await;
    })
    .await;
    for report in reports {
        let client = the_one(&report);
        // The message that comes three times counts as often, what is dropped does not.
        assert_eq!((client.frames, client.faults.len(), client.faults["drop"]), (10, 8, 1));
    }
}

#[tokio::test]
async fn slow_bytes_are_slow_and_whole() {
    let rules = third("{ slow = { bytes = 20, every = \"20ms\" } }");
    both(&rules, async |fixture, running| {
        let mut client = running.client().await;
        assert_eq!(frames(&mut client, 2).await, whole(&fixture.frames()[..2]));
        let started = Instant::now();
        let first = client.bytes(20).await;
        let rest = client.bytes(fixture.frames()[2].len() + 2 - 20).await;
        let took = started.elapsed();
        assert_eq!([&first[2..], &rest].concat(), fixture.frames()[2]);
        // Six lots with five times 20 ms between them, of which the first may be over.
        assert!(took >= Duration::from_millis(60), "{took:?}");
        assert_eq!(client.messages(17).await, fixture.frames()[3..]);
        client.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_frame_that_is_held_up_on_purpose_is_late() {
    let fixture = Fixture::new();
    let last = "[[rule]]\nwhen = { nth = 20 }\ndo = { delay = { by = \"400ms\" } }".to_owned();
    for rules in [
        third("{ delay = { by = \"400ms\" } }"),
        third("{ stall = { for = \"400ms\" } }"),
        // It is late itself, and not just what has to wait behind it.
        last,
    ] {
        let options = fixture.options(&rules, Security::Plain);
        let running = Running::start(Options { speed: Speed::ORIGINAL, ..options }).await;
        running.client().await.messages(20).await;
        let lateness = running.report().await.lateness.unwrap();
        assert!(lateness.max >= Duration::from_millis(400), "{rules}: {lateness:?}");
    }
}

#[tokio::test]
async fn a_moment_is_before_the_delay_between_two_rounds_or_behind_it() {
    let fixture = Fixture::new();
    let mut entries = Entries::new();
    let owners = ["audit", "audit", "presence"].map(|topic| subscription("a", topic));
    for (owner, millis) in owners.iter().zip([0, 1000, 1100]) {
        let data = message(&owner.topic, u32::try_from(millis).unwrap(), 100);
        entries.frame(Duration::from_millis(millis), owner, data);
    }
    let path = fixture.folder.path().join("rounds.mcap");
    entries.write(&path);
    let capture = Capture::open(&[path]).unwrap();
    let an_hour = Duration::from_secs(3600);
    // Behind the last frame of the client, and before that of another one, with which the round ends; and in the
    // middle of the second round.
    for (at, loop_delay, frames, least) in [
        ("1050ms", an_hour, 2, Duration::from_millis(525)),
        ("2s", Duration::from_secs(1), 3, Duration::from_secs(2)),
    ] {
        let rules = format!("[[rule]]\nwhen = {{ at = \"{at}\" }}\ndo = \"close\"");
        let (speed, rounds) = ("2".parse().unwrap(), "2".parse().unwrap());
        let options = fixture.options(&rules, Security::Plain);
        let options = Options { capture: capture.clone(), speed, rounds, loop_delay, ..options };
        let running = Running::start(options).await;
        let began = Instant::now();
        let mut client = running.client().await;
        client.messages(frames).await;
        running.struck.notified().await;
        assert!(began.elapsed() >= least, "{at}: {:?}", began.elapsed());
        assert_eq!(running.report().await.frames, frames as u64);
    }
}

#[tokio::test]
async fn what_is_held_up_when_the_client_says_goodbye_arrives_and_counts() {
    let rules = third("{ stall = { for = \"400ms\" } }");
    let reports = both(&rules, async |fixture, running| {
        let mut client = running.client().await;
        client.messages(2).await;
        running.struck.notified().await;
        client.socket.send_close(1000, "");
        client.write().await;
        assert_eq!(client.rest().await, (fixture.frames()[2..].to_vec(), Some(1000)));
    })
    .await;
    for report in reports {
        let served = the_one(&report);
        assert_eq!((served.frames, report.frames), (20, 20));
        assert_eq!(served.ending, Ending::Left(Ended::Closed { code: Some(1000) }));
    }
}

#[tokio::test]
async fn a_stall_answers_nothing_until_it_is_over_and_a_delay_does() {
    both(&third("{ stall = { for = \"1s\" } }"), async |fixture, running| {
        let mut client = running.client().await;
        let connected = Instant::now();
        assert_eq!(frames(&mut client, 2).await, whole(&fixture.frames()[..2]));
        running.struck.notified().await;
        client.socket.send_ping(Bytes::from_static(b"17"));
        client.write().await;
        assert!(timeout(WHILE, frames(&mut client, 1)).await.is_err(), "something was said");
        let mut rest = frames(&mut client, 19).await;
        assert!(connected.elapsed() >= Duration::from_millis(900), "{:?}", connected.elapsed());
        // The pong comes with what was held up, wherever.
        rest.retain(|frame| *frame != (0x8a, Bytes::from_static(b"17")));
        assert_eq!(rest, whole(&fixture.frames()[2..]));
        client.close().await;
    })
    .await;
    both(&third("{ delay = { by = \"400ms\" } }"), async |fixture, running| {
        let mut client = running.client().await;
        let connected = Instant::now();
        client.messages(2).await;
        client.socket.send_ping(Bytes::from_static(b"17"));
        client.write().await;
        assert_eq!(client.bytes(4).await, [0x8a, 2, b'1', b'7']);
        assert_eq!(client.messages(18).await, fixture.frames()[2..]);
        assert!(connected.elapsed() >= Duration::from_millis(350), "{:?}", connected.elapsed());
        client.close().await;
    })
    .await;
}

#[tokio::test]
async fn requests_are_answered_as_asked() {
    let rules = "
        [[rule]]
        when = { nth = 1 }
        do = { refuse = { status = 503, body = \"maintenance\\n\", headers = { Retry-After = \"7\" } } }
        [[rule]]
        when = { topic = \"audit\", nth = 2 }
        do = { refuse = { status = 401 } }
        [[rule]]
        when = { request = \"validate\", nth = 1 }
        do = { refuse = { status = 500, body = \"no\" } }
        [[rule]]
        when = { topic = \"audit\", nth = 3 }
        do = { raw-answer = { text = \"HTTP/1.1 2OO nonsense\\r\\n\" } }";
    let reports = both(rules, async |fixture, running| {
        let first = running.subscribe("audit").await.err().unwrap();
        assert_eq!((first.status, first.body.as_str()), (503, "maintenance\n"));
        assert!(first.head.contains("\r\nretry-after: 7\r\n"), "{}", first.head);
        // Each topic counts for itself.
        assert_eq!(running.subscribe("presence").await.err().unwrap().status, 503);
        assert_eq!(running.subscribe("audit").await.err().unwrap().status, 401);
        for (status, body) in [(500, "no"), (200, r#"{"token":"synthetic-key"}"#)] {
            let mut stream = connect(running.address, running.ca_pem.as_deref()).await;
            let path = "/streaming/token/validate";
            let (answer, _) = ask(&mut stream, path, &[("Authorization", "synthetic-key")]).await;
            assert_eq!((answer.status, answer.body.as_str()), (status, body));
        }
        let mut stream = connect(running.address, running.ca_pem.as_deref()).await;
        let request = b"GET /streaming/api HTTP/1.1\r\nHost: localhost\r\nTopic: audit\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, request).await.unwrap();
        let mut raw = Vec::new();
        stream.read_to_end(&mut raw).await.unwrap();
        assert_eq!(raw, b"HTTP/1.1 2OO nonsense\r\n");
        let mut client = running.client().await;
        assert_eq!(client.messages(20).await, fixture.frames());
        client.close().await;
        assert_eq!(running.log.lock().unwrap().len(), 5);
    })
    .await;
    for report in reports {
        assert_eq!(report.answered, BTreeMap::from([(200, 1), (401, 1), (500, 1), (503, 2)]));
        let closed = Ended::Closed { code: Some(1000) };
        assert_eq!(the_one(&report).ending, Ending::Left(closed));
    }
}

#[tokio::test]
async fn broken_tls_is_no_tls() {
    let rules = "
        [[rule]]
        when = { nth = 1 }
        do = \"refuse-tls\"
        [[rule]]
        when = { nth = 3 }
        do = { delay = { by = \"300ms\" } }
        [[rule]]
        when = { nth = 3 }
        do = \"break-tls\"";
    let fixture = Fixture::new();
    let running = Running::start(fixture.options(rules, Security::Ephemeral)).await;
    let (address, ca_pem) = (running.address, running.ca_pem.as_deref());
    let refused = try_connect(address, ca_pem).await.err().unwrap();
    // rustls says what it found, and tokio what kind of trouble that is.
    assert_eq!(refused.kind(), ErrorKind::InvalidData, "{refused}");
    let mut client = running.client().await;
    // What comes together with the noise is lost to a client that looks at all of it first.
    let mut messages = Vec::new();
    let broken = loop {
        match client.try_next().await {
            Ok(Some(Incoming::Binary(message))) => messages.push(message),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(messages.len() <= 2 && fixture.frames().starts_with(&messages), "{messages:?}");
    assert_eq!(broken.kind(), ErrorKind::InvalidData, "{broken}");
    drop(client);
    assert_eq!(the_one(&running.report().await).ending, Ending::Spoilt("break-tls"));

    // Without TLS the same bytes are no HTTP.
    let running = Running::start(fixture.options(rules, Security::Plain)).await;
    let mut stream = connect(running.address, None).await;
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut noise = Vec::new();
    stream.read_to_end(&mut noise).await.unwrap();
    assert!(noise.starts_with(b"this is neither"), "{noise:?}");
    running.report().await;
}

/// All faults of a run with several clients that come and go at the same time.
async fn log_of_a_crowd(rules: &str) -> Vec<String> {
    let fixture = Fixture::new();
    let options = fixture.options(rules, Security::Plain);
    let running = Running::start(options).await;
    let play = async |topic: &'static str| {
        // One after the other, so that each is who it is; those of the other topic come in between.
        for _ in 0..5 {
            let Ok(mut client) = running.subscribe(topic).await else { continue };
            let mut frames = 0;
            while frames < 20 {
                match client.try_next().await {
                    Ok(Some(Incoming::Binary(_))) => frames += 1,
                    Ok(Some(Incoming::Close { .. })) => {}
                    Ok(Some(Incoming::Text(_))) => panic!("there are no texts"),
                    Ok(None) | Err(_) => break,
                }
            }
        }
    };
    tokio::join!(play("audit"), play("presence"));
    let log = Arc::clone(&running.log);
    running.report().await;
    let mut log = log.lock().unwrap().clone();
    log.sort();
    log
}

#[tokio::test]
async fn the_same_seed_gives_the_same_log_whoever_is_served_first() {
    let rules = "
        [[rule]]
        when = { probability = 0.3 }
        do = { flip-bits = { count = 2 } }
        [[rule]]
        when = { probability = 0.2 }
        do = { fragment = { into = 2 } }
        [[rule]]
        when = { probability = 0.1 }
        do = { reset = { part = 0.5 } }
        [[rule]]
        when = { probability = 0.3 }
        do = { refuse = { status = 503 } }";
    let first = log_of_a_crowd(rules).await;
    assert!(first.len() > 10, "{first:?}");
    assert_eq!(log_of_a_crowd(rules).await, first);
}

#[tokio::test]
async fn with_once_whoever_was_cut_off_is_waited_for() {
    let fixture = Fixture::new();
    let rules = "[[rule]]\nwhen = { connection = 1, nth = 3 }\ndo = \"reset\"";
    let options = fixture.options(rules, Security::Plain);
    let running = Running::start(Options { once: true, ..options }).await;
    let mut client = running.client().await;
    client.messages(2).await;
    assert!(client.try_next().await.is_err());
    // Longer than the server waits for those who are in the middle of connecting.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let mut again = running.client().await;
    assert_eq!(again.rest().await, (fixture.frames(), Some(1000)));
    // It ends by itself.
    let report = timeout(Duration::from_secs(20), running.report).await.unwrap().unwrap();
    assert_eq!((report.served, report.lossy), (2, 0));
}

/// The command at work, and its ready line.
fn replay(fixture: &Fixture, arguments: &[&str]) -> (std::process::Child, serde_json::Value) {
    replay_of(&fixture.folder.path().join("feed.mcap"), arguments)
}

fn replay_of(capture: &Path, arguments: &[&str]) -> (std::process::Child, serde_json::Value) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"));
    command.arg("replay").arg(capture);
    command.args(["--plain", "--speed", "max"]).args(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, serde_json::from_str(&line).unwrap_or_default())
}

#[tokio::test]
async fn the_command_writes_a_log_from_which_a_run_is_repeated() {
    let fixture = Fixture::new();
    let logs = ["one.jsonl", "two.jsonl"].map(|name| fixture.folder.path().join(name));
    let [one, two] = logs.each_ref().map(|path| path.to_str().unwrap());
    for arguments in [
        &["--scenario", "malformed", "--seed", "77", "--once", "--fault-log", one][..],
        &["--faults", one, "--once", "--fault-log", two],
    ] {
        let (mut child, ready) = replay(&fixture, arguments);
        let address = ready["hostname"].as_str().unwrap().parse().unwrap();
        let ask = ("synthetic-key", "audit");
        let mut client = Client::subscribe(address, None, ask).await.unwrap();
        while client.next().await.is_some() {}
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    let [first, second] = logs.map(|path| std::fs::read_to_string(path).unwrap());
    assert_eq!(first, second);
    let lines: Vec<serde_json::Value> =
        first.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["event"], &lines[0]["seed"]), (&"faults".into(), &77.into()));
    assert!(lines.len() > 1, "{first}");
    assert!(lines[1..].iter().all(|line| line["event"] == "frame" && line["topic"] == "audit"));
}

#[cfg(unix)]
#[tokio::test]
async fn a_log_that_cannot_be_written_costs_no_report() {
    let fixture = Fixture::new();
    let beside = |name: &str| fixture.folder.path().join(name).to_str().unwrap().to_owned();
    let (log, report) = (beside("log"), beside("report.json"));
    assert!(Command::new("mkfifo").arg(&log).status().unwrap().success());
    let reader = std::thread::spawn({
        let log = log.clone();
        move || BufReader::new(std::fs::File::open(log).unwrap()).read_line(&mut String::new())
    });
    let options = ["--scenario", "malformed", "--seed", "77", "--once"];
    let (mut child, ready) =
        replay(&fixture, &[&options[..], &["--fault-log", &log, "--report", &report]].concat());
    // Nobody reads it any more.
    reader.join().unwrap().unwrap();
    let address = ready["hostname"].as_str().unwrap().parse().unwrap();
    let mut client = Client::subscribe(address, None, ("synthetic-key", "audit")).await.unwrap();
    while client.next().await.is_some() {}
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("1 client served") && said.contains("cannot write"), "{said}");
    let report = std::fs::read_to_string(report).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&report).is_ok(), "{report}");
}

#[test]
fn a_log_needs_no_rules_and_repeats_nothing_then() {
    let fixture = Fixture::new();
    let log = fixture.folder.path().join("log").to_str().unwrap().to_owned();
    for options in [["--fault-log", &log], ["--faults", &log]] {
        let (mut child, ready) = replay(&fixture, &options);
        assert!(ready["url"].is_string(), "{options:?}");
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    }
    let written = std::fs::read_to_string(&log).unwrap();
    assert_eq!(written, "{\"event\":\"faults\",\"seed\":1,\"rules\":\"\"}\n");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_condition_without_an_end_does_not_keep_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.toml");
    let endless = "[[rule]]\nwhen = { where = \"last(range(1e15)) > 0\" }\ndo = \"drop\"\n";
    std::fs::write(&rules, endless).unwrap();
    let campus = Path::new("fixtures/campus.mcap");
    let (mut child, ready) = replay_of(campus, &["--faults", rules.to_str().unwrap()]);
    let address = ready["hostname"].as_str().unwrap().parse().unwrap();
    let _client = Client::subscribe(address, None, ("synthetic-key", "audit")).await.unwrap();
    // Nothing but that takes it a second.
    let stat = format!("/proc/{}/stat", child.id());
    wait_for("endless work", String::new, || {
        let stat = std::fs::read_to_string(&stat).unwrap();
        let mut of_process = stat.rsplit_once(") ").unwrap().1.split(' ');
        of_process.nth(11).unwrap().parse::<u64>().unwrap() > 100
    });
    let process = child.id().to_string();
    assert!(Command::new("kill").arg(&process).status().unwrap().success());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("an end of all clients, found 1 still busy"), "{said}");
}

#[tokio::test]
async fn it_is_said_which_rules_were_never_applied() {
    let folder = tempfile::tempdir().unwrap();
    let beside = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (rules, report) = (beside("rules.toml"), beside("report.json"));
    // The second one is misspelled, the third would have to make a frame smaller, the last one is for somebody else.
    let text = "[[rule]]\nwhen = { nth = [2, 3] }\ndo = \"drop\"\n\
                [[rule]]\nwhen = { where = '.topc == \"audit\"' }\ndo = \"truncate\"\n\
                [[rule]]\nwhen = { nth = 1 }\ndo = { oversize = { size = 3 } }\n\
                [[rule]]\nwhen = { connection = 2 }\ndo = \"no-pong\"\n";
    std::fs::write(&rules, text).unwrap();
    let options = ["--faults", &rules, "--report", &report, "--once"];
    let (mut child, ready) = replay_of(Path::new("fixtures/campus.mcap"), &options);
    let address = ready["hostname"].as_str().unwrap().parse().unwrap();
    let mut client = Client::subscribe(address, None, ("synthetic-key", "audit")).await.unwrap();
    while client.next().await.is_some() {}
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    assert!(said.contains(", 2 faults applied\n"), "{said}");
    let unstruck = "rules that were never applied: 2 (truncate), 3 (oversize, which was left out once), \
                    4 (no-pong)\n";
    assert!(said.ends_with(unstruck), "{said}");
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
    assert_eq!(
        report["rules"],
        serde_json::json!([
            { "rule": 1, "fault": "drop", "applied": 2, "left_out": 0 },
            { "rule": 2, "fault": "truncate", "applied": 0, "left_out": 0 },
            { "rule": 3, "fault": "oversize", "applied": 0, "left_out": 1 },
            { "rule": 4, "fault": "no-pong", "applied": 0, "left_out": 0 },
        ])
    );
    assert_eq!(report["clients"][0]["faults"], serde_json::json!({ "drop": 2 }));

    // Where nobody came, that is all there is to say.
    let (mut child, _) = replay_of(Path::new("fixtures/campus.mcap"), &options);
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    said.clear();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "0 clients served: 0 frames, 0 B, 0 faults applied\n");
    child.wait().unwrap();
}

#[test]
fn the_command_lists_its_scenarios_and_refuses_what_makes_no_sense() {
    let listed = centralcap(["replay", "--list-scenarios"]);
    assert_eq!((listed.code, listed.stderr.as_str()), (0, ""));
    assert_eq!(listed.stdout.lines().count(), SCENARIOS.len());
    for (line, scenario) in listed.stdout.lines().zip(SCENARIOS) {
        let (name, description) = line.split_once("  ").unwrap();
        assert_eq!((name, description.trim()), (scenario.name, scenario.description()));
    }

    let fixture = Fixture::new();
    let rules = fixture.folder.path().join("rules.toml");
    std::fs::write(&rules, "[[rule]]\ndo = \"dorp\"\n").unwrap();
    let path = rules.to_str().unwrap();
    for (arguments, code, words) in [
        (&["--scenario", "sunshine"][..], 2, "expected a scenario (bad-tls, bursts"),
        (&["--seed", "3"], 2, "expected --faults or --scenario, found --seed alone"),
        (&["--faults", path, "--scenario", "malformed"], 2, "cannot be used with"),
        (&["--faults", path], 1, "as rule 1.do in line 2 of "),
        (&["--scenario", "malformed", "--fault-log", "/nonexistent/log"], 1, "cannot write"),
    ] {
        let (mut child, ready) = replay(&fixture, arguments);
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{arguments:?}: {said}");
        assert!(ready.is_null() && said.contains(words), "{arguments:?}: {said}");
    }
}
