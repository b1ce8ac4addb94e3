//! What a server tells: news while it runs, a report at the end.

use std::{collections::BTreeMap, fmt, net::SocketAddr, time::Duration};

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    control::Given,
    lateness::{Delays, Lateness},
    verdict::{Check, Demands},
};
use crate::{entry::Timestamp, error::Error, fault::Applied, net::server::Ended};

/// So many clients are reported one by one; all of them are in the sums.
pub const CLIENTS_REPORTED: usize = 1000;

/// So many things that have become of keys are reported.
pub const KEY_CHANGES_REPORTED: usize = 1000;

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
    /// A fault was applied on purpose.
    Spoilt {
        /// Whom it meets.
        peer: SocketAddr,
        /// Which, and to what.
        applied: &'a Applied,
    },
    /// A key has died, or was renewed.
    Key(&'a KeyChange),
    /// A client is done.
    Left(&'a Client),
}

/// What has become of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyChange {
    /// When.
    #[serde(serialize_with = "display")]
    pub at: Timestamp,
    /// What.
    pub fate: Fate,
    /// The accounts whose key it is.
    pub accounts: Vec<String>,
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It has died.
    Expired,
    /// Validation gave another one for it.
    Renewed,
}

/// What a client got.
#[derive(Clone, Debug, Serialize)]
pub struct Client {
    /// Its address.
    pub peer: SocketAddr,
    /// The topic it asked for.
    pub topic: String,
    /// When it had subscribed.
    #[serde(serialize_with = "display")]
    pub connected: Timestamp,
    /// How long it stayed.
    #[serde(serialize_with = "seconds")]
    pub stayed: Duration,
    /// Frames that were written to it.
    pub frames: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// How late they were; None if nothing was due at a time of its own.
    pub lateness: Option<Lateness>,
    /// The same for each of the subscriptions it was given, in the order of their names.
    pub subscriptions: Vec<Sent>,
    /// How often each fault was applied to it, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// How it ended.
    pub ending: Ending,
    /// The closing handshake, if there was one.
    pub close: Option<Close>,
}

/// What a client got of one subscription.
#[derive(Clone, Debug, Serialize)]
pub struct Sent {
    /// The subscription's name.
    pub name: String,
    /// Frames that were written.
    pub frames: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// So many of these frames came first and were the last known state.
    pub state: u64,
    /// How late the others were; None if nothing was due at a time of its own.
    pub lateness: Option<Lateness>,
    /// The first of them; None if there was none.
    pub first: Option<Moments>,
    /// The last one.
    pub last: Option<Moments>,
}

impl Sent {
    pub(super) fn nothing(name: &str) -> Self {
        let name = name.to_owned();
        Self { name, frames: 0, bytes: 0, state: 0, lateness: None, first: None, last: None }
    }
}

/// When a frame was due and when it had left, both counted from when the client had subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Moments {
    /// When it was due; zero for one that was due before there was a client.
    #[serde(serialize_with = "seconds")]
    pub due: Duration,
    /// When all of it was written.
    #[serde(serialize_with = "seconds")]
    pub left: Duration,
}

/// A closing handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Close {
    /// Who began it.
    pub by: End,
    /// The status code that was given, if one was.
    pub code: Option<u16>,
    /// Whether the other end answered.
    pub answered: bool,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The client.
    Client,
    /// The server.
    Server,
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
    /// A fault has ended it on purpose.
    Spoilt(&'static str),
    /// Its key has died.
    KeyExpired,
    /// Somebody has ended it by control.
    Dropped(&'static str),
}

impl Ending {
    /// Whether the client may have missed frames though it did not leave by itself.
    pub const fn is_loss(&self) -> bool {
        matches!(self, Self::Unanswered(_) | Self::Left(Ended::Stalled | Ended::Broken { .. }))
    }

    /// One word for it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Played => "played",
            Self::Unanswered(_) => "unanswered",
            Self::Stopped => "stopped",
            Self::Spoilt(_) => "spoilt",
            Self::KeyExpired => "key_expired",
            Self::Dropped(_) => "dropped",
            Self::Left(Ended::Closed { .. }) => "closed",
            Self::Left(Ended::Gone) => "gone",
            Self::Left(Ended::Stalled) => "stalled",
            Self::Left(Ended::Lost(_)) => "lost",
            Self::Left(Ended::Broken { .. }) => "broken",
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Played => f.write_str("played to its end"),
            Self::Unanswered(_) => f.write_str("played to its end, the close was not answered"),
            Self::Stopped => f.write_str("stopped"),
            Self::Spoilt(fault) => write!(f, "ended by the fault {fault}"),
            Self::KeyExpired => f.write_str("closed, as its key had expired"),
            Self::Dropped(how) => write!(f, "dropped by control, with a {how}"),
            Self::Left(Ended::Closed { code: Some(code) }) => write!(f, "closed with {code}"),
            Self::Left(Ended::Closed { code: None }) => f.write_str("closed without a code"),
            Self::Left(Ended::Gone) => f.write_str("gone without a close"),
            Self::Left(Ended::Stalled) => f.write_str("stalled and was dropped"),
            Self::Left(Ended::Lost(reason)) => write!(f, "lost: {reason}"),
            Self::Left(Ended::Broken { reason, .. }) => write!(f, "broke the protocol: {reason}"),
        }
    }
}

