//! What a payload is made of, and who is named in it, along the wire.

use std::ops::Range;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::DeviceKind;
use crate::codec::{
    bytes::Meaning,
    types,
    walk::DEPTH_LIMIT,
    wire::{self, Value},
};

/// The fields that name a device by its serial number.
const SERIALS: [&str; 3] = ["device_id", "serial", "serial_number"];

/// The fields that name a client by its MAC address, in whatever message.
const STATIONS: [&str; 2] = ["client_mac", "sta_eth_mac"];

/// Others that name one, in messages that are about clients, or that have no serial number.
const ADDRESSES: [&str; 4] = ["lan_mac", "mac_addr", "macaddr", "rogue_id"];

/// Who is named in a frame, and how large the message is that does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) kind: DeviceKind,
    /// The bytes of the frame that are its name.
    pub(super) span: Range<usize>,
    pub(super) bytes: usize,
}

/// How much there is of a part.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weight {
    pub(super) frames: u64,
    pub(super) elements: u64,
    pub(super) bytes: u64,
    /// The last frame in which it was.
    last: u64,
}

/// The parts of a payload.
#[derive(Debug)]
pub(super) struct Parts {
    /// The envelope's field that holds the payload.
    payload_field: u32,
    /// The first one is the payload.
    messages: Vec<Message>,
    /// Of the payload's fields that hold messages: number, name, weight, ascending.
    weights: Vec<(u32, String, Weight)>,
}

#[derive(Debug, Default)]
struct Message {
    /// Ascending by number.
    fields: Vec<(u32, Holds)>,
}

#[derive(Clone, Copy, Debug)]
enum Holds {
    Message(usize),
    Serial,
    /// A MAC address in its bytes.
    Mac,
    /// A message that has a MAC address in this field.
    MacIn(u32),
}

impl Parts {
    pub(super) fn new(payload_field: u32, payload: &MessageDescriptor) -> Self {
        let messages = types::table(payload, |of, numbers| {
            let mut message = Message::default();
            for field in of.fields().filter(|field| !field.is_group()) {
                let holds = match (field.kind(), names(&field)) {
                    (Kind::String, Some(DeviceKind::Serial)) => Some(Holds::Serial),
                    (Kind::String | Kind::Bytes, Some(DeviceKind::Mac)) => Some(Holds::Mac),
                    (Kind::Message(of), names) => match (mac_field(&of), names) {
                        (Some(number), Some(DeviceKind::Mac)) => Some(Holds::MacIn(number)),
                        // An address is no part.
                        (Some(_), _) => None,
                        (None, _) => Some(Holds::Message(numbers.of(&of))),
                    },
                    _ => None,
                };
                message.fields.extend(holds.map(|holds| (field.number(), holds)));
            }
            message.fields.sort_by_key(|(number, _)| *number);
            message
        });
        let fields = payload.fields().filter(|field| field.kind().as_message().is_some());
        let mut weights: Vec<_> = fields
            .map(|field| (field.number(), field.name().to_owned(), Weight::default()))
            .collect();
        weights.sort_by_key(|(number, ..)| *number);
        Self { payload_field, messages, weights }
    }

    /// Weighs the parts of a frame, and says who is named in it.
    pub(super) fn weigh(&mut self, frame: &[u8], number: u64, named: &mut Vec<Named>) {
        let payload =
            wire::fields(frame).map_while(Result::ok).filter_map(|field| match field.value {
                Value::Bytes(payload) if field.number == self.payload_field => {
                    Some(field.value_offset..field.value_offset + payload.len())
                }
                _ => None,
            });
        // The last one counts.
        let Some(payload) = payload.last() else { return };
        for field in wire::fields(&frame[payload.clone()]).map_while(Result::ok) {
            if let Value::Bytes(content) = field.value
                && let Ok(at) =
                    self.weights.binary_search_by_key(&field.number, |(number, ..)| *number)
            {
                let weight = &mut self.weights[at].2;
                weight.elements += 1;
                weight.bytes += content.len() as u64;
                if weight.last != number {
                    weight.last = number;
                    weight.frames += 1;
                }
            }
        }
        self.collect(0, frame, payload, 0, named);
    }

    /// Those that came by.
    pub(super) fn weights(&self) -> impl Iterator<Item = (&str, Weight)> {
        let there = self.weights.iter().filter(|(.., weight)| weight.elements > 0);
        there.map(|(_, name, weight)| (&**name, *weight))
    }

    fn collect(
        &self,
        of: usize,
        frame: &[u8],
        span: Range<usize>,
        depth: u32,
        named: &mut Vec<Named>,
    ) {
        let (message, bytes) = (&self.messages[of], span.len());
        let mut groups = 0_u32;
        for field in wire::fields(&frame[span.clone()]).map_while(Result::ok) {
            let content = match field.value {
                Value::GroupStart => {
                    groups += 1;
                    continue;
                }
                Value::GroupEnd => {
                    groups = groups.saturating_sub(1);
                    continue;
                }
                Value::Bytes(content) if groups == 0 => content,
                _ => continue,
            };
            let Ok(at) = message.fields.binary_search_by_key(&field.number, |(number, _)| *number)
            else {
                continue;
            };
            let start = span.start + field.value_offset;
            let inner = start..start + content.len();
            let (kind, span) = match message.fields[at].1 {
                Holds::Message(of) if depth < DEPTH_LIMIT => {
                    self.collect(of, frame, inner, depth + 1, named);
                    continue;
                }
                Holds::Message(_) => continue,
                Holds::Serial => (DeviceKind::Serial, inner),
                Holds::Mac => (DeviceKind::Mac, inner),
                Holds::MacIn(number) => {
                    let mut fields = wire::fields(content).map_while(Result::ok);
                    let address = fields.find_map(|field| match field.value {
                        Value::Bytes(address) if field.number == number => {
                            let start = inner.start + field.value_offset;
                            Some(start..start + address.len())
                        }
                        _ => None,
                    });
                    let Some(address) = address else { continue };
                    (DeviceKind::Mac, address)
                }
            };
            if !span.is_empty() {
                named.push(Named { kind, span, bytes });
            }
        }
    }
}

/// What the field names, if it names a device or a client.
fn names(field: &FieldDescriptor) -> Option<DeviceKind> {
    let (message, name) = (field.parent_message(), field.name());
    let has_serial = SERIALS.iter().any(|name| message.get_field_by_name(name).is_some());
    let is_of_client = message.name().contains("Client");
    match name {
        name if SERIALS.contains(&name) => Some(DeviceKind::Serial),
        name if STATIONS.contains(&name) => Some(DeviceKind::Mac),
        name if ADDRESSES.contains(&name) => {
            (is_of_client || !has_serial).then_some(DeviceKind::Mac)
        }
        _ => None,
    }
}

/// The field of a message that is nothing but a MAC address.
fn mac_field(of: &MessageDescriptor) -> Option<u32> {
    let mut fields = of.fields();
    fields.find(|field| Meaning::of(field) == Meaning::Mac).map(|field| field.number())
}
