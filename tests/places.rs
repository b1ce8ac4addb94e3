//! Frames of a capture, read once more where they are.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::{fs, ops::ControlFlow, path::Path, sync::Arc};

use centralcap::{
    capture::{About, Capture, Compression, HotSegment, Place, Places, SealedFile},
    entry::Entry,
    error::Result,
    inspect::{Numbered, each_frame},
    select::Selection,
    synth,
};

fn about() -> About {
    About { started: synth::START, host: String::new(), options: [].into() }
}

fn campus(messages: u64) -> Vec<Entry> {
    synth::Synth::new(&synth::Options { messages, ..<_>::default() }).unwrap().collect()
}

fn frames(entries: &[Entry]) -> Vec<Entry> {
    entries.iter().filter(|entry| entry.frame().is_some()).cloned().collect()
}

fn write_sealed(path: &Path, entries: &[Entry]) {
    let mut file = SealedFile::create(path, &about(), &[]).unwrap();
    for entry in entries {
        file.append(entry).unwrap();
    }
    file.finish().unwrap();
}

/// Where each frame is, and the frame.
fn found(capture: &Capture) -> Vec<(Place, Entry)> {
    let mut found = Vec::new();
    let see = |numbered: Numbered<'_>| {
        found.push((numbered.place, numbered.entry.clone()));
        Ok(ControlFlow::Continue(()))
    };
    each_frame(capture, Selection::default(), |_| (), see).unwrap();
    found
}

fn again(places: &mut Places, (place, entry): &(Place, Entry)) -> Result<Entry> {
    let kind = Arc::clone(&entry.frame().unwrap().kind);
    places.frame(*place, &entry.subscription, &kind)
}

#[track_caller]
fn assert_found(places: &mut Places, found: &[(Place, Entry)]) {
    // From the end, too: each chunk is come to from behind.
    for frame in found.iter().chain(found.iter().rev()) {
        assert!(again(places, frame).unwrap() == frame.1, "{:?}", frame.0);
    }
}

#[test]
fn every_frame_is_read_again_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let entries = campus(1500);
    let (first, second) = entries.split_at(1000);
    write_sealed(&folder.path().join("a.mcap"), first);
    write_sealed(&folder.path().join("b.mcap"), second);
    let capture = Capture::open(&[folder.path()]).unwrap();
    let found = found(&capture);
    let written: Vec<_> = found.iter().map(|(_, entry)| entry.clone()).collect();
    assert!(written == frames(&entries));
    let mut chunks: Vec<_> = found.iter().map(|(at, _)| (at.segment, at.offset)).collect();
    chunks.dedup();
    assert!(chunks.len() > 2, "there are chunks to go to and fro between");
    assert_found(&mut Places::of(&capture), &found);
}

#[test]
fn frames_of_a_hot_segment_stay_where_they_are_when_it_is_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let entries = campus(300);
    let mut hot = HotSegment::create(&folder.path().join("a.mcap"), &about(), &[]).unwrap();
    for entry in &entries {
        hot.append(entry).unwrap();
    }
    hot.commit().unwrap();
    let capture = Capture::open(&[folder.path()]).unwrap();
    let mut places = Places::of(&capture);
    let found_hot = found(&capture);
    assert_eq!(found_hot.len(), 300);
    assert!(found_hot.iter().all(|(place, _)| place.within.is_none()));
    assert_found(&mut places, &found_hot);

    let path = hot.path().to_owned();
    hot.seal(Compression::default()).unwrap();
    assert!(!path.exists());
    assert_found(&mut places, &found_hot);
    // Whoever has found the hot one and reads the sealed one has places in that.
    let found_sealed = found(&capture);
    assert!(found_sealed.iter().all(|(place, _)| place.within.is_some()));
    assert_found(&mut places, &found_sealed);
}

#[test]
fn what_is_gone_or_never_was_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mcap");
    write_sealed(&path, &campus(100));
    let capture = Capture::open(&[&path]).unwrap();
    let found = found(&capture);
    let (place, entry) = &found[50];
    // Next to it, behind the chunk, outside of it, and in a segment that there is not.
    let within = place.within.map(|within| within + 1);
    let wrong = [
        Place { within, ..*place },
        Place { within: Some(u32::MAX), ..*place },
        Place { within: None, ..*place },
        Place { offset: place.offset + 1, ..*place },
        Place { offset: u64::MAX, ..*place },
        Place { segment: 1, ..*place },
    ];
    let mut places = Places::of(&capture);
    for place in wrong {
        assert!(again(&mut places, &(place, entry.clone())).is_err(), "{place:?}");
    }
    assert!(again(&mut places, &found[50]).unwrap() == *entry, "an error is not the end");

    let data = fs::read(&path).unwrap();
    for kept in [0, 8, data.len() / 2, data.len() - 1] {
        fs::write(&path, &data[..kept]).unwrap();
        // Nothing may be believed of it, and nothing panics.
        let found = again(&mut Places::of(&capture), &found[50]);
        assert!(found.is_err() || found.unwrap() == *entry, "{kept}");
    }
    let mut flipped = data.clone();
    let middle = data.len() / 2;
    flipped[middle] ^= 1;
    fs::write(&path, &flipped).unwrap();
    assert!(again(&mut Places::of(&capture), &found[50]).unwrap_err().is_damage());
}
