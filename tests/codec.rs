//! The walk along the wire against prost-reflect, on messages of every kind.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod support;

use std::path::Path;

use centralcap::{
    codec::{
        Fault,
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
use serde_json::Value as Json;
use support::{judge, message};

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

/// The size of messages that are cut and flipped everywhere.
const SMALL: usize = 100;

/// The one of them in which bytes can be told from text.
const BASE64: usize = 1;

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

    fn walk(&self, data: &[u8], style: usize) -> Result<Json, Fault> {
        let mut text = Text::default();
        let walked = json::write(&self.plans[style], data, &mut text, &mut Notes::default());
        assert!(walked.is_ok() || text.is_empty());
        walked.map(|()| judge::read(text.as_bytes()))
    }

    /// Fails if the two do not agree on this message, in one of the styles or in all.
    fn check(&self, data: &[u8], styles: usize) {
        let name = self.descriptor.full_name();
        let judged = judge::decode(&self.lenient, data);
        let strictly = judge::decode(&self.descriptor, data).ok();
        // What is not UTF-8 is compared in the one style in which it can be.
        let others = (0..styles).filter(|&style| style != BASE64 && strictly.is_some());
        let compared: Vec<_> = others.chain([BASE64]).collect();
        for style in compared {
            let walked = self.walk(data, style);
            let expected = match (&judged, &strictly) {
                (Ok(lenient), _) if style == BASE64 => {
                    let json = reflect::to_json(lenient, STYLES[BASE64]);
                    Ok(judge::with_text(json, &self.descriptor))
                }
                (Ok(_), Some(strictly)) => Ok(reflect::to_json(strictly, STYLES[style])),
                (Ok(_), None) => unreachable!("such styles are left out"),
                (Err(error), _) => Err(error),
            };
            match (walked, expected) {
                // As text: the order of fields counts, and the sign of zero.
                (Ok(found), Ok(expected)) => assert_eq!(
                    found.to_string(),
                    expected.to_string(),
                    "{name} {data:02x?} in {:?}",
                    STYLES[style]
                ),
                (Err(_), Err(_)) => {}
                (Err(fault), Ok(_)) if judge::overlooks(&fault, &self.descriptor) => {}
                (found, expected) => panic!("{name} {data:02x?}: {found:?}, but {expected:?}"),
            }
        }
    }
}

/// Every payload in its envelope.
fn payloads() -> Vec<MessageDescriptor> {
    let types = FrameTypes::of(PROTOCOLS[0]);
    let mut found: Vec<_> = types
        .all()
        .map(|kind| {
            let pool = schema::from_descriptor_set(&kind.descriptors, "a test").unwrap();
            pool.get_message_by_name(&kind.envelope).unwrap()
        })
        .collect();
    found.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    found
}

/// All kinds of fields that there are.
fn torture() -> Vec<MessageDescriptor> {
    let pool = schema::from_folder(Path::new("tests/data/torture")).unwrap();
    let all = pool.all_messages().filter(|message| !message.is_map_entry());
    let mut all: Vec<_> =
        all.filter(|message| message.package_name().starts_with("torture.")).collect();
    all.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    all
}

fn subjects() -> Vec<Subject> {
    payloads().into_iter().chain(torture()).map(Subject::new).collect()
}

thread_local! {
    static SUBJECTS: Vec<Subject> = subjects();
}

/// How many random messages of each type. The whole measure is run by `just equal`.
fn measure() -> u64 {
    std::env::var("MESSAGES").ok().map_or(100, |count| count.parse().unwrap())
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
        let mut data = small(&subject.descriptor, seed);
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

/// A random message of at most so many bytes.
fn small(message: &MessageDescriptor, seed: u64) -> Vec<u8> {
    let seeds = (0..).map(|number| seed + 1000 * number);
    let mut made = seeds.map(|seed| message::random_small(message, seed));
    made.find(|data| (1..=SMALL).contains(&data.len()) || message.fields().len() == 0).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_get_the_same_verdict(data in proptest::collection::vec(any::<u8>(), 0..60)) {
        SUBJECTS.with(|subjects| subjects.iter().for_each(|subject| subject.check(&data, 1)));
    }
}
