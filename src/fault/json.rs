//! The same rules as JSON, which says nothing that TOML could not say.

use serde_json::Value as Json;

use crate::error::{BadRule, Error, Kind, Language, Result};

/// The text of a file with the rules that a JSON document has.
pub(super) fn to_toml(text: &str, origin: &str) -> Result<String> {
    let wrong = |field: &str, expected: &str, found: String| {
        let (origin, field) = (origin.to_owned(), field.to_owned());
        let (expected, language) = (expected.to_owned(), Language::Json);
        Kind::FaultFile(BadRule { origin, line: None, field, expected, found, language })
    };
    let document: Json =
        serde_json::from_str(text).map_err(|error| wrong("rules", "JSON", error.to_string()))?;
    let Json::Object(top) = &document else {
        let found = "something else".to_owned();
        return Err(wrong("rules", "an object like {\"rule\": [...]}", found).into());
    };
    let rules = top.get("rule");
    if let (None, Some(key)) = (rules, top.keys().find(|key| *key != "description")) {
        return Err(wrong(key, "description, rule", format!("{key:?}")).into());
    }
    if !rules.is_some_and(Json::is_array) {
        let found = rules.map_or("nothing", kind).to_owned();
        return Err(wrong("rule", "a list like [{\"do\": \"drop\"}]", found).into());
    }
    let mut toml = String::new();
    for (key, value) in top {
        toml += &format!("{} = ", quoted(key));
        if write(value, &mut toml).is_err() {
            return Err(wrong(key, "something in every place", "null".to_owned()).into());
        }
        toml.push('\n');
    }
    Ok(toml)
}

/// The same error of a text that was made from JSON.
pub(super) fn in_json(error: Error) -> Error {
    match error.into_kind() {
        Kind::FaultFile(rule) => {
            // The line is one of a text that nobody has written; the field has the rule's number.
            Kind::FaultFile(BadRule { line: None, language: Language::Json, ..rule }).into()
        }
        other => other.into(),
    }
}

const fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

/// There is no null in TOML.
struct Null;

fn write(value: &Json, toml: &mut String) -> Result<(), Null> {
    match value {
        Json::Null => return Err(Null),
        Json::Bool(value) => *toml += &value.to_string(),
        Json::Number(number) => *toml += &number.to_string(),
        Json::String(text) => *toml += &quoted(text),
        Json::Array(values) => {
            toml.push('[');
            for value in values {
                write(value, toml)?;
                toml.push(',');
            }
            toml.push(']');
        }
        Json::Object(fields) => {
            toml.push('{');
            for (number, (key, value)) in fields.iter().enumerate() {
                if number > 0 {
                    toml.push(',');
                }
                *toml += &format!("{} = ", quoted(key));
                write(value, toml)?;
            }
            toml.push('}');
        }
    }
    Ok(())
}

/// JSON's escapes are TOML's, too, but TOML wants one that JSON does without.
fn quoted(text: &str) -> String {
    Json::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_said_in_json_is_said_in_toml() {
        let text = "all of \u{1}\u{7f}\u{1f600}\"\\\n\t/ it";
        let json = serde_json::json!({
            "rule": [], "a b": text, "list": [1, -2.5, 1e30, true, {"x": {}, "y": []}], "\u{7f}": u32::MAX,
        });
        let toml = to_toml(&json.to_string(), "test").unwrap();
        let read = toml::de::DeTable::parse(&toml).unwrap();
        let found = read.get_ref().get("a b").unwrap().get_ref().as_str().unwrap();
        assert_eq!((found, read.get_ref().len()), (text, 4), "{toml}");
    }

    #[test]
    fn what_is_no_rule_is_told() {
        for (text, part) in [
            ("{", "JSON as rules"),
            ("[]", "an object"),
            ("{\"rule\": [{\"do\": null}]}", "found null"),
            (
                "{\"rule\": {\"do\": \"drop\"}}",
                "a list like [{\"do\": \"drop\"}] as rule in the request, found an object",
            ),
            ("{\"description\": \"\"}", "as rule in the request, found nothing"),
            (
                "{\"rules\": []}",
                "expected description, rule as rules in the request, found \"rules\"",
            ),
        ] {
            let error = to_toml(text, "the request").unwrap_err();
            assert!(error.is_fault_file() && error.to_string().contains(part), "{error}");
        }
    }
}
