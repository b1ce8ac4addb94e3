//! Writes a capture of hard and random messages of all types, for decoders that nobody here wrote:
//! `torture CAPTURE COUNT [FIRST]`, where COUNT is how many random messages of each type there are, and
//! FIRST the seed of the first. With FIRST there is nothing but random messages of the feed's payloads.
//!
//! The topic of a frame is the full name of its payload's type, and its customer the payload's own
//! name.

#![allow(clippy::unwrap_used, reason = "whoever runs it looks at it")]

use std::{path::Path, time::Duration};

use centralcap::{protocol::PROTOCOLS, schema};
use prost_reflect::MessageDescriptor;

#[allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::new_without_default)]
#[path = "../support/capture.rs"]
mod capture;
#[allow(dead_code, unreachable_pub)]
#[path = "../support/hard.rs"]
mod hard;
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
#[path = "../support/message.rs"]
mod message;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("the path of the capture");
    let count: u64 = arguments.next().expect("a count").parse().expect("a number");
    let first: Option<u64> = arguments.next().map(|first| first.parse().expect("a seed"));

    let mut entries = capture::Entries::new();
    let mut add = |message: &str, name: &str, data: Vec<u8>| {
        let of = capture::subscription(message, message);
        entries.frame(Duration::ZERO, &of, capture::envelope(message, name, data));
    };
    if first.is_none() {
        for hard::Case { name, message, data, .. } in hard::cases() {
            add(message, &name, data);
        }
    }
    let first_seed = first.unwrap_or(0);
    for message in if first.is_some() { payloads() } else { messages() } {
        for seed in first_seed..first_seed + count {
            let data = message::random_proper(&message, seed);
            add(message.full_name(), &format!("random {seed}"), data);
        }
    }
    entries.write(Path::new(&path));
}

/// Those of `tests/data/torture`, and all payloads.
fn messages() -> Vec<MessageDescriptor> {
    let torture = schema::from_folder(Path::new("tests/data/torture")).unwrap();
    let torture = torture.all_messages().filter(|message| {
        !message.is_map_entry() && message.package_name().starts_with("torture.")
    });
    let mut all: Vec<_> = torture.chain(payloads()).collect();
    all.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    all
}

fn payloads() -> Vec<MessageDescriptor> {
    let topics = PROTOCOLS.iter().flat_map(|protocol| protocol.topics());
    let payloads = topics.flat_map(|topic| topic.payloads);
    payloads.map(|payload| schema::message(schema::bundled(), payload.message).unwrap()).collect()
}
