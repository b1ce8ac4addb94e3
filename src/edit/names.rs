//! Subscriptions under new names. What is on their channels stays.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{
    by_address::ByAddress,
    entry::{Entry, Subscription},
    error::{Error, Result},
};

/// One subscription's new name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    old: String,
    new: String,
}

impl Rename {
    /// The name so far.
    pub fn old(&self) -> &str {
        &self.old
    }

    /// The name that it gets.
    pub fn new_name(&self) -> &str {
        &self.new
    }
}

impl FromStr for Rename {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('=') {
            Some((old, new)) if !old.is_empty() && !new.is_empty() => {
                Ok(Self { old: old.to_owned(), new: new.to_owned() })
            }
            _ => Err(Error::usage(
                "OLD=NEW",
                format!("{text:?}"),
                "for example acme-monitoring=customer-1-monitoring",
            )),
        }
    }
}

/// As it is read.
impl fmt::Display for Rename {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.old, self.new)
    }
}

/// Gives subscriptions their new names. Two of the same topic may get the same one, as when two recorders
/// took the same feed.
pub(super) struct Names<'a> {
    renames: &'a [Rename],
    /// Those that came by, as they are called now.
    known: ByAddress<Subscription, Arc<Subscription>>,
}

impl<'a> Names<'a> {
    pub(super) fn new(renames: &'a [Rename]) -> Self {
        Self { renames, known: ByAddress::default() }
    }

    pub(super) fn apply(&mut self, entry: Entry) -> Result<Entry> {
        if let Some(renamed) = self.known.get(&entry.subscription) {
            return Ok(Entry { subscription: Arc::clone(renamed), ..entry });
        }
        let renamed = self.renamed(&entry.subscription)?;
        self.known.insert(&entry.subscription, Arc::clone(&renamed));
        Ok(Entry { subscription: renamed, ..entry })
    }

    fn renamed(&self, subscription: &Arc<Subscription>) -> Result<Arc<Subscription>> {
        let rename = self.renames.iter().find(|rename| rename.old == subscription.name);
        let renamed = match rename {
            Some(rename) => {
                Arc::new(Subscription { name: rename.new.clone(), ..(**subscription).clone() })
            }
            None => Arc::clone(subscription),
        };
        let is_other = |(old, new): &(&Arc<Subscription>, &Arc<Subscription>)| {
            new.name == renamed.name
                && old.name != subscription.name
                && (&new.protocol, &new.topic) != (&renamed.protocol, &renamed.topic)
        };
        match self.known.iter().find(is_other) {
            None => Ok(renamed),
            Some((old, _)) => Err(Error::usage(
                format!("names that tell {:?} and {:?} apart", old.name, subscription.name),
                format!("{:?} for both, and different topics", renamed.name),
                "choose another new name for one of them",
            )),
        }
    }
}
