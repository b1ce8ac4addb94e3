//! The life of a client, from its first byte to its last.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    net::TcpStream,
    sync::{oneshot, watch},
    task::JoinError,
    time::Instant,
};

use super::{
    Options, Timeline,
    alarm::Alarm,
    control::{Clock, Farewell, House, Leap, Order, Ties},
    feed::{Cue, Feed},
    hold::{Hold, Lifted, Over, Seat},
    keyring::Ticket,
    keys::Keys,
    offer::{Offer, Share},
    report::{Client, Close, End, Ending, KeyChange, News, Parted},
    spoil::{self, Exit, Spoil, Spoilt, Usher},
    stamps::Stamper,
    tally::Tally,
    types::Types,
};
use crate::{
    capture::Unpacked,
    entry::{Subscription, Timestamp},
    error::{Error, Kind},
    net::{
        server::{Arrival, Ended, Peer, welcome},
        tls::Identity,
    },
    pace::{Limit, Pace, Position, Speed},
};

/// So much is put into one write.
const WRITE_SIZE: usize = 128 * 1024;

/// How long a client may take to answer our close at the end of a replay.
pub(super) const GOODBYE: Duration = Duration::from_secs(5);

/// The same when somebody has asked us to stop and is waiting.
const HURRIED_GOODBYE: Duration = Duration::from_secs(2);

/// Stands for all dates that are too far for the clock.
const A_CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Status codes of a close, RFC 6455, section 7.4.1.
mod code {
    pub(super) const NORMAL: u16 = 1000;
    pub(super) const GOING_AWAY: u16 = 1001;
}

/// What all clients of a server share.
pub(super) struct Stage {
    pub options: Options,
    /// Wakes those whose frames are due.
    pub alarm: Alarm,
    pub offer: Arc<Offer>,
    /// None if any key will do.
    pub keys: Option<Keys>,
    pub identity: Option<Identity>,
    pub hold: Arc<Hold>,
    pub types: Types,
    /// Most clients are in about the same place of the capture.
    pub unpacked: Arc<Unpacked>,
    pub faults: Mutex<Vec<Error>>,
    /// A reader has gone through all that is selected, and there was no frame, whoever it would have been for.
    pub empty: AtomicBool,
    /// The faults that are on purpose.
    pub spoil: Option<Arc<Spoil>>,
    /// Whatever is needed for control.
    pub house: Option<Arc<House>>,
}

/// One connection and its ties to the outside.
pub(super) struct Guest {
    pub peer: SocketAddr,
    pub stopped: watch::Receiver<bool>,
    pub tell: Arc<Tell>,
}

