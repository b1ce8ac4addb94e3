//! Random messages of any type, as wire bytes: tidy ones and, as often, ones in which everything is
//! out of order that protobuf allows to be.

use fastrand::Rng;
use prost_reflect::{
    Cardinality, DescriptorPool, Kind, MessageDescriptor, Syntax,
    prost_types::{
        DescriptorProto, FieldDescriptorProto, MessageOptions, field_descriptor_proto::Type,
    },
};

const TEXTS: [&str; 10] = [
    "",
    "up",
    "sixteen bytes ok",
    "seventeen bytes !",
    "a name that is longer than two blocks of sixteen",
    "quote \" and \\ backslash",
    "tab\tline\nreturn\rbell\u{7}\u{8}\u{c}\u{0}\u{1f}\u{7f}",
    "Café Gäste 漢字 🚀",
    "\u{2028}\u{202e}\u{feff}",
    "</script>",
];

const NUMBERS: [u64; 12] = [
    0,
    1,
    9,
    10,
    127,
    128,
    99_999_999,
    100_000_000,
    u32::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// What stands before the names of types in an `Any`.
const TYPES: &str = "type.googleapis.com/";

/// The bytes of a message that this type allows.
pub fn random(message: &MessageDescriptor, seed: u64) -> Vec<u8> {
    Maker::new(seed, 60).message(message, 0)
}

/// The same with few fields.
pub fn random_small(message: &MessageDescriptor, seed: u64) -> Vec<u8> {
    Maker { sparse: true, ..Maker::new(seed, 4) }.message(message, 0)
}

/// The same with nothing that PyPI's protobuf cannot show: no number without a name in a closed enum,
/// no string that is not UTF-8, no time that cannot be told, nothing unknown in the entry of a map.
pub fn random_proper(message: &MessageDescriptor, seed: u64) -> Vec<u8> {
    Maker { proper: true, ..Maker::new(seed, 60) }.message(message, 0)
}

/// The same type with every string that need not be UTF-8 declared as bytes.
pub fn without_loose_strings(message: &MessageDescriptor) -> MessageDescriptor {
    let mut set: Vec<_> = message.parent_pool().file_descriptor_protos().cloned().collect();
    for file in set.iter_mut().filter(|file| file.syntax() != "proto3") {
        file.message_type.iter_mut().for_each(loosen);
        file.extension.iter_mut().for_each(loosen_field);
    }
    let set = prost_reflect::prost_types::FileDescriptorSet { file: set };
    let pool = DescriptorPool::from_file_descriptor_set(set).unwrap();
    pool.get_message_by_name(message.full_name()).unwrap()
}

fn loosen(message: &mut DescriptorProto) {
    message.nested_type.iter_mut().for_each(loosen);
    message.extension.iter_mut().for_each(loosen_field);
    let is_entry = message.options.as_ref().is_some_and(MessageOptions::map_entry);
    // A map's key has to be text in any case.
    let fields = message.field.iter_mut().filter(|field| !(is_entry && field.number() == 1));
    fields.for_each(loosen_field);
}

fn loosen_field(field: &mut FieldDescriptorProto) {
    if field.r#type() == Type::String {
        field.set_type(Type::Bytes);
        // It is spelled in another way, and only shown for what is absent.
        field.default_value = None;
    }
}

/// What a field and an extension have in common.
pub struct Declared {
    pub name: String,
    pub number: u32,
    pub kind: Kind,
    pub is_list: bool,
    pub is_map: bool,
    /// It is a string and need not be UTF-8.
    pub is_loose: bool,
    is_packed: bool,
    is_group: bool,
    is_required: bool,
}

