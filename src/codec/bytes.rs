//! Bytes that mean something to people: MAC addresses, IP addresses and ESSIDs.
//!
//! Which fields those are is read off the descriptors. Every text form can be turned back into the
//! bytes; what does not fit its meaning is shown as base64, which none of the text forms looks like.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use base64::{
    Engine,
    alphabet::{self, Alphabet},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use prost_reflect::{FieldDescriptor, MessageDescriptor};

use super::text::Text;

/// What the bytes of a field mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// An EUI-48 or EUI-64: raw, or as hex digits with or without separators.
    Mac,
    /// An IPv4 or IPv6 address, told by its length. The `af` number beside it differs by topic.
    Ip,
    /// A network's name: up to 32 bytes, usually UTF-8.
    Essid,
    /// Nothing that is known.
    Opaque,
}

impl Meaning {
    /// What a bytes field means, by its name and by the message it is in.
    pub fn of(field: &FieldDescriptor) -> Self {
        match (field.parent_message().name(), field.name()) {
            ("mac_address" | "MacAddress", "addr") => Self::Mac,
            ("ip_address" | "IpAddress", "addr") => Self::Ip,
            (_, "essid" | "network") => Self::Essid,
            _ => Self::Opaque,
        }
    }

    /// The bytes as text of that meaning, else as base64.
    pub fn text(self, data: &[u8]) -> String {
        let text = match self {
            Self::Mac => mac(data),
            Self::Ip => ip(data),
            Self::Essid => Some(essid(data)),
            Self::Opaque => None,
        };
        text.unwrap_or_else(|| base64(data))
    }

    /// The bytes that are shown as this text. Of a MAC address, which has several forms, the raw one.
    pub fn bytes(self, text: &str) -> Option<Vec<u8>> {
        let bytes = match self {
            Self::Mac => mac_octets(text),
            Self::Ip => match text.parse() {
                Ok(IpAddr::V4(address)) => Some(address.octets().to_vec()),
                Ok(IpAddr::V6(address)) => Some(address.octets().to_vec()),
                Err(_) => None,
            },
            // Each name has a text of its own, and base64 would be another name.
            Self::Essid => return essid_bytes(text),
            Self::Opaque => None,
        };
        bytes.or_else(|| from_base64(text))
    }
}

/// Whether a MAC address is sent as twelve hex digits in this message. Where one is read, its length
/// tells.
pub(super) fn has_hex_macs(message: &MessageDescriptor) -> bool {
    message.package_name() == "Presence"
}

/// Standard base64 with padding, as ProtoJSON has it.
pub fn base64(data: &[u8]) -> String {
    STANDARD.encode(data)
}

/// The bytes that this is the base64 of, in either alphabet, with padding or without.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    const fn lenient(alphabet: &Alphabet) -> GeneralPurpose {
        let config = GeneralPurposeConfig::new();
        let config = config.with_decode_padding_mode(DecodePaddingMode::Indifferent);
        GeneralPurpose::new(alphabet, config)
    }
    const ENGINES: [GeneralPurpose; 2] =
        [lenient(&alphabet::STANDARD), lenient(&alphabet::URL_SAFE)];

    ENGINES.iter().find_map(|engine| engine.decode(text).ok())
}

/// The bytes that these are the hex digits of.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks();
    rest.is_empty().then(|| pairs.iter().map(|&pair| octet(pair)).collect())?
}

fn octet(pair: [u8; 2]) -> Option<u8> {
    let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
    Some((high? << 4 | low?) as u8)
}

/// Lower-case hex digits.
pub fn hex(data: &[u8]) -> String {
    data.iter().flat_map(|&byte| HEX_PAIRS[usize::from(byte)]).map(char::from).collect()
}

/// The two lower-case hex digits of each byte.
pub(super) const HEX_PAIRS: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
};

fn mac(data: &[u8]) -> Option<String> {
    let mut text = Text::default();
    let is_mac = text.mac(data);
    text.unquote(0);
    is_mac.then(|| String::from_utf8_lossy(text.as_bytes()).into_owned())
}

/// Six pairs of digits or eight, all with colons or all with hyphens between them.
fn mac_octets(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    let &separator = text.get(2).filter(|separator| b":-".contains(separator))?;
    let pairs = text.split(|&byte| byte == separator).map(|pair| octet(pair.try_into().ok()?));
    let octets: Vec<_> = pairs.collect::<Option<_>>()?;
    matches!(octets.len(), 6 | 8).then_some(octets)
}

fn ip(data: &[u8]) -> Option<String> {
    match data.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).to_string()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).to_string()),
        _ => None,
    }
}

