//! Decoding through prost-reflect's `DynamicMessage`: simple, and right.
//!
//! A message is decoded whole and then turned into ProtoJSON with proto field names, in the order of
//! field numbers. When the bytes do not decode, [`Fault`] names the byte and the field path: the
//! decoder itself only says what, so the bytes are walked once more to see where.

use std::{borrow::Cow, fmt};

use prost_reflect::{
    Cardinality, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage, SerializeOptions, Value,
};
use serde_json::{Map, Value as Json};

use super::{
    bytes::{self, Meaning},
    wire,
};

/// How values are spelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// How bytes are shown.
    pub bytes: BytesStyle,
    /// How 64-bit integers are shown.
    pub int64: Int64Style,
    /// How enum values are shown.
    pub enums: EnumStyle,
    /// Whether absent fields are shown whose value the schema gives: declared defaults, and the
    /// zeroes and empty lists of fields that do not tell absent from zero.
    pub defaults: bool,
}

/// How bytes are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BytesStyle {
    /// By meaning: MAC, IP, ESSID; else base64.
    #[default]
    Text,
    /// Plain ProtoJSON.
    Base64,
    /// Hex digits.
    Hex,
}

/// How 64-bit integers are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Int64Style {
    /// Plain ProtoJSON: many readers of JSON lose digits beyond 2^53.
    #[default]
    String,
    /// As a number.
    Number,
}

/// How enum values are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EnumStyle {
    /// By name, and by number where the schema has no name.
    #[default]
    Name,
    /// By number.
    Number,
}

/// Why bytes are not a message, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Offset into the bytes.
    pub byte: usize,
    /// The fields that lead there, joined by dots; empty at the top.
    pub path: String,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.path {
            "" => f.write_str(&self.reason),
            path => write!(f, "{path}: {}", self.reason),
        }
    }
}

/// Decodes a message.
pub fn decode(message: &MessageDescriptor, data: &[u8]) -> Result<DynamicMessage, Fault> {
    DynamicMessage::decode(message.clone(), data).map_err(|error| {
        first_fault(message, data, 0).unwrap_or_else(|| Fault {
            byte: 0,
            path: String::new(),
            reason: error.to_string(),
        })
    })
}

/// The message as a JSON object.
pub fn to_json(message: &DynamicMessage, style: Style) -> Json {
    let descriptor = message.descriptor();
    if descriptor.full_name().starts_with("google.protobuf.") {
        return well_known(message, style);
    }
    let mut object = Map::new();
    for field in descriptor.fields() {
        if message.has_field(&field) || (style.defaults && has_given_value(&field)) {
            let value = message.get_field(&field);
            object.insert(field.name().to_owned(), field_to_json(&field, &value, style));
        }
    }
    Json::Object(object)
}

/// Whether the schema says which value the field has when it is absent. A proto2 scalar without a
/// declared default has none: calling an absent utilisation 0 would be a lie.
fn has_given_value(field: &FieldDescriptor) -> bool {
    !field.supports_presence() || field.field_descriptor_proto().default_value.is_some()
}

fn field_to_json(field: &FieldDescriptor, value: &Value, style: Style) -> Json {
    match value {
        Value::List(values) => {
            values.iter().map(|value| value_to_json(field, &field.kind(), value, style)).collect()
        }
        Value::Map(entries) => {
            let Kind::Message(entry) = field.kind() else { return Json::Null };
            let values = entry.map_entry_value_field();
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let object = entries.into_iter().map(|(key, value)| {
                (map_key(key).into_owned(), value_to_json(&values, &values.kind(), value, style))
            });
            Json::Object(object.collect())
        }
        value => value_to_json(field, &field.kind(), value, style),
    }
}

fn map_key(key: &MapKey) -> Cow<'_, str> {
    match key {
        MapKey::Bool(key) => key.to_string().into(),
        MapKey::I32(key) => key.to_string().into(),
        MapKey::I64(key) => key.to_string().into(),
        MapKey::U32(key) => key.to_string().into(),
        MapKey::U64(key) => key.to_string().into(),
        MapKey::String(key) => key.into(),
    }
}

fn value_to_json(field: &FieldDescriptor, kind: &Kind, value: &Value, style: Style) -> Json {
    let int64 = |text: String, number: Json| match style.int64 {
        Int64Style::String => Json::String(text),
        Int64Style::Number => number,
    };
    match value {
        Value::Bool(value) => (*value).into(),
        Value::I32(value) => (*value).into(),
        Value::U32(value) => (*value).into(),
        Value::I64(value) => int64(value.to_string(), (*value).into()),
        Value::U64(value) => int64(value.to_string(), (*value).into()),
        // The shortest text that is this float, not that of the double it would widen to.
        Value::F32(value) => float(f64::from(*value), value.to_string().parse().unwrap_or(0.0)),
        Value::F64(value) => float(*value, *value),
        Value::String(value) => value.as_str().into(),
        Value::Bytes(value) => match style.bytes {
            BytesStyle::Text => Meaning::of(field).text(value),
            BytesStyle::Base64 => bytes::base64(value),
            BytesStyle::Hex => bytes::hex(value),
        }
        .into(),
        Value::EnumNumber(number) => match kind {
            Kind::Enum(descriptor) => enum_value(descriptor, *number, style),
            _ => (*number).into(),
        },
        Value::Message(message) => to_json(message, style),
        // A list or a map is a field's value, never an element's.
        Value::List(_) | Value::Map(_) => Json::Null,
    }
}

