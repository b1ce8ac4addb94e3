//! What of a capture can be subscribed to.

use std::collections::BTreeSet;

use super::Options;
use crate::{
    entry::{FrameType, Subscription},
    error::{Error, Result},
    protocol::{self, Protocol},
    select::Selection,
};

/// What can be subscribed to.
pub(super) struct Offer {
    pub protocol: &'static dyn Protocol,
    /// Topic and name, sorted.
    pub subscriptions: BTreeSet<(String, String)>,
    /// Topic and name of each account; None if any key will do.
    pub accounts: Option<BTreeSet<(String, String)>>,
}

impl Offer {
    pub(super) fn of(options: &Options) -> Result<Self> {
        let channels = options.capture.channels()?;
        // Nobody could ask for anything, and so nobody would meet what is wrong.
        if channels.is_empty()
            && let Some(error) = options.capture.entries().find_map(Result::err)
        {
            return Err(error);
        }
        let protocol = channels.first().map_or("", |(subscription, _)| &subscription.protocol);
        let subscriptions = channels
            .iter()
            .filter(|(subscription, kind)| wants(&options.selection, subscription, kind.as_deref()))
            .map(|(subscription, _)| (subscription.topic.clone(), subscription.name.clone()));
        let subscriptions: BTreeSet<_> = subscriptions.collect();
        if subscriptions.is_empty() && !channels.is_empty() {
            let hint = "centralcap inspect says what the capture has";
            return Err(Error::usage(
                "a selection that leaves a topic",
                "one that leaves none",
                hint,
            ));
        }
        // One of several topics may be misspelled, too.
        let missing = options.selection.topics.iter().find(|topic| {
            !channels.iter().any(|(subscription, kind)| is_of(topic, subscription, kind.as_deref()))
        });
        if let Some(topic) = missing.filter(|_| !channels.is_empty()) {
            let topics = channels.iter().map(|(subscription, _)| subscription.topic.as_str());
            return Err(not_among(&topics.collect(), topic, "--topic takes what the capture has"));
        }
        let accounts = options.accounts.as_ref().map(|accounts| {
            accounts.iter().map(|account| (account.topic.clone(), account.name.clone())).collect()
        });
        let protocol = protocol::by_name(protocol);
        Ok(Self { protocol, subscriptions, accounts })
    }

    /// What can be asked for.
    pub(super) fn topics(&self) -> BTreeSet<&str> {
        self.subscriptions.iter().map(|(topic, _)| topic.as_str()).collect()
    }

    /// What whoever has the key of these accounts gets of a topic: the subscriptions that bear their names
    /// or, if none does, all of the topic. None if none of them is subscribed to it.
    pub(super) fn share(&self, names: &[String], topic: &str) -> Option<Share> {
        let of_topic = |of: &&(String, String)| of.0 == topic;
        let all = self.subscriptions.iter().filter(of_topic).map(|(_, name)| name.clone());
        let all: BTreeSet<_> = all.collect();
        let subscriptions = if let Some(accounts) = &self.accounts {
            let own = accounts.iter().filter(of_topic).filter(|(_, name)| names.contains(name));
            let own: BTreeSet<_> = own.map(|(_, name)| name.clone()).collect();
            if own.is_empty() {
                return None;
            }
            let recorded: BTreeSet<_> = own.intersection(&all).cloned().collect();
            if recorded.is_empty() { all } else { recorded }
        } else {
            all
        };
        (!subscriptions.is_empty()).then(|| Share { topic: topic.to_owned(), subscriptions })
    }

    /// Refuses a topic that nobody could ever ask for.
    pub(super) fn has_topic(&self, topic: &str) -> Result<()> {
        let topics = self.topics();
        if topics.contains(topic) {
            return Ok(());
        }
        Err(not_among(&topics, topic, "--expect takes a topic that the capture has"))
    }
}

fn not_among(topics: &BTreeSet<&str>, found: &str, hint: &'static str) -> Error {
    let topics = topics.iter().copied().collect::<Vec<_>>().join(", ");
    Error::usage(format!("one of {topics}"), format!("{found:?}"), hint)
}

/// Whether a selection leaves anything of a channel, as far as can be told without reading it.
fn wants(selection: &Selection, subscription: &Subscription, kind: Option<&FrameType>) -> bool {
    let named = selection.subscriptions.is_empty()
        || selection.subscriptions.iter().any(|pattern| pattern.is_match(&subscription.name));
    let topical = selection.topics.is_empty()
        || selection.topics.iter().any(|topic| is_of(topic, subscription, kind));
    named && topical
}

/// Whether a channel is what is called by this topic.
fn is_of(topic: &str, subscription: &Subscription, kind: Option<&FrameType>) -> bool {
    subscription.topic == topic || kind.is_some_and(|kind| kind.label == topic)
}

/// What one client may have.
pub(super) struct Share {
    pub topic: String,
    pub subscriptions: BTreeSet<String>,
}

impl Share {
    pub(super) fn has(&self, subscription: &Subscription) -> bool {
        subscription.topic == self.topic && self.subscriptions.contains(&subscription.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> BTreeSet<(String, String)> {
        pairs.iter().map(|(topic, name)| (topic.to_string(), name.to_string())).collect()
    }

    /// What of a capture with three subscriptions somebody gets.
    fn shared(
        accounts: Option<&[(&str, &str)]>,
        names: &[&str],
        topic: &str,
    ) -> Option<Vec<String>> {
        let offer = Offer {
            protocol: protocol::by_name("classic"),
            subscriptions: pairs(&[("audit", "a"), ("monitoring", "a"), ("monitoring", "b")]),
            accounts: accounts.map(pairs),
        };
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        Some(offer.share(&names, topic)?.subscriptions.into_iter().collect())
    }

    #[test]
    fn without_accounts_all_get_all_of_a_topic() {
        assert_eq!(shared(None, &[], "monitoring").unwrap(), ["a", "b"]);
        assert_eq!(shared(None, &[], "presence"), None);
    }

    #[test]
    fn a_key_gets_what_its_accounts_are_subscribed_to() {
        let accounts = Some(&[("audit", "a"), ("monitoring", "b"), ("presence", "c")][..]);
        assert_eq!(shared(accounts, &["b"], "monitoring").unwrap(), ["b"]);
        assert_eq!(shared(accounts, &["a", "b"], "audit").unwrap(), ["a"]);
        assert_eq!(shared(accounts, &["b"], "audit"), None);
        // Nothing was recorded of it.
        assert_eq!(shared(accounts, &["c"], "presence"), None);
    }

    #[test]
    fn accounts_that_the_capture_does_not_know_get_all_of_their_topic() {
        let accounts = Some(&[("monitoring", "b"), ("monitoring", "x")][..]);
        assert_eq!(shared(accounts, &["x"], "monitoring").unwrap(), ["a", "b"]);
        assert_eq!(shared(accounts, &["x"], "audit"), None);
    }
}
