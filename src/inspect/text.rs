//! A profile as a page for people: aligned, not wider than a hundred columns, with a drawing of the
//! frames over time.
//!
//! Names and reasons come from captures, so from anybody: what a terminal would obey is shown as an
//! escape. What does not fit is cut with an ellipsis; the JSON of the profile has it all.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use bytesize::ByteSize;

use super::{
    Axis, ConnectionCounts, Event, Happening, History, Losses, Profile, SegmentProfile, Sequence,
    State, SubscriptionProfile,
};
use crate::{capture::PastDamage, entry::Timestamp, error::counted, plain::unobeyed};

mod drift;
mod gaps;
mod message;
mod top;
mod verify;

pub(super) use gaps::{lost, percent, words as words_of_gap};

/// No line is wider, but where somebody wants a drawing to be.
pub const WIDTH: usize = 100;

/// Where the values of the head and of a subscription's lines begin.
const NAMES: usize = 12;

/// The widest name in front of a drawing, and in a table.
const NAME_WIDTH: usize = 16;

/// Of a long list so many items from each end are shown.
const ENDS: usize = 5;

/// How a page looks.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// With ANSI colours.
    pub color: bool,
    /// With characters beyond ASCII.
    pub unicode: bool,
    /// How wide a drawing of the coverage may be, with what stands beside it; [`WIDTH`] by default.
    pub width: usize,
    /// With every segment and every event that the profile holds, not only both ends of the lists.
    pub everything: bool,
}

impl Profile {
    /// A page about this profile.
    pub fn text(&self, look: Look) -> String {
        let start = self.span.map(|span| span.first).unwrap_or_default();
        let mut page = Page { look, start, text: String::new() };
        page.head(self);
        page.segments(&self.segments);
        for subscription in &self.subscriptions {
            page.subscription(subscription, self.from_index);
        }
        page.timelines(self);
        page.text
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.damaged_segments, "damaged segment"),
            (self.past_damaged_places, "earlier damaged place"),
            (self.missing_frames, "missing frame"),
            (self.dropped_frames, "dropped frame"),
            (self.gaps, "gap"),
            (self.unknown, "unknown time"),
            (self.never_connected, "unconnected subscription"),
        ];
        f.write_str(&listed(&parts))
    }
}

struct Page {
    look: Look,
    /// What offsets count from: the capture's first entry, as `--from +10m` does.
    start: Timestamp,
    text: String,
}

/// The styles of a page, by their ANSI codes.
#[derive(Clone, Copy)]
pub(super) enum Style {
    Plain = 0,
    Title = 1,
    Faint = 2,
    Alarm = 31,
    Drawing = 36,
}

impl Page {
    fn head(&mut self, profile: &Profile) {
        match &profile.about {
            Some(about) => {
                let on = if about.host.is_empty() { "" } else { " on " };
                let (version, host, started) = (&about.version, &about.host, &about.started);
                let by = format!("by centralcap {version}{on}{host}, started {started}");
                self.value("recorded", Style::Plain, &by);
                let option = |(name, value): (&String, &String)| format!("{name}={value}");
                let options: Vec<_> = about.options.iter().map(option).collect();
                if !options.is_empty() {
                    self.value("options", Style::Plain, &options.join(", "));
                }
            }
            None => self.value("recorded", Style::Alarm, "it does not say by whom"),
        }
        let span = profile.span.map_or("no entries".to_owned(), |span| {
            format!("{} to {}, {}", span.first, span.last, short(span.length()))
        });
        self.value("span", Style::Plain, &span);
        let totals = &profile.totals;
        let frames = counted(totals.frames, "frame");
        let events = counted(totals.events, "session event");
        self.value(
            "content",
            Style::Plain,
            &format!("{frames}, {} altogether; {events}", size(totals.bytes)),
        );
        let files = counted(profile.segments.len() as u64, "segment");
        let stored = format!("{} in {files}", size(totals.stored_bytes));
        let compression = totals.compression.map_or(String::new(), |compression| {
            format!(", {compression:.2} bytes of frames for each stored byte")
        });
        self.value("stored", Style::Plain, &(stored + &compression));
        match profile.losses() {
            Some(losses) => self.value("lost", Style::Alarm, &losses.to_string()),
            None if profile.from_index => {
                let words = "nothing in the ledger; only the index was read, --verify reads all";
                self.value("lost", Style::Plain, words);
            }
            None => self.value("lost", Style::Plain, "nothing that can be seen"),
        }
        self.past_damage(profile.past_damage.as_ref());
    }

