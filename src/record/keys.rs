//! The keys in use, how often the server is asked about them, and where renewed ones go.
//!
//! Each subscription has a [`Slot`] that holds its key and says when there is another one. Subscriptions
//! of one customer share what they learn: one of them asks at a time, at most once a minute, and the
//! others wait for its answer.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    accounts,
    error::{Error, Kind, Result},
    protocol::{Key, Protocol},
};

/// How long a customer is left alone after the server was asked about its key.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// Where keys came from, and where a renewed one is written back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The vendor's input file.
    InputFile(PathBuf),
    /// A file with one key in it.
    KeyFile(PathBuf),
    /// Somewhere that cannot be written to, such as the environment: a renewed key lives until the
    /// recording ends.
    Memory,
}

impl KeySource {
    fn replace(&self, old: &Key, new: &Key) -> Result<bool> {
        match self {
            Self::InputFile(path) => accounts::replace_key(path, old, new),
            Self::KeyFile(path) => accounts::replace_only_key(path, old, new),
            Self::Memory => Ok(false),
        }
    }

    /// Deletes what a killed recorder may have left beside the file.
    pub(super) fn tidy(&self) -> Result<()> {
        match self {
            Self::InputFile(path) | Self::KeyFile(path) => accounts::remove_left_over(path),
            Self::Memory => Ok(()),
        }
    }
}

/// The keys of all subscriptions. Several may share one, and all learn of its successor.
#[derive(Debug)]
pub(super) struct Keys {
    protocol: &'static dyn Protocol,
    source: KeySource,
    slots: Mutex<Vec<Arc<Slot>>>,
    customers: Mutex<HashMap<CustomerId, Arc<Customer>>>,
    /// One file, one writer at a time.
    writing: tokio::sync::Mutex<()>,
}

/// The key of one subscription.
#[derive(Debug)]
pub(super) struct Slot {
    held: watch::Sender<Held>,
}

/// A key, and what is known about it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub key: Key,
    /// It is where the next run will look for it.
    pub stored: bool,
    customer: Arc<Customer>,
}

impl Slot {
    /// What is held right now.
    pub(super) fn held(&self) -> Held {
        self.held.borrow().clone()
    }

    /// Says when there is another key.
    pub(super) fn changes(&self) -> watch::Receiver<Held> {
        self.held.subscribe()
    }
}

/// Whom a key belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum CustomerId {
    Named(String),
    /// The key does not say; whoever has the same key is the same customer.
    Unnamed(Key),
}

/// What the subscriptions of a customer share. Whoever asks the server has the lock.
#[derive(Debug, Default)]
struct Customer {
    asked: tokio::sync::Mutex<Option<Asked>>,
}

/// When the server was last asked, about which key, and which key it gave, the same one while that is
/// still good; or why it gave none.
#[derive(Clone, Debug)]
struct Asked {
    at: Instant,
    key: Key,
    answer: Result<Key, String>,
}

/// What to do about a key that is in doubt.
#[derive(Debug, PartialEq, Eq)]
enum Advice {
    Ask,
    /// It was asked about a moment ago.
    Share(Result<Key, String>),
    /// Another key of the customer was.
    Wait(Duration),
}

fn advice(asked: Option<&Asked>, key: &Key, now: Instant) -> Advice {
    let Some(asked) = asked else { return Advice::Ask };
    let left = ASK_EVERY.saturating_sub(now.saturating_duration_since(asked.at));
    if left.is_zero() {
        Advice::Ask
    } else if asked.key == *key {
        Advice::Share(asked.answer.clone())
    } else {
        Advice::Wait(left)
    }
}

/// What came of asking for a key's successor.
#[derive(Debug)]
pub(super) enum Successor {
    /// The slot holds another key by now.
    Here,
    /// The server says that the key is still good.
    SameKey,
    /// The server gave no key.
    None(String),
}

impl Keys {
    pub(super) fn new(protocol: &'static dyn Protocol, source: KeySource) -> Self {
        Self {
            protocol,
            source,
            slots: Mutex::default(),
            customers: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        }
    }

    /// A place for the key of one more subscription.
    pub(super) fn add(&self, key: Key) -> Arc<Slot> {
        let (held, _) = watch::channel(self.given(key));
        let slot = Arc::new(Slot { held });
        lock(&self.slots).push(Arc::clone(&slot));
        slot
    }

