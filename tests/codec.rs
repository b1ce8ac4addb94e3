//! The walk along the wire against prost-reflect, on messages of every kind.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod support;

use std::{
    collections::{HashMap, HashSet},
    fs, panic,
    path::Path,
    thread,
};

use centralcap::{
    codec::{
        Fault,
        json::{self, Text},
        notes::Notes,
        plan::Plan,
        walk::{ELEMENT_LIMIT, MESSAGE_LIMIT},
    },
    schema,
};
use proptest::prelude::*;
use prost::Message;
use prost_reflect::{
    MessageDescriptor,
    prost_types::{FileDescriptorProto, FileDescriptorSet},
};
use support::{
    hard::{self, Case},
    judge,
    message::{self, len},
    subject::{self, STYLES, Subject},
};

/// The size of messages that are cut and flipped everywhere.
const SMALL: usize = 100;

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn torture() -> Vec<MessageDescriptor> {
    subject::torture(package())
}

fn subjects() -> Vec<Subject> {
    subject::subjects(package())
}

thread_local! {
    static SUBJECTS: Vec<Subject> = subjects();
}

/// What came of a message in the plain style: JSON or the fault, and what was noted.
fn outcome(plan: &Plan, data: &[u8]) -> String {
    let (mut text, mut notes) = (Text::default(), Notes::default());
    let walked = json::write(plan, data, &mut text, &mut notes);
    let mut lines = match walked {
        Ok(()) => String::from_utf8(text.as_bytes().to_vec()).unwrap(),
        Err(fault) => return format!("byte {} {:?}: {}\n", fault.byte, fault.path, fault.reason),
    };
    lines.push('\n');
    for note in notes.list() {
        lines += &format!("  {note}\n");
    }
    lines
}

/// How deep messages are nested that we refuse and prost-reflect does not: for us, as for protobuf's
/// own decoders, a map's entry is a message of its own.
const DEEP: [&str; 2] = ["depth: 51 maps", "depth: 34 structs in values"];

/// In a thread that can hold what prost-reflect puts on its stack for a hundred messages within each
/// other, in a debug build.
fn in_deep_thread(test: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(64 << 20).spawn(test).unwrap();
    thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic));
}

#[test]
fn hard_messages_are_decoded_as_prost_reflect_does() {
    in_deep_thread(|| {
        let subjects = torture().into_iter().map(Subject::new);
        let subjects: HashMap<_, _> =
            subjects.map(|subject| (subject.descriptor.full_name().to_owned(), subject)).collect();
        let mut names = HashSet::new();
        let mut shown = String::new();
        for Case { name, message, data, is_one_of_many } in hard::cases() {
            assert!(names.insert(name.clone()), "{name} is there twice");
            let subject = &subjects[message];
            if DEEP.contains(&&*name) {
                let reason = subject.walk(&data, 0).unwrap_err().reason;
                assert_eq!(reason, "messages are nested more than 100 deep");
                assert!(judge::decode(&subject.lenient, &data).is_ok(), "{name}");
            } else {
                subject.check(&data, 3);
            }
            for cut in 0..data.len() {
                subject.check(&data[..cut], 1);
            }
            if !is_one_of_many {
                shown += &format!("{name}\n{}", outcome(&subject.plans[0], &data));
            }
        }
        assert!(DEEP.iter().all(|name| names.contains(*name)));
        insta::assert_snapshot!("hard", shown);
    });
}

/// Threads have 2 MiB, unless somebody asks for more, as those of `decode` do: a debug build needs it.
const STACK_SIZE: usize = if cfg!(debug_assertions) { 8 << 20 } else { 2 << 20 };

#[test]
fn messages_as_deep_as_allowed_fit_on_an_ordinary_stack() {
    let walks = || {
        let plans: HashMap<_, _> = torture()
            .into_iter()
            .map(|message| {
                (message.full_name().to_owned(), STYLES.map(|style| Plan::new(&message, style)))
            })
            .collect();
        let deep = hard::cases().into_iter().filter(|case| case.name.starts_with("depth: "));
        let mut refused = 0;
        for case in deep {
            for plan in &plans[case.message] {
                let (mut text, mut notes) = (Text::default(), Notes::default());
                refused +=
                    usize::from(json::write(plan, &case.data, &mut text, &mut notes).is_err());
            }
        }
        assert!(refused > 0);
    };
    thread::Builder::new().stack_size(STACK_SIZE).spawn(walks).unwrap().join().unwrap();
}

