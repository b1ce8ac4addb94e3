//! Messages written again, field by field, in the order in which they stand.

use prost::encoding::encode_varint;
use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};

use super::{
    Redactor,
    policy::{Action, Policy},
    table::Class,
};
use crate::codec::{
    Fault,
    types::{self, Numbers},
    walk::DEPTH_LIMIT,
    wire::{self, Value, WireError},
};

/// What becomes of each field of a message, and of those that are in it.
#[derive(Debug)]
pub struct Rules {
    /// The first one is the message itself.
    messages: Vec<Message>,
}

#[derive(Debug, Default)]
struct Message {
    /// By number.
    fields: Vec<(u32, Rule)>,
    place: Place,
}

impl Message {
    fn rule(&self, number: u32) -> Option<&Rule> {
        let at = self.fields.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(&self.fields[at].1)
    }
}

#[derive(Clone, Debug)]
enum Rule {
    /// Text or bytes.
    Value { class: Class, is_bytes: bool },
    /// Text or bytes that stay.
    Kept,
    /// A number that is a name.
    Name(Class, Number, Packing),
    /// A number that stays: every one that the table does not name.
    Number(Number, Packing),
    /// It may be moved.
    Coordinate(Axis, Number),
    /// Index of the message.
    Message(usize),
    /// Nothing is written.
    Dropped,
    /// Something has to be there.
    Emptied(Number),
}

/// Whether several numbers may stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    /// One each.
    Single,
    /// Those of a list.
    Packed,
}

/// The numbers of the fields that say where something is.
#[derive(Debug, Default)]
struct Place {
    /// Which place it is in: the first one that is given. The smallest comes first.
    sites: Vec<u32>,
    axes: Vec<(Axis, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axis {
    X,
    Y,
    Longitude,
    Latitude,
    Altitude,
}

/// The fields of the table whose class is a coordinate.
const AXES: [(&str, Axis); 5] = [
    ("sta_location_x", Axis::X),
    ("sta_location_y", Axis::Y),
    ("longitude", Axis::Longitude),
    ("latitude", Axis::Latitude),
    ("altitude", Axis::Altitude),
];

/// And the places that they are in.
const SITES: [&str; 3] = ["floor_id_string", "building_id_string", "campus_id_string"];

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    /// Signed, of 32 bits: the higher ones are those of its sign.
    Int32,
    Bits32,
    Bits64,
    Bool,
    Fixed32,
    Fixed64,
    /// It is none: a length stands before it.
    Length,
}

impl Number {
    fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Int32 | Kind::Enum(_) => Self::Int32,
            Kind::Uint32 | Kind::Sint32 => Self::Bits32,
            Kind::Int64 | Kind::Uint64 | Kind::Sint64 => Self::Bits64,
            Kind::Bool => Self::Bool,
            Kind::Fixed32 | Kind::Sfixed32 | Kind::Float => Self::Fixed32,
            Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => Self::Fixed64,
            Kind::String | Kind::Bytes | Kind::Message(_) => Self::Length,
        }
    }

    const fn wire_type(self) -> u32 {
        match self {
            Self::Int32 | Self::Bits32 | Self::Bits64 | Self::Bool => 0,
            Self::Fixed64 => 1,
            Self::Length => 2,
            Self::Fixed32 => 5,
        }
    }

    /// The number on the wire, if it is one of this kind. What there is no room for is cut off, as by
    /// every decoder.
    fn read(self, value: Value<'_>) -> Option<u64> {
        Some(match (self, value) {
            (Self::Int32, Value::Varint(bits)) => i64::from(bits as u32 as i32).cast_unsigned(),
            (Self::Bits32, Value::Varint(bits)) => u64::from(bits as u32),
            (Self::Bits64, Value::Varint(bits)) | (Self::Fixed64, Value::Fixed64(bits)) => bits,
            (Self::Bool, Value::Varint(bits)) => u64::from(bits != 0),
            (Self::Fixed32, Value::Fixed32(bits)) => u64::from(bits),
            _ => return None,
        })
    }

    fn write(self, bits: u64, out: &mut Vec<u8>) {
        match self {
            Self::Fixed32 => out.extend_from_slice(&(bits as u32).to_le_bytes()),
            Self::Fixed64 => out.extend_from_slice(&bits.to_le_bytes()),
            _ => encode_varint(bits, out),
        }
    }

    const fn limit(self) -> u64 {
        match self {
            Self::Bits32 => u32::MAX as u64,
            _ => u64::MAX,
        }
    }

    fn float(self, bits: u64) -> f64 {
        match self {
            Self::Fixed32 => f32::from_bits(bits as u32).into(),
            _ => f64::from_bits(bits),
        }
    }

    fn bits(self, float: f64) -> u64 {
        match self {
            Self::Fixed32 => u64::from((float as f32).to_bits()),
            _ => float.to_bits(),
        }
    }
}

