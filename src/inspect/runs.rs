//! What each run says about one subscription: session events in, connected spans and gaps out.
//!
//! A run is one recording from its start to its end, in as many segments as it has. Segments of one run
//! say the same about when and where it was started, so they are known again in any folder. A run is
//! read in order; runs among each other may overlap.
//!
//! Times go by the clock as it was set at last: where a run says that its clock was set, what it said
//! before is moved. So a stretch of time is as long as it was. Nothing here can fail.

use mcap::records::Metadata;

use super::{
    AboutProfile, Event, Happening, SegmentProfile, Span,
    coverage::{Coverage, Gap, Lost, Told},
};
use crate::{
    capture::PROFILE,
    entry::{SessionEvent, Timestamp, session_event::ClockStepped},
};

/// Of what is said in one gap so many events are kept.
const SAID_KEPT: usize = 4;

/// The runs in which one subscription was seen, in the order in which they are read.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs {
    runs: Vec<Run>,
}

/// Where what is said comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    /// Which run.
    pub run: usize,
    /// The first segment that is in the same folder.
    pub folder: usize,
    /// No selection leaves frames out, so the sequence numbers can be trusted.
    pub whole: bool,
}

/// Knows which run a segment is of.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    whole: bool,
    /// What each run says about itself; None for a segment that says nothing.
    runs: Vec<Option<AboutProfile>>,
    segments: Vec<Option<Source>>,
}

impl Sources {
    pub(super) const fn new(whole: bool) -> Self {
        Self { whole, runs: Vec::new(), segments: Vec::new() }
    }

    /// `metadata` is what was read of the segment's so far: it stands before the first entry.
    pub(super) fn of(
        &mut self,
        segment: usize,
        segments: &[SegmentProfile],
        metadata: &[Metadata],
    ) -> Source {
        self.segments.resize(segments.len(), None);
        if let Some(source) = self.segments[segment] {
            return source;
        }
        let own = metadata.iter().find(|record| record.name == PROFILE);
        let about = own.map(|record| AboutProfile::from(&record.metadata));
        let is_same = |run: &Option<AboutProfile>| about.is_some() && *run == about;
        let run = self.runs.iter().position(is_same).unwrap_or_else(|| {
            self.runs.push(about);
            self.runs.len() - 1
        });
        let parent = |index: usize| segments[index].path.parent();
        let folder = (0..segment).find(|&other| parent(other) == parent(segment));
        let source = Source { run, folder: folder.unwrap_or(segment), whole: self.whole };
        self.segments[segment] = Some(source);
        source
    }
}

#[derive(Clone, Debug)]
struct Run {
    /// As of the last segment.
    source: Source,
    first: Timestamp,
    last: Timestamp,
    /// The last thing of any kind.
    heard: Timestamp,
    state: State,
    /// 0 where nobody said it yet.
    connection: u32,
    /// The last frame of this connection, also if it was lost.
    sequence: u64,
    connected: Vec<Span>,
    gaps: Vec<Gap>,
    /// The last gap was not told: it is only seen that there was no connection.
    is_seen: bool,
    lost: Vec<Lost>,
    /// What the next gap is the explanation of.
    dropped: Option<Event>,
    /// The key was renewed while it was connected, and so the next connection stood before this one was closed.
    hands_over: bool,
    /// What was said when it did, should there have been a gap all the same: then that is told.
    handed_over: Option<Gap>,
}

#[derive(Clone, Debug)]
enum State {
    Unheard,
    Up { since: Timestamp },
    Down(Gap),
}

impl Runs {
    pub(super) fn frame(&mut self, source: Source, at: Timestamp, sequence: u32) {
        self.at(source, at).frame(source.whole, at, sequence.into());
    }

    pub(super) fn event(&mut self, source: Source, at: Timestamp, event: &SessionEvent) {
        let what = Happening::from(event);
        if matches!(what, Happening::ExportDropped { .. } | Happening::SegmentDeleted { .. }) {
            // It may be told after the end of all connections, and is no coverage and no gap. But the run goes on.
            if let Some(run) = self.run(source) {
                run.heard = at;
            }
            return;
        }
        let event = Event { at, connection: event.connection, what };
        self.at(source, at).event(source.whole, event);
    }

    fn run(&mut self, source: Source) -> Option<&mut Run> {
        self.runs.iter_mut().rfind(|run| run.source.run == source.run)
    }

    fn at(&mut self, source: Source, at: Timestamp) -> &mut Run {
        let index = self.runs.iter().rposition(|run| run.source.run == source.run);
        let index = index.unwrap_or_else(|| {
            self.runs.push(Run::new(source, at));
            self.runs.len() - 1
        });
        let run = &mut self.runs[index];
        run.source = source;
        run
    }

