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
    File(File),
    Zstd(Box<zstd::Encoder<'static, File>>),
}

impl<'w> Stream<'w> {
    /// Goes to whatever can be written to.
    pub fn new(out: impl Write + Send + 'w) -> Self {
        Self { target: Target::Plain(Box::new(out)), name: None }
    }

    /// Goes to a file that has its name from somebody else.
    pub(super) fn of_file(file: File) -> Self {
        Self { target: Target::File(file), name: None }
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
            _ => Target::File(file),
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
            Target::File(file) => file.write_all(text),
            Target::Zstd(encoder) => encoder.write_all(text),
        }
        .map_err(Error::output)
    }

    /// Deletes a file that is not whole, and will not be.
    pub fn forgo_name(&mut self) {
        self.name = None;
    }

    /// Writes what a compressor still holds, brings a file to the disk and gives it its name.
    pub fn end(&mut self) -> Result<()> {
        match &mut self.target {
            Target::Plain(out) => out.flush(),
            Target::File(_) => Ok(()),
            Target::Zstd(encoder) => encoder.do_finish(),
        }
        .map_err(Error::output)?;
        match (self.name.take(), self.file()) {
            (Some(name), Some(file)) => name.finish_on_disk(file),
            _ => Ok(()),
        }
    }

    /// Where it goes, if that is a file of its own.
    pub(super) fn file(&self) -> Option<&File> {
        match &self.target {
            Target::Plain(_) => None,
            Target::File(file) => Some(file),
            Target::Zstd(encoder) => Some(encoder.get_ref()),
        }
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

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, reason = "a test may fail anywhere")]
pub(super) mod tests {
    use std::{io, os::fd::OwnedFd};

    use super::*;

    /// A file that can be written to and never be brought to a disk: a pipe. The reader has to stay.
    pub(in super::super) fn never_on_disk() -> (io::PipeReader, File) {
        let (reader, writer) = io::pipe().unwrap();
        (reader, OwnedFd::from(writer).into())
    }

    #[test]
    fn what_is_not_on_the_disk_gets_no_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["lines.ndjson", "lines.ndjson.zst"] {
            let path = folder.path().join(name);
            let mut stream = Stream::create(&path).unwrap();
            let (_reader, file) = never_on_disk();
            match &mut stream.target {
                Target::Zstd(encoder) => *encoder.get_mut() = file,
                target => *target = Target::File(file),
            }
            stream.append(b"{}\n").unwrap();
            stream.end().unwrap_err();
            assert!(!path.exists(), "{name}");
            drop(stream);
            assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        }
    }
}
