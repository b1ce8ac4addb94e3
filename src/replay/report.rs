//! What a server tells: news while it runs, a report at the end.

use std::{fmt, net::SocketAddr, time::Duration};

use crate::{error::Error, net::server::Ended};

/// So many clients are reported one by one; all of them are in the sums.
pub const CLIENTS_REPORTED: usize = 1000;

/// What happens while a server runs, for those who want to tell somebody.
#[derive(Debug)]
pub enum News<'a> {
    /// A client has subscribed.
    Connected {
        /// Its address.
        peer: SocketAddr,
        /// What it asked for.
        topic: &'a str,
    },
    /// A request was answered without a subscription: refused, or a key that was validated.
    Answered {
        /// Who asked.
        peer: SocketAddr,
        /// The HTTP status.
        status: u16,
    },
    /// A client is done.
    Left(&'a Client),
}

/// What a client got.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its address.
    pub peer: SocketAddr,
    /// The topic it asked for.
    pub topic: String,
    /// The names of the subscriptions it was given.
    pub subscriptions: Vec<String>,
    /// Frames that were written to it.
    pub frames: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// How much later than it was due the latest frame was written; None if nothing was due at a
    /// time of its own.
    pub worst_lateness: Option<Duration>,
    /// How it ended.
    pub ending: Ending,
}

/// How a client ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// After the last frame, with a closing handshake: everything has arrived.
    Played,
    /// After the last frame, but the client did not answer the close.
    Unanswered(Ended),
    /// The server was stopped.
    Stopped,
    /// The client left, or its connection broke.
    Left(Ended),
}

impl Ending {
    /// Whether the client may have missed frames though it did not leave by itself.
    pub const fn is_loss(&self) -> bool {
        matches!(self, Self::Unanswered(_) | Self::Left(Ended::Stalled))
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Played => f.write_str("played to its end"),
            Self::Unanswered(_) => f.write_str("played to its end, the close was not answered"),
            Self::Stopped => f.write_str("stopped"),
            Self::Left(Ended::Closed { code: Some(code) }) => write!(f, "closed with {code}"),
            Self::Left(Ended::Closed { code: None }) => f.write_str("closed without a code"),
            Self::Left(Ended::Gone) => f.write_str("gone without a close"),
            Self::Left(Ended::Stalled) => f.write_str("stalled and was dropped"),
            Self::Left(Ended::Lost(reason)) => write!(f, "lost: {reason}"),
            Self::Left(Ended::Broken(reason)) => write!(f, "broke the protocol: {reason}"),
        }
    }
}

/// What a server did.
#[derive(Debug, Default)]
pub struct Report {
    /// The first [`CLIENTS_REPORTED`] clients, in the order in which they ended.
    pub clients: Vec<Client>,
    /// How many clients there were.
    pub served: u64,
    /// How many of them may have missed frames though they did not leave by themselves.
    pub lossy: u64,
    /// Frames that were written to all of them.
    pub frames: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The worst lateness of all.
    pub worst_lateness: Option<Duration>,
    /// What was wrong with the capture, each fault once.
    pub faults: Vec<Error>,
}

impl Report {
    pub(super) fn add(&mut self, client: Option<Client>) {
        let Some(client) = client else { return };
        self.served += 1;
        self.lossy += u64::from(client.ending.is_loss());
        self.frames += client.frames;
        self.bytes += client.bytes;
        self.worst_lateness = self.worst_lateness.max(client.worst_lateness);
        if self.clients.len() < CLIENTS_REPORTED {
            self.clients.push(client);
        }
    }
}