pub(super) type Tell = dyn Fn(News<'_>) + Send + Sync;

impl Stage {
    /// Says so if nobody is left, and with `once` that is the end.
    pub(super) fn over(&self) -> Option<Over> {
        self.hold.over(Instant::now()).filter(|_| self.options.once)
    }

    /// One connection from its first byte to its last.
    pub(super) async fn serve(self: Arc<Self>, stream: TcpStream, mut guest: Guest) -> Parted {
        let (tell, stage) = (Arc::clone(&guest.tell), Arc::clone(&self));
        let usher = Arc::new(Usher { stage, tell, peer: guest.peer });
        let arrival = tokio::select! {
            biased;
            _ = guest.stopped.wait_for(|stopped| *stopped) => None,
            arrival = welcome(stream, self.identity.as_ref(), usher) => arrival,
        };
        let (peer, part) = match arrival {
            Some(Arrival::Client(peer, part)) => (*peer, part),
            Some(Arrival::Answered(status)) => {
                (guest.tell)(News::Answered { peer: guest.peer, status });
                return Parted::Answered(status);
            }
            None => return Parted::Nobody,
        };
        let share = Arc::clone(&part.share);
        (guest.tell)(News::Connected { peer: guest.peer, topic: &share.topic });
        let connected = Timestamp::now();
        let mut tally = Tally::new(self.options.is_timed());
        let (ending, close) = self.entertain(peer, part, &mut tally, &mut guest.stopped).await;
        let faults = tally.faults();
        let (stayed, subscriptions, delays) = tally.finish(share.subscriptions.iter());
        let client = Client {
            peer: guest.peer,
            topic: share.topic.clone(),
            connected,
            stayed,
            frames: subscriptions.iter().map(|sent| sent.frames).sum(),
            bytes: subscriptions.iter().map(|sent| sent.bytes).sum(),
            lateness: delays.lateness(),
            subscriptions,
            faults,
            ending,
            close,
        };
        (guest.tell)(News::Left(&client));
        Parted::Client(Box::new(client), delays)
    }

    /// A client from its upgrade to its end.
    async fn entertain(
        self: &Arc<Self>,
        mut peer: Peer,
        mut part: Part,
        tally: &mut Tally,
        stopped: &mut watch::Receiver<bool>,
    ) -> (Ending, Option<Close>) {
        let (told, ticket) = (part.told.take(), part.ticket.take());
        let mut seat = self.hold.take_seat(&part.share.topic);
        let farewell = async {
            match told {
                Some(told) => told.await.ok(),
                None => std::future::pending().await,
            }
        };
        let played = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => None,
            code = self.key_dies(ticket) => Some(Err(Exit::Expired(code))),
            Some(farewell) = farewell => Some(Err(Exit::Dropped(farewell.end()))),
            played = self.play(&mut peer, part, &mut seat, tally) => Some(played),
        };
        // Where a close is answered, what was queued went before it.
        let ours = |code, answered| Some(Close { by: End::Server, code: Some(code), answered });
        if let Some(Err(Exit::Spoilt(_) | Exit::Expired(_) | Exit::Dropped(_))) = played {
            seat.cut();
        }
        match played {
            None => {
                // Whether it answers or not: it was told, and somebody is waiting for us.
                let told = peer.close(code::GOING_AWAY, "going away", HURRIED_GOODBYE).await;
                if told.is_ok() {
                    tally.written();
                }
                (Ending::Stopped, ours(code::GOING_AWAY, told.is_ok()))
            }
            Some(Ok(())) => match say_goodbye(peer, code::NORMAL, "end of replay", stopped).await {
                Ok(()) => (Ending::Played, ours(code::NORMAL, true)),
                Err(ended) => (Ending::Unanswered(ended), ours(code::NORMAL, false)),
            },
            Some(Err(Exit::Spoilt(end))) => {
                let word = spoil::word(&end);
                (Ending::Spoilt(word), spoil::end(peer, end, stopped).await)
            }
            Some(Err(Exit::Expired(code))) => {
                let closed = say_goodbye(peer, code, "token expired", stopped).await;
                if closed.is_ok() {
                    tally.written();
                }
                (Ending::KeyExpired, ours(code, closed.is_ok()))
            }
            Some(Err(Exit::Dropped(end))) => {
                let word = spoil::word(&end);
                let close = spoil::end(peer, end, stopped).await;
                if close.is_some_and(|close| close.answered) {
                    tally.written();
                }
                (Ending::Dropped(word), close)
            }
            Some(Err(Exit::Left(ended))) => {
                drop(seat);
                if peer.leave(&ended).await {
                    // What was queued when it said goodbye went before the answer.
                    tally.written();
                }
                let close = match ended {
                    Ended::Closed { code } => Some(Close { by: End::Client, code, answered: true }),
                    Ended::Broken { code, .. } => ours(code, false),
                    _ => None,
                };
                (Ending::Left(ended), close)
            }
        }
    }

    /// Waits until something has become of keys.
    pub(super) async fn key_changes(&self) -> Vec<KeyChange> {
        match &self.keys {
            Some(keys) => keys.changes().await,
            None => std::future::pending().await,
        }
    }

    /// Completes when a client is to be closed because its key has died, and says with which code.
    async fn key_dies(&self, ticket: Option<Ticket>) -> u16 {
        match self.keys.as_ref().zip(ticket) {
            Some((keys, ticket)) => keys.end_of(ticket).await,
            None => std::future::pending().await,
        }
    }

    /// Sends everything when it is due. Returns after the last frame, but without `once` only when
    /// the client leaves.
    async fn play(
        self: &Arc<Self>,
        peer: &mut Peer,
        part: Part,
        seat: &mut Seat<'_>,
        tally: &mut Tally,
    ) -> Result<(), Exit> {
        let Part { share, spoilt, mut ties, .. } = part;
        let open = |origin| Feed::open(self, Arc::clone(&share), origin);
        let mut feed = open(ties.as_ref().and_then(Ties::origin));
        let mut ready = peer.meanwhile(feed.ready()).await?;
        seat.ready();
        if let Some(ties) = &ties {
            ties.ready();
        }
        let lifted = peer.meanwhile(seat.lifted()).await?;
        let is_shared = self.options.timeline == Timeline::Shared;
        let zero = if is_shared { lifted.at } else { lifted.at.max(ready) };
        let (pace, origin) = match &mut ties {
            Some(ties) => ties.begin(zero),
            None => (Pace::new(self.options.speed), None),
        };
        if origin != feed.origin {
            // It was sent elsewhere while it was being opened.
            feed = open(origin);
            ready = peer.meanwhile(feed.ready()).await?;
        }
        let zero = if is_shared { zero } else { zero.max(ready) };
        if is_shared {
            feed.start(lifted, clock(ties.as_ref(), zero, &pace));
        }
        let limit = self.options.limit.clone();
        let stamper = Stamper::new();
        let restamp = self.options.restamp;
        let past = zero;
        let alarm = &self.alarm;
        let mut outlet =
            Outlet { peer, tally, alarm, zero, past, pace, limit, restamp, stamper, spoilt, ties };
        if let Some((origin, spoilt)) = origin.zip(outlet.spoilt.as_mut()) {
            spoilt.leap(origin.position);
        }
        if is_shared
            && lifted.late
            && let Some(spoilt) = &mut outlet.spoilt
        {
            spoilt.come_late(outlet.pace.clone(), zero.elapsed());
        }
        outlet.keep_time();
        while let Some(Leap(origin)) = outlet.deliver(&mut feed, self.options.once).await? {
            feed = open(origin);
            if is_shared {
                // It was there all the while.
                let lifted = Lifted { at: zero, late: false };
                feed.start(lifted, clock(outlet.ties.as_ref(), zero, &outlet.pace));
            }
            outlet.stamper.leap();
        }
        Ok(())
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Vec<Error>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What became of a connection that is over.
    pub(super) fn settled(&self, done: Result<Parted, JoinError>) -> Parted {
        done.unwrap_or_else(|error| {
            self.note(Kind::Internal { reason: error.to_string() }.into());
            Parted::Nobody
        })
    }

    /// Every client and every round meets the same damage: it is noted once.
    pub(super) fn note(&self, fault: Error) {
        let mut faults = self.faults();
        let sentence = fault.to_string();
        if faults.iter().all(|known| known.to_string() != sentence) {
            faults.push(fault);
        }
    }
}

/// What a client is given, and what it is up against.
pub(super) struct Part {
    pub share: Arc<Share>,
    pub spoilt: Option<Spoilt>,
    pub ties: Option<Ties>,
    /// Who hears that it is to be dropped.
    pub told: Option<oneshot::Receiver<Farewell>>,
    /// What it is held to if it came with a key that may die.
    pub ticket: Option<Ticket>,
}

impl Part {
    pub(super) const fn of(share: Arc<Share>, ticket: Option<Ticket>) -> Self {
        Self { share, spoilt: None, ties: None, told: None, ticket }
    }
}

/// The clock that a late client joins.
fn clock(ties: Option<&Ties>, zero: Instant, pace: &Pace) -> Clock {
    ties.map_or_else(|| Clock::Steady { zero, pace: pace.clone() }, Ties::clock)
}

/// Closes a connection. Whoever has asked us to stop does not wait for a client that does not answer.
pub(super) async fn say_goodbye(
    peer: Peer,
    code: impl Into<Option<u16>>,
    reason: &str,
    stopped: &mut watch::Receiver<bool>,
) -> Result<(), Ended> {
    let hurried = async {
        // Nobody who could ask is gone before us.
        let _ = stopped.wait_for(|stopped| *stopped).await;
        tokio::time::sleep(HURRIED_GOODBYE).await;
    };
    tokio::select! {
        closed = peer.close(code, reason, GOODBYE) => closed,
        () = hurried => Err(Ended::Stalled),
    }
}

/// Between a feed and its client.
pub(super) struct Outlet<'a> {
    pub peer: &'a mut Peer,
    pub tally: &'a mut Tally,
    pub alarm: &'a Alarm,
    /// The zero of the pace.
    zero: Instant,
    /// A time that has been: for what was due by then nobody has to look at the clock.
    past: Instant,
    pace: Pace,
    limit: Option<Limit>,
    restamp: bool,
    stamper: Stamper,
    /// The faults that are on purpose.
    pub spoilt: Option<Spoilt>,
    /// Who gives orders.
    ties: Option<Ties>,
}

