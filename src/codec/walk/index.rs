//! The way that is right for every order of fields: find them all, sort them by number, then write.
//!
//! A message given twice is decoded as if its pieces followed each other: a message is therefore
//! handed on as a list of spans. What is not shown (a scalar that is given again, a member of a oneof
//! that another one replaces, a map's entry whose key comes again) is still checked.

use std::ops::Range;

use super::{
    BYTES, GROUP_END, GROUP_START, Link, MESSAGE_LIMIT, Result, Walk, Writer, expect_packed, fault,
    wide,
};
use crate::codec::{
    notes::{Notes, Oddity},
    plan::{Bytes, Field, Form, Kind, Literal, Message},
};

/// A field as it was found. There may be one for every two bytes: all places are before [`MESSAGE_LIMIT`], and
/// none takes more room than that needs.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) number: u32,
    /// Where the value begins: a length stands before the bytes.
    at: u32,
    /// Where the next tag begins.
    next: u32,
    /// The content of bytes or of a group, without length and tags.
    content: (u32, u32),
    wire_type: u8,
    /// Another member of its oneof came later.
    pub(super) replaced: bool,
}

impl Found {
    /// Fails if the field's values are of another wire type.
    pub(super) fn expect(&self, field: &Field, link: &Link<'_>) -> Result<()> {
        if self.wire_type == field.wire_type {
            return Ok(());
        }
        expect_packed(field, self.wire_type, self.at(), link)
    }

    pub(super) const fn at(&self) -> usize {
        self.at as usize
    }

    pub(super) const fn next(&self) -> usize {
        self.next as usize
    }

    pub(super) const fn content(&self) -> Range<usize> {
        self.content.0 as usize..self.content.1 as usize
    }
}

/// A place in a message, of which [`MESSAGE_LIMIT`] says that it fits.
const fn place(at: usize) -> u32 {
    debug_assert!(at <= MESSAGE_LIMIT);
    at as u32
}

/// The key of a map's entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Int(i64),
    Uint(u64),
    Text(&'a [u8]),
}

impl<'w, W: Writer> Walk<'w, W> {
    /// All fields of a message whose bytes are in `spans`.
    pub(super) fn indexed(
        &mut self,
        message: &'w Message,
        spans: &[Range<usize>],
        link: &Link<'_>,
    ) -> Result<()> {
        let found = self.index(message, spans, link)?;
        let mut rest = &found[..];
        let mut absent = message.fields.iter().peekable();
        let mut known = false;
        while let Some(first) = rest.first() {
            let run = rest.iter().take_while(|one| one.number == first.number).count();
            let (run, after) = rest.split_at(run);
            rest = after;
            let Some(field) = message.field(first.number) else {
                self.note_unknown(run, link);
                continue;
            };
            known = true;
            while let Some(before) = absent.next_if(|before| before.number < field.number) {
                self.absent(before);
            }
            absent.next();
            let mark = self.out.mark();
            let elements = self.elements;
            if !self.run_of(field, run, link)? {
                self.out.rewind(mark);
                self.elements = elements;
                self.absent(field);
            }
        }
        for field in absent {
            self.absent(field);
        }
        note_missing(message, &found, self.notes, link);
        if !known && spans.iter().any(|span| !span.is_empty()) {
            self.notes.add(|| (link.path(""), Oddity::NothingKnown));
        }
        Ok(())
    }

    fn absent(&mut self, field: &Field) {
        if let Some(default) = &field.default {
            self.out.field(field);
            self.out.literal(default);
        }
    }

