//! What is in `examples/` keeps up with the command: options that there are, and a health check that works.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use support::feed::{Feed, Reply, Say};

const UNIT: &str = include_str!("../examples/centralcap-record.service");
const CONTAINERFILE: &str = include_str!("../examples/container/Containerfile");
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

/// What the sources below `folder` bring along, by the path from the top of the repository.
fn included(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(included(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for macros in ["include_str!(\"", "include_bytes!(\""] {
                let names = text.split(macros).skip(1).map(|rest| rest.split('"').next().unwrap());
                found.extend(names.map(|name| from_the_top(&path.with_file_name(name))));
            }
        }
    }
    found
}

/// `src/cli/../../fixtures/x` as `fixtures/x`.
fn from_the_top(path: &Path) -> PathBuf {
    let mut simple = PathBuf::new();
    for part in path {
        if part == ".." {
            assert!(simple.pop(), "{}", path.display());
        } else {
            simple.push(part);
        }
    }
    simple
}

#[test]
fn the_container_is_built_of_all_that_the_command_brings_along() {
    let lines = CONTAINERFILE.lines().filter_map(|line| line.strip_prefix("COPY "));
    let copied: Vec<_> = lines.flat_map(str::split_whitespace).collect();
    // Tests run at the top of the repository.
    let included = included(Path::new("src"));
    for known in ["README.md", "fixtures/campus.mcap"] {
        assert!(included.contains(&known.into()), "this test does not see what is included");
    }
    for path in included {
        let is_copied = copied.iter().any(|copied| path.starts_with(copied));
        assert!(is_copied, "{} is not copied", path.display());
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
