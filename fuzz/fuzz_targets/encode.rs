//! Any line is refused, or gives a frame that is decoded to the same line again.
#![no_main]

use centralcap_fuzz::targets;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|input: &[u8]| -> Corpus {
    if targets::encode(input) { Corpus::Keep } else { Corpus::Reject }
});
