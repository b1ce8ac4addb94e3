//! Looks for originals in what was written, in every guise: as they are, in letters of any case, as hex
//! digits with and without separators, and in base64 at each of its alignments.
//!
//! Nothing is decoded by a schema here: what is looked at is what anybody finds who looks at the bytes.
//! What is short comes about by chance, so it has to stand alone, which [`Stands`] says.

use super::{
    originals::{Needle, Needles, Stands},
    table::Class,
};

/// An original that is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// What it is.
    pub class: Class,
    /// How it is written.
    pub guise: &'static str,
    /// Offset of what it is written in.
    pub at: usize,
}

/// Looks at one piece after the other. Memory follows the largest piece.
pub struct Proof<'a> {
    needles: &'a Needles,
    small: Vec<u8>,
    decoded: Vec<u8>,
}

/// Fewer hex digits are not looked at: four bytes are the shortest that are looked for.
const SHORTEST_HEX: usize = 8;

/// And fewer letters of base64: they have four bytes.
const SHORTEST_BASE64: usize = 6;

impl<'a> Proof<'a> {
    pub(super) fn new(needles: &'a Needles) -> Self {
        Self { needles, small: Vec::new(), decoded: Vec::new() }
    }

    /// The first original that is found in these bytes.
    pub fn check(&mut self, data: &[u8]) -> Option<Survivor> {
        self.plain(data).or_else(|| self.hex(data)).or_else(|| self.base64(data))
    }

    fn plain(&mut self, data: &[u8]) -> Option<Survivor> {
        self.small.clear();
        self.small.extend(data.iter().map(u8::to_ascii_lowercase));
        let found = |at: usize| {
            let stands = |(length, needle): &(usize, &Needle)| match needle.stands {
                Stands::Anywhere => true,
                Stands::Apart => is_value(data, at, *length) || is_apart(data, at, *length),
                Stands::Alone => is_value(data, at, *length),
            };
            let (_, needle) = self.needles.at(&self.small, at).find(stands)?;
            Some(Survivor { class: needle.class, guise: "as it is", at })
        };
        (0..data.len()).find_map(found)
    }

    fn hex(&mut self, data: &[u8]) -> Option<Survivor> {
        let mut at = 0;
        let mut digits = Vec::new();
        while at < data.len() {
            if !data[at].is_ascii_hexdigit() {
                at += 1;
                continue;
            }
            let start = at;
            digits.clear();
            while at < data.len() {
                let digit = char::from(data[at]).to_digit(16);
                let parted = b":-. ".contains(&data[at])
                    && data.get(at + 1).is_some_and(u8::is_ascii_hexdigit);
                match digit {
                    Some(digit) => digits.push(digit as u8),
                    None if parted => {}
                    None => break,
                }
                at += 1;
            }
            if digits.len() < SHORTEST_HEX {
                continue;
            }
            for from in 0..2 {
                let pairs = digits[from..].chunks_exact(2);
                self.decoded.clear();
                self.decoded.extend(pairs.map(|pair| pair[0] << 4 | pair[1]));
                let is_all = from == 0 && digits.len() % 2 == 0;
                if let Some(class) = self.decoded(is_all, |needle| needle.stands_in_hex) {
                    return Some(Survivor { class, guise: "as hex digits", at: start });
                }
            }
        }
        None
    }

    fn base64(&mut self, data: &[u8]) -> Option<Survivor> {
        let mut at = 0;
        while at < data.len() {
            let length = data[at..].iter().take_while(|byte| sextet(**byte).is_some()).count();
            let run = &data[at..at + length];
            if length >= SHORTEST_BASE64 {
                for from in 0..4 {
                    self.decoded.clear();
                    for group in run[from..].chunks(4) {
                        let bits = group.iter().filter_map(|byte| sextet(*byte));
                        let bits = bits.fold(0_u32, |bits, sextet| bits << 6 | u32::from(sextet));
                        let bits = bits << (6 * (4 - group.len()));
                        // Two letters have one byte, three have two.
                        let count = group.len() * 6 / 8;
                        self.decoded.extend(&bits.to_be_bytes()[1..=count]);
                    }
                    // A shorter one comes about by chance: most words look like base64.
                    let stands = |needle: &Needle| match needle.stands {
                        Stands::Anywhere if needle.is_long() => Stands::Anywhere,
                        _ => Stands::Alone,
                    };
                    if let Some(class) = self.decoded(from == 0, stands) {
                        return Some(Survivor { class, guise: "in base64", at });
                    }
                }
            }
            at += length.max(1);
        }
        None
    }

