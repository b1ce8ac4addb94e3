//! One stream of text: a file, compressed if its name says so, or stdout.

use std::{fs::File, io::Write, path::Path};

use super::Output;
use crate::{
    capture::unfinished::Unfinished,
    codec::json::Text,
    error::{Error, Result},
};

/// How hard a file is compressed: what record's captures are compressed with by default.
const LEVEL: i32 = 3;

/// A stream that takes text.
pub struct Stream<'w> {
    target: Target<'w>,
    /// That of a file, until it is whole.
    name: Option<Unfinished>,
}

enum Target<'w> {
    Plain(Box<dyn Write + Send + 'w>),
    Zstd(Box<zstd::Encoder<'static, File>>),
}

impl<'w> Stream<'w> {
    /// Goes to whatever can be written to.
    pub fn new(out: impl Write + Send + 'w) -> Self {
        Self { target: Target::Plain(Box::new(out)), name: None }
    }

    /// Makes a file: a zstd file, if its name ends in `.zst`. It gets its name when it is [ended](Self::end),
    /// and never that of one that is there already; until then it leaves nothing behind.
    pub fn create(path: &Path) -> Result<Self> {
        let (file, name) = Unfinished::create(path)?;
        let target = match path.extension() {
            Some(extension) if extension == "zst" => {
                let encoder = zstd::Encoder::new(file, LEVEL);
                Target::Zstd(Box::new(encoder.map_err(Error::output)?))
            }
            _ => Target::Plain(Box::new(file)),
        };
        Ok(Self { target, name: Some(name) })
    }

    /// Appends text.
    pub fn append(&mut self, text: &[u8]) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        match &mut self.target {
            Target::Plain(out) => out.write_all(text),
            Target::Zstd(encoder) => encoder.write_all(text),
        }
        .map_err(Error::output)
    }

    /// Deletes a file that is not whole, and will not be.
    pub fn forgo_name(&mut self) {
        self.name = None;
    }

    /// Writes what a compressor still holds, and gives a file its name.
    pub fn end(&mut self) -> Result<()> {
        match &mut self.target {
            Target::Plain(out) => out.flush(),
            Target::Zstd(encoder) => encoder.do_finish(),
        }
        .map_err(Error::output)?;
        self.name.take().map_or(Ok(()), Unfinished::finish)
    }
}

impl Output<Text> for Stream<'_> {
    fn write(&mut self, piece: &mut Text) -> Result<()> {
        self.append(piece.as_bytes())?;
        piece.clear();
        Ok(())
    }

    fn forgo_name(&mut self) {
        self.forgo_name();
    }

    fn finish(&mut self) -> Result<()> {
        self.end()
    }
}