    /// What was lost before the capture was made.
    fn past_damage(&mut self, past: Option<&PastDamage>) {
        let Some(PastDamage { damaged_places, lost, lost_more }) = past else { return };
        let places = counted(*damaged_places, "damaged place");
        self.value("saved from", Style::Alarm, &format!("a damaged capture: {places}"));
        let left_out = self.middle(lost.len());
        for (_, words) in lost.iter().enumerate().filter(|(index, _)| !left_out.contains(index)) {
            self.value("", Style::Alarm, words);
        }
        let more = left_out.len() as u64 + lost_more;
        if more > 0 {
            self.value("", Style::Alarm, &format!("and {more} more"));
        }
    }

    fn segments(&mut self, segments: &[SegmentProfile]) {
        self.blank();
        let header = ["state", "size", "entries", "segment"].map(str::to_owned).to_vec();
        let row = |segment: &SegmentProfile| {
            let state = match (segment.state, segment.live) {
                (State::Sealed, _) => "sealed",
                (State::Hot, true) => "hot, being recorded",
                (State::Hot, false) => "hot, left behind",
            };
            let path = segment.path.display().to_string();
            vec![state.to_owned(), size(segment.bytes), segment.entries.to_string(), path]
        };
        let table: Vec<_> = std::iter::once(header).chain(segments.iter().map(row)).collect();
        let widths = widths(&table);
        self.row(&table[0], &widths, &[1, 2], Style::Faint);
        let left_out = self.middle(segments.len());
        for (index, (segment, row)) in segments.iter().zip(&table[1..]).enumerate() {
            if index == left_out.start && !left_out.is_empty() {
                self.left_out(left_out.len() as u64, "segment");
            }
            // What is wrong is never left out.
            if left_out.contains(&index) && segment.damage.is_none() {
                continue;
            }
            self.row(row, &widths, &[1, 2], Style::Plain);
            for line in segment.damage.iter().flat_map(|damage| wrapped(damage, WIDTH - 4)) {
                self.line(4, Style::Alarm, &line);
            }
            if segment.damaged_places > 1 {
                let more = counted(segment.damaged_places - 1, "more damaged place");
                self.line(4, Style::Alarm, &format!("and {more}"));
            }
        }
    }

    fn subscription(&mut self, subscription: &SubscriptionProfile, from_index: bool) {
        self.blank();
        let SubscriptionProfile { name, topic, host, protocol, .. } = subscription;
        self.line(0, Style::Title, &format!("{name}: {topic} from {host} ({protocol})"));
        self.payloads(subscription);
        let (style, words) = match subscription.sequence {
            None if from_index => (Style::Faint, "not checked, only the index was read".to_owned()),
            sequence => sequence_in_words(sequence),
        };
        self.value("  sequence", style, &words);
        let counts = &subscription.connections;
        let style = if counts.gaps > 0 { Style::Alarm } else { Style::Plain };
        let mut name = "  session";
        for line in wrapped(&counts_in_words(counts), WIDTH - NAMES) {
            self.value(name, style, &line);
            name = "";
        }
        self.history(&subscription.history);
    }

    fn payloads(&mut self, subscription: &SubscriptionProfile) {
        let header =
            ["payload", "frames", "bytes", "min", "mean", "max", "frames/s", "first", "last"];
        let rows = subscription.payloads.iter().map(|payload| {
            let unknown = if payload.payload.is_some() { "" } else { " (unknown)" };
            let label = self.fitted(&payload.label, NAME_WIDTH + 8 - unknown.len());
            let rate = payload.frames_per_second.map_or("-".to_owned(), rate);
            vec![
                label + unknown,
                payload.frames.to_string(),
                size(payload.bytes),
                size(payload.min_bytes),
                size(payload.bytes / payload.frames.max(1)),
                size(payload.max_bytes),
                rate,
                self.offset(payload.span.first),
                self.offset(payload.span.last),
            ]
        });
        let header = header.map(str::to_owned).to_vec();
        let table: Vec<_> = std::iter::once(header).chain(rows).collect();
        let widths = widths(&table);
        for (index, row) in table.iter().enumerate().filter(|_| table.len() > 1) {
            let style = if index == 0 { Style::Faint } else { Style::Plain };
            self.row(row, &widths, &[1, 2, 3, 4, 5, 6, 7, 8], style);
        }
    }

