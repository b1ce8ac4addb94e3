//! What a server under control knows of its clients, and the orders that they get.
//!
//! Commands are carried out one at a time, each at one instant. A client hears of them in their order,
//! whatever it is doing meanwhile, and reckons from the instant and not from when it came round to it; who
//! has not begun yet finds a clock on which they have been carried out.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    super::{Options, Timeline, hold::Hold, keys::Keys, offer::Share, spoil::Spoil},
    COMMANDS_REPORTED, Command, Farewell, Given, State, Until, Visitor as Seen,
};
use crate::{
    entry::Timestamp,
    error::{Error, Kind, Result},
    fault::Faults,
    pace::{Pace, Position, Speed},
    select::Moment,
};

/// Where a replay begins that somebody has sent elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replay) struct Origin {
    /// The first frame that was not received before this is the first that is sent.
    pub received: Timestamp,
    /// Where that moment is.
    pub position: Position,
}

/// The replay goes on somewhere else: at the beginning, if it has no origin.
#[derive(Clone, Copy, Debug)]
pub(in crate::replay) struct Leap(pub Option<Origin>);

/// What happens to a clock.
#[derive(Clone, Copy, Debug)]
pub(in crate::replay) enum Change {
    Pause,
    Resume,
    Step(u64),
    Speed(Speed),
    Leap(Leap),
}

impl Change {
    pub(in crate::replay) fn apply(self, pace: &mut Pace, now: Duration) {
        match self {
            Self::Pause => pace.pause(now),
            Self::Resume => pace.resume(now),
            Self::Step(frames) => pace.step(now, frames),
            Self::Speed(speed) => pace.set_speed(now, speed),
            Self::Leap(Leap(origin)) => {
                pace.seek(now, origin.map(|origin| origin.position).unwrap_or_default());
            }
        }
    }

    pub(in crate::replay) const fn leap(self) -> Option<Leap> {
        match self {
            Self::Leap(leap) => Some(leap),
            _ => None,
        }
    }
}

/// What a client is told.
pub(in crate::replay) enum Order {
    /// Its own clock changes at that instant.
    Change(Instant, Change),
    /// The clock of all is this one now.
    Clock(Pace, Option<Leap>),
    /// More rules for what goes wrong.
    Inject(Faults),
    /// All that was counted begins anew.
    Renew,
}

/// What a server under control knows of its clients.
pub(in crate::replay) struct House {
    timeline: Timeline,
    /// As it was at the beginning.
    speed: Speed,
    loop_delay: Duration,
    /// When the first frame was received; None if there is none.
    start: Option<Timestamp>,
    spoil: Arc<Spoil>,
    hold: Arc<Hold>,
    keys: Option<Keys>,
    board: Mutex<Board>,
}

struct Board {
    /// The clock of all; or, with a clock for each, as that of the next client is when it begins.
    clock: Pace,
    /// Where whoever comes begins, before what is over by the clock is left out.
    origin: Option<Origin>,
    visitors: BTreeMap<u64, Visitor>,
    /// Clients that have ever been.
    came: u64,
    /// Of these, so many since the last reset, those that were here among them.
    counted: u64,
    /// Frames that were written since then, by topic and subscription.
    delivered: BTreeMap<String, BTreeMap<String, u64>>,
    resets: u64,
    given: Vec<(Instant, Given)>,
    commands: u64,
    ended: bool,
    /// Those who wait, and for what. Whatever changes is held against it at once: what has come about is
    /// not missed, however soon it is over.
    waiting: Vec<(Until, oneshot::Sender<Result<State, String>>)>,
}

struct Visitor {
    peer: SocketAddr,
    topic: String,
    connected: Timestamp,
    /// Frames that were written, by subscription.
    delivered: BTreeMap<String, u64>,
    /// Its clock, as it was when it last said so,
    pace: Pace,
    /// and the zero of that; None before it begins.
    zero: Option<Instant>,
    /// Where it begins.
    origin: Option<Origin>,
    paused: bool,
    /// Its part of the capture has been found.
    ready: bool,
    /// It has been sent elsewhere so many times,
    leaps: u64,
    /// and after so many of them it had got its last frame.
    done: Option<u64>,
    orders: mpsc::UnboundedSender<Order>,
    farewell: Option<oneshot::Sender<Farewell>>,
}

