//! Who may subscribe to what of a capture.

use std::collections::{BTreeSet, HashMap};

use super::Options;
use crate::{
    accounts::Account,
    entry::{Entry, FrameType, Subscription},
    error::{Error, Result},
    net::server::Gate,
    protocol::{self, Key, Protocol},
    select::Selection,
};

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

    /// What can be asked for.
    pub(super) fn topics(&self) -> BTreeSet<&str> {
        self.subscriptions.iter().map(|(topic, _)| topic.as_str()).collect()
    }

    /// Refuses a topic that nobody could ever ask for.
    pub(super) fn has_topic(&self, topic: &str) -> Result<()> {
        let topics = self.topics();
        if topics.contains(topic) {
            return Ok(());
        }
        let topics = topics.into_iter().collect::<Vec<_>>().join(", ");
        let hint = "--expect takes a topic that the capture has";
        Err(Error::usage(format!("one of {topics}"), format!("{topic:?}"), hint))
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
        Account { name: name.to_owned(), username: None, key, topic: "audit".to_owned() }
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
}
