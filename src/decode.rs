//! capture -> Entry -> codec -> NDJSON.
//!
//! A frame that does not decode and a segment that is damaged are told to the caller and counted;
//! the rest goes on. Output is handed on in large pieces, and at once when it is one line in a while.

use std::io::Write;

use crate::{
    entry::Entry,
    error::{Error, Result},
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
    /// Places at which the capture is damaged.
    pub damaged: u64,
}

/// Writes a line for each frame among `entries`. `lost` hears of everything that was left out.
pub fn decode(
    entries: impl Iterator<Item = Result<Entry>>,
    sink: &mut Ndjson,
    out: &mut impl Write,
    mut lost: impl FnMut(&Error),
) -> Result<Summary> {
    let mut summary = Summary::default();
    let mut piece = Vec::with_capacity(PIECE);
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.is_damage() => {
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
    Ok(summary)
}
