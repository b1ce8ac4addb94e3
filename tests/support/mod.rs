//! What the tests of several commands need.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::new_without_default, reason = "a test may fail anywhere")]

pub mod capture;
pub mod client;
pub mod command;
pub mod feed;
pub mod hard;
pub mod judge;
pub mod message;
pub mod place;
pub mod subject;
pub mod wait;
