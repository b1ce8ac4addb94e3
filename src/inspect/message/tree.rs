//! The fields of a message in the order of its bytes, named by the schema where that knows them.
//!
//! Nothing here believes the bytes: what breaks is shown where it breaks, with the rest of that message,
//! and what stands behind it goes on. What the schema does not know is shown as text or as a message if
//! it looks like one.

use std::ops::Range;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde::Serialize;

use crate::{
    codec::{
        bytes::Meaning,
        walk::DEPTH_LIMIT,
        wire::{self, Value},
    },
    plain::unobeyed,
};

/// Longer values are cut in a line: the bytes beside it say the rest.
const VALUE_LENGTH: usize = 240;

/// So many numbers of a packed list are shown.
const PACKED_SHOWN: usize = 32;

/// A field, or bytes that are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Where it begins in the frame.
    pub offset: usize,
    /// How many bytes it is about: tag, length and value, without what has lines of its own.
    pub bytes: usize,
    /// In how many messages it is.
    pub depth: usize,
    /// The field number; None for what is no field.
    pub number: Option<u32>,
    /// The field's name; None if the schema does not know it.
    pub name: Option<String>,
    /// The number of the wire type.
    pub wire_type: Option<u8>,
    /// The length that stands in front of the value, if one does.
    pub length: Option<usize>,
    /// What it says, or what is wrong.
    pub value: String,
    /// What is thought of it.
    pub standing: Standing,
}

/// What is thought of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The schema has it.
    Known,
    /// The schema does not, and what it says is a guess.
    Unknown,
    /// It is not what protobuf or the schema allow.
    Broken,
}

impl Line {
    /// The line without its bytes, indented by its depth. It is safe to show.
    pub fn text(&self) -> String {
        const WIRE_TYPES: [&str; 6] = ["VARINT", "I64", "LEN", "SGROUP", "EGROUP", "I32"];

        let mut text = "  ".repeat(self.depth);
        if let Some(number) = self.number {
            text.push_str(&format!("{number} {}", self.name.as_deref().unwrap_or("?")));
        }
        if let Some(name) = self.wire_type.and_then(|of| WIRE_TYPES.get(usize::from(of))) {
            text.push_str(&format!(" {name}"));
        }
        if let Some(length) = self.length {
            text.push_str(&format!(" {length}"));
        }
        let between = match (self.standing, self.number) {
            (Standing::Broken, None) => "! ",
            (Standing::Broken, Some(_)) => "  ! ",
            _ if self.value.is_empty() => "",
            _ => "  ",
        };
        one_line(&(text + between + &self.value))
    }
}

/// What a terminal would obey, and the end of a line, as escapes.
pub(super) fn one_line(text: &str) -> String {
    let shown = unobeyed(text, |character| character.escape_default().to_string());
    shown.replace('\n', "\\n")
}

/// Takes a message apart, in at most so many lines, and says how many bytes at its end have none.
pub(super) fn lines(
    data: &[u8],
    of: Option<&MessageDescriptor>,
    limit: usize,
) -> (Vec<Line>, usize) {
    let mut tree = Tree { data, limit, lines: Vec::new(), told: 0 };
    tree.message(of, 0..data.len(), 0);
    (tree.lines, data.len() - tree.told)
}

struct Tree<'a> {
    data: &'a [u8],
    limit: usize,
    lines: Vec<Line>,
    /// Up to here all bytes have a line.
    told: usize,
}

/// A group that has begun.
struct Group {
    number: u32,
    of: Option<MessageDescriptor>,
}

