//! What `diff` finds, what it does not mind, and how it says so.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::{fs, path::Path, time::Duration};

use bytes::Bytes;
use centralcap::{codec::plan::Style, protocol::PROTOCOLS, synth};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use self::support::{
    capture::{Entries, envelope, subscription},
    command::{Ran, centralcap},
    message,
    subject::{self, Subject},
};

mod support;

/// A folder with captures in it, and the command to run on them.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    /// A capture of these lines.
    fn encode(&self, name: &str, lines: &[&str]) {
        let file = format!("{name}.ndjson");
        self.put(&file, lines.join("\n"));
        let ran = centralcap(["encode", &self.path(&file), "-o", &self.path(name), "--quiet"]);
        assert_eq!((ran.code, &*ran.stderr), (0, ""));
    }

    fn decode(&self, capture: &str, lines: &str, options: &[&str]) {
        let (capture, lines) = (self.path(capture), self.path(lines));
        let ran = centralcap([&["decode", &capture, "-o", &lines, "--quiet"], options].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }

    fn diff(&self, a: &str, b: &str, options: &[&str]) -> Ran {
        centralcap([&["diff", &self.path(a), &self.path(b)], options].concat())
    }

    fn report(&self, a: &str, b: &str, options: &[&str]) -> Json {
        let ran = self.diff(a, b, &[&["--json"], options].concat());
        serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.stderr))
    }

    /// Fails if anything differs, or is said.
    fn is_same(&self, a: &str, b: &str, options: &[&str]) {
        let ran = self.diff(a, b, options);
        assert_eq!((ran.code, &*ran.stdout), (0, ""), "{}", ran.stderr);
        assert!(ran.stderr.contains("no differences in "), "{}", ran.stderr);
    }

    /// The differences of two captures made of these lines: the first word of each block with the frames'
    /// indexes, and the lines that name a field.
    fn differences(&self, a: &[&str], b: &[&str], options: &[&str]) -> Vec<String> {
        self.encode("a.mcap", a);
        self.encode("b.mcap", b);
        let ran = self.diff("a.mcap", "b.mcap", &[&["--json"], options].concat());
        let report: Json = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(ran.code, i32::from(report["equal"] == false));
        let mut found = Vec::new();
        for difference in report["differences"].as_array().unwrap() {
            let index = |side: &str| difference[side]["index"].to_string().replace("null", "-");
            let kind = difference["kind"].as_str().unwrap();
            found.push(format!("{kind} {} {}", index("a"), index("b")));
            for change in difference["changes"].as_array().unwrap() {
                let path = change["path"].as_str().unwrap();
                found.push(format!("{path} {} {}", change["a"], change["b"]));
            }
        }
        for name in ["a.mcap", "b.mcap"] {
            fs::remove_file(self.path(name)).unwrap();
        }
        found
    }
}

fn synthetic(desk: &Desk, name: &str, seed: u64, messages: u64) {
    let options = synth::Options { seed, messages, ..synth::Options::default() };
    synth::write(&options, Path::new(&desk.path(name))).unwrap();
}

#[test]
fn a_capture_does_not_differ_from_itself_and_from_what_became_of_it() {
    let desk = Desk::new();
    synthetic(&desk, "a.mcap", 3, 100);
    desk.is_same("a.mcap", "a.mcap", &[]);
    // Without its sequence numbers, events and hosts, by every way back there is.
    desk.decode("a.mcap", "unknown.ndjson", &["--unknown"]);
    desk.decode("a.mcap", "raw.ndjson.zst", &["--raw", "--unknown"]);
    desk.decode("a.mcap", "hex.ndjson", &["--unknown", "--bytes", "hex", "--enums", "number"]);
    desk.is_same("unknown.ndjson", "a.mcap", &[]);
    desk.is_same("a.mcap", "raw.ndjson.zst", &[]);
    desk.is_same("hex.ndjson", "a.mcap", &["--bytes", "hex"]);
    let (lines, encoded) = (desk.path("unknown.ndjson"), desk.path("encoded.mcap"));
    assert_eq!(centralcap(["encode", &*lines, "-o", &*encoded]).code, 0);
    desk.is_same("a.mcap", "encoded.mcap", &[]);
    // In another order of subscriptions, in a folder, at other times.
    let (capture, parts) = (desk.path("a.mcap"), desk.path("parts"));
    assert_eq!(centralcap(["edit", &*capture, "-o", &*parts, "--split-by", "topic"]).code, 0);
    desk.is_same("parts", "a.mcap", &[]);
    let shifted = desk.path("shifted.mcap");
    assert_eq!(centralcap(["edit", &*capture, "-o", &*shifted, "--shift", "1h"]).code, 0);
    desk.is_same("a.mcap", "shifted.mcap", &[]);
    let report = desk.report("a.mcap", "shifted.mcap", &["--times"]);
    assert_eq!((&report["changed"], &report["same"]), (&json!(100), &json!(0)));
    assert_eq!(report["paths"], json!([{"path": "received", "frames": 100}]));
}

