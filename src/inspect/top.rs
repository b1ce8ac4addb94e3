//! What there is most of in a capture: the heaviest parts of payloads, and the noisiest devices.
//!
//! A device is whoever a serial number or the MAC address of a client names; what is counted for it is
//! the size of the messages that name it. Parts of payloads are as many as the schema has. Devices may be
//! any number: see `heavy`, which keeps the heaviest.

use std::{cmp::Reverse, collections::BTreeMap, ops::ControlFlow, sync::Arc};

use serde::Serialize;

pub use self::heavy::DEVICES;
use self::{
    heavy::Heavy,
    parts::{Named, Parts},
};
use super::frames::{Numbered, each_frame, payload_name};
use crate::{
    by_address::ByAddress,
    capture::Capture,
    codec::bytes::Meaning,
    entry::{FrameType, Subscription},
    error::{Error, Result},
    plain, protocol,
    schema::{self, Resolver},
    select::Selection,
};

mod heavy;
mod parts;

/// So many devices are shown, unless somebody wants more.
pub const SHOWN: usize = 20;

/// What there is most of.
#[derive(Clone, Debug, Serialize)]
pub struct Top {
    /// Frames that were looked at.
    pub frames: u64,
    /// Their size altogether.
    pub bytes: u64,
    /// The payloads, heaviest first.
    pub payloads: Vec<Payload>,
    /// The noisiest devices, by their bytes.
    pub devices: Vec<Device>,
    /// How many devices there are; more than that, if some had to be forgotten.
    pub known_devices: usize,
    /// At most so many bytes of each device are not counted, as it was forgotten while there were too
    /// many others; 0 if nothing was.
    pub uncounted_bytes: u64,
}

/// One type of payload.
#[derive(Clone, Debug, Serialize)]
pub struct Payload {
    /// Its full name, or the topic if that is not known.
    pub payload: String,
    /// How many frames have it.
    pub frames: u64,
    /// The size of these frames.
    pub bytes: u64,
    /// The part of all bytes, in percent.
    pub percent: f64,
    /// The lists and messages in it, heaviest first.
    pub parts: Vec<Part>,
}

/// A field of a payload that holds messages.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// The field's name.
    pub field: String,
    /// In how many frames it is.
    pub frames: u64,
    /// How many elements it has altogether.
    pub elements: u64,
    /// Their size.
    pub bytes: u64,
    /// The part of all bytes, in percent.
    pub percent: f64,
}

/// A device or a client.
#[derive(Clone, Debug, Serialize)]
pub struct Device {
    /// What names it.
    pub kind: DeviceKind,
    /// Its serial number or its MAC address.
    pub name: String,
    /// In how many frames it is named.
    pub frames: u64,
    /// The size of the messages that name it.
    pub bytes: u64,
    /// The part of all bytes, in percent.
    pub percent: f64,
}

/// What names a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A serial number.
    Serial,
    /// A MAC address.
    Mac,
}

