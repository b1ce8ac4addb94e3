//! Where frames and schema do not agree, as a table for people.

use super::{Look, Page, Style, WIDTH, widths, wrapped};
use crate::{entry::Timestamp, error::counted, inspect::drift::Drift};

impl Drift {
    /// A page about it.
    pub fn text(&self, look: Look) -> String {
        let mut page = Page { look, start: Timestamp::default(), text: String::new() };
        let (frames, drifted) = (counted(self.frames, "frame"), self.drifted);
        page.value("looked at", Style::Plain, &frames);
        let style = if drifted > 0 { Style::Alarm } else { Style::Plain };
        let words = match (drifted, self.undecodable) {
            (0, _) => "nothing is not as the schema says".to_owned(),
            (drifted, 0) => counted(drifted, "frame"),
            (drifted, none) => format!("{}, {none} cannot be decoded", counted(drifted, "frame")),
        };
        page.value("drifted", style, &words);
        page.drift_rows(self);
        if self.others > 0 {
            page.blank();
            let more = counted(self.others, "time");
            page.line(0, Style::Faint, &format!("and {more} something of more kinds"));
        }
        page.text
    }
}

impl Page {
    fn drift_rows(&mut self, drift: &Drift) {
        let header = ["times", "frames", "message", "first seen", "what"].map(str::to_owned);
        let rows = drift.rows.iter().map(|row| {
            let first = row.first_received.to_string();
            let message = row.first_message.to_string();
            vec![row.times.to_string(), row.frames.to_string(), message, first, row.payload.clone()]
        });
        let table: Vec<_> = std::iter::once(header.to_vec()).chain(rows).collect();
        let widths = widths(&table);
        if !drift.rows.is_empty() {
            self.blank();
            self.row(&table[0], &widths, &[0, 1, 2], Style::Faint);
        }
        for (row, cells) in drift.rows.iter().zip(&table[1..]) {
            self.row(cells, &widths, &[0, 1, 2], Style::Title);
            let sample = row.sample.as_ref().map(|sample| format!("sample: {sample}"));
            let fit = row.fits_better.as_ref().map(|fit| {
                let frames = counted(fit.frames, "frame");
                format!("{} would fit better ({frames})", fit.payload)
            });
            for words in [Some(row.words.clone()), sample, fit].into_iter().flatten() {
                let words = self.visible(&words);
                for line in wrapped(&words, WIDTH - 6) {
                    self.line(6, Style::Plain, &line);
                }
            }
        }
    }
}
