//! JSON to wire bytes: what [`json`](super::json) has written, read again, in any of its styles.
//!
//! Straight to the wire, as a `DynamicMessage` has no place for what proto2 allows and decoding shows:
//! strings that are not UTF-8, numbers that an enum has no name for, fields that are not declared. What
//! does not fit the schema is refused with its path; what is merely absent is not.
//! Source of the rules: <https://protobuf.dev/programming-guides/json/>.

use std::{
    borrow::Cow,
    collections::HashSet,
    fmt::{self, Display},
    str::FromStr,
};

use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};
use prost_reflect::{DynamicMessage, EnumDescriptor, Kind, MessageDescriptor};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    bytes::{self, Meaning},
    plan::{BytesStyle, Declared, Form, form},
    walk::DEPTH_LIMIT,
    wire,
};

/// What does not fit, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The fields that lead there, joined by dots, with indexes in lists; empty at the top.
    pub path: String,
    /// What could be there.
    pub expected: String,
    /// What is.
    pub found: String,
    /// What the user can do, if that is not obvious.
    pub hint: &'static str,
}

impl Unfit {
    /// Without a hint.
    pub fn new(
        path: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        let (path, expected, found) = (path.into(), expected.into(), found.into());
        Self { path, expected, found, hint: "" }
    }

    /// With what to do about it.
    #[must_use]
    pub fn with_hint(self, hint: &'static str) -> Self {
        Self { hint, ..self }
    }
}

type Result<T, E = Unfit> = std::result::Result<T, E>;

/// A JSON object whose values have not been looked into. Names can be there twice.
#[derive(Clone, Debug, Default)]
pub struct Object<'j> {
    /// In their order.
    pub fields: Vec<(String, &'j RawValue)>,
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Object { fields })
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

impl<'j> Object<'j> {
    /// Reads an object in which each name is there once.
    pub fn read(json: &'j RawValue, path: &str) -> Result<Self> {
        let object: Self = serde_json::from_str(json.get())
            .map_err(|_| Unfit::new(path, "an object", shown(json)))?;
        let mut names = HashSet::new();
        match object.fields.iter().find(|(name, _)| !names.insert(name)) {
            Some((name, _)) => Err(Unfit::new(under(path, name), "one value", "a second one")),
            None => Ok(object),
        }
    }

    /// The value of that name.
    pub fn value(&self, name: &str) -> Option<&'j RawValue> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

/// A field that the schema does not have, of the message at a path without indexes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undeclared {
    path: String,
    /// As it stands on the wire.
    bytes: Vec<u8>,
}

impl Undeclared {
    /// Reads the list that [`write_notes`](super::json::write_notes) has written. What else was noted
    /// stands in the values themselves.
    pub fn read(json: &RawValue, path: &str) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for (index, note) in list(json, path)?.into_iter().enumerate() {
            let path = format!("{path}[{index}]");
            let note = Object::read(note, &path)?;
            let value = |name: &str| {
                let path = under(&path, name);
                note.value(name).ok_or_else(|| Unfit::new(path, "a value", "none"))
            };
            if string(value("what")?, &under(&path, "what"))? != "unknown field" {
                continue;
            }
            let number = |name: &str| {
                integer(value(name)?, &under(&path, name), "a number", (u32::MIN, u32::MAX))
            };
            let (number, wire_type) = (number("number")?, number("wire_type")?);
            let shown_value = value("value")?;
            let text = string(shown_value, &under(&path, "value"))?;
            let mut bytes = Vec::new();
            encode_varint(u64::from(number) << 3 | u64::from(wire_type), &mut bytes);
            bytes.extend(bytes::from_base64(&text).unwrap_or_default());
            if wire_type > 5 || !is_one_field(&bytes) {
                let expected = "the base64 of one value of that wire type";
                return Err(Unfit::new(under(&path, "value"), expected, shown(shown_value)));
            }
            let at = string(value("path")?, &under(&path, "path"))?;
            all.push(Self { path: at, bytes });
        }
        Ok(all)
    }
}

