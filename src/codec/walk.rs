//! The one way from wire bytes to values: a walk along the bytes with a [`Plan`] in hand.
//!
//! What it finds goes to a [`Writer`], fields in the order of their numbers. Every encoder in use
//! writes ascending numbers and each list in one run: such a frame is written as it is read. The
//! first thing that is out of order stops that, and the frame is walked again by an index of its
//! fields, which is right for all that protobuf allows: lists in several runs, scalars and members
//! of oneofs given twice (the last counts), messages given twice (they merge). Once per frame and
//! not per level, or nested disorder would take exponential time.
//!
//! A fault says where it is; what was written of that frame is then worthless. What the schema does
//! not know is noted beside the values. Nothing is allocated by what a length claims.
//! Source of the rules: <https://protobuf.dev/programming-guides/encoding/>.

use std::ops::Range;

use self::stop::{Link, Result, Stop, expect_packed, fault, too_deep, too_many};
pub use self::writer::Writer;
use super::{
    Fault,
    notes::{Notes, Oddity},
    plan::{Enum, Field, Form, Kind, Message, Place, Plan, Step},
};

mod index;
mod keyed;
mod stop;
mod well_known;
mod wide;
mod writer;

/// How deep messages may be nested, as in prost and in protobuf's own decoders.
pub const DEPTH_LIMIT: u32 = 100;

/// How many bytes a message may have: as many as a recorder can be told to take.
pub const MESSAGE_LIMIT: usize = 64 * 1024 * 1024;

/// How many elements the lists and maps of one message may have altogether. One byte of a packed
/// list can become a long name: this bounds the output of a message.
pub const ELEMENT_LIMIT: u32 = 1 << 20;

/// Walks one message. The fields of the plan's root go to `out`, between an opening and a closing of
/// the caller's. After a fault `out` has to be taken back to where it was.
pub fn walk<W: Writer>(plan: &Plan, data: &[u8], out: W, notes: &mut Notes) -> Result<(), Fault> {
    attempt(plan, data, out, notes, |walk| walk.fields(plan.root(), 0..data.len(), &Link::ROOT))
}

/// Walks one message and writes it as one value: an object, or what its type is spelled as.
pub fn walk_value<W: Writer>(
    plan: &Plan,
    data: &[u8],
    out: W,
    notes: &mut Notes,
) -> Result<(), Fault> {
    attempt(plan, data, out, notes, |walk| walk.message(plan.root(), 0..data.len(), &Link::ROOT))
}

fn attempt<'w, W: Writer>(
    plan: &'w Plan,
    data: &'w [u8],
    out: W,
    notes: &'w mut Notes,
    walk_it: impl Fn(&mut Walk<'w, W>) -> Result<()>,
) -> Result<(), Fault> {
    let start = out.mark();
    notes.clear();
    if data.len() > MESSAGE_LIMIT {
        let reason = format!("a message of {} bytes is over the limit", data.len());
        return Err(Fault::new(MESSAGE_LIMIT, String::new(), reason));
    }
    let mut walk = Walk { plan, data, out, notes, elements: 0, by_index: plan.style().defaults };
    let mut done = walk_it(&mut walk);
    if matches!(done, Err(Stop::Disorder)) {
        walk.out.rewind(start);
        walk.notes.clear();
        walk.elements = 0;
        walk.by_index = true;
        done = walk_it(&mut walk);
    }
    done.map_err(|stop| match stop {
        Stop::Fault(fault) => *fault,
        Stop::Disorder => Fault::new(0, String::new(), "no order can be made of it".to_owned()),
    })
}

/// A result that is hardly ever an error: the compiler takes both for equally likely, and lays code out for that.
#[inline(always)]
fn usual<T>(result: Result<T>) -> Result<T> {
    #[cold]
    #[inline(never)]
    fn unusual() {}

    if result.is_err() {
        unusual();
    }
    result
}

struct Walk<'w, W> {
    plan: &'w Plan,
    data: &'w [u8],
    out: W,
    notes: &'w mut Notes,
    /// Of all lists and maps so far.
    elements: u32,
    /// Whether each message is indexed before it is written.
    by_index: bool,
}