impl Declared {
    /// All fields and extensions of a message, by number.
    pub fn all_of(message: &MessageDescriptor) -> Vec<Self> {
        let fields = message.fields().map(|field| Self {
            name: field.name().to_owned(),
            number: field.number(),
            kind: field.kind(),
            is_list: field.is_list(),
            is_map: field.is_map(),
            is_loose: field.kind() == Kind::String
                && field.parent_file().syntax() == Syntax::Proto2
                && !(message.is_map_entry() && field.number() == 1),
            is_packed: field.is_packed(),
            is_group: field.is_group(),
            is_required: field.cardinality() == Cardinality::Required,
        });
        let extensions = message.extensions().map(|extension| Self {
            name: extension.json_name().to_owned(),
            number: extension.number(),
            kind: extension.kind(),
            is_list: extension.is_list(),
            is_map: false,
            is_loose: extension.kind() == Kind::String
                && extension.parent_file().syntax() == Syntax::Proto2,
            is_packed: extension.is_packed(),
            is_group: extension.is_group(),
            is_required: false,
        });
        let mut all: Vec<_> = fields.chain(extensions).collect();
        all.sort_by_key(|field| field.number);
        all
    }
}

struct Maker {
    rng: Rng,
    tidy: bool,
    /// Every decoder shows all of it.
    proper: bool,
    /// Few fields are set.
    sparse: bool,
    /// So many messages may still be made.
    left: u32,
}

impl Maker {
    fn new(seed: u64, left: u32) -> Self {
        let rng = Rng::with_seed(seed);
        Self { rng, tidy: seed.is_multiple_of(2), proper: false, sparse: false, left }
    }

    fn one_in(&mut self, chance: u32) -> bool {
        self.rng.u32(0..chance) == 0
    }

    /// Now and then, where all is allowed.
    fn oddly(&mut self, chance: u32) -> bool {
        !self.tidy && !self.proper && self.one_in(chance)
    }

    fn message(&mut self, message: &MessageDescriptor, depth: u32) -> Vec<u8> {
        self.left = self.left.saturating_sub(1);
        if let Some(name) = message.full_name().strip_prefix("google.protobuf.")
            && let Some(data) = self.well_known(name, message, depth)
        {
            return data;
        }
        // Each a tag with its value, or several that must follow each other.
        let mut parts = Vec::new();
        let entry = message.is_map_entry();
        let chance = if self.sparse { 5 } else { 2 };
        for field in Declared::all_of(message) {
            // An entry may lack its key or its value.
            let given = if entry { !self.oddly(8) } else { field.is_required };
            let wanted = given || (!entry && self.one_in(chance));
            if !wanted || (depth > 3 || self.left == 0) && field.kind.as_message().is_some() {
                continue;
            }
            self.field(&field, depth, &mut parts);
        }
        if !(self.tidy || entry && self.proper) && self.one_in(3) {
            parts.push(self.unknown());
        }
        if !self.tidy && self.one_in(2) {
            self.rng.shuffle(&mut parts);
        }
        parts.concat()
    }

    fn field(&mut self, field: &Declared, depth: u32, parts: &mut Vec<Vec<u8>>) {
        let number = field.number;
        if field.is_list || field.is_map {
            let expected = field.kind.wire_type() as u8;
            let numbers = expected != 2 && !field.is_group;
            for _ in 0..self.rng.u32(1..4) {
                let packed = if self.tidy { field.is_packed } else { self.rng.bool() };
                if numbers && packed {
                    let values: Vec<u8> =
                        (0..self.rng.u32(0..5)).flat_map(|_| self.value(field, depth)).collect();
                    parts.push([tag(number, 2), bytes(&values)].concat());
                } else {
                    parts.push(self.tagged(field, depth));
                }
            }
            return;
        }
        parts.push(self.tagged(field, depth));
        while !self.tidy && self.one_in(4) {
            parts.push(self.tagged(field, depth));
        }
    }

    fn tagged(&mut self, field: &Declared, depth: u32) -> Vec<u8> {
        let number = field.number;
        if field.is_group {
            let value = self.value(field, depth);
            return [tag(number, 3), value, tag(number, 4)].concat();
        }
        [tag(number, field.kind.wire_type() as u8), self.value(field, depth)].concat()
    }