/// Groups are made of several, from their start to their end.
fn is_one_field(data: &[u8]) -> bool {
    let mut open = Vec::new();
    let mut is_whole = false;
    for field in wire::fields(data) {
        match field {
            Ok(field) if !is_whole => match field.value {
                wire::Value::GroupStart => open.push(field.number),
                wire::Value::GroupEnd if open.pop() != Some(field.number) => return false,
                _ => {}
            },
            _ => return false,
        }
        is_whole = open.is_empty();
    }
    is_whole
}

/// The wire bytes of a message with these fields, in the order of their numbers, each with those that
/// are not declared behind.
pub fn encode(
    message: &MessageDescriptor,
    object: &Object<'_>,
    style: BytesStyle,
    undeclared: &[Undeclared],
) -> Result<Vec<u8>> {
    let mut encoder = Encoder {
        style,
        path: String::new(),
        names: String::new(),
        depth: 0,
        undeclared: undeclared.iter().map(Some).collect(),
    };
    let data =
        encoder.fields(message, object.fields.iter().map(|(name, json)| (&**name, *json)))?;
    match encoder.undeclared.into_iter().flatten().next() {
        None => Ok(data),
        Some(left) => Err(nowhere(left, "none")),
    }
}

/// A list that has several messages does not say which of them such a field was in.
fn nowhere(field: &Undeclared, found: &str) -> Unfit {
    let expected = format!("one message at {:?} for an unknown field", field.path);
    Unfit::new("@unknown", expected, found)
        .with_hint("decode --raw and encode --raw keep all that is in a frame")
}

/// Whether the message has no field of that name.
pub fn is_unknown(message: &MessageDescriptor, name: &str) -> bool {
    declared(message, name).is_none()
}

/// The text of a JSON string.
pub fn string(json: &RawValue, path: &str) -> Result<String> {
    serde_json::from_str(json.get()).map_err(|_| Unfit::new(path, "a string", shown(json)))
}

/// What is found, in a few words.
pub fn shown(json: &RawValue) -> String {
    const MOST: usize = 60;

    let text = json.get();
    match text.as_bytes() {
        [b'{', ..] => "an object".to_owned(),
        [b'[', ..] => "a list".to_owned(),
        _ => match text.char_indices().nth(MOST) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text.to_owned(),
        },
    }
}

fn list<'j>(json: &'j RawValue, path: &str) -> Result<Vec<&'j RawValue>> {
    serde_json::from_str(json.get()).map_err(|_| Unfit::new(path, "a list", shown(json)))
}

fn integer<N: TryFrom<i128> + Display>(
    json: &RawValue,
    path: &str,
    what: &str,
    (least, most): (N, N),
) -> Result<N> {
    integer_of(&unquoted(json))
        .ok_or_else(|| Unfit::new(path, format!("{what} ({least} to {most})"), shown(json)))
}

/// Also written with a point or an exponent, as long as it is whole.
fn integer_of<N: TryFrom<i128>>(text: &str) -> Option<N> {
    // Far beyond all 64 bits, and far from the end of what is cast to.
    const MOST: f64 = 1e30;

    let number: i128 = text.parse().ok().or_else(|| {
        let number: f64 = text.parse().ok()?;
        (number.fract() == 0.0 && number.abs() < MOST).then_some(number as i128)
    })?;
    number.try_into().ok()
}

/// Numbers may stand in quotes.
fn unquoted(json: &RawValue) -> Cow<'_, str> {
    let text = json.get();
    match serde_json::from_str::<String>(text) {
        Ok(string) => string.into(),
        Err(_) => text.into(),
    }
}

fn is_null(json: &RawValue) -> bool {
    json.get() == "null"
}

