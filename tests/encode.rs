//! What `encode` makes of lines, and that it is what `decode` made them of.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::{collections::HashMap, fs, panic, path::Path, thread, time::Duration};

use bytes::Bytes;
use centralcap::{
    capture::Capture,
    codec::{
        encode::{self, Object},
        json::{self, Text},
        notes::Notes,
        plan::{BytesStyle, Style},
    },
    entry::{Entry, Frame, Timestamp},
    protocol::PROTOCOLS,
    synth,
};
use serde_json::{Value as Json, value::RawValue};
use tempfile::TempDir;

use self::support::{
    capture::{Entries, subscription},
    command::{Ran, centralcap},
    hard::{self, Case},
    message,
    place::names_in,
    subject::{self, STYLES, Subject},
};

mod support;

const BYTES: [&str; 3] = ["text", "base64", "hex"];

/// A folder with files in it, and the command to run on them.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        names_in(self.0.path())
    }

    /// Decodes one file into another.
    fn decode(&self, capture: &str, lines: &str, options: &[&str]) {
        let (capture, lines) = (self.path(capture), self.path(lines));
        let Ran { code, stderr, .. } =
            centralcap([&["decode", &capture, "-o", &lines, "--quiet"], options].concat());
        assert_eq!((code, &*stderr), (0, ""));
    }

    /// Encodes lines that are all right.
    fn encode(&self, lines: &str, capture: &str, options: &[&str]) {
        let ran = self.run(lines, capture, options);
        assert_eq!((ran.code, &*ran.stdout), (0, ""), "{}", ran.stderr);
    }

    fn run(&self, lines: &str, capture: &str, options: &[&str]) -> Ran {
        let (lines, capture) = (self.path(lines), self.path(capture));
        centralcap([&["encode", &lines, "-o", &capture], options].concat())
    }

    fn frames(&self, capture: &str) -> Vec<(Entry, Frame)> {
        let capture = Capture::open(&[self.path(capture)]).unwrap();
        let entries = capture.entries().map(Result::unwrap);
        entries.filter_map(|entry| Some((entry.clone(), entry.frame()?.clone()))).collect()
    }

    /// The decoded twin of what the lines make.
    fn there_and_back(&self, lines: &str, options: &[&str]) -> Vec<Json> {
        self.put("in.ndjson", lines);
        self.encode("in.ndjson", "made.mcap", options);
        self.decode("made.mcap", "back.ndjson", &[]);
        let back = self.read("back.ndjson");
        fs::remove_file(self.path("made.mcap")).unwrap();
        fs::remove_file(self.path("back.ndjson")).unwrap();
        back.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn synthetic(path: &Path) {
    let options = synth::Options { seed: 4, messages: 400, ..synth::Options::default() };
    synth::write(&options, path).unwrap();
}

/// What has to be the same of every frame.
fn essence((entry, frame): &(Entry, Frame)) -> (String, String, Timestamp, Option<String>, Bytes) {
    let subscription = &entry.subscription;
    (
        subscription.name.clone(),
        format!("{} {}", subscription.topic, frame.kind.label),
        entry.received,
        frame.kind.payload.clone(),
        frame.data.clone(),
    )
}

#[test]
fn what_is_decoded_and_encoded_is_decoded_the_same_in_every_style() {
    let desk = Desk::new();
    synthetic(&desk.0.path().join("in.mcap"));
    let styles = [
        (&["--bytes", "text"], &[][..]),
        (&["--bytes", "base64"], &["--int64", "number", "--enums", "number"]),
        (&["--bytes", "hex"], &["--int64", "number"]),
    ];
    for (style, others) in styles {
        let options = [&style[..], others].concat();
        desk.decode("in.mcap", "lines.ndjson", &options);
        desk.encode("lines.ndjson", "out.mcap", style);
        desk.decode("out.mcap", "again.ndjson", &options);
        assert!(desk.read("lines.ndjson") == desk.read("again.ndjson"), "{options:?}");
        for name in ["lines.ndjson", "out.mcap", "again.ndjson"] {
            fs::remove_file(desk.path(name)).unwrap();
        }
    }
}

#[test]
fn with_what_is_unknown_shown_even_the_bytes_are_the_same() {
    let desk = Desk::new();
    synthetic(&desk.0.path().join("in.mcap"));
    desk.decode("in.mcap", "lines.ndjson.zst", &["--unknown"]);
    desk.encode("lines.ndjson.zst", "out.mcap", &[]);
    let (before, after) = (desk.frames("in.mcap"), desk.frames("out.mcap"));
    let unknown = before.iter().filter(|(_, frame)| {
        let payload = PROTOCOLS[0].envelope(&frame.data).payload;
        payload.ends_with(&[0xc0, 0x0c, 0x01])
    });
    assert!(unknown.count() > 0, "no frame has an unknown field");
    assert_eq!(before.len(), 400);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(essence(before), essence(after));
        assert_eq!(before.1.sequence, after.1.sequence);
        assert_eq!(before.1.sent.unwrap_or(before.0.received), after.1.sent.unwrap());
        assert_eq!(before.1.kind.descriptors, after.1.kind.descriptors);
    }
    assert_eq!(before.len(), after.len());
}

