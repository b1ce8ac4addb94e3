//! One subscription, from the first attempt to the end: what [`Session`] decides is done here.
//!
//! What was received is in the kernel before more is read, and before anything is answered.

use std::sync::Arc;

use tokio::{sync::watch, time::sleep};

use self::receive::Then;
use super::{
    Board, Notice, Notify, State,
    clock::{Reading, Watch},
    dial::{Dialer, Standing},
    earlier::Earlier,
    keeper::Keeper,
    keys::Held,
};
use crate::{
    entry::{
        Entry, SessionEvent, Subscription, Timestamp, What,
        session_event::{Event, KeyRenewed},
    },
    net::client::{Accepted, Connection},
    protocol::{Key, Protocol},
    schema::FrameTypes,
    session::{Ended, Next, NotConnected, Renewal, Session, Step},
};

mod pauses;
mod receive;

pub(super) struct Subscriber {
    pub index: usize,
    pub subscription: Arc<Subscription>,
    pub protocol: &'static dyn Protocol,
    pub session: Session,
    pub types: FrameTypes,
    pub dialer: Arc<Dialer>,
    /// The key of the last attempt. The slot may hold a newer one.
    pub used: Key,
    pub keeper: Keeper,
    pub board: Arc<Board>,
    pub notify: Notify,
    pub stop: Stop,
    /// Be content with one connection.
    pub once: bool,
    pub watch: Watch,
    /// What goes to the ledger before anything else: that the clock was set, and what earlier recordings tell.
    pub first: Vec<Entry>,
    /// Where that comes from. None: it is known.
    pub earlier: Option<Earlier>,
}

/// Who may ask it to stop.
#[derive(Clone)]
pub(super) struct Stop {
    /// The recording ends.
    pub all: watch::Receiver<bool>,
    /// The subscription is not wanted any more.
    pub own: watch::Receiver<bool>,
}

impl Stop {
    /// Is ready when one of them does.
    async fn asked(&mut self) {
        tokio::select! {
            () = asked_to(&mut self.all) => {}
            () = asked_to(&mut self.own) => {}
        }
    }

    /// Only the subscription is to stop.
    fn is_own(&self) -> bool {
        *self.own.borrow() && !*self.all.borrow()
    }
}

/// What is left of a subscription that has ended.
pub(super) struct Finished {
    pub name: String,
    pub session: Session,
    /// It was not wanted any more.
    pub left: bool,
}

impl Subscriber {
    pub(super) async fn run(mut self) -> Finished {
        let mut connection = None;
        let mut step = self.session.start();
        loop {
            if !self.note(&step.events).await {
                break;
            }
            step = match step.next {
                Next::Connect => match self.connect().await {
                    Some((step, opened)) => {
                        connection = opened;
                        step
                    }
                    None => break,
                },
                Next::Receive => {
                    let Some(opened) = connection.take() else { break };
                    match self.receive_all(opened).await {
                        Some((step, taken_over)) => {
                            connection = taken_over;
                            step
                        }
                        None => break,
                    }
                }
                Next::RenewKey => {
                    let mut stop = self.stop.clone();
                    let renewal = tokio::select! {
                        // In a place of its own: it is large, and rare.
                        renewal = Box::pin(self.dialer.renew(&self.used)) => renewal,
                        () = stop.asked() => break self.abandon().await,
                    };
                    if let Renewal::NewKey { .. } = renewal {
                        self.used = self.dialer.slot.held().key;
                    }
                    self.session.renewed(&renewal)
                }
                Next::Wait(time) => {
                    self.board.set(self.index, State::Waiting);
                    (self.notify)(Notice::Waiting {
                        subscription: &self.subscription,
                        time,
                        hopeless: self.session.is_hopeless(),
                    });
                    let mut stop = self.stop.clone();
                    tokio::select! {
                        () = sleep(time) => self.session.waited(),
                        () = self.newer_key() => self.session.waited(),
                        () = stop.asked() => break self.abandon().await,
                    }
                }
            };
        }
        self.board.set(self.index, State::Stopped);
        let left = self.stop.is_own();
        if left {
            let now = self.now();
            self.session.leave(now);
        }
        Finished { name: self.subscription.name.clone(), session: self.session, left }
    }

    /// Connects, unless it is asked to stop. Returns what follows, and the connection if it stands; None if
    /// nothing does.
    async fn connect(&mut self) -> Option<(Step, Option<Connection>)> {
        self.board.set(self.index, State::Connecting);
        if !self.take_newest_key().await {
            return None;
        }
        let mut stop = self.stop.clone();
        let result = tokio::select! {
            result = self.dialer.connect(&self.used) => result,
            () = stop.asked() => {
                self.abandon().await;
                return None;
            }
        };
        Some(match result {
            Ok(Accepted { connection, round_trip, peer }) => {
                let now = self.now();
                let step = self.session.accepted(now, round_trip, peer.to_string());
                (step, Some(connection))
            }
            Err(NotConnected::Refused(refused)) => (self.session.refused(refused), None),
            Err(NotConnected::Failed(failure)) => (self.session.failed(failure), None),
        })
    }

