//! The views of `inspect` that go into frames.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::{collections::BTreeSet, ops::ControlFlow, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use centralcap::{
    capture::{Capture, SealedFile},
    codec::plan::Style,
    entry::{Entry, Frame, FrameType, Subscription, What},
    inspect::{
        self, Look, each_frame,
        message::{self, Dissection, Dissector, LINES, Standing},
        schema,
    },
    schema::{Resolver, from_descriptor_set, from_folder},
    select::Selection,
};
use prost_reflect::prost_types::FileDescriptorProto;
use serde_json::Value as Json;

use self::support::{
    capture::{Entries, START, about, envelope, subscription},
    command::{Ran, centralcap},
};

mod support;

const CAMPUS: &str = "fixtures/campus.mcap";

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn inspected(path: impl AsRef<Path>, arguments: &[&str]) -> Ran {
    let path = path.as_ref().to_str().unwrap();
    centralcap([&["inspect", path][..], arguments].concat())
}

fn json(ran: &Ran) -> Json {
    serde_json::from_str(&ran.stdout).unwrap()
}

/// A length-delimited field.
fn len(number: usize, data: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    prost::encode_length_delimiter(number << 3 | 2, &mut field).unwrap();
    prost::encode_length_delimiter(data.len(), &mut field).unwrap();
    [&field[..], data].concat()
}

const MAC: [u8; 6] = [0x02, 0x00, 0x5e, 0x10, 0xab, 0xff];

/// A location of a client, by field 15.
fn location(mac: &[u8]) -> Bytes {
    let payload = [&[0x0d, 0, 0, 0x80, 0x3f][..], &len(15, &len(1, mac))].concat();
    envelope("location", "1000001", payload)
}

/// A client came into a zone.
fn geofence(mac: &[u8]) -> Bytes {
    let payload = [&[0x08, 0][..], &len(2, b"zone-1"), &len(3, b"lobby"), &len(4, &len(1, mac))];
    envelope("location", "1000001", payload.concat())
}

/// Statistics of some clients, each in an element of its own.
fn client_stats(macs: &[&[u8]]) -> Bytes {
    let stats = macs.iter().flat_map(|mac| {
        len(17, &[len(1, b"SYNAP0000001"), len(2, &len(1, mac)), vec![0x18, 1]].concat())
    });
    let payload: Vec<u8> = len(1, b"1000001").into_iter().chain(stats).collect();
    envelope("monitoring", "1000001", payload)
}

fn presence(mac: &[u8]) -> Bytes {
    let rssi = [len(1, &len(1, mac)), len(8, b"SYNAP0000002")].concat();
    let payload = [
        &[0x08, 1][..],
        &len(2, b"1000001"),
        &len(3, b"rssi"),
        &[0x20, 1],
        &len(6, &len(1, &rssi)),
    ];
    envelope("presence", "1000001", payload.concat())
}

fn rogue(lan_mac: &str) -> Bytes {
    let rogue = [len(1, &len(1, &[2; 6])), vec![0x10, 1], len(7, lan_mac.as_bytes())].concat();
    envelope("security", "1000001", [len(1, b"1000001"), len(2, &rogue)].concat())
}

/// One client in every form that there is, among others. The numbers of its frames.
fn sightings(path: &Path) -> Vec<u64> {
    let mut entries = Entries::new();
    let of = |topic: &str| subscription(&format!("campus-{topic}"), topic);
    let other = [0x02, 0x00, 0x5e, 0x10, 0xab, 0xfe];
    let many = [&[0x02, 0, 0, 0, 0, 1][..], &[0x02, 0, 0, 0, 0, 2], &MAC, &other];
    let frames = [
        ("location", location(&MAC), true),
        ("location", location(&other), false),
        ("location", geofence(&MAC), true),
        ("monitoring", client_stats(&many), true),
        ("monitoring", client_stats(&many[..2]), false),
        ("presence", presence(b"02005E10ABFF"), true),
        ("presence", presence(b"02005E10ABFE"), false),
        ("security", rogue("02-00-5e-10-AB-FF"), true),
        ("security", rogue("0200.5e10.abff"), true),
        ("security", rogue("02:00:5E:10:AB:FF"), true),
        ("security", rogue("02:00:5E:10:AB:FE"), false),
    ];
    for (index, (topic, frame, _)) in frames.iter().enumerate() {
        entries.frame(seconds(index as u64), &of(topic), frame.clone());
    }
    entries.write(path);
    let numbered = frames.iter().zip(1..);
    numbered.filter(|((.., is_it), _)| *is_it).map(|(_, number)| number).collect()
}

