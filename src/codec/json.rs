//! What a walk writes as JSON, straight into a buffer.
//!
//! Every field and every element begins with a comma; the first comma is turned into the opening
//! bracket when the closing one is written. Spelling as in ProtoJSON, except where the [`Style`] says
//! otherwise. Source of the rules: <https://protobuf.dev/programming-guides/json/>.

use std::ops::Range;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    Fault,
    bytes::{self, HEX_PAIRS, Meaning},
    notes::{Note, Notes, Oddity},
    plan::{Bytes, Field, Int64Style, Literal, Plan, Style},
    text,
    walk::{self, Writer},
};

pub use super::text::Text;

/// How many bytes the JSON of one message may have. The names of fields, of which a schema decides how long
/// they are, and characters that are escaped make much of a small message. There is room for the largest
/// message in base64.
pub const JSON_LIMIT: usize = 96 * 1024 * 1024;

/// Appends the message as a JSON object, or as whatever its type is spelled. On a fault nothing is
/// appended. What the schema does not know is in `notes`.
pub fn write(plan: &Plan, data: &[u8], text: &mut Text, notes: &mut Notes) -> Result<(), Fault> {
    bounded(text, |text| walk::walk_value(plan, data, Json::new(text, plan.style()), notes))
}

/// Appends the fields of the message, each with a comma before it: part of a larger object. On a fault
/// nothing is appended.
pub fn write_fields(
    plan: &Plan,
    data: &[u8],
    text: &mut Text,
    notes: &mut Notes,
) -> Result<(), Fault> {
    bounded(text, |text| walk::walk(plan, data, Json::new(text, plan.style()), notes))
}

fn bounded(
    text: &mut Text,
    walk: impl FnOnce(&mut Text) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let opened = text.len();
    text.begin(JSON_LIMIT);
    let walked = walk(text);
    let walked = if text.end() {
        let reason = format!("its JSON would have more than {JSON_LIMIT} bytes");
        Err(Fault::new(0, String::new(), reason))
    } else {
        walked
    };
    walked.inspect_err(|_| text.truncate(opened))
}

/// Appends the notes as a list of objects.
pub fn write_notes(notes: &[Note], text: &mut Text) {
    let mut json = Json::new(text, Style::default());
    let list = json.open_list();
    for Note { path, what } in notes {
        json.element();
        let opened = json.open_message();
        json.pair("path", path);
        match what {
            Oddity::Field { number, wire_type, value } => {
                json.pair("what", "unknown field");
                json.name("number");
                json.uint32(*number);
                json.name("wire_type");
                json.uint32((*wire_type).into());
                json.name("value");
                json.bytes(Bytes::Base64, value);
            }
            Oddity::EnumNumber { number } => {
                json.pair("what", "unknown enum number");
                json.name("number");
                json.int32(*number);
            }
            Oddity::MissingRequired => json.pair("what", "missing required field"),
            Oddity::NothingKnown => json.pair("what", "nothing known"),
            Oddity::NotUtf8 => json.pair("what", "not UTF-8"),
            Oddity::UnknownType { url } => {
                json.pair("what", "unknown type");
                json.pair("url", url);
            }
        }
        json.close_message(opened);
    }
    json.close_list(list);
}

/// Appends a string with its quotes.
pub fn write_string(string: &str, text: &mut Text) {
    Json::new(text, Style::default()).escaped(string);
}

/// Appends bytes as base64 with its quotes.
pub fn write_base64(data: &[u8], text: &mut Text) {
    Json::new(text, Style::default()).base64(data);
}

/// Writes JSON into a text.
pub(super) struct Json<'t> {
    text: &'t mut Text,
    /// Whether 64-bit integers have quotes.
    quoted: bool,
}

impl<'t> Json<'t> {
    pub(super) fn new(text: &'t mut Text, style: Style) -> Self {
        Self { text, quoted: style.int64 == Int64Style::String }
    }

    fn pair(&mut self, name: &str, value: &str) {
        self.name(name);
        self.escaped(value);
    }

    #[inline(always)]
    fn text(
        &mut self,
        field: Option<&Field>,
        data: &[u8],
        span: Range<usize>,
    ) -> Result<(), usize> {
        let len = span.len();
        if len <= 16
            && let Some(block) = data[span.start..].first_chunk::<16>()
            && is_plain_block(block, len)
        {
            self.text.string::<16>(field.map(|field| &field.key), block, len);
            return Ok(());
        }
        self.long_text(field, data, span)
    }

