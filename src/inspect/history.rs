//! The session events of one subscription, read together: how often each happened, the first and
//! the last of them, and whether the frames' sequence numbers account for every frame.
//!
//! What a capture says is kept in bounded pieces, however long it is. Nothing here can fail: an
//! event that this version does not know is counted as unknown.

use std::{collections::VecDeque, time::Duration};

use jiff::SignedDuration;
use serde::Serialize;

use super::{display, seconds, signed_seconds};
use crate::entry::{
    SessionEvent, Timestamp,
    session_event::{Event as Said, Gap, gap::Cause},
};

/// How many events are kept from the beginning, and as many from the end.
pub const EVENTS_KEPT: usize = 50;

/// How much is kept of a text that somebody else wrote.
const TEXT_KEPT: usize = 1024;

/// How often each session event happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConnectionCounts {
    /// Connections that came up.
    pub connected: u64,
    /// Upgrades that the server answered with another status than 101.
    pub rejected: u64,
    /// Attempts without a usable answer.
    pub failed: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Keys that were renewed.
    pub key_renewals: u64,
    /// Text messages among the binary ones.
    pub text_frames: u64,
    /// Frames that were received and lost before they were in the capture.
    pub dropped_frames: u64,
    /// Stretches of time without coverage.
    pub gaps: u64,
    /// How long these were altogether.
    #[serde(serialize_with = "seconds")]
    pub gap_seconds: Duration,
    /// Segments that began while a connection was up.
    pub continued: u64,
    /// Times at which the recorder's wall clock was set.
    pub clock_steps: u64,
    /// Frames that are here and that an exporter did not hand on.
    pub export_dropped_frames: u64,
    /// Segments that were deleted, and in which it had something.
    pub deleted_segments: u64,
    /// Frames that were in these.
    pub deleted_frames: u64,
    /// Events that this version does not know.
    pub unknown: u64,
}

impl ConnectionCounts {
    /// It was refused or failed, and never connected: what it asked for is not here.
    pub(super) const fn only_tried(&self) -> bool {
        self.connected == 0 && self.rejected + self.failed > 0
    }

    fn count(&mut self, event: &SessionEvent) {
        let counter = match &event.event {
            Some(Said::Connected(_)) => &mut self.connected,
            Some(Said::Rejected(_)) => &mut self.rejected,
            Some(Said::Failed(_)) => &mut self.failed,
            Some(Said::Closed(_)) => &mut self.closed,
            Some(Said::KeyRenewed(_)) => &mut self.key_renewals,
            Some(Said::TextFrame(_)) => &mut self.text_frames,
            Some(Said::Continued(_)) => &mut self.continued,
            Some(Said::ClockStepped(_)) => &mut self.clock_steps,
            Some(Said::DroppedFrames(dropped)) => {
                self.dropped_frames = self.dropped_frames.saturating_add(dropped.count);
                return;
            }
            Some(Said::ExportDropped(dropped)) => {
                self.export_dropped_frames =
                    self.export_dropped_frames.saturating_add(dropped.frames);
                return;
            }
            Some(Said::SegmentDeleted(deleted)) => {
                self.deleted_frames = self.deleted_frames.saturating_add(deleted.frames);
                &mut self.deleted_segments
            }
            Some(Said::Gap(gap)) => {
                self.gap_seconds = self.gap_seconds.saturating_add(length(gap));
                &mut self.gaps
            }
            None => &mut self.unknown,
        };
        *counter += 1;
    }
}

fn length(gap: &Gap) -> Duration {
    Timestamp::from_nanos(gap.to_ns).since(Timestamp::from_nanos(gap.from_ns))
}

/// The first and the last events, and how many between them were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct History {
    /// The first ones, [`EVENTS_KEPT`] at most.
    pub first: Vec<Event>,
    /// How many came between and are not here.
    pub left_out: u64,
    /// The last ones that are not among the first, [`EVENTS_KEPT`] at most.
    pub last: VecDeque<Event>,
}

impl History {
    fn push(&mut self, event: Event) {
        if self.first.len() < EVENTS_KEPT {
            self.first.push(event);
            return;
        }
        if self.last.len() == EVENTS_KEPT {
            self.last.pop_front();
            self.left_out += 1;
        }
        self.last.push_back(event);
    }
}

/// One session event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When it happened.
    #[serde(serialize_with = "display")]
    pub at: Timestamp,
    /// The connection it belongs to; see `session.proto`.
    pub connection: u32,
    /// What happened.
    #[serde(flatten)]
    pub what: Happening,
}

