//! Messages filled from their descriptors: by the meaning of a field where its name has one, else by
//! its type.
//!
//! Driving it by the schema is what makes every field turn up sooner or later, also those that a
//! campus of our own invention would never have thought of.

use std::sync::Arc;

use prost_reflect::{Cardinality, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use super::campus::{Campus, ESSIDS, Role};
use crate::dice::Dice;

/// One in so many enum values is one that the schema does not have: servers are ahead of it.
const UNKNOWN_ENUM: u64 = 1500;

/// What a message is about, and where its values come from.
pub(super) struct Scene<'a> {
    pub campus: &'a mut Campus,
    pub dice: &'a mut Dice,
    /// Seconds since the epoch.
    pub seconds: u64,
    pub milliseconds: u64,
    /// The device that reports.
    pub device: usize,
    /// The client that it reports about.
    pub client: usize,
}

/// The families of a monitoring message, each with the `data_elements` value that announces it.
const FAMILIES: [(&str, &str, Reporter); 36] = [
    ("mobility_controllers", "STATE_CONTROLLER", Reporter::Only(Role::Gateway)),
    ("switches", "STATE_SWITCH", Reporter::Only(Role::Switch)),
    ("swarms", "STATE_SWARM", Reporter::Only(Role::Ap)),
    ("aps", "STATE_AP", Reporter::Only(Role::Ap)),
    ("vaps", "STATE_VAP", Reporter::Only(Role::Ap)),
    ("radios", "STATE_RADIO", Reporter::Only(Role::Ap)),
    ("interfaces", "STATE_INTERFACE", Reporter::Any),
    ("networks", "STATE_NETWORK", Reporter::Only(Role::Ap)),
    ("tunnels", "STATE_TUNNEL", Reporter::Only(Role::Gateway)),
    ("wireless_clients", "STATE_WIRELESSCLIENT", Reporter::Only(Role::Ap)),
    ("wired_clients", "STATE_WIREDCLIENT", Reporter::Only(Role::Switch)),
    ("uplinks", "STATE_UPLINK", Reporter::Only(Role::Gateway)),
    ("device_stats", "STAT_DEVICE", Reporter::Any),
    ("radio_stats", "STAT_RADIO", Reporter::Only(Role::Ap)),
    ("vap_stats", "STAT_VAP", Reporter::Only(Role::Ap)),
    ("interface_stats", "STAT_INTERFACE", Reporter::Any),
    ("client_stats", "STAT_CLIENT", Reporter::Only(Role::Ap)),
    ("tunnel_stats", "STAT_TUNNEL", Reporter::Only(Role::Gateway)),
    ("modem_stats", "STAT_MODEM", Reporter::Only(Role::Gateway)),
    ("role_stats", "STAT_ROLE", Reporter::Only(Role::Ap)),
    ("vlan_stats", "STAT_VLAN", Reporter::Only(Role::Switch)),
    ("ssid_stats", "STAT_SSID", Reporter::Only(Role::Ap)),
    ("ipprobe_stats", "STAT_IPPROBE", Reporter::Only(Role::Gateway)),
    ("uplink_stats", "STAT_UPLINK", Reporter::Only(Role::Gateway)),
    ("uplink_wan_stats", "STAT_UPLINKWAN", Reporter::Only(Role::Gateway)),
    ("uplink_probe_stats", "STAT_UPLINKIPPROBE", Reporter::Only(Role::Gateway)),
    ("wids_events", "EVENTS_WIDS", Reporter::Only(Role::Ap)),
    ("rogue_events", "EVENTS_ROGUE", Reporter::Only(Role::Ap)),
    ("uplink_speedtest", "STATS_UPLINK_SPEEDTEST", Reporter::Only(Role::Gateway)),
    ("device_neighbours", "DEVICE_NEIGHBOURS", Reporter::Any),
    ("notification", "NOTIFICATIONS", Reporter::Any),
    ("switch_stacks", "SWITCH_STACK", Reporter::Only(Role::Switch)),
    ("ike_tunnels", "STATE_IKE_TUNNEL", Reporter::Only(Role::Gateway)),
    ("switch_vlan_info", "SWITCH_VLAN", Reporter::Only(Role::Switch)),
    ("vlans", "STATE_VLAN", Reporter::Only(Role::Switch)),
    ("vsx", "STATE_VSX", Reporter::Only(Role::Switch)),
];

