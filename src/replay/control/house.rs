//! What a server under control does with the commands that it is given.
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
    board::{Board, ORDERS, Visitor},
    orders::{Change, Leap, Order, Origin},
    ties::Ties,
};
use crate::{
    entry::Timestamp,
    error::{Error, Kind, Result},
    pace::{Pace, Position, Speed},
    select::Moment,
};

/// As long as this is there, a server under control is. It may go without a word, and whoever keeps a control
/// hears of that, too.
pub(in crate::replay) struct Open(pub Arc<House>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A server under control: its clock and its clients.
pub(in crate::replay) struct House {
    pub(super) timeline: Timeline,
    /// As it was at the beginning.
    pub(super) speed: Speed,
    loop_delay: Duration,
    /// When the first frame was received; None if there is none.
    start: Option<Timestamp>,
    /// When the capture begins, of which that frame may be a later part.
    capture_start: Option<Timestamp>,
    spoil: Arc<Spoil>,
    hold: Arc<Hold>,
    keys: Option<Keys>,
    board: Mutex<Board>,
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
        let mut all = options.capture.entries().filter_map(Result::ok);
        let capture_start = all.next().map(|entry| entry.received);
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
            capture_start,
            spoil,
            hold,
            keys,
            board: Mutex::new(board),
        }
    }

    pub(super) fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something that somebody may wait for.
    pub(super) fn change_board<T>(&self, change: impl FnOnce(&mut Board) -> T) -> T {
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
        let (to, orders) = mpsc::channel(ORDERS);
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
        (Ties::new(Arc::clone(self), id, orders, resets), told, made)
    }

    /// Carries out a command, for one client or for all that are here and those that come.
    pub(super) fn give(&self, command: Command, client: Option<u64>) -> Result<()> {
        self.change_board(|board| {
            if board.ended {
                let hint = "start another one";
                return Err(not_now("a replay that goes on", "one that has ended", hint));
            }
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
                for visitor in board.visitors.values_mut() {
                    visitor.tell(Order::Inject(faults.clone()));
                }
                Ok(())
            }
            Command::Drop(farewell) => {
                farewell.check()?;
                let all = board.visitors.iter_mut();
                let those = all.filter(|(id, _)| client.is_none_or(|client| client == **id));
                those.for_each(|(_, visitor)| visitor.drop_with(farewell.clone()));
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
            // In the capture, and nothing is played before the first frame.
            Moment::At(time) if self.capture_start.is_some_and(|start| time >= start) => {
                Duration::ZERO
            }
            Moment::At(time) => {
                let hint = "+0s is the first frame";
                let start = self.capture_start.map_or(start, |first| first.min(start));
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
            // Counted here, in the order in which they came: they hear of it in any.
            if visitor.hears() {
                let spoiler = self.spoil.counted(&visitor.topic, visitor.delivered.keys());
                visitor.tell(Order::Renew(Box::new(spoiler)));
            }
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
        let clients = board.staying().map(|(client, visitor)| {
            let pace = &visitor.pace;
            let end = visitor.is_done().then(|| pace.played_to_its_end());
            let since = visitor.zero.map(|zero| now.saturating_duration_since(zero));
            let played = end.unwrap_or_else(|| pace.played(since.unwrap_or_default()));
            Seen {
                client,
                peer: visitor.peer,
                topic: visitor.topic.clone(),
                connected: visitor.connected,
                paused: visitor.paused,
                speed: visitor.pace.speed(),
                played,
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
        let Until::Frames { topic, subscription, client, .. } = until else { return Ok(()) };
        if *client == Some(0) {
            let hint = "clients have the numbers that /state says";
            return Err(Error::usage("a number of a client, from 1 on", "0", hint));
        }
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
    fn end(&self) {
        self.change_board(|board| board.ended = true);
    }

    /// An instant by the clock of all, which stands at zero until it starts.
    fn by_clock(&self, at: Instant) -> Duration {
        self.hold.at().map_or(Duration::ZERO, |zero| at.saturating_duration_since(zero))
    }

    /// The clock of all at an instant.
    pub(super) fn with_clock<T>(&self, at: Instant, ask: impl FnOnce(&Pace, Duration) -> T) -> T {
        let now = self.by_clock(at);
        ask(&self.board().clock, now)
    }
}

fn not_now(expected: impl Into<String>, found: impl Into<String>, hint: &'static str) -> Error {
    Kind::NotNow { expected: expected.into(), found: found.into(), hint }.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{capture::Capture, fault::Faults};

    fn house() -> Arc<House> {
        let options = Options::new(Capture::open(&["fixtures/campus.mcap"]).unwrap());
        let spoil = Arc::new(Spoil::new(Faults::none(None)));
        let hold = Arc::new(Hold::until(0, BTreeSet::new()));
        let (topic, name) = ("audit".to_owned(), "campus".to_owned());
        let subscriptions = [(&topic, &name)].into_iter();
        Arc::new(House::new(&options, subscriptions, (spoil, hold, None)))
    }

    /// A client that plays.
    fn enter(house: &Arc<House>) -> (Ties, oneshot::Receiver<Farewell>) {
        let (mut ties, told) = arrive(house);
        ties.begin(Instant::now());
        (ties, told)
    }

    /// One that has not begun: it is held, or its part of the capture is being opened.
    fn arrive(house: &Arc<House>) -> (Ties, oneshot::Receiver<Farewell>) {
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

    #[test]
    fn who_hears_nothing_is_dropped_and_nobody_else() {
        let house = house();
        let (_stalled, mut told) = enter(&house);
        let (mut ties, mut listening) = enter(&house);

        for given in 0..=ORDERS {
            assert!(told.try_recv().is_err(), "dropped with {given} orders unheard");
            let command = if given % 2 == 0 { Command::Pause } else { Command::Resume };
            house.give(command, None).unwrap();
            assert!(ties.unheard().is_some());
        }

        assert_eq!(told.try_recv(), Ok(Farewell::Reset));
        assert!(listening.try_recv().is_err() && ties.unheard().is_none());
        assert!(house.give(Command::Pause, None).is_ok());
    }

    #[test]
    fn who_has_not_begun_has_what_was_commanded_and_is_not_dropped_for_it() {
        let house = house();
        let (mut ties, mut told) = arrive(&house);

        for _ in 0..=ORDERS {
            house.give(Command::Pause, None).unwrap();
        }
        house.give(Command::Speed("10".parse().unwrap()), None).unwrap();
        house.give(Command::Seek("+1m".parse().unwrap()), None).unwrap();

        assert!(told.try_recv().is_err(), "it stalls nothing");
        let state = house.state();
        let [held] = &state.clients[..] else { panic!("{state:?}") };
        let found = (held.paused, held.speed.to_string(), held.played, held.done);
        assert_eq!(found, (true, "10".to_owned(), Duration::from_secs(60), false));
        let (pace, origin) = ties.begin(Instant::now());
        assert!(pace.is_paused() && pace.speed().to_string() == "10");
        assert_eq!(origin.unwrap().position, Position::after(Duration::from_secs(60)));
        assert!(ties.unheard().is_none(), "it would be done twice");
        ties.done();
        assert!(house.state().clients[0].done, "it has heard of the leap");
    }

    #[test]
    fn what_was_commanded_is_known_at_once_whether_the_client_has_heard_it_or_not() {
        let house = house();
        let (ties, _told) = enter(&house);
        let client = || house.state().clients.pop().unwrap();

        house.give(Command::Pause, None).unwrap();
        house.give(Command::Speed("10".parse().unwrap()), None).unwrap();
        house.give(Command::Seek("+1m".parse().unwrap()), None).unwrap();
        // It is on its way to where it hears of them.
        ties.say(Instant::now(), &Pace::new(Speed::default()));

        let found = client();
        let found = (found.paused, found.speed.to_string(), found.played);
        assert_eq!(found, (true, "10".to_owned(), Duration::from_secs(60)));
        house.give(Command::Reset, None).unwrap();
        let found = client();
        assert!(found.speed.to_string() == "1" && found.played < Duration::from_secs(30));
        house.give(Command::Drop(Farewell::Reset), Some(1)).unwrap();
        assert!(house.state().clients.is_empty());
    }

    #[test]
    fn nobody_is_dropped_with_more_words_than_a_close_has_room_for() {
        let house = house();
        let (_ties, mut told) = enter(&house);
        let close = |size| Farewell::Close { code: Some(1001), reason: "x".repeat(size) };

        let error = house.give(Command::Drop(close(124)), None).unwrap_err();

        assert_eq!(error.to_string(), "expected a reason of 123 bytes at most, found 124");
        assert!(told.try_recv().is_err());
        house.give(Command::Drop(close(123)), None).unwrap();
        assert_eq!(told.try_recv(), Ok(close(123)));
    }

    #[test]
    fn what_has_ended_takes_no_commands() {
        let house = house();
        house.give(Command::Pause, None).unwrap();

        drop(Open(Arc::clone(&house)));

        let error = house.give(Command::Resume, None).unwrap_err();
        assert!(error.is_not_now() && error.hint().is_some());
        assert_eq!(error.to_string(), "expected a replay that goes on, found one that has ended");
        let state = house.state();
        assert!(state.ended && state.paused && state.commands == 1);
    }

    #[test]
    fn a_reset_is_heard_as_a_whole() {
        let house = house();
        let (mut ties, _told) = enter(&house);
        let resets = 2000;
        let giving = Arc::clone(&house);
        let giving = std::thread::spawn(move || {
            (0..resets).for_each(|_| giving.give(Command::Reset, None).unwrap());
        });

        for _ in 0..resets {
            while !matches!(ties.unheard(), Some(Order::Renew(_))) {}
            let rest = [(); 3].map(|()| ties.unheard());
            let rest = rest.map(|order| matches!(order, Some(Order::Change(..))));
            assert_eq!(rest, [true; 3], "a frame could come between them");
        }
        giving.join().unwrap();
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
        let error = house.wait(&of(0), patience).await.unwrap_err();
        assert!(error.is_usage() && error.hint().is_some(), "{error}");
        // Who has not come yet may.
        let error = house.wait(&of_second, Duration::ZERO).await.unwrap_err();
        assert_eq!(error.to_string(), "expected 1 frame for client 2, found 0 after 0ns");
    }
}
