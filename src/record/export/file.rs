//! The end of a file, which is moved aside at a size.
//!
//! `FILE` is always the one that is written to, so `tail -F` follows it; `FILE.1` is the one before, and
//! so on. Only a few are kept: whoever forgets an export must not lose the disk that the capture needs.
//! Where somebody else moves or deletes the file, a new one is begun.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::outlet::Outlet;
use crate::{
    capture::{SEALED_SUFFIX, SET_ASIDE_SUFFIX},
    error::{Error, Result},
    files::is_named,
};

/// So many files are kept that were moved aside.
const KEPT: u32 = 4;

/// A file of whole lines.
pub(super) struct Lines {
    path: PathBuf,
    file: File,
    /// Whole lines only: what a failed write leaves behind them is cut off.
    size: u64,
    rotate_at: u64,
}

impl Lines {
    /// Goes on at the end of the file, with a new line.
    pub(super) fn open(path: &Path, rotate_at: u64) -> io::Result<Self> {
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(io::Error::other("expected a file, found something else"));
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut size = file.metadata()?.len();
        if size > 0 && last_byte(&mut file)? != b'\n' {
            // Whoever wrote that was killed in the middle of a line.
            file.write_all(b"\n")?;
            size += 1;
        }
        Ok(Self { path: path.to_owned(), file, size, rotate_at })
    }

    /// How much of the text goes into the file as it is: whole lines. None: it is full.
    fn fitting(&self, text: &[u8]) -> Option<usize> {
        let room = usize::try_from(self.rotate_at.saturating_sub(self.size)).unwrap_or(usize::MAX);
        let end_of_line = |text: &[u8]| text.iter().rposition(|&byte| byte == b'\n');
        if let Some(end) = end_of_line(&text[..room.min(text.len())]) {
            return Some(end + 1);
        }
        // A line that is larger than a file may be has a file of its own.
        let first_line =
            || text.iter().position(|&byte| byte == b'\n').map_or(text.len(), |end| end + 1);
        (self.size == 0).then(first_line)
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..KEPT).rev() {
            move_file(&aside(&self.path, number), &aside(&self.path, number + 1))?;
        }
        move_file(&self.path, &aside(&self.path, 1))?;
        *self = Self::open(&self.path, self.rotate_at)?;
        Ok(())
    }
}

impl Outlet for Lines {
    fn check(&mut self) -> io::Result<()> {
        if is_named(&self.file, &self.path)? {
            Ok(())
        } else {
            Err(io::Error::other("somebody has put another file there"))
        }
    }

    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let count = match self.fitting(text) {
            Some(count) => count,
            None => {
                self.rotate()?;
                self.fitting(text).unwrap_or(text.len())
            }
        };
        if let Err(error) = self.file.write_all(&text[..count]) {
            self.file.set_len(self.size)?;
            return Err(error);
        }
        self.size += count as u64;
        Ok(count)
    }

    fn close(self: Box<Self>) {}
}

/// Refuses a name that is a capture's, or under which something is that is no text: neither is it written to nor
/// moved away. What cannot be read now is seen when it is written to.
pub(super) fn refuse_others(path: &Path) -> Result<()> {
    let asides = (1..=KEPT).map(|number| aside(path, number));
    let mut names = std::iter::once(path.to_owned()).chain(asides);
    let found = if is_of_capture(path) {
        Some(format!("the name of a capture, {}", path.display()))
    } else {
        names.find_map(|name| Some(format!("{} in {}", other_than_text(&name)?, name.display())))
    };
    let Some(found) = found else { return Ok(()) };
    Err(Error::usage("a file of lines of text, or none yet", found, "export to another file"))
}

fn is_of_capture(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.ends_with(SEALED_SUFFIX) || name.contains(SET_ASIDE_SUFFIX)
}

