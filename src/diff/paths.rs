//! Which fields are not compared: paths such as `data.aps[].serial`, `data.aps.#77`, `@unknown`.

use std::{collections::BTreeMap, fmt, str::FromStr};

use prost_reflect::MessageDescriptor;

use crate::error::{Error, Result};

/// All fields that the schema does not know.
const UNKNOWN: &str = "@unknown";

/// All fields that hold times, as far as these are numbers.
const TIMES: &str = "@times";

/// The schemas themselves.
const SCHEMA: &str = "@schema";

/// All that is no path.
const SPECIAL: [&str; 3] = [UNKNOWN, TIMES, SCHEMA];

/// What a frame has beside the fields of its envelope.
const BESIDE: [&str; 2] = ["type", "received"];

/// Where fields are that are not compared, in frames of any type: the names that lead there, joined by
/// dots. Every element of a list is meant, with `[]` or without. `#77` is the field of that number that
/// the schema does not have; `@unknown` are all of these, `@times` are all times, and `@schema` is what the schemas
/// declare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath {
    text: String,
    names: Vec<String>,
}

/// As it is read.
impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for FieldPath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let names = text.split('.').map(|name| name.strip_suffix("[]").unwrap_or(name));
        let names: Vec<_> = names.map(str::to_owned).collect();
        let is_name = |name: &String| {
            let word = name.strip_prefix('#').unwrap_or(name);
            let is_digit = |c: char| c.is_ascii_digit();
            !word.is_empty()
                && word.chars().all(|c| c.is_alphanumeric() || c == '_')
                && (word.len() == name.len() || word.chars().all(is_digit))
        };
        if names.iter().all(is_name) || SPECIAL.contains(&text) {
            return Ok(Self { text: text.to_owned(), names });
        }
        Err(Error::usage(
            "the path of a field",
            format!("{text:?}"),
            "paths look like timestamp, data.aps[].serial, data.aps.#77, @unknown, @times or @schema",
        ))
    }
}

/// How far into a type a path leads.
struct Reach {
    names: usize,
    /// The fields of the message where it ends.
    fields: Vec<String>,
    is_field: bool,
}

impl FieldPath {
    fn reach(&self, envelope: &MessageDescriptor) -> Reach {
        let mut message = Some(envelope.clone());
        let mut reach = Reach { names: 0, fields: Vec::new(), is_field: true };
        for name in &self.names {
            let Some(inside) = message.take() else {
                return Reach { fields: Vec::new(), is_field: false, ..reach };
            };
            reach.fields = inside.fields().map(|field| field.name().to_owned()).collect();
            if let Some(number) = name.strip_prefix('#') {
                let number = number.parse().ok();
                reach.is_field = number.is_some_and(|number| inside.get_field(number).is_none());
            } else if let Some(field) = inside.get_field_by_name(name) {
                // The keys of a map are no fields.
                message = field.kind().as_message().filter(|_| !field.is_map()).cloned();
            } else {
                reach.is_field = false;
            }
            if !reach.is_field {
                break;
            }
            reach.names += 1;
        }
        reach
    }

    /// It is about all fields that the schema does not know.
    pub fn is_all_unknown(&self) -> bool {
        self.text == UNKNOWN
    }

    fn is_special(&self) -> bool {
        SPECIAL.contains(&&*self.text) || BESIDE.contains(&&*self.text)
    }
}

/// A path that leads nowhere in all of these types is a slip of the pen.
pub(super) fn refuse_unknown(paths: &[FieldPath], envelopes: &[MessageDescriptor]) -> Result<()> {
    for path in paths.iter().filter(|path| !path.is_special()) {
        let reaches: Vec<_> = envelopes.iter().map(|envelope| path.reach(envelope)).collect();
        if reaches.iter().any(|reach| reach.is_field) {
            continue;
        }
        let furthest = reaches.into_iter().max_by_key(|reach| reach.names);
        let (at, fields) = furthest.map_or((0, Vec::new()), |reach| (reach.names, reach.fields));
        let within = match at {
            0 => "a field of some frame".to_owned(),
            at => format!("a field in {}", path.names[..at].join(".")),
        };
        let expected = match fields.len() {
            0 => within,
            _ => format!("{within} ({})", fields.join(", ")),
        };
        let hint = "--ignore takes a path as it is shown where frames differ";
        return Err(Error::usage(expected, format!("{:?}", path.text), hint));
    }
    Ok(())
}

/// All that is not compared.
#[derive(Debug, Default)]
pub(super) struct Ignored {
    pub(super) fields: Node,
    pub(super) unknown: bool,
    pub(super) times: bool,
    pub(super) schema: bool,
}

/// What is not compared of a message.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// All of it,
    pub(super) is_whole: bool,
    /// or something in these fields.
    pub(super) below: BTreeMap<String, Node>,
}

impl Ignored {
    pub(super) fn new(paths: &[FieldPath]) -> Self {
        let mut ignored = Self::default();
        for path in paths {
            match &*path.text {
                UNKNOWN => ignored.unknown = true,
                TIMES => ignored.times = true,
                SCHEMA => ignored.schema = true,
                _ => {
                    let mut node = &mut ignored.fields;
                    for name in &path.names {
                        node = node.below.entry(name.clone()).or_default();
                    }
                    node.is_whole = true;
                }
            }
        }
        ignored
    }

    /// Whether that unknown field of the message at the path is among it.
    pub(super) fn has_unknown(&self, path: &str, name: &str) -> bool {
        let mut node = &self.fields;
        let names = path.split('.').filter(|name| !name.is_empty());
        for name in names.chain([name]) {
            match node.below.get(name) {
                Some(below) if below.is_whole => return true,
                Some(below) => node = below,
                None => return false,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_no_path() {
        for text in ["", "a..b", "a[3].b", "a.#b", "#", "@raw", "a.@unknown", "a b"] {
            let error = text.parse::<FieldPath>().unwrap_err();
            assert!(error.is_usage() && error.hint().is_some(), "{text}");
        }
        for text in
            ["timestamp", "data.aps[].serial", "data.aps.#77", "@unknown", "@times", "@schema"]
        {
            assert_eq!(text.parse::<FieldPath>().unwrap().text, text);
        }
    }

    #[test]
    fn what_lies_in_an_ignored_field_is_ignored() {
        let paths = ["data.aps[].#7", "data.radios"].map(|path| path.parse().unwrap());
        let ignored = Ignored::new(&paths);
        assert!(ignored.has_unknown("data.aps", "#7"));
        assert!(!ignored.has_unknown("data.aps", "#8"));
        assert!(ignored.has_unknown("data.radios", "#8"));
        assert!(ignored.has_unknown("data.radios.macaddr", "#8"));
        assert!(!ignored.has_unknown("data", "#8"));
        assert!(!ignored.has_unknown("", "#8"));
    }
}
