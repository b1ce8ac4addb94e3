//! The pieces of a page: text that is only text, times, numbers, tables.
//!
//! What comes from a capture comes from anybody. It gets into a page through [`shown`] alone, which leaves
//! nothing in it that a browser would take for more than text, and which bounds it.

use std::fmt::Write;

use crate::{entry::Timestamp, error::counted, plain::unobeyed};

/// How long a name may be, and a sentence, in bytes of HTML.
pub(super) const NAME: usize = 80;
pub(super) const SENTENCE: usize = 240;

/// The text as HTML of at most so many bytes, and an ellipsis where it was cut.
pub(super) fn shown(text: &str, most: usize) -> String {
    let begin: String = text.chars().take(most).collect();
    let visible = unobeyed(&begin, |character| character.escape_default().to_string());
    let mut html = String::new();
    for character in visible.chars() {
        let mut buffer = [0; 4];
        let piece = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&quot;",
            '\'' => "&#39;",
            '\n' => "\\n",
            other => &*other.encode_utf8(&mut buffer),
        };
        if html.len() + piece.len() > most {
            html.push('…');
            return html;
        }
        html.push_str(piece);
    }
    if begin.len() < text.len() {
        html.push('…');
    }
    html
}

/// A moment to the millisecond, as every command takes it: `2026-11-18T11:07:00.000Z`.
pub(super) fn clock(at: Timestamp) -> String {
    let text = at.to_string();
    match text.get(.."2026-01-01T00:00:00.000".len()) {
        Some(stem) if text.ends_with('Z') => format!("{stem}Z"),
        _ => text,
    }
}

/// The same to the nanosecond for programs, too.
pub(super) fn moment(at: Timestamp) -> String {
    format!("<time datetime=\"{at}\">{}</time>", clock(at))
}

/// `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 frame`, `1,234 frames`.
pub(super) fn many(count: u64, what: &str) -> String {
    counted(count, what).replacen(&count.to_string(), &grouped(count), 1)
}

/// A number, and nothing where there is nothing to see.
pub(super) fn grouped_or_dash(number: u64) -> String {
    if number == 0 { "-".to_owned() } else { grouped(number) }
}

/// How a column is set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Text,
    Number,
    /// As wide as there is room.
    Wide,
}

/// A table under construction.
pub(super) struct Table<'h> {
    html: &'h mut String,
    columns: Vec<Column>,
}

impl<'h> Table<'h> {
    /// `class` is the style sheet's.
    pub(super) fn begin(html: &'h mut String, class: &str, header: &[(Column, &str)]) -> Self {
        let _ = write!(html, "<div class=\"scroll\"><table class=\"{class}\"><thead><tr>");
        for (column, name) in header {
            let _ = write!(html, "<th{} scope=\"col\">{name}</th>", class_of(*column));
        }
        html.push_str("</tr></thead><tbody>\n");
        Self { html, columns: header.iter().map(|(column, _)| *column).collect() }
    }

    /// A row of cells that are HTML already.
    pub(super) fn row(&mut self, cells: &[String]) {
        self.row_with("", cells);
    }

    /// The same with attributes of the row.
    pub(super) fn row_with(&mut self, attributes: &str, cells: &[String]) {
        let _ = write!(self.html, "<tr{attributes}>");
        for (cell, column) in cells.iter().zip(&self.columns) {
            let _ = write!(self.html, "<td{}>{cell}</td>", class_of(*column));
        }
        self.html.push_str("</tr>\n");
    }

    pub(super) fn end(self) {
        self.html.push_str("</tbody></table></div>\n");
    }

    /// The same with a last row that belongs to the header.
    pub(super) fn end_with(self, footer: &[&str]) {
        self.html.push_str("</tbody><tfoot><tr>");
        for (cell, column) in footer.iter().zip(&self.columns) {
            let _ = write!(self.html, "<td{}>{cell}</td>", class_of(*column));
        }
        self.html.push_str("</tr></tfoot></table></div>\n");
    }
}

fn class_of(column: Column) -> &'static str {
    match column {
        Column::Text => "",
        Column::Number => " class=\"n\"",
        Column::Wide => " class=\"w\"",
    }
}

/// The places of those that matter most, at most so many of them, in the order in which they are.
pub(super) fn foremost<T, K: Ord>(
    items: &[T],
    most: usize,
    weight: impl Fn(&T) -> K,
) -> Vec<usize> {
    let mut places: Vec<_> = (0..items.len()).collect();
    if places.len() > most {
        places.sort_by_key(|&place| std::cmp::Reverse(weight(&items[place])));
        places.truncate(most);
        places.sort_unstable();
    }
    places
}

/// Says that a list is not whole; nothing if it is.
pub(super) fn left_out(html: &mut String, shown: usize, of: usize, which: &str, all: &str) {
    if shown < of {
        let (shown, of) = (grouped(shown as u64), grouped(of as u64));
        let _ = writeln!(
            html,
            "<p class=\"note\">Shown are {shown} of {of}: {which}. All of them: <code>{all}</code></p>"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_only_text_and_bounded() {
        assert_eq!(shown("a<b>&\"'", 80), "a&lt;b&gt;&amp;&quot;&#39;");
        assert_eq!(shown("a\x1b\0\u{202e}\nb", 80), "a\\u{1b}\\u{0}\\u{202e}\\nb");
        assert_eq!(shown("abc", 3), "abc");
        assert_eq!(shown("abcd", 3), "abc…");
        // An entity is never cut.
        assert_eq!(shown("<<<", 9), "&lt;&lt;…");
        assert!(shown(&"\u{202e}".repeat(1000), 80).len() <= 80 + '…'.len_utf8());
    }

    #[test]
    fn numbers_and_times_are_easy_to_read() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!([many(1, "frame"), many(1000, "frame")], ["1 frame", "1,000 frames"]);
        let at: Timestamp = "2026-11-18T11:07:00.5Z".parse().unwrap();
        assert_eq!(clock(at), "2026-11-18T11:07:00.500Z");
        assert_eq!(clock(Timestamp::from_nanos(u64::MAX)), "2554-07-21T23:34:33.709Z");
    }

    #[test]
    fn those_that_matter_most_stay_in_order() {
        assert_eq!(foremost(&[5, 1, 9, 7], 2, |number| *number), [2, 3]);
        assert_eq!(foremost(&[5, 1], 2, |number| *number), [0, 1]);
    }
}
