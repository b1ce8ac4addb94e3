//! What a frame exercises in whoever reads it: its type, every field on its way, every enum value, whether
//! a list has no element, one or more, and which numbers the schema does not have.
//!
//! A field is told by the way from the top: an address in an access point is another one than in a client.
//! Found on the wire with the descriptors in hand; nothing of a frame is kept.

use std::{collections::HashMap, sync::Arc};

use prost_reflect::{Kind as Declares, MessageDescriptor};

use crate::{
    by_address::ByAddress,
    codec::{
        types,
        walk::DEPTH_LIMIT,
        wire::{self, Value},
    },
    entry::{Entry, Frame, FrameType},
    error::Result,
    protocol,
    schema::Resolver,
};

/// A feature, by a number that is given when it is first seen.
pub(super) type Feature = u32;

/// So many are told apart. Bytes that are no message of the type could make any number of them.
const LIMIT: usize = 100_000;

/// Below this depth ways are not told apart any more, as types may hold themselves.
const DEPTH: u32 = 16;

/// What a feature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A topic with a payload type.
    Type,
    /// A field that is there.
    Field,
    /// A value of an enum.
    EnumValue,
    /// A list with no element, with one, or with more.
    Length,
    /// A number that the message does not declare, with a wire type.
    Unknown,
    /// Bytes that are no message.
    Broken,
}

/// Finds the features of frames.
pub(super) struct Features {
    resolver: Resolver,
    /// What each feature is.
    kinds: Vec<Kind>,
    types: Vec<Type>,
    /// Which of the types a frame's is.
    known: ByAddress<FrameType, usize>,
    messages: Vec<Message>,
    places: Vec<Place>,
    /// Of the frame that is looked at.
    found: Vec<Feature>,
}

struct Type {
    kind: Arc<FrameType>,
    itself: Option<Feature>,
    broken: Option<Feature>,
    place: usize,
}

/// A message type.
struct Message {
    /// Ascending by number.
    fields: Vec<Field>,
}

#[derive(Clone, Copy)]
struct Field {
    number: u32,
    wire_type: u8,
    is_list: bool,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Enum,
    /// Index of the message.
    Message(usize),
    /// Anything else.
    Plain,
}

/// A message on a way from the top.
struct Place {
    message: usize,
    depth: u32,
    fields: Vec<Way>,
    /// By number and wire type.
    unknown: HashMap<(u32, u8), Feature>,
}

/// A field of a message on a way from the top.
#[derive(Clone, Default)]
struct Way {
    is_there: Option<Feature>,
    /// With no element, one, more.
    lengths: [Option<Feature>; 3],
    values: HashMap<i32, Feature>,
    /// The place that it leads to.
    below: Option<usize>,
}

/// Bytes are no message of the type.
#[derive(Debug, PartialEq, Eq)]
struct NoMessage;

/// A message or a group that is being read.
struct Level {
    /// None if it is a group that is not declared.
    place: Option<usize>,
    counts: Vec<u32>,
}

impl Features {
    pub(super) fn new(resolver: Resolver) -> Self {
        Self {
            resolver,
            kinds: Vec::new(),
            types: Vec::new(),
            known: ByAddress::default(),
            messages: Vec::new(),
            places: Vec::new(),
            found: Vec::new(),
        }
    }

    /// What all features so far are, by their numbers.
    pub(super) fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// There were more than can be told apart.
    pub(super) fn are_too_many(&self) -> bool {
        self.kinds.len() >= LIMIT
    }

