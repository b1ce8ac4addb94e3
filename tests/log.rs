//! What is said to programs: `--log-format json`.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::process::{Command, Stdio};

use bytes::Bytes;
use centralcap::entry::Timestamp;
use serde_json::{Value, json};
use support::{
    command::centralcap,
    feed::{Feed, Reply, Say},
};

const KEY: &str = "synthetic-key-for-tests";

/// Records one topic and returns the exit code with the lines on stderr, each of which has to be an
/// object that begins as all do.
fn record(feed: &Feed, more: &[&str]) -> (Option<i32>, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"))
        .args(["record", "--log-format", "json", "--hostname", &feed.url(), "--topic", "audit"])
        .args(more)
        .arg("-o")
        .arg(folder.path().join("capture.mcap"))
        .env("CENTRALCAP_KEY", KEY)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(!words.contains(KEY), "the key was shown: {words}");
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"));
        assert!(line["time"].as_str().unwrap().parse::<Timestamp>().is_ok(), "{line}");
        let level = line["level"].as_str().unwrap();
        assert!(["debug", "info", "warn", "error"].contains(&level), "{line}");
        assert!(line["event"].is_string(), "{line}");
        line
    };
    (output.status.code(), words.lines().map(line).collect())
}

fn events(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["event"].as_str().unwrap()).collect()
}

/// A refusal, a connection that breaks, and one that does not.
fn eventful() -> Feed {
    let frame = || Say::Binary(Bytes::from_static(b"\x12\x05audit"));
    Feed::start(vec![
        Reply::Answer("503 Service Unavailable", "come back \x1b[2J\"later\"".to_owned()),
        Reply::Feed(vec![Say::Text("maintenance at noon"), frame(), Say::Drop]),
        Reply::Feed(vec![frame(), Say::Stay]),
    ])
}

#[test]
fn each_thing_that_happens_is_an_object_with_its_fields() {
    let (code, lines) = record(&eventful(), &["--stop-after-messages", "2", "-v"]);
    assert_eq!(code, Some(3));
    let expected = [
        "recording",
        "started",
        "rejected",
        "waiting",
        "connected",
        "text_frame",
        "closed",
        "waiting",
        "connected",
        "gap",
        "stopping",
        "closed",
        "sealed",
        "recorded",
        "finished",
    ];
    assert_eq!(events(&lines), expected);
    for line in &lines {
        let is_of_all = ["recording", "started", "stopping", "sealed", "finished"].map(Value::from);
        let expected =
            if is_of_all.contains(&line["event"]) { Value::Null } else { "audit".into() };
        assert_eq!(line["subscription"], expected, "{line}");
    }
    let has = |event: usize, fields: Value| {
        for (name, value) in fields.as_object().unwrap() {
            assert_eq!(lines[event][name], *value, "{name} of {}", lines[event]);
        }
    };
    let body = "come back \\u{1b}[2J\"later\"";
    has(2, json!({"level": "warn", "attempt": 1, "status": 503, "body": body, "connection": 0}));
    has(4, json!({"level": "info", "attempt": 2, "connection": 1}));
    has(5, json!({"bytes": 19, "count": 1}));
    has(6, json!({"level": "warn", "clean": false, "frames": 1}));
    has(9, json!({"level": "warn", "cause": "network", "connection": 2}));
    assert!(lines[9]["seconds"].as_f64().unwrap() > 0.0, "{}", lines[9]);
    has(11, json!({"level": "info", "clean": true, "frames": 1}));
    has(12, json!({"level": "debug"}));
    has(13, json!({"frames": 2, "bytes": 14, "connections": 2, "gaps": 1, "dropped": 0}));
    has(14, json!({"frames": 2, "segments": 1}));
}

#[test]
fn those_who_want_quiet_still_hear_what_went_wrong() {
    let (code, lines) = record(&eventful(), &["--stop-after-messages", "2", "-q"]);
    assert_eq!(code, Some(3));
    assert_eq!(events(&lines), ["rejected", "text_frame", "closed", "gap"]);
}

#[test]
fn what_was_exported_is_an_object_for_each_export() {
    let folder = tempfile::tempdir().unwrap();
    let target = format!("ndjson:{}", folder.path().join("lines").display());
    let (_, lines) = record(&eventful(), &["--stop-after-messages", "2", "--export", &target]);
    let exported =
        lines.iter().find(|line| line["event"] == "exported").expect("what was exported");
    assert_eq!(exported["exporter"], target.as_str());
    for (field, count) in [("frames", 2), ("dropped", 0), ("undecodable", 0)] {
        assert_eq!(exported[field], count, "{exported}");
    }
}

#[test]
fn an_error_is_an_object_with_its_hint() {
    let feed = Feed::start(Vec::new());
    let (code, lines) = record(&feed, &["--key-file", "/nonexistent/key"]);
    assert_eq!(code, Some(1));
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&line["level"], &line["event"]), (&"error".into(), &"message".into()));
    assert!(line["message"].as_str().unwrap().contains("cannot read /nonexistent/key"), "{line}");
    assert_eq!(line["hint"], "check the path; each folder on the way has to exist");
}

#[test]
fn wrong_usage_is_an_object_as_well() {
    for (args, message, hint) in [
        (
            &["decode", "--from", "yesterday", "x.mcap", "--log-format", "json"][..],
            "invalid value 'yesterday' for '--from <TIME>': expected a moment, found \"yesterday\"",
            Some("or +10m from the start"),
        ),
        (
            &["--log-format=json", "edit"],
            "the following required arguments were not provided: --output <PATH> <PATH>...",
            None,
        ),
        (
            &["--log-format", "json", "decode", "--formt", "csv", "x.mcap"],
            "unexpected argument '--formt' found",
            Some("a similar argument exists: '--format'"),
        ),
        (
            &["decode", "--log-format", "json", "--format", "xml", "x.mcap"],
            "invalid value 'xml' for '--format <FORMAT>' [possible values: ndjson, json, csv]",
            None,
        ),
        // And what only the command itself can tell.
        (
            &["decode", "--log-format", "json", "--format", "csv", "x.mcap"],
            "expected a folder for the tables, found none",
            Some("name one with -o DIR"),
        ),
    ] {
        let ran = centralcap(args);
        assert_eq!((ran.code, &*ran.stdout), (2, ""), "{ran:?}");
        let [line] = &ran.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{ran:?}") };
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&line["level"], &line["event"]), (&"error".into(), &"message".into()));
        assert_eq!(line["message"], message);
        match hint {
            Some(hint) => assert!(line["hint"].as_str().unwrap().contains(hint), "{line}"),
            None => assert_eq!(line.get("hint"), None, "{line}"),
        }
    }
    // Help is asked for, by people.
    let ran = centralcap(["--log-format", "json", "decode", "--help"]);
    assert!(ran.code == 0 && ran.stdout.contains("Usage: centralcap decode"), "{ran:?}");
}
