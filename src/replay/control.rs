//! Control of a running server: what can be commanded, and what there is to know.
//!
//! A [`Control`] is a handle that may be cloned and kept; commands take effect at the instant at which they
//! are given. With a clock for each client they mean all that are connected and all that come: whoever
//! connects to a paused server is held at its first frame, and begins where the last seek went. With one
//! clock for all they mean that clock. A client may also be named, and then it is its own clock only.
//!
//! Frames keep their order, and none is sent twice unless by going back. Nothing here knows HTTP.

use std::{collections::BTreeMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

use serde::Serialize;

pub use self::http::Remote;
pub(super) use self::{
    house::{House, Open},
    orders::{Leap, Order, Origin},
    ties::{Clock, Ties},
};
use super::{
    Timeline,
    report::{display, seconds},
};
use crate::{
    entry::Timestamp,
    error::{Error, Result, counted},
    fault::{Cut, End, Faults, Form, Message},
    pace::Speed,
    select::Moment,
};

mod board;
mod house;
mod http;
mod orders;
mod ties;

/// So many commands are reported one by one.
pub const COMMANDS_REPORTED: usize = 1000;

/// Controls a server. Dropping it changes nothing.
#[derive(Clone)]
pub struct Control(pub(super) Arc<House>);

impl Control {
    /// What there is to know at the moment.
    pub fn state(&self) -> State {
        self.0.state()
    }

    /// Carries out a command, for the client of that number or for all. It has taken effect when this
    /// returns; what is on its way to a client still arrives. Fails when the replay has ended.
    pub fn give(&self, command: Command, client: Option<u64>) -> Result<()> {
        self.0.give(command, client)
    }

    /// Nothing is due until the replay is resumed.
    pub fn pause(&self) -> Result<()> {
        self.give(Command::Pause, None)
    }

    /// Goes on after a pause, from where it was.
    pub fn resume(&self) -> Result<()> {
        self.give(Command::Resume, None)
    }

    /// Lets so many more frames go to each client that is in a pause.
    pub fn step(&self, frames: u64) -> Result<()> {
        self.give(Command::Step(frames), None)
    }

    /// Goes on in another place, back or forth, as [`Command::Seek`] says.
    pub fn seek(&self, to: Moment) -> Result<()> {
        self.give(Command::Seek(to), None)
    }

    /// Goes on with another speed, from where it is.
    pub fn set_speed(&self, speed: Speed) -> Result<()> {
        self.give(Command::Speed(speed), None)
    }

    /// Adds rules for what goes wrong.
    pub fn inject(&self, faults: Faults) -> Result<()> {
        self.give(Command::Inject(faults), None)
    }

    /// Ends the connections of all clients.
    pub fn drop_clients(&self, farewell: Farewell) -> Result<()> {
        self.give(Command::Drop(farewell), None)
    }

    /// Lets the key of an account die.
    pub fn expire(&self, account: &str) -> Result<()> {
        self.give(Command::Expire(account.to_owned()), None)
    }

    /// Goes back to the beginning, as [`Command::Reset`] says.
    pub fn reset(&self) -> Result<()> {
        self.give(Command::Reset, None)
    }

    /// Waits until something has come about; no longer than `patience`, and not beyond the end of the
    /// server. Needs a tokio runtime. Dropping the future loses nothing.
    pub async fn wait(&self, until: Until, patience: Duration) -> Result<State> {
        self.0.wait(&until, patience).await
    }
}

/// What can be commanded.
#[derive(Clone, Debug)]
pub enum Command {
    /// Nothing is due until the replay is resumed. Faults that are under way are.
    Pause,
    /// Goes on after a pause, from where it was.
    Resume,
    /// Lets so many more frames go to each client that is in a pause. The next ones keep their distance
    /// from them. Only with a clock for each client.
    Step(u64),
    /// Goes on in another place of the recording, back or forth: with the first frame, in the capture's
    /// order, that was not received before that moment, as long after it as it was received. A moment from
    /// the start counts from the first frame that is played; one between the capture's start and that frame
    /// is that frame's. Wherever it is, it is a place in the first round.
    Seek(Moment),
    /// Goes on with another speed, from where it is.
    Speed(Speed),
    /// These rules for what goes wrong, after those that there are. What they count begins now.
    Inject(Faults),
    /// Ends connections.
    Drop(Farewell),
    /// Lets the key of the account of this name die, and with it those of all accounts that share it.
    Expire(String),
    /// Back to the first frame, without a pause, with the speed and the faults of the beginning, and all
    /// counts at zero. Clients that are connected stay, and get everything again. Keys stay as they are.
    Reset,
}

impl Command {
    /// One word for it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Step(_) => "step",
            Self::Seek(_) => "seek",
            Self::Speed(_) => "speed",
            Self::Inject(_) => "inject",
            Self::Drop(_) => "drop",
            Self::Expire(_) => "expire",
            Self::Reset => "reset",
        }
    }

    /// What is said with it.
    fn with(&self) -> Option<String> {
        match self {
            Self::Pause | Self::Resume | Self::Reset => None,
            Self::Step(frames) => Some(frames.to_string()),
            Self::Seek(to) => Some(to.to_string()),
            Self::Speed(speed) => Some(speed.to_string()),
            Self::Inject(faults) => Some(faults.to_string()),
            Self::Drop(farewell) => Some(farewell.to_string()),
            Self::Expire(account) => Some(account.clone()),
        }
    }
}