impl House {
    pub(in crate::replay) fn new<'s>(
        options: &Options,
        subscriptions: impl Iterator<Item = (&'s String, &'s String)>,
        (spoil, hold, keys): (Arc<Spoil>, Arc<Hold>, Option<Keys>),
    ) -> Self {
        let mut delivered = BTreeMap::<_, BTreeMap<_, _>>::new();
        for (topic, name) in subscriptions {
            delivered.entry(topic.clone()).or_default().insert(name.clone(), 0);
        }
        let entries = options.selection.clone().of(options.capture.entries());
        let mut entries = entries.filter_map(Result::ok);
        let start = entries.find_map(|entry| entry.frame().map(|_| entry.received));
        let board = Board {
            clock: Pace::new(options.speed),
            origin: None,
            visitors: BTreeMap::new(),
            came: 0,
            counted: 0,
            delivered,
            resets: 0,
            given: Vec::new(),
            commands: 0,
            ended: false,
            waiting: Vec::new(),
        };
        Self {
            timeline: options.timeline,
            speed: options.speed,
            loop_delay: options.loop_delay,
            start,
            spoil,
            hold,
            keys,
            board: Mutex::new(board),
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something that somebody may wait for.
    fn change_board<T>(&self, change: impl FnOnce(&mut Board) -> T) -> T {
        let mut board = self.board();
        let changed = change(&mut board);
        self.tell_waiting(&mut board);
        changed
    }

    /// Answers those who wait for what there is now.
    fn tell_waiting(&self, board: &mut Board) {
        if board.waiting.is_empty() {
            return;
        }
        for (until, waiting) in std::mem::take(&mut board.waiting) {
            // Who does not wait any more needs no answer.
            let _ = if until.holds(board) {
                waiting.send(Ok(self.state_of(board)))
            } else if board.ended {
                waiting.send(Err(until.found(board) + " when the replay ended"))
            } else if let Some(client) = until.who_left(board) {
                waiting.send(Err(format!("client {client} has left")))
            } else {
                if !waiting.is_closed() {
                    board.waiting.push((until, waiting));
                }
                Ok(())
            };
        }
    }

    /// A client has subscribed. `with` is done while no command is carried out.
    pub(in crate::replay) fn enter<T>(
        self: &Arc<Self>,
        peer: SocketAddr,
        share: &Share,
        with: impl FnOnce() -> T,
    ) -> (Ties, oneshot::Receiver<Farewell>, T) {
        let (to, orders) = mpsc::unbounded_channel();
        let (farewell, told) = oneshot::channel();
        let (id, resets, made) = self.change_board(|board| {
            board.came += 1;
            board.counted += 1;
            let visitor = Visitor {
                peer,
                topic: share.topic.clone(),
                connected: Timestamp::now(),
                delivered: share.subscriptions.iter().map(|name| (name.clone(), 0)).collect(),
                pace: board.clock.clone(),
                zero: None,
                origin: board.origin,
                paused: board.clock.is_paused(),
                ready: false,
                leaps: 0,
                done: None,
                orders: to,
                farewell: Some(farewell),
            };
            board.visitors.insert(board.came, visitor);
            (board.came, board.resets, with())
        });
        (Ties { house: Arc::clone(self), id, orders, leaps: 0, resets }, told, made)
    }

    /// Carries out a command, for one client or for all that are here and those that come.
    pub(super) fn give(&self, command: Command, client: Option<u64>) -> Result<()> {
        self.change_board(|board| {
            let at = Instant::now();
            let (word, with) = (command.word(), command.with());
            self.carry_out(board, command, client, at)?;
            board.commands += 1;
            if board.given.len() < COMMANDS_REPORTED {
                let after = Duration::ZERO;
                board.given.push((at, Given { after, command: word, with, client }));
            }
            Ok(())
        })
    }

    fn carry_out(
        &self,
        board: &mut Board,
        command: Command,
        client: Option<u64>,
        at: Instant,
    ) -> Result<()> {
        if let Some(client) = client
            && !board.visitors.contains_key(&client)
        {
            let here: Vec<_> = board.visitors.keys().map(u64::to_string).collect();
            let here = if here.is_empty() { "none is".to_owned() } else { here.join(", ") };
            return Err(Kind::NoClient { client, here }.into());
        }
        match command {
            Command::Pause => self.change(board, Change::Pause, client, at),
            Command::Resume => self.change(board, Change::Resume, client, at),
            Command::Step(frames) => self.change(board, Change::Step(frames), client, at),
            Command::Speed(speed) => self.change(board, Change::Speed(speed), client, at),
            Command::Seek(to) => {
                let leap = Leap(self.origin(to)?);
                self.change(board, Change::Leap(leap), client, at)
            }
            Command::Inject(_) | Command::Expire(_) | Command::Reset if client.is_some() => {
                let hint = "leave the client out; a rule may name a topic and a connection";
                Err(Error::usage("a command for all", "one for a client", hint))
            }
            Command::Inject(faults) => {
                let faults = self.spoil.inject(&faults);
                for visitor in board.visitors.values() {
                    visitor.tell(Order::Inject(faults.clone()));
                }
                Ok(())
            }
            Command::Drop(farewell) => {
                let all = board.visitors.iter_mut();
                let those = all.filter(|(id, _)| client.is_none_or(|client| client == **id));
                for (_, visitor) in those {
                    // Who is on the way out already cannot be told.
                    let told = visitor.farewell.take();
                    let _ = told.map(|told| told.send(farewell.clone()));
                }
                Ok(())
            }
            Command::Expire(account) => match &self.keys {
                Some(keys) => keys.expire(&account),
                None => {
                    let hint = "name the file with the accounts: --accounts FILE";
                    Err(not_now("accounts whose keys can die", "none, as any key will do", hint))
                }
            },
            Command::Reset => {
                self.reset(board, at);
                Ok(())
            }
        }
    }

    /// The place of a moment.
    fn origin(&self, to: Moment) -> Result<Option<Origin>> {
        let Some(start) = self.start else {
            let hint = "there is nowhere to go in it";
            return Err(not_now("a frame in what is played", "none", hint));
        };
        let after = match to {
            Moment::AfterStart(after) => after,
            Moment::At(time) if time >= start => time.since(start),
            Moment::At(time) => {
                let hint = "+0s is the first frame";
                let expected = format!("a moment from {start} on");
                return Err(Error::usage(expected, time.to_string(), hint));
            }
        };
        let origin = Origin { received: start.after(after), position: Position::after(after) };
        Ok((!after.is_zero()).then_some(origin))
    }

    fn change(
        &self,
        board: &mut Board,
        change: Change,
        client: Option<u64>,
        at: Instant,
    ) -> Result<()> {
        match self.timeline {
            Timeline::Shared => {
                self.allow_shared(change, client)?;
                board.change_clock(&[change], self.by_clock(at));
            }
            Timeline::Client => {
                let meant = |id: u64| client.is_none_or(|client| client == id);
                let mut meant_ones = board.visitors.iter().filter(|(id, _)| meant(**id));
                if matches!(change, Change::Step(_)) && !meant_ones.any(|(_, one)| one.paused) {
                    let hint = "pause it first, and let somebody connect";
                    return Err(not_now("a client in a pause", "none", hint));
                }
                if client.is_none() {
                    board.change_template(change);
                }
                for (_, visitor) in board.visitors.iter_mut().filter(|(id, _)| meant(**id)) {
                    visitor.change(change, at);
                }
            }
        }
        Ok(())
    }

    /// What one clock for all cannot do.
    fn allow_shared(&self, change: Change, client: Option<u64>) -> Result<()> {
        if client.is_some() {
            let hint = "leave the client out, or use --timeline client";
            return Err(not_now("a clock for each client", "one for all", hint));
        }
        match change {
            Change::Step(_) => {
                let hint = "the next frame is another one for each; seek, or use --timeline client";
                Err(not_now("a clock for each client to step", "one for all", hint))
            }
            Change::Speed(Speed::MAX) => {
                let hint = "take a number; a very large one will do";
                Err(Error::usage("a speed for the shared timeline", "max", hint))
            }
            Change::Speed(_) if !self.loop_delay.is_zero() => {
                let hint = "leave out --loop-delay, or use --timeline client";
                let expected = "no delay between rounds, to change the speed of a shared timeline";
                Err(not_now(expected, format!("{:?}", self.loop_delay), hint))
            }
            _ => Ok(()),
        }
    }

    fn reset(&self, board: &mut Board, at: Instant) {
        let changes = [Change::Resume, Change::Speed(self.speed), Change::Leap(Leap(None))];
        board.resets += 1;
        board.counted = board.visitors.len() as u64;
        for count in board.delivered.values_mut().flat_map(BTreeMap::values_mut) {
            *count = 0;
        }
        self.spoil.renew();
        for visitor in board.visitors.values_mut() {
            visitor.delivered.values_mut().for_each(|count| *count = 0);
            visitor.tell(Order::Renew);
        }
        match self.timeline {
            Timeline::Shared => board.change_clock(&changes, self.by_clock(at)),
            Timeline::Client => {
                for change in changes {
                    board.change_template(change);
                    board.visitors.values_mut().for_each(|visitor| visitor.change(change, at));
                }
            }
        }
    }

    pub(super) fn state(&self) -> State {
        self.state_of(&self.board())
    }

    fn state_of(&self, board: &Board) -> State {
        let now = Instant::now();
        let is_shared = self.timeline == Timeline::Shared;
        let of_all = |zero: Instant| board.clock.played(now.saturating_duration_since(zero));
        let clients = board.visitors.iter().map(|(&client, visitor)| {
            let pace = &visitor.pace;
            let played = visitor.zero.map(|zero| {
                let end = visitor.is_done().then(|| pace.played_to_its_end());
                end.unwrap_or_else(|| pace.played(now.saturating_duration_since(zero)))
            });
            Seen {
                client,
                peer: visitor.peer,
                topic: visitor.topic.clone(),
                connected: visitor.connected,
                paused: visitor.paused,
                speed: visitor.pace.speed(),
                played: played.unwrap_or_default(),
                frames: visitor.delivered.values().sum(),
                subscriptions: visitor.delivered.clone(),
                done: visitor.is_done(),
            }
        });
        State {
            timeline: self.timeline,
            paused: board.clock.is_paused(),
            speed: board.clock.speed(),
            played: self.hold.at().filter(|_| is_shared).map(of_all),
            start: self.start,
            came: board.counted,
            clients: clients.collect(),
            delivered: board.delivered.clone(),
            commands: board.commands,
            ended: board.ended,
        }
    }

    /// Waits until it holds or all is over; no longer than that.
    pub(super) async fn wait(&self, until: &Until, patience: Duration) -> Result<State> {
        self.known(until)?;
        let (waiting, told) = oneshot::channel();
        self.change_board(|board| board.waiting.push((until.clone(), waiting)));
        let found = match tokio::time::timeout(patience, told).await {
            Ok(Ok(Ok(state))) => return Ok(state),
            Ok(Ok(Err(found))) => found,
            // Whoever asks keeps the house, so nobody is left without an answer.
            Ok(Err(_)) | Err(_) => until.found(&self.board()) + &format!(" after {patience:?}"),
        };
        Err(Kind::NotInTime { expected: until.to_string(), found }.into())
    }

    /// Refuses to wait for what will never be.
    fn known(&self, until: &Until) -> Result<()> {
        let Until::Frames { topic, subscription, .. } = until else { return Ok(()) };
        let board = self.board();
        let all = board.delivered.iter();
        let of_topic = all.filter(|(name, _)| topic.as_ref().is_none_or(|topic| topic == *name));
        let mut names = of_topic.flat_map(|(_, names)| names.keys());
        if names.any(|name| subscription.as_ref().is_none_or(|wanted| wanted == name)) {
            return Ok(());
        }
        let all = board
            .delivered
            .iter()
            .flat_map(|(topic, names)| names.keys().map(move |name| format!("{name} of {topic}")));
        let all = all.collect::<Vec<_>>().join(", ");
        let hint = "inspect says what the capture has";
        Err(Error::usage(format!("subscriptions that there are ({all})"), until.to_string(), hint))
    }

    /// What was commanded since that instant, up to so much of it, and how much it was.
    pub(in crate::replay) fn given(&self, since: Instant) -> (Vec<Given>, u64) {
        let board = self.board();
        let given = board.given.iter().map(|(at, given)| {
            let after = at.saturating_duration_since(since);
            Given { after, ..given.clone() }
        });
        (given.collect(), board.commands)
    }

    /// Nothing more will happen.
    pub(in crate::replay) fn end(&self) {
        self.change_board(|board| board.ended = true);
    }

    /// An instant by the clock of all, which stands at zero until it starts.
    fn by_clock(&self, at: Instant) -> Duration {
        self.hold.at().map_or(Duration::ZERO, |zero| at.saturating_duration_since(zero))
    }

    /// The clock of all at an instant.
    fn with_clock<T>(&self, at: Instant, ask: impl FnOnce(&Pace, Duration) -> T) -> T {
        let now = self.by_clock(at);
        ask(&self.board().clock, now)
    }
}

fn not_now(expected: impl Into<String>, found: impl Into<String>, hint: &'static str) -> Error {
    Kind::NotNow { expected: expected.into(), found: found.into(), hint }.into()
}

impl Board {
    fn change_clock(&mut self, changes: &[Change], now: Duration) {
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
            // The others ask when they begin.
            if visitor.zero.is_some() {
                visitor.tell(Order::Clock(self.clock.clone(), leapt));
            }
        }
    }

    /// For those who come. Steps are for those who are here.
    fn change_template(&mut self, change: Change) {
        if !matches!(change, Change::Step(_)) {
            change.apply(&mut self.clock, Duration::ZERO);
        }
        if let Some(Leap(origin)) = change.leap() {
            self.origin = origin;
        }
    }
}

