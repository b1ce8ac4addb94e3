//! What `synth` promises about its frames.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    sync::OnceLock,
};

use centralcap::{
    codec::{bytes::hex, reflect},
    entry::{Entry, Timestamp},
    protocol::PROTOCOLS,
    schema,
    synth::{self, Options, Synth},
};
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value,
};

use self::support::command::centralcap;

mod support;

/// Enough for everything that is rare.
const MANY: u64 = 6000;

fn entries(options: &Options) -> Vec<Entry> {
    Synth::new(options).unwrap().collect()
}

/// A frame of the default campus, decoded by what it carries itself.
struct Decoded {
    label: String,
    envelope: DynamicMessage,
    payload: DynamicMessage,
}

/// Made once for all tests of this file: to decode them takes a while.
fn many() -> &'static [Decoded] {
    static MADE: OnceLock<Vec<Decoded>> = OnceLock::new();
    MADE.get_or_init(|| {
        let mut envelopes: HashMap<String, MessageDescriptor> = HashMap::new();
        let mut decoded = Vec::new();
        for entry in entries(&Options { messages: MANY, ..Options::default() }) {
            let Some(frame) = entry.frame() else { continue };
            let label = frame.kind.label.clone();
            let envelope = envelopes.entry(label.clone()).or_insert_with(|| {
                let pool = schema::from_descriptor_set(&frame.kind.descriptors, &label).unwrap();
                schema::message(&pool, &frame.kind.envelope).unwrap()
            });
            let envelope = reflect::decode(envelope, &frame.data).unwrap();
            let payload = envelope.get_field_by_name("data").unwrap();
            let payload = payload.as_message().unwrap().clone();
            assert_eq!(Some(payload.descriptor().full_name()), frame.kind.payload.as_deref());
            decoded.push(Decoded { label, envelope, payload });
        }
        decoded
    })
}

