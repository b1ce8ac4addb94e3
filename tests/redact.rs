//! What `edit --redact` promises: nothing that says who is left, and all that says what is.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::OsString,
    fs,
    path::Path,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use centralcap::{
    capture::each_record,
    entry::{
        Entry, SessionEvent, What,
        session_event::{
            Closed, Connected, DroppedFrames, Event, ExportDropped, Failed, Rejected,
            SegmentDeleted, TextFrame,
        },
    },
    protocol::PROTOCOLS,
    schema::{self, FrameTypes},
};
use mcap::records::{Record, op};
use prost_reflect::{Kind, MessageDescriptor};
use serde_json::Value;
use support::{
    capture::{Entries, entries_of, envelope, subscription},
    command::{Ran, centralcap},
    message::{int, len, tag},
    place::Place,
};

impl Place {
    /// Runs `edit --redact` on one capture here.
    fn redact(&self, input: &str, output: &str, options: &[&str]) -> Ran {
        let mut arguments: Vec<OsString> = vec!["edit".into(), self.path(input).into()];
        arguments.extend(["-o".into(), self.path(output).into(), "--redact".into()]);
        arguments.extend(options.iter().map(OsString::from));
        centralcap(arguments)
    }

    /// The same where all goes well.
    fn redacted(&self, input: &str, output: &str, options: &[&str]) -> String {
        let ran = self.redact(input, output, options);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.stderr
    }

    fn synth(&self, options: &[&str]) {
        let mut arguments: Vec<OsString> = vec!["synth".into(), "-o".into()];
        arguments.push(self.path("in.mcap").into());
        arguments.extend(options.iter().map(OsString::from));
        assert_eq!(centralcap(arguments).code, 0);
    }

    /// A file that only its owner can read.
    fn secret(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        permit(&path, 0o600);
        path.display().to_string()
    }

    fn file(&self, name: &str, content: &str) -> String {
        fs::write(self.path(name), content).unwrap();
        self.path(name).display().to_string()
    }
}

#[cfg(unix)]
fn permit(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(not(unix))]
fn permit(_: &Path, _: u32) {}

fn frames_of(path: &Path) -> Vec<Vec<u8>> {
    let entries = entries_of(path);
    entries.iter().filter_map(|entry| Some(entry.frame()?.data.to_vec())).collect()
}

/// All that is in a file, unpacked, without the schemas, which are the program's own.
fn unpacked(path: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    each_record(path, |opcode, data| {
        if opcode != op::SCHEMA {
            all.extend_from_slice(data);
        }
        Ok(())
    })
    .unwrap();
    all
}