impl Rules {
    /// For messages of this type, by the table and by what a policy says.
    pub fn new(message: &MessageDescriptor, policy: &Policy) -> Self {
        let messages =
            types::table(message, |descriptor, numbers| message_of(descriptor, policy, numbers));
        Self { messages }
    }

    /// The message with pseudonyms, or the place where it is no protobuf.
    pub fn apply(&self, data: &[u8], redactor: &mut Redactor) -> Result<Vec<u8>, Fault> {
        let mut out = Vec::with_capacity(data.len() + data.len() / 4);
        let mut walk = Walk { rules: self, redactor };
        walk.message(0, data, 0, 0, &mut out)?;
        Ok(out)
    }
}

fn message_of(descriptor: &MessageDescriptor, policy: &Policy, numbers: &mut Numbers) -> Message {
    let mut message = Message::default();
    for field in descriptor.fields() {
        let rule = rule(descriptor, &field, policy, numbers);
        if let Rule::Coordinate(axis, _) = rule {
            message.place.axes.push((axis, field.number()));
        }
        message.fields.push((field.number(), rule));
    }
    message.fields.sort_by_key(|(number, _)| *number);
    let sites = SITES.iter().filter_map(|name| descriptor.get_field_by_name(name));
    message.place.sites = sites.map(|field| field.number()).collect();
    message
}

fn rule(
    descriptor: &MessageDescriptor,
    field: &FieldDescriptor,
    policy: &Policy,
    numbers: &mut Numbers,
) -> Rule {
    let kind = field.kind();
    let number = Number::of(&kind);
    let packing = if field.is_list() { Packing::Packed } else { Packing::Single };
    // Nothing of ours has any; they are dropped as unknown.
    if field.is_group() || field.is_map() {
        return Rule::Dropped;
    }
    let action = policy.action(descriptor.full_name(), field.name());
    if action == Some(Action::Drop) {
        let required = field.cardinality() == Cardinality::Required;
        return if required { Rule::Emptied(number) } else { Rule::Dropped };
    }
    match (kind, action) {
        (Kind::Message(of), _) => Rule::Message(numbers.of(&of)),
        (Kind::String | Kind::Bytes, Some(Action::Keep)) => Rule::Kept,
        (kind @ (Kind::String | Kind::Bytes), Some(Action::As(class))) => {
            Rule::Value { class, is_bytes: kind == Kind::Bytes }
        }
        // A test sees to it that there is none.
        (Kind::String | Kind::Bytes, _) => Rule::Dropped,
        (_, Some(Action::As(Class::Coordinate))) => {
            let axis = AXES.iter().find(|(name, _)| *name == field.name());
            axis.map_or(Rule::Dropped, |(_, axis)| Rule::Coordinate(*axis, number))
        }
        (Kind::Uint32 | Kind::Uint64, Some(Action::As(class))) => {
            Rule::Name(class, number, packing)
        }
        (_, Some(Action::As(_) | Action::Drop)) => Rule::Dropped,
        (_, Some(Action::Keep) | None) => Rule::Number(number, packing),
    }
}

struct Walk<'a> {
    rules: &'a Rules,
    redactor: &'a mut Redactor,
}

