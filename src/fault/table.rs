//! Every fault there is: its name, what it does, and what can be said about it, in one table.

use std::time::Duration;

use super::file::{Item, Table};
use crate::{
    error::Result,
    protocol::{PROTOCOLS, Payload},
};

/// A fault with all that is said about it.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    missing_docs,
    reason = "the table below says what each is, and the file what its words are"
)]
pub enum Fault {
    Drop,
    Duplicate { times: u64 },
    Reorder { within: u64 },
    Delay { by: Duration, jitter: Duration },
    Stall { length: Duration },
    Truncate { keep: Option<usize> },
    FlipBits { count: u64 },
    Replace { with: Option<&'static Payload> },
    UnknownField,
    UnknownEnum,
    DropRequired,
    Oversize { size: usize },
    Fragment { into: u64 },
    Text { content: TextContent },
    Slow { bytes: usize, every: Duration },
    NoPong,
    PingFlood { count: u64 },
    Close { code: Option<u16>, reason: String },
    Reset { part: f64 },
    HalfOpen { part: f64, length: Option<Duration> },
    BreakTls,
    Refuse { status: u16, body: String, headers: Vec<(String, String)> },
    RawAnswer { text: String },
    RefuseTls,
}

/// What a text message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextContent {
    /// The message's bytes in base64.
    Base64,
    /// The message's bytes as they are, which is hardly ever valid text.
    Bytes,
    /// Something else.
    Words(String),
}

impl Fault {
    /// It strikes those who connect, before there is a frame.
    pub const fn is_for_requests(&self) -> bool {
        matches!(self, Self::Refuse { .. } | Self::RawAnswer { .. } | Self::RefuseTls)
    }

    /// It ends the connection.
    pub const fn is_an_end(&self) -> bool {
        matches!(
            self,
            Self::Close { .. } | Self::Reset { .. } | Self::HalfOpen { .. } | Self::BreakTls
        )
    }

    /// A part of a frame goes before it, so there has to be one.
    pub(super) const fn sends_a_part(&self) -> bool {
        matches!(self, Self::Reset { part } | Self::HalfOpen { part, .. } if *part > 0.0)
    }
}