/// What a file begins with that is no text.
fn other_than_text(path: &Path) -> Option<&'static str> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut beginning = Vec::new();
    File::open(path).ok()?.take(64).read_to_end(&mut beginning).ok()?;
    if beginning.starts_with(mcap::MAGIC) {
        return Some("a capture");
    }
    let text = match std::str::from_utf8(&beginning) {
        // It may end within a character.
        Err(error) if error.error_len().is_some() => None,
        Err(error) => std::str::from_utf8(&beginning[..error.valid_up_to()]).ok(),
        Ok(text) => Some(text),
    };
    let is_text = |text: &str| !text.chars().any(|it| it.is_control() && !it.is_whitespace());
    (!text.is_some_and(is_text)).then_some("something other than text")
}

fn last_byte(file: &mut File) -> io::Result<u8> {
    let mut byte = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// `FILE.1` and so on.
fn aside(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

fn move_file(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &mut Lines, mut text: &[u8]) {
        while !text.is_empty() {
            file.check().unwrap();
            let count = file.write(text).unwrap();
            text = &text[count..];
        }
    }

    fn read(folder: &Path, name: &str) -> String {
        fs::read_to_string(folder.join(name)).unwrap()
    }

    #[test]
    fn a_file_is_moved_aside_before_it_gets_too_large_and_only_a_few_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = Lines::open(&folder.path().join("x"), 10).unwrap();
        write(&mut file, b"1234\n6789\n1234\n");
        write(&mut file, b"a line that is too large\nA\n");
        let names = ["x.4", "x.3", "x.2", "x.1", "x"];
        let all = |names: &[&str]| names.iter().map(|name| read(folder.path(), name)).collect();
        let parts: Vec<_> = all(&names[1..]);
        assert_eq!(parts, ["1234\n6789\n", "1234\n", "a line that is too large\n", "A\n"]);
        write(&mut file, b"1234567\nB\n1234567\nC\n");
        let parts: Vec<_> = all(&names);
        let large = "a line that is too large\n";
        assert_eq!(parts, ["1234\n", large, "A\n1234567\n", "B\n1234567\n", "C\n"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), names.len());
    }

    #[test]
    fn half_a_line_of_an_earlier_run_stays_half_a_line() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x"), "whole\nhal").unwrap();
        let mut file = Lines::open(&folder.path().join("x"), 1000).unwrap();
        write(&mut file, b"next\n");
        assert_eq!(read(folder.path(), "x"), "whole\nhal\nnext\n");
    }

    #[test]
    fn only_to_the_end_of_text_is_anything_added() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let is_refused = |path: &Path| refuse_others(path).is_err_and(|error| error.is_usage());
        let cut = format!("{}\u{fc}", "n".repeat(63));
        for (name, content, expected) in [
            ("x", &b"{\"a\": 1}\n"[..], false),
            ("x", b"\xef\xbb\xbf# a word\r\n\t{", false),
            ("x", cut.as_bytes(), false),
            ("x", b"", false),
            ("x", mcap::MAGIC, true),
            ("x", b"\x28\xb5\x2f\xfd", true),
            ("x", b"PAR1\x15\x04", true),
            ("x", b"SQLite format 3\0", true),
            ("x.4", mcap::MAGIC, true),
            ("x.5", mcap::MAGIC, false),
        ] {
            fs::write(folder.path().join(name), content).unwrap();
            assert_eq!(is_refused(&path), expected, "{name} {content:?}");
            fs::remove_file(folder.path().join(name)).unwrap();
        }
        for name in ["a.mcap", "a.open.mcap", "a.mcap.damaged", "a.mcap.damaged-2"] {
            assert!(is_refused(&folder.path().join(name)), "{name}");
        }
        // It is somebody's who reads, or it is not there yet.
        assert!(!is_refused(folder.path()) && !is_refused(&folder.path().join("not/yet")));
    }

    #[test]
    fn a_file_that_is_gone_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = Lines::open(&folder.path().join("x"), 1000).unwrap();
        file.check().unwrap();
        fs::rename(folder.path().join("x"), folder.path().join("y")).unwrap();
        assert!(file.check().is_err());
        fs::write(folder.path().join("x"), "another").unwrap();
        assert!(cfg!(not(unix)) || file.check().is_err());
        assert!(Lines::open(folder.path(), 1000).is_err());
    }
}
