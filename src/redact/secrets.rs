//! A key, and what it makes of a value: always the same, and nothing that leads back without the key.

use std::{
    cell::RefCell,
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipcrypt_rs::IpcryptPfx;
use ring::hmac;

/// The secret that pseudonyms hang on. It never shows itself.
#[derive(Clone)]
pub struct Key(Vec<u8>);

impl Key {
    /// So many bytes are enough that nobody can try all keys.
    pub const LEAST: usize = 16;

    /// None if it is too short.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= Self::LEAST).then(|| Self(bytes.to_vec()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Makes pseudonyms.
pub(super) struct Secrets {
    key: hmac::Key,
    addresses: IpcryptPfx,
    /// The latest ones: of an address each bit costs two encryptions.
    made: RefCell<HashMap<IpAddr, IpAddr>>,
    keep_oui: bool,
    /// Nobody looks at what is made.
    is_asleep: bool,
}

/// So many addresses are at hand.
const AT_HAND: usize = 1 << 16;

/// Without the letters that look like others, and so without most words.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// So many of them make a name: 60 bits, so that of a million names hardly two are the same.
const NAME_LENGTH: usize = 12;

/// Twice as many as a Feistel network needs to look random.
const ROUNDS: u8 = 8;

impl Secrets {
    pub(super) fn new(key: &Key, keep_oui: bool) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key.0);
        let mut halves = digest(&key, "addresses", &[]);
        // It wants two keys, and they are the same once in 2^128 times.
        if halves[..16] == halves[16..] {
            halves[0] ^= 1;
        }
        Self {
            key,
            addresses: IpcryptPfx::new(halves),
            made: RefCell::default(),
            keep_oui,
            is_asleep: false,
        }
    }

    /// The same without the work: what it makes is of no use until it is woken.
    pub(super) fn asleep(key: &Key, keep_oui: bool) -> Self {
        Self { is_asleep: true, ..Self::new(key, keep_oui) }
    }

    pub(super) fn wake(&mut self) {
        self.is_asleep = false;
    }

    fn digest(&self, of: &str, parts: &[&[u8]]) -> [u8; 32] {
        if self.is_asleep {
            return [0; 32];
        }
        digest(&self.key, of, parts)
    }

    fn number_of(&self, of: &str, parts: &[&[u8]]) -> u64 {
        let digest = self.digest(of, parts);
        u64::from_le_bytes(*digest.first_chunk().expect("it has 32"))
    }

    /// A name for a name. Small and large letters are not told apart.
    pub(super) fn name(&self, name: &[u8]) -> String {
        let mut bits = self.number_of("name", &[&name.to_ascii_lowercase()]);
        let mut made = "id-".to_owned();
        for _ in 0..NAME_LENGTH {
            made.push(char::from(DIGITS[(bits & 31) as usize]));
            bits >>= 5;
        }
        made
    }

    /// As many bytes for bytes.
    pub(super) fn bytes(&self, data: &[u8]) -> Vec<u8> {
        let blocks = (0..data.len().div_ceil(32) as u64)
            .flat_map(|block| self.digest("bytes", &[&block.to_le_bytes(), data]));
        blocks.take(data.len()).collect()
    }

    /// A MAC address for one: locally administered and nobody's group, or of the same maker if it has one.
    pub(super) fn mac(&self, octets: &[u8]) -> Vec<u8> {
        if is_nobodys_mac(octets) {
            return octets.to_vec();
        }
        // Of an address that is locally administered, these bytes are no maker's: a phone makes them up, and
        // they tell it from all others.
        let has_maker = |(maker, _): &(&[u8], &[u8])| self.keep_oui && maker[0] & 2 == 0;
        if let Some((maker, rest)) = octets.split_at_checked(3).filter(has_maker) {
            let number = rest.iter().fold(0, |sum, &octet| sum << 8 | u64::from(octet));
            let moved = self.permuted("mac", maker, number, 1 << (8 * rest.len()));
            return [maker, &moved.to_be_bytes()[8 - rest.len()..]].concat();
        }
        let mut made = self.digest("mac", &[octets])[..octets.len()].to_vec();
        if let Some(first) = made.first_mut() {
            *first = *first & 0xfc | 0x02;
        }
        made
    }

    /// An IP address for one, of the same family. Two that begin with the same bits get two that begin
    /// with as many.
    pub(super) fn ip(&self, address: IpAddr) -> IpAddr {
        if is_nobodys_ip(address) || self.is_asleep {
            return address;
        }
        if let Some(made) = self.made.borrow().get(&address) {
            return *made;
        }
        let made = match (address, self.addresses.encrypt_ipaddr(address)) {
            // What it makes of a version 6 address may be one that stands for version 4.
            (IpAddr::V6(_), IpAddr::V4(made)) => IpAddr::V6(made.to_ipv6_mapped()),
            (_, made) => made,
        };
        let mut at_hand = self.made.borrow_mut();
        if at_hand.len() >= AT_HAND {
            at_hand.clear();
        }
        at_hand.insert(address, made);
        made
    }

    /// A number for a number, of as many decimal digits, and none for none. It is at most `limit`.
    pub(super) fn number(&self, number: u64, limit: u64) -> u64 {
        if number == 0 {
            return 0;
        }
        let from = 10_u64.pow(number.ilog10());
        let size = (u128::from(from) * 9).min(u128::from(limit) - u128::from(from) + 1);
        from + self.permuted("number", &[], number - from, size)
    }

    /// The same for digits that are text.
    pub(super) fn decimal(&self, text: &str) -> String {
        let length = text.len();
        match text.parse::<u64>() {
            // They stay among those of their length that begin so, and so no two become the same.
            Ok(number) if text.starts_with('0') && length < 20 => {
                let size = 10_u128.pow(length as u32 - 1);
                let moved = self.permuted("zero", &[length as u8], number, size);
                format!("{moved:0length$}")
            }
            Ok(number) if length < 20 => {
                let limit = 10_u64.checked_pow(length as u32).map_or(u64::MAX, |next| next - 1);
                self.number(number, limit).to_string()
            }
            _ => {
                let digits = self.bytes(text.as_bytes());
                digits.iter().map(|digit| char::from(b'0' + digit % 10)).collect()
            }
        }
    }

    /// Where a number below `size` goes among all of these: no two go to the same. A Feistel network, of
    /// which what falls outside goes through again (Black and Rogaway 2002, "cycle walking").
    fn permuted(&self, of: &str, tweak: &[u8], number: u64, size: u128) -> u64 {
        let half = (1..32).find(|half| 1 << (2 * half) >= size).unwrap_or(32);
        let mask = (1_u64 << half) - 1;
        let mut at = number;
        loop {
            let (mut left, mut right) = (at >> half, at & mask);
            for round in 0..ROUNDS {
                let parts = [&[round][..], &size.to_le_bytes(), tweak, &right.to_le_bytes()];
                let mixed = self.number_of(of, &parts) & mask;
                (left, right) = (right, left ^ mixed);
            }
            at = left << half | right;
            if u128::from(at) < size {
                return at;
            }
        }
    }

    /// How everything at a place is moved. Small and large letters are not told apart.
    pub(super) fn motion(&self, place: &[u8]) -> Motion {
        let dice = self.digest("motion", &[&place.to_ascii_lowercase()]);
        let more = self.digest("motion again", &[&place.to_ascii_lowercase()]);
        let unit = |bytes: &[u8]| {
            let bytes = bytes.first_chunk().expect("there are eight");
            (u64::from_le_bytes(*bytes) >> 11) as f64 / (1_u64 << 53) as f64
        };
        let [first, second, third, turn] = [0, 8, 16, 24].map(|at| unit(&dice[at..]));
        let [x, y, up] = [0, 8, 16].map(|at| unit(&more[at..]));
        let full = std::f64::consts::TAU;
        let (low, high) = ((1.0 - first).sqrt(), first.sqrt());
        Motion {
            turn: full * turn,
            // Small enough that a float keeps a millimetre.
            by: [x * 1000.0 - 500.0, y * 1000.0 - 500.0],
            up: up * 1000.0 - 500.0,
            // Each turn of the globe is as likely (Shoemake 1992).
            globe: [
                low * (full * second).sin(),
                low * (full * second).cos(),
                high * (full * third).sin(),
                high * (full * third).cos(),
            ],
        }
    }
}

