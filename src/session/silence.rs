//! When a connection from which nothing comes is asked whether it lives, and when it is dead.

use std::time::Duration;

/// A connection from which nothing came for so long is asked whether it lives, and so often.
pub const PING_EVERY: Duration = Duration::from_secs(20);

/// A connection from which nothing came for so long, though it was asked, is dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(45);

/// The least time that it has for an answer, where it was asked late: we may have been stopped, or the
/// machine asleep.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long nothing has come from a connection, and what to do about it. Times are those of a clock that
/// nobody sets, counted from whenever.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    /// When something came, be it a single byte.
    since: Duration,
    /// Until when nobody listened, be it before that. What came by then has not been seen.
    deaf_until: Duration,
    /// When it was asked whether it lives, after both.
    asked: Option<Duration>,
}

/// What to do about a silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing, for so long.
    Wait(Duration),
    /// Ask whether it lives, and say so with [`asked`](Silence::asked).
    Ask,
    /// Give the connection up.
    GiveUp,
}

impl Silence {
    /// Something comes now, and nothing after it so far.
    pub const fn since(now: Duration) -> Self {
        Self { since: now, deaf_until: now, asked: None }
    }

    /// How long it has lasted.
    pub const fn length(self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }

    /// Nobody has listened until now. That is no fault of the connection, and it lasts no longer for it; how long
    /// nothing has come is as true as before.
    pub const fn not_listened_until(&mut self, now: Duration) {
        (self.deaf_until, self.asked) = (now, None);
    }

    /// It was asked whether it lives.
    pub const fn asked(&mut self, now: Duration) {
        self.asked = Some(now);
    }

    /// What to do.
    pub fn remedy(self, now: Duration) -> Remedy {
        let next = |from: Duration, wait: Duration| (from + wait).saturating_sub(now);
        let since = self.since.max(self.deaf_until);
        let next_ping = next(self.asked.unwrap_or(since), PING_EVERY);
        let end = self.asked.map(|asked| next(since, DEAD_AFTER).max(next(asked, ANSWER_WITHIN)));
        match end {
            Some(Duration::ZERO) => Remedy::GiveUp,
            _ if next_ping.is_zero() => Remedy::Ask,
            _ => Remedy::Wait(end.map_or(next_ping, |end| end.min(next_ping))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is done about a silence that begins at 0, and when, in seconds.
    fn cared(mut now: Duration) -> Vec<(Remedy, u64)> {
        let mut silence = Silence::since(Duration::ZERO);
        let mut done = Vec::new();
        loop {
            match silence.remedy(now) {
                Remedy::Wait(time) => {
                    assert!(time > Duration::ZERO);
                    now += time;
                    continue;
                }
                Remedy::Ask => silence.asked(now),
                Remedy::GiveUp => {}
            }
            done.push((silence.remedy(now), now.as_secs()));
            if silence.remedy(now) == Remedy::GiveUp {
                return done;
            }
        }
    }

    #[test]
    fn a_silent_connection_is_asked_twice_and_dead_after_45_seconds() {
        let wait = |seconds| Remedy::Wait(Duration::from_secs(seconds));
        let expected = [(wait(20), 20), (wait(5), 40), (Remedy::GiveUp, 45)];
        assert_eq!(cared(Duration::ZERO), expected);
    }

    #[test]
    fn a_connection_that_nobody_looked_at_is_asked_before_it_is_given_up() {
        let asked_at = |from| -> Vec<_> {
            cared(Duration::from_secs(from)).into_iter().map(|(_, at)| at).collect()
        };
        let expected = [vec![30, 45], vec![42, 47], vec![45, 50], vec![9000, 9005]];
        assert_eq!([30, 42, 45, 9000].map(asked_at), expected);
    }

    #[test]
    fn a_silence_to_which_nobody_listens_ends_no_connection() {
        let second = Duration::from_secs;
        let mut silence = Silence::since(Duration::ZERO);
        silence.not_listened_until(second(100));
        assert_eq!(silence.remedy(second(100)), Remedy::Wait(PING_EVERY));
        assert_eq!(silence.remedy(second(120)), Remedy::Ask);
        silence.asked(second(120));
        assert_eq!(silence.remedy(second(144)), Remedy::Ask);
        assert_eq!(silence.remedy(second(145)), Remedy::GiveUp);
        // What was sent since it was last heard may be lost all the same.
        assert_eq!(silence.length(second(145)), second(145));
    }

    #[test]
    fn any_sign_of_life_ends_a_silence() {
        let mut silence = Silence::since(Duration::ZERO);
        let second = Duration::from_secs;
        silence.asked(second(20));
        silence.asked(second(40));
        silence = Silence::since(second(44));
        assert_eq!(silence.remedy(second(45)), Remedy::Wait(second(19)));
        assert_eq!(silence.length(second(45)), second(1));
        assert_eq!(silence.remedy(second(64)), Remedy::Ask);
    }
}