/// How many random messages of each payload: ten thousand of all are asked for by `MESSAGES=1430`.
fn measure() -> u64 {
    std::env::var("MESSAGES").ok().map_or(20, |count| count.parse().unwrap())
}

fn walked(subject: &Subject, style: usize, data: &[u8]) -> Option<String> {
    let mut text = Text::default();
    json::write(&subject.plans[style], data, &mut text, &mut Notes::default()).ok()?;
    Some(String::from_utf8(text.as_bytes().to_vec()).unwrap())
}

#[test]
fn random_messages_of_every_type_are_decoded_the_same_after_encoding() {
    let mut same = 0;
    for subject in subject::subjects(Path::new(env!("CARGO_MANIFEST_DIR"))) {
        let is_payload = subject.descriptor.full_name() == "StreamMessage.MsgProto";
        for seed in 0..if is_payload { measure() } else { measure().min(10) } {
            // A null that is not 0 is shown as one, and cannot be told from one that is: only tidy ones.
            let has_nulls = subject.descriptor.package_name() == "torture.known";
            let data =
                message::random(&subject.descriptor, if has_nulls { 2 * seed } else { seed });
            for (index, Style { bytes, .. }) in STYLES.into_iter().enumerate() {
                let Some(shown) = walked(&subject, index, &data) else { continue };
                // What cannot be shown cannot be read either.
                if shown.contains("@unprintable") {
                    continue;
                }
                let json: &RawValue = serde_json::from_str(&shown).unwrap();
                let object = Object::read(json, "").unwrap();
                let name = subject.descriptor.full_name();
                let encoded = encode::encode(&subject.descriptor, &object, bytes, &[])
                    .unwrap_or_else(|unfit| panic!("{name} {seed} {shown}: {unfit:?}"));
                let again = walked(&subject, index, &encoded);
                assert_eq!(again.as_deref(), Some(&*shown), "{name} {seed} {data:02x?}");
                same += 1;
            }
        }
    }
    assert!(same > 20 * measure(), "only {same}");
}

/// What threads have, unless somebody asks for more; a debug build needs what the main thread has.
const STACK_SIZE: usize = if cfg!(debug_assertions) { 8 << 20 } else { 2 << 20 };

#[test]
fn hard_messages_are_decoded_the_same_after_encoding() {
    let thread = thread::Builder::new().stack_size(STACK_SIZE).spawn(hard_messages).unwrap();
    thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic));
}

