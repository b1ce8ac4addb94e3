//! Who lives on the campus: devices and clients, made once from the seed, that keep who they are.
//!
//! Names say that they are synthetic; addresses are from the ranges for documentation; MACs are
//! locally administered.

use crate::dice::Dice;

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Ap,
    Switch,
    Gateway,
}

/// A device and its counters.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub role: Role,
    pub serial: String,
    pub name: String,
    pub model: &'static str,
    pub mac: [u8; 6],
    pub ip: [u8; 4],
    pub traffic: Traffic,
    /// Seconds since it was started, at the start of the capture.
    pub uptime: u64,
}

/// A client and where it is.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub name: String,
    pub user: String,
    pub mac: [u8; 6],
    pub ip: [u8; 4],
    pub os: &'static str,
    pub role: &'static str,
    pub essid: usize,
    /// The access point it is at, as an index of the devices. It roams.
    pub at: usize,
    pub x: f32,
    pub y: f32,
    pub traffic: Traffic,
}

/// Bytes sent and received so far: they only grow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    pub sent: u64,
    pub received: u64,
}

impl Traffic {
    pub(super) const fn grow(&mut self, dice: &mut Dice) {
        self.sent += dice.within(1_000, 4_000_000);
        self.received += dice.within(1_000, 9_000_000);
    }
}

/// One customer's campus.
#[derive(Clone, Debug)]
pub(super) struct Campus {
    pub customer: String,
    pub name: &'static str,
    pub devices: Vec<Device>,
    pub clients: Vec<Client>,
}

/// Customers are named after where they are.
pub(super) const NAMES: [&str; 8] =
    ["north", "south", "east", "west", "central", "harbour", "hill", "valley"];

/// The networks. One is not ASCII, and one is not even UTF-8, as on any real campus.
pub(super) const ESSIDS: [&[u8]; 5] =
    [b"campus", b"guests", "caf\u{e9} terrasse".as_bytes(), b"lab-iot", b"old\xe9net\\1"];

const MODELS: [(&str, Role); 5] = [
    ("AP-S515", Role::Ap),
    ("AP-S635", Role::Ap),
    ("SW-S6300", Role::Switch),
    ("SW-S2930", Role::Switch),
    ("GW-S7210", Role::Gateway),
];

const SYSTEMS: [&str; 5] = ["Linux", "Android", "Windows", "macOS", "iOS"];
const USER_ROLES: [&str; 4] = ["employee", "student", "guest", "sensor"];

impl Campus {
    pub(super) fn new(number: usize, devices: usize, dice: &mut Dice) -> Self {
        let name = NAMES[number % NAMES.len()];
        // A customer id is a decimal string or 32 hex digits.
        let customer = if number.is_multiple_of(2) {
            format!("{}", 1_000_001 + number)
        } else {
            format!("{:016x}{:016x}", dice.next(), dice.next())
        };
        let devices: Vec<_> =
            (0..devices).map(|index| device(number, name, index, devices, dice)).collect();
        let aps: Vec<usize> =
            (0..devices.len()).filter(|&index| devices[index].role == Role::Ap).collect();
        let clients =
            (0..devices.len() * 4).map(|index| client(number, index, *dice.pick(&aps), dice));
        let clients = clients.collect();
        Self { customer, name, devices, clients }
    }
}

fn device(campus: usize, name: &str, index: usize, count: usize, dice: &mut Dice) -> Device {
    // Seven in ten are access points, two are switches, one is a gateway; the first three are one of
    // each, however few there are.
    let role = match index {
        0 => Role::Ap,
        1 => Role::Switch,
        2 => Role::Gateway,
        index if index * 10 < count * 7 => Role::Ap,
        index if index * 10 < count * 9 => Role::Switch,
        _ => Role::Gateway,
    };
    let models: Vec<_> = MODELS.iter().filter(|(_, of)| *of == role).collect();
    let short = match role {
        Role::Ap => "ap",
        Role::Switch => "sw",
        Role::Gateway => "gw",
    };
    Device {
        role,
        serial: format!("SYN{}{campus:02}{index:05}", short.to_uppercase()),
        name: format!("{name}-{short}-{index:03}"),
        model: dice.pick(&models).0,
        mac: [0x02, 0x0d, campus as u8, (index >> 8) as u8, index as u8, 0],
        ip: [192, 0, 2, (1 + index % 254) as u8],
        traffic: Traffic::default(),
        uptime: dice.within(10_000, 9_000_000),
    }
}

fn client(campus: usize, index: usize, at: usize, dice: &mut Dice) -> Client {
    let net = if index.is_multiple_of(2) { [198, 51, 100] } else { [203, 0, 113] };
    Client {
        name: format!("client-{index:04}"),
        user: format!("user-{index:04}@example.com"),
        mac: [0x06, 0x0c, campus as u8, dice.next() as u8, (index >> 8) as u8, index as u8],
        ip: [net[0], net[1], net[2], (1 + index / 2 % 254) as u8],
        os: dice.pick::<&str>(&SYSTEMS),
        role: dice.pick::<&str>(&USER_ROLES),
        essid: dice.below(ESSIDS.len() as u64) as usize,
        at,
        x: dice.unit() as f32 * 200.0,
        y: dice.unit() as f32 * 120.0,
        traffic: Traffic::default(),
    }
}