/// Who sends a family.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reporter {
    Any,
    Only(Role),
}

impl Scene<'_> {
    /// A whole payload.
    pub(super) fn payload(&mut self, message: &MessageDescriptor) -> DynamicMessage {
        match message.full_name() {
            "Monitoring.MonitoringInformation" => self.monitoring(message),
            "Presence.presence_event" => self.presence(message),
            "Audit.audit_message" => self.audit(message),
            "Security.RapidsStreamingEvent" => self.security(message),
            _ => self.message(message),
        }
    }

    /// Some families of those that the reporting device sends, announced in `data_elements`.
    fn monitoring(&mut self, message: &MessageDescriptor) -> DynamicMessage {
        let role = self.campus.devices[self.device].role;
        let sends = |reporter| reporter == Reporter::Any || reporter == Reporter::Only(role);
        let mine: Vec<_> = FAMILIES.iter().filter(|(.., reporter)| sends(*reporter)).collect();
        let mut filled = DynamicMessage::new(message.clone());
        self.set(&mut filled, "customer_id");
        self.set(&mut filled, "timestamp");
        let mut announced = Vec::new();
        for _ in 0..self.dice.within(1, 3) {
            let (family, element, _) = **self.dice.pick(&mine);
            let element = message
                .parent_pool()
                .get_enum_by_name("Monitoring.DataElement")
                .and_then(|elements| elements.get_value_by_name(element))
                .expect("the table names values of the bundled schema");
            let element = Value::EnumNumber(element.number());
            if !announced.contains(&element) {
                announced.push(element);
                self.set(&mut filled, family);
            }
        }
        filled.set_field_by_name("data_elements", Value::List(announced));
        filled
    }

    /// The type of the event says which of three messages is in it.
    fn presence(&mut self, message: &MessageDescriptor) -> DynamicMessage {
        const EVENTS: [&str; 3] = ["pa_client_state", "pa_rssi_event", "pa_proximity_event"];
        let mut filled = DynamicMessage::new(message.clone());
        for name in ["timestamp", "customer_id"] {
            self.set(&mut filled, name);
        }
        let kind = self.dice.below(3);
        filled.set_field_by_name("event", Value::String(EVENTS[kind as usize].to_owned()));
        filled.set_field_by_name("event_type", Value::EnumNumber(kind as i32));
        self.set(&mut filled, EVENTS[kind as usize]);
        filled
    }

    /// The service says which of three messages is in it.
    fn audit(&mut self, message: &MessageDescriptor) -> DynamicMessage {
        const INFOS: [&str; 3] = ["config_info", "firmware_info", "dm_info"];
        let mut filled = self.message(message);
        let service = self.dice.below(3);
        filled.set_field_by_name("service", Value::EnumNumber(service as i32));
        for (index, name) in INFOS.into_iter().enumerate() {
            if index as u64 == service {
                self.set(&mut filled, name);
            } else {
                filled.clear_field_by_name(name);
            }
        }
        filled
    }

    fn security(&mut self, message: &MessageDescriptor) -> DynamicMessage {
        let mut filled = DynamicMessage::new(message.clone());
        self.set(&mut filled, "cust_id");
        let event = if self.dice.once_in(2) { "rogue" } else { "idsEvent" };
        self.set(&mut filled, event);
        filled
    }

    fn set(&mut self, message: &mut DynamicMessage, name: &str) {
        let field = message_field(message, name);
        let value = self.field(&field);
        message.set_field(&field, value);
    }

    /// Any other message: required fields always, most of the optional ones.
    fn message(&mut self, message: &MessageDescriptor) -> DynamicMessage {
        // Most elements of a message are about a client each.
        self.client = self.dice.below(self.campus.clients.len() as u64) as usize;
        let mut filled = DynamicMessage::new(message.clone());
        for field in message.fields() {
            let wanted = field.cardinality() == Cardinality::Required
                // An address without its family, or the other way round, is no address.
                || is_address(message)
                || !self.dice.once_in(5);
            if wanted {
                let value = self.field(&field);
                filled.set_field(&field, value);
            }
        }
        filled
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        if !field.is_list() {
            return self.value(field);
        }
        let count = match field.name() {
            "client_firewall_session" => self.dice.within(25, 180),
            "url_detail_record" => self.dice.within(5, 60),
            "proximity" | "rssi" | "presence_client_state" => self.dice.within(3, 24),
            "client_stats" | "interface_stats" | "wireless_clients" => self.dice.within(4, 40),
            "records" => self.dice.within(3, 6),
            "rogue" | "idsEvent" => self.dice.within(1, 2),
            _ => self.dice.within(1, 4),
        };
        Value::List((0..count).map(|_| self.value(field)).collect())
    }

    fn value(&mut self, field: &FieldDescriptor) -> Value {
        match field.kind() {
            Kind::Message(message) if is_mac(&message) => self.mac(field, &message),
            Kind::Message(message) if is_address(&message) => self.address(field, &message),
            Kind::Message(message) => Value::Message(self.message(&message)),
            Kind::Enum(values) if self.dice.once_in(UNKNOWN_ENUM) => {
                let last = values.values().map(|value| value.number()).max().unwrap_or(0);
                // Seen in the wild: a port speed of 2500, written as its number.
                Value::EnumNumber(if field.name() == "speed" { 2500 } else { last + 1 })
            }
            Kind::Enum(values) => {
                let numbers: Vec<i32> = values.values().map(|value| value.number()).collect();
                Value::EnumNumber(*self.dice.pick(&numbers))
            }
            Kind::String => Value::String(self.text(field)),
            Kind::Bytes => Value::Bytes(self.bytes(field).into()),
            Kind::Bool => Value::Bool(self.dice.once_in(2)),
            Kind::Float => Value::F32(self.coordinate(field)),
            Kind::Double => Value::F64(self.degrees(field)),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                // A signal strength in dBm.
                Value::I32(-(self.dice.within(35, 92) as i32))
            }
            Kind::Uint32 | Kind::Fixed32 => Value::U32(self.number(field) as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(self.number(field)),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                Value::I64(self.number(field).cast_signed())
            }
        }
    }

    fn mac(&mut self, field: &FieldDescriptor, message: &MessageDescriptor) -> Value {
        let ap = self.campus.clients[self.client].at;
        let in_message = field.parent_message().full_name();
        let mut mac = match field.name() {
            "sta_eth_mac" | "client_mac" => self.campus.clients[self.client].mac,
            "macaddr" if in_message.contains("Client") => self.campus.clients[self.client].mac,
            "ap_eth_mac" | "ap_mac" => self.campus.devices[ap].mac,
            "radio_mac" | "bssid" => {
                let mut mac = self.campus.devices[ap].mac;
                mac[5] = 0x10 + self.dice.below(3) as u8;
                mac
            }
            "rogue_id" | "match_mac" | "peer_mac" | "mac_addr" => {
                [0x0a, 0x0f, 0, 0, 0, self.dice.next() as u8]
            }
            _ => self.campus.devices[self.device].mac,
        };
        // Locally administered, and no group address.
        mac[0] = mac[0] & 0xfe | 0x02;
        let mut filled = DynamicMessage::new(message.clone());
        let written = if message.full_name().starts_with("Presence.") {
            crate::codec::bytes::hex(&mac).into_bytes()
        } else {
            mac.to_vec()
        };
        filled.set_field_by_name("addr", Value::Bytes(written.into()));
        Value::Message(filled)
    }

    fn address(&mut self, field: &FieldDescriptor, message: &MessageDescriptor) -> Value {
        let v4 = match field.name() {
            "client_ip" => self.campus.clients[self.client].ip,
            "ip_address" if field.parent_message().name().contains("Client") => {
                self.campus.clients[self.client].ip
            }
            "dest_ip" | "server_ip" => [203, 0, 113, self.dice.within(1, 254) as u8],
            _ => self.campus.devices[self.device].ip,
        };
        let six = field.name().starts_with("ipv6") || self.dice.once_in(12);
        let bytes = if six {
            let mut v6 = [0_u8; 16];
            v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
            v6[12..].copy_from_slice(&v4);
            v6.to_vec()
        } else {
            v4.to_vec()
        };
        // The numbers for the family differ: Linux's in monitoring, 1 and 2 elsewhere.
        let af = match (message.full_name().starts_with("Monitoring."), six) {
            (true, true) => 10,
            (true, false) | (false, true) => 2,
            (false, false) => 1,
        };
        let mut filled = DynamicMessage::new(message.clone());
        filled.set_field_by_name("af", Value::EnumNumber(af));
        filled.set_field_by_name("addr", Value::Bytes(bytes.into()));
        Value::Message(filled)
    }

    fn bytes(&mut self, field: &FieldDescriptor) -> Vec<u8> {
        match field.name() {
            "essid" | "network" => {
                let client = &self.campus.clients[self.client];
                ESSIDS[client.essid].to_vec()
            }
            "dest_url_prefix" => {
                format!("www.example.{}/p", self.pick(&["com", "net", "org"])).into()
            }
            _ => self.dice.next().to_be_bytes().to_vec(),
        }
    }

    fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        *self.dice.pick(among)
    }

    fn text(&mut self, field: &FieldDescriptor) -> String {
        let message = field.parent_message();
        let about_client =
            message.name().contains("Client") || message.name() == "client_firewall_session";
        let client = &self.campus.clients[self.client];
        let device = &self.campus.devices[self.device];
        let site = self.campus.name;
        match field.name() {
            "customer_id" | "cust_id" => self.campus.customer.clone(),
            "device_id" | "serial" | "serial_number" | "associated_device" => device.serial.clone(),
            "name" if about_client => client.name.clone(),
            "name" | "ap_name" | "detected_ap" | "monitor_name" | "target" | "first_det_device"
            | "last_det_device" => device.name.clone(),
            "remote_device_id" => self.dice.pick(&self.campus.devices).serial.clone(),
            "username" | "user_name" if about_client => client.user.clone(),
            "username" | "user_name" => "operator@example.com".to_owned(),
            "user_role" => client.role.to_owned(),
            "os_type" | "device_type" => client.os.to_owned(),
            "manufacturer" | "mac_vendor" => "synthetic".to_owned(),
            "model" => device.model.to_owned(),
            "firmware_version" => format!("10.{}.0.1-synthetic", self.dice.within(3, 6)),
            "swarm_id" | "cluster_id" | "stack_id" => format!("synthetic-{site}-cluster"),
            "hashed_sta_eth_mac" => {
                let seed = client.mac.iter().fold(7, |sum, &byte| sum * 131 + u64::from(byte));
                let mut digits = Dice::new(seed);
                let words = [digits.next(), digits.next(), digits.next(), digits.next()];
                words.map(|word| format!("{word:016X}")).concat()
            }
            "ssid" => String::from_utf8_lossy(ESSIDS[client.essid]).into_owned(),
            "campus_id_string" => format!("{site}-campus"),
            "building_id_string" => format!("{site}-building-{}", self.device % 4),
            "floor_id_string" => format!("{site}-floor-{}", self.device % 3),
            "geofence_name" | "geofence_ids" => {
                self.pick(&["lobby", "library", "lab 2"]).to_owned()
            }
            "lan_mac" => format!("0a:0f:00:00:00:{:02x}", self.dice.below(256)),
            "app_name" => self.pick(&["https", "dns", "video-call", "backup", "mail"]).to_owned(),
            "app_cat" | "web_cat" => self.pick(&["business", "media", "web"]).to_owned(),
            "web_rep" => self.pick(&["trustworthy", "low-risk", "suspicious"]).to_owned(),
            "domain" => format!("{}.example.org", self.pick(&["www", "api", "cdn"])),
            "dest_url_prefix" => format!("www.example.{}/p", self.pick(&["com", "net", "org"])),
            "vlan" | "vlan_id" => self.pick(&["10", "20", "101"]).to_owned(),
            "channel" => self.pick(&["1", "6", "11", "36", "100E"]).to_owned(),
            "port" | "remote_port" | "port_number" | "remote_port_number" | "isl_port"
            | "peer_isl_port" | "uplink_ports" | "tagged_ports" | "untagged_ports"
            | "access_ports" | "isl_ports" | "promiscuous_ports" => {
                format!("1/1/{}", self.dice.within(1, 48))
            }
            "first_seen" | "last_seen" => format!("{}", self.seconds - self.dice.below(86_400)),
            "description" | "data" | "detailed_data" => {
                let change = self.pick(&["vlan 20 added", "firmware scheduled", "group moved"]);
                format!("synthetic: {change} on {}", self.campus.devices[self.device].name)
            }
            other => format!("synthetic-{}-{}", other.replace('_', "-"), self.dice.below(9)),
        }
    }

    fn number(&mut self, field: &FieldDescriptor) -> u64 {
        let message = field.parent_message();
        let about_client =
            message.name().contains("Client") || message.name() == "client_firewall_session";
        match field.name() {
            "timestamp" if message.full_name() == "Presence.presence_event" => self.milliseconds,
            "timestamp" | "last_hit_timestamp" | "last_sync_timestamp" => self.seconds,
            "tx_bytes" | "rx_bytes" => {
                let traffic = if about_client {
                    &mut self.campus.clients[self.client].traffic
                } else {
                    &mut self.campus.devices[self.device].traffic
                };
                traffic.grow(self.dice);
                if field.name() == "tx_bytes" { traffic.sent } else { traffic.received }
            }
            "uptime" => self.campus.devices[self.device].uptime + self.seconds % 1_000_000,
            "mem_total" => 4 << 30,
            "mem_free" => self.dice.within(1 << 30, 3 << 30),
            "app_id" | "app_cat_id" | "web_cat_id" | "map_id" | "tunnel_id" => {
                self.dice.within(1, 400)
            }
            "vlan" | "vlan_id" | "native_vlan" | "allowed_vlan" | "primary_vlan_id" => {
                self.pick(&[1, 10, 20, 101, 4000])
            }
            "dest_port" => self.pick(&[53, 80, 443, 993, 5061]),
            "ip_proto" => self.pick(&[1, 6, 17]),
            "channel" => self.pick(&[1, 6, 11, 36, 100]),
            "channel_width" => self.pick(&[20, 40, 80, 160]),
            "session_duration" => 900,
            "upstream_bps" | "downstream_bps" => self.dice.within(1_000_000, 900_000_000),
            name if name.contains("util") || name.contains("pct") => self.dice.within(0, 100),
            name if name.ends_with("_ip_addr") => {
                let [a, b, c, d] = self.campus.devices[self.device].ip;
                u64::from(u32::from_be_bytes([a, b, c, d]))
            }
            _ if self.dice.once_in(3) => self.dice.below(4),
            _ => self.dice.below(70_000),
        }
    }

    fn coordinate(&mut self, field: &FieldDescriptor) -> f32 {
        let client = &mut self.campus.clients[self.client];
        match field.name() {
            "sta_location_x" => {
                client.x = (client.x + self.dice.unit() as f32 * 2.0 - 1.0).clamp(0.0, 200.0);
                client.x
            }
            "sta_location_y" => {
                client.y = (client.y + self.dice.unit() as f32 * 2.0 - 1.0).clamp(0.0, 120.0);
                client.y
            }
            _ => self.dice.unit() as f32 * 60.0,
        }
    }

    /// A campus in the Gulf of Guinea, where the meridian meets the equator and nobody lives.
    fn degrees(&mut self, field: &FieldDescriptor) -> f64 {
        match field.name() {
            "altitude" => self.dice.unit() * 40.0,
            _ => self.dice.unit() / 100.0,
        }
    }
}

fn message_field(message: &DynamicMessage, name: &str) -> FieldDescriptor {
    use prost_reflect::ReflectMessage;
    message.descriptor().get_field_by_name(name).expect("the names are those of the bundled schema")
}

fn is_mac(message: &MessageDescriptor) -> bool {
    matches!(message.name(), "mac_address" | "MacAddress")
}

fn is_address(message: &MessageDescriptor) -> bool {
    matches!(message.name(), "ip_address" | "IpAddress")
}

/// The descriptors of the payloads, looked up once.
#[derive(Clone, Debug)]
pub(super) struct Payloads(Arc<[(&'static str, MessageDescriptor)]>);

impl Payloads {
    pub(super) fn new(all: impl Iterator<Item = (&'static str, MessageDescriptor)>) -> Self {
        Self(all.collect())
    }

    pub(super) fn of(&self, label: &str) -> &MessageDescriptor {
        let found = self.0.iter().find(|(known, _)| *known == label);
        &found.expect("labels come from the protocol's table").1
    }
}
