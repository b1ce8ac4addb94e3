//! The keys of a server that runs: a [`Keyring`] with a clock.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    Options,
    keyring::{Change, Keyring, Ticket},
    report::KeyChange,
    until,
};
use crate::{
    entry::Timestamp,
    error::{Error, Result},
    protocol::{Key, Protocol},
};

/// When keys die, and what becomes then of those who are connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expiry {
    /// Each key lives so long from when the server is ready, or from the renewal that gave it.
    pub after: Option<Duration>,
    /// The keys of these accounts are dead from the start.
    pub accounts: Vec<String>,
    /// Who is connected by a key that dies.
    pub connections: AtExpiry,
}

/// What becomes of a connection when its key dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtExpiry {
    /// Nothing.
    #[default]
    Keep,
    /// It is closed with this code.
    Close {
        /// The code, whether RFC 6455 allows it or not.
        code: u16,
    },
}

impl AtExpiry {
    /// The code of a close for which none is named: a policy was violated (RFC 6455, section 7.4.1).
    const CODE: u16 = 1008;
}

/// `keep`, `close` or `close:4001`.
impl FromStr for AtExpiry {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (word, code) =
            text.split_once(':').map_or((text, None), |(word, code)| (word, Some(code)));
        let parsed = match (word, code) {
            ("keep", None) => Some(Self::Keep),
            ("close", None) => Some(Self::Close { code: Self::CODE }),
            ("close", Some(code)) => code.parse().ok().map(|code| Self::Close { code }),
            _ => None,
        };
        parsed.ok_or_else(|| {
            let hint = "close:1008 closes with the code 1008, which is also that of a mere close";
            Error::usage("keep, close or close:CODE", format!("{text:?}"), hint)
        })
    }
}

/// The keys of a server, which a test may let die at any time. Clones are of the same keys.
#[derive(Clone)]
pub struct Keys(Arc<Shared>);

struct Shared {
    ring: Mutex<Keyring>,
    /// When the server was ready.
    ready: Instant,
    /// The same by the wall clock.
    began: Timestamp,
    connections: AtExpiry,
    /// That something has become of a key.
    changed: watch::Sender<()>,
}

impl Keys {
    /// None if any key will do. It is now that the server is ready.
    pub(super) fn of(options: &Options, protocol: &'static dyn Protocol) -> Result<Option<Self>> {
        let Expiry { after, accounts: dead, connections } = &options.expiry;
        let Some(accounts) = &options.accounts else {
            if after.is_none() && dead.is_empty() {
                return Ok(None);
            }
            let hint = "name the file with the accounts whose keys are to expire: --accounts FILE";
            return Err(Error::usage("accounts", "none, and keys that expire", hint));
        };
        let mut ring = Keyring::new(accounts, protocol, *after);
        for account in dead {
            ring.expire(account, Duration::ZERO)?;
        }
        Ok(Some(Self(Arc::new(Shared {
            ring: Mutex::new(ring),
            ready: Instant::now(),
            began: Timestamp::now(),
            connections: *connections,
            changed: watch::Sender::new(()),
        }))))
    }

    /// Lets the key of an account die now, and with it those of all accounts that share it. Nothing happens
    /// if it is dead already. Fails if there is no such account.
    pub fn expire(&self, account: &str) -> Result<()> {
        self.ring().expire(account, self.now())?;
        self.0.changed.send_replace(());
        Ok(())
    }

    /// Whether the feed takes a key.
    pub(super) fn take(&self, key: &Key) -> bool {
        self.ring().is_valid(key, self.now())
    }

    /// Which key validation answers.
    pub(super) fn validate(&self, key: &Key) -> Option<Key> {
        let answer = self.ring().validate(key, self.now());
        self.0.changed.send_replace(());
        answer
    }

    /// The accounts that a key stands for, and what whoever comes with it is held to.
    pub(super) fn admit(&self, key: &Key) -> (Vec<String>, Option<Ticket>) {
        let ring = self.ring();
        (ring.accounts(key).to_vec(), ring.ticket(key))
    }

    /// Waits until something has become of keys. Dropping the future misses nothing.
    pub(super) async fn changes(&self) -> Vec<KeyChange> {
        let mut changed = self.0.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let changes = self.changes_so_far();
            if !changes.is_empty() {
                return changes;
            }
            let next = self.ring().next_end();
            self.wait(&mut changed, next).await;
        }
    }

    pub(super) fn changes_so_far(&self) -> Vec<KeyChange> {
        let changes = self.ring().changes(self.now());
        let dated = |Change { at, accounts, fate }| KeyChange {
            at: self.0.began.after(at),
            fate,
            accounts,
        };
        changes.into_iter().map(dated).collect()
    }

    /// Completes when a client that came with a ticket is to be closed, and says with which code.
    pub(super) async fn end_of(&self, ticket: Ticket) -> u16 {
        let AtExpiry::Close { code } = self.0.connections else {
            return std::future::pending().await;
        };
        let mut changed = self.0.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let end = {
                let ring = self.ring();
                if !ring.holds(ticket, self.now()) {
                    return code;
                }
                ring.end(ticket)
            };
            self.wait(&mut changed, end).await;
        }
    }

    /// Waits until something has become of a key, or is about to by itself.
    async fn wait(&self, changed: &mut watch::Receiver<()>, end: Option<Duration>) {
        tokio::select! {
            _ = changed.changed() => {}
            () = until(end.and_then(|end| self.0.ready.checked_add(end))) => {}
        }
    }

    fn now(&self) -> Duration {
        self.0.ready.elapsed()
    }

    fn ring(&self) -> MutexGuard<'_, Keyring> {
        // Nothing is left half changed by whoever panics with it.
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_a_connection_is_said_in_a_word() {
        for (text, expected) in [
            ("keep", AtExpiry::Keep),
            ("close", AtExpiry::Close { code: 1008 }),
            ("close:4001", AtExpiry::Close { code: 4001 }),
        ] {
            assert_eq!(text.parse::<AtExpiry>().unwrap(), expected, "{text}");
        }
        for text in ["", "keep:1", "close:", "close:65536", "close:-1", "Close", "reset"] {
            let error = text.parse::<AtExpiry>().unwrap_err();
            assert!(error.is_usage() && error.hint().is_some(), "{text}");
        }
    }
}