/// Hears of every value in a message that is there, with its field; lists one by one.
fn walk(message: &DynamicMessage, visit: &mut impl FnMut(&FieldDescriptor, &Value)) {
    for (field, value) in message.fields() {
        let values = match value {
            Value::List(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        for value in values {
            visit(&field, value);
            if let Value::Message(message) = value {
                walk(message, visit);
            }
        }
    }
}

fn everywhere(mut visit: impl FnMut(&Decoded, &FieldDescriptor, &Value)) {
    for decoded in many() {
        walk(&decoded.payload, &mut |field, value| visit(decoded, field, value));
    }
}

#[test]
fn the_same_options_make_the_same_file_and_another_seed_another() {
    let folder = tempfile::tempdir().unwrap();
    let made = |name: &str, seed: u64| {
        let path = folder.path().join(name);
        synth::write(&Options { seed, messages: 500, ..Options::default() }, &path).unwrap();
        fs::read(&path).unwrap()
    };
    let first = made("a.mcap", 1);
    assert!(first == made("b.mcap", 1), "the same options have made different files");
    assert!(first != made("c.mcap", 2), "different seeds have made the same file");
}

#[test]
fn all_payloads_turn_up_early() {
    let made = entries(&Options { messages: 3000, ..Options::default() });
    let found: BTreeSet<_> =
        made.iter().filter_map(|entry| Some(entry.frame()?.kind.label.as_str())).collect();
    let topics = PROTOCOLS[0].topics().iter();
    let expected: BTreeSet<_> =
        topics.flat_map(|topic| topic.payloads).map(|payload| payload.label).collect();
    assert_eq!((found, expected.len()), (expected.clone(), 7));
}

#[test]
fn every_frame_decodes_by_what_it_carries_and_says_the_same_outside() {
    assert_eq!(many().len() as u64, MANY);
    for decoded in many() {
        let topic = decoded.label.split('.').next().unwrap();
        let outside = |name: &str| decoded.envelope.get_field_by_name(name).unwrap();
        assert_eq!(outside("subject").as_str(), Some(topic));
        let customer = outside("customer_id");
        for name in ["customer_id", "cust_id"] {
            if decoded.payload.has_field_by_name(name) {
                let inside = decoded.payload.get_field_by_name(name).unwrap();
                assert_eq!(inside, customer, "in {}", decoded.label);
            }
        }
    }
}

/// Adds the fields of a message and of all that can be in it.
fn declared(message: &MessageDescriptor, found: &mut BTreeSet<String>) {
    for field in message.fields() {
        let new = found.insert(field.full_name().to_owned());
        if let Kind::Message(inner) = field.kind()
            && new
        {
            declared(&inner, found);
        }
    }
}

#[test]
fn every_field_of_every_payload_is_set_sooner_or_later() {
    let mut expected = BTreeSet::new();
    for topic in PROTOCOLS[0].topics() {
        for payload in topic.payloads {
            let message = schema::message(schema::bundled(), payload.message).unwrap();
            declared(&message, &mut expected);
        }
    }
    let mut found = BTreeSet::new();
    everywhere(|_, field, _| {
        found.insert(field.full_name().to_owned());
    });
    let missing: Vec<_> = expected.difference(&found).collect();
    assert!(missing.is_empty(), "never set: {missing:#?}");
    assert!(expected.len() > 500, "only {} fields are declared", expected.len());
}

/// The bytes of a MAC, whichever of its two forms it has.
fn mac(message: &DynamicMessage) -> Vec<u8> {
    let value = message.get_field_by_name("addr").unwrap();
    let written = value.as_bytes().unwrap();
    if !message.descriptor().full_name().starts_with("Presence.") {
        return written.to_vec();
    }
    assert_eq!(written.len(), 12, "presence writes MACs as digits");
    let pairs = written.chunks(2).map(|pair| str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

#[test]
fn macs_are_locally_administered_and_of_one_device() {
    let mut count = 0;
    let mut check = |mac: &[u8]| {
        assert_eq!(mac.len(), 6, "{mac:x?}");
        assert_eq!(mac[0] & 0b11, 0b10, "{mac:x?}");
        count += 1;
    };
    everywhere(|_, field, value| match value {
        Value::Message(message)
            if matches!(message.descriptor().name(), "mac_address" | "MacAddress") =>
        {
            check(&mac(message));
        }
        Value::String(text) if is_mac_text(text) => {
            let digits: Vec<_> = text.split([':', '-']).collect();
            let mac: Vec<_> =
                digits.iter().map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect();
            check(&mac);
        }
        // A message of its own is how the schema spells a MAC, except where it uses text.
        Value::Bytes(_) => assert!(
            !field.name().contains("mac") || field.parent_message().name().contains("mac"),
            "{}",
            field.full_name()
        ),
        _ => {}
    });
    assert!(count > 10_000, "{count} MACs");
}

fn is_mac_text(text: &str) -> bool {
    let parts: Vec<_> = text.split([':', '-']).collect();
    parts.len() == 6
        && parts.iter().all(|part| part.len() == 2 && u8::from_str_radix(part, 16).is_ok())
}

/// RFC 5737 and RFC 3849.
fn is_for_documentation(address: &[u8]) -> bool {
    match address {
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        address => address.len() == 16 && address.starts_with(&[0x20, 0x01, 0x0d, 0xb8]),
    }
}

#[test]
fn addresses_are_from_the_ranges_for_documentation() {
    let mut lengths = BTreeMap::new();
    everywhere(|_, field, value| match value {
        Value::Message(message)
            if matches!(message.descriptor().name(), "ip_address" | "IpAddress") =>
        {
            let address = message.get_field_by_name("addr").unwrap();
            let address = address.as_bytes().unwrap();
            assert!(is_for_documentation(address), "{} in {}", hex(address), field.full_name());
            *lengths.entry(address.len()).or_insert(0) += 1;
        }
        // Some are numbers.
        Value::U32(number) if field.name().contains("ip_addr") => {
            assert!(is_for_documentation(&number.to_be_bytes()), "{}", field.full_name());
        }
        Value::String(text) => {
            if let Ok(address) = text.parse::<std::net::IpAddr>() {
                let octets = match address {
                    std::net::IpAddr::V4(address) => address.octets().to_vec(),
                    std::net::IpAddr::V6(address) => address.octets().to_vec(),
                };
                assert!(is_for_documentation(&octets), "{text} in {}", field.full_name());
            }
        }
        _ => {}
    });
    let families: Vec<_> = lengths.keys().copied().collect();
    assert_eq!(families, [4, 16]);
}

#[test]
fn a_client_is_the_same_in_every_topic() {
    let mut topics: HashMap<Vec<u8>, BTreeSet<&str>> = HashMap::new();
    let mut found = Vec::new();
    for (index, decoded) in many().iter().enumerate() {
        walk(&decoded.payload, &mut |field, value| {
            if let Value::Message(message) = value
                && matches!(message.descriptor().name(), "mac_address" | "MacAddress")
                && matches!(field.name(), "sta_eth_mac" | "client_mac" | "macaddr")
            {
                found.push((mac(message), index));
            }
        });
    }
    for (mac, index) in found {
        topics.entry(mac).or_default().insert(&many()[index].label);
    }
    let wanted = BTreeSet::from(["presence", "location", "monitoring", "apprf"]);
    let known = topics.values().filter(|topics| wanted.is_subset(topics)).count();
    assert!(known > 50, "only {known} clients are in all of {wanted:?}");
}

#[test]
fn receive_times_never_go_back() {
    for rate in [None, Some(1e6), Some(0.5)] {
        let made = entries(&Options { messages: 600, customers: 3, rate, ..Options::default() });
        let times: Vec<Timestamp> = made.iter().map(|entry| entry.received).collect();
        assert!(times.is_sorted(), "at the rate {rate:?}");
        for entry in &made {
            let sent = entry.frame().and_then(|frame| frame.sent);
            assert!(sent.is_none_or(|sent| sent <= entry.received), "received before it was sent");
        }
    }
}

#[test]
fn a_rate_is_kept() {
    for rate in [0.5, 20.0, 1000.0] {
        let options = Options { messages: 1000, rate: Some(rate), ..Options::default() };
        let made = entries(&options);
        let (first, last) = (made.first().unwrap().received, made.last().unwrap().received);
        let found = 1000.0 / last.since(first).as_secs_f64();
        assert!((0.8..1.25).contains(&(found / rate)), "{found} frames a second, not {rate}");
    }
}

#[test]
fn some_locations_are_geofence_notices() {
    let count = |label: &str| many().iter().filter(|decoded| decoded.label == label).count();
    let (locations, notices) = (count("location"), count("location.geofence"));
    let all = locations + notices;
    assert!((all / 30..=all / 6).contains(&notices), "{notices} of {all}");
}

#[test]
fn servers_are_ahead_of_the_schema_now_and_then() {
    let (mut enums, mut fields) = (0, 0);
    everywhere(|_, field, value| {
        if let (Value::EnumNumber(number), Kind::Enum(values)) = (value, field.kind()) {
            enums += usize::from(values.get_value(*number).is_none());
        }
    });
    for decoded in many() {
        fields += decoded.payload.unknown_fields().count();
    }
    assert!(enums > 0 && fields > 0, "{enums} unknown enum numbers, {fields} unknown fields");
    assert!(fields < many().len() / 100, "{fields} unknown fields are no exception");
}

#[test]
fn wrong_wishes_are_refused_with_words() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("made.mcap");
    let output = output.to_str().unwrap();
    let refused = |options: &[&str], words: &str| {
        let ran = centralcap(["synth", "-o", output].iter().chain(options));
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{options:?}: {ran:?}");
        assert!(ran.stderr.contains(words), "{options:?}: {}", ran.stderr);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "{options:?}");
    };
    refused(&["--topics", "audit,weather"], "expected a topic (apprf, audit, ");
    refused(&["--topics", "weather"], r#"found "weather""#);
    refused(&["--messages", "0"], "expected at least one message, found 0");
    refused(&["--devices", "2"], "expected 3 to 50000 devices, found 2");
    refused(&["--customers", "9"], "expected 1 to 8 customers, found 9");
    refused(&["--rate", "0"], "found 0");
    refused(&["--rate", "NaN"], "found NaN");
    for rate in ["1e-7", "1e-30", "1e-320"] {
        refused(
            &["--rate", rate],
            "expected frames that end before the year 2262, found 1000 of them, ",
        );
    }
    refused(&["--messages", "18446744073709551615"], "found 18446744073709551615 of them, ");
    refused(&["--start", "2262-04-11T23:40:00Z"], "a second from 2262-04-11T23:40:00");
}

#[test]
fn a_file_that_is_there_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("precious.mcap");
    fs::write(&output, "precious").unwrap();
    let ran = centralcap(["synth", "--messages", "5", "-o", output.to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("precious.mcap already there\nhint: "), "{}", ran.stderr);
    assert_eq!(fs::read(&output).unwrap(), b"precious");
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}

#[test]
fn only_the_wanted_topics_are_made() {
    let topics = vec!["audit".to_owned(), "presence".to_owned()];
    let made = entries(&Options { messages: 300, topics, ..Options::default() });
    let found: BTreeSet<_> = made.iter().map(|entry| entry.subscription.topic.as_str()).collect();
    assert_eq!(found, BTreeSet::from(["audit", "presence"]));
}
