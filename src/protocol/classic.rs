//! Classic Central streaming: a bare key, a `Topic` header, one protobuf envelope per message.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use super::{Ask, Envelope, Key, KeyFacts, Making, Payload, Protocol, Refusal, Topic};
use crate::{
    codec::wire::{self, Value},
    entry::{Timestamp, Unit},
};

/// Classic Central.
#[derive(Debug)]
pub struct Classic;

/// How long a key lives.
const KEY_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// When made-up keys say that they were made, and one second later for each: 2100, so that no client
/// takes one for dead before its server does.
const MADE_UP: u64 = 4_102_444_800;

const TOPICS: [Topic; 6] = [
    Topic {
        name: "apprf",
        payloads: &[Payload { label: "apprf", message: "Apprf.apprf_session" }],
    },
    Topic {
        name: "audit",
        payloads: &[Payload { label: "audit", message: "Audit.audit_message" }],
    },
    Topic {
        name: "location",
        payloads: &[
            Payload { label: "location", message: "Location.stream_location" },
            Payload { label: "location.geofence", message: "Location.stream_geofence_notify" },
        ],
    },
    Topic {
        name: "monitoring",
        payloads: &[Payload { label: "monitoring", message: "Monitoring.MonitoringInformation" }],
    },
    Topic {
        name: "presence",
        payloads: &[Payload { label: "presence", message: "Presence.presence_event" }],
    },
    Topic {
        name: "security",
        payloads: &[Payload { label: "security", message: "Security.RapidsStreamingEvent" }],
    },
];

impl Protocol for Classic {
    fn name(&self) -> &'static str {
        "classic"
    }

    fn topics(&self) -> &'static [Topic] {
        &TOPICS
    }

    fn feed_path(&self) -> &'static str {
        "/streaming/api"
    }

    fn feed_headers(&self, ask: &Ask<'_>) -> Vec<(&'static str, String)> {
        let mut headers =
            vec![("Authorization", ask.key.expose().to_owned()), ("Topic", ask.topic.to_owned())];
        headers.extend(ask.username.map(|name| ("UserName", name.to_owned())));
        headers
    }

    fn renewal(&self, key: &Key) -> (&'static str, Vec<(&'static str, String)>) {
        ("/streaming/token/validate", vec![("Authorization", key.expose().to_owned())])
    }

    fn renewed_key(&self, body: &[u8]) -> Option<Key> {
        let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
        Key::new(answer.get("token")?.as_str()?)
    }

    /// A key is a JWT (RFC 7519) whose claims say when it was made but not when it ends, or it is
    /// opaque.
    fn key_facts(&self, key: &Key) -> KeyFacts {
        let Some(claims) = claims(key) else { return KeyFacts::default() };
        let created = claims.get("creation_date").and_then(serde_json::Value::as_i64);
        let customer = claims.get("customer_id").and_then(serde_json::Value::as_str);
        KeyFacts {
            customer: customer.map(str::to_owned),
            expires: created.and_then(time_by_magnitude).map(|created| created.after(KEY_LIFE)),
        }
    }

    /// Where a signature would be stands, for everybody to read, that there is none.
    fn made_up_key(&self, Making { customer, account, generation }: &Making<'_>) -> Key {
        let header = r#"{"alg":"HS256","type":"jwt"}"#;
        let claims = serde_json::json!({
            "customer_id": customer,
            "creation_date": MADE_UP.saturating_add(*generation),
        });
        let [header, claims] =
            [header.to_owned(), claims.to_string()].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        // As long as a signature, which are 32 bytes in 43 digits; the last one has only four bits.
        let digest = Sha256::digest(format!("{generation} {account}"));
        let digits = BASE64_URL_SAFE_NO_PAD.encode(digest);
        let key = format!("{header}.{claims}.synthetic-{}A", &digits[..32]);
        Key::new(&key).expect("base64 is visible ASCII")
    }

    fn refusal(&self, status: u16) -> Refusal {
        match status {
            401 => Refusal::RenewKey,
            408 | 425 | 429 | 500..=599 => Refusal::Transient,
            _ => Refusal::Persistent,
        }
    }

    fn envelope_message(&self) -> (&'static str, u32) {
        ("StreamMessage.MsgProto", 3)
    }

    fn envelope<'a>(&self, frame: &'a [u8]) -> Envelope<'a> {
        let mut envelope = Envelope::default();
        for field in wire::fields(frame).map_while(Result::ok) {
            match (field.number, field.value) {
                (2, Value::Bytes(text)) => envelope.subject = text,
                (3, Value::Bytes(payload)) => envelope.payload = payload,
                (4, Value::Varint(time)) => envelope.time = time_by_magnitude(time.cast_signed()),
                (5, Value::Bytes(text)) => envelope.customer = text,
                _ => {}
            }
        }
        envelope
    }

    fn envelope_fields(&self, topic: &str, time: Timestamp) -> Vec<(&'static str, String)> {
        let subject = serde_json::Value::from(topic).to_string();
        vec![("subject", subject), ("timestamp", time.as_nanos().to_string())]
    }

    fn classify(&self, topic: &str, envelope: &Envelope<'_>) -> Option<&'static Payload> {
        // The topic that was asked for decides; the subject only helps where that is not known.
        let known = |name: &[u8]| TOPICS.iter().find(|topic| topic.name.as_bytes() == name);
        match known(topic.as_bytes()).or_else(|| known(envelope.subject))?.payloads {
            [_location, geofence] if looks_like_geofence(envelope.payload) => Some(geofence),
            payloads => payloads.first(),
        }
    }
}