    /// A string of any length and content. It is copied by blocks while it is looked at.
    #[inline(never)]
    fn long_text(
        &mut self,
        field: Option<&Field>,
        data: &[u8],
        span: Range<usize>,
    ) -> Result<(), usize> {
        if let Some(field) = field {
            self.literal(&field.key);
        }
        let string = &data[span.clone()];
        // The last block may reach into what follows the string.
        let blocks = data[span.start..].get(..string.len().next_multiple_of(16)).unwrap_or(string);
        if let (blocks, []) = blocks.as_chunks()
            && let Some((last, others)) = blocks.split_last()
            && is_plain_block(last, string.len() - 16 * others.len())
            && others.iter().all(|block| is_plain_block(block, 16))
        {
            self.text.quoted(blocks, string.len());
            return Ok(());
        } else if is_plain(string) {
            self.plain(string);
            return Ok(());
        }
        match str::from_utf8(string) {
            Ok(string) => {
                self.escaped(string);
                Ok(())
            }
            Err(error) => Err(span.start + error.valid_up_to()),
        }
    }

    /// A string of any content, quotes and escapes included.
    #[cold]
    fn escaped(&mut self, string: &str) {
        self.text.byte(b'"');
        let mut rest = string.as_bytes();
        while let Some(at) =
            rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\')
        {
            self.text.extend(&rest[..at]);
            match rest[at] {
                byte @ (b'"' | b'\\') => self.text.block(&[b'\\', byte], 2),
                0x08 => self.text.block(br"\b", 2),
                0x0c => self.text.block(br"\f", 2),
                b'\n' => self.text.block(br"\n", 2),
                b'\r' => self.text.block(br"\r", 2),
                b'\t' => self.text.block(br"\t", 2),
                byte => {
                    self.text.extend(br"\u00");
                    self.text.block(&HEX_PAIRS[usize::from(byte)], 2);
                }
            }
            rest = &rest[at + 1..];
        }
        self.text.extend(rest);
        self.text.byte(b'"');
    }

    /// Bytes that need no escape, with quotes.
    #[inline(always)]
    fn plain(&mut self, text: &[u8]) {
        self.text.byte(b'"');
        self.text.extend(text);
        self.text.byte(b'"');
    }

    /// Whether the number is one that JSON has; if not, it is written as ProtoJSON does.
    #[inline(always)]
    fn is_finite(&mut self, number: f64) -> bool {
        if number.is_finite() {
            return true;
        }
        let name = if number.is_nan() {
            "\"NaN\""
        } else if number > 0.0 {
            "\"Infinity\""
        } else {
            "\"-Infinity\""
        };
        self.text.extend(name.as_bytes());
        false
    }
}