/// What has come by of a message that is read in order, besides the last field.
#[derive(Default)]
struct Seen {
    /// How many required fields.
    required: u32,
    /// A bit for each oneof of which there was a field.
    oneofs: u64,
}

/// What came of a field that is not the next known one.
enum Odd {
    /// It has been dealt with: where it ends, and the index of the last known field.
    Done { next: usize, last: i32 },
    /// It is the end of the group.
    GroupEnd { next: usize },
}

/// Where a group's content ends, and where its last tag does.
struct Group {
    content_end: usize,
    next: usize,
}

const VARINT: u8 = 0;
const BYTES: u8 = 2;
const GROUP_START: u8 = 3;
const GROUP_END: u8 = 4;

impl<'w, W: Writer> Walk<'w, W> {
    /// All fields of a message.
    fn fields(&mut self, message: &'w Message, span: Range<usize>, link: &Link<'_>) -> Result<()> {
        if self.by_index {
            self.indexed(message, &[span], link)
        } else {
            self.straight(message, span, 0, link).map(|_| ())
        }
    }

    /// All fields of a message, written as they are read. `group` is the number of the group that it
    /// is, or 0; returns where it ends, behind the group's end.
    #[inline(never)]
    fn straight(
        &mut self,
        message: &'w Message,
        span: Range<usize>,
        group: u32,
        link: &Link<'_>,
    ) -> Result<usize> {
        self.straight_here(message, span, group, link)
    }

    /// The same, for where a call is a good part of what a small message costs.
    #[inline(always)]
    fn straight_here(
        &mut self,
        message: &'w Message,
        span: Range<usize>,
        group: u32,
        link: &Link<'_>,
    ) -> Result<usize> {
        let start = span.start;
        let data = &self.data[..span.end];
        let end = data.len();
        let mut at = start;
        // The index of the last known field, or -1.
        let mut last = -1;
        let mut seen = Seen::default();
        while at < end {
            let place = match data[at] {
                tag @ ..0x80 => message.near(tag).map(|place| (place, at + 1)),
                low => match data.get(at + 1) {
                    Some(&high @ ..0x80) => {
                        let tag = u16::from(low & 0x7f) | u16::from(high) << 7;
                        message.far(tag).map(|place| (place, at + 2))
                    }
                    _ => None,
                },
            };
            let next_known = place.and_then(|(place, value)| {
                let field = message.fields.get(usize::from(place.index))?;
                (i32::from(place.index) > last).then_some((place, field, value))
            });
            let Some((place, field, value)) = next_known else {
                match self.odd(message, at..end, last, group, &mut seen, link)? {
                    Odd::Done { next, last: known } => {
                        at = next;
                        last = known;
                        continue;
                    }
                    Odd::GroupEnd { next } => {
                        if seen.required != message.required {
                            self.missing(message, start..at, link)?;
                        }
                        return Ok(next);
                    }
                }
            };
            last = i32::from(place.index);
            seen.required += u32::from(place.required);
            let taken = match place.step {
                // What is short is not negative.
                Step::Number32 => match wide::short_number(self.data, value, end) {
                    Some((number, next)) => {
                        self.out.field_uint32(field, number);
                        Ok(next)
                    }
                    None => self.keyed_number(field, data, value, link),
                },
                Step::Number64 => match wide::short_number(self.data, value, end) {
                    Some((number, next)) => {
                        self.out.field_uint64(field, number.into());
                        Ok(next)
                    }
                    None => self.keyed_number(field, data, value, link),
                },
                Step::Bool => match data.get(value) {
                    Some(&bit @ ..=1) => {
                        self.out.field_bool(field, bit != 0);
                        Ok(value + 1)
                    }
                    _ => self.keyed_other(field, data, value, link),
                },
                Step::Enum => self.keyed_enum(field, data, value, link),
                Step::String => self.keyed_string(field, data, value, link),
                Step::Bytes => self.keyed_bytes(field, data, value, link),
                Step::Mac => self.keyed_mac(field, data, value, link),
                Step::Message => self.keyed_message(field, data, value, link),
                Step::Other => self.keyed_other(field, data, value, link),
                Step::List => self.list(field, value, end, link),
                Step::Special => match usual(self.special(field, value, end, &mut seen, link))? {
                    Some(next) => Ok(next),
                    None => self.keyed_other(field, data, value, link),
                },
            };
            at = usual(taken)?;
        }
        if group == 0 && last >= 0 && seen.required == message.required {
            return Ok(at);
        }
        self.ended(message, start..end, group, last >= 0, &seen, link)
    }

