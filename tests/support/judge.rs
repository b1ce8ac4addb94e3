//! What prost-reflect says of a message, made comparable.

use std::{collections::HashSet, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use centralcap::codec::{Fault, reflect};
use prost::encoding::decode_varint;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, ReflectMessage, Value};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value as Json, json};

use super::message::Declared;

/// Decodes a message, and what is in each `Any`: prost-reflect looks at that only when it is shown.
pub fn decode(message: &MessageDescriptor, data: &[u8]) -> Result<DynamicMessage, Fault> {
    check_maps(message, data)?;
    let message = reflect::decode(message, data)?;
    check_within(&message)?;
    Ok(message)
}

fn check_within(message: &DynamicMessage) -> Result<(), Fault> {
    if message.descriptor().full_name() == "google.protobuf.Any" {
        return match inner_type(message) {
            Some(inner) => {
                let content = message.get_field_by_name("value").unwrap();
                decode(&inner, content.as_bytes().unwrap()).map(|_| ())
            }
            None => Ok(()),
        };
    }
    let fields = message.fields().map(|(_, value)| value);
    fields.chain(message.extensions().map(|(_, value)| value)).try_for_each(check_value)
}

fn check_value(value: &Value) -> Result<(), Fault> {
    match value {
        Value::Message(message) => check_within(message),
        Value::List(values) => values.iter().try_for_each(check_value),
        Value::Map(values) => values.values().try_for_each(check_value),
        _ => Ok(()),
    }
}

fn inner_type(any: &DynamicMessage) -> Option<MessageDescriptor> {
    let url = any.get_field_by_name("type_url").unwrap();
    let url = url.as_str().unwrap();
    let name = url.rsplit_once('/').map_or(url, |(_, name)| name);
    any.descriptor().parent_pool().get_message_by_name(name)
}

/// Fails where a map's entry has the tag of something else: prost-reflect takes it for
/// length-delimited whatever its tag says. All else that is wrong is left to prost-reflect.
fn check_maps(message: &MessageDescriptor, data: &[u8]) -> Result<(), Fault> {
    let mut rest = data;
    // The messages that the groups are, as far as they are known.
    let mut open = vec![Some(message.clone())];
    while let Ok(tag) = decode_varint(&mut rest) {
        let (number, wire_type) = ((tag >> 3) as u32, tag & 7);
        let Some(innermost) = open.last().cloned() else { return Ok(()) };
        let (inner, is_map) = innermost.map_or((None, false), |message| declared(&message, number));
        if is_map && wire_type != 2 {
            let byte = data.len() - rest.len();
            let reason = "a map's entry has another wire type".to_owned();
            return Err(Fault { byte, path: String::new(), reason });
        }
        let length = match wire_type {
            0 => decode_varint(&mut rest).map(|_| 0),
            1 => Ok(8),
            2 => decode_varint(&mut rest),
            3 => {
                open.push(inner.clone());
                Ok(0)
            }
            4 => {
                open.pop();
                Ok(0)
            }
            _ => Ok(4),
        };
        let content = length.ok().and_then(|length| rest.split_at_checked(length as usize));
        let Some((content, after)) = content else { return Ok(()) };
        if let Some(inner) = inner
            && wire_type == 2
        {
            check_maps(&inner, content)?;
        }
        rest = after;
    }
    Ok(())
}

/// The message that is declared under that number, if there is one, and whether it is a map's entry.
fn declared(message: &MessageDescriptor, number: u32) -> (Option<MessageDescriptor>, bool) {
    let extension = || message.get_extension(number).map(|extension| extension.kind());
    match message.get_field(number) {
        Some(field) => (field.kind().as_message().cloned(), field.is_map()),
        None => (extension().and_then(|kind| kind.as_message().cloned()), false),
    }
}

/// Whether that is a fault that prost-reflect does not see: it does not count a map's entry as a
/// message of its own that is nested.
pub fn overlooks(fault: &Fault) -> bool {
    fault.reason.starts_with("messages are nested more than")
}

/// Whether the name of a type in an `Any` begins with a dot. any.proto does not accept that; prost-reflect does,
/// but then takes no type for a well-known one.
pub fn has_dotted_type(json: &Json) -> bool {
    match json {
        Json::Object(members) => members.iter().any(|(name, value)| {
            let url = value.as_str().filter(|_| name == "@type").unwrap_or_default();
            url.rsplit('/').next().is_some_and(|name| name.starts_with('.'))
                || has_dotted_type(value)
        }),
        Json::Array(elements) => elements.iter().any(has_dotted_type),
        _ => false,
    }
}

/// JSON with base64 in the place of all strings that need not be UTF-8, with the strings.
pub fn with_text(json: Json, message: &MessageDescriptor) -> Json {
    let Json::Object(mut object) = json else { return json };
    let name = message.full_name();
    if name == "google.protobuf.Any" {
        let url = object.get("@type").and_then(Json::as_str).unwrap_or_default();
        let name = url.rsplit_once('/').map_or(url, |(_, name)| name);
        let Some(inner) = message.parent_pool().get_message_by_name(name) else {
            return Json::Object(object);
        };
        if inner.package_name() == "google.protobuf" {
            if let Some(value) = object.get_mut("value") {
                *value = with_text(value.take(), &inner);
            }
            return Json::Object(object);
        }
        return with_text(Json::Object(object), &inner);
    }
    let fields = Declared::all_of(message);
    for (name, value) in &mut object {
        // What an `Any` says beside its content.
        let Some(field) = fields.iter().find(|field| field.name == *name) else { continue };
        *value = with_text_in(value.take(), field);
    }
    Json::Object(object)
}

fn with_text_in(json: Json, field: &Declared) -> Json {
    match (json, &field.kind) {
        (Json::Array(values), _) if field.is_list => {
            values.into_iter().map(|value| with_text_in(value, field)).collect()
        }
        (Json::Object(entries), Kind::Message(entry)) if field.is_map => {
            let [_, value] = &Declared::all_of(entry)[..] else { panic!("a key and a value") };
            let entries = entries.into_iter();
            entries.map(|(key, inner)| (key, with_text_in(inner, value))).collect()
        }
        (Json::String(base64), _) if field.is_loose => {
            match String::from_utf8(STANDARD.decode(&base64).unwrap()) {
                Ok(text) => text.into(),
                Err(_) => json!({ "@base64": base64 }),
            }
        }
        (json, Kind::Message(message)) => with_text(json, message),
        (json, _) => json,
    }
}

/// Reads JSON of which no object may have a key twice.
pub fn read(text: &[u8]) -> Json {
    let unique: Result<Unique, _> = serde_json::from_slice(text);
    unique.unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(text))).0
}

struct Unique(Json);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique(Json::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Unique, E> {
        Ok(Unique(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Unique, E> {
        Ok(Unique(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Unique, E> {
        Ok(Unique(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Unique, E> {
        Ok(Unique(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Unique, E> {
        Ok(Unique(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Unique, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(value)) = values.next_element()? {
            list.push(value);
        }
        Ok(Unique(list.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Unique, A::Error> {
        let mut keys = HashSet::new();
        let mut object = serde_json::Map::new();
        while let Some((key, Unique(value))) = entries.next_entry::<String, _>()? {
            assert!(keys.insert(key.clone()), "{key:?} is there twice");
            object.insert(key, value);
        }
        Ok(Unique(object.into()))
    }
}
