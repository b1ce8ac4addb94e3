#![doc = include_str!("../README.md")]
//!
//! # The house
//!
//! Data flows one way, and a module uses only those above it:
//!
//! ```text
//! record    socket -> net::client -> session -> Entry -> capture -> segment
//! decode    capture -> Entry -> codec -> sink -> NDJSON | JSON | CSV
//! replay    capture -> Entry -> pace, restamp, fault -> net::server -> sockets
//! inspect   capture -> Entry -> fold -> Profile -> text | JSON | HTML
//! edit      captures -> Entry -> merge, select, redact -> capture
//! encode    NDJSON -> codec -> Entry -> capture
//! diff      two captures -> Entry -> codec -> align -> Report -> text | JSON
//! synth     seed -> Entry -> capture
//! ```

pub mod entry;
pub mod error;

mod by_address;
mod dice;
pub mod files;
pub mod plain;
mod threads;

pub mod codec;
pub mod protocol;
pub mod schema;

pub mod capture;
pub mod select;
pub mod sink;

pub mod accounts;

pub mod fault;
pub mod pace;
pub mod redact;
pub mod restamp;
pub mod session;
pub mod state;

pub mod net;

pub mod decode;
pub mod diff;
pub mod edit;
pub mod encode;
pub mod inspect;
pub mod record;
pub mod replay;
pub mod synth;
