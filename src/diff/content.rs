//! What is in a frame, as JSON: its type, the envelope's fields with the payload's in `data`, and what
//! the schema does not know. Frames of the same content are the same.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::Arc,
};

use prost_reflect::MessageDescriptor;
use serde_json::{Value as Json, value::RawValue};
use sha2::{Digest, Sha256};

use super::{
    Options,
    align::Item,
    paths::{Ignored, Node},
};
use crate::{
    by_address::ByAddress,
    codec::{
        bytes,
        encode::Object,
        json::{self, Text},
        notes::{Note, Notes, Oddity},
        plan::{Int64Style, Plan, Style},
        wire,
    },
    entry::{Entry, Frame, FrameType, Subscription},
    error::Result,
    protocol,
    restamp::is_named_a_time,
    schema::{self, Resolver},
    state::Entities,
};

/// Under which name the content has what the schema does not know: an object whose names are paths.
pub(super) const UNKNOWN: &str = "@unknown";

/// Under which name the content has all of a frame that cannot be decoded.
const UNDECODABLE: &str = "@undecodable";

/// How a frame was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// All of it.
    Whole,
    /// But for fields that the schema does not know.
    WithoutUnknown,
    /// As bytes.
    Undecodable,
}

/// Reads what is in frames.
pub(super) struct Contents<'i> {
    resolver: Resolver,
    style: Style,
    ignored: &'i Ignored,
    shows_unknown: bool,
    shows_times: bool,
    types: ByAddress<FrameType, Known>,
    notes: Notes,
    text: Text,
}

/// What has to be known of a type of frames.
struct Known {
    envelope: MessageDescriptor,
    payload: Option<String>,
    plan: Plan,
    entities: Entities,
    label: u32,
}

impl<'i> Contents<'i> {
    pub(super) fn new(options: &Options, ignored: &'i Ignored, shows_unknown: bool) -> Self {
        let style = Style { bytes: options.bytes, int64: Int64Style::Number, ..Style::default() };
        Self {
            resolver: options.resolver.clone(),
            style,
            ignored,
            shows_unknown: shows_unknown && !ignored.unknown,
            shows_times: options.times,
            types: ByAddress::default(),
            notes: Notes::default(),
            text: Text::default(),
        }
    }

    /// What is to be remembered of a frame, and how it was read.
    pub(super) fn item(
        &mut self,
        entry: &Entry,
        frame: &Frame,
        ordinal: u32,
    ) -> Result<(Item, How)> {
        let (known, text, how) = self.read(entry, frame)?;
        let mut content = [0; 16];
        content.copy_from_slice(&Sha256::digest(text)[..16]);
        let mut keys = known.entities.keys(&frame.data);
        keys.sort_unstable();
        let mut about = DefaultHasher::new();
        keys.hash(&mut about);
        let item = Item {
            content,
            about: about.finish(),
            received: entry.received,
            ordinal,
            label: known.label,
        };
        Ok((item, how))
    }

    /// What is in a frame.
    pub(super) fn content(&mut self, entry: &Entry, frame: &Frame) -> Result<Box<RawValue>> {
        let (_, text, _) = self.read(entry, frame)?;
        let text = String::from_utf8_lossy(text).into_owned();
        Ok(RawValue::from_string(text).expect("it was written as JSON"))
    }

    /// The types of all frames so far, with their envelopes.
    pub(super) fn types(&self) -> impl Iterator<Item = (&Arc<FrameType>, &MessageDescriptor)> {
        self.types.iter().map(|(kind, known)| (kind, &known.envelope))
    }

    /// The payload's name of all labels so far.
    pub(super) fn payloads(&self) -> impl Iterator<Item = (u32, Option<&str>)> {
        self.types.values().map(|known| (known.label, known.payload.as_deref()))
    }

