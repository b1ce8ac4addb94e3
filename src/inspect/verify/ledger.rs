//! What was written of each subscription, entry after entry: the order of its times, the numbers of its
//! frames, and what the ledger says, held against each other and across segments.
//!
//! It knows what a recorder promises, and asks no more. Whoever took frames out of a capture has said so
//! in it (`edit.whole`): then nothing of this can be asked. Memory follows the number of subscriptions.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::findings::{Check, FAULTS_KEPT, Fault, Findings, Spot};
use crate::{
    entry::{
        SessionEvent, Timestamp,
        session_event::{Closed, Connected, Continued, Event, Gap, gap::Cause},
    },
    error::counted,
};

/// A clock that differs by less is just being adjusted, and nobody writes that down.
const TOLERATED: u64 = 1_000_000_000;

/// So many recordings are told apart at a time.
const RUNS_KEPT: usize = 4;

/// Identifies a recording, or a subscription: the first bytes of a SHA-256.
pub(super) type Key = [u8; 16];

/// All that is being followed.
#[derive(Default)]
pub(super) struct Ledgers {
    runs: VecDeque<Run>,
    /// Segments so far.
    segment: u64,
}

/// One recording.
struct Run {
    key: Key,
    /// The sequence numbers have the holes that the recorder left, and no others.
    whole: bool,
    lives: Vec<Life>,
    by_key: HashMap<Key, usize>,
    /// The last segment of it, counted from 1.
    segment: u64,
    /// It was not the first one.
    is_later: bool,
}

/// One subscription in a recording.
struct Life {
    name: Arc<str>,
    state: State,
    connection: u32,
    /// The number of the next frame, once something has said what it should be.
    expected: Option<u32>,
    /// An event has said how it stands; else there is no ledger to go by.
    told: bool,
    /// The latest time of what the recorder writes in order.
    last: u64,
    last_frame: Option<u64>,
    /// Nothing was received between these.
    gap: Option<(u64, u64)>,
    /// The last connection ended, and no gap was told since.
    uncovered: bool,
    /// A key was renewed, which may hand over from one connection to the next.
    renewed: bool,
    /// The last connection stood until the one before was closed.
    taken_over: bool,
    /// Since the last connection: frames of which nobody has said that they were lost.
    missing: Missing,
    /// What is wrong where segments meet. A segment that was deleted explains it.
    torn: Kept,
    deleted: bool,
    segment: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unheard,
    Up,
    Down,
}

/// Frames that are missing on one connection.
#[derive(Default)]
struct Missing {
    frames: u64,
    holes: Kept,
    /// Those that only the end of the connection tells of.
    at_end: Kept,
    /// Of so many the ledger says that they were lost.
    dropped: u64,
}

/// Faults that may turn out to be none.
#[derive(Default)]
struct Kept {
    count: u64,
    first: Vec<Fault>,
}

impl Kept {
    fn push(&mut self, findings: &Findings, spot: Spot, words: (String, String)) {
        self.count += 1;
        if self.first.len() < FAULTS_KEPT {
            self.first.push(findings.possible(spot, words));
        }
    }

    fn tell(self, check: Check, findings: &mut Findings) {
        findings.faults(check, self.count, self.first);
    }
}

/// Whose entry it is: a recording and a subscription of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whose {
    run: usize,
    life: usize,
}

impl Ledgers {
    /// What follows is in another segment, of this recording.
    pub(super) fn begin(&mut self, key: Key, whole: bool, findings: &mut Findings) -> usize {
        self.segment += 1;
        let known = self.runs.iter().position(|run| run.key == key);
        let index = known.unwrap_or_else(|| {
            if self.runs.len() == RUNS_KEPT
                && let Some(oldest) = self.runs.pop_front()
            {
                oldest.finish(findings);
            }
            let (lives, by_key) = (Vec::new(), HashMap::new());
            self.runs.push_back(Run { key, whole, lives, by_key, segment: 0, is_later: false });
            self.runs.len() - 1
        });
        let run = &mut self.runs[index];
        run.is_later = run.segment > 0;
        run.segment = self.segment;
        index
    }

    /// The subscription of that key and name.
    pub(super) fn whose(&mut self, run: usize, key: Key, name: &Arc<str>) -> Whose {
        let Run { lives, by_key, .. } = &mut self.runs[run];
        let life = *by_key.entry(key).or_insert_with(|| {
            lives.push(Life::new(Arc::clone(name)));
            lives.len() - 1
        });
        Whose { run, life }
    }

