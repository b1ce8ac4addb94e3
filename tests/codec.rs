//! The walk along the wire against prost-reflect, on messages of every kind.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod support;

use centralcap::{
    codec::{
        json::{self, Text},
        notes::Notes,
        plan::{BytesStyle, EnumStyle, Int64Style, Plan, Style},
        reflect,
    },
    protocol::PROTOCOLS,
    schema::{self, FrameTypes},
};
use proptest::prelude::*;
use prost_reflect::MessageDescriptor;
use support::message;

const STYLES: [Style; 3] = [
    Style {
        bytes: BytesStyle::Text,
        int64: Int64Style::String,
        enums: EnumStyle::Name,
        defaults: false,
    },
    Style {
        bytes: BytesStyle::Base64,
        int64: Int64Style::Number,
        enums: EnumStyle::Number,
        defaults: false,
    },
    Style {
        bytes: BytesStyle::Hex,
        int64: Int64Style::String,
        enums: EnumStyle::Name,
        defaults: true,
    },
];

/// A message type, the plans for it in every style, and the judge.
struct Subject {
    descriptor: MessageDescriptor,
    /// The same message with every string that may be anything declared as bytes: prost-reflect
    /// refuses what we keep.
    lenient: MessageDescriptor,
    plans: Vec<Plan>,
}

impl Subject {
    fn new(descriptor: MessageDescriptor) -> Self {
        let lenient = message::without_loose_strings(&descriptor);
        let plans = STYLES.map(|style| Plan::new(&descriptor, style)).into();
        Self { descriptor, lenient, plans }
    }

    /// Fails if the two do not agree on this message, in one of the styles or in all.
    fn check(&self, data: &[u8], styles: usize) {
        let name = self.descriptor.full_name();
        let judged = reflect::decode(&self.lenient, data);
        let strictly = reflect::decode(&self.descriptor, data);
        for (plan, style) in self.plans.iter().zip(STYLES).take(styles) {
            let mut text = Text::default();
            let walked = json::write(plan, data, &mut text, &mut Notes::default());
            let expected = strictly.as_ref().ok().map(|message| reflect::to_json(message, style));
            // What an `Any` holds is looked at by the judge only when it is shown.
            if expected.as_ref().is_some_and(|json| json.to_string().contains("@unprintable")) {
                continue;
            }
            assert_eq!(
                walked.is_ok(),
                judged.is_ok(),
                "{name} {data:02x?}: {walked:?}, but {:?}",
                judged.err()
            );
            if walked.is_ok() {
                let found: serde_json::Value = serde_json::from_slice(text.as_bytes()).unwrap();
                if let Some(expected) = expected {
                    assert_eq!(found, expected, "{name} {data:02x?} in {style:?}");
                }
            } else {
                assert!(text.is_empty());
            }
        }
    }
}

/// Every payload in its envelope.
fn subjects() -> Vec<Subject> {
    let types = FrameTypes::of(PROTOCOLS[0]);
    let mut found: Vec<_> = types
        .all()
        .map(|kind| {
            let pool = schema::from_descriptor_set(&kind.descriptors, "a test").unwrap();
            pool.get_message_by_name(&kind.envelope).unwrap()
        })
        .collect();
    found.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    found.into_iter().map(Subject::new).collect()
}

thread_local! {
    static SUBJECTS: Vec<Subject> = subjects();
}

/// How many random messages of each type. The whole measure is run by `just equal`.
fn measure() -> u64 {
    std::env::var("MESSAGES").ok().map_or(300, |count| count.parse().unwrap())
}

#[test]
fn random_messages_are_decoded_as_prost_reflect_does() {
    for subject in subjects() {
        for seed in 0..measure() {
            let data = message::random(&subject.descriptor, seed);
            subject.check(&data, 3);
        }
    }
}

#[test]
fn every_cut_and_every_flipped_bit_gets_the_same_verdict() {
    let subjects = subjects();
    for seed in 0..200 {
        let subject = &subjects[seed as usize % subjects.len()];
        let mut data = message::random(&subject.descriptor, seed);
        data.truncate(300);
        for cut in 0..data.len() {
            subject.check(&data[..cut], 1);
        }
        for bit in 0..data.len() * 8 {
            data[bit / 8] ^= 1 << (bit % 8);
            subject.check(&data, 1);
            data[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_get_the_same_verdict(data in proptest::collection::vec(any::<u8>(), 0..60)) {
        SUBJECTS.with(|subjects| subjects.iter().for_each(|subject| subject.check(&data, 1)));
    }
}