/// What happened to a connection: `centralcap.SessionEvent` in words. Texts are cut to 1 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are those of session.proto, and explained there")]
pub enum Happening {
    Connected {
        attempt: u32,
        status: u32,
        #[serde(serialize_with = "seconds")]
        round_trip_seconds: Duration,
        peer: String,
    },
    Rejected {
        attempt: u32,
        status: u32,
        body: String,
    },
    Failed {
        attempt: u32,
        reason: String,
    },
    Closed {
        code: Option<u32>,
        reason: String,
        clean: bool,
        last_sequence: u64,
    },
    KeyRenewed {
        written_back: bool,
    },
    Gap {
        #[serde(serialize_with = "display")]
        from: Timestamp,
        #[serde(serialize_with = "display")]
        to: Timestamp,
        #[serde(serialize_with = "seconds")]
        gap_seconds: Duration,
        cause: String,
    },
    TextFrame {
        bytes: u64,
        text: String,
    },
    DroppedFrames {
        frames: u64,
        bytes: u64,
        reason: String,
    },
    Continued {
        #[serde(serialize_with = "display")]
        since: Timestamp,
        last_sequence: u64,
    },
    ClockStepped {
        #[serde(serialize_with = "display")]
        from: Timestamp,
        #[serde(serialize_with = "display")]
        to: Timestamp,
        /// Negative if the clock was set back.
        #[serde(serialize_with = "signed_seconds")]
        step_seconds: SignedDuration,
    },
    ExportDropped {
        exporter: String,
        frames: u64,
        bytes: u64,
        reason: String,
    },
    SegmentDeleted {
        segment: String,
        frames: u64,
        #[serde(serialize_with = "display")]
        from: Timestamp,
        #[serde(serialize_with = "display")]
        to: Timestamp,
        reason: String,
    },
    Unknown,
}

impl From<&SessionEvent> for Happening {
    fn from(event: &SessionEvent) -> Self {
        match &event.event {
            Some(Said::Connected(connected)) => Self::Connected {
                attempt: connected.attempt,
                status: connected.status,
                round_trip_seconds: Duration::from_nanos(connected.round_trip_ns),
                peer: bounded(connected.peer.as_bytes()),
            },
            Some(Said::Rejected(rejected)) => Self::Rejected {
                attempt: rejected.attempt,
                status: rejected.status,
                body: bounded(&rejected.body),
            },
            Some(Said::Failed(failed)) => {
                Self::Failed { attempt: failed.attempt, reason: bounded(failed.reason.as_bytes()) }
            }
            Some(Said::Closed(closed)) => Self::Closed {
                code: closed.code,
                reason: bounded(closed.reason.as_bytes()),
                clean: closed.clean,
                last_sequence: closed.last_sequence,
            },
            Some(Said::KeyRenewed(renewed)) => {
                Self::KeyRenewed { written_back: renewed.written_back }
            }
            Some(Said::Gap(gap)) => Self::Gap {
                from: Timestamp::from_nanos(gap.from_ns),
                to: Timestamp::from_nanos(gap.to_ns),
                gap_seconds: length(gap),
                cause: match Cause::try_from(gap.cause) {
                    Ok(cause) => cause.as_str_name().to_lowercase(),
                    Err(_) => format!("unknown cause {}", gap.cause),
                },
            },
            Some(Said::TextFrame(frame)) => {
                Self::TextFrame { bytes: frame.data.len() as u64, text: bounded(&frame.data) }
            }
            Some(Said::DroppedFrames(dropped)) => Self::DroppedFrames {
                frames: dropped.count,
                bytes: dropped.bytes,
                reason: bounded(dropped.reason.as_bytes()),
            },
            Some(Said::Continued(continued)) => Self::Continued {
                since: Timestamp::from_nanos(continued.since_ns),
                last_sequence: continued.last_sequence,
            },
            Some(Said::ClockStepped(step)) => Self::ClockStepped {
                from: Timestamp::from_nanos(step.from_ns),
                to: Timestamp::from_nanos(step.to_ns),
                step_seconds: SignedDuration::from_nanos(
                    step.to_ns.wrapping_sub(step.from_ns).cast_signed(),
                ),
            },
            Some(Said::ExportDropped(dropped)) => Self::ExportDropped {
                exporter: bounded(dropped.exporter.as_bytes()),
                frames: dropped.frames,
                bytes: dropped.bytes,
                reason: bounded(dropped.reason.as_bytes()),
            },
            Some(Said::SegmentDeleted(deleted)) => Self::SegmentDeleted {
                segment: bounded(deleted.segment.as_bytes()),
                frames: deleted.frames,
                from: Timestamp::from_nanos(deleted.from_ns),
                to: Timestamp::from_nanos(deleted.to_ns),
                reason: bounded(deleted.reason.as_bytes()),
            },
            None => Self::Unknown,
        }
    }
}

