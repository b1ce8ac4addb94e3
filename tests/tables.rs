//! The rows of a walk against the JSON of the same message, taken apart by other means.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use centralcap::{
    codec::{
        columns::{Layout, RowRef, Rows},
        json::{self, Text},
        notes::Notes,
        plan::{BytesStyle, Plan, Style},
    },
    protocol::PROTOCOLS,
    schema::{self, FrameTypes},
};
use prost_reflect::{FieldDescriptor, MessageDescriptor};
use serde_json::Value;
use support::message;

/// A row as a test sees it: the list it is in, the places in all lists that lead to it, its values.
type Shown = (String, Vec<u32>, BTreeMap<String, String>);

/// All rows that the JSON of a message makes, lists first.
fn rows_of(value: &Value, message: &MessageDescriptor, path: &str, places: &[u32]) -> Vec<Shown> {
    let mut rows = Vec::new();
    let mut cells = BTreeMap::new();
    take_apart(value, message, (path, ""), places, &mut cells, &mut rows);
    rows.push((path.to_owned(), places.to_owned(), cells));
    rows
}

fn take_apart(
    value: &Value,
    message: &MessageDescriptor,
    (path, prefix): (&str, &str),
    places: &[u32],
    cells: &mut BTreeMap<String, String>,
    rows: &mut Vec<Shown>,
) {
    for (name, value) in value.as_object().unwrap() {
        let field = message.get_field_by_name(name).unwrap();
        let below = format!("{path}.{name}");
        match inner(&field) {
            Some(inner) if field.is_list() => {
                for (place, element) in value.as_array().unwrap().iter().enumerate() {
                    let places = [places, &[place as u32]].concat();
                    rows.extend(rows_of(element, &inner, &below, &places));
                }
            }
            Some(inner) => {
                let prefix = format!("{prefix}{name}.");
                take_apart(value, &inner, (&below, &prefix), places, cells, rows);
            }
            None => {
                let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                cells.insert(format!("{prefix}{name}"), respelled(shown));
            }
        }
    }
}

/// Floats have more than one spelling, and JSON in a cell may hold some.
fn respelled(cell: String) -> String {
    match serde_json::from_str::<Value>(&cell) {
        Ok(value) if !value.is_string() => value.to_string(),
        _ => cell,
    }
}

/// The message in a field, if its fields become columns.
fn inner(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    let inner = field.kind().as_message().cloned()?;
    (!field.is_map() && !inner.full_name().starts_with("google.protobuf.")).then_some(inner)
}

fn shown(layout: &Layout, row: RowRef<'_>) -> Shown {
    let table = &layout.tables()[row.table()];
    let mut places = Vec::new();
    let (mut at, mut above) = (row, table.above);
    while let Some(table) = above {
        places.insert(0, at.index());
        at = at.above();
        assert_eq!(at.table(), table);
        above = layout.tables()[table].above;
    }
    let cells = table.columns.iter().enumerate().filter_map(|(column, its)| {
        let cell = String::from_utf8(row.cell(column)?.to_owned()).unwrap();
        Some((its.name.clone(), respelled(cell)))
    });
    let path = table.path.iter().map(|name| format!(".{name}")).collect();
    (path, places, cells.collect())
}

#[test]
fn rows_hold_what_the_json_of_the_message_does() {
    let styles =
        [Style::default(), Style { bytes: BytesStyle::Hex, defaults: true, ..Style::default() }];
    let types = FrameTypes::of(PROTOCOLS[0]);
    let (mut rows, mut text, mut notes) = (Rows::default(), Text::default(), Notes::default());
    let mut lists = BTreeSet::new();
    for kind in types.all() {
        let pool = schema::from_descriptor_set(&kind.descriptors, "a test").unwrap();
        let envelope = pool.get_message_by_name(&kind.envelope).unwrap();
        for style in styles {
            let plan = Plan::new(&envelope, style);
            let layout = Layout::of(&plan);
            for seed in 0..100 {
                let data = message::random(&envelope, seed);
                text.clear();
                json::write(&plan, &data, &mut text, &mut notes).unwrap();
                let value: Value = serde_json::from_slice(text.as_bytes()).unwrap();
                rows.fill(&plan, &layout, &data, &mut notes).unwrap();
                let mut found: Vec<_> = rows.iter().map(|row| shown(&layout, row)).collect();
                let mut expected = rows_of(&value, &envelope, "", &[]);
                found.sort();
                expected.sort();
                assert_eq!(found, expected, "{} {seed}", kind.label);
                lists.extend(found.into_iter().map(|(path, ..)| path));
            }
        }
    }
    // Nearly every family has come by, or the test shows little.
    assert!(lists.len() > 40, "{lists:?}");
}