    /// A message has ended in which no field is known, or one is missing, or which is a group.
    #[cold]
    fn ended(
        &mut self,
        message: &Message,
        span: Range<usize>,
        group: u32,
        is_known: bool,
        seen: &Seen,
        link: &Link<'_>,
    ) -> Result<usize> {
        if group > 0 {
            return Err(fault(span.end, link, "", "the data ends inside a group"));
        }
        let end = span.end;
        let is_empty = span.is_empty();
        if seen.required != message.required {
            self.missing(message, span, link)?;
        }
        if !is_known && !is_empty {
            self.notes.add(|| (link.path(""), Oddity::NothingKnown));
        }
        Ok(end)
    }

    /// A field that is not the next known one with a tag as short as can be.
    #[inline(never)]
    fn odd(
        &mut self,
        message: &'w Message,
        span: Range<usize>,
        last: i32,
        group: u32,
        seen: &mut Seen,
        link: &Link<'_>,
    ) -> Result<Odd> {
        let Range { start: at, end } = span;
        let Some((tag, value)) = wide::tag(self.data, at, end) else {
            return Err(self.broken_tag(at, end, link));
        };
        let (number, wire_type) = (tag >> 3, (tag & 7) as u8);
        if wire_type == GROUP_END && number == group && group > 0 {
            return Ok(Odd::GroupEnd { next: value });
        }
        let known = message.index(number);
        let known = known.and_then(|index| Some((index, message.fields.get(index)?)));
        let Some((index, field)) = known else {
            let next = self.unexpected(None, at, end, link)?;
            return Ok(Odd::Done { next, last });
        };
        let is_packed = field.repeated && field.is_packed_as(wire_type);
        if field.wire_type != wire_type && !is_packed {
            let next = self.unexpected(Some(field), at, end, link)?;
            return Ok(Odd::Done { next, last });
        }
        // Nor is any order known among more fields than are counted.
        let Some(place) = Place::of(field, index).filter(|place| i32::from(place.index) > last)
        else {
            return Err(Stop::Disorder);
        };
        seen.required += u32::from(place.required);
        let data = &self.data[..end];
        let next = match place.step {
            _ if is_packed => self.packed_list(field, value, end, link)?,
            Step::List => self.list(field, value, end, link)?,
            Step::Special => match self.special(field, value, end, seen, link)? {
                Some(next) => next,
                None => self.keyed_other(field, data, value, link)?,
            },
            _ => self.keyed_other(field, data, value, link)?,
        };
        Ok(Odd::Done { next, last: place.index.into() })
    }

    /// A field that is not just written: in a oneof, of which there may have been another, a map, or one for
    /// which zero means absent. Returns where it ends, if that is all there is to it.
    #[inline(never)]
    fn special(
        &mut self,
        field: &'w Field,
        at: usize,
        end: usize,
        seen: &mut Seen,
        link: &Link<'_>,
    ) -> Result<Option<usize>> {
        if field.oneof > 0 {
            let bit = 1_u64.checked_shl(field.oneof - 1).unwrap_or(u64::MAX);
            if seen.oneofs & bit != 0 {
                return Err(Stop::Disorder);
            }
            seen.oneofs |= bit;
        }
        if field.implicit
            && let Some(next) = self.zero(field, at, end)
        {
            return Ok(Some(next));
        }
        if let Kind::Map(entry) = field.kind {
            self.out.field(field);
            let (entries, next) = self.run(field, at, end, link)?;
            self.map(field, self.plan.message(entry), &entries, link)?;
            return Ok(Some(next));
        }
        Ok(None)
    }