fn bounded(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(TEXT_KEPT)]).into_owned()
}

/// What the sequence numbers of a subscription's frames say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sequence {
    /// Places where numbers are missing.
    pub holes: u64,
    /// Frames that are missing there.
    pub missing: u64,
    /// Those of them that no dropped-frames event explains.
    pub unexplained: u64,
}

/// So many numbers there are for frames.
const NUMBERS: u64 = 1 << 32;

/// The ledger of one subscription under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    counts: ConnectionCounts,
    history: History,
    sequence: Sequence,
    /// The next sequence number; None until something says what it should be. A capture may begin
    /// in the middle of a connection.
    expected: Option<u64>,
    /// The first frame came before any word about its connection: so many were before it.
    unannounced: Option<u32>,
}

impl Ledger {
    pub(super) fn frame(&mut self, sequence: u32) {
        let number = u64::from(sequence);
        // 0 comes after the largest number.
        match self.expected.map(|expected| expected % NUMBERS) {
            Some(expected) if number == expected => {}
            Some(expected) if number > expected => self.hole(number - expected),
            // Counted from 1 again: a new connection, without its first frames if it is not 1.
            Some(_) => {
                self.unannounced = None;
                if number > 1 {
                    self.hole(number - 1);
                }
            }
            None => self.unannounced = sequence.checked_sub(1).filter(|before| *before > 0),
        }
        self.expected = Some(number + 1);
    }

    pub(super) fn event(&mut self, at: Timestamp, event: &SessionEvent) {
        self.counts.count(event);
        let what = Happening::from(event);
        match what {
            Happening::Closed { last_sequence, .. } => self.close(last_sequence),
            Happening::Connected { .. } => {
                (self.expected, self.unannounced) = (Some(1), None);
            }
            // A segment before this one may be missing, or frames at its end.
            Happening::Continued { last_sequence, .. } => self.go_on(last_sequence),
            _ => {}
        }
        self.history.push(Event { at, connection: event.connection, what });
    }

    /// The last frames of a connection leave no hole behind them when they are missing: its end
    /// tells how many there should be.
    fn close(&mut self, last_sequence: u64) {
        let last = u32::try_from(last_sequence).ok();
        if let (Some(expected), Some(last)) = (self.expected, last.map(u64::from))
            && last >= expected
        {
            self.hole(last - expected + 1);
        }
        // Whoever writes down the end of a connection has written down its beginning, too, or that a segment
        // goes on with it: where neither is here, the frames behind it are missing as well.
        if let (Some(before), Some(last)) = (self.unannounced.take(), last)
            && last > before
        {
            self.hole(before.into());
        }
        self.expected = Some(1);
    }

    /// The frames before a segment are in the one before it, if that is there at all.
    fn go_on(&mut self, last_sequence: u64) {
        let Ok(last) = u32::try_from(last_sequence).map(u64::from) else { return };
        if let Some(expected) = self.expected
            && last >= expected
        {
            self.hole(last - expected + 1);
        }
        (self.expected, self.unannounced) = (Some(last + 1), None);
    }

    fn hole(&mut self, frames: u64) {
        self.sequence.holes += 1;
        self.sequence.missing += frames;
    }

