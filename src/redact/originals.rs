//! What was replaced, so that it is known where it turns up again: in the middle of a sentence, where it
//! gets the same pseudonym, and in what was written, where it must not be.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    secrets::{self, Secrets},
    table::Class,
    words,
};

/// So many different values are remembered at most, at about two hundred bytes each.
pub(super) const MOST: usize = 1_000_000;

/// What is shorter is not looked for: it would be found everywhere.
const SHORTEST: usize = 4;

/// How an original is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// Six octets or eight.
    Mac,
    /// Four octets or sixteen.
    Ip,
    /// Text in small letters.
    Text,
    /// Bytes that are no text.
    Bytes,
}

/// The values that were replaced, each once.
pub(super) struct Originals {
    known: HashMap<(Form, Arc<[u8]>), Class>,
    most: usize,
    too_many: bool,
}

impl Originals {
    /// None yet, and so many at most.
    pub(super) fn new(most: usize) -> Self {
        Self { known: HashMap::new(), most, too_many: false }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// There were more than can be remembered.
    pub(super) fn are_too_many(&self) -> bool {
        self.too_many
    }

    pub(super) fn mac(&mut self, octets: &[u8], class: Class) {
        if !secrets::is_nobodys_mac(octets) {
            self.insert(Form::Mac, octets, class);
        }
    }

    pub(super) fn ip(&mut self, address: IpAddr, class: Class) {
        if !secrets::is_nobodys_ip(address) {
            match address {
                IpAddr::V4(address) => self.insert(Form::Ip, &address.octets(), class),
                IpAddr::V6(address) => self.insert(Form::Ip, &address.octets(), class),
            }
        }
    }

    pub(super) fn text(&mut self, text: &str, class: Class) {
        if text.len() >= SHORTEST && !words::is_common(text) {
            self.insert(Form::Text, text.to_ascii_lowercase().as_bytes(), class);
        }
    }

    pub(super) fn bytes(&mut self, data: &[u8], class: Class) {
        if data.len() >= SHORTEST {
            self.insert(Form::Bytes, data, class);
        }
    }

    fn insert(&mut self, form: Form, data: &[u8], class: Class) {
        // The map wants its own key to look for.
        let key = (form, Arc::from(data));
        if self.known.len() >= self.most && !self.known.contains_key(&key) {
            self.too_many = true;
            return;
        }
        self.known.entry(key).or_insert(class);
    }

    /// The same for finding them, without those that are the pseudonym of another one by chance: where one
    /// of them is found, nobody can tell what it is.
    pub(super) fn needles(&self, secrets: &Secrets) -> Needles {
        let pseudonyms: HashSet<(Form, Vec<u8>)> = self
            .known
            .keys()
            .filter_map(|(form, data)| {
                let pseudonym = match form {
                    Form::Mac => secrets.mac(data),
                    Form::Ip => match secrets.ip(secrets::ip_of(data)?) {
                        IpAddr::V4(address) => address.octets().to_vec(),
                        IpAddr::V6(address) => address.octets().to_vec(),
                    },
                    Form::Text if data.iter().all(u8::is_ascii_digit) => {
                        secrets.decimal(&String::from_utf8_lossy(data)).into_bytes()
                    }
                    // Of these there are so many that chance plays no part.
                    Form::Text | Form::Bytes => return None,
                };
                let is_original = self.known.contains_key(&(*form, Arc::from(&pseudonym[..])));
                is_original.then_some((*form, pseudonym))
            })
            .collect();
        let mut needles = Needles::default();
        for ((form, data), class) in &self.known {
            if !pseudonyms.contains(&(*form, data.to_vec())) {
                needles.add(*form, data, *class);
            }
        }
        needles.sort();
        needles
    }
}

/// How a needle has to stand in what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    /// Anywhere: it is too long to come about by chance.
    Anywhere,
    /// Between two characters that belong to no word, or as a whole value.
    Apart,
    /// As a whole value.
    Alone,
}

