//! A frame that was taken apart as a page for people: its bytes with their meaning beside them, the
//! decoded frame, and what the schema does not know.

use super::{Look, NAMES, Page, Style, WIDTH, wrapped};
use crate::{
    error::counted,
    inspect::message::{Dissection, Line, Standing},
};

/// So many bytes stand on a line.
const ROW: usize = 12;

/// So wide is what stands to the left of a field.
const LEFT: usize = 6 + 2 + 3 * ROW - 1 + 2;

/// So many lines of bytes stand beside one field.
const ROWS: usize = 4;

/// So many beside all of them.
const ALL_ROWS: usize = 50_000;

/// So much JSON of the decoded frame is shown.
const DECODED: usize = 256 * 1024;

/// How many times as much it is where somebody wants everything.
const MORE: usize = 16;

impl Dissection {
    /// A page about this frame. Offsets are decimal, as in what is said about faults.
    pub fn text(&self, look: Look) -> String {
        let mut page = Page { look, start: self.received, text: String::new() };
        page.frame(self);
        page.blank();
        let head = format!("{:>6}  {:<width$}  fields", "byte", "bytes", width = 3 * ROW - 1);
        page.line(0, Style::Faint, &head);
        let mut rows = if look.everything { MORE * ALL_ROWS } else { ALL_ROWS };
        for line in &self.wire {
            page.bytes(line, &self.data, &mut rows);
        }
        if self.left_out > 0 {
            let ellipsis = page.ellipsis();
            let bytes = counted(self.left_out as u64, "more byte");
            page.line(0, Style::Faint, &format!("{ellipsis} {bytes}, not shown"));
        }
        page.blank();
        match self.decoded_lines(if look.everything { MORE * DECODED } else { DECODED }) {
            Some((lines, left_out)) => page.decoded(&lines, left_out),
            None => {
                let fault = self.fault.as_deref().unwrap_or_default();
                for line in wrapped(&format!("cannot be decoded: {fault}"), WIDTH) {
                    page.line(0, Style::Alarm, &line);
                }
            }
        }
        if !self.unknown.is_empty() {
            page.blank();
            page.line(0, Style::Title, "not as the schema says");
            for line in self.unknown_lines().flat_map(|note| wrapped(&note, WIDTH - 2)) {
                page.line(2, Style::Plain, &line);
            }
        }
        page.text
    }
}

impl Page {
    fn frame(&mut self, of: &Dissection) {
        let Dissection { message, subscription, topic, sequence, .. } = of;
        let name = format!("{message}, of {subscription} ({topic}), sequence {sequence}");
        self.value("message", Style::Title, &name);
        self.value("received", Style::Plain, &of.received.to_string());
        if let Some(time) = of.time {
            self.value("time", Style::Plain, &time.to_string());
        }
        self.value("type", Style::Plain, of.payload.as_deref().unwrap_or("not known"));
        self.value("size", Style::Plain, &counted(of.bytes as u64, "byte"));
    }

    /// A field with the bytes that it is made of.
    fn bytes(&mut self, line: &Line, data: &[u8], left: &mut usize) {
        let bytes = &data[line.offset..line.offset + line.bytes];
        let rows = bytes.len().div_ceil(ROW).max(1);
        let shown = rows.min(if self.look.everything { rows } else { ROWS }).min(*left).max(1);
        *left = left.saturating_sub(shown);
        let style = match line.standing {
            Standing::Known => Style::Plain,
            Standing::Unknown => Style::Title,
            Standing::Broken => Style::Alarm,
        };
        let room = self.look.width.max(WIDTH) - LEFT;
        let text = self.visible(&line.text());
        let mut words = match line.standing {
            // What is wrong is never cut.
            Standing::Broken => {
                let indent = 2 * line.depth + 2;
                let lines = wrapped(&text, room.saturating_sub(indent).max(NAMES));
                let indent = |(at, line)| {
                    format!("{:width$}{line}", "", width = indent - if at == 0 { 2 } else { 0 })
                };
                lines.into_iter().enumerate().map(indent).collect()
            }
            _ => vec![self.fitted(&text, room)],
        }
        .into_iter();
        for row in 0..shown.max(words.len()) {
            let from = bytes.len().min(row * ROW);
            let row_bytes =
                if row < shown { &bytes[from..bytes.len().min(from + ROW)] } else { &[] };
            let hex: Vec<_> = row_bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let at = if row < shown { (line.offset + from).to_string() } else { String::new() };
            let left = format!("{at:>6}  {:<width$}", hex.join(" "), width = 3 * ROW - 1);
            let words = words.next().unwrap_or_default();
            let (left, words) = (self.painted(Style::Faint, &left), self.painted(style, &words));
            let line = format!("{left}  {words}");
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        }
        if shown < rows {
            let more = counted((bytes.len() - shown * ROW) as u64, "more byte");
            let line = format!("{:>6}  {} {more}", "", self.ellipsis());
            self.line(0, Style::Faint, &line);
        }
    }

    fn decoded(&mut self, lines: &[String], left_out: usize) {
        for line in lines {
            let line = self.visible(line);
            self.text.push_str(&line);
            self.text.push('\n');
        }
        if left_out > 0 {
            let more = counted(left_out as u64, "more byte");
            let line = format!("{} {more} of JSON", self.ellipsis());
            self.line(0, Style::Faint, &line);
        }
    }
}