impl Serialize for Ending {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("kind", self.word())?;
        map.serialize_entry("words", &self.to_string())?;
        map.end()
    }
}

/// What a server did.
#[derive(Debug, Default)]
pub struct Report {
    /// When it began to serve.
    pub started: Timestamp,
    /// How long it ran.
    pub lasted: Duration,
    /// The time that it had was over, and so many connections were still there.
    pub timed_out: Option<usize>,
    /// By then no clock had started, as these clients were waited for, in words: "1 of 3 clients, nobody of
    /// audit".
    pub awaited: Option<String>,
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
    /// How late they were; None if nothing was due at a time of its own.
    pub lateness: Option<Lateness>,
    /// What the clients of each topic got together. Topics that nobody asked for are there.
    pub topics: BTreeMap<String, Totals>,
    /// Requests that did not make a client, by the status they were answered with.
    pub answered: BTreeMap<u16, u64>,
    /// The first [`KEY_CHANGES_REPORTED`] things that have become of keys, in order.
    pub keys: Vec<KeyChange>,
    /// A client was given all that is selected of the capture, and that was no frame for anybody.
    pub empty: bool,
    /// What was wrong with the capture, each fault once.
    pub faults: Vec<Error>,
    /// What has come of each rule for what goes wrong, in their order.
    pub rules: Vec<Strikes>,
    /// What was demanded of the run.
    pub demands: Demands,
    /// The first [`COMMANDS_REPORTED`](super::control::COMMANDS_REPORTED) commands, in their order.
    pub control: Vec<Given>,
    /// How many commands there were.
    pub commands: u64,
    pub(super) delays: Delays,
}

/// What has come of a rule for what goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Strikes {
    /// Its number, as in the fault log.
    pub rule: usize,
    /// The fault's name.
    pub fault: &'static str,
    /// So often it was applied.
    pub applied: u64,
    /// So often it could not be carried out.
    pub left_out: u64,
}

impl Strikes {
    pub(super) const fn none((rule, fault): (usize, &'static str)) -> Self {
        Self { rule, fault, applied: 0, left_out: 0 }
    }
}

/// What several clients got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// How many clients there were.
    pub clients: u64,
    /// Frames that were written to them.
    pub frames: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

/// What became of a connection.
pub(super) enum Parted {
    /// There was no whole request.
    Nobody,
    /// It was answered with that status.
    Answered(u16),
    /// It was a client.
    Client(Box<Client>, Delays),
}

impl Report {
    pub(super) fn of<'s>(topics: impl Iterator<Item = &'s str>, demands: Demands) -> Self {
        let topics = topics.map(|topic| (topic.to_owned(), Totals::default())).collect();
        Self { started: Timestamp::now(), topics, demands, ..Self::default() }
    }

    pub(super) fn keep(&mut self, change: KeyChange) {
        if self.keys.len() < KEY_CHANGES_REPORTED {
            self.keys.push(change);
        }
    }

    pub(super) fn add(&mut self, parted: Parted) {
        let (client, delays) = match parted {
            Parted::Nobody => return,
            Parted::Answered(status) => {
                *self.answered.entry(status).or_default() += 1;
                return;
            }
            Parted::Client(client, delays) => (client, delays),
        };
        self.served += 1;
        self.lossy += u64::from(client.ending.is_loss());
        self.frames += client.frames;
        self.bytes += client.bytes;
        self.delays.add_all(&delays);
        self.lateness = self.delays.lateness();
        let totals = self.topics.entry(client.topic.clone()).or_default();
        totals.clients += 1;
        totals.frames += client.frames;
        totals.bytes += client.bytes;
        if self.clients.len() < CLIENTS_REPORTED {
            self.clients.push(*client);
        }
    }

    /// One JSON document over several lines; `docs/replay-report.md` says what is in it.
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct Document<'r> {
            #[serde(serialize_with = "display")]
            started: Timestamp,
            #[serde(serialize_with = "seconds")]
            lasted: Duration,
            outcome: &'static str,
            checks: Vec<Check>,
            totals: Totals,
            lateness: Option<Lateness>,
            topics: &'r BTreeMap<String, Totals>,
            answered: &'r BTreeMap<u16, u64>,
            keys: &'r [KeyChange],
            rules: &'r [Strikes],
            commands: u64,
            control: &'r [Given],
            clients: &'r [Client],
        }
        let checks = self.checks();
        let document = Document {
            started: self.started,
            lasted: self.lasted,
            outcome: self.outcome().word(),
            checks,
            totals: Totals { clients: self.served, frames: self.frames, bytes: self.bytes },
            lateness: self.lateness,
            topics: &self.topics,
            answered: &self.answered,
            keys: &self.keys,
            rules: &self.rules,
            commands: self.commands,
            control: &self.control,
            clients: &self.clients,
        };
        let json = serde_json::to_string_pretty(&document);
        json.expect("a report has only what JSON has") + "\n"
    }
}

pub(super) fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

pub(super) fn display<S: Serializer>(
    value: &impl fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