    /// All that was found of one field. False if that is as much as nothing.
    fn run_of(&mut self, field: &'w Field, run: &[Found], link: &Link<'_>) -> Result<bool> {
        if let Kind::Map(entry) = field.kind {
            for one in run {
                one.expect(field, link)?;
            }
            let entries: Vec<_> = run.iter().map(Found::content).collect();
            self.out.field(field);
            self.map(field, self.plan.message(entry), &entries, link)?;
            return Ok(true);
        }
        if field.repeated {
            self.out.field(field);
            let opened = self.out.open_list();
            let before = self.elements;
            for one in run {
                if one.wire_type == field.wire_type {
                    self.element(field, one.at(), link)?;
                    self.value(field, one.at(), one.next(), link)?;
                } else {
                    expect_packed(field, one.wire_type, one.at(), link)?;
                    self.packed(field, one.content(), link)?;
                }
            }
            self.out.close_list(opened);
            return Ok(self.elements > before);
        }
        for one in run {
            one.expect(field, link)?;
        }
        for one in run.iter().filter(|one| one.replaced) {
            self.check(field, one, link)?;
        }
        let shown: Vec<_> = run.iter().filter(|one| !one.replaced).collect();
        let Some((last, earlier)) = shown.split_last() else { return Ok(false) };
        if let Kind::Message(index) | Kind::Mac(index) | Kind::Group(index) = field.kind {
            let pieces: Vec<_> = shown.iter().map(|one| one.content()).collect();
            self.out.field(field);
            self.pieces(field, self.plan.message(index), &pieces, link)?;
            return Ok(true);
        }
        for one in earlier {
            self.check(field, one, link)?;
        }
        let value = self.data.len().min(last.next());
        if field.implicit && self.zero(field, last.at(), value).is_some() {
            return Ok(false);
        }
        self.out.field(field);
        self.value(field, last.at(), last.next(), link)?;
        Ok(true)
    }

    /// A message within another one, in one or more pieces.
    pub(super) fn pieces(
        &mut self,
        field: &'w Field,
        message: &'w Message,
        pieces: &[Range<usize>],
        link: &Link<'_>,
    ) -> Result<()> {
        let at = pieces.first().map_or(0, |piece| piece.start);
        let link = link.down(field, at)?;
        if message.form != Form::Object {
            return self.well_known(message, pieces, &link);
        }
        let opened = self.out.open_message();
        self.indexed(message, pieces, &link)?;
        self.out.close_message(opened);
        Ok(())
    }

    /// Finds the fields, sorted by number, those of one number in the order in which they stand.
    pub(super) fn index(
        &self,
        message: &Message,
        spans: &[Range<usize>],
        link: &Link<'_>,
    ) -> Result<Vec<Found>> {
        let mut found: Vec<Found> = Vec::new();
        // The member of each oneof that came last, and how many changes of mind there were.
        let mut chosen = vec![(0, 0_usize); message.oneofs as usize + 1];
        let mut turns = Vec::new();
        for span in spans {
            let mut at = span.start;
            while at < span.end {
                let Some((tag, value)) = wide::tag(self.data, at, span.end) else {
                    return Err(self.broken_tag(at, span.end, link));
                };
                let (number, wire_type) = (tag >> 3, (tag & 7) as u8);
                if wire_type == GROUP_END {
                    let reason = "a group ends that has not begun";
                    return Err(fault(at, link, "", reason));
                }
                let (next, content) = match wire_type {
                    GROUP_START => {
                        let group = self.group(number, value, span.end, link)?;
                        (group.next, (value, group.content_end))
                    }
                    BYTES => {
                        let next = self.skip(tag, value, span.end, link)?;
                        let (length, _) = wide::varint(self.data, value, next).unwrap_or_default();
                        (next, (next - length as usize, next))
                    }
                    _ => {
                        let next = self.skip(tag, value, span.end, link)?;
                        (next, (value, next))
                    }
                };
                let oneof = message.field(number).map_or(0, |field| field.oneof) as usize;
                let mut turn = 0;
                if oneof > 0 {
                    let (member, count) = &mut chosen[oneof];
                    *count += usize::from(*member != number);
                    *member = number;
                    turn = *count;
                }
                if oneof > 0 {
                    turns.push((found.len(), oneof, turn));
                }
                found.push(Found {
                    number,
                    at: place(value),
                    next: place(next),
                    content: (place(content.0), place(content.1)),
                    wire_type,
                    replaced: false,
                });
                at = next;
            }
        }
        for (index, oneof, turn) in turns {
            found[index].replaced = turn < chosen[oneof].1;
        }
        // They are in the order of their places, and no two have the same.
        found.sort_unstable_by_key(|one| (one.number, one.at));
        Ok(found)
    }

    /// Checks the wire type too.
    pub(super) fn checked(&self, field: &'w Field, found: &Found, link: &Link<'_>) -> Result<()> {
        found.expect(field, link)?;
        self.check(field, found, link)
    }