    /// A list of numbers behind one tag. Returns where it ends.
    fn packed_list(
        &mut self,
        field: &'w Field,
        at: usize,
        end: usize,
        link: &Link<'_>,
    ) -> Result<usize> {
        let span = self.span(field, at, end, link)?;
        let next = span.end;
        if !span.is_empty() {
            self.out.field(field);
            let opened = self.out.open_list();
            self.packed(field, span, link)?;
            self.out.close_list(opened);
        }
        Ok(next)
    }

    /// One value of a field's kind, from behind its tag. Returns where it ends.
    #[allow(clippy::too_many_lines, reason = "a table with one line for each kind")]
    #[inline(always)]
    fn value(&mut self, field: &'w Field, at: usize, end: usize, link: &Link<'_>) -> Result<usize> {
        macro_rules! varint {
            () => {
                match wide::varint(self.data, at, end) {
                    Some(varint) => varint,
                    None => return Err(self.broken(field, at, end, link)),
                }
            };
        }
        macro_rules! fixed {
            ($number:ty) => {
                match wide::fixed(self.data, at, end) {
                    Some((bytes, next)) => (<$number>::from_le_bytes(bytes), next),
                    None => return Err(self.broken(field, at, end, link)),
                }
            };
        }
        macro_rules! put {
            ($value:expr, $method:ident, $as:ty) => {{
                let (value, next) = $value;
                self.out.$method(value as $as);
                next
            }};
        }
        Ok(match field.kind {
            Kind::Bool => {
                let (value, next) = varint!();
                self.out.bool(value != 0);
                next
            }
            Kind::Int32 => put!(varint!(), int32, i32),
            Kind::Int64 => put!(varint!(), int64, i64),
            Kind::Uint32 => put!(varint!(), uint32, u32),
            Kind::Uint64 => put!(varint!(), uint64, u64),
            Kind::Sint32 => {
                let (value, next) = varint!();
                let value = value as u32;
                self.out.int32((value >> 1) as i32 ^ -((value & 1) as i32));
                next
            }
            Kind::Sint64 => {
                let (value, next) = varint!();
                self.out.int64((value >> 1) as i64 ^ -((value & 1) as i64));
                next
            }
            Kind::Fixed32 => put!(fixed!(u32), uint32, u32),
            Kind::Fixed64 => put!(fixed!(u64), uint64, u64),
            Kind::Sfixed32 => put!(fixed!(i32), int32, i32),
            Kind::Sfixed64 => put!(fixed!(i64), int64, i64),
            Kind::Float => put!(fixed!(f32), float, f32),
            Kind::Double => put!(fixed!(f64), double, f64),
            Kind::Enum(index) => {
                let (value, next) = varint!();
                self.enumeration(field, self.plan.enumeration(index), value as i32, link);
                next
            }
            Kind::String | Kind::LooseString => {
                let span = self.span(field, at, end, link)?;
                let next = span.end;
                if let Err(byte) = self.out.string(self.data, span.clone()) {
                    self.not_utf8(field, span, byte, link)?;
                }
                next
            }
            Kind::Bytes(shown) => {
                let span = self.span(field, at, end, link)?;
                self.out.bytes(shown, &self.data[span.clone()]);
                span.end
            }
            Kind::Mac(index) => {
                let message = self.plan.message(index);
                if let Some([8, 0x0a, 6, address @ ..]) = self.data.get(at..at + 9)
                    && let Ok(address) = <[u8; 6]>::try_from(address)
                    && at + 9 <= end
                    && link.depth < DEPTH_LIMIT
                {
                    self.out.mac(&message.fields[0], address);
                    return Ok(at + 9);
                }
                let span = self.span(field, at, end, link)?;
                self.nested(field, message, span.clone(), link)?;
                span.end
            }
            Kind::Message(index) => {
                let span = self.span(field, at, end, link)?;
                self.nested(field, self.plan.message(index), span.clone(), link)?;
                span.end
            }
            Kind::Group(index) => {
                let message = self.plan.message(index);
                if self.by_index {
                    let group = self.group(field.number, at, end, link)?;
                    self.nested(field, message, at..group.content_end, link)?;
                    return Ok(group.next);
                }
                let link = link.down(field, at)?;
                let opened = self.out.open_message();
                let next = self.straight(message, at..end, field.number, &link)?;
                self.out.close_message(opened);
                next
            }
            // Maps are taken by the run.
            Kind::Map(_) => return Err(Stop::Disorder),
        })
    }