fn hard_messages() {
    let subjects = subject::torture(Path::new(env!("CARGO_MANIFEST_DIR"))).into_iter();
    let subjects: HashMap<_, _> =
        subjects.map(|message| (message.full_name().to_owned(), Subject::new(message))).collect();
    let (mut same, mut deep) = (0, 0);
    for Case { name, message, data, .. } in hard::cases() {
        let subject = &subjects[message];
        for (index, Style { bytes, .. }) in STYLES.into_iter().enumerate() {
            let Some(shown) = walked(subject, index, &data) else { continue };
            // As above; and some types are no objects.
            let cannot_come_back =
                name == "a null of another number" || shown.contains("@unprintable");
            if !shown.starts_with('{') || cannot_come_back {
                continue;
            }
            let json: &RawValue = serde_json::from_str(&shown).unwrap();
            let object = Object::read(json, "").unwrap();
            let encoded = encode::encode(&subject.descriptor, &object, bytes, &[])
                .unwrap_or_else(|unfit| panic!("{name}: {shown}: {unfit:?}"));
            let again = walked(subject, index, &encoded);
            assert_eq!(again.as_deref(), Some(&*shown), "{name} {data:02x?}");
            same += 1;
            deep += u32::from(name.starts_with("depth: "));
        }
    }
    assert!(same > 100 && deep > 0, "{same} {deep}");
}

#[test]
fn captured_frames_of_every_payload_come_back() {
    let desk = Desk::new();
    let mut entries = Entries::new();
    let payloads = subject::subjects(Path::new(env!("CARGO_MANIFEST_DIR")));
    let topics = PROTOCOLS[0].topics();
    for subject in payloads {
        let Some(field) = subject.descriptor.get_field(3) else { continue };
        let payload = field.kind().as_message().map(|payload| payload.full_name().to_owned());
        let topic = topics
            .iter()
            .find(|topic| topic.payloads.iter().any(|p| Some(p.message) == payload.as_deref()));
        let Some(topic) = topic else { continue };
        let of = subscription(&format!("of {}", topic.name), topic.name);
        for seed in 0..measure() {
            let data = message::random(&subject.descriptor, seed);
            let after = Duration::from_nanos(entries.made.len() as u64);
            if walked(&subject, 0, &data).is_some() {
                entries.frame(after, &of, data.into());
            }
        }
    }
    entries.frame(
        Duration::from_secs(1),
        &subscription("new", "brand-new"),
        Bytes::from_static(&[]),
    );
    let unknown = message::len(3, b"\x08\x01");
    entries.frame(Duration::from_secs(2), &subscription("new", "brand-new"), unknown.into());
    assert!(entries.made.len() as u64 > 3 * measure());
    entries.write(&desk.0.path().join("all.mcap"));
    // A frame that was taken for another payload than it was made as may not decode at all.
    let all = desk.path("all.mcap");
    let decode = |options: &[&str]| centralcap([&["decode", &all, "--quiet"], options].concat());
    for style in BYTES {
        let lines = decode(&["--bytes", style]).stdout;
        desk.put("lines.ndjson", &lines);
        desk.encode("lines.ndjson", "out.mcap", &["--bytes", style]);
        desk.decode("out.mcap", "again.ndjson", &["--bytes", style]);
        let again = desk.read("again.ndjson");
        for (before, after) in lines.lines().zip(again.lines()) {
            assert_eq!(before, after);
        }
        assert_eq!(lines.lines().count(), again.lines().count());
        fs::remove_file(desk.path("out.mcap")).unwrap();
        fs::remove_file(desk.path("again.ndjson")).unwrap();
    }
    desk.put("lines.ndjson", decode(&["--raw"]).stdout);
    desk.encode("lines.ndjson", "raw.mcap", &["--raw"]);
    let (before, mut after) = (desk.frames("all.mcap"), desk.frames("raw.mcap").into_iter());
    let mut equal = 0;
    let mut next = after.next();
    for before in &before {
        if next.as_ref().is_some_and(|after| essence(after) == essence(before)) {
            equal += 1;
            next = after.next();
        }
    }
    assert!(next.is_none(), "{equal} of {} are equal, and then {next:?}", before.len());
    assert!(equal > before.len() * 9 / 10, "{equal} of {}", before.len());
}

