//! Faults on purpose, on their way from the rules to the wire.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    control::Leap,
    feed::Cue,
    offer::{Offer, Share},
    report::{self, Close, News, Strikes},
    stage::{Outlet, Part, Stage, Tell, Turn, say_goodbye},
    until,
};
use crate::{
    entry::{Entry, Subscription, What},
    fault::{
        Act, Applied, Cut, Door, End, Faults, Form, Message, PlannedEnd, Refusal, Request, Spoiler,
        Step,
    },
    net::server::{Ended, Gate, Peer},
    pace::{Pace, Position},
    protocol::{Key, Protocol},
};

/// What all clients of a server under faults share.
pub(super) struct Spoil {
    /// As they were at the beginning.
    faults: Faults,
    door: Mutex<Door>,
    /// How often each rule has struck, by its number and fault. A reset forgets none of it.
    struck: Mutex<BTreeMap<(usize, &'static str), Strikes>>,
}

impl Spoil {
    pub(super) fn new(faults: Faults) -> Self {
        Self { door: Mutex::new(Door::new(faults.clone())), faults, struck: Mutex::default() }
    }

    /// A rule has struck.
    pub(super) fn count(&self, applied: &Applied) {
        let mut struck = self.struck.lock().unwrap_or_else(PoisonError::into_inner);
        let rule = (applied.rule, applied.fault);
        let strikes = struck.entry(rule).or_insert_with(|| Strikes::none(rule));
        if applied.is_left_out() {
            strikes.left_out += 1;
        } else {
            strikes.applied += 1;
        }
    }

    /// What has come of each rule, those that never struck among them.
    pub(super) fn strikes(&self) -> Vec<Strikes> {
        let mut all = self.struck.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for rule in self.door().rules() {
            all.entry(rule).or_insert_with(|| Strikes::none(rule));
        }
        all.into_values().collect()
    }

    fn door(&self) -> MutexGuard<'_, Door> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a client is up against that was let in.
    pub(super) fn entered(
        &self,
        share: &Share,
        stage: &Arc<Stage>,
        (peer, tell): (SocketAddr, &Arc<Tell>),
    ) -> Spoilt {
        let spoiler = self.counted(&share.topic, &share.subscriptions);
        let (stage, tell) = (Arc::clone(stage), Arc::clone(tell));
        Spoilt { spoiler, stage, tell, peer, reached: Position::default(), came: None }
    }

    /// Its part for a client with these subscriptions, which is counted.
    pub(super) fn counted<'n>(
        &self,
        topic: &str,
        subscriptions: impl IntoIterator<Item = &'n String>,
    ) -> Spoiler {
        self.door().entered(topic, subscriptions)
    }

    /// More rules, from now on. Returns all of them.
    pub(super) fn inject(&self, faults: &Faults) -> Faults {
        self.door().inject(faults)
    }

    /// The rules of the beginning, and nobody was there yet.
    pub(super) fn renew(&self) {
        self.door().renew(self.faults.clone());
    }
}

/// What one client is up against.
pub(super) struct Spoilt {
    spoiler: Spoiler,
    stage: Arc<Stage>,
    tell: Arc<Tell>,
    peer: SocketAddr,
    /// Where the latest frame was.
    reached: Position,
    /// The clock that ran when the client came, and the time by it, as long as it was not asked what was over.
    came: Option<(Pace, Duration)>,
}

impl Spoilt {
    /// Whether nothing happens to any frame.
    pub(super) const fn is_idle(&self) -> bool {
        self.spoiler.is_idle()
    }

    /// Counts a frame to which nothing happens.
    pub(super) const fn pass(&mut self, position: Position) {
        self.reached = position;
        self.spoiler.pass(position.recorded());
    }

    /// The client comes while the clock of all runs: what was to happen before does not.
    pub(super) fn come_late(&mut self, pace: Pace, now: Duration) {
        self.came = Some((pace, now));
    }

    /// The frames of another place follow.
    pub(super) fn leap(&mut self, to: Position) {
        self.reached = to;
        self.came = None;
        self.spoiler.leap(to.recorded());
    }

    /// All rules, now that there are more and so much of the recording has been played.
    pub(super) fn inject(&mut self, faults: Faults, played: Duration) {
        self.spoiler.inject(faults, played);
    }

    /// Where its connection ends, if that is before the next frame, or if nothing follows.
    fn ends_before(&self, next: Option<Position>) -> Option<Position> {
        let at = self.spoiler.ends_before(next.map_or(Duration::MAX, Position::recorded))?;
        Some(self.reached.towards(next.unwrap_or(self.reached), at))
    }

