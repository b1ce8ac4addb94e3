//! The life of one subscription as a pure machine: something happened, what now?
//!
//! [`Session`] is told what became of the last step and answers with a [`Step`]: events for the ledger
//! and what to do next. It reads no clock and does no I/O; times and the seed of its dice are arguments.
//!
//! Back-off is full jitter (a random time up to a bound that doubles), so that many connections that
//! were dropped together do not come back together.

use std::time::Duration;

use bytes::Bytes;

pub use self::silence::{ANSWER_WITHIN, DEAD_AFTER, PING_EVERY, Remedy, Silence};
use crate::{
    entry::{
        SessionEvent, Timestamp, nanos,
        session_event::{
            ClockStepped, Closed, Connected, Event, Failed, Gap, KeyRenewed, Rejected, gap::Cause,
        },
    },
    protocol::{Protocol, Refusal},
};

mod silence;

/// The bound of the first back-off.
pub const BACK_OFF_FIRST: Duration = Duration::from_secs(1);

/// The bound that back-off does not grow beyond, and the least wait after a lasting refusal.
pub const BACK_OFF_MOST: Duration = Duration::from_secs(60);

/// A server that asks for more time than this is asked again after it: one wrong number of a proxy must not be
/// the end of a recording.
pub const RETRY_AFTER_MOST: Duration = Duration::from_secs(60 * 60);

/// A connection that lasted so long was healthy: back-off starts again.
pub const HEALTHY: Duration = Duration::from_secs(60);

/// So long before a key dies its successor is looked for.
pub const RENEW_AHEAD: Duration = Duration::from_secs(60 * 60);

/// Not all subscriptions with one key look at the same moment: some are so much earlier.
pub const RENEW_SPREAD: Duration = Duration::from_secs(15 * 60);

/// The least time between two looks.
pub const RENEW_AGAIN: Duration = Duration::from_secs(60);

/// How much of a refusal's body is kept.
pub const BODY_KEPT: usize = 1024;

/// What to do next, and what to write down first.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// For the ledger, in order.
    pub events: Vec<SessionEvent>,
    /// What to do.
    pub next: Next,
}

/// What the session wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Open a connection; answer with [`accepted`](Session::accepted), [`refused`](Session::refused)
    /// or [`failed`](Session::failed).
    Connect,
    /// Receive until the connection ends; answer with [`ended`](Session::ended).
    Receive,
    /// Ask for the key's successor; answer with [`renewed`](Session::renewed).
    RenewKey,
    /// Let so much time pass, then answer with [`waited`](Session::waited).
    Wait(Duration),
}

/// How an attempt failed without any answer that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub reason: String,
    /// Trying again soon is no use: a certificate that is not trusted, say.
    pub lasting: bool,
}

/// A refused upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The beginning of the body.
    pub body: Bytes,
    /// How long the server asks to be left alone.
    pub retry_after: Option<Duration>,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotConnected {
    /// The server answered, but not with 101.
    Refused(Refused),
    /// There was no answer that made sense.
    Failed(Failure),
}

/// How a connection ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The code of the peer's close frame (RFC 6455, section 7.4).
    pub code: Option<u16>,
    /// The peer's reason, or what we saw.
    pub reason: String,
    /// Both sides said goodbye.
    pub clean: bool,
    /// How many frames the connection brought.
    pub frames: u64,
    /// When the last of it came, where it was found broken: of what was sent since then, nobody knows what got
    /// lost. None where its end came in order, behind all that was sent.
    pub heard_until: Option<Timestamp>,
}

/// What became of asking for a new key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// There is another key now.
    NewKey {
        /// It could be written back to where the old one came from.
        written_back: bool,
    },
    /// The server says that the key is fine.
    SameKey,
    /// The server did not answer with a key.
    Failed,
}

/// One subscription's life.
#[derive(Debug)]
pub struct Session {
    protocol: &'static dyn Protocol,
    dice: fastrand::Rng,
    /// Attempts since the last connection ended.
    attempt: u32,
    /// Connections so far.
    connection: u32,
    /// How many times in a row there was no healthy connection; the exponent of the back-off.
    in_a_row: u32,
    renewal: RenewalState,
    coverage: Coverage,
    hopeless: bool,
}

