//! A file of rules, and every mistake in one: on which line, in which field, what was expected there
//! and what was found.

use std::{collections::BTreeMap, num::NonZeroU64, ops::Range, time::Duration};

use bytesize::ByteSize;
use globset::GlobMatcher;
use serde_json::{Map, Value as Json};
use toml::de::{DeTable, DeValue};

use super::{
    log::{Applied, Place, Request},
    table::{FAULTS, Fault, Row},
};
use crate::{
    dice::Dice,
    error::{BadRule, Error, Kind, Language, Result},
    protocol::PROTOCOLS,
    select,
    sink::filter::Condition,
};

/// When, and what.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// In its file, from 1; behind the rules that there were before it if it was added.
    pub number: usize,
    /// The same among the rules that there are: what is drawn depends on it.
    pub place: usize,
    pub name: &'static str,
    pub when: When,
    pub fault: Fault,
}

impl Rule {
    pub(super) fn applied(&self, place: Place, detail: Map<String, Json>) -> Applied {
        Applied { place, rule: self.number, fault: self.name, detail }
    }
}

/// What has to hold for a rule to apply. Whatever is not said always holds.
#[derive(Clone, Debug, Default)]
pub(super) struct When {
    pub request: Request,
    pub condition: Option<Condition>,
    topics: Vec<String>,
    subscriptions: Vec<GlobMatcher>,
    connections: Vec<u64>,
    /// When so much of the recording is played, whether there is a frame then or not.
    pub at: Option<Duration>,
    /// So much of the recording is played before.
    time: Range<Option<Duration>>,
    /// Of those for which all of the above holds.
    nth: Vec<u64>,
    every: Option<NonZeroU64>,
    probability: Option<f64>,
}

impl When {
    pub(super) fn has_topic(&self, topic: &str) -> bool {
        self.topics.is_empty() || self.topics.iter().any(|wanted| wanted == topic)
    }

    pub(super) fn has_subscription(&self, name: &str) -> bool {
        self.subscriptions.is_empty()
            || self.subscriptions.iter().any(|pattern| pattern.is_match(name))
    }

    pub(super) fn has_connection(&self, connection: u64) -> bool {
        self.connections.is_empty() || self.connections.contains(&connection)
    }

    pub(super) fn has_time(&self, played: Duration) -> bool {
        self.time.start.is_none_or(|from| played >= from)
            && self.time.end.is_none_or(|to| played < to)
    }

    /// Whether the `fitted`-th of those that fit is taken; gives the dice on to the fault.
    pub(super) fn takes(&self, fitted: u64, mut dice: Dice) -> Option<Dice> {
        let nth = self.nth.is_empty() || self.nth.contains(&fitted);
        let every = self.every.is_none_or(|every| fitted.is_multiple_of(every.get()));
        let lucky = self.probability.is_none_or(|probability| dice.unit() < probability);
        (nth && every && lucky).then_some(dice)
    }
}

/// Reads the rules. `origin` is the file's name.
pub(super) fn parse(text: &str, origin: &str) -> Result<Vec<Rule>> {
    let source = Source { text, origin };
    let parsed = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        source.wrong(at, "rules", "TOML".to_owned(), error.message().replace('\n', ", "))
    })?;
    let mut top = Table::new(source, String::new(), 0, parsed.get_ref());
    // For people.
    top.maybe("description", Item::text)?;
    let rules = top.take("rule");
    // If there are none, they may be under a name that is almost theirs.
    top.end()?;
    let rules = rules.ok_or_else(|| source.nothing(0, "rule", "a list of rules, [[rule]]"))?;
    let DeValue::Array(tables) = rules.value else { return Err(rules.wrong("[[rule]]")) };
    let rules = tables.iter().enumerate().map(|(index, table)| {
        let at = table.span().start;
        let item =
            Item { source, field: format!("rule {}", index + 1), at, value: table.get_ref() };
        rule(index + 1, item.table()?)
    });
    rules.collect()
}