    fn history(&mut self, history: &History) {
        let events: Vec<&Event> = history.first.iter().chain(&history.last).collect();
        let table: Vec<_> = events
            .iter()
            .map(|event| {
                let (name, words) = happening_in_words(&event.what);
                let connection = format!("#{}", event.connection);
                vec![self.offset(event.at), connection, name.to_owned(), words]
            })
            .collect();
        let widths = widths(&table);
        let mut left_out = self.middle(events.len());
        let mut left_out_count = left_out.len() as u64 + history.left_out;
        if left_out.is_empty() && history.left_out > 0 {
            left_out = history.first.len()..history.first.len();
            left_out_count = history.left_out;
        }
        for (index, row) in table.iter().enumerate() {
            if index == left_out.start && left_out_count > 0 {
                self.left_out(left_out_count, "event");
            }
            if !left_out.contains(&index) {
                self.row(row, &widths, &[0, 1], Style::Plain);
            }
        }
    }

    fn timelines(&mut self, profile: &Profile) {
        let Some(axis) = &profile.timeline else { return };
        self.blank();
        let title = format!("frames over time, one column is {}", short(axis.bucket_seconds));
        self.line(0, Style::Title, &title);
        let label =
            |subscription: &SubscriptionProfile| self.fitted(&subscription.name, NAME_WIDTH);
        let labels: Vec<_> = profile.subscriptions.iter().map(label).collect();
        let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        for (label, subscription) in labels.iter().zip(&profile.subscriptions) {
            let peak = subscription.timeline.iter().copied().max().unwrap_or(0);
            let drawing = drawing(&subscription.timeline, peak, self.look.unicode);
            let drawing = self.painted(Style::Drawing, &drawing);
            let _ = writeln!(self.text, "  {label:width$}  {drawing}  {peak}");
        }
        let most = if axis.buckets >= 62 { "  most" } else { "" };
        self.axis(axis, width, most);
    }

    /// The times at both ends of a drawing that stands behind labels of a width.
    fn axis(&mut self, axis: &Axis, width: usize, beside: &str) {
        let (start, end) = (axis.start.to_string(), axis.end().to_string());
        let room = axis.buckets.saturating_sub(start.len()).max(end.len() + 2);
        let times = self.painted(Style::Faint, &format!("{start}{end:>room$}"));
        let beside = self.painted(Style::Faint, beside);
        let _ = writeln!(self.text, "  {:width$}  {times}{beside}", "");
    }

    /// The items of a long list that are not shown.
    fn middle(&self, items: usize) -> std::ops::Range<usize> {
        // To leave one out and say so saves no line.
        if self.look.everything || items <= 2 * ENDS + 1 { 0..0 } else { ENDS..items - ENDS }
    }

    fn left_out(&mut self, count: u64, what: &str) {
        let more =
            if count == 1 { format!("1 more {what}") } else { format!("{count} more {what}s") };
        self.line(2, Style::Faint, &format!("{} {more}", self.ellipsis()));
    }

    /// A named value in the head or below a subscription.
    fn value(&mut self, name: &str, style: Style, value: &str) {
        let value = self.fitted(value, WIDTH - NAMES);
        let value = self.painted(style, &value);
        let _ = writeln!(self.text, "{name:NAMES$}{value}");
    }

    /// A row of a table, with some of its columns to the right.
    fn row(&mut self, cells: &[String], widths: &[usize], right: &[usize], style: Style) {
        let mut line = String::new();
        for (index, (cell, &width)) in cells.iter().zip(widths).enumerate() {
            let room = WIDTH.saturating_sub(line.chars().count() + 4);
            // Only the last column can be too wide for the page.
            let cell =
                if index + 1 == cells.len() { self.fitted(cell, room) } else { cell.clone() };
            let width = width.min(room);
            let _ = if right.contains(&index) {
                write!(line, "  {cell:>width$}")
            } else {
                write!(line, "  {cell:width$}")
            };
        }
        self.line(0, style, line.trim_end());
    }

