//! One frame, one line: the shape that README and CLI promise.

use crate::{
    by_address::ByAddress,
    codec::{
        json::{self, Text},
        notes::{Drift, Notes},
        plan::{Plan, Style},
    },
    entry::{Entry, Frame, FrameType, Subscription, Timestamp},
    error::Result,
    protocol,
    schema::{self, Resolver},
    sink::Sink,
};

use super::{envelope, sent, undecodable};

/// Turns frames into lines of JSON.
#[derive(Debug)]
pub struct Ndjson {
    resolver: Resolver,
    style: Style,
    shows_unknown: bool,
    shows_raw: bool,
    types: ByAddress<FrameType, Type>,
    notes: Notes,
    drift: Drift,
    received: Clock,
    sent: Clock,
}

/// What all frames of a type have in common.
#[derive(Debug)]
struct Type {
    plan: Plan,
    /// The payload's full name; None if it is only bytes.
    payload: Option<String>,
    /// Under which name its drift is counted.
    counted_as: String,
    /// From the subscription to the payload's type, for each subscription.
    middles: ByAddress<Subscription, Text>,
}

impl Ndjson {
    /// Lines in this style, decoded with what `resolver` finds.
    pub fn new(resolver: Resolver, style: Style) -> Self {
        Self {
            resolver,
            style,
            shows_unknown: false,
            shows_raw: false,
            types: ByAddress::default(),
            notes: Notes::default(),
            drift: Drift::default(),
            received: Clock::default(),
            sent: Clock::default(),
        }
    }

    /// Lines that also hold what the schema does not know, under `@unknown`.
    #[must_use]
    pub fn showing_unknown(self, shows_unknown: bool) -> Self {
        Self { shows_unknown, ..self }
    }

    /// Lines that also hold the frame's bytes as base64, under `@raw`.
    #[must_use]
    pub fn showing_raw(self, shows_raw: bool) -> Self {
        Self { shows_raw, ..self }
    }
}

impl Type {
    fn new(resolver: &Resolver, style: Style, entry: &Entry, frame: &Frame) -> Result<Self> {
        let protocol = protocol::by_name(&entry.subscription.protocol);
        let envelope = envelope(resolver, entry, frame)?;
        let payload = schema::payload_type(protocol, &envelope);
        Ok(Self {
            plan: Plan::new(&envelope, style),
            counted_as: payload.as_ref().unwrap_or(&envelope).full_name().to_owned(),
            payload: payload.map(|payload| payload.full_name().to_owned()),
            middles: ByAddress::default(),
        })
    }
}

/// What the lines of a channel have in common.
fn middle(subscription: &Subscription, payload: Option<&str>) -> Text {
    let mut middle = Text::default();
    middle.extend(b"\",\"subscription\":");
    json::write_string(&subscription.name, &mut middle);
    middle.extend(b",\"topic\":");
    json::write_string(&subscription.topic, &mut middle);
    if let Some(payload) = payload {
        middle.extend(b",\"type\":");
        json::write_string(payload, &mut middle);
    }
    middle
}

impl Sink for Ndjson {
    type Piece = Text;

    #[inline(always)]
    fn entry(&mut self, entry: &Entry, out: &mut Text) -> Result<bool> {
        let Some(frame) = entry.frame() else { return Ok(false) };
        let of = self.types.or_try_insert_with(&frame.kind, || {
            Type::new(&self.resolver, self.style, entry, frame)
        })?;
        let middle = of.middles.or_insert_with(&entry.subscription, || {
            middle(&entry.subscription, of.payload.as_deref())
        });
        let start = out.len();
        out.extend(b"{\"received\":\"");
        self.received.show(entry.received, out);
        if let Some(time) = sent(entry, frame) {
            out.extend(b"\",\"time\":\"");
            self.sent.show(time, out);
        }
        out.extend(middle.as_bytes());
        let decoded = json::write_fields(&of.plan, &frame.data, out, &mut self.notes);
        if let Err(fault) = decoded {
            out.truncate(start);
            return Err(undecodable(entry, frame, &fault));
        }
        if !self.notes.list().is_empty() {
            self.drift.count(&of.counted_as, &self.notes);
            if self.shows_unknown {
                out.extend(b",\"@unknown\":");
                json::write_notes(self.notes.list(), out);
            }
        }
        if self.shows_raw {
            out.extend(b",\"@raw\":");
            json::write_base64(&frame.data, out);
        }
        out.extend(b"}\n");
        Ok(true)
    }

    fn take_drift(&mut self) -> Drift {
        std::mem::take(&mut self.drift)
    }
}

/// Shows times as [`Timestamp`] does, and remembers the second: frames of one second follow each
/// other, and only the digits behind the point differ.
#[derive(Debug, Default)]
struct Clock {
    second: Option<u64>,
    /// Its date and time up to the point. None if it is no date, and shown in a form of its own.
    shown: Option<String>,
}

impl Clock {
    #[inline(always)]
    fn show(&mut self, time: Timestamp, out: &mut Text) {
        const SECOND: u64 = 1_000_000_000;

        let second = time.as_nanos() / SECOND;
        if self.second != Some(second) {
            let shown = Timestamp::from_nanos(second * SECOND).to_string();
            self.shown = shown.strip_suffix("000000000Z").map(str::to_owned);
            self.second = Some(second);
        }
        match &self.shown {
            Some(shown) => {
                out.extend(shown.as_bytes());
                out.nanoseconds((time.as_nanos() % SECOND) as u32);
                out.extend(b"Z");
            }
            None => out.extend(time.to_string().as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_what_the_time_itself_does() {
        let mut clock = Clock::default();
        for nanos in [0, 1, 999_999_999, 1_000_000_000, 1_795_000_000_123_456_789, u64::MAX] {
            let time = Timestamp::from_nanos(nanos);
            let mut text = Text::default();
            clock.show(time, &mut text);
            assert_eq!(String::from_utf8_lossy(text.as_bytes()), time.to_string());
        }
    }
}
