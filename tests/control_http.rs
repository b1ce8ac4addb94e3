//! Control over HTTP: what is asked and answered, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use centralcap::{
    accounts::Account,
    capture::Capture,
    pace::Speed,
    protocol::Key,
    replay::{Remote, ReplayServer},
};
use serde_json::{Value, json};
use support::{
    capture::{Entries, message, subscription},
    client::Client,
};

/// 30 frames 10 ms apart, in turn of audit and monitoring.
fn capture() -> (tempfile::TempDir, std::path::PathBuf) {
    let mut entries = Entries::new();
    let owners = ["audit", "monitoring"].map(|topic| subscription("a", topic));
    for number in 0..30 {
        let owner = &owners[number as usize % 2];
        let data = message(&owner.topic, number, 50);
        entries.frame(Duration::from_millis(10) * number, owner, data);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feed.mcap");
    entries.write(&path);
    (folder, path)
}

/// A feed and where it is controlled.
struct Feed {
    server: ReplayServer,
    remote: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Feed {
    fn start(speed: Speed) -> Self {
        let (folder, path) = capture();
        let key = Key::new("synthetic-key").unwrap();
        let (name, topic) = ("north".to_owned(), "audit".to_owned());
        let account = Account { name, username: None, key, topic };
        let feed = ReplayServer::builder(Capture::open(&[path]).unwrap()).plain().speed(speed);
        let feed = feed.accounts(vec![account]);
        let server = feed.start().unwrap();
        let remote = Remote::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = remote.address();
        assert_eq!(remote.url(), format!("http://{address}"));
        tokio::spawn(remote.serve(server.control().clone(), std::future::pending()));
        Self { server, remote: address, _folder: folder }
    }

    async fn client(&self, topic: &str) -> Client {
        let key = ("synthetic-key", topic);
        Client::subscribe(self.server.address(), None, key).await.unwrap()
    }

    async fn ask(&self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let (remote, body) = (self.remote, body.to_string());
        let (method, target) = (method.to_owned(), target.to_owned());
        let asking = move || ask(remote, &method, &target, &body);
        tokio::task::spawn_blocking(asking).await.unwrap()
    }

    async fn post(&self, target: &str, body: Value) -> (u16, Value) {
        self.ask("POST", target, &body).await
    }
}

fn ask(remote: SocketAddr, method: &str, target: &str, body: &str) -> (u16, Value) {
    let length = body.len();
    let (status, _, body) = say(
        remote,
        &format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        ),
    );
    (status, serde_json::from_str(&body).unwrap())
}

/// Says this, and what is answered: the status, the head in lower case, the body.
fn say(remote: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(remote).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

fn document() -> Value {
    serde_json::from_str(include_str!("../docs/control.openapi.json")).unwrap()
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Whether an object has what its schema has, and nothing else.
fn fits(object: &Value, schema: &Value) {
    let described = keys(&schema["properties"]);
    let required = schema["required"].as_array().unwrap().iter().filter_map(Value::as_str);
    let found = keys(object);
    assert!(found.is_subset(&described), "{found:?}, not {described:?}");
    for key in required {
        let (value, about) = (&object[key], &schema["properties"][key]);
        let allowed: Vec<_> = match &about["type"] {
            Value::String(kind) => vec![kind.as_str()],
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => continue,
        };
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        assert!(found.contains(key) && allowed.contains(&kind), "{key} is {value}, not {about}");
    }
}

#[tokio::test]
async fn every_example_of_the_document_is_accepted() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let mut tried = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let examples = &operation["requestBody"]["content"]["application/json"]["examples"];
            let bodies: Vec<_> = match examples.as_object() {
                Some(examples) => examples.values().map(|example| &example["value"]).collect(),
                None => vec![&Value::Null],
            };
            assert!(!bodies.is_empty(), "{path}");
            for body in bodies {
                let feed = Feed::start(Speed::MAX);
                let mut client = feed.client("audit").await;
                client.messages(15).await;
                if path == "/step" {
                    feed.post("/pause", json!({})).await;
                }
                let (status, answer) = feed.ask(&method.to_uppercase(), path, body).await;
                assert_eq!(status, 200, "{method} {path} {body}: {answer}");
                if path != "/openapi.json" {
                    fits(&answer, &schemas["State"]);
                    for client in answer["clients"].as_array().unwrap() {
                        fits(client, &schemas["Client"]);
                    }
                }
                tried += 1;
            }
        }
    }
    assert!(tried >= 19, "{tried}");
}

