//! Only frames that a jq expression holds for. See <https://jqlang.org/manual/>.
//!
//! The expression is given the frame as a line of NDJSON has it. The frame passes if anything comes out
//! that is neither `false` nor `null`. An expression that fails on a frame is told, and counts as a
//! loss: nobody knows whether that frame was wanted.

use std::{fmt, panic::resume_unwind, str::FromStr, sync::Arc, thread};

use jaq_core::{
    Compiler, Ctx, Filter, Vars,
    compile::Undefined,
    data,
    load::{
        self, Arena, File, Loader,
        parse::{BinaryOp, Term},
    },
};
use jaq_json::{Val, read};

use super::{Sink, ndjson::Ndjson};
use crate::{
    codec::{json::Text, notes::Drift},
    entry::Entry,
    error::{Error, Kind, Result, Unjudged, counted},
};

/// So many words and signs an expression may have, besides its strings. Each of them may be a level deeper, for
/// which those who compile it and run it go a level deeper on the stack: with some thousands, that would be our
/// end.
const LONGEST: usize = 1000;

/// The stack for the compiler, which needs more for each level than whoever runs it.
const STACK_SIZE: usize = 64 * 1024 * 1024;

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
        let length = words_and_signs(text);
        if length > LONGEST {
            let expected = format!("a jq expression of {LONGEST} words and signs at most");
            let hint = "say it in fewer: strings are not counted";
            return Err(Error::usage(expected, length.to_string(), hint));
        }
        thread::scope(|scope| {
            let thread = thread::Builder::new().stack_size(STACK_SIZE);
            let compiling = thread.spawn_scoped(scope, || compiled(text)).map_err(|error| {
                Error::from(Kind::Internal {
                    reason: format!("no thread to compile with: {error}"),
                })
            })?;
            compiling.join().unwrap_or_else(|it| resume_unwind(it))
        })
    }
}

fn compiled(text: &str) -> Result<Condition> {
    let wrong = |fault: Option<Fault<'_>>| {
        let fault = fault.and_then(|fault| fault.in_words(text)).unwrap_or_default();
        Error::usage(
            "a jq expression",
            format!("{text:?}{fault}"),
            "for example '.data.aps[]?.status == \"DOWN\"'",
        )
    };
    let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let arena = Arena::default();
    let modules = Loader::new(definitions).load(&arena, File { code: text, path: () });
    let modules = modules
        .map_err(|files| wrong(files.first().and_then(|(_, error)| Fault::of_loading(error))))?;
    let compiler = Compiler::default().with_funs(functions);
    let filter = compiler.compile(modules).map_err(|files| {
        wrong(files.first().and_then(|(_, errors)| Fault::of_compiling(errors)))
    })?;
    if load::parse(text, |parser| parser.term()).is_some_and(|term| ends_in_assignment(&term)) {
        return Err(Error::usage(
            "a jq expression that asks something",
            format!("{text:?}, which assigns something, and so holds for every frame"),
            "== compares: '.topic == \"audit\"'",
        ));
    }
    Ok(Condition { text: text.into(), filter: Arc::new(filter) })
}

/// Whether what comes out is a changed frame, which is neither `false` nor `null`. Nobody asks for that: `=` was
/// written for `==`. It binds looser than `and` and `or`, so these are within it. An assignment on the way, as in a
/// `reduce`, is as good as anything else.
fn ends_in_assignment(term: &Term<&str>) -> bool {
    match term {
        Term::BinOp(_, BinaryOp::Pipe(_), last) | Term::Def(_, last) => ends_in_assignment(last),
        Term::BinOp(_, operator, _) => matches!(
            operator,
            BinaryOp::Assign | BinaryOp::Update | BinaryOp::UpdateMath(_) | BinaryOp::UpdateAlt
        ),
        Term::Call("select", conditions) => conditions.iter().any(ends_in_assignment),
        _ => false,
    }
}

