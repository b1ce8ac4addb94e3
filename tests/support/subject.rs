//! A message type on which the walk is held against prost-reflect: the same verdict on all bytes, and
//! the same values. The tests ask for that, and the fuzz target.

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
use prost_reflect::MessageDescriptor;
use serde_json::Value as Json;

use super::{judge, message};

/// Every way to show things, in few styles.
pub const STYLES: [Style; 3] = [
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

/// The one of them in which bytes can be told from text.
const BASE64: usize = 1;

/// A message type, the plans for it in every style, and the judge.
pub struct Subject {
    pub descriptor: MessageDescriptor,
    /// The same message with every string that may be anything declared as bytes: prost-reflect
    /// refuses what we keep.
    pub lenient: MessageDescriptor,
    pub plans: Vec<Plan>,
}

impl Subject {
    pub fn new(descriptor: MessageDescriptor) -> Self {
        let lenient = message::without_loose_strings(&descriptor);
        let plans = STYLES.map(|style| Plan::new(&descriptor, style)).into();
        Self { descriptor, lenient, plans }
    }

    pub fn walk(&self, data: &[u8], style: usize) -> Result<Json, Fault> {
        let mut text = Text::default();
        let walked = json::write(&self.plans[style], data, &mut text, &mut Notes::default());
        assert!(walked.is_ok() || text.is_empty());
        walked.map(|()| judge::read(text.as_bytes()))
    }

    /// Fails if the two do not agree on this message, in one of the styles or in all.
    pub fn check(&self, data: &[u8], styles: usize) {
        let name = self.descriptor.full_name();
        if self.walk(data, BASE64).is_ok_and(|json| judge::has_dotted_type(&json)) {
            return;
        }
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
                (Err(fault), Ok(_)) if judge::overlooks(&fault) => {}
                (found, expected) => panic!("{name} {data:02x?}: {found:?}, but {expected:?}"),
            }
        }
    }
}

/// Every payload in its envelope, then all kinds of fields that there are; always in the same order.
/// `package` is the folder of ours.
pub fn subjects(package: &Path) -> Vec<Subject> {
    payloads().into_iter().chain(torture(package)).map(Subject::new).collect()
}

fn payloads() -> Vec<MessageDescriptor> {
    let types = FrameTypes::of(PROTOCOLS[0]);
    let mut kinds: Vec<_> = types.all().collect();
    kinds.sort_by_key(|kind| &kind.label);
    let envelopes = kinds.into_iter().map(|kind| {
        let pool = schema::from_descriptor_set(&kind.descriptors, "a test").unwrap();
        pool.get_message_by_name(&kind.envelope).unwrap()
    });
    envelopes.collect()
}

/// All kinds of fields that there are.
pub fn torture(package: &Path) -> Vec<MessageDescriptor> {
    let pool = schema::from_folder(&package.join("tests/data/torture")).unwrap();
    let all = pool.all_messages().filter(|message| !message.is_map_entry());
    let mut all: Vec<_> =
        all.filter(|message| message.package_name().starts_with("torture.")).collect();
    all.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    all
}
