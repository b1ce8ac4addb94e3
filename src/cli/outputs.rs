//! The files that `replay` writes: kept apart from all that it reads, and found whole by whoever waits for
//! them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use centralcap::error::Error;

/// So many links lead to a file at most.
const LINKS: usize = 40;

/// What names a file on the command line, and the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    pub(super) option: &'static str,
    pub(super) path: &'a Path,
}

impl<'a> Named<'a> {
    /// None if the option is not given.
    pub(super) fn maybe(option: &'static str, path: Option<&'a PathBuf>) -> Option<Self> {
        path.map(|path| Self { option, path })
    }
}

/// Refuses an output that is an input or another output, whatever it is called, and one that would be taken
/// for a capture. To be asked before anything is removed or written.
pub(super) fn keep_apart(inputs: &[Named<'_>], outputs: &[Named<'_>]) -> Result<(), Error> {
    if outputs.is_empty() {
        return Ok(());
    }
    let streams = [("stdout", "/dev/stdout"), ("stderr", "/dev/stderr")]
        .map(|(option, path)| Named { option, path: Path::new(path) });
    let others = inputs.iter().chain(&streams);
    let mut taken: Vec<_> =
        others.filter_map(|other| Some((Identity::of(other.path)?, other.option))).collect();
    for &Named { option, path } in outputs {
        let found = || path.display().to_string();
        if let Some(identity) = Identity::of(path) {
            if let Some((_, other)) = taken.iter().find(|(taken, _)| *taken == identity) {
                let expected = format!("another file for {option} than for {other}");
                return Err(Error::usage(expected, found(), "choose another name for one of them"));
            }
            taken.push((identity, option));
        }
        if path.extension().is_some_and(|extension| extension == "mcap") {
            let expected = format!("a name for {option} that is not one of a capture");
            let hint = "choose another name than one with .mcap: replay writes no capture";
            return Err(Error::usage(expected, found(), hint));
        }
    }
    Ok(())
}

/// What all names of one file have in common.
#[derive(Debug, PartialEq, Eq)]
enum Identity {
    /// Its device and inode.
    #[cfg(unix)]
    There(u64, u64),
    /// Its folder and name, where that is all there is.
    Named(PathBuf),
}

impl Identity {
    /// None of what is no file: several may well write to a terminal, or to /dev/null.
    fn of(path: &Path) -> Option<Self> {
        match fs::metadata(path) {
            Ok(found) if found.is_file() => Some(Self::there(path, &found)),
            Ok(_) => None,
            Err(_) => {
                let target = target(path);
                let folder = fs::canonicalize(folder_of(&target)).ok()?;
                Some(Self::Named(folder.join(target.file_name()?)))
            }
        }
    }

    #[cfg(unix)]
    fn there(_: &Path, found: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;

        Self::There(found.dev(), found.ino())
    }

    #[cfg(not(unix))]
    fn there(path: &Path, _: &fs::Metadata) -> Self {
        Self::Named(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()))
    }
}

/// Somewhere to write a text to.
#[derive(Debug)]
pub(super) struct Output {
    /// As the user has called it.
    path: PathBuf,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// To a file, which gets its name when it is whole. Links that lead to it stay as they are.
    Named(PathBuf),
    /// Into what is there and no file: a pipe, a terminal, /dev/null.
    Into(File),
}

impl Output {
    /// Nothing is changed yet. A pipe is waited for until somebody reads it: whoever waits can be stopped
    /// now, and not later.
    pub(super) fn at(path: &Path) -> anyhow::Result<Self> {
        let way = match fs::metadata(path) {
            Ok(found) if !found.is_file() => {
                let file = OpenOptions::new().write(true).open(path);
                Way::Into(file.with_context(|| cannot_write(path))?)
            }
            _ => Way::Named(target(path)),
        };
        Ok(Self { path: path.to_owned(), way })
    }

    /// The text of an earlier run must not be taken for this one's, and one that cannot be written is better
    /// known now than at the end.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        let Way::Named(target) = &self.way else { return Ok(()) };
        match fs::remove_file(target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error)
                    .with_context(|| format!("cannot remove {}", self.path.display()));
            }
            _ => {}
        }
        self.beside(target).map(drop)
    }

    /// Whoever waits for the file to appear finds all of it, and whoever reads a pipe then finds its end.
    pub(super) fn write(self, text: &str) -> anyhow::Result<()> {
        let written = match &self.way {
            Way::Named(target) => {
                let mut file = self.beside(target)?;
                let written = file.write_all(text.as_bytes());
                written.and_then(|()| Ok(file.persist(target).map(drop)?))
            }
            Way::Into(file) => match { file }.write_all(text.as_bytes()) {
                // Whoever read it has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                written => written,
            },
        };
        written.with_context(|| cannot_write(&self.path))
    }

    fn beside(&self, target: &Path) -> anyhow::Result<tempfile::NamedTempFile> {
        let file = for_all_to_read().tempfile_in(folder_of(target));
        file.with_context(|| cannot_write(&self.path))
    }
}

/// Makes temporary files that whoever waits for them can read, as far as the umask allows it: `tempfile`'s own
/// are their owner's alone.
pub(super) fn for_all_to_read() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder
}

/// Where the links lead, if it is one, whether there is something or not.
fn target(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    for _ in 0..LINKS {
        let Ok(next) = fs::read_link(&target) else { break };
        target = folder_of(&target).join(next);
    }
    target
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}
