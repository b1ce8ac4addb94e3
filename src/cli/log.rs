//! `--log-format json`: each line on stderr is one object, for programs.
//!
//! What all of them have comes first: `time`, `level`, `subscription` if it is about one, and `event`.
//! Words that are nothing but words are events named `message`.

use std::{ffi::OsString, fmt};

use centralcap::{
    entry::{Subscription, Timestamp},
    plain,
};
use clap::ValueEnum;
use serde_json::{Map, Value};

/// What the words on stderr look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Format {
    /// What these arguments ask for, where they are not to be understood otherwise.
    pub(super) fn asked_for(args: impl Iterator<Item = OsString>) -> Self {
        let args: Vec<_> = args.take_while(|arg| arg != "--").collect();
        let is_json = args.iter().any(|arg| arg == "--log-format=json")
            || args.windows(2).any(|pair| pair[0] == "--log-format" && pair[1] == "json");
        if is_json { Self::Json } else { Self::Text }
    }
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// For those who asked for more.
    Debug,
    Info,
    Warn,
    Error,
}

/// One object.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) level: Level,
    event: &'static str,
    subscription: Option<String>,
    fields: Map<String, Value>,
}

impl Line {
    pub(super) fn new(level: Level, event: &'static str) -> Self {
        Self { level, event, subscription: None, fields: Map::new() }
    }

    /// Words without more to them.
    pub(super) fn message(level: Level, text: impl fmt::Display) -> Self {
        Self::new(level, "message").with("message", text.to_string())
    }

    /// It is about this one.
    pub(super) fn of(self, subscription: &Subscription) -> Self {
        self.about(&subscription.name)
    }

    /// It is about the subscription of that name.
    pub(super) fn about(self, name: &str) -> Self {
        Self { subscription: Some(name.to_owned()), ..self }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// The same where there may be none.
    pub(super) fn with_maybe(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    fn at(&self, time: Timestamp) -> Value {
        let level = match self.level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        let mut object = Map::new();
        object.insert("time".to_owned(), time.to_string().into());
        object.insert("level".to_owned(), level.into());
        object
            .extend(self.subscription.clone().map(|name| ("subscription".to_owned(), name.into())));
        object.insert("event".to_owned(), self.event.into());
        object.extend(self.fields.clone());
        Value::Object(object)
    }
}

/// On one line, as of now. Whoever reads that on a terminal need not trust who is quoted in it.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = self.at(Timestamp::now()).to_string();
        f.write_str(&plain::unobeyed(&json, plain::json_escape))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_known_before_all_arguments_are() {
        for (args, expected) in [
            (&["decode", "--log-format", "json", "--nonsense"][..], Format::Json),
            (&["--log-format=json", "decode"], Format::Json),
            (&["decode", "--log-format", "text", "json"], Format::Text),
            (&["decode", "--log-format"], Format::Text),
            (&["decode", "--", "--log-format=json"], Format::Text),
        ] {
            assert_eq!(Format::asked_for(args.iter().map(OsString::from)), expected, "{args:?}");
        }
    }

    #[test]
    fn a_line_is_one_object_whatever_is_said() {
        let line = Line::new(Level::Warn, "closed").about("a\n\"b\"").with("code", 1001);
        let line = line.with_maybe("reason", Some("x\ny")).with_maybe("else", None::<u64>);
        let text = line.at(Timestamp::from_nanos(1_795_000_000_000_000_000)).to_string();
        assert_eq!(
            text,
            "{\"time\":\"2026-11-18T11:06:40.000000000Z\",\"level\":\"warn\",\
             \"subscription\":\"a\\n\\\"b\\\"\",\"event\":\"closed\",\"code\":1001,\"reason\":\"x\\ny\"}"
        );
    }
}
