//! What differs from one streaming protocol to the next, and nothing else.
//!
//! A [`Protocol`] says how a feed is asked for, what a refusal means, how a key is renewed, and where
//! in a frame the payload is and what type it has. [`classic`] is the only one so far; a second one is
//! one more file beside it and one more row in [`PROTOCOLS`].

use std::fmt;

use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;

use crate::entry::Timestamp;

pub mod classic;

/// Every protocol that is spoken here.
pub const PROTOCOLS: [&dyn Protocol; 1] = [&classic::Classic];

/// The protocol of that name, or the first one if the name is not known (captures may come from a
/// newer version, and their envelopes are the best guess).
pub fn by_name(name: &str) -> &'static dyn Protocol {
    PROTOCOLS.into_iter().find(|protocol| protocol.name() == name).unwrap_or(PROTOCOLS[0])
}

/// A streaming protocol of Central. Everything is a pure function: no clock, no socket.
pub trait Protocol: fmt::Debug + Sync {
    /// The name that captures and options use.
    fn name(&self) -> &'static str;

    /// The topics, each with the payloads it carries.
    fn topics(&self) -> &'static [Topic];

    /// The path of the feed's endpoint.
    fn feed_path(&self) -> &'static str;

    /// The headers of the upgrade request.
    fn feed_headers(&self, ask: &Ask<'_>) -> Vec<(&'static str, String)>;

    /// The path that renews a key, and the headers that go with it.
    fn renewal(&self, key: &Key) -> (&'static str, Vec<(&'static str, String)>);

    /// The key in the body of an answered renewal.
    fn renewed_key(&self, body: &[u8]) -> Option<Key>;

    /// What a key says about itself, if it can be read at all. Nothing is verified.
    fn key_facts(&self, key: &Key) -> KeyFacts;

    /// A key that no server ever gave, in the shape of those that servers do, and always the same for the
    /// same arguments.
    fn made_up_key(&self, making: &Making<'_>) -> Key;

    /// What a refused upgrade means.
    fn refusal(&self, status: u16) -> Refusal;

    /// The full name of the envelope message, and the number of its payload field.
    fn envelope_message(&self) -> (&'static str, u32);

    /// Looks into an envelope without decoding it. Garbage gives an empty envelope.
    fn envelope<'a>(&self, frame: &'a [u8]) -> Envelope<'a>;

    /// What an envelope says beside its payload, at the least: field names with their values in JSON.
    fn envelope_fields(&self, topic: &str, time: Timestamp) -> Vec<(&'static str, String)>;

    /// Which of the payloads a frame of this topic carries, told by shape where nothing else tells.
    fn classify(&self, topic: &str, envelope: &Envelope<'_>) -> Option<&'static Payload>;
}

impl dyn Protocol + '_ {
    /// The payloads of all topics.
    pub fn payloads(&self) -> impl Iterator<Item = &'static Payload> + use<> {
        self.topics().iter().flat_map(|topic| topic.payloads)
    }
}

/// One topic and what it carries.
#[derive(Debug)]
pub struct Topic {
    /// The topic's name on the wire.
    pub name: &'static str,
    /// The payloads; the first is the usual one.
    pub payloads: &'static [Payload],
}

/// One payload type.
#[derive(Debug, PartialEq, Eq)]
pub struct Payload {
    /// The last part of the channel's topic in a capture.
    pub label: &'static str,
    /// The message's full name.
    pub message: &'static str,
}

/// What an upgrade request asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The subscription's key.
    pub key: &'a Key,
    /// The topic.
    pub topic: &'a str,
    /// The account's e-mail address, where the user gave one.
    pub username: Option<&'a str>,
}

/// What a key says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFacts {
    /// The customer whose key it is.
    pub customer: Option<String>,
    /// When it will have lived its life.
    pub expires: Option<Timestamp>,
}

/// What a made-up key is made of.
#[derive(Clone, Copy, Debug)]
pub struct Making<'a> {
    /// The customer whose key it is.
    pub customer: &'a str,
    /// What tells it from other keys of the customer.
    pub account: &'a str,
    /// The first, the second, ... to be made.
    pub generation: u64,
}

/// What to do about a refused upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Renew the key once, then try again.
    RenewKey,
    /// The server is in trouble: try again with back-off.
    Transient,
    /// Somebody has to change something first: try again, but slowly.
    Persistent,
}

