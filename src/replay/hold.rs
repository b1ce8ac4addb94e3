//! What keeps all clocks from starting until enough clients are ready.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::error::counted;

/// Clients wait before they connect again: whoever was cut off is waited for so long.
const RETURNERS: Duration = Duration::from_secs(10);

/// Keeps all clocks from starting until enough clients are ready.
pub(super) struct Hold {
    /// So many clients.
    clients: usize,
    /// At least one for each of these topics.
    topics: BTreeSet<String>,
    crowd: watch::Sender<Crowd>,
}

struct Crowd {
    /// Clients that have ever been.
    came: usize,
    /// Clients that are here,
    here: usize,
    /// and of these, those that could start at once, by topic. None is zero.
    ready: BTreeMap<String, usize>,
    /// When the hold ended.
    lifted: Option<Instant>,
    /// Those who were cut off and are not back: their topic and, when they have left, until when they
    /// are waited for.
    cut: Vec<(String, Option<Instant>)>,
    /// When the last one left.
    left: Instant,
}

impl Crowd {
    /// One for this topic could not start any more, if it could.
    fn not_ready(&mut self, topic: &str, was_ready: bool) {
        if was_ready && let Some(ready) = self.ready.get_mut(topic) {
            *ready -= 1;
            if *ready == 0 {
                self.ready.remove(topic);
            }
        }
    }
}

/// Nobody is here any more.
#[derive(Clone, Copy)]
pub(super) struct Over {
    pub since: Instant,
    /// Somebody who was cut off may come back until then.
    pub returners: Option<Instant>,
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
        let (ready, cut, left) = (BTreeMap::new(), Vec::new(), Instant::now());
        let crowd = Crowd { came: 0, here: 0, ready, lifted, cut, left };
        Self { clients, topics, crowd: watch::Sender::new(crowd) }
    }

    pub(super) fn take_seat(&self, topic: &str) -> Seat<'_> {
        self.crowd.send_modify(|crowd| {
            crowd.came += 1;
            crowd.here += 1;
            // It may be the one who was cut off.
            if let Some(back) = crowd.cut.iter().position(|(cut, _)| cut == topic) {
                crowd.cut.remove(back);
            }
        });
        Seat { hold: self, topic: topic.to_owned(), ready: false, late: false }
    }

    /// Says so if all that came, and as many as were waited for, have left.
    pub(super) fn over(&self, now: Instant) -> Option<Over> {
        let crowd = self.crowd.borrow();
        let over = crowd.here == 0 && crowd.came > 0 && crowd.lifted.is_some();
        let returners =
            crowd.cut.iter().filter_map(|&(_, until)| until).filter(|&until| until > now);
        let returners = returners.max();
        over.then_some(Over { since: crowd.left, returners })
    }

    /// When it ended, if it has.
    pub(super) fn at(&self) -> Option<Instant> {
        self.crowd.borrow().lifted
    }

    /// What it still waits for, in words; None when it has ended.
    pub(super) fn awaits(&self) -> Option<String> {
        let crowd = self.crowd.borrow();
        if crowd.lifted.is_some() {
            return None;
        }
        let ready: usize = crowd.ready.values().sum();
        let clients = format!("{ready} of {}", counted(self.clients as u64, "client"));
        let clients = (ready < self.clients).then_some(clients);
        let topics = self.topics.iter().filter(|topic| !crowd.ready.contains_key(*topic));
        let nobody = topics.map(|topic| format!("nobody of {topic}"));
        Some(clients.into_iter().chain(nobody).collect::<Vec<_>>().join(", "))
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
    /// The client is about to be cut off, and may come back. It could not start any more.
    pub(super) fn cut(&mut self) {
        self.hold.crowd.send_modify(|crowd| {
            crowd.cut.push((self.topic.clone(), None));
            crowd.not_ready(&self.topic, std::mem::take(&mut self.ready));
        });
    }

    /// The client could start. That may be the end of the hold.
    pub(super) fn ready(&mut self) {
        if self.ready {
            return;
        }
        self.ready = true;
        self.hold.crowd.send_modify(|crowd| {
            self.late = crowd.lifted.is_some();
            *crowd.ready.entry(self.topic.clone()).or_default() += 1;
            if crowd.lifted.is_none() && self.hold.is_enough(&crowd.ready) {
                crowd.lifted = Some(Instant::now());
            }
        });
    }

    /// Waits until the hold has ended; says when it did.
    pub(super) async fn lifted(&mut self) -> Lifted {
        self.ready();
        let mut crowd = self.hold.crowd.subscribe();
        // Its other end is ours as well: it does not go away.
        let crowd = crowd.wait_for(|crowd| crowd.lifted.is_some()).await;
        let at = crowd.ok().and_then(|crowd| crowd.lifted).unwrap_or_else(Instant::now);
        Lifted { at, late: self.late }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.hold.crowd.send_modify(|crowd| {
            crowd.here -= 1;
            crowd.left = Instant::now();
            let mut cut = crowd.cut.iter_mut();
            if let Some((_, until)) =
                cut.find(|(topic, until)| *topic == self.topic && until.is_none())
            {
                *until = Some(crowd.left + RETURNERS);
            }
            crowd.not_ready(&self.topic, self.ready);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn returners(hold: &Hold) -> Option<Duration> {
        let over = hold.over(Instant::now()).expect("nobody is here");
        over.returners.map(|until| until - Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn each_who_was_cut_off_is_waited_for_from_when_it_left() {
        let hold = Hold::until(0, BTreeSet::new());
        assert!(hold.over(Instant::now()).is_none(), "nobody has been");
        let mut first = hold.take_seat("audit");
        first.cut();
        tokio::time::advance(Duration::from_secs(60)).await;
        drop(first);
        assert_eq!(returners(&hold), Some(RETURNERS));
        tokio::time::advance(Duration::from_secs(4)).await;
        // Somebody else comes and goes.
        drop(hold.take_seat("presence"));
        assert_eq!(returners(&hold), Some(Duration::from_secs(6)));
        // It is back, and is cut off once more.
        let mut again = hold.take_seat("audit");
        assert!(hold.over(Instant::now()).is_none());
        again.cut();
        drop(again);
        assert_eq!(returners(&hold), Some(RETURNERS));
        // It is back, and leaves by itself.
        drop(hold.take_seat("audit"));
        assert_eq!(returners(&hold), None);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_back_before_it_has_left_is_not_waited_for() {
        let hold = Hold::until(0, BTreeSet::new());
        let mut first = hold.take_seat("audit");
        first.cut();
        let second = hold.take_seat("audit");
        drop(first);
        drop(second);
        assert_eq!(returners(&hold), None);
    }

    #[test]
    fn whoever_says_goodbye_to_who_is_cut_off_does_not_count_it() {
        let hold = Hold::until(2, BTreeSet::new());
        let mut first = hold.take_seat("audit");
        first.ready();
        first.cut();
        let mut second = hold.take_seat("audit");
        second.ready();
        assert!(hold.at().is_none(), "there is one client");
        drop(first);
        let mut third = hold.take_seat("presence");
        third.ready();
        assert!(hold.at().is_some());
    }
}
