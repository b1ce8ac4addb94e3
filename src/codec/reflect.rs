//! Decoding through prost-reflect's `DynamicMessage`: simple, and right.
//!
//! A message is decoded whole and then turned into ProtoJSON with proto field names, in the order of
//! field numbers. [`walk`](super::walk) does that ten times faster; the tests hold it against this.

use std::borrow::Cow;

use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage, SerializeOptions, Value,
};
use serde_json::Value as Json;

use super::{
    Fault,
    bytes::{self, Meaning},
    plan::{self, BytesStyle, EnumStyle, Form, Int64Style, Style},
};

/// Decodes a message. What is wrong is told, but not where.
pub fn decode(message: &MessageDescriptor, data: &[u8]) -> Result<DynamicMessage, Fault> {
    DynamicMessage::decode(message.clone(), data)
        .map_err(|error| Fault::new(0, String::new(), error.to_string()))
}

/// The message as a JSON object.
pub fn to_json(message: &DynamicMessage, style: Style) -> Json {
    let plain = || object(message, style);
    match plan::form(message.descriptor().full_name()) {
        Form::Object => plain(),
        Form::Any => any(message, style),
        Form::FieldMask => field_mask(message).map_or_else(plain, Json::String),
        Form::Timestamp | Form::Duration if !is_in_range(message) => plain(),
        Form::Timestamp | Form::Duration => serialized(message).unwrap_or_else(|_| plain()),
        // As a value of serde_json's, NaN would become null, and a float a double.
        Form::Wrapper => only_field(message, style),
        // Prost-reflect refuses numbers that are not finite.
        Form::Struct | Form::ListValue => {
            serialized(message).unwrap_or_else(|_| only_field(message, style))
        }
        Form::Value => serialized(message).unwrap_or_else(|_| {
            let chosen = message.fields().next();
            chosen.map_or(Json::Null, |(field, value)| {
                field_to_json(&field.kind(), Meaning::Opaque, value, style)
            })
        }),
    }
}

fn object(message: &DynamicMessage, style: Style) -> Json {
    let mut fields = Vec::new();
    for field in message.descriptor().fields() {
        let there = message.has_field(&field) || is_negative_zero(&message.get_field(&field));
        if there || (style.defaults && has_given_value(&field)) {
            let (value, meaning) = (message.get_field(&field), Meaning::of(&field));
            let value = field_to_json(&field.kind(), meaning, &value, style);
            fields.push((field.number(), field.name().to_owned(), value));
        }
    }
    for (extension, value) in message.extensions() {
        let value = field_to_json(&extension.kind(), Meaning::Opaque, value, style);
        fields.push((extension.number(), extension.json_name().to_owned(), value));
    }
    fields.sort_by_key(|(number, ..)| *number);
    Json::Object(fields.into_iter().map(|(_, name, value)| (name, value)).collect())
}

/// It is not the zero that means absent, though it equals that: prost-reflect takes it for absent,
/// protobuf's own implementations do not.
fn is_negative_zero(value: &Value) -> bool {
    match value {
        Value::F32(value) => *value == 0.0 && value.is_sign_negative(),
        Value::F64(value) => *value == 0.0 && value.is_sign_negative(),
        _ => false,
    }
}

/// Whether the schema says which value the field has when it is absent. A proto2 scalar without a
/// declared default has none: calling an absent utilisation 0 would be a lie.
fn has_given_value(field: &FieldDescriptor) -> bool {
    !field.supports_presence() || field.field_descriptor_proto().default_value.is_some()
}