/// The lines that `decode` makes of a capture.
fn decoded(path: &Path) -> Vec<Value> {
    let ran = centralcap(["decode".into(), OsString::from(path)]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.json_lines()
}

/// Makes up somebody, always somebody else.
struct Plant {
    number: u32,
    /// What each was, and the kind of it.
    planted: Vec<(usize, Planted)>,
}

#[derive(Clone)]
enum Planted {
    Text(String),
    Mac([u8; 6]),
    Ip([u8; 4]),
}

const KINDS: usize = 14;

impl Plant {
    fn someone(&mut self, kind: usize) -> Planted {
        self.number += 1;
        let n = self.number;
        let [_, high, middle, low] = n.to_be_bytes();
        let planted = match kind % KINDS {
            0 => Planted::Mac([0x24, 0xf2, 0x7f, high, middle, low]),
            1 => Planted::Ip([100, 64 + high, middle, low]),
            2 => Planted::Text(format!("2001:db8:{:x}:{:x}::{:x}", 0xa000 + n / 7, 0x1000 + n, n)),
            3 => Planted::Text(format!("given.family{n}@corp{n}.test")),
            4 => Planted::Text(format!("CORP{n}\\gfamily{n:05}")),
            5 => Planted::Text(format!("zrh-hq-ap-{n:05}")),
            6 => Planted::Text(format!("CNZQ{n:07}")),
            7 => Planted::Text(format!("{}", 10_000_000 + 7919 * n)),
            8 => Planted::Text(format!("0b5ec7{n:06x}-4a1d-4be2-8c33-d00d{n:08x}")),
            9 => Planted::Text(format!("Acme Head Office {n:05}")),
            10 => Planted::Text(format!("https://intra{n:05}.corp.test/people/{n:05}?q=me")),
            11 => Planted::Text(format!("build{n:05}.corp.test")),
            12 => Planted::Text(format!("Caf\u{e9} {n:05}")),
            _ => Planted::Text(format!("floor-{n:05}-west-wing")),
        };
        self.planted.push((kind % KINDS, planted.clone()));
        planted
    }

    /// In one of many ways to write it.
    fn text(&mut self, kind: usize) -> String {
        let someone = self.someone(kind);
        let text = match someone {
            Planted::Text(text) => text,
            Planted::Ip([a, b, c, d]) => format!("{a}.{b}.{c}.{d}"),
            Planted::Mac(mac) => {
                let separator = ["", ":", "-"][self.number as usize / KINDS % 3];
                let text = mac.map(|octet| format!("{octet:02x}")).join(separator);
                if self.number.is_multiple_of(2) { text } else { text.to_uppercase() }
            }
        };
        match self.number / 3 % 4 {
            // As text inside text.
            0 => format!("user {text} was moved by ({text}), see {text}."),
            1 => format!("{{\"who\":\"{text}\",\"mac={text}\"}}"),
            _ => text,
        }
    }

    fn bytes(&mut self, kind: usize) -> Vec<u8> {
        match kind % KINDS {
            0 | 1 => match self.someone(kind) {
                Planted::Mac(mac) => mac.to_vec(),
                Planted::Ip(ip) => ip.to_vec(),
                Planted::Text(text) => text.into_bytes(),
            },
            _ => self.text(kind).into_bytes(),
        }
    }

    /// A message with somebody in every field that has room for one, and in an unknown one.
    fn message(&mut self, message: &MessageDescriptor, kind: &mut usize) -> Vec<u8> {
        let mut data = Vec::new();
        for field in message.fields() {
            *kind += 1;
            let number = field.number();
            match field.kind() {
                Kind::String => data.extend(len(number, self.text(*kind).as_bytes())),
                Kind::Bytes => data.extend(len(number, &self.bytes(*kind))),
                Kind::Message(inner) => data.extend(len(number, &self.message(&inner, kind))),
                Kind::Float => data.extend([tag(number, 5), vec![1, 2, 3, 4]].concat()),
                Kind::Double => {
                    data.extend([tag(number, 1), 8.5417_f64.to_le_bytes().to_vec()].concat());
                }
                _ => data.extend(int(number, 1)),
            }
        }
        let hidden = self.bytes(*kind + 5);
        data.extend(len(3000, &hidden));
        data
    }

    /// All that must not be found of those, in small letters, at least five bytes each.
    fn guises(&self) -> Vec<(usize, Vec<u8>)> {
        let mut guises = Vec::new();
        for (index, (_, planted)) in self.planted.iter().enumerate() {
            let mut add = |guise: Vec<u8>| guises.push((index, guise.to_ascii_lowercase()));
            let data = match planted {
                Planted::Text(text) => text.clone().into_bytes(),
                Planted::Ip(ip) => {
                    add([&[4][..], ip].concat());
                    ip.map(|octet| octet.to_string()).join(".").into_bytes()
                }
                Planted::Mac(mac) => {
                    let pairs = mac.map(|octet| format!("{octet:02x}"));
                    for separator in [":", "-", " "] {
                        add(pairs.join(separator).into_bytes());
                    }
                    let groups: Vec<_> = pairs.chunks(2).map(<[String]>::concat).collect();
                    add(groups.join(".").into_bytes());
                    mac.to_vec()
                }
            };
            add(data.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect());
            for before in 0..3 {
                let shifted = [vec![0; before], data.clone()].concat();
                let text = BASE64_STANDARD_NO_PAD.encode(&shifted);
                // Without the letters that what stands before and behind has a part in.
                let from = (before * 8).div_ceil(6);
                add(text.as_bytes()[from..shifted.len() * 8 / 6].to_vec());
            }
            add(data);
        }
        guises
    }

    /// Those that are found there.
    fn found(&self, data: &[u8]) -> BTreeSet<usize> {
        let mut guises = HashMap::<[u8; 5], Vec<(usize, Vec<u8>)>>::new();
        for (index, guise) in self.guises() {
            guises.entry(*guise.first_chunk().unwrap()).or_default().push((index, guise));
        }
        let data = data.to_ascii_lowercase();
        let at = |at: usize| {
            let rest = &data[at..];
            let here = rest.first_chunk::<5>().and_then(|start| guises.get(start));
            here.into_iter()
                .flatten()
                .filter(|(_, guise)| rest.starts_with(guise))
                .map(|(at, _)| *at)
        };
        (0..data.len()).flat_map(at).collect()
    }
}

/// A capture with somebody in every field of every payload, in each of the ways.
fn planted(path: &Path) -> Plant {
    let mut plant = Plant { number: 0, planted: Vec::new() };
    let mut entries = Entries::new();
    let mut after = Duration::ZERO;
    for round in (0..KINDS).step_by(2) {
        for topic in PROTOCOLS[0].topics() {
            for payload in topic.payloads {
                let types = FrameTypes::of(PROTOCOLS[0]);
                let kind = types.all().find(|kind| kind.label == payload.label).unwrap();
                let pool = schema::from_descriptor_set(&kind.descriptors, "a test").unwrap();
                let message = pool.get_message_by_name(&kind.envelope).unwrap();
                let of = subscription(&format!("Acme Corp-{}", topic.name), topic.name);
                after += Duration::from_millis(1);
                let mut next = round;
                entries.frame(after, &of, plant.message(&message, &mut next).into());
                let made = entries.made.last().unwrap().frame().unwrap();
                assert_eq!(made.kind.label, payload.label);
            }
        }
        let of = subscription("Acme Corp-audit", "audit");
        for event in [
            Event::Connected(Connected { peer: plant.text(1), ..Connected::default() }),
            Event::Rejected(Rejected { body: plant.bytes(round).into(), ..Rejected::default() }),
            Event::Failed(Failed { reason: plant.text(round), ..Failed::default() }),
            Event::Closed(Closed { reason: plant.text(round + 1), ..Closed::default() }),
            Event::TextFrame(TextFrame { data: plant.bytes(round + 2).into() }),
            Event::DroppedFrames(DroppedFrames {
                reason: plant.text(round + 3),
                ..DroppedFrames::default()
            }),
            Event::ExportDropped(ExportDropped {
                exporter: plant.text(round + 4),
                reason: plant.text(round + 5),
                ..ExportDropped::default()
            }),
            Event::SegmentDeleted(SegmentDeleted {
                segment: plant.text(round + 6),
                reason: plant.text(round + 7),
                ..SegmentDeleted::default()
            }),
        ] {
            entries.happened(after, &of, 1, event);
        }
    }
    entries.write(path);
    plant
}

#[test]
fn nobody_who_was_planted_in_any_field_survives() {
    let place = Place::new();
    let plant = planted(&place.path("in.mcap"));
    let kinds: BTreeSet<_> = plant.planted.iter().map(|(kind, _)| *kind).collect();
    assert!(plant.planted.len() >= 1000 && kinds.len() == KINDS, "{}", plant.planted.len());
    // All of them can be found where they are.
    let before = unpacked(&place.path("in.mcap"));
    assert_eq!(plant.found(&before).len(), plant.planted.len());

    // The same one each time: a fresh one makes some pseudonym say "acme" now and then.
    let key = place.secret("key", "a synthetic key, for tests only\n");
    let said = place.redacted("in.mcap", "out.mcap", &["--redact-key-file", &key]);
    assert!(said.contains("of which none was found in what was written"), "{said}");
    let after = unpacked(&place.path("out.mcap"));
    assert_eq!(plant.found(&after), BTreeSet::new());
    assert!(!String::from_utf8_lossy(&after).to_lowercase().contains("acme"));
    // There is still something there.
    let frames = frames_of(&place.path("out.mcap"));
    assert_eq!(frames.len(), frames_of(&place.path("in.mcap")).len());
    assert!(after.len() > before.len() / 3);
    for line in decoded(&place.path("out.mcap")) {
        assert!(line["data"].is_object(), "{line}");
    }
}

/// Coordinates, and numbers that are names.
const MOVED: [&str; 11] = [
    "sta_location_x",
    "sta_location_y",
    "longitude",
    "latitude",
    "altitude",
    "label_id",
    "label_category_id",
    "tunnel_id",
    "map_id",
    "vpnc_ip_addr",
    "probe_ip_addr",
];

/// What became of each text, where both have the same place.
fn compare(
    name: &str,
    old: &Value,
    new: &Value,
    became: &mut BTreeMap<String, BTreeSet<(String, String)>>,
) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (name, old) in old {
                match new.get(name) {
                    Some(new) => compare(name, old, new, became),
                    None => assert!(MOVED[..5].contains(&&**name), "{name} is gone"),
                }
            }
            assert!(new.keys().all(|name| old.contains_key(name)));
        }
        (Value::Array(old), Value::Array(new)) => {
            assert_eq!(old.len(), new.len(), "{name}");
            old.iter().zip(new).for_each(|(old, new)| compare(name, old, new, became));
        }
        (Value::String(old), Value::String(new)) if !MOVED.contains(&name) => {
            let of = became.entry(old.to_lowercase()).or_default();
            of.insert((name.to_owned(), new.to_lowercase()));
        }
        _ => assert!(old == new || MOVED.contains(&name), "{name}: {old} {new}"),
    }
}