impl Tree<'_> {
    fn message(&mut self, of: Option<&MessageDescriptor>, span: Range<usize>, depth: usize) {
        let data = &self.data[span.clone()];
        let mut groups: Vec<Group> = Vec::new();
        let mut done = span.start;
        for field in wire::fields(data) {
            if self.lines.len() >= self.limit {
                return;
            }
            let inner = depth + groups.len();
            let field = match field {
                Ok(field) => field,
                Err(error) => {
                    let at = span.start + error.offset;
                    let reason = format!("at byte {at}: {}", error.problem);
                    self.broken(done..span.end, inner, reason);
                    return;
                }
            };
            let of = groups.last().map_or(of, |group| group.of.as_ref());
            let known = of.and_then(|of| of.get_field(field.number));
            let value_at = span.start + field.value_offset;
            let end = value_at + size(field.value, &self.data[value_at..span.end]);
            let line = Line {
                offset: done,
                bytes: end - done,
                depth: inner,
                number: Some(field.number),
                name: known.as_ref().map(|known| known.name().to_owned()),
                wire_type: Some(field.value.wire_type()),
                length: None,
                value: String::new(),
                standing: if known.is_some() { Standing::Known } else { Standing::Unknown },
            };
            match field.value {
                Value::GroupStart if inner + 1 >= DEPTH_LIMIT as usize => {
                    self.broken(done..span.end, inner, too_deep(done));
                    return;
                }
                Value::GroupStart => {
                    let of = known.as_ref().filter(|known| known.is_group());
                    let of = of.and_then(|known| known.kind().as_message().cloned());
                    let value = of.as_ref().map(|of| of.full_name().to_owned());
                    let line = match known {
                        Some(known) if of.is_none() => wrong(&known, 3, line),
                        _ => Line { value: value.unwrap_or_default(), ..line },
                    };
                    groups.push(Group { number: field.number, of });
                    self.put(line);
                }
                Value::GroupEnd => match groups.pop() {
                    Some(group) if group.number == field.number => {
                        let depth = depth + groups.len();
                        self.put(Line { depth, standing: Standing::Known, ..line });
                    }
                    _ => {
                        let reason = format!("at byte {done}: a group ends that has not begun");
                        self.broken(done..span.end, inner, reason);
                        return;
                    }
                },
                Value::Bytes(content) => {
                    let line = Line { length: Some(content.len()), ..line };
                    self.content(known.as_ref(), content, value_at..end, line);
                }
                value => self.put(scalar(known.as_ref(), value, line)),
            }
            done = end;
        }
        if !groups.is_empty() {
            let reason = format!("at byte {}: the data ends inside a group", span.end);
            self.broken(span.end..span.end, depth + groups.len(), reason);
        }
    }

    /// What stands behind a length.
    fn content(
        &mut self,
        known: Option<&FieldDescriptor>,
        content: &[u8],
        span: Range<usize>,
        line: Line,
    ) {
        let value = match known.map(|known| (known, known.kind())) {
            Some((known, Kind::Message(of))) if !known.is_group() => {
                return self.nested(Some(&of), of.full_name().to_owned(), span, line);
            }
            Some((_, Kind::String)) => string(content),
            Some((known, Kind::Bytes)) if Meaning::of(known) != Meaning::Opaque => {
                shortened(&Meaning::of(known).text(content))
            }
            None | Some((_, Kind::Bytes)) if is_text(content) => string(content),
            None | Some((_, Kind::Bytes)) if is_message(content) => {
                return self.nested(None, "a message, it seems".to_owned(), span, line);
            }
            None | Some((_, Kind::Bytes)) => String::new(),
            Some((known, kind)) => match packed(&kind, content).filter(|_| known.is_list()) {
                Some(value) => value,
                None => return self.put(wrong(known, 2, line)),
            },
        };
        self.put(Line { value, ..line });
    }

    fn nested(
        &mut self,
        of: Option<&MessageDescriptor>,
        value: String,
        span: Range<usize>,
        line: Line,
    ) {
        let (depth, bytes) = (line.depth + 1, span.start - line.offset);
        if depth >= DEPTH_LIMIT as usize {
            let value = too_deep(line.offset);
            return self.put(Line { value, standing: Standing::Broken, ..line });
        }
        self.put(Line { bytes, value, ..line });
        self.message(of, span, depth);
    }

    fn put(&mut self, line: Line) {
        self.told = line.offset + line.bytes;
        self.lines.push(line);
    }

    fn broken(&mut self, span: Range<usize>, depth: usize, value: String) {
        self.put(Line {
            offset: span.start,
            bytes: span.len(),
            depth,
            number: None,
            name: None,
            wire_type: None,
            length: None,
            value,
            standing: Standing::Broken,
        });
    }
}

fn too_deep(at: usize) -> String {
    format!("at byte {at}: messages are nested more than {DEPTH_LIMIT} deep")
}

/// How many bytes a value has that begins there, without the length before it.
fn size(value: Value<'_>, from: &[u8]) -> usize {
    match value {
        Value::Varint(_) => from.iter().take_while(|byte| **byte >= 0x80).count() + 1,
        Value::Fixed64(_) => 8,
        Value::Bytes(content) => content.len(),
        Value::GroupStart | Value::GroupEnd => 0,
        Value::Fixed32(_) => 4,
    }
}

fn scalar(known: Option<&FieldDescriptor>, value: Value<'_>, line: Line) -> Line {
    let Some(known) = known else {
        return Line { value: unknown_scalar(value), ..line };
    };
    match number(&known.kind(), value) {
        Some((value, standing)) => Line { value, standing, ..line },
        None => wrong(known, value.wire_type(), line),
    }
}

/// What a field says that the schema does not have, from behind its tag on.
pub(in crate::inspect) fn unknown_value(wire_type: u8, value: &[u8]) -> String {
    let field = [&[8 | wire_type][..], value].concat();
    match wire::fields(&field).next() {
        Some(Ok(wire::Field { value: Value::Bytes(content), .. })) => unknown_bytes(content),
        Some(Ok(wire::Field { value: Value::GroupStart, .. }) | Err(_)) | None => {
            unknown_bytes(value)
        }
        Some(Ok(field)) => unknown_scalar(field.value),
    }
}

/// How bytes begin of which nothing is known.
pub(in crate::inspect) fn unknown_bytes(content: &[u8]) -> String {
    const SHOWN: usize = 24;

    if is_text(content) {
        return string(content);
    }
    let hex: Vec<_> = content.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    let more = match content.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    hex.join(" ") + &more
}

