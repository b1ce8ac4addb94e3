//! Writes what the target `decode` begins with: `seeds FOLDER`.

use std::{collections::HashMap, fs, path::PathBuf};

use centralcap::{
    protocol::PROTOCOLS,
    schema::FrameTypes,
    synth::{Options, Synth},
};
use centralcap_fuzz::{message, subjects};

/// Longer ones only make the fuzzer slow.
const LONGEST: usize = 1000;

fn main() {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("usage: seeds FOLDER"));
    fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, subject: usize, data: &[u8]| {
        let first = u8::try_from(subject).unwrap();
        fs::write(folder.join(name), [&[first], data].concat()).unwrap();
    };
    // Tidy messages, and ones in which everything is out of order that may be.
    for (index, subject) in subjects().iter().enumerate() {
        for seed in 0..20 {
            let data = message::random_small(&subject.descriptor, seed);
            if data.len() <= LONGEST {
                write(&format!("random-{index}-{seed}"), index, &data);
            }
        }
    }
    // Frames as they are on the wire, a few of each type.
    let types = FrameTypes::of(PROTOCOLS[0]);
    let mut labels: Vec<_> = types.all().map(|kind| &kind.label).collect();
    labels.sort();
    let mut written: HashMap<usize, usize> = HashMap::new();
    let options = Options { seed: 3, messages: 2000, devices: 20, ..Options::default() };
    for entry in Synth::new(&options).unwrap() {
        let Some(frame) = entry.frame().filter(|frame| frame.data.len() <= LONGEST) else {
            continue;
        };
        let Ok(index) = labels.binary_search(&&frame.kind.label) else { continue };
        let number = written.entry(index).or_default();
        if *number < 10 {
            write(&format!("frame-{}-{number}", frame.kind.label), index, &frame.data);
            *number += 1;
        }
    }
}