/// A MAC address, however it is written.
fn mac(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|digit| !":-.".contains(*digit)).collect();
    let is_mac = digits.len() == 12 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_mac.then(|| digits.to_lowercase())
}

#[test]
fn what_belongs_together_stays_together() {
    let place = Place::new();
    place.synth(&["--messages", "500", "--customers", "2"]);
    place.redacted("in.mcap", "out.mcap", &[]);
    let [old, new] = ["in.mcap", "out.mcap"].map(|name| decoded(&place.path(name)));
    assert_eq!(old.len(), new.len());
    let mut became = BTreeMap::new();
    for (old, new) in old.iter().zip(&new) {
        compare("", old, new, &mut became);
    }
    // One value, one pseudonym, whatever field it is in; and no two have the same.
    let (mut macs, mut names) = (BTreeMap::new(), BTreeMap::new());
    for (old, new) in &became {
        let texts: BTreeSet<_> = new.iter().map(|(_, text)| text).collect();
        if let Some(old) = mac(old) {
            let new: BTreeSet<_> = texts.iter().map(|text| mac(text).unwrap()).collect();
            assert_eq!(new.len(), 1, "{old} {new:?}");
            assert_ne!(new.first(), Some(&old));
            assert_eq!(macs.insert(old, new.clone()).unwrap_or(new.clone()), new);
        } else if texts.iter().all(|text| text.starts_with("id-")) {
            assert_eq!(texts.len(), 1, "{old} {new:?}");
            names.insert(old, texts);
        }
    }
    assert!(macs.len() > 300 && names.len() > 300, "{} {}", macs.len(), names.len());
    assert_eq!(macs.values().collect::<BTreeSet<_>>().len(), macs.len());
    assert_eq!(names.values().collect::<BTreeSet<_>>().len(), names.len());

    // Who was seen where, by counts.
    let meetings = |lines: &[Value]| {
        let mut at = BTreeMap::<String, BTreeSet<String>>::new();
        for line in lines {
            for event in ["pa_rssi_event", "pa_proximity_event"] {
                for one in ["rssi", "proximity"] {
                    let seen = line["data"][event][one].as_array();
                    for seen in seen.into_iter().flatten() {
                        let of = |name: &str| seen[name]["addr"].as_str().map(str::to_owned);
                        if let (Some(ap), Some(client)) = (of("ap_eth_mac"), of("sta_eth_mac")) {
                            at.entry(ap).or_default().insert(client);
                        }
                    }
                }
            }
        }
        let clients = at.values().flatten().collect::<BTreeSet<_>>().len();
        let mut counts: Vec<_> = at.values().map(BTreeSet::len).collect();
        counts.sort_unstable();
        (clients, counts)
    };
    let (clients, counts) = meetings(&old);
    assert!(clients > 50 && counts.len() > 20, "{clients} {counts:?}");
    assert_eq!(meetings(&new), (clients, counts));
}

