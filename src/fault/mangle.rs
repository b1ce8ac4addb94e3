//! Bytes of a message made into worse ones. What comes in may be anything; it is changed as far as it
//! makes sense, or it is said why it cannot be.

use std::ops::Range;

use bytes::Bytes;
use prost_reflect::{
    Cardinality, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value,
    prost::{Message, encoding::encode_varint},
};
use serde_json::json;

use super::{Detail, Fault, detail};
use crate::{
    codec::wire::{self, Field},
    dice::Dice,
    entry::{Frame, Subscription},
    protocol::{self, Payload, Protocol},
    schema::{self, Resolver},
};

/// Messages within messages are looked into so deep.
const DEPTH: usize = 32;

/// The highest number that a field can have.
const HIGHEST_NUMBER: u32 = (1 << 29) - 1;

/// A field that no envelope has, for what makes a message large.
const PADDING: u32 = 1999;

/// Does to the message what the fault says. Returns what was drawn, or why it cannot be done.
pub(super) fn mangle(
    fault: &Fault,
    data: &Bytes,
    dice: &mut Dice,
    (subscription, frame): (&Subscription, &Frame),
    resolver: &Resolver,
) -> Result<(Bytes, Detail), String> {
    let protocol = protocol::by_name(&subscription.protocol);
    let envelope = || {
        let envelope = resolver.envelope(protocol, &subscription.topic, &frame.kind);
        envelope.map_err(|error| error.to_string())
    };
    match fault {
        Fault::Truncate { keep } => truncate(data, dice, *keep),
        Fault::FlipBits { count } => flip_bits(data, dice, *count),
        Fault::Oversize { size } => oversize(data, *size),
        Fault::Replace { with } => {
            let payload = with.unwrap_or_else(|| other_payload(protocol, frame, dice));
            replace(data, dice, protocol, payload)
        }
        Fault::UnknownField => Ok(unknown_field(&envelope()?, data, dice)),
        Fault::UnknownEnum => unknown_enum(&envelope()?, data, dice),
        Fault::DropRequired => drop_required(&envelope()?, data, dice),
        _ => Ok((data.clone(), Detail::new())),
    }
}

type Mangled = Result<(Bytes, Detail), String>;

fn truncate(data: &Bytes, dice: &mut Dice, keep: Option<usize>) -> Mangled {
    if data.is_empty() {
        return Err("it is empty".to_owned());
    }
    let keep = keep.unwrap_or_else(|| dice.below(data.len() as u64) as usize);
    if keep >= data.len() {
        return Err("it is no longer than that".to_owned());
    }
    Ok((data.slice(..keep), detail([("keep", json!(keep))])))
}

fn flip_bits(data: &Bytes, dice: &mut Dice, count: u64) -> Mangled {
    let all = data.len() as u64 * 8;
    if all < count {
        return Err(format!("it has no more than {all} bits"));
    }
    let (mut flipped, mut bits) = (data.to_vec(), Vec::new());
    while (bits.len() as u64) < count {
        let bit = dice.below(all);
        // The same one twice would be none.
        if !bits.contains(&bit) {
            flipped[(bit / 8) as usize] ^= 1 << (bit % 8);
            bits.push(bit);
        }
    }
    Ok((flipped.into(), detail([("bits", json!(bits))])))
}

fn oversize(data: &Bytes, size: usize) -> Mangled {
    let missing = size.saturating_sub(data.len());
    let tag = varint(u64::from(PADDING << 3 | 2));
    // The length itself needs room, too: the most that leaves all of it within the size.
    let fits = |length: usize| tag.len() + varint(length as u64).len() + length <= missing;
    let Some(length) =
        (missing.saturating_sub(tag.len() + 10)..=missing).rev().find(|&length| fits(length))
    else {
        return Err("it is as large already".to_owned());
    };
    let mut large = Vec::with_capacity(size);
    large.extend_from_slice(data);
    large.extend(tag);
    large.extend(varint(length as u64));
    large.resize(large.len() + length, 0);
    let bytes = large.len();
    Ok((large.into(), detail([("bytes", json!(bytes))])))
}

/// Any but the one that the frame has.
fn other_payload(
    protocol: &'static dyn Protocol,
    frame: &Frame,
    dice: &mut Dice,
) -> &'static Payload {
    let others = protocol.payloads().filter(|payload| payload.label != frame.kind.label);
    let others: Vec<_> = others.collect();
    dice.pick::<&Payload>(&others)
}

