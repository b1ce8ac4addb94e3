//! What befell the connections of a recording, as rules that let it befall those of a replay.
//!
//! The ledger says it: refused upgrades, and connections that the server or the network has ended. What
//! the recorder did by itself, such as to stop, to take over with a new key or to lose its disk, is
//! nothing that a feed does. Refusals are told apart by their number, so that a client that comes more
//! often or less gets in all the same; ends by their moment, and by the number of the connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use toml_writer::ToTomlValue;

use super::Options;
use crate::{
    entry::{
        Entry, SessionEvent, Timestamp, What,
        session_event::{Closed, Event, gap::Cause},
    },
    error::{Error, Result},
    fault::{Faults, REASON_MAX},
    pace::{Speed, Track},
};

impl Options {
    /// Lets befall the clients what befell the recorder: adds rules to the faults. Reads the capture once.
    /// Returns how many rules there are.
    pub fn reproduce_session(&mut self) -> Result<usize> {
        let mut ledger = Ledger::default();
        let mut track = Track::new(self.max_gap, Duration::ZERO);
        for entry in self.selection.clone().of(self.capture.entries()) {
            match entry {
                Ok(entry) => ledger.add(entry, &mut track),
                // Those who are served meet it, too, and it is reported then.
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        let rules = ledger.rules(self.speed)?;
        if !rules.is_empty() {
            let (text, origin) = (rules.concat(), "--reproduce-session");
            self.faults = Some(match self.faults.take() {
                Some(faults) => faults.and_rules(&text, origin)?,
                None => Faults::parse(&text, origin, None)?,
            });
        }
        Ok(rules.len())
    }
}

/// What is noted of a recording.
#[derive(Debug, Default)]
struct Ledger {
    /// By topic and name.
    subscriptions: BTreeMap<(String, String), Noted>,
}

/// What is noted of a subscription.
#[derive(Debug, Default)]
struct Noted {
    events: Vec<Happened>,
    /// So much of the recording is played before its latest frame.
    latest_frame: Duration,
}

/// One event of the ledger.
#[derive(Debug)]
struct Happened {
    at: Timestamp,
    /// So much of the recording is played before it,
    played: Duration,
    /// and before the frame before it.
    latest_frame: Duration,
    event: Event,
}

/// What a client has to do next, at some place in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Connect.
    Down,
    /// Receive.
    Up,
    /// The same: that the recorder was away is nothing that the feed did.
    UpAlone,
}

impl Ledger {
    fn add(&mut self, Entry { subscription, received, what }: Entry, track: &mut Track) {
        let place = (subscription.topic.clone(), subscription.name.clone());
        match what {
            What::Frame(_) => {
                let played = track.position(received).recorded();
                self.subscriptions.entry(place).or_default().latest_frame = played;
            }
            What::Event(SessionEvent { event: Some(event), .. }) => {
                // Events have a place among frames, and no part in the schedule.
                let played = track.clone().position(received).recorded();
                let noted = self.subscriptions.entry(place).or_default();
                let latest_frame = noted.latest_frame;
                noted.events.push(Happened { at: received, played, latest_frame, event });
            }
            What::Event(_) => {}
        }
    }