    /// A message within another one.
    #[inline(always)]
    fn nested(
        &mut self,
        field: &'w Field,
        message: &'w Message,
        span: Range<usize>,
        link: &Link<'_>,
    ) -> Result<()> {
        let link = link.down(field, span.start)?;
        self.message(message, span, &link)
    }

    #[inline(always)]
    fn message(&mut self, message: &'w Message, span: Range<usize>, link: &Link<'_>) -> Result<()> {
        if message.form != Form::Object {
            return self.well_known(message, &[span], link);
        }
        let opened = self.out.open_message();
        self.fields(message, span, link)?;
        self.out.close_message(opened);
        Ok(())
    }

    #[inline(always)]
    fn element(&mut self, field: &Field, at: usize, link: &Link<'_>) -> Result<()> {
        self.count(field, at, link)?;
        self.out.element();
        Ok(())
    }

    #[inline(always)]
    fn count(&mut self, field: &Field, at: usize, link: &Link<'_>) -> Result<()> {
        self.elements += 1;
        if self.elements > ELEMENT_LIMIT {
            return Err(too_many(field, at, link));
        }
        Ok(())
    }

    /// All numbers of a packed run.
    fn packed(&mut self, field: &'w Field, span: Range<usize>, link: &Link<'_>) -> Result<()> {
        let mut at = span.start;
        while at < span.end {
            self.element(field, at, link)?;
            at = self.value(field, at, span.end, link)?;
        }
        Ok(())
    }

    #[inline]
    fn enumeration(&mut self, field: &Field, names: &'w Enum, number: i32, link: &Link<'_>) {
        match names.text(number) {
            Some(name) => self.out.literal(name),
            None => self.unknown_number(field, names, number, link),
        }
    }

    #[cold]
    fn unknown_number(&mut self, field: &Field, names: &Enum, number: i32, link: &Link<'_>) {
        self.notes.add(|| (link.path(&field.name), Oddity::EnumNumber { number }));
        if names.is_null {
            self.out.null();
        } else {
            self.out.int32(number);
        }
    }

    #[cold]
    fn not_utf8(
        &mut self,
        field: &Field,
        span: Range<usize>,
        byte: usize,
        link: &Link<'_>,
    ) -> Result<()> {
        if field.kind == Kind::String {
            return Err(fault(byte, link, &field.name, "a string is not UTF-8"));
        }
        self.notes.add(|| (link.path(&field.name), Oddity::NotUtf8));
        self.out.not_utf8(&self.data[span]);
        Ok(())
    }

    /// The bytes behind a length.
    #[inline(always)]
    fn span(&self, field: &Field, at: usize, end: usize, link: &Link<'_>) -> Result<Range<usize>> {
        // Also where the field's own wire type is another: a packed list has a length too.
        wide::span(&self.data[..end], at)
            .ok_or_else(|| self.broken_value(BYTES, at, end, link, &field.name))
    }

    /// Where a value ends that is zero or empty; None if it is not, or is broken.
    #[inline(always)]
    fn zero(&self, field: &Field, at: usize, end: usize) -> Option<usize> {
        // However it is encoded: where the first byte has one of these bits set, it is not zero.
        let may_be_zero = self.data.get(at).is_some_and(|first| matches!(first, 0 | 0x80));
        if may_be_zero { self.certain_zero(field, at, end) } else { None }
    }

    fn certain_zero(&self, field: &Field, at: usize, end: usize) -> Option<usize> {
        let zero = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
        match field.kind {
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => {
                let (bytes, next) = wide::fixed::<4>(self.data, at, end)?;
                zero(&bytes).then_some(next)
            }
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => {
                let (bytes, next) = wide::fixed::<8>(self.data, at, end)?;
                zero(&bytes).then_some(next)
            }
            Kind::Int32 | Kind::Uint32 | Kind::Sint32 | Kind::Enum(_) => {
                let (value, next) = wide::varint(self.data, at, end)?;
                (value as u32 == 0).then_some(next)
            }
            // The value itself, or the length of nothing.
            _ => {
                let (value, next) = wide::varint(self.data, at, end)?;
                (value == 0).then_some(next)
            }
        }
    }