/// One renewal before each long wait: a server that answers 401 to everything must not be asked all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RenewalState {
    Untried,
    Tried,
}

/// Since when the subscription is covered, or since when and why it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coverage {
    NeverYet,
    Since(Timestamp),
    LostAt(Timestamp, Cause),
}

impl Session {
    /// A subscription that has not been connected yet.
    pub fn new(protocol: &'static dyn Protocol, seed: u64) -> Self {
        Self {
            protocol,
            dice: fastrand::Rng::with_seed(seed),
            attempt: 0,
            connection: 0,
            in_a_row: 0,
            renewal: RenewalState::Untried,
            coverage: Coverage::NeverYet,
            hopeless: false,
        }
    }

    /// An earlier recording covered it until then, and not since. Where that is known only when it is connected again,
    /// the gap is over.
    pub fn resumed(&mut self, covered_until: Timestamp, cause: Cause) -> Option<SessionEvent> {
        match self.coverage {
            Coverage::NeverYet => {
                self.coverage = Coverage::LostAt(covered_until, cause);
                None
            }
            Coverage::Since(at) => Some(self.gap_between(covered_until, at, cause)),
            Coverage::LostAt(..) => None,
        }
    }

    /// Refused for good before it was ever connected: somebody has to change something.
    pub const fn is_hopeless(&self) -> bool {
        self.hopeless
    }

    /// The first step.
    pub fn start(&mut self) -> Step {
        self.connect()
    }

    /// The upgrade was accepted.
    pub fn accepted(&mut self, now: Timestamp, round_trip: Duration, peer: String) -> Step {
        self.connection += 1;
        let connected = Connected {
            attempt: self.attempt,
            status: 101,
            round_trip_ns: nanos(round_trip),
            peer,
        };
        let mut events = vec![self.event(Event::Connected(connected))];
        events.extend(self.gap(now));
        self.coverage = Coverage::Since(now);
        self.attempt = 0;
        self.renewal = RenewalState::Untried;
        self.hopeless = false;
        Step { events, next: Next::Receive }
    }

    /// The upgrade was refused.
    pub fn refused(&mut self, refused: Refused) -> Step {
        let events = vec![self.rejected(&refused)];
        let next = match self.protocol.refusal(refused.status) {
            Refusal::RenewKey if self.renewal == RenewalState::Untried => {
                self.renewal = RenewalState::Tried;
                Next::RenewKey
            }
            Refusal::Transient => {
                let wait = self.back_off();
                let asked = refused.retry_after.unwrap_or_default().min(RETRY_AFTER_MOST);
                Next::Wait(wait.max(asked))
            }
            Refusal::RenewKey | Refusal::Persistent => self.wait_long(),
        };
        Step { events, next }
    }

    /// There was no answer, or none that made sense.
    pub fn failed(&mut self, failure: Failure) -> Step {
        let Failure { reason, lasting } = failure;
        let events = vec![self.attempt_failed(reason)];
        let next = if lasting { self.wait_long() } else { Next::Wait(self.back_off()) };
        Step { events, next }
    }

    /// The server was asked for another key.
    pub fn renewed(&mut self, renewal: &Renewal) -> Step {
        match *renewal {
            Renewal::NewKey { written_back } => {
                let event = self.event(Event::KeyRenewed(KeyRenewed { written_back }));
                let next = self.connect();
                Step { events: vec![event], next: next.next }
            }
            // The key is said to be fine: one more try, and a second refusal counts.
            Renewal::SameKey => self.connect(),
            Renewal::Failed => Step { events: Vec::new(), next: self.wait_long() },
        }
    }

    /// The time to wait is over.
    pub fn waited(&mut self) -> Step {
        self.connect()
    }

    /// The connection has ended.
    pub fn ended(&mut self, now: Timestamp, ended: Ended) -> Step {
        let events = vec![self.closed(now, ended)];
        Step { events, next: Next::Wait(self.back_off()) }
    }

