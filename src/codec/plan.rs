//! Descriptors compiled into tables, once per schema.
//!
//! A [`Plan`] holds one [`Message`] for each message type that can be reached: fields found by their
//! number, JSON keys and enum names rendered beforehand, nested messages by index. Everything that
//! depends on the schema or the [`Style`] is decided here, so that walking the bytes only looks up.

use std::{collections::HashMap, hash::Hash};

use prost_reflect::{
    EnumDescriptor, ExtensionDescriptor, FieldDescriptor, MessageDescriptor, Syntax,
    prost_types::{EnumValueDescriptorProto, FieldDescriptorProto},
};

pub use super::text::Literal;
use super::{
    bytes::{self, Meaning},
    reflect,
    types::{self, Numbers},
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

/// All that is known of a message type and those within it. Message 0 is the type itself.
#[derive(Debug)]
pub struct Plan {
    messages: Vec<Message>,
    enums: Vec<Enum>,
    /// For what an `Any` says about itself.
    by_name: HashMap<String, u32>,
    style: Style,
}

/// One message type.
#[derive(Debug)]
pub struct Message {
    /// The full name.
    pub name: String,
    /// Whether it is spelled in a way of its own.
    pub form: Form,
    /// Ascending by number, extensions among them.
    pub fields: Vec<Field>,
    lookup: Lookup<u32>,
    /// By the tag of a single value, if that has one byte.
    near: [Place; NEAR],
    /// The same if it has two bytes, as far as there are any.
    far: Vec<Place>,
    /// How many of the fields are required.
    pub required: u32,
    /// How many oneofs there are, those that only mean `optional` not counted.
    pub oneofs: u32,
}

/// The well-known types that ProtoJSON spells in ways of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An object, as most messages are.
    Object,
    /// RFC 3339.
    Timestamp,
    /// `1.5s`.
    Duration,
    /// `a,b.c`.
    FieldMask,
    /// The value alone.
    Wrapper,
    /// Any object.
    Struct,
    /// Any value.
    Value,
    /// Any array.
    ListValue,
    /// An object that says its type.
    Any,
}

/// One field of a message. What the walk looks at for every value is in the first 64 bytes, one line of
/// the processor's cache.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Field {
    /// `,"name":`
    pub key: Literal,
    /// What its values are.
    pub kind: Kind,
    /// The field number.
    pub number: u32,
    /// Wire type of a single value.
    pub wire_type: u8,
    /// It is a list. A map is not.
    pub repeated: bool,
    /// Messages without it are faulty.
    pub required: bool,
    /// Zero is the same as absent.
    pub implicit: bool,
    /// Which oneof it belongs to, counted from 1; 0 for none.
    pub oneof: u32,
    /// The name in JSON: the field's own, or an extension's full name in brackets.
    pub name: String,
    /// What is shown for it where it is absent and the style asks for that.
    pub default: Option<Box<Literal>>,
}

impl Field {
    /// What stands before a single value.
    #[inline]
    pub const fn tag(&self) -> u32 {
        self.number << 3 | self.wire_type as u32
    }

    /// Whether that wire type is the one of a packed list of its values.
    #[inline]
    pub const fn is_packed_as(&self, wire_type: u8) -> bool {
        wire_type == 2 && !matches!(self.wire_type, 2 | 3)
    }
}

/// What a walk has to know of a field at once.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The field's index in its message, or [`Place::NOWHERE`]'s.
    pub index: u16,
    /// How it is taken where all is in order.
    pub step: Step,
    /// 1 if messages without it are faulty, else 0.
    pub required: u8,
}

impl Place {
    /// That of no field: no message has so many.
    pub const NOWHERE: &Self = &Self { index: u16::MAX, step: Step::Other, required: 0 };

    /// None if there are too many fields before it.
    pub(super) fn of(field: &Field, index: usize) -> Option<Self> {
        let index = u16::try_from(index).ok().filter(|&index| index < Self::NOWHERE.index)?;
        Some(Self { index, step: Step::of(field), required: field.required.into() })
    }

    const fn is_nowhere(self) -> bool {
        self.index == Self::NOWHERE.index
    }
}

