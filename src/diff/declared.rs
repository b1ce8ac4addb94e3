//! In what the schemas differ that frames are decoded with.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde::Serialize;

/// Something that is declared differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SchemaChange {
    /// The full name of a field, an enum value, or a frame type as a whole.
    pub name: String,
    /// How A declares it; None if it does not.
    pub a: Option<String>,
    /// How B declares it.
    pub b: Option<String>,
}

/// What all frame types of a capture declare, by full names.
#[derive(Default)]
pub(super) struct Declared {
    names: BTreeMap<String, String>,
    seen: BTreeSet<String>,
}

impl Declared {
    /// Adds a type with all that it needs. Of two declarations of one name the first counts.
    pub(super) fn add(&mut self, message: &MessageDescriptor) {
        let mut open = vec![message.clone()];
        while let Some(message) = open.pop() {
            if !self.seen.insert(message.full_name().to_owned()) {
                continue;
            }
            for field in message.fields() {
                let name = format!("{}.{}", message.full_name(), field.name());
                self.names.entry(name).or_insert_with(|| described(&field));
                match field.kind() {
                    Kind::Message(inside) => open.push(inside),
                    Kind::Enum(values) => self.add_enum(&values),
                    _ => {}
                }
            }
        }
    }

    fn add_enum(&mut self, values: &EnumDescriptor) {
        if self.seen.insert(values.full_name().to_owned()) {
            for value in values.values() {
                let name = format!("{}.{}", values.full_name(), value.name());
                self.names.entry(name).or_insert_with(|| value.number().to_string());
            }
        }
    }

    pub(super) fn compare(&self, other: &Self) -> Vec<SchemaChange> {
        let names: BTreeSet<_> = self.names.keys().chain(other.names.keys()).collect();
        let change = |name: &String| {
            let (a, b) = (self.names.get(name).cloned(), other.names.get(name).cloned());
            (a != b).then(|| SchemaChange { name: name.clone(), a, b })
        };
        names.into_iter().filter_map(change).collect()
    }
}

/// As a .proto file has it, without the name.
fn described(field: &FieldDescriptor) -> String {
    let kind = match field.kind() {
        _ if field.is_map() => "map".to_owned(),
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(values) => values.full_name().to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    let label = match () {
        () if field.is_map() => "",
        () if field.is_list() => "repeated ",
        () if field.is_required() => "required ",
        () => "",
    };
    format!("{label}{kind} = {}", field.number())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn fields_and_enum_values_are_told_apart() {
        let declared = |proto: &str| {
            let folder = tempfile::tempdir().unwrap();
            let source = format!("syntax = \"proto2\"; package Lab; {proto}");
            std::fs::write(folder.path().join("lab.proto"), source).unwrap();
            let pool = schema::from_folder(folder.path()).unwrap();
            let mut declared = Declared::default();
            declared.add(&schema::message(&pool, "Lab.Probe").unwrap());
            declared
        };
        let a = declared(
            "message Probe { optional E e = 1; repeated Probe p = 2; } enum E { UP = 1; }",
        );
        let b = declared(
            "message Probe { optional E e = 1; optional int64 n = 3; repeated Probe p = 4; }
             enum E { UP = 0; DOWN = 1; }",
        );
        let change = |name: &str, a: &str, b: &str| SchemaChange {
            name: format!("Lab.{name}"),
            a: (!a.is_empty()).then(|| a.to_owned()),
            b: (!b.is_empty()).then(|| b.to_owned()),
        };
        assert_eq!(
            a.compare(&b),
            [
                change("E.DOWN", "", "1"),
                change("E.UP", "1", "0"),
                change("Probe.n", "", "int64 = 3"),
                change("Probe.p", "repeated Lab.Probe = 2", "repeated Lab.Probe = 4"),
            ]
        );
        assert_eq!(a.compare(&a), []);
    }
}
