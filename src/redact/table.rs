//! What each field is: one row for every string and bytes field of the bundled schema, and for every
//! other field that says who or where somebody is.

use Class::{
    Coordinate, Customer, Device, Essid, Harmless, Ip, Mac, Serial, Site, Text, Time, Url, User,
    Version,
};

/// What the values of a field are, and so what becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A MAC address, an EUI-48 or EUI-64.
    Mac,
    /// An IP address, or one with a port.
    Ip,
    /// A network's name.
    Essid,
    /// A person's or a client's name.
    User,
    /// A device's name, or that of something that was set up: a tunnel, a VLAN, a cluster.
    Device,
    /// A serial number.
    Serial,
    /// A customer.
    Customer,
    /// A place, by name or by id.
    Site,
    /// A number that says where something is.
    Coordinate,
    /// A URL, or a domain.
    Url,
    /// Sentences, or whatever somebody wrote.
    Text,
    /// A time as text.
    Time,
    /// The version of software, which may look like an address.
    Version,
    /// A word of many: a model, a kind, a state.
    Harmless,
}

/// Every class by the name that a policy calls it.
pub(super) const CLASSES: [(&str, Class); 14] = [
    ("mac", Mac),
    ("ip", Ip),
    ("essid", Essid),
    ("user", User),
    ("device", Device),
    ("serial", Serial),
    ("customer", Customer),
    ("site", Site),
    ("coordinate", Coordinate),
    ("url", Url),
    ("text", Text),
    ("time", Time),
    ("version", Version),
    ("harmless", Harmless),
];

impl Class {
    /// As a policy calls it.
    pub fn name(self) -> &'static str {
        CLASSES.iter().find(|(_, class)| *class == self).map_or("", |(name, _)| name)
    }
}

/// The class of a field, by its message's full name and its own.
pub(super) fn class(message: &str, field: &str) -> Option<Class> {
    let is_it = |path: &str| {
        path.strip_suffix(field).and_then(|rest| rest.strip_suffix('.')) == Some(message)
    };
    TABLE.iter().find(|(path, _)| is_it(path)).map(|(_, class)| *class)
}