fn under(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

/// The field of that name, proto or JSON, or the extension in brackets.
fn declared(message: &MessageDescriptor, name: &str) -> Option<Declared> {
    let field = message.get_field_by_name(name).or_else(|| message.get_field_by_json_name(name));
    field.map(|field| Declared::of_field(&field)).or_else(|| {
        let extension = message.get_extension_by_json_name(name)?;
        Some(Declared::of_extension(&extension))
    })
}

struct Encoder<'u> {
    style: BytesStyle,
    /// With indexes, for people.
    path: String,
    /// Without, as notes have it.
    names: String,
    depth: u32,
    /// Those that have not found their message yet.
    undeclared: Vec<Option<&'u Undeclared>>,
}

impl Encoder<'_> {
    fn unfit<T>(&self, expected: impl Into<String>, found: impl Into<String>) -> Result<T> {
        Err(Unfit::new(&*self.path, expected, found))
    }

    /// Does something with a field or an element of the message at hand.
    fn within<T>(
        &mut self,
        name: &str,
        index: Option<usize>,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let before = (self.path.len(), self.names.len());
        match index {
            Some(index) => self.path += &format!("[{index}]"),
            None => {
                self.path = under(&self.path, name);
                self.names = under(&self.names, name);
            }
        }
        let done = work(self)?;
        self.path.truncate(before.0);
        self.names.truncate(before.1);
        Ok(done)
    }

    /// All fields of a message.
    fn fields<'j>(
        &mut self,
        message: &MessageDescriptor,
        fields: impl Iterator<Item = (&'j str, &'j RawValue)>,
    ) -> Result<Vec<u8>> {
        let mut parts: Vec<(u32, Vec<u8>)> = Vec::new();
        let mut oneofs = HashSet::new();
        for (name, json) in fields {
            let part = self.within(name, None, |own| {
                let Some(field) = declared(message, name) else {
                    let expected = format!("a field of {}", message.full_name());
                    return own.unfit(expected, "one that it does not have").map_err(|unfit| {
                        unfit.with_hint("--proto DIR takes a schema that has it")
                    });
                };
                if parts.iter().any(|(number, _)| *number == field.number) {
                    return own.unfit("one value", "a second one, under another name");
                }
                let mut part = Vec::new();
                own.field(&field, json, &mut part)?;
                let oneof = message.get_field(field.number).and_then(|f| f.containing_oneof());
                if let Some(oneof) = oneof.filter(|_| !is_null(json) || !part.is_empty())
                    && !oneofs.insert(oneof.full_name().to_owned())
                {
                    return own
                        .unfit(format!("one field of {}", oneof.full_name()), "a second one");
                }
                Ok((field.number, part))
            })?;
            parts.push(part);
        }
        parts.sort_by_key(|(number, _)| *number);
        let mut data: Vec<u8> = parts.into_iter().flat_map(|(_, part)| part).collect();
        for slot in &mut self.undeclared {
            let Some(field) = *slot else { continue };
            if field.path == self.names {
                data.extend(&field.bytes);
                *slot = None;
            }
        }
        Ok(data)
    }

    /// A field with its tag or tags.
    fn field(&mut self, field: &Declared, json: &RawValue, out: &mut Vec<u8>) -> Result<()> {
        if is_null(json) && !can_be_null(&field.kind) {
            return Ok(());
        }
        if field.is_map {
            return self.map(field, json, out);
        }
        if !field.is_list {
            let mut value = Vec::new();
            self.value(field, json, &mut value)?;
            if !(field.is_implicit && is_zero(&field.kind, &value)) {
                tagged(field, &value, out);
            }
            return Ok(());
        }
        let elements = list(json, &self.path)?;
        let inside = self.undeclared.iter().flatten().find(|unknown| {
            let rest = unknown.path.strip_prefix(&*self.names);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        if let Some(inside) = inside.filter(|_| elements.len() > 1) {
            let found = format!("a list of {} at {:?}", elements.len(), self.names);
            return Err(nowhere(inside, &found));
        }
        let mut packed = Vec::new();
        for (index, element) in elements.into_iter().enumerate() {
            let mut value = Vec::new();
            self.within("", Some(index), |own| own.value(field, element, &mut value))?;
            if field.is_packed {
                packed.extend(value);
            } else {
                tagged(field, &value, out);
            }
        }
        if !packed.is_empty() {
            encode_key(field.number, WireType::LengthDelimited, out);
            delimited(&packed, out);
        }
        Ok(())
    }

    fn map(&mut self, field: &Declared, json: &RawValue, out: &mut Vec<u8>) -> Result<()> {
        let Kind::Message(entry) = &field.kind else { return self.unfit("a map", shown(json)) };
        let (keys, values) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        let (keys, values) = (Declared::of_field(&keys), Declared::of_field(&values));
        for (key, json) in Object::read(json, &self.path)?.fields {
            let data = self.within(&key, None, |own| {
                // All keys are text in JSON.
                let quoted = match keys.kind {
                    Kind::Bool => key.clone(),
                    _ => serde_json::Value::from(&*key).to_string(),
                };
                let Ok(quoted) = RawValue::from_string(quoted) else {
                    return own.unfit("true or false as a key", format!("{key:?}"));
                };
                let (mut name, mut value, mut data) = (Vec::new(), Vec::new(), Vec::new());
                own.value(&keys, &quoted, &mut name)?;
                own.value(&values, json, &mut value)?;
                tagged(&keys, &name, &mut data);
                tagged(&values, &value, &mut data);
                Ok(data)
            })?;
            tagged(field, &with_length(&data), out);
        }
        Ok(())
    }

    /// One value as it stands behind its tag.
    fn value(&mut self, field: &Declared, json: &RawValue, out: &mut Vec<u8>) -> Result<()> {
        let path = &*self.path;
        let int32 = |what: &str| integer(json, path, what, (i32::MIN, i32::MAX));
        let int64 = |what: &str| integer(json, path, what, (i64::MIN, i64::MAX));
        let uint32 = |what: &str| integer(json, path, what, (u32::MIN, u32::MAX));
        let uint64 = |what: &str| integer(json, path, what, (u64::MIN, u64::MAX));
        match &field.kind {
            Kind::Bool => match json.get() {
                "true" => out.push(1),
                "false" => out.push(0),
                _ => return self.unfit("true or false", shown(json)),
            },
            Kind::Int32 => encode_varint(i64::from(int32("an int32")?).cast_unsigned(), out),
            Kind::Int64 => encode_varint(int64("an int64")?.cast_unsigned(), out),
            Kind::Uint32 => encode_varint(uint32("a uint32")?.into(), out),
            Kind::Uint64 => encode_varint(uint64("a uint64")?, out),
            Kind::Sint32 => {
                let number = int32("a sint32")?;
                encode_varint((number << 1 ^ number >> 31).cast_unsigned().into(), out);
            }
            Kind::Sint64 => {
                let number = int64("a sint64")?;
                encode_varint((number << 1 ^ number >> 63).cast_unsigned(), out);
            }
            Kind::Fixed32 => out.extend(uint32("a fixed32")?.to_le_bytes()),
            Kind::Fixed64 => out.extend(uint64("a fixed64")?.to_le_bytes()),
            Kind::Sfixed32 => out.extend(int32("an sfixed32")?.to_le_bytes()),
            Kind::Sfixed64 => out.extend(int64("an sfixed64")?.to_le_bytes()),
            Kind::Float => {
                let number: f32 = float(&unquoted(json), f32::is_finite)
                    .map_or_else(|| self.unfit("a float", shown(json)), Ok)?;
                out.extend(number.to_le_bytes());
            }
            Kind::Double => {
                let number: f64 = float(&unquoted(json), f64::is_finite)
                    .map_or_else(|| self.unfit("a double", shown(json)), Ok)?;
                out.extend(number.to_le_bytes());
            }
            Kind::String => delimited(&self.text(field, json)?, out),
            Kind::Bytes => delimited(&self.bytes(field, json)?, out),
            Kind::Enum(names) => {
                encode_varint(i64::from(self.number(names, json)?).cast_unsigned(), out);
            }
            Kind::Message(message) => {
                let data = self.message(message, json)?;
                // A group has no length, but an end.
                if field.is_group { out.extend(data) } else { delimited(&data, out) }
            }
        }
        Ok(())
    }

    /// A string. One that is not UTF-8 is shown as an object.
    fn text(&self, field: &Declared, json: &RawValue) -> Result<Vec<u8>> {
        if let Ok(text) = string(json, "") {
            return Ok(text.into_bytes());
        }
        let bytes = || {
            let object = Object::read(json, "").ok().filter(|object| object.fields.len() == 1)?;
            bytes::from_base64(&string(object.value("@base64")?, "").ok()?)
        };
        match bytes() {
            Some(bytes) if !field.checks_utf8 => Ok(bytes),
            _ => self.unfit("a string", shown(json)),
        }
    }

    fn bytes(&self, field: &Declared, json: &RawValue) -> Result<Vec<u8>> {
        let expected = match (self.style, field.meaning) {
            (BytesStyle::Hex, _) => "hex digits, two for each byte",
            (BytesStyle::Base64, _) | (_, Meaning::Opaque) => "base64",
            (_, Meaning::Mac) => "a MAC address, or base64",
            (_, Meaning::Ip) => "an IP address, or base64",
            (_, Meaning::Essid) => "a network's name, with \\xNN for a backslash and other bytes",
        };
        let text = string(json, &self.path);
        let data = text.ok().and_then(|text| match self.style {
            BytesStyle::Hex => bytes::from_hex(&text),
            BytesStyle::Base64 => bytes::from_base64(&text),
            BytesStyle::Text => {
                let data = field.meaning.bytes(&text)?;
                let is_mac = field.meaning == Meaning::Mac && text.contains([':', '-']);
                Some(match data.len() {
                    6 if is_mac && field.has_hex_macs => bytes::hex(&data).into_bytes(),
                    _ => data,
                })
            }
        });
        match data {
            Some(data) => Ok(data),
            None => self.unfit(expected, shown(json)).map_err(|unfit| {
                unfit.with_hint("--bytes says how bytes are written: text, base64 or hex")
            }),
        }
    }

    /// By name, or any number at all.
    fn number(&self, names: &EnumDescriptor, json: &RawValue) -> Result<i32> {
        const LISTED: usize = 8;

        if is_null(json) && is_null_value(names) {
            return Ok(0);
        }
        let text = unquoted(json);
        let by_name = names.get_value_by_name(&text).map(|value| value.number());
        by_name.or_else(|| integer_of(&text)).map_or_else(
            || {
                let listed: Vec<_> = names.values().map(|value| value.name().to_owned()).collect();
                let listed = match listed.len() {
                    ..=LISTED => format!(" ({})", listed.join(", ")),
                    _ => String::new(),
                };
                self.unfit(format!("a value of {}{listed}", names.full_name()), shown(json))
            },
            Ok,
        )
    }

    /// A message's own bytes.
    fn message(&mut self, message: &MessageDescriptor, json: &RawValue) -> Result<Vec<u8>> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            let expected = format!("messages at most {DEPTH_LIMIT} deep in each other");
            return self.unfit(expected, "one that is deeper");
        }
        let data = match form(message.full_name()) {
            Form::Any => self.any(message, json),
            Form::Wrapper => {
                // A user's schema may say otherwise.
                let Some(field) = message.get_field(1) else {
                    return self
                        .unfit(format!("{} with a field 1", message.full_name()), "one without");
                };
                let mut data = Vec::new();
                self.field(&Declared::of_field(&field), json, &mut data).map(|()| data)
            }
            Form::Struct => self.dynamic_object(json),
            Form::ListValue => self.dynamic_list(json),
            Form::Value => self.dynamic(json),
            Form::FieldMask if !json.get().starts_with('{') => self.mask(json),
            Form::Timestamp | Form::Duration if !json.get().starts_with('{') => {
                self.spelled(message, json)
            }
            Form::Object | Form::Timestamp | Form::Duration | Form::FieldMask => {
                let object = Object::read(json, &self.path)?;
                self.fields(message, object.fields.iter().map(|(name, json)| (&**name, *json)))
            }
        };
        self.depth -= 1;
        data
    }

    /// What prost-reflect knows how to read.
    fn spelled(&self, message: &MessageDescriptor, json: &RawValue) -> Result<Vec<u8>> {
        let mut reader = serde_json::Deserializer::from_str(json.get());
        match DynamicMessage::deserialize(message.clone(), &mut reader) {
            Ok(message) => Ok(message.encode_to_vec()),
            Err(_) => self.unfit(format!("a {}", message.full_name()), shown(json)),
        }
    }

    /// Paths in camel case. Prost-reflect leaves out those that are empty.
    fn mask(&self, json: &RawValue) -> Result<Vec<u8>> {
        let text = string(json, &self.path)?;
        let mut data = Vec::new();
        for path in text.split(',').filter(|_| !text.is_empty()) {
            let snake: String = path
                .chars()
                .flat_map(|letter| {
                    let is_initial = letter.is_ascii_uppercase();
                    is_initial.then_some('_').into_iter().chain([letter.to_ascii_lowercase()])
                })
                .collect();
            encode_key(1, WireType::LengthDelimited, &mut data);
            delimited(snake.as_bytes(), &mut data);
        }
        Ok(data)
    }

    fn any(&mut self, message: &MessageDescriptor, json: &RawValue) -> Result<Vec<u8>> {
        let object = Object::read(json, &self.path)?;
        if object.fields.is_empty() {
            return Ok(Vec::new());
        }
        let at = under(&self.path, "@type");
        let Some(url) = object.value("@type") else {
            return Err(Unfit::new(at, "the type's URL", "none"));
        };
        let url = string(url, &at)?;
        let name = url.rsplit_once('/').map_or(&*url, |(_, name)| name);
        let inner = message.parent_pool().get_message_by_name(name);
        let content = match (object.value("@value"), inner) {
            (Some(value), _) => {
                let at = under(&self.path, "@value");
                let data = bytes::from_base64(&string(value, &at)?);
                data.ok_or_else(|| Unfit::new(at, "base64", shown(value)))?
            }
            (None, None) => {
                return Err(Unfit::new(at, "a type that the schema has", format!("{url:?}")));
            }
            (None, Some(inner)) if form(name) == Form::Object => {
                let fields = object.fields.iter().filter(|(name, _)| name != "@type");
                self.fields(&inner, fields.map(|(name, json)| (&**name, *json)))?
            }
            (None, Some(inner)) => match object.value("value") {
                Some(value) => self.within("value", None, |own| own.message(&inner, value))?,
                None => return self.unfit("a value beside @type", "none"),
            },
        };
        let mut data = Vec::new();
        for (number, part) in [(1, url.as_bytes()), (2, &content)] {
            if !part.is_empty() {
                encode_key(number, WireType::LengthDelimited, &mut data);
                delimited(part, &mut data);
            }
        }
        Ok(data)
    }

    /// A `google.protobuf.Value`.
    fn dynamic(&mut self, json: &RawValue) -> Result<Vec<u8>> {
        let text = json.get();
        let mut data = Vec::new();
        match text.as_bytes() {
            b"null" => data.extend([1 << 3, 0]),
            b"true" => data.extend([4 << 3, 1]),
            b"false" => data.extend([4 << 3, 0]),
            [b'"', ..] => {
                encode_key(3, WireType::LengthDelimited, &mut data);
                delimited(string(json, &self.path)?.as_bytes(), &mut data);
            }
            [b'{', ..] => {
                encode_key(5, WireType::LengthDelimited, &mut data);
                delimited(&self.nested(|own| own.dynamic_object(json))?, &mut data);
            }
            [b'[', ..] => {
                encode_key(6, WireType::LengthDelimited, &mut data);
                delimited(&self.nested(|own| own.dynamic_list(json))?, &mut data);
            }
            _ => {
                let Some(number) = float(text, f64::is_finite) else {
                    return self.unfit("a double", shown(json));
                };
                encode_key(2, WireType::SixtyFourBit, &mut data);
                data.extend(f64::to_le_bytes(number));
            }
        }
        Ok(data)
    }

    /// A value in a value is two messages deeper, or three with the entry of a map.
    fn nested<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 2;
        if self.depth > DEPTH_LIMIT {
            let expected = format!("messages at most {DEPTH_LIMIT} deep in each other");
            return self.unfit(expected, "one that is deeper");
        }
        let done = work(self)?;
        self.depth -= 2;
        Ok(done)
    }

    /// A `google.protobuf.Struct`.
    fn dynamic_object(&mut self, json: &RawValue) -> Result<Vec<u8>> {
        let mut data = Vec::new();
        for (name, json) in Object::read(json, &self.path)?.fields {
            let value = self.within(&name, None, |own| own.dynamic(json))?;
            let mut entry = Vec::new();
            encode_key(1, WireType::LengthDelimited, &mut entry);
            delimited(name.as_bytes(), &mut entry);
            encode_key(2, WireType::LengthDelimited, &mut entry);
            delimited(&value, &mut entry);
            encode_key(1, WireType::LengthDelimited, &mut data);
            delimited(&entry, &mut data);
        }
        Ok(data)
    }

    /// A `google.protobuf.ListValue`.
    fn dynamic_list(&mut self, json: &RawValue) -> Result<Vec<u8>> {
        let mut data = Vec::new();
        for (index, json) in list(json, &self.path)?.into_iter().enumerate() {
            let value = self.within("", Some(index), |own| own.dynamic(json))?;
            encode_key(1, WireType::LengthDelimited, &mut data);
            delimited(&value, &mut data);
        }
        Ok(data)
    }
}