#[test]
fn a_fault_leaves_no_rows_and_the_next_message_is_not_touched_by_it() {
    let types = FrameTypes::of(PROTOCOLS[0]);
    let kind = types.all().find(|kind| kind.label == "monitoring").unwrap();
    let pool = schema::from_descriptor_set(&kind.descriptors, "a test").unwrap();
    let plan = Plan::new(&pool.get_message_by_name(&kind.envelope).unwrap(), Style::default());
    let layout = Layout::of(&plan);
    let (mut rows, mut notes) = (Rows::default(), Notes::default());
    let customer = [0x2a, 1, b'7'];
    // A payload that says it is longer than it is.
    assert!(rows.fill(&plan, &layout, &[0x1a, 9, 0x0a], &mut notes).is_err());
    assert_eq!(rows.iter().count(), 0);
    rows.fill(&plan, &layout, &customer, &mut notes).unwrap();
    let found: Vec<_> = rows.iter().map(|row| shown(&layout, row).2).collect();
    assert_eq!(found, [BTreeMap::from([("customer_id".to_owned(), "7".to_owned())])]);
}

/// The plan of the message `M` that is declared there.
fn plan_of(declarations: &str) -> Plan {
    let folder = tempfile::tempdir().unwrap();
    let source = format!("syntax = \"proto3\"; {declarations}");
    std::fs::write(folder.path().join("m.proto"), source).unwrap();
    let pool = schema::from_folder(folder.path()).unwrap();
    Plan::new(&pool.get_message_by_name("M").unwrap(), Style::default())
}

#[test]
fn a_long_text_that_very_many_rows_would_repeat_is_a_fault() {
    let plan = plan_of("message M { string s = 1; repeated E e = 2; message E { bool b = 1; } }");
    let layout = Layout::of(&plan);
    let (mut rows, mut notes) = (Rows::default(), Notes::default());
    // 64 KiB of text, which 10,000 elements repeat beyond, and 8,000 within the limit.
    let text = [&[0x0a, 0x80, 0x80, 0x04][..], &vec![b'x'; 65_536]].concat();
    let fill = |rows: &mut Rows, notes: &mut Notes, count: usize| {
        let data = [text.clone(), [0x12, 0].repeat(count)].concat();
        rows.fill(&plan, &layout, &data, notes).map(|()| rows.iter().count())
    };
    assert_eq!(fill(&mut rows, &mut notes, 8_000), Ok(8_001));
    let fault = fill(&mut rows, &mut notes, 10_000).unwrap_err();
    assert_eq!(fault.reason, "its rows would have more than 536870912 bytes");
    assert_eq!(rows.iter().count(), 0);
}

#[test]
fn cells_of_a_message_that_become_much_more_than_it_is_are_a_fault() {
    let long = "n".repeat(10_000);
    let plan =
        plan_of(&format!("message M {{ int32 {long} = 1; repeated M inner = 2; double d = 3; }}"));
    let layout = Layout::of(&plan);
    let (mut rows, mut notes) = (Rows::default(), Notes::default());
    // Elements of two bytes, each 10 KB of JSON in one cell, and behind them a cell with a number that is shown
    // in quotes by JSON.
    let number = [&[0x19][..], &f64::NAN.to_le_bytes()].concat();
    let mut fill = |count: usize| {
        let data = [[0x12, 2, 0x08, 1].repeat(count), number.clone()].concat();
        let filled = rows.fill(&plan, &layout, &data, &mut notes);
        filled.map(|()| rows.iter().map(|row| shown(&layout, row).2["d"].clone()).collect())
    };
    assert_eq!(fill(9_000), Ok(vec!["NaN".to_owned()]));
    for count in [11_000, 30_000] {
        let fault = fill(count).unwrap_err();
        assert_eq!(fault.reason, "its cells would have more than 100663296 bytes");
    }
    assert_eq!(fill(9_000), Ok(vec!["NaN".to_owned()]));
}

#[test]
fn a_schema_that_doubles_at_each_level_has_a_bounded_number_of_columns() {
    let levels = (0..40)
        .map(|level| format!("message M{level} {{ M{0} a = 1; M{0} b = 2; }}", level + 1))
        .collect::<String>();
    let last = "message M40 { int32 n = 1; M0 again = 2; }";
    let layout = Layout::of(&plan_of(&format!("message M {{ M0 top = 1; }} {levels} {last}")));
    let columns: usize = layout.tables().iter().map(|table| table.columns.len()).sum();
    assert!((1..20_000).contains(&columns), "{columns}");
}
