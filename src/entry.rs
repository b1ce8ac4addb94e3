//! The one value that flows everywhere: an [`Entry`], a frame or a session event of a subscription.
//!
//! Nothing here is decoded. A frame's bytes are what the WebSocket message held, bit for bit.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::fmt::temporal::Pieces;
use serde::{Serialize, Serializer};

mod generated {
    #![allow(missing_docs, reason = "prost copies the comments that the .proto file has")]
    #![allow(clippy::doc_markdown, reason = "the comments are written for protobuf")]
    include!(concat!(env!("OUT_DIR"), "/centralcap.rs"));
}

pub use generated::{SessionEvent, session_event};

/// The classic envelope as a Rust type, for making frames. Reading needs no type: it is dynamic.
pub mod envelope {
    #![allow(missing_docs, reason = "prost copies the comments that the .proto file has")]
    #![allow(clippy::doc_markdown, reason = "the comments are written for protobuf")]
    include!(concat!(env!("OUT_DIR"), "/stream_message.rs"));
}

/// A moment on the wall clock: nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment that is `nanos` nanoseconds after the Unix epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Now, as the wall clock has it. Only the outer layers call this: machines are handed a time.
    pub fn now() -> Self {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(nanos(since_epoch))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This moment moved into the future, at most to the last one there is.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// This moment moved into the past, at most to the first one there is.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

/// How many nanoseconds it lasts, as far as there is room for them: that is for 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The unit of a time that is counted from the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Thousandths of a second.
    Millis,
    /// Millionths of a second.
    Micros,
    /// Billionths of a second.
    Nanos,
}

impl Unit {
    /// The units are a factor of a thousand apart, so for any date from 1973 to 5138 the magnitude of a
    /// number tells which one it is.
    pub const fn of(time: u64) -> Self {
        const SECONDS_END: u64 = 100_000_000_000;
        match time {
            _ if time < SECONDS_END => Self::Seconds,
            _ if time < SECONDS_END * 1_000 => Self::Millis,
            _ if time < SECONDS_END * 1_000_000 => Self::Micros,
            _ => Self::Nanos,
        }
    }

    /// How many nanoseconds it has.
    pub const fn nanos(self) -> u64 {
        match self {
            Self::Seconds => 1_000_000_000,
            Self::Millis => 1_000_000,
            Self::Micros => 1_000,
            Self::Nanos => 1,
        }
    }
}

impl session_event::ClockStepped {
    /// What the new clock would have said at a moment that is remembered by the old one.
    pub fn by_new_clock(&self, at: Timestamp) -> Timestamp {
        Timestamp(at.0.saturating_add_signed(self.to_ns.wrapping_sub(self.from_ns).cast_signed()))
    }
}

/// As it is shown.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// RFC 3339 in UTC with all nine digits, so that the texts sort as the times do.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(time) => write!(f, "{time:.9}"),
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        let time: jiff::Timestamp = text.parse().map_err(|error| {
            jiff::Error::from_args(format_args!(
                "a moment looks like 2026-11-01T08:00:00Z: {error}"
            ))
        })?;
        // RFC 3339, 5.6: less than a day. Jiff reads up to 25:59:59.
        let offset = if text.ends_with(['Z', 'z']) {
            None
        } else {
            Pieces::parse(text)?.to_numeric_offset()
        };
        if offset.is_some_and(|offset| offset.seconds().abs() >= 24 * 60 * 60) {
            return Err(jiff::Error::from_args(format_args!(
                "expected an offset of less than a day"
            )));
        }
        let nanos = u64::try_from(time.as_nanosecond());
        nanos.map(Self).map_err(|_| jiff::Error::from_args(format_args!("expected 1970 to 2554")))
    }
}

/// One named subscription: a customer's key and one topic. The key is not part of what is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subscription {
    /// The name the user gave it; unique in a recording.
    pub name: String,
    /// The protocol's name, such as `classic`.
    pub protocol: String,
    /// The topic that was asked for.
    pub topic: String,
    /// The host that was asked, `host` or `host:port`.
    pub host: String,
}

#[cfg(test)]
impl Subscription {
    /// One as tests need it.
    pub(crate) fn to_audit(name: &str) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self {
            name: name.to_owned(),
            protocol: "classic".to_owned(),
            topic: "audit".to_owned(),
            host: "feed.example.com".to_owned(),
        })
    }
}

/// What all frames of one MCAP channel have in common besides their subscription.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FrameType {
    /// The last part of the channel's topic: the feed's topic, or `location.geofence`.
    pub label: String,
    /// The envelope's full name: the type of the frame's bytes.
    pub envelope: String,
    /// The payload's full name, if it is known.
    pub payload: Option<String>,
    /// A serialised `FileDescriptorSet` in which the envelope's payload field has the payload's type.
    pub descriptors: Bytes,
}

/// One WebSocket message as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Counts the frames of one connection, from 1.
    pub sequence: u32,
    /// The envelope's own time, if it has a believable one.
    pub sent: Option<Timestamp>,
    /// What the frame is taken for.
    pub kind: Arc<FrameType>,
    /// The message's bytes, never altered.
    pub data: Bytes,
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A frame of the feed.
    Frame(Frame),
    /// Something that happened to the connection.
    Event(SessionEvent),
}

/// A capture is a sequence of these.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Whose entry it is.
    pub subscription: Arc<Subscription>,
    /// When it was received or when it happened, by the recorder's wall clock.
    pub received: Timestamp,
    /// The frame or the event.
    pub what: What,
}

impl Entry {
    /// The frame, if it is one.
    pub const fn frame(&self) -> Option<&Frame> {
        match &self.what {
            What::Frame(frame) => Some(frame),
            What::Event(_) => None,
        }
    }
}