fn rule(number: usize, mut table: Table<'_>) -> Result<Rule> {
    let (row, fault) = fault(&table.needed("do", "a fault")?)?;
    let when = match table.take("when") {
        Some(when) => self::when(when.table()?, &fault)?,
        None => When::default(),
    };
    table.end()?;
    Ok(Rule { number, place: number, name: row.name, when, fault })
}

/// `"drop"`, or `{ close = { code = 1001 } }`.
fn fault(item: &Item<'_>) -> Result<(&'static Row, Fault)> {
    let empty = DeTable::new();
    let (name, mut words) = match item.value {
        DeValue::String(name) => {
            let field = format!("{}.{name}", item.field);
            (&**name, Table::new(item.source, field, item.at, &empty))
        }
        DeValue::Table(table) if table.len() == 1 => {
            let (name, words) = table.iter().next().expect("it has one");
            let at = name.span().start;
            let name = &**name.get_ref();
            let field = format!("{}.{name}", item.field);
            let words = Item { source: item.source, field, at, value: words.get_ref() };
            (name, words.table()?)
        }
        _ => return Err(item.wrong("one fault, \"drop\" or { close = { code = 1001 } }")),
    };
    let Some(row) = FAULTS.iter().find(|row| row.name == name) else {
        let names: Vec<_> = FAULTS.iter().map(|row| row.name).collect();
        let expected = format!("a fault ({})", names.join(", "));
        return Err(item.source.wrong(words.at, &item.field, expected, format!("{name:?}")));
    };
    let fault = (row.read)(&mut words)?;
    words.end()?;
    Ok((row, fault))
}

fn when(mut table: Table<'_>, fault: &Fault) -> Result<When> {
    let mut when = When::default();
    let list = |item: &Item<'_>| item.whole_list();
    // What is known of a connection is not known of every request, and less of a bare TCP connection.
    if fault.is_for_requests() && *fault != Fault::RefuseTls {
        let request = table.maybe("request", |item| match item.text()? {
            "feed" => Ok(Request::Feed),
            "validate" => Ok(Request::Validate),
            _ => Err(item.wrong("\"feed\" or \"validate\"")),
        });
        when.request = request?.unwrap_or_default();
    }
    // Nor has a validation a topic.
    if *fault != Fault::RefuseTls && when.request == Request::Feed {
        when.topics = table.maybe("topic", topics)?.unwrap_or_default();
    }
    if !fault.is_for_requests() {
        when.subscriptions = table.maybe("subscription", globs)?.unwrap_or_default();
        when.connections = table.maybe("connection", list)?.unwrap_or_default();
        if fault.is_an_end() {
            when.at = table.maybe("at", |item| {
                if fault.sends_a_part() {
                    return Err(item.wrong("no moment beside a part, which takes a frame"));
                }
                item.duration()
            })?;
        }
        // Without a frame there is nothing to count or to look into.
        if when.at.is_some() {
            when.probability = table.maybe("probability", Item::fraction)?;
            table.end()?;
            return Ok(when);
        }
        when.time = table.maybe("from", Item::duration)?..table.maybe("to", Item::duration)?;
        when.condition = table.maybe("where", |item| {
            item.text()?.parse().map_err(|error: Error| match error.into_kind() {
                Kind::Usage { expected, found, .. } => item.wrong_as(expected, found),
                other => other.into(),
            })
        })?;
    }
    when.nth = table.maybe("nth", list)?.unwrap_or_default();
    when.every = table.maybe("every", |item| item.whole(1, u64::MAX))?.and_then(NonZeroU64::new);
    when.probability = table.maybe("probability", Item::fraction)?;
    table.end()?;
    Ok(when)
}