/// One row of the table.
pub struct Row {
    /// The fault's name in a file and in the log.
    pub name: &'static str,
    /// What it does.
    pub says: &'static str,
    pub(super) read: fn(&mut Table<'_>) -> Result<Fault>,
}

/// So many fragments and pings at most: too much for any client, and not for our memory.
const MANY: u64 = 1_000_000;

/// So many copies of a message, and messages that are held back.
const FEW: u64 = 1000;

/// The largest message that is made.
const SIZE_MAX: u64 = 256 * 1024 * 1024;

/// Larger than clients should take: `record` takes 16 MiB.
const OVERSIZE: u64 = 17 * 1024 * 1024;

/// Longer ones do not fit in a control frame with a code (RFC 6455, section 5.5).
pub(crate) const REASON_MAX: usize = 123;

/// Every fault there is.
pub const FAULTS: [Row; 24] = [
    Row { name: "drop", says: "the frame is not sent", read: |_| Ok(Fault::Drop) },
    Row {
        name: "duplicate",
        says: "the frame is sent again, `times` more (1)",
        read: |words| {
            Ok(Fault::Duplicate { times: words.optional("times", 1, |item| item.whole(1, FEW))? })
        },
    },
    Row {
        name: "reorder",
        says: "one to `within` (3) of the frames behind it go first",
        read: |words| {
            Ok(Fault::Reorder { within: words.optional("within", 3, |item| item.whole(1, FEW))? })
        },
    },
    Row {
        name: "delay",
        says: "the frame, and with it all behind it, leaves `by` later than it is due, and up to `jitter` (0s) more",
        read: |words| {
            let by = words.needed("by", Item::DURATION)?.duration()?;
            Ok(Fault::Delay {
                by,
                jitter: words.optional("jitter", Duration::ZERO, Item::duration)?,
            })
        },
    },
    Row {
        name: "stall",
        says: "before the frame, nothing is read, written or answered `for` so long",
        read: |words| Ok(Fault::Stall { length: words.needed("for", Item::DURATION)?.duration()? }),
    },
    Row {
        name: "truncate",
        says: "the message ends early: after `keep` bytes, or anywhere",
        read: |words| {
            let keep = words.maybe("keep", |item| item.whole(0, SIZE_MAX))?;
            Ok(Fault::Truncate { keep: keep.map(|keep| keep as usize) })
        },
    },
    Row {
        name: "flip-bits",
        says: "`count` (1) bits of the message, anywhere, are the other way round",
        read: |words| {
            Ok(Fault::FlipBits { count: words.optional("count", 1, |item| item.whole(1, FEW))? })
        },
    },
    Row {
        name: "replace",
        says: "the payload is one of another type: that of the topic `with`, or of any other",
        read: |words| Ok(Fault::Replace { with: words.maybe("with", payload)? }),
    },
    Row {
        name: "unknown-field",
        says: "a field that the schema does not have is added somewhere in the payload",
        read: |_| Ok(Fault::UnknownField),
    },
    Row {
        name: "unknown-enum",
        says: "an enum of the payload gets a number that the schema has no name for",
        read: |_| Ok(Fault::UnknownEnum),
    },
    Row {
        name: "drop-required",
        says: "a required field is taken out of the payload",
        read: |_| Ok(Fault::DropRequired),
    },
    Row {
        name: "oversize",
        says: "the message grows to `size` (17MiB) by a field that nobody knows",
        read: |words| {
            let size = words.optional("size", OVERSIZE, |item| item.size(SIZE_MAX))?;
            Ok(Fault::Oversize { size: size as usize })
        },
    },
    Row {
        name: "fragment",
        says: "the message comes in `into` (2) WebSocket frames",
        read: |words| {
            Ok(Fault::Fragment { into: words.optional("into", 2, |item| item.whole(2, MANY))? })
        },
    },
    Row {
        name: "text",
        says: "the message comes as text: its bytes in `content` (\"base64\") or as they are (\"bytes\"), or `words`",
        read: |words| {
            let said =
                words.maybe("words", |item| Ok(TextContent::Words(item.text()?.to_owned())))?;
            let content = words.maybe("content", |item| match item.text()? {
                "base64" => Ok(TextContent::Base64),
                "bytes" => Ok(TextContent::Bytes),
                _ => Err(item.wrong("\"base64\" or \"bytes\"")),
            })?;
            Ok(Fault::Text { content: said.or(content).unwrap_or(TextContent::Base64) })
        },
    },
    Row {
        name: "slow",
        says: "the message comes `bytes` (1) bytes at a time, one lot `every` (10ms)",
        read: |words| {
            let bytes = words.optional("bytes", 1, |item| item.whole(1, MANY))? as usize;
            let every = words.optional("every", Duration::from_millis(10), Item::duration)?;
            Ok(Fault::Slow { bytes, every })
        },
    },
    Row {
        name: "no-pong",
        says: "from this frame on no ping is answered",
        read: |_| Ok(Fault::NoPong),
    },
    Row {
        name: "ping-flood",
        says: "before the frame come `count` (100) pings",
        read: |words| {
            Ok(Fault::PingFlood {
                count: words.optional("count", 100, |item| item.whole(1, MANY))?,
            })
        },
    },
    Row {
        name: "close",
        says: "instead of the frame comes a close with `code`, or without one, and `reason` (\"\")",
        read: |words| {
            let code = words.maybe("code", |item| item.whole(0, u64::from(u16::MAX)))?;
            let reason = words.maybe("reason", |item| match item.text()? {
                reason if reason.len() <= REASON_MAX => Ok(reason.to_owned()),
                _ => Err(item.wrong("123 bytes at most")),
            })?;
            if let (None, Some(_)) = (code, &reason) {
                words.needed("code", "a code, as there is a reason")?;
            }
            let code = code.map(|code| code as u16);
            Ok(Fault::Close { code, reason: reason.unwrap_or_default() })
        },
    },
    Row {
        name: "reset",
        says: "TCP is reset, after `part` (0, up to 1) of the message: 0.5 cuts it in half",
        read: |words| Ok(Fault::Reset { part: words.optional("part", 0.0, Item::fraction)? }),
    },
    Row {
        name: "half-open",
        says: "after `part` (0, up to 1) of the message nothing is read, written or answered any more; `for` so long, or for ever",
        read: |words| {
            let part = words.optional("part", 0.0, Item::fraction)?;
            Ok(Fault::HalfOpen { part, length: words.maybe("for", Item::duration)? })
        },
    },
    Row {
        name: "break-tls",
        says: "instead of the frame come bytes that are no TLS, and the end",
        read: |_| Ok(Fault::BreakTls),
    },
    Row {
        name: "refuse",
        says: "a request is answered with `status`, `body` (\"\") and `headers`",
        read: |words| {
            let status =
                words.needed("status", "a whole number from 200 to 599")?.whole(200, 599)?;
            let body = words.maybe("body", |item| item.text().map(str::to_owned))?;
            let headers = words.maybe("headers", Item::headers)?;
            Ok(Fault::Refuse {
                status: status as u16,
                body: body.unwrap_or_default(),
                headers: headers.unwrap_or_default(),
            })
        },
    },
    Row {
        name: "raw-answer",
        says: "a request is answered with `text`, whatever it is, and the end",
        read: |words| {
            let text = words.needed("text", "a text")?.text()?.to_owned();
            Ok(Fault::RawAnswer { text })
        },
    },
    Row {
        name: "refuse-tls",
        says: "a connection is answered with bytes that are no TLS, and the end",
        read: |_| Ok(Fault::RefuseTls),
    },
];

fn payload(item: &Item<'_>) -> Result<&'static Payload> {
    let label = item.text()?;
    let payloads = || PROTOCOLS.iter().flat_map(|protocol| protocol.payloads());
    payloads().find(|payload| payload.label == label).ok_or_else(|| {
        let labels: Vec<_> = payloads().map(|payload| payload.label).collect();
        item.wrong(labels.join(", "))
    })
}
