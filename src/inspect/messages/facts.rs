//! What a frame is about at first sight: who is named in it, and what there is how many of.
//!
//! Only the way to the first element of each list is looked at, or to the one in which something was found.
//! Which fields name somebody is told by their names, so it also works for schemas that are newer than this.

use std::ops::Range;

use prost_reflect::{EnumDescriptor, Kind, MessageDescriptor};

use crate::codec::{
    bytes::Meaning,
    types,
    wire::{self, Value},
};

/// The fields that say who or what a message is about.
const NAMES: [&str; 46] = [
    "ap_eth_mac",
    "ap_name",
    "app_name",
    "associated_device",
    "attack_type",
    "bssid",
    "client_ip",
    "client_mac",
    "description",
    "detected_ap",
    "device_id",
    "domain",
    "essid",
    "event",
    "event_type",
    "geofence_event",
    "geofence_id",
    "geofence_name",
    "group_name",
    "index",
    "ip_address",
    "lan_mac",
    "link_id",
    "mac_addr",
    "macaddr",
    "map_name",
    "name",
    "network",
    "port",
    "radio_mac",
    "remote_device_id",
    "rogue_id",
    "rogue_name",
    "serial",
    "serial_number",
    "service",
    "ssid",
    "sta_eth_mac",
    "stack_id",
    "status",
    "swarm_id",
    "target",
    "tunnel_name",
    "user_name",
    "user_role",
    "username",
];

/// So many of them are enough for a message.
const ENOUGH: usize = 6;

/// Messages that are nested deeper are not looked at.
const DEPTH: u32 = 8;

/// How many elements a list has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The fields that lead there, joined by dots.
    pub path: String,
    /// How many.
    pub count: u64,
}

/// Somebody or something that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The fields that lead there, joined by dots.
    pub path: String,
    /// What it says: text, an address, an enum's name, a number.
    pub value: String,
}

/// What a frame is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The lists on the way, in the order in which they stand.
    pub counts: Vec<Count>,
    /// Who is named.
    pub facts: Vec<Fact>,
    /// Where it is no protobuf, and why.
    pub broken: Option<(usize, String)>,
}

/// Finds the facts in frames of one type.
#[derive(Debug)]
pub(super) struct Finder {
    /// The first one is the frame's own.
    messages: Vec<Message>,
}

#[derive(Debug, Default)]
struct Message {
    /// Ascending by number.
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    number: u32,
    name: String,
    is_list: bool,
    holds: Holds,
}

#[derive(Debug)]
enum Holds {
    Message(usize),
    /// A message that is nothing but an address, in this field.
    Address(u32, Meaning),
    Text,
    Bytes(Meaning),
    Enum(EnumDescriptor),
    Number,
}

impl Finder {
    pub(super) fn new(frame: &MessageDescriptor) -> Self {
        let messages = types::table(frame, |of, numbers| {
            let mut message = Message::default();
            for field in of.fields().filter(|field| !field.is_group()) {
                let holds = match field.kind() {
                    Kind::Message(of) => match address(&of) {
                        Some((number, meaning)) => Some(Holds::Address(number, meaning)),
                        None => Some(Holds::Message(numbers.of(&of))),
                    },
                    Kind::String => Some(Holds::Text),
                    Kind::Bytes => Some(Holds::Bytes(Meaning::of(&field))),
                    Kind::Enum(of) => Some(Holds::Enum(of)),
                    Kind::Uint32 | Kind::Uint64 | Kind::Int32 | Kind::Int64 => Some(Holds::Number),
                    _ => None,
                };
                let is_named = NAMES.binary_search(&field.name()).is_ok();
                let holds = holds.filter(|holds| is_named || matches!(holds, Holds::Message(_)));
                message.fields.extend(holds.map(|holds| Field {
                    number: field.number(),
                    name: field.name().to_owned(),
                    is_list: field.is_list(),
                    holds,
                }));
            }
            message.fields.sort_by_key(|field| field.number);
            message
        });
        Self { messages }
    }

    /// What a frame is about, and if something was found in it, then there.
    pub(super) fn facts(&self, frame: &[u8], found: Option<usize>) -> Facts {
        let mut look = Look { finder: self, frame, found, facts: Facts::default() };
        look.message(0, 0..frame.len(), "", 0);
        look.facts
    }
}

/// The field of a message that is nothing but an address, and which kind.
fn address(of: &MessageDescriptor) -> Option<(u32, Meaning)> {
    of.fields().find_map(|field| {
        let meaning = Meaning::of(&field);
        matches!(meaning, Meaning::Mac | Meaning::Ip).then(|| (field.number(), meaning))
    })
}

