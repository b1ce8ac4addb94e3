//! What is written down of the faults that were applied, and what a run is repeated from.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::error::{BadRule, Kind, Language, Result};

/// A fault that was applied: a line of the log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Applied {
    /// To what.
    #[serde(flatten)]
    pub place: Place,
    /// The rule's number in its file, from 1.
    pub rule: usize,
    /// The fault's name.
    pub fault: &'static str,
    /// What was drawn for it.
    #[serde(flatten)]
    pub detail: Map<String, Json>,
}

impl Applied {
    /// It could not be carried out: the frame stays as it is.
    pub fn is_left_out(&self) -> bool {
        self.detail.contains_key(LEFT_OUT)
    }
}

/// The detail that says why a fault could not be carried out.
pub(super) const LEFT_OUT: &str = "left_out";

/// What a fault was applied to. All numbers count from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Place {
    /// A frame of a client's feed.
    Frame {
        /// The client's topic.
        topic: String,
        /// Which of the connections with its topic and subscriptions.
        connection: u64,
        /// Which of the frames of that connection.
        frame: u64,
        /// Whose frame it is.
        subscription: String,
        /// The frame's own number in the capture.
        sequence: u32,
    },
    /// A moment of a client's feed.
    Moment {
        /// The client's topic.
        topic: String,
        /// Which of the connections with its topic and subscriptions.
        connection: u64,
        /// When so much of the recording was played, in nanoseconds.
        ns: u64,
    },
    /// A request.
    Request {
        /// What was asked for.
        request: Request,
        /// The topic; empty if none was named that there is.
        topic: String,
        /// Which of the requests like that.
        number: u64,
    },
    /// A connection of which nothing is known yet.
    Connection {
        /// Which of all.
        number: u64,
    },
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// The feed.
    #[default]
    Feed,
    /// The validation of a key.
    Validate,
}

/// As a line of JSON.
impl std::fmt::Display for Applied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| std::fmt::Error)?)
    }
}

/// The first line of a log.
#[derive(Serialize, Deserialize)]
#[serde(tag = "event", rename = "faults")]
struct Head<'h> {
    seed: u64,
    rules: Rules<'h>,
}

/// The texts of the rules. Each is a file by itself: as one text they may be none.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Rules<'h> {
    One(Cow<'h, str>),
    Several(Cow<'h, [String]>),
}

pub(super) fn head_of(texts: &[String], seed: u64) -> String {
    let rules = match texts {
        [] => Rules::One("".into()),
        [text] => Rules::One(text.into()),
        texts => Rules::Several(texts.into()),
    };
    let head = Head { seed, rules };
    serde_json::to_string(&head).expect("text and a number are JSON")
}

/// The rules and the seed of the run whose log this is, if it is one.
pub(super) fn head(text: &str, origin: &str) -> Result<Option<(Vec<String>, u64)>> {
    // No TOML begins like that.
    if !text.starts_with('{') {
        return Ok(None);
    }
    let line = text.lines().next().unwrap_or_default();
    match serde_json::from_str::<Head<'_>>(line) {
        Ok(Head { seed, rules: Rules::One(text) }) if text.is_empty() => {
            Ok(Some((Vec::new(), seed)))
        }
        Ok(Head { seed, rules: Rules::One(text) }) => Ok(Some((vec![text.into_owned()], seed))),
        Ok(Head { seed, rules: Rules::Several(texts) }) => Ok(Some((texts.into_owned(), seed))),
        Err(error) => Err(Kind::FaultFile(BadRule {
            origin: origin.to_owned(),
            line: Some(1),
            field: "the head of a fault log".to_owned(),
            expected: r#"{"event":"faults","seed":...,"rules":"..."}"#.to_owned(),
            found: error.to_string(),
            language: Language::Toml,
        })
        .into()),
    }
}