    /// The user wants to stop while connected: the last event of the connection; and the gap, if nobody
    /// knows since when it was dead.
    pub fn stopped(&mut self, now: Timestamp, ended: Ended) -> Vec<SessionEvent> {
        let was_dead = ended.heard_until.is_some();
        let closed = self.closed(now, ended);
        let gap = self.gap(now).filter(|_| was_dead);
        self.coverage = Coverage::NeverYet;
        [closed].into_iter().chain(gap).collect()
    }

    /// The user wants to stop while not connected: the gap that stays open, if there is one.
    pub fn abandoned(&mut self, now: Timestamp) -> Vec<SessionEvent> {
        self.gap(now).into_iter().collect()
    }

    /// Nobody wants the subscription from now on. If it comes back, the time until then is a gap.
    pub fn leave(&mut self, now: Timestamp) {
        if self.connection > 0 || self.coverage != Coverage::NeverYet {
            self.coverage = Coverage::LostAt(now, Cause::Shutdown);
        }
        (self.attempt, self.in_a_row) = (0, 0);
        self.renewal = RenewalState::Untried;
        self.hopeless = false;
    }

    /// How long a connection goes on before a successor is looked for to a key that dies then.
    pub fn renew_in(&mut self, now: Timestamp, expires: Timestamp) -> Duration {
        let spread = RENEW_SPREAD.mul_f64(self.dice.f64());
        expires.since(now).saturating_sub(RENEW_AHEAD + spread)
    }

    /// The same after a look that found none. A server may have no new key before the old one is dead,
    /// so the looks come closer towards that moment, and rarer again after it: the prediction may be
    /// wrong.
    pub fn renew_again_in(&self, now: Timestamp, expires: Timestamp) -> Duration {
        let (left, since) = (expires.since(now), now.since(expires));
        (left / 2).max(since).clamp(RENEW_AGAIN, RENEW_AHEAD)
    }

    /// The connection has ended, and another one with another key stands since then, for which
    /// [`accepted`](Self::accepted) follows. If it stood before, there was no gap; what came on both is in
    /// the capture twice, as nothing in a frame proves that it is the same.
    pub fn taken_over(
        &mut self,
        (at, ended): (Timestamp, Ended),
        stands_since: Timestamp,
        renewed: KeyRenewed,
    ) -> Vec<SessionEvent> {
        let renewed = self.event(Event::KeyRenewed(renewed));
        let reason = match &*ended.reason {
            "" => "the connection with the new key stands".to_owned(),
            reason => format!("the connection with the new key stands: {reason}"),
        };
        let covered_until = ended.heard_until.unwrap_or(at);
        let closed = self.closed(at, Ended { reason, ..ended });
        if stands_since <= covered_until {
            self.coverage = Coverage::NeverYet;
        }
        self.attempt = 1;
        vec![renewed, closed]
    }

    /// There is another key, but no connection with it. The one that is up goes on; how long until the
    /// next try?
    pub fn not_taken_over(&mut self, error: NotConnected) -> (SessionEvent, Duration) {
        self.attempt += 1;
        let event = match error {
            NotConnected::Refused(refused) => self.rejected(&refused),
            NotConnected::Failed(failure) => self.attempt_failed(failure.reason),
        };
        (event, BACK_OFF_MOST + BACK_OFF_MOST.mul_f64(self.dice.f64()))
    }

    /// The wall clock was set. What is remembered goes by the new clock from now on, so that stretches
    /// of time have the length that they had.
    pub fn clock_stepped(&mut self, step: ClockStepped) -> SessionEvent {
        match &mut self.coverage {
            Coverage::NeverYet => {}
            Coverage::Since(at) | Coverage::LostAt(at, _) => *at = step.by_new_clock(*at),
        }
        self.event(Event::ClockStepped(step))
    }

    /// Something on this connection that is no change of its state.
    pub const fn event(&self, event: Event) -> SessionEvent {
        SessionEvent { connection: self.connection, event: Some(event) }
    }

    fn rejected(&self, refused: &Refused) -> SessionEvent {
        let body = refused.body.slice(..refused.body.len().min(BODY_KEPT));
        let (attempt, status) = (self.attempt, refused.status.into());
        self.event(Event::Rejected(Rejected { attempt, status, body }))
    }

    fn attempt_failed(&self, reason: String) -> SessionEvent {
        self.event(Event::Failed(Failed { attempt: self.attempt, reason }))
    }

