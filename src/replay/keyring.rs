//! Which keys are valid, when they die, and which ones take their place. A pure machine: `now` is how long
//! the server has been ready.
//!
//! Accounts that share a key share its fate, as all topics of a customer do. The feed takes the newest
//! key only, while it lives; validation takes each that there ever was, and answers the newest, a new
//! one if that is dead.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::report::Fate;
use crate::{
    accounts::Account,
    error::{Error, Result},
    protocol::{Key, Making, Protocol},
};

/// So many made-up keys of a holder are known after they have died. The first one, which is in
/// somebody's file, is known for ever.
const REMEMBERED: usize = 100;

/// The keys of all accounts.
#[derive(Debug)]
pub(super) struct Keyring {
    protocol: &'static dyn Protocol,
    holders: Vec<Holder>,
    /// Whose each key is that is known.
    owners: HashMap<Key, usize>,
    /// How long a key lives.
    life: Option<Duration>,
    /// What nobody has been told of yet, in order.
    untold: Vec<Change>,
}

/// The accounts that share a key.
#[derive(Debug)]
struct Holder {
    accounts: Vec<String>,
    customer: String,
    /// The newest.
    key: Key,
    /// It is the one of the file.
    given: bool,
    /// Grows with each key.
    generation: u64,
    state: State,
    /// The newest ones that were made up before it, oldest first.
    earlier: VecDeque<Key>,
}

/// What the newest key of a holder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It lives, until then if it dies by itself.
    Valid {
        until: Option<Duration>,
    },
    Expired,
}

/// The key by which a client was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    holder: usize,
    generation: u64,
}

/// What has become of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub at: Duration,
    pub accounts: Vec<String>,
    pub fate: Fate,
}

impl Keyring {
    /// Every key lives so long from the start, or from when it is given.
    pub(super) fn new(
        accounts: &[Account],
        protocol: &'static dyn Protocol,
        life: Option<Duration>,
    ) -> Self {
        let (mut holders, mut owners) = (Vec::<Holder>::new(), HashMap::new());
        for Account { name, key, .. } in accounts {
            let holder = *owners.entry(key.clone()).or_insert_with(|| {
                let customer = protocol.key_facts(key).customer;
                holders.push(Holder {
                    accounts: Vec::new(),
                    customer: customer.unwrap_or_else(|| name.clone()),
                    key: key.clone(),
                    given: true,
                    generation: 0,
                    state: State::Valid { until: life },
                    earlier: VecDeque::new(),
                });
                holders.len() - 1
            });
            holders[holder].accounts.push(name.clone());
        }
        Self { protocol, holders, owners, life, untold: Vec::new() }
    }

    /// Whether the feed takes a key.
    pub(super) fn is_valid(&self, key: &Key, now: Duration) -> bool {
        self.holder(key).is_some_and(|holder| holder.key == *key && holder.lives(now))
    }

    /// The accounts that a key stands for, dead or alive.
    pub(super) fn accounts(&self, key: &Key) -> &[String] {
        self.holder(key).map_or(&[], |holder| &holder.accounts)
    }

    /// What a client has that was let in by a key. It may have been renewed since it was taken.
    pub(super) fn ticket(&self, key: &Key) -> Option<Ticket> {
        let holder = *self.owners.get(key)?;
        let Holder { key: newest, generation, .. } = &self.holders[holder];
        let renewed = u64::from(newest != key);
        Some(Ticket { holder, generation: generation - renewed })
    }

    /// Whether the key lives by which a client was let in.
    pub(super) fn holds(&self, ticket: Ticket, now: Duration) -> bool {
        let holder = &self.holders[ticket.holder];
        holder.generation == ticket.generation && holder.lives(now)
    }

    /// When that key dies by itself.
    pub(super) fn end(&self, ticket: Ticket) -> Option<Duration> {
        match self.holders[ticket.holder].state {
            State::Valid { until } => until,
            State::Expired => None,
        }
    }

    /// Which key validation answers; None if nobody has this one.
    pub(super) fn validate(&mut self, key: &Key, now: Duration) -> Option<Key> {
        self.settle(now);
        let owner = *self.owners.get(key)?;
        if self.holders[owner].state == State::Expired {
            self.renew(owner, now);
        }
        Some(self.holders[owner].key.clone())
    }

    /// Lets the key of an account die now.
    pub(super) fn expire(&mut self, account: &str, now: Duration) -> Result<()> {
        self.settle(now);
        let has_it = |holder: &&mut Holder| holder.accounts.iter().any(|name| name == account);
        let Some(holder) = self.holders.iter_mut().find(has_it) else {
            let names: Vec<_> = self.holders.iter().flat_map(|holder| &holder.accounts).collect();
            let names = names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let hint = "the accounts are those of the file that --accounts names";
            return Err(Error::usage(format!("one of {names}"), format!("{account:?}"), hint));
        };
        if let State::Valid { .. } = holder.state {
            holder.state = State::Valid { until: Some(now) };
            self.settle(now);
        }
        Ok(())
    }