    fn line(&mut self, indent: usize, style: Style, text: &str) {
        let text = self.fitted(text, WIDTH - indent);
        let text = self.painted(style, &text);
        let _ = writeln!(self.text, "{:indent$}{text}", "");
    }

    fn blank(&mut self) {
        self.text.push('\n');
    }

    fn painted(&self, style: Style, text: &str) -> String {
        match style as u8 {
            code if code > 0 && self.look.color => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }

    /// One line of it at most: what would begin another is shown as an escape, too.
    fn visible(&self, text: &str) -> String {
        let shown = unobeyed(text, |character| character.escape_default().to_string());
        let shown = shown.replace('\n', "\\n");
        if self.look.unicode { shown } else { ascii(&shown) }
    }

    /// The visible text, cut to a width where it has to be.
    fn fitted(&self, text: &str, width: usize) -> String {
        fitted(&self.visible(text), width, self.ellipsis())
    }

    fn ellipsis(&self) -> &'static str {
        if self.look.unicode { "…" } else { "..." }
    }

    fn offset(&self, at: Timestamp) -> String {
        format!("+{}", short(at.since(self.start)))
    }
}

/// The counts as a row of bars: blank for nothing, the lowest bar for anything at all.
fn drawing(counts: &[u64], peak: u64, unicode: bool) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const ASCII: [char; 8] = ['.', ':', '-', '=', '+', '*', '#', '@'];
    let bars = if unicode { BARS } else { ASCII };
    let bar = |&count: &u64| match count {
        0 => ' ',
        count => {
            bars[((u128::from(count) * 8).div_ceil(u128::from(peak)) as usize).clamp(1, 8) - 1]
        }
    };
    counts.iter().map(bar).collect()
}

pub(super) fn sequence_in_words(sequence: Option<Sequence>) -> (Style, String) {
    match sequence {
        None => (Style::Faint, "not checked, a selection leaves frames out".to_owned()),
        Some(Sequence { missing: 0, .. }) => (Style::Plain, "no frame is missing".to_owned()),
        Some(Sequence { holes, missing, unexplained }) => {
            let (missing, holes) = (counted(missing, "frame"), counted(holes, "place"));
            let words =
                format!("{missing} missing in {holes}, {unexplained} without a word about it");
            (if unexplained > 0 { Style::Alarm } else { Style::Plain }, words)
        }
    }
}

pub(super) fn counts_in_words(counts: &ConnectionCounts) -> String {
    let mut words = listed(&[
        (counts.connected, "connection"),
        (counts.rejected, "refusal"),
        (counts.failed, "failed attempt"),
        (counts.key_renewals, "key renewal"),
        (counts.text_frames, "text message"),
        (counts.dropped_frames, "dropped frame"),
        (counts.clock_steps, "clock step"),
        (counts.export_dropped_frames, "unexported frame"),
        (counts.deleted_segments, "deleted segment"),
        (counts.deleted_frames, "deleted frame"),
        (counts.unknown, "unknown event"),
        (counts.gaps, "gap"),
    ]);
    if words.is_empty() {
        "nothing was written down".clone_into(&mut words);
    }
    if counts.gaps > 0 {
        let _ = write!(words, " of {} altogether", short(counts.gap_seconds));
    }
    words
}