    /// The dropped frames are set against the holes at the end only: they may be written down long
    /// after the hole, as what cannot be written is the reason for both.
    pub(super) fn finish(self) -> (ConnectionCounts, History, Sequence) {
        let unexplained = self.sequence.missing.saturating_sub(self.counts.dropped_frames);
        (self.counts, self.history, Sequence { unexplained, ..self.sequence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::session_event::{Closed, Connected, Continued, DroppedFrames};

    fn event(event: Said) -> SessionEvent {
        SessionEvent { connection: 1, event: Some(event) }
    }

    fn connected() -> SessionEvent {
        event(Said::Connected(Connected::default()))
    }

    fn closed(last_sequence: u64) -> SessionEvent {
        event(Said::Closed(Closed { last_sequence, ..Closed::default() }))
    }

    /// A number is a frame of that sequence number.
    fn holes(transcript: &[Result<u32, SessionEvent>]) -> (u64, u64, u64) {
        let mut ledger = Ledger::default();
        for step in transcript {
            match step {
                Ok(sequence) => ledger.frame(*sequence),
                Err(event) => ledger.event(Timestamp::default(), event),
            }
        }
        let (_, _, sequence) = ledger.finish();
        (sequence.holes, sequence.missing, sequence.unexplained)
    }

    #[test]
    fn an_unbroken_count_has_no_holes_wherever_it_begins() {
        assert_eq!(holes(&[Ok(1), Ok(2), Ok(3)]), (0, 0, 0));
        assert_eq!(holes(&[Ok(17), Ok(18)]), (0, 0, 0));
        assert_eq!(holes(&[Ok(17), Ok(18), Ok(1), Ok(2)]), (0, 0, 0));
        assert_eq!(holes(&[Ok(u32::MAX), Ok(0), Ok(1)]), (0, 0, 0));
        assert_eq!(holes(&[Err(connected()), Ok(1), Err(closed(1)), Err(connected())]), (0, 0, 0));
    }

    #[test]
    fn missing_numbers_are_counted() {
        assert_eq!(holes(&[Ok(1), Ok(4), Ok(5), Ok(7)]), (2, 3, 3));
        assert_eq!(holes(&[Ok(8), Ok(9), Ok(3)]), (1, 2, 2));
        assert_eq!(holes(&[Err(connected()), Ok(3)]), (1, 2, 2));
        assert_eq!(holes(&[Ok(1), Err(closed(3)), Err(connected()), Ok(1)]), (1, 2, 2));
    }

    #[test]
    fn an_end_tells_of_a_beginning_that_is_not_here() {
        assert_eq!(holes(&[Ok(4), Ok(5), Err(closed(5))]), (1, 3, 3));
        assert_eq!(holes(&[Ok(4), Ok(5), Err(closed(7))]), (2, 5, 5));
        assert_eq!(holes(&[Ok(1), Ok(2), Err(closed(2))]), (0, 0, 0));
        // Another connection than that of the first frame.
        assert_eq!(holes(&[Ok(4), Ok(1), Err(closed(1))]), (0, 0, 0));
        assert_eq!(holes(&[Ok(4), Err(connected()), Ok(1), Err(closed(1))]), (0, 0, 0));
    }

    #[test]
    fn a_segment_says_how_many_frames_are_in_those_before_it() {
        let continued = |last_sequence| {
            event(Said::Continued(Continued { last_sequence, ..Continued::default() }))
        };
        assert_eq!(holes(&[Ok(1), Ok(2), Err(continued(2)), Ok(3)]), (0, 0, 0));
        assert_eq!(holes(&[Err(continued(7)), Ok(8)]), (0, 0, 0));
        assert_eq!(holes(&[Err(continued(7)), Ok(10)]), (1, 2, 2));
        assert_eq!(holes(&[Ok(1), Err(continued(4)), Ok(5)]), (1, 3, 3));
    }

    #[test]
    fn nothing_is_missing_behind_the_largest_number() {
        const LAST: u32 = u32::MAX;
        let continued = |last_sequence| {
            event(Said::Continued(Continued { last_sequence, ..Continued::default() }))
        };
        assert_eq!(holes(&[Ok(LAST - 1), Ok(LAST), Err(continued(LAST.into())), Ok(0)]), (0, 0, 0));
        assert_eq!(holes(&[Ok(LAST - 1), Err(continued(LAST.into())), Ok(0)]), (1, 1, 1));
        let all = [Err(connected()), Err(closed(LAST.into()))];
        assert_eq!(holes(&all), (1, LAST.into(), LAST.into()));
        // Of those before the first one it is told at the end.
        let before = u64::from(LAST) - 2;
        let found = holes(&[Ok(LAST - 1), Ok(LAST), Err(closed(LAST.into()))]);
        assert_eq!(found, (1, before, before));
    }

    #[test]
    fn dropped_frames_explain_holes() {
        let dropped = |count| event(Said::DroppedFrames(DroppedFrames { count, ..<_>::default() }));
        assert_eq!(holes(&[Ok(1), Ok(4), Err(dropped(2))]), (1, 2, 0));
        assert_eq!(holes(&[Ok(1), Err(dropped(1)), Ok(4)]), (1, 2, 1));
    }

    #[test]
    fn the_history_keeps_both_ends() {
        let mut ledger = Ledger::default();
        for number in 0..150 {
            ledger.event(Timestamp::from_nanos(number), &connected());
        }
        let (counts, history, _) = ledger.finish();
        assert_eq!((counts.connected, history.left_out), (150, 50));
        assert_eq!((history.first.len(), history.last.len()), (EVENTS_KEPT, EVENTS_KEPT));
        assert_eq!(history.first[49].at.as_nanos(), 49);
        assert_eq!(history.last[0].at.as_nanos(), 100);
    }

    #[test]
    fn a_long_text_is_cut() {
        let said = Said::TextFrame(crate::entry::session_event::TextFrame {
            data: vec![b'x'; 10_000].into(),
        });
        let Happening::TextFrame { bytes, text } = Happening::from(&event(said)) else { panic!() };
        assert_eq!((bytes, text.len()), (10_000, TEXT_KEPT));
    }
}
