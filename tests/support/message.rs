//! Random messages of any type, as wire bytes: tidy ones and, as often, ones in which everything is
//! out of order that protobuf allows to be.

use fastrand::Rng;
use prost_reflect::{
    Cardinality, DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, Syntax,
    prost_types::{MessageOptions, field_descriptor_proto::Type},
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

/// The bytes of a message that this type allows.
pub fn random(message: &MessageDescriptor, seed: u64) -> Vec<u8> {
    let mut maker = Maker { rng: Rng::with_seed(seed), tidy: seed.is_multiple_of(2), left: 60 };
    maker.message(message, 0)
}

/// The same type with every string that need not be UTF-8 declared as bytes.
pub fn without_loose_strings(message: &MessageDescriptor) -> MessageDescriptor {
    let mut set: Vec<_> = message.parent_pool().file_descriptor_protos().cloned().collect();
    for file in set.iter_mut().filter(|file| file.syntax() != "proto3") {
        file.message_type.iter_mut().for_each(loosen);
    }
    let set = prost_reflect::prost_types::FileDescriptorSet { file: set };
    let pool = DescriptorPool::from_file_descriptor_set(set).unwrap();
    pool.get_message_by_name(message.full_name()).unwrap()
}

fn loosen(message: &mut prost_reflect::prost_types::DescriptorProto) {
    message.nested_type.iter_mut().for_each(loosen);
    let is_entry = message.options.as_ref().is_some_and(MessageOptions::map_entry);
    for field in &mut message.field {
        // A map's key has to be text in any case.
        if field.r#type() == Type::String && !(is_entry && field.number() == 1) {
            field.set_type(Type::Bytes);
        }
    }
}

struct Maker {
    rng: Rng,
    tidy: bool,
    /// So many messages may still be made.
    left: u32,
}

impl Maker {
    fn one_in(&mut self, chance: u32) -> bool {
        self.rng.u32(0..chance) == 0
    }

    fn message(&mut self, message: &MessageDescriptor, depth: u32) -> Vec<u8> {
        if let Some(name) = message.full_name().strip_prefix("google.protobuf.")
            && let Some(data) = self.well_known(name, message)
        {
            return data;
        }
        self.left = self.left.saturating_sub(1);
        // Each a tag with its value, or several that must follow each other.
        let mut parts = Vec::new();
        let mut fields: Vec<_> = message.fields().collect();
        fields.sort_by_key(FieldDescriptor::number);
        let entry = message.is_map_entry();
        for field in fields {
            let wanted = field.cardinality() == Cardinality::Required || entry || self.one_in(2);
            if !wanted || (depth > 3 || self.left == 0) && field.kind().as_message().is_some() {
                continue;
            }
            self.field(&field, depth, &mut parts);
        }
        if !self.tidy && self.one_in(3) {
            parts.push(self.unknown());
        }
        if !self.tidy && self.one_in(2) {
            self.rng.shuffle(&mut parts);
        }
        parts.concat()
    }

