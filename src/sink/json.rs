//! One JSON document for people: an object with an array of frames for each topic.
//!
//! Frames of several topics come mixed, and a document has them one topic after the other. The topic
//! that comes first is written as it comes; the others wait in temporary files.

use std::{
    fs::File,
    io::{Read, Seek, Write},
};

use super::{Output, Sink, ndjson::Ndjson, stream::Stream};
use crate::{
    codec::{
        json::{self, Text},
        notes::Drift,
    },
    entry::Entry,
    error::{Error, Result},
};

/// Turns frames into objects over several lines.
#[derive(Debug)]
pub struct Json {
    lines: Ndjson,
    line: Text,
}

/// Objects by topic, each with a comma behind.
#[derive(Default)]
pub struct Piece {
    topics: Vec<(String, Text)>,
}

impl Json {
    /// The same as in these lines.
    pub fn new(lines: Ndjson) -> Self {
        Self { lines, line: Text::default() }
    }
}

impl Sink for Json {
    type Piece = Piece;

    fn entry(&mut self, entry: &Entry, out: &mut Piece) -> Result<bool> {
        self.line.clear();
        let written = self.lines.entry(entry, &mut self.line)?;
        if written {
            let text = out.of(&entry.subscription.topic);
            text.extend(SEPARATOR);
            pretty(self.line.as_bytes().trim_ascii_end(), DEPTH, text);
        }
        Ok(written)
    }

    fn take_drift(&mut self) -> Drift {
        self.lines.take_drift()
    }
}

impl Piece {
    fn of(&mut self, topic: &str) -> &mut Text {
        let at = self.topics.iter().position(|(known, _)| known == topic).unwrap_or_else(|| {
            self.topics.push((topic.to_owned(), Text::default()));
            self.topics.len() - 1
        });
        &mut self.topics[at].1
    }
}

/// Before each object; before the first of an array its comma is left out.
const SEPARATOR: &[u8] = b",\n    ";

/// How deep an object stands in the document.
const DEPTH: usize = 2;

/// Breaks JSON without any white space into lines.
pub(crate) fn pretty(compact: &[u8], depth: usize, out: &mut Text) {
    const INDENT: &[u8] = b"  ";

    let line = |depth: usize, out: &mut Text| {
        out.extend(b"\n");
        (0..depth).for_each(|_| out.extend(INDENT));
    };
    let mut depth = depth;
    let mut rest = compact;
    while let Some((&first, after)) = rest.split_first() {
        let taken = match (first, after.first()) {
            (b'"', _) => {
                let len = string_length(rest);
                out.extend(&rest[..len]);
                len
            }
            (b'{', Some(b'}')) | (b'[', Some(b']')) => {
                out.extend(&rest[..2]);
                2
            }
            (b'{' | b'[', _) => {
                out.extend(&[first]);
                depth += 1;
                line(depth, out);
                1
            }
            (b'}' | b']', _) => {
                depth = depth.saturating_sub(1);
                line(depth, out);
                out.extend(&[first]);
                1
            }
            (b',', _) => {
                out.extend(b",");
                line(depth, out);
                1
            }
            (b':', _) => {
                out.extend(b": ");
                1
            }
            _ => {
                let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']');
                let len = rest.iter().position(is_end).unwrap_or(rest.len());
                out.extend(&rest[..len]);
                len
            }
        };
        rest = &rest[taken..];
    }
}

/// The length of the string that the text begins with, its quotes included.
fn string_length(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// The document.
pub struct Document<'w> {
    stream: Stream<'w>,
    /// The topic that is being written, once there is one.
    first: Option<String>,
    waiting: Vec<(String, File)>,
}

impl<'w> Document<'w> {
    /// A document that goes to this stream.
    pub fn new(stream: Stream<'w>) -> Self {
        Self { stream, first: None, waiting: Vec::new() }
    }

    fn begin_array(&mut self, before: &str, topic: &str) -> Result<()> {
        let mut name = Text::default();
        name.extend(before.as_bytes());
        json::write_string(topic, &mut name);
        name.extend(b": [");
        self.stream.append(name.as_bytes())
    }

    fn waiting(&mut self, topic: &str) -> Result<&mut File> {
        let known = self.waiting.iter().position(|(known, _)| known == topic);
        let at = match known {
            Some(at) => at,
            None => {
                let file = tempfile::tempfile().map_err(Error::output)?;
                self.waiting.push((topic.to_owned(), file));
                self.waiting.len() - 1
            }
        };
        Ok(&mut self.waiting[at].1)
    }
}

impl Output<Piece> for Document<'_> {
    fn write(&mut self, piece: &mut Piece) -> Result<()> {
        for (topic, text) in piece.topics.drain(..) {
            let text = text.as_bytes();
            match &self.first {
                None => {
                    self.begin_array("{\n  ", &topic)?;
                    self.stream.append(&text[1..])?;
                    self.first = Some(topic);
                }
                Some(first) if *first == topic => self.stream.append(text)?,
                Some(_) => self.waiting(&topic)?.write_all(text).map_err(Error::output)?,
            }
        }
        Ok(())
    }

    fn forgo_name(&mut self) {
        self.stream.forgo_name();
    }

    fn finish(&mut self) -> Result<()> {
        for (topic, mut file) in std::mem::take(&mut self.waiting) {
            self.begin_array("\n  ],\n  ", &topic)?;
            // Behind the first comma.
            file.seek(std::io::SeekFrom::Start(1)).map_err(Error::output)?;
            let mut block = vec![0; 256 * 1024];
            loop {
                match file.read(&mut block).map_err(Error::output)? {
                    0 => break,
                    read => self.stream.append(&block[..read])?,
                }
            }
        }
        let end: &[u8] = if self.first.is_some() { b"\n  ]\n}\n" } else { b"{}\n" };
        self.stream.append(end)?;
        self.stream.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_where_serde_breaks_them_and_nothing_else_changes() {
        let values = [
            r#"{"a":[],"b":{},"c":[1,-2.5,"x,{y}:\"z\\"],"d":{"e":[{"f":null}]},"g":true}"#,
            "[]",
            "[[[]]]",
            r#""\\""#,
        ];
        for compact in values {
            let mut text = Text::default();
            pretty(compact.as_bytes(), 0, &mut text);
            let value: serde_json::Value = serde_json::from_str(compact).unwrap();
            let expected = serde_json::to_string_pretty(&value).unwrap();
            assert_eq!(String::from_utf8_lossy(text.as_bytes()), expected);
        }
    }
}
