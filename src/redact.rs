//! Frames and session events with pseudonyms in the place of what says who or where somebody is.
//!
//! A [`Rules`] is made from a frame's descriptor: what each field is stands in one [table], and a
//! [`Policy`] may say otherwise. What the table does not know is dropped: unknown fields, and values of
//! another type than their field's. Everything else is written again, field by field and in the order in
//! which it stood. The same value gets the same pseudonym wherever it is: in another field, in a sentence,
//! in another frame, and in another capture by the same [`Key`].
//!
//! A [`Redactor`] first learns what there is, and then writes; what it [`Replaced`] is remembered, so that a
//! [`Proof`] can look for it in what was written. Nothing here reads a file, a clock or a dice.
//!
//! [table]: Class

use std::{borrow::Cow, fmt, net::IpAddr};

use self::{
    originals::{Needles, Originals},
    secrets::{Motion, Secrets},
    words::{Digits, Shape},
};
pub use self::{
    policy::Policy,
    proof::{Proof, Survivor},
    rewrite::Rules,
    secrets::Key,
    table::Class,
};
use crate::error::{Error, Result};

mod originals;
mod policy;
mod proof;
mod rewrite;
mod secrets;
mod table;
mod words;

/// What stands in a sentence where a word was that nobody may read.
const MASK: &str = "***";

/// In a version: builds have five digits, and before them are several numbers.
const IN_VERSIONS: Digits = Digits { together: 5, altogether: 10 };

/// In a word of another harmless field: VLANs have four digits. What has more is somebody's number.
const IN_WORDS: Digits = Digits { together: 4, altogether: 6 };

/// In a word of a sentence.
const IN_SENTENCES: Digits = Digits { together: 3, altogether: 6 };

/// What is longer is no word of many, but a sentence.
const LONGEST_WORD: usize = 64;

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Fields that the table does not know, and coordinates of nowhere.
    pub dropped: u64,
    /// Different values that were replaced.
    pub originals: u64,
    /// What the proof looks for: an address has several spellings, and a common word is none.
    pub looked_for: u64,
}

/// Replaces values and remembers them.
pub struct Redactor {
    secrets: Secrets,
    originals: Originals,
    /// What was learnt; None while learning.
    known: Option<Needles>,
    /// What stays though it should not: only a test may say so.
    #[cfg(test)]
    sabotaged: Option<Class>,
    /// Times were moved, so those that were not must not stay.
    moves_times: bool,
    dropped: u64,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor(..)")
    }
}

/// All that a [`Redactor`] replaced.
pub struct Replaced {
    needles: Needles,
    counts: Counts,
}

impl fmt::Debug for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replaced(..)")
    }
}

impl Replaced {
    /// What was done.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Looks for it.
    pub fn proof(&self) -> Proof<'_> {
        Proof::new(&self.needles)
    }
}

impl Redactor {
    /// One that learns. `keep_oui` leaves the first three bytes of MAC addresses, `moves_times` says that
    /// the times in frames are not what they were.
    pub fn new(key: &Key, keep_oui: bool, moves_times: bool) -> Self {
        Self {
            secrets: Secrets::asleep(key, keep_oui),
            originals: Originals::new(originals::MOST),
            known: None,
            #[cfg(test)]
            sabotaged: None,
            moves_times,
            dropped: 0,
        }
    }

    /// Values of this class stay, as if it had been forgotten.
    #[cfg(test)]
    pub(crate) fn sabotage(&mut self, class: Class) {
        self.sabotaged = Some(class);
    }

    /// Ends the learning: one that writes, and finds what was learnt in sentences, too.
    pub fn learnt(mut self) -> Result<Self> {
        self.check()?;
        self.secrets.wake();
        let known = Some(self.originals.needles(&self.secrets));
        Ok(Self { known, dropped: 0, ..self })
    }

    /// Fails if there were more values than are remembered.
    pub fn check(&self) -> Result<()> {
        if self.originals.are_too_many() {
            return Err(Error::usage(
                format!("at most {} different values to replace", originals::MOST),
                "more",
                "redact parts of it with one key file: pseudonyms agree, whatever the parts are",
            ));
        }
        Ok(())
    }

