//! What decoded frames are written as.
//!
//! A [`Sink`] turns frames into pieces of output, and every thread has one of its own. An [`Output`]
//! takes the pieces in the order of their frames. What a piece is, is up to the two: text for a
//! stream, rows for tables.

use crate::{
    codec::{Fault, notes::Drift},
    entry::{Entry, Frame, Timestamp},
    error::{Error, Result, Undecodable},
    protocol,
};

pub mod csv;
pub mod filter;
pub mod json;
pub mod ndjson;
pub mod select;
pub mod stream;

/// Turns frames into pieces of output.
pub trait Sink: Send {
    /// What becomes of some frames.
    type Piece: Default + Send;

    /// Adds what becomes of the entry: nothing, if it is no frame or one that is not wanted. Returns
    /// whether something was added. On an error nothing was.
    fn entry(&mut self, entry: &Entry, piece: &mut Self::Piece) -> Result<bool>;

    /// What the schema did not know in all frames so far. Counting begins anew.
    fn take_drift(&mut self) -> Drift;
}

/// Where pieces go.
pub trait Output<Piece>: Send {
    /// Writes a piece, and leaves it empty for the next one.
    fn write(&mut self, piece: &mut Piece) -> Result<()>;

    /// Not all that was asked for will be written: whatever gets a name when it is whole gets none.
    fn forgo_name(&mut self);

    /// Writes what stands behind the last piece. Nothing comes after it.
    fn finish(&mut self) -> Result<()>;
}

/// The envelope's own time. Where a capture says that a frame was sent and received at once, it may
/// as well not know.
fn sent(entry: &Entry, frame: &Frame) -> Option<Timestamp> {
    let protocol = || protocol::by_name(&entry.subscription.protocol);
    frame.sent.or_else(|| protocol().envelope(&frame.data).time)
}

fn undecodable(entry: &Entry, frame: &Frame, fault: &Fault) -> Error {
    Undecodable {
        subscription: entry.subscription.name.clone(),
        sequence: frame.sequence,
        received: entry.received,
        byte: fault.byte,
        reason: fault.to_string(),
    }
    .into()
}