impl Walk<'_> {
    /// Writes a message that begins at `base` of the frame.
    fn message(
        &mut self,
        of: usize,
        data: &[u8],
        base: usize,
        depth: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let message = &self.rules.messages[of];
        let moved = self.moved(message, data, base)?;
        // The numbers of the groups that are open: none of them is known.
        let mut groups = Vec::new();
        for field in wire::fields(data) {
            let field = field.map_err(|error| fault(base, error))?;
            match field.value {
                Value::GroupStart => groups.push(field.number),
                Value::GroupEnd if groups.pop() == Some(field.number) => self.redactor.dropped += 1,
                Value::GroupEnd => {
                    let reason = "a group ends that has not begun".to_owned();
                    return Err(Fault::new(base + field.offset, String::new(), reason));
                }
                _ if !groups.is_empty() => {}
                value => {
                    let start = base + field.value_offset;
                    let known = match message.rule(field.number) {
                        Some(Rule::Message(of)) => match value {
                            Value::Bytes(inner) if depth < DEPTH_LIMIT => {
                                let mut nested = Vec::with_capacity(inner.len());
                                self.message(*of, inner, start, depth + 1, &mut nested)?;
                                tag(field.number, Number::Length, out);
                                bytes(&nested, out);
                                true
                            }
                            _ => false,
                        },
                        Some(rule) => self.field(rule, field.number, value, &moved, out),
                        None => false,
                    };
                    self.redactor.dropped += u64::from(!known);
                }
            }
        }
        if groups.is_empty() {
            return Ok(());
        }
        let reason = "the message ends inside a group".to_owned();
        Err(Fault::new(base + data.len(), String::new(), reason))
    }

    /// Writes a field that holds no message. False if its value is of another type.
    fn field(
        &mut self,
        rule: &Rule,
        number: u32,
        value: Value<'_>,
        moved: &[(Axis, f64)],
        out: &mut Vec<u8>,
    ) -> bool {
        let written = match (rule, value) {
            (Rule::Value { class, is_bytes }, Value::Bytes(value)) => {
                let made = self.redactor.value(*class, *is_bytes, value);
                tag(number, Number::Length, out);
                bytes(&made, out);
                Some(())
            }
            (Rule::Kept, Value::Bytes(value)) => {
                tag(number, Number::Length, out);
                bytes(value, out);
                Some(())
            }
            (Rule::Name(class, of, packing), value) => {
                let (class, limit) = (*class, of.limit());
                let made = |bits| self.redactor.number(class, bits, limit);
                numbers((*of, *packing), number, value, out, made)
            }
            (Rule::Number(of, packing), value) => {
                numbers((*of, *packing), number, value, out, |bits| bits)
            }
            (Rule::Coordinate(axis, of), value) => {
                let place = moved.iter().find(|(of, _)| of == axis);
                place.zip(of.read(value)).map(|((_, at), _)| {
                    tag(number, *of, out);
                    of.write(of.bits(*at), out);
                })
            }
            (Rule::Emptied(of), _) => {
                tag(number, *of, out);
                of.write(0, out);
                Some(())
            }
            (Rule::Dropped, _) => Some(()),
            _ => None,
        };
        written.is_some()
    }

    /// Where what is said to be somewhere goes to: nowhere, if nothing says which place it is in.
    fn moved(
        &self,
        message: &Message,
        data: &[u8],
        base: usize,
    ) -> Result<Vec<(Axis, f64)>, Fault> {
        let place = &message.place;
        if place.axes.is_empty() {
            return Ok(Vec::new());
        }
        let mut sites = vec![&[][..]; place.sites.len()];
        let mut found = [None; AXES.len()];
        for field in wire::fields(data) {
            let field = field.map_err(|error| fault(base, error))?;
            if let Value::Bytes(name) = field.value
                && let Some(at) = place.sites.iter().position(|site| *site == field.number)
            {
                sites[at] = name;
            }
            if let Some(Rule::Coordinate(axis, number)) = message.rule(field.number)
                && let Some(bits) = number.read(field.value)
            {
                found[*axis as usize] = Some(number.float(bits)).filter(|at| at.is_finite());
            }
        }
        let Some(site) = sites.into_iter().find(|site| !site.is_empty()) else {
            return Ok(Vec::new());
        };
        let motion = self.redactor.motion(site);
        let of = |axis: Axis| found[axis as usize];
        let mut moved = Vec::new();
        if let (Some(x), Some(y)) = (of(Axis::X), of(Axis::Y)) {
            let [x, y] = motion.on_plan([x, y]);
            moved.extend([(Axis::X, x), (Axis::Y, y)]);
        }
        if let (Some(longitude), Some(latitude)) = (of(Axis::Longitude), of(Axis::Latitude)) {
            let [longitude, latitude] = motion.on_globe([longitude, latitude]);
            moved.extend([(Axis::Longitude, longitude), (Axis::Latitude, latitude)]);
        }
        if let Some(altitude) = of(Axis::Altitude) {
            moved.push((Axis::Altitude, motion.altitude(altitude)));
        }
        Ok(moved)
    }
}

