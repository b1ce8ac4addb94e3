//! What every request to the server goes through: so many in a second, whoever makes them.
//!
//! [`Pace`] is the rule and reads no clock. [`Turnstile`] is the queue before it, first come first
//! served; whoever leaves the queue costs nobody a turn.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

/// So many attempts go through in one [`WINDOW`].
const ATTEMPTS: usize = 20;

/// More than the second that is promised: looking up a name and opening a connection do not take
/// the same time twice, and the server may see two attempts closer together than they began.
const WINDOW: Duration = Duration::from_millis(1100);

/// When the last attempts went through.
#[derive(Debug, Default)]
struct Pace {
    /// In order, [`ATTEMPTS`] at most.
    passed: VecDeque<Instant>,
}

impl Pace {
    /// Takes a turn, or says how long there is none.
    fn pass(&mut self, now: Instant) -> Result<(), Duration> {
        if self.passed.len() == ATTEMPTS {
            let since = now.saturating_duration_since(self.passed[0]);
            let wait = WINDOW.saturating_sub(since);
            if !wait.is_zero() {
                return Err(wait);
            }
            self.passed.pop_front();
        }
        self.passed.push_back(now);
        Ok(())
    }
}

/// The queue of all subscriptions.
#[derive(Debug, Default)]
pub(super) struct Turnstile {
    pace: Mutex<Pace>,
}

impl Turnstile {
    /// Waits for a turn.
    pub(super) async fn pass(&self) {
        // Whoever is first keeps the lock while it waits, and the lock is given on in order.
        let mut pace = self.pace.lock().await;
        while let Err(wait) = pace.pass(Instant::now()) {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::Timestamp,
        protocol::classic::Classic,
        session::{Ended, Next, Session},
    };

    /// When attempts go through that come at these times, in order, each after the one before.
    fn passed(mut wanted: Vec<Duration>) -> Vec<Duration> {
        wanted.sort();
        let start = Instant::now();
        let mut pace = Pace::default();
        let mut now = Duration::ZERO;
        let pass = |wanted: Duration| {
            now = now.max(wanted);
            while let Err(wait) = pace.pass(start + now) {
                now += wait;
            }
            now
        };
        wanted.into_iter().map(pass).collect()
    }

    /// The most that fall into one second.
    fn most_in_a_second(times: &[Duration]) -> usize {
        let within = |first: &Duration| {
            times.iter().filter(|&at| at >= first && *at < *first + Duration::from_secs(1)).count()
        };
        times.iter().map(within).max().unwrap_or(0)
    }

    #[test]
    fn a_hundred_connections_dropped_at_once_come_back_twenty_a_second() {
        let back = (0..100).map(|seed| {
            let mut session = Session::new(&Classic, seed);
            session.start();
            session.accepted(Timestamp::default(), Duration::ZERO, String::new());
            match session.ended(Timestamp::default(), Ended::default()).next {
                Next::Wait(time) => time,
                next => panic!("expected a wait, found {next:?}"),
            }
        });
        let wanted: Vec<_> = back.collect();
        // Their dice alone do not do it.
        assert!(most_in_a_second(&wanted) > 20);
        let passed = passed(wanted);
        assert_eq!((passed.len(), most_in_a_second(&passed)), (100, 20));
        assert!(passed[99] < Duration::from_secs(6), "{:?}", passed[99]);
    }

    #[test]
    fn who_comes_now_and_then_does_not_wait() {
        let wanted: Vec<_> = (0..50).map(|n| Duration::from_millis(60 * n)).collect();
        assert_eq!(passed(wanted.clone()), wanted);
    }

    #[test]
    fn a_turn_that_nobody_took_is_not_saved_up() {
        let mut wanted = vec![Duration::from_secs(3600); 60];
        wanted.push(Duration::ZERO);
        assert_eq!(most_in_a_second(&passed(wanted)), 20);
    }
}
