//! Whether a run was what a test demands: the checks behind the exit code, the report and its JUnit twin.

use std::{str::FromStr, time::Duration};

use serde::Serialize;

use super::report::Report;
use crate::error::{Error, Result, counted};

/// What is demanded of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// No frame may leave later than this after it was due.
    pub max_lateness: Option<Duration>,
    /// So much has to be sent.
    pub expected: Vec<Expected>,
}

/// So many frames of a topic have to be sent, to all clients together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The topic.
    pub topic: String,
    /// How many frames at least.
    pub frames: u64,
}

/// `audit>=100`.
impl FromStr for Expected {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once(">=").map(|(topic, frames)| (topic.trim(), frames.trim()));
        let expected = parts.filter(|(topic, _)| !topic.is_empty()).and_then(|(topic, frames)| {
            Some(Self { topic: topic.to_owned(), frames: frames.parse().ok()? })
        });
        expected.ok_or_else(|| {
            let hint = "write 'audit>=100' for at least a hundred frames";
            Error::usage("a topic and a number of frames", format!("{text:?}"), hint)
        })
    }
}

/// What became of a run, from good to bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All was as it should be.
    #[default]
    Done,
    /// Something was lost, or late.
    Lossy,
    /// It was not what was demanded, or could not be done.
    Failed,
}

impl Outcome {
    /// The same word as in the report.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Lossy => "lossy",
            Self::Failed => "failed",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is about.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What is wrong, unless all is done.
    pub problem: Option<String>,
}

impl Check {
    fn new(name: impl Into<String>, problem: Option<(Outcome, String)>) -> Self {
        let (outcome, problem) = problem.unzip();
        Self { name: name.into(), outcome: outcome.unwrap_or_default(), problem }
    }
}

impl Report {
    /// The worst of all checks.
    pub fn outcome(&self) -> Outcome {
        self.checks().iter().map(|check| check.outcome).max().unwrap_or_default()
    }

    /// All that was looked at, whether something is wrong or not.
    pub fn checks(&self) -> Vec<Check> {
        let mut checks = vec![self.capture(), self.clients()];
        checks.extend(self.timed_out.map(|connected| {
            let found = match (self.served, connected) {
                (0, 0) => match self.answered.iter().next() {
                    Some((status, _)) => format!("no client but some that were answered {status}"),
                    None => "no client that ever came".to_owned(),
                },
                _ if let Some(ready) = &self.awaited => {
                    format!("it waiting for clients to begin with: {ready}")
                }
                (_, 0) => "nobody connected".to_owned(),
                (_, 1) => "1 connection".to_owned(),
                (_, more) => format!("{more} connections"),
            };
            let problem = format!("expected an end in time, found it still open, and {found}");
            Check::new("end", Some((Outcome::Failed, problem)))
        }));
        checks.extend(self.demands.max_lateness.map(|limit| self.lateness(limit)));
        checks.extend(self.demands.expected.iter().map(|expected| self.expected(expected)));
        checks
    }

    fn capture(&self) -> Check {
        let problem = self.faults.iter().map(|fault| {
            let outcome = if fault.is_loss() { Outcome::Lossy } else { Outcome::Failed };
            (outcome, fault.to_string())
        });
        // The first of the worst.
        Check::new("capture", problem.rev().max_by_key(|(outcome, _)| *outcome))
    }

    fn clients(&self) -> Check {
        let problem = (self.lossy > 0)
            .then(|| (Outcome::Lossy, format!("{} of them may have missed frames", self.lossy)));
        Check::new("clients", problem)
    }

    fn lateness(&self, limit: Duration) -> Check {
        let worst = self.lateness.map(|lateness| lateness.max).filter(|&worst| worst > limit);
        let problem = worst.map(|worst| {
            let problem = format!("expected no frame more than {limit:?} late, found {worst:?}");
            (Outcome::Lossy, problem)
        });
        Check::new("lateness", problem)
    }

    fn expected(&self, Expected { topic, frames }: &Expected) -> Check {
        let found = self.topics.get(topic).copied().unwrap_or_default();
        let problem = (found.frames < *frames).then(|| {
            let found = match (found.clients, found.frames) {
                (0, _) => "no client for it".to_owned(),
                (_, 0) => "none".to_owned(),
                (_, some) => some.to_string(),
            };
            let frames = counted(*frames, "frame");
            let problem = format!("expected at least {frames} of {topic}, found {found}");
            (Outcome::Failed, problem)
        });
        Check::new(format!("{topic}>={frames}"), problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Kind, replay::report::Totals};

    /// A run that was as it should be, if nothing is demanded.
    fn report() -> Report {
        let totals = Totals { clients: 1, frames: 10, bytes: 1000 };
        Report { topics: [("audit".to_owned(), totals)].into(), ..Report::default() }
    }

    fn expected(text: &str) -> Demands {
        Demands { expected: vec![text.parse().unwrap()], ..Demands::default() }
    }

    #[test]
    fn frames_that_were_not_sent_are_a_failure() {
        let with = |text: &str| Report { demands: expected(text), ..report() };
        assert_eq!(with("audit>=10").outcome(), Outcome::Done);
        let missing = with("audit >= 11");
        assert_eq!(missing.outcome(), Outcome::Failed);
        let check = missing.checks().pop().unwrap();
        assert_eq!(check.name, "audit>=11");
        assert_eq!(check.problem.unwrap(), "expected at least 11 frames of audit, found 10");
        let check = with("presence>=1").checks().pop().unwrap();
        assert!(check.problem.unwrap().ends_with("found no client for it"));
    }

    #[test]
    fn what_is_wrong_with_the_capture_decides_by_its_weight() {
        let damage = || Kind::damaged("feed.mcap".as_ref(), 7, "bad".to_owned());
        let refused = || Kind::Internal { reason: "no thread".into() };
        let with = |faults: Vec<Kind>| {
            let faults = faults.into_iter().map(Error::from).collect();
            Report { faults, ..report() }.outcome()
        };
        assert_eq!(with(vec![]), Outcome::Done);
        assert_eq!(with(vec![damage()]), Outcome::Lossy);
        assert_eq!(with(vec![damage(), refused(), damage()]), Outcome::Failed);
    }

    #[test]
    fn a_time_that_is_over_is_a_failure() {
        assert_eq!(Report { timed_out: Some(2), ..report() }.outcome(), Outcome::Failed);
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in ["", "audit", ">=1", "audit>=", "audit>=-1", "audit>=many", "audit=>1"] {
            let error = text.parse::<Expected>().unwrap_err();
            assert!(error.is_usage() && error.hint().is_some(), "{text}");
        }
    }
}
