//! A report for people: a block for each difference, and one line that sums up.

use std::fmt::{self, Display, Write};

use super::{Change, Difference, Kind, OneSided, Position, Report, SchemaChange};
use crate::{error::counted, plain::unobeyed};

/// So many characters of a value are shown.
const VALUE: usize = 200;

/// Of one frame so many fields are shown.
const FIELDS: usize = 20;

/// So many of the fields that differ most often are named at the end.
const PATHS: usize = 5;

/// What is not there.
const NONE: &str = "(none)";

impl Report {
    /// What differs, empty if nothing does.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for change in &self.schema {
            let _ = writeln!(text, "{change}");
        }
        for side in &self.subscriptions {
            let _ = writeln!(text, "{side}");
        }
        for difference in &self.differences {
            let _ = write!(text, "{difference}");
        }
        if self.left_out > 0 {
            let _ = writeln!(text, "... and {} more, which --show N shows", self.left_out);
        }
        unobeyed(&text, |character| character.escape_default().to_string())
    }

    /// All of it on one line.
    pub fn summary(&self) -> String {
        let Self { a, b, same, changed, missing, added, moved, .. } = self;
        if self.equal {
            return format!("no differences in {}", counted(same + moved, "frame"));
        }
        let mut line = format!(
            "{} and {}: {same} same, {changed} changed, {missing} missing, {added} added, \
             {moved} moved",
            counted(a.frames, "frame"),
            counted(b.frames, "frame")
        );
        if !self.schema.is_empty() {
            let changes = counted(self.schema.len() as u64, "change");
            let _ = write!(line, "; {changes} of the schema");
        }
        let most: Vec<_> = self.paths.iter().take(PATHS).collect();
        if !most.is_empty() {
            let named = most.iter().map(|count| format!("{} ({})", count.path, count.frames));
            let _ = write!(line, "; changed: {}", named.collect::<Vec<_>>().join(", "));
        }
        if self.paths.len() > PATHS {
            let _ = write!(line, " and {} more fields", self.paths.len() - PATHS);
        }
        unobeyed(&line, |character| character.escape_default().to_string())
    }
}

impl Display for SchemaChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (a, b) = (self.a.as_deref().unwrap_or(NONE), self.b.as_deref().unwrap_or(NONE));
        write!(f, "schema   {}: {a} -> {b}", line_of(&self.name))
    }
}

impl Display for OneSided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, frames) = if self.b == 0 { ("missing", self.a) } else { ("added  ", self.b) };
        let frames = counted(frames, "frame");
        let (name, topic) = (line_of(&self.name), line_of(&self.topic));
        write!(f, "{kind}  {name}: the whole subscription of {topic}, {frames}")
    }
}

impl Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Changed => "changed",
            Kind::Missing => "missing",
            Kind::Added => "added  ",
            Kind::Moved => "moved  ",
        };
        write!(f, "{kind}  {}: ", line_of(&self.subscription))?;
        match (self.a, self.b) {
            (Some(a), Some(b)) if a.index == b.index => {
                write!(f, "frame {} ({}", a.index, a.received)?;
                if a.received != b.received {
                    write!(f, " -> {}", b.received)?;
                }
                f.write_str(")")?;
            }
            (Some(a), Some(b)) => write!(f, "{a} -> {b}")?,
            (Some(one), None) | (None, Some(one)) => one.fmt(f)?,
            (None, None) => {}
        }
        let payload = self.payload.as_deref().unwrap_or("of unknown type");
        writeln!(f, ", {}", line_of(payload))?;
        for change in self.changes.iter().take(FIELDS) {
            writeln!(f, "    {change}")?;
        }
        let more = self.changes.len().saturating_sub(FIELDS) as u64 + self.changes_left_out;
        if more > 0 {
            writeln!(f, "    ... and {more} more, which --json has")?;
        }
        if let Some(frame) = &self.frame {
            writeln!(f, "    {}", short(frame.get()))?;
        }
        Ok(())
    }
}

impl Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame {} ({})", self.index, self.received)
    }
}

impl Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |side: &Option<Box<serde_json::value::RawValue>>| {
            side.as_ref().map_or_else(|| NONE.to_owned(), |value| short(value.get()))
        };
        write!(f, "{}: {} -> {}", line_of(&self.path), value(&self.a), value(&self.b))
    }
}

/// A name, which may hold anything, in one line.
fn line_of(name: &str) -> String {
    name.replace('\n', "\\n")
}

fn short(text: &str) -> String {
    match text.char_indices().nth(VALUE) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