    fn field(&mut self, field: &FieldDescriptor, depth: u32, parts: &mut Vec<Vec<u8>>) {
        let number = field.number();
        if field.is_list() || field.is_map() {
            let expected = field.kind().wire_type() as u8;
            let numbers = expected != 2 && !field.is_group();
            for _ in 0..self.rng.u32(1..4) {
                let packed = if self.tidy { field.is_packed() } else { self.rng.bool() };
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

    fn tagged(&mut self, field: &FieldDescriptor, depth: u32) -> Vec<u8> {
        let number = field.number();
        if field.is_group() {
            let value = self.value(field, depth);
            return [tag(number, 3), value, tag(number, 4)].concat();
        }
        [tag(number, field.kind().wire_type() as u8), self.value(field, depth)].concat()
    }

    fn value(&mut self, field: &FieldDescriptor, depth: u32) -> Vec<u8> {
        match field.kind() {
            Kind::Float => self.pick_float().to_le_bytes().to_vec(),
            Kind::Double => self.pick_double().to_le_bytes().to_vec(),
            Kind::Fixed32 | Kind::Sfixed32 => (self.number() as u32).to_le_bytes().to_vec(),
            Kind::Fixed64 | Kind::Sfixed64 => self.number().to_le_bytes().to_vec(),
            Kind::Bool if self.tidy => varint(u64::from(self.rng.bool())),
            Kind::Enum(kind) if self.tidy || !self.one_in(8) => {
                let values: Vec<_> = kind.values().map(|value| value.number()).collect();
                varint(i64::from(values[self.rng.usize(..values.len())]).cast_unsigned())
            }
            Kind::String => {
                let loose = field.parent_file().syntax() == Syntax::Proto2
                    && !field.parent_message().is_map_entry();
                match self.rng.usize(..TEXTS.len() + 2) {
                    index if index < TEXTS.len() => bytes(TEXTS[index].as_bytes()),
                    index if index > TEXTS.len() && loose && !self.tidy => bytes(b"caf\xe9\xff"),
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
                let data = self.message(&message, depth + 1);
                if field.is_group() { data } else { bytes(&data) }
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

    /// Well-known types of which not every value has a JSON form: one that has.
    fn well_known(&mut self, name: &str, message: &MessageDescriptor) -> Option<Vec<u8>> {
        let int =
            |number: u32, value: i64| [tag(number, 0), varint(value.cast_unsigned())].concat();
        Some(match name {
            "Timestamp" => {
                let nanos = [0, 1, 1_000, 120_000_000, 999_999_999][self.rng.usize(..5)];
                let seconds = self.rng.i64(-62_135_596_800..253_402_300_799);
                [int(1, seconds), int(2, nanos)].concat()
            }
            "Duration" => {
                let nanos = [0, 1, 1_000, 120_000_000, 999_999_999][self.rng.usize(..5)];
                let seconds = self.rng.i64(0..315_576_000_000);
                let sign = if self.rng.bool() { 1 } else { -1 };
                [int(1, sign * seconds), int(2, sign * nanos)].concat()
            }
            "FieldMask" => {
                let paths = ["a", "some_path.to_it", "x_y_z"];
                let some = paths.iter().filter(|_| self.rng.bool());
                some.flat_map(|path| [tag(1, 2), bytes(path.as_bytes())].concat()).collect()
            }
            "Any" => {
                let known = message.parent_pool().get_message_by_name("google.protobuf.Timestamp");
                let inner = self.message(&known?, 0);
                let url = b"type.googleapis.com/google.protobuf.Timestamp";
                [tag(1, 2), bytes(url), tag(2, 2), bytes(&inner)].concat()
            }
            "Value" => match self.rng.usize(..3) {
                0 => int(1, 0),
                1 => [tag(2, 1), 0.5_f64.to_le_bytes().to_vec()].concat(),
                _ => [tag(3, 2), bytes(b"text")].concat(),
            },
            _ => return None,
        })
    }

    fn unknown(&mut self) -> Vec<u8> {
        let number = 50_000 + self.rng.u32(..9);
        match self.rng.usize(..5) {
            0 => [tag(number, 0), varint(self.number())].concat(),
            1 => [tag(number, 1), vec![7; 8]].concat(),
            2 => [tag(number, 2), bytes(b"unknown")].concat(),
            3 => [tag(number, 3), tag(1, 0), varint(1), tag(number, 4)].concat(),
            _ => [tag(number, 5), vec![7; 4]].concat(),
        }
    }
}

fn tag(number: u32, wire_type: u8) -> Vec<u8> {
    varint(u64::from(number) << 3 | u64::from(wire_type))
}

fn varint(value: u64) -> Vec<u8> {
    let mut data = Vec::new();
    prost::encoding::encode_varint(value, &mut data);
    data
}

fn bytes(data: &[u8]) -> Vec<u8> {
    [varint(data.len() as u64), data.to_vec()].concat()
}