#[rustfmt::skip]
pub(super) const TABLE: &[(&str, Class)] = &[
    ("StreamMessage.MsgProto.subject", Harmless),
    ("StreamMessage.MsgProto.customer_id", Customer),
    ("StreamMessage.MsgProto.msp_id", Customer),
    ("Monitoring.IpAddress.addr", Ip),
    ("Monitoring.MacAddress.addr", Mac),
    ("Monitoring.Swarm.swarm_id", Device),
    ("Monitoring.Swarm.name", Device),
    ("Monitoring.Swarm.firmware_version", Version),
    ("Monitoring.Tunnel.swarm_id", Device),
    ("Monitoring.Tunnel.peer_name", Device),
    ("Monitoring.Tunnel.tunnel_id", Device),
    ("Monitoring.Interface.device_id", Serial),
    ("Monitoring.Interface.name", Harmless),
    ("Monitoring.Interface.port_number", Harmless),
    ("Monitoring.Interface.mode", Harmless),
    ("Monitoring.Interface.slot", Harmless),
    ("Monitoring.Interface.sub_type", Harmless),
    ("Monitoring.VapInfo.device_id", Serial),
    ("Monitoring.VapInfo.essid", Essid),
    ("Monitoring.Radio.device_id", Serial),
    ("Monitoring.Radio.channel", Harmless),
    ("Monitoring.Ap.serial", Serial),
    ("Monitoring.Ap.name", Device),
    ("Monitoring.Ap.cluster_id", Device),
    ("Monitoring.Ap.model", Harmless),
    ("Monitoring.Ap.mesh_role", Harmless),
    ("Monitoring.Ap.mode", Harmless),
    ("Monitoring.Ap.firmware_version", Version),
    ("Monitoring.Network.swarm_id", Device),
    ("Monitoring.Network.essid", Essid),
    ("Monitoring.Network.security", Harmless),
    ("Monitoring.Network.type", Harmless),
    ("Monitoring.WirelessClient.name", User),
    ("Monitoring.WirelessClient.username", User),
    ("Monitoring.WirelessClient.associated_device", Serial),
    ("Monitoring.WirelessClient.network", Essid),
    ("Monitoring.WirelessClient.user_role", Harmless),
    ("Monitoring.WirelessClient.manufacturer", Harmless),
    ("Monitoring.WirelessClient.os_type", Harmless),
    ("Monitoring.WirelessClient.connection", Harmless),
    ("Monitoring.Switch.serial", Serial),
    ("Monitoring.Switch.name", Device),
    ("Monitoring.Switch.model", Harmless),
    ("Monitoring.Switch.firmware_version", Version),
    ("Monitoring.Switch.uplink_ports", Harmless),
    ("Monitoring.Switch.used_slots", Harmless),
    ("Monitoring.Switch.stack_id", Device),
    ("Monitoring.SwitchStack.stack_id", Device),
    ("Monitoring.SwitchStack.firmware_version", Version),
    ("Monitoring.WiredClient.name", User),
    ("Monitoring.WiredClient.username", User),
    ("Monitoring.WiredClient.associated_device", Serial),
    ("Monitoring.WiredClient.user_role", Harmless),
    ("Monitoring.MobilityController.serial", Serial),
    ("Monitoring.MobilityController.name", Device),
    ("Monitoring.MobilityController.model", Harmless),
    ("Monitoring.MobilityController.firmware_version", Version),
    ("Monitoring.Uplink.device_id", Serial),
    ("Monitoring.Uplink.name", Device),
    ("Monitoring.Uplink.description", Text),
    ("Monitoring.Uplink.vlan_description", Text),
    ("Monitoring.IkeTunnel.device_id", Serial),
    ("Monitoring.IkeTunnel.map_id", Device),
    ("Monitoring.IkeTunnel.map_name", Device),
    ("Monitoring.DeviceStats.device_id", Serial),
    ("Monitoring.RadioStats.device_id", Serial),
    ("Monitoring.VapStats.device_id", Serial),
    ("Monitoring.VapStats.network", Essid),
    ("Monitoring.TunnelStats.swarm_id", Device),
    ("Monitoring.TunnelStats.tunnel_id", Device),
    ("Monitoring.TunnelStats.tunnel_name", Device),
    ("Monitoring.ClientStats.device_id", Serial),
    ("Monitoring.InterfaceStats.device_id", Serial),
    ("Monitoring.UplinkStats.device_id", Serial),
    ("Monitoring.UplinkStats.map_id", Device),
    ("Monitoring.UplinkStats.map_name", Device),
    ("Monitoring.UplinkWanStats.device_id", Serial),
    ("Monitoring.ModemStats.device_id", Serial),
    ("Monitoring.RoleStats.device_id", Serial),
    ("Monitoring.RoleStats.user_role", Harmless),
    ("Monitoring.VlanStats.device_id", Serial),
    ("Monitoring.SsidStats.device_id", Serial),
    ("Monitoring.SsidStats.essid", Essid),
    ("Monitoring.TunnelIpProbeStats.device_id", Serial),
    ("Monitoring.TunnelIpProbeStats.tunnel_name", Device),
    ("Monitoring.TunnelIpProbeStats.tunnel_id", Device),
    ("Monitoring.UplinkIpProbeStats.device_id", Serial),
    ("Monitoring.UplinkIpProbeStats.vpnc_ip_addr", Ip),
    ("Monitoring.UplinkIpProbeStats.probe_ip_addr", Ip),
    ("Monitoring.UplinkSpeedtest.device_id", Serial),
    ("Monitoring.UplinkSpeedtest.protocol", Harmless),
    ("Monitoring.WIDSEvent.detected_ap", Device),
    ("Monitoring.WIDSEvent.channel", Harmless),
    ("Monitoring.WIDSEvent.network", Essid),
    ("Monitoring.AirMonitorRogueInfo.monitor_name", Device),
    ("Monitoring.RogueEvent.detected_ap", Device),
    ("Monitoring.RogueEvent.network", Essid),
    ("Monitoring.DeviceNeighbours.device_id", Serial),
    ("Monitoring.DeviceNeighbours.port", Harmless),
    ("Monitoring.DeviceNeighbours.remote_device_id", Serial),
    ("Monitoring.DeviceNeighbours.remote_port", Harmless),
    ("Monitoring.DeviceNeighbours.remote_port_number", Harmless),
    ("Monitoring.DeviceNeighbours.vlan_id", Harmless),
    ("Monitoring.MonitoringInformation.customer_id", Customer),
    ("Monitoring.MonitoringStateInformation.customer_id", Customer),
    ("Monitoring.KeyValueData.key", Harmless),
    ("Monitoring.KeyValueData.value", Text),
    ("Monitoring.Notification.id", Device),
    ("Monitoring.Notification.type", Harmless),
    ("Monitoring.Notification.setting_id", Device),
    ("Monitoring.Notification.device_id", Serial),
    ("Monitoring.Notification.description", Text),
    ("Monitoring.SwitchVlanInfo.device_id", Serial),
    ("Monitoring.SwitchVlan.name", Device),
    ("Monitoring.SwitchVlan.tagged_ports", Harmless),
    ("Monitoring.SwitchVlan.untagged_ports", Harmless),
    ("Monitoring.SwitchVlan.primary_vlan_type", Harmless),
    ("Monitoring.SwitchVlan.promiscuous_ports", Harmless),
    ("Monitoring.SwitchVlan.isl_ports", Harmless),
    ("Monitoring.SwitchVlan.oper_state_reason", Text),
    ("Monitoring.SwitchVlan.access_ports", Harmless),
    ("Monitoring.Vlan.description", Text),
    ("Monitoring.Vlan.addr_mode", Harmless),
    ("Monitoring.Vlan.device_id", Serial),
    ("Monitoring.VSXState.device_id", Serial),
    ("Monitoring.VSXState.isl_port", Harmless),
    ("Monitoring.VSXState.peer_isl_port", Harmless),
    ("Apprf.mac_address.addr", Mac),
    ("Apprf.ip_address.addr", Ip),
    ("Apprf.apprf_session.customer_id", Customer),
    ("Apprf.apprf_session.serial_number", Serial),
    ("Apprf.apprf_session.ap_name", Device),
    ("Apprf.client_firewall_session.vlan", Harmless),
    ("Apprf.client_firewall_session.uplink_name", Device),
    ("Apprf.client_firewall_session.app_name", Harmless),
    ("Apprf.client_firewall_session.app_cat", Harmless),
    ("Apprf.client_firewall_session.web_cat", Harmless),
    ("Apprf.client_firewall_session.web_rep", Harmless),
    ("Apprf.client_firewall_session.dest_url_prefix", Url),
    ("Apprf.client_firewall_session.domain", Url),
    ("Apprf.client_firewall_session.ssid", Essid),
    ("Apprf.client_firewall_session.user_name", User),
    ("Apprf.client_firewall_session.user_role", Harmless),
    ("Apprf.client_firewall_session.device_type", Harmless),
    ("Apprf.url_detail_record.dest_url_prefix", Url),
    ("Audit.mac_address.addr", Mac),
    ("Audit.ip_address.addr", Ip),
    ("Audit.config.data", Text),
    ("Audit.config.detailed_data", Text),
    ("Audit.firmware.data", Text),
    ("Audit.firmware.detailed_data", Text),
    ("Audit.device_management.data", Text),
    ("Audit.device_management.detailed_data", Text),
    ("Audit.audit_message.customer_id", Customer),
    ("Audit.audit_message.group_name", Site),
    ("Audit.audit_message.target", Device),
    ("Audit.audit_message.username", User),
    ("Location.mac_address.addr", Mac),
    ("Location.stream_location.sta_location_x", Coordinate),
    ("Location.stream_location.sta_location_y", Coordinate),
    ("Location.stream_location.hashed_sta_eth_mac", Device),
    ("Location.stream_location.geofence_ids", Site),
    ("Location.stream_location.longitude", Coordinate),
    ("Location.stream_location.latitude", Coordinate),
    ("Location.stream_location.altitude", Coordinate),
    ("Location.stream_location.campus_id_string", Site),
    ("Location.stream_location.building_id_string", Site),
    ("Location.stream_location.floor_id_string", Site),
    ("Location.stream_geofence_notify.geofence_id", Site),
    ("Location.stream_geofence_notify.geofence_name", Site),
    ("Location.stream_geofence_notify.hashed_sta_eth_mac", Device),
    ("Presence.mac_address.addr", Mac),
    ("Presence.MacAddress.addr", Mac),
    ("Presence.presence_client_state.label_id", Site),
    ("Presence.presence_client_state.label_category_id", Site),
    ("Presence.proximity.device_id", Serial),
    ("Presence.rssi.device_id", Serial),
    ("Presence.presence_event.customer_id", Customer),
    ("Presence.presence_event.event", Harmless),
    ("Security.MacAddress.addr", Mac),
    ("Security.RapidsStreamingEvent.cust_id", Customer),
    ("Security.RogueEvent.first_seen", Time),
    ("Security.RogueEvent.last_seen", Time),
    ("Security.RogueEvent.rogue_name", Device),
    ("Security.RogueEvent.ssid", Essid),
    ("Security.RogueEvent.lan_mac", Mac),
    ("Security.RogueEvent.first_det_device", Device),
    ("Security.RogueEvent.last_det_device", Device),
    ("Security.RogueEvent.port", Harmless),
    ("Security.RogueEvent.containment_status", Harmless),
    ("Security.RogueEvent.mac_vendor", Harmless),
    ("Security.WIDSEvent.device_id", Serial),
    ("Security.WIDSEvent.event_type", Harmless),
    ("Security.WIDSEvent.attack_type", Harmless),
    ("Security.WIDSEvent.description", Text),
    ("Security.WIDSEvent.detected_ap", Device),
    ("Security.WIDSEvent.radio_band", Harmless),
    ("Security.WIDSEvent.level", Harmless),
    ("centralcap.SessionEvent.Connected.peer", Ip),
    ("centralcap.SessionEvent.Rejected.body", Text),
    ("centralcap.SessionEvent.Failed.reason", Text),
    ("centralcap.SessionEvent.Closed.reason", Text),
    ("centralcap.SessionEvent.TextFrame.data", Text),
    ("centralcap.SessionEvent.DroppedFrames.reason", Text),
    ("centralcap.SessionEvent.ExportDropped.exporter", Text),
    ("centralcap.SessionEvent.ExportDropped.reason", Text),
    ("centralcap.SessionEvent.SegmentDeleted.segment", Text),
    ("centralcap.SessionEvent.SegmentDeleted.reason", Text),];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_reflect::Kind;

    use super::*;
    use crate::schema;

    #[test]
    fn every_field_that_can_say_something_has_a_row_and_every_row_has_a_field() {
        let (mut needed, mut there) = (BTreeSet::new(), BTreeSet::new());
        for message in schema::bundled().all_messages() {
            for field in message.fields() {
                let path = format!("{}.{}", message.full_name(), field.name());
                if matches!(field.kind(), Kind::String | Kind::Bytes) {
                    needed.insert(path.clone());
                }
                // What is neither copied nor classed is taken for unknown, and dropped.
                assert!(!field.is_group() && !field.is_map(), "{path}");
                there.insert(path);
            }
        }
        // The payload, which is bytes only until its type is known.
        assert!(needed.remove("StreamMessage.MsgProto.data"));
        let rows: Vec<_> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
        let unique: BTreeSet<_> = rows.iter().cloned().collect();
        assert_eq!(unique.len(), rows.len(), "a field has two rows");
        assert_eq!(needed.difference(&unique).collect::<Vec<_>>(), Vec::<&String>::new());
        assert_eq!(unique.difference(&there).collect::<Vec<_>>(), Vec::<&String>::new());
    }

    #[test]
    fn a_row_is_found_by_message_and_field() {
        assert_eq!(class("Monitoring.Ap", "serial"), Some(Serial));
        assert_eq!(class("Monitoring.Ap", "erial"), None);
        assert_eq!(class("Monitoring.Ap", "macaddr"), None);
    }
}
