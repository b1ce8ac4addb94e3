//! All subscriptions of a recording: who is wanted, who runs, and what becomes of the difference.
//!
//! A name that comes back continues where it left off: its connections are counted on, and the time
//! in between is a gap that somebody asked for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::watch, task::JoinSet};

use super::{
    Board, Clock, Notice, Notify,
    clock::Watch,
    dial::Dialer,
    earlier::Earlier,
    keeper::Keeper,
    keys::{Keys, Slot},
    subscriber::{Finished, Stop, Subscriber},
    turnstile::Turnstile,
};
use crate::{
    accounts::Account,
    entry::{Subscription, session_event::Event},
    net::client::Connector,
    protocol::{Key, Protocol},
    schema::FrameTypes,
    session::Session,
};

/// What subscriptions have in common.
pub(super) struct Common {
    pub protocol: &'static dyn Protocol,
    pub types: FrameTypes,
    /// The endpoint's `host` or `host:port`.
    pub host: String,
    pub connector: Connector,
    pub turnstile: Arc<Turnstile>,
    pub keys: Arc<Keys>,
    pub keeper: Keeper,
    pub board: Arc<Board>,
    pub hopeless: Arc<Hopeless>,
    pub notify: Notify,
    pub stop: watch::Receiver<bool>,
    pub once: bool,
    pub clock: Arc<dyn Clock>,
    /// What earlier recordings covered.
    pub earlier: Earlier,
}

/// All of them.
pub(super) struct Subscribers {
    common: Common,
    wanted: Vec<Account>,
    running: HashMap<String, Running>,
    /// The sessions of those who left, by name.
    left: HashMap<String, Session>,
    tasks: JoinSet<Finished>,
    panicked: bool,
}

struct Running {
    index: usize,
    subscription: Arc<Subscription>,
    username: Option<String>,
    slot: Arc<Slot>,
    /// The key that the user gave, which may have been renewed since.
    given: Key,
    leave: watch::Sender<bool>,
}

impl Running {
    /// Only the key may differ.
    fn is(&self, account: &Account) -> bool {
        self.subscription.topic == account.topic && self.username == account.username
    }
}

impl Subscribers {
    /// Starts everybody.
    pub(super) fn start(common: Common, wanted: Vec<Account>) -> Self {
        let (running, left) = (HashMap::new(), HashMap::new());
        let mut all =
            Self { common, wanted, running, left, tasks: JoinSet::new(), panicked: false };
        all.start_missing(|_| {});
        all
    }

    /// Other subscriptions are wanted from now on.
    pub(super) fn follow(&mut self, wanted: Vec<Account>) {
        self.wanted = wanted;
        for (name, running) in &mut self.running {
            match self.wanted.iter().find(|account| account.name == *name) {
                Some(account) if running.is(account) => {
                    if self.common.keys.give(&running.slot, &mut running.given, &account.key) {
                        let subscription = &running.subscription;
                        (self.common.notify)(Notice::KeyGiven { subscription });
                    }
                }
                // With another topic, the next one waits until this one has ended.
                _ => {
                    let is_leaving = running.leave.send_replace(true);
                    if !is_leaving {
                        let subscription = &running.subscription;
                        (self.common.notify)(Notice::Removed { subscription });
                    }
                }
            }
        }
        self.tell_and_start_missing();
    }

    /// Waits until one has ended. False: none is left. Dropping the future loses nothing.
    pub(super) async fn next_end(&mut self) -> bool {
        match self.tasks.join_next().await {
            None => return false,
            Some(Err(_)) => self.panicked = true,
            Some(Ok(Finished { name, session, left: false })) => drop((name, session)),
            Some(Ok(Finished { name, session, left: true })) => {
                if let Some(gone) = self.running.remove(&name) {
                    self.common.keys.remove(&gone.slot);
                    self.common.hopeless.remove(gone.index);
                }
                self.left.insert(name, session);
                self.tell_and_start_missing();
            }
        }
        true
    }

    /// Waits until all have ended, which have been asked to, and says whether one panicked.
    pub(super) async fn finish(mut self) -> bool {
        self.wanted.clear();
        while self.next_end().await {}
        self.panicked
    }

    /// It is gone, and nobody starts it again.
    pub(super) const fn one_panicked(&self) -> bool {
        self.panicked
    }

    fn tell_and_start_missing(&mut self) {
        let notify = Arc::clone(&self.common.notify);
        self.start_missing(|subscription| notify(Notice::Added { subscription }));
    }

