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

use centralcap::capture::{Compression, seal_left_overs};
use rustix::process::{Pid, Signal, kill_process};
use support::{
    command::{centralcap, centralcap_with},
    place::names_in,
    wait::wait_for,
};

/// Longer than any test runs.
const FOR_EVER: &str = "last(range(100000000000)) > 0";

/// A command that ends with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Most have ended.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn start(folder: &Path, args: &[&str]) -> Running {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"));
    command.args(args).current_dir(folder).stdin(Stdio::piped()).stderr(Stdio::piped());
    Running(command.spawn().unwrap())
}

/// Interrupts it as soon as a file or folder of it is there, beside which a stranger's has to stay.
#[track_caller]
fn interrupted(mut running: Running, folder: &Path, signal: Signal) {
    let stranger = ".centralcap-0123456789abcdef-x.part";
    fs::write(folder.join(stranger), "half of something").unwrap();
    wait_for("file", || names_in(folder).join(" "), || names_in(folder).len() >= 2);
    kill_process(Pid::from_child(&running.0), signal).unwrap();
    assert_eq!(running.0.wait().unwrap().code(), Some(130));
    assert_eq!(names_in(folder), [stranger]);
}

#[test]
fn encode_leaves_nothing_while_it_waits_for_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start(folder.path(), &["encode", "-o", "out.mcap"]);
    let mut stdin = child.0.stdin.take().unwrap();
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

/// A capture of which [`decode`] has something to write.
fn synthetic(folder: &Path) -> String {
    let capture = folder.join("in.mcap").to_str().unwrap().to_owned();
    assert_eq!(centralcap(["synth", "--messages", "3000", "-o", &capture]).code, 0);
    capture
}

/// Decodes for ever, but writes the first frames at once.
fn decode(capture: &str, folder: &Path, options: &[&str]) -> Running {
    let late = format!("if .received < \"2026-01-05T08:15\" then true else {FOR_EVER} end");
    let common = ["decode", capture, "--quiet", "--threads", "1", "--where", &late, "-o"];
    start(folder, &[&common, options].concat())
}

#[test]
fn decode_leaves_neither_a_file_nor_a_folder() {
    let made = tempfile::tempdir().unwrap();
    let capture = synthetic(made.path());
    let run = |folder: &Path, options: &[&str]| decode(&capture, folder, options);
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

#[test]
fn who_records_next_sweeps_the_folders_of_who_was_killed_and_nothing_else() {
    let made = tempfile::tempdir().unwrap();
    let capture = synthetic(made.path());
    let split = ["edit", &capture, "-o", "./parts", "--split-by", "topic", "--where", FOR_EVER];
    for name in ["tables", "parts"] {
        let run = |folder: &Path| match name {
            "tables" => decode(&capture, folder, &[name, "--format", "csv"]),
            _ => start(folder, &split),
        };
        let place = tempfile::tempdir().unwrap();
        let folder = place.path();
        let there = || names_in(folder).join(" ");
        let sweep = || seal_left_overs(folder, Compression::default()).unwrap();
        let killed = run(folder);
        wait_for(name, there, || !names_in(folder).is_empty());
        drop(killed);
        let left = names_in(folder);
        assert_eq!(left.len(), 1, "{left:?}");
        fs::create_dir(folder.join(&left[0]).join("something")).unwrap();

        let living = run(folder);
        wait_for(name, there, || names_in(folder).len() == 2);
        sweep();
        // A folder that was swept before it was locked is made again.
        wait_for(name, there, || names_in(folder).len() == 1 && names_in(folder) != left);
        drop(living);
        sweep();
        assert_eq!(names_in(folder), [""; 0], "{name}");
    }
}

#[test]
fn who_records_one_file_sweeps_what_was_left_beside_it_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let there = || names_in(folder).join(" ");
    let synth = || start(folder, &["synth", "--messages", "100000000", "-o", "out.mcap"]);
    let killed = synth();
    wait_for("file", there, || !names_in(folder).is_empty());
    drop(killed);
    let [left] = &names_in(folder)[..] else { panic!("{}", there()) };
    let _living = synth();
    wait_for("file", there, || names_in(folder).len() == 2);
    let strangers = [".centralcap-notes.part", ".centralcap-0123456789abcdef-x.part"];
    for name in strangers {
        fs::write(folder.join(name), "half of something").unwrap();
    }
    let before = names_in(folder);

    let one = folder.join("one.mcap").to_str().unwrap().to_owned();
    let record = ["record", "--hostname", "127.0.0.1:1", "--topic", "audit", "-o", &one];
    let end = ["--stop-after-duration", "10ms"];
    let ran = centralcap_with(&[("CENTRALCAP_KEY", "synthetic")], record.iter().chain(&end));
    assert_eq!(ran.code, 1, "{ran:?}");
    let after = before.into_iter().filter(|name| name != left).chain(["one.mcap".to_owned()]);
    assert_eq!(names_in(folder), after.collect::<Vec<_>>());
}
