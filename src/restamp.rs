//! Frames with their times moved, as if they had been sent now, and every other byte as it was.
//!
//! A [`Restamp`] is made from the descriptor of a frame: which fields hold times is told by their names
//! and types, wherever they are nested. The values are patched into the bytes; where one gets longer or
//! shorter, so do the lengths around it. Nothing is decoded and written again, so unknown fields, order
//! and odd encodings stay. A message that is no protobuf is left alone, and so is what is around it if that
//! makes no sense either. Knows no clock: a [`Shift`] says how times are moved.

use std::ops::Range;

use bytes::Bytes;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::{
    codec::{
        types,
        walk::DEPTH_LIMIT,
        wire::{self, Field, Value, WireError},
    },
    entry::{Timestamp, Unit},
    pace::Speed,
};

/// How the times of one frame are moved: the moment at which it was received becomes the moment at which
/// it is sent, and what was so long before that is as long before it, divided by the speed. So times
/// keep their order if the frames keep theirs.
#[derive(Clone, Copy, Debug)]
pub struct Shift {
    /// When the frame was received.
    pub received: Timestamp,
    /// When it is sent.
    pub sent: Timestamp,
    /// How fast time goes by; with none there are no distances, and every time is that of the sending.
    pub speed: Speed,
    /// No time becomes earlier than this.
    pub floor: Timestamp,
}

impl Shift {
    /// A time, moved.
    pub fn moved(&self, time: Timestamp) -> Timestamp {
        let moved = if time <= self.received {
            self.sent.before(self.speed.apply(self.received.since(time)))
        } else {
            self.sent.after(self.speed.apply(time.since(self.received)))
        };
        moved.max(self.floor)
    }

    /// The value of a field that holds this time, moved. None if the new one would not be taken for one, or
    /// there is no room for it.
    fn moved_value(&self, time: Timestamp, unit: Unit, limit: u64) -> Option<(u64, Timestamp)> {
        let moved = self.moved(time);
        let value = moved.as_nanos() / unit.nanos();
        (moved.as_nanos() >= EARLIEST && value <= limit).then_some((value, moved))
    }
}

/// The first time that is taken for one, in nanoseconds: as many seconds as have ten digits.
const EARLIEST: u64 = 1_000_000_000 * 1_000_000_000;

/// The time that the value of a field is. Before September 2001, or negative: whatever it is, it is no time
/// of this feed.
fn time_of(value: u64, limit: u64) -> Option<(Timestamp, Unit)> {
    let unit = Unit::of(value);
    let nanos = value.checked_mul(unit.nanos())?;
    (value <= limit && nanos >= EARLIEST).then(|| (Timestamp::from_nanos(nanos), unit))
}

/// Where the times are in frames of one type.
#[derive(Debug)]
pub struct Restamp {
    /// The first one is the frame's own.
    messages: Vec<Message>,
}

/// What matters of a message: its times and the messages in which there may be some, by field number.
#[derive(Debug, Default)]
struct Message {
    fields: Vec<(u32, Holds)>,
}

impl Message {
    fn holds(&self, number: u32) -> Option<Holds> {
        let at = self.fields.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(self.fields[at].1)
    }
}

#[derive(Clone, Copy, Debug)]
enum Holds {
    Time(Coding),
    /// Index of the message.
    Message(usize),
    Group(usize),
}

/// How an integer is written.
#[derive(Clone, Copy, Debug)]
struct Coding {
    wire_type: u8,
    zigzag: bool,
    /// The largest value there is room for.
    limit: u64,
}

/// Whether a field of this name holds a time, if it is a number. The schema says so of none; these are the names of
/// those that do.
pub(crate) fn is_named_a_time(name: &str) -> bool {
    name == "timestamp" || name.ends_with("_timestamp") || name == "time_secs"
}