#[tokio::test]
async fn commands_do_what_they_say() {
    let feed = Feed::start(Speed::ORIGINAL);
    assert_eq!(feed.post("/pause", json!({})).await.1["paused"], true);
    let mut client = feed.client("audit").await;
    let (status, state) = feed.post("/step?client=1", json!({"frames": 2})).await;
    assert_eq!((status, &state["clients"][0]["paused"]), (200, &json!(true)));
    client.messages(2).await;
    let rule = json!({"rule": [{"do": {"text": {"words": "injected"}}}]});
    assert_eq!(feed.post("/faults", rule).await.0, 200);
    feed.post("/seek", json!({"to": "+200ms"})).await;
    feed.post("/speed", json!({"speed": 100.5})).await;
    // What a test has worked out is hardly ever a short decimal number.
    for (said, speed) in [(1.0 / 3.0, "0.333333333"), (1e-7, "0.0000001"), (0.1 + 100.4, "100.5")] {
        let (status, state) = feed.post("/speed", json!({"speed": said})).await;
        assert_eq!((status, &state["speed"]), (200, &json!(speed)));
    }
    let (_, state) = feed.post("/resume", json!({})).await;
    assert_eq!((&state["speed"], &state["commands"]), (&json!("100.5"), &json!(9)));
    let texts: Vec<_> = [client.next().await, client.next().await].into();
    assert!(texts.iter().all(|text| format!("{text:?}").contains("injected")), "{texts:?}");
    let waited = json!({"frames": 7, "topic": "audit", "subscription": "a", "client": 1});
    let (status, state) = feed.post("/wait", waited).await;
    assert_eq!((status, &state["delivered"]["audit"]["a"]), (200, &json!(7)));
    assert_eq!(feed.post("/wait", json!({"end": true})).await.0, 200);
    let (_, state) = feed.post("/reset", json!({})).await;
    assert_eq!((&state["speed"], &state["came"]), (&json!("1"), &json!(1)));
    feed.post("/drop", json!({"code": 4000, "reason": "bye"})).await;
    let closed = loop {
        if let Some(message) = client.next().await
            && format!("{message:?}").starts_with("Close")
        {
            break format!("{message:?}");
        }
    };
    assert!(closed.contains("4000") && closed.contains("bye"), "{closed}");
}