    /// Receives until the connection is over. Returns what follows, and the connection that has taken over, if
    /// there is one; None if nothing does.
    async fn receive_all(&mut self, opened: Connection) -> Option<(Step, Option<Connection>)> {
        self.board.set(self.index, State::Connected);
        let (then, at, ended) = self.receive(opened).await;
        // The gap before a connection stands before its end.
        self.hear_of_earlier().await;
        match then {
            Then::Again if !(self.once && ended.clean) => {
                let step = self.session.ended(at, ended);
                if self.once {
                    self.note(&step.events).await;
                    self.abandon().await;
                    return None;
                }
                Some((step, None))
            }
            Then::Takeover(standing) => {
                let Standing { accepted, held, since } = *standing;
                let Accepted { connection, round_trip, peer } = accepted;
                self.used = held.key;
                let renewed = KeyRenewed { written_back: held.stored };
                let events = self.session.taken_over((at, ended), since, renewed);
                self.note(&events).await;
                let step = self.session.accepted(since, round_trip, peer.to_string());
                Some((step, Some(connection)))
            }
            Then::Again | Then::Stop => {
                let ended = self.explained(ended);
                let events = self.session.stopped(at, ended);
                self.note(&events).await;
                None
            }
        }
    }

    /// Says in the ledger why we went, where the server did not.
    fn explained(&self, mut ended: Ended) -> Ended {
        if self.stop.is_own() && ended.reason.is_empty() {
            "not in the input file any more".clone_into(&mut ended.reason);
        }
        ended
    }

    async fn abandon(&mut self) {
        self.hear_of_earlier().await;
        let now = self.now();
        let events = self.session.abandoned(now);
        self.note_at(now, &events).await;
    }

    /// Uses what the slot holds from now on, and writes down if it is another key. False: nothing can
    /// be written any more.
    async fn take_newest_key(&mut self) -> bool {
        let Held { key, stored, .. } = self.dialer.slot.held();
        if key == self.used {
            return true;
        }
        self.used = key;
        let renewed = Event::KeyRenewed(KeyRenewed { written_back: stored });
        self.note(&[self.session.event(renewed)]).await
    }

    /// Is ready when there is another key than the one that was used last.
    async fn newer_key(&self) {
        let mut changes = self.dialer.slot.changes();
        let _ = changes.wait_for(|held| held.key != self.used).await;
    }

    /// Brings events to the ledger. False: nothing can be written any more.
    async fn note(&mut self, events: &[SessionEvent]) -> bool {
        let received = self.now();
        self.note_at(received, events).await
    }

    /// The same with what has happened then.
    async fn note_at(&mut self, received: Timestamp, events: &[SessionEvent]) -> bool {
        for event in events {
            (self.notify)(Notice::Event { subscription: &self.subscription, event });
        }
        let entries = events.iter().map(|event| self.entry(received, What::Event(event.clone())));
        let entries = entries.collect();
        self.keep(entries).await.is_some()
    }

    /// Now, by the wall clock. Where it was set since the last look, the ledger says so before anything
    /// that goes by the new clock.
    fn now(&mut self) -> Timestamp {
        let (now, step) = self.watch.look();
        if let Some(step) = step {
            let event = self.session.clock_stepped(step);
            self.tell_first(now, event);
        }
        let known = self.earlier.take_if(|earlier| earlier.is_known());
        if let Some((until, cause)) = known.and_then(|it| it.until(&self.subscription.name))
            && let Some(gap) = self.session.resumed(until, cause)
        {
            self.tell_first(now, gap);
        }
        now
    }

    /// The same, by both clocks.
    fn look_at_clocks(&mut self) -> Reading {
        self.now();
        self.watch.last()
    }

    /// Brings an event to the ledger, before anything else.
    fn tell_first(&mut self, now: Timestamp, event: SessionEvent) {
        (self.notify)(Notice::Event { subscription: &self.subscription, event: &event });
        let entry = self.entry(now, What::Event(event));
        self.first.push(entry);
    }

    /// Waits for what earlier recordings tell.
    async fn hear_of_earlier(&mut self) {
        if let Some(earlier) = &mut self.earlier {
            earlier.known().await;
            self.now();
        }
    }

    async fn keep(&mut self, entries: Vec<Entry>) -> Option<u64> {
        let entries = self.with_first(entries);
        self.keeper.keep(entries).await
    }

    fn with_first(&mut self, mut entries: Vec<Entry>) -> Vec<Entry> {
        entries.splice(0..0, self.first.drain(..));
        entries
    }

    fn entry(&self, received: Timestamp, what: What) -> Entry {
        Entry { subscription: Arc::clone(&self.subscription), received, what }
    }
}

/// Is ready when the recording is to stop. What the channel lends must not be held any longer.
pub(super) async fn asked_to(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|&stop| stop).await;
}