fn enum_value(descriptor: &EnumDescriptor, number: i32, style: Style) -> Json {
    match (style.enums, descriptor.get_value(number)) {
        _ if descriptor.full_name() == "google.protobuf.NullValue" => Json::Null,
        (EnumStyle::Name, Some(value)) => value.name().into(),
        _ => number.into(),
    }
}

fn float(value: f64, shown: f64) -> Json {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else {
        shown.into()
    }
}

/// Timestamps, wrappers and the like have JSON forms of their own, which prost-reflect knows.
fn well_known(message: &DynamicMessage, style: Style) -> Json {
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(style.int64 == Int64Style::String)
        .use_enum_numbers(style.enums == EnumStyle::Number)
        .skip_default_fields(!style.defaults);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .unwrap_or_else(|error| Json::String(format!("@unprintable: {error}")))
}

/// The limit of prost on nested messages.
const DEPTH_LIMIT: usize = 100;

/// Walks the bytes as the decoder does, until something is wrong.
fn first_fault(message: &MessageDescriptor, data: &[u8], depth: usize) -> Option<Fault> {
    let fault = |byte: usize, reason: String| Some(Fault { byte, path: String::new(), reason });
    if depth > DEPTH_LIMIT {
        return fault(0, format!("messages are nested more than {DEPTH_LIMIT} deep"));
    }
    let mut groups = 0_usize;
    for field in wire::fields(data) {
        let field = match field {
            Ok(field) => field,
            Err(error) => return fault(error.offset, error.problem.to_string()),
        };
        match field.value {
            wire::Value::GroupStart => groups += 1,
            wire::Value::GroupEnd if groups == 0 => {
                return fault(field.offset, "a group ends that has not begun".to_owned());
            }
            wire::Value::GroupEnd => groups -= 1,
            // What is in a group is not looked at closer.
            _ if groups > 0 => {}
            value => {
                let Some(descriptor) = message.get_field(field.number) else { continue };
                if let Some((at, path, reason)) = field_fault(&descriptor, value, depth) {
                    let path = match path.as_str() {
                        "" => descriptor.name().to_owned(),
                        inner => format!("{}.{inner}", descriptor.name()),
                    };
                    return Some(Fault { byte: field.value_offset + at, path, reason });
                }
            }
        }
    }
    (groups > 0).then(|| Fault {
        byte: data.len(),
        path: String::new(),
        reason: "the data ends inside a group".to_owned(),
    })
}

/// What is wrong with one value: where in the value, the path below it, and what.
fn field_fault(
    field: &FieldDescriptor,
    value: wire::Value<'_>,
    depth: usize,
) -> Option<(usize, String, String)> {
    let here = |at: usize, reason: String| Some((at, String::new(), reason));
    let kind = field.kind();
    let expected = kind.wire_type() as u8;
    let found = value.wire_type();
    match (value, &kind) {
        (wire::Value::Bytes(data), Kind::String) => {
            let error = str::from_utf8(data).err()?;
            here(error.valid_up_to(), "a string is not UTF-8".to_owned())
        }
        (wire::Value::Bytes(data), Kind::Message(message)) => {
            let fault = first_fault(message, data, depth + 1)?;
            Some((fault.byte, fault.path, fault.reason))
        }
        (wire::Value::Bytes(data), _) if expected != 2 => {
            if field.cardinality() != Cardinality::Repeated {
                return here(0, format!("expected wire type {expected}, found {found}"));
            }
            packed_fault(data, expected).and_then(|(at, reason)| here(at, reason))
        }
        _ if expected != found => here(0, format!("expected wire type {expected}, found {found}")),
        _ => None,
    }
}

