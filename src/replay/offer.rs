//! Who may subscribe to what of a capture.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use serde::Deserialize;

use super::Options;
use crate::{
    entry::{Entry, FrameType, Subscription},
    error::{Error, Kind, Result},
    net::server::Gate,
    protocol::{self, Key, Protocol},
    select::Selection,
};

/// One entry of the vendor's input file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The customer's name; in a capture, the subscription's.
    pub name: String,
    /// The key.
    pub key: Key,
    /// The topic.
    pub topic: String,
}

/// Reads the vendor's input file: `{"customers": {"NAME": {"wsskey": "...", "topic": "..."}}}`.
pub fn accounts(path: &Path) -> Result<Vec<Account>> {
    #[derive(Deserialize)]
    struct File {
        customers: serde_json::Map<String, serde_json::Value>,
    }
    #[derive(Deserialize)]
    struct Customer {
        wsskey: String,
        topic: String,
    }

    let wrong = |expected: String, found: String| {
        Error::from(Kind::InputFile { path: path.to_owned(), expected, found })
    };
    let text = std::fs::read(path).map_err(Error::io("read", path))?;
    // A message of serde_json may quote the value that it did not expect, and that may be a key:
    // only the place is told.
    let place = |error: &serde_json::Error| {
        format!("something else at line {}, column {}", error.line(), error.column())
    };
    let file: File = serde_json::from_slice(&text)
        .map_err(|error| wrong("an object with \"customers\"".to_owned(), place(&error)))?;
    let account = |(name, value): (String, serde_json::Value)| {
        let expected = || format!("a \"wsskey\" and a \"topic\" of customer {name:?}");
        let customer: Customer = serde_json::from_value(value)
            .map_err(|_| wrong(expected(), "something else".to_owned()))?;
        let key = Key::new(&customer.wsskey)
            .ok_or_else(|| wrong(expected(), "a key that no header can carry".to_owned()))?;
        Ok(Account { name, key, topic: customer.topic })
    };
    file.customers.into_iter().map(account).collect()
}

/// What can be subscribed to, and by whom.
pub(super) struct Offer {
    pub protocol: &'static dyn Protocol,
    /// Topic and name, sorted.
    pub subscriptions: BTreeSet<(String, String)>,
    /// For each valid key the names it stands for; None if any key is valid.
    names: Option<HashMap<Key, Vec<String>>>,
}

impl Offer {
    pub(super) fn of(options: &Options) -> Result<Self> {
        let channels = options.capture.channels()?;
        let protocol = channels.first().map_or("", |(subscription, _)| &subscription.protocol);
        let subscriptions = channels
            .iter()
            .filter(|(subscription, kind)| wants(&options.selection, subscription, kind.as_deref()))
            .map(|(subscription, _)| (subscription.topic.clone(), subscription.name.clone()));
        Ok(Self {
            protocol: protocol::by_name(protocol),
            subscriptions: subscriptions.collect(),
            names: options.accounts.as_deref().map(names_by_key),
        })
    }
}

fn names_by_key(accounts: &[Account]) -> HashMap<Key, Vec<String>> {
    let mut names: HashMap<Key, Vec<String>> = HashMap::new();
    for account in accounts {
        names.entry(account.key.clone()).or_default().push(account.name.clone());
    }
    names
}

/// Whether a selection leaves anything of a channel, as far as can be told without reading it.
fn wants(selection: &Selection, subscription: &Subscription, kind: Option<&FrameType>) -> bool {
    let named = selection.subscriptions.is_empty()
        || selection.subscriptions.iter().any(|pattern| pattern.is_match(&subscription.name));
    let topical = selection.topics.is_empty()
        || selection.topics.contains(&subscription.topic)
        || kind.is_some_and(|kind| selection.topics.contains(&kind.label));
    named && topical
}

/// What one client may have.
pub(super) struct Share {
    pub topic: String,
    pub subscriptions: BTreeSet<String>,
}

impl Share {
    pub(super) fn has(&self, entry: &Entry) -> bool {
        entry.subscription.topic == self.topic
            && self.subscriptions.contains(&entry.subscription.name)
    }
}

impl Gate for Offer {
    type Pass = Share;

    fn protocol(&self) -> &'static dyn Protocol {
        self.protocol
    }

    fn knows(&self, key: &Key) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains_key(key))
    }

    /// The subscriptions that bear a name of the key; if there are none, all of the topic.
    fn admit(&self, key: &Key, topic: &str) -> Option<Share> {
        let all = self.subscriptions.iter().filter(|(of, _)| of == topic).map(|(_, name)| name);
        let all: BTreeSet<String> = all.cloned().collect();
        let own = self.names.as_ref().and_then(|names| names.get(key)).into_iter().flatten();
        let own: BTreeSet<String> = own.filter(|name| all.contains(*name)).cloned().collect();
        let subscriptions = if own.is_empty() { all } else { own };
        (!subscriptions.is_empty()).then(|| Share { topic: topic.to_owned(), subscriptions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(accounts: Option<&[Account]>) -> Offer {
        let subscriptions = [("audit", "a"), ("monitoring", "a"), ("monitoring", "b")];
        Offer {
            protocol: protocol::by_name("classic"),
            subscriptions: subscriptions
                .map(|(topic, name)| (topic.to_owned(), name.to_owned()))
                .into(),
            names: accounts.map(names_by_key),
        }
    }

    fn account(name: &str, key: &str) -> Account {
        let key = Key::new(key).unwrap();
        Account { name: name.to_owned(), key, topic: "audit".to_owned() }
    }

    fn admitted(offer: &Offer, key: &str, topic: &str) -> Option<Vec<String>> {
        let share = offer.admit(&Key::new(key).unwrap(), topic)?;
        Some(share.subscriptions.into_iter().collect())
    }

    #[test]
    fn without_accounts_any_key_gets_all_of_a_topic() {
        let offer = offer(None);
        assert!(offer.knows(&Key::new("whatever").unwrap()));
        assert_eq!(admitted(&offer, "whatever", "monitoring").unwrap(), ["a", "b"]);
        assert_eq!(admitted(&offer, "whatever", "presence"), None);
    }

    #[test]
    fn a_key_gets_the_subscriptions_of_its_names_or_all() {
        let offer = offer(Some(&[account("b", "key-of-b"), account("elsewhere", "other-key")]));
        assert!(!offer.knows(&Key::new("whatever").unwrap()));
        assert_eq!(admitted(&offer, "key-of-b", "monitoring").unwrap(), ["b"]);
        assert_eq!(admitted(&offer, "key-of-b", "audit").unwrap(), ["a"]);
        assert_eq!(admitted(&offer, "other-key", "monitoring").unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_faulty_input_file_is_named_without_showing_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            accounts(&path)
        };
        let whole =
            read(r#"{"customers": {"a": {"username": "u", "wsskey": "k", "topic": "audit"}}}"#);
        assert_eq!(whole.unwrap(), [account("a", "k")]);
        for text in [
            "",
            r#"["synthetic-secret"]"#,
            r#"{"customers": "synthetic-secret"}"#,
            r#"{"customers": {"a": "synthetic-secret"}}"#,
            r#"{"customers": {"a": {"wsskey": "synthetic-secret"}}}"#,
            r#"{"customers": {"a": {"wsskey": "synthetic\nsecret", "topic": "audit"}}}"#,
        ] {
            let error = read(text).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
            assert!(error.to_string().contains("input.json") && error.hint().is_some());
        }
    }
}