/// The name of an event, and what there is to say about it.
pub(super) fn happening_in_words(what: &Happening) -> (&'static str, String) {
    match what {
        Happening::Connected { attempt, round_trip_seconds, peer, .. } => {
            ("connected", format!("{peer} in {}, attempt {attempt}", short(*round_trip_seconds)))
        }
        Happening::Rejected { status, body, attempt } => {
            ("rejected", format!("status {status}, attempt {attempt}: {}", body.trim_end()))
        }
        Happening::Failed { attempt, reason } => ("failed", format!("attempt {attempt}: {reason}")),
        Happening::Closed { code, reason, clean, last_sequence } => {
            let code = code.map_or("without a code".to_owned(), |code| format!("with {code}"));
            let clean = if *clean { "" } else { ", not cleanly" };
            let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            ("closed", format!("{code} after {}{clean}{reason}", counted(*last_sequence, "frame")))
        }
        Happening::KeyRenewed { written_back: true } => ("key renewed", "written back".to_owned()),
        Happening::KeyRenewed { written_back: false } => {
            ("key renewed", "not written back".to_owned())
        }
        Happening::Gap { gap_seconds, cause, .. } => {
            ("gap", format!("{} without coverage: {cause}", short(*gap_seconds)))
        }
        Happening::TextFrame { bytes, text } => {
            ("text message", format!("{}: {text}", size(*bytes)))
        }
        Happening::DroppedFrames { frames, reason, .. } => {
            ("dropped", format!("{}: {reason}", counted(*frames, "frame")))
        }
        Happening::Continued { last_sequence, .. } => {
            ("continued", format!("in a new segment, after {}", counted(*last_sequence, "frame")))
        }
        Happening::ClockStepped { to, step_seconds, .. } => {
            let way = if step_seconds.is_negative() { "back" } else { "forward" };
            let by = short(step_seconds.unsigned_abs());
            ("clock set", format!("{way} by {by}, to {to}"))
        }
        Happening::ExportDropped { exporter, frames, reason, .. } => {
            ("not exported", format!("{} to {exporter}: {reason}", counted(*frames, "frame")))
        }
        Happening::SegmentDeleted { segment, frames, reason, .. } => {
            ("deleted", format!("{segment} with {}: {reason}", counted(*frames, "frame")))
        }
        Happening::Unknown => ("unknown", "an event that this version does not know".to_owned()),
    }
}

/// What there is of each, and nothing about the rest.
fn listed(parts: &[(u64, &str)]) -> String {
    let there = parts.iter().filter(|(count, _)| *count > 0);
    there.map(|&(count, what)| counted(count, what)).collect::<Vec<_>>().join(", ")
}

pub(super) fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn rate(rate: f64) -> String {
    if rate >= 100.0 { format!("{rate:.0}") } else { format!("{rate:.2}") }
}

/// A duration in its two largest units, or with a fraction below a minute.
pub(super) fn short(duration: Duration) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3600, "h"), (60, "m")];
    let seconds = duration.as_secs();
    let Some(index) = UNITS.iter().position(|(unit, _)| seconds >= *unit) else {
        return match duration.as_secs_f64() {
            _ if duration.subsec_nanos() == 0 => format!("{seconds}s"),
            seconds if seconds >= 1.0 => format!("{seconds:.1}s"),
            seconds => format!("{:.0}ms", seconds * 1000.0),
        };
    };
    let (unit, name) = UNITS[index];
    let (smaller, smaller_name) = UNITS.get(index + 1).copied().unwrap_or((1, "s"));
    let rest = seconds % unit / smaller;
    let rest = if rest > 0 { format!("{rest}{smaller_name}") } else { String::new() };
    format!("{}{name}{rest}", seconds / unit)
}

/// Cut to a width, with an ellipsis where something is missing.
fn fitted(text: &str, width: usize, ellipsis: &str) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(ellipsis.chars().count());
    text.chars().take(kept).chain(ellipsis.chars()).collect()
}

/// The text in lines of at most that width, broken at spaces where there are any.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always one");
        if line.is_empty() {
            word.clone_into(line);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// The widest cell of each column.
fn widths(table: &[Vec<String>]) -> Vec<usize> {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = table.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    (0..columns).map(width).collect()
}

/// For terminals that show nothing else.
fn ascii(text: &str) -> String {
    let shown = |character: char| match character {
        '…' => "...".to_owned(),
        character if character.is_ascii() => character.to_string(),
        character => character.escape_default().to_string(),
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let shown = |millis| short(Duration::from_millis(millis));
        assert_eq!(shown(0), "0s");
        assert_eq!(shown(23), "23ms");
        assert_eq!(shown(1500), "1.5s");
        assert_eq!(shown(90_000), "1m30s");
        assert_eq!(shown(3_600_000), "1h");
        assert_eq!(shown(90_061_000), "1d1h");
    }

    #[test]
    fn anything_at_all_is_drawn() {
        assert_eq!(drawing(&[0, 1, 500, 1000], 1000, true), " ▁▄█");
        assert_eq!(drawing(&[0, 1, 500, 1000], 1000, false), " .=@");
    }

    #[test]
    fn long_texts_are_cut_or_wrapped() {
        assert_eq!(fitted("abcdef", 4, "…"), "abc…");
        assert_eq!(fitted("abcdef", 4, "..."), "a...");
        assert_eq!(fitted("abcd", 4, "..."), "abcd");
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
    }
}