fn digest(key: &hmac::Key, of: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    context.update(of.as_bytes());
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let tag = context.sign();
    *tag.as_ref().first_chunk().expect("SHA-256 makes 32 bytes")
}

/// It stands for none, or for all.
pub(super) fn is_nobodys_mac(octets: &[u8]) -> bool {
    octets.iter().all(|octet| *octet == 0) || octets.iter().all(|octet| *octet == 0xff)
}

/// It stands for none, for all, or for whoever asks.
pub(super) fn is_nobodys_ip(address: IpAddr) -> bool {
    address.is_unspecified() || address.is_loopback() || address == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// An address of version 4 that is written as one of version 6 is one of version 4.
pub(super) fn ip_of(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).to_canonical()),
        _ => None,
    }
}

/// A turn and a shift: what is so far from each other stays so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Motion {
    turn: f64,
    by: [f64; 2],
    up: f64,
    /// A quaternion of length 1.
    globe: [f64; 4],
}

impl Motion {
    /// On the plan of a floor.
    pub(super) fn on_plan(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let (sin, cos) = self.turn.sin_cos();
        [x * cos - y * sin + self.by[0], x * sin + y * cos + self.by[1]]
    }

    pub(super) fn altitude(&self, altitude: f64) -> f64 {
        altitude + self.up
    }