fn unknown_scalar(value: Value<'_>) -> String {
    match value {
        Value::Fixed32(bits) => format!("{bits}, or {:?}", f32::from_bits(bits)),
        Value::Fixed64(bits) => format!("{bits}, or {:?}", f64::from_bits(bits)),
        Value::Varint(number) => number.to_string(),
        Value::Bytes(_) | Value::GroupStart | Value::GroupEnd => String::new(),
    }
}

fn wrong(known: &FieldDescriptor, found: u8, line: Line) -> Line {
    let expected = if known.is_group() { 3 } else { known.kind().wire_type() as u8 };
    let value = format!("expected wire type {expected}, found {found}");
    Line { value, standing: Standing::Broken, ..line }
}

/// What a number says as that kind, and whether the schema has a word for it; None if it is of another
/// wire type.
fn number(kind: &Kind, value: Value<'_>) -> Option<(String, Standing)> {
    let text = match (kind, value) {
        (Kind::Enum(of), Value::Varint(number)) => {
            let number = number as i32;
            return Some(match of.get_value(number) {
                Some(value) => (format!("{} ({number})", value.name()), Standing::Known),
                None => (format!("{number} (no name)"), Standing::Unknown),
            });
        }
        (Kind::Bool, Value::Varint(number)) => (number != 0).to_string(),
        (Kind::Int32, Value::Varint(number)) => (number as i32).to_string(),
        (Kind::Int64, Value::Varint(number)) => number.cast_signed().to_string(),
        (Kind::Uint32, Value::Varint(number)) => (number as u32).to_string(),
        (Kind::Uint64, Value::Varint(number)) => number.to_string(),
        (Kind::Sint32, Value::Varint(number)) => {
            let number = number as u32;
            ((number >> 1).cast_signed() ^ -((number & 1).cast_signed())).to_string()
        }
        (Kind::Sint64, Value::Varint(number)) => {
            ((number >> 1).cast_signed() ^ -((number & 1).cast_signed())).to_string()
        }
        (Kind::Fixed32, Value::Fixed32(bits)) => bits.to_string(),
        (Kind::Sfixed32, Value::Fixed32(bits)) => bits.cast_signed().to_string(),
        (Kind::Float, Value::Fixed32(bits)) => format!("{:?}", f32::from_bits(bits)),
        (Kind::Fixed64, Value::Fixed64(bits)) => bits.to_string(),
        (Kind::Sfixed64, Value::Fixed64(bits)) => bits.cast_signed().to_string(),
        (Kind::Double, Value::Fixed64(bits)) => format!("{:?}", f64::from_bits(bits)),
        _ => return None,
    };
    Some((text, Standing::Known))
}

/// The numbers behind one tag; None if the kind is none that is packed, or they break off.
fn packed(kind: &Kind, content: &[u8]) -> Option<String> {
    let wire_type = kind.wire_type() as u8;
    if wire_type == 2 {
        return None;
    }
    let (mut shown, mut count, mut rest) = (Vec::new(), 0, content);
    while !rest.is_empty() {
        // Each is read as if it stood behind a tag of its own: field 1.
        let step = match wire_type {
            1 => 8,
            5 => 4,
            _ => rest.iter().take(10).position(|byte| *byte < 0x80)? + 1,
        };
        if shown.len() < PACKED_SHOWN {
            let field = [&[8 | wire_type][..], rest.get(..step)?].concat();
            let value = wire::fields(&field).next()?.ok()?.value;
            shown.push(number(kind, value)?.0);
        }
        count += 1;
        rest = rest.get(step..)?;
    }
    let more = match count - shown.len() {
        0 => String::new(),
        more => format!(", {more} more"),
    };
    Some(format!("[{}{more}]", shown.join(", ")))
}

/// In quotes; what is not UTF-8 or cannot be seen as escapes.
fn string(content: &[u8]) -> String {
    let cut = &content[..content.len().min(VALUE_LENGTH)];
    let text: String = cut
        .utf8_chunks()
        .map(|chunk| {
            let invalid = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}"));
            chunk.valid().escape_debug().chain(invalid.collect::<String>().chars()).collect()
        })
        .collect::<Vec<String>>()
        .concat();
    let more = if cut.len() < content.len() { "..." } else { "" };
    format!("\"{text}\"{more}")
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(VALUE_LENGTH) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// Text that somebody wrote: not empty, and nothing in it that is not seen.
fn is_text(content: &[u8]) -> bool {
    let cut = &content[..content.len().min(4 * VALUE_LENGTH)];
    let is_seen = |text: &str| !text.chars().any(char::is_control);
    match str::from_utf8(cut) {
        Ok(text) => !text.is_empty() && is_seen(text),
        Err(error) if error.error_len().is_none() && cut.len() < content.len() => {
            is_seen(str::from_utf8(&cut[..error.valid_up_to()]).unwrap_or_default())
        }
        Err(_) => false,
    }
}

/// All of it is fields, with groups that end.
fn is_message(content: &[u8]) -> bool {
    let mut groups = 0_usize;
    for field in wire::fields(content) {
        match field.map(|field| field.value) {
            Ok(Value::GroupStart) => groups += 1,
            Ok(Value::GroupEnd) => match groups.checked_sub(1) {
                Some(left) => groups = left,
                None => return false,
            },
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    groups == 0 && !content.is_empty()
}