    fn connect(&mut self) -> Step {
        self.attempt += 1;
        Step { events: Vec::new(), next: Next::Connect }
    }

    fn closed(&mut self, now: Timestamp, ended: Ended) -> SessionEvent {
        let covered_until = ended.heard_until.unwrap_or(now);
        if matches!(self.coverage, Coverage::Since(since) if covered_until.since(since) >= HEALTHY)
        {
            self.in_a_row = 0;
        }
        // Those that were to take over are no attempts to end this outage.
        self.attempt = 0;
        let Ended { code, reason, clean, frames, .. } = ended;
        let code = code.map(u32::from);
        let closed = Closed { code, reason, clean, last_sequence: frames };
        self.coverage = Coverage::LostAt(covered_until, cause_after(&closed));
        self.event(Event::Closed(closed))
    }

    fn gap(&self, now: Timestamp) -> Option<SessionEvent> {
        let Coverage::LostAt(from, cause) = self.coverage else { return None };
        Some(self.gap_between(from, now, cause))
    }

    fn gap_between(&self, from: Timestamp, to: Timestamp, cause: Cause) -> SessionEvent {
        // The clock may have been set back before this recording began.
        let to = to.max(from);
        let gap = Gap { from_ns: from.as_nanos(), to_ns: to.as_nanos(), cause: i32::from(cause) };
        self.event(Event::Gap(gap))
    }

    fn back_off(&mut self) -> Duration {
        let bound = BACK_OFF_FIRST
            .saturating_mul(1_u32.checked_shl(self.in_a_row).unwrap_or(u32::MAX))
            .min(BACK_OFF_MOST);
        self.in_a_row = self.in_a_row.saturating_add(1);
        bound.mul_f64(self.dice.f64())
    }

    fn wait_long(&mut self) -> Next {
        self.hopeless = self.connection == 0;
        // The next refusal may find a key that can be renewed by then.
        self.renewal = RenewalState::Untried;
        Next::Wait(BACK_OFF_MOST + BACK_OFF_MOST.mul_f64(self.dice.f64()))
    }
}

