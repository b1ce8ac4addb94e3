//! What the fuzzer calls, and what it begins with. The targets are in [`targets`], and use what the tests
//! use.
#![allow(dead_code, reason = "the tests' own modules are taken as they are")]

#[path = "../../tests/support/capture.rs"]
mod capture;
#[path = "../../tests/support/judge.rs"]
mod judge;
#[path = "../../tests/support/message.rs"]
mod message;
#[path = "../../tests/support/subject.rs"]
mod subject;
pub mod targets;