#[test]
fn a_key_decides_on_every_byte_of_every_frame() {
    let place = Place::new();
    place.synth(&["--messages", "80", "--devices", "12"]);
    let key = place.secret("key", "a synthetic key, for tests only\n");
    let keyed = ["--redact-key-file", &key];
    place.redacted("in.mcap", "one.mcap", &keyed);
    place.redacted("in.mcap", "two.mcap", &keyed);
    place.redacted("in.mcap", "fresh.mcap", &[]);
    place.redacted("in.mcap", "other.mcap", &[]);
    // A part agrees with the whole: what else there is decides on nothing.
    let topic = [&keyed[..], &["--topic", "presence"]].concat();
    place.redacted("in.mcap", "part.mcap", &topic);
    let [one, two, fresh, other, part] = ["one", "two", "fresh", "other", "part"]
        .map(|name| frames_of(&place.path(&format!("{name}.mcap"))));
    assert_eq!(one, two);
    assert_ne!(one, fresh);
    assert_ne!(fresh, other);
    assert!(!part.is_empty() && part.iter().all(|frame| one.contains(frame)));
}

#[test]
fn a_maker_stays_if_asked_for_and_if_there_is_one() {
    let place = Place::new();
    let mut entries = Entries::new();
    let presence = subscription("presence", "presence");
    for mac in ["24f27f000001", "24f27fcc4a22", "0e5ac3000001", "0e5ac3000002"] {
        let seen = len(6, &len(1, &len(1, &len(1, mac.as_bytes()))));
        entries.frame(Duration::ZERO, &presence, envelope("presence", "", seen));
    }
    entries.write(&place.path("in.mcap"));
    place.redacted("in.mcap", "out.mcap", &["--keep-oui"]);
    let lines = decoded(&place.path("out.mcap"));
    let of = |line: &Value| {
        let client = &line["data"]["pa_rssi_event"]["rssi"][0]["sta_eth_mac"]["addr"];
        client.as_str().unwrap().to_owned()
    };
    let [first, second, third, fourth] = [0, 1, 2, 3].map(|at| of(&lines[at]));
    assert!(first.starts_with("24:f2:7f:") && second.starts_with("24:f2:7f:"), "{first} {second}");
    assert!(first != second && first[9..] != *"00:00:01" && second[9..] != *"cc:4a:22");
    // What a device made up for itself is all its own, and no maker's.
    assert!(third[..8] != *"0e:5a:c3" && third[..8] != fourth[..8], "{third} {fourth}");
}

