//! The last known state of a feed: which entities a frame is about, and the newest frame of each.
//!
//! An entity is whatever a payload gives a name or an address: an access point, an interface, a client.
//! [`Entities`] finds them in a frame by its descriptor; a [`Snapshot`] keeps the newest frame of each and
//! forgets a frame when there is a newer one for everything in it. Events are no state: nobody who comes
//! late wants last night's intrusions. Memory grows with what the feed is about up to a limit, and not
//! with its length.

use std::collections::{BTreeMap, HashMap};

use prost_reflect::{Kind, MessageDescriptor};

use crate::codec::{
    types,
    walk::DEPTH_LIMIT,
    wire::{self, Value},
};

/// The messages that are about an entity, and the fields that tell one from the other.
const ENTITIES: [(&str, &[&str]); 41] = [
    ("Apprf.apprf_session", &["serial_number"]),
    ("Location.stream_geofence_notify", &["geofence_id", "sta_eth_mac", "hashed_sta_eth_mac"]),
    ("Location.stream_location", &["sta_eth_mac", "hashed_sta_eth_mac"]),
    ("Monitoring.Ap", &["serial"]),
    ("Monitoring.ClientStats", &["macaddr"]),
    ("Monitoring.DeviceNeighbours", &["device_id", "port"]),
    ("Monitoring.DeviceStats", &["device_id"]),
    ("Monitoring.IkeTunnel", &["device_id", "map_id"]),
    ("Monitoring.Interface", &["device_id", "macaddr", "name"]),
    ("Monitoring.InterfaceStats", &["device_id", "macaddr"]),
    ("Monitoring.MobilityController", &["serial"]),
    ("Monitoring.ModemStats", &["device_id"]),
    ("Monitoring.Network", &["swarm_id", "essid"]),
    ("Monitoring.Radio", &["device_id", "index", "macaddr"]),
    ("Monitoring.RadioStats", &["device_id", "macaddr"]),
    ("Monitoring.RogueEvent", &["macaddr"]),
    ("Monitoring.RoleStats", &["device_id", "user_role"]),
    ("Monitoring.SsidStats", &["device_id", "essid"]),
    ("Monitoring.Swarm", &["swarm_id"]),
    ("Monitoring.Switch", &["serial"]),
    ("Monitoring.SwitchStack", &["stack_id"]),
    ("Monitoring.SwitchVlanInfo", &["device_id"]),
    ("Monitoring.Tunnel", &["swarm_id", "index", "tunnel_id"]),
    ("Monitoring.TunnelIpProbeStats", &["device_id", "tunnel_index", "tunnel_id"]),
    ("Monitoring.TunnelStats", &["swarm_id", "index", "tunnel_id"]),
    ("Monitoring.Uplink", &["device_id", "link_index"]),
    ("Monitoring.UplinkIpProbeStats", &["device_id", "link_id"]),
    ("Monitoring.UplinkSpeedtest", &["device_id"]),
    ("Monitoring.UplinkStats", &["device_id", "link_id"]),
    ("Monitoring.UplinkWanStats", &["device_id", "link_id"]),
    ("Monitoring.VSXState", &["device_id"]),
    ("Monitoring.VapInfo", &["device_id", "radio_mac", "essid", "bssid"]),
    ("Monitoring.VapStats", &["device_id", "radio_mac", "network"]),
    ("Monitoring.Vlan", &["device_id", "vlan_id"]),
    ("Monitoring.VlanStats", &["device_id", "vlan"]),
    ("Monitoring.WiredClient", &["macaddr"]),
    ("Monitoring.WirelessClient", &["macaddr"]),
    ("Presence.presence_client_state", &["label_category_id", "label_id"]),
    ("Presence.proximity", &["device_id", "sta_eth_mac"]),
    ("Presence.rssi", &["device_id", "sta_eth_mac"]),
    ("Security.RogueEvent", &["rogue_id"]),
];

/// What tells an entity from all others of a subscription.
pub type Key = Vec<u8>;

/// Where the entities are in frames of one type.
#[derive(Debug)]
pub struct Entities {
    /// The first one is the frame's own.
    messages: Vec<Message>,
}