    /// Takes the key that the user has put in the place of the one given before, if it is another. Says
    /// whether it is in use only since now.
    pub(super) fn give(&self, slot: &Slot, given: &mut Key, key: &Key) -> bool {
        // What was renewed and could not be written back is newer than what the file says.
        if given == key {
            return false;
        }
        given.clone_from(key);
        let held = self.given(key.clone());
        slot.held.send_if_modified(|before| {
            let is_new = before.key != held.key;
            if is_new {
                *before = held;
            }
            is_new
        })
    }

    /// A subscription is no more.
    pub(super) fn remove(&self, slot: &Arc<Slot>) {
        lock(&self.slots).retain(|other| !Arc::ptr_eq(other, slot));
    }

    /// As long as the guard lives, no key is written back.
    pub(super) async fn not_while_writing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.writing.lock().await
    }

    fn given(&self, key: Key) -> Held {
        let id = match self.protocol.key_facts(&key).customer {
            Some(name) => CustomerId::Named(name),
            None => CustomerId::Unnamed(key.clone()),
        };
        let customer = Arc::clone(lock(&self.customers).entry(id).or_default());
        Held { key, stored: true, customer }
    }

    /// Finds a successor for a key that is in doubt: lets `ask` ask the server, or shares what it has just said
    /// to another subscription of the customer. Where that has to wait, `tell_wait` is told for how long. An error
    /// says that the successor, which is in use, could not be stored.
    ///
    /// Dropping the future drops the question, but never a half-stored key.
    pub(super) async fn renew(
        self: &Arc<Self>,
        slot: &Slot,
        doubted: &Key,
        tell_wait: impl Fn(Duration),
        ask: impl Future<Output = Result<Key, String>>,
    ) -> (Successor, Option<Error>) {
        let customer = slot.held().customer;
        let mut asked = customer.asked.lock().await;
        let answer = loop {
            // Whoever had the lock before may have brought it.
            if slot.held().key != *doubted {
                return (Successor::Here, None);
            }
            let note = |answer| Some(Asked { at: Instant::now(), key: doubted.clone(), answer });
            match advice(asked.as_ref(), doubted, Instant::now()) {
                Advice::Share(answer) => break answer,
                Advice::Wait(time) => {
                    tell_wait(time);
                    tokio::time::sleep(time).await;
                }
                Advice::Ask => {
                    // What is dropped half-way has been asked all the same.
                    *asked = note(Err("the question was given up".to_owned()));
                    let answer = ask.await;
                    *asked = note(answer.clone());
                    break answer;
                }
            }
        };
        match answer {
            Err(reason) => (Successor::None(reason), None),
            Ok(new) if new == *doubted => (Successor::SameKey, None),
            Ok(new) => (Successor::Here, self.replace(doubted, &new).await),
        }
    }

    /// Puts a new key in the place of an old one, in all slots and where it came from.
    async fn replace(self: &Arc<Self>, old: &Key, new: &Key) -> Option<Error> {
        let keys = Arc::clone(self);
        let (old, new) = (old.clone(), new.clone());
        // On a task of its own, so that nobody who is dropped leaves it half done.
        let replacing = tokio::spawn(async move {
            let _one_at_a_time = keys.writing.lock().await;
            let source = keys.source.clone();
            let pair = (old.clone(), new.clone());
            let stored = tokio::task::spawn_blocking(move || source.replace(&pair.0, &pair.1));
            let stored = stored.await.unwrap_or_else(|_| Err(panicked()));
            for slot in lock(&keys.slots).iter() {
                slot.held.send_if_modified(|held| {
                    let is_old = held.key == old;
                    if is_old {
                        held.key = new.clone();
                        held.stored = matches!(stored, Ok(true));
                    }
                    is_old
                });
            }
            stored.err()
        });
        replacing.await.unwrap_or_else(|_| Some(panicked()))
    }
}

fn panicked() -> Error {
    Kind::Internal { reason: "storing a key panicked".to_owned() }.into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half changed by whoever panics with one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[test]
    fn a_customer_is_asked_about_at_most_once_a_minute() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let (this, other) = (key("synthetic-this"), key("synthetic-other"));
        assert_eq!(advice(None, &this, start), Advice::Ask);
        for answer in [Ok(key("synthetic-next")), Err("status 503".to_owned())] {
            let asked = Asked { at: start, key: this.clone(), answer: answer.clone() };
            let advice = |key, seconds| advice(Some(&asked), key, after(seconds));
            assert_eq!(advice(&this, 0), Advice::Share(answer.clone()));
            assert_eq!(advice(&this, 59), Advice::Share(answer));
            assert_eq!(advice(&other, 45), Advice::Wait(Duration::from_secs(15)));
            assert_eq!(advice(&this, 60), Advice::Ask);
            assert_eq!(advice(&other, 60), Advice::Ask);
        }
    }
}