/// Something to look for.
#[derive(Debug)]
pub(super) struct Needle {
    /// In small letters, whatever it is.
    data: Arc<[u8]>,
    /// It is what people wrote.
    is_text: bool,
    pub stands: Stands,
    /// The same among hex digits, which are no numbers.
    pub stands_in_hex: Stands,
    pub class: Class,
}

/// From such a length on, it does not come about by chance.
const LONG: usize = 8;

impl Needle {
    /// It does not come about by chance.
    pub(super) fn is_long(&self) -> bool {
        self.data.len() >= LONG
    }
}

/// All originals in the order of their bytes, with the place of those that begin with the same four.
#[derive(Default)]
pub(super) struct Needles {
    all: Vec<Needle>,
    places: HashMap<[u8; 4], (u32, u32)>,
    /// A bit for each hash of four bytes with which one begins.
    beginnings: Vec<u64>,
}

/// As many bits as fit in 2 MiB.
const BEGINNINGS: u32 = 24;

fn beginning(four: [u8; 4]) -> (usize, u64) {
    let hash = u32::from_le_bytes(four).wrapping_mul(0x9e37_79b1) >> (32 - BEGINNINGS);
    ((hash / 64) as usize, 1 << (hash % 64))
}

impl Needles {
    fn add(&mut self, form: Form, data: &Arc<[u8]>, class: Class) {
        let needle = |data, is_text, stands| {
            let stands_in_hex = if stands == Stands::Anywhere { stands } else { Stands::Alone };
            Needle { data, is_text, stands, stands_in_hex, class }
        };
        match form {
            Form::Mac => {
                // One with many zeros is a part of many numbers.
                let is_number = data.split(|octet| *octet == 0).count() > 3;
                let stands = if is_number { Stands::Alone } else { Stands::Anywhere };
                // In capital letters it would be another one; what is looked at is in small ones, too.
                let needle = needle(data.to_ascii_lowercase().into(), false, stands);
                self.all.push(Needle { stands_in_hex: Stands::Anywhere, ..needle });
            }
            Form::Ip => {
                let Some(address) = secrets::ip_of(data) else { return };
                let long = data.len() >= LONG;
                let stands = if long { Stands::Anywhere } else { Stands::Alone };
                self.all.push(needle(data.to_ascii_lowercase().into(), false, stands));
                let mut texts = vec![address.to_string()];
                if let IpAddr::V6(address) = address {
                    let groups = address.segments();
                    texts.push(groups.map(|group| format!("{group:x}")).join(":"));
                    texts.push(groups.map(|group| format!("{group:04x}")).join(":"));
                }
                texts.dedup();
                for text in texts {
                    self.all.push(needle(text.into_bytes().into(), false, Stands::Apart));
                }
            }
            Form::Text => {
                let is_number = data.iter().all(u8::is_ascii_digit);
                let stands = match data.len() {
                    ..6 => Stands::Alone,
                    6..LONG => Stands::Apart,
                    _ if is_number => Stands::Apart,
                    _ => Stands::Anywhere,
                };
                self.all.push(needle(Arc::clone(data), true, stands));
            }
            Form::Bytes => {
                let stands = if data.len() < LONG { Stands::Alone } else { Stands::Anywhere };
                self.all.push(needle(data.to_ascii_lowercase().into(), false, stands));
            }
        }
    }