fn field_to_json(kind: &Kind, meaning: Meaning, value: &Value, style: Style) -> Json {
    match value {
        Value::List(values) => {
            values.iter().map(|value| scalar(kind, meaning, value, style)).collect()
        }
        Value::Map(entries) => {
            let Kind::Message(entry) = kind else { return Json::Null };
            let values = entry.map_entry_value_field();
            let meaning = Meaning::of(&values);
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let object = entries.into_iter().map(|(key, value)| {
                (map_key(key).into_owned(), scalar(&values.kind(), meaning, value, style))
            });
            Json::Object(object.collect())
        }
        value => scalar(kind, meaning, value, style),
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

/// One value: what an element of a list can be.
pub(super) fn scalar(kind: &Kind, meaning: Meaning, value: &Value, style: Style) -> Json {
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
        Value::F32(value) => {
            let shown = zmij::Buffer::new().format(*value).parse();
            float(f64::from(*value), shown.unwrap_or(0.0))
        }
        Value::F64(value) => float(*value, *value),
        Value::String(value) => value.as_str().into(),
        Value::Bytes(value) => match style.bytes {
            BytesStyle::Text => meaning.text(value),
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

/// In the form that prost-reflect knows for it.
fn serialized(message: &DynamicMessage) -> Result<Json, serde_json::Error> {
    message.serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
}

fn only_field(message: &DynamicMessage, style: Style) -> Json {
    let field = message.descriptor().fields().next().expect("it has one");
    field_to_json(&field.kind(), Meaning::Opaque, &message.get_field(&field), style)
}

/// What protobuf's documentation of the two demands, and prost-reflect does not look at.
fn is_in_range(message: &DynamicMessage) -> bool {
    let number = |name: &str| match message.get_field_by_name(name).as_deref() {
        Some(Value::I64(value)) => *value,
        Some(Value::I32(value)) => i64::from(*value),
        _ => 0,
    };
    let (seconds, nanos) = (number("seconds"), number("nanos"));
    match message.descriptor().name() {
        "Timestamp" => (0..=999_999_999).contains(&nanos),
        _ => nanos.abs() <= 999_999_999 && seconds.signum() * nanos.signum() >= 0,
    }
}

/// Paths in camel case, of which each can be turned back. Prost-reflect also takes some that cannot.
fn field_mask(message: &DynamicMessage) -> Option<String> {
    let camel_case = |path: &Value| {
        let path = path.as_str()?;
        let (first, words) = path.split_once('_').map_or((path, None), |(a, b)| (a, Some(b)));
        let mut camel = first.to_owned();
        for word in words.iter().flat_map(|words| words.split('_')) {
            let initial = word.chars().next().filter(char::is_ascii_lowercase)?;
            camel.push(initial.to_ascii_uppercase());
            camel += &word[1..];
        }
        (!path.contains(|character: char| character.is_ascii_uppercase())).then_some(camel)
    };
    let paths = message.get_field_by_name("paths")?;
    let paths: Option<Vec<_>> = paths.as_list()?.iter().map(camel_case).collect();
    Some(paths?.join(","))
}

/// With its content in our style. In it `Empty` is a message like others, as for protobuf's own
/// implementations; prost-reflect takes it for one with a form of its own.
fn any(message: &DynamicMessage, style: Style) -> Json {
    let url = message.get_field_by_name("type_url");
    let url = url.as_deref().and_then(Value::as_str).unwrap_or_default();
    let content = message.get_field_by_name("value");
    let content = content.as_deref().and_then(Value::as_bytes).cloned().unwrap_or_default();
    let mut shown = serde_json::Map::new();
    if url.is_empty() && content.is_empty() {
        return shown.into();
    }
    shown.insert("@type".to_owned(), url.into());
    let name = url.rsplit_once('/').map_or(url, |(_, name)| name);
    let Some(inner) = message.descriptor().parent_pool().get_message_by_name(name) else {
        shown.insert("@value".to_owned(), bytes::base64(&content).into());
        return shown.into();
    };
    match decode(&inner, &content) {
        Ok(content) => match (plan::form(name), to_json(&content, style)) {
            (Form::Object, Json::Object(fields)) => shown.extend(fields),
            (_, value) => drop(shown.insert("value".to_owned(), value)),
        },
        Err(fault) => drop(shown.insert("@unprintable".to_owned(), fault.to_string().into())),
    }
    shown.into()
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
}
