//! What the browser knows, and what each key does to it. Nothing here reads a file, a clock or a terminal:
//! whoever runs it hands over what was read, and shows what there is to be seen.

use centralcap::{
    entry::Timestamp,
    error::{self, counted},
    inspect::message::Dissection,
    select::{Find, Moment},
};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    index::{Channel, Index, Row},
    sheet::Sheet,
};

const DAY: u64 = 86_400_000_000_000;

/// So many bytes of a decoded frame are shown.
const DECODED: usize = 1 << 20;

/// The browser.
#[derive(Debug, Default)]
pub(super) struct Browser {
    pub index: Index,
    filter: Option<Filter>,
    /// Which of the frames that are shown is chosen, and which is the first one on the screen.
    pub chosen: usize,
    pub top: usize,
    /// How many frames are on the screen, and how many lines of the chosen one.
    pub heights: (usize, usize),
    pub focus: Focus,
    pub mode: Mode,
    /// The decoded frame is shown and not its bytes.
    pub decoded: bool,
    /// The first line of the frame that is on the screen.
    pub scroll: usize,
    opened: Option<Opened>,
    search: Option<Search>,
    /// What was looked for last.
    sought: Option<Find>,
    /// What there is to say about the last key.
    said: String,
}

/// Where keys go that move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Focus {
    #[default]
    List,
    Frame,
}

/// What keys mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Browse,
    /// A line is being typed.
    Asking(Question, String),
    Help,
}

/// What a line is typed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Filter,
    Search,
    Time,
    Number,
}

/// What comes after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    Quit,
}

/// The frame that was taken apart last.
#[derive(Debug)]
pub(super) struct Opened {
    /// Its place in the index.
    pub at: usize,
    /// Or what is wrong, if it could not be read.
    pub found: error::Result<Found>,
}

/// What there is to be seen of a frame.
#[derive(Debug)]
pub(super) struct Found {
    pub dissection: Dissection,
    pub sheet: Sheet,
    /// The decoded frame, or why there is none.
    pub decoded: Vec<String>,
}

#[derive(Debug)]
struct Filter {
    text: String,
    /// Of each channel, whether it is wanted.
    wanted: Vec<bool>,
    /// The places in the index of those that are shown.
    rows: Vec<u32>,
    /// So many of the index have been looked at.
    seen: usize,
}

/// A search on its way.
#[derive(Debug)]
struct Search {
    find: Find,
    way: Way,
    /// The next one to be looked at, of those that are shown.
    next: Option<usize>,
    looked_at: u64,
    /// So many of these could not be read.
    unread: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    On,
    Back,
}

impl Browser {
    /// How many frames are shown.
    pub(super) fn len(&self) -> usize {
        self.filter.as_ref().map_or(self.index.rows.len(), |filter| filter.rows.len())
    }

    /// The place in the index of one that is shown.
    pub(super) fn place(&self, shown: usize) -> Option<usize> {
        match &self.filter {
            Some(filter) => filter.rows.get(shown).map(|&at| at as usize),
            None => (shown < self.index.rows.len()).then_some(shown),
        }
    }

    pub(super) fn row(&self, shown: usize) -> Option<(usize, Row)> {
        let at = self.place(shown)?;
        Some((at, self.index.rows[at]))
    }

    pub(super) fn filter_text(&self) -> Option<&str> {
        self.filter.as_ref().map(|filter| &*filter.text)
    }

    /// The frame that is chosen and has not been taken apart yet.
    pub(super) fn wanted(&self) -> Option<(usize, Row)> {
        self.row(self.chosen).filter(|_| self.opened().is_none())
    }

    /// The frame that is chosen, taken apart.
    pub(super) fn opened(&self) -> Option<&Opened> {
        let at = self.place(self.chosen);
        self.opened.as_ref().filter(|opened| Some(opened.at) == at)
    }

