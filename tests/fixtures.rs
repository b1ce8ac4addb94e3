//! The fixtures are what this version makes.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::{fs, path::Path};

use centralcap::{
    capture::Capture,
    codec::plan::Style,
    decode,
    schema::Resolver,
    sink::{ndjson::Ndjson, stream::Stream},
    synth::{self, Options},
};

#[track_caller]
fn assert_remade(name: &str, options: &Options) {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join(name);
    synth::write(options, &made).unwrap();
    let there = Path::new("fixtures").join(name);
    assert!(fs::read(&made).unwrap() == fs::read(&there).unwrap(), "remake it: fixtures/remake");
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
fn its_decoded_twin_is_what_decode_says() {
    let capture = Capture::open(&["fixtures/small.mcap"]).unwrap();
    let mut lines = Vec::new();
    let mut sink = [Ndjson::new(Resolver::default(), Style::default())];
    let mut out = Stream::new(&mut lines);
    let summary = decode::decode(capture.entries(), &mut sink, &mut out, true, |_| {});
    assert_eq!(summary.unwrap().decoded, 40);
    drop(out);
    assert!(lines == fs::read("fixtures/small.ndjson").unwrap(), "remake it: fixtures/remake");
}

#[test]
fn all_fixtures_together_are_small() {
    let sizes =
        fs::read_dir("fixtures").unwrap().map(|item| item.unwrap().metadata().unwrap().len());
    assert!(sizes.sum::<u64>() < 2 * 1024 * 1024);
}