/// Weighs what is selected of a capture, and keeps so many devices. `lost` hears of damage.
pub fn top(
    capture: &Capture,
    selection: Selection,
    resolver: &Resolver,
    shown: usize,
    lost: impl FnMut(&Error),
) -> Result<Top> {
    let mut fold = Fold {
        resolver,
        types: ByAddress::default(),
        devices: Heavy::new(DEVICES),
        named: Vec::new(),
        frames: 0,
        bytes: 0,
    };
    each_frame(capture, selection, lost, |frame| {
        fold.frame(frame);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(fold.finish(shown))
}

impl Top {
    /// One JSON document over several lines; `docs/inspect-json.md` says what is in it.
    pub fn json(&self) -> String {
        plain::document(self)
    }
}

struct Fold<'r> {
    resolver: &'r Resolver,
    types: ByAddress<FrameType, Type>,
    devices: Heavy<(DeviceKind, Box<[u8]>)>,
    /// Of the frame that is looked at.
    named: Vec<Named>,
    frames: u64,
    bytes: u64,
}

struct Type {
    name: String,
    frames: u64,
    bytes: u64,
    /// None if there is no schema.
    parts: Option<Parts>,
}

impl Fold<'_> {
    fn frame(&mut self, numbered: Numbered<'_>) {
        let Numbered { entry, frame, number, .. } = numbered;
        let size = frame.data.len() as u64;
        self.frames += 1;
        self.bytes += size;
        let of = self.types.or_insert_with(&frame.kind, || {
            Type::new(self.resolver, &entry.subscription, &frame.kind)
        });
        of.frames += 1;
        of.bytes += size;
        let Some(parts) = &mut of.parts else { return };
        self.named.clear();
        parts.weigh(&frame.data, number, &mut self.named);
        for Named { kind, span, bytes } in self.named.drain(..) {
            let name = &frame.data[span];
            self.devices.add((kind, key(kind, name)), bytes as u64, number);
        }
    }

    fn finish(self, shown: usize) -> Top {
        let all = self.bytes;
        let percent = move |bytes: u64| {
            if all == 0 { 0.0 } else { bytes as f64 * 100.0 / all as f64 }
        };
        // Segments have types of their own, which mean the same.
        let mut payloads: BTreeMap<String, (u64, u64, BTreeMap<String, Part>)> = BTreeMap::new();
        for of in self.types.into_values() {
            let (frames, bytes, parts) = payloads.entry(of.name).or_default();
            *frames += of.frames;
            *bytes += of.bytes;
            for (field, weight) in of.parts.iter().flat_map(Parts::weights) {
                let part = parts.entry(field.to_owned()).or_insert_with(|| Part {
                    field: field.to_owned(),
                    frames: 0,
                    elements: 0,
                    bytes: 0,
                    percent: 0.0,
                });
                part.frames += weight.frames;
                part.elements += weight.elements;
                part.bytes += weight.bytes;
                part.percent = percent(part.bytes);
            }
        }
        let mut payloads: Vec<_> = payloads
            .into_iter()
            .map(|(payload, (frames, bytes, parts))| {
                let mut parts: Vec<_> = parts.into_values().collect();
                parts.sort_by_key(|part| Reverse(part.bytes));
                Payload { payload, frames, bytes, percent: percent(bytes), parts }
            })
            .collect();
        payloads.sort_by_key(|payload| Reverse(payload.bytes));
        let (known_devices, uncounted_bytes) = (self.devices.len(), self.devices.uncounted());
        let devices = self.devices.heaviest(shown).into_iter().map(|((kind, name), weight)| {
            let name = match kind {
                DeviceKind::Serial => String::from_utf8_lossy(&name).into_owned(),
                DeviceKind::Mac => Meaning::Mac.text(&name),
            };
            let percent = percent(weight.bytes);
            Device { kind, name, frames: weight.frames, bytes: weight.bytes, percent }
        });
        Top {
            frames: self.frames,
            bytes: self.bytes,
            payloads,
            devices: devices.collect(),
            known_devices,
            uncounted_bytes,
        }
    }
}

impl Type {
    fn new(resolver: &Resolver, subscription: &Subscription, kind: &Arc<FrameType>) -> Self {
        let protocol = protocol::by_name(&subscription.protocol);
        let envelope = resolver.envelope(protocol, &subscription.topic, kind).ok();
        let name = payload_name(protocol, envelope.as_ref(), kind);
        let payload = envelope.and_then(|envelope| schema::payload_type(protocol, &envelope));
        let (_, payload_field) = protocol.envelope_message();
        Self {
            name: name.unwrap_or_else(|| kind.label.clone()),
            frames: 0,
            bytes: 0,
            parts: payload.map(|payload| Parts::new(payload_field, &payload)),
        }
    }
}

/// One address in raw bytes and in digits is one device. What is longer than any name is cut.
fn key(kind: DeviceKind, name: &[u8]) -> Box<[u8]> {
    const LONGEST: usize = 64;

    if kind == DeviceKind::Mac && name.len() != 6 {
        let text = Meaning::Mac.text(name);
        if let Some(octets) = Meaning::Mac.bytes(&text).filter(|octets| octets.len() == 6) {
            return octets.into();
        }
    }
    name[..name.len().min(LONGEST)].into()
}