#[test]
fn one_client_is_found_by_its_mac_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sightings.mcap");
    let expected = sightings(&path);
    for form in ["02:00:5e:10:ab:ff", "02-00-5E-10-AB-FF", "0200.5e10.abff", "02005e10ABff"] {
        let ran = inspected(&path, &["--messages", "--json", "--find", form]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        let lines = ran.json_lines();
        let numbers: Vec<_> = lines.iter().map(|line| line["message"].as_u64().unwrap()).collect();
        assert_eq!(numbers, expected, "{form}");
    }
    // What is shown of a list is where the client is.
    let ran = inspected(&path, &["--messages", "--find", "02:00:5e:10:ab:ff"]);
    let line = ran.stdout.lines().find(|line| line.contains("client_stats")).unwrap();
    assert!(line.contains("client_stats x4"), "{line}");
    assert!(line.contains("device_id=SYNAP0000001 macaddr=02:00:5e:10:ab:ff"), "{line}");
    // The same option finds the same wherever a capture is read.
    let path = path.to_str().unwrap();
    let decoded = centralcap(["decode", path, "--find", "02005e10abff"]);
    assert_eq!(decoded.json_lines().len(), expected.len());
    let out = folder.path().join("client.mcap");
    let edited = centralcap(["edit", path, "--find", "02005e10abff", "-o", out.to_str().unwrap()]);
    assert_eq!(edited.code, 0, "{edited:?}");
    let profile = json(&inspected(&out, &["--json"]));
    assert_eq!(profile["totals"]["frames"], expected.len());
    assert_eq!(profile["about"]["options"]["edit.find"], "02005e10abff");
    let found = inspected(path, &["--messages", "--find", "LOBBY", "--find", "synap0000002"]);
    let numbers: Vec<_> = found.stdout.lines().map(|line| line.trim().split(' ').next()).collect();
    assert_eq!(numbers, [Some("3"), Some("6"), Some("7")]);
}

#[test]
fn what_was_searched_for_is_not_told_by_a_redacted_capture() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sightings.mcap");
    sightings(&path);
    let out = folder.path().join("redacted.mcap");
    let (path, out) = (path.to_str().unwrap(), out.to_str().unwrap());
    let ran = centralcap(["edit", path, "--find", "02005e10abff", "--redact", "-o", out]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let about = json(&inspected(out, &["--json"]))["about"].to_string();
    assert!(!about.contains("02005e10abff"), "{about}");
}

#[test]
fn a_line_says_when_whose_what_and_how_large_a_frame_is() {
    let all = inspected(CAMPUS, &["--messages", "--json"]).json_lines();
    assert_eq!(all.len(), 600);
    let decoded = centralcap(["decode", CAMPUS]).json_lines();
    for ((line, decoded), number) in all.iter().zip(&decoded).zip(1..) {
        assert_eq!(line["message"], number);
        for key in ["received", "subscription", "topic", "type"] {
            assert_eq!(line[key], decoded[key], "{key} of {number}");
        }
        // What is said is what is in the frame.
        for (path, value) in line["facts"].as_object().unwrap() {
            let shown = value.as_str().unwrap();
            if shown.contains('\\') {
                // It is not UTF-8, and spelled in another way.
                continue;
            }
            assert!(decoded.to_string().contains(shown), "{path}={shown} of {number}");
        }
        for (path, count) in line["counts"].as_object().unwrap() {
            let path = path.replace('.', "/");
            let list = decoded["data"].pointer(&format!("/{path}"));
            if let Some(list) = list.and_then(Json::as_array) {
                assert_eq!(list.len() as u64, count.as_u64().unwrap(), "{path} of {number}");
            }
        }
    }
    let total: u64 = all.iter().map(|line| line["bytes"].as_u64().unwrap()).sum();
    assert_eq!(json(&inspected(CAMPUS, &["--json"]))["totals"]["bytes"], total);
    let text = inspected(CAMPUS, &["--messages"]);
    for (text, line) in text.stdout.lines().zip(&all) {
        for key in ["message", "received", "subscription", "type", "bytes"] {
            let value = line[key].as_str().map_or_else(|| line[key].to_string(), str::to_owned);
            assert!(text.split(' ').any(|word| word == value), "{key} in {text}");
        }
    }
    // Numbers stay whatever is selected.
    let some = ["--messages", "--json", "--topic", "audit", "--skip", "3", "--limit", "5"];
    let audits = all.iter().filter(|line| line["topic"] == "audit").skip(3).take(5);
    assert_eq!(inspected(CAMPUS, &some).json_lines(), audits.cloned().collect::<Vec<_>>());
}