    /// A frame.
    #[inline]
    pub(super) fn frame(
        &mut self,
        whose: Whose,
        sequence: u32,
        at: u64,
        spot: Spot,
        findings: &mut Findings,
    ) {
        let run = &mut self.runs[whose.run];
        if run.whole {
            findings.looked_at(Check::Order, 1);
            findings.looked_at(Check::Sequences, 1);
            let life = &mut run.lives[whose.life];
            if life.state == State::Up
                && life.segment == run.segment
                && life.expected == Some(sequence)
                && at >= life.last
                && life.gap.is_none()
                && !life.uncovered
            {
                // As nearly all are.
                life.expected = Some(sequence.saturating_add(1));
                (life.last, life.last_frame) = (at, Some(at));
                return;
            }
            life.enter(run.segment, None, spot, findings);
            life.frame(sequence, at, spot, findings);
        }
    }

    /// A session event; None if it could not be read.
    pub(super) fn event(
        &mut self,
        whose: Whose,
        event: &SessionEvent,
        at: u64,
        spot: Spot,
        findings: &mut Findings,
    ) {
        let run = &mut self.runs[whose.run];
        if run.whole {
            findings.looked_at(Check::Ledger, 1);
            let life = &mut run.lives[whose.life];
            life.enter(run.segment, event.event.as_ref(), spot, findings);
            life.event(event, at, spot, findings);
        }
    }

    /// A segment has ended, in which there were entries.
    pub(super) fn end(&mut self, run: usize, findings: &mut Findings) {
        let run = &mut self.runs[run];
        if !run.whole {
            return;
        }
        findings.looked_at(Check::Segments, 1);
        for life in &mut run.lives {
            if run.is_later && life.state == State::Up && life.told && life.segment < run.segment {
                let words = (
                    format!("connection {} of {} to go on", life.connection, life.name),
                    "nothing of it".to_owned(),
                );
                life.torn.push(findings, Spot::at(0), words);
                life.segment = run.segment;
            }
        }
    }

    pub(super) fn finish(self, findings: &mut Findings) {
        self.runs.into_iter().for_each(|run| run.finish(findings));
    }
}

impl Run {
    fn finish(self, findings: &mut Findings) {
        for mut life in self.lives {
            life.settle(None, findings);
            if !life.deleted {
                life.torn.tell(Check::Segments, findings);
            }
        }
    }
}

impl Life {
    fn new(name: Arc<str>) -> Self {
        Self {
            name,
            state: State::Unheard,
            connection: 0,
            expected: None,
            told: false,
            last: 0,
            last_frame: None,
            gap: None,
            uncovered: false,
            renewed: false,
            taken_over: false,
            missing: Missing::default(),
            torn: Kept::default(),
            deleted: false,
            segment: 0,
        }
    }

    /// The first thing of it that is in a segment: None for a frame.
    fn enter(&mut self, segment: u64, first: Option<&Event>, spot: Spot, findings: &Findings) {
        if self.segment == segment {
            return;
        }
        let is_first = self.segment == 0;
        self.segment = segment;
        if is_first || !self.told || self.state != State::Up {
            return;
        }
        let found = match first {
            Some(Event::Continued(_)) => return,
            // Another recording, put behind this one.
            Some(Event::Connected(_)) if self.connection == 1 => return,
            Some(_) => "something else of it".to_owned(),
            None => "a frame".to_owned(),
        };
        let expected = format!("connection {} of {} to be continued", self.connection, self.name);
        self.torn.push(findings, spot, (expected, found));
    }

