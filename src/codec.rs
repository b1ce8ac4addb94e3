//! Wire bytes to values. Knows no file and no socket.
//!
//! [`plan`] turns descriptors into tables, [`walk`] goes along the bytes with them, and what it finds
//! is written by [`json`] or made into rows by [`columns`]. [`encode`] is the way back from JSON.
//! [`reflect`] decodes, too, through prost-reflect: slower, and the judge of the tests.

use std::fmt;

pub mod bytes;
pub mod columns;
pub mod encode;
pub mod json;
pub mod notes;
pub mod plan;
pub mod reflect;
pub mod text;
pub(crate) mod types;
pub mod walk;
pub mod wire;

/// The stack that a thread needs to decode, as large as the main thread's: messages may be nested a
/// hundred deep, which in a debug build is more than threads usually have room for.
pub const STACK_SIZE: usize = 8 * 1024 * 1024;

/// Why bytes are not a message, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Offset into the bytes.
    pub byte: usize,
    /// The fields that lead there, joined by dots; empty at the top.
    pub path: String,
    /// What is wrong.
    pub reason: String,
}

impl Fault {
    pub(crate) const fn new(byte: usize, path: String, reason: String) -> Self {
        Self { byte, path, reason }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.path {
            "" => f.write_str(&self.reason),
            path => write!(f, "{path}: {}", self.reason),
        }
    }
}