    /// On the globe, in degrees: longitude and latitude.
    pub(super) fn on_globe(&self, [longitude, latitude]: [f64; 2]) -> [f64; 2] {
        let (east, north) = (longitude.to_radians(), latitude.to_radians());
        let at = [north.cos() * east.cos(), north.cos() * east.sin(), north.sin()];
        let [axis @ .., real] = self.globe;
        let once = cross(axis, at);
        let twice = cross(axis, [0, 1, 2].map(|n| once[n] + real * at[n]));
        let [x, y, z] = [0, 1, 2].map(|n| at[n] + 2.0 * twice[n]);
        [y.atan2(x).to_degrees(), z.atan2(x.hypot(y)).to_degrees()]
    }
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn secrets(key: &[u8], keep_oui: bool) -> Secrets {
        Secrets::new(&Key::new(key).unwrap(), keep_oui)
    }

    const KEY: &[u8] = b"synthetic key for tests";

    #[test]
    fn a_key_is_long_enough_and_does_not_show_itself() {
        assert!(Key::new(b"fifteen bytes..").is_none());
        assert_eq!(format!("{:?}", Key::new(KEY).unwrap()), "Key(..)");
    }

    #[test]
    fn the_key_decides_and_nothing_else_does() {
        let (one, same, other) =
            (secrets(KEY, false), secrets(KEY, false), secrets(b"another synthetic key", false));
        assert_eq!(one.name(b"Alice"), same.name(b"alice"));
        assert_ne!(one.name(b"alice"), other.name(b"alice"));
        assert_ne!(one.name(b"alice"), one.name(b"alicf"));
        assert_eq!(one.bytes(&[7; 40]), same.bytes(&[7; 40]));
        assert_eq!(one.bytes(&[7; 40]).len(), 40);
        assert_ne!(one.bytes(&[7; 40]), other.bytes(&[7; 40]));
    }

    #[test]
    fn macs_stay_macs_and_differ() {
        let secrets = secrets(KEY, false);
        let made: HashSet<_> = (0..10_000_u32)
            .map(|n| secrets.mac(&[&[0, 1], &n.to_be_bytes()[..]].concat()))
            .collect();
        assert_eq!(made.len(), 10_000);
        assert!(made.iter().all(|mac| mac.len() == 6 && mac[0] & 3 == 2));
        assert_eq!(secrets.mac(&[0xff; 6]), [0xff; 6]);
        assert_eq!(secrets.mac(&[0; 6]), [0; 6]);
        assert_eq!(secrets.mac(&[1; 8]).len(), 8);
    }

    #[test]
    fn a_kept_oui_stays_and_the_rest_differs() {
        let secrets = secrets(KEY, true);
        let made: HashSet<_> = (0..20_000_u32)
            .map(|n| secrets.mac(&[&[0, 1, 2], &n.to_be_bytes()[1..]].concat()))
            .collect();
        // With 24 bits left, digests would not.
        assert_eq!(made.len(), 20_000);
        assert!(made.iter().all(|mac| mac.starts_with(&[0, 1, 2])));
        assert_ne!(secrets.mac(&[0, 1, 2, 0, 0, 1])[3..], secrets.mac(&[0, 1, 3, 0, 0, 1])[3..]);
    }

    #[test]
    fn an_address_without_a_maker_keeps_nothing() {
        let secrets = secrets(KEY, true);
        // What a phone makes up: the first three bytes tell it from nearly all others.
        let made: HashSet<_> = (0..1000_u32)
            .map(|n| secrets.mac(&[&[0x0e, 0x5a, 0xc3], &n.to_be_bytes()[1..]].concat()))
            .collect();
        assert_eq!(made.len(), 1000);
        let makers: HashSet<_> = made.iter().map(|mac| &mac[..3]).collect();
        assert!(makers.len() > 900, "{}", makers.len());
        assert!(made.iter().all(|mac| mac[0] & 3 == 2));
    }

