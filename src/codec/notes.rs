//! What a message holds that its schema does not know, or lacks that the schema wants.
//!
//! None of it is a fault: the values that are known are shown all the same. [`Notes`] are those of one
//! message, [`Drift`] counts those of many.

use std::{collections::BTreeMap, fmt};

/// One thing that the schema did not expect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// The fields that lead there, joined by dots; empty at the top.
    pub path: String,
    /// What it is.
    pub what: Oddity,
}

/// What the schema did not expect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Oddity {
    /// A field that is not declared in the message at the path.
    Field {
        /// Its number.
        number: u32,
        /// Its wire type.
        wire_type: u8,
        /// Its value as it stands on the wire, a length before it included.
        value: Vec<u8>,
    },
    /// A number that the enum at the path has no name for.
    EnumNumber {
        /// The number.
        number: i32,
    },
    /// The field at the path is required and absent.
    MissingRequired,
    /// There are bytes, and none of them belong to a known field: likely another message.
    NothingKnown,
    /// The string at the path is not UTF-8, which proto2 does not forbid.
    NotUtf8,
    /// The `Any` at the path holds a type that the schema does not have.
    UnknownType {
        /// The type's URL.
        url: String,
    },
}

impl Oddity {
    pub(super) fn field(number: u32, wire_type: u8, value: &[u8]) -> Self {
        Self::Field { number, wire_type, value: value.to_owned() }
    }

    /// The same without what differs from message to message.
    pub(crate) fn kind(self) -> Self {
        match self {
            Self::Field { number, wire_type, .. } => {
                Self::Field { number, wire_type, value: Vec::new() }
            }
            other => other,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match &*self.path {
            "" => "the message",
            path => path,
        };
        match &self.what {
            Oddity::Field { number, wire_type, .. } => {
                write!(f, "{path} has an unknown field {number} of wire type {wire_type}")
            }
            Oddity::EnumNumber { number } => write!(f, "{path} has no name for {number}"),
            Oddity::MissingRequired => write!(f, "{path} is required and absent"),
            Oddity::NothingKnown => write!(f, "{path} has no known field at all"),
            Oddity::NotUtf8 => write!(f, "{path} is not UTF-8"),
            Oddity::UnknownType { url } => write!(f, "{path} holds the unknown type {url:?}"),
        }
    }
}

/// The notes on one message.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    list: Vec<Note>,
}

impl Notes {
    /// So many notes on one message are enough: a hostile one could make as many as it has bytes.
    const LIMIT: usize = 1000;

    /// The notes, in the order in which they came up.
    pub fn list(&self) -> &[Note] {
        &self.list
    }

    #[cold]
    pub(super) fn add(&mut self, note: impl FnOnce() -> (String, Oddity)) {
        if self.list.len() < Self::LIMIT {
            let (path, what) = note();
            self.list.push(Note { path, what });
        }
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
    }
}

/// How often what was noted, over many messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    counts: BTreeMap<(String, Note), u64>,
    /// Notes of further kinds, not told apart any more.
    others: u64,
}

impl Drift {
    /// So many kinds of notes are told apart. Random bytes could make any number of them.
    const LIMIT: usize = 10_000;

    /// Counts the notes on one message of this type.
    pub fn count(&mut self, message: &str, notes: &Notes) {
        for note in notes.list() {
            let key = (
                message.to_owned(),
                Note { path: note.path.clone(), what: note.what.clone().kind() },
            );
            self.add(key, 1);
        }
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: Self) {
        self.others += other.others;
        for (key, count) in other.counts {
            self.add(key, count);
        }
    }

    fn add(&mut self, key: (String, Note), count: u64) {
        if self.counts.len() < Self::LIMIT || self.counts.contains_key(&key) {
            *self.counts.entry(key).or_default() += count;
        } else {
            self.others += count;
        }
    }

    /// Nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Message type, note without values, and how often, most frequent first.
    pub fn counts(&self) -> Vec<(&str, &Note, u64)> {
        let counts = self.counts.iter();
        let mut counts: Vec<_> =
            counts.map(|((message, note), count)| (&**message, note, *count)).collect();
        counts.sort_by_key(|&(.., count)| std::cmp::Reverse(count));
        counts
    }

    /// Notes beyond the kinds that are told apart.
    pub const fn others(&self) -> u64 {
        self.others
    }
}
