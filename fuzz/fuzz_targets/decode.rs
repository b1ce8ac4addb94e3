//! Any bytes get the same verdict from both decoders, and the same values.
#![no_main]

use std::sync::LazyLock;

use centralcap_fuzz::{subject::Subject, subjects};
use libfuzzer_sys::{Corpus, fuzz_target};

static SUBJECTS: LazyLock<Vec<Subject>> = LazyLock::new(subjects);

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((&first, data)) = input.split_first() else { return Corpus::Reject };
    let Some(subject) = SUBJECTS.get(usize::from(first)) else { return Corpus::Reject };
    subject.check(data, 3);
    Corpus::Keep
});