    /// What is known of a frame's type, the content as text, and how it was read.
    fn read(&mut self, entry: &Entry, frame: &Frame) -> Result<(&Known, &[u8], How)> {
        let known = self.types.or_try_insert_with(&frame.kind, || {
            Known::new(&self.resolver, self.style, &entry.subscription, &frame.kind)
        })?;
        let text = &mut self.text;
        text.clear();
        // Every field brings a comma along, so something has to stand before the first one.
        text.extend(b"{\"type\":");
        match &known.payload {
            Some(payload) => json::write_string(payload, text),
            None => text.extend(b"null"),
        }
        if self.shows_times {
            text.extend(b",\"received\":");
            json::write_string(&entry.received.to_string(), text);
        }
        let mut how = How::Whole;
        let decoded = json::write_fields(&known.plan, &frame.data, text, &mut self.notes);
        if decoded.is_err() {
            text.extend(b",\"");
            text.extend(UNDECODABLE.as_bytes());
            text.extend(b"\":");
            json::write_base64(&frame.data, text);
            how = How::Undecodable;
        } else if self.shows_unknown {
            write_unknown(self.notes.list(), self.ignored, text);
        } else if self.notes.list().iter().any(is_field) {
            how = How::WithoutUnknown;
        }
        text.extend(b"}");
        let is_sorted = known.plan.has_maps();
        let without_times = self.ignored.times;
        if is_sorted || without_times || !self.ignored.fields.below.is_empty() {
            let all = String::from_utf8_lossy(text.as_bytes()).into_owned();
            let mut left = String::with_capacity(all.len());
            let copying = Copying { is_sorted, without_times };
            copying.copy(&all, Some(&self.ignored.fields), &mut left);
            text.clear();
            text.extend(left.as_bytes());
        }
        Ok((known, text.as_bytes(), how))
    }
}

impl Known {
    fn new(
        resolver: &Resolver,
        style: Style,
        subscription: &Subscription,
        kind: &Arc<FrameType>,
    ) -> Result<Self> {
        let protocol = protocol::by_name(&subscription.protocol);
        let envelope = resolver.envelope(protocol, &subscription.topic, kind)?;
        let payload = schema::payload_type(protocol, &envelope);
        let mut label = DefaultHasher::new();
        kind.label.hash(&mut label);
        Ok(Self {
            payload: payload.map(|payload| payload.full_name().to_owned()),
            plan: Plan::new(&envelope, style),
            entities: Entities::new(&envelope),
            envelope,
            label: label.finish() as u32,
        })
    }
}

const fn is_field(note: &Note) -> bool {
    matches!(note.what, Oddity::Field { .. })
}

/// Appends the unknown fields under the path of their message and their number: one value, or a list of
/// all.
fn write_unknown(notes: &[Note], ignored: &Ignored, text: &mut Text) {
    let mut values: BTreeMap<String, Vec<Json>> = BTreeMap::new();
    for Note { path, what } in notes {
        let Oddity::Field { number, wire_type, value } = what else { continue };
        let name = format!("#{number}");
        if !ignored.has_unknown(path, &name) {
            let path = if path.is_empty() { name } else { format!("{path}.{name}") };
            values.entry(path).or_default().push(shown(*wire_type, value));
        }
    }
    if values.is_empty() {
        return;
    }
    let single = |(path, mut values): (String, Vec<Json>)| match values.len() {
        1 => (path, values.remove(0)),
        _ => (path, Json::Array(values)),
    };
    let object = Json::Object(values.into_iter().map(single).collect());
    text.extend(b",\"");
    text.extend(UNKNOWN.as_bytes());
    text.extend(b"\":");
    text.extend(object.to_string().as_bytes());
}

/// A value of which only the wire type is known: a number, text, or what begins with `0x`. No two values
/// are shown as the same.
fn shown(wire_type: u8, value: &[u8]) -> Json {
    let tagged = [&[0x08 | wire_type], value].concat();
    let hex = |bytes: &[u8]| Json::from(format!("0x{}", bytes::hex(bytes)));
    match wire::fields(&tagged).next() {
        Some(Ok(wire::Field { value: wire::Value::Varint(number), .. })) => number.into(),
        Some(Ok(wire::Field { value: wire::Value::Bytes(bytes), .. })) => {
            match str::from_utf8(bytes) {
                Ok(text) if !text.starts_with("0x") && !text.contains(char::is_control) => {
                    text.into()
                }
                _ => hex(bytes),
            }
        }
        // What the wire type is can be told by the length, or by the group's end.
        _ => Json::from(format!("0x{} (wire type {wire_type})", bytes::hex(value))),
    }
}