    pub(super) fn open(&mut self, at: usize, found: error::Result<Dissection>) {
        let found = found.map(|dissection| {
            let (sheet, decoded) = (Sheet::of(&dissection), decoded(&dissection));
            Found { dissection, sheet, decoded }
        });
        self.opened = Some(Opened { at, found });
        self.scroll = 0;
    }

    /// Takes what has been read meanwhile, and says whether that is anything.
    pub(super) fn add(&mut self, next: Index) -> bool {
        let any = self.index.add(next);
        self.filter_on();
        any
    }

    fn filter_on(&mut self) {
        let Some(filter) = &mut self.filter else { return };
        let new = self.index.channels[filter.wanted.len()..].iter();
        filter.wanted.extend(new.map(|channel| is_wanted(channel, &filter.text)));
        for row in &self.index.rows[filter.seen..] {
            if filter.wanted[row.channel as usize] {
                filter.rows.push(filter.seen as u32);
            }
            filter.seen += 1;
        }
    }

    pub(super) fn update(&mut self, key: KeyEvent) -> Next {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Next::Quit;
        }
        match std::mem::take(&mut self.mode) {
            Mode::Browse => return self.browse(key.code, control),
            // Any key.
            Mode::Help => {}
            Mode::Asking(question, text) => self.ask(question, text, key.code, control),
        }
        Next::GoOn
    }

    fn browse(&mut self, key: KeyCode, control: bool) -> Next {
        self.said.clear();
        self.search = None;
        match key {
            KeyCode::Char('q') => return Next::Quit,
            KeyCode::Char('?') | KeyCode::F(1) => self.mode = Mode::Help,
            KeyCode::Char('f') if !control => {
                let text = self.filter_text().unwrap_or_default().to_owned();
                self.mode = Mode::Asking(Question::Filter, text);
            }
            KeyCode::Char('/') => self.mode = Mode::Asking(Question::Search, String::new()),
            KeyCode::Char('t') => self.mode = Mode::Asking(Question::Time, String::new()),
            KeyCode::Char('#' | ':') => self.mode = Mode::Asking(Question::Number, String::new()),
            KeyCode::Char('n') => self.search(Way::On),
            KeyCode::Char('N') => self.search(Way::Back),
            KeyCode::Char('d') if !control => {
                self.decoded = !self.decoded;
                self.scroll = 0;
            }
            KeyCode::Tab | KeyCode::Enter => {
                self.focus = match self.focus {
                    Focus::List => Focus::Frame,
                    Focus::Frame => Focus::List,
                }
            }
            KeyCode::Esc if self.focus == Focus::Frame => self.focus = Focus::List,
            KeyCode::Esc => self.filter(String::new()),
            key => self.go(key, control),
        }
        Next::GoOn
    }

    fn go(&mut self, key: KeyCode, control: bool) {
        let (frames, lines) = (self.len(), self.frame_lines());
        let (at, last, height) = match self.focus {
            Focus::List => (&mut self.chosen, frames.saturating_sub(1), self.heights.0),
            // A frame is not scrolled past its end.
            Focus::Frame => {
                (&mut self.scroll, lines.saturating_sub(self.heights.1.max(1)), self.heights.1)
            }
        };
        let page = height.saturating_sub(1).max(1);
        *at = match key {
            KeyCode::Up | KeyCode::Char('k') => at.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => *at + 1,
            KeyCode::PageUp | KeyCode::Char('b') => at.saturating_sub(page),
            KeyCode::Char('u') if control => at.saturating_sub(page / 2),
            KeyCode::PageDown | KeyCode::Char(' ') => *at + page,
            KeyCode::Char('f') if control => *at + page,
            KeyCode::Char('d') if control => *at + page / 2,
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => last,
            _ => return,
        }
        .min(last);
    }

    /// How many lines there are of the chosen frame.
    fn frame_lines(&self) -> usize {
        match self.opened().map(|opened| &opened.found) {
            Some(Ok(found)) if self.decoded => found.decoded.len(),
            Some(Ok(found)) => found.sheet.len(),
            Some(Err(_)) | None => 0,
        }
    }

    fn ask(&mut self, question: Question, mut text: String, key: KeyCode, control: bool) {
        match key {
            KeyCode::Esc => return,
            KeyCode::Enter => return self.answer(question, text),
            KeyCode::Backspace => _ = text.pop(),
            KeyCode::Char(character) if !control => text.push(character),
            _ => {}
        }
        self.mode = Mode::Asking(question, text);
    }

    fn answer(&mut self, question: Question, text: String) {
        match question {
            Question::Filter => self.filter(text),
            Question::Search => match text.parse::<Find>() {
                Ok(find) => {
                    self.sought = Some(find);
                    self.search(Way::On);
                }
                Err(error) => self.said = error.to_string(),
            },
            Question::Time => match self.moment(text.trim()) {
                Some(at) => self.go_to_time(at),
                None => {
                    self.said = format!(
                        "expected a time, found {text:?}: 11:07, 11:07:30, 2026-11-18 11:07 or +10m"
                    );
                }
            },
            Question::Number => match text.trim().parse::<u64>() {
                Ok(number) => self.go_to_number(number),
                Err(_) => self.said = format!("expected a frame's number, found {text:?}"),
            },
        }
    }

    /// Shows those frames only of whose subscription, topic and type each word is a part. The chosen frame
    /// stays chosen, or else the next one that is left.
    fn filter(&mut self, text: String) {
        // Where nothing was left, the last one that was looked at.
        let opened = self.opened.as_ref().map(|opened| opened.at);
        let at = self.place(self.chosen).or(opened).unwrap_or(0);
        let text = text.trim().to_owned();
        self.filter = (!text.is_empty()).then(|| Filter {
            text: text.to_lowercase(),
            wanted: Vec::new(),
            rows: Vec::new(),
            seen: 0,
        });
        self.filter_on();
        self.chosen = match &self.filter {
            None => at,
            Some(filter) => filter.rows.partition_point(|&row| (row as usize) < at),
        };
        self.chosen = self.chosen.min(self.len().saturating_sub(1));
        if let Some(filter) = self.filter.as_ref().filter(|filter| filter.rows.is_empty()) {
            self.said = format!("no frame is of {:?}", filter.text);
        }
    }

    /// A time of the day is one of the chosen frame's day.
    fn moment(&self, text: &str) -> Option<Timestamp> {
        let start = self.index.rows.first()?.received;
        match text.parse::<Moment>() {
            Ok(Moment::At(at)) => return Some(at),
            Ok(Moment::AfterStart(after)) => return Some(start.after(after)),
            Err(_) => {}
        }
        let chosen = self.row(self.chosen).map_or(start, |(_, row)| row.received);
        let day = Timestamp::from_nanos(chosen.as_nanos() / DAY * DAY).to_string();
        let (date, time) = match text.split_once([' ', 'T']) {
            Some((date, time)) => (date.to_owned(), time),
            None => (day.get(..10)?.to_owned(), text),
        };
        let seconds = if time.matches(':').count() == 1 { ":00" } else { "" };
        format!("{date}T{time}{seconds}Z").parse().ok()
    }

    fn go_to_time(&mut self, at: Timestamp) {
        // Times need not rise.
        let is_there = |&shown: &usize| self.row(shown).is_some_and(|(_, row)| row.received >= at);
        match (0..self.len()).find(is_there) {
            Some(shown) => self.chosen = shown,
            None => {
                self.chosen = self.len().saturating_sub(1);
                let so_far = if self.index.end.is_some() { "" } else { " so far" };
                self.said = format!("no frame came at {at} or later{so_far}");
            }
        }
    }

    fn go_to_number(&mut self, number: u64) {
        let of = |shown| self.place(shown).map_or(u64::MAX, |at| self.index.number(at));
        // Numbers rise.
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if of(middle) < number { low = middle + 1 } else { high = middle }
        }
        if of(low) == number {
            self.chosen = low;
        } else {
            self.said = format!("frame {number} is not in the list");
        }
    }

    fn search(&mut self, way: Way) {
        let Some(find) = self.sought.clone() else {
            "nothing has been looked for: / asks for it".clone_into(&mut self.said);
            return;
        };
        let next = self.step(self.chosen, way);
        self.search = Some(Search { find, way, next, looked_at: 0, unread: 0 });
    }

    fn step(&self, from: usize, way: Way) -> Option<usize> {
        match way {
            Way::On => Some(from + 1).filter(|next| *next < self.len()),
            Way::Back => from.checked_sub(1),
        }
    }

    /// Something is looked for.
    pub(super) const fn is_searching(&self) -> bool {
        self.search.is_some()
    }

    /// The frame that is to be looked at next. If there is none, that is said, and the search is over.
    pub(super) fn sought(&mut self) -> Option<Row> {
        let search = self.search.as_ref()?;
        if let Some((_, row)) = search.next.and_then(|shown| self.row(shown)) {
            return Some(row);
        }
        let where_to = match search.way {
            Way::On if self.index.end.is_none() => "behind this one, as far as it has been read",
            Way::On => "behind this one",
            Way::Back => "before this one",
        };
        let frames = counted(search.looked_at, "frame");
        self.said = format!("{} is in none of the {frames} {where_to}", search.find);
        if search.unread > 0 {
            self.said.push_str(&format!("; {} could not be read", counted(search.unread, "frame")));
        }
        self.search = None;
        None
    }

    /// Looks at it, if it could be read.
    pub(super) fn search_on(&mut self, data: Option<&[u8]>) {
        let Some(mut search) = self.search.take() else { return };
        let Some(shown) = search.next else { return };
        if data.is_some_and(|data| search.find.position(data).is_some()) {
            self.chosen = shown;
            self.said = format!("{}: n goes to the next one, N to the one before", search.find);
            return;
        }
        search.looked_at += 1;
        search.unread += u64::from(data.is_none());
        search.next = self.step(shown, search.way);
        self.search = Some(search);
    }

    /// What there is to say: about a search, about the last key, or else what is wrong with the capture.
    pub(super) fn words(&self) -> String {
        if let Some(Search { find, looked_at, .. }) = &self.search {
            return format!("looking for {find}: not in {}", counted(*looked_at, "frame"));
        }
        match (&*self.said, &self.index.end, &self.index.damage) {
            ("", Some(Err(error)), _) => error.to_string(),
            ("", _, Some(damage)) => damage.clone(),
            (said, ..) => said.to_owned(),
        }
    }
}

/// The decoded frame with what the schema does not know of it, or why there is none.
fn decoded(found: &Dissection) -> Vec<String> {
    let mut decoded: Vec<_> =
        found.fault.iter().map(|fault| format!("cannot be decoded: {fault}")).collect();
    if let Some((lines, left_out)) = found.decoded_lines(DECODED) {
        decoded.extend(lines);
        if left_out > 0 {
            let left_out = counted(left_out as u64, "byte");
            decoded.push(format!("... and {left_out} of JSON more, which decode shows"));
        }
    }
    decoded.extend(found.unknown_lines().map(|note| format!("not in the schema: {note}")));
    decoded
}

fn is_wanted(channel: &Channel, text: &str) -> bool {
    let subscription = &channel.subscription;
    let payload = channel.kind.payload.as_deref().unwrap_or("unknown");
    let all = [&*subscription.name, &*subscription.topic, &*channel.kind.label, payload];
    let all = all.map(str::to_lowercase);
    text.split_whitespace().all(|word| all.iter().any(|name| name.contains(word)))
}