impl Visitor {
    fn tell(&self, order: Order) {
        // To be dropped is the last that a client hears: it could come round to a later order first.
        if self.farewell.is_some() {
            // Who has gone meanwhile needs no orders.
            let _ = self.orders.send(order);
        }
    }

    fn change(&mut self, change: Change, at: Instant) {
        match change {
            Change::Pause => self.paused = true,
            Change::Resume => self.paused = false,
            _ => {}
        }
        self.leaps += u64::from(change.leap().is_some());
        self.tell(Order::Change(at, change));
    }

    fn is_done(&self) -> bool {
        self.done == Some(self.leaps)
    }
}

impl Until {
    fn holds(&self, board: &Board) -> bool {
        match self {
            Self::Clients(clients) => board.ready() >= *clients,
            Self::Frames { count, .. } => self.frames(board) >= *count,
            Self::End => board.ended || (board.counted > 0 && board.are_done()),
        }
    }

    /// What there is of it so far.
    fn found(&self, board: &Board) -> String {
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
    fn who_left(&self, board: &Board) -> Option<u64> {
        let Self::Frames { client, .. } = self else { return None };
        client.filter(|id| (1..=board.came).contains(id) && !board.visitors.contains_key(id))
    }

    fn frames(&self, board: &Board) -> u64 {
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

impl Board {
    fn ready(&self) -> usize {
        self.visitors.values().filter(|visitor| visitor.ready).count()
    }

    fn are_done(&self) -> bool {
        self.visitors.values().all(Visitor::is_done)
    }
}

/// What ties a client to its house. Dropping it is leaving.
pub(in crate::replay) struct Ties {
    house: Arc<House>,
    id: u64,
    orders: mpsc::UnboundedReceiver<Order>,
    /// As many as it has heard of.
    leaps: u64,
    resets: u64,
}

impl Ties {
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

    /// It begins. Its clock, and where it begins: of one clock for all as that is now, of one for each as
    /// it was when the client came; what has changed since it will hear. `zero` is that of the clock.
    pub(in crate::replay) fn begin(&mut self, zero: Instant) -> (Pace, Option<Origin>) {
        let is_shared = self.house.timeline == Timeline::Shared;
        let mut board = self.house.board();
        let board = &mut *board;
        let Some(visitor) = board.visitors.get_mut(&self.id) else {
            return (Pace::new(self.house.speed), None);
        };
        if is_shared {
            (visitor.pace, visitor.origin) = (board.clock.clone(), board.origin);
            self.leaps = visitor.leaps;
        }
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
            Order::Change(_, Change::Leap(_)) | Order::Clock(_, Some(_)) => self.leaps += 1,
            Order::Renew => self.resets += 1,
            _ => {}
        }
    }

    /// Says where its clock stands, for which nobody waits.
    pub(in crate::replay) fn say(&self, zero: Instant, pace: &Pace) {
        if let Some(visitor) = self.house.board().visitors.get_mut(&self.id) {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::capture::Capture;

    fn house() -> Arc<House> {
        let options = Options::new(Capture::open(&["fixtures/campus.mcap"]).unwrap());
        let spoil = Arc::new(Spoil::new(Faults::none(None)));
        let hold = Arc::new(Hold::until(0, BTreeSet::new()));
        let (topic, name) = ("audit".to_owned(), "campus".to_owned());
        let subscriptions = [(&topic, &name)].into_iter();
        Arc::new(House::new(&options, subscriptions, (spoil, hold, None)))
    }

    fn enter(house: &Arc<House>) -> (Ties, oneshot::Receiver<Farewell>) {
        let share = Share { topic: "audit".to_owned(), subscriptions: BTreeSet::new() };
        let peer = SocketAddr::from(([192, 0, 2, 1], 1));
        let (ties, told, ()) = house.enter(peer, &share, || ());
        (ties, told)
    }

    #[test]
    fn who_is_to_be_dropped_hears_no_later_order() {
        let house = house();
        let (mut ties, mut told) = enter(&house);

        house.give(Command::Pause, None).unwrap();
        house.give(Command::Drop(Farewell::Reset), None).unwrap();
        house.give(Command::Resume, None).unwrap();

        assert!(told.try_recv().is_ok());
        assert!(matches!(ties.unheard(), Some(Order::Change(_, Change::Pause))));
        assert!(ties.unheard().is_none(), "it would play on before it is dropped");
    }

    #[tokio::test]
    async fn nobody_waits_for_frames_of_a_client_that_has_left() {
        let house = house();
        let (first, _told) = enter(&house);
        let of = |client| Until::Frames {
            count: 1,
            topic: None,
            subscription: None,
            client: Some(client),
        };
        let (early, of_second) = (of(1), of(2));
        let patience = Duration::from_secs(600);
        let waiting = house.wait(&early, patience);
        let leaving = async {
            tokio::task::yield_now().await;
            drop(first);
        };

        let (waited, ()) = tokio::join!(waiting, leaving);

        let expected = "expected 1 frame for client 1, found client 1 has left";
        assert_eq!(waited.unwrap_err().to_string(), expected);
        assert_eq!(house.wait(&early, patience).await.unwrap_err().to_string(), expected);
        // Who has not come yet may.
        let error = house.wait(&of_second, Duration::ZERO).await.unwrap_err();
        assert_eq!(error.to_string(), "expected 1 frame for client 2, found 0 after 0ns");
    }
}
