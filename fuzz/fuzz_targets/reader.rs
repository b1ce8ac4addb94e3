//! Any bytes can be read as a segment, and all readers say the same of them.
#![no_main]

use centralcap_fuzz::targets;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|input: &[u8]| -> Corpus {
    if targets::reader(input) { Corpus::Keep } else { Corpus::Reject }
});