/// Printable UTF-8 as it is; a backslash and all other bytes as `\xNN`. No two names look the same.
fn essid(data: &[u8]) -> String {
    let mut text = String::with_capacity(data.len());
    for chunk in data.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\\' || !is_printable(character) {
                let mut buffer = [0; 4];
                escape(character.encode_utf8(&mut buffer).as_bytes(), &mut text);
            } else {
                text.push(character);
            }
        }
        escape(chunk.invalid(), &mut text);
    }
    text
}

fn essid_bytes(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('\\');
    let mut name = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (pair, rest) = part.strip_prefix('x')?.as_bytes().split_first_chunk()?;
        name.push(octet(*pair)?);
        name.extend(rest);
    }
    Some(name)
}

fn escape(data: &[u8], text: &mut String) {
    for byte in data {
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// Not a control character, and none of the marks that reorder or hide the text round them.
fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_read_in_all_four_forms() {
        let shown = "02:00:5e:10:ab:ff";
        assert_eq!(Meaning::Mac.text(&[0x02, 0x00, 0x5e, 0x10, 0xab, 0xff]), shown);
        assert_eq!(Meaning::Mac.text(b"02005E10abFF"), shown);
        assert_eq!(Meaning::Mac.text(b"02:00:5e:10:ab:ff"), shown);
        assert_eq!(Meaning::Mac.text(b"02-00-5e-10-ab-ff"), shown);
        assert_eq!(Meaning::Mac.text(&[2, 0, 0, 0xff, 0xfe, 0, 0, 1]), "02:00:00:ff:fe:00:00:01");
    }

    #[test]
    fn what_is_no_mac_or_ip_is_base64() {
        assert_eq!(Meaning::Mac.text(&[1, 2, 3]), "AQID");
        assert_eq!(Meaning::Mac.text(b"no hex digit"), base64(b"no hex digit"));
        assert_eq!(Meaning::Mac.text(&[]), "");
        assert_eq!(Meaning::Ip.text(&[1, 2, 3]), "AQID");
    }

    #[test]
    fn addresses_are_told_by_their_length() {
        assert_eq!(Meaning::Ip.text(&[192, 0, 2, 7]), "192.0.2.7");
        let v6: Ipv6Addr = "2001:db8::7".parse().unwrap();
        assert_eq!(Meaning::Ip.text(&v6.octets()), "2001:db8::7");
    }

    #[test]
    fn essids_are_text_with_a_lossless_escape() {
        assert_eq!(Meaning::Essid.text("Café Gäste".as_bytes()), "Café Gäste");
        assert_eq!(Meaning::Essid.text(b"a\\b"), "a\\x5cb");
        assert_eq!(Meaning::Essid.text(b"\xff\x00ok\n"), "\\xff\\x00ok\\x0a");
        assert_eq!(Meaning::Essid.text("a\u{202e}b".as_bytes()), "a\\xe2\\x80\\xaeb");
    }

    #[test]
    fn every_text_is_turned_back_into_the_bytes() {
        let all = [
            &[0x02, 0x00, 0x5e, 0x10, 0xab, 0xff][..],
            &[2, 0, 0, 0xff, 0xfe, 0, 0, 1],
            &[192, 0, 2, 7],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7],
            b"a\\x5cb\xff\x00\n",
            "Caf\u{e9} \u{202e}".as_bytes(),
            b"",
            b"no hex digit",
            &[0xfb, 0xff],
        ];
        for data in all {
            for meaning in [Meaning::Mac, Meaning::Ip, Meaning::Essid, Meaning::Opaque] {
                let text = meaning.text(data);
                assert_eq!(meaning.bytes(&text).as_deref(), Some(data), "{meaning:?} {text:?}");
            }
            assert_eq!(from_hex(&hex(data)).as_deref(), Some(data));
            assert_eq!(from_base64(&base64(data)).as_deref(), Some(data));
        }
        assert_eq!(from_base64("-_8"), Some(vec![0xfb, 0xff]));
        assert_eq!(
            Meaning::Mac.bytes("02-00-5E-10-AB-FF"),
            Meaning::Mac.bytes("02:00:5e:10:ab:ff")
        );
    }

    #[test]
    fn what_is_not_the_text_of_bytes_is_refused() {
        for text in ["02:00:5e:10:ab", "02:00:5e:10:ab:fg", "02:00-5e:10:ab:ff", "?", "A", "AB=="] {
            assert_eq!(Meaning::Mac.bytes(text), None, "{text}");
        }
        for text in ["192.0.2.256", "192.0.2", "2001:db8::7::"] {
            assert_eq!(Meaning::Ip.bytes(text), None, "{text}");
        }
        for text in ["a\\", "\\xf", "\\xfg", "\\n", "\\\\x00"] {
            assert_eq!(Meaning::Essid.bytes(text), None, "{text}");
        }
        for text in ["a", "ag", "+a", "\u{e9}"] {
            assert_eq!(from_hex(text), None, "{text}");
        }
    }
}
