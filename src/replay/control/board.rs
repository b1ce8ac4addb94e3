//! Where the clients of a server under control are, and what has been counted.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    time::Instant,
};

use super::{
    Farewell, Given, State, Until,
    orders::{Change, Leap, Order, Origin},
};
use crate::{entry::Timestamp, pace::Pace};

/// So many orders may wait for a client, which is more than a test gives while somebody stalls. Each of them counts
/// as it is, so none can be left out for another: who has not heard so many is dropped.
pub(super) const ORDERS: usize = 10_000;

/// What a house knows of its clients, at one instant.
pub(super) struct Board {
    /// The clock of all; or, with a clock for each, as that of the next client is when it begins.
    pub clock: Pace,
    /// Where whoever comes begins, before what is over by the clock is left out.
    pub origin: Option<Origin>,
    pub visitors: BTreeMap<u64, Visitor>,
    /// Clients that have ever been.
    pub came: u64,
    /// Of these, so many since the last reset, those that were here among them.
    pub counted: u64,
    /// Frames that were written since then, by topic and subscription.
    pub delivered: BTreeMap<String, BTreeMap<String, u64>>,
    pub resets: u64,
    pub given: Vec<(Instant, Given)>,
    pub commands: u64,
    pub ended: bool,
    /// Those who wait, and for what. Whatever changes is held against it at once: what has come about is
    /// not missed, however soon it is over.
    pub waiting: Vec<(Until, oneshot::Sender<Result<State, String>>)>,
}

/// One that is here.
pub(super) struct Visitor {
    pub peer: SocketAddr,
    pub topic: String,
    pub connected: Timestamp,
    /// Frames that were written, by subscription.
    pub delivered: BTreeMap<String, u64>,
    /// Its clock, as it was when it last said so and with what it was told since,
    pub pace: Pace,
    /// and the zero of that; None before it begins.
    pub zero: Option<Instant>,
    /// Where it begins.
    pub origin: Option<Origin>,
    pub paused: bool,
    /// Its part of the capture has been found.
    pub ready: bool,
    /// It has been sent elsewhere so many times,
    pub leaps: u64,
    /// and after so many of them it had got its last frame.
    pub done: Option<u64>,
    pub orders: mpsc::Sender<Order>,
    pub farewell: Option<oneshot::Sender<Farewell>>,
}

impl Board {
    pub(super) fn change_clock(&mut self, changes: &[Change], now: Duration) {
        let mut leapt = None;
        for change in changes {
            change.apply(&mut self.clock, now);
            leapt = change.leap().or(leapt);
        }
        if let Some(Leap(origin)) = leapt {
            self.origin = origin;
        }
        for visitor in self.visitors.values_mut() {
            visitor.paused = self.clock.is_paused();
            visitor.leaps += u64::from(leapt.is_some());
            (visitor.pace, visitor.origin) = (self.clock.clone(), self.origin);
            if visitor.zero.is_some() {
                visitor.tell(Order::Clock(now, self.clock.clone(), leapt));
            }
        }
    }

    /// For those who come. Steps are for those who are here.
    pub(super) fn change_template(&mut self, change: Change) {
        if !matches!(change, Change::Step(_)) {
            change.apply(&mut self.clock, Duration::ZERO);
        }
        if let Some(Leap(origin)) = change.leap() {
            self.origin = origin;
        }
    }

    /// Those that stay, with their numbers: who is to be dropped has left, whatever it still gets.
    pub(super) fn staying(&self) -> impl Iterator<Item = (u64, &Visitor)> {
        let all = self.visitors.iter().map(|(&id, visitor)| (id, visitor));
        all.filter(|(_, visitor)| visitor.hears())
    }

    pub(super) fn ready(&self) -> usize {
        self.staying().filter(|(_, visitor)| visitor.ready).count()
    }

    pub(super) fn are_done(&self) -> bool {
        self.visitors.values().all(Visitor::is_done)
    }
}

impl Visitor {
    /// Whether it hears orders. To be dropped is the last: it could come round to a later one first.
    pub(super) const fn hears(&self) -> bool {
        self.farewell.is_some()
    }

    pub(super) fn tell(&mut self, order: Order) {
        if !self.hears() {
            return;
        }
        match self.orders.try_send(order) {
            Err(TrySendError::Full(_)) => self.drop_with(Farewell::Reset),
            // Who has gone meanwhile needs no orders.
            Err(TrySendError::Closed(_)) | Ok(()) => {}
        }
    }

    /// Ends its connection, unless that is on the way out already.
    pub(super) fn drop_with(&mut self, farewell: Farewell) {
        // Who has gone meanwhile cannot be told.
        let _ = self.farewell.take().map(|told| told.send(farewell));
    }

    pub(super) fn change(&mut self, change: Change, at: Instant) {
        match change {
            Change::Pause => self.paused = true,
            Change::Resume => self.paused = false,
            _ => {}
        }
        self.leaps += u64::from(change.leap().is_some());
        if self.zero.is_some() {
            self.tell(Order::Change(at, change));
        }
        // Who has not begun does so on a clock that stands at zero and has been changed.
        let now = self.zero.map_or(Duration::ZERO, |zero| at.saturating_duration_since(zero));
        change.apply(&mut self.pace, now);
        if let Some(Leap(origin)) = change.leap() {
            self.origin = origin;
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done == Some(self.leaps)
    }
}

impl Until {
    pub(super) fn holds(&self, board: &Board) -> bool {
        match self {
            Self::Clients(clients) => board.ready() >= *clients,
            Self::Frames { count, .. } => self.frames(board) >= *count,
            Self::End => board.ended || (board.counted > 0 && board.are_done()),
        }
    }

    /// What there is of it so far.
    pub(super) fn found(&self, board: &Board) -> String {
        match self {
            Self::Clients(_) => format!("{}", board.ready()),
            Self::Frames { .. } => format!("{}", self.frames(board)),
            Self::End => {
                let going_on = board.visitors.values().filter(|visitor| !visitor.is_done()).count();
                format!("{going_on} of {} clients going on", board.counted)
            }
        }
    }

    /// The client that it is about, if that has been and is no more: its frames are not known any longer.
    pub(super) fn who_left(&self, board: &Board) -> Option<u64> {
        let Self::Frames { client, .. } = self else { return None };
        client.filter(|id| (1..=board.came).contains(id) && !board.visitors.contains_key(id))
    }

    pub(super) fn frames(&self, board: &Board) -> u64 {
        let Self::Frames { topic, subscription, client, .. } = self else { return 0 };
        let of_client = client.map(|client| board.visitors.get(&client));
        let counts: Vec<_> = match of_client {
            Some(Some(visitor)) => vec![(&visitor.topic, &visitor.delivered)],
            Some(None) => Vec::new(),
            None => board.delivered.iter().collect(),
        };
        let of_topic =
            counts.iter().filter(|(name, _)| topic.as_ref().is_none_or(|topic| topic == *name));
        let counts = of_topic.flat_map(|(_, counts)| counts.iter());
        let wanted =
            counts.filter(|(name, _)| subscription.as_ref().is_none_or(|wanted| wanted == *name));
        wanted.map(|(_, count)| count).sum()
    }
}