    fn start_missing(&mut self, tell: impl Fn(&Subscription)) {
        // All are known before the first one runs: two that are refused are not all there is.
        let mut starting = Vec::new();
        for account in std::mem::take(&mut self.wanted) {
            if !self.running.contains_key(&account.name) {
                let (subscriber, running) = self.subscriber(account.clone());
                tell(&running.subscription);
                self.running.insert(account.name.clone(), running);
                starting.push(subscriber);
            }
            self.wanted.push(account);
        }
        for subscriber in starting {
            self.tasks.spawn(subscriber.run());
        }
    }

    fn subscriber(&mut self, account: Account) -> (Subscriber, Running) {
        let common = &self.common;
        let Account { name, username, key, topic } = account;
        let left = self.left.remove(&name);
        // Who was here before has heard of it.
        let earlier = left.is_none().then(|| common.earlier.clone());
        let session = left.unwrap_or_else(|| Session::new(common.protocol, fastrand::u64(..)));
        let index = common.board.add(&name);
        common.hopeless.add(index);
        let (protocol, host) = (common.protocol.name().to_owned(), common.host.clone());
        let subscription = Arc::new(Subscription { name, protocol, topic, host });
        let slot = common.keys.add(key.clone());
        let hopeless = Arc::clone(&common.hopeless);
        let notify: Notify = Arc::new(move |notice| hopeless.notice(index, notice));
        let dialer = Dialer {
            subscription: Arc::clone(&subscription),
            username: username.clone(),
            connector: common.connector.clone(),
            turnstile: Arc::clone(&common.turnstile),
            keys: Arc::clone(&common.keys),
            slot: Arc::clone(&slot),
            notify: Arc::clone(&notify),
            clock: Arc::clone(&common.clock),
        };
        let (leave, leaves) = watch::channel(false);
        let subscriber = Subscriber {
            index,
            subscription: Arc::clone(&subscription),
            protocol: common.protocol,
            session,
            types: common.types.clone(),
            dialer: Arc::new(dialer),
            used: key.clone(),
            keeper: common.keeper.clone(),
            board: Arc::clone(&common.board),
            notify,
            stop: Stop { all: common.stop.clone(), own: leaves },
            once: common.once,
            watch: Watch::new(Arc::clone(&common.clock)),
            first: Vec::new(),
            earlier,
        };
        (subscriber, Running { index, subscription, username, slot, given: key, leave })
    }
}

/// Ends a recording that can come to nothing: everybody was refused for good, and nobody was ever
/// connected. A mistyped key should not look like a quiet feed.
pub(super) struct Hopeless {
    refused: Mutex<HashMap<usize, bool>>,
    notify: Notify,
    stop: watch::Sender<bool>,
}

impl Hopeless {
    pub(super) fn new(notify: Notify, stop: watch::Sender<bool>) -> Arc<Self> {
        Arc::new(Self { refused: Mutex::default(), notify, stop })
    }

    fn add(&self, index: usize) {
        self.lock().insert(index, false);
    }

    fn remove(&self, index: usize) {
        self.lock().remove(&index);
    }

    fn notice(&self, index: usize, notice: Notice<'_>) {
        let hopeless = match &notice {
            Notice::Waiting { hopeless, .. } => *hopeless,
            Notice::Event { event, .. } if matches!(event.event, Some(Event::Connected(_))) => {
                false
            }
            _ => return (self.notify)(notice),
        };
        let mut refused = self.lock();
        refused.insert(index, hopeless);
        let all_are = refused.values().all(|&refused| refused);
        drop(refused);
        match notice {
            Notice::Waiting { subscription, .. } if all_are => {
                (self.notify)(Notice::AllRefused { subscription });
                self.stop.send_replace(true);
            }
            notice => (self.notify)(notice),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<usize, bool>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::entry::{SessionEvent, session_event::Connected};

    #[test]
    fn who_was_connected_has_hope_again() {
        let (stop, stopped) = watch::channel(false);
        let hopeless = Hopeless::new(Arc::new(|_| {}), stop);
        let subscription = Subscription::to_audit("campus");
        let refused = |index| {
            let time = Duration::from_secs(60);
            let subscription = &subscription;
            hopeless.notice(index, Notice::Waiting { subscription, time, hopeless: true });
        };
        (0..2).for_each(|index| hopeless.add(index));
        refused(0);
        let event = Some(Event::Connected(Connected::default()));
        let event = &SessionEvent { connection: 1, event };
        hopeless.notice(0, Notice::Event { subscription: &subscription, event });
        refused(1);
        assert!(!*stopped.borrow());
        refused(0);
        assert!(*stopped.borrow());
    }
}