/// Whether a field holds a time, and how it is written. Whether its values are times in seconds,
/// milliseconds, microseconds or nanoseconds is told by their magnitude, as for the envelope's own.
fn time(field: &FieldDescriptor) -> Option<Coding> {
    let int32 = u64::from(i32::MAX.cast_unsigned());
    let (wire_type, zigzag, limit) = match field.kind() {
        Kind::Int32 => (0, false, int32),
        Kind::Uint32 => (0, false, u32::MAX.into()),
        Kind::Int64 | Kind::Uint64 => (0, false, i64::MAX.cast_unsigned()),
        Kind::Sint32 => (0, true, int32),
        Kind::Sint64 => (0, true, i64::MAX.cast_unsigned()),
        Kind::Fixed32 => (5, false, u32::MAX.into()),
        Kind::Sfixed32 => (5, false, int32),
        Kind::Fixed64 | Kind::Sfixed64 => (1, false, i64::MAX.cast_unsigned()),
        _ => return None,
    };
    is_named_a_time(field.name()).then_some(Coding { wire_type, zigzag, limit })
}

/// A frame whose times were moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The frame.
    pub data: Bytes,
    /// The latest time of the outermost message, the envelope; None if there was none.
    pub sent: Option<Timestamp>,
    /// The first time that stayed, as the new one would not be taken for one, or there is no room for it.
    pub stays: Option<Timestamp>,
}

impl Restamp {
    /// For frames of this type.
    pub fn new(frame: &MessageDescriptor) -> Self {
        let mut messages = types::table(frame, |descriptor, numbers| {
            let mut fields: Vec<_> = descriptor
                .fields()
                .filter_map(|field| {
                    let holds = match field.kind() {
                        Kind::Message(of) if field.is_group() => Holds::Group(numbers.of(&of)),
                        Kind::Message(of) => Holds::Message(numbers.of(&of)),
                        _ => Holds::Time(time(&field)?),
                    };
                    Some((field.number(), holds))
                })
                .collect();
            fields.sort_by_key(|(number, _)| *number);
            Message { fields }
        });
        prune(&mut messages);
        Self { messages }
    }

    /// The frame with its times moved.
    pub fn apply(&self, frame: &Bytes, shift: &Shift) -> Moved {
        let mut walk =
            Walk { messages: &self.messages, shift, patches: Vec::new(), sent: None, stays: None };
        let is_message = walk.message(0, frame, 0, 0).is_ok();
        if !is_message || walk.patches.is_empty() {
            let sent = walk.sent.filter(|_| is_message);
            let stays = walk.stays.filter(|_| is_message);
            return Moved { data: frame.clone(), sent, stays };
        }
        let mut data = Vec::with_capacity(frame.len() + 16);
        let mut done = 0;
        for Patch { range, value, wire_type } in walk.patches {
            data.extend_from_slice(&frame[done..range.start]);
            match wire_type {
                1 => data.extend_from_slice(&value.to_le_bytes()),
                5 => data.extend_from_slice(&(value as u32).to_le_bytes()),
                _ => prost::encoding::encode_varint(value, &mut data),
            }
            done = range.end;
        }
        data.extend_from_slice(&frame[done..]);
        Moved { data: data.into(), sent: walk.sent, stays: walk.stays }
    }
}

/// Leaves out the fields below which there is no time.
fn prune(messages: &mut [Message]) {
    let mut timed = vec![false; messages.len()];
    loop {
        let leads = |holds: &Holds| match *holds {
            Holds::Time(_) => true,
            Holds::Message(of) | Holds::Group(of) => timed[of],
        };
        let next: Vec<bool> = messages
            .iter()
            .map(|message| message.fields.iter().any(|(_, holds)| leads(holds)))
            .collect();
        if next == timed {
            break;
        }
        timed = next;
    }
    for message in messages {
        message.fields.retain(|(_, holds)| match *holds {
            Holds::Time(_) => true,
            Holds::Message(of) | Holds::Group(of) => timed[of],
        });
    }
}

/// What takes the place of some bytes.
struct Patch {
    range: Range<usize>,
    value: u64,
    wire_type: u8,
}

impl Patch {
    /// By how much the frame gets longer.
    fn growth(&self) -> isize {
        let length = match self.wire_type {
            1 => 8,
            5 => 4,
            _ => prost::encoding::encoded_len_varint(self.value),
        };
        length.cast_signed() - self.range.len().cast_signed()
    }
}

struct Walk<'a> {
    messages: &'a [Message],
    shift: &'a Shift,
    /// In the order in which they stand.
    patches: Vec<Patch>,
    sent: Option<Timestamp>,
    stays: Option<Timestamp>,
}

