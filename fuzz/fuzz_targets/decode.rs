//! Any bytes get the same verdict from both decoders, and the same values.
#![no_main]

use centralcap_fuzz::targets;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|input: &[u8]| -> Corpus {
    if targets::decode(input) { Corpus::Keep } else { Corpus::Reject }
});
