//! What keeps all clocks from starting until enough clients are ready.

use std::collections::{BTreeMap, BTreeSet};

use tokio::{sync::watch, time::Instant};

/// Keeps all clocks from starting until enough clients are ready.
pub(super) struct Hold {
    /// So many clients.
    clients: usize,
    /// At least one for each of these topics.
    topics: BTreeSet<String>,
    house: watch::Sender<House>,
}

struct House {
    /// Clients that have ever been.
    came: usize,
    /// Clients that are here,
    here: usize,
    /// and of these, those that could start at once, by topic. None is zero.
    ready: BTreeMap<String, usize>,
    /// When the hold ended.
    lifted: Option<Instant>,
}

/// When the hold ended, for one client.
#[derive(Clone, Copy)]
pub(super) struct Lifted {
    pub at: Instant,
    /// The client was not ready by then.
    pub late: bool,
}

impl Hold {
    /// Until there are so many clients, and one for each of these topics. With none of both there is
    /// nothing to hold.
    pub(super) fn until(clients: usize, topics: BTreeSet<String>) -> Self {
        let lifted = (clients == 0 && topics.is_empty()).then(Instant::now);
        let house = House { came: 0, here: 0, ready: BTreeMap::new(), lifted };
        Self { clients, topics, house: watch::Sender::new(house) }
    }

    pub(super) fn take_seat(&self, topic: &str) -> Seat<'_> {
        self.house.send_modify(|house| {
            house.came += 1;
            house.here += 1;
        });
        Seat { hold: self, topic: topic.to_owned(), ready: false, late: false }
    }

    /// All that came, and as many as were waited for, have left.
    pub(super) fn is_over(&self) -> bool {
        let house = self.house.borrow();
        house.here == 0 && house.came > 0 && house.lifted.is_some()
    }

    /// When it ended, if it has.
    pub(super) fn at(&self) -> Option<Instant> {
        self.house.borrow().lifted
    }

    fn is_enough(&self, ready: &BTreeMap<String, usize>) -> bool {
        ready.values().sum::<usize>() >= self.clients
            && self.topics.iter().all(|topic| ready.contains_key(topic))
    }
}

/// A client's place. Dropping it frees it.
pub(super) struct Seat<'a> {
    hold: &'a Hold,
    topic: String,
    ready: bool,
    /// It was not before the hold ended.
    late: bool,
}

impl Seat<'_> {
    /// The client could start. That may be the end of the hold.
    pub(super) fn ready(&mut self) {
        if self.ready {
            return;
        }
        self.ready = true;
        self.hold.house.send_modify(|house| {
            self.late = house.lifted.is_some();
            *house.ready.entry(self.topic.clone()).or_default() += 1;
            if house.lifted.is_none() && self.hold.is_enough(&house.ready) {
                house.lifted = Some(Instant::now());
            }
        });
    }

    /// Waits until the hold has ended; says when it did.
    pub(super) async fn lifted(&mut self) -> Lifted {
        self.ready();
        let mut house = self.hold.house.subscribe();
        // Its other end is ours as well: it does not go away.
        let house = house.wait_for(|house| house.lifted.is_some()).await;
        let at = house.ok().and_then(|house| house.lifted).unwrap_or_else(Instant::now);
        Lifted { at, late: self.late }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.hold.house.send_modify(|house| {
            house.here -= 1;
            if self.ready
                && let Some(ready) = house.ready.get_mut(&self.topic)
            {
                *ready -= 1;
                if *ready == 0 {
                    house.ready.remove(&self.topic);
                }
            }
        });
    }
}
