//! What was saved from a damaged capture says so for ever, and proving tells its holes from faults.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use centralcap::{
    capture::Capture,
    inspect::{self, Check, Verdict},
    synth,
};
use serde_json::Value as Json;
use support::{
    capture::entries_of,
    command::{Ran, centralcap},
    place::Place,
};

impl Place {
    /// A capture of several chunks that was changed so.
    fn spoilt(&self, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> PathBuf {
        let (whole, spoilt) = (self.path("whole.mcap"), self.path("spoilt.mcap"));
        let options = synth::Options { messages: 2500, ..synth::Options::default() };
        synth::write(&options, &whole).unwrap();
        fs::write(&spoilt, change(fs::read(&whole).unwrap())).unwrap();
        spoilt
    }

    fn edit(&self, input: &Path, name: &str, options: &[&str]) -> (Ran, PathBuf) {
        let output = self.path(name);
        let paths = [input.to_str().unwrap(), "-o", output.to_str().unwrap()];
        (centralcap([&["edit"], &paths[..], options].concat()), output)
    }
}

fn without_its_head(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[..4096].fill(0);
    bytes
}

fn cut(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() * 2 / 3);
    bytes
}

fn holed(mut bytes: Vec<u8>) -> Vec<u8> {
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4].fill(b'x');
    bytes
}

fn inspected(path: &Path, options: &[&str]) -> Ran {
    centralcap([&["inspect", path.to_str().unwrap()], options].concat())
}

fn json(path: &Path, options: &[&str]) -> Json {
    serde_json::from_str(&inspected(path, &[options, &["--json"]].concat()).stdout).unwrap()
}

fn verdict(path: &Path) -> Verdict {
    inspect::verify(&Capture::open(&[path]).unwrap()).unwrap()
}

/// What was told of lost frames when this was edited.
fn told(ran: &Ran) -> Vec<String> {
    let lines = ran.stderr.lines().filter_map(|line| line.strip_prefix("warning: lost of "));
    lines.map(|words| format!("lost of {words}")).collect()
}

#[test]
fn what_was_saved_says_what_that_has_cost_and_has_no_faults_of_its_own() {
    for change in [without_its_head as fn(Vec<u8>) -> Vec<u8>, cut, holed] {
        let place = Place::new();
        let (ran, saved) = place.edit(&place.spoilt(change), "saved.mcap", &[]);
        assert_eq!(ran.code, 3, "{ran:?}");
        let told = told(&ran);
        assert!(!told.is_empty(), "{ran:?}");

        let ran = inspected(&saved, &["--gaps", "--verbose"]);
        assert_eq!(ran.code, 3, "{ran:?}");
        let words = "saved from  a damaged capture: 1 damaged place\n";
        assert!(ran.stdout.contains(words), "{ran:?}");
        assert!(ran.stdout.contains("1 earlier damaged place"), "{ran:?}");
        assert!(told.iter().all(|words| ran.stdout.contains(words)), "{told:?}: {ran:?}");
        let past = serde_json::json!({ "damaged_places": 1, "lost": told, "lost_more": 0 });
        assert_eq!(json(&saved, &[])["past_damage"], past);

        let verdict = verdict(&saved);
        assert!(verdict.whole && !verdict.is_good(), "{:?}", verdict.checks);
        let ran = inspected(&saved, &["--verify"]);
        assert_eq!(ran.code, 3, "{ran:?}");
        let words = format!("verdict     whole, but saved from a damaged capture\n{words}");
        assert!(ran.stdout.contains(&words), "{ran:?}");
    }
}

#[test]
fn faults_of_what_was_saved_are_told_as_ever() {
    let place = Place::new();
    let (_, saved) = place.edit(&place.spoilt(cut), "saved.mcap", &[]);
    fs::write(&saved, holed(fs::read(&saved).unwrap())).unwrap();
    let verdict = verdict(&saved);
    assert!(!verdict.whole && verdict.past_damage.is_some());
    let page = inspected(&saved, &["--verify"]).stdout;
    assert!(page.contains("verdict     not whole: "), "{page}");
    assert!(page.contains("saved from  a damaged capture"), "{page}");
}

#[test]
fn whoever_edits_it_again_hands_it_on() {
    let place = Place::new();
    let (_, saved) = place.edit(&place.spoilt(holed), "saved.mcap", &[]);
    let past = json(&saved, &[])["past_damage"].clone();
    let (ran, again) = place.edit(&saved, "again.mcap", &["--topic", "audit"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let (ran, third) = place.edit(&again, "third.mcap", &["--limit", "1"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(json(&third, &[])["past_damage"], past);
    assert_eq!(inspected(&third, &["--verify"]).code, 3);

    // All parts of one output remember the same.
    let (ran, parts) = place.edit(&saved, "parts", &["--split-by", "topic", "--limit", "30"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(json(&parts, &[])["past_damage"], past);

    // Without names where names are hidden.
    let hiding = ["--redact", "--topic", "audit"];
    for input in ["spoilt.mcap", "saved.mcap"] {
        let (_, hidden) = place.edit(&place.path(input), &format!("hidden-{input}"), &hiding);
        let hidden = &json(&hidden, &[])["past_damage"];
        let lost = past["lost"].as_array().unwrap().len();
        let expected = serde_json::json!({ "damaged_places": 1, "lost": [], "lost_more": lost });
        assert_eq!(*hidden, expected, "{input}");
    }
}

#[test]
fn a_capture_without_damage_remembers_none() {
    let place = Place::new();
    let (ran, edited) = place.edit(&place.spoilt(|bytes| bytes), "edited.mcap", &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(json(&edited, &[])["past_damage"], Json::Null);
    assert!(verdict(&edited).is_good());
}

#[test]
fn a_capture_without_its_head_is_proven_from_there_on() {
    let place = Place::new();
    let spoilt = place.spoilt(without_its_head);
    let ran = inspected(&spoilt, &["--verify"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    let verdict = verdict(&spoilt);
    let frames = entries_of_damaged(&spoilt);
    assert!(frames > 100, "{frames}");
    assert_eq!(verdict.frames, frames);
    let of = |check: Check| &verdict.checks[check as usize];
    assert_eq!((of(Check::Records).faults, of(Check::Records).first[0].offset), (2, 0));
    // Who has a channel is known from the summary.
    assert_eq!(of(Check::Channels).faults, 0, "{:?}", of(Check::Channels));
    assert_eq!(of(Check::ChunkChecksums).faults, 0);
    assert!(entries_of(&place.path("whole.mcap")).len() as u64 > frames);
}

fn entries_of_damaged(path: &Path) -> u64 {
    let entries = Capture::open(&[path]).unwrap().entries().flatten();
    entries.filter(|entry| entry.frame().is_some()).count() as u64
}
