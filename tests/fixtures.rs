//! The fixtures are what this version makes.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::{fs, path::Path};

use centralcap::{
    capture::Capture,
    codec::plan::Style,
    decode,
    edit::{self, Redaction},
    redact::Policy,
    schema::Resolver,
    sink::{ndjson::Ndjson, stream::Stream},
    synth::{self, Options},
};

const REMAKE: &str = "remake it: fixtures/remake";

#[track_caller]
fn assert_remade(name: &str, options: &Options) {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join(name);
    synth::write(options, &made).unwrap();
    let there = Path::new("fixtures").join(name);
    assert!(fs::read(&made).unwrap() == fs::read(&there).unwrap(), "{REMAKE}");
}

#[test]
fn the_campus_is_what_its_seed_makes() {
    assert_remade("campus.mcap", &Options { seed: 7, messages: 600, ..Options::default() });
}

#[test]
fn the_small_capture_is_what_its_seed_makes() {
    let topics = ["audit", "location", "monitoring", "presence", "security"];
    let topics = topics.map(str::to_owned).to_vec();
    let options = Options { seed: 11, messages: 40, devices: 6, topics, ..Options::default() };
    assert_remade("small.mcap", &options);
}

#[test]
fn the_clean_capture_is_what_minimising_and_redacting_make() {
    let folder = tempfile::tempdir().unwrap();
    // As in `fixtures/remake`.
    let key = folder.path().join("key");
    fs::write(&key, "synthetic: the fixtures of centralcap, no secret at all\n").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let key = edit::key_from(&key).unwrap();
    let redaction = Redaction { key, policy: Policy::default(), keep_oui: false };
    let topics = ["apprf", "audit", "location", "monitoring", "presence", "security"];
    let renames = topics.map(|topic| format!("north-{topic}={topic}").parse().unwrap()).to_vec();
    let options = edit::Options {
        renames,
        minimise: true,
        redaction: Some(redaction),
        ..edit::Options::default()
    };
    let made = folder.path().join("clean.mcap");
    let inputs = ["fixtures/campus.mcap".into()];
    let summary = edit::edit(&inputs, &made, &options, |error| panic!("{error}")).unwrap();
    for (name, part) in summary.coverage.unwrap().parts() {
        // What the schema does not know is left out where pseudonyms are put in.
        let expected = if name == "unknown fields" { 0 } else { part.seen };
        assert_eq!(part.covered, expected, "{name}");
    }
    assert!(fs::read(&made).unwrap() == fs::read("fixtures/clean.mcap").unwrap(), "{REMAKE}");
}

/// What `decode` says of a capture.
fn twin(path: &str, shows_unknown: bool) -> Vec<u8> {
    let capture = Capture::open(&[path]).unwrap();
    let mut lines = Vec::new();
    let mut sink =
        [Ndjson::new(Resolver::default(), Style::default()).showing_unknown(shows_unknown)];
    let mut out = Stream::new(&mut lines);
    let frames = capture.entries().filter(|entry| entry.as_ref().unwrap().frame().is_some());
    let frames = frames.count() as u64;
    let summary = decode::decode(capture.entries(), &mut sink, &mut out, true, |_| {});
    assert_eq!(summary.unwrap().decoded, frames);
    drop(out);
    lines
}

#[test]
fn decoded_twins_are_what_decode_says() {
    let small = twin("fixtures/small.mcap", false);
    assert!(small == fs::read("fixtures/small.ndjson").unwrap(), "{REMAKE}");
    let clean = twin("fixtures/clean.mcap", true);
    assert!(clean == fs::read("fixtures/clean.ndjson").unwrap(), "{REMAKE}");
}

#[test]
fn all_fixtures_together_are_small() {
    let sizes =
        fs::read_dir("fixtures").unwrap().map(|item| item.unwrap().metadata().unwrap().len());
    assert!(sizes.sum::<u64>() < 2 * 1024 * 1024);
}