#[tokio::test]
async fn what_is_wrong_is_a_problem_with_a_reason() {
    let feed = Feed::start(Speed::MAX);
    let _client = feed.client("audit").await;
    let schema = &document()["components"]["schemas"]["Problem"];
    let reasons = schema["properties"]["reason"]["enum"].as_array().unwrap();
    let brief = json!({"clients": 9, "timeout": "20ms"});
    for (method, target, body, status, reason) in [
        ("GET", "/", json!({}), 404, "no-such-path"),
        ("GET", "/pause", json!({}), 405, "wrong-method"),
        ("POST", "/state", json!({}), 405, "wrong-method"),
        ("POST", "/pause", json!({"for": "1s"}), 400, "wrong-request"),
        ("POST", "/pause", json!([]), 400, "wrong-request"),
        ("POST", "/pause?client=2", json!({}), 404, "no-such-client"),
        ("POST", "/pause?client=x", json!({}), 400, "wrong-request"),
        ("POST", "/pause?who=1", json!({}), 400, "wrong-request"),
        ("GET", "/state?client=1", json!({}), 400, "wrong-request"),
        ("POST", "/reset?client=1", json!({}), 400, "wrong-request"),
        ("POST", "/step", json!({}), 409, "not-now"),
        ("POST", "/step", json!({"frames": -1}), 400, "wrong-request"),
        ("POST", "/seek", json!({}), 400, "wrong-request"),
        ("POST", "/seek", json!({"to": "noon"}), 400, "wrong-request"),
        ("POST", "/seek", json!({"to": "1999-12-31T00:00:00Z"}), 400, "wrong-request"),
        ("POST", "/speed", json!({"speed": 0}), 400, "wrong-request"),
        ("POST", "/speed", json!({"speed": 1e-10}), 400, "wrong-request"),
        ("POST", "/speed", json!({"speed": [1]}), 400, "wrong-request"),
        ("POST", "/faults", json!({"rule": [{"do": "dorp"}]}), 400, "wrong-request"),
        ("POST", "/faults", json!({"rule": [{"when": null}]}), 400, "wrong-request"),
        ("POST", "/faults", json!({"rule": {"do": "drop"}}), 400, "wrong-request"),
        ("POST", "/drop", json!({"reason": "no code"}), 400, "wrong-request"),
        ("POST", "/drop", json!({"reset": true, "code": 1000}), 400, "wrong-request"),
        ("POST", "/expire", json!({"account": "nobody"}), 400, "wrong-request"),
        ("POST", "/wait", json!({}), 400, "wrong-request"),
        ("POST", "/wait", json!({"clients": 1, "end": true}), 400, "wrong-request"),
        ("POST", "/wait", json!({"frames": 1, "topic": "nonsense"}), 400, "wrong-request"),
        ("POST", "/wait", json!({"frames": 1, "client": 0}), 400, "wrong-request"),
        ("POST", "/wait", json!({"end": true, "timeout": "2h"}), 400, "wrong-request"),
        ("POST", "/wait", brief, 409, "not-in-time"),
    ] {
        let (found, problem) = feed.ask(method, target, &body).await;
        assert_eq!((found, &problem["reason"]), (status, &json!(reason)), "{target} {body}");
        assert_eq!(problem["status"], status);
        fits(&problem, schema);
        assert!(reasons.contains(&problem["reason"]), "{reason}");
    }
    // Nothing of it was done.
    assert_eq!(feed.ask("GET", "/state", &json!({})).await.1["commands"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_and_other_names_are_refused() {
    let feed = Feed::start(Speed::MAX);
    let said = |request: &str| {
        let (status, head, body) = say(feed.remote, request);
        let problem: Value = serde_json::from_str(&body).unwrap();
        (status, head, problem["reason"].clone())
    };
    let origin = "POST /pause HTTP/1.1\r\nHost: localhost\r\nOrigin: http://example.com\r\n\r\n";
    let (status, head, reason) = said(origin);
    assert_eq!((status, reason), (403, json!("browser")));
    assert!(head.contains("content-type: application/problem+json"), "{head}");
    let (status, _, reason) = said("GET /state HTTP/1.1\r\nHost: rebound.example.com\r\n\r\n");
    assert_eq!((status, reason), (421, json!("wrong-host")));
    for host in ["localhost:80", "127.0.0.1:1", "[::1]:1"] {
        let (status, head, _) = said(&format!("GET /state HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(status, 200, "{host}");
        assert!(head.contains("cache-control: no-store"), "{head}");
    }
    let (status, head, _) = said("PUT /pause HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(status == 405 && head.contains("allow: post"), "{head}");
    let large = format!(
        "POST /faults HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n{}",
        " ".repeat(1_100_000)
    );
    assert_eq!((said(&large).0, said(&large).2), (413, json!("too-large")));
    let broken =
        "POST /step HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n";
    assert_eq!((said(broken).0, said(broken).2), (400, json!("wrong-request")));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_nothing_or_waits_keeps_nobody_from_control() {
    let feed = Feed::start(Speed::MAX);
    let silent: Vec<_> = (0..20).map(|_| TcpStream::connect(feed.remote).unwrap()).collect();
    let wait = r#"{"clients": 5, "timeout": "20s"}"#;
    let request = format!(
        "POST /wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{wait}",
        wait.len()
    );
    let deadline = Instant::now() + Duration::from_secs(20);
    let probe = r#"{"clients": 5, "timeout": "10ms"}"#;
    let mut waiting = Vec::new();
    while ask(feed.remote, "POST", "/wait", probe).0 != 503 {
        assert!(Instant::now() < deadline, "more may wait than should");
        // One that finds this question in the last place is refused: there have to be enough that do not.
        let mut stream = TcpStream::connect(feed.remote).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        waiting.push(stream);
    }
    assert_eq!(ask(feed.remote, "POST", "/pause", "").0, 200);
    // Whoever hangs up waits no more.
    drop((silent, waiting));
    while ask(feed.remote, "POST", "/wait", probe).0 == 503 {
        assert!(Instant::now() < deadline, "they wait though they are gone");
    }
}

#[test]
fn the_command_says_where_it_is_controlled_and_answers_those_who_wait_for_its_end() {
    let (folder, path) = capture();
    let report = folder.path().join("report.json");
    let mut child = Command::new(env!("CARGO_BIN_EXE_centralcap"))
        .args(["replay", "--plain", "--once", "--control", "0", "--timeout", "30s", "--report"])
        .arg(&report)
        .arg(&path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let remote = ready["control"].as_str().unwrap().strip_prefix("http://").unwrap();
    let remote: SocketAddr = remote.parse().unwrap();
    assert!(remote.ip().is_loopback());
    assert_eq!(ask(remote, "POST", "/speed", r#"{"speed": "max"}"#).0, 200);
    let waiting = thread::spawn(move || ask(remote, "POST", "/wait", r#"{"end": true}"#));
    let address: SocketAddr = ready["hostname"].as_str().unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let key = ("synthetic-key", "audit");
        let mut client = Client::subscribe(address, None, key).await.unwrap();
        assert_eq!(client.rest().await.0.len(), 15);
    });
    let (status, state) = waiting.join().unwrap();
    assert_eq!((status, &state["delivered"]["audit"]["a"]), (200, &json!(15)));
    assert!(child.wait().unwrap().success());
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let given = &report["control"][0];
    assert_eq!((&given["command"], &given["with"]), (&json!("speed"), &json!("max")));
    assert_eq!((&given["client"], &report["commands"]), (&json!(null), &json!(1)));
    assert!(given["after"].as_f64().unwrap() < report["lasted"].as_f64().unwrap());
}
