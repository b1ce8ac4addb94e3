//! What is in `examples/` keeps up with the command: options that there are, and a health check that works.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use support::feed::{Feed, Reply, Say};

const UNIT: &str = include_str!("../examples/centralcap-record.service");
const COMPOSE: &str = include_str!("../examples/container/compose.yaml");

/// The arguments behind the command in `ExecStart=`.
fn of_unit() -> Vec<String> {
    let (_, rest) = UNIT.split_once("\nExecStart=").unwrap();
    let (command, _) = rest.split_once("\nExecReload=").unwrap();
    command.replace("\\\n", " ").split_whitespace().skip(1).map(str::to_owned).collect()
}

/// The items of `command:`.
fn of_compose() -> Vec<String> {
    let (_, rest) = COMPOSE.split_once("    command:\n").unwrap();
    let (items, _) = rest.split_once("    user:").unwrap();
    let items = items.lines().filter_map(|line| line.trim().strip_prefix("- "));
    items.map(str::to_owned).collect()
}

/// The script of the health check, for another port.
fn health_check(port: u16) -> String {
    let (_, rest) = COMPOSE.split_once("        - >-\n").unwrap();
    let (script, _) = rest.split_once("      interval:").unwrap();
    let script: Vec<_> = script.lines().map(str::trim).collect();
    let script = script.join(" ");
    assert!(script.contains("/9464 "), "{script}");
    script.replace("/9464 ", &format!("/{port} "))
}

#[test]
fn the_commands_take_these_arguments() {
    let is_taken = |arguments: &[String]| {
        // Asking for help comes after all before it was understood.
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"));
        let output = command.args(arguments).arg("--help").output().unwrap();
        output.status.success()
    };
    for arguments in [of_unit(), of_compose()] {
        assert!(is_taken(&arguments), "{arguments:?}");
        for wanted in ["record", "--input", "--metrics"] {
            let has = |argument: &String| argument.split('=').next() == Some(wanted);
            assert!(arguments.iter().any(has), "{wanted} in {arguments:?}");
        }
        let wrong = [&arguments[..], &["--no-such-option".to_owned()]].concat();
        assert!(!is_taken(&wrong), "this test would not see a wrong option");
    }
}

/// Whether the health check is content with a recording of that feed, once it has said `word`.
fn is_healthy(feed: &Feed, word: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"))
        .args(["record", "--hostname", &feed.url(), "--topic", "audit", "--metrics", "0"])
        .args(["--healthy-within", "0s", "-o"])
        .arg(folder.path().join("recordings"))
        .env("CENTRALCAP_KEY", "synthetic-key-for-tests")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let said =
        lines.find_map(|line| Some(line.strip_prefix("metrics at http://127.0.0.1:")?.to_owned()));
    let port = said.unwrap().strip_suffix("/metrics").unwrap().parse().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !lines.next().unwrap().contains(word) {
        assert!(Instant::now() < deadline, "never {word}");
    }
    let checked = Command::new("bash").args(["-c", &health_check(port)]).status().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    checked.success()
}

#[test]
fn the_health_check_of_the_container_sees_both() {
    let up = Feed::answering(|_| Reply::Feed(vec![Say::Text("here"), Say::Stay]));
    assert!(is_healthy(&up, "a text message"));
    let down = Feed::answering(|_| Reply::Answer("503 Service Unavailable", String::new()));
    assert!(!is_healthy(&down, "trying again"));
}