fn topics(item: &Item<'_>) -> Result<Vec<String>> {
    item.each(|item| {
        let topic = item.text()?;
        let mut known = PROTOCOLS.iter().flat_map(|protocol| protocol.topics());
        if known.any(|known| known.name == topic) {
            return Ok(topic.to_owned());
        }
        let known = PROTOCOLS.iter().flat_map(|protocol| protocol.topics());
        let known: Vec<_> = known.map(|topic| topic.name).collect();
        Err(item.wrong(format!("a topic ({})", known.join(", "))))
    })
}

fn globs(item: &Item<'_>) -> Result<Vec<GlobMatcher>> {
    item.each(|item| {
        select::glob(item.text()?).map_err(|_| item.wrong("a pattern of names, like \"campus-*\""))
    })
}

/// The file's text and name.
#[derive(Clone, Copy)]
struct Source<'a> {
    text: &'a str,
    origin: &'a str,
}

impl Source<'_> {
    fn wrong(self, at: usize, field: &str, expected: String, found: String) -> Error {
        let before = self.text.get(..at).unwrap_or_default();
        let line = Some(before.matches('\n').count() + 1);
        let (origin, field) = (self.origin.to_owned(), field.to_owned());
        let language = Language::Toml;
        Kind::FaultFile(BadRule { origin, line, field, expected, found, language }).into()
    }

    fn nothing(self, at: usize, field: &str, expected: &str) -> Error {
        self.wrong(at, field, expected.to_owned(), "nothing".to_owned())
    }
}

/// A table of which one item after the other is taken, until none may be left.
pub(super) struct Table<'a> {
    source: Source<'a>,
    /// What it is called; empty at the top.
    field: String,
    at: usize,
    items: BTreeMap<&'a str, Item<'a>>,
    /// What it may have.
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    fn new(source: Source<'a>, field: String, at: usize, table: &'a DeTable<'a>) -> Self {
        let items = table.iter().map(|(key, value)| {
            let (name, at) = (&**key.get_ref(), key.span().start);
            let whole = match field.as_str() {
                "" => name.to_owned(),
                field => format!("{field}.{name}"),
            };
            (name, Item { source, field: whole, at, value: value.get_ref() })
        });
        let items = items.collect();
        Self { source, field, at, items, known: Vec::new() }
    }

    fn take(&mut self, name: &'static str) -> Option<Item<'a>> {
        self.known.push(name);
        self.items.remove(name)
    }

    /// What is there, or nothing.
    pub(super) fn maybe<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Item<'a>) -> Result<T>,
    ) -> Result<Option<T>> {
        self.take(name).map(|item| read(&item)).transpose()
    }

    /// What is there, or else that.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        otherwise: T,
        read: impl FnOnce(&Item<'a>) -> Result<T>,
    ) -> Result<T> {
        Ok(self.maybe(name, read)?.unwrap_or(otherwise))
    }

    /// What has to be there.
    pub(super) fn needed(&mut self, name: &'static str, expected: &str) -> Result<Item<'a>> {
        self.take(name).ok_or_else(|| {
            let field = match self.field.as_str() {
                "" => name.to_owned(),
                field => format!("{field}.{name}"),
            };
            self.source.nothing(self.at, &field, expected)
        })
    }

    /// Nothing may be left.
    fn end(self) -> Result<()> {
        let Some((name, item)) = self.items.into_iter().next() else { return Ok(()) };
        let expected = match &self.known[..] {
            [] => "nothing".to_owned(),
            known => known.join(", "),
        };
        Err(self.source.wrong(item.at, &item.field, expected, format!("{name:?}")))
    }
}

/// A value and where it is.
pub(super) struct Item<'a> {
    source: Source<'a>,
    field: String,
    at: usize,
    value: &'a DeValue<'a>,
}

impl<'a> Item<'a> {
    pub(super) const DURATION: &'static str = "a duration, like \"250ms\" or \"1m30s\"";