    /// A field that the schema does not have, which is noted, or has as something else, which is a
    /// fault. Its tag stands at `at`. Returns where its value ends.
    #[cold]
    fn unexpected(
        &mut self,
        known: Option<&Field>,
        at: usize,
        end: usize,
        link: &Link<'_>,
    ) -> Result<usize> {
        let Some((tag, value)) = wide::tag(self.data, at, end) else {
            return Err(self.broken_tag(at, end, link));
        };
        let wire_type = (tag & 7) as u8;
        if wire_type == GROUP_END {
            return Err(fault(at, link, "", "a group ends that has not begun"));
        }
        if let Some(field) = known {
            expect_packed(field, wire_type, value, link)?;
        }
        let next = self.skip(tag, value, end, link)?;
        let bytes = &self.data[value..next];
        self.notes.add(|| (link.path(""), Oddity::field(tag >> 3, wire_type, bytes)));
        Ok(next)
    }

    /// Where a value of any kind ends.
    fn skip(&self, tag: u32, at: usize, end: usize, link: &Link<'_>) -> Result<usize> {
        let next = match (tag & 7) as u8 {
            VARINT => wide::varint(self.data, at, end).map(|(_, next)| next),
            1 => wide::fixed::<8>(self.data, at, end).map(|(_, next)| next),
            BYTES => wide::varint(self.data, at, end)
                .and_then(|(length, start)| start.checked_add(usize::try_from(length).ok()?))
                .filter(|&next| next <= end),
            GROUP_START => return Ok(self.group(tag >> 3, at, end, link)?.next),
            _ => wide::fixed::<4>(self.data, at, end).map(|(_, next)| next),
        };
        next.ok_or_else(|| self.broken_value((tag & 7) as u8, at, end, link, ""))
    }

    /// Where a group ends. Its content is only skipped.
    fn group(&self, number: u32, at: usize, end: usize, link: &Link<'_>) -> Result<Group> {
        let mut open = vec![number];
        let mut at = at;
        let mut content_end = at;
        while let Some(&innermost) = open.last() {
            content_end = at;
            if at >= end {
                return Err(fault(end, link, "", "the data ends inside a group"));
            }
            let Some((tag, value)) = wide::tag(self.data, at, end) else {
                return Err(self.broken_tag(at, end, link));
            };
            let number = tag >> 3;
            match (tag & 7) as u8 {
                GROUP_START if link.depth as usize + open.len() >= DEPTH_LIMIT as usize => {
                    return Err(too_deep(at, link, ""));
                }
                GROUP_START => {
                    open.push(number);
                    at = value;
                }
                GROUP_END if number != innermost => {
                    let reason = format!("group {innermost} ends as if it were {number}");
                    return Err(fault(at, link, "", &reason));
                }
                GROUP_END => {
                    open.pop();
                    at = value;
                }
                _ => at = self.skip(tag, value, end, link)?,
            }
        }
        Ok(Group { content_end, next: at })
    }

    /// Says which required fields a message lacks, all of whose bytes are in `span`.
    #[cold]
    fn missing(&mut self, message: &Message, span: Range<usize>, link: &Link<'_>) -> Result<()> {
        let found = self.index(message, std::slice::from_ref(&span), link)?;
        index::note_missing(message, &found, self.notes, link);
        Ok(())
    }

    /// A value of this field could not be read.
    #[cold]
    fn broken(&self, field: &Field, at: usize, end: usize, link: &Link<'_>) -> Stop {
        self.broken_value(field.wire_type, at, end, link, &field.name)
    }

    #[cold]
    fn broken_value(
        &self,
        wire_type: u8,
        at: usize,
        end: usize,
        link: &Link<'_>,
        name: &str,
    ) -> Stop {
        let problem = super::wire::value_problem(wire_type, &self.data[..end], at);
        fault(at, link, name, &problem.to_string())
    }

    #[cold]
    fn broken_tag(&self, at: usize, end: usize, link: &Link<'_>) -> Stop {
        let problem = super::wire::tag_problem(&self.data[..end], at);
        fault(at, link, "", &problem.to_string())
    }
}