/// The step of a walk that takes a field. What is frequent has one of its own, if the key is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in `Kind`")]
pub enum Step {
    Number32,
    Number64,
    Bool,
    Enum,
    String,
    Bytes,
    Mac,
    Message,
    /// A single value of another kind.
    Other,
    List,
    /// Something has to be looked at before a value is taken: it is a map, in a oneof, or zero means
    /// that it is absent.
    Special,
}

impl Step {
    fn of(field: &Field) -> Self {
        let is_map = matches!(field.kind, Kind::Map(_));
        match field.kind {
            _ if field.repeated => Self::List,
            _ if is_map || field.implicit || field.oneof > 0 => Self::Special,
            _ if !field.key.is_short() => Self::Other,
            Kind::Int32 | Kind::Uint32 => Self::Number32,
            Kind::Int64 | Kind::Uint64 => Self::Number64,
            Kind::Bool => Self::Bool,
            Kind::Enum(_) => Self::Enum,
            Kind::String | Kind::LooseString => Self::String,
            Kind::Bytes(_) => Self::Bytes,
            Kind::Mac(_) => Self::Mac,
            Kind::Message(_) => Self::Message,
            _ => Self::Other,
        }
    }
}

/// What the values of a field are, and how they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are protobuf's own names")]
pub enum Kind {
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Float,
    Double,
    /// Has to be UTF-8: proto3.
    String,
    /// Should be UTF-8, and is kept where it is not: proto2.
    LooseString,
    Bytes(Bytes),
    /// Index of the enum in the plan.
    Enum(u32),
    /// Index of the message in the plan.
    Message(u32),
    /// A message that is nothing but the bytes of a MAC address: index, as for any message.
    Mac(u32),
    /// Index of the message in the plan.
    Group(u32),
    /// Index of the entry, a message with the fields 1 and 2, in the plan.
    Map(u32),
}

/// How bytes are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Bytes {
    Mac,
    Ip,
    Essid,
    Base64,
    Hex,
}

/// The names of an enum.
#[derive(Debug)]
pub struct Enum {
    /// It is `NullValue`, of which there is one value whatever the number.
    pub is_null: bool,
    texts: Vec<Literal>,
    lookup: Lookup<i32>,
}

/// How many tags of one byte there are.
const NEAR: usize = 0x80;

/// Finds an index by a number: small numbers in an array, others in a map.
#[derive(Debug)]
struct Lookup<N> {
    dense: Vec<u32>,
    sparse: HashMap<N, u32>,
}

impl<N: Copy + Eq + Hash + TryInto<usize>> Lookup<N> {
    /// Numbers from here on are rare: nobody puts a field far from the others for fun.
    const DENSE: usize = 2048;

    /// Of equal numbers the first counts.
    fn new(numbers: impl ExactSizeIterator<Item = N>) -> Self {
        // A schema of many messages with one field each, far away, must not take much memory.
        let dense = Self::DENSE.min(64.max(16 * numbers.len()));
        let mut lookup = Self { dense: Vec::new(), sparse: HashMap::new() };
        for (index, number) in numbers.enumerate() {
            match number.try_into() {
                Ok(at) if at < dense => {
                    if lookup.dense.len() <= at {
                        lookup.dense.resize(at + 1, u32::MAX);
                    }
                    if lookup.dense[at] == u32::MAX {
                        lookup.dense[at] = index as u32;
                    }
                }
                _ => {
                    lookup.sparse.entry(number).or_insert(index as u32);
                }
            }
        }
        lookup
    }

    #[inline]
    fn find(&self, number: N) -> Option<usize> {
        let at = number.try_into().unwrap_or(usize::MAX);
        match self.dense.get(at) {
            // Where there is none this is past the end of whatever is looked up.
            Some(&index) => Some(index as usize),
            None if self.sparse.is_empty() => None,
            None => self.sparse.get(&number).map(|&index| index as usize),
        }
    }
}

impl Message {
    /// The field of that number.
    #[inline]
    pub fn field(&self, number: u32) -> Option<&Field> {
        self.fields.get(self.index(number)?)
    }

