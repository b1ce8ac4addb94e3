//! Keys that die while a feed is served: who is refused, who is closed, and that clients get over it.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use centralcap::{
    accounts::{self, Account},
    capture::Capture,
    entry::{Entry, What, session_event::Event},
    net::ws::Incoming,
    pace::Speed,
    protocol::Key,
    replay::{AtExpiry, Close, End, Ending, Expiry, Fate, Keys, Options, Report, Security, Server},
};
use support::{
    capture::{Entries, message, subscription},
    client::{Answer, Client, ask, connect},
    command::centralcap,
    wait::wait_for,
};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

const HOUR: Duration = Duration::from_secs(3600);

/// Frames of `audit` and `presence` of east, in turn, and of `audit` of west.
struct Fixture {
    folder: tempfile::TempDir,
    entries: Entries,
}

impl Fixture {
    /// So many frames, one after the other has gone by that time.
    fn new(count: u32, apart: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut entries = Entries::new();
        let owners = [("east-audit", "audit"), ("east-presence", "presence"), ("west", "audit")]
            .map(|(name, topic)| subscription(name, topic));
        for number in 0..count {
            let owner = &owners[number as usize % owners.len()];
            entries.frame(apart * number, owner, message(&owner.topic, number, 100));
        }
        entries.write(&folder.path().join("feed.mcap"));
        Self { folder, entries }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn frames(&self, name: &str) -> Vec<Bytes> {
        let own = self.entries.made.iter().filter(|entry| entry.subscription.name == name);
        own.filter_map(|entry| Some(entry.frame()?.data.clone())).collect()
    }

    /// A server without an end, for east and west.
    fn options(&self, expiry: Expiry) -> Options {
        let capture = Capture::open(&[self.path("feed.mcap")]).unwrap();
        let account = |name: &str, key: &str, topic: &str| Account {
            name: name.to_owned(),
            username: None,
            key: Key::new(key).unwrap(),
            topic: topic.to_owned(),
        };
        let accounts = vec![
            account("east-audit", "key-of-east", "audit"),
            account("east-presence", "key-of-east", "presence"),
            account("west", "key-of-west", "audit"),
        ];
        Options {
            speed: Speed::MAX,
            security: Security::Plain,
            accounts: Some(accounts),
            expiry,
            ..Options::new(capture)
        }
    }
}

/// A server that runs.
struct Running {
    address: SocketAddr,
    keys: Keys,
    stop: oneshot::Sender<()>,
    report: JoinHandle<Report>,
}

impl Running {
    async fn start(options: Options) -> Self {
        let server = Server::start(options).await.unwrap();
        let (address, keys) = (server.address(), server.keys().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let report = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { address, keys, stop, report }
    }

    async fn subscribe(&self, key: &str, topic: &str) -> Result<Client, Answer> {
        Client::subscribe(self.address, None, (key, topic)).await
    }

    /// The status of a subscription that is refused.
    async fn refused(&self, key: &str) -> u16 {
        self.subscribe(key, "audit").await.err().expect("a refusal").status
    }

    async fn validate(&self, key: &str) -> Answer {
        let mut stream = connect(self.address, None).await;
        ask(&mut stream, "/streaming/token/validate", &[("Authorization", key)]).await.0
    }

    /// The key that validation gives.
    async fn renewed(&self, key: &str) -> String {
        let answer = self.validate(key).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        answer["token"].as_str().unwrap().to_owned()
    }

    /// Ends it.
    async fn report(self) -> Report {
        let _ = self.stop.send(());
        timeout(Duration::from_secs(20), self.report).await.expect("an end in time").unwrap()
    }
}

fn closing(code: u16) -> Expiry {
    Expiry { connections: AtExpiry::Close { code }, ..Expiry::default() }
}

/// Lets so much time pass at once.
async fn skip(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// What became of which keys.
fn changes(report: &Report) -> Vec<(Fate, String)> {
    report.keys.iter().map(|change| (change.fate, change.accounts.join(" "))).collect()
}

fn east() -> String {
    "east-audit east-presence".to_owned()
}

#[tokio::test]
async fn a_key_that_is_dead_from_the_start_is_refused_until_it_was_validated() {
    let fixture = Fixture::new(30, Duration::ZERO);
    let expiry = Expiry { accounts: vec!["east-presence".to_owned()], ..Expiry::default() };
    let running = Running::start(fixture.options(expiry)).await;
    assert_eq!(running.refused("key-of-east").await, 401);
    // Another customer's lives.
    assert_eq!(running.renewed("key-of-west").await, "key-of-west");
    let mut west = running.subscribe("key-of-west", "audit").await.unwrap();
    assert_eq!(west.messages(10).await, fixture.frames("west"));

    let new = running.renewed("key-of-east").await;
    assert_eq!(new.split('.').count(), 3, "{new}");
    assert!(new.contains(".synthetic-"), "{new}");
    assert_eq!(running.refused("key-of-east").await, 401);
    // Whichever of both is validated.
    assert_eq!(running.renewed("key-of-east").await, new);
    assert_eq!(running.renewed(&new).await, new);
    assert_eq!(running.validate("key-of-nobody").await.status, 401);
    // It stands for the same accounts.
    let mut client = running.subscribe(&new, "audit").await.unwrap();
    assert_eq!(client.messages(10).await, fixture.frames("east-audit"));
    let report = running.report().await;
    assert_eq!(changes(&report), [(Fate::Expired, east()), (Fate::Renewed, east())]);
    assert_eq!(report.answered, [(200, 4), (401, 3)].into());
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(json["keys"][1]["fate"], "renewed");
    assert_eq!(json["keys"][1]["accounts"], serde_json::json!(["east-audit", "east-presence"]));
    assert!(json["keys"][0]["at"].as_str().unwrap() <= json["keys"][1]["at"].as_str().unwrap());
}

#[tokio::test]
async fn keys_die_after_their_time_and_so_do_those_that_follow() {
    let fixture = Fixture::new(3, Duration::ZERO);
    let expiry = Expiry { after: Some(HOUR), ..closing(1008) };
    let running = Running::start(fixture.options(expiry)).await;
    let mut key = "key-of-east".to_owned();
    for _ in 0..3 {
        let mut client = running.subscribe(&key, "audit").await.unwrap();
        client.messages(1).await;
        skip(HOUR).await;
        assert_eq!(client.rest().await, (vec![], Some(1008)));
        assert_eq!(running.refused(&key).await, 401);
        let renewed = running.renewed(&key).await;
        assert_ne!(renewed, key);
        key = renewed;
    }
    let report = running.report().await;
    let of_east: Vec<_> = changes(&report).into_iter().filter(|(_, of)| *of == east()).collect();
    let round = [(Fate::Expired, east()), (Fate::Renewed, east())];
    assert_eq!(of_east, [&round[..]; 3].concat());
    // A renewed key lives as long, to the nanosecond.
    let of_east = report.keys.iter().filter(|change| change.accounts.len() == 2);
    let times: Vec<_> = of_east.map(|change| change.at).collect();
    for pair in times[1..5].chunks(2) {
        assert_eq!(pair[1].since(pair[0]), HOUR);
    }
}

#[tokio::test]
async fn who_is_connected_stays_when_the_key_dies_unless_that_is_wanted() {
    let fixture = Fixture::new(30, Duration::ZERO);
    let running = Running::start(fixture.options(Expiry::default())).await;
    let mut client = running.subscribe("key-of-east", "audit").await.unwrap();
    client.messages(10).await;
    running.keys.expire("east-audit").unwrap();
    assert_eq!(running.refused("key-of-east").await, 401);
    running.renewed("key-of-east").await;
    // Still there when the server is stopped, and told so.
    let (report, rest) = tokio::join!(running.report(), client.rest());
    assert_eq!(rest, (vec![], Some(1001)));
    assert_eq!(report.clients[0].ending, Ending::Stopped);
}

#[tokio::test]
async fn who_is_connected_by_a_key_that_dies_is_closed_and_nobody_else() {
    let fixture = Fixture::new(30, Duration::ZERO);
    let running = Running::start(fixture.options(closing(4001))).await;
    let mut clients = Vec::new();
    for (key, topic) in [("key-of-east", "audit"), ("key-of-east", "presence")] {
        clients.push(running.subscribe(key, topic).await.unwrap());
    }
    let mut west = running.subscribe("key-of-west", "audit").await.unwrap();
    west.messages(10).await;
    for client in &mut clients {
        client.messages(10).await;
    }
    running.keys.expire("east-audit").unwrap();
    for client in &mut clients {
        let close = Incoming::Close { code: Some(4001), reason: "token expired".to_owned() };
        assert_eq!(client.next().await, Some(close));
        assert_eq!(client.next().await, None);
    }
    // The one with the new key stays when the old one is asked about once more.
    let new = running.renewed("key-of-east").await;
    let mut client = running.subscribe(&new, "audit").await.unwrap();
    assert_eq!(client.messages(10).await, fixture.frames("east-audit"));
    assert_eq!(running.renewed("key-of-east").await, new);
    let (report, rest, of_west) = tokio::join!(running.report(), client.rest(), west.rest());
    assert_eq!((rest.1, of_west.1), (Some(1001), Some(1001)));
    for client in &report.clients[..2] {
        assert_eq!(client.ending, Ending::KeyExpired);
        assert_eq!(client.close, Some(Close { by: End::Server, code: Some(4001), answered: true }));
        assert_eq!(client.frames, 10);
    }
    assert_eq!(report.lossy, 0);
}

#[tokio::test]
async fn who_is_closed_as_its_key_died_has_time_to_come_back() {
    let fixture = Fixture::new(90, Duration::from_millis(100));
    let options = fixture.options(closing(1008));
    let running = Running::start(Options { once: true, speed: Speed::ORIGINAL, ..options }).await;
    let mut client = running.subscribe("key-of-east", "audit").await.unwrap();
    client.messages(1).await;
    running.keys.expire("east-audit").unwrap();
    assert_eq!(client.rest().await.1, Some(1008));
    // Who is in the middle of connecting is waited for one second.
    skip(Duration::from_secs(2)).await;
    assert_eq!(running.refused("key-of-east").await, 401);
    let new = running.renewed("key-of-east").await;
    let mut client = running.subscribe(&new, "audit").await.unwrap();
    client.messages(1).await;
    client.close().await;
    assert_eq!(running.report().await.served, 2);
}

#[tokio::test]
async fn keys_that_expire_need_accounts_that_there_are() {
    let fixture = Fixture::new(3, Duration::ZERO);
    let nobody = Expiry { accounts: vec!["north".to_owned()], ..Expiry::default() };
    let error = Server::start(fixture.options(nobody)).await.err().unwrap();
    let expected = "expected one of east-audit, east-presence, west, found \"north\"";
    assert!(error.is_usage() && error.to_string() == expected, "{error}");
    let dying = Expiry { after: Some(HOUR), ..Expiry::default() };
    let options = Options { accounts: None, ..fixture.options(dying) };
    assert!(Server::start(options).await.err().unwrap().is_usage());
}

#[test]
fn the_command_wants_accounts_where_keys_expire() {
    let fixture = Fixture::new(3, Duration::ZERO);
    let path = fixture.path("feed.mcap");
    for arguments in
        [&["--key-expires-after", "1h"][..], &["--expire", "west"], &["--at-expiry", "keep"]]
    {
        let replay = ["replay", path.to_str().unwrap()];
        let ran = centralcap([&replay[..], arguments].concat());
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("--accounts <FILE>"), "{}", ran.stderr);
    }
}

/// The vendor's input file for east's audit and west's.
fn input(fixture: &Fixture, name: &str) -> String {
    let path = fixture.path(name);
    let customers = serde_json::json!({"customers": {
        "east-audit": {"wsskey": "key-of-east", "topic": "audit"},
        "west": {"wsskey": "key-of-west", "topic": "audit"},
    }});
    fs::write(&path, customers.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn record_gets_over_a_dead_key_and_the_command_says_what_became_of_it() {
    let fixture = Fixture::new(90, Duration::from_millis(1));
    let (accounts, mine) = (input(&fixture, "accounts.json"), input(&fixture, "input.json"));
    let mut replay = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"))
        .args(["replay", "--once", "--plain", "--wait-clients", "2", "--accounts", &accounts])
        .args(["--expire", "east-audit", "--report"])
        .args([fixture.path("report.json"), fixture.path("feed.mcap")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(replay.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let output = fixture.path("recordings");
    let url = format!("ws://{}", ready["hostname"].as_str().unwrap());
    let output_name = output.to_str().unwrap();
    let ran = centralcap([
        "record",
        "--hostname",
        &url,
        "--input",
        &mine,
        "-o",
        output_name,
        "--stop-after-messages",
        "60",
    ]);
    assert!(matches!(ran.code, 0 | 3), "{}", ran.stderr);
    let ended = replay.wait_with_output().unwrap();
    let words = String::from_utf8(ended.stderr).unwrap();
    let told = ["the key of east-audit has expired", "the key of east-audit was renewed"];
    assert_eq!(words.lines().take(2).collect::<Vec<_>>(), told, "{words}");

    let recorded = recorded(&output);
    for name in ["east-audit", "west"] {
        assert_eq!(recorded.frames(name), fixture.frames(name), "{name}: {}", ran.stderr);
    }
    let keys = |path: &str| -> Vec<_> {
        accounts::read(path.as_ref()).unwrap().into_iter().map(|account| account.key).collect()
    };
    let (before, after) = (keys(&accounts), keys(&mine));
    assert!(before[0] != after[0] && before[1] == after[1]);
    assert!(after[0].expose().contains(".synthetic-"));
}

/// What a recording holds so far.
struct Recorded(Vec<Entry>);

fn recorded(path: &Path) -> Recorded {
    let capture = Capture::open(&[path]);
    Recorded(capture.map_or(vec![], |capture| capture.entries().map_while(Result::ok).collect()))
}

impl Recorded {
    fn frames(&self, name: &str) -> Vec<Bytes> {
        let own = self.0.iter().filter(|entry| entry.subscription.name == name);
        own.filter_map(|entry| Some(entry.frame()?.data.clone())).collect()
    }

    /// The frames of each connection, and in the ledger a word for each event but gaps.
    fn story(&self) -> (Vec<Vec<Bytes>>, Vec<String>) {
        let (mut frames, mut ledger) = (Vec::new(), Vec::new());
        for entry in &self.0 {
            let event = match &entry.what {
                What::Frame(frame) => {
                    let of_connection: &mut Vec<_> = frames.last_mut().unwrap();
                    of_connection.push(frame.data.clone());
                    continue;
                }
                What::Event(event) => event.event.clone().unwrap(),
            };
            ledger.push(match event {
                Event::Connected(_) => {
                    frames.push(Vec::new());
                    "connected".to_owned()
                }
                Event::Closed(closed) => format!("closed {:?} {}", closed.code, closed.reason),
                Event::Rejected(rejected) => format!("status {}", rejected.status),
                Event::KeyRenewed(renewed) => format!("new key {}", renewed.written_back),
                Event::Gap(_) => continue,
                other => format!("{other:?}"),
            });
        }
        (frames, ledger)
    }
}

/// A recording of east's audit while its key dies in the middle of it. Returns what was recorded of each
/// connection and what the ledger says, when all there is has come on the last of so many.
#[cfg(unix)]
async fn record_through(
    expiry: Expiry,
    connections: usize,
) -> (Fixture, Vec<Vec<Bytes>>, Vec<String>) {
    use rustix::process::{Pid, Signal, kill_process};

    let fixture = Fixture::new(60, Duration::from_millis(20));
    let options = fixture.options(expiry);
    let running = Running::start(Options { speed: Speed::ORIGINAL, ..options }).await;
    let (mine, output) = (fixture.path("input.json"), fixture.path("recordings"));
    let input = r#"{"customers": {"east-audit": {"wsskey": "key-of-east", "topic": "audit"}}}"#;
    fs::write(&mine, input).unwrap();
    let mut record = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"))
        .args(["record", "--hostname", &format!("ws://{}", running.address)])
        .args([Path::new("--input"), &mine, Path::new("-o"), &output])
        .stderr(fs::File::create(fixture.path("words")).unwrap())
        .spawn()
        .unwrap();
    let words = || fs::read_to_string(fixture.path("words")).unwrap();
    wait_for("first frame", words, || !recorded(&output).frames("east-audit").is_empty());
    running.keys.expire("east-audit").unwrap();
    let all = fixture.frames("east-audit");
    wait_for("last frame", words, || {
        let (frames, _) = recorded(&output).story();
        frames.len() == connections && frames[connections - 1] == all
    });
    kill_process(Pid::from_child(&record), Signal::TERM).unwrap();
    assert!(matches!(record.wait().unwrap().code(), Some(0 | 3)), "{}", words());
    running.report().await;
    let (frames, ledger) = recorded(&output).story();
    (fixture, frames, ledger)
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_recording_loses_nothing_when_its_key_dies_and_it_is_closed() {
    let (fixture, frames, ledger) = record_through(closing(1008), 2).await;
    let expected = [
        "connected",
        "closed Some(1008) token expired",
        "status 401",
        "new key true",
        "connected",
        "closed Some(1000) ",
    ];
    assert_eq!(ledger, expected);
    // The clock of a new connection begins at the start.
    let all = fixture.frames("east-audit");
    assert!(all.starts_with(&frames[0]));
    let input = accounts::read(&fixture.path("input.json")).unwrap();
    assert!(input[0].key.expose().contains(".synthetic-"));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_is_kept_when_its_key_dies_does_not_notice() {
    let (fixture, frames, ledger) = record_through(Expiry::default(), 1).await;
    assert_eq!(ledger, ["connected", "closed Some(1000) "]);
    assert_eq!(frames, [fixture.frames("east-audit")]);
    let input = accounts::read(&fixture.path("input.json")).unwrap();
    assert_eq!(input[0].key.expose(), "key-of-east");
}
