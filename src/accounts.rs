//! The vendor's input file: who subscribes to what, with which key.
//!
//! ```json
//! {"customers": {"NAME": {"username": "...", "wsskey": "...", "topic": "monitoring"}}}
//! ```
//!
//! Keys are read from it and written back to it when they were renewed. Everything else in the file
//! stays as it is, to the letter, and at any moment the file is the old or the new one.

use std::{fmt, path::Path};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

pub(crate) use self::rewrite::Stamp;
pub use self::rewrite::{remove_left_over, replace_key, replace_only_key};
use crate::{
    error::{Error, Kind, Result},
    files,
    protocol::{Key, Protocol},
};

mod rewrite;

/// One entry of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The entry's name: the name of the subscription.
    pub name: String,
    /// The account's e-mail address.
    pub username: Option<String>,
    /// The key.
    pub key: Key,
    /// The topic.
    pub topic: String,
}

impl Account {
    /// Refuses a topic that the protocol does not know.
    pub fn check_topic(&self, protocol: &dyn Protocol) -> Result<()> {
        let known: Vec<_> = protocol.topics().iter().map(|topic| topic.name).collect();
        if known.contains(&&*self.topic) {
            return Ok(());
        }
        let found = format!("{:?} for the subscription {:?}", self.topic, self.name);
        let hint = "several topics are several subscriptions, which --input takes; if Central has a new topic, \
                    --unknown-topics records it all the same";
        Err(Error::usage(format!("a topic ({})", known.join(", ")), found, hint))
    }
}

#[derive(Deserialize)]
#[serde(expecting = "an object with \"customers\"")]
struct File {
    customers: Customers,
}

/// A JSON object whose names must differ. An ordinary map would keep the last of two silently.
struct Customers(Vec<(String, Customer)>);

#[derive(Deserialize)]
#[serde(expecting = "an object with \"wsskey\" and \"topic\"")]
struct Customer {
    username: Option<String>,
    wsskey: String,
    topic: String,
}

impl<'de> Deserialize<'de> for Customers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = Customers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of subscriptions by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Customers, A::Error> {
                let mut all: Vec<(String, Customer)> = Vec::new();
                while let Some((name, customer)) = map.next_entry::<String, Customer>()? {
                    if all.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom(format!("two subscriptions named {name:?}")));
                    }
                    all.push((name, customer));
                }
                Ok(Customers(all))
            }
        }

        deserializer.deserialize_map(Names)
    }
}

/// Reads the file.
pub fn read(path: &Path) -> Result<Vec<Account>> {
    let text = files::text(path)?;
    parse(path, &text)
}

/// Without the mark of the byte order that some editors put before all that they save.
fn json_in(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn parse(path: &Path, text: &str) -> Result<Vec<Account>> {
    const EXPECTED: &str = "subscriptions in the vendor's format";

    let wrong = |expected: &str, found: String| -> Error {
        Kind::InputFile { path: path.to_owned(), expected: expected.to_owned(), found }.into()
    };
    if json_in(text).trim().is_empty() {
        return Err(wrong(EXPECTED, "an empty file".to_owned()));
    }
    let file: File =
        serde_json::from_str(json_in(text)).map_err(|error| wrong(EXPECTED, described(&error)))?;
    if file.customers.0.is_empty() {
        return Err(wrong("at least one subscription", "none".to_owned()));
    }
    let accounts = file.customers.0.into_iter().map(|(name, customer)| {
        let place = |what: &str| format!("{what} of the subscription {name:?}");
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(wrong("a name for each subscription", format!("{name:?}")));
        }
        let key = Key::new(&customer.wsskey).ok_or_else(|| {
            wrong("a key of visible ASCII", place("something else as the wsskey"))
        })?;
        if customer.topic.is_empty() {
            return Err(wrong("a topic", place("none")));
        }
        Ok(Account { username: customer.username, key, topic: customer.topic, name })
    });
    accounts.collect()
}

/// A JSON error without any of the file's content, which may be a key.
fn described(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let what = match error.classify() {
        serde_json::error::Category::Data if text.starts_with("invalid type") => {
            text.split(", expected ").nth(1).map_or("a wrong type".to_owned(), |expected| {
                let expected = expected.split(" at line").next().unwrap_or(expected);
                format!("something that is not {expected}")
            })
        }
        _ => text.split(" at line").next().unwrap_or(&text).to_owned(),
    };
    format!("{what} at line {line}, column {column}")
}

/// Reads a file that holds one key and nothing else.
pub fn read_key(path: &Path) -> Result<Key> {
    let text = files::text(path)?;
    Key::new(&text).ok_or_else(|| Kind::KeyFile { path: path.to_owned() }.into())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.json");
        fs::write(&path, content).unwrap();
        (folder, path)
    }

    const TWO: &str = r#"{
  "note": "synthetic-old-key",
  "customers": {
    "west":  {"wsskey": "synthetic-old-key", "topic": "audit", "color": [1, 2]},
    "east": {"topic": "monitoring", "wsskey": "synthetic-other-key", "username": "a@example.com"}
  }
}
"#;

    #[test]
    fn entries_are_read_in_order() {
        let (_folder, path) = file(TWO);
        let accounts = read(&path).unwrap();
        fs::write(&path, format!("\u{feff}{TWO}")).unwrap();
        assert_eq!(read(&path).unwrap(), accounts);
        let seen: Vec<_> = accounts.iter().map(|a| (a.name.as_str(), a.topic.as_str())).collect();
        assert_eq!(seen, [("west", "audit"), ("east", "monitoring")]);
        assert_eq!(accounts[1].username.as_deref(), Some("a@example.com"));
    }

    #[test]
    fn what_is_wrong_is_said_without_showing_keys() {
        for (content, expected) in [
            ("", "an empty file"),
            (" \n", "an empty file"),
            ("{", "EOF while parsing an object"),
            ("[]", "an object with \"customers\""),
            (r#"{"customers": {}}"#, "none"),
            (r#"{"customers": {"a": {"topic": "audit"}}}"#, "missing field `wsskey`"),
            (r#"{"customers": {"a": {"wsskey": "", "topic": "audit"}}}"#, "visible ASCII"),
            (r#"{"customers": {"a": {"wsskey": "synthetic-secret", "topic": ""}}}"#, "a topic"),
            (r#"{"customers": {"a": "synthetic-secret"}}"#, "an object with \"wsskey\""),
            (
                r#"{"customers": {"a": {"wsskey": "synthetic-secret", "topic": "audit"},
                                  "a": {"wsskey": "synthetic-secret", "topic": "audit"}}}"#,
                "two subscriptions named \"a\"",
            ),
        ] {
            let (_folder, path) = file(content);
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{content}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
