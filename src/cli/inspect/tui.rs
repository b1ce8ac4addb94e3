//! `centralcap inspect --tui`: a browser that fills the terminal.

use std::{
    io::{self, IsTerminal},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context;
use centralcap::{
    capture::{Capture, Places},
    entry::Entry,
    error::{self, Error},
    inspect::{
        Numbered,
        message::{Dissector, LINES},
    },
    select::Selection,
};
use ratatui::{
    DefaultTerminal, Frame,
    crossterm::event::{self, Event, KeyEventKind},
};

use self::{
    index::{Channel, Reading, Row},
    state::{Browser, Next},
};
use super::Args;
use crate::cli::{Outcome, Words, signal};

mod index;
mod sheet;
mod state;
mod view;

#[cfg(test)]
mod tests;

/// So long nothing happens on the screen while something is read or looked for.
const TICK: Duration = Duration::from_millis(50);

/// So long it takes until a signal is heard while nothing else happens.
const REST: Duration = Duration::from_millis(250);

pub(super) fn run(args: &Args, words: Words) -> anyhow::Result<Outcome> {
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        let hint = "--messages shows the frames of a capture in a pipe or a file";
        return Err(Error::usage("a terminal", "none", hint).into());
    }
    let capture = args.select.open(words)?;
    let dissector = Dissector::new(args.style.resolver()?, args.style.style(), LINES);
    let mut browsing = Browsing::of(&capture, args.select.selection(), dissector);
    let stopped = signal::stopped()?;
    // From here on a panic gives the terminal back before it says anything.
    let done = ratatui::try_init()
        .and_then(|mut terminal| browsing.until_the_end(&mut terminal, &stopped));
    ratatui::restore();
    done.context("cannot use the terminal")?;
    let index = browsing.browser.index;
    index.end.unwrap_or(Ok(()))?;
    Ok(if index.damages > 0 { Outcome::Lossy } else { Outcome::Done })
}

/// The browser, and what it takes frames from.
struct Browsing {
    browser: Browser,
    title: String,
    places: Places,
    reading: Reading,
    dissector: Dissector,
}

impl Browsing {
    fn of(capture: &Capture, selection: Selection, dissector: Dissector) -> Self {
        Self {
            browser: Browser::default(),
            title: title(capture),
            places: Places::of(capture),
            reading: Reading::begin(capture, selection),
            dissector,
        }
    }

    fn until_the_end(
        &mut self,
        terminal: &mut DefaultTerminal,
        stopped: &AtomicBool,
    ) -> io::Result<()> {
        let mut changed = true;
        while !stopped.load(Ordering::Relaxed) && !self.is_in_vain() {
            changed |= self.read_on();
            if changed {
                terminal.draw(|frame| self.draw(frame))?;
            }
            changed = self.search_on();
            let wait = match &self.browser.index.end {
                _ if changed => Duration::ZERO,
                None => TICK,
                Some(_) => REST,
            };
            let mut is_ready = event::poll(wait)?;
            while is_ready {
                changed = true;
                if let Event::Key(key) = event::read()?
                    && key.kind != KeyEventKind::Release
                    && self.browser.update(key) == Next::Quit
                {
                    return Ok(());
                }
                is_ready = event::poll(Duration::ZERO)?;
            }
        }
        Ok(())
    }

    /// It is no capture, or cannot be read: there is nothing to be shown.
    fn is_in_vain(&self) -> bool {
        let index = &self.browser.index;
        index.rows.is_empty() && matches!(index.end, Some(Err(_)))
    }

    /// Takes what has been read meanwhile, and says whether that is anything.
    fn read_on(&mut self) -> bool {
        self.browser.add(self.reading.take())
    }

    /// Looks at more frames, if something is looked for, and says whether it is.
    fn search_on(&mut self) -> bool {
        let begun = Instant::now();
        let any = self.browser.is_searching();
        while let Some(row) = self.browser.sought()
            && begun.elapsed() < TICK
        {
            let entry = self.frame(row);
            let frame = entry.as_ref().ok().and_then(Entry::frame);
            self.browser.search_on(frame.map(|frame| &*frame.data));
        }
        any
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        if let Some((at, row)) = self.browser.wanted() {
            let found = self.frame(row).map(|entry| {
                let frame = entry.frame().expect("rows are of frames");
                let (number, place) =
                    (self.browser.index.number(at), self.browser.index.place(row));
                self.dissector.dissect(Numbered { number, entry: &entry, frame, place })
            });
            self.browser.open(at, found);
        }
        view::draw(frame, &mut self.browser, &self.title);
    }

    fn frame(&mut self, row: Row) -> error::Result<Entry> {
        let Channel { subscription, kind } = self.browser.index.channel(row);
        self.places.frame(self.browser.index.place(row), subscription, kind)
    }
}

/// The first file, and how many more there are.
fn title(capture: &Capture) -> String {
    let name = capture.segments().first().and_then(|segment| segment.path.file_name());
    let name = name.unwrap_or_default().to_string_lossy();
    match capture.segments().len() {
        0 | 1 => name.into_owned(),
        all => format!("{name} and {} more", all - 1),
    }
}