    /// Each rule as it stands in a file.
    fn rules(&self, speed: Speed) -> Result<Vec<String>> {
        let mut rules = Vec::new();
        for ((topic, _), noted) in &self.subscriptions {
            let own = noted.rules(topic, speed);
            let sharing = self.subscriptions.keys().filter(|(of, _)| of == topic);
            let sharing: BTreeSet<_> = sharing.map(|(_, name)| name.as_str()).collect();
            if !own.is_empty() && sharing.len() > 1 {
                let names = sharing.into_iter().collect::<Vec<_>>().join(" and ");
                let hint = "--subscription takes one of them: a client that has not yet given its key could be either";
                return Err(Error::usage(format!("one subscription to {topic}"), names, hint));
            }
            rules.extend(own);
        }
        Ok(rules)
    }
}

impl Noted {
    fn rules(&self, topic: &str, speed: Speed) -> Vec<String> {
        let (mut state, mut requests, mut connections) = (State::Down, 0, 0);
        let mut refusals = Refusals::default();
        let mut ends = Vec::new();
        for (index, happened) in self.events.iter().enumerate() {
            match (&happened.event, state) {
                (Event::Connected(_) | Event::Continued(_), State::Down) => {
                    requests += 1;
                    connections += 1;
                    state = State::Up;
                }
                (Event::Connected(_) | Event::Continued(_), State::UpAlone) => state = State::Up,
                (Event::Rejected(rejected), State::Down) => {
                    requests += 1;
                    let body = String::from_utf8_lossy(&rejected.body);
                    // A file of rules takes no other.
                    let status = rejected.status.clamp(200, 599);
                    refusals.add(
                        requests,
                        format!(
                            "{{ refuse = {{ status = {status}, body = {} }} }}",
                            body.to_toml_value()
                        ),
                    );
                }
                (Event::Failed(_), State::Down) => {
                    requests += 1;
                    refusals.add(requests, r#"{ raw-answer = { text = "" } }"#.to_owned());
                }
                (Event::Closed(closed), State::Up) => {
                    state = State::UpAlone;
                    if let Some(dead_since) = self.outage(index) {
                        state = State::Down;
                        let (at, fault) = happened.end(closed, dead_since, speed);
                        ends.push(format!(
                            "[[rule]]\nwhen = {{ topic = {}, connection = {connections}, at = \"{}ns\" }}\ndo = {fault}\n",
                            topic.to_toml_value(),
                            at.as_nanos(),
                        ));
                    }
                }
                _ => {}
            }
        }
        let refusals = refusals.0.into_iter().map(|(numbers, fault)| {
            let topic = topic.to_toml_value();
            format!("[[rule]]\nwhen = {{ topic = {topic}, nth = {numbers:?} }}\ndo = {fault}\n")
        });
        refusals.chain(ends).collect()
    }

    /// Since when nothing came, if the server or the network has ended this connection: the gap that
    /// follows says so.
    fn outage(&self, closed: usize) -> Option<Timestamp> {
        let at = self.events[closed].at;
        let behind = self.events[closed + 1..].iter().map(|happened| &happened.event);
        let behind = behind.take_while(|event| !matches!(event, Event::Closed(_)));
        let gap = behind.filter_map(|event| match event {
            Event::Gap(gap) if Timestamp::from_nanos(gap.from_ns) <= at => Some(*gap),
            _ => None,
        });
        let gap = gap.take(1).find(|gap| matches!(gap.cause(), Cause::Server | Cause::Network))?;
        Some(Timestamp::from_nanos(gap.from_ns))
    }
}

impl Happened {
    /// When a connection ends, and how.
    fn end(&self, closed: &Closed, dead_since: Timestamp, speed: Speed) -> (Duration, String) {
        let silent = self.at.since(dead_since);
        match closed.code {
            Some(code) => {
                let reason = cut(&closed.reason).to_toml_value();
                let fault = format!("{{ close = {{ code = {code}, reason = {reason} }} }}");
                (self.played, fault)
            }
            None if closed.clean => (self.played, "\"close\"".to_owned()),
            None if silent.is_zero() => (self.played, "\"reset\"".to_owned()),
            // It was dead for some time before the recorder found out.
            None => {
                let since = self.played.saturating_sub(silent).max(self.latest_frame);
                let length = speed.apply(self.played.saturating_sub(since)).as_nanos();
                (since, format!("{{ half-open = {{ for = \"{length}ns\" }} }}"))
            }
        }
    }
}

/// As much of a reason as fits.
fn cut(reason: &str) -> &str {
    let mut fits = (0..=reason.len().min(REASON_MAX)).rev();
    fits.find_map(|end| reason.get(..end)).unwrap_or_default()
}

/// The numbers of requests, and what is done to them. Those that follow each other and are treated alike
/// are one rule.
#[derive(Debug, Default)]
struct Refusals(Vec<(Vec<u64>, String)>);

impl Refusals {
    fn add(&mut self, number: u64, fault: String) {
        match self.0.last_mut() {
            Some((numbers, same)) if *same == fault => numbers.push(number),
            _ => self.0.push((vec![number], fault)),
        }
    }
}
