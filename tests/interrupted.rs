//! Whoever interrupts what makes a file finds nothing half-written.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use support::{command::centralcap, place::names_in, wait::wait_for};

/// Longer than any test runs.
const FOR_EVER: &str = "last(range(100000000000)) > 0";

fn start(folder: &Path, args: &[&str]) -> Child {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"));
    command.args(args).current_dir(folder).stdin(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Interrupts it as soon as a file or folder of it is there, beside which a stranger's has to stay.
#[track_caller]
fn interrupted(mut child: Child, folder: &Path, signal: Signal) {
    let stranger = ".centralcap-0123456789abcdef-x.part";
    fs::write(folder.join(stranger), "half of something").unwrap();
    wait_for("file", || names_in(folder).join(" "), || names_in(folder).len() >= 2);
    kill_process(Pid::from_child(&child), signal).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(names_in(folder), [stranger]);
}

#[test]
fn encode_leaves_nothing_while_it_waits_for_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start(folder.path(), &["encode", "-o", "out.mcap"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"{\"topic\": \"audit\", \"data\": {}}\n").unwrap();
    stdin.flush().unwrap();
    interrupted(child, folder.path(), Signal::INT);
}

#[test]
fn edit_leaves_neither_a_file_nor_a_folder() {
    let inputs = fs::canonicalize("fixtures/small.mcap").unwrap();
    let inputs = inputs.to_str().unwrap();
    for split in [&[][..], &["--split-by", "topic"]] {
        let folder = tempfile::tempdir().unwrap();
        let args = [&["edit", inputs, "-o", "./out", "--where", FOR_EVER], split].concat();
        interrupted(start(folder.path(), &args), folder.path(), Signal::TERM);
    }
}

#[test]
fn synth_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["synth", "--messages", "100000000", "-o", "out.mcap"];
    interrupted(start(folder.path(), &args), folder.path(), Signal::INT);
}

#[test]
fn decode_leaves_neither_a_file_nor_a_folder() {
    let made = tempfile::tempdir().unwrap();
    let capture = made.path().join("in.mcap").to_str().unwrap().to_owned();
    assert_eq!(centralcap(["synth", "--messages", "3000", "-o", &capture]).code, 0);
    // The first frames are written at once.
    let late = format!("if .received < \"2026-01-05T08:15\" then true else {FOR_EVER} end");
    let run = |folder: &Path, options: &[&str]| {
        let common = ["decode", &capture, "--quiet", "--threads", "1", "--where", &late, "-o"];
        start(folder, &[&common, options].concat())
    };
    for (options, signal) in [
        (&["lines.ndjson"][..], Signal::INT),
        (&["lines.ndjson.zst"], Signal::TERM),
        (&["./document.json", "--format", "json"], Signal::INT),
        (&["table.csv", "--select", "received"], Signal::TERM),
        (&["tables", "--format", "csv"], Signal::INT),
        (&["not/there/yet", "--format", "csv"], Signal::TERM),
    ] {
        let folder = tempfile::tempdir().unwrap();
        interrupted(run(folder.path(), options), folder.path(), signal);
    }
    let folder = tempfile::tempdir().unwrap();
    let tables = folder.path().join("tables");
    fs::create_dir(&tables).unwrap();
    interrupted(run(folder.path(), &["tables", "--format", "csv"]), &tables, Signal::INT);
    assert_eq!(names_in(folder.path()), ["tables"]);
}