impl Writer for Json<'_> {
    type Mark = usize;

    #[inline(always)]
    fn mark(&self) -> usize {
        self.text.len()
    }

    fn rewind(&mut self, to: usize) {
        self.text.truncate(to);
    }

    #[inline(always)]
    fn field(&mut self, field: &Field) {
        self.literal(&field.key);
    }

    fn name(&mut self, name: &str) {
        self.text.byte(b',');
        self.escaped(name);
        self.text.byte(b':');
    }

    #[inline(always)]
    fn element(&mut self) {
        self.text.byte(b',');
    }

    #[inline(always)]
    fn open_message(&mut self) -> usize {
        self.text.len()
    }

    #[inline(always)]
    fn close_message(&mut self, opened: usize) {
        self.text.close(opened, *b"{}");
    }

    #[inline(always)]
    fn open_list(&mut self) -> usize {
        self.text.len()
    }

    #[inline(always)]
    fn close_list(&mut self, opened: usize) {
        self.text.close(opened, *b"[]");
    }

    fn null(&mut self) {
        self.text.block(b"null", 4);
    }

    #[inline(always)]
    fn bool(&mut self, value: bool) {
        if value {
            self.text.block(b"true", 4);
        } else {
            self.text.block(b"false", 5);
        }
    }

    #[inline(always)]
    fn int32(&mut self, value: i32) {
        self.text.integer(None, false, value < 0, value.unsigned_abs().into());
    }

    #[inline(always)]
    fn uint32(&mut self, value: u32) {
        self.text.natural(None, false, value.into());
    }

    #[inline(always)]
    fn int64(&mut self, value: i64) {
        self.text.integer(None, self.quoted, value < 0, value.unsigned_abs());
    }

    #[inline(always)]
    fn uint64(&mut self, value: u64) {
        self.text.natural(None, self.quoted, value);
    }

    fn float(&mut self, value: f32) {
        if self.is_finite(value.into()) {
            self.text.extend(zmij::Buffer::new().format_finite(value).as_bytes());
        }
    }

    fn double(&mut self, value: f64) {
        if self.is_finite(value) {
            self.text.extend(zmij::Buffer::new().format_finite(value).as_bytes());
        }
    }

    #[inline(always)]
    fn string(&mut self, data: &[u8], span: Range<usize>) -> Result<(), usize> {
        self.text(None, data, span)
    }

    fn not_utf8(&mut self, data: &[u8]) {
        let opened = self.open_message();
        self.name("@base64");
        self.bytes(Bytes::Base64, data);
        self.close_message(opened);
    }

    #[inline(always)]
    fn bytes(&mut self, shown: Bytes, data: &[u8]) {
        match shown {
            Bytes::Mac if self.text.mac(data) => {}
            Bytes::Ip => match *data {
                [a, b, c, d] => self.text.dotted([a, b, c, d]),
                _ => match data.try_into() {
                    Ok(octets) => self.ipv6(octets),
                    Err(_) => self.base64(data),
                },
            },
            Bytes::Essid if is_plain(data) && !data.contains(&0x7f) => self.plain(data),
            Bytes::Essid => self.escaped(&Meaning::Essid.text(data)),
            Bytes::Mac | Bytes::Base64 => self.base64(data),
            Bytes::Hex => self.plain(bytes::hex(data).as_bytes()),
        }
    }

    #[inline(always)]
    fn literal(&mut self, literal: &Literal) {
        self.text.literal(literal);
    }

    #[inline(always)]
    fn mac(&mut self, field: &Field, address: [u8; 6]) {
        let opened = self.text.len();
        self.field(field);
        self.text.mac(&address);
        self.close_message(opened);
    }

    #[inline(always)]
    fn field_bool(&mut self, field: &Field, value: bool) {
        let (word, len) = if value { (b"true\0", 4) } else { (b"false", 5) };
        self.text.word(&field.key, word, len);
    }

    #[inline(always)]
    fn field_int32(&mut self, field: &Field, value: i32) {
        self.text.integer(Some(&field.key), false, value < 0, value.unsigned_abs().into());
    }

    #[inline(always)]
    fn field_uint32(&mut self, field: &Field, value: u32) {
        self.text.natural(Some(&field.key), false, value.into());
    }

    #[inline(always)]
    fn field_int64(&mut self, field: &Field, value: i64) {
        self.text.integer(Some(&field.key), self.quoted, value < 0, value.unsigned_abs());
    }

    #[inline(always)]
    fn field_uint64(&mut self, field: &Field, value: u64) {
        self.text.natural(Some(&field.key), self.quoted, value);
    }

    #[inline(always)]
    fn field_string(
        &mut self,
        field: &Field,
        data: &[u8],
        span: Range<usize>,
    ) -> Result<(), usize> {
        let len = span.len();
        if len <= 32
            && let Some(block) = data[span.start..].first_chunk::<32>()
            && let ([first, second], _) = block.as_chunks()
            && is_plain_block(first, len.min(16))
            && is_plain_block(second, len.saturating_sub(16))
        {
            self.text.string(Some(&field.key), block, len);
            return Ok(());
        }
        self.long_text(Some(field), data, span)
    }

    #[inline(always)]
    fn field_short_string(&mut self, field: &Field, block: &[u8; 16], len: usize) -> bool {
        let is_plain = is_plain_block(block, len);
        if is_plain {
            self.text.string(Some(&field.key), block, len);
        }
        is_plain
    }

    #[inline(always)]
    fn field_literal(&mut self, field: &Field, literal: &Literal) {
        self.text.literals(&field.key, literal);
    }

    #[inline(always)]
    fn field_mac(&mut self, field: &Field, addr: &Field, data: &[u8]) {
        if !self.text.object_of_mac(&field.key, &addr.key, data) {
            self.field(field);
            let opened = self.open_message();
            self.field(addr);
            self.base64(data);
            self.close_message(opened);
        }
    }
}

