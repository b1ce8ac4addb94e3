//! The vendor's input file: who subscribes to what, with which key.
//!
//! ```json
//! {"customers": {"NAME": {"username": "...", "wsskey": "...", "topic": "monitoring"}}}
//! ```
//!
//! Keys are read from it and written back to it when they were renewed. Everything else in the file
//! stays as it is, to the letter, and at any moment the file is the old or the new one.

use std::{
    fmt, fs,
    io::Write,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::Value as Json;

use crate::{
    error::{Error, Kind, Result},
    protocol::Key,
};

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
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let wrong = |expected: &str, found: String| -> Error {
        Kind::InputFile { path: path.to_owned(), expected: expected.to_owned(), found }.into()
    };
    let file: File = serde_json::from_str(&text)
        .map_err(|error| wrong("subscriptions in the vendor's format", described(&error)))?;
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

/// Replaces a key wherever the file has it as the key of a subscription, in place and atomically.
/// The file is read anew, so that what its owner changed meanwhile stays. Returns whether the old key
/// was still there.
pub fn replace_key(path: &Path, old: &Key, new: &Key) -> Result<bool> {
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let wrong = |found: String| -> Error {
        let expected = "subscriptions in the vendor's format".to_owned();
        Kind::InputFile { path: path.to_owned(), expected, found }.into()
    };
    let mut wanted: Json = serde_json::from_str(&text).map_err(|error| wrong(described(&error)))?;
    if !replace_in(&mut wanted, old, new) {
        return Ok(false);
    }
    // Changing the one string keeps the owner's white space. If the same text stands elsewhere too,
    // or is spelled with escapes, the result differs from what is wanted, and the file is laid anew.
    let replaced = text.replace(&quoted(old), &quoted(new));
    let same = serde_json::from_str::<Json>(&replaced).is_ok_and(|found| found == wanted);
    let content = if same {
        replaced
    } else {
        let mut pretty =
            serde_json::to_string_pretty(&wanted).map_err(|error| wrong(described(&error)))?;
        pretty.push('\n');
        pretty
    };
    write_atomically(path, content.as_bytes())?;
    Ok(true)
}

fn replace_in(file: &mut Json, old: &Key, new: &Key) -> bool {
    let mut replaced = false;
    let customers = file.get_mut("customers").and_then(Json::as_object_mut);
    for customer in customers.into_iter().flat_map(|customers| customers.values_mut()) {
        if let Some(key) = customer.get_mut("wsskey")
            && key.as_str().map(str::trim) == Some(old.expose())
        {
            *key = new.expose().into();
            replaced = true;
        }
    }
    replaced
}

fn quoted(key: &Key) -> String {
    Json::from(key.expose()).to_string()
}

/// Reads a file that holds one key and nothing else.
pub fn read_key(path: &Path) -> Result<Key> {
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    Key::new(&text).ok_or_else(|| {
        let (expected, found) = ("one line with a key".to_owned(), "something else".to_owned());
        Kind::InputFile { path: path.to_owned(), expected, found }.into()
    })
}

/// Writes such a file anew.
pub fn write_key(path: &Path, key: &Key) -> Result<()> {
    write_atomically(path, format!("{}\n", key.expose()).as_bytes())
}

/// Puts new content in the place of a file, with the old one's permissions. The temporary file can be
/// read by its owner only until then, because keys go into it.
fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    // Through a link, the file it points to is the one to replace.
    let path: PathBuf = fs::canonicalize(path).map_err(Error::io("find", path))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let permissions = fs::metadata(&path).map_err(Error::io("look at", &path))?.permissions();
    let mut file = tempfile::Builder::new()
        .prefix(".centralcap-")
        .tempfile_in(folder)
        .map_err(Error::io("create a file in", folder))?;
    file.write_all(content).map_err(Error::io("write", &path))?;
    file.as_file().set_permissions(permissions).map_err(Error::io("write", &path))?;
    file.as_file().sync_all().map_err(Error::io("write", &path))?;
    file.persist(&path).map_err(|error| Error::io("replace", &path)(error.error))?;
    crate::capture::sync_folder_of(&path).map_err(Error::io("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.json");
        fs::write(&path, content).unwrap();
        (folder, path)
    }

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
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
        let seen: Vec<_> = accounts.iter().map(|a| (a.name.as_str(), a.topic.as_str())).collect();
        assert_eq!(seen, [("west", "audit"), ("east", "monitoring")]);
        assert_eq!(accounts[1].username.as_deref(), Some("a@example.com"));
    }

    #[test]
    fn what_is_wrong_is_said_without_showing_keys() {
        for (content, expected) in [
            ("", "EOF while parsing a value"),
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

    #[test]
    fn a_renewed_key_changes_one_string_and_nothing_else() {
        let (_folder, path) = file(&TWO.replace("\"note\": \"synthetic-old-key\",", ""));
        let before = fs::read_to_string(&path).unwrap();
        assert!(replace_key(&path, &key("synthetic-old-key"), &key("synthetic-new-key")).unwrap());
        let after = fs::read_to_string(&path).unwrap();
        assert_eq!(after, before.replace("old", "new"));
        assert!(!replace_key(&path, &key("synthetic-old-key"), &key("synthetic-x")).unwrap());
    }

    #[test]
    fn the_same_text_elsewhere_is_left_alone() {
        let (_folder, path) = file(TWO);
        assert!(replace_key(&path, &key("synthetic-old-key"), &key("synthetic-new-key")).unwrap());
        let after: Json = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(after["note"], "synthetic-old-key");
        assert_eq!(after["customers"]["west"]["wsskey"], "synthetic-new-key");
        let names: Vec<_> = after["customers"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["west", "east"]);
    }

    #[cfg(unix)]
    #[test]
    fn the_mode_is_kept_also_through_a_link() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let (folder, path) = file(TWO);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let link = folder.path().join("link.json");
        symlink(&path, &link).unwrap();
        assert!(replace_key(&link, &key("synthetic-old-key"), &key("synthetic-new-key")).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(link.is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
