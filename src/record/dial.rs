//! How a subscription gets at the server: for a connection, for another key, and for the connection
//! that takes over while the one before it still brings frames.

use std::{
    panic,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::{sleep_until, timeout},
};

use super::{
    Clock, Keys, Notice, Notify,
    keys::{Held, Slot, Successor},
    turnstile::Turnstile,
};
use crate::{
    entry::{Subscription, Timestamp},
    net::client::{Accepted, Connector},
    protocol::{Ask, Key},
    session::{NotConnected, Renewal},
};

/// Whom to ask, and with what.
pub(super) struct Dialer {
    pub subscription: Arc<Subscription>,
    pub username: Option<String>,
    pub connector: Connector,
    pub turnstile: Arc<Turnstile>,
    pub keys: Arc<Keys>,
    pub slot: Arc<Slot>,
    pub notify: Notify,
    pub clock: Arc<dyn Clock>,
}

impl Dialer {
    /// Opens a connection, when it is this subscription's turn.
    pub(super) async fn connect(&self, key: &Key) -> Result<Accepted, NotConnected> {
        self.turnstile.pass().await;
        let username = self.username.as_deref();
        let ask = Ask { key, topic: &self.subscription.topic, username };
        self.connector.connect(&ask).await
    }

    /// Finds a successor for a key; if there is one, it is in the slot.
    pub(super) async fn renew(&self, key: &Key) -> Renewal {
        let subscription = &self.subscription;
        let ask = async {
            self.turnstile.pass().await;
            self.connector.renew(key).await
        };
        let tell_wait = |time| (self.notify)(Notice::AskingLater { subscription, time });
        let (successor, error) = self.keys.renew(&self.slot, key, tell_wait, ask).await;
        if let Some(error) = &error {
            (self.notify)(Notice::KeyNotWritten { subscription, error });
        }
        match successor {
            Successor::Here => Renewal::NewKey { written_back: self.slot.held().stored },
            Successor::SameKey => Renewal::SameKey,
            Successor::None(reason) => {
                (self.notify)(Notice::KeyNotRenewed { subscription, reason: &reason });
                Renewal::Failed
            }
        }
    }

    /// Opens a connection with a newer key than the one in use, which the server is asked for unless
    /// it is there already.
    async fn succeed(&self, used: &Key) -> Takeover {
        if self.slot.held().key == *used {
            match self.renew(used).await {
                Renewal::NewKey { .. } => {}
                Renewal::SameKey | Renewal::Failed => return Takeover::NoNewKey,
            }
        }
        let held = self.slot.held();
        match self.connect(&held.key).await {
            Ok(accepted) => {
                let since = self.clock.look().wall;
                Takeover::Stands(Box::new(Standing { accepted, held, since }))
            }
            Err(error) => Takeover::NotConnected(error),
        }
    }
}

/// What came of an attempt to take over.
pub(super) enum Takeover {
    /// The key in use is the newest there is.
    NoNewKey,
    /// There is a newer one, but no connection with it.
    NotConnected(NotConnected),
    /// The next connection is there.
    Stands(Box<Standing>),
}

/// A connection that nobody has read from yet.
pub(super) struct Standing {
    pub accepted: Accepted,
    /// The key that it was made with.
    pub held: Held,
    pub since: Timestamp,
}

/// Looks after the key of a connection that is up.
pub(super) struct KeyCare {
    dialer: Arc<Dialer>,
    used: Key,
    /// When to look for a newer key.
    look_at: Option<Instant>,
    changes: watch::Receiver<Held>,
    /// One at the most. It goes on by itself: whoever looks after the key may be busy with frames, and in an
    /// attempt that stands still others wait for the same turnstile, and for the same answer.
    attempt: JoinSet<Takeover>,
}

impl KeyCare {
    pub(super) fn new(dialer: &Arc<Dialer>, used: &Key) -> Self {
        let changes = dialer.slot.changes();
        // It may have changed while the connection was being made.
        let look_at = (changes.borrow().key != *used).then(Instant::now);
        let (dialer, attempt) = (Arc::clone(dialer), JoinSet::new());
        Self { dialer, used: used.clone(), look_at, changes, attempt }
    }

    /// Looks after so much time, if not before.
    pub(super) fn look_in(&mut self, time: Duration) {
        let at = Instant::now().checked_add(time);
        self.look_at = self.look_at.into_iter().chain(at).min();
    }

    /// Waits until it is time, or another key is there, and tries to take over; nothing more is tried
    /// after that until [`look_in`](Self::look_in) says when, or the key changes. Dropping the future
    /// loses nothing.
    pub(super) async fn next(&mut self) -> Takeover {
        let takeover = loop {
            if let Some(ended) = self.attempt.join_next().await {
                // Nobody aborts it.
                break ended
                    .map_err(JoinError::into_panic)
                    .unwrap_or_else(|it| panic::resume_unwind(it));
            }
            tokio::select! {
                () = until(self.look_at) => {}
                _ = self.changes.changed() => {}
            }
            let (dialer, used) = (Arc::clone(&self.dialer), self.used.clone());
            self.attempt.spawn(async move { dialer.succeed(&used).await });
        };
        self.look_at = None;
        self.changes.mark_unchanged();
        takeover
    }

    /// The connection has ended by itself. Where the next one is being made already, waits a little for
    /// that: a server may allow only one, and have ended the old one for the sake of the new.
    pub(super) async fn last_chance(mut self, wait: Duration) -> Option<Box<Standing>> {
        if self.attempt.is_empty() {
            return None;
        }
        match timeout(wait, self.next()).await {
            Ok(Takeover::Stands(standing)) => Some(standing),
            _ => None,
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        net::{
            client::Endpoint,
            trust::{Trust, client_config},
        },
        protocol::PROTOCOLS,
        record::{KeySource, SystemClock},
    };

    #[tokio::test]
    async fn whoever_is_busy_with_frames_holds_up_nobody_at_the_turnstile() {
        let protocol = PROTOCOLS[0];
        // Nobody listens there.
        let host = "127.0.0.1".to_owned();
        let endpoint = Endpoint { secure: false, host, port: 9, path: None };
        let subscription = Arc::new(Subscription {
            name: "campus".to_owned(),
            protocol: protocol.name().to_owned(),
            topic: "audit".to_owned(),
            host: endpoint.authority(),
        });
        let keys = Arc::new(Keys::new(protocol, KeySource::Memory));
        let tls = client_config(Trust::Anybody).unwrap();
        let dialer = Arc::new(Dialer {
            subscription,
            username: None,
            connector: Connector::new(endpoint, protocol, tls, 1024),
            turnstile: Arc::new(Turnstile::default()),
            slot: keys.add(Key::new("synthetic-newer").unwrap()),
            keys,
            notify: Arc::new(|_| {}),
            clock: Arc::new(SystemClock::new()),
        });
        while timeout(Duration::ZERO, dialer.turnstile.pass()).await.is_ok() {}

        let mut care = KeyCare::new(&dialer, &Key::new("synthetic-older").unwrap());
        // It waits for its turn, and then frames come.
        assert!(timeout(Duration::from_millis(50), care.next()).await.is_err());
        let passed = timeout(Duration::from_secs(20), dialer.turnstile.pass()).await;
        assert!(passed.is_ok(), "nobody else has a turn");
        assert!(matches!(care.next().await, Takeover::NotConnected(_)));
    }
}