    /// Which field has that number. None, or an index past all fields, if there is none.
    #[inline]
    pub(super) fn index(&self, number: u32) -> Option<usize> {
        self.lookup.find(number)
    }

    /// Where the field with that tag is, which has one byte.
    #[inline(always)]
    pub(super) fn near(&self, tag: u8) -> Option<&Place> {
        self.near.get(usize::from(tag))
    }

    /// The same for a tag that has two bytes.
    #[inline(always)]
    pub(super) fn far(&self, tag: u16) -> Option<&Place> {
        self.far.get(usize::from(tag))
    }
}

impl Enum {
    /// What the first value is shown as: the default.
    pub fn first(&self) -> Option<&Literal> {
        self.texts.first()
    }

    /// What a number is shown as, unless it is unknown.
    #[inline]
    pub fn text(&self, number: i32) -> Option<&Literal> {
        self.texts.get(self.lookup.find(number)?)
    }
}

impl Plan {
    /// Compiles a message type and all that it needs.
    pub fn new(message: &MessageDescriptor, style: Style) -> Self {
        let mut build = Build { style, ..Build::default() };
        let mut messages = types::table(message, |descriptor, numbers| {
            let message = build.compile(descriptor, numbers);
            // What an `Any` holds is known only when it comes by.
            if message.form == Form::Any {
                for known in descriptor.parent_pool().all_messages() {
                    numbers.of(&known);
                }
            }
            message
        });
        let names = messages.iter().map(|message| message.name.clone());
        let by_name = names.zip(0..).collect();
        // That a message is nothing but an address can be told when it is compiled.
        let is_mac: Vec<bool> = messages.iter().map(Message::is_mac).collect();
        for field in messages.iter_mut().flat_map(|message| &mut message.fields) {
            if let Kind::Message(index) = field.kind
                && is_mac[index as usize]
            {
                field.kind = Kind::Mac(index);
            }
        }
        for message in &mut messages {
            (message.near, message.far) = places(&message.fields);
        }
        Self { messages, enums: build.enums, by_name, style }
    }

    /// The message that the plan was made for.
    pub fn root(&self) -> &Message {
        &self.messages[0]
    }

    /// Whether anything in it is shown as an object whose names have no order of their own.
    pub fn has_maps(&self) -> bool {
        let is_map = |field: &Field| matches!(field.kind, Kind::Map(_));
        self.messages.iter().any(|message| message.fields.iter().any(is_map))
    }

    /// The style that it was made for.
    pub const fn style(&self) -> Style {
        self.style
    }

    /// The message of that index.
    #[inline]
    pub fn message(&self, index: u32) -> &Message {
        &self.messages[index as usize]
    }

    /// The enum of that index.
    #[inline]
    pub fn enumeration(&self, index: u32) -> &Enum {
        &self.enums[index as usize]
    }

    /// The message of that full name, if the schema that an `Any` came with has it.
    pub fn named(&self, name: &str) -> Option<&Message> {
        self.by_name.get(name).map(|&index| self.message(index))
    }
}

impl Message {
    fn is_mac(&self) -> bool {
        match &*self.fields {
            [field] => {
                field.kind == Kind::Bytes(Bytes::Mac)
                    && field.number == 1
                    && !field.repeated
                    && field.oneof == 0
            }
            _ => false,
        }
    }
}

#[derive(Default)]
struct Build {
    style: Style,
    enums: Vec<Enum>,
    enums_by_name: HashMap<String, u32>,
}

impl Build {
    fn enumeration(&mut self, descriptor: &EnumDescriptor) -> u32 {
        if let Some(&index) = self.enums_by_name.get(descriptor.full_name()) {
            return index;
        }
        let values = &descriptor.enum_descriptor_proto().value;
        let is_null = descriptor.full_name() == "google.protobuf.NullValue";
        let text = |name: &str, number: i32| match self.style.enums {
            _ if is_null => "null".to_owned(),
            EnumStyle::Name => format!("\"{name}\""),
            EnumStyle::Number => number.to_string(),
        };
        self.enums.push(Enum {
            is_null,
            texts: values
                .iter()
                .map(|value| Literal::new(&text(value.name(), value.number())))
                .collect(),
            lookup: Lookup::new(values.iter().map(EnumValueDescriptorProto::number)),
        });
        let index = self.enums.len() as u32 - 1;
        self.enums_by_name.insert(descriptor.full_name().to_owned(), index);
        index
    }