/// Everything else that is null is absent.
fn can_be_null(kind: &Kind) -> bool {
    match kind {
        Kind::Enum(names) => is_null_value(names),
        Kind::Message(message) => form(message.full_name()) == Form::Value,
        _ => false,
    }
}

fn is_null_value(names: &EnumDescriptor) -> bool {
    names.full_name() == "google.protobuf.NullValue"
}

/// Whether it is the value that means absent. A negative zero is not.
fn is_zero(kind: &Kind, value: &[u8]) -> bool {
    !matches!(kind, Kind::Message(_)) && value.iter().all(|&byte| byte == 0)
}

/// Not a number is spelled, and nothing else is infinite.
fn float<F: FromStr + Copy>(text: &str, is_finite: fn(F) -> bool) -> Option<F> {
    let is_spelled = matches!(text, "NaN" | "Infinity" | "-Infinity");
    text.parse().ok().filter(|&number| is_spelled || is_finite(number))
}

fn tagged(field: &Declared, value: &[u8], out: &mut Vec<u8>) {
    let wire_type = if field.is_group { WireType::StartGroup } else { field.kind.wire_type() };
    encode_key(field.number, wire_type, out);
    out.extend(value);
    if field.is_group {
        encode_key(field.number, WireType::EndGroup, out);
    }
}

fn delimited(data: &[u8], out: &mut Vec<u8>) {
    encode_varint(data.len() as u64, out);
    out.extend(data);
}

fn with_length(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    delimited(data, &mut out);
    out
}
