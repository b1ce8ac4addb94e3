//! What of a capture can be subscribed to.

use std::collections::BTreeSet;

use super::Options;
use crate::{
    entry::{Entry, FrameType, Subscription},
    error::{Error, Result},
    protocol::{self, Protocol},
    select::Selection,
};

/// What can be subscribed to.
pub(super) struct Offer {
    pub protocol: &'static dyn Protocol,
    /// Topic and name, sorted.
    pub subscriptions: BTreeSet<(String, String)>,
}

impl Offer {
    pub(super) fn of(options: &Options) -> Result<Self> {
        let channels = options.capture.channels()?;
        let protocol = channels.first().map_or("", |(subscription, _)| &subscription.protocol);
        let subscriptions = channels
            .iter()
            .filter(|(subscription, kind)| wants(&options.selection, subscription, kind.as_deref()))
            .map(|(subscription, _)| (subscription.topic.clone(), subscription.name.clone()));
        Ok(Self { protocol: protocol::by_name(protocol), subscriptions: subscriptions.collect() })
    }

    /// What can be asked for.
    pub(super) fn topics(&self) -> BTreeSet<&str> {
        self.subscriptions.iter().map(|(topic, _)| topic.as_str()).collect()
    }

    /// What whoever has these names gets of a topic: the subscriptions that bear one of them; if there are
    /// none, all of the topic. None if there is no such topic.
    pub(super) fn share(&self, names: &[String], topic: &str) -> Option<Share> {
        let all = self.subscriptions.iter().filter(|(of, _)| of == topic).map(|(_, name)| name);
        let all: BTreeSet<String> = all.cloned().collect();
        let own: BTreeSet<String> =
            names.iter().filter(|name| all.contains(*name)).cloned().collect();
        let subscriptions = if own.is_empty() { all } else { own };
        (!subscriptions.is_empty()).then(|| Share { topic: topic.to_owned(), subscriptions })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(names: &[&str], topic: &str) -> Option<Vec<String>> {
        let subscriptions = [("audit", "a"), ("monitoring", "a"), ("monitoring", "b")];
        let offer = Offer {
            protocol: protocol::by_name("classic"),
            subscriptions: subscriptions
                .map(|(topic, name)| (topic.to_owned(), name.to_owned()))
                .into(),
        };
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        Some(offer.share(&names, topic)?.subscriptions.into_iter().collect())
    }

    #[test]
    fn whoever_has_no_name_gets_all_of_a_topic() {
        assert_eq!(shared(&[], "monitoring").unwrap(), ["a", "b"]);
        assert_eq!(shared(&[], "presence"), None);
    }

    #[test]
    fn names_get_the_subscriptions_that_bear_them_or_all() {
        assert_eq!(shared(&["b"], "monitoring").unwrap(), ["b"]);
        assert_eq!(shared(&["b"], "audit").unwrap(), ["a"]);
        assert_eq!(shared(&["elsewhere"], "monitoring").unwrap(), ["a", "b"]);
    }
}
