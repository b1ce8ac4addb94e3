//! The status of a recording on stderr: lines that are drawn over on a terminal, plain lines in a log.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytesize::ByteSize;
use centralcap::{
    error::counted,
    record::{Board, State, Status},
};

use super::{
    Words,
    log::{Format, Level, Line},
    shown, stderr,
};

/// How often a terminal is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(500);

/// How often a line is written where there is no terminal.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// More subscriptions than that are summed up.
const LINES: usize = 16;

/// stderr, shared by whoever has something to say.
pub(super) struct Screen {
    board: Arc<Board>,
    words: Words,
    drawn: Mutex<Drawn>,
}

/// What stands on the terminal's last lines.
struct Drawn {
    lines: usize,
    at: Instant,
    frames: Vec<u64>,
}

impl Screen {
    pub(super) fn new(board: Arc<Board>, words: Words) -> Arc<Self> {
        let drawn = Drawn { lines: 0, at: Instant::now(), frames: Vec::new() };
        Arc::new(Self { board, words, drawn: Mutex::new(drawn) })
    }

    /// Says that something is wrong, above the status.
    pub(super) fn say(&self, line: &str) {
        match self.words.format {
            Format::Text if self.words.quiet => {}
            Format::Text => self.put(&shown(&line)),
            Format::Json => self.put(&Line::message(Level::Warn, line).to_string()),
        }
    }

    /// Writes a line as it is, above the status.
    pub(super) fn put(&self, line: &str) {
        let mut drawn = self.lock();
        let text = format!("{}{line}\n", erase(&mut drawn));
        stderr::write(text);
    }

    /// Takes the status off the terminal.
    pub(super) fn clear(&self) {
        stderr::write(erase(&mut self.lock()));
    }

    /// Draws again and again.
    pub(super) async fn draw_until_dropped(self: Arc<Self>) {
        let every = if self.words.live { DRAW_EVERY } else { LOG_EVERY };
        let mut ticks = tokio::time::interval(every);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            // Old drawings are worth nothing, and would take the place of words.
            if !self.words.quiet && !stderr::is_behind() {
                self.draw();
            }
        }
    }

    fn draw(&self) {
        let all = self.board.read();
        let mut drawn = self.lock();
        let seconds = drawn.at.elapsed().as_secs_f64().max(0.001);
        let rate = |index: usize, frames: u64| {
            let before = drawn.frames.get(index).copied().unwrap_or(0);
            (frames - before) as f64 / seconds
        };
        let rates: Vec<f64> =
            all.iter().enumerate().map(|(index, status)| rate(index, status.frames)).collect();
        let mut lines = Vec::new();
        if self.words.format == Format::Json {
            lines.push(object(&all, rates.iter().sum()).to_string());
        }
        if self.words.live && all.len() <= LINES {
            let width = all.iter().map(|status| status.name.chars().count()).max().unwrap_or(0);
            for (status, rate) in all.iter().zip(&rates) {
                lines.push(line(&format!("{:width$}", status.name), status, *rate));
            }
        }
        if lines.is_empty() || (all.len() > 1 && self.words.live) {
            lines.push(total(&all, rates.iter().sum()));
        }
        let text = format!("{}{}\n", erase(&mut drawn), lines.join("\n"));
        stderr::write(text);
        drawn.lines = if self.words.live { lines.len() } else { 0 };
        drawn.at = Instant::now();
        drawn.frames = all.iter().map(|status| status.frames).collect();
    }

    fn lock(&self) -> MutexGuard<'_, Drawn> {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes back to where the status began and clears to the end of the screen.
fn erase(drawn: &mut Drawn) -> String {
    match std::mem::take(&mut drawn.lines) {
        0 => String::new(),
        lines => format!("\x1b[{lines}F\x1b[J"),
    }
}

fn line(name: &str, status: &Status, rate: f64) -> String {
    let state = match status.state {
        State::Connecting => "connecting",
        State::Connected => "connected",
        State::Waiting => "waiting",
        State::Stopped => "stopped",
    };
    let bytes = ByteSize::b(status.bytes).display().iec().to_string();
    format!("{name}  {state:10}  {:>10} frames  {rate:>8.1}/s  {bytes:>10}", status.frames)
}

fn total(all: &[Status], rate: f64) -> String {
    let Sum { connected, frames, bytes } = Sum::of(all);
    let bytes = ByteSize::b(bytes).display().iec();
    let frames = counted(frames, "frame");
    format!("{connected} of {} connected, {frames}, {rate:.1}/s, {bytes}", all.len())
}

/// How all are doing, without a rate.
pub(super) fn standing(all: &[Status]) -> String {
    let Sum { connected, frames, bytes } = Sum::of(all);
    let bytes = ByteSize::b(bytes).display().iec();
    let frames = counted(frames, "frame");
    format!("{connected} of {} connected, {frames}, {bytes}", all.len())
}

fn object(all: &[Status], rate: f64) -> Line {
    let Sum { connected, frames, bytes } = Sum::of(all);
    Line::new(Level::Info, "status")
        .with("subscriptions", all.len())
        .with("connected", connected)
        .with("frames", frames)
        .with("bytes", bytes)
        .with("frames_per_second", rate)
}

/// All subscriptions together.
struct Sum {
    connected: usize,
    frames: u64,
    bytes: u64,
}

impl Sum {
    fn of(all: &[Status]) -> Self {
        Self {
            connected: all.iter().filter(|status| status.state == State::Connected).count(),
            frames: all.iter().map(|status| status.frames).sum(),
            bytes: all.iter().map(|status| status.bytes).sum(),
        }
    }
}
