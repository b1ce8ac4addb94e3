//! Only frames that a jq expression holds for. See <https://jqlang.org/manual/>.
//!
//! The expression is given the frame as a line of NDJSON has it. The frame passes if anything comes out
//! that is neither `false` nor `null`. An expression that fails on a frame is told, and counts as a
//! loss: nobody knows whether that frame was wanted.

use std::{fmt, str::FromStr, sync::Arc};

use jaq_core::{
    Compiler, Ctx, Filter, Vars, data,
    load::{Arena, File, Loader},
    unwrap_valr,
};
use jaq_json::{Val, read};

use super::{Sink, ndjson::Ndjson};
use crate::{
    codec::{json::Text, notes::Drift},
    entry::Entry,
    error::{Error, Result, Unjudged},
};

/// A jq expression, compiled.
#[derive(Clone)]
pub struct Condition {
    text: Arc<str>,
    filter: Arc<Filter<data::JustLut<Val>>>,
}

/// As it is read.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condition(..)")
    }
}

impl FromStr for Condition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(
                "a jq expression",
                format!("{text:?}"),
                "for example '.data.aps[]?.status == \"DOWN\"'",
            )
        };
        let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let arena = Arena::default();
        let modules = Loader::new(definitions).load(&arena, File { code: text, path: () });
        let compiler = Compiler::default().with_funs(functions);
        let filter = compiler.compile(modules.map_err(|_| wrong())?).map_err(|_| wrong())?;
        Ok(Self { text: text.into(), filter: Arc::new(filter) })
    }
}

impl Condition {
    /// Whether it holds for this JSON; if that cannot be said, why.
    pub(crate) fn holds(&self, json: &[u8]) -> Result<bool, String> {
        let value = read::parse_single(json).map_err(|error| error.to_string())?;
        let context = Ctx::<data::JustLut<Val>>::new(&self.filter.lut, Vars::new([]));
        for answer in self.filter.id.run((context, value)).map(unwrap_valr) {
            match answer.map_err(|error| error.to_string())? {
                Val::Null | Val::Bool(false) => {}
                _ => return Ok(true),
            }
        }
        Ok(false)
    }
}

/// Asks a condition about frames.
#[derive(Debug)]
pub struct Judge {
    condition: Condition,
    lines: Ndjson,
    line: Text,
}

impl Judge {
    /// `lines` shows the frames to the condition.
    pub fn new(condition: Condition, lines: Ndjson) -> Self {
        Self { condition, lines, line: Text::default() }
    }

    /// Whether the entry is a frame for which the condition holds.
    pub fn wants(&mut self, entry: &Entry) -> Result<bool> {
        let Some(frame) = entry.frame() else { return Ok(false) };
        self.line.clear();
        self.lines.entry(entry, &mut self.line)?;
        self.condition.holds(self.line.as_bytes()).map_err(|reason| {
            Unjudged {
                subscription: entry.subscription.name.clone(),
                sequence: frame.sequence,
                received: entry.received,
                reason,
            }
            .into()
        })
    }
}

/// A sink that only gets frames for which a condition holds.
#[derive(Debug)]
pub struct Filtered<S> {
    judge: Judge,
    sink: S,
}

impl<S> Filtered<S> {
    /// What passes goes to `sink`. `lines` shows the frames to the condition.
    pub fn new(condition: Condition, lines: Ndjson, sink: S) -> Self {
        Self { judge: Judge::new(condition, lines), sink }
    }
}

impl<S: Sink> Sink for Filtered<S> {
    type Piece = S::Piece;

    fn entry(&mut self, entry: &Entry, out: &mut S::Piece) -> Result<bool> {
        if self.judge.wants(entry)? { self.sink.entry(entry, out) } else { Ok(false) }
    }

    fn take_drift(&mut self) -> Drift {
        self.sink.take_drift()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_but_false_and_null_lets_a_frame_pass() {
        let holds =
            |text: &str| text.parse::<Condition>().unwrap().holds(br#"{"a":[1,2],"s":"up"}"#);
        assert_eq!(holds(".a[] == 2"), Ok(true));
        assert_eq!(holds(".a[] == 3"), Ok(false));
        assert_eq!(holds(".b"), Ok(false));
        assert_eq!(holds("empty"), Ok(false));
        assert_eq!(holds("select(.s | test(\"^u\"))"), Ok(true));
        assert_eq!(holds(".a | length > 1 and (.[0] | tostring) == \"1\""), Ok(true));
        assert!(holds(".s + 1").is_err());
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for text in [".a ==", "nonsense(", "unknown_function(.a)"] {
            let error = text.parse::<Condition>().unwrap_err();
            assert!(error.is_usage() && error.hint().is_some(), "{text}");
        }
    }
}