#[test]
fn a_golden_file_that_does_not_tell_what_is_unknown_is_not_held_to_it() {
    let desk = Desk::new();
    synthetic(&desk, "a.mcap", 3, 400);
    desk.decode("a.mcap", "golden.ndjson", &[]);
    let ran = desk.diff("golden.ndjson", "a.mcap", &[]);
    assert_eq!((ran.code, &*ran.stdout), (0, ""), "{}", ran.stderr);
    let told =
        " that the schema does not know, as the lines tell of none; decode --unknown writes them\n";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
    let ran = desk.diff("golden.ndjson", "a.mcap", &["--ignore", "@unknown"]);
    assert!(!ran.stderr.contains(told), "{}", ran.stderr);
    // What is encoded of it has really lost that, and captures are held to it.
    let (lines, encoded) = (desk.path("golden.ndjson"), desk.path("encoded.mcap"));
    assert_eq!(centralcap(["encode", &*lines, "-o", &*encoded]).code, 0);
    let report = desk.report("a.mcap", "encoded.mcap", &[]);
    let paths = report["paths"].as_array().unwrap();
    assert!(!paths.is_empty());
    assert!(paths.iter().all(|path| path["path"].as_str().unwrap().contains(".#")), "{paths:?}");
    desk.is_same("a.mcap", "encoded.mcap", &["--ignore", "@unknown"]);
}

#[test]
fn one_changed_field_is_named_by_its_path() {
    let desk = Desk::new();
    let unknown = |value: &str| {
        format!(
            r#"{{"topic":"monitoring","data":{{"aps":[{{"serial":"x"}}]}},"@unknown":[{{"path":"data.aps",
            "what":"unknown field","number":99,"wire_type":0,"value":"{value}"}}]}}"#
        )
        .replace('\n', "")
    };
    let cases = [
        (
            r#"{"topic":"audit","customer_id":"a","data":{}}"#.to_owned(),
            r#"{"topic":"audit","customer_id":"b","data":{}}"#.to_owned(),
            r#"customer_id "a" "b""#,
        ),
        (
            r#"{"topic":"audit","data":{"client_ip":{"addr":"192.0.2.7"}}}"#.to_owned(),
            r#"{"topic":"audit","data":{"client_ip":{"addr":"192.0.2.8"}}}"#.to_owned(),
            r#"data.client_ip.addr "192.0.2.7" "192.0.2.8""#,
        ),
        (
            r#"{"topic":"monitoring","data":{"aps":[{"serial":"x"},{"serial":"y","status":"UP"}]}}"#.to_owned(),
            r#"{"topic":"monitoring","data":{"aps":[{"serial":"x"},{"serial":"y","status":"DOWN"}]}}"#.to_owned(),
            r#"data.aps[1].status "UP" "DOWN""#,
        ),
        (
            r#"{"topic":"monitoring","data":{"aps":[{"macaddr":{"addr":"02:00:00:00:00:01"}}]}}"#.to_owned(),
            r#"{"topic":"monitoring","data":{"aps":[{"macaddr":{"addr":"02:00:00:00:00:02"}}]}}"#.to_owned(),
            r#"data.aps[0].macaddr.addr "02:00:00:00:00:01" "02:00:00:00:00:02""#,
        ),
        (
            r#"{"topic":"audit","data":{"username":"me"}}"#.to_owned(),
            r#"{"topic":"audit","data":{}}"#.to_owned(),
            r#"data.username "me" null"#,
        ),
        (
            r#"{"topic":"audit","data":{}}"#.to_owned(),
            r#"{"topic":"audit","data":{"username":""}}"#.to_owned(),
            r#"data.username null """#,
        ),
        (
            r#"{"topic":"location","data":{"sta_location_x":0.1}}"#.to_owned(),
            r#"{"topic":"location","data":{"sta_location_x":0.10000001}}"#.to_owned(),
            "data.sta_location_x 0.1 0.10000001",
        ),
        (
            r#"{"topic":"location","type":"Location.stream_location","data":{"associated":true}}"#.to_owned(),
            r#"{"topic":"location","type":"Location.stream_location","data":{"associated":false}}"#.to_owned(),
            "data.associated true false",
        ),
        (unknown("AQ=="), unknown("Ag=="), "data.aps.#99 1 2"),
    ];
    for (a, b, expected) in &cases {
        let same = r#"{"topic":"audit","subscription":"other","data":{"target":"same"}}"#;
        let found = desk.differences(&[same, a, same], &[same, b, same], &[]);
        assert_eq!(found, ["changed 1 1", expected], "{a}\n{b}");
    }
}