    /// Until when each run is known to have gone on, as far as this subscription knows.
    pub(super) fn ends(&self) -> impl Iterator<Item = (usize, Timestamp)> {
        self.runs.iter().map(|run| (run.source.run, run.heard))
    }

    /// `end` says until when a run went on: somebody else may have been the last to say something. Where
    /// `all_are_heard`, it is the last thing that is there of it.
    pub(super) fn finish(
        mut self,
        all_are_heard: bool,
        end: impl Fn(usize) -> Timestamp,
    ) -> Option<Coverage> {
        for run in &mut self.runs {
            if let State::Up { .. } = run.state {
                run.last = run.last.max(end(run.source.run));
            }
        }
        if !all_are_heard {
            self.believe_successors();
        }
        let told: Vec<_> = self.runs.into_iter().map(Run::finish).collect();
        Coverage::of(&told)
    }

    /// A run that was killed did not live to say until when it covered everybody, and who was the last to be
    /// written down is not looked at here. The next one in that folder has found out. Where all are looked at, there
    /// is nothing to believe: what is not there any more of a run covers nobody.
    fn believe_successors(&mut self) {
        for next in 1..self.runs.len() {
            let (before, after) = self.runs.split_at_mut(next);
            let (run, successor) = (&mut before[next - 1], &after[0]);
            let found = successor.gaps.iter().find(|gap| gap.cause == "killed");
            if let (State::Up { .. }, Some(gap)) = (&run.state, found)
                && run.source.folder == successor.source.folder
            {
                run.last = run.last.max(gap.span.first);
            }
        }
    }
}

impl Run {
    fn new(source: Source, at: Timestamp) -> Self {
        Self {
            source,
            first: at,
            last: at,
            heard: at,
            state: State::Unheard,
            connection: 0,
            sequence: 0,
            connected: Vec::new(),
            gaps: Vec::new(),
            is_seen: false,
            lost: Vec::new(),
            dropped: None,
            hands_over: false,
            handed_over: None,
        }
    }

    fn frame(&mut self, whole: bool, at: Timestamp, sequence: u64) {
        // Whoever gets a frame is connected, also where the beginning of the connection is missing. Where
        // others are missing before it, and nobody has said so, the file has lost them, and all else with them.
        let is_next = !whole || sequence <= self.sequence + 1;
        if !matches!(self.state, State::Up { .. }) || !is_next {
            self.leave();
            self.state = State::Up { since: at };
        }
        self.sequence = sequence;
        (self.last, self.heard) = (at, at);
    }

    fn event(&mut self, whole: bool, event: Event) {
        let (at, connection) = (event.at, event.connection);
        match event.what {
            Happening::Connected { .. } => {
                self.hand_over(at, connection);
                if let State::Down(_) = self.state {
                    self.last = at;
                }
                self.leave();
                self.state = State::Up { since: at };
                (self.connection, self.sequence) = (connection, 0);
            }
            Happening::Continued { last_sequence, .. } => {
                self.go_on(whole, at, connection, last_sequence);
            }
            Happening::Closed { code, last_sequence, .. } => {
                let cause = if code.is_some() { "server" } else { "network" };
                if !whole || last_sequence <= self.sequence {
                    self.last = at;
                }
                self.leave();
                self.go_down(cause, event);
            }
            Happening::Rejected { .. } => self.attempt("server", event),
            Happening::Failed { .. } => self.attempt("network", event),
            Happening::KeyRenewed { .. } => match &mut self.state {
                State::Down(gap) => say(gap, event),
                State::Up { .. } => self.hands_over = true,
                State::Unheard => {}
            },
            Happening::DroppedFrames { frames, bytes, .. } => {
                self.sequence = self.sequence.saturating_add(frames);
                self.lost.push(Lost { at, frames, bytes });
                self.dropped = Some(event);
            }
            Happening::Gap { from, to, cause, .. } => {
                self.gap(at, Span { first: from, last: to.max(from) }, cause);
            }
            Happening::ClockStepped { from, to, .. } => {
                let (from_ns, to_ns) = (from.as_nanos(), to.as_nanos());
                self.clock_stepped(ClockStepped { from_ns, to_ns });
            }
            Happening::TextFrame { .. }
            | Happening::ExportDropped { .. }
            | Happening::SegmentDeleted { .. }
            | Happening::Unknown => {}
        }
        (self.last, self.heard) = (at, at);
    }