fn replace(
    data: &Bytes,
    dice: &mut Dice,
    protocol: &'static dyn Protocol,
    with: &'static Payload,
) -> Mangled {
    let message =
        schema::message(schema::bundled(), with.message).map_err(|error| error.to_string())?;
    let payload = made_up(&message, dice, 0);
    let payload = payload.encode_to_vec();
    let (_, number) = protocol.envelope_message();
    let mut replaced = Vec::new();
    // Field by field, as far as it makes sense: what is left of a payload before would be merged.
    for field in wire::fields(data).map_while(Result::ok).filter(|field| field.number != number) {
        replaced.extend_from_slice(&data[field.offset..end(&field, data)]);
    }
    replaced.extend(varint(u64::from(number << 3 | 2)));
    replaced.extend(varint(payload.len() as u64));
    replaced.extend(payload);
    Ok((replaced.into(), detail([("with", json!(with.label))])))
}

/// A message of that type with all that is required and some of the rest.
fn made_up(message: &MessageDescriptor, dice: &mut Dice, depth: usize) -> DynamicMessage {
    let mut made = DynamicMessage::new(message.clone());
    for field in message.fields() {
        let required = field.cardinality() == Cardinality::Required;
        if field.is_map() || !(required || (depth < 2 && dice.once_in(2))) {
            continue;
        }
        let value = match field.kind() {
            // Required messages within required ones end somewhere, or no such message could exist.
            Kind::Message(inner) if depth < DEPTH => {
                Value::Message(made_up(&inner, dice, depth + 1))
            }
            Kind::Message(_) => continue,
            Kind::Enum(values) => {
                let numbers: Vec<_> = values.values().map(|value| value.number()).collect();
                Value::EnumNumber(*dice.pick::<i32>(&numbers))
            }
            Kind::Bool => Value::Bool(dice.once_in(2)),
            Kind::String => Value::String("made-up".to_owned()),
            Kind::Bytes => Value::Bytes(Bytes::from_static(&[2, 0, 0, 0, 0, 1])),
            Kind::Float => Value::F32(dice.below(1000) as f32),
            Kind::Double => Value::F64(dice.below(1000) as f64),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(dice.below(1000) as i32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(dice.below(1000) as i64),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(dice.below(1000) as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(dice.below(1000)),
        };
        made.set_field(&field, if field.is_list() { Value::List(vec![value]) } else { value });
    }
    made
}

fn unknown_field(envelope: &MessageDescriptor, data: &[u8], dice: &mut Dice) -> (Bytes, Detail) {
    let messages = messages(envelope, data);
    // Within the payload, if there is one.
    let within = if messages.len() > 1 { &messages[1..] } else { &messages[..] };
    let place = dice.pick::<Place>(within);
    let highest = place.message.fields().map(|field| field.number()).max().unwrap_or(0);
    let number = u64::from(highest.min(HIGHEST_NUMBER - 20)) + dice.within(1, 20);
    let mut field = varint(number << 3);
    field.extend(varint(dice.below(1 << 40)));
    let end = place.size;
    let spoilt = splice(data, &place.levels, end..end, &field);
    let drawn = [("in", json!(place.message.full_name())), ("field", json!(number))];
    (spoilt.into(), detail(drawn))
}

fn unknown_enum(envelope: &MessageDescriptor, data: &[u8], dice: &mut Dice) -> Mangled {
    let messages = messages(envelope, data);
    let is_enum = |descriptor: &FieldDescriptor, field: &Field<'_>| {
        matches!(descriptor.kind(), Kind::Enum(_)) && matches!(field.value, wire::Value::Varint(_))
    };
    let there = fields(&messages, data, is_enum);
    let (place, descriptor, cut) = if there.is_empty() {
        // Then one that could be there.
        let mut could = messages.iter().skip(1).flat_map(|place| {
            let fields =
                place.message.fields().filter(|field| matches!(field.kind(), Kind::Enum(_)));
            fields.map(move |field| (place, field, place.size..place.size))
        });
        could.next().ok_or("its type has no enum")?
    } else {
        let (place, descriptor, cut) = dice.pick(&there);
        (*place, descriptor.clone(), cut.clone())
    };
    let Kind::Enum(values) = descriptor.kind() else { return Err("it has no enum".to_owned()) };
    let highest = values.values().map(|value| value.number()).max().unwrap_or(0);
    let value = u64::from(highest.max(0).cast_unsigned()) + dice.within(1, 100);
    let mut field = varint(u64::from(descriptor.number()) << 3);
    field.extend(varint(value));
    let spoilt = splice(data, &place.levels, cut, &field);
    let drawn = [("field", json!(descriptor.full_name())), ("number", json!(value))];
    Ok((spoilt.into(), detail(drawn)))
}

fn drop_required(envelope: &MessageDescriptor, data: &[u8], dice: &mut Dice) -> Mangled {
    let messages = messages(envelope, data);
    let required =
        fields(&messages, data, |descriptor, _| descriptor.cardinality() == Cardinality::Required);
    if required.is_empty() {
        return Err("it has no required field".to_owned());
    }
    let (place, descriptor, cut) = dice.pick(&required);
    let spoilt = splice(data, &place.levels, cut.clone(), &[]);
    Ok((spoilt.into(), detail([("field", json!(descriptor.full_name()))])))
}

/// A message within the bytes.
struct Place {
    message: MessageDescriptor,
    /// The fields that lead there, from the outside.
    levels: Vec<Level>,
    /// Where it is in all of the bytes, and how long.
    start: usize,
    size: usize,
}

/// A field that holds a message; all numbers count from the start of the message that it is in.
#[derive(Clone)]
struct Level {
    /// Where its length begins, which is behind its tag.
    length: usize,
    /// The message itself.
    inner: Range<usize>,
}

/// All messages in the bytes, the outermost first, as far as they make sense.
fn messages(outermost: &MessageDescriptor, data: &[u8]) -> Vec<Place> {
    let message = outermost.clone();
    let mut found = vec![Place { message, levels: Vec::new(), start: 0, size: data.len() }];
    let mut next = 0;
    while next < found.len() {
        let place = &found[next];
        let bytes = &data[place.start..place.start + place.size];
        let mut inner = Vec::new();
        for field in wire::fields(bytes).map_while(Result::ok) {
            let descriptor = place.message.get_field(field.number);
            let kind = descriptor.map(|descriptor| descriptor.kind());
            if let (Some(Kind::Message(message)), wire::Value::Bytes(value)) = (kind, field.value)
                && place.levels.len() < DEPTH
            {
                let length = field.offset + tag_size(&bytes[field.offset..]);
                let within = field.value_offset..field.value_offset + value.len();
                let start = place.start + field.value_offset;
                let mut levels = place.levels.clone();
                levels.push(Level { length, inner: within });
                inner.push(Place { message, levels, start, size: value.len() });
            }
        }
        found.extend(inner);
        next += 1;
    }
    found
}

/// All fields of the messages that are wanted, and where they are in theirs.
fn fields<'p>(
    messages: &'p [Place],
    data: &[u8],
    wanted: impl Fn(&FieldDescriptor, &Field<'_>) -> bool,
) -> Vec<(&'p Place, FieldDescriptor, Range<usize>)> {
    let mut found = Vec::new();
    for place in messages {
        let bytes = &data[place.start..place.start + place.size];
        for field in wire::fields(bytes).map_while(Result::ok) {
            let is_group = matches!(field.value, wire::Value::GroupStart | wire::Value::GroupEnd);
            let descriptor = place.message.get_field(field.number).filter(|_| !is_group);
            if let Some(descriptor) = descriptor.filter(|descriptor| wanted(descriptor, &field)) {
                found.push((place, descriptor, field.offset..end(&field, bytes)));
            }
        }
    }
    found
}

/// Puts something in the place of a part of an inner message, and sets all lengths around it right.
fn splice(data: &[u8], levels: &[Level], cut: Range<usize>, with: &[u8]) -> Vec<u8> {
    let Some((level, deeper)) = levels.split_first() else {
        return [&data[..cut.start], with, &data[cut.end..]].concat();
    };
    let inner = splice(&data[level.inner.clone()], deeper, cut, with);
    let length = varint(inner.len() as u64);
    [&data[..level.length], &length, &inner, &data[level.inner.end..]].concat()
}

/// Where a field ends.
fn end(field: &Field<'_>, data: &[u8]) -> usize {
    field.value_offset
        + match field.value {
            wire::Value::Varint(_) => tag_size(&data[field.value_offset..]),
            wire::Value::Fixed64(_) => 8,
            wire::Value::Fixed32(_) => 4,
            wire::Value::Bytes(value) => value.len(),
            wire::Value::GroupStart | wire::Value::GroupEnd => 0,
        }
}

/// How long the varint is with which these bytes begin.
fn tag_size(data: &[u8]) -> usize {
    data.iter().position(|&byte| byte < 0x80).map_or(data.len(), |last| last + 1)
}

fn varint(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_varint(value, &mut bytes);
    bytes
}