impl Json<'_> {
    fn base64(&mut self, data: &[u8]) {
        self.text.byte(b'"');
        let room = self.text.zeros(data.len().div_ceil(3) * 4);
        let encoded = STANDARD.encode_slice(data, room);
        debug_assert_eq!(encoded, Ok(data.len().div_ceil(3) * 4));
        self.text.byte(b'"');
    }
}

impl Json<'_> {
    /// As RFC 5952 has it: no zeros before digits, and the first of the longest runs of zero groups
    /// left out.
    fn ipv6(&mut self, octets: [u8; 16]) {
        // An IPv4 address in disguise shows it.
        if octets[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff] {
            self.plain(Meaning::Ip.text(&octets).as_bytes());
            return;
        }
        let mut groups = [0; 8];
        let mut run = 0;
        let mut left_out = 0..0;
        for (index, (group, pair)) in groups.iter_mut().zip(octets.as_chunks().0).enumerate() {
            *group = u16::from_be_bytes(*pair);
            run = if *group == 0 { run + 1 } else { 0 };
            if run > left_out.len().max(1) {
                left_out = index + 1 - run..index + 1;
            }
        }
        self.text.groups(groups, left_out);
    }
}

/// Whether all bytes are ASCII and stand for themselves. Blocks of sixteen, the last one overlapping
/// the one before it.
#[inline(always)]
fn is_plain(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk::<16>() else {
        return text.iter().all(|&byte| text::is_plain(byte));
    };
    let (blocks, _) = text.as_chunks::<16>();
    blocks.iter().chain([last]).all(|block| is_plain_block(block, 16))
}