    fn frame(&mut self, sequence: u32, at: u64, spot: Spot, findings: &mut Findings) {
        self.in_order(at, spot, findings);
        if let Some((from, to)) = self.gap.take()
            && at > from
            && at.saturating_add(TOLERATED) < to
        {
            findings.fault(Check::Ledger, spot, || self.frame_in_gap(from, to, at));
        }
        self.last_frame = Some(at);
        if self.told && self.state == State::Down {
            findings.fault(Check::Ledger, spot, || {
                let expected = format!("no frame of {} between two connections", self.name);
                (expected, format!("frame {sequence}"))
            });
            return;
        }
        if std::mem::take(&mut self.uncovered) {
            findings.fault(Check::Ledger, spot, || {
                let expected = format!("a gap of {} between two connections", self.name);
                (expected, format!("frame {sequence} of connection {}", self.connection))
            });
        }
        self.state = State::Up;
        match self.expected {
            Some(expected) if sequence > expected => {
                self.hole(expected, sequence, spot, findings);
            }
            // Where nobody writes down connections, a new one begins with 1.
            Some(expected) if sequence < expected && (self.told || sequence != 1) => {
                findings.fault(Check::Sequences, spot, || {
                    (format!("frame {expected} of {}", self.name), format!("frame {sequence}"))
                });
            }
            _ => {}
        }
        self.expected = Some(sequence.saturating_add(1));
    }

    /// Frames from `expected` on are missing, up to the one that is there.
    fn hole(&mut self, expected: u32, there: u32, spot: Spot, findings: &Findings) {
        self.missing.frames += u64::from(there - expected);
        let words = (format!("frame {expected} of {}", self.name), format!("frame {there}"));
        self.missing.holes.push(findings, spot, words);
    }

    fn in_order(&mut self, at: u64, spot: Spot, findings: &mut Findings) {
        if self.told && at.saturating_add(TOLERATED) < self.last {
            findings.fault(Check::Order, spot, || {
                let last = Timestamp::from_nanos(self.last);
                let expected = format!("nothing of {} before {last}", self.name);
                (expected, Timestamp::from_nanos(at).to_string())
            });
            // What follows is not to blame.
            self.last = at;
        }
        self.last = self.last.max(at);
    }

    fn event(&mut self, event: &SessionEvent, at: u64, spot: Spot, findings: &mut Findings) {
        let connection = event.connection;
        let Some(event) = &event.event else { return };
        // Those that the one who writes adds, and not the one who receives, have the time of the writing.
        let is_received = match event {
            Event::Continued(_)
            | Event::ExportDropped(_)
            | Event::SegmentDeleted(_)
            | Event::DroppedFrames(_)
            | Event::ClockStepped(_) => false,
            Event::Gap(gap) => gap.cause() != Cause::Disk,
            _ => true,
        };
        if is_received {
            findings.looked_at(Check::Order, 1);
            self.in_order(at, spot, findings);
        }
        match event {
            Event::Connected(connected) => self.connected(connected, connection, spot, findings),
            Event::Continued(continued) => self.continued(*continued, connection, spot, findings),
            Event::Closed(closed) => self.closed(closed, spot, findings),
            Event::Gap(gap) => self.gap(gap, spot, findings),
            Event::DroppedFrames(dropped) => {
                self.missing.dropped = self.missing.dropped.saturating_add(dropped.count);
            }
            Event::ClockStepped(_) => {
                // What was said by the old clock says nothing about the new one.
                (self.last, self.last_frame, self.gap) = (at, None, None);
            }
            Event::SegmentDeleted(_) => self.deleted = true,
            _ => {}
        }
        match event {
            Event::KeyRenewed(_) => self.renewed = true,
            Event::Rejected(_) | Event::Failed(_) | Event::Connected(_) => self.renewed = false,
            _ => {}
        }
    }

    fn connected(&mut self, _: &Connected, connection: u32, spot: Spot, findings: &mut Findings) {
        let is_next = connection == self.connection.wrapping_add(1);
        // A recorder counts from 1: this is another one, put behind the one before.
        let is_other = connection == 1 && self.connection > 0;
        if self.told && !is_next && !is_other {
            findings.fault(Check::Ledger, spot, || {
                let next = u64::from(self.connection) + 1;
                let expected = format!("connection {next} of {}", self.name);
                (expected, format!("connection {connection}"))
            });
        }
        match self.state {
            State::Up if self.told && !is_other => findings.fault(Check::Ledger, spot, || {
                let expected = format!("the end of connection {}", self.connection);
                (format!("{expected} of {}", self.name), format!("connection {connection}"))
            }),
            State::Up if !self.told => findings.fault(Check::Ledger, spot, || {
                let expected = format!("no frame of {} before it is connected", self.name);
                (expected, "frames".to_owned())
            }),
            State::Down if is_other => self.uncovered = false,
            _ => {}
        }
        if self.taken_over {
            self.uncovered = false;
        }
        self.settle(None, findings);
        (self.state, self.connection, self.told) = (State::Up, connection, true);
        (self.expected, self.taken_over) = (Some(1), false);
    }