    /// What has become of keys and nobody has been told of yet, in order.
    pub(super) fn changes(&mut self, now: Duration) -> Vec<Change> {
        self.settle(now);
        std::mem::take(&mut self.untold)
    }

    /// When the next key dies by itself.
    pub(super) fn next_end(&self) -> Option<Duration> {
        let ends = self.holders.iter().filter_map(|holder| match holder.state {
            State::Valid { until } => until,
            State::Expired => None,
        });
        ends.min()
    }

    fn renew(&mut self, owner: usize, now: Duration) {
        let holder = &mut self.holders[owner];
        let key = loop {
            holder.generation += 1;
            let key = holder.make_up(self.protocol);
            // An earlier run may have made up the one that was given.
            if !self.owners.contains_key(&key) {
                break key;
            }
        };
        self.owners.insert(key.clone(), owner);
        let old = std::mem::replace(&mut holder.key, key);
        holder.state = State::Valid { until: self.life.and_then(|life| now.checked_add(life)) };
        // The one that was given is known for ever.
        if !std::mem::take(&mut holder.given) {
            holder.earlier.push_back(old);
        }
        if holder.earlier.len() > REMEMBERED {
            holder.earlier.pop_front().map(|forgotten| self.owners.remove(&forgotten));
        }
        let accounts = holder.accounts.clone();
        self.untold.push(Change { at: now, accounts, fate: Fate::Renewed });
    }

    fn holder(&self, key: &Key) -> Option<&Holder> {
        self.owners.get(key).map(|&holder| &self.holders[holder])
    }

    /// Notes which keys have died by now.
    fn settle(&mut self, now: Duration) {
        let mut died: Vec<_> =
            self.holders.iter_mut().filter_map(|holder| holder.die(now)).collect();
        died.sort_by_key(|change| change.at);
        self.untold.append(&mut died);
    }
}

impl Holder {
    fn lives(&self, now: Duration) -> bool {
        match self.state {
            State::Valid { until } => until.is_none_or(|until| now < until),
            State::Expired => false,
        }
    }

    fn die(&mut self, now: Duration) -> Option<Change> {
        let State::Valid { until: Some(at) } = self.state else { return None };
        if now < at {
            return None;
        }
        self.state = State::Expired;
        Some(Change { at, accounts: self.accounts.clone(), fate: Fate::Expired })
    }