/// The middle one of a JWT's three parts.
fn claims(key: &Key) -> Option<serde_json::Value> {
    let mut parts = key.expose().split('.');
    let (Some(_), Some(claims), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&claims).ok()
}

/// `stream_location` requires field 15 and its field 1 is a float (wire type 5). A geofence notice has
/// no field 15 and its field 1 is an enum (wire type 0). Decoding one as the other succeeds and
/// loses nearly everything, so the shape has to tell.
fn looks_like_geofence(payload: &[u8]) -> bool {
    let mut evidence = false;
    for field in wire::fields(payload).map_while(Result::ok) {
        match (field.number, field.value) {
            (1, Value::Fixed32(_)) | (15, _) => return false,
            // In a location, 2 is a float, 3 a number, and 4 to 6 are not declared.
            (1, Value::Varint(_)) | (2 | 3, Value::Bytes(_)) | (4..=6, _) => evidence = true,
            _ => {}
        }
    }
    evidence
}

/// The envelope's time comes as nanoseconds today, but nothing promises that.
fn time_by_magnitude(time: i64) -> Option<Timestamp> {
    let time = u64::try_from(time).ok().filter(|&time| time > 0)?;
    time.checked_mul(Unit::of(time).nanos()).map(Timestamp::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload_of(topic: &str, subject: &str, payload: &[u8]) -> Option<&'static str> {
        let envelope = Envelope { subject: subject.as_bytes(), payload, ..Envelope::default() };
        Classic.classify(topic, &envelope).map(|payload| payload.label)
    }

    #[test]
    fn the_two_location_payloads_are_told_by_shape() {
        let float_x = [0x0d, 0, 0, 0x80, 0x3f];
        let sta_mac = [0x7a, 0x02, 0x0a, 0x00];
        let zone_out = [0x08, 0x01];
        let geofence_id = [0x12, 0x01, 0xff];
        let geofence_name = [0x1a, 0x01, b'a'];
        assert_eq!(payload_of("location", "", &float_x), Some("location"));
        assert_eq!(payload_of("location", "", &sta_mac), Some("location"));
        assert_eq!(payload_of("location", "", &zone_out), Some("location.geofence"));
        assert_eq!(payload_of("location", "", &geofence_id), Some("location.geofence"));
        assert_eq!(payload_of("location", "", &geofence_name), Some("location.geofence"));
        assert_eq!(payload_of("location", "", &[]), Some("location"));
        assert_eq!(payload_of("location", "", &[0xff]), Some("location"));
    }

    #[test]
    fn the_topic_decides_before_the_subject() {
        assert_eq!(payload_of("audit", "monitoring", &[]), Some("audit"));
        assert_eq!(payload_of("brand-new", "monitoring", &[]), Some("monitoring"));
        assert_eq!(payload_of("brand-new", "also-new", &[]), None);
    }

    #[test]
    fn the_unit_of_the_envelope_time_is_told_by_magnitude() {
        let nanos = |time| time_by_magnitude(time).map(Timestamp::as_nanos);
        let expected = Some(1_795_000_000_000_000_000);
        assert_eq!(nanos(1_795_000_000), expected);
        assert_eq!(nanos(1_795_000_000_000), expected);
        assert_eq!(nanos(1_795_000_000_000_000), expected);
        assert_eq!(nanos(1_795_000_000_000_000_000), expected);
        assert_eq!(nanos(0), None);
        assert_eq!(nanos(-1), None);
    }

    #[test]
    fn an_envelope_is_read_as_far_as_it_makes_sense() {
        let frame = [0x12, 0x05, b'a', b'u', b'd', b'i', b't', 0x1a, 0x01, 0x07, 0xff];
        let envelope = Classic.envelope(&frame);
        assert_eq!((envelope.subject, envelope.payload), (&b"audit"[..], &[7_u8][..]));
        assert_eq!(Classic.envelope(b"not protobuf"), Envelope::default());
    }

    #[test]
    fn a_renewed_key_is_found_in_the_answer() {
        let renewed = Classic.renewed_key(br#"{"token": "synthetic-renewed"}"#).unwrap();
        assert_eq!(renewed.expose(), "synthetic-renewed");
        assert!(Classic.renewed_key(b"<html>").is_none());
        assert!(Classic.renewed_key(br#"{"token": ""}"#).is_none());
    }

    #[test]
    fn a_made_up_key_has_the_shape_of_a_real_one_and_says_that_it_is_none() {
        let key = |customer, account, generation| {
            Classic.made_up_key(&Making { customer, account, generation })
        };
        let first = key("synthetic", "east", 1);
        assert_eq!(first, key("synthetic", "east", 1));
        for other in [key("synthetic", "east", 2), key("synthetic", "west", 1), key("", "east", 1)]
        {
            assert_ne!(first, other);
        }
        let facts = Classic.key_facts(&first);
        assert_eq!(facts.customer.as_deref(), Some("synthetic"));
        assert!(facts.expires.unwrap() > Timestamp::from_nanos(4_102_444_800_000_000_000));
        let parts: Vec<_> = first.expose().split('.').collect();
        assert!(parts[2].starts_with("synthetic-"), "{parts:?}");
        let decoded = parts.iter().map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap());
        let [header, _, signature] = decoded.collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(header, br#"{"alg":"HS256","type":"jwt"}"#);
        assert_eq!(signature.len(), 32);
    }

    #[test]
    fn a_key_that_can_be_read_says_whose_it_is_and_when_it_ends() {
        let facts = |claims: &str| {
            let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
            let parts =
                [r#"{"alg":"HS256","type":"jwt"}"#, claims, "synthetic signature"].map(part);
            Classic.key_facts(&Key::new(&parts.join(".")).unwrap())
        };
        let both = facts(r#"{"customer_id":"synthetic","creation_date":1795000000}"#);
        let expires = Timestamp::from_nanos((1_795_000_000 + 7 * 86_400) * 1_000_000_000);
        assert_eq!(
            both,
            KeyFacts { customer: Some("synthetic".to_owned()), expires: Some(expires) }
        );
        for claims in ["{}", "[]", "", "\u{1}", r#"{"customer_id":7,"creation_date":"soon"}"#] {
            assert_eq!(facts(claims), KeyFacts::default(), "{claims:?}");
        }
        for opaque in ["synthetic-key", "a.b.c", "a..b", "a.e30.b.c", "."] {
            assert_eq!(Classic.key_facts(&Key::new(opaque).unwrap()), KeyFacts::default());
        }
    }
}