    fn sort(&mut self) {
        self.all.sort_by(|a, b| a.data.cmp(&b.data));
        self.beginnings = vec![0; (1 << BEGINNINGS) / 64];
        for (index, needle) in self.all.iter().enumerate() {
            let Some(&four) = needle.data.first_chunk() else { continue };
            let (_, end) = self.places.entry(four).or_insert((index as u32, 0));
            *end = index as u32 + 1;
            let (word, bit) = beginning(four);
            self.beginnings[word] |= bit;
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Those that stand there, in data of small letters; the longest comes last.
    #[inline]
    pub(super) fn at<'a>(
        &'a self,
        data: &'a [u8],
        at: usize,
    ) -> impl DoubleEndedIterator<Item = (usize, &'a Needle)> {
        let rest = &data[at..];
        let found: &[Needle] = match rest.first_chunk::<4>() {
            Some(four) if !self.all.is_empty() => {
                let (word, bit) = beginning(*four);
                if self.beginnings[word] & bit == 0 {
                    &[]
                } else {
                    let place = self.places.get(four);
                    place.map_or(&[], |&(from, to)| &self.all[from as usize..to as usize])
                }
            }
            _ => &[],
        };
        let stands = move |needle: &&Needle| rest.starts_with(&needle.data);
        found.iter().filter(stands).map(|needle| (needle.data.len(), needle))
    }

    /// Where the longest name ends that stands there, in text of small letters, and at whose end a word
    /// ends.
    pub(super) fn name_at(&self, text: &str, at: usize) -> Option<usize> {
        let ends = |length: &usize| {
            let behind = text[at + length..].chars().next();
            behind.is_none_or(|next| !words::is_of_word(next))
        };
        let found = self.at(text.as_bytes(), at).filter(|(_, needle)| needle.is_text);
        found.map(|(length, _)| length).rev().find(ends).map(|length| at + length)
    }

    /// Where the longest one ends that begins there and is found in the middle of a word, too, in text of small
    /// letters. The bytes of an address may spell a word.
    pub(super) fn hidden_at(&self, text: &str, at: usize) -> Option<usize> {
        let mut found = self.at(text.as_bytes(), at);
        found.rfind(|(_, needle)| needle.stands == Stands::Anywhere).map(|(length, _)| at + length)
    }

    /// Whether a name or an address stands where a version begins, however it goes on.
    pub(super) fn is_in_version(&self, version: &str) -> bool {
        let version = version.to_ascii_lowercase();
        let mut found = self.at(version.as_bytes(), 0);
        found.any(|(_, needle)| needle.is_text || needle.stands == Stands::Apart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::secrets::Key;

    fn secrets(keep_oui: bool) -> Secrets {
        Secrets::new(&Key::new(b"synthetic key for tests").unwrap(), keep_oui)
    }

    #[test]
    fn names_are_found_at_their_longest_and_only_whole() {
        let mut originals = Originals::new(100);
        for name in ["Alice", "Alice Smith", "guest", "abc"] {
            originals.text(name, Class::User);
        }
        // A common word and a short one are not looked for.
        assert_eq!(originals.len(), 2);
        let needles = originals.needles(&secrets(false));
        assert_eq!(needles.name_at("alice smith", 0), Some(11));
        assert_eq!(needles.name_at("alice smithy", 0), Some(5));
        assert_eq!(needles.name_at("alices", 0), None);
        assert_eq!(needles.name_at("an alice", 3), Some(8));
        assert_eq!(Needles::default().name_at("alice", 0), None);
    }

    #[test]
    fn an_original_that_is_the_pseudonym_of_another_is_not_looked_for() {
        let secrets = secrets(true);
        let mut originals = Originals::new(100);
        let mac = [0, 1, 2, 3, 4, 5];
        originals.mac(&mac, Class::Mac);
        originals.mac(&secrets.mac(&mac), Class::Mac);
        originals.text("1000001", Class::Customer);
        originals.text(&secrets.decimal("1000001"), Class::Customer);
        assert_eq!((originals.len(), originals.needles(&secrets).len()), (4, 2));
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let mut originals = Originals::new(3);
        for number in 0..3_u32 {
            originals.bytes(&number.to_le_bytes(), Class::Site);
        }
        originals.bytes(&[0; 4], Class::Site);
        assert!(!originals.are_too_many());
        originals.bytes(&[0xff; 4], Class::Site);
        assert!(originals.are_too_many());
        assert_eq!(originals.len(), 3);
    }
}