    /// The key of this generation.
    fn make_up(&self, protocol: &dyn Protocol) -> Key {
        let Self { customer, generation, .. } = self;
        let account = &self.accounts[0];
        protocol.made_up_key(&Making { customer, account, generation: *generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::classic::Classic;

    const LIFE: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    /// Two accounts with one key, and one with another.
    fn keyring(life: Option<Duration>) -> Keyring {
        let account = |name: &str, key: Key| Account {
            name: name.to_owned(),
            username: None,
            key,
            topic: "audit".to_owned(),
        };
        let accounts = [
            account("east-audit", key("key-of-east")),
            account("west", key("key-of-west")),
            account("east-apprf", key("key-of-east")),
        ];
        Keyring::new(&accounts, &Classic, life)
    }

    /// What was told: when, of whom, and what.
    fn told(ring: &mut Keyring, now: Duration) -> Vec<(u64, String, Fate)> {
        let changes = ring.changes(now).into_iter();
        changes
            .map(|change| (change.at.as_secs(), change.accounts.join(" "), change.fate))
            .collect()
    }

    #[test]
    fn without_an_end_a_key_lives_for_ever_and_is_validated_with_itself() {
        let mut ring = keyring(None);
        let (east, late) = (key("key-of-east"), Duration::MAX);
        assert!(ring.is_valid(&east, late));
        assert_eq!(ring.validate(&east, late), Some(east.clone()));
        assert_eq!(ring.accounts(&east), ["east-audit", "east-apprf"]);
        assert_eq!(ring.next_end(), None);
        assert_eq!(told(&mut ring, late), []);
        let nobodys = key("key-of-nobody");
        assert!(!ring.is_valid(&nobodys, at(0)));
        assert_eq!(ring.validate(&nobodys, at(0)), None);
        assert_eq!(ring.accounts(&nobodys), [""; 0]);
    }

    #[test]
    fn a_dead_key_is_refused_and_validation_gives_its_successor_every_time() {
        let mut ring = keyring(Some(LIFE));
        let old = key("key-of-east");
        assert!(ring.is_valid(&old, at(9)));
        assert_eq!(ring.validate(&old, at(9)), Some(old.clone()), "it lives");
        assert_eq!(ring.next_end(), Some(at(10)));
        assert!(!ring.is_valid(&old, at(10)));
        let new = ring.validate(&old, at(12)).unwrap();
        assert_ne!(new, old);
        assert!(ring.is_valid(&new, at(12)) && !ring.is_valid(&old, at(12)));
        for known in [&old, &new] {
            assert_eq!(ring.validate(known, at(13)), Some(new.clone()));
            assert_eq!(ring.accounts(known), ["east-audit", "east-apprf"]);
        }
        // It dies in its turn, so long after it was given.
        assert!(ring.is_valid(&new, at(21)) && !ring.is_valid(&new, at(22)));
        let newer = ring.validate(&old, at(30)).unwrap();
        assert!(newer != new && newer != old);
        assert_eq!(ring.validate(&new, at(30)), Some(newer));
        let east = || "east-audit east-apprf".to_owned();
        let expected = [
            (10, east(), Fate::Expired),
            (10, "west".to_owned(), Fate::Expired),
            (12, east(), Fate::Renewed),
            (22, east(), Fate::Expired),
            (30, east(), Fate::Renewed),
        ];
        assert_eq!(told(&mut ring, at(30)), expected);
        assert_eq!(told(&mut ring, at(30)), [], "told once");
    }

    #[test]
    fn the_same_accounts_get_the_same_keys_and_others_get_others() {
        let renewed = |name: &str| {
            let mut ring = keyring(Some(LIFE));
            let first = ring.validate(&key(name), at(10)).unwrap();
            let second = ring.validate(&first, at(20)).unwrap();
            [first, second]
        };
        assert_eq!(renewed("key-of-east"), renewed("key-of-east"));
        let [east, west] = ["key-of-east", "key-of-west"].map(renewed);
        assert!(east[0] != east[1] && east.iter().all(|key| !west.contains(key)));
    }

    #[test]
    fn a_key_that_an_earlier_run_made_up_has_another_successor() {
        let account = |key| {
            let (name, topic) = ("west".to_owned(), "audit".to_owned());
            [Account { name, username: None, key, topic }]
        };
        let renewed = |given: &Key| {
            let mut ring = Keyring::new(&account(given.clone()), &Classic, Some(LIFE));
            ring.validate(given, at(10)).unwrap()
        };
        let given = key("key-of-west");
        let first = renewed(&given);
        // The file had the renewed key, whose customer is the account.
        let second = renewed(&first);
        assert!(second != first && second != given);
        assert_ne!(renewed(&second), second);
    }

    #[test]
    fn an_account_can_be_expired_at_any_time_and_only_with_those_that_share_its_key() {
        let mut ring = keyring(None);
        let (east, west) = (key("key-of-east"), key("key-of-west"));
        ring.expire("east-apprf", at(3)).unwrap();
        // Once more changes nothing.
        ring.expire("east-audit", at(4)).unwrap();
        assert!(!ring.is_valid(&east, at(3)) && ring.is_valid(&west, at(3)));
        let new = ring.validate(&east, at(5)).unwrap();
        assert!(ring.is_valid(&new, at(1_000_000)));
        ring.expire("east-audit", at(6)).unwrap();
        assert!(!ring.is_valid(&new, at(6)));
        let fates = told(&mut ring, at(6)).into_iter().map(|(at, _, fate)| (at, fate));
        let fates: Vec<_> = fates.collect();
        assert_eq!(fates, [(3, Fate::Expired), (5, Fate::Renewed), (6, Fate::Expired)]);
        let error = ring.expire("north", at(7)).unwrap_err();
        assert!(error.is_usage());
        assert_eq!(
            error.to_string(),
            "expected one of east-audit, east-apprf, west, found \"north\""
        );
    }

    #[test]
    fn a_client_is_held_to_the_key_it_came_with() {
        let mut ring = keyring(Some(LIFE));
        let old = key("key-of-east");
        let ticket = ring.ticket(&old).unwrap();
        assert!(ring.holds(ticket, at(9)) && !ring.holds(ticket, at(10)));
        let new = ring.validate(&old, at(11)).unwrap();
        assert!(!ring.holds(ticket, at(11)), "another key lives, not that one");
        // It was taken when it lived, and was renewed before its client had got in.
        assert!(!ring.holds(ring.ticket(&old).unwrap(), at(11)));
        assert!(ring.holds(ring.ticket(&new).unwrap(), at(11)));
        assert_eq!(ring.ticket(&key("key-of-nobody")), None);
    }

    #[test]
    fn the_given_key_is_known_for_ever_and_memory_does_not_grow() {
        let mut ring = keyring(Some(LIFE));
        let given = key("key-of-west");
        let mut keys = vec![given.clone()];
        for round in 1..=300 {
            let newest = keys.last().unwrap().clone();
            keys.push(ring.validate(&newest, at(10 * round)).unwrap());
            ring.changes(at(10 * round));
        }
        let now = at(3000);
        assert_eq!(ring.validate(&given, now).as_ref(), keys.last());
        assert_eq!(ring.validate(&keys[250], now).as_ref(), keys.last());
        assert_eq!(ring.validate(&keys[1], now), None);
        // West's first and newest one and those between, and the one of east.
        assert_eq!(ring.owners.len(), REMEMBERED + 3);
    }
}