#[derive(Debug, Default)]
struct Message {
    /// The numbers of the fields that tell one entity from the other, ascending; empty if it is none.
    own: Vec<u32>,
    /// The messages in it, by field number, ascending.
    nested: Vec<(u32, usize)>,
}

impl Entities {
    /// For frames of this type.
    pub fn new(frame: &MessageDescriptor) -> Self {
        let messages = types::table(frame, |descriptor, numbers| {
            let named = ENTITIES.iter().find(|(name, _)| *name == descriptor.full_name());
            let named = named.map_or(&[][..], |(_, fields)| fields);
            let own = named.iter().filter_map(|name| descriptor.get_field_by_name(name));
            let mut message =
                Message { own: own.map(|field| field.number()).collect(), ..Message::default() };
            message.own.sort_unstable();
            for field in descriptor.fields().filter(|field| !field.is_group()) {
                if let Kind::Message(of) = field.kind() {
                    message.nested.push((field.number(), numbers.of(&of)));
                }
            }
            message.nested.sort_unstable();
            message
        });
        Self { messages }
    }

    /// The entities that a frame is about. What is no protobuf is about none.
    pub fn keys(&self, frame: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        self.collect(0, frame, 0, &mut keys);
        keys
    }

    fn collect(&self, of: usize, data: &[u8], depth: u32, keys: &mut Vec<Key>) {
        let message = &self.messages[of];
        let mut own = vec![None; message.own.len()];
        let mut groups = 0_u32;
        for field in wire::fields(data).map_while(Result::ok) {
            match field.value {
                Value::GroupStart => groups += 1,
                Value::GroupEnd => groups = groups.saturating_sub(1),
                _ if groups > 0 => {}
                value => {
                    if let Ok(at) = message.own.binary_search(&field.number) {
                        own[at] = Some(value);
                    }
                    let nested =
                        message.nested.binary_search_by_key(&field.number, |(number, _)| *number);
                    if let (Value::Bytes(inner), Ok(at)) = (value, nested)
                        && depth < DEPTH_LIMIT
                    {
                        self.collect(message.nested[at].1, inner, depth + 1, keys);
                    }
                }
            }
        }
        if own.iter().any(Option::is_some) {
            keys.push(key(of, &own));
        }
    }
}