fn packed_fault(data: &[u8], wire_type: u8) -> Option<(usize, String)> {
    let size = match wire_type {
        0 => {
            // Of a varint's bytes all but the last have the highest bit set.
            let unfinished = data.last().is_some_and(|byte| byte & 0x80 != 0);
            return unfinished.then(|| (data.len() - 1, wire::Problem::Truncated.to_string()));
        }
        1 => 8,
        _ => 4,
    };
    let rest = data.len() % size;
    (rest > 0).then(|| (data.len() - rest, wire::Problem::Truncated.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pool(source: &str) -> prost_reflect::DescriptorPool {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("test.proto"), source).unwrap();
        crate::schema::from_folder(folder.path()).unwrap()
    }

    fn message(source: &str) -> MessageDescriptor {
        pool(source).get_message_by_name("M").unwrap()
    }

    fn json(message: &MessageDescriptor, data: &[u8], style: Style) -> Json {
        to_json(&decode(message, data).unwrap(), style)
    }

    #[test]
    fn values_are_spelled_as_protojson_has_them() {
        let message = message(
            r#"syntax = "proto2"; message M {
                optional float f = 1; optional double d = 2; optional int64 l = 3;
                optional E e = 4; optional bytes b = 5; repeated sint32 n = 6;
                map<int32, bool> m = 7; enum E { ZERO = 0; ONE = 1; } }"#,
        );
        let data = [
            &[0x0d][..],
            &0.1_f32.to_le_bytes(),
            &[0x11],
            &f64::NEG_INFINITY.to_le_bytes(),
            &[0x18, 0x96, 0x01, 0x20, 0x01, 0x2a, 2, 0xff, 0xfe, 0x32, 2, 1, 2],
            &[0x3a, 4, 8, 2, 16, 1, 0x3a, 4, 8, 1, 16, 0],
        ]
        .concat();
        assert_eq!(
            json(&message, &data, Style::default()).to_string(),
            r#"{"f":0.1,"d":"-Infinity","l":"150","e":"ONE","b":"//4=","n":[-1,1],"m":{"1":false,"2":true}}"#
        );
        let style = Style {
            bytes: BytesStyle::Hex,
            int64: Int64Style::Number,
            enums: EnumStyle::Number,
            defaults: false,
        };
        let shown = json(&message, &data, style);
        assert_eq!(
            (&shown["l"], &shown["e"], &shown["b"]),
            (&json!(150), &json!(1), &json!("fffe"))
        );
    }

    #[test]
    fn unknown_enum_numbers_are_shown_as_numbers() {
        let source = r#"syntax = "proto2"; message M { optional E e = 1; enum E { A = 1; } }"#;
        assert_eq!(json(&message(source), &[8, 99], Style::default()), json!({"e": 99}));
    }

    #[test]
    fn defaults_are_shown_only_where_the_schema_gives_them() {
        let source = r#"syntax = "proto2"; message M {
            optional int32 unknown = 1; optional S status = 2 [default = DOWN]; repeated int32 n = 3;
            optional M inner = 4; enum S { UP = 1; DOWN = 2; } }"#;
        let style = Style { defaults: true, ..Style::default() };
        assert_eq!(json(&message(source), &[], style), json!({"status": "DOWN", "n": []}));
        let source = r#"syntax = "proto3"; message M { int32 n = 1; optional int32 o = 2; }"#;
        assert_eq!(json(&message(source), &[], style), json!({"n": 0}));
    }

    #[test]
    fn well_known_types_have_their_own_forms() {
        let source = r#"syntax = "proto3"; import "google/protobuf/timestamp.proto";
            message M { google.protobuf.Timestamp at = 1; }"#;
        let shown = json(&message(source), &[0x0a, 2, 8, 60], Style::default());
        assert_eq!(shown, json!({"at": "1970-01-01T00:01:00Z"}));
    }

    #[test]
    fn a_fault_is_named_with_its_byte_and_path() {
        let source = r#"syntax = "proto2"; message M {
            optional M inner = 1; optional string text = 2; repeated fixed32 packed = 3; }"#;
        let message = message(source);
        let fault = |data: &[u8]| {
            let fault = decode(&message, data).unwrap_err();
            (fault.byte, fault.path, fault.reason)
        };
        let at = |byte: usize, path: &str, reason: &str| (byte, path.to_owned(), reason.to_owned());
        assert_eq!(
            fault(&[0x0a, 4, 0x12, 2, b'a', 0xff]),
            at(5, "inner.text", "a string is not UTF-8")
        );
        assert_eq!(
            fault(&[0x0a, 9, 0]),
            at(1, "", "a length of 9 bytes reaches past the 1 that are left")
        );
        assert_eq!(fault(&[0x10, 1]), at(1, "text", "expected wire type 2, found 0"));
        assert_eq!(fault(&[0x1a, 3, 0, 0, 0]), at(2, "packed", "the data ends inside a value"));
        assert_eq!(fault(&[0x24]), at(0, "", "a group ends that has not begun"));
    }

    #[test]
    fn nesting_is_limited() {
        let message = message(r#"syntax = "proto2"; message M { optional M inner = 1; }"#);
        let mut data = Vec::new();
        for _ in 0..120 {
            let mut outer = vec![0x0a];
            prost::encoding::encode_varint(data.len() as u64, &mut outer);
            outer.extend(data);
            data = outer;
        }
        let fault = decode(&message, &data).unwrap_err();
        assert!(fault.reason.contains("nested"), "{fault}");
    }
}
