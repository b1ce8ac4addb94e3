//! Whatever is done to a capture, what comes out was in it and what is wrong is told.
#![no_main]

use centralcap_fuzz::targets;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|input: &[u8]| -> Corpus {
    if targets::salvage(input) { Corpus::Keep } else { Corpus::Reject }
});
