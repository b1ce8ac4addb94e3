//! Any descriptor set is refused, or all messages of it can be used.
#![no_main]

use centralcap_fuzz::targets;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(
    // Prost-reflect panics on some sets, which is caught. What is not caught still ends the fuzzer.
    init: std::panic::set_hook(Box::new(|_| {})),
    |input: &[u8]| -> Corpus {
        if targets::pool(input) { Corpus::Keep } else { Corpus::Reject }
    }
);