    #[test]
    fn addresses_keep_their_family_and_what_they_have_in_common() {
        fn common(a: IpAddr, b: IpAddr) -> u32 {
            match (a, b) {
                (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
                (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
                _ => panic!("{a} {b}"),
            }
        }
        let secrets = secrets(KEY, false);
        for [a, b] in [
            ["192.0.2.1", "192.0.2.2"],
            ["192.0.2.1", "192.0.3.1"],
            ["10.0.0.1", "203.0.113.9"],
            ["2001:db8::1", "2001:db8::2"],
            ["2001:db8::1", "2001:db8:1::1"],
        ] {
            let [a, b]: [IpAddr; 2] = [a, b].map(|text| text.parse().unwrap());
            assert_ne!(secrets.ip(a), a);
            assert_eq!(common(secrets.ip(a), secrets.ip(b)), common(a, b), "{a} {b}");
        }
        for nobody in ["0.0.0.0", "127.0.0.1", "255.255.255.255", "::", "::1"] {
            let nobody: IpAddr = nobody.parse().unwrap();
            assert_eq!(secrets.ip(nobody), nobody);
        }
    }

    #[test]
    fn numbers_keep_their_digits_and_differ() {
        let secrets = secrets(KEY, false);
        let made: HashSet<_> = (1..1000).map(|number| secrets.number(number, 4095)).collect();
        assert_eq!(made, (1..1000).collect());
        let made: HashSet<_> = (1000..=4095).map(|number| secrets.number(number, 4095)).collect();
        assert_eq!(made, (1000..=4095).collect());
        assert_eq!(secrets.number(0, u64::MAX), 0);
        let largest = secrets.number(u64::MAX, u64::MAX);
        assert!(largest >= 10_u64.pow(19) && largest != u64::MAX, "{largest}");
        for text in ["7", "1000001", "000017", "12345678901234567890123"] {
            let made = secrets.decimal(text);
            assert_eq!(made.len(), text.len(), "{made}");
            assert!(made.bytes().all(|digit| digit.is_ascii_digit()), "{made}");
        }
        assert_eq!(secrets.decimal("1000001"), secrets.number(1_000_001, u64::MAX).to_string());
    }

    #[test]
    fn numbers_that_begin_with_zeros_differ_too() {
        let secrets = secrets(KEY, false);
        let made: HashSet<_> = (0..1000).map(|n| secrets.decimal(&format!("{n:04}"))).collect();
        assert_eq!(made.len(), 1000);
        // Nor does any of them become what another number does.
        assert!(made.iter().all(|made| made.starts_with('0') && made.len() == 4), "{made:?}");
        assert_ne!(secrets.decimal("0017"), "0017");
    }

    #[test]
    fn a_motion_keeps_distances() {
        fn apart(motion: impl Fn([f64; 2]) -> [f64; 2], a: [f64; 2], b: [f64; 2]) -> f64 {
            let (a, b) = (motion(a), motion(b));
            (a[0] - b[0]).hypot(a[1] - b[1])
        }
        fn on_earth(a: [f64; 2], b: [f64; 2]) -> f64 {
            let [a, b] = [a, b].map(|[longitude, latitude]: [f64; 2]| {
                let (east, north) = (longitude.to_radians(), latitude.to_radians());
                [north.cos() * east.cos(), north.cos() * east.sin(), north.sin()]
            });
            6_371_000.0 * (0..3).map(|n| (a[n] - b[n]).powi(2)).sum::<f64>().sqrt()
        }
        let motion = secrets(KEY, false).motion(b"floor 1");
        let (a, b) = ([3.0, 4.0], [120.0, 7.5]);
        assert!((apart(|at| motion.on_plan(at), a, b) - apart(|at| at, a, b)).abs() < 1e-9);
        assert!(motion.on_plan(a)[0] - a[0] != 0.0);
        let (a, b) = ([8.5417, 47.3769], [8.5419, 47.3771]);
        let moved = [a, b].map(|at| motion.on_globe(at));
        assert!((on_earth(a, b) - on_earth(moved[0], moved[1])).abs() < 1e-3);
        assert!(on_earth(a, moved[0]) > 1000.0);
        let other = secrets(KEY, false).motion(b"floor 2");
        let (one, other) = (motion.on_plan([0.0, 0.0]), other.on_plan([0.0, 0.0]));
        assert!((one[0] - other[0]).abs() > 1e-3);
    }
}