    fn continued(
        &mut self,
        continued: Continued,
        connection: u32,
        spot: Spot,
        findings: &mut Findings,
    ) {
        let last = u32::try_from(continued.last_sequence).unwrap_or(u32::MAX);
        if self.told || self.expected.is_some() {
            let before = self.expected.map_or(0, |expected| expected.saturating_sub(1));
            let goes_on = self.state == State::Up
                && before == last
                && (connection == self.connection || !self.told);
            if !goes_on {
                let expected = match self.state {
                    State::Down => format!("a new connection of {}", self.name),
                    _ => format!(
                        "connection {} of {} to go on after frame {before}",
                        self.connection, self.name
                    ),
                };
                let found = format!("connection {connection} after frame {last}");
                self.torn.push(findings, spot, (expected, found));
                // Whatever is missing, it was not in what follows.
                self.settle(None, findings);
            }
        }
        (self.state, self.connection, self.told) = (State::Up, connection, true);
        (self.expected, self.uncovered) = (Some(last.saturating_add(1)), false);
    }

    fn closed(&mut self, closed: &Closed, spot: Spot, findings: &mut Findings) {
        let last = u32::try_from(closed.last_sequence).unwrap_or(u32::MAX);
        if self.told && self.state != State::Up {
            findings.fault(Check::Ledger, spot, || {
                (format!("a connection of {}", self.name), "the end of none".to_owned())
            });
        }
        match self.expected {
            Some(expected) if self.state == State::Up && last >= expected => {
                self.missing.frames += u64::from(last - expected) + 1;
                let (expected, frames) = (expected - 1, counted(last.into(), "frame"));
                let words = (
                    format!("{frames} of {}, as its end says", self.name),
                    format!("none after frame {expected}"),
                );
                self.missing.at_end.push(findings, spot, words);
            }
            Some(expected) if self.state == State::Up && last.saturating_add(1) < expected => {
                findings.fault(Check::Ledger, spot, || {
                    let frames = counted(last.into(), "frame");
                    let expected = expected - 1;
                    (format!("{frames} of {}, as its end says", self.name), format!("{expected}"))
                });
            }
            _ => {}
        }
        self.settle(Some(spot), findings);
        self.state = State::Down;
        (self.uncovered, self.taken_over) = (true, self.renewed);
        self.expected = None;
    }

    fn gap(&mut self, gap: &Gap, spot: Spot, findings: &mut Findings) {
        let (from, to) = (gap.from_ns, gap.to_ns);
        self.uncovered = false;
        if from > to {
            findings.fault(Check::Ledger, spot, || {
                let [from, to] = [from, to].map(Timestamp::from_nanos);
                (format!("a gap of {} that ends after {from}", self.name), format!("{to}"))
            });
        }
        // What waited while the disk was full came before that was over.
        if gap.cause() == Cause::Disk {
            return;
        }
        if let Some(last) = self.last_frame
            && last > from.saturating_add(TOLERATED)
            && last < to
        {
            findings.fault(Check::Ledger, spot, || self.frame_in_gap(from, to, last));
        }
        self.gap = Some((from, to));
    }

    fn frame_in_gap(&self, from: u64, to: u64, at: u64) -> (String, String) {
        let [from, to, at] = [from, to, at].map(Timestamp::from_nanos);
        let expected = format!("nothing of {} in its gap from {from} to {to}", self.name);
        (expected, format!("a frame at {at}"))
    }

    /// A connection is over, or nothing more comes: what is missing must be what the ledger says. Where it
    /// was closed, that is known to the last frame.
    fn settle(&mut self, closed: Option<Spot>, findings: &mut Findings) {
        let Missing { frames, holes, at_end, dropped } = std::mem::take(&mut self.missing);
        if frames > dropped {
            holes.tell(Check::Sequences, findings);
            at_end.tell(Check::Ledger, findings);
        } else if let Some(spot) = closed
            && self.expected.is_some()
            && dropped > frames
        {
            findings.fault(Check::Ledger, spot, || {
                let lost = counted(dropped, "lost frame");
                (format!("{lost} of {}, as the ledger says", self.name), format!("{frames}"))
            });
        }
    }
}