fn fault(base: usize, error: WireError) -> Fault {
    Fault::new(base + error.offset, String::new(), error.problem.to_string())
}

fn tag(number: u32, of: Number, out: &mut Vec<u8>) {
    encode_varint(u64::from(number << 3 | of.wire_type()), out);
}

fn bytes(data: &[u8], out: &mut Vec<u8>) {
    encode_varint(data.len() as u64, out);
    out.extend_from_slice(data);
}

/// Writes one number, or several that are packed. None, and nothing is written, if they are of another
/// kind.
fn numbers(
    (of, packing): (Number, Packing),
    number: u32,
    value: Value<'_>,
    out: &mut Vec<u8>,
    mut made: impl FnMut(u64) -> u64,
) -> Option<()> {
    if let (Value::Bytes(packed), Packing::Packed) = (value, packing) {
        let mut rest = packed;
        let mut written = Vec::with_capacity(packed.len());
        while !rest.is_empty() {
            let (value, length) = first(of, rest)?;
            of.write(made(of.read(value)?), &mut written);
            rest = &rest[length..];
        }
        tag(number, Number::Length, out);
        bytes(&written, out);
        return Some(());
    }
    let bits = of.read(value)?;
    tag(number, of, out);
    of.write(made(bits), out);
    Some(())
}

