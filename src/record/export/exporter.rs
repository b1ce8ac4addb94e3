//! The thread of an exporter: takes what waits, makes lines of it, and sends them.
//!
//! Where sending fails, the outlet is opened anew, after a while, and what was not sent wholly is sent
//! from the beginning of its line.

use std::{
    io,
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Export, Notice, Notify,
    outlet::{self, Outlet, is_not_yet},
    queue::{Became, Next, Queue, Recovered},
};
use crate::{codec::json::Text, entry::Entry, sink::Sink};

/// How long to wait before the second try, and the longest wait. What worked for longer than that may
/// be tried again at once.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// So often it is tried when nothing more comes: what was open may have been dead for long, and a new
/// one may be alive.
const LAST_TRIES: u32 = 2;

/// How often it is looked after an outlet to which nothing is sent.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Exporter {
    export: Export,
    queue: Arc<Queue>,
    notify: Notify,
    open: Option<Open>,
    /// How long to wait after the next failure.
    wait: Duration,
    /// No sooner than that is it tried again.
    next_try: Instant,
    has_told_undecodable: bool,
}

struct Open {
    outlet: Box<dyn Outlet>,
    since: Instant,
}

/// Frames on their way, as text.
#[derive(Default)]
struct Batch {
    text: Text,
    /// One for each frame.
    lines: Vec<Line>,
}

struct Line {
    /// Where it ends; nothing is in it if the frame does not decode.
    end: usize,
    became: Became,
}

impl Exporter {
    pub(super) fn new(export: Export, queue: Arc<Queue>, notify: Notify) -> Self {
        let (open, wait, next_try) = (None, FIRST_WAIT, Instant::now());
        Self { export, queue, notify, open, wait, next_try, has_told_undecodable: false }
    }

    /// Exports until nothing more comes.
    pub(super) fn run(mut self) {
        self.look_after();
        let mut batch = Batch::default();
        loop {
            match self.queue.next(LOOK_EVERY) {
                Next::Batch(entries) => {
                    self.decode(&entries, &mut batch);
                    if self.send(&batch).is_break() {
                        break;
                    }
                }
                Next::Nothing => self.look_after(),
                Next::Over => break,
            }
        }
        self.queue.end();
        if let Some(Open { outlet, .. }) = self.open {
            outlet.close();
        }
    }

    /// Opens what is not open, so that whoever reads can be told apart from one that is not there.
    fn look_after(&mut self) {
        if self.open.is_none() && Instant::now() < self.next_try {
            return;
        }
        if let Err(error) = self.outlet().and_then(Outlet::check) {
            self.failed(&error);
        } else if self.open.as_ref().is_some_and(|open| open.since.elapsed() >= LOOK_EVERY) {
            // What ends at once is no good news.
            self.tell(self.queue.works());
        }
    }

    fn outlet(&mut self) -> io::Result<&mut (dyn Outlet + 'static)> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let outlet = outlet::open(&self.export.target, self.export.rotate_at)?;
                Open { outlet, since: Instant::now() }
            }
        };
        Ok(&mut *self.open.insert(open).outlet)
    }

    /// What does not decode is counted and not exported: all lines are of one kind, those of `decode`,
    /// and the frame is in the capture for whoever asks.
    fn decode(&mut self, entries: &[Entry], batch: &mut Batch) {
        batch.text.clear();
        batch.lines.clear();
        for entry in entries {
            let became = match self.export.sink.entry(entry, &mut batch.text) {
                Ok(_) => Became::Exported,
                Err(error) => {
                    if !std::mem::replace(&mut self.has_told_undecodable, true) {
                        (self.notify)(Notice::Trouble { error: &error });
                    }
                    Became::Undecodable
                }
            };
            batch.lines.push(Line { end: batch.text.len(), became });
        }
    }

    /// Sends all of it, however often that has to be tried. Break: there is no time left.
    fn send(&mut self, batch: &Batch) -> ControlFlow<()> {
        let (text, mut left) = (batch.text.as_bytes(), &batch.lines[..]);
        // Where the next write begins, and where the first line that is left does.
        let (mut sent, mut whole) = (0, 0);
        let mut last_tries = LAST_TRIES;
        loop {
            while let Some((line, rest)) = left.split_first()
                && line.end <= sent
            {
                self.tell(self.queue.settle(line.became));
                (whole, left) = (line.end, rest);
            }
            if left.is_empty() {
                return ControlFlow::Continue(());
            }
            if self.queue.is_over() {
                return ControlFlow::Break(());
            }
            let is_at_the_end = self.queue.is_closed();
            match self.write(&text[sent..]) {
                Ok(count) => sent += count,
                Err(error) if is_not_yet(&error) => {}
                Err(error) => {
                    self.failed(&error);
                    sent = whole;
                    last_tries -= u32::from(is_at_the_end);
                    if last_tries == 0 {
                        return ControlFlow::Break(());
                    }
                    self.queue.pause(self.next_try.saturating_duration_since(Instant::now()));
                }
            }
        }
    }

    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let outlet = self.outlet()?;
        outlet.check()?;
        outlet.write(text)
    }

    fn failed(&mut self, error: &io::Error) {
        let lasted = self.open.take().is_some_and(|open| open.since.elapsed() > LONGEST_WAIT);
        if lasted {
            self.wait = FIRST_WAIT;
        }
        self.next_try = Instant::now() + self.wait;
        self.wait = (2 * self.wait).min(LONGEST_WAIT);
        let reason = error.to_string();
        if self.queue.fail(reason.clone()) {
            let exporter = self.queue.name();
            (self.notify)(Notice::ExportTrouble { exporter, reason: &reason });
        }
    }

    fn tell(&self, recovered: Option<Recovered>) {
        if let Some(Recovered { dropped }) = recovered {
            let exporter = self.queue.name();
            (self.notify)(Notice::ExportAgain { exporter, dropped });
        }
    }
}
