//! A profile's gaps as a page for people: a line for each subscription, a table of its gaps, and a
//! drawing of the coverage over time.

use std::{fmt::Write, time::Duration};

use super::{
    Look, NAME_WIDTH, NAMES, Page, Style, WIDTH, counts_in_words, happening_in_words, listed,
    short, size, widths, wrapped,
};
use crate::{
    entry::Timestamp,
    error::counted,
    inspect::{
        Axis, ConnectionCounts, Coverage, Profile, Span, SubscriptionProfile,
        coverage::{Cell, Gap},
        timeline::Timeline,
    },
};

impl Profile {
    /// A page about the gaps, if it was asked for them.
    pub fn gaps_text(&self, look: Look) -> String {
        let start = self.span.map(|span| span.first).unwrap_or_default();
        let mut page = Page { look, start, text: String::new() };
        page.head(self);
        let covered: Vec<_> = self
            .subscriptions
            .iter()
            .filter_map(|subscription| Some((subscription, subscription.coverage.as_ref()?)))
            .collect();
        page.summary(&covered);
        for (subscription, coverage) in &covered {
            page.gaps(subscription, coverage);
        }
        page.coverage(&covered);
        page.text
    }
}

type Covered<'a> = (&'a SubscriptionProfile, &'a Coverage);

/// Times in a table: milliseconds are enough, and leave room.
fn millis(at: Timestamp) -> String {
    let text = at.to_string();
    match text.get(.."2026-01-01T00:00:00.000".len()) {
        Some(stem) if text.ends_with('Z') => format!("{stem}Z"),
        _ => text,
    }
}

/// What is not all is never called 100 %.
pub(in crate::inspect) fn percent(coverage: &Coverage) -> String {
    match coverage.covered_percent {
        None => "-".to_owned(),
        Some(percent) if coverage.gaps.is_empty() && coverage.unknown.is_empty() => {
            format!("{percent:.2} %")
        }
        Some(percent) => format!("{:.2} %", percent.min(99.99)),
    }
}

pub(in crate::inspect) fn lost(frames: u64, bytes: u64) -> String {
    match (frames, bytes) {
        (0, _) => "-".to_owned(),
        (frames, 0) => counted(frames, "frame"),
        (frames, bytes) => format!("{}, {}", counted(frames, "frame"), size(bytes)),
    }
}