/// What the outside of a frame says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// What the frame says it is about: a text, which nobody has looked at.
    pub subject: &'a [u8],
    /// The payload's bytes.
    pub payload: &'a [u8],
    /// The envelope's own time, in nanoseconds whatever unit it came in.
    pub time: Option<Timestamp>,
    /// The customer: a text, which nobody has looked at.
    pub customer: &'a [u8],
}

/// A key. It never shows itself: not in `Debug`, not in an error, not in a capture.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key(String);

impl Key {
    /// Takes a key as the user gave it; surrounding white space is not part of a key.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        // A header value has to be visible ASCII (RFC 9110, section 5.5).
        let fits = !text.is_empty() && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        fits.then(|| Self(text.to_owned()))
    }

    /// The key itself, for the one header and the one file it belongs in.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The same words of somebody else without the key: a server may answer with what it was asked.
    /// Found as it is, in base64, in hexadecimal digits and as in a URL.
    #[must_use]
    pub fn hide_in(&self, words: Bytes) -> Bytes {
        self.forms().iter().fold(words, |words, form| without(words, form.as_bytes()))
    }

    /// How long the longest form is that [`hide_in`](Self::hide_in) finds, in bytes.
    pub fn longest_form(&self) -> usize {
        3 * self.0.len()
    }

    fn forms(&self) -> Vec<String> {
        let key = self.0.as_bytes();
        let hex = key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let in_url = |upper: bool| -> String {
            let escaped = |&byte: &u8| match byte {
                b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => {
                    char::from(byte).to_string()
                }
                _ if upper => format!("%{byte:02X}"),
                _ => format!("%{byte:02x}"),
            };
            key.iter().map(escaped).collect()
        };
        let mut forms = vec![
            self.0.clone(),
            in_url(true),
            in_url(false),
            BASE64_STANDARD_NO_PAD.encode(key),
            BASE64_URL_SAFE_NO_PAD.encode(key),
            hex.to_ascii_uppercase(),
            hex,
        ];
        // Most keys look the same in a URL.
        forms.dedup();
        forms
    }
}

/// What stands where a key was.
const HIDDEN: &[u8] = b"<key>";

fn without(words: Bytes, form: &[u8]) -> Bytes {
    let next = |words: &[u8]| words.windows(form.len()).position(|part| part == form);
    let mut hidden = Vec::new();
    let mut rest = &words[..];
    while let Some(at) = next(rest) {
        hidden.extend_from_slice(&rest[..at]);
        hidden.extend_from_slice(HIDDEN);
        rest = &rest[at + form.len()..];
    }
    if hidden.is_empty() {
        return words;
    }
    hidden.extend_from_slice(rest);
    hidden.into()
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_does_not_show_itself() {
        let key = Key::new("  synthetic-key-for-tests\n").unwrap();
        assert_eq!(key.expose(), "synthetic-key-for-tests");
        assert_eq!(format!("{key:?}"), "Key(..)");
        assert_eq!(Key::new(" \n"), None);
        assert_eq!(Key::new("two\nlines"), None);
    }

    #[test]
    fn a_key_is_hidden_in_what_others_say() {
        let key = Key::new("synthetic+key/for tests").unwrap();
        let hidden = |words: &str| {
            let hidden = key.hide_in(Bytes::from(words.to_owned()));
            String::from_utf8(hidden.to_vec()).unwrap()
        };
        let said = "a synthetic+key/for tests, b synthetic%2Bkey%2Ffor%20tests \
                    c synthetic%2bkey%2ffor%20tests d c3ludGhldGljK2tleS9mb3IgdGVzdHM= \
                    e 73796e7468657469632b6b65792f666f72207465737473 \
                    f 73796E7468657469632B6B65792F666F72207465737473";
        assert_eq!(hidden(said), "a <key>, b <key> c <key> d <key>= e <key> f <key>");
        assert_eq!(hidden("a synthetic key"), "a synthetic key");
        assert_eq!(hidden(""), "");
        assert!(said.split(' ').all(|word| word.len() <= key.longest_form()));
        // A key that is a part of what takes its place.
        let key = Key::new("e").unwrap();
        assert_eq!(&key.hide_in(Bytes::from_static(b"the end"))[..], b"th<key> <key>nd");
    }
}