#[test]
fn names_round_the_frames_are_replaced_and_nothing_else_is_told() {
    let place = Place::new();
    let of = subscription("acme-audit", "audit");
    let mut entries = Entries::new();
    let payload = len(4, b"acme-branch");
    entries.frame(Duration::ZERO, &of, envelope("audit", "acme-7", payload));
    let reason = "connection to central.acme.test refused".to_owned();
    entries.happened(Duration::ZERO, &of, 1, Event::Failed(Failed { attempt: 3, reason }));
    entries.frame(
        Duration::ZERO,
        &subscription("presence", "presence"),
        envelope("presence", "", ""),
    );
    fs::create_dir(place.path("acme")).unwrap();
    entries.write(&place.path("acme/acme.mcap"));
    place.redacted("acme/acme.mcap", "out.mcap", &["--where", ".customer_id != \"acme-8\""]);
    let after = unpacked(&place.path("out.mcap"));
    assert!(!String::from_utf8_lossy(&after).contains("acme"));
    let entries = entries_of(&place.path("out.mcap"));
    let of = &entries[0].subscription;
    assert!(of.name.starts_with("id-") && of.name.ends_with("-audit"), "{}", of.name);
    assert!(of.host.ends_with(".example"), "{}", of.host);
    assert_eq!(entries[2].subscription.name, "presence");
    let What::Event(SessionEvent { event: Some(Event::Failed(failed)), .. }) = &entries[1].what
    else {
        panic!("{:?}", entries[1])
    };
    assert_eq!(failed.attempt, 3);
    assert!(failed.reason.starts_with("connection to id-") && failed.reason.ends_with("refused"));
    // A topic that is nobody's but theirs is not told, though it was asked for.
    let topics = ["--topic", "audit", "--topic", "presence", "--topic", "acme-special"];
    place.redacted("acme/acme.mcap", "topics.mcap", &topics);
    let after = unpacked(&place.path("topics.mcap"));
    assert!(!String::from_utf8_lossy(&after).contains("acme"));
    assert!(String::from_utf8_lossy(&after).contains("audit, presence, redacted"));
    // Whoever is given a name has it.
    place.redacted("acme/acme.mcap", "named.mcap", &["--rename", "acme-audit=customer-1"]);
    assert_eq!(entries_of(&place.path("named.mcap"))[0].subscription.name, "customer-1");
    let ran =
        place.redact("acme/acme.mcap", "bad.mcap", &["--rename", "acme-audit=at acme-branch"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("found one (site), as it is, at byte"), "{}", ran.stderr);
    assert!(!place.path("bad.mcap").exists());
}

/// What the program itself writes round the frames must be common words: else somebody with such a name
/// could never be redacted.
#[test]
fn the_programs_own_words_are_nobodys() {
    let place = Place::new();
    place.synth(&["--messages", "60"]);
    let options =
        ["--restamp", "2031-03-04T05:06:07Z", "--sample", "5", "--from", "+1s", "--to", "+2h"];
    let policy = place.file("policy.toml", "[classes]\nsite = \"drop\"\n");
    let more = ["--minimise", "--dedup", "--keep-oui", "--redact-policy", &policy];
    let options = [&options[..], &more].concat();
    place.redacted("in.mcap", "out.mcap", &options);
    let words: BTreeSet<_> = include_str!("../src/redact/words.txt").split_whitespace().collect();
    let mut seen = 0;
    each_record(&place.path("out.mcap"), |opcode, data| {
        let (name, words_of) = match mcap::parse_record(opcode, data).unwrap() {
            Record::Header(header) => (header.profile + " " + &header.library, BTreeMap::new()),
            Record::Channel(channel) => (channel.topic, channel.metadata),
            Record::Metadata(metadata) => (metadata.name, metadata.metadata),
            _ => return Ok(()),
        };
        let text =
            words_of.into_iter().fold(name, |text, (key, value)| text + " " + &key + " " + &value);
        let text = text.to_lowercase();
        for part in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
            if part.starts_with("id-") {
                continue;
            }
            for word in part.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| word.len() > 3)
            {
                seen += 1;
                assert!(words.contains(word), "{word}");
            }
        }
        Ok(())
    })
    .unwrap();
    assert!(seen > 50, "{seen}");
}