    /// The error that something else was expected.
    pub(super) fn wrong(&self, expected: impl Into<String>) -> Error {
        let found = match self.value {
            DeValue::String(text) => format!("{text:?}"),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(time) => time.to_string(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.wrong_as(expected.into(), found)
    }

    /// The same in the words of whoever has looked into it.
    fn wrong_as(&self, expected: String, found: String) -> Error {
        self.source.wrong(self.at, &self.field, expected, found)
    }

    pub(super) fn text(&self) -> Result<&'a str> {
        match self.value {
            DeValue::String(text) => Ok(text),
            _ => Err(self.wrong("a text")),
        }
    }

    /// A whole number in these limits.
    pub(super) fn whole(&self, from: u64, to: u64) -> Result<u64> {
        let number = match self.value {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        number.filter(|number| (from..=to).contains(number)).ok_or_else(|| {
            self.wrong(match to {
                u64::MAX => format!("a whole number from {from}"),
                to => format!("a whole number from {from} to {to}"),
            })
        })
    }

    fn whole_list(&self) -> Result<Vec<u64>> {
        self.each(|item| item.whole(1, u64::MAX))
    }

    pub(super) fn duration(&self) -> Result<Duration> {
        let text = self.text().map_err(|_| self.wrong(Self::DURATION))?;
        select::duration(text).map_err(|_| self.wrong(Self::DURATION))
    }

    /// A size in bytes, or with a unit.
    pub(super) fn size(&self, max: u64) -> Result<u64> {
        let size = match self.value {
            DeValue::String(text) => text.parse::<ByteSize>().ok().map(|size| size.as_u64()),
            _ => self.whole(1, max).ok(),
        };
        size.filter(|size| (1..=max).contains(size)).ok_or_else(|| {
            self.wrong(format!("a size from 1 B to {}", ByteSize::b(max).display().iec()))
        })
    }

    /// A number from 0 to 1.
    pub(super) fn fraction(&self) -> Result<f64> {
        let number = match self.value {
            DeValue::Integer(number) => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        number
            .filter(|number| (0.0..=1.0).contains(number))
            .ok_or_else(|| self.wrong("a number from 0 to 1"))
    }

    /// Names and values of HTTP headers.
    pub(super) fn headers(&self) -> Result<Vec<(String, String)>> {
        let DeValue::Table(headers) = self.value else { return Err(self.wrong("a table")) };
        let headers = headers.iter().map(|(key, value)| {
            let name = &**key.get_ref();
            let (field, at) = (format!("{}.{name}", self.field), key.span().start);
            let item = Item { source: self.source, field, at, value: value.get_ref() };
            let text = item.text()?;
            let fits = hyper::header::HeaderName::from_bytes(name.as_bytes()).is_ok()
                && hyper::header::HeaderValue::from_str(text).is_ok();
            if !fits {
                return Err(item.wrong("an HTTP header"));
            }
            // An answer says itself how long it is, and that the connection ends with it; raw-answer says
            // anything.
            let own = ["connection", "content-length", "transfer-encoding"];
            if own.iter().any(|own| name.eq_ignore_ascii_case(own)) {
                return Err(item.wrong(format!("another header than {}", own.join(", "))));
            }
            Ok((name.to_owned(), text.to_owned()))
        });
        headers.collect()
    }

    fn table(self) -> Result<Table<'a>> {
        match self.value {
            DeValue::Table(table) => Ok(Table::new(self.source, self.field, self.at, table)),
            _ => Err(self.wrong("a table")),
        }
    }

    /// All elements of a list, or the one value that is no list.
    fn each<T>(&self, read: impl Fn(&Item<'a>) -> Result<T>) -> Result<Vec<T>> {
        let DeValue::Array(values) = self.value else { return Ok(vec![read(self)?]) };
        if values.is_empty() {
            return Err(self.source.wrong(
                self.at,
                &self.field,
                "one or more".into(),
                "none".into(),
            ));
        }
        let items = values.iter().map(|value| Item {
            source: self.source,
            field: self.field.clone(),
            at: value.span().start,
            value: value.get_ref(),
        });
        items.map(|item| read(&item)).collect()
    }
}