/// The first of packed numbers, and how many bytes it has.
fn first(of: Number, packed: &[u8]) -> Option<(Value<'_>, usize)> {
    match of {
        Number::Fixed32 => {
            let bits = u32::from_le_bytes(*packed.first_chunk()?);
            Some((Value::Fixed32(bits), 4))
        }
        Number::Fixed64 => {
            let bits = u64::from_le_bytes(*packed.first_chunk()?);
            Some((Value::Fixed64(bits), 8))
        }
        Number::Length => None,
        _ => {
            let length = packed.iter().take(10).position(|byte| *byte < 0x80)? + 1;
            let bits = prost::encoding::decode_varint(&mut &packed[..length]).ok()?;
            Some((Value::Varint(bits), length))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{redact::secrets::Key, schema};

    fn redactor() -> Redactor {
        let key = Key::new(b"synthetic key for tests").unwrap();
        Redactor::new(&key, false, false).learnt().unwrap()
    }

    fn rules(name: &str, policy: &str) -> Rules {
        let policy = Policy::parse(policy, "policy.toml").unwrap();
        Rules::new(&schema::message(schema::bundled(), name).unwrap(), &policy)
    }

    fn text(number: u8, text: &str) -> Vec<u8> {
        [&[number << 3 | 2, text.len() as u8], text.as_bytes()].concat()
    }

    fn double(number: u8, value: f64) -> Vec<u8> {
        [&[number << 3 | 1], &value.to_le_bytes()[..]].concat()
    }

    #[test]
    fn what_is_not_named_stays_where_it_was_and_what_is_unknown_goes() {
        let mut redactor = redactor();
        let serial = redactor.name(Class::Serial, "CNZQ0001");
        let unknown = [
            vec![0xc0, 0x0c, 1],
            // Of another type than declared: the serial as a number, the action as text.
            vec![0x10, 7],
            text(1, "alice"),
            // A group, with what would be a serial in it.
            [&[0xcb, 0x0c][..], &text(2, "alice"), &[0xcc, 0x0c]].concat(),
        ];
        let known = [vec![0x58, 1], text(2, "CNZQ0001"), vec![0x08, 3], text(2, "CNZQ0001")];
        let data = [&unknown[..2], &known[..2], &unknown[2..], &known[2..]].concat().concat();
        let found = rules("Monitoring.Ap", "").apply(&data, &mut redactor).unwrap();
        let expected = [&known[0], &text(2, &serial), &known[2], &text(2, &serial)];
        assert_eq!(found, expected.map(Clone::clone).concat());
        assert_eq!(redactor.dropped, 4);
    }

    #[test]
    fn numbers_are_written_as_short_as_they_can_be_and_packed_ones_stay_so() {
        let mut redactor = redactor();
        // A bool and an enum in more bytes than they need, in which something could be hidden.
        let data = [&[0x58, 0x81, 0x80, 0x80, 0x00][..], &[0x08, 0x83, 0x00]].concat();
        let found = rules("Monitoring.Ap", "").apply(&data, &mut redactor).unwrap();
        assert_eq!(found, [0x58, 1, 0x08, 3]);
        let interface = rules("Monitoring.Interface", "");
        let data = [0xb2, 1, 4, 10, 20, 0x81, 0x00];
        assert_eq!(interface.apply(&data, &mut redactor).unwrap(), [0xb2, 1, 3, 10, 20, 1]);
        // Packed, but cut off.
        assert!(interface.apply(&[0xb2, 1, 1, 0x81], &mut redactor).unwrap().is_empty());
        let state = rules("Presence.presence_client_state", "");
        let found = state.apply(&[0x18, 77], &mut redactor).unwrap();
        assert!(found[0] == 0x18 && (10..100).contains(&found[1]), "{found:?}");
    }

    #[test]
    fn what_is_no_protobuf_is_told_with_its_byte() {
        let mut redactor = redactor();
        let monitoring = rules("Monitoring.MonitoringInformation", "");
        let mut fault = |data: &[u8]| monitoring.apply(data, &mut redactor).unwrap_err().byte;
        assert_eq!(fault(&[0x0a, 5, b'7']), 1);
        assert_eq!(fault(&[0x0a, 1, b'7', 0x22, 2, 0x12, 9]), 6);
        assert_eq!(fault(&[0xcb, 0x0c]), 2);
        assert_eq!(fault(&[0xcc, 0x0c]), 0);
    }

    #[test]
    fn a_policy_keeps_drops_and_takes_for_something_else() {
        let mut redactor = redactor();
        let policy = r#"
            [fields]
            "Monitoring.Ap.serial" = "keep"
            "Monitoring.Ap.model" = "device"
            "Monitoring.Ap.mode" = "drop"
            "Monitoring.Ap.swarm_master" = "drop"
            "Audit.audit_message.username" = "drop"
            "Audit.audit_message.timestamp" = "drop"
        "#;
        let model = redactor.name(Class::Device, "AP-515");
        let data = [text(2, "CNZQ0001"), text(8, "AP-515"), text(10, "ap"), vec![0x58, 1]].concat();
        let found = rules("Monitoring.Ap", policy).apply(&data, &mut redactor).unwrap();
        assert_eq!(found, [text(2, "CNZQ0001"), text(8, &model)].concat());
        // Both are required: without, the message would be none.
        let data = [text(7, "alice"), vec![0x10, 99]].concat();
        let found = rules("Audit.audit_message", policy).apply(&data, &mut redactor).unwrap();
        assert_eq!(found, [text(7, ""), vec![0x10, 0]].concat());
        assert_eq!(redactor.dropped, 0);
    }

    #[test]
    fn where_something_is_moves_with_its_floor_or_goes() {
        let mut redactor = redactor();
        let location = rules("Location.stream_location", "");
        let at = |site: &str, longitude, latitude| {
            [
                double(11, longitude),
                double(12, latitude),
                vec![0x92, 1, site.len() as u8],
                site.into(),
            ]
            .concat()
        };
        let mut moved = |site, longitude, latitude| {
            let data = location.apply(&at(site, longitude, latitude), &mut redactor).unwrap();
            let of = |number: u8| {
                let place = data.windows(1).position(|tag| tag == [number << 3 | 1])? + 1;
                Some(f64::from_le_bytes(*data[place..].first_chunk()?))
            };
            of(11).zip(of(12)).filter(|_| data.len() > 18)
        };
        let (one, other) = (moved("one", 8.5, 47.3).unwrap(), moved("one", 8.6, 47.3).unwrap());
        assert!((one.0 - 8.5).abs() + (one.1 - 47.3).abs() > 1e-3);
        assert_ne!(one, other);
        assert_eq!(moved("one", 8.5, 47.3), Some(one));
        assert_ne!(moved("two", 8.5, 47.3), Some(one));
        assert_eq!(moved("one", f64::NAN, 47.3), None);
        assert_eq!(moved("", 8.5, 47.3), None);
    }
}