    /// What is in the decoded bytes. If these are all there are, one that stands alone may be all of them.
    fn decoded(&mut self, is_all: bool, stands: impl Fn(&Needle) -> Stands) -> Option<Class> {
        self.decoded.make_ascii_lowercase();
        let data = &self.decoded;
        (0..data.len()).find_map(|at| {
            let stands = |(length, needle): &(usize, &Needle)| {
                is_all && *length == data.len() || stands(needle) == Stands::Anywhere
            };
            self.needles.at(data, at).find(stands).map(|(_, needle)| needle.class)
        })
    }
}

/// Whether the bytes before say that a value of this length is there: a length of protobuf with the tag of
/// such a field before it, or a length of MCAP's.
fn is_value(data: &[u8], at: usize, length: usize) -> bool {
    let before = &data[..at];
    let protobuf =
        matches!(before, [.., tag, found] if usize::from(*found) == length && tag & 7 == 2);
    let mcap =
        before.last_chunk().is_some_and(|found| u32::from_le_bytes(*found) as usize == length);
    protobuf || mcap
}

/// Whether no word and no number goes on before it or behind it.
fn is_apart(data: &[u8], at: usize, length: usize) -> bool {
    let (value, after) = (&data[at..at + length], &data[at + length..]);
    // An address goes on in digits only: what is stuck to it does not hide it.
    let is_dotted =
        value.contains(&b'.') && value.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let goes_on = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_digit() || !is_dotted && byte.is_ascii_alphabetic())
    };
    // An address goes on behind a dot, and one with colons behind another one.
    let parts: &[u8] = if value.contains(&b':') { b".:" } else { b"." };
    let has_more = |part: Option<&u8>, next: Option<&u8>| {
        part.is_some_and(|part| parts.contains(part)) && goes_on(next)
    };
    let before = &data[..at];
    let (last, last_but_one) = (before.last(), before.len().checked_sub(2).map(|at| &before[at]));
    let is_of_number = |byte: &u8| byte.is_ascii_hexdigit() || b".:".contains(byte);
    let is_number = value.iter().all(is_of_number);
    !goes_on(last)
        && !goes_on(after.first())
        && !(is_number && (has_more(last, last_but_one) || has_more(after.first(), after.get(1))))
}