/// How many words and signs an expression has, besides its strings.
fn words_and_signs(text: &str) -> usize {
    // What is in a string may be an expression, and what is in a comment may look like a string.
    let has_plain_strings = !text.contains("\\(") && !text.contains('#');
    let (mut count, mut in_word, mut in_string) = (0, false, false);
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if in_string {
            match char {
                '\\' => drop(chars.next()),
                '"' => in_string = false,
                _ => {}
            }
            continue;
        }
        in_string = char == '"' && has_plain_strings;
        let is_word = char.is_alphanumeric() || char == '_';
        count += usize::from(!(in_string || char.is_whitespace() || is_word && in_word));
        in_word = is_word;
    }
    count
}

/// What is wrong with an expression.
struct Fault<'t> {
    expected: String,
    /// A part of the expression that begins where it is wrong.
    found: &'t str,
}

impl<'t> Fault<'t> {
    fn of_loading(error: &load::Error<&'t str>) -> Option<Self> {
        let (expected, found) = match error {
            load::Error::Lex(all) => {
                let (expected, rest) = all.first()?;
                let end = rest.chars().next().map_or(0, char::len_utf8);
                (expected.as_str().to_owned(), &rest[..end])
            }
            load::Error::Parse(all) => match all.first()? {
                (load::parse::Expect::Just(word), found) => (format!("{word:?}"), *found),
                (expected, found) => (expected.as_str().to_owned(), *found),
            },
            load::Error::Io(all) => ("no other file".to_owned(), all.first()?.0),
        };
        Some(Self { expected, found })
    }

