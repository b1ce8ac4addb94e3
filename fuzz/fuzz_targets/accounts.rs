//! Any input file is refused, or a key can be replaced in it and nothing else.
#![no_main]

use centralcap_fuzz::targets;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|input: &[u8]| -> Corpus {
    if targets::accounts(input) { Corpus::Keep } else { Corpus::Reject }
});
