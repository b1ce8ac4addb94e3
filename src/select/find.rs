//! Frames that hold a text, found in their bytes without decoding them.
//!
//! A MAC address is on the wire as six raw bytes, or as hex digits with whatever between them, and an
//! IP address as four raw bytes or sixteen: all of these are looked for at once, and texts in upper and
//! in lower case.

use std::{fmt, net::IpAddr, str::FromStr};

use aho_corasick::AhoCorasick;
use memchr::memmem::Finder;

use crate::{
    codec::bytes,
    error::{Error, Result},
};

/// What a frame has to hold.
#[derive(Clone, Debug)]
pub struct Find {
    text: String,
    /// Bytes that mean it.
    raw: Vec<Finder<'static>>,
    /// Texts that mean it, in whatever case.
    spelled: AhoCorasick,
}

impl FromStr for Find {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let hint = "for example 02:00:5e:10:ab:ff, 192.0.2.7, a serial number or a name";
        if text.is_empty() {
            return Err(Error::usage("a text to find", "none", hint));
        }
        let mut spelled = vec![text.to_owned()];
        let mut raw = Vec::new();
        if let Some(octets) = octets(text) {
            let pairs: Vec<_> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
            let words: Vec<_> = pairs.chunks(2).map(<[String]>::concat).collect();
            spelled.extend([pairs.concat(), pairs.join(":"), pairs.join("-"), words.join(".")]);
            raw.push(octets);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            spelled.push(address.to_string());
            // Four bytes alone could be anything: behind their length they are an address. So are sixteen, which
            // may stand for four.
            let mut put = |octets: &[u8]| raw.push([&[octets.len() as u8], octets].concat());
            match address.to_canonical() {
                IpAddr::V4(address) => {
                    put(&address.octets());
                    put(&address.to_ipv6_mapped().octets());
                    spelled.push(address.to_string());
                }
                IpAddr::V6(address) => put(&address.octets()),
            }
        }
        let searcher = AhoCorasick::builder().ascii_case_insensitive(true).build(spelled);
        let spelled = searcher.map_err(|error| {
            Error::usage("a text to find", format!("one that is too long: {error}"), hint)
        })?;
        let raw = raw.iter().map(|raw| Finder::new(raw).into_owned()).collect();
        Ok(Self { text: text.to_owned(), raw, spelled })
    }
}

/// As it is read.
impl fmt::Display for Find {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Find {
    /// It looks like a MAC address and is none, so that it is searched as text.
    pub fn is_nearly_an_address(&self) -> bool {
        let groups: Vec<_> = self.text.split([':', '-', '.']).collect();
        let is_hex = |group: &&str| group.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.raw.is_empty()
            && groups.len() > 3
            && groups.iter().all(is_hex)
            && (8..=17).contains(&groups.concat().len())
    }

    /// At which byte there is something of it; None if there is nothing.
    pub fn position(&self, data: &[u8]) -> Option<usize> {
        let raw = self.raw.iter().find_map(|raw| raw.find(data));
        raw.or_else(|| self.spelled.find(data).map(|found| found.start()))
    }
}

/// The bytes of a MAC address, EUI-48 or EUI-64, that is written with colons, dashes or dots, between
/// pairs or fours of digits, or with nothing between them.
fn octets(text: &str) -> Option<Vec<u8>> {
    let separator = text.chars().find(|character| ":-.".contains(*character));
    let groups: Vec<_> = match separator {
        Some(separator) => text.split(separator).collect(),
        None => vec![text],
    };
    let width = groups[0].len();
    let is_grouped = separator.is_none() || matches!(width, 2 | 4);
    if !is_grouped || groups.iter().any(|group| group.len() != width) {
        return None;
    }
    bytes::from_hex(&groups.concat()).filter(|octets| matches!(octets.len(), 6 | 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(text: &str, data: &[u8]) -> Option<usize> {
        text.parse::<Find>().unwrap().position(data)
    }

    #[test]
    fn a_mac_address_is_found_in_every_form_by_every_form() {
        let forms = [
            "02:00:5e:10:ab:ff",
            "02-00-5E-10-AB-FF",
            "0200.5e10.abff",
            "02005E10abFF",
            "02:00:5E:10:ab:fF",
        ];
        let raw = [0x02, 0x00, 0x5e, 0x10, 0xab, 0xff];
        for wanted in forms {
            assert_eq!(position(wanted, &[&b"..."[..], &raw].concat()), Some(3), "{wanted}");
            for there in forms {
                assert_eq!(position(wanted, format!("a {there} b").as_bytes()), Some(2));
            }
            assert_eq!(position(wanted, &raw[..5]), None);
            assert_eq!(position(wanted, b"02:00:5e:10:ab:fe"), None);
            // The case of a letter is one of its bits, and a raw byte is no letter.
            assert_eq!(position("41:42:43:44:45:46", b"abcdef"), None);
        }
        let eui64 = [2, 0, 0, 0xff, 0xfe, 0, 0, 1];
        assert_eq!(position("02:00:00:ff:fe:00:00:01", &eui64), Some(0));
    }

    #[test]
    fn what_is_nearly_an_address_is_told_from_text() {
        let is_nearly = |text: &str| text.parse::<Find>().unwrap().is_nearly_an_address();
        for text in ["06:0c:00:a6:0:8d", "06-0c-00-a6-00", "06:0c:00:a6:00:8d:1"] {
            assert!(is_nearly(text), "{text}");
        }
        let uuid = "550e8400-e29b-41d4-a716-446655440000";
        for text in ["06:0c:00:a6:00:8d", "192.0.2.7", "2001:db8::7", "2026-01-05", "a:b:c:d", uuid]
        {
            assert!(!is_nearly(text), "{text}");
        }
    }

    #[test]
    fn an_ip_address_is_found_behind_its_length_and_as_text() {
        assert_eq!(position("192.0.2.7", &[9, 4, 192, 0, 2, 7]), Some(1));
        assert_eq!(position("192.0.2.7", &[9, 5, 192, 0, 2, 7, 0]), None);
        assert_eq!(position("192.0.2.7", b"from 192.0.2.7"), Some(5));
        let mut raw = vec![16, 0x20, 0x01, 0x0d, 0xb8];
        raw.resize(16, 0);
        raw.push(7);
        assert_eq!(position("2001:db8::7", &raw), Some(0));
        assert_eq!(position("2001:DB8:0::7", b"2001:db8::7"), Some(0));
        // One of version 4 may have sixteen bytes.
        let mapped = [&[16; 1][..], &[0; 10], &[0xff, 0xff, 192, 0, 2, 7]].concat();
        for wanted in ["192.0.2.7", "::ffff:192.0.2.7"] {
            assert_eq!(position(wanted, &mapped), Some(0), "{wanted}");
            assert_eq!(position(wanted, &[4, 192, 0, 2, 7]), Some(0), "{wanted}");
            assert_eq!(position(wanted, b"192.0.2.7"), Some(0), "{wanted}");
        }
    }

    #[test]
    fn a_text_is_found_in_any_case_and_is_no_address() {
        assert_eq!(position("Lobby-AP", b"\x1a\x08lobby-ap"), Some(2));
        assert_eq!(position("lobby", b"lob"), None);
        for text in ["02:00:5e", "12:3456:78:90:12", "2026-01-05", "no-hex-di-gi-ts-at"] {
            assert_eq!(octets(text), None, "{text}");
        }
        assert!("".parse::<Find>().unwrap_err().is_usage());
    }
}