fn sextet(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use base64::{
        Engine,
        prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
    };

    use super::*;
    use crate::redact::{
        originals::Originals,
        secrets::{Key, Secrets},
    };

    fn needles() -> Needles {
        let mut originals = Originals::new(100);
        originals.mac(&[0x24, 0xF2, 0x7f, 0xcc, 0x4a, 0x22], Class::Mac);
        originals.mac(&[2, 0x0d, 0, 0, 0, 1], Class::Mac);
        originals.ip("192.0.2.17".parse().unwrap(), Class::Ip);
        originals.ip("2001:db8::a17".parse().unwrap(), Class::Ip);
        originals.text("Alice.Smith", Class::User);
        originals.text("zurich", Class::Site);
        originals.text("zq-7", Class::Device);
        originals.text("1000001", Class::Customer);
        originals.bytes(b"old\xe9net\\1", Class::Essid);
        originals.needles(&Secrets::new(&Key::new(b"synthetic key for tests").unwrap(), false))
    }

    fn found(data: &[u8]) -> Option<(Class, &'static str)> {
        let needles = needles();
        let survivor = Proof::new(&needles).check(data)?;
        Some((survivor.class, survivor.guise))
    }

    #[test]
    fn originals_are_found_in_every_guise() {
        let mac = [0x24, 0xf2, 0x7f, 0xcc, 0x4a, 0x22];
        let raw = [b"\x01\x02".as_slice(), &mac, b"\xff"].concat();
        assert_eq!(found(&raw), Some((Class::Mac, "as it is")));
        for text in [
            "at 24:f2:7f:CC:4a:22!",
            "24-f2-7f-cc-4a-22",
            "24f2.7fcc.4a22",
            "mac24f27fcc4A22",
            "24 f2 7f cc 4a 22",
            "aa24f27fcc4a22bb",
            "a24f27fcc4a22",
        ] {
            assert_eq!(found(text.as_bytes()), Some((Class::Mac, "as hex digits")), "{text}");
        }
        assert_eq!(found(b"ALICE.SMITH"), Some((Class::User, "as it is")));
        assert_eq!(found(b"xxalice.smithyy"), Some((Class::User, "as it is")));
        assert_eq!(found(b"old\xe9net\\1"), Some((Class::Essid, "as it is")));
        for text in ["Alice.Smith", "alice.smith"] {
            for hex in [hex(text.as_bytes()), hex(text.as_bytes()).to_uppercase()] {
                assert_eq!(found(hex.as_bytes()), Some((Class::User, "as hex digits")), "{hex}");
            }
            for before in ["", "x", "xy", "xyz"] {
                let text = format!("{before}{text}, ");
                for encoded in [BASE64_STANDARD.encode(&text), BASE64_URL_SAFE_NO_PAD.encode(&text)]
                {
                    let whole = format!("in \"{encoded}\"");
                    assert_eq!(
                        found(whole.as_bytes()),
                        Some((Class::User, "in base64")),
                        "{whole}"
                    );
                }
            }
        }
        for text in ["2001:DB8::a17", "2001:db8:0:0:0:0:0:a17"] {
            assert_eq!(found(text.as_bytes()), Some((Class::Ip, "as it is")), "{text}");
        }
    }

    #[test]
    fn what_is_short_has_to_stand_alone() {
        assert_eq!(found(b"\x0a\x04zq-7\x32"), Some((Class::Device, "as it is")));
        assert_eq!(found(b"\x04\0\0\0zq-7\x32"), Some((Class::Device, "as it is")));
        assert_eq!(found(b"\x0a\x06ezq-7e"), None);
        assert_eq!(found(b" zq-7 "), None);
        assert_eq!(
            found(BASE64_STANDARD.encode("zq-7").as_bytes()),
            Some((Class::Device, "in base64"))
        );
        assert_eq!(found(b"from Zurich, by"), Some((Class::Site, "as it is")));
        assert_eq!(found(b"\x12\x06zurich2"), Some((Class::Site, "as it is")));
        assert_eq!(found(b"xzurich"), None);
        assert_eq!(found(b"n 1000001 n"), Some((Class::Customer, "as it is")));
        assert_eq!(found(b"n 10000012 n"), None);
        assert_eq!(found(&[0x12, 4, 192, 0, 2, 17]), Some((Class::Ip, "as it is")));
        assert_eq!(found(&[0x12, 5, 192, 0, 2, 17]), None);
        // A number of eight bytes, and an address of many zeros.
        assert_eq!(found(&[1, 2, 0x0d, 0, 0, 0, 1, 0]), None);
        assert_eq!(found(&[0x0a, 6, 2, 0x0d, 0, 0, 0, 1]), Some((Class::Mac, "as it is")));
        assert_eq!(found(b"in 01020d00000001"), Some((Class::Mac, "as hex digits")));
        assert_eq!(found(b"c0000211"), Some((Class::Ip, "as hex digits")));
        assert_eq!(found(b"to 192.0.2.17:443"), Some((Class::Ip, "as it is")));
        // No number goes on in a letter.
        for stuck in ["x192.0.2.17", "192.0.2.17ms"] {
            assert_eq!(found(stuck.as_bytes()), Some((Class::Ip, "as it is")), "{stuck}");
        }
        for other in ["192.0.2.170", "1192.0.2.17", "1.192.0.2.17", "192.0.2.17.5"] {
            assert_eq!(found(other.as_bytes()), None, "{other}");
        }
        assert_eq!(found(b""), None);
    }

    fn hex(data: &[u8]) -> String {
        crate::codec::bytes::hex(data)
    }
}