/// How values are copied.
#[derive(Clone, Copy)]
struct Copying {
    /// With all names in order.
    is_sorted: bool,
    without_times: bool,
}

impl Copying {
    /// Appends a value without what is ignored in it.
    fn copy(self, json: &str, ignored: Option<&Node>, out: &mut String) {
        let ignored = ignored.filter(|node| !node.below.is_empty());
        let changes = self.is_sorted || self.without_times || ignored.is_some();
        match json.as_bytes() {
            [b'{', ..] if changes => {
                let Ok(mut object) = serde_json::from_str::<Object>(json) else {
                    out.push_str(json);
                    return;
                };
                if self.is_sorted {
                    object.fields.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                let opened = out.len();
                for (name, value) in &object.fields {
                    let below = ignored.and_then(|node| node.below.get(name));
                    if below.is_some_and(|node| node.is_whole)
                        || self.without_times && is_time(name, value.get())
                    {
                        continue;
                    }
                    out.push(if out.len() == opened { '{' } else { ',' });
                    out.push_str(&Json::from(&**name).to_string());
                    out.push(':');
                    self.copy(value.get(), below, out);
                }
                if out.len() == opened {
                    out.push('{');
                }
                out.push('}');
            }
            [b'[', ..] if changes => {
                let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(json) else {
                    out.push_str(json);
                    return;
                };
                out.push('[');
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    self.copy(element.get(), ignored, out);
                }
                out.push(']');
            }
            _ => out.push_str(json),
        }
    }
}

/// One number, or a list of them, in a field of such a name.
fn is_time(name: &str, value: &str) -> bool {
    let first = value.strip_prefix('[').unwrap_or(value);
    is_named_a_time(name) && first.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_left_out_and_the_rest_stays_as_it_is() {
        let paths = ["a.b", "c[].d", "e"].map(|path| path.parse().unwrap());
        let ignored = Ignored::new(&paths);
        let left = |json: &str, is_sorted| {
            let mut left = String::new();
            let copying = Copying { is_sorted, without_times: false };
            copying.copy(json, Some(&ignored.fields), &mut left);
            left
        };
        let json =
            r#"{"z":1.0e0,"a":{"b":1,"y":"\"","x":{"b":2}},"c":[{"d":1},{"d":2,"b":3}],"e":{}}"#;
        let expected = r#"{"z":1.0e0,"a":{"y":"\"","x":{"b":2}},"c":[{},{"b":3}]}"#;
        assert_eq!(left(json, false), expected);
        let expected = r#"{"a":{"x":{"b":2},"y":"\""},"c":[{},{"b":3}],"z":1.0e0}"#;
        assert_eq!(left(json, true), expected);
        assert_eq!(left("[]", true), "[]");
    }

    #[test]
    fn times_are_left_out_wherever_they_are_numbers() {
        let mut left = String::new();
        let json = r#"{"timestamp":1,"a":[{"last_timestamp":-2,"b":{"time_secs":3,"time":4}}],"c":{"timestamp":"5"},"d":{"timestamp":{"timestamp":6}},"e_timestamp":[7,8]}"#;
        Copying { is_sorted: false, without_times: true }.copy(json, None, &mut left);
        assert_eq!(left, r#"{"a":[{"b":{"time":4}}],"c":{"timestamp":"5"},"d":{"timestamp":{}}}"#);
    }

    #[test]
    fn unknown_values_can_be_told_apart() {
        let values: [(u8, &[u8]); 7] = [
            (0, b"\x05"),
            (2, b"\x02up"),
            (2, b"\x02\xff\xfe"),
            (2, b"\x060xfffe"),
            (5, b"\x01\0\0\0"),
            (1, b"\x01\0\0\0\0\0\0\0"),
            (2, b"\x02\x1b["),
        ];
        let shown = values.map(|(wire_type, value)| shown(wire_type, value).to_string());
        let expected = [
            "5",
            "\"up\"",
            "\"0xfffe\"",
            "\"0x307866666665\"",
            "\"0x01000000 (wire type 5)\"",
            "\"0x0100000000000000 (wire type 1)\"",
            "\"0x1b5b\"",
        ];
        assert_eq!(shown, expected);
    }
}