struct Look<'a> {
    finder: &'a Finder,
    frame: &'a [u8],
    found: Option<usize>,
    facts: Facts,
}

/// A nested field that came by: how often, and which of its elements is looked at.
struct Nested<'a> {
    field: &'a Field,
    message: usize,
    count: u64,
    chosen: Range<usize>,
    has_found: bool,
}

impl Look<'_> {
    fn message(&mut self, of: usize, span: Range<usize>, path: &str, depth: u32) {
        let finder = self.finder;
        let message = &finder.messages[of];
        let mut nested: Vec<Nested<'_>> = Vec::new();
        let (mut groups, mut enough) = (0_u32, 0);
        for field in wire::fields(&self.frame[span.clone()]) {
            let field = match field {
                Ok(field) => field,
                Err(error) => {
                    let at = span.start + error.offset;
                    self.facts.broken.get_or_insert_with(|| (at, error.problem.to_string()));
                    break;
                }
            };
            match field.value {
                Value::GroupStart => groups += 1,
                Value::GroupEnd => groups = groups.saturating_sub(1),
                _ if groups > 0 => {}
                value => {
                    let fields = &message.fields;
                    let known = fields.binary_search_by_key(&field.number, |known| known.number);
                    let Ok(known) = known.map(|at| &fields[at]) else { continue };
                    match (&known.holds, value) {
                        (&Holds::Message(message), Value::Bytes(content)) => {
                            let start = span.start + field.value_offset;
                            let span = start..start + content.len();
                            let has_found = self.found.is_some_and(|at| span.contains(&at));
                            match nested
                                .iter_mut()
                                .find(|nested| nested.field.number == known.number)
                            {
                                Some(nested) => {
                                    nested.count += 1;
                                    if has_found && !nested.has_found {
                                        (nested.chosen, nested.has_found) = (span, true);
                                    }
                                }
                                None => nested.push(Nested {
                                    field: known,
                                    message,
                                    count: 1,
                                    chosen: span,
                                    has_found,
                                }),
                            }
                        }
                        (holds, value) if enough < ENOUGH => {
                            let Some(value) = said(holds, value) else { continue };
                            let path = joined(path, &known.name);
                            if self.facts.facts.iter().all(|fact| fact.path != path) {
                                self.facts.facts.push(Fact { path, value });
                                enough += 1;
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        for nested in nested.iter().filter(|nested| nested.field.is_list) {
            let path = joined(path, &nested.field.name);
            self.facts.counts.push(Count { path, count: nested.count });
        }
        // One of each message is looked at: the one in which something was found, else the first.
        let chosen = nested.iter().find(|nested| nested.has_found).or(nested.first());
        if let Some(nested) = chosen
            && depth < DEPTH
        {
            // The envelope's payload is where paths begin.
            let path = if depth == 0 { String::new() } else { joined(path, &nested.field.name) };
            self.message(nested.message, nested.chosen.clone(), &path, depth + 1);
        }
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { [path, ".", name].concat() }
}

fn said(holds: &Holds, value: Value<'_>) -> Option<String> {
    Some(match (holds, value) {
        (Holds::Address(number, meaning), Value::Bytes(content)) => {
            let mut inner = wire::fields(content).map_while(Result::ok);
            inner.find_map(|field| match field.value {
                Value::Bytes(address) if field.number == *number => Some(meaning.text(address)),
                _ => None,
            })?
        }
        (Holds::Text, Value::Bytes(text)) => match str::from_utf8(text) {
            Ok(text) => text.to_owned(),
            Err(_) => Meaning::Essid.text(text),
        },
        // Names of zones are bytes, too.
        (Holds::Bytes(Meaning::Opaque), Value::Bytes(content))
            if str::from_utf8(content).is_ok() =>
        {
            String::from_utf8_lossy(content).into_owned()
        }
        (Holds::Bytes(meaning), Value::Bytes(content)) => meaning.text(content),
        (Holds::Enum(of), Value::Varint(number)) => match of.get_value(number as i32) {
            Some(value) => value.name().to_owned(),
            None => (number as i32).to_string(),
        },
        (Holds::Number, Value::Varint(number)) => number.to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn the_names_are_sorted_and_in_the_schema() {
        assert!(NAMES.is_sorted());
        for name in NAMES {
            let mut messages = schema::bundled().all_messages();
            assert!(messages.any(|of| of.get_field_by_name(name).is_some()), "{name}");
        }
    }
}
