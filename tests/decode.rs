//! What `decode` makes of captures, as a process.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use centralcap::{
    capture::{About, HotSegment},
    entry::{Entry, Frame, FrameType, Timestamp, What},
    schema,
};
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, Value, prost_types::FileDescriptorSet};
use serde_json::{Value as Json, json};

use self::support::{
    capture::{Entries, START, envelope, subscription},
    command::{Ran, centralcap},
    message::len,
    place::names_in,
    wait::wait_for,
};

mod support;

/// A payload with some fields set, and everything else absent.
fn payload(message: &str, fields: &[(&str, Value)]) -> DynamicMessage {
    let descriptor: MessageDescriptor = schema::message(schema::bundled(), message).unwrap();
    let mut payload = DynamicMessage::new(descriptor);
    for (name, value) in fields {
        payload.set_field_by_name(name, value.clone());
    }
    payload
}

fn bytes_field(message: &str, data: &'static [u8]) -> Value {
    Value::Message(payload(message, &[("addr", Value::Bytes(Bytes::from_static(data)))]))
}

/// Somebody changed something.
fn audit(customer: &str, target: &str) -> Bytes {
    let fields = [
        ("customer_id", Value::String(customer.to_owned())),
        ("timestamp", Value::U32(1_795_000_000)),
        ("service", Value::EnumNumber(1)),
        ("group_name", Value::String("group-1".to_owned())),
        ("target", Value::String(target.to_owned())),
        ("client_ip", bytes_field("Audit.ip_address", &[192, 0, 2, 7])),
        ("username", Value::String("operator@example.com".to_owned())),
    ];
    let payload = payload("Audit.audit_message", &fields);
    envelope("audit", customer, payload.encode_to_vec())
}

/// A radio, a network and a device, of which hardly anything is known.
fn monitoring() -> Bytes {
    let radio = [("macaddr", bytes_field("Monitoring.MacAddress", &[2, 0, 0x5e, 0x10, 0, 1]))];
    let network = [("essid", Value::Bytes(Bytes::from_static(b"caf\xc3\xa9\xff")))];
    let stats = [("uptime", Value::U64(1 << 60))];
    let list = |message: &str, fields: &[(&str, Value)]| {
        Value::List(vec![Value::Message(payload(message, fields))])
    };
    let fields = [
        ("customer_id", Value::String("1000001".to_owned())),
        ("radios", list("Monitoring.Radio", &radio)),
        ("networks", list("Monitoring.Network", &network)),
        ("device_stats", list("Monitoring.DeviceStats", &stats)),
    ];
    let payload = payload("Monitoring.MonitoringInformation", &fields);
    envelope("monitoring", "1000001", payload.encode_to_vec())
}

/// A folder with a capture in it.
struct Made {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Made {
    fn of(entries: &Entries) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made.mcap");
        entries.write(&path);
        Self { folder, path }
    }

    /// A capture of one frame.
    fn frame(topic: &str, data: impl Into<Bytes>) -> Self {
        let mut entries = Entries::new();
        entries.numbered(Duration::ZERO, &subscription("one", topic), 1, data);
        Self::of(&entries)
    }

    fn decoded(&self, options: &[&str]) -> Ran {
        decoded(&self.path, options)
    }