    /// The next connection is up. It may have been so before it was written that the one before was closed.
    fn hand_over(&mut self, at: Timestamp, connection: u32) {
        let hands_over = std::mem::take(&mut self.hands_over);
        self.handed_over = None;
        if let State::Down(gap) = &self.state
            && hands_over
            && connection == self.connection.wrapping_add(1)
        {
            self.connected.push(Span { first: gap.span.first, last: at });
            self.handed_over = Some(gap.clone());
            self.state = State::Unheard;
        }
    }

    /// A state ends with the last thing that is known.
    fn leave(&mut self) {
        match std::mem::replace(&mut self.state, State::Unheard) {
            State::Unheard => {}
            State::Up { since } => {
                self.connected.push(Span { first: since, last: self.last.max(since) });
            }
            State::Down(gap) => self.seen(gap, self.last),
        }
    }

    fn seen(&mut self, mut gap: Gap, until: Timestamp) {
        if until > gap.span.first {
            gap.span.last = until;
            self.gaps.push(gap);
            self.is_seen = true;
        }
    }

    fn go_down(&mut self, cause: &str, event: Event) {
        let moment = Span { first: event.at, last: event.at };
        let mut gap = Gap::new(moment, cause.to_owned());
        say(&mut gap, event);
        self.state = State::Down(gap);
    }

    fn attempt(&mut self, cause: &str, event: Event) {
        match &mut self.state {
            State::Down(gap) => {
                // A connection that was closed says itself why it is gone.
                if !gap.said.iter().any(|said| matches!(said.what, Happening::Closed { .. })) {
                    cause.clone_into(&mut gap.cause);
                }
                say(gap, event);
            }
            _ => {
                self.leave();
                self.go_down(cause, event);
            }
        }
    }

    /// A segment begins. Where one before it is missing, or its end is, nothing is known of that time.
    fn go_on(&mut self, whole: bool, at: Timestamp, connection: u32, last_sequence: u64) {
        let follows = matches!(self.state, State::Up { .. })
            && (connection == self.connection || self.connection == 0)
            && (last_sequence <= self.sequence || !whole);
        if !follows {
            self.leave();
            self.state = State::Up { since: at };
        }
        (self.connection, self.sequence) = (connection, last_sequence);
    }

    /// What is told counts more than what is seen: it is exact.
    fn gap(&mut self, at: Timestamp, span: Span, cause: String) {
        let mut told = Gap::new(span, cause);
        let mut take_words = |from: &Gap| {
            (told.attempts, told.said) = (from.attempts, from.said.clone());
        };
        match &mut self.state {
            // That happens beside whatever becomes of the connection.
            _ if told.cause == "disk" => told.said.extend(self.dropped.take()),
            State::Up { since } => {
                *since = span.last.min(*since);
                let seen = self.gaps.last().filter(|seen| seen.span.last >= span.first);
                if let Some(seen) = seen.filter(|_| self.is_seen) {
                    take_words(seen);
                    self.gaps.pop();
                } else if let Some(handed_over) = self.handed_over.take() {
                    take_words(&handed_over);
                }
            }
            State::Down(gap) => {
                take_words(gap);
                gap.span.first = at;
            }
            State::Unheard => {}
        }
        self.gaps.push(told);
        self.is_seen = false;
    }

    fn clock_stepped(&mut self, step: ClockStepped) {
        let move_it = |span: &mut Span| {
            *span =
                Span { first: step.by_new_clock(span.first), last: step.by_new_clock(span.last) };
        };
        self.first = step.by_new_clock(self.first);
        self.connected.iter_mut().for_each(move_it);
        self.gaps.iter_mut().for_each(|gap| move_it(&mut gap.span));
        self.lost.iter_mut().for_each(|lost| lost.at = step.by_new_clock(lost.at));
        match &mut self.state {
            State::Unheard => {}
            State::Up { since } => *since = step.by_new_clock(*since),
            State::Down(gap) => move_it(&mut gap.span),
        }
    }

    fn finish(mut self) -> Told {
        self.leave();
        let span = Span { first: self.first, last: self.last.max(self.first) };
        Told { span: Some(span), connected: self.connected, gaps: self.gaps, lost: self.lost }
    }
}

/// Keeps what was said in a gap: everything of few words, and of many attempts the last.
fn say(gap: &mut Gap, event: Event) {
    let is_attempt =
        |event: &Event| matches!(event.what, Happening::Rejected { .. } | Happening::Failed { .. });
    if is_attempt(&event) {
        gap.attempts += 1;
        gap.said.retain(|said| !is_attempt(said));
    }
    if gap.said.len() < SAID_KEPT {
        gap.said.push(event);
    }
}