fn dissector(lines: usize) -> Dissector {
    Dissector::new(Resolver::default(), Style::default(), lines)
}

fn dissections(path: &str) -> Vec<Dissection> {
    let mut dissector = dissector(LINES);
    let capture = Capture::open(&[path]).unwrap();
    let mut all = Vec::new();
    let lost = |error: &centralcap::error::Error| panic!("{error}");
    each_frame(&capture, Selection::default(), lost, |frame| {
        all.push(dissector.dissect(frame));
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    all
}

/// The lines are about every byte, each once and in order.
fn covers(of: &Dissection) {
    let mut at = 0;
    for line in &of.wire {
        assert_eq!(line.offset, at, "{line:?}");
        at += line.bytes;
        assert!(!line.text().contains(char::is_control), "{line:?}");
    }
    assert_eq!(at + of.left_out, of.data.len());
}

#[test]
fn a_message_is_taken_apart_to_its_last_byte() {
    let decoded = centralcap(["decode", CAMPUS]);
    for (of, line) in dissections(CAMPUS).iter().zip(decoded.stdout.lines()) {
        covers(of);
        assert_eq!((of.left_out, &of.fault), (0, &None));
        assert_eq!(of.decoded.as_ref().unwrap().get(), line);
        let broken = of.wire.iter().find(|line| line.standing == Standing::Broken);
        assert_eq!(broken, None, "{}", of.message);
        // Names come from the schema, and values are those that decode shows.
        for line in of.wire.iter().filter(|line| line.standing == Standing::Known) {
            let name = line.name.as_deref().unwrap();
            assert!(of.decoded.as_ref().unwrap().get().contains(&format!("\"{name}\"")), "{name}");
        }
    }
    let ran = inspected(CAMPUS, &["--message", "17"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.starts_with("message     17, of "), "{}", ran.stdout);
    let of = json(&inspected(CAMPUS, &["--message", "17", "--json", "--topic", "apprf"]));
    assert_eq!((&of["message"], &of["fault"]), (&17.into(), &Json::Null));
    let line: Json = serde_json::from_str(decoded.stdout.lines().nth(16).unwrap()).unwrap();
    assert_eq!(of["decoded"], line);
}

#[test]
fn the_page_shows_bytes_fields_and_what_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capture.mcap");
    let mut entries = Entries::new();
    let location = [
        // Not declared: a number, a text, a message, four bytes.
        &[0x20, 7][..],
        &len(5, b"words"),
        &len(6, &len(1, &[0x08, 0x01])),
        &[0x55, 0, 0, 0x80, 0x3f],
        &len(15, &len(1, &MAC)),
        // target_type, which has no 9.
        &[0x98, 0x01, 9],
    ];
    let frame = envelope("location", "1000001", location.concat());
    entries.frame(seconds(1), &subscription("campus", "location"), frame);
    entries.write(&path);
    insta::assert_snapshot!(inspected(&path, &["--message", "1"]).stdout);
}

#[test]
fn a_broken_message_shows_where_it_breaks_and_goes_on_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capture.mcap");
    let mut entries = Entries::new();
    let of = subscription("campus", "location");
    // A client whose address reaches past the end of the message that it is in.
    let payload = [len(15, &[0x0a, 0x06, 1, 2]), len(16, b"north")].concat();
    entries.frame(seconds(1), &of, envelope("location", "1000001", payload));
    entries.frame(seconds(2), &of, envelope("location", "1000001", &[0x0f, 0][..]));
    entries.write(&path);
    let ran = inspected(&path, &["--message", "1"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(
        ran.stdout.contains("! at byte 15: a length of 6 bytes reaches past"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("16 campus_id_string LEN 5  \"north\""), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("cannot be decoded: at byte 15: data.sta_eth_mac"),
        "{}",
        ran.stdout
    );
    let lines = inspected(&path, &["--messages"]).stdout;
    assert!(lines.contains("  broken at byte 12: 7 is not a wire type"), "{lines}");
}

#[test]
fn nothing_in_a_frame_makes_taking_it_apart_fail_or_grow() {
    let mut entries = Entries::new();
    let deep = (0..300).fold(Vec::new(), |inner, _| len(1, &inner));
    let groups = [0x0b_u8; 300];
    let flood = vec![0x08_u8; 50_000];
    let of = subscription("campus", "apprf");
    for frame in [deep, groups.to_vec(), flood, vec![0xff; 40], Vec::new()] {
        entries.frame(seconds(1), &of, Bytes::from(frame.clone()));
        entries.frame(seconds(1), &of, envelope("apprf", "1", frame));
    }
    // Every cut, and bytes that are something else, of some real frames.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capture.mcap");
    sightings(&path);
    let whole = dissections(path.to_str().unwrap());
    for of in &whole {
        let of_frame = subscription(&of.subscription, &of.topic);
        for at in 0..of.data.len() {
            entries.frame(seconds(1), &of_frame, of.data.slice(..at));
            for mask in [0x07, 0x80] {
                let mut data = of.data.to_vec();
                data[at] ^= mask;
                entries.frame(seconds(1), &of_frame, data.into());
            }
        }
    }
    let path = folder.path().join("hostile.mcap");
    entries.write(&path);
    let capture = Capture::open(&[&path]).unwrap();
    let look = Look { color: false, unicode: true, width: inspect::WIDTH, everything: false };
    let (mut all, mut few) = (dissector(LINES), dissector(10));
    let mut broken = 0;
    each_frame(
        &capture,
        Selection::default(),
        |error| panic!("{error}"),
        |frame| {
            let of = all.dissect(frame);
            covers(&of);
            broken += usize::from(of.wire.iter().any(|line| line.standing == Standing::Broken));
            let page = of.text(look);
            assert!(page.lines().count() < 3 * LINES && !page.contains('\x1b'));
            let of = few.dissect(frame);
            covers(&of);
            assert!(of.wire.len() <= 11, "{}", of.wire.len());
            Ok(ControlFlow::Continue(()))
        },
    )
    .unwrap();
    assert!(broken > 100, "{broken}");
    for view in ["--messages", "--drift", "--top"] {
        let ran = inspected(&path, &[view]);
        assert!([0, 3].contains(&ran.code), "{ran:?}");
        assert!(!ran.stdout.contains(|c: char| c.is_control() && c != '\n'), "{view}");
    }
}

#[test]
fn what_a_terminal_would_obey_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capture.mcap");
    let mut entries = Entries::new();
    let of = subscription("cam\x1b[2Jpus", "location");
    let zone = "lob\x1b[2J\u{202e}by\nnext\u{9b}31m";
    let payload = [&[0x08, 1][..], &len(3, zone.as_bytes()), &len(9, zone.as_bytes())].concat();
    entries.frame(seconds(1), &of, envelope("location", "1000001", payload));
    entries.write(&path);
    for view in [
        &["--messages"][..],
        &["--messages", "--json"],
        &["--message", "1"],
        &["--message", "1", "--json"],
        &["--drift"],
        &["--drift", "--json"],
        &["--top"],
        &["--top", "--json"],
        &["--schema"],
    ] {
        let ran = inspected(&path, view);
        assert_eq!(ran.code, 0, "{ran:?}");
        let is_obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!ran.stdout.contains(is_obeyed), "{view:?}: {:?}", ran.stdout);
        if view[0] == "--messages" {
            assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
        }
    }
}

/// Reads what `--schema` prints for frames with a label, back into descriptors.
fn compiled(files: &[schema::SchemaFile], label: &str) -> Vec<FileDescriptorProto> {
    let folder = tempfile::tempdir().unwrap();
    for file in files.iter().filter(|file| file.labels.iter().any(|known| known == label)) {
        let path = folder.path().join(&file.name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file.page()).unwrap();
    }
    sorted(from_folder(folder.path()).unwrap().file_descriptor_protos())
}

/// Without comments, in the order of their names.
fn sorted<'f>(files: impl Iterator<Item = &'f FileDescriptorProto>) -> Vec<FileDescriptorProto> {
    let bare = |file: &FileDescriptorProto| FileDescriptorProto {
        source_code_info: None,
        // What stands in the text is the same without it.
        syntax: file.syntax.clone().filter(|syntax| syntax != "proto2"),
        ..file.clone()
    };
    let mut files: Vec<_> = files.map(bare).collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

#[test]
fn the_schema_is_text_that_means_the_same() {
    let capture = Capture::open(&[CAMPUS]).unwrap();
    let files = schema::files(&capture, &Selection::default(), |error| panic!("{error}")).unwrap();
    let mut labels = 0;
    for (_, kind) in capture.channels().unwrap() {
        let Some(kind) = kind else { continue };
        let pool = from_descriptor_set(&kind.descriptors, "a test").unwrap();
        assert_eq!(compiled(&files, &kind.label), sorted(pool.file_descriptor_protos()));
        labels += 1;
    }
    assert_eq!(labels, 7);
    let ran = inspected(CAMPUS, &["--schema"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.contains("package Monitoring;"), "{}", ran.stdout);
    let ran = inspected(CAMPUS, &["--schema", "--topic", "audit"]);
    assert!(ran.stdout.contains("package Audit;") && !ran.stdout.contains("package Monitoring;"));
    let ran = inspected(CAMPUS, &["--schema", "--topic", "audits"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""));
    assert!(ran.stderr.starts_with("warning: no schema is selected"), "{}", ran.stderr);
}

/// Everything that a `.proto` file can hold, but for services with streams of their own kind.
const EVERYTHING: &str = r#"
syntax = "proto2";
package every.thing;
import "google/protobuf/timestamp.proto";
import "google/protobuf/descriptor.proto";
import public "other.proto";
option java_package = "com.example.\"quoted\"";
option (level) = HIGH;
extend google.protobuf.FileOptions { optional Level level = 50000; }
extend google.protobuf.FieldOptions {
  optional string note = 50001; repeated int32 sizes = 50002; optional Outer.Inner in = 50003;
}
enum Level { option allow_alias = true; LOW = 0; HIGH = 1; TOP = 1 [deprecated = true];
  reserved 5, 7 to 9, 100 to max; reserved "OLD"; }
message Outer {
  option deprecated = true;
  enum Level { INNER = -1; OTHER = 0x10; }
  message Inner { optional Outer outer = 1; optional .every.thing.Level level = 2; optional Level own = 3; }
  message Timestamp { optional Level Level = 1; optional .every.thing.Level far = 2; }
  required int32 a = 1 [default = -5];
  optional string s = 2 [default = "a\"b\\c\n\001", json_name = "other", (note) = "tab\there"];
  optional bytes b = 3 [default = "\000\377x\"y"];
  optional double d = 4 [default = inf];
  optional float f = 5 [default = -1.5];
  optional Level l = 6 [default = OTHER];
  optional bool yes = 7 [default = true];
  repeated sint64 packed = 8 [packed = true, (sizes) = 1, (sizes) = 2, (in) = { own: INNER level: HIGH }];
  map<string, Inner> inners = 9;
  map<int32, Level> levels = 10;
  optional group Grouped = 11 { optional fixed32 x = 1; oneof one { string t = 2; Inner i = 3; } }
  message Last { optional google.protobuf.Timestamp at = 1; optional Timestamp own = 2; }
  repeated group Many = 12 { extensions 4; }
  oneof choice { sfixed64 c = 13; Last last = 14; group Chosen = 15 { } }
  extensions 100 to 199, 1000 to max;
  reserved 20, 30 to 40; reserved "gone", "lost";
  extend Outer { optional uint64 in_it = 100; }
}
extend Outer { optional Outer.Inner extra = 101; repeated group More = 102 { optional bool z = 1; } }
service Served { rpc One(Outer) returns (stream Outer.Inner); rpc Two(stream Outer) returns (other.There) { option deprecated = true; } }
"#;

const OTHER: &str = r#"
syntax = "proto3";
package other;
message There { optional int32 maybe = 1; int32 plain = 2; repeated int32 many = 3; repeated int32 loose = 4 [packed = false]; There there = 5; }
"#;

#[test]
fn every_construct_of_a_schema_survives_being_printed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("every.proto"), EVERYTHING).unwrap();
    std::fs::write(folder.path().join("other.proto"), OTHER).unwrap();
    let pool = from_folder(folder.path()).unwrap();
    let kind = Arc::new(FrameType {
        label: "every".to_owned(),
        envelope: "every.thing.Outer".to_owned(),
        payload: None,
        descriptors: pool.encode_to_vec().into(),
    });
    let path = folder.path().join("capture.mcap");
    write(&path, &[(subscription("campus", "every"), kind, Bytes::new())]);
    let capture = Capture::open(&[&path]).unwrap();
    let files = schema::files(&capture, &Selection::default(), |error| panic!("{error}")).unwrap();
    let own = |file: &FileDescriptorProto| !file.name().starts_with("google/");
    let found: Vec<_> = compiled(&files, "every").into_iter().filter(own).collect();
    let expected: Vec<_> = sorted(pool.file_descriptor_protos()).into_iter().filter(own).collect();
    let lines = |files: &[FileDescriptorProto]| format!("{files:#?}");
    let (found, expected) = (lines(&found), lines(&expected));
    let differing = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert_eq!(differing, None, "{}", files.iter().map(|file| &*file.text).collect::<String>());
    assert_eq!(found.lines().count(), expected.lines().count());
    // Options of our own are no part of what prost knows of descriptors: printing again shows them.
    let again = tempfile::tempdir().unwrap();
    for file in &files {
        let path = again.path().join(&file.name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &file.text).unwrap();
    }
    let every = files.iter().find(|file| file.name == "every.proto").unwrap();
    for option in ["(.every.thing.level) = HIGH", "(.every.thing.sizes) = 2", "own:INNER"] {
        assert!(every.text.contains(option), "{option} in {}", every.text);
    }
    assert!(from_folder(again.path()).is_ok());
}

/// Frames of types that nobody would take them for.
fn write(path: &Path, frames: &[(Arc<Subscription>, Arc<FrameType>, Bytes)]) {
    let mut file = SealedFile::create(path, &about(seconds(0)), &[]).unwrap();
    for ((subscription, kind, data), sequence) in frames.iter().zip(1..) {
        let (kind, data) = (Arc::clone(kind), data.clone());
        let frame = Frame { sequence, sent: None, kind, data };
        let received = START.after(seconds(sequence.into()));
        let what = What::Frame(frame);
        file.append(&Entry { subscription: Arc::clone(subscription), received, what }).unwrap();
    }
    file.finish().unwrap();
}

#[test]
fn drift_says_what_is_not_as_the_schema_says_and_what_would_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capture.mcap");
    let of = subscription("campus", "location");
    let mut entries = Entries::new();
    entries.frame(seconds(0), &of, location(&MAC));
    let Some(location_frame) = entries.made[0].frame() else { panic!("it is one") };
    let kind = Arc::clone(&location_frame.kind);
    let with = |more: &[u8]| {
        let payload = [&len(15, &len(1, &MAC))[..], more].concat();
        envelope("location", "1000001", payload)
    };
    let frames = [
        location(&MAC),
        with(&[0x98, 0x01, 9]),
        with(&[0xf8, 0x01, 7, 0xf8, 0x01, 8]),
        with(&[0xf8, 0x01, 9]),
        // Taken for what they are not: one breaks, the other lacks what is required.
        geofence(&MAC),
        envelope("location", "1000001", len(4, &len(1, &MAC))),
        envelope("location", "1000001", len(30, b"nothing")),
        envelope("location", "1000001", Vec::new()),
        envelope("location", "1000001", &b"\x7a\x05"[..]),
    ];
    let typed = frames.map(|data| (Arc::clone(&of), Arc::clone(&kind), data));
    write(&path, &typed);
    let ran = inspected(&path, &["--drift", "--json"]);
    // Two cannot be decoded.
    assert_eq!(ran.code, 3, "{ran:?}");
    let drift = json(&ran);
    assert_eq!((&drift["frames"], &drift["drifted"]), (&9.into(), &8.into()));
    let row = |what: &str, path: &str, number: Json| {
        let rows = drift["rows"].as_array().unwrap().iter();
        let mut rows = rows
            .filter(|row| row["what"] == what && row["path"] == path && row["number"] == number);
        let row = rows.next().unwrap_or_else(|| panic!("{what} {path} in {drift:#}")).clone();
        assert!(rows.next().is_none());
        row
    };
    let unknown = row("unknown_field", "data", 31.into());
    let seen = |row: &Json| {
        let keys = ["times", "frames", "first_message"];
        keys.map(|key| row[key].as_u64().unwrap())
    };
    assert_eq!((seen(&unknown), &unknown["sample"]), ([3, 2, 3], &"7".into()));
    assert_eq!(unknown["first_received"], START.after(seconds(3)).to_string());
    let number = row("unknown_enum_number", "data.target_type", 9.into());
    assert_eq!((seen(&number), &number["sample"]), ([1, 1, 2], &"9".into()));
    let missing = row("missing_required", "data.sta_eth_mac", Json::Null);
    assert_eq!(seen(&missing), [2, 2, 6]);
    let fits = serde_json::json!({"payload": "Location.stream_geofence_notify", "frames": 1});
    assert_eq!(missing["fits_better"], fits);
    let broken = row("undecodable", "data.sta_location_x", Json::Null);
    assert_eq!((seen(&broken), &broken["fits_better"]), ([1, 1, 5], &fits));
    assert_eq!(broken["sample"], "at byte 13: expected wire type 5, found 0");
    assert_eq!(seen(&row("nothing_known", "data", Json::Null)), [2, 2, 6]);
    assert_eq!(seen(&row("empty_payload", "data", Json::Null)), [1, 1, 8]);
    assert_eq!(drift["undecodable"], 2);
    let text = inspected(&path, &["--drift"]).stdout;
    assert!(text.contains("data has an unknown field 31 of wire type 0"), "{text}");
    assert!(text.contains("Location.stream_geofence_notify would fit better"), "{text}");
    assert_eq!(inspected(CAMPUS, &["--drift"]).code, 0);
}

