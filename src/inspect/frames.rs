//! The frames of a capture with their numbers, for the views that go from one to the next.
//!
//! A frame's number counts all frames of the capture from 1, in the order in which they are read and
//! whatever is selected: one that a view shows can be named to another view. Frames that damage has cost
//! are not counted.

use std::ops::ControlFlow;

use prost_reflect::MessageDescriptor;

use crate::{
    capture::{Capture, Entries, Place},
    entry::{Entry, Frame, FrameType},
    error::{Error, Result},
    protocol::Protocol,
    schema,
    select::Selection,
};

/// A frame with its number.
#[derive(Clone, Copy, Debug)]
pub struct Numbered<'e> {
    /// Counted over the whole capture, from 1.
    pub number: u64,
    /// Whose it is, and when it was received.
    pub entry: &'e Entry,
    /// The frame itself.
    pub frame: &'e Frame,
    /// Where it is, for whoever wants to see it again.
    pub place: Place,
}

/// Shows all that is selected to `see`, until that breaks. `lost` hears of damage, and of files that are
/// no capture if there are others that are.
pub fn each_frame(
    capture: &Capture,
    selection: Selection,
    mut lost: impl FnMut(&Error),
    mut see: impl FnMut(Numbered<'_>) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let mut entries = selection.of(Counted { entries: capture.entries(), frames: 0 });
    let mut strangers = Vec::new();
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => {
                let Some(frame) = entry.frame() else { continue };
                let Counted { entries, frames: number } = entries.inner();
                let (number, place) = (*number, entries.place_of(frame));
                if see(Numbered { number, entry: &entry, frame, place })?.is_break() {
                    break;
                }
            }
            Err(error) if error.is_damage() => lost(&error),
            Err(error) if error.is_not_a_capture() => strangers.push(error),
            Err(error) => return Err(error),
        }
    }
    if strangers.len() == capture.segments().len()
        && let Some(stranger) = strangers.pop()
    {
        return Err(stranger);
    }
    strangers.iter().for_each(lost);
    Ok(())
}

/// What frames of a type are shown as: their payload's full name by the schema, else by the capture.
pub(super) fn payload_name(
    protocol: &dyn Protocol,
    envelope: Option<&MessageDescriptor>,
    kind: &FrameType,
) -> Option<String> {
    let declared = envelope.and_then(|envelope| schema::payload_type(protocol, envelope));
    declared.map(|payload| payload.full_name().to_owned()).or_else(|| kind.payload.clone())
}

/// Entries, and how many frames there were among them so far.
struct Counted {
    entries: Entries,
    frames: u64,
}

impl Iterator for Counted {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.entries.next()?;
        self.frames += u64::from(entry.as_ref().is_ok_and(|entry| entry.frame().is_some()));
        Some(entry)
    }
}