/// A line of the monitoring topic: what the access point of that name says.
fn ap(serial: &str, says: &str) -> String {
    format!(
        r#"{{"topic":"monitoring","received":"2026-01-05T08:00:00Z",
        "data":{{"aps":[{{"serial":"{serial}","name":"{says}"}}]}}}}"#
    )
    .replace('\n', "")
}

#[test]
fn what_was_left_out_put_in_or_moved_changes_no_other_frame() {
    let desk = Desk::new();
    let lines: Vec<_> = ["a", "b", "c", "d", "e"].map(|serial| ap(serial, "old")).into();
    let all: Vec<_> = lines.iter().map(String::as_str).collect();
    let without = |left_out: usize| {
        let kept = all.iter().enumerate().filter(|(at, _)| *at != left_out);
        kept.map(|(_, line)| *line).collect::<Vec<_>>()
    };
    assert_eq!(desk.differences(&all, &without(1), &[]), ["missing 2 -"]);
    assert_eq!(desk.differences(&without(1), &all, &[]), ["added - 2"]);
    let moved = [all[1], all[2], all[3], all[4], all[0]];
    assert_eq!(desk.differences(&all, &moved, &[]), ["moved 1 5"]);
    assert_eq!(desk.differences(&all, &moved, &["--any-order"]), [""; 0]);
    // Where every frame has changed, it is the entities that tell which one is missing.
    let changed: Vec<_> = ["a", "c", "d", "e"].map(|serial| ap(serial, "new")).into();
    let changed: Vec<_> = changed.iter().map(String::as_str).collect();
    let name = r#"data.aps[0].name "old" "new""#;
    let expected = [
        "changed 1 1",
        name,
        "missing 2 -",
        "changed 3 2",
        name,
        "changed 4 3",
        name,
        "changed 5 4",
        name,
    ];
    assert_eq!(desk.differences(&all, &changed, &[]), expected);
    assert_eq!(desk.differences(&all, &changed, &["--ignore", "data.aps[].name"]), ["missing 2 -"]);
}