#[test]
fn top_weighs_payloads_their_parts_and_devices() {
    let top = json(&inspected(CAMPUS, &["--top", "--json", "--verbose"]));
    let totals = json(&inspected(CAMPUS, &["--json"]))["totals"].clone();
    assert_eq!((&top["frames"], &top["bytes"]), (&totals["frames"], &totals["bytes"]));
    let payloads = top["payloads"].as_array().unwrap();
    let sum: u64 = payloads.iter().map(|payload| payload["bytes"].as_u64().unwrap()).sum();
    assert_eq!(top["bytes"], sum);
    assert!(payloads.is_sorted_by_key(|payload| std::cmp::Reverse(payload["bytes"].as_u64())));
    // Counted once more, the slow way.
    let decoded = centralcap(["decode", CAMPUS]).json_lines();
    let monitoring = "Monitoring.MonitoringInformation";
    let monitored = decoded.iter().filter(|line| line["type"] == monitoring);
    let payload = payloads.iter().find(|payload| payload["payload"] == monitoring).unwrap();
    assert_eq!(payload["frames"], monitored.clone().count());
    for part in payload["parts"].as_array().unwrap() {
        let field = part["field"].as_str().unwrap();
        let there = monitored.clone().filter_map(|line| line["data"].get(field));
        let elements = there.clone().map(|value| value.as_array().map_or(1, Vec::len));
        assert_eq!(part["frames"], there.count(), "{field}");
        assert_eq!(part["elements"], elements.sum::<usize>(), "{field}");
    }
    assert_eq!(top["uncounted_bytes"], 0);
    let devices = top["devices"].as_array().unwrap();
    assert_eq!(top["known_devices"], devices.len());
    let texts: Vec<_> = decoded.iter().map(Json::to_string).collect();
    for device in devices {
        let name = device["name"].as_str().unwrap();
        let fields = match device["kind"].as_str().unwrap() {
            "serial" => {
                ["device_id", "serial", "serial_number"].map(|f| format!("\"{f}\":\"{name}\""))
            }
            _ => ["addr", "lan_mac", "never"].map(|f| format!("\"{f}\":\"{name}\"")),
        };
        let named = |text: &&String| fields.iter().any(|field| text.contains(field));
        let frames = texts.iter().filter(named).count() as u64;
        let counted = device["frames"].as_u64().unwrap();
        if device["kind"] == "serial" {
            assert_eq!(counted, frames, "{name}");
        } else {
            // An address may also stand where it names nobody.
            assert!(0 < counted && counted <= frames, "{name}: {counted} of {frames}");
        }
    }
    let page = inspected(CAMPUS, &["--top"]);
    assert_eq!(page.code, 0);
    assert!(page.stdout.contains(monitoring) && page.stdout.contains("named by"), "{page:?}");
}

