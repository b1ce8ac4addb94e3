//! How often a connection is read.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

/// How long a busy connection is left alone between two reads: so much later than it came a frame may be
/// seen. What comes meanwhile waits in the kernel, and is kept with one write.
const PAUSE: Duration = Duration::from_millis(10);

/// When a connection is to be read next. Where little comes, that is as soon as there is something, and
/// its time is exact. Where frames come one upon the other, waking up for each of them is most of what
/// they cost.
#[derive(Default)]
pub(super) struct Pauses {
    last: Option<Instant>,
    /// Not before that.
    pub(super) until: Option<Instant>,
}

impl Pauses {
    /// So many frames were read. More of them may be there already, if reading is `behind`.
    pub(super) fn read(&mut self, now: Instant, frames: u64, behind: bool) {
        let last = self.last.replace(now);
        let is_soon = last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE);
        // A pause that has brought no more than one was for nothing.
        let was_worth_it = self.until.is_some() && frames > 1;
        self.until = (!behind && (is_soon || was_worth_it)).then(|| now + PAUSE);
    }

    /// Is ready when the connection is to be read.
    pub(super) async fn over(&self) {
        if let Some(until) = self.until {
            sleep_until(until.into()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_busy_connection_is_left_alone_for_a_while() {
        let start = Instant::now();
        let mut pauses = Pauses::default();
        // When it is read in milliseconds, how many frames that brings, whether more may be there, and
        // when it is to be read next.
        for (at, frames, behind, until) in [
            (0, 1, false, None),
            (11, 1, false, None),
            (20, 1, false, Some(30)),
            (31, 5, false, Some(41)),
            (42, 9, true, None),
            (43, 9, false, Some(53)),
            (53, 1, false, None),
            (65, 2, false, None),
        ] {
            pauses.read(start + Duration::from_millis(at), frames, behind);
            let expected = until.map(|until| start + Duration::from_millis(until));
            assert_eq!(pauses.until, expected, "at {at} ms");
        }
    }
}