    /// What was done so far, and what a proof would look for of what was learnt.
    pub fn counts(&self) -> Counts {
        Counts {
            dropped: self.dropped,
            originals: self.originals.len() as u64,
            looked_for: self.known.as_ref().map_or(0, |known| known.len() as u64),
        }
    }

    /// Ends the writing: all that was replaced is what has to be looked for.
    pub fn written(self) -> Result<Replaced> {
        self.check()?;
        let needles = self.originals.needles(&self.secrets);
        let counts = Counts { looked_for: needles.len() as u64, ..self.counts() };
        Ok(Replaced { needles, counts })
    }

    /// A value of a field that holds text or bytes. What comes of text is text.
    fn value<'a>(&mut self, class: Class, is_bytes: bool, value: &'a [u8]) -> Cow<'a, [u8]> {
        if value.is_empty() {
            return Cow::Borrowed(value);
        }
        let made = self.made(class, is_bytes, value);
        #[cfg(test)]
        if self.sabotaged == Some(class) {
            return Cow::Borrowed(value);
        }
        made
    }

    fn made<'a>(&mut self, class: Class, is_bytes: bool, value: &'a [u8]) -> Cow<'a, [u8]> {
        let text = str::from_utf8(value);
        let replaced = match (class, text) {
            (Class::Mac, _) if is_bytes && matches!(value.len(), 6 | 8) => {
                self.originals.mac(value, class);
                self.secrets.mac(value)
            }
            (Class::Ip, _) if is_bytes && matches!(value.len(), 4 | 16) => self.ip_octets(value),
            (Class::Time, Ok(text)) if words::is_time(text) => {
                let stays = !self.moves_times;
                return Cow::Borrowed(if stays { value } else { &[] });
            }
            (Class::Text | Class::Time, Ok(text)) => self.sentence(text).into_bytes(),
            (Class::Version, Ok(text)) => self.version(text).into_bytes(),
            (Class::Harmless, Ok(text)) => self.harmless(text, IN_WORDS).into_bytes(),
            (_, Ok(text)) => self.name(class, text).into_bytes(),
            // What is said in it, nobody knows.
            (Class::Text | Class::Time | Class::Version | Class::Harmless, Err(_)) => Vec::new(),
            (_, Err(_)) => {
                self.originals.bytes(value, class);
                if is_bytes && class != Class::Essid {
                    self.secrets.bytes(value)
                } else {
                    self.secrets.name(value).into_bytes()
                }
            }
        };
        Cow::Owned(replaced)
    }

    fn ip_octets(&mut self, octets: &[u8]) -> Vec<u8> {
        let Some(address) = secrets::ip_of(octets) else { return Vec::new() };
        self.originals.ip(address, Class::Ip);
        match self.secrets.ip(address) {
            IpAddr::V4(made) if octets.len() == 16 => made.to_ipv6_mapped().octets().to_vec(),
            IpAddr::V4(made) => made.octets().to_vec(),
            IpAddr::V6(made) => made.octets().to_vec(),
        }
    }

    /// A number that is a name. It is at most `limit`.
    fn number(&mut self, class: Class, number: u64, limit: u64) -> u64 {
        match u32::try_from(number) {
            Ok(bits) if class == Class::Ip && bits > 0 => {
                let octets = self.ip_octets(&bits.to_be_bytes());
                octets.iter().fold(0, |sum, &octet| sum << 8 | u64::from(octet))
            }
            _ if class == Class::Harmless => number,
            // It is not remembered: there are too many numbers that are just as large.
            _ => self.secrets.number(number, limit),
        }
    }

    fn motion(&self, place: &[u8]) -> Motion {
        self.secrets.motion(place)
    }

    /// The pseudonym of a name of any kind, which looks like the name in as far as its looks tell what it
    /// is: an address stays one, digits stay digits.
    pub fn name(&mut self, class: Class, name: &str) -> String {
        match words::shape(name) {
            Shape::Mac => {
                let octets = words::octets(name);
                self.originals.mac(&octets, class);
                words::with_digits(name, &self.secrets.mac(&octets))
            }
            Shape::Ip(address) => {
                self.originals.ip(address.to_canonical(), class);
                self.secrets.ip(address.to_canonical()).to_string()
            }
            Shape::Endpoint(before, address, behind) => {
                self.originals.ip(address.to_canonical(), class);
                format!("{before}{}{behind}", self.secrets.ip(address.to_canonical()))
            }
            Shape::Hex => {
                self.originals.text(name, class);
                let octets = words::octets(name);
                let mut made = self.secrets.bytes(&octets);
                if name.bytes().filter(u8::is_ascii_hexdigit).count() % 2 == 1 {
                    // The last digit has no other half.
                    made = self.secrets.bytes(name.to_ascii_lowercase().as_bytes());
                } else {
                    self.originals.bytes(&octets, class);
                }
                words::with_digits(name, &made)
            }
            Shape::Decimal => {
                self.originals.text(name, class);
                self.secrets.decimal(name)
            }
            Shape::Email(local, domain) => {
                self.originals.text(name, class);
                let domain = self.host(domain);
                self.originals.text(local, class);
                format!("{}@{domain}", self.secrets.name(local.as_bytes()))
            }
            Shape::Url { scheme, host, port, rest } => {
                self.originals.text(name, class);
                let host = self.host(host);
                let path = match rest.split_at_checked(1) {
                    Some((slash, path)) if !path.is_empty() => {
                        slash.to_owned() + &self.secrets.name(path.as_bytes())
                    }
                    _ => rest.to_owned(),
                };
                format!("{scheme}{host}{port}{path}")
            }
            Shape::Login(before, name) => {
                let of = before.trim_end_matches(['\\', '/']);
                let parting = &before[of.len()..];
                let stays = words::is_common(of) && !self.holds_original(of);
                let of = if stays { of.to_owned() } else { self.name(class, of) };
                of + parting + &self.name(class, name)
            }
            Shape::Word => {
                self.originals.text(name, class);
                self.secrets.name(name.as_bytes())
            }
        }
    }

    /// The pseudonym of a host: an address, or a domain of those that are nobody's (RFC 2606).
    pub fn host(&mut self, host: &str) -> String {
        match words::shape(host) {
            Shape::Mac | Shape::Ip(_) | Shape::Endpoint(..) => self.name(Class::Url, host),
            _ => {
                let (name, port) = match host.rsplit_once(':') {
                    Some((name, port)) if words::is_port(port) => (name, &host[name.len()..]),
                    _ => (host, ""),
                };
                self.originals.text(name, Class::Url);
                format!("{}.example{port}", self.secrets.name(name.as_bytes()))
            }
        }
    }

    /// A version stays though it looks like an address, if it is none that is known.
    fn version(&mut self, text: &str) -> String {
        let known = self.known.as_ref();
        let is_known = || known.is_some_and(|known| known.is_in_version(text));
        match words::version(text, IN_VERSIONS) {
            Some(numbers) if text.len() <= LONGEST_WORD && !is_known() => {
                let behind = &text[numbers.len()..];
                let made =
                    numbers.to_owned() + &self.replaced(behind, |_, word, _| Some(word.to_owned()));
                if self.holds_original(&made) { self.name(Class::Harmless, text) } else { made }
            }
            _ => self.harmless(text, IN_VERSIONS),
        }
    }

    /// A word of many stays if nothing is in it that could be anything else.
    fn harmless(&mut self, text: &str, digits: Digits) -> String {
        if text.len() > LONGEST_WORD {
            return self.sentence(text);
        }
        if words::is_of_words(text, digits) && !words::has_address(text) {
            let made = self.replaced(text, |_, word, _| Some(word.to_owned()));
            if !self.holds_original(&made) {
                return made;
            }
        }
        self.name(Class::Harmless, text)
    }

    /// A sentence with pseudonyms for names that are known and for what looks like an address. Of the rest
    /// only common words stay, and short numbers that belong to one.
    pub fn sentence(&mut self, text: &str) -> String {
        // What may part a number from what stood before: "port 1/1/24", but no telephone number.
        let mut parting: &[u8] = b"";
        // Several letters that stand alone spell a name, or are UTF-16.
        let mut may_be_letter = true;
        let moves_times = self.moves_times;
        let made = self.replaced(text, |before, word, behind| {
            let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
            let follows = !before.is_empty() && before.bytes().all(|byte| parting.contains(&byte));
            let is_letter = words::has_lone_letter(word);
            let stays = words::is_of_words(word, IN_SENTENCES)
                && (!is_number || follows)
                && (!is_letter || may_be_letter)
                && !words::begins_row(word, behind, IN_SENTENCES)
                && !words::has_odd_address(word)
                && !(moves_times && words::begins_time_of_day(word, behind));
            may_be_letter = stays && !is_letter;
            parting = match (stays, is_number) {
                (true, true) => b"/.:",
                (true, false) => b" /.:#(=\"'",
                (false, _) => b"",
            };
            stays.then(|| word.to_owned())
        });
        let made = self.without_names(made);
        if self.holds_original(&made) { MASK.to_owned() } else { made }
    }

    /// Whether something known is left in a value, as a proof looks for it: a name in the middle of a word that stays,
    /// as `ap-1` in `ap-12`, or a word that is spelled by the bytes of an address, or by somebody's hex digits.
    fn holds_original(&self, made: &str) -> bool {
        let Some(known) = &self.known else { return false };
        // The length tells that this is a whole value.
        let value = [&(made.len() as u32).to_le_bytes(), made.as_bytes()].concat();
        Proof::new(known).check(&value).is_some()
    }

    /// The same without the words in which there is one.
    fn without_names(&self, made: String) -> String {
        let Some(known) = &self.known else { return made };
        let is_part = |c: char| words::is_of_word(c) || c == '-' || c == '_';
        let small = made.to_ascii_lowercase();
        let (mut left, mut taken, mut at) = (String::new(), 0, 0);
        while at < small.len() {
            let Some(end) = known.hidden_at(&small, at) else {
                at += 1;
                continue;
            };
            let before = made[taken..at].trim_end_matches(is_part);
            let behind = made[end..].trim_start_matches(is_part);
            left += before;
            left += MASK;
            taken = made.len() - behind.len();
            at = taken;
        }
        left + &made[taken..]
    }

    /// The text with each known name and each address replaced, and each other word as `keep` says when
    /// it is told what stands between it and the word before, and what is behind it.
    fn replaced(
        &mut self,
        text: &str,
        mut keep: impl FnMut(&str, &str, &str) -> Option<String>,
    ) -> String {
        let small = text.to_ascii_lowercase();
        let mut made = String::with_capacity(text.len());
        let (mut at, mut behind_word) = (0, 0);
        let mut inside = false;
        while let Some(character) = text[at..].chars().next() {
            if !inside && let Some(end) = self.found(text, &small, at) {
                made += &self.name(Class::Text, &text[at..end]);
                (at, behind_word, inside) = (end, end, true);
                continue;
            }
            if !words::is_of_word(character) {
                made.push(character);
                at += character.len_utf8();
                inside = false;
                continue;
            }
            let is_part = |c: char| words::is_of_word(c) || c == '-' || c == '_';
            let word = text[at..].split(|c| !is_part(c)).next().unwrap_or_default();
            let word = self.up_to_name(word, &small[at..]).trim_end_matches(['-', '_']);
            match keep(&text[behind_word..at], word, &text[at + word.len()..]) {
                Some(kept) if !inside => made += &kept,
                // What is stuck to a name belongs to it.
                _ => made += MASK,
            }
            at += word.len();
            (behind_word, inside) = (at, true);
        }
        made
    }

    /// As much of a word as there is before a known name that begins behind a hyphen. `small` begins where
    /// the word does.
    fn up_to_name<'a>(&self, word: &'a str, small: &str) -> &'a str {
        let begins = |at: &usize| {
            self.known.as_ref().is_some_and(|known| known.name_at(small, at + 1).is_some())
        };
        let end = word.match_indices(['-', '_']).map(|(at, _)| at).find(begins);
        &word[..end.unwrap_or(word.len())]
    }

    /// Where something ends that has a pseudonym and begins there.
    fn found(&self, text: &str, small: &str, at: usize) -> Option<usize> {
        let known = self.known.as_ref().and_then(|known| known.name_at(small, at));
        let link = words::link_at(text, at).map(|place| place.end);
        // Of an address that begins with a name nothing may stay behind.
        known.max(words::mac_at(text, at)).max(words::endpoint_at(text, at)).max(link)
    }
}

