//! What decoded frames are written as.
//!
//! A [`Sink`] turns frames into pieces of output, and every thread has one of its own. An [`Output`]
//! takes the pieces in the order of their frames. What a piece is, is up to the two: text for a
//! stream, rows for tables.

use prost_reflect::MessageDescriptor;

use crate::{
    codec::{Fault, notes::Drift},
    entry::{Entry, Frame, Timestamp},
    error::{Error, Kind, Result, Undecodable},
    protocol,
    schema::Resolver,
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

/// What the frame is decoded with. Where a capture carries descriptors that are of no use, no frame that needs
/// them can be decoded; others can.
fn envelope(resolver: &Resolver, entry: &Entry, frame: &Frame) -> Result<MessageDescriptor> {
    let protocol = protocol::by_name(&entry.subscription.protocol);
    let found = resolver.envelope(protocol, &entry.subscription.topic, &frame.kind);
    found.map_err(|error| match error.into_kind() {
        kind @ Kind::Descriptors { .. } => {
            let reason = Error::from(kind).to_string();
            undecodable(entry, frame, &Fault::new(0, String::new(), reason))
        }
        other => other.into(),
    })
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