/// Whether the first `len` of sixteen bytes are ASCII and stand for themselves.
#[inline(always)]
fn is_plain_block(block: &[u8; 16], len: usize) -> bool {
    text::first_special(block) >= len
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(write: impl FnOnce(&mut Json<'_>)) -> String {
        let mut text = Text::default();
        write(&mut Json::new(&mut text, Style::default()));
        String::from_utf8(text.as_bytes().to_vec()).unwrap()
    }

    proptest! {
        #[test]
        fn integers_are_spelled_as_rust_does(value: u64, shift in 0_u32..64) {
            let value = value >> shift;
            prop_assert_eq!(json(|json| json.text.integer(None, false, false, value)), value.to_string());
            let value = value as i64;
            prop_assert_eq!(json(|json| json.int64(value)), format!("\"{value}\""));
            let value = value as i32;
            prop_assert_eq!(json(|json| json.int32(value)), value.to_string());
        }

        #[test]
        fn strings_are_spelled_as_serde_does(
            text in "(\\PC|[ -~]|[\\x00-\\x24\\x5b-\\x5d\\x7f]){0,40}", after in "\\PC{0,20}",
        ) {
            let data = [text.as_bytes(), after.as_bytes()].concat();
            let shown = json(|json| json.string(&data, 0..text.len()).unwrap());
            prop_assert_eq!(shown, serde_json::to_string(&text).unwrap());
        }

        #[test]
        fn addresses_are_spelled_as_rust_does(groups: [u16; 8], zeros: u8, short: u8, v4: [u8; 4]) {
            let mut groups = groups;
            for (index, group) in groups.iter_mut().enumerate() {
                *group = if zeros >> index & 1 == 1 { 0 } else { *group };
                *group = if short >> index & 1 == 1 { *group >> 9 } else { *group };
            }
            let address = std::net::Ipv6Addr::from(groups);
            let shown = json(|json| json.bytes(Bytes::Ip, &address.octets()));
            prop_assert_eq!(shown, format!("\"{address}\""));
            let address = std::net::Ipv6Addr::from([0, 0, 0, 0, 0, 0xffff, groups[6], groups[7]]);
            let shown = json(|json| json.bytes(Bytes::Ip, &address.octets()));
            prop_assert_eq!(shown, format!("\"{address}\""));
            let address = std::net::Ipv4Addr::from(v4);
            let shown = json(|json| json.bytes(Bytes::Ip, &address.octets()));
            prop_assert_eq!(shown, format!("\"{address}\""));
        }

        #[test]
        fn floats_are_spelled_as_serde_does(bits: u32, wide: u64) {
            let (float, double) = (f32::from_bits(bits), f64::from_bits(wide));
            if float.is_finite() {
                prop_assert_eq!(json(|json| json.float(float)), serde_json::to_string(&float).unwrap());
            }
            if double.is_finite() {
                prop_assert_eq!(json(|json| json.double(double)), serde_json::to_string(&double).unwrap());
            }
        }
    }

    #[test]
    fn every_byte_in_every_place_is_escaped_if_it_has_to_be() {
        for byte in 0..=0x7f_u8 {
            for len in 1..35 {
                for at in 0..len {
                    let mut text = vec![b'a'; len];
                    text[at] = byte;
                    let expected = serde_json::to_string(str::from_utf8(&text).unwrap()).unwrap();
                    text.extend([b'"'; 16]);
                    assert_eq!(json(|json| json.string(&text, 0..len).unwrap()), expected);
                }
            }
        }
    }

    #[test]
    fn what_is_not_utf8_is_refused_with_its_byte() {
        let mut text = Text::default();
        let mut json = Json::new(&mut text, Style::default());
        assert_eq!(json.string(b"xxab\xffcd", 2..7), Err(4));
        assert!(text.is_empty());
    }

    /// What comes of a message of the type `M`.
    fn written(source: &str, data: &[u8]) -> (Result<String, Fault>, Vec<Note>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("test.proto"), source).unwrap();
        let pool = crate::schema::from_folder(folder.path()).unwrap();
        let plan = Plan::new(&pool.get_message_by_name("M").unwrap(), Style::default());
        let (mut text, mut notes) = (Text::default(), Notes::default());
        let written = super::write(&plan, data, &mut text, &mut notes);
        let text = String::from_utf8(text.as_bytes().to_vec()).unwrap();
        (written.map(|()| text), notes.list().to_vec())
    }

    #[test]
    fn null_is_null_whatever_its_number() {
        let source = r#"syntax = "proto3"; import "google/protobuf/struct.proto";
            message M { repeated google.protobuf.NullValue n = 1; }"#;
        let (text, notes) = written(source, &[0x0a, 2, 0, 5]);
        assert_eq!(text.unwrap(), r#"{"n":[null,null]}"#);
        let path = "n".to_owned();
        assert_eq!(notes, [Note { path, what: Oddity::EnumNumber { number: 5 } }]);
    }

    #[test]
    fn the_last_second_that_has_a_name_is_shown_by_it() {
        let source = r#"syntax = "proto3"; import "google/protobuf/timestamp.proto";
            message M { google.protobuf.Timestamp t = 1; }"#;
        let (text, _) = written(source, &[0x0a, 7, 8, 0xff, 0x82, 0xd1, 0xff, 0xaf, 0x07]);
        assert_eq!(text.unwrap(), r#"{"t":"9999-12-31T23:59:59Z"}"#);
    }

    #[test]
    fn what_a_group_lacks_is_not_found_in_its_tags_or_in_inner_groups() {
        let source = r#"syntax = "proto2"; message M { optional group G = 1 {
            required int32 a = 1; required int32 b = 2; optional group H = 3 { optional int32 b = 2; } } }"#;
        let (text, notes) = written(source, &[0x0b, 0x1b, 0x10, 5, 0x1c, 0x0c]);
        assert_eq!(text.unwrap(), r#"{"g":{"h":{"b":5}}}"#);
        let missing = |path: &str| Note { path: path.to_owned(), what: Oddity::MissingRequired };
        assert_eq!(notes, [missing("g.a"), missing("g.b")]);
    }

    #[test]
    fn a_packed_list_past_the_end_is_told_by_its_length() {
        let source = r#"syntax = "proto3"; message M { repeated int32 n = 1; }"#;
        let (fault, _) = written(source, &[0x0a, 9, 1]);
        let reason = "a length of 9 bytes reaches past the 1 that are left".to_owned();
        assert_eq!(fault, Err(Fault::new(1, "n".to_owned(), reason)));
    }

    #[test]
    fn all_numbers_of_up_to_eight_digits_are_right_at_the_edges() {
        for power in 0..20 {
            for value in [10_u64.pow(power) - 1, 10_u64.pow(power), 10_u64.pow(power) + 1] {
                assert_eq!(
                    json(|json| json.text.integer(None, false, false, value)),
                    value.to_string()
                );
            }
        }
        assert_eq!(
            json(|json| json.text.integer(None, false, false, u64::MAX)),
            u64::MAX.to_string()
        );
        assert_eq!(json(|json| json.int64(i64::MIN)), "\"-9223372036854775808\"");
    }
}