#[test]
fn lists_of_more_elements_than_allowed_are_refused_and_counted_together() {
    let subject = torture_subject("torture.two.Lists");
    let most = ELEMENT_LIMIT as usize;
    let plan = &subject.plans[0];
    let write = |data: &[u8]| json::write(plan, data, &mut Text::default(), &mut Notes::default());
    let of = |count: usize| len(13, &vec![1; count]);
    let refused = |byte: usize, path: &str| Fault {
        byte,
        path: path.to_owned(),
        reason: "lists have more than 1048576 elements altogether".to_owned(),
    };
    assert_eq!(write(&of(most)), Ok(()));
    let header = of(most).len() - most;
    assert_eq!(write(&of(most + 1)), Err(refused(header + most, "bool")));
    let two = [of(most), len(14, b"")].concat();
    assert_eq!(write(&two), Err(refused(header + most + 1, "string")));
    let disorder = [len(14, b""), of(most)].concat();
    assert_eq!(write(&disorder), Err(refused(1, "string")));
}

#[test]
fn a_message_over_the_limit_is_refused() {
    let subject = torture_subject("torture.two.Lists");
    let write = |size: usize| {
        // One field with all the rest for a value: its tag and its length have six bytes.
        let data = len(15, &vec![0; size - 5]);
        assert_eq!(data.len(), size);
        json::write(&subject.plans[0], &data, &mut Text::default(), &mut Notes::default())
    };
    assert_eq!(write(MESSAGE_LIMIT), Ok(()));
    let fault = write(MESSAGE_LIMIT + 1).unwrap_err();
    assert_eq!((fault.byte, &*fault.path), (MESSAGE_LIMIT, ""));
    assert_eq!(fault.reason, "a message of 67108865 bytes is over the limit");
}

fn torture_subject(name: &str) -> Subject {
    Subject::new(torture().into_iter().find(|message| message.full_name() == name).unwrap())
}

/// The messages of a schema that is one file.
fn compiled(source: &str) -> centralcap::error::Result<Vec<MessageDescriptor>> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("test.proto"), source).unwrap();
    schema::from_folder(folder.path()).map(|pool| pool.all_messages().collect())
}

#[test]
fn more_oneofs_than_a_word_has_bits_are_told_apart() {
    let oneofs: String = (0..70)
        .map(|index| {
            format!(
                "oneof o{index} {{ int32 a{index} = {}; bool b{index} = {}; }}",
                2 * index + 1,
                2 * index + 2
            )
        })
        .collect();
    let messages = compiled(&format!("syntax = \"proto3\"; message M {{ {oneofs} }}")).unwrap();
    let subject = Subject::new(messages[0].clone());
    for seed in 0..50 {
        subject.check(&message::random(&subject.descriptor, seed), 3);
    }
}

/// Neither protox nor prost-reflect reads them yet. What counts is that they say so.
#[test]
fn a_schema_with_editions_is_refused() {
    let error = compiled("edition = \"2023\"; message M { int32 a = 1; }").unwrap_err();
    assert!(error.to_string().contains("edition"), "{error}");
    let file = FileDescriptorProto {
        name: Some("test.proto".to_owned()),
        syntax: Some("editions".to_owned()),
        ..FileDescriptorProto::default()
    };
    let set = FileDescriptorSet { file: vec![file] };
    let error = schema::from_descriptor_set(&set.encode_to_vec(), "a test").unwrap_err();
    assert!(error.to_string().contains("written in an edition"), "{error}");
}

/// How many random messages of each type. The whole measure is run by `just equal`.
fn measure() -> u64 {
    std::env::var("MESSAGES").ok().map_or(100, |count| count.parse().unwrap())
}

#[test]
fn random_messages_are_decoded_as_prost_reflect_does() {
    for subject in subjects() {
        for seed in 0..measure() {
            let data = message::random(&subject.descriptor, seed);
            subject.check(&data, 3);
        }
    }
}

#[test]
fn every_cut_and_every_flipped_bit_gets_the_same_verdict() {
    let subjects = subjects();
    for seed in 0..200 {
        let subject = &subjects[seed as usize % subjects.len()];
        let mut data = small(&subject.descriptor, seed);
        for cut in 0..data.len() {
            subject.check(&data[..cut], 1);
        }
        for bit in 0..data.len() * 8 {
            data[bit / 8] ^= 1 << (bit % 8);
            subject.check(&data, 1);
            data[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// A random message of at most so many bytes.
fn small(message: &MessageDescriptor, seed: u64) -> Vec<u8> {
    let seeds = (0..).map(|number| seed + 1000 * number);
    let mut made = seeds.map(|seed| message::random_small(message, seed));
    made.find(|data| (1..=SMALL).contains(&data.len()) || message.fields().len() == 0).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_get_the_same_verdict(data in proptest::collection::vec(any::<u8>(), 0..60)) {
        SUBJECTS.with(|subjects| subjects.iter().for_each(|subject| subject.check(&data, 1)));
    }
}
