//! capture -> Entry -> codec -> NDJSON.
//!
//! A frame that does not decode and a segment that is damaged are told to the caller and counted;
//! the rest goes on. Output is handed on in large pieces, and at once when it is one line in a while.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use crate::{
    entry::Entry,
    error::{Error, Kind, Result},
    sink::ndjson::Ndjson,
};

/// How much output is gathered before it is written.
const PIECE: usize = 256 * 1024;

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Frames that became a line.
    pub decoded: u64,
    /// Frames that could not be decoded.
    pub undecodable: u64,
    /// Places at which the capture is damaged, and files among others that are no capture.
    pub damaged: u64,
}

/// Makes the file that output goes to. One that is there already is never written over.
pub fn create(path: &Path) -> Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    file.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Kind::OutputExists { path: path.to_owned() }.into(),
        _ => Error::io("create", path)(error),
    })
}

/// Writes a line for each frame among `entries`. `lost` hears of everything that was left out. A
/// file that is no capture at all is an error, unless there are others that are.
pub fn decode(
    entries: impl Iterator<Item = Result<Entry>>,
    sink: &mut Ndjson,
    out: &mut impl Write,
    mut lost: impl FnMut(&Error),
) -> Result<Summary> {
    let mut summary = Summary::default();
    let mut piece = Vec::with_capacity(PIECE);
    let mut is_capture = false;
    // Kept back until something else is seen to be a capture.
    let mut strangers = Vec::new();
    for entry in entries {
        if !matches!(&entry, Err(error) if !error.is_damage()) {
            for stranger in strangers.drain(..) {
                summary.damaged += 1;
                lost(&stranger);
            }
            is_capture = true;
        }
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.is_not_a_capture() && !is_capture => {
                strangers.push(error);
                continue;
            }
            Err(error) if error.is_damage() || error.is_not_a_capture() => {
                summary.damaged += 1;
                lost(&error);
                continue;
            }
            Err(error) => {
                out.write_all(&piece).and_then(|()| out.flush()).map_err(Error::output)?;
                return Err(error);
            }
        };
        match sink.line(&entry, &mut piece) {
            Ok(()) => summary.decoded += u64::from(entry.frame().is_some()),
            Err(error) if error.is_undecodable() => {
                summary.undecodable += 1;
                lost(&error);
            }
            Err(error) => return Err(error),
        }
        if piece.len() >= PIECE {
            out.write_all(&piece).map_err(Error::output)?;
            piece.clear();
        }
    }
    out.write_all(&piece).and_then(|()| out.flush()).map_err(Error::output)?;
    match strangers.into_iter().next() {
        Some(stranger) => Err(stranger),
        None => Ok(summary),
    }
}
