//! The report as CI servers read it: JUnit's XML, as far as it is common to all of them.

use std::{borrow::Cow, fmt::Write, time::Duration};

use super::{
    report::{Client, Report},
    verdict::Outcome,
};
use crate::error::counted;

impl Report {
    /// One XML document: a test case for each check, and for each client that is reported.
    pub fn junit(&self) -> String {
        let mut cases = String::new();
        let mut failures = 0;
        let checks = self.checks();
        for check in &checks {
            failures += u64::from(check.outcome != Outcome::Done);
            case(&mut cases, &check.name, self.lasted, check.problem.as_deref());
        }
        for (number, client) in (1..).zip(&self.clients) {
            let name = format!("client {number} of {}", client.topic);
            let problem = client.ending.is_loss().then(|| said(client));
            failures += u64::from(problem.is_some());
            case(&mut cases, &name, client.stayed, problem.as_deref());
        }
        let tests = checks.len() + self.clients.len();
        let counts = format!(
            r#"name="centralcap replay" tests="{tests}" failures="{failures}" errors="0" time="{:.3}""#,
            self.lasted.as_secs_f64()
        );
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <testsuites {counts}>\n\
             <testsuite {counts} timestamp=\"{}\">\n{cases}</testsuite>\n</testsuites>\n",
            self.started
        )
    }
}

/// What became of a client, in a line.
fn said(client: &Client) -> String {
    format!("{} got {}: {}", client.peer, counted(client.frames, "frame"), client.ending)
}

fn case(cases: &mut String, name: &str, lasted: Duration, problem: Option<&str>) {
    let (name, seconds) = (escaped(name), lasted.as_secs_f64());
    let start =
        format!(r#"<testcase classname="centralcap.replay" name="{name}" time="{seconds:.3}""#);
    // Writing to memory does not fail.
    let _ = match problem {
        None => writeln!(cases, "{start}/>"),
        Some(problem) => {
            writeln!(cases, r#"{start}><failure message="{}"/></testcase>"#, escaped(problem))
        }
    };
}

/// As it may stand in an attribute (XML 1.0, sections 2.2 and 2.3). What XML has no way to say is shown as
/// what it is.
fn escaped(text: &str) -> Cow<'_, str> {
    let plain = |char: char| {
        !matches!(char, '<' | '>' | '&' | '"' | '\'' | '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}')
    };
    if text.chars().all(plain) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        match char {
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '&' => escaped += "&amp;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&apos;",
            '\t' | '\n' | '\r' => escaped += &format!("&#{};", u32::from(char)),
            char if plain(char) => escaped.push(char),
            char => escaped.extend(char.escape_default()),
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_ends_it() {
        assert_eq!(escaped("plain, Käse 漢"), "plain, Käse 漢");
        assert_eq!(
            escaped("<a b=\"c\">&'\n\u{1}\u{ffff}"),
            "&lt;a b=&quot;c&quot;&gt;&amp;&apos;&#10;\\u{1}\\u{ffff}"
        );
    }
}