    fn value(&mut self, field: &Declared, depth: u32) -> Vec<u8> {
        match &field.kind {
            Kind::Float => self.pick_float().to_le_bytes().to_vec(),
            Kind::Double => self.pick_double().to_le_bytes().to_vec(),
            Kind::Fixed32 | Kind::Sfixed32 => (self.number() as u32).to_le_bytes().to_vec(),
            Kind::Fixed64 | Kind::Sfixed64 => self.number().to_le_bytes().to_vec(),
            Kind::Bool if self.tidy => varint(u64::from(self.rng.bool())),
            Kind::Enum(kind) if !self.oddly(8) => {
                let values: Vec<_> = kind.values().map(|value| value.number()).collect();
                varint(i64::from(values[self.rng.usize(..values.len())]).cast_unsigned())
            }
            Kind::String => {
                let odd = field.is_loose && self.oddly(6);
                match self.rng.usize(..=TEXTS.len()) {
                    _ if odd => bytes(b"caf\xe9\xff"),
                    index if index < TEXTS.len() => bytes(TEXTS[index].as_bytes()),
                    _ => bytes(self.number().to_string().as_bytes()),
                }
            }
            Kind::Bytes => {
                let size = [0, 3, 4, 6, 8, 12, 16, 17, 40][self.rng.usize(..9)];
                let hex = size == 12 && self.rng.bool();
                let data: Vec<u8> = (0..size)
                    .map(|_| if hex { b'0' + self.rng.u8(..10) } else { self.rng.u8(..) })
                    .collect();
                bytes(&data)
            }
            Kind::Message(message) => {
                let data = self.message(message, depth + 1);
                if field.is_group { data } else { bytes(&data) }
            }
            _ => {
                let number = self.number();
                varint(number)
            }
        }
    }

    fn number(&mut self) -> u64 {
        match self.rng.u32(..3) {
            0 => NUMBERS[self.rng.usize(..NUMBERS.len())],
            1 => self.rng.u64(..1000),
            _ => self.rng.u64(..) >> self.rng.u32(..64),
        }
    }

    fn pick_float(&mut self) -> f32 {
        let known = [0.0, -0.0, 0.1, 1e16, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE, f32::MAX];
        match self.rng.usize(..2) {
            0 => known[self.rng.usize(..known.len())],
            _ => f32::from_bits(self.rng.u32(..)),
        }
    }

    fn pick_double(&mut self) -> f64 {
        let known =
            [0.0, -0.0, 0.1, 1e21, f64::NAN, f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::MAX];
        match self.rng.usize(..2) {
            0 => known[self.rng.usize(..known.len())],
            _ => f64::from_bits(self.rng.u64(..)),
        }
    }

    /// Well-known types of which not every value has a JSON form: mostly one that has.
    fn well_known(
        &mut self,
        name: &str,
        message: &MessageDescriptor,
        depth: u32,
    ) -> Option<Vec<u8>> {
        const NANOS: [i64; 5] = [0, 1, 1_000, 120_000_000, 999_999_999];
        const PATHS: [&str; 4] = ["a", "some_path.to_it", "x_y_z", "number1"];
        const ODD_PATHS: [&str; 8] = ["", "_", "a_", "_a", "Ab", "a__b", "a_.b", "x_1"];

        Some(match name {
            "Timestamp" | "Duration" if self.oddly(6) => {
                let (seconds, nanos) = (self.number(), self.number());
                [int(1, seconds), int(2, nanos)].concat()
            }
            "Timestamp" => {
                let seconds = self.rng.i64(-62_135_596_800..253_402_300_799);
                [int(1, seconds.cast_unsigned()), int(2, self.pick(&NANOS).cast_unsigned())]
                    .concat()
            }
            "Duration" => {
                let sign = if self.rng.bool() { 1 } else { -1 };
                let seconds = sign * self.rng.i64(0..315_576_000_000);
                let nanos = sign * self.pick(&NANOS);
                [int(1, seconds.cast_unsigned()), int(2, nanos.cast_unsigned())].concat()
            }
            "FieldMask" => (0..self.rng.u32(..4))
                .flat_map(|_| {
                    let paths: &[_] = if self.oddly(4) { &ODD_PATHS } else { &PATHS };
                    len(1, self.pick(paths).as_bytes())
                })
                .collect(),
            "Any" => self.any(message, depth),
            "Value" => {
                let mut value = self.any_value(message, depth);
                while !self.tidy && self.one_in(4) {
                    value.extend(self.any_value(message, depth));
                }
                value
            }
            _ => return None,
        })
    }