impl Page {
    fn summary(&mut self, covered: &[Covered<'_>]) {
        const RIGHT: &[usize] = &[0, 1, 2, 3, 4];

        self.blank();
        let header =
            ["covered", "gaps", "altogether", "longest", "unknown", "lost", "subscription"];
        let time = |time: Duration| if time.is_zero() { "-".to_owned() } else { short(time) };
        let rows = covered.iter().map(|(subscription, coverage)| {
            vec![
                percent(coverage),
                coverage.gaps.len().to_string(),
                time(coverage.gap_seconds),
                time(coverage.longest_gap_seconds),
                time(coverage.unknown_stretches().map(Span::length).sum()),
                lost(coverage.lost_frames, coverage.lost_bytes),
                subscription.name.clone(),
            ]
        });
        let header = header.map(str::to_owned).to_vec();
        let table: Vec<_> = std::iter::once(header).chain(rows).collect();
        let widths = widths(&table);
        self.row(&table[0], &widths, RIGHT, Style::Faint);
        for (row, (_, coverage)) in table[1..].iter().zip(covered) {
            let style = if is_whole(coverage) { Style::Plain } else { Style::Alarm };
            self.row(row, &widths, RIGHT, style);
        }
        let span = "of the time from the first to the last thing that is known of each";
        self.line(2, Style::Faint, span);
    }

    fn gaps(&mut self, subscription: &SubscriptionProfile, coverage: &Coverage) {
        self.blank();
        let SubscriptionProfile { name, topic, host, protocol, .. } = subscription;
        self.line(0, Style::Title, &format!("{name}: {topic} from {host} ({protocol})"));
        let Span { first, last } = coverage.span;
        self.value("  known", Style::Plain, &format!("{} to {}", millis(first), millis(last)));
        let (covered, span) = (coverage.covered_seconds, coverage.span.length());
        self.value("  covered", Style::Plain, &format!("{} of {}", short(covered), short(span)));
        // The table has the gaps.
        let counts = ConnectionCounts { gaps: 0, ..subscription.connections.clone() };
        let mut name = "  session";
        for line in wrapped(&counts_in_words(&counts), WIDTH - NAMES) {
            self.value(name, Style::Plain, &line);
            name = "";
        }
        if subscription.connections.clock_steps > 0 {
            let words = "was set meanwhile: times are by the clock as it was set at last";
            self.value("  clock", Style::Plain, words);
        }
        self.table_of_gaps(coverage);
    }

    fn table_of_gaps(&mut self, coverage: &Coverage) {
        let gap =
            |gap: &Gap| (gap.span, gap.cause.clone(), lost(gap.frames, gap.bytes), words(gap));
        let unknown = |span: Span| (span, "unknown".to_owned(), "-".to_owned(), Vec::new());
        let mut rows: Vec<_> = coverage
            .gaps
            .iter()
            .map(gap)
            .chain(coverage.unknown_stretches().map(unknown))
            .collect();
        if rows.is_empty() {
            return;
        }
        rows.sort_by_key(|(span, ..)| *span);
        let header = ["from", "to", "long", "cause", "lost"].map(str::to_owned).to_vec();
        let cells = rows.iter().map(|(span, cause, lost, _)| {
            let long = short(span.length());
            vec![millis(span.first), millis(span.last), long, self.visible(cause), lost.clone()]
        });
        let table: Vec<_> = std::iter::once(header).chain(cells).collect();
        let widths = widths(&table);
        self.row(&table[0], &widths, &[2], Style::Faint);
        for (row, (.., words)) in table[1..].iter().zip(&rows) {
            self.row(row, &widths, &[2], Style::Plain);
            for line in words.iter().flat_map(|words| wrapped(words, WIDTH - 4)) {
                self.line(4, Style::Faint, &line);
            }
        }
    }

    fn coverage(&mut self, covered: &[Covered<'_>]) {
        let label = |(subscription, _): &Covered<'_>| self.fitted(&subscription.name, NAME_WIDTH);
        let labels: Vec<_> = covered.iter().map(label).collect();
        let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let columns = self.look.width.saturating_sub(width + "    ".len() + "  100.00 %".len());
        let spans = covered.iter().map(|(_, coverage)| coverage.span);
        let Some(axis) = axis_of(spans, columns) else { return };
        self.blank();
        let title = format!("coverage over time, one column is {}", short(axis.bucket_seconds));
        self.line(0, Style::Title, &title);
        for (label, (_, coverage)) in labels.iter().zip(covered) {
            let cells = coverage.cells(axis.start, axis.bucket_seconds, axis.buckets);
            let drawing: String =
                cells.chunk_by(|a, b| a == b).map(|cells| self.drawn(cells)).collect();
            let _ = writeln!(self.text, "  {label:width$}  {drawing}  {}", percent(coverage));
        }
        self.axis(&axis, width, "");
        let key = |cell, words| format!("{} {words}", self.drawn(&[cell]));
        let keys = [
            key(Cell::Covered, "covered"),
            key(Cell::Gap, "a gap in it"),
            key(Cell::Unknown, "not known"),
        ];
        let _ = writeln!(self.text, "  {:width$}  {}", "", keys.join("  "));
    }

    /// Cells of one kind. They differ also where there is no colour.
    fn drawn(&self, cells: &[Cell]) -> String {
        let (style, unicode, ascii) = match cells[0] {
            Cell::Outside => (Style::Plain, " ", " "),
            Cell::Covered => (Style::Drawing, "█", "#"),
            Cell::Unknown => (Style::Faint, "?", "?"),
            Cell::Gap => (Style::Alarm, "░", "-"),
        };
        let drawn = if self.look.unicode { unicode } else { ascii };
        self.painted(style, &drawn.repeat(cells.len()))
    }
}

fn is_whole(coverage: &Coverage) -> bool {
    coverage.gaps.is_empty() && coverage.unknown.is_empty() && coverage.lost_frames == 0
}

/// The axis that the frames over time would have, had there been one at each end.
fn axis_of(spans: impl Iterator<Item = Span>, columns: usize) -> Option<Axis> {
    let mut timeline = Timeline::of_at_most(columns);
    let row = timeline.row();
    for span in spans {
        timeline.count(row, span.first);
        timeline.count(row, span.last);
    }
    let (start, bucket_seconds, buckets) = timeline.axis()?;
    Some(Axis { start, bucket_seconds, buckets })
}

/// What was said in a gap, a line for each.
pub(in crate::inspect) fn words(gap: &Gap) -> Vec<String> {
    let said = gap.said.iter().map(|event| {
        let (name, words) = happening_in_words(&event.what);
        format!("{name} {words}")
    });
    let attempts = listed(&[(gap.attempts, "attempt")]);
    let attempts = (gap.attempts > 1).then(|| format!("{attempts} came to nothing"));
    said.chain(attempts).collect()
}