    /// Checks a value that is not shown.
    fn check(&self, field: &'w Field, found: &Found, link: &Link<'_>) -> Result<()> {
        let mut notes = Notes::default();
        let mut quiet = Walk {
            plan: self.plan,
            data: self.data,
            out: Nowhere,
            notes: &mut notes,
            elements: self.elements,
            by_index: true,
        };
        quiet.value(field, found.at(), found.next(), link).map(|_| ())
    }

    fn note_unknown(&mut self, run: &[Found], link: &Link<'_>) {
        for one in run {
            let value = &self.data[one.at()..one.next()];
            self.notes.add(|| (link.path(""), Oddity::field(one.number, one.wire_type, value)));
        }
    }

    /// The entries of a map that follow each other, the first one's tag already read: their spans, and
    /// where the last one ends.
    pub(super) fn run(
        &self,
        field: &Field,
        value: usize,
        end: usize,
        link: &Link<'_>,
    ) -> Result<(Vec<Range<usize>>, usize)> {
        let mut entries = vec![self.span(field, value, end, link)?];
        let mut next = entries[0].end;
        while let Some((found, value)) = wide::tag(self.data, next, end) {
            if found != field.tag() {
                break;
            }
            let entry = self.span(field, value, end, link)?;
            next = entry.end;
            entries.push(entry);
        }
        Ok((entries, next))
    }

    /// The value of a map. Of equal keys the last one counts.
    pub(super) fn map(
        &mut self,
        field: &'w Field,
        entry: &'w Message,
        spans: &[Range<usize>],
        link: &Link<'_>,
    ) -> Result<()> {
        let link = &link.down(field, spans.first().map_or(0, |span| span.start))?;
        let [key_field, value_field] = &*entry.fields else {
            return Err(fault(0, link, "", "a map's entry has a key and a value"));
        };
        let mut entries = Vec::with_capacity(spans.len());
        for span in spans {
            let found = self.index(entry, std::slice::from_ref(span), link)?;
            let keys = found.partition_point(|one| one.number <= 1);
            let values = keys + found[keys..].partition_point(|one| one.number <= 2);
            let mut key = None;
            for one in &found[..keys] {
                one.expect(key_field, link)?;
                self.check(key_field, one, link)?;
                key = Some(one);
            }
            for one in &found[keys..values] {
                one.expect(value_field, link)?;
            }
            let key = self.key(key_field, key);
            entries.push((key, found[keys..values].to_vec(), span.start));
        }
        entries.sort_by_key(|(key, ..)| *key);
        let opened = self.out.open_message();
        for (index, (key, values, at)) in entries.iter().enumerate() {
            if entries.get(index + 1).is_some_and(|(next, ..)| next == key) {
                for one in values {
                    self.check(value_field, one, link)?;
                }
                continue;
            }
            self.count(value_field, *at, link)?;
            self.out.name(&Self::key_text(key_field, *key));
            self.map_value(value_field, values, link)?;
        }
        self.out.close_message(opened);
        Ok(())
    }

    fn map_value(&mut self, field: &'w Field, values: &[Found], link: &Link<'_>) -> Result<()> {
        if let Kind::Message(index) | Kind::Mac(index) = field.kind {
            let pieces: Vec<_> = values.iter().map(Found::content).collect();
            return self.pieces(field, self.plan.message(index), &pieces, link);
        }
        let Some((last, earlier)) = values.split_last() else {
            self.zero_value(field);
            return Ok(());
        };
        for one in earlier {
            self.check(field, one, link)?;
        }
        self.value(field, last.at(), last.next(), link).map(|_| ())
    }

    /// What stands for a value that is not there but has to be shown.
    pub(super) fn zero_value(&mut self, field: &Field) {
        match field.kind {
            Kind::Bool => self.out.bool(false),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => self.out.int32(0),
            Kind::Uint32 | Kind::Fixed32 => self.out.uint32(0),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => self.out.int64(0),
            Kind::Uint64 | Kind::Fixed64 => self.out.uint64(0),
            Kind::Float => self.out.float(0.0),
            Kind::Double => self.out.double(0.0),
            Kind::String | Kind::LooseString => self.out.string(&[], 0..0).unwrap_or(()),
            Kind::Bytes(shown) => self.out.bytes(shown, &[]),
            Kind::Enum(index) => match self.plan.enumeration(index).first() {
                Some(name) => self.out.literal(name),
                None => self.out.int32(0),
            },
            Kind::Message(_) | Kind::Mac(_) | Kind::Group(_) | Kind::Map(_) => {
                let opened = self.out.open_message();
                self.out.close_message(opened);
            }
        }
    }