#[test]
fn a_line_by_hand_needs_a_topic_and_its_data() {
    let desk = Desk::new();
    let made = desk.there_and_back(
        r#"{"topic": "audit", "data": {"username": "me", "client_ip": {"addr": "192.0.2.7"}}}

{"topic": "audit", "data": {"username": null, "target": "tab\t\u00e9"}, "customer_id": "7"}
{"topic": "audit", "subscription": "east", "time": "2026-02-01T00:00:00Z", "data": {}}
{"topic": "presence", "data": {"timestamp": 1e3, "eventType": "rssi"}}
"#,
        &[],
    );
    let line = |json: &str| -> Json { serde_json::from_str(json).unwrap() };
    assert_eq!(
        made,
        [
            line(
                r#"{"received":"2026-01-05T08:00:00.000000000Z","time":"2026-01-05T08:00:00.000000000Z",
                "subscription":"audit","topic":"audit","type":"Audit.audit_message","subject":"audit",
                "data":{"client_ip":{"addr":"192.0.2.7"},"username":"me"},
                "timestamp":"1767600000000000000"}"#
            ),
            line(
                r#"{"received":"2026-01-05T08:00:01.000000000Z","time":"2026-01-05T08:00:01.000000000Z",
                "subscription":"audit","topic":"audit","type":"Audit.audit_message","subject":"audit",
                "data":{"target":"tab\té"},"timestamp":"1767600001000000000","customer_id":"7"}"#
            ),
            line(
                r#"{"received":"2026-02-01T00:00:00.000000000Z","time":"2026-02-01T00:00:00.000000000Z",
                "subscription":"east","topic":"audit","type":"Audit.audit_message","subject":"audit",
                "data":{},"timestamp":"1769904000000000000"}"#
            ),
            line(
                r#"{"received":"2026-02-01T00:00:01.000000000Z","time":"2026-02-01T00:00:01.000000000Z",
                "subscription":"presence","topic":"presence","type":"Presence.presence_event",
                "subject":"presence","data":{"timestamp":"1000","event_type":"rssi"},
                "timestamp":"1769904001000000000"}"#
            ),
        ]
    );
    let start = ["--start", "2030-01-01T00:00:00Z"];
    let made = desk.there_and_back(r#"{"topic":"audit","data":{}}"#, &start);
    assert_eq!(made[0]["received"], "2030-01-01T00:00:00.000000000Z");
}