/// Every path in a document, but for what is named by the capture.
fn paths(value: &Json, here: &str, found: &mut BTreeSet<String>) {
    match value {
        Json::Object(fields) if !["counts", "facts", "decoded"].contains(&here) => {
            for (name, value) in fields {
                let path = if here.is_empty() { name.clone() } else { format!("{here}.{name}") };
                paths(value, &path, found);
            }
        }
        Json::Array(values) => {
            for value in values {
                paths(value, &format!("{here}[]"), found);
            }
        }
        _ => {
            found.insert(here.to_owned());
        }
    }
}

#[test]
fn the_document_names_every_key_of_every_view_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capture.mcap");
    let of = subscription("campus", "location");
    let mut entries = Entries::new();
    entries.frame(seconds(0), &of, location(&MAC));
    let kind = Arc::clone(&entries.made[0].frame().unwrap().kind);
    let unknown = envelope("location", "1000001", len(4, &len(1, &MAC)));
    let frames = [
        (Arc::clone(&of), Arc::clone(&kind), unknown),
        (Arc::clone(&of), Arc::clone(&kind), geofence(&MAC)),
        (Arc::clone(&of), Arc::clone(&kind), location(&MAC)),
        (Arc::clone(&of), kind, Bytes::from_static(b"\x1a\x04\x7a\x05\x0a\x06")),
    ];
    write(&path, &frames);
    let document = include_str!("../docs/inspect-json.md");
    let (_, views) = document.split_once("\n# The views\n").unwrap();
    for (view, arguments) in [
        ("--messages", &["--messages"][..]),
        ("--message N", &["--message", "1"]),
        ("--drift", &["--drift"]),
        ("--top", &["--top"]),
    ] {
        let (_, section) = views.split_once(&format!("\n## `{view}`\n")).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let documented: BTreeSet<_> = rows
            .map(|row| row.split('|').nth(1).unwrap().trim().trim_matches('`').to_owned())
            .collect();
        let ran = inspected(&path, &[arguments, &["--json"]].concat());
        let mut found = BTreeSet::new();
        let documents = serde_json::Deserializer::from_str(&ran.stdout).into_iter::<Json>();
        for value in documents {
            paths(&value.unwrap(), "", &mut found);
        }
        let missing: Vec<_> = found.difference(&documented).collect();
        assert!(missing.is_empty(), "{view}, not in the document: {missing:?}");
        let is_found = |path: &&String| found.iter().any(|known| known.starts_with(path.as_str()));
        let extra: Vec<_> = documented.iter().filter(|path| !is_found(path)).collect();
        assert!(extra.is_empty(), "{view}, only in the document: {extra:?}");
    }
}