/// Whether a number can be that.
fn is_for_numbers(class: Class) -> bool {
    matches!(
        class,
        Class::Ip
            | Class::User
            | Class::Device
            | Class::Serial
            | Class::Customer
            | Class::Site
            | Class::Harmless
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that has learnt these names.
    fn knowing(names: &[&str]) -> Redactor {
        let key = Key::new(b"synthetic key for tests").unwrap();
        let mut redactor = Redactor::new(&key, false, false);
        for name in names {
            redactor.name(Class::User, name);
        }
        redactor.learnt().unwrap()
    }

    #[test]
    fn a_mac_is_the_same_client_in_every_notation() {
        let mut redactor = knowing(&[]);
        let raw =
            redactor.value(Class::Mac, true, &[0x24, 0xf2, 0x7f, 0xcc, 0x4a, 0x22]).into_owned();
        let hex = crate::codec::bytes::hex(&raw);
        assert_eq!(redactor.value(Class::Mac, true, b"24f27fcc4a22"), hex.as_bytes());
        assert_eq!(redactor.name(Class::User, "24F27FCC4A22"), hex.to_uppercase());
        let with = |separator: &str| {
            raw.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(separator)
        };
        assert_eq!(redactor.name(Class::Device, "24-f2-7f-cc-4a-22"), with("-"));
        let sentence = redactor.sentence("client 24:f2:7f:cc:4a:22 moved");
        assert_eq!(sentence, format!("client {} moved", with(":")));
    }

    #[test]
    fn names_keep_what_their_looks_tell() {
        let mut redactor = knowing(&[]);
        let mut name = |text| redactor.name(Class::User, text);
        assert_eq!(name("Alice"), name("alice"));
        assert!(name("alice").starts_with("id-"));
        let domain = name("corp.example.org");
        assert!(domain.ends_with(".example"), "{domain}");
        assert_eq!(name("alice@corp.example.org"), format!("{}@{domain}", name("alice")));
        assert_eq!(name("https://corp.example.org:8443/"), format!("https://{domain}:8443/"));
        assert_eq!(name("CORP\\alice"), format!("{}\\{}", name("CORP"), name("alice")));
        assert_eq!(name("host/alice"), format!("host/{}", name("alice")));
        let endpoint = name("192.0.2.7:443");
        assert_eq!(endpoint, format!("{}:443", name("192.0.2.7")));
        assert_eq!(name("1000001").len(), 7);
        let id = name("0011AABB-0011-AABB-0011-AABB0011AABB");
        assert_eq!(id.len(), 36);
        assert_eq!(id.replace('-', "").to_lowercase(), name("0011aabb0011aabb0011aabb0011aabb"));
    }

    #[test]
    fn of_a_sentence_what_says_nothing_stays() {
        let mut redactor = knowing(&["alice", "north-ap-001", "Guest Wifi", "ap-17"]);
        let [alice, ap, wifi, other] = ["alice", "north-ap-001", "guest wifi", "ap-17"]
            .map(|name| redactor.name(Class::Device, name));
        let mut sentence = |text| redactor.sentence(text);
        assert_eq!(
            sentence("vlan 20 added on North-AP-001 by Alice (really)"),
            format!("vlan 20 added on {ap} by {alice} (***)")
        );
        assert_eq!(sentence("the guest wifi is down"), format!("the {wifi} is down"));
        assert_eq!(sentence("ap-17, ap-18"), format!("{other}, ap-18"));
        assert_eq!(sentence("alicesque aliceb"), "*** ***");
        assert_eq!(sentence("port 1/1/24 up"), "port 1/1/24 up");
        assert_eq!(sentence("call 044 123 45 67"), "call 044 *** *** ***");
        assert_eq!(sentence("user=bob, pin 123456"), "user=***, *** ***");
        assert_eq!(sentence("\u{e9}t\u{e9} \u{2603}"), "*** ***");
        assert_eq!(sentence(""), "");
    }

    #[test]
    fn a_name_in_the_middle_of_common_words_does_not_stay() {
        let mut redactor = knowing(&["switch-12", "uplink-1", "port down"]);
        let name = redactor.name(Class::Device, "switch-12");
        assert_eq!(
            redactor.sentence("switch-12: Switch-123 and the switch-124 up, switch-13 down"),
            format!("{name}: *** and the *** up, switch-13 down")
        );
        assert_eq!(redactor.sentence("vlan 1 of support download"), "vlan 1 of ***");
        let is_kept = |text: &str, made: &str| text == made;
        for (text, stays) in [("uplink-2", true), ("uplink-10", false), ("an-uplink-1", false)] {
            assert_eq!(is_kept(text, &redactor.harmless(text, IN_WORDS)), stays, "{text}");
            let version = format!("10.6.0.1-{text}");
            assert_eq!(is_kept(&version, &redactor.version(&version)), stays, "{version}");
        }
    }

    #[test]
    fn a_word_that_is_spelled_by_what_was_replaced_does_not_stay() {
        let mut redactor =
            Redactor::new(&Key::new(b"synthetic key for tests").unwrap(), false, false);
        // 100.111.119.110.
        redactor.value(Class::Ip, true, b"down");
        redactor.value(Class::Mac, true, b"switch");
        redactor.name(Class::Device, "636f6e6e6563746564");
        // In base64 this is "password".
        redactor.value(Class::Mac, true, &[0xa5, 0xab, 0x2c, 0xc2, 0x8a, 0xdd]);
        let mut redactor = redactor.learnt().unwrap();
        let made = ["down", "port down", "all of the switches up", "password", "connected"]
            .map(|text| redactor.sentence(text));
        assert_eq!(made, ["***", "port down", "all of the *** up", "***", "***"]);
        let words = ["down", "switch", "password", "uplink"];
        let words = words.map(|text| redactor.harmless(text, IN_WORDS));
        assert_eq!(words[3], "uplink");
        let login = redactor.name(Class::User, "switch\\bob");
        let replaced = redactor.written().unwrap();
        for text in made.iter().chain(&words).chain([&login]) {
            let value = [&[0x0a, text.len() as u8], text.as_bytes()].concat();
            assert_eq!(replaced.proof().check(&value), None, "{text}");
        }
    }

    #[test]
    fn addresses_in_sentences_are_replaced_with_what_is_round_them() {
        let mut redactor = knowing(&[]);
        let ip = redactor.name(Class::Ip, "192.0.2.7");
        let mail = redactor.name(Class::User, "bob@corp.example.org");
        let mut sentence = |text| redactor.sentence(text);
        assert_eq!(sentence("from 192.0.2.7:443."), format!("from {ip}:443."));
        assert_eq!(sentence("192.0.2.7/24"), format!("{ip}/24"));
        assert_eq!(sentence("user:bob@corp.example.org, ok"), format!("user:{mail}, ok"));
        assert!(!sentence("see http://corp.example.org/bob?x=1 now").contains("bob"));
        assert!(!sentence("{\"user\":\"bob\",\"host\":\"corp.example.org\"}").contains("corp"));
    }

    #[test]
    fn numbers_in_a_row_are_an_address_or_a_telephone_in_some_notation() {
        let mut redactor = knowing(&[]);
        for (text, made) in [
            // With leading zeros, without them, and stuck to a word.
            ("from 192.168.001.005", "from ***.***.***.***"),
            ("mac=0:1b:22:33:44:5e moved", "mac=***:***:***:***:***:*** moved"),
            ("ip192.0.2.7 up", "***.***.***.*** up"),
            ("at 192.0.2.7ms", "at ***.***.***.***"),
            ("phone 044.123.45.67", "phone ***.***.***.***"),
            ("phone: 044/123/45/67", "phone: ***/***/***/***"),
            ("slot 1/1/24, 1/1/25", "slot 1/1/24, ***/***/***"),
            ("client ip-10-0-0-1 connected", "client *** connected"),
            ("at 08:15:00", "at 08:15:00"),
        ] {
            assert_eq!(redactor.sentence(text), made);
        }
        for text in
            ["ip192.0.2.7", "ip-10-0-0-1", "192.168.001.005", "0:1b:22:33:44:5e", "192.0.2.7eth"]
        {
            assert!(redactor.harmless(text, IN_WORDS).starts_with("id-"), "{text}");
        }
        assert_eq!(redactor.harmless("1/1/24", IN_WORDS), "1/1/24");
    }

    #[test]
    fn letters_that_stand_alone_spell_nothing() {
        let mut redactor = knowing(&[]);
        assert_eq!(redactor.sentence("by a l i c e, on a port"), "by a *** *** *** ***, on a port");
        // As UTF-16, which is valid UTF-8, too.
        let wide: String = "alice".chars().flat_map(|letter| [letter, '\0']).collect();
        assert_eq!(redactor.sentence(&wide), "a\0***\0***\0***\0***\0");
        assert_eq!(redactor.sentence("channel 36e is a 5g one"), "channel 36e is a *** one");
    }

    #[test]
    fn only_a_version_may_look_like_an_address() {
        let mut redactor = knowing(&["ap-17", "10.0.0.1"]);
        for text in ["10.6.0.1-synthetic", "8.10.0.6_84732"] {
            assert_eq!(redactor.version(text), text);
        }
        assert_eq!(redactor.version("FL.10.13.1000"), "FL.10.13.1000");
        for text in ["10.0.0.1-beta", "10.6.0.1-ap-17", "alice", "10.0.0.1", "10.6.0.1-alice"] {
            let made = redactor.version(text);
            for told in ["10.0.0.1", "ap-17", "alice"] {
                assert!(!made.contains(told), "{text} {made}");
            }
        }
        for text in ["192.0.2.7_eth0", "10.6.0.1-synthetic"] {
            assert!(!redactor.harmless(text, IN_WORDS).contains(&text[..8]), "{text}");
        }
    }

    #[test]
    fn a_name_that_goes_on_before_it_is_found_all_the_same() {
        let mut redactor = knowing(&["floor-ap-12", "ap-17"]);
        let [floor, ap] = ["floor-ap-12", "ap-17"].map(|name| redactor.name(Class::Device, name));
        let said = redactor.sentence("old-floor-ap-12, new_floor-ap-12-radio0, my-ap-17");
        assert_eq!(said, format!("old-{floor}, new_{floor}-radio0, my-{ap}"));
        assert_eq!(redactor.sentence("alice-floor-ap-12"), format!("***-{floor}"));
        assert_eq!(redactor.harmless("uplink-floor-ap-12", IN_WORDS), format!("uplink-{floor}"));
    }

    #[test]
    fn an_address_is_replaced_as_a_whole_though_it_begins_with_a_name() {
        let mut redactor = knowing(&["02:00", "office", "ap-17"]);
        let mac = redactor.name(Class::Mac, "02:00:5e:10:00:05");
        let said = redactor.sentence("from 02:00:5e:10:00:05, 02:00 and ap-17");
        let [time, ap] = ["02:00", "ap-17"].map(|name| redactor.name(Class::User, name));
        assert_eq!(said, format!("from {mac}, {time} and {ap}"));
        let link = redactor.name(Class::Url, "ap-17.network.example");
        assert_eq!(redactor.sentence("at ap-17.network.example"), format!("at {link}"));
    }

    #[test]
    fn what_a_name_keeps_of_its_looks_says_nothing() {
        let mut redactor = knowing(&[]);
        for text in [
            "alice://phone/1",
            "corp.example.org:0441234567",
            "192.0.2.7:0441234567",
            "192.0.2.7/0441234567",
            "[2001:db8::7]:0441234567",
        ] {
            let name = redactor.name(Class::User, text);
            assert!(!name.contains("alice") && !name.contains("0441234567"), "{name}");
        }
        assert!(!redactor.host("corp:0441234567").contains("0441234567"));
        assert!(redactor.host("corp:8443").ends_with(".example:8443"));
        assert!(redactor.name(Class::Url, "WSS://corp.example.org/").starts_with("WSS://id-"));
    }

    #[test]
    fn a_login_of_logins_has_an_end() {
        let mut redactor = knowing(&[]);
        let name = redactor.name(Class::User, &"host/".repeat(20_000));
        assert!(name.len() < 100, "{}", name.len());
    }

    #[test]
    fn a_sentence_without_end_has_one() {
        let mut redactor = knowing(&[]);
        for part in ["a.", "1:", "aa:", "f", "a@", "//", "\u{e9}-", "::"] {
            let long = part.repeat(10_000);
            let made = redactor.sentence(&long);
            assert!(made.len() <= long.len() * 3, "{part}");
        }
    }

    #[test]
    fn a_harmless_field_keeps_words_of_many_and_no_name() {
        let mut redactor = knowing(&["ap-17", "10.0.0.1"]);
        let mut harmless = |text: &str| redactor.harmless(text, IN_WORDS);
        for text in ["AP-515", "wpa2-psk", "1/1/24", "monitoring", "iOS"] {
            assert_eq!(harmless(text), text);
        }
        for text in [
            "ap-17",
            "zrh-ap-17",
            "alice",
            "10.0.0.1",
            "10.0.0.1-beta",
            "24f27fcc4a22",
            "example.com",
            "1000001",
            "12345",
            "415-555-2671",
        ] {
            assert!(!harmless(text).contains(text), "{text}");
        }
        let long = "alice ".repeat(20);
        assert_eq!(harmless(&long), "*** ".repeat(20));
    }

    #[test]
    fn what_fits_no_class_is_replaced_all_the_same() {
        let mut redactor = knowing(&[]);
        assert_eq!(redactor.value(Class::Mac, true, b"\xff\xfe\xfd").len(), 3);
        assert_ne!(&*redactor.value(Class::Mac, true, b"\xff\xfe\xfd"), b"\xff\xfe\xfd");
        assert!(redactor.value(Class::Mac, true, b"alice").starts_with(b"id-"));
        assert!(redactor.value(Class::Ip, false, b"caf\xe9").starts_with(b"id-"));
        assert!(redactor.value(Class::Essid, true, b"caf\xe9").starts_with(b"id-"));
        assert!(redactor.value(Class::Text, true, b"caf\xe9").is_empty());
        assert!(redactor.value(Class::Mac, true, b"").is_empty());
    }

    #[test]
    fn a_time_as_text_stays_only_if_times_do() {
        let time = b"2026-01-05 08:00:00";
        assert_eq!(&*knowing(&[]).value(Class::Time, false, time), time);
        let mut moving = Redactor::new(&Key::new(&[7; 16]).unwrap(), false, true);
        assert!(moving.value(Class::Time, false, time).is_empty());
        assert_eq!(&*knowing(&[]).value(Class::Time, false, b"by alice"), b"by ***");
    }

    #[test]
    fn a_time_of_day_in_a_sentence_stays_only_if_times_do() {
        let text = "at 8:15:00 on port 1/1/24";
        assert_eq!(knowing(&[]).sentence(text), text);
        let mut moving = Redactor::new(&Key::new(&[7; 16]).unwrap(), false, true);
        assert_eq!(moving.sentence(text), "at ***:***:*** on port 1/1/24");
    }

    #[test]
    fn numbers_that_are_names_and_addresses_agree_with_their_text() {
        let mut redactor = knowing(&[]);
        let number = redactor.number(Class::Site, 1_000_001, u64::MAX);
        assert_eq!(number.to_string(), redactor.name(Class::Site, "1000001"));
        let address = redactor.number(Class::Ip, 0xc000_0207, u64::MAX);
        let text = redactor.name(Class::Ip, "192.0.2.7");
        assert_eq!(text.parse::<std::net::Ipv4Addr>().unwrap().to_bits(), address as u32);
        assert_eq!(redactor.number(Class::Harmless, 7, u64::MAX), 7);
        assert!(redactor.number(Class::Device, 4_000_000_000, u32::MAX.into()) <= u32::MAX.into());
    }
}