#[test]
fn what_is_ignored_is_not_compared_wherever_it_is() {
    let desk = Desk::new();
    let a = [
        r#"{"topic":"audit","customer_id":"1","data":{"username":"me","target":"x"}}"#,
        r#"{"topic":"monitoring","data":{"aps":[{"serial":"x","status":"UP"}],"customer_id":"1"}}"#,
    ];
    let b = [
        r#"{"topic":"audit","customer_id":"2","data":{"username":"you","target":"y"}}"#,
        r#"{"topic":"monitoring","data":{"aps":[{"serial":"y","status":"DOWN"}],"customer_id":"1"}}"#,
    ];
    let ignoring = |paths: &[&str]| {
        let options: Vec<_> = paths.iter().flat_map(|path| ["--ignore", path]).collect();
        desk.differences(&a, &b, &options)
    };
    assert_eq!(
        ignoring(&["customer_id", "data.username", "data.aps.status"]),
        ["changed 1 1", r#"data.target "x" "y""#, "changed 1 1", r#"data.aps[0].serial "x" "y""#]
    );
    assert_eq!(ignoring(&["customer_id", "data"]), [""; 0]);
    assert_eq!(ignoring(&["customer_id", "data.target", "data.username", "data.aps[]"]), [""; 0]);
}

#[test]
fn frames_whose_times_were_moved_are_the_same_but_for_these() {
    let desk = Desk::new();
    synthetic(&desk, "a.mcap", 3, 200);
    let (a, b) = (desk.path("a.mcap"), desk.path("b.mcap"));
    let moved = centralcap(["edit", &a, "--restamp", "2027-01-01T00:00:00Z", "-o", &b]);
    assert_eq!(moved.code, 0, "{}", moved.stderr);
    assert_eq!(desk.diff("a.mcap", "b.mcap", &["--ignore", "timestamp"]).code, 1);
    desk.is_same("a.mcap", "b.mcap", &["--ignore", "@times"]);
    desk.decode("b.mcap", "b.ndjson", &["--unknown"]);
    desk.is_same("a.mcap", "b.ndjson", &["--ignore", "@times"]);
}

#[test]
fn a_path_that_names_no_field_is_refused() {
    let desk = Desk::new();
    synthetic(&desk, "a.mcap", 3, 20);
    for (path, expected) in [
        ("data.aps[].seral", "error: expected a field in data.aps (timestamp, "),
        (
            "dta",
            "error: expected a field of some frame (subject, data, timestamp, customer_id, msp_id)",
        ),
        ("customer_id.x", "error: expected a field in customer_id, found \"customer_id.x\""),
        ("data.aps.#1", "error: expected a field in data.aps"),
    ] {
        let ran = desk.diff("a.mcap", "a.mcap", &["--ignore", path]);
        assert_eq!((ran.code, &*ran.stdout), (2, ""), "{path}: {}", ran.stderr);
        let expected = expected.split(" (timestamp").next().unwrap();
        assert!(ran.stderr.starts_with(expected), "{path}: {}", ran.stderr);
        assert!(ran.stderr.contains(&format!("found {path:?}\nhint: ")), "{path}: {}", ran.stderr);
    }
    for path in
        ["data.aps[].#990", "@unknown", "@schema", "type", "data.pa_rssi_event.rssi[].radio_mac"]
    {
        desk.is_same("a.mcap", "a.mcap", &["--ignore", path]);
    }
    let ran = desk.diff("a.mcap", "a.mcap", &["--ignore", "data.aps[0].serial"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("expected the path of a field"), "{}", ran.stderr);
}

#[test]
fn the_page_is_read_at_once() {
    let desk = Desk::new();
    let long = "x".repeat(500);
    let first = r#"{"topic":"audit","data":{"username":"me\u001b[2J","target":"a"}}"#;
    let a = [first, r#"{"topic":"audit","data":{"target":"b"}}"#];
    let b = [&*first.replace("\"a\"", &format!("\"{long}\""))];
    desk.encode("a.mcap", &[a[0], a[1], r#"{"topic":"security","data":{}}"#]);
    desk.encode("b.mcap", &b);
    let ran = desk.diff("a.mcap", "b.mcap", &[]);
    let expected = format!(
        "missing  security: the whole subscription of security, 1 frame\n\
         changed  audit: frame 1 (2026-01-05T08:00:00.000000000Z), Audit.audit_message\n    \
         data.target: \"a\" -> \"{}...\n\
         missing  audit: frame 2 (2026-01-05T08:00:01.000000000Z), Audit.audit_message\n    \
         {{\"type\":\"Audit.audit_message\",\"subject\":\"audit\",\"data\":{{\"target\":\"b\"}},\
         \"timestamp\":1767600001000000000}}\n",
        &long[1..200]
    );
    assert_eq!((ran.code, &*ran.stdout), (1, &*expected));
    let summary = "3 frames and 1 frame: 0 same, 1 changed, 2 missing, 0 added, 0 moved; \
                   changed: data.target (1)\n";
    assert_eq!(ran.stderr, summary);
    let ran = desk.diff("a.mcap", "b.mcap", &["--show", "1"]);
    assert!(ran.stdout.ends_with("...\n... and 1 more, which --show N shows\n"), "{}", ran.stdout);
    assert_eq!(
        desk.diff("a.mcap", "b.mcap", &["--quiet"]),
        Ran { code: 1, stdout: String::new(), stderr: String::new() }
    );
    // What a terminal would obey is shown.
    let ran = desk.diff("b.mcap", "a.mcap", &["--ignore", "data.target"]);
    assert!(!ran.stdout.contains('\u{1b}'));
}

#[test]
fn the_report_has_its_documented_shape() {
    let desk = Desk::new();
    desk.encode(
        "a.mcap",
        &[
            r#"{"topic":"audit","data":{"target":"a","username":"me"}}"#,
            r#"{"topic":"audit","data":{"target":"b"}}"#,
            r#"{"topic":"security","data":{}}"#,
        ],
    );
    desk.encode("b.mcap", &[r#"{"topic":"audit","data":{"target":"c"}}"#]);
    let report = desk.report("a.mcap", "b.mcap", &[]);
    let at = |second: u32| format!("2026-01-05T08:00:0{second}.000000000Z");
    let expected = json!({
        "equal": false,
        "a": {"frames": 3, "undecodable": 0, "without_unknown": 0, "damaged": 0},
        "b": {"frames": 1, "undecodable": 0, "without_unknown": 0, "damaged": 0},
        "same": 0, "changed": 1, "missing": 2, "added": 0, "moved": 0,
        "subscriptions": [{"name": "security", "topic": "security", "a": 1, "b": 0}],
        "schema": [],
        "paths": [{"path": "data.target", "frames": 1}, {"path": "data.username", "frames": 1}],
        "differences": [
            {
                "kind": "changed", "subscription": "audit", "topic": "audit",
                "type": "Audit.audit_message",
                "a": {"index": 1, "received": at(0)}, "b": {"index": 1, "received": at(0)},
                "changes": [
                    {"path": "data.target", "a": "a", "b": "c"},
                    {"path": "data.username", "a": "me", "b": null},
                ],
                "changes_left_out": 0, "frame": null,
            },
            {
                "kind": "missing", "subscription": "audit", "topic": "audit",
                "type": "Audit.audit_message",
                "a": {"index": 2, "received": at(1)}, "b": null,
                "changes": [], "changes_left_out": 0,
                "frame": {
                    "type": "Audit.audit_message", "subject": "audit", "data": {"target": "b"},
                    "timestamp": 1_767_600_001_000_000_000_u64,
                },
            },
        ],
        "left_out": 0,
    });
    assert_eq!(report, expected);
    let documented = include_str!("../docs/diff-json.md");
    let keys = |json: &Json| json.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for key in keys(&report).into_iter().chain(keys(&report["differences"][0])) {
        let is_there = [format!("`{key}"), format!(".{key}")];
        assert!(is_there.iter().any(|key| documented.contains(key)), "{key} is not documented");
    }
}

#[test]
fn only_what_is_selected_is_compared() {
    let desk = Desk::new();
    let line = |topic: &str, target: &str| {
        format!(
            r#"{{"topic":"{topic}","subscription":"of {topic}","customer_id":"{target}","data":{{}}}}"#
        )
    };
    let (audit, one, two) = (line("audit", "same"), line("security", "1"), line("security", "2"));
    desk.encode("a.mcap", &[&audit, &one]);
    desk.encode("b.mcap", &[&audit, &two]);
    assert_eq!(desk.diff("a.mcap", "b.mcap", &[]).code, 1);
    desk.is_same("a.mcap", "b.mcap", &["--topic", "audit"]);
    desk.is_same("a.mcap", "b.mcap", &["--subscription", "*audit"]);
    desk.is_same("a.mcap", "b.mcap", &["--limit", "1"]);
    desk.is_same("a.mcap.ndjson", "b.mcap.ndjson", &["--limit", "1"]);
    assert_eq!(desk.diff("a.mcap", "b.mcap", &["--skip", "1"]).code, 1);
    // A job that compares nothing, as a name is misspelled, is not to succeed.
    let ran = desk.diff("a.mcap", "b.mcap", &["--topic", "audti"]);
    assert!(ran.code == 3 && ran.stderr.contains("warning: no frame is selected"), "{ran:?}");
}

#[test]
fn schemas_are_compared_and_absent_where_lines_are() {
    let desk = Desk::new();
    let schema = |folder: &str, fields: &str| {
        let folder = desk.path(folder);
        fs::create_dir(&folder).unwrap();
        let source = format!("syntax = \"proto2\"; package Lab; message probe {{ {fields} }}");
        fs::write(Path::new(&folder).join("lab.proto"), source).unwrap();
        folder
    };
    let old = schema("old", "optional string name = 1;");
    let new = schema("new", "optional string name = 1; optional int32 n = 2;");
    desk.put("lines", r#"{"topic":"lab","data":{"name":"x"}}"#);
    for (proto, capture) in [(&old, "a.mcap"), (&new, "b.mcap")] {
        let (lines, capture) = (desk.path("lines"), desk.path(capture));
        let options = ["--proto", proto, "--payload", "lab=Lab.probe"];
        let ran = centralcap([&["encode", &*lines, "-o", &*capture], &options[..]].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    let ran = desk.diff("a.mcap", "b.mcap", &[]);
    assert_eq!((ran.code, &*ran.stdout), (1, "schema   Lab.probe.n: (none) -> int32 = 2\n"));
    desk.is_same("a.mcap", "b.mcap", &["--ignore", "@schema"]);
    desk.is_same("a.mcap", "b.mcap", &["--proto", &new]);
    // A path may lead into what only the captures know.
    desk.is_same("a.mcap", "b.mcap", &["--ignore", "@schema", "--ignore", "data.name"]);
    let lab = ["--payload", "lab=Lab.probe", "--proto", &new];
    desk.is_same("lines", "a.mcap", &[&lab[..], &["--ignore", "timestamp"]].concat());
}

#[test]
fn the_keys_of_a_map_have_no_order() {
    let desk = Desk::new();
    let folder = desk.path("proto");
    fs::create_dir(&folder).unwrap();
    let source = "syntax = \"proto2\"; package Lab; message probe { map<string, int32> m = 1; }";
    fs::write(Path::new(&folder).join("lab.proto"), source).unwrap();
    let of = subscription("lab", "lab");
    let entry =
        |key: &str, value| [message::len(1, key.as_bytes()), message::int(2, value)].concat();
    let frame = |entries: &[Vec<u8>]| {
        let entries: Vec<_> = entries.iter().flat_map(|entry| message::len(1, entry)).collect();
        envelope("lab", "1", entries)
    };
    for (name, entries) in [
        ("a.mcap", [entry("x", 1), entry("y", 2)]),
        ("b.mcap", [entry("y", 2), entry("x", 1)]),
        ("c.mcap", [entry("y", 2), entry("x", 3)]),
    ] {
        let mut all = Entries::new();
        all.frame(Duration::ZERO, &of, frame(&entries));
        all.write(Path::new(&desk.path(name)));
    }
    let options = ["--proto", &folder, "--payload", "lab=Lab.probe"];
    desk.is_same("a.mcap", "b.mcap", &options);
    let report = desk.report("a.mcap", "c.mcap", &options);
    assert_eq!(report["differences"][0]["changes"], json!([{"path": "data.m.x", "a": 1, "b": 3}]));
}

#[test]
fn what_cannot_be_decoded_is_compared_by_its_bytes_and_said() {
    let desk = Desk::new();
    let of = subscription("audit", "audit");
    let broken = |byte: u8| Bytes::from(vec![0x12, 5, b'a', byte]);
    for (name, byte) in [("a.mcap", 1), ("b.mcap", 1), ("c.mcap", 2)] {
        let mut entries = Entries::new();
        entries.frame(Duration::ZERO, &of, broken(byte));
        entries.write(Path::new(&desk.path(name)));
    }
    let ran = desk.diff("a.mcap", "b.mcap", &[]);
    assert_eq!((ran.code, &*ran.stdout), (3, ""), "{}", ran.stderr);
    let told = "A: 1 frame compared by bytes, as decoding failed; 0 damaged places\n";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
    let ran = desk.diff("a.mcap", "c.mcap", &[]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stdout.contains("    @undecodable: \"EgVhAQ==\" -> \"EgVhAg==\"\n"),
        "{}",
        ran.stdout
    );
}

#[test]
fn damage_is_told_and_what_is_whole_is_compared() {
    let desk = Desk::new();
    synthetic(&desk, "a.mcap", 3, 200);
    let whole = fs::read(desk.path("a.mcap")).unwrap();
    desk.put("cut.mcap", &whole[..whole.len() - 100]);
    let ran = desk.diff("a.mcap", "cut.mcap", &[]);
    assert_eq!((ran.code, &*ran.stdout), (3, ""), "{}", ran.stderr);
    let path = desk.path("cut.mcap");
    assert!(ran.stderr.starts_with(&format!("warning: {path}: damaged capture {path} at byte")));
    desk.put("cut.mcap", &whole[..whole.len() / 2]);
    let ran = desk.diff("a.mcap", "cut.mcap", &["--quiet"]);
    assert_eq!((ran.code, &*ran.stdout), (1, ""), "{}", ran.stderr);
}

#[test]
fn bad_input_is_named_and_is_no_difference() {
    let desk = Desk::new();
    synthetic(&desk, "a.mcap", 3, 20);
    let told = |a: &str, b: &str, expected_code: i32| {
        let ran = centralcap(["diff", a, b]);
        assert_eq!((ran.code, &*ran.stdout), (expected_code, ""), "{}", ran.stderr);
        ran.stderr
    };
    let a = desk.path("a.mcap");
    let missing = desk.path("missing.mcap");
    assert!(told(&a, &missing, 1).starts_with(&format!("error: cannot open {missing}")));
    assert!(told("-", &a, 2).starts_with("error: expected a file or a folder, found -\nhint: "));
    desk.put(
        "bad.ndjson",
        "{\"topic\":\"audit\",\"data\":{}}\n{\"topic\":\"audit\",\"data\":{\"x\":1}}\n",
    );
    let bad = desk.path("bad.ndjson");
    let expected =
        format!("error: expected a field of Audit.audit_message as data.x in line 2 of {bad}");
    assert!(told(&bad, &a, 1).starts_with(&expected));
    desk.put("other", "no capture at all");
    let other = desk.path("other");
    let expected = format!("error: expected a capture, found something else in {other}");
    assert!(told(&a, &other, 1).starts_with(&expected));
    let empty = desk.path("empty");
    fs::create_dir(&empty).unwrap();
    assert!(told(&a, &empty, 1).starts_with("error: expected a capture, found none in"));
}

/// How many random messages of each payload: ten thousand of all are asked for by `MESSAGES=1430`.
fn measure() -> u64 {
    std::env::var("MESSAGES").ok().map_or(20, |count| count.parse().unwrap())
}

/// A frame of each payload with random content, and its topic.
fn random_frames(first: u64) -> Vec<(&'static str, Subject, Vec<Vec<u8>>)> {
    let mut all = Vec::new();
    for subject in subject::subjects(Path::new(env!("CARGO_MANIFEST_DIR"))) {
        let Some(field) = subject.descriptor.get_field(3) else { continue };
        let payload = field.kind().as_message().map(|payload| payload.full_name().to_owned());
        let topics = PROTOCOLS[0].topics().iter();
        let mut topics = topics.filter(|topic| {
            topic.payloads.iter().any(|known| Some(known.message) == payload.as_deref())
        });
        let Some(topic) = topics.next() else { continue };
        let frames = (first..first + measure())
            .map(|seed| message::random(&subject.descriptor, seed))
            .filter(|data| subject.walk(data, 0).is_ok());
        let frames = frames.collect();
        all.push((topic.name, subject, frames));
    }
    assert_eq!(all.len(), 7);
    all
}

fn write_frames(desk: &Desk, name: &str, all: &[(&'static str, Subject, Vec<Vec<u8>>)]) -> u64 {
    let mut entries = Entries::new();
    for (number, (topic, _, frames)) in all.iter().enumerate() {
        let of = subscription(&format!("{number} of {topic}"), topic);
        for data in frames {
            let after = Duration::from_nanos(entries.made.len() as u64);
            entries.frame(after, &of, data.clone().into());
        }
    }
    entries.write(Path::new(&desk.path(name)));
    entries.made.len() as u64
}

#[test]
fn random_messages_of_all_payloads_do_not_differ_after_decode_and_encode() {
    let desk = Desk::new();
    let frames = write_frames(&desk, "a.mcap", &random_frames(0));
    assert!(frames > 5 * measure(), "{frames}");
    let there_and_back = |from: &str, lines: &str, to: &str, shown: &[&str], raw: &[&str]| {
        let lines_path = desk.path(lines);
        let (from, to) = (desk.path(from), desk.path(to));
        let ran = centralcap([&["decode", &from, "-o", &lines_path, "--quiet"], shown].concat());
        assert!([0, 3].contains(&ran.code), "{}", ran.stderr);
        let ran = centralcap([&["encode", &lines_path, "-o", &to], raw].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    };
    // By their bytes: all but what cannot be decoded, as a frame that was made as another payload.
    there_and_back("a.mcap", "raw.ndjson", "b.mcap", &["--raw"], &["--raw"]);
    let report = desk.report("a.mcap", "b.mcap", &[]);
    assert_eq!(report["missing"], report["a"]["undecodable"]);
    assert_eq!(report["same"].as_u64(), report["b"]["frames"].as_u64());
    assert_eq!((&report["changed"], &report["added"]), (&json!(0), &json!(0)));
    assert!(report["same"].as_u64().unwrap() > frames * 9 / 10, "{report}");
    // By their values.
    there_and_back("b.mcap", "lines.ndjson", "c.mcap", &[], &[]);
    desk.is_same("b.mcap", "c.mcap", &["--ignore", "@unknown"]);
    desk.is_same("lines.ndjson", "b.mcap", &[]);
    desk.is_same("c.mcap", "lines.ndjson", &[]);
}

#[test]
fn random_messages_differ_where_their_lines_do() {
    let desk = Desk::new();
    let (mut of_a, of_b) = (random_frames(0), random_frames(1_000_000));
    // Every other frame is the same.
    let mut expected = 0;
    for ((_, subject, a), (_, _, b)) in of_a.iter_mut().zip(&of_b) {
        let frames = a.len().min(b.len());
        a.truncate(frames);
        for (at, (a, b)) in a.iter_mut().zip(b).enumerate() {
            if at % 2 == 0 {
                a.clone_from(b);
            }
            expected += u64::from(subject.walk(a, 0).unwrap() != subject.walk(b, 0).unwrap());
        }
    }
    let of_b: Vec<_> = of_a
        .iter()
        .zip(of_b)
        .map(|((_, _, a), (topic, subject, mut b))| {
            b.truncate(a.len());
            (topic, subject, b)
        })
        .collect();
    let frames = write_frames(&desk, "a.mcap", &of_a);
    assert_eq!(write_frames(&desk, "b.mcap", &of_b), frames);
    let report = desk.report("a.mcap", "b.mcap", &["--ignore", "@unknown", "--show", "100000"]);
    let count = |name: &str| report[name].as_u64().unwrap();
    assert_eq!(count("same") + count("changed") + count("missing") + count("moved"), frames);
    // Some random messages of one type are taken for another, and some are equal by chance.
    let found = count("changed") + count("missing") + count("moved");
    assert!(expected > frames / 4 && found >= expected, "{found} {expected} {frames}");
    for difference in report["differences"].as_array().unwrap() {
        if difference["kind"] == "changed" {
            assert!(!difference["changes"].as_array().unwrap().is_empty(), "{difference}");
        }
    }
    assert_eq!(Style::default(), subject::STYLES[0], "the lines are in the same style");
}