    fn compile(&mut self, descriptor: &MessageDescriptor, numbers: &mut Numbers) -> Message {
        let mut oneofs = HashMap::new();
        for oneof in descriptor.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            oneofs.insert(oneof.full_name().to_owned(), oneofs.len() as u32 + 1);
        }
        let mut fields: Vec<Field> = descriptor
            .fields()
            .map(|field| {
                let oneof = field.containing_oneof();
                let oneof = oneof.and_then(|oneof| oneofs.get(oneof.full_name()).copied());
                let declared = Declared::of_field(&field);
                Field { oneof: oneof.unwrap_or(0), ..self.field(&declared, numbers) }
            })
            .collect();
        fields.extend(
            descriptor
                .extensions()
                .map(|extension| self.field(&Declared::of_extension(&extension), numbers)),
        );
        fields.sort_by_key(|field| field.number);
        Message {
            name: descriptor.full_name().to_owned(),
            form: form(descriptor.full_name()),
            lookup: Lookup::new(fields.iter().map(|field| field.number)),
            near: [*Place::NOWHERE; NEAR],
            far: Vec::new(),
            required: fields.iter().filter(|field| field.required).count() as u32,
            oneofs: oneofs.len() as u32,
            fields,
        }
    }

    fn field(&mut self, declared: &Declared, numbers: &mut Numbers) -> Field {
        use prost_reflect::Kind as Declares;

        let kind = match &declared.kind {
            Declares::Bool => Kind::Bool,
            Declares::Int32 => Kind::Int32,
            Declares::Int64 => Kind::Int64,
            Declares::Uint32 => Kind::Uint32,
            Declares::Uint64 => Kind::Uint64,
            Declares::Sint32 => Kind::Sint32,
            Declares::Sint64 => Kind::Sint64,
            Declares::Fixed32 => Kind::Fixed32,
            Declares::Fixed64 => Kind::Fixed64,
            Declares::Sfixed32 => Kind::Sfixed32,
            Declares::Sfixed64 => Kind::Sfixed64,
            Declares::Float => Kind::Float,
            Declares::Double => Kind::Double,
            Declares::String if declared.checks_utf8 => Kind::String,
            Declares::String => Kind::LooseString,
            Declares::Bytes => Kind::Bytes(match (self.style.bytes, declared.meaning) {
                (BytesStyle::Hex, _) => Bytes::Hex,
                (BytesStyle::Base64, _) | (_, Meaning::Opaque) => Bytes::Base64,
                (_, Meaning::Mac) => Bytes::Mac,
                (_, Meaning::Ip) => Bytes::Ip,
                (_, Meaning::Essid) => Bytes::Essid,
            }),
            Declares::Enum(descriptor) => Kind::Enum(self.enumeration(descriptor)),
            Declares::Message(descriptor) => {
                let index = numbers.of(descriptor) as u32;
                match () {
                    () if declared.is_map => Kind::Map(index),
                    () if declared.is_group => Kind::Group(index),
                    () => Kind::Message(index),
                }
            }
        };
        Field {
            key: Literal::new(&format!(",{}:", serde_json::Value::from(&*declared.name))),
            kind,
            number: declared.number,
            wire_type: if declared.is_group { 3 } else { declared.kind.wire_type() as u8 },
            repeated: declared.is_list,
            required: declared.is_required,
            implicit: declared.is_implicit,
            oneof: 0,
            default: self
                .style
                .defaults
                .then(|| self.shown_default(declared, kind))
                .flatten()
                .map(Box::new),
            name: declared.name.clone(),
        }
    }

    /// What is shown for an absent field. A proto2 scalar without a declared default has nothing:
    /// calling an absent utilisation 0 would be a lie.
    fn shown_default(&self, declared: &Declared, kind: Kind) -> Option<Literal> {
        let value = declared.value_when_absent.as_ref()?;
        let shown = match kind {
            Kind::Map(_) => "{}".to_owned(),
            _ if declared.is_list => "[]".to_owned(),
            _ => reflect::scalar(&declared.kind, declared.meaning, value, self.style).to_string(),
        };
        Some(Literal::new(&shown))
    }
}