/// A message is no protobuf. Nothing in it is changed.
struct Nonsense;

impl From<WireError> for Nonsense {
    fn from(_: WireError) -> Self {
        Self
    }
}

impl Walk<'_> {
    /// Finds what changes in a message that begins at `base` of the frame. Returns by how much it gets
    /// longer.
    fn message(
        &mut self,
        of: usize,
        data: &[u8],
        base: usize,
        depth: u32,
    ) -> Result<isize, Nonsense> {
        // A group is not a message with a length: its fields are among those of the message around it.
        let mut groups = vec![(0, Some(of))];
        let mut growth = 0;
        for field in wire::fields(data) {
            let field = field?;
            let &(_, of) = groups.last().ok_or(Nonsense)?;
            let holds = of.and_then(|of| self.messages[of].holds(field.number));
            match (field.value, holds) {
                (Value::GroupStart, holds) => {
                    let of = match holds {
                        Some(Holds::Group(of)) => Some(of),
                        _ => None,
                    };
                    groups.push((field.number, of));
                }
                (Value::GroupEnd, _) => {
                    let (number, _) = groups.pop().ok_or(Nonsense)?;
                    if groups.is_empty() || number != field.number {
                        return Err(Nonsense);
                    }
                }
                (Value::Bytes(inner), Some(Holds::Message(of))) if depth < DEPTH_LIMIT => {
                    growth += self.nested(of, data, &field, inner, base, depth);
                }
                (value, Some(Holds::Time(coding))) if value.wire_type() == coding.wire_type => {
                    let outermost = depth == 0 && groups.len() == 1;
                    growth += self.time(value, coding, data, &field, base, outermost);
                }
                _ => {}
            }
        }
        if groups.len() == 1 { Ok(growth) } else { Err(Nonsense) }
    }

    fn nested(
        &mut self,
        of: usize,
        data: &[u8],
        field: &Field<'_>,
        inner: &[u8],
        base: usize,
        depth: u32,
    ) -> isize {
        let (before, stays) = (self.patches.len(), self.stays);
        let start = base + field.value_offset;
        let Ok(growth) = self.message(of, inner, start, depth + 1) else {
            // What looks like a time in it is none.
            self.patches.truncate(before);
            self.stays = stays;
            return 0;
        };
        if growth == 0 {
            return 0;
        }
        let length = base + field.offset + varint_length(&data[field.offset..]);
        let value = inner.len().wrapping_add_signed(growth) as u64;
        let patch = Patch { range: length..start, value, wire_type: 0 };
        let growth = growth + patch.growth();
        self.patches.insert(before, patch);
        growth
    }

    fn time(
        &mut self,
        value: Value<'_>,
        Coding { wire_type, zigzag, limit }: Coding,
        data: &[u8],
        field: &Field<'_>,
        base: usize,
        outermost: bool,
    ) -> isize {
        let (written, length) = match value {
            Value::Varint(value) => (value, varint_length(&data[field.value_offset..])),
            Value::Fixed64(value) => (value, 8),
            Value::Fixed32(value) => (value.into(), 4),
            _ => return 0,
        };
        // All decoders take the lower half where the schema has no room for more.
        let written = if limit <= u32::MAX.into() { u64::from(written as u32) } else { written };
        let decoded = match zigzag {
            // Those of negative numbers are odd.
            true if written % 2 == 1 => return 0,
            true => written / 2,
            false => written,
        };
        let Some((time, unit)) = time_of(decoded, limit) else { return 0 };
        let Some((moved, time)) = self.shift.moved_value(time, unit, limit) else {
            self.stays.get_or_insert(time);
            return 0;
        };
        if outermost {
            self.sent = self.sent.max(Some(time));
        }
        if moved == decoded {
            return 0;
        }
        let start = base + field.value_offset;
        let value = if zigzag { moved * 2 } else { moved };
        let patch = Patch { range: start..start + length, value, wire_type };
        let growth = patch.growth();
        self.patches.push(patch);
        growth
    }
}

/// How many bytes the varint has that stands there, which is known to be one.
fn varint_length(data: &[u8]) -> usize {
    data.iter().take_while(|byte| **byte >= 0x80).count() + 1
}