    /// A key that has been checked.
    fn key(&self, field: &Field, found: Option<&Found>) -> Key<'w> {
        let number = found.and_then(|one| wide::varint(self.data, one.at(), one.next()));
        let number = number.map_or(0, |(number, _)| number);
        let fixed32 = found.and_then(|one| wide::fixed(self.data, one.at(), one.next()));
        let fixed32 = u32::from_le_bytes(fixed32.map_or([0; 4], |(bytes, _)| bytes));
        let fixed64 = found.and_then(|one| wide::fixed(self.data, one.at(), one.next()));
        let fixed64 = u64::from_le_bytes(fixed64.map_or([0; 8], |(bytes, _)| bytes));
        let halves = |number: u64| (number >> 1) as i64 ^ -((number & 1) as i64);
        match field.kind {
            Kind::Bool => Key::Uint(u64::from(number != 0)),
            Kind::Int32 => Key::Int(i64::from(number as i32)),
            Kind::Int64 => Key::Int(number as i64),
            Kind::Uint32 => Key::Uint(u64::from(number as u32)),
            Kind::Uint64 => Key::Uint(number),
            Kind::Sint32 => Key::Int(halves(u64::from(number as u32))),
            Kind::Sint64 => Key::Int(halves(number)),
            Kind::Fixed32 => Key::Uint(u64::from(fixed32)),
            Kind::Fixed64 => Key::Uint(fixed64),
            Kind::Sfixed32 => Key::Int(i64::from(fixed32 as i32)),
            Kind::Sfixed64 => Key::Int(fixed64 as i64),
            // No other kind can be a key.
            _ => Key::Text(found.map_or(&[], |one| &self.data[one.content()])),
        }
    }

    fn key_text(field: &Field, key: Key<'_>) -> String {
        match key {
            Key::Uint(value) if field.kind == Kind::Bool => (value != 0).to_string(),
            Key::Uint(value) => value.to_string(),
            Key::Int(value) => value.to_string(),
            // It has been checked.
            Key::Text(text) => String::from_utf8_lossy(text).into_owned(),
        }
    }
}

/// Says which required fields are not among those that were found.
pub(super) fn note_missing(message: &Message, found: &[Found], notes: &mut Notes, link: &Link<'_>) {
    let there = |number| found.binary_search_by_key(&number, |one| one.number).is_ok();
    let required = message.fields.iter().filter(|field| field.required);
    for field in required.filter(|field| !there(field.number)) {
        notes.add(|| (link.path(&field.name), Oddity::MissingRequired));
    }
}

/// Where the values go that are checked but not shown.
pub(super) struct Nowhere;

impl Writer for Nowhere {
    type Mark = ();

    const SHOWN: bool = false;

    fn mark(&self) {}
    fn rewind(&mut self, (): ()) {}
    fn field(&mut self, _: &Field) {}
    fn name(&mut self, _: &str) {}
    fn element(&mut self) {}
    fn open_message(&mut self) {}
    fn close_message(&mut self, (): ()) {}
    fn open_list(&mut self) {}
    fn close_list(&mut self, (): ()) {}
    fn null(&mut self) {}
    fn bool(&mut self, _: bool) {}
    fn int32(&mut self, _: i32) {}
    fn uint32(&mut self, _: u32) {}
    fn int64(&mut self, _: i64) {}
    fn uint64(&mut self, _: u64) {}
    fn float(&mut self, _: f32) {}
    fn double(&mut self, _: f64) {}
    fn string(&mut self, data: &[u8], span: Range<usize>) -> Result<(), usize> {
        let from = span.start;
        str::from_utf8(&data[span]).map(|_| ()).map_err(|error| from + error.valid_up_to())
    }
    fn not_utf8(&mut self, _: &[u8]) {}
    fn bytes(&mut self, _: Bytes, _: &[u8]) {}
    fn literal(&mut self, _: &Literal) {}
    fn mac(&mut self, _: &Field, _: [u8; 6]) {}
}