/// What comes of waiting for a frame, or for a place.
pub(super) enum Turn {
    /// It is due, since then.
    Due(Instant),
    /// There are more rules for what goes wrong: something else may come before it.
    Anew,
    /// It is not wanted any more.
    Leap(Leap),
}

impl Outlet<'_> {
    /// Gives the client all of a feed. Returns where to go instead if it is sent elsewhere; without `once`
    /// that is all that ends it.
    async fn deliver(&mut self, feed: &mut Feed, once: bool) -> Result<Option<Leap>, Exit> {
        loop {
            let batch = if let Ok(batch) = feed.batches.try_recv() {
                batch
            } else {
                // The reader has to catch up, or has ended: what is queued need not wait for that.
                self.flush().await?;
                match self.unless_sent_elsewhere(feed.batches.recv()).await? {
                    Ok(Some(batch)) => batch,
                    Ok(None) => break,
                    Err(leap) => return Ok(Some(leap)),
                }
            };
            for cue in batch {
                let due = loop {
                    if self.spoilt.is_some()
                        && !cue.state
                        && let Some(leap) = self.until_moment(Some(cue.position)).await?
                    {
                        return Ok(Some(leap));
                    }
                    match self.until_due(&cue).await? {
                        Turn::Due(due) => break due,
                        Turn::Anew => {}
                        Turn::Leap(leap) => return Ok(Some(leap)),
                    }
                };
                if let Some(cue) = self.hand_over(cue, due) {
                    self.hand_over_spoilt(cue, due).await?;
                }
                self.flush_if_full().await?;
            }
        }
        self.hand_over_rest().await?;
        if let Some(ties) = &self.ties {
            ties.say(self.zero, &self.pace);
            ties.done();
        }
        loop {
            if let Some(leap) = self.until_moment(None).await? {
                return Ok(Some(leap));
            }
            if once {
                return Ok(None);
            }
            if let Err(order) = self.until_time_or_order(None).await?
                && let Some(leap) = self.obey(order)
            {
                return Ok(Some(leap));
            }
        }
    }

    /// Waits for something else while the peer and orders are listened to. An error within is a leap.
    async fn unless_sent_elsewhere<T>(
        &mut self,
        other: impl Future<Output = T>,
    ) -> Result<Result<T, Leap>, Ended> {
        tokio::pin!(other);
        loop {
            match self.next_order_or(&mut other).await? {
                Ok(done) => return Ok(Ok(done)),
                Err(order) => {
                    if let Some(leap) = self.obey(order) {
                        return Ok(Err(leap));
                    }
                }
            }
        }
    }

    /// The same, but what is ordered is still to be done.
    async fn next_order_or<T>(
        &mut self,
        other: impl Future<Output = T>,
    ) -> Result<Result<T, Order>, Ended> {
        let Self { peer, ties, .. } = self;
        let Some(ties) = ties else { return Ok(Ok(peer.meanwhile(other).await?)) };
        let either = async {
            tokio::select! {
                biased;
                order = ties.next() => Err(order),
                done = other => Ok(done),
            }
        };
        peer.meanwhile(either).await
    }

    /// Waits until a frame is due, and says when that was.
    async fn until_due(&mut self, cue: &Cue) -> Result<Turn, Ended> {
        let (mut scheduled, mut due);
        loop {
            while let Some(order) = self.ties.as_mut().and_then(Ties::unheard) {
                if let Some(turn) = self.turn_by(order) {
                    return Ok(turn);
                }
            }
            scheduled =
                if cue.state { Some(self.zero.elapsed()) } else { self.pace.due(cue.position) };
            due = scheduled.map(|scheduled| self.instant(scheduled));
            if due.is_some_and(|due| self.is_past(due)) {
                break;
            }
            self.flush().await?;
            match self.until_time_or_order(due).await? {
                Ok(()) => break,
                Err(order) => {
                    if let Some(turn) = self.turn_by(order) {
                        return Ok(turn);
                    }
                }
            }
        }
        let (due, scheduled) = due.zip(scheduled).expect("without a time there is an order");
        if !cue.state {
            self.pace.let_go(cue.position);
        }
        if let Some(limit) = &mut self.limit {
            limit.take(scheduled);
        }
        Ok(Turn::Due(due))
    }

    fn is_past(&mut self, time: Instant) -> bool {
        if self.past < time {
            self.past = Instant::now();
        }
        time <= self.past
    }

    /// Waits for a place in the recording, whether there is a frame or not.
    pub(super) async fn until_place(&mut self, place: Position) -> Result<Turn, Ended> {
        loop {
            let due = self.pace.due(place);
            let due = due.map(|due| self.zero.checked_add(due).unwrap_or(self.zero + A_CENTURY));
            match self.until_time_or_order(due).await? {
                Ok(()) => return Ok(Turn::Due(due.unwrap_or(self.zero))),
                Err(order) => {
                    if let Some(turn) = self.turn_by(order) {
                        return Ok(turn);
                    }
                }
            }
        }
    }

    /// Waits for a time, or for an order, which is still to be done.
    async fn until_time_or_order(
        &mut self,
        time: Option<Instant>,
    ) -> Result<Result<(), Order>, Ended> {
        if let Some(ties) = &self.ties {
            ties.say(self.zero, &self.pace);
        }
        let alarm = self.alarm;
        let due = async {
            match time {
                Some(time) => alarm.at(time.into_std()).await,
                None => std::future::pending().await,
            }
        };
        self.next_order_or(due).await
    }

    /// When a frame leaves that is scheduled for this time.
    fn instant(&self, scheduled: Duration) -> Instant {
        let due = self.limit.as_ref().map_or(scheduled, |limit| limit.due(scheduled));
        self.zero.checked_add(due).unwrap_or(self.zero + A_CENTURY)
    }

    /// Does as it is told. Returns what comes of waiting if that has changed it.
    fn turn_by(&mut self, order: Order) -> Option<Turn> {
        let is_more = matches!(order, Order::Inject(_));
        match self.obey(order) {
            Some(leap) => Some(Turn::Leap(leap)),
            None => is_more.then_some(Turn::Anew),
        }
    }

    /// Does as it is told. Returns where to go if that is somewhere else.
    fn obey(&mut self, order: Order) -> Option<Leap> {
        let mut leap = None;
        match order {
            Order::Change(at, change) => {
                let (now, mut pace) = (at.saturating_duration_since(self.zero), self.pace.clone());
                change.apply(&mut pace, now);
                self.change_pace(now, pace);
                leap = change.leap();
            }
            Order::Clock(now, pace, to) => {
                self.change_pace(now, pace);
                leap = to;
            }
            Order::Inject(faults) => {
                let played = self.pace.played(self.zero.elapsed());
                if let Some(spoilt) = &mut self.spoilt {
                    spoilt.inject(faults, played);
                }
            }
            Order::Renew(spoiler) => {
                if let Some(spoilt) = &mut self.spoilt {
                    spoilt.renew(*spoiler);
                }
            }
        }
        if let (Some(Leap(to)), Some(spoilt)) = (leap, &mut self.spoilt) {
            spoilt.leap(to.map(|origin| origin.position).unwrap_or_default());
        }
        self.keep_time();
        leap
    }

    fn change_pace(&mut self, now: Duration, pace: Pace) {
        let was_paused = std::mem::replace(&mut self.pace, pace).is_paused();
        if let Some(limit) = self.limit.as_mut().filter(|_| was_paused && !self.pace.is_paused()) {
            limit.resume(now);
        }
    }

    /// Says whether frames are due at times of their own, and where the clock stands.
    fn keep_time(&mut self) {
        let timed = self.pace.speed() != Speed::MAX || self.limit.is_some();
        self.tally.set_timed(timed);
        if let Some(ties) = &self.ties {
            ties.say(self.zero, &self.pace);
        }
    }

    /// Gives a frame to the client, and returns it if faults make something else of it. Every frame passes here,
    /// in its order.
    #[inline]
    fn hand_over(&mut self, mut cue: Cue, due: Instant) -> Option<Cue> {
        if self.restamp {
            self.restamp(&mut cue, due);
        }
        // What belongs to the state depends on when the client came, and is nobody's n-th frame.
        if let Some(spoilt) = self.spoilt.as_mut().filter(|_| !cue.state) {
            if !spoilt.is_idle() {
                return Some(cue);
            }
            spoilt.pass(cue.position);
        }
        self.queue(cue.frame.data, &cue.subscription, due, cue.state);
        None
    }

    fn restamp(&mut self, cue: &mut Cue, due: Instant) {
        let Some(kind) = cue.kind.take() else { return };
        let at = match self.tally.is_timed() {
            // Known since it was due to all the others.
            true if cue.state => self.zero + self.pace.reaches(cue.position),
            true => due,
            // Whoever is as fast as it can be is sent everything now.
            false => Instant::now(),
        };
        self.stamper.stamp(cue, &kind.restamp, at, self.pace.speed());
    }

    /// Gives a message to the client. It leaves when the output is full, or with the next flush.
    pub(super) fn queue(
        &mut self,
        message: Bytes,
        of: &Arc<Subscription>,
        due: Instant,
        state: bool,
    ) {
        self.tally.queued(of, message.len(), due, state);
        self.peer.queue(message);
    }

    #[inline]
    pub(super) async fn flush_if_full(&mut self) -> Result<(), Ended> {
        if self.peer.queued() >= WRITE_SIZE { self.flush().await } else { Ok(()) }
    }

    pub(super) async fn flush(&mut self) -> Result<(), Ended> {
        self.peer.flush().await?;
        if let Some(ties) = &self.ties {
            ties.delivered(self.tally.on_the_way());
        }
        self.tally.written();
        Ok(())
    }
}