/// Why there is no coverage after a connection that ended like that. A server may say goodbye without a code (RFC
/// 6455, section 5.5.1).
pub(crate) fn cause_after(closed: &Closed) -> Cause {
    if closed.clean || closed.code.is_some() { Cause::Server } else { Cause::Network }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::classic::Classic;

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * SECOND)
    }

    fn session() -> Session {
        Session::new(&Classic, 7)
    }

    fn refused(status: u16) -> Refused {
        Refused { status, body: Bytes::from_static(b"no"), retry_after: None }
    }

    fn lost() -> Ended {
        Ended { reason: "reset".to_owned(), ..Ended::default() }
    }

    fn accepted(session: &mut Session, seconds: u64) -> Step {
        session.accepted(at(seconds), Duration::from_millis(30), "192.0.2.1:443".to_owned())
    }

    fn wait(step: &Step) -> Duration {
        let Next::Wait(wait) = step.next else { panic!("expected a wait, found {step:?}") };
        wait
    }

    #[test]
    fn a_goodbye_without_a_code_is_the_servers_too() {
        for (code, clean, cause) in [
            (None, true, Cause::Server),
            (Some(1001), true, Cause::Server),
            (Some(1001), false, Cause::Server),
            (None, false, Cause::Network),
        ] {
            let mut session = session();
            session.start();
            accepted(&mut session, 10);
            session.ended(at(20), Ended { code, clean, ..Ended::default() });
            let gap = &accepted(&mut session, 30).events[1].event;
            assert!(matches!(gap, Some(Event::Gap(gap)) if gap.cause() == cause), "{gap:?}");
        }
    }

    #[test]
    fn whoever_leaves_without_a_connection_and_comes_back_has_two_gaps_that_do_not_overlap() {
        let mut session = session();
        session.resumed(at(10), Cause::Killed);
        session.start();
        let mut told = session.abandoned(at(20));
        session.leave(at(20));
        session.start();
        told.extend(accepted(&mut session, 30).events.into_iter().skip(1));
        let gaps: Vec<_> = told
            .iter()
            .map(|event| match event.event {
                Some(Event::Gap(gap)) => (gap.from_ns / SECOND, gap.to_ns / SECOND, gap.cause()),
                _ => panic!("{event:?}"),
            })
            .collect();
        assert_eq!(gaps, [(10, 20, Cause::Killed), (20, 30, Cause::Shutdown)]);
    }

    #[test]
    fn what_an_earlier_run_did_not_cover_is_a_gap_also_if_that_is_known_later() {
        let mut session = session();
        session.start();
        accepted(&mut session, 65);
        let step = ClockStepped { from_ns: 70 * SECOND, to_ns: 170 * SECOND };
        session.clock_stepped(step);
        let told = session.resumed(at(105), Cause::Killed).unwrap().event;
        let Some(Event::Gap(gap)) = told else { panic!("{told:?}") };
        assert_eq!((gap.from_ns, gap.to_ns), (105 * SECOND, 165 * SECOND));
        session.ended(at(180), lost());
        assert_eq!(session.resumed(at(105), Cause::Killed), None);
    }

    #[test]
    fn what_an_earlier_run_did_not_cover_is_a_gap_before_the_first_connection() {
        let mut session = session();
        session.resumed(at(5), Cause::Killed);
        session.start();
        let events = accepted(&mut session, 65).events;
        let Some(Event::Gap(gap)) = &events[1].event else { panic!("{events:?}") };
        let cause = gap.cause();
        assert_eq!((gap.from_ns, gap.to_ns, cause), (5 * SECOND, 65 * SECOND, Cause::Killed));
    }

    #[test]
    fn a_connection_that_breaks_leaves_a_gap_until_the_next_one() {
        let mut session = session();
        assert_eq!(session.start().next, Next::Connect);
        assert_eq!(accepted(&mut session, 10).next, Next::Receive);
        let step = session.ended(at(30), lost());
        assert!(wait(&step) <= BACK_OFF_FIRST);
        assert_eq!(session.waited().next, Next::Connect);

        let events = accepted(&mut session, 42).events;
        let kinds: Vec<_> =
            events.into_iter().map(|event| (event.connection, event.event)).collect();
        let [(2, Some(Event::Connected(connected))), (2, Some(Event::Gap(gap)))] = &kinds[..]
        else {
            panic!("{kinds:?}")
        };
        assert_eq!(connected.attempt, 1);
        assert_eq!((gap.from_ns, gap.to_ns), (30 * SECOND, 42 * SECOND));
        assert_eq!(gap.cause(), Cause::Network);
    }

    #[test]
    fn a_connection_that_is_found_dead_leaves_a_gap_since_it_was_last_heard() {
        let mut session = session();
        accepted(&mut session, 10);
        let found_dead =
            |seconds| Ended { heard_until: Some(at(seconds).before(DEAD_AFTER)), ..lost() };
        let events = session.ended(at(100), found_dead(100)).events;
        assert!(matches!(events[0].event, Some(Event::Closed(_))));
        let Some(Event::Gap(gap)) = &accepted(&mut session, 101).events[1].event else { panic!() };
        assert_eq!((gap.from_ns, gap.to_ns), (55 * SECOND, 101 * SECOND));

        // The one that takes over has been there for some of that time only.
        session.taken_over((at(200), found_dead(200)), at(190), KeyRenewed::default());
        let Some(Event::Gap(gap)) = &accepted(&mut session, 190).events[1].event else { panic!() };
        assert_eq!((gap.from_ns, gap.to_ns), (155 * SECOND, 190 * SECOND));

        // Silence is no health.
        let in_a_row = session.in_a_row;
        let late = 190 + HEALTHY.as_secs();
        session.ended(at(late), found_dead(late));
        assert_eq!(session.in_a_row, in_a_row + 1);
    }

    #[test]
    fn a_gap_is_as_long_as_it_was_whatever_the_clock_is_set_to() {
        let mut session = session();
        accepted(&mut session, 1000);
        session.ended(at(1010), lost());
        session.clock_stepped(ClockStepped { from_ns: 1020 * SECOND, to_ns: 20 * SECOND });
        let events = accepted(&mut session, 25).events;
        let Some(Event::Gap(gap)) = &events[1].event else { panic!("{events:?}") };
        assert_eq!((gap.from_ns, gap.to_ns), (10 * SECOND, 25 * SECOND));

        let mut session = self::session();
        session.resumed(at(1000), Cause::Killed);
        let events = accepted(&mut session, 25).events;
        let Some(Event::Gap(gap)) = &events[1].event else { panic!("{events:?}") };
        assert_eq!((gap.from_ns, gap.to_ns), (1000 * SECOND, 1000 * SECOND));
    }

    #[test]
    fn an_expired_key_is_renewed_once_and_tried_again() {
        let mut session = session();
        session.start();
        assert_eq!(session.refused(refused(401)).next, Next::RenewKey);
        let step = session.renewed(&Renewal::NewKey { written_back: true });
        assert_eq!(step.next, Next::Connect);
        assert!(matches!(
            step.events[0].event,
            Some(Event::KeyRenewed(KeyRenewed { written_back: true }))
        ));
        // The new key is refused as well: no second renewal, and no hurry.
        let step = session.refused(refused(401));
        assert!(wait(&step) >= BACK_OFF_MOST);
        assert!(session.is_hopeless());
    }

    #[test]
    fn refusals_wait_as_their_status_asks() {
        let mut session = session();
        session.start();
        assert!(wait(&session.refused(refused(503))) <= BACK_OFF_FIRST);
        assert!(!session.is_hopeless());
        let asked = Refused { retry_after: Some(Duration::from_secs(300)), ..refused(429) };
        assert_eq!(wait(&session.refused(asked)), Duration::from_secs(300));
        let asked = Refused { retry_after: Some(Duration::MAX), ..refused(503) };
        assert_eq!(wait(&session.refused(asked)), RETRY_AFTER_MOST);
        assert!(wait(&session.refused(refused(400))) >= BACK_OFF_MOST);
        assert!(session.is_hopeless());
    }

    #[test]
    fn back_off_doubles_up_to_its_bound_and_starts_again_after_health() {
        let mut session = session();
        session.start();
        let failure = || Failure { reason: "no route".to_owned(), lasting: false };
        for bound in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            assert!(wait(&session.failed(failure())) <= Duration::from_secs(bound));
        }
        accepted(&mut session, 0);
        let step = session.ended(at(HEALTHY.as_secs()), lost());
        assert!(wait(&step) <= BACK_OFF_FIRST);
        // A server that accepts and drops at once gets no storm.
        for _ in 0..10 {
            accepted(&mut session, 1000);
            session.ended(at(1000), lost());
        }
        assert!(session.in_a_row > 6);
    }

    #[test]
    fn a_hundred_sessions_do_not_come_back_together() {
        let mut within_a_tenth = [0; 10];
        for seed in 0..100 {
            let mut session = Session::new(&Classic, seed);
            accepted(&mut session, 0);
            let wait = wait(&session.ended(at(1), lost()));
            within_a_tenth[(wait.as_millis() as usize / 100).min(9)] += 1;
        }
        assert!(within_a_tenth.iter().all(|&count| count < 25), "{within_a_tenth:?}");
    }

    #[test]
    fn stopping_closes_the_ledger() {
        let mut session = session();
        accepted(&mut session, 0);
        let goodbye = Ended { code: Some(1000), clean: true, frames: 5, ..Ended::default() };
        let events = session.stopped(at(9), goodbye);
        assert!(
            matches!(&events[..], [SessionEvent { event: Some(Event::Closed(c)), .. }] if c.clean)
        );
        assert_eq!(session.abandoned(at(9)), []);

        // It may have been dead for some time.
        accepted(&mut session, 1);
        let heard_until = Some(at(6));
        let [_, SessionEvent { event: Some(Event::Gap(gap)), .. }] =
            &session.stopped(at(9), Ended { heard_until, ..lost() })[..]
        else {
            panic!("expected a gap")
        };
        assert_eq!((gap.from_ns, gap.to_ns), (6 * SECOND, 9 * SECOND));

        accepted(&mut session, 10);
        session.ended(at(20), lost());
        let [SessionEvent { event: Some(Event::Gap(gap)), .. }] = &session.abandoned(at(25))[..]
        else {
            panic!("expected the gap that is still open")
        };
        assert_eq!((gap.from_ns, gap.to_ns), (20 * SECOND, 25 * SECOND));
    }

    #[test]
    fn only_the_beginning_of_a_long_body_is_kept() {
        let mut session = session();
        let body = Bytes::from(vec![b'x'; 5000]);
        let step = session.refused(Refused { body, ..refused(500) });
        let Some(Event::Rejected(rejected)) = &step.events[0].event else { panic!() };
        assert_eq!(rejected.body.len(), BODY_KEPT);
    }

    #[test]
    fn a_key_is_renewed_in_the_hour_before_its_end_and_not_by_all_at_once() {
        let week = 7 * 86_400;
        let mut minutes: Vec<_> = (0..100)
            .map(|seed| {
                let wait = Session::new(&Classic, seed).renew_in(at(0), at(week));
                week / 60 - wait.as_secs() / 60
            })
            .collect();
        minutes.sort_unstable();
        assert!(minutes[0] >= 60 && minutes[99] <= 75, "{minutes:?}");
        assert!(minutes[99] - minutes[0] > 10, "{minutes:?}");
        // A key that is near its end, or past it, is looked at now.
        assert_eq!(session().renew_in(at(week - 600), at(week)), Duration::ZERO);
        assert_eq!(session().renew_in(at(week + 600), at(week)), Duration::ZERO);
    }

    #[test]
    fn a_server_without_a_new_key_is_asked_again_around_the_end_of_the_old_one() {
        let end = 100_000;
        let mut now = end - 3600;
        let mut looks = Vec::new();
        while now < end + 40_000 {
            now += session().renew_again_in(at(now), at(end)).as_secs();
            looks.push(now.cast_signed() - end.cast_signed());
        }
        let expected = [-1800, -900, -450, -225, -113, -53, 7, 67, 134, 268, 536, 1072, 2144, 4288];
        assert_eq!(looks[..14], expected);
        assert!(looks[14..].windows(2).all(|pair| pair[1] - pair[0] == 3600), "{looks:?}");
    }

    #[test]
    fn a_connection_that_is_taken_over_leaves_no_gap() {
        let mut session = session();
        session.start();
        accepted(&mut session, 10);
        let (event, wait) = session.not_taken_over(NotConnected::Refused(refused(503)));
        assert!(matches!(event.event, Some(Event::Rejected(r)) if r.status == 503));
        assert!(wait >= BACK_OFF_MOST);

        let goodbye = Ended { code: Some(1000), clean: true, frames: 5, ..Ended::default() };
        let renewed = KeyRenewed { written_back: true };
        let mut events = session.taken_over((at(20), goodbye), at(19), renewed);
        let step = accepted(&mut session, 19);
        assert_eq!(step.next, Next::Receive);
        events.extend(step.events);
        let [
            SessionEvent { connection: 1, event: Some(Event::KeyRenewed(_)) },
            SessionEvent { connection: 1, event: Some(Event::Closed(closed)) },
            SessionEvent { connection: 2, event: Some(Event::Connected(connected)) },
        ] = &events[..]
        else {
            panic!("{events:?}")
        };
        assert!(closed.clean && closed.last_sequence == 5);
        assert!(closed.reason.contains("the new key"), "{}", closed.reason);
        assert_eq!(connected.attempt, 1);

        let events = session.ended(at(30), lost()).events;
        assert_eq!(events.len(), 1);
        let Some(Event::Gap(gap)) = &accepted(&mut session, 35).events[1].event else { panic!() };
        assert_eq!((gap.from_ns, gap.to_ns), (30 * SECOND, 35 * SECOND));
    }

    #[test]
    fn a_connection_that_ended_before_the_next_one_stood_leaves_a_gap() {
        let mut session = session();
        session.start();
        accepted(&mut session, 10);
        session.taken_over((at(20), lost()), at(21), KeyRenewed::default());
        let events = accepted(&mut session, 21).events;
        let Some(Event::Gap(gap)) = &events[1].event else { panic!("{events:?}") };
        assert_eq!((gap.from_ns, gap.to_ns), (20 * SECOND, 21 * SECOND));
    }
}
