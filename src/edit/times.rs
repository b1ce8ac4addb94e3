//! All times moved by as much.

use std::str::FromStr;

use jiff::SignedDuration;

use crate::{
    by_address::ByAddress,
    entry::{Entry, Frame, FrameType, SessionEvent, Timestamp, What, session_event::Event},
    error::{Error, Result},
    pace::Speed,
    protocol,
    restamp::{Restamp, Shift},
    schema::Resolver,
    select,
};

/// What becomes of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Everything was received so many nanoseconds later, or earlier; frames stay bit for bit, unless they
    /// are redacted. This is for a recorder whose clock was wrong.
    Shifted(i64),
    /// The first entry was received at this moment, everything else as long after it as it was, and the
    /// times in frames move with that.
    Restamped(Timestamp),
}

impl Times {
    /// When the recording was started that was started then.
    pub(super) fn start(self, started: Timestamp) -> Timestamp {
        match self {
            Self::Shifted(by) => moved(started, by).unwrap_or_default(),
            Self::Restamped(first) => first,
        }
    }

    /// By how much, as it is asked for.
    pub(super) fn shift(self) -> Option<String> {
        match self {
            Self::Shifted(by) => Some(shown(by)),
            Self::Restamped(_) => None,
        }
    }

    pub(super) fn restamp(self) -> Option<Timestamp> {
        match self {
            Self::Shifted(_) => None,
            Self::Restamped(first) => Some(first),
        }
    }
}

/// `1h30m`, or `-1h30m` for earlier.
impl FromStr for Times {
    type Err = Error;

    /// As [`Self::Shifted`].
    fn from_str(text: &str) -> Result<Self> {
        let (is_earlier, length) = match text.strip_prefix('-') {
            Some(length) => (true, length),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let nanos = i64::try_from(select::duration(length)?.as_nanos())
            .map_err(|_| Error::usage("at most 292 years", format!("{text:?}"), "shift by less"))?;
        Ok(Self::Shifted(if is_earlier { -nanos } else { nanos }))
    }
}

/// Moves the times of one entry after the other.
pub(super) struct Mover {
    times: Times,
    /// Those in frames, too.
    inside: bool,
    resolver: Resolver,
    /// By how many nanoseconds: known from the first entry on.
    by: Option<i64>,
    types: ByAddress<FrameType, Restamp>,
}

impl Mover {
    /// `redacted` says that times in frames are moved even if they were to stay bit for bit.
    pub(super) fn new(times: Times, redacted: bool, resolver: Resolver) -> Self {
        let inside = redacted || matches!(times, Times::Restamped(_));
        Self { times, inside, resolver, by: None, types: ByAddress::default() }
    }

    pub(super) fn apply(&mut self, mut entry: Entry) -> Result<Entry> {
        let by = match (self.by, self.times) {
            (Some(by), _) | (None, Times::Shifted(by)) => by,
            (None, Times::Restamped(first)) => distance(entry.received, first)?,
        };
        self.by = Some(by);
        let received = entry.received;
        entry.received = moved(received, by)?;
        match &mut entry.what {
            What::Event(event) => move_event(event, by)?,
            What::Frame(frame) => {
                let protocol = protocol::by_name(&entry.subscription.protocol);
                if self.inside {
                    let shift = Shift {
                        received,
                        sent: entry.received,
                        speed: Speed::ORIGINAL,
                        floor: Timestamp::default(),
                    };
                    let restamp = self.restamp(&entry.subscription.topic, protocol, frame)?;
                    let moved = restamp.apply(&frame.data, &shift);
                    if let Some(time) = moved.stays {
                        return Err(stays(time, by));
                    }
                    frame.data = moved.data;
                }
                // Where it was received and sent at once, the capture may not have said so.
                frame.sent = protocol.envelope(&frame.data).time;
            }
        }
        Ok(entry)
    }

    fn restamp(
        &mut self,
        topic: &str,
        protocol: &'static dyn protocol::Protocol,
        frame: &Frame,
    ) -> Result<&Restamp> {
        let restamp = self.types.or_try_insert_with(&frame.kind, || {
            let envelope = self.resolver.envelope(protocol, topic, &frame.kind)?;
            Ok(Restamp::new(&envelope))
        });
        restamp.map(|restamp| &*restamp)
    }
}

/// How many nanoseconds later the second is.
fn distance(from: Timestamp, to: Timestamp) -> Result<i64> {
    let distance = i128::from(to.as_nanos()) - i128::from(from.as_nanos());
    i64::try_from(distance).map_err(|_| {
        let found = format!("from {from} to {to}");
        Error::usage("to move times by at most 292 years", found, "choose another --restamp")
    })
}

/// One that stayed would contradict all others, and tell by how much they were moved.
fn stays(time: Timestamp, by: i64) -> Error {
    let by = shown(by);
    Error::usage(
        "a time from 2001-09-09 to 2106 for each that is in a frame",
        format!("{time} moved by {by}"),
        "choose another --shift or --restamp",
    )
}

/// `1h30m` or `-1h30m`.
fn shown(by: i64) -> String {
    let sign = if by < 0 { "-" } else { "" };
    format!("{sign}{:#}", SignedDuration::from_nanos(by).abs())
}

fn moved(time: Timestamp, by: i64) -> Result<Timestamp> {
    time.as_nanos().checked_add_signed(by).map(Timestamp::from_nanos).ok_or_else(|| {
        let by = shown(by);
        Error::usage(
            "times from 1970 to 2554",
            format!("{time} moved by {by}"),
            "choose another --shift or --restamp",
        )
    })
}

/// The times that an event tells. 0 is none.
fn move_event(event: &mut SessionEvent, by: i64) -> Result<()> {
    let times = match &mut event.event {
        Some(Event::Gap(gap)) => vec![&mut gap.from_ns, &mut gap.to_ns],
        Some(Event::Continued(continued)) => vec![&mut continued.since_ns],
        Some(Event::ClockStepped(step)) => vec![&mut step.from_ns, &mut step.to_ns],
        Some(Event::SegmentDeleted(deleted)) => vec![&mut deleted.from_ns, &mut deleted.to_ns],
        Some(
            Event::Connected(_)
            | Event::Rejected(_)
            | Event::Failed(_)
            | Event::Closed(_)
            | Event::KeyRenewed(_)
            | Event::TextFrame(_)
            | Event::DroppedFrames(_)
            | Event::ExportDropped(_),
        )
        | None => vec![],
    };
    for time in times {
        if *time > 0 {
            *time = moved(Timestamp::from_nanos(*time), by)?.as_nanos();
        }
    }
    Ok(())
}
