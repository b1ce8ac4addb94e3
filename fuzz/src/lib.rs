//! What the fuzz target and the maker of its seeds have in common: the judge of the tests.
//!
//! An input's first byte chooses the message type, the rest is the message.
#![allow(dead_code, reason = "the tests' own modules are taken as they are")]

#[path = "../../tests/support/judge.rs"]
mod judge;
#[path = "../../tests/support/message.rs"]
pub mod message;
#[path = "../../tests/support/subject.rs"]
pub mod subject;

use std::path::Path;

use subject::Subject;

/// The message types, in the order in which the first byte counts them.
pub fn subjects() -> Vec<Subject> {
    subject::subjects(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
}
