//! One stream of text: a file, compressed if its name says so, or stdout.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::Output;
use crate::{
    codec::json::Text,
    error::{Error, Kind, Result},
};

/// How hard a file is compressed: what record's captures are compressed with by default.
const LEVEL: i32 = 3;

/// A stream that takes text.
pub struct Stream<'w> {
    target: Target<'w>,
    /// A file of ours in which nothing is yet.
    empty: Option<PathBuf>,
}

enum Target<'w> {
    Plain(Box<dyn Write + Send + 'w>),
    Zstd(Box<zstd::Encoder<'static, File>>),
}

impl<'w> Stream<'w> {
    /// Goes to whatever can be written to.
    pub fn new(out: impl Write + Send + 'w) -> Self {
        Self { target: Target::Plain(Box::new(out)), empty: None }
    }

    /// Makes a file: a zstd file, if its name ends in `.zst`. One that is there already is never
    /// written over; one into which nothing was written does not stay.
    pub fn create(path: &Path) -> Result<Self> {
        let file = create(path)?;
        let target = match path.extension() {
            Some(extension) if extension == "zst" => {
                let encoder = zstd::Encoder::new(file, LEVEL);
                Target::Zstd(Box::new(encoder.map_err(Error::output)?))
            }
            _ => Target::Plain(Box::new(file)),
        };
        Ok(Self { target, empty: Some(path.to_owned()) })
    }

    /// Appends text.
    pub fn append(&mut self, text: &[u8]) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.empty = None;
        match &mut self.target {
            Target::Plain(out) => out.write_all(text),
            Target::Zstd(encoder) => encoder.write_all(text),
        }
        .map_err(Error::output)
    }

    /// Writes what a compressor still holds.
    pub fn end(&mut self) -> Result<()> {
        self.empty = None;
        match &mut self.target {
            Target::Plain(out) => out.flush(),
            Target::Zstd(encoder) => encoder.do_finish(),
        }
        .map_err(Error::output)
    }
}

impl Output<Text> for Stream<'_> {
    fn write(&mut self, piece: &mut Text) -> Result<()> {
        self.append(piece.as_bytes())?;
        piece.clear();
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.end()
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.empty.take() {
            // It is only in the way of the next try.
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes the file that output goes to. One that is there already is never written over.
pub fn create(path: &Path) -> Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    file.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Kind::OutputExists { path: path.to_owned() }.into(),
        _ => Error::io("create", path)(error),
    })
}

/// Makes a folder and those that lead to it, as far as they are not there.
pub fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create", path))
}