    /// The features of a frame, ascending.
    pub(super) fn of(&mut self, entry: &Entry, frame: &Frame) -> Result<&[Feature]> {
        let index = self.type_of(entry, frame)?;
        self.found.clear();
        let place = self.types[index].place;
        let whole = self.message(place, &frame.data, 0);
        if whole.is_err() {
            self.found.clear();
        }
        let Self { types, kinds, found, .. } = self;
        let known = &mut types[index];
        let itself = match whole {
            Ok(()) => seen(&mut known.itself, Kind::Type, kinds),
            Err(NoMessage) => seen(&mut known.broken, Kind::Broken, kinds),
        };
        found.extend(itself);
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn type_of(&mut self, entry: &Entry, frame: &Frame) -> Result<usize> {
        if let Some(&index) = self.known.get(&frame.kind) {
            return Ok(index);
        }
        let same = self.types.iter().position(|known| known.kind == frame.kind);
        let index = match same {
            Some(index) => index,
            None => {
                let subscription = &entry.subscription;
                let protocol = protocol::by_name(&subscription.protocol);
                let envelope =
                    self.resolver.envelope(protocol, &subscription.topic, &frame.kind)?;
                let message = self.declared(&envelope);
                let place = self.place(message, 0);
                self.types.push(Type {
                    kind: Arc::clone(&frame.kind),
                    itself: None,
                    broken: None,
                    place,
                });
                self.types.len() - 1
            }
        };
        self.known.insert(&frame.kind, index);
        Ok(index)
    }

    /// Adds a message type and all that it needs, and returns its index.
    fn declared(&mut self, descriptor: &MessageDescriptor) -> usize {
        let first = self.messages.len();
        self.messages.extend(types::table(descriptor, |descriptor, numbers| {
            let fields = descriptor.fields().map(|field| {
                let what = match field.kind() {
                    Declares::Enum(_) => What::Enum,
                    Declares::Message(inside) => What::Message(first + numbers.of(&inside)),
                    _ => What::Plain,
                };
                let wire_type = if field.is_group() { 3 } else { field.kind().wire_type() as u8 };
                let is_list = field.is_list() || field.is_map();
                Field { number: field.number(), wire_type, is_list, what }
            });
            let mut fields: Vec<_> = fields.collect();
            fields.sort_by_key(|field| field.number);
            Message { fields }
        }));
        first
    }

    fn place(&mut self, message: usize, depth: u32) -> usize {
        let fields = vec![Way::default(); self.messages[message].fields.len()];
        self.places.push(Place { message, depth, fields, unknown: HashMap::new() });
        self.places.len() - 1
    }

    /// The place that a field leads to.
    fn below(&mut self, place: usize, field: usize, message: usize) -> usize {
        if let Some(below) = self.places[place].fields[field].below {
            return below;
        }
        let depth = (self.places[place].depth + 1).min(DEPTH);
        let is_told_apart = depth < DEPTH && self.places.len() < LIMIT;
        let known = (!is_told_apart).then(|| {
            let is_same = |known: &Place| known.message == message && known.depth == depth;
            self.places.iter().position(is_same)
        });
        let below = known.flatten().unwrap_or_else(|| self.place(message, depth));
        self.places[place].fields[field].below = Some(below);
        below
    }

    /// Adds what is found in a message.
    fn message(&mut self, place: usize, data: &[u8], depth: u32) -> Result<(), NoMessage> {
        if depth > DEPTH_LIMIT {
            return Err(NoMessage);
        }
        let mut levels = vec![self.level(Some(place))];
        for field in wire::fields(data) {
            let wire::Field { number, value, .. } = field.map_err(|_| NoMessage)?;
            if value == Value::GroupEnd {
                let level = levels.pop().ok_or(NoMessage)?;
                self.end(&level);
                continue;
            }
            let level = levels.last_mut().ok_or(NoMessage)?;
            let below = match level.place {
                Some(_) => self.field(level, number, value, depth)?,
                None => None,
            };
            if value == Value::GroupStart {
                if levels.len() > DEPTH_LIMIT as usize {
                    return Err(NoMessage);
                }
                levels.push(self.level(below));
            }
        }
        let level = levels.pop().filter(|_| levels.is_empty()).ok_or(NoMessage)?;
        self.end(&level);
        Ok(())
    }

    fn level(&self, place: Option<usize>) -> Level {
        let fields = place.map_or(0, |place| self.places[place].fields.len());
        Level { place, counts: vec![0; fields] }
    }

    /// Adds a field of a message. If it is a declared group, returns the place of what is in it.
    fn field(
        &mut self,
        level: &mut Level,
        number: u32,
        value: Value<'_>,
        depth: u32,
    ) -> Result<Option<usize>, NoMessage> {
        let Some(place) = level.place else { return Ok(None) };
        let message = &self.messages[self.places[place].message];
        let Ok(at) = message.fields.binary_search_by_key(&number, |field| field.number) else {
            self.unknown(place, number, value.wire_type());
            return Ok(None);
        };
        let Field { wire_type, is_list, what, .. } = message.fields[at];
        let mut elements = 1;
        match (what, value) {
            (_, Value::Bytes(packed)) if wire_type != 2 => {
                if !is_list {
                    return Err(NoMessage);
                }
                elements = self.packed(place, at, packed)?;
            }
            (_, value) if value.wire_type() != wire_type => return Err(NoMessage),
            (What::Message(message), Value::Bytes(inner)) => {
                let below = self.below(place, at, message);
                self.message(below, inner, depth + 1)?;
            }
            (What::Message(message), _) => {
                level.counts[at] = level.counts[at].saturating_add(1);
                return Ok(Some(self.below(place, at, message)));
            }
            (What::Enum, Value::Varint(number)) => self.enum_value(place, at, number as i32),
            _ => {}
        }
        level.counts[at] = level.counts[at].saturating_add(elements);
        Ok(None)
    }

    /// Adds a packed list, and returns how many elements it has.
    fn packed(&mut self, place: usize, at: usize, packed: &[u8]) -> Result<u32, NoMessage> {
        let Field { wire_type, what, .. } = self.messages[self.places[place].message].fields[at];
        let width = match wire_type {
            0 => None,
            1 => Some(8),
            5 => Some(4),
            _ => return Err(NoMessage),
        };
        if let Some(width) = width {
            let elements = packed.len() / width;
            return if packed.len().is_multiple_of(width) {
                Ok(elements as u32)
            } else {
                Err(NoMessage)
            };
        }
        let mut rest = packed;
        let mut elements = 0;
        while !rest.is_empty() {
            let number = prost::encoding::decode_varint(&mut rest).map_err(|_| NoMessage)?;
            if what == What::Enum {
                self.enum_value(place, at, number as i32);
            }
            elements += 1;
        }
        Ok(elements)
    }

    fn enum_value(&mut self, place: usize, at: usize, number: i32) {
        let Self { places, kinds, found, .. } = self;
        let values = &mut places[place].fields[at].values;
        if let Some(&feature) = values.get(&number) {
            found.push(feature);
        } else if let Some(feature) = another(Kind::EnumValue, kinds) {
            values.insert(number, feature);
            found.push(feature);
        }
    }

    fn unknown(&mut self, place: usize, number: u32, wire_type: u8) {
        let Self { places, kinds, found, .. } = self;
        let unknown = &mut places[place].unknown;
        if let Some(&feature) = unknown.get(&(number, wire_type)) {
            found.push(feature);
        } else if let Some(feature) = another(Kind::Unknown, kinds) {
            unknown.insert((number, wire_type), feature);
            found.push(feature);
        }
    }

    /// Adds what can only be said of a message when all of it has been seen.
    fn end(&mut self, level: &Level) {
        let Some(place) = level.place else { return };
        let Self { messages, places, kinds, found, .. } = self;
        let place = &mut places[place];
        let fields = &messages[place.message].fields;
        for ((field, way), &count) in fields.iter().zip(&mut place.fields).zip(&level.counts) {
            if count > 0 {
                found.extend(seen(&mut way.is_there, Kind::Field, kinds));
            }
            if field.is_list {
                let length = &mut way.lengths[count.min(2) as usize];
                found.extend(seen(length, Kind::Length, kinds));
            }
        }
    }
}

/// The feature in its slot.
fn seen(slot: &mut Option<Feature>, kind: Kind, kinds: &mut Vec<Kind>) -> Option<Feature> {
    if slot.is_none() {
        *slot = another(kind, kinds);
    }
    *slot
}

/// A new feature, unless there are too many.
fn another(kind: Kind, kinds: &mut Vec<Kind>) -> Option<Feature> {
    (kinds.len() < LIMIT).then(|| {
        kinds.push(kind);
        kinds.len() as Feature - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    const PROTO: &str = r#"
        syntax = "proto2"; package Lab;
        enum State { UP = 0; DOWN = 1; }
        message Probe {
            repeated int32 n = 1;
            repeated State states = 2;
            optional group Inner = 3 { optional State state = 1; }
            map<string, int32> m = 4;
            optional Probe next = 5;
            repeated fixed32 f = 6;
        }"#;

    struct Bench {
        features: Features,
        top: usize,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("lab.proto"), PROTO).unwrap();
            let pool = schema::from_folder(folder.path()).unwrap();
            let mut features = Features::new(Resolver::default());
            let probe = features.declared(&schema::message(&pool, "Lab.Probe").unwrap());
            let top = features.place(probe, 0);
            Self { features, top }
        }

        /// The features of a message; None if it is none.
        fn of(&mut self, data: &[u8]) -> Option<Vec<Feature>> {
            self.features.found.clear();
            self.features.message(self.top, data, 0).ok()?;
            let mut found = self.features.found.clone();
            found.sort_unstable();
            found.dedup();
            Some(found)
        }

        /// How many of them are fields, enum values, lengths and unknown fields.
        fn count(&mut self, data: &[u8]) -> Option<[usize; 4]> {
            let found = self.of(data)?;
            let kinds = [Kind::Field, Kind::EnumValue, Kind::Length, Kind::Unknown];
            let of =
                |kind| found.iter().filter(|at| self.features.kinds[**at as usize] == kind).count();
            Some(kinds.map(of))
        }
    }

    #[test]
    fn lists_are_the_same_packed_or_not() {
        let mut bench = Bench::new();
        // Lists: n, states, m, f.
        assert_eq!(bench.count(b""), Some([0, 0, 4, 0]));
        let single = bench.of(b"\x08\x07\x10\x01").unwrap();
        assert_eq!(bench.of(b"\x0a\x01\x07\x12\x01\x01").unwrap(), single);
        assert_eq!(bench.count(b"\x08\x07\x10\x01"), Some([2, 1, 4, 0]));
        let more = bench.of(b"\x08\x07\x08\x07\x10\x00\x10\x01").unwrap();
        assert_ne!(more, single);
        assert_eq!(bench.of(b"\x0a\x02\x07\x07\x12\x02\x00\x01").unwrap(), more);
        assert_eq!(bench.of(b"\x08\x07\x0a\x01\x07\x12\x02\x00\x01").unwrap(), more);
        let fixed = bench.of(b"\x32\x08\0\0\0\0\0\0\0\0").unwrap();
        assert_eq!(bench.of(b"\x35\0\0\0\0\x35\0\0\0\0").unwrap(), fixed);
        assert_eq!(bench.of(b"\x0a\x00"), bench.of(b""), "without an element it is absent");
    }

    #[test]
    fn groups_maps_and_unknown_fields_are_looked_into_or_not() {
        let mut bench = Bench::new();
        assert_eq!(bench.count(b"\x1b\x08\x01\x1c"), Some([2, 1, 4, 0]));
        assert_eq!(bench.count(b"\x22\x05\x0a\x01k\x10\x01"), Some([3, 0, 4, 0]));
        // Group 7 holds a field of the number 1, which is none of the message's.
        assert_eq!(bench.count(b"\x3b\x08\x01\x3c"), Some([0, 0, 4, 1]));
        assert_eq!(bench.count(b"\x38\x01\x3a\x00\x38\x02"), Some([0, 0, 4, 2]));
        assert_eq!(bench.count(b"\x2a\x02\x10\x01"), Some([2, 1, 8, 0]));
        let at_top = bench.of(b"\x10\x01").unwrap();
        let below = bench.of(b"\x2a\x02\x10\x01").unwrap();
        let is_there = |feature: &&Feature| !below.contains(feature);
        assert_eq!(at_top.iter().filter(is_there).count(), 3, "the field, the value, the length");
    }

    #[test]
    fn what_is_no_message_has_no_features() {
        let mut bench = Bench::new();
        for data in [
            &b"\x08"[..],
            b"\x0d\0\0\0\0",
            b"\x32\x03\0\0\0",
            b"\x0a\x01\x80",
            b"\x1b\x08\x01",
            b"\x1c",
            b"\x28\x01",
            b"\x2a\x01\x08",
        ] {
            assert_eq!(bench.of(data), None, "{data:02x?}");
        }
    }

    #[test]
    fn a_type_that_holds_itself_has_so_many_features_and_no_more() {
        let mut bench = Bench::new();
        let nested = |depth: usize| {
            (0..depth).fold(Vec::new(), |inner: Vec<u8>, _| {
                let mut outer = vec![0x2a];
                prost::encoding::encode_varint(inner.len() as u64, &mut outer);
                outer.extend(inner);
                outer
            })
        };
        let some = bench.of(&nested(DEPTH as usize + 1)).unwrap();
        assert!(some.len() > DEPTH as usize);
        assert_eq!(bench.of(&nested(DEPTH_LIMIT as usize)).unwrap(), some);
        assert_eq!(bench.of(&nested(DEPTH_LIMIT as usize + 1)), None);
        let groups = [vec![0x3b; 200], vec![0x3c; 200]].concat();
        assert_eq!(bench.of(&groups), None);
    }
}
