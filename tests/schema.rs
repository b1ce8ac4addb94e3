//! The compiled descriptors are the wire schema: every row of the two tables in `tests/data`, and
//! nothing else.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::{
    collections::HashSet,
    panic,
    sync::atomic::{AtomicUsize, Ordering},
};

use centralcap::schema;
use prost::Message;
use prost_reflect::{DescriptorPool, FileDescriptor, prost_types::FileDescriptorSet};

/// How many differing rows a failure names: enough to see the pattern.
const ROWS_SHOWN: usize = 10;

/// Hooks are the program's: who has set one hears of what loading a broken schema does, and can tell it from others.
#[test]
fn a_panic_over_a_schema_is_an_error_and_changes_no_hook() {
    static HEARD: AtomicUsize = AtomicUsize::new(0);

    let mut set = FileDescriptorSet::decode(schema::BUNDLED).unwrap();
    set.file[0].syntax = Some("proto9".to_owned());
    let broken = set.encode_to_vec();
    panic::set_hook(Box::new(|_| {
        HEARD.fetch_add(usize::from(schema::is_loading()), Ordering::Relaxed);
    }));
    for _ in 0..2 {
        let refused = schema::from_descriptor_set(&broken, "a test").unwrap_err().to_string();
        assert!(refused.contains("makes no sense as descriptors"), "{refused}");
        assert!(!schema::is_loading());
    }
    drop(panic::take_hook());
    assert_eq!(HEARD.load(Ordering::Relaxed), 2);
}

#[test]
fn fields_equal_the_table() {
    let mut found = Vec::new();
    for message in descriptors().all_messages() {
        let file = message.parent_file();
        let Some(file_name) = name_in_table(&file) else {
            continue;
        };
        let parent = format!("{file_name}\t{:?}\t{}", file.syntax(), message.full_name());
        if message.fields().len() == 0 {
            found.push(format!("{parent}\t(no fields)"));
        }
        for field in message.fields() {
            found.push(format!(
                "{parent}\t{}\t{}\t{:?}\t{}\t{}",
                field.number(),
                format!("{:?}", field.cardinality()).to_lowercase(),
                field.kind(),
                field.name(),
                field.field_descriptor_proto().default_value(),
            ));
        }
    }
    assert_same_rows(include_str!("data/fields.tsv"), &found);
}

#[test]
fn enums_equal_the_table() {
    let mut found = Vec::new();
    for kind in descriptors().all_enums() {
        let file = kind.parent_file();
        let Some(file_name) = name_in_table(&file) else {
            continue;
        };
        for value in kind.values() {
            let (number, name) = (value.number(), value.name());
            found.push(format!("{file_name}\t{}\t{number}\t{name}", kind.full_name()));
        }
    }
    assert_same_rows(include_str!("data/enums.tsv"), &found);
}

/// The table calls every plain proto3 field optional, so it can't tell that only this one is.
#[test]
fn of_the_envelope_only_the_msp_id_has_presence() {
    let envelope = descriptors().get_message_by_name("StreamMessage.MsgProto").unwrap();
    for field in envelope.fields() {
        assert_eq!(field.supports_presence(), field.name() == "msp_id", "{}", field.name());
    }
}

/// The only place that knows where the descriptors come from.
fn descriptors() -> DescriptorPool {
    centralcap::schema::bundled().clone()
}

/// What the tables call a file; `None` if it is not part of the wire schema.
fn name_in_table(file: &FileDescriptor) -> Option<&str> {
    file.name().strip_prefix("classic/")
}

/// Order means nothing, but a row that is there twice is a fault.
fn assert_same_rows(table: &str, found: &[String]) {
    let expected: Vec<&str> = table.lines().skip(1).collect();
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    let missing = rows_not_in(&expected, &found);
    let extra = rows_not_in(&found, &expected);
    assert!(
        missing.is_empty() && extra.is_empty(),
        "{} rows of the table are not in the descriptors:\n{}\n\
         {} rows of the descriptors are not in the table:\n{}",
        missing.len(),
        first(&missing),
        extra.len(),
        first(&extra),
    );
    assert_eq!(expected.len(), found.len(), "a row is there twice");
}

fn rows_not_in<'a>(rows: &[&'a str], others: &[&str]) -> Vec<&'a str> {
    let others: HashSet<_> = others.iter().collect();
    rows.iter().filter(|row| !others.contains(row)).copied().collect()
}

fn first(rows: &[&str]) -> String {
    rows.iter().take(ROWS_SHOWN).map(|row| format!("  {row}\n")).collect()
}
