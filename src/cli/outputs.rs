//! The files that `replay` writes: kept apart from all that it reads, and found whole by whoever waits for
//! them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use centralcap::{
    error::Error,
    files::{self, Identity, folder_of},
};

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

/// What stdout is called where a file is meant.
const STDOUT: &str = "-";

/// Refuses stdout for what must be a file: the first line there is the ready line, and nothing but reports
/// comes behind it.
pub(super) fn need_files(outputs: &[Named<'_>]) -> Result<(), Error> {
    let Some(Named { option, .. }) = outputs.iter().find(|output| is_stdout(output.path)) else {
        return Ok(());
    };
    let hint =
        "name a file: stdout has the ready line, and only --report or --report-junit may follow";
    Err(Error::usage(format!("a file for {option}"), STDOUT, hint))
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new(STDOUT)
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
        others.filter_map(|other| Some((Place::of(other.path)?, other.option))).collect();
    for &Named { option, path } in outputs {
        let found = || path.display().to_string();
        if let Some(place) = Place::of(path) {
            if let Some((_, other)) = taken.iter().find(|(taken, _)| *taken == place) {
                let expected = format!("another file for {option} than for {other}");
                return Err(Error::usage(expected, found(), "choose another name for one of them"));
            }
            taken.push((place, option));
        }
        if path.extension().is_some_and(|extension| extension == "mcap") {
            let expected = format!("a name for {option} that is not one of a capture");
            let hint = "choose another name than one with .mcap: replay writes no capture";
            return Err(Error::usage(expected, found(), hint));
        }
    }
    Ok(())
}

/// Where a file is, whatever it is called.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    There(Identity),
    /// Nothing is there yet: its folder and name.
    Free(PathBuf),
    Stdout,
}

impl Place {
    /// None of what is no file: several may well write to a terminal, or to /dev/null.
    fn of(path: &Path) -> Option<Self> {
        if is_stdout(path) {
            return Some(Self::Stdout);
        }
        match fs::metadata(path) {
            Ok(found) if found.is_file() => Identity::of(path).ok().map(Self::There),
            Ok(_) => None,
            Err(_) => {
                let target = target(path);
                let folder = fs::canonicalize(folder_of(&target)).ok()?;
                Some(Self::Free(folder.join(target.file_name()?)))
            }
        }
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
    Stdout,
}

impl Output {
    /// Nothing is changed yet. A pipe is waited for until somebody reads it: whoever waits can be stopped
    /// now, and not later.
    pub(super) fn at(path: &Path) -> anyhow::Result<Self> {
        if is_stdout(path) {
            return Ok(Self { path: path.to_owned(), way: Way::Stdout });
        }
        let way = match fs::metadata(path) {
            Ok(found) if !found.is_file() => {
                let file = OpenOptions::new().write(true).open(path);
                Way::Into(file.map_err(Error::io("write", path))?)
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
                return Err(Error::io("remove", &self.path)(error).into());
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
            Way::Into(file) => { file }.write_all(text.as_bytes()),
            Way::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
            }
        };
        match written {
            // Whoever read it has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written.map_err(Error::io("write", &self.path))?),
        }
    }

    fn beside(&self, target: &Path) -> anyhow::Result<tempfile::NamedTempFile> {
        let file = files::temporary(0o666).tempfile_in(folder_of(target));
        Ok(file.map_err(Error::io("write", &self.path))?)
    }
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