    fn of_compiling(all: &[(&'t str, Undefined)]) -> Option<Self> {
        let (found, what) = all.first()?;
        let with = match what {
            Undefined::Filter(0) => " without arguments".to_owned(),
            Undefined::Filter(count) => format!(" with {}", counted(*count as u64, "argument")),
            _ => String::new(),
        };
        Some(Self { expected: format!("a known {}{with}", what.as_str()), found })
    }

    /// Behind the expression: where it is, and what. Nothing if it is not in the expression.
    fn in_words(&self, text: &str) -> Option<String> {
        /// Of a long part, its beginning says enough.
        const SHOWN: usize = 20;

        let at = (self.found.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
        let before = text.get(..at)?;
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let place = if line == 1 { String::new() } else { format!("line {line}, ") };
        let found = match self.found.char_indices().nth(SHOWN) {
            _ if self.found.is_empty() => "the end".to_owned(),
            None => format!("{:?}", self.found),
            Some((end, _)) => format!("{:?}...", &self.found[..end]),
        };
        Some(format!(" ({place}column {column}: expected {}, found {found})", self.expected))
    }
}

impl Condition {
    /// Whether it holds for this JSON; if that cannot be said, why.
    pub(crate) fn holds(&self, json: &[u8]) -> Result<bool, String> {
        let value = read::parse_single(json).map_err(|error| error.to_string())?;
        let context = Ctx::<data::JustLut<Val>>::new(&self.filter.lut, Vars::new([]));
        for answer in self.filter.id.run((context, value)) {
            let answer = answer.map_err(|exception| match exception.get_err() {
                Ok(error) => shortened(error.to_string()),
                // It would end us, too.
                Err(_) => "it halts, which no expression about a frame may".to_owned(),
            });
            match answer? {
                Val::Null | Val::Bool(false) => {}
                _ => return Ok(true),
            }
        }
        Ok(false)
    }
}

/// A reason has the value in it, which may be all of a frame, and what was to be done with it at either end.
fn shortened(reason: String) -> String {
    /// Characters at each end.
    const SHOWN: usize = 100;

    let end = reason.char_indices().nth(SHOWN);
    let rest = reason.char_indices().nth_back(SHOWN - 1);
    match (end, rest) {
        (Some((end, _)), Some((rest, _))) if end < rest => {
            format!("{} ... {}", &reason[..end], &reason[rest..])
        }
        _ => reason,
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
    fn what_is_nested_too_deep_is_refused_and_ends_nobody() {
        let refused = |text: String| {
            let error = text.parse::<Condition>().unwrap_err();
            assert!(error.is_usage() && error.to_string().contains("at most"), "{error}");
        };
        for part in ["(", "[", "-", "{a:", ".a", "try ", "if . then ", "\"\\(", ".|", "# \"\n("] {
            refused(part.repeat(10_000));
        }
        refused(format!("\"\\(1)\"|{}", "(".repeat(10_000)));
        refused(format!("\"\\\\\"|{}", "(".repeat(10_000)));
        // A long list is not deep.
        let list = vec!["\"aa:bb:cc:dd:ee:ff\""; 900].join(",");
        assert_eq!(words_and_signs(&list), 899);
        assert!(format!("[.[] == ({list})] | any").parse::<Condition>().is_ok());
    }

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
        // jq itself would end with that.
        for halting in ["halt", "halt(3)", "if .s == \"up\" then halt_error(0) else true end"] {
            assert!(holds(halting).unwrap_err().starts_with("it halts"), "{halting}");
        }
    }

    #[test]
    fn an_assignment_where_a_comparison_was_meant_is_refused() {
        for text in [
            ".topic = \"audit\"",
            ".data.aps[]? | .status = \"DOWN\"",
            ".type == \"x\" and .topic = \"audit\"",
            "select(.topic = \"audit\")",
            "def down: .status; .data | (down |= \"DOWN\")",
            ".data.n += 1",
            ".data.n //= 1",
        ] {
            let error = text.parse::<Condition>().unwrap_err();
            assert!(error.is_usage(), "{text}");
            assert_eq!(error.hint(), Some("== compares: '.topic == \"audit\"'"), "{text}");
        }
        let json = br#"{"l":["a","b","a"]}"#;
        for text in
            ["reduce .l[] as $x ({}; .[$x] = 1) | length == 2", "(.l |= unique).l[1] == \"b\""]
        {
            assert_eq!(text.parse::<Condition>().unwrap().holds(json), Ok(true), "{text}");
        }
    }

    #[test]
    fn a_reason_shows_both_ends_of_a_long_value() {
        let condition = ". + 1".parse::<Condition>().unwrap();
        let reason = |text: &str| condition.holds(format!("{text:?}").as_bytes()).unwrap_err();
        assert_eq!(reason("up"), "cannot calculate \"up\" + 1");
        let long = reason(&"ü".repeat(100_000));
        assert!(long.starts_with("cannot calculate \"üü") && long.ends_with("üü\" + 1"), "{long}");
        assert_eq!(long.chars().count(), 205);
    }

    #[test]
    fn what_is_no_expression_is_refused_with_its_place() {
        for (text, expected) in [
            (".a ==", "column 6: expected term, found the end"),
            ("nonsense(", "column 10: expected closing parenthesis, found the end"),
            (".a | (.b == 1] | .c", "column 14: expected closing parenthesis, found \"]\""),
            (".a == \"ö\" § .b", "column 11: expected token, found \"§\""),
            ("if .a 1", "column 7: expected \"then\", found \"1\""),
            (".a\n | .b c", "line 2, column 7: expected nothing, found \"c\""),
            ("unknown(.a)", "column 1: expected a known filter with 1 argument, found \"unknown\""),
            (".a | nope", "column 6: expected a known filter without arguments, found \"nope\""),
            (".a == $b", "column 7: expected a known variable, found \"$b\""),
            ("include \"x\"; .a", "column 10: expected no other file, found \"x\""),
        ] {
            let error = text.parse::<Condition>().unwrap_err();
            assert!(error.is_usage() && error.hint().is_some(), "{text}");
            let expected = format!("expected a jq expression, found {text:?} ({expected})");
            assert_eq!(error.to_string(), expected);
        }
    }
}