#[test]
fn views_exclude_each_other_and_wrong_numbers_are_refused() {
    for arguments in [
        &["--messages", "--top"][..],
        &["--gaps", "--drift"],
        &["--schema", "--json"],
        &["--message", "0"],
        &["--messages", "--find", ""],
        &["--schema", "--find", "x"],
        &["--schema", "--topic", "audit", "--limit", "1"],
    ] {
        let ran = inspected(CAMPUS, arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}");
    }
    let ran = inspected(CAMPUS, &["--message", "601"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("expected the number of one of 600 frames, found 601"), "{ran:?}");
    let ran = inspected("README.md", &["--messages"]);
    assert_eq!(ran.code, 1, "{ran:?}");
}

#[test]
fn a_frame_is_found_by_its_number_over_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capture.mcap");
    let mut data = std::fs::read(CAMPUS).unwrap();
    let middle = data.len() / 3;
    data[middle] ^= 1;
    std::fs::write(&path, data).unwrap();
    for view in [&["--messages"][..], &["--drift"], &["--top"]] {
        let ran = inspected(&path, view);
        assert_eq!(ran.code, 3, "{view:?}: {ran:?}");
        assert!(ran.stderr.contains("damaged capture"), "{ran:?}");
    }
    let capture = Capture::open(&[&path]).unwrap();
    let mut lost = 0;
    let found = message::message(&capture, 1_000_000, &mut dissector(LINES), |_| lost += 1);
    assert!(found.unwrap_err().is_usage());
    assert!(lost > 0);
}