    /// The only line, when nothing is wrong.
    fn line(&self, options: &[&str]) -> Json {
        let ran = self.decoded(&[options, &["--quiet"]].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
        let mut lines = ran.json_lines();
        assert_eq!(lines.len(), 1, "{ran:?}");
        lines.remove(0)
    }
}

fn decoded(path: &Path, options: &[&str]) -> Ran {
    let path = path.to_str().unwrap();
    centralcap(["decode", path].iter().chain(options))
}

fn keys(value: &Json) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_line_begins_with_who_and_when_and_holds_the_envelope() {
    let line = Made::frame("audit", audit("1000001", "ap-1")).line(&[]);
    let expected =
        ["received", "time", "subscription", "topic", "type", "subject", "data", "timestamp"];
    assert_eq!(keys(&line)[..8], expected);
    let outside = json!({
        "received": START.to_string(),
        "time": START.to_string(),
        "subscription": "one",
        "topic": "audit",
        "type": "Audit.audit_message",
        "subject": "audit",
        "data": {
            "customer_id": "1000001",
            "timestamp": 1_795_000_000,
            "service": "FIRMWARE",
            "group_name": "group-1",
            "target": "ap-1",
            "client_ip": {"addr": "192.0.2.7"},
            "username": "operator@example.com",
        },
        "timestamp": START.as_nanos().to_string(),
        "customer_id": "1000001",
    });
    assert_eq!(line, outside);
}

#[test]
fn bytes_are_shown_as_they_are_wanted() {
    let made = Made::frame("monitoring", monitoring());
    let shown = |style: &[&str]| {
        let data = made.line(style)["data"].take();
        (data["radios"][0]["macaddr"]["addr"].clone(), data["networks"][0]["essid"].clone())
    };
    let text = (json!("02:00:5e:10:00:01"), json!("café\\xff"));
    assert_eq!(shown(&[]), text);
    assert_eq!(shown(&["--bytes", "text"]), text);
    assert_eq!(shown(&["--bytes", "base64"]), (json!("AgBeEAAB"), json!("Y2Fmw6n/")));
    assert_eq!(shown(&["--bytes", "hex"]), (json!("02005e100001"), json!("636166c3a9ff")));
}

#[test]
fn numbers_and_enums_are_shown_as_they_are_wanted() {
    let made = Made::frame("monitoring", monitoring());
    let uptime = |style: &[&str]| made.line(style)["data"]["device_stats"][0]["uptime"].take();
    assert_eq!(uptime(&[]), json!("1152921504606846976"));
    assert_eq!(uptime(&["--int64", "number"]), json!(1_u64 << 60));
    assert_eq!(made.line(&["--int64", "number"])["timestamp"], json!(START.as_nanos()));

    let made = Made::frame("audit", audit("1", "ap-1"));
    assert_eq!(made.line(&["--enums", "name"])["data"]["service"], "FIRMWARE");
    assert_eq!(made.line(&["--enums", "number"])["data"]["service"], 1);
    assert_eq!(made.decoded(&["--enums", "roman"]).code, 2);
}

#[test]
fn defaults_are_shown_on_demand_and_only_where_the_schema_declares_them() {
    let made = Made::frame("monitoring", monitoring());
    let plain = made.line(&[]);
    assert_eq!(keys(&plain["data"]["radios"][0]), ["macaddr"]);
    assert_eq!(keys(&plain["data"]), ["customer_id", "networks", "radios", "device_stats"]);

    let filled = made.line(&["--defaults"]);
    let radio = &filled["data"]["radios"][0];
    assert_eq!((&radio["status"], &radio["action"]), (&json!("UP"), &json!("UPDATE")));
    assert_eq!(keys(radio), ["action", "macaddr", "status"]);
    // A utilisation that nobody told is not 0, and a fan that nobody looked at is not up.
    let stats = filled["data"]["device_stats"][0].as_object().unwrap();
    assert_eq!(stats["uptime"], "1152921504606846976");
    for name in ["cpu_utilization", "mem_total", "fan_status", "timestamp", "device_id"] {
        assert!(!stats.contains_key(name), "{name}");
    }
    // The envelope's fields do not tell absent from empty, but for one.
    assert!(!filled.as_object().unwrap().contains_key("msp_id"));
    assert_eq!(Made::frame("audit", Bytes::new()).line(&["--defaults"])["customer_id"], "");
}

/// Eight frames a second apart: audit of `north` and `south` in turn, of two customers.
fn eight() -> Made {
    let owners = [subscription("north-audit", "audit"), subscription("south-places", "location")];
    let mut entries = Entries::new();
    for number in 0..8_u32 {
        let of = &owners[number as usize % 2];
        let customer = ["1000001", "1000002"][number as usize / 4];
        let data = match &*of.topic {
            "audit" => audit(customer, &format!("frame-{number}")),
            _ => envelope("location", customer, &[0x7a, 0x00][..]),
        };
        entries.numbered(Duration::from_secs(number.into()), of, number / 2 + 1, data);
    }
    Made::of(&entries)
}

/// When the frames that a selection leaves were received, in seconds from the start.
fn selected(made: &Made, options: &[&str]) -> Vec<u64> {
    let ran = made.decoded(options);
    let said = if ran.stdout.is_empty() {
        "warning: no frame is selected; inspect shows which topics and subscriptions there are\n"
    } else {
        ""
    };
    assert_eq!((ran.code, ran.stderr.as_str()), (0, said), "{options:?}: {ran:?}");
    let after = |line: &Json| {
        let received: Timestamp = line["received"].as_str().unwrap().parse().unwrap();
        received.since(START).as_secs()
    };
    ran.json_lines().iter().map(after).collect()
}

#[test]
fn a_selection_leaves_what_it_says() {
    let made = eight();
    assert_eq!(selected(&made, &[]), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(selected(&made, &["--topic", "location"]), [1, 3, 5, 7]);
    assert_eq!(selected(&made, &["--topic", "weather"]), [0; 0]);
    let both = selected(&made, &["--topic", "location", "--topic", "audit"]);
    assert_eq!(selected(&made, &["--topic", "audit,location"]), both);
    assert_eq!(selected(&made, &["--subscription", "north-*"]), [0, 2, 4, 6]);
    assert_eq!(selected(&made, &["--customer", "1000002"]), [4, 5, 6, 7]);
    assert_eq!(selected(&made, &["--from", "+2s", "--to", "+5s"]), [2, 3, 4]);
    let moment = START.after(Duration::from_secs(6)).to_string();
    assert_eq!(selected(&made, &["--from", &moment]), [6, 7]);
    assert_eq!(selected(&made, &["--skip", "2", "--limit", "3"]), [2, 3, 4]);
    assert_eq!(selected(&made, &["--topic", "audit", "--skip", "1", "--limit", "2"]), [2, 4]);
    for wrong in [["--from", "yesterday"], ["--subscription", "["], ["--limit", "-1"]] {
        let ran = made.decoded(&wrong);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{wrong:?}");
    }
}

#[test]
fn what_left_nothing_is_named() {
    let made = eight();
    let words = |options: &[&str]| made.decoded(options).stderr;
    let none_holds = "warning: no frame is selected: --where holds for none\n";
    assert_eq!(words(&["--limit", "5", "--where", "false"]), none_holds);
    let selected = words(&["--topic", "weather", "--where", "false"]);
    assert!(selected.starts_with("warning: no frame is selected; inspect shows"), "{selected}");

    // The one chunk that there is: nobody has left anything out.
    let mut data = fs::read(&made.path).unwrap();
    let middle = data.len() / 4;
    data[middle..middle + 8].fill(0);
    fs::write(&made.path, data).unwrap();
    for options in [&[][..], &["--where", "false"]] {
        let ran = made.decoded(options);
        assert!(ran.stderr.contains("damaged capture"), "{ran:?}");
        assert!(ran.stdout.is_empty() && !ran.stderr.contains("no frame is selected"), "{ran:?}");
    }
}

#[test]
fn a_frame_that_does_not_decode_is_named_and_the_others_come_out() {
    let of = subscription("campus", "audit");
    let mut entries = Entries::new();
    entries.numbered(Duration::ZERO, &of, 1, audit("1", "before"));
    // The customer says that it is longer than the frame.
    entries.numbered(Duration::from_secs(1), &of, 2, &b"\x12\x05audit\x2a\x09123"[..]);
    // The target is a number: field 5 of the payload, which is field 3.
    entries.numbered(Duration::from_secs(2), &of, 3, &b"\x12\x05audit\x1a\x02\x28\x01"[..]);
    entries.numbered(Duration::from_secs(3), &of, 4, audit("1", "after"));
    let ran = Made::of(&entries).decoded(&[]);
    assert_eq!(ran.code, 3, "{ran:?}");
    let lines = ran.json_lines();
    let targets: Vec<_> = lines.iter().map(|line| &line["data"]["target"]).collect();
    assert_eq!(targets, ["before", "after"]);
    let words: Vec<_> = ran.stderr.lines().collect();
    assert!(
        words[0].starts_with(r#"warning: cannot decode frame 2 of subscription "campus""#),
        "{words:?}"
    );
    let reason = "at byte 8: customer_id: a length of 9 bytes reaches past the 3 that are left";
    assert!(words[0].ends_with(reason), "{words:?}");
    assert!(words[1].contains("frame 3 of"), "{words:?}");
    let reason = "at byte 10: data.target: expected wire type 2, found 0";
    assert!(words[1].ends_with(reason), "{words:?}");
    assert_eq!(words[2], "2 frames decoded, 2 could not be, 0 damaged places");
}

/// The type of such frames with other descriptors.
fn described(entries: &mut Entries, descriptors: Vec<u8>) {
    let Some(entry) = entries.made.last_mut() else { return };
    let What::Frame(frame) = &mut entry.what else { return };
    frame.kind = FrameType { descriptors: descriptors.into(), ..(*frame.kind).clone() }.into();
}

#[test]
fn a_schema_that_cannot_be_loaded_costs_its_own_frames_only() {
    let (broken, whole) = (subscription("broken", "audit"), subscription("campus", "audit"));
    let mut entries = Entries::new();
    entries.numbered(Duration::ZERO, &broken, 1, audit("1", "never"));
    // If each frame had them loaded, there would soon be too many for one reader.
    described(&mut entries, vec![0xff; schema::SET_LIMIT - 1]);
    for number in 2..=5 {
        let entry = entries.made[0].clone();
        let What::Frame(frame) = entry.what else { unreachable!("it is one") };
        let what = What::Frame(Frame { sequence: number, ..frame });
        entries.made.push(Entry { what, ..entry });
    }
    entries.numbered(Duration::ZERO, &whole, 1, audit("1", "after"));
    let made = Made::of(&entries);
    let warning = "warning: cannot decode frame 1 of subscription \"broken\"";
    let fault = "expected protobuf descriptors in the capture, found a fault: ";
    for options in [&[][..], &["--format", "json"], &["--format", "csv", "--select", "data.target"]]
    {
        let ran = made.decoded(options);
        assert_eq!(ran.code, 3, "{ran:?}");
        assert!(ran.stdout.contains("after") && !ran.stdout.contains("never"), "{ran:?}");
        let words: Vec<_> = ran.stderr.lines().collect();
        assert!(words[0].starts_with(warning) && words[0].contains(fault), "{words:?}");
        let last = words.last().unwrap();
        assert_eq!(*last, "1 frame decoded, 5 could not be, 0 damaged places");
    }
    let strict = made.decoded(&["--strict"]);
    assert_eq!((strict.code, &*strict.stdout), (1, ""), "{strict:?}");
    assert!(strict.stderr.contains(fault), "{strict:?}");
}

#[test]
fn nothing_is_said_of_a_panic_over_a_schema() {
    let mut entries = Entries::new();
    entries.numbered(Duration::ZERO, &subscription("a", "audit"), 1, audit("1", "never"));
    let mut set = FileDescriptorSet::decode(&*entries.made[0].frame().unwrap().kind.descriptors);
    for (syntax, reason) in [
        (
            "editions",
            "found a fault: it is written in an edition, and only proto2 and proto3 are known",
        ),
        ("proto9", "found a fault: it makes no sense as descriptors"),
    ] {
        set.as_mut().unwrap().file[0].syntax = Some(syntax.to_owned());
        described(&mut entries, set.as_ref().unwrap().encode_to_vec());
        let ran = Made::of(&entries).decoded(&["--log-format", "json"]);
        assert_eq!((ran.code, &*ran.stdout), (3, ""), "{ran:?}");
        let said = ran.stderr.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
        let said: Vec<_> = said.collect();
        assert!(said[0]["message"].as_str().unwrap().ends_with(reason), "{said:?}");
    }
}

#[test]
fn an_empty_frame_is_a_line() {
    let line = Made::frame("audit", Bytes::new()).line(&[]);
    assert_eq!(keys(&line), ["received", "subscription", "topic", "type"]);
    assert_eq!(line["type"], "Audit.audit_message");
}

#[test]
fn a_frame_of_an_unknown_topic_shows_its_payload_as_base64() {
    let line = Made::frame("weather", envelope("weather", "1", &[0xff, 0x00][..])).line(&[]);
    assert_eq!((&line["topic"], &line["subject"]), (&json!("weather"), &json!("weather")));
    assert_eq!(line["data"], "/wA=");
    assert!(!line.as_object().unwrap().contains_key("type"));
}

/// A copy of the bundled schema with something changed in the audit file.
fn changed_schema(folder: &Path, change: impl Fn(&str) -> String) -> String {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/classic");
    let changed = folder.join("newer");
    fs::create_dir(&changed).unwrap();
    for file in bundled.read_dir().unwrap() {
        let file = file.unwrap();
        let mut source = fs::read_to_string(file.path()).unwrap();
        if file.file_name() == "audit.proto" {
            source = change(&source);
        }
        fs::write(changed.join(file.file_name()), source).unwrap();
    }
    changed.to_str().unwrap().to_owned()
}

#[test]
fn a_newer_schema_shows_a_new_field() {
    // An audit message with a field 17 that the bundled schema does not have.
    let mut data = payload("Audit.audit_message", &[]).encode_to_vec();
    data.extend(b"\x8a\x01\x07because");
    let made = Made::frame("audit", envelope("audit", "1", data));
    assert_eq!(made.line(&[])["data"], json!({}));

    let newer = changed_schema(made.folder.path(), |source| {
        let last = "optional device_management dm_info = 16;";
        assert!(source.contains(last));
        source.replace(last, &format!("{last}\n  optional string reason = 17;"))
    });
    let line = made.line(&["--proto", &newer]);
    assert_eq!(line["data"], json!({"reason": "because"}));
    assert_eq!(line["type"], "Audit.audit_message");
}

#[test]
fn a_broken_schema_is_refused_with_file_and_line() {
    let made = Made::frame("audit", audit("1", "ap-1"));
    let broken = changed_schema(made.folder.path(), |source| format!("{source}\nmessage {{"));
    let ran = made.decoded(&["--proto", &broken]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
    let source = fs::read_to_string(Path::new(&broken).join("audit.proto")).unwrap();
    let line = source.lines().count();
    assert!(ran.stderr.contains(&format!("audit.proto:{line}:")), "{}", ran.stderr);

    let missing = made.folder.path().join("missing");
    let ran = made.decoded(&["--proto", missing.to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("missing"), "{}", ran.stderr);
    fs::create_dir(&missing).unwrap();
    let ran = made.decoded(&["--proto", missing.to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("there is no .proto file"), "{}", ran.stderr);
}

#[test]
fn the_payload_of_a_topic_can_be_said() {
    let data = payload("Audit.audit_message", &[("target", Value::String("ap-1".to_owned()))]);
    let made = Made::frame("weather", envelope("weather", "1", data.encode_to_vec()));
    let line = made.line(&["--payload", "weather=Audit.audit_message"]);
    assert_eq!(
        (&line["type"], &line["data"]),
        (&json!("Audit.audit_message"), &json!({"target": "ap-1"}))
    );
    // What is said of another topic changes nothing, and may be a slip of the pen.
    let ran = made.decoded(&["--payload", "audit=Audit.audit_message"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        ran.stderr,
        "nobody knows what the payload of weather is, so it is bytes; --payload weather=PACKAGE.MESSAGE says \
         it, with --proto if the message is yours\n\
         warning: no frame's topic is audit, which --payload names\n"
    );
    assert!(ran.json_lines()[0]["data"].is_string());
    let both = ["--payload", "weather=Audit.audit_message", "--payload", "x=Audit.audit_message"];
    let ran = made.decoded(&[&both[..], &["--quiet"]].concat());
    assert_eq!(ran.stderr, "warning: no frame's topic is x, which --payload names\n");
    // Where nothing has come at all, that is what is told.
    let ran = made.decoded(&[&both[..], &["--topic", "audit"]].concat());
    assert!(!ran.stderr.contains("--payload"), "{ran:?}");

    let ran = made.decoded(&["--payload", "weather=Weather.Report"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
    assert!(ran.stderr.contains("the message Weather.Report in the bundled schema"), "{ran:?}");
    assert!(ran.stderr.contains("\nhint: a full name is meant"), "{ran:?}");
    for wrong in ["weather", "=Audit.audit_message", "weather="] {
        let ran = made.decoded(&["--payload", wrong]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{wrong}: {ran:?}");
        assert!(ran.stderr.contains("TOPIC=MESSAGE"), "{wrong}: {ran:?}");
        assert!(ran.stderr.contains("hint: for example"), "{wrong}: {ran:?}");
    }
}

/// So many frames of 4 KB.
#[cfg(unix)]
fn long_frames(count: u32) -> Made {
    let of = subscription("campus", "audit");
    let mut entries = Entries::new();
    let long = "x".repeat(4000);
    for sequence in 1..=count {
        entries.numbered(Duration::from_millis(sequence.into()), &of, sequence, audit("1", &long));
    }
    Made::of(&entries)
}

/// More than any pipe holds, so that the command notices.
#[test]
#[cfg(unix)]
fn a_reader_that_has_seen_enough_is_no_error() {
    let made = long_frames(400);
    let script = r#"{ "$1" decode "$2"; echo "exit $?" >&2; } | head -1"#;
    let command = Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_centralcap"), made.path.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(command.stderr).unwrap(), "exit 0\n");
    assert_eq!(String::from_utf8(command.stdout).unwrap().lines().count(), 1);
}

/// It goes away in the middle of a batch, while a thread that is ahead waits for its turn.
#[test]
#[cfg(target_os = "linux")]
fn a_reader_that_goes_away_at_any_time_is_the_end() {
    use std::io::Read;

    /// Whether all threads of a process wait for something.
    fn waits(process: u32) -> bool {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let stats = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("stat")));
        stats.flatten().all(|stat| stat.rsplit_once(") ").unwrap().1.starts_with('S'))
    }

    let made = long_frames(4000);
    for read in (0..16_u64).map(|step| 1 + step * 300_000) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_centralcap"));
        command.args(["decode", "--threads", "3"]).arg(&made.path);
        let mut decoding = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = decoding.stdout.take().unwrap();
        let count = io::copy(&mut stdout.by_ref().take(read), &mut io::sink()).unwrap();
        assert_eq!(count, read);
        let words = || format!("{read} bytes were read");
        wait_for("rest", words, || waits(decoding.id()));
        drop(stdout);
        let mut ended = None;
        wait_for("end", words, || {
            ended = decoding.try_wait().unwrap();
            ended.is_some()
        });
        assert_eq!(ended.unwrap().code(), Some(0), "{}", words());
    }
}

#[test]
fn output_goes_to_a_new_file_and_never_over_another() {
    let made = eight();
    let output = made.folder.path().join("lines.ndjson");
    let option = ["-o", output.to_str().unwrap()];
    let ran = made.decoded(&option);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "", ""));
    let written = fs::read_to_string(&output).unwrap();
    assert_eq!(written, made.decoded(&[]).stdout);

    let ran = made.decoded(&["-o", output.to_str().unwrap(), "--limit", "1"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
    assert!(ran.stderr.contains("lines.ndjson already there\nhint: "), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(&output).unwrap(), written);
}

#[test]
fn what_cannot_be_read_leaves_no_output_behind() {
    let made = eight();
    let output = made.folder.path().join("lines.ndjson");
    let missing = made.folder.path().join("missing.mcap");
    let ran = decoded(&missing, &["-o", output.to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(!output.exists());
}

#[test]
fn what_a_killed_recorder_left_behind_is_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let about = About { started: START, host: String::new(), options: [].into() };
    let sealed = folder.path().join("left.mcap");
    let mut segment = HotSegment::create(&sealed, &about, &[]).unwrap();
    let mut entries = Entries::new();
    for sequence in 1..=3 {
        let after = Duration::from_secs(sequence.into());
        entries.numbered(after, &subscription("campus", "audit"), sequence, audit("1", "ap-1"));
    }
    for entry in &entries.made {
        segment.append(entry).unwrap();
    }
    segment.commit().unwrap();
    let hot = segment.path().to_owned();
    drop(segment);
    let ran = decoded(folder.path(), &[]);
    assert_eq!((ran.code, ran.json_lines().len(), ran.stderr.as_str()), (0, 3, ""), "{ran:?}");

    // Killed in the middle of a record.
    let whole = fs::read(&hot).unwrap();
    fs::write(&hot, &whole[..whole.len() - 5]).unwrap();
    let ran = decoded(&hot, &[]);
    assert_eq!((ran.code, ran.json_lines().len()), (3, 2), "{ran:?}");
    assert!(ran.stderr.contains("the last record is incomplete"), "{}", ran.stderr);
}

#[test]
fn a_stranger_among_captures_does_not_end_them() {
    let made = eight();
    let path = made.folder.path();
    fs::copy(&made.path, path.join("a.mcap")).unwrap();
    fs::write(path.join("b.mcap"), "no capture").unwrap();
    let ran = decoded(path, &[]);
    assert_eq!((ran.code, ran.json_lines().len()), (3, 16), "{}", ran.stderr);
    assert!(ran.stderr.contains("b.mcap"), "{}", ran.stderr);
    // Alone it is a mistake.
    let ran = decoded(&path.join("b.mcap"), &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
    assert!(ran.stderr.contains("\nhint: captures are MCAP files"), "{}", ran.stderr);
}

/// More frames than one thread takes at once, numbered in their targets.
fn many() -> (Made, Vec<String>) {
    let of = subscription("campus", "audit");
    let mut entries = Entries::new();
    let targets: Vec<_> = (0..10_000).map(|number| format!("frame-{number}")).collect();
    for (number, target) in targets.iter().enumerate() {
        let after = Duration::from_millis(number as u64);
        entries.numbered(after, &of, number as u32 + 1, audit("1", target));
    }
    (Made::of(&entries), targets)
}

fn targets(ran: &Ran) -> Vec<String> {
    let text = |line: &Json| line["data"]["target"].as_str().unwrap().to_owned();
    ran.json_lines().iter().map(text).collect()
}

#[test]
fn the_order_is_kept_on_any_number_of_threads() {
    let (made, expected) = many();
    for threads in ["1", "2", "7"] {
        let ran = made.decoded(&["--threads", threads]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{threads}");
        assert!(targets(&ran) == expected, "on {threads} threads");
    }
    assert_eq!(made.decoded(&["--threads", "0"]).code, 2);
}

#[test]
fn messages_as_deep_as_allowed_are_decoded_on_any_thread() {
    let of = subscription("campus", "audit");
    let mut entries = Entries::new();
    // In the field `other`, and then with the name behind it, which is the wrong order.
    for behind in [&[][..], &[0x0a, 0]] {
        let tree =
            (0..99).fold(Vec::new(), |tree: Vec<u8>, _| [&len(3, &tree)[..], behind].concat());
        entries.frame(Duration::ZERO, &of, envelope("audit", "1", tree));
    }
    let made = Made::of(&entries);
    let schema = ["--proto", "tests/data/torture", "--payload", "audit=torture.two.Tree"];
    for threads in ["1", "2"] {
        let ran = made.decoded(&[&schema[..], &["--threads", threads]].concat());
        assert_eq!((ran.code, ran.stdout.matches("\"other\"").count()), (0, 198), "{ran:?}");
    }
}

#[test]
fn a_file_whose_name_ends_in_zst_is_compressed() {
    let (made, _) = many();
    let file = made.folder.path().join("lines.ndjson.zst");
    let ran = made.decoded(&["-o", file.to_str().unwrap()]);
    assert_eq!((ran.code, ran.stdout.len(), ran.stderr.len()), (0, 0, 0), "{ran:?}");
    let lines = zstd::decode_all(fs::File::open(&file).unwrap()).unwrap();
    assert!(lines == made.decoded(&[]).stdout.as_bytes());
    assert!(fs::metadata(&file).unwrap().len() < lines.len() as u64 / 5);
}

#[test]
fn whoever_is_strict_gets_what_comes_before_on_stdout_and_no_file() {
    let undecodable = {
        let of = subscription("campus", "audit");
        let mut entries = Entries::new();
        entries.numbered(Duration::ZERO, &of, 1, audit("1", "before"));
        entries.numbered(Duration::from_secs(1), &of, 2, &b"\xff"[..]);
        entries.numbered(Duration::from_secs(2), &of, 3, audit("1", "after"));
        Made::of(&entries)
    };
    let ran = undecodable.decoded(&["--strict"]);
    assert_eq!(targets(&ran), ["before"]);
    let document = undecodable.decoded(&["--strict", "--format", "json"]);
    let document: Json = serde_json::from_str(&document.stdout).unwrap();
    assert_eq!(document["audit"].as_array().unwrap().len(), 1);
    assert_eq!(undecodable.decoded(&[]).code, 3);

    let (damaged, _) = many();
    let mut data = fs::read(&damaged.path).unwrap();
    let middle = data.len() / 2;
    data[middle] ^= 1;
    fs::write(&damaged.path, data).unwrap();
    for (made, words) in
        [(undecodable, "error: cannot decode frame 2 of"), (damaged, "error: damaged capture ")]
    {
        for (name, options) in [
            ("lines.ndjson", &[][..]),
            ("lines.ndjson.zst", &[]),
            ("document.json", &["--format", "json"]),
            ("table.csv", &["--select", "received"]),
            ("tables", &["--format", "csv"]),
        ] {
            let output = made.folder.path().join(name);
            let to = ["--strict", "-o", output.to_str().unwrap()];
            let ran = made.decoded(&[&to[..], options].concat());
            assert!(ran.code == 1 && ran.stderr.starts_with(words), "{ran:?}");
            assert_eq!(names_in(made.folder.path()), ["made.mcap"], "{options:?}");
            assert_eq!(made.decoded(&[&to[1..], options].concat()).code, 3);
            assert!(output.exists());
            if output.is_dir() {
                fs::remove_dir_all(output).unwrap();
            } else {
                fs::remove_file(output).unwrap();
            }
        }
    }
}

#[test]
fn what_is_wrong_with_many_frames_is_told_of_some() {
    let of = subscription("campus", "audit");
    let mut entries = Entries::new();
    for number in 1..=50 {
        entries.numbered(Duration::from_secs(number.into()), &of, number, &b"\xff"[..]);
    }
    let made = Made::of(&entries);
    let ran = made.decoded(&[]);
    assert_eq!((ran.code, ran.stderr.matches("cannot decode").count()), (3, 20), "{ran:?}");
    assert!(ran.stderr.contains("30 more of these"), "{ran:?}");
    assert!(ran.stderr.contains("0 frames decoded, 50 could not be"), "{ran:?}");
    let ran = made.decoded(&["--verbose"]);
    assert_eq!(ran.stderr.matches("cannot decode").count(), 50);
}

#[test]
fn what_the_schema_does_not_know_is_counted_and_shown_on_demand() {
    let of = subscription("campus", "audit");
    let mut entries = Entries::new();
    for number in 0..3 {
        // Field 100 of the envelope, and in the end an enum's number in the payload.
        let frame = [&audit("1", "ap-1")[..], &[0xa0, 0x06, 0x07]].concat();
        entries.numbered(Duration::from_secs(number.into()), &of, number + 1, frame);
    }
    let made = Made::of(&entries);
    let ran = made.decoded(&[]);
    assert_eq!(ran.code, 0);
    let expected = "not as the schema says: \
        3x the message has an unknown field 100 of wire type 0 (Audit.audit_message)\n";
    assert_eq!(ran.stderr, expected);
    assert!(!ran.stdout.contains("@unknown"));
    let ran = made.decoded(&["--unknown", "--quiet"]);
    assert_eq!(ran.stderr, "");
    for line in ran.json_lines() {
        assert_eq!(line["@unknown"][0]["what"], "unknown field", "{line}");
    }
}

#[test]
fn a_full_disk_is_an_error_with_a_hint() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let (made, _) = many();
    for arguments in [&["decode"][..], &["inspect"], &["inspect", "--gaps"], &["inspect", "--top"]]
    {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_centralcap"));
        let output = command.args(arguments).arg(&made.path).stdout(full).output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(
            words.contains("cannot write the output") && words.contains("make room"),
            "{arguments:?}: {words}"
        );
    }
}

#[test]
fn raw_bytes_are_shown_beside_what_they_say() {
    let (_folder, path) = {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.mcap");
        let mut entries = Entries::new();
        entries.frame(
            Duration::ZERO,
            &subscription("east", "audit"),
            Bytes::from_static(b"\x12\0"),
        );
        entries.write(&path);
        (folder, path)
    };
    let path = path.to_str().unwrap();
    let ran = centralcap(["decode", "--raw", path]);
    assert_eq!(ran.json_lines()[0]["@raw"], "EgA=");
    assert_eq!(ran.json_lines()[0]["topic"], "audit");
    let ran = centralcap(["decode", "--raw", "--format", "json", path]);
    let document: Json = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["audit"][0]["@raw"], "EgA=");
    let ran = centralcap(["decode", "--raw", "--format", "csv", path]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("expected lines or a document of JSON for --raw"),
        "{}",
        ran.stderr
    );
}