/// No two of different content are the same.
fn key(of: usize, own: &[Option<Value<'_>>]) -> Key {
    let mut key = (of as u32).to_le_bytes().to_vec();
    for value in own {
        let mut put = |kind: u8, bytes: &[u8]| {
            key.push(kind);
            key.extend((bytes.len() as u32).to_le_bytes());
            key.extend(bytes);
        };
        match value {
            Some(Value::Bytes(bytes)) => put(1, bytes),
            Some(Value::Varint(value) | Value::Fixed64(value)) => put(2, &value.to_le_bytes()),
            Some(Value::Fixed32(value)) => put(3, &value.to_le_bytes()),
            Some(Value::GroupStart | Value::GroupEnd) | None => put(0, &[]),
        }
    }
    key
}

/// The newest frame of each entity, in the order in which they came.
#[derive(Debug)]
pub struct Snapshot<T> {
    /// The number of the newest frame of each entity.
    newest: HashMap<Key, u64>,
    frames: BTreeMap<u64, Kept<T>>,
    next: u64,
    /// The size of the frames and of what is kept for each.
    size: usize,
    limit: usize,
}

#[derive(Debug)]
struct Kept<T> {
    frame: T,
    size: usize,
    /// It is the newest of these.
    keys: Vec<Key>,
}

impl<T> Snapshot<T> {
    /// Nothing yet. When there is more than `limit` bytes, the oldest is forgotten.
    pub fn new(limit: usize) -> Self {
        Self { newest: HashMap::new(), frames: BTreeMap::new(), next: 0, size: 0, limit }
    }

    /// A frame of that size, about these entities. One that is about none is not kept.
    pub fn add(&mut self, keys: Vec<Key>, frame: T, size: usize) {
        if keys.is_empty() {
            return;
        }
        let number = self.next;
        self.next += 1;
        for key in &keys {
            if let Some(older) = self.newest.insert(key.clone(), number)
                && older != number
                && let Some(kept) = self.frames.get_mut(&older)
            {
                kept.keys.retain(|other| other != key);
                if kept.keys.is_empty() {
                    self.size -= kept.size;
                    self.frames.remove(&older);
                }
            }
        }
        let size = size + keys.iter().map(|key| 2 * key.len() + ENTRY_SIZE).sum::<usize>();
        self.size += size;
        self.frames.insert(number, Kept { frame, size, keys });
        while self.size > self.limit
            && let Some((number, kept)) = self.frames.pop_first()
        {
            self.size -= kept.size;
            for key in kept.keys {
                if self.newest.get(&key) == Some(&number) {
                    self.newest.remove(&key);
                }
            }
        }
    }

    /// What was kept, oldest first.
    pub fn into_frames(self) -> impl Iterator<Item = T> {
        self.frames.into_values().map(|kept| kept.frame)
    }
}

/// What an entity costs besides its key, roughly.
const ENTRY_SIZE: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{self, bundled};

    #[test]
    fn the_table_is_in_the_schema() {
        for (name, fields) in ENTITIES {
            let message = schema::message(bundled(), name).unwrap();
            for field in fields {
                assert!(message.get_field_by_name(field).is_some(), "{name} has no {field}");
            }
        }
        assert!(ENTITIES.is_sorted());
    }

    /// A length-delimited field.
    fn len(number: u8, data: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, data.len() as u8], data].concat()
    }

    #[test]
    fn entities_are_told_by_what_names_them_and_by_nothing_else() {
        let message = schema::message(bundled(), "Monitoring.MonitoringInformation").unwrap();
        let entities = Entities::new(&message);
        let ap = |serial: &str, name: &str| {
            len(4, &[len(2, serial.as_bytes()), len(3, name.as_bytes())].concat())
        };
        let keys = |frame: &[Vec<u8>]| entities.keys(&frame.concat());
        assert_eq!(keys(&[ap("A", "one")]), keys(&[ap("A", "two")]));
        assert_ne!(keys(&[ap("A", "one")]), keys(&[ap("B", "one")]));
        // A switch of the same serial is something else.
        assert_ne!(keys(&[ap("A", "one")]), keys(&[len(11, &len(2, b"A"))]));
        let both = keys(&[ap("A", "one"), len(1, b"customer"), ap("B", "one")]);
        assert_eq!(both, [keys(&[ap("A", "")]), keys(&[ap("B", "")])].concat());
        // No name, no entity; and no protobuf, none behind that.
        assert_eq!(keys(&[len(4, &len(3, b"name")), vec![0], ap("A", "one")]), Vec::<Key>::new());
        // A notification is an event.
        assert_eq!(keys(&[len(33, &len(4, b"device"))]), Vec::<Key>::new());
    }

    /// The frames that are left of some, each with its entities, named by letters.
    fn left(limit: usize, frames: &[&str]) -> Vec<String> {
        let mut snapshot = Snapshot::new(limit);
        for (number, entities) in frames.iter().enumerate() {
            let keys = entities.bytes().map(|entity| vec![entity]).collect();
            snapshot.add(keys, format!("{number}{entities}"), 100);
        }
        snapshot.into_frames().collect()
    }

    #[test]
    fn a_frame_is_kept_as_long_as_it_is_the_newest_of_something() {
        assert_eq!(left(usize::MAX, &["a", "b", "", "a"]), ["1b", "3a"]);
        assert_eq!(left(usize::MAX, &["ab", "b", "bc", "c"]), ["0ab", "2bc", "3c"]);
        assert_eq!(left(usize::MAX, &["ab", "b", "a", "aab", "aa"]), ["3aab", "4aa"]);
        assert_eq!(left(usize::MAX, &["abc", "ab", "c"]), ["1ab", "2c"]);
    }

    #[test]
    fn what_is_oldest_goes_first() {
        let two = 2 * (100 + 2 + ENTRY_SIZE);
        assert_eq!(left(two, &["a", "b", "c", "b", "d"]), ["3b", "4d"]);
        assert_eq!(left(0, &["a", "b"]), Vec::<String>::new());
        // Nothing is left behind of what was forgotten.
        let mut snapshot = Snapshot::new(two);
        for number in 0..1000_u32 {
            snapshot.add(vec![number.to_le_bytes()[..1].to_vec()], number, 100);
        }
        assert_eq!((snapshot.newest.len(), snapshot.frames.len(), snapshot.size), (2, 2, two));
    }
}