    fn any(&mut self, message: &MessageDescriptor, depth: u32) -> Vec<u8> {
        if self.oddly(8) {
            return [len(1, b"example.com/no.such.Type"), len(2, b"\x08\x01")].concat();
        }
        if depth > 3 || self.left == 0 {
            return Vec::new();
        }
        let known = message.parent_pool().all_messages().filter(|known| !known.is_map_entry());
        let known: Vec<_> = known.collect();
        let inner = &known[self.rng.usize(..known.len())];
        let url = format!("{TYPES}{}", inner.full_name());
        let content = self.message(inner, depth + 1);
        [len(1, url.as_bytes()), len(2, &content)].concat()
    }

    fn any_value(&mut self, message: &MessageDescriptor, depth: u32) -> Vec<u8> {
        let leaf = depth > 3 || self.left == 0;
        let inner = |name: &str| message.parent_pool().get_message_by_name(name).unwrap();
        match self.rng.u32(if leaf { 0..4 } else { 0..6 }) {
            0 => int(1, 0),
            1 => {
                let mut number = self.pick_double();
                if self.proper && !number.is_finite() {
                    number = 0.5;
                }
                [tag(2, 1), number.to_le_bytes().to_vec()].concat()
            }
            2 => len(3, self.pick(&TEXTS).as_bytes()),
            3 => int(4, u64::from(self.rng.bool())),
            4 => len(5, &self.message(&inner("google.protobuf.Struct"), depth + 1)),
            _ => len(6, &self.message(&inner("google.protobuf.ListValue"), depth + 1)),
        }
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(..of.len())]
    }

    fn unknown(&mut self) -> Vec<u8> {
        let number = 50_000 + self.rng.u32(..9);
        match self.rng.usize(..5) {
            0 => int(number, self.number()),
            1 => [tag(number, 1), vec![7; 8]].concat(),
            2 => len(number, b"unknown"),
            3 => group(number, &int(1, 1)),
            _ => [tag(number, 5), vec![7; 4]].concat(),
        }
    }
}

/// A tag.
pub fn tag(number: u32, wire_type: u8) -> Vec<u8> {
    varint(u64::from(number) << 3 | u64::from(wire_type))
}

/// A varint, as short as it can be.
pub fn varint(value: u64) -> Vec<u8> {
    let mut data = Vec::new();
    prost::encoding::encode_varint(value, &mut data);
    data
}

/// A length and so many bytes.
pub fn bytes(data: &[u8]) -> Vec<u8> {
    [varint(data.len() as u64), data.to_vec()].concat()
}

/// A field that is a varint.
pub fn int(number: u32, value: u64) -> Vec<u8> {
    [tag(number, 0), varint(value)].concat()
}

/// A field with a length: a string, bytes, a message or packed numbers.
pub fn len(number: u32, data: &[u8]) -> Vec<u8> {
    [tag(number, 2), bytes(data)].concat()
}

/// A field that is a group.
pub fn group(number: u32, content: &[u8]) -> Vec<u8> {
    [&tag(number, 3), content, &tag(number, 4)].concat()
}