    /// Passes over the moments before the next frame that were over when the client came.
    fn pass_over_moments(&mut self, next: Option<Position>) {
        let Some((pace, now)) = self.came.take() else { return };
        while let Some(place) = self.ends_before(next)
            && pace.passed(now, place).is_some()
        {
            self.spoiler.pass_over_moment();
        }
    }

    /// As if the client had just got in where it is, and met this.
    pub(super) fn renew(&mut self, spoiler: Spoiler) {
        self.spoiler = spoiler;
        self.leap(self.reached);
    }
}

/// Lets one connection in as the offer says, if no fault is in the way.
pub(super) struct Usher {
    pub stage: Arc<Stage>,
    pub tell: Arc<Tell>,
    pub peer: SocketAddr,
}

impl Usher {
    fn tell(&self, applied: &Applied) {
        (self.tell)(News::Spoilt { peer: self.peer, applied });
    }

    fn offer(&self) -> &Offer {
        &self.stage.offer
    }
}

impl Gate for Usher {
    type Pass = Part;

    fn protocol(&self) -> &'static dyn Protocol {
        self.offer().protocol
    }

    fn knows(&self, key: &Key) -> bool {
        self.stage.keys.as_ref().is_none_or(|keys| keys.take(key))
    }

    fn validated(&self, key: &Key) -> Option<Key> {
        match &self.stage.keys {
            Some(keys) => keys.validate(key),
            None => Some(key.clone()),
        }
    }

    fn admit(&self, key: &Key, topic: &str) -> Option<Part> {
        let admitted = self.stage.keys.as_ref().map(|keys| keys.admit(key));
        let (names, ticket) = admitted.unwrap_or_default();
        Some(Part::of(Arc::new(self.offer().share(&names, topic)?), ticket))
    }

    fn enter(&self, part: &mut Part) {
        let share = Arc::clone(&part.share);
        let spoilt = || {
            let spoil = self.stage.spoil.as_ref()?;
            Some(spoil.entered(&share, &self.stage, (self.peer, &self.tell)))
        };
        match &self.stage.house {
            Some(house) => {
                let (ties, told, spoilt) = house.enter(self.peer, &share, spoilt);
                (part.ties, part.told, part.spoilt) = (Some(ties), Some(told), spoilt);
            }
            None => part.spoilt = spoilt(),
        }
    }

    fn breaks_tls(&self) -> bool {
        let applied = self.stage.spoil.as_ref().and_then(|spoil| spoil.door().connected());
        applied.inspect(|applied| self.tell(applied)).is_some()
    }

    fn refusal(&self, request: Request, topic: &str) -> Option<Refusal> {
        let topics = self.offer().topics();
        let topic = if topics.contains(topic) { topic } else { "" };
        let (refusal, applied) = self.stage.spoil.as_ref()?.door().asked(request, topic)?;
        self.tell(&applied);
        Some(refusal)
    }
}

/// Why a client is not played to any more.
pub(super) enum Exit {
    /// Its connection is over.
    Left(Ended),
    /// It is to end like that, on purpose.
    Spoilt(End),
    /// It is to be closed with this code, as its key has died.
    Expired(u16),
    /// The same, because somebody said so.
    Dropped(End),
}

impl From<Ended> for Exit {
    fn from(ended: Ended) -> Self {
        Self::Left(ended)
    }
}

