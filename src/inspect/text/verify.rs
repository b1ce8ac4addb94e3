//! A verdict as a page for people: the files, a table of the checks, and what is wrong.

use super::{Look, Page, Style, WIDTH, size, widths, wrapped};
use crate::{
    entry::Timestamp,
    error::counted,
    inspect::{State, Verdict, verify::SegmentVerdict},
};

impl Verdict {
    /// A page about this verdict.
    pub fn text(&self, look: Look) -> String {
        let mut page = Page { look, start: Timestamp::default(), text: String::new() };
        page.verdict(self);
        page.proven(&self.segments);
        page.checks(self);
        page.faults(self);
        page.text
    }
}

impl Page {
    fn verdict(&mut self, verdict: &Verdict) {
        let bytes = verdict.segments.iter().map(|segment| segment.bytes).sum();
        let files = counted(verdict.segments.len() as u64, "segment");
        let frames = counted(verdict.frames, "frame");
        let events = counted(verdict.events, "session event");
        let content = format!("{frames} and {events}, {} in {files}", size(bytes));
        self.value("content", Style::Plain, &content);
        let faults = verdict.faults();
        if verdict.is_good() {
            self.value("verdict", Style::Plain, "whole");
        } else if verdict.whole {
            self.value("verdict", Style::Alarm, "whole, but saved from a damaged capture");
        } else {
            let faults = format!("not whole: {}", counted(faults, "fault"));
            self.value("verdict", Style::Alarm, &faults);
        }
        self.past_damage(verdict.past_damage.as_ref());
    }

    fn proven(&mut self, segments: &[SegmentVerdict]) {
        self.blank();
        let header = ["state", "size", "frames", "proven by", "segment"].map(str::to_owned);
        let row = |segment: &SegmentVerdict| {
            let (state, by) = match segment.state {
                State::Sealed => ("sealed", counted(segment.chunks, "chunk")),
                State::Hot => {
                    let state = if segment.live { "hot, being recorded" } else { "hot" };
                    let by = counted(segment.checkpoints, "checkpoint");
                    match segment.unproven {
                        0 => (state, by),
                        count => (state, format!("{by}, but for the last {count}")),
                    }
                }
            };
            let path = segment.path.display().to_string();
            vec![state.to_owned(), size(segment.bytes), segment.frames.to_string(), by, path]
        };
        let table: Vec<_> =
            std::iter::once(header.to_vec()).chain(segments.iter().map(row)).collect();
        let widths = widths(&table);
        self.row(&table[0], &widths, &[1, 2], Style::Faint);
        let left_out = self.middle(segments.len());
        for (index, row) in table[1..].iter().enumerate() {
            if index == left_out.start && !left_out.is_empty() {
                self.left_out(left_out.len() as u64, "segment");
            }
            if !left_out.contains(&index) {
                self.row(row, &widths, &[1, 2], Style::Plain);
            }
        }
    }

    fn checks(&mut self, verdict: &Verdict) {
        self.blank();
        let header = ["check", "found", "looked at"].map(str::to_owned).to_vec();
        let rows = verdict.checks.iter().map(|checked| {
            let found = match checked.faults {
                0 if checked.looked_at == 0 => "-".to_owned(),
                0 => "ok".to_owned(),
                faults => counted(faults, "fault"),
            };
            vec![checked.name().to_owned(), found, checked.looked_at_in_words()]
        });
        let table: Vec<_> = std::iter::once(header).chain(rows).collect();
        let widths = widths(&table);
        self.row(&table[0], &widths, &[], Style::Faint);
        for (row, checked) in table[1..].iter().zip(&verdict.checks) {
            let style = if checked.faults == 0 { Style::Plain } else { Style::Alarm };
            self.row(row, &widths, &[], style);
        }
    }

    fn faults(&mut self, verdict: &Verdict) {
        for checked in verdict.checks.iter().filter(|checked| checked.faults > 0) {
            self.blank();
            self.line(0, Style::Title, checked.name());
            for fault in &checked.first {
                let inside =
                    fault.in_chunk.map_or_else(String::new, |at| format!(", {at} in its chunk"));
                let place = format!("{}, byte {}{inside}", fault.path.display(), fault.offset);
                self.line(2, Style::Plain, &place);
                let words = format!("expected {}, found {}", fault.expected, fault.found);
                for line in wrapped(&words, WIDTH - 4) {
                    self.line(4, Style::Alarm, &line);
                }
            }
            let more = checked.faults - checked.first.len() as u64;
            if more > 0 {
                self.left_out(more, "fault");
            }
        }
    }
}