/// How a connection is ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// By a close of WebSocket's.
    Close {
        /// The code, whether RFC 6455 allows it or not; None for a close without one.
        code: Option<u16>,
        /// The reason; 123 bytes at most, and none without a code.
        reason: String,
    },
    /// By a reset of TCP's.
    Reset,
}

impl Farewell {
    /// Refuses what no close can carry.
    fn check(&self) -> Result<()> {
        match self {
            Self::Close { reason, .. } if reason.len() > crate::fault::REASON_MAX => {
                let hint = "a close has no room for more beside the code, RFC 6455, section 5.5";
                Err(Error::usage("a reason of 123 bytes at most", reason.len().to_string(), hint))
            }
            Self::Close { .. } | Self::Reset => Ok(()),
        }
    }

    pub(super) fn end(&self) -> End {
        match self {
            Self::Close { code, reason } => End::Close { code: *code, reason: reason.clone() },
            Self::Reset => {
                let message = Message { data: bytes::Bytes::new(), form: Form::WHOLE };
                End::Reset { cut: Cut { message, part: 0.0 } }
            }
        }
    }
}

impl fmt::Display for Farewell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Close { code: Some(code), .. } => write!(f, "close {code}"),
            Self::Close { code: None, .. } => f.write_str("close"),
            Self::Reset => f.write_str("reset"),
        }
    }
}

/// A command that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Given {
    /// When, after the server had begun.
    #[serde(serialize_with = "seconds")]
    pub after: Duration,
    /// What, in one word.
    pub command: &'static str,
    /// What was said with it: a number of frames, a moment, a speed, faults, how to end, an account.
    pub with: Option<String>,
    /// For which client; None for all.
    pub client: Option<u64>,
}

/// What there is to know of a server.
#[derive(Clone, Debug, Serialize)]
pub struct State {
    /// Whose clock counts.
    pub timeline: Timeline,
    /// Whether the clock of all stands still; with a clock for each, that of the next one to come.
    pub paused: bool,
    /// The speed of the same.
    #[serde(serialize_with = "display")]
    pub speed: Speed,
    /// How much of the recording the clock of all has played, over all rounds; it knows neither delays
    /// between rounds nor an end, and runs on there. None before it starts, and with a clock for each.
    #[serde(serialize_with = "maybe_seconds")]
    pub played: Option<Duration>,
    /// When the first frame was received, from which moments are counted; None if there is none.
    pub start: Option<Timestamp>,
    /// Clients that have come since the beginning or the last reset, those included that were there then.
    pub came: u64,
    /// Those that are connected, in the order in which they came, without those that are being dropped.
    pub clients: Vec<Visitor>,
    /// Frames that were written to all clients since the beginning or the last reset, by topic and
    /// subscription. All that there are are there.
    pub delivered: BTreeMap<String, BTreeMap<String, u64>>,
    /// How many commands were carried out.
    pub commands: u64,
    /// Whether the server has ended.
    pub ended: bool,
}

/// A client that is connected.
#[derive(Clone, Debug, Serialize)]
pub struct Visitor {
    /// Its number: it was the first (1), the second, ... to come.
    pub client: u64,
    /// Its address.
    pub peer: SocketAddr,
    /// The topic it asked for.
    pub topic: String,
    /// When it had subscribed.
    pub connected: Timestamp,
    /// Whether its clock stands still.
    pub paused: bool,
    /// The speed of its clock.
    #[serde(serialize_with = "display")]
    pub speed: Speed,
    /// How much of the recording was played for it, over all rounds.
    #[serde(serialize_with = "seconds")]
    pub played: Duration,
    /// Frames that were written to it since it came or the last reset.
    pub frames: u64,
    /// The same for each of the subscriptions that it was given.
    pub subscriptions: BTreeMap<String, u64>,
    /// Whether it has got its last frame.
    pub done: bool,
}

/// What can be waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// So many clients are connected, and could get their first frame at once.
    Clients(usize),
    /// So many frames were written since the beginning or the last reset.
    Frames {
        /// How many, in all.
        count: u64,
        /// Only those of this topic.
        topic: Option<String>,
        /// Only those of the subscription of this name.
        subscription: Option<String>,
        /// Only those of the connected client of this number.
        client: Option<u64>,
    },
    /// At least one client has come, and each has got its last frame or has left.
    End,
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Frames { count, topic, subscription, client } = self else {
            return match self {
                Self::Clients(clients) => f.write_str(&counted(*clients as u64, "client")),
                _ => f.write_str("the end"),
            };
        };
        f.write_str(&counted(*count, "frame"))?;
        if let Some(topic) = topic {
            write!(f, " of {topic}")?;
        }
        if let Some(subscription) = subscription {
            write!(f, " of subscription {subscription:?}")?;
        }
        client.map_or(Ok(()), |client| write!(f, " for client {client}"))
    }
}

impl TryFrom<(Option<u16>, Option<String>)> for Farewell {
    type Error = Error;

    /// A close with this code and reason.
    fn try_from((code, reason): (Option<u16>, Option<String>)) -> Result<Self> {
        if code.is_none() && reason.is_some() {
            let hint = "a close has a reason only behind a code, RFC 6455, section 5.5.1";
            return Err(Error::usage("a code, as there is a reason", "none", hint));
        }
        let farewell = Self::Close { code, reason: reason.unwrap_or_default() };
        farewell.check()?;
        Ok(farewell)
    }
}

#[allow(clippy::ref_option, reason = "that is how serde hands it over")]
fn maybe_seconds<S: serde::Serializer>(
    time: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(serializer)
}
