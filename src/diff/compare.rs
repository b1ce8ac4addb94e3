//! In which fields two contents differ.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use serde_json::value::RawValue;

use super::{align::unmatched, content::UNKNOWN};
use crate::codec::encode::Object;

/// Of one frame so many are kept.
pub(super) const CHANGES_KEPT: usize = 1000;

/// A field that differs.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// Where it is: names joined by dots, with indexes in lists, in A if it is there.
    pub path: String,
    /// What it is in A; None if it is absent.
    pub a: Option<Box<RawValue>>,
    /// What it is in B.
    pub b: Option<Box<RawValue>>,
}

/// All fields that differ.
pub(super) fn compare(a: &RawValue, b: &RawValue) -> Vec<Change> {
    let mut changes = Vec::new();
    values(a, b, "", &mut changes);
    changes
}

/// As it was written: no digit of a number is lost.
fn values(a: &RawValue, b: &RawValue, path: &str, changes: &mut Vec<Change>) {
    if a.get() == b.get() {
        return;
    }
    match (a.get().as_bytes(), b.get().as_bytes()) {
        ([b'{', ..], [b'{', ..]) => {
            if let (Ok(a), Ok(b)) = (serde_json::from_str(a.get()), serde_json::from_str(b.get())) {
                return objects(&a, &b, path, changes);
            }
        }
        ([b'[', ..], [b'[', ..]) => {
            if let (Ok(a), Ok(b)) = (serde_json::from_str(a.get()), serde_json::from_str(b.get())) {
                return lists(a, b, path, changes);
            }
        }
        _ => {}
    }
    changes.push(change(path.to_owned(), Some(a), Some(b)));
}

fn objects(a: &Object<'_>, b: &Object<'_>, path: &str, changes: &mut Vec<Change>) {
    let of_b: HashMap<&str, &RawValue> =
        b.fields.iter().map(|(name, value)| (&**name, *value)).collect();
    for (name, value) in &a.fields {
        match of_b.get(&**name) {
            // Its names are paths of their own.
            Some(other) if path.is_empty() && name == UNKNOWN => values(value, other, "", changes),
            Some(other) => values(value, other, &under(path, name), changes),
            None => one_sided(path, name, value, changes, |value| (Some(value), None)),
        }
    }
    // A map may have as many keys as there is room for.
    let in_a: HashSet<&str> = a.fields.iter().map(|(name, _)| &**name).collect();
    for (name, value) in &b.fields {
        if !in_a.contains(&**name) {
            one_sided(path, name, value, changes, |value| (None, Some(value)));
        }
    }
}

fn one_sided<'j>(
    path: &str,
    name: &str,
    value: &'j RawValue,
    changes: &mut Vec<Change>,
    sides: impl Fn(&'j RawValue) -> (Option<&'j RawValue>, Option<&'j RawValue>),
) {
    let mut push = |path, value| {
        let (a, b) = sides(value);
        changes.push(change(path, a, b));
    };
    match serde_json::from_str::<Object>(value.get()) {
        Ok(all) if path.is_empty() && name == UNKNOWN => {
            all.fields.into_iter().for_each(|(path, value)| push(path, value));
        }
        _ => push(under(path, name), value),
    }
}

/// Elements of the same content belong together; between them, those in the same place.
fn lists(a: Vec<&RawValue>, b: Vec<&RawValue>, path: &str, changes: &mut Vec<Change>) {
    for (of_a, of_b) in unmatched(&a, &b, |element| element.get().to_owned()) {
        for (at_a, at_b) in of_a.clone().zip(of_b.clone()) {
            values(a[at_a], b[at_b], &format!("{path}[{at_a}]"), changes);
        }
        let both = of_a.len().min(of_b.len());
        for at in of_a.skip(both) {
            changes.push(change(format!("{path}[{at}]"), Some(a[at]), None));
        }
        for at in of_b.skip(both) {
            changes.push(change(format!("{path}[{at}]"), None, Some(b[at])));
        }
    }
}

fn change(path: String, a: Option<&RawValue>, b: Option<&RawValue>) -> Change {
    Change { path, a: a.map(ToOwned::to_owned), b: b.map(ToOwned::to_owned) }
}

/// A field is named, a key of a map is quoted.
fn under(path: &str, name: &str) -> String {
    let is_unknown = path.is_empty() && name.contains('#');
    if is_unknown || name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '@')) {
        match path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    } else {
        format!("{path}[{}]", serde_json::Value::from(name))
    }
}

/// The same path for all elements of its lists.
pub(super) fn general(path: &str) -> String {
    let mut general = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, behind)) = rest.split_once('[') {
        general.push_str(before);
        general.push('[');
        rest = behind.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    general + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(a: &str, b: &str) -> Vec<String> {
        let raw = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
        let shown =
            |value: Option<Box<RawValue>>| value.map_or("-".to_owned(), |it| it.get().to_owned());
        let changes = compare(&raw(a), &raw(b)).into_iter();
        changes.map(|Change { path, a, b }| format!("{path} {} {}", shown(a), shown(b))).collect()
    }

    #[test]
    fn each_change_is_named_by_its_path() {
        let a = r#"{"x":1,"m":{"y":"a","z":[1,2]},"l":[{"n":1},{"n":2}],"o":0.1}"#;
        let b = r#"{"x":2,"m":{"y":"b","z":[1]},"l":[{"n":1},{"n":3}],"p":{"q":1}}"#;
        assert_eq!(
            compared(a, b),
            ["x 1 2", "m.y \"a\" \"b\"", "m.z[1] 2 -", "l[1].n 2 3", "o 0.1 -", "p - {\"q\":1}"]
        );
        assert_eq!(compared(a, a), [""; 0]);
        assert_eq!(compared("{\"a\":{}}", "{\"a\":[]}"), ["a {} []"]);
        // The last digit counts.
        let digits = ["{\"a\":0.10000000000000001}", "{\"a\":0.1}"];
        assert_eq!(compared(digits[0], digits[1]), ["a 0.10000000000000001 0.1"]);
    }

    #[test]
    fn an_element_that_was_left_out_changes_no_other() {
        let a = r#"{"l":[{"n":1},{"n":2},{"n":3},{"n":4}]}"#;
        let b = r#"{"l":[{"n":2},{"n":3},{"n":5},{"n":6}]}"#;
        assert_eq!(compared(a, b), ["l[0] {\"n\":1} -", "l[3].n 4 5", "l[3] - {\"n\":6}"]);
    }

    #[test]
    fn keys_of_maps_are_quoted_and_unknown_fields_have_their_own_paths() {
        assert_eq!(compared(r#"{"m":{"a b":1}}"#, r#"{"m":{"a b":2}}"#), ["m[\"a b\"] 1 2"]);
        let a = r##"{"@unknown":{"data.aps.#7":[1,2],"#8":"x"}}"##;
        let b = r#"{"@unknown":{"data.aps.#7":[1,3]}}"#;
        assert_eq!(compared(a, b), ["data.aps.#7[1] 2 3", "#8 \"x\" -"]);
        assert_eq!(compared(a, "{}"), ["data.aps.#7 [1,2] -", "#8 \"x\" -"]);
    }

    #[test]
    fn a_path_is_the_same_for_all_elements() {
        assert_eq!(general("data.aps[12].radios[0].x"), "data.aps[].radios[].x");
        assert_eq!(general("data.x"), "data.x");
        assert_eq!(general("m[\"1\"]"), "m[\"1\"]");
    }
}