impl Outlet<'_> {
    /// Ends the connection if that is to happen before the next frame, or when nothing follows. Returns where to
    /// go instead if the client is sent elsewhere meanwhile.
    pub(super) async fn until_moment(
        &mut self,
        next: Option<Position>,
    ) -> Result<Option<Leap>, Exit> {
        if let Some(spoilt) = &mut self.spoilt {
            spoilt.pass_over_moments(next);
        }
        loop {
            let ends = self.spoilt.as_ref().and_then(|spoilt| spoilt.ends_before(next));
            let Some(place) = ends else { return Ok(None) };
            self.flush().await?;
            match self.until_place(place).await? {
                Turn::Due(_) => break,
                Turn::Anew => {}
                Turn::Leap(leap) => return Ok(Some(leap)),
            }
        }
        let Some(Spoilt { spoiler, tell, peer, .. }) = &mut self.spoilt else { return Ok(None) };
        let Some(PlannedEnd { end, applied, .. }) = spoiler.end() else { return Ok(None) };
        tell(News::Spoilt { peer: *peer, applied: &applied });
        self.tally.spoilt(&applied);
        Err(Exit::Spoilt(end))
    }

    /// Gives the client what a frame has become.
    pub(super) async fn hand_over_spoilt(&mut self, cue: Cue, due: Instant) -> Result<(), Exit> {
        let Cue { position, subscription, received, frame, .. } = cue;
        let entry = Entry { subscription, received, what: What::Frame(frame) };
        let Some(spoilt) = &mut self.spoilt else { return Ok(()) };
        let Spoilt { spoiler, stage, reached, .. } = spoilt;
        *reached = position;
        let steps = spoiler.frame(&entry, position.recorded(), |doubt| stage.note(doubt));
        self.take_steps(steps, due).await
    }

    /// Gives the client what no further frame lets go.
    pub(super) async fn hand_over_rest(&mut self) -> Result<(), Exit> {
        let steps = self.spoilt.as_mut().map(|spoilt| spoilt.spoiler.rest()).unwrap_or_default();
        self.take_steps(steps, Instant::now()).await?;
        Ok(self.flush().await?)
    }

    async fn take_steps(&mut self, steps: Vec<Step>, due: Instant) -> Result<(), Exit> {
        for Step { act, later, applied, of } in steps {
            if !later.is_zero() {
                // It is due all the same: for whoever counts, it is late.
                let leaves = due.checked_add(later).unwrap_or(due);
                self.flush().await?;
                self.peer.meanwhile(self.alarm.at(leaves.into_std())).await?;
            }
            if matches!(act, Act::End(_)) {
                // It strikes when all before it has gone: until then, pings are answered.
                self.flush().await?;
            }
            if let Some(Spoilt { tell, peer, .. }) = &self.spoilt {
                for applied in &applied {
                    tell(News::Spoilt { peer: *peer, applied });
                    self.tally.spoilt(applied);
                }
            }
            match act {
                Act::HoldBack | Act::Nothing => {}
                Act::Message(message) => self.send(message, &of, due).await?,
                Act::Stall(length) => {
                    self.flush().await?;
                    tokio::time::sleep(length).await;
                }
                Act::MutePongs => self.peer.mute_pongs(),
                Act::Pings(count) => {
                    self.peer.queue_pings(count);
                    self.flush().await?;
                }
                Act::End(end) => return Err(Exit::Spoilt(end)),
            }
        }
        Ok(())
    }

    async fn send(
        &mut self,
        Message { data, form }: Message,
        of: &Arc<Subscription>,
        due: Instant,
    ) -> Result<(), Ended> {
        match form {
            Form::WHOLE => {
                self.queue(data, of, due, false);
                self.flush_if_full().await
            }
            Form { slowly: None, .. } => {
                self.tally.queued(of, data.len(), due, false);
                self.peer.queue_as(&data, form);
                self.flush().await
            }
            Form { slowly: Some((bytes, every)), .. } => {
                // Only this one is slow.
                self.flush().await?;
                self.tally.queued(of, data.len(), due, false);
                self.peer.queue_as(&data, form);
                self.peer.dribble(bytes, every).await?;
                self.flush().await
            }
        }
    }
}

/// Ends a connection as a fault wants it. Returns the closing handshake, if it was one.
pub(super) async fn end(
    mut peer: Peer,
    end: End,
    stopped: &mut watch::Receiver<bool>,
) -> Option<Close> {
    match end {
        End::Close { code, reason } => {
            let answered = say_goodbye(peer, code, &reason, stopped).await.is_ok();
            return Some(Close { by: report::End::Server, code, answered });
        }
        End::Reset { cut } => {
            write_part(&mut peer, cut).await;
            peer.reset();
        }
        End::HalfOpen { cut, length } => {
            write_part(&mut peer, cut).await;
            let over = length.and_then(|length| Instant::now().checked_add(length));
            let is_over = tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => false,
                () = until(over) => true,
                () = peer.play_dead() => false,
            };
            if is_over {
                peer.reset();
            }
        }
        End::BreakTls => peer.break_tls().await,
    }
    None
}

async fn write_part(peer: &mut Peer, Cut { message: Message { data, form }, part }: Cut) {
    if part > 0.0 {
        peer.queue_as(&data, form);
        // A peer that has gone already misses nothing.
        let _ = tokio::time::timeout(Duration::from_secs(5), peer.write_part(part)).await;
    }
}

/// One word for how a fault has ended a connection.
pub(super) const fn word(end: &End) -> &'static str {
    match end {
        End::Close { .. } => "close",
        End::Reset { .. } => "reset",
        End::HalfOpen { .. } => "half-open",
        End::BreakTls => "break-tls",
    }
}