#[test]
fn of_the_two_location_payloads_the_one_is_taken_that_fits() {
    let desk = Desk::new();
    for (data, expected) in [
        (r#"{"sta_location_x": 1.5}"#, "Location.stream_location"),
        (r#"{"geofence_event": "ZONE_OUT"}"#, "Location.stream_geofence_notify"),
        (r#"{"sta_eth_mac": {"addr": "02:00:5e:00:00:01"}}"#, "Location.stream_location"),
        (r#"{"dwell_time": 7, "associated": true}"#, "Location.stream_geofence_notify"),
    ] {
        let made = desk.there_and_back(&format!(r#"{{"topic":"location","data":{data}}}"#), &[]);
        assert_eq!(made[0]["type"], expected, "{data}");
    }
    // What is said goes before what fits, even where the bytes look like the other one.
    let said = r#"{"topic":"location","type":"Location.stream_geofence_notify","data":{"associated":true}}"#;
    let made = desk.there_and_back(said, &[]);
    assert_eq!(made[0]["type"], "Location.stream_geofence_notify");
    assert_eq!(made[0]["data"]["associated"], true);
}

#[test]
fn presence_gets_its_macs_as_twelve_digits() {
    let desk = Desk::new();
    let line = r#"{"topic":"presence","data":{"pa_rssi_event":{"rssi":[{"radio_mac":{"addr":"02:00:5E:00:00:ab"}}]}}}"#;
    desk.put("in.ndjson", line);
    desk.encode("in.ndjson", "out.mcap", &[]);
    let frames = desk.frames("out.mcap");
    let data = &frames[0].1.data;
    assert!(data.windows(12).any(|window| window == b"02005e0000ab"), "{data:02x?}");
}

/// Lines, and what is told of them behind "expected".
const BAD: &[(&str, &str)] = &[
    (
        r#"{"topic":"audit","data":{"user_name":"me"}}"#,
        "a field of Audit.audit_message as data.user_name in line 2 of FILE, found one that it does not have",
    ),
    (
        r#"{"topic":"monitoring","data":{"aps":[{},{"seral":"x"}]}}"#,
        "a field of Monitoring.Ap as data.aps[1].seral in line 2 of FILE, found one that it does not have",
    ),
    (
        r#"{"topic":"audit","dta":{}}"#,
        "one of received, time, subscription, topic, type, @unknown, @raw, subject, data, timestamp, \
     customer_id, msp_id in line 2 of FILE, found \"dta\"",
    ),
    (
        r#"{"topic":"audit","data":{"timestamp":4294967296}}"#,
        "a uint32 (0 to 4294967295) as data.timestamp in line 2 of FILE, found 4294967296",
    ),
    (
        r#"{"topic":"audit","data":{"timestamp":1.5}}"#,
        "a uint32 (0 to 4294967295) as data.timestamp in line 2 of FILE, found 1.5",
    ),
    (
        r#"{"topic":"audit","data":{"timestamp":"-1"}}"#,
        "a uint32 (0 to 4294967295) as data.timestamp in line 2 of FILE, found \"-1\"",
    ),
    (
        r#"{"topic":"location","data":{"sta_location_x":1e39}}"#,
        "a float as data.sta_location_x in line 2 of FILE, found 1e39",
    ),
    (
        r#"{"topic":"location","data":{"associated":1}}"#,
        "true or false as data.associated in line 2 of FILE, found 1",
    ),
    (
        r#"{"topic":"monitoring","data":{"aps":[{"status":"OFF"}]}}"#,
        "a value of Monitoring.Status (UP, DOWN) as data.aps[0].status in line 2 of FILE, found \"OFF\"",
    ),
    (
        r#"{"topic":"monitoring","data":{"aps":{}}}"#,
        "a list as data.aps in line 2 of FILE, found an object",
    ),
    (
        r#"{"topic":"monitoring","data":{"aps":[{"macaddr":{"addr":"02:00:5e"}}]}}"#,
        "a MAC address, or base64 as data.aps[0].macaddr.addr in line 2 of FILE, found \"02:00:5e\"",
    ),
    (
        r#"{"topic":"audit","data":{"username":["me"]}}"#,
        "a string as data.username in line 2 of FILE, found a list",
    ),
    (
        r#"{"topic":"audit","data":{"username":"me","username":"you"}}"#,
        "one value as data.username in line 2 of FILE, found a second one",
    ),
    (
        r#"{"topic":"audit","topic":"audit","data":{}}"#,
        "one value as topic in line 2 of FILE, found a second one",
    ),
    (r#"{"topic":"audit"}"#, "what is in the frame as data in line 2 of FILE, found none"),
    (
        r#"{"topic":"audit","data":null}"#,
        "what is in the frame as data in line 2 of FILE, found none",
    ),
    (
        r#"{"topic":"location","time":"2026-01-05T08:00:00Z","subject":"location"}"#,
        "what is in the frame as data in line 2 of FILE, found none",
    ),
    (r#"{"topic":"audit","data":[]}"#, "an object as data in line 2 of FILE, found a list"),
    (
        r#"{"topic":"audit","data":{}}  {"topic":"audit"}"#,
        "one JSON object in line 2 of FILE, found more at column 30",
    ),
    ("nonsense", "one JSON object in line 2 of FILE, found none at column 2: expected ident"),
    (
        r#"{"topic":"audit","data":"#,
        "one JSON object in line 2 of FILE, found an end in the middle of it",
    ),
    ("{", "one JSON object in line 2 of FILE, found the beginning of a document of several lines"),
    ("[1]", "one JSON object in line 2 of FILE, found a list"),
    (
        r#"{"data":{}}"#,
        "a topic (apprf, audit, location, monitoring, presence, security) as topic in line 2 of FILE, found none",
    ),
    (r#"{"topic":7}"#, "a string as topic in line 2 of FILE, found 7"),
    (
        r#"{"topic":"auditing","data":{}}"#,
        "a topic (apprf, audit, location, monitoring, presence, security) as topic in line 2 of FILE, found \"auditing\"",
    ),
    (
        r#"{"topic":"audit","type":"Audit.message","data":{}}"#,
        "the full name of a message in the schema as type in line 2 of FILE, found \"Audit.message\"",
    ),
    (
        r#"{"topic":"audit","received":"yesterday","data":{}}"#,
        "a time from 1970 to 2554 such as 2026-01-05T08:00:00.5Z as received in line 2 of FILE, found \"yesterday\"",
    ),
    (
        r#"{"topic":"audit","received":"1960-01-01T00:00:00Z","data":{}}"#,
        "a time from 1970 to 2554 such as 2026-01-05T08:00:00.5Z as received in line 2 of FILE, \
     found \"1960-01-01T00:00:00Z\"",
    ),
    (
        r#"{"topic":"audit","time":"2026-01-05T08:00:00Z","timestamp":1767600001,"data":{}}"#,
        "2026-01-05T08:00:01.000000000Z (the envelope's timestamp) as time in line 2 of FILE, \
     found 2026-01-05T08:00:00.000000000Z",
    ),
    (
        r#"{"topic":"audit","@raw":"AAAA"}"#,
        "fields of the envelope in line 2 of FILE, found only @raw",
    ),
    (
        r#"{"topic":"monitoring","data":{"aps":[{},{}]},"@unknown":[
        {"path":"data.aps","what":"unknown field","number":99,"wire_type":0,"value":"AQ=="}]}"#,
        "one message at \"data.aps\" for an unknown field as @unknown in line 2 of FILE, \
     found a list of 2 at \"data.aps\"",
    ),
    (
        r#"{"topic":"audit","data":{},"@unknown":[
        {"path":"data.client_ip","what":"unknown field","number":99,"wire_type":0,"value":"AQ=="}]}"#,
        "one message at \"data.client_ip\" for an unknown field as @unknown in line 2 of FILE, found none",
    ),
    (
        r#"{"topic":"audit","data":{},"@unknown":[
        {"path":"data","what":"unknown field","number":99,"wire_type":0,"value":"AQE="}]}"#,
        "the base64 of one value of that wire type as @unknown[0].value in line 2 of FILE, found \"AQE=\"",
    ),
];

#[test]
fn each_bad_line_is_told_by_its_line_its_path_and_what_was_found() {
    const AUDIT: &str = r#"{"topic":"audit","data":{"username":"me"}}"#;
    let desk = Desk::new();
    for (line, expected) in BAD {
        let line: String = line.lines().map(str::trim_start).collect();
        let file = desk.put("bad.ndjson", format!("{AUDIT}\n{line}\n{AUDIT}\n"));
        let ran = desk.run("bad.ndjson", "out.mcap", &[]);
        let told = ran.stderr.lines().next().unwrap_or_default();
        assert_eq!(told, format!("error: expected {}", expected.replace("FILE", &file)));
        assert_eq!((ran.code, &*ran.stdout), (1, ""));
        assert!(ran.stderr.contains("\nhint: "), "{}", ran.stderr);
        assert_eq!(desk.names(), ["bad.ndjson"], "nothing is left of it");
    }
    let file = desk.put("bad.ndjson", [b"{}\n".as_slice(), b"\xff\n"].concat());
    let ran = desk.run("bad.ndjson", "out.mcap", &[]);
    assert!(ran.stderr.contains("as topic in line 1 of"), "{}", ran.stderr);
    desk.put("bad.ndjson", [AUDIT.as_bytes(), b"\n\"\xff\"\n"].concat());
    let ran = desk.run("bad.ndjson", "out.mcap", &[]);
    let expected = format!("error: expected UTF-8 in line 2 of {file}, found byte 1 that is not\n");
    assert!(ran.stderr.starts_with(&expected), "{}", ran.stderr);
    assert_eq!(desk.names(), ["bad.ndjson"]);
}

/// Whoever says when it was received has it from decode, which shows no data where a frame has none.
#[test]
fn a_frame_without_data_comes_back_without() {
    let desk = Desk::new();
    let received = r#""received":"2026-01-05T08:00:00Z","subscription":"a""#;
    desk.put("in.ndjson", format!(r#"{{{received},"topic":"audit","subject":"audit"}}"#));
    desk.encode("in.ndjson", "out.mcap", &[]);
    assert_eq!(&desk.frames("out.mcap")[0].1.data[..], b"\x12\x05audit");
    desk.put("in.ndjson", r#"{"topic":"audit","data":{}}"#);
    desk.encode("in.ndjson", "empty.mcap", &[]);
    let data = desk.frames("empty.mcap").remove(0).1.data;
    assert!(data.windows(2).any(|field| field == b"\x1a\x00"), "{data:?}");
}

#[test]
fn raw_lines_need_their_bytes() {
    let desk = Desk::new();
    let file = desk.put("in.ndjson", r#"{"topic":"audit","data":{}}"#);
    let told = |desk: &Desk| {
        let ran = desk.run("in.ndjson", "out.mcap", &["--raw"]);
        assert_eq!(ran.code, 1);
        ran.stderr.lines().next().unwrap().to_owned()
    };
    let expected =
        format!("error: expected the frame's bytes as @raw in line 1 of {file}, found none");
    assert_eq!(told(&desk), expected);
    desk.put("in.ndjson", r#"{"topic":"audit","@raw":"?"}"#);
    let expected =
        format!("error: expected the base64 of a frame as @raw in line 1 of {file}, found \"?\"");
    assert_eq!(told(&desk), expected);
    // Bytes that nobody can decode are bytes, too, and what else there is does not count.
    desk.put("in.ndjson", r#"{"topic":"new","@raw":"//8","data":7,"more":{}}"#);
    desk.encode("in.ndjson", "out.mcap", &["--raw"]);
    assert_eq!(&desk.frames("out.mcap")[0].1.data[..], [0xff, 0xff]);
}

#[test]
fn nothing_is_written_over_and_nothing_is_made_of_nothing() {
    let desk = Desk::new();
    let line = r#"{"topic":"audit","data":{}}"#;
    let lines = desk.put("lines.mcap", line);
    let ran = desk.run("lines.mcap", "lines.mcap", &[]);
    assert_eq!(ran.code, 1);
    let expected = format!("error: expected a new file, found {lines} already there\n");
    assert!(ran.stderr.starts_with(&expected), "{}", ran.stderr);
    assert_eq!(
        (desk.read("lines.mcap"), desk.names()),
        (line.to_owned(), vec!["lines.mcap".to_owned()])
    );
    let empty = desk.put("empty", "\n  \n");
    let ran = desk.run("empty", "out.mcap", &[]);
    let expected = format!("error: expected one JSON object in line 1 of {empty}, found the end\n");
    assert!(ran.stderr.starts_with(&expected), "{}", ran.stderr);
    assert_eq!((ran.code, desk.names().len()), (1, 2));
    let ran = desk.run("missing", "out.mcap", &[]);
    assert_eq!((ran.code, desk.names().len()), (1, 2), "{}", ran.stderr);
}

#[test]
fn several_inputs_follow_each_other() {
    let desk = Desk::new();
    let one = desk.put("one", "{\"topic\":\"audit\",\"data\":{\"target\":\"1\"}}");
    let two = desk.put("two", "\n{\"topic\":\"audit\",\"data\":{\"target\":2}}\n");
    let out = desk.path("out.mcap");
    let ran = centralcap(["encode", &*one, &*two, "-o", &*out]);
    let expected = format!("error: expected a string as data.target in line 2 of {two}, found 2\n");
    assert!(ran.stderr.starts_with(&expected), "{}", ran.stderr);
    desk.put("two", "\n{\"topic\":\"audit\",\"data\":{\"target\":\"2\"}}\n");
    assert_eq!(centralcap(["encode", &*one, &*two, "-o", &*out]).code, 0);
    let frames = desk.frames("out.mcap");
    let sequence: Vec<_> = frames.iter().map(|(_, frame)| frame.sequence).collect();
    assert_eq!(sequence, [1, 2]);
}

#[test]
fn what_windows_puts_before_and_behind_lines_is_no_part_of_them() {
    let desk = Desk::new();
    let line = r#"{"topic":"audit","data":{"username":"me"}}"#;
    let lines = format!("\u{feff}{line}\r\n\r\n{line}\r\n");
    desk.put("lines.ndjson", &lines);
    desk.put("packed.ndjson.zst", zstd::encode_all(lines.as_bytes(), 0).unwrap());
    for name in ["lines.ndjson", "packed.ndjson.zst"] {
        let out = format!("{name}.mcap");
        desk.encode(name, &out, &[]);
        let same = centralcap(["diff", &desk.path(name), &desk.path(&out)]);
        assert_eq!((same.code, &*same.stderr), (0, "no differences in 2 frames\n"), "{name}");
    }
}

#[test]
fn a_schema_of_the_users_own_goes_before_the_bundled_one() {
    let desk = Desk::new();
    let folder = desk.path("proto");
    fs::create_dir(&folder).unwrap();
    let source = r#"syntax = "proto2"; package Lab;
        message probe { optional string name = 1; repeated sint32 n = 2 [packed = true];
            map<string, double> m = 3; oneof kind { bool a = 4; bool b = 5; } }"#;
    fs::write(Path::new(&folder).join("lab.proto"), source).unwrap();
    let options = ["--proto", &folder, "--payload", "lab=Lab.probe"];
    let line = r#"{"topic":"lab","data":{"name":"x","n":[-1,2],"m":{"b":0.1,"a":-0.0},"b":false}}"#;
    let made = desk.there_and_back(line, &options);
    assert_eq!(made[0]["type"], "Lab.probe");
    let data =
        serde_json::json!({"name": "x", "n": [-1, 2], "m": {"a": -0.0, "b": 0.1}, "b": false});
    assert_eq!(made[0]["data"], data);
    let file = desk.put("in.ndjson", r#"{"topic":"lab","data":{"a":true,"b":true}}"#);
    let ran = desk.run("in.ndjson", "out.mcap", &options);
    let expected = format!(
        "error: expected one field of Lab.probe.kind as data.b in line 1 of {file}, found a second one\n"
    );
    assert!(ran.stderr.starts_with(&expected), "{}", ran.stderr);
}

#[test]
fn a_wrapper_that_wraps_nothing_is_an_error_and_no_fault() {
    let desk = Desk::new();
    let folder = desk.path("proto");
    let google = Path::new(&folder).join("google/protobuf");
    fs::create_dir_all(&google).unwrap();
    let source = "syntax = \"proto3\"; package google.protobuf; message StringValue {}";
    fs::write(google.join("wrappers.proto"), source).unwrap();
    let source = r#"syntax = "proto3"; package Lab; import "google/protobuf/wrappers.proto";
        message probe { google.protobuf.StringValue a = 1; }"#;
    fs::write(Path::new(&folder).join("lab.proto"), source).unwrap();
    desk.put("lines", r#"{"topic": "lab", "data": {"a": "x"}}"#);
    let options = ["--proto", &folder, "--payload", "lab=Lab.probe"];
    let ran = desk.run("lines", "lab.mcap", &options);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("with a field 1 as data.a in line 1"), "{}", ran.stderr);
}

#[test]
fn text_that_may_be_anything_is_read_back_as_bytes() {
    let audit =
        centralcap::schema::message(centralcap::schema::bundled(), "Audit.audit_message").unwrap();
    let json: &RawValue = serde_json::from_str(r#"{"username":{"@base64":"6f8="}}"#).unwrap();
    let object = Object::read(json, "").unwrap();
    let data = encode::encode(&audit, &object, BytesStyle::Text, &[]).unwrap();
    assert_eq!(data, message::len(7, b"\xe9\xff"));
}
