//! What a client under control hears of, and tells of itself.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};

use super::{
    super::Timeline,
    house::House,
    orders::{Change, Order, Origin},
};
use crate::pace::{Pace, Position};

/// What ties a client to its house. Dropping it is leaving.
pub(in crate::replay) struct Ties {
    house: Arc<House>,
    id: u64,
    orders: mpsc::Receiver<Order>,
    /// As many as it has heard of.
    leaps: u64,
    resets: u64,
}

impl Ties {
    pub(super) const fn new(
        house: Arc<House>,
        id: u64,
        orders: mpsc::Receiver<Order>,
        resets: u64,
    ) -> Self {
        Self { house, id, orders, leaps: 0, resets }
    }

    /// Where a client begins that has not begun.
    pub(in crate::replay) fn origin(&self) -> Option<Origin> {
        self.house.board().visitors.get(&self.id).and_then(|visitor| visitor.origin)
    }

    /// It could get its first frame at once.
    pub(in crate::replay) fn ready(&self) {
        self.house.change_board(|board| {
            if let Some(visitor) = board.visitors.get_mut(&self.id) {
                visitor.ready = true;
            }
        });
    }

    /// It begins. Its clock, and where it begins, as that is now; what changes from now on it will hear.
    /// `zero` is that of the clock.
    pub(in crate::replay) fn begin(&mut self, zero: Instant) -> (Pace, Option<Origin>) {
        let is_shared = self.house.timeline == Timeline::Shared;
        let mut board = self.house.board();
        let board = &mut *board;
        let Some(visitor) = board.visitors.get_mut(&self.id) else {
            return (Pace::new(self.house.speed), None);
        };
        if is_shared {
            (visitor.pace, visitor.origin) = (board.clock.clone(), board.origin);
        }
        self.leaps = visitor.leaps;
        visitor.zero = Some(zero);
        (visitor.pace.clone(), visitor.origin)
    }

    /// The clock of all, if there is one.
    pub(in crate::replay) fn clock(&self) -> Clock {
        Clock::House(Arc::clone(&self.house))
    }

    /// What it has been told and not heard.
    #[inline]
    pub(in crate::replay) fn unheard(&mut self) -> Option<Order> {
        let order = self.orders.try_recv().ok()?;
        self.heard(&order);
        Some(order)
    }

    /// The next that it is told. Dropping the future loses nothing.
    pub(in crate::replay) async fn next(&mut self) -> Order {
        match self.orders.recv().await {
            Some(order) => {
                self.heard(&order);
                order
            }
            // There is a sender as long as it has not left.
            None => std::future::pending().await,
        }
    }

    fn heard(&mut self, order: &Order) {
        match order {
            Order::Change(_, Change::Leap(_)) | Order::Clock(_, _, Some(_)) => self.leaps += 1,
            Order::Renew(_) => {
                self.resets += 1;
                // A reset is several orders: all of them are there when it has been carried out.
                drop(self.house.board());
            }
            _ => {}
        }
    }

    /// Says where its clock stands, for which nobody waits. That of somebody with something to hear is old.
    pub(in crate::replay) fn say(&self, zero: Instant, pace: &Pace) {
        let mut board = self.house.board();
        if let Some(visitor) = board.visitors.get_mut(&self.id)
            && self.orders.is_empty()
        {
            (visitor.zero, visitor.pace) = (Some(zero), pace.clone());
        }
    }

    /// Frames of these subscriptions were written.
    pub(in crate::replay) fn delivered<'n>(&self, mut names: impl Iterator<Item = &'n str>) {
        let Some(first) = names.next() else { return };
        self.house.change_board(|board| {
            let Some(visitor) = board.visitors.get_mut(&self.id) else { return };
            // What was on its way before a reset does not count.
            if self.resets != board.resets {
                return;
            }
            let mut of_topic = board.delivered.get_mut(&visitor.topic);
            for name in std::iter::once(first).chain(names) {
                let of_all = of_topic.as_mut().and_then(|counts| counts.get_mut(name));
                for count in of_all.into_iter().chain(visitor.delivered.get_mut(name)) {
                    *count += 1;
                }
            }
        });
    }

    /// All that it should get was written.
    pub(in crate::replay) fn done(&self) {
        self.house.change_board(|board| {
            if let Some(visitor) = board.visitors.get_mut(&self.id) {
                visitor.done = Some(self.leaps);
            }
        });
    }
}

impl Drop for Ties {
    fn drop(&mut self) {
        self.house.change_board(|board| {
            board.visitors.remove(&self.id);
        });
    }
}

/// The clock that a reader reads up to.
pub(in crate::replay) enum Clock {
    /// Nobody changes it.
    Steady { zero: Instant, pace: Pace },
    /// As it is at the moment.
    House(Arc<House>),
}

impl Clock {
    /// How long before an instant it was in a place, if it was.
    pub(in crate::replay) fn passed(&self, at: Instant, position: Position) -> Option<Duration> {
        match self {
            Self::Steady { zero, pace } => {
                pace.passed(at.saturating_duration_since(*zero), position)
            }
            Self::House(house) => house.with_clock(at, |pace, now| pace.passed(now, position)),
        }
    }

    /// How long it takes from one place to another.
    pub(in crate::replay) fn takes(&self, from: Position, to: Position) -> Duration {
        match self {
            Self::Steady { pace, .. } => pace.takes(from, to),
            Self::House(house) => house.with_clock(Instant::now(), |pace, _| pace.takes(from, to)),
        }
    }
}