#[test]
fn what_nobody_knows_is_left_out_and_told() {
    let place = Place::new();
    let mut entries = Entries::new();
    let new = subscription("north-brand-new", "brand-new");
    entries.frame(Duration::ZERO, &new, envelope("", "1000001", len(1, b"somebody")));
    let audit = subscription("north-audit", "audit");
    entries.frame(Duration::ZERO, &audit, envelope("audit", "1000001", int(2, 7)));
    entries.frame(Duration::ZERO, &audit, b"no protobuf".as_slice().into());
    let more = [envelope("audit", "1000001", int(2, 8)).to_vec(), len(1, b"somebody")].concat();
    entries.frame(Duration::ZERO, &audit, more.into());
    entries.write(&place.path("in.mcap"));
    let ran = place.redact("in.mcap", "out.mcap", &[]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    for said in [
        "cannot decode frame 3 of subscription \"north-audit\"",
        "2 frames and 0 session events",
        "left out: 1 frame whose payload the schema does not know",
        "left out: 1 field, unknown to the schema or coordinates without a site",
        "left out: 1 frame that could not be decoded",
    ] {
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    }
    assert!(!String::from_utf8_lossy(&unpacked(&place.path("out.mcap"))).contains("somebody"));
    assert_eq!(frames_of(&place.path("out.mcap")).len(), 2);
}

#[test]
fn a_customer_who_is_a_number_of_ours_is_no_survivor() {
    let place = Place::new();
    let mut entries = Entries::new();
    let audit = subscription("north-audit", "audit");
    for _ in 0..1000 {
        entries.frame(Duration::ZERO, &audit, envelope("audit", "1000", int(2, 7)));
    }
    entries.write(&place.path("in.mcap"));
    place.redacted("in.mcap", "out.mcap", &[]);
}

#[test]
fn times_in_frames_move_with_all_others() {
    let place = Place::new();
    place.synth(&["--messages", "200"]);
    place.redacted("in.mcap", "out.mcap", &["--shift", "-1000h"]);
    let moved = Duration::from_hours(1000);
    let [old, new] = ["in.mcap", "out.mcap"].map(|name| entries_of(&place.path(name)));
    let mut frames = 0;
    for (old, new) in old.iter().zip(&new) {
        assert_eq!(new.received, old.received.before(moved));
        if let (Some(old), Some(new)) = (old.frame(), new.frame()) {
            assert_eq!(new.sent, old.sent.map(|sent| sent.before(moved)));
            frames += 1;
        }
    }
    assert_eq!(frames, 200);
    // Those that are text cannot be moved.
    let told = |name| {
        let lines = decoded(&place.path(name));
        let rogues = lines
            .iter()
            .filter(|line| line["topic"] == "security")
            .flat_map(|line| line["data"]["rogue"].as_array().into_iter().flatten());
        rogues
            .filter(|rogue| rogue["first_seen"].as_str().is_some_and(|text| !text.is_empty()))
            .count()
    };
    assert!(told("in.mcap") > 0);
    assert_eq!(told("out.mcap"), 0);
    assert!(!String::from_utf8_lossy(&unpacked(&place.path("out.mcap"))).contains("1000h"));
}

/// What there is no room for, or what would be taken for no time there, cannot be moved; so it must not be
/// told either.
#[test]
fn times_that_cannot_move_are_not_told() {
    let place = Place::new();
    place.synth(&["--messages", "20"]);
    for to in ["2000-01-01T00:00:00Z", "2110-01-01T00:00:00Z"] {
        let before = place.names();
        let ran = place.redact("in.mcap", "out.mcap", &["--restamp", to]);
        assert_eq!((ran.code, place.names()), (2, before), "{}", ran.stderr);
        assert!(ran.stderr.contains("expected a time from 2001-09-09 to 2106"), "{}", ran.stderr);
    }
}

/// What the capture itself says of its fields is no ground to leave a time where it is.
#[test]
fn times_move_whatever_schema_a_capture_brings_along() {
    let place = Place::new();
    let mut entries = Entries::new();
    let audit = subscription("north-audit", "audit");
    entries.frame(Duration::ZERO, &audit, envelope("audit", "1000001", int(2, 1_767_600_000)));
    let Some(What::Frame(frame)) = entries.made.last_mut().map(|entry| &mut entry.what) else {
        panic!("a frame was made")
    };
    // The same names, but for those of times.
    let mut kind = (*frame.kind).clone();
    let renamed = kind.descriptors.windows(9).map(|part| part == b"timestamp");
    let places: Vec<_> = renamed.enumerate().filter_map(|(at, is)| is.then_some(at)).collect();
    assert!(places.len() >= 2);
    let mut descriptors = kind.descriptors.to_vec();
    for at in places {
        descriptors[at..at + 9].copy_from_slice(b"timefield");
    }
    kind.descriptors = descriptors.into();
    frame.kind = kind.into();
    entries.write(&place.path("in.mcap"));
    place.redacted("in.mcap", "out.mcap", &["--shift", "-1000h"]);
    let moved = Duration::from_hours(1000);
    let [old, new] = ["in.mcap", "out.mcap"].map(|name| entries_of(&place.path(name)));
    assert_eq!(new[0].received, old[0].received.before(moved));
    let line = &decoded(&place.path("out.mcap"))[0];
    assert_eq!(line["data"]["timestamp"], 1_767_600_000 - 3_600_000, "{line}");
}

#[test]
fn a_time_that_a_policy_drops_is_nowhere() {
    let place = Place::new();
    place.synth(&["--messages", "20"]);
    let policy =
        place.file("policy.toml", "[fields]\n\"StreamMessage.MsgProto.timestamp\" = \"drop\"\n");
    place.redacted("in.mcap", "out.mcap", &["--redact-policy", &policy]);
    let [old, new] = ["in.mcap", "out.mcap"].map(|name| entries_of(&place.path(name)));
    let sent = |entries: &[Entry]| {
        entries
            .iter()
            .filter(|entry| entry.frame().is_some_and(|frame| frame.sent.is_some()))
            .count()
    };
    assert_eq!((sent(&old), sent(&new)), (20, 0));
}

#[test]
fn a_field_that_is_kept_while_its_values_are_replaced_elsewhere_fails_the_proof() {
    let place = Place::new();
    place.synth(&["--messages", "80", "--devices", "12"]);
    for (field, class) in [
        ("Monitoring.DeviceStats.device_id", "serial"),
        ("Presence.mac_address.addr", "mac"),
        ("Apprf.client_firewall_session.user_name", "user"),
        ("Apprf.apprf_session.ap_name", "device"),
        ("Apprf.ip_address.addr", "ip"),
        ("Monitoring.MonitoringInformation.customer_id", "customer"),
    ] {
        let policy = place.file("policy.toml", &format!("[fields]\n{field:?} = \"keep\"\n"));
        let before = place.names();
        let ran = place.redact("in.mcap", "out.mcap", &["--redact-policy", &policy]);
        assert_eq!(ran.code, 1, "{field}: {}", ran.stderr);
        let said = "expected no value that was replaced, found one (";
        assert!(ran.stderr.contains(said), "{field}: {}", ran.stderr);
        // A name may be found by its domain.
        let found = |class: &str| ran.stderr.contains(&format!("({class}), "));
        assert!(found(class) || class == "user" && found("url"), "{field}: {}", ran.stderr);
        // And which field is to blame, and by whose word.
        let blamed = format!(": in {field} (\"keep\" by line 2 of {policy})\nhint: ");
        assert!(ran.stderr.contains(&blamed), "{field}: {}", ran.stderr);
        assert_eq!(place.names(), before, "{field}");
    }
    let before = place.names();
    let policy =
        place.file("policy.toml", "[fields]\n\"Monitoring.DeviceStats.device_id\" = \"keep\"\n");
    let options = ["--redact-policy", &policy, "--split-by", "topic"];
    assert_eq!(place.redact("in.mcap", "parts", &options).code, 1);
    assert_eq!(place.names(), before);
    let policy = place.file("policy.toml", "[classes]\nserial = \"keep\"\n");
    place.redacted("in.mcap", "parts", &["--redact-policy", &policy, "--split-by", "topic"]);
}

#[test]
fn each_field_that_is_kept_and_fails_the_proof_is_named_with_its_line() {
    let place = Place::new();
    place.synth(&["--messages", "200", "--devices", "12"]);
    let policy = place.file(
        "policy.toml",
        "[fields]\n\"Monitoring.DeviceStats.device_id\" = \"keep\"\n\n# Nobody but this one has them.\n\
         \"Monitoring.Ap.firmware_version\" = \"keep\"\n\"Apprf.ip_address.addr\" = \"keep\"\n\
         [classes]\ncustomer = \"keep\"\nmac = \"keep\"\n",
    );
    let ran = place.redact("in.mcap", "out.mcap", &["--redact-policy", &policy]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let (_, named) = ran.stderr.split_once(": in ").unwrap();
    let (named, _) = named.split_once("\nhint: ").unwrap();
    let expected = [("Apprf.ip_address.addr", 6), ("Monitoring.DeviceStats.device_id", 2)]
        .map(|(field, line)| format!("{field} (\"keep\" by line {line} of {policy})"));
    assert_eq!(named, expected.join(", "));
}

/// Whoever gets a capture can see that it hides less than others do, or something else.
#[test]
fn what_was_asked_for_besides_is_told() {
    let place = Place::new();
    place.synth(&["--messages", "10"]);
    let policy = place.file("policy.toml", "[classes]\nserial = \"keep\"\n");
    place.redacted("in.mcap", "plain.mcap", &[]);
    place.redacted("in.mcap", "out.mcap", &["--keep-oui", "--redact-policy", &policy]);
    for (name, is_told) in [("plain.mcap", false), ("out.mcap", true)] {
        let all = unpacked(&place.path(name));
        let all = String::from_utf8_lossy(&all);
        assert_eq!(all.contains("edit.keep-oui"), is_told, "{name}");
        assert_eq!(all.contains("edit.redact-policy"), is_told, "{name}");
    }
}

#[test]
fn a_key_that_is_none_or_that_others_can_read_is_refused() {
    let place = Place::new();
    place.synth(&["--messages", "10"]);
    let refused = |key: &str| {
        let before = place.names();
        let ran = place.redact("in.mcap", "out.mcap", &["--redact-key-file", key]);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert_eq!(place.names(), before);
        ran.stderr
    };
    let missing = place.path("missing").display().to_string();
    assert!(refused(&missing).contains("cannot read"));
    let short = place.secret("short", "fifteen bytes..\n");
    let said = refused(&short);
    assert!(said.contains("expected a key of at least 16 bytes in"), "{said}");
    assert!(said.contains("found 15 bytes"), "{said}");
    assert!(refused(&place.secret("empty", "")).contains("found 0 bytes"));
    assert!(
        refused(&place.folder.path().display().to_string())
            .contains("expected a file with a key in")
    );
    if cfg!(unix) {
        // Nobody writes to it, so whoever opens it waits.
        let pipe = place.path("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        permit(&pipe, 0o600);
        let said = refused(&pipe.display().to_string());
        assert!(said.contains("expected a file with a key in"), "{said}");
    }
    let key = place.secret("open", "a synthetic key, for tests only\n");
    if cfg!(unix) {
        permit(Path::new(&key), 0o640);
        let said = refused(&key);
        assert!(said.contains("expected a key that only its owner can read in"), "{said}");
        assert!(said.contains("found the permissions 640"), "{said}");
    }
}

#[test]
fn a_policy_that_names_no_field_is_refused_with_its_line() {
    let place = Place::new();
    place.synth(&["--messages", "10"]);
    let policy = place.file("policy.toml", "[fields]\n\n\"Monitoring.Ap.colour\" = \"keep\"\n");
    let before = place.names();
    let ran = place.redact("in.mcap", "out.mcap", &["--redact-policy", &policy]);
    assert_eq!((ran.code, place.names()), (1, before));
    assert!(ran.stderr.contains("expected a field of Monitoring.Ap ("), "{}", ran.stderr);
    assert!(ran.stderr.contains("in line 3 of"), "{}", ran.stderr);
    // And all of it is for --redact.
    let arguments = ["edit", "in.mcap", "-o", "out.mcap", "--keep-oui"];
    assert_eq!(centralcap(arguments).code, 2);
}