/// The fields by their tags: see [`Message::near`] and [`Message::far`].
fn places(fields: &[Field]) -> ([Place; NEAR], Vec<Place>) {
    const FAR: usize = 1 << 14;

    // As for the numbers themselves.
    let most = FAR.min(512.max(64 * fields.len()));
    let (mut near, mut far) = ([*Place::NOWHERE; NEAR], Vec::new());
    for (index, field) in fields.iter().enumerate() {
        let tag = field.tag() as usize;
        let Some(place) = Place::of(field, index) else { break };
        // They ascend, and of equal ones the first counts.
        match near.get_mut(tag) {
            Some(found) if found.is_nowhere() => *found = place,
            None if (far.len()..most).contains(&tag) => {
                far.resize(tag, *Place::NOWHERE);
                far.push(place);
            }
            _ => {}
        }
    }
    (near, far)
}

/// What a field and an extension have in common.
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) number: u32,
    pub(super) kind: prost_reflect::Kind,
    pub(super) meaning: Meaning,
    pub(super) has_hex_macs: bool,
    pub(super) checks_utf8: bool,
    pub(super) is_list: bool,
    pub(super) is_map: bool,
    pub(super) is_group: bool,
    pub(super) is_packed: bool,
    is_required: bool,
    pub(super) is_implicit: bool,
    value_when_absent: Option<prost_reflect::Value>,
}

impl Declared {
    pub(super) fn of_field(field: &FieldDescriptor) -> Self {
        let entry = field.parent_message().is_map_entry();
        let is_implicit = !field.supports_presence() && !field.is_list() && !field.is_map();
        let given = !field.supports_presence() || declares_default(field.field_descriptor_proto());
        Self {
            name: field.name().to_owned(),
            number: field.number(),
            kind: field.kind(),
            meaning: Meaning::of(field),
            has_hex_macs: bytes::has_hex_macs(field.parent_message()),
            // A key has to be text, whatever the syntax.
            checks_utf8: field.parent_file().syntax() == Syntax::Proto3
                || entry && field.number() == 1,
            is_list: field.is_list(),
            is_map: field.is_map(),
            is_group: field.is_group(),
            is_packed: field.is_packed(),
            is_required: field.is_required(),
            // A map's zeroes are values like others.
            is_implicit: is_implicit && !entry,
            value_when_absent: given.then(|| field.default_value()),
        }
    }

    pub(super) fn of_extension(extension: &ExtensionDescriptor) -> Self {
        Self {
            name: extension.json_name().to_owned(),
            number: extension.number(),
            kind: extension.kind(),
            meaning: Meaning::Opaque,
            has_hex_macs: false,
            checks_utf8: extension.parent_file().syntax() == Syntax::Proto3,
            is_list: extension.is_list(),
            is_map: false,
            is_group: extension.is_group(),
            is_packed: extension.is_packed(),
            is_required: false,
            is_implicit: false,
            // Nobody wants to see every extension that is not there.
            value_when_absent: None,
        }
    }
}

fn declares_default(field: &FieldDescriptorProto) -> bool {
    field.default_value.is_some()
}

/// How a message of that full name is spelled.
pub(super) fn form(name: &str) -> Form {
    let Some(name) = name.strip_prefix("google.protobuf.") else { return Form::Object };
    match name {
        "Timestamp" => Form::Timestamp,
        "Duration" => Form::Duration,
        "FieldMask" => Form::FieldMask,
        "Struct" => Form::Struct,
        "Value" => Form::Value,
        "ListValue" => Form::ListValue,
        "Any" => Form::Any,
        "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value"
        | "UInt32Value" | "BoolValue" | "StringValue" | "BytesValue" => Form::Wrapper,
        _ => Form::Object,
    }
}
