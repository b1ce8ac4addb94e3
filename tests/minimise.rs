//! What `edit --minimise` keeps, counted with prost-reflect, and that nothing of it could be left out.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use centralcap::{
    capture::Capture,
    entry::{
        Entry, What,
        session_event::{Closed, Connected, Event},
    },
    schema, synth,
};
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, ReflectMessage, Value};
use tempfile::TempDir;

use self::support::{
    capture::{Entries, envelope, subscription},
    command::{Ran, centralcap},
    message,
};

mod support;

/// A folder for one test.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn synthetic(&self, name: &str, options: synth::Options) {
        synth::write(&options, Path::new(&self.path(name))).unwrap();
    }

    fn minimise(&self, options: &[&str]) -> Ran {
        let (input, output) = (self.path("in.mcap"), self.path("out.mcap"));
        let ran = centralcap([&["edit", &input, "-o", &output, "--minimise"], options].concat());
        assert_eq!((ran.code, &*ran.stdout), (0, ""), "{}", ran.stderr);
        ran
    }

    fn entries(&self, name: &str) -> Vec<Entry> {
        let capture = Capture::open(&[self.path(name)]).unwrap();
        capture.entries().map(Result::unwrap).collect()
    }

    fn size(&self, name: &str) -> u64 {
        std::fs::metadata(self.path(name)).unwrap().len()
    }
}

/// The test's own count: what prost-reflect finds in frames.
#[derive(Default)]
struct Judge(HashMap<usize, (Entry, MessageDescriptor)>);

impl Judge {
    fn of_all(&mut self, entries: &[Entry]) -> BTreeSet<String> {
        entries.iter().flat_map(|entry| self.of(entry)).collect()
    }

    fn of(&mut self, entry: &Entry) -> BTreeSet<String> {
        let Some(frame) = entry.frame() else { return BTreeSet::new() };
        let (_, descriptor) =
            self.0.entry(Arc::as_ptr(&frame.kind) as usize).or_insert_with(|| {
                let pool = schema::from_descriptor_set(&frame.kind.descriptors, "a test").unwrap();
                (entry.clone(), pool.get_message_by_name(&frame.kind.envelope).unwrap())
            });
        let mut found = BTreeSet::from([frame.kind.label.clone()]);
        let decoded = DynamicMessage::decode(descriptor.clone(), frame.data.clone()).unwrap();
        look(&decoded, &frame.kind.label, &mut found);
        found
    }
}

fn look(message: &DynamicMessage, path: &str, found: &mut BTreeSet<String>) {
    for field in message.descriptor().fields() {
        let path = format!("{path}.{}", field.name());
        let value = message.get_field(&field);
        if message.has_field(&field) {
            found.insert(path.clone());
        }
        let values = match &*value {
            Value::List(list) => {
                found.insert(format!("{path} {}", list.len().min(2)));
                list.clone()
            }
            _ if message.has_field(&field) => vec![value.into_owned()],
            _ => Vec::new(),
        };
        for value in values {
            match (value, field.kind()) {
                (Value::Message(inside), _) => look(&inside, &path, found),
                (Value::EnumNumber(number), Kind::Enum(_)) => {
                    found.insert(format!("{path} = {number}"));
                }
                _ => {}
            }
        }
    }
    for unknown in message.unknown_fields() {
        found.insert(format!("{path}.#{}", unknown.number()));
    }
}

/// How many frames: 200 MB of them are asked for by `MESSAGES=180000`.
fn measure() -> u64 {
    std::env::var("MESSAGES").ok().map_or(2000, |count| count.parse().unwrap())
}

#[test]
fn all_that_was_seen_is_covered_by_few_small_frames() {
    let place = Place::new();
    place.synthetic(
        "in.mcap",
        synth::Options { seed: 5, messages: measure(), ..Default::default() },
    );
    let ran = place.minimise(&[]);
    let (before, after) = (place.entries("in.mcap"), place.entries("out.mcap"));
    let mut judge = Judge::default();
    let (seen, covered) = (judge.of_all(&before), judge.of_all(&after));
    assert!(seen.len() > 500 && seen == covered, "{:?}", seen.difference(&covered).next());
    assert!(seen.iter().any(|feature| feature.contains(".#")), "nothing is unknown");
    let frames = |entries: &[Entry]| entries.iter().filter(|entry| entry.frame().is_some()).count();
    assert!(frames(&after) * 4 < frames(&before), "{} of {}", frames(&after), frames(&before));
    assert!(place.size("out.mcap") < 200 * 1024, "{}", place.size("out.mcap"));
    // Frames are those that were there, in their order.
    let mut all = before.iter();
    assert!(after.iter().all(|entry| all.any(|before| before == entry)));
    // It is said, and it is so.
    let told = ran.stderr.lines().next().unwrap();
    let count = |is_it: &dyn Fn(&&String) -> bool| {
        let count = seen.iter().filter(is_it).count();
        format!("{count} of {count}")
    };
    let expected = format!(
        "{} of {} frames cover {} types, {} fields, {} enum values, {} list lengths, {} unknown fields",
        frames(&after),
        frames(&before),
        count(&|feature| !feature.contains(['.', ' ']) || *feature == "location.geofence"),
        count(&|feature| {
            feature.contains('.')
                && !feature.contains([' ', '#'])
                && *feature != "location.geofence"
        }),
        count(&|feature| feature.contains(" = ")),
        count(&|feature| feature.contains(' ') && !feature.contains('=')),
        count(&|feature| feature.contains('#')),
    );
    assert_eq!(told, expected);
    let records = records(&place.path("out.mcap"));
    assert_eq!(records["centralcap"]["option.edit.minimise"], "yes");
    assert_eq!(records["centralcap"]["option.edit.whole"], "no");
    let fields = expected.split("types, ").nth(1).unwrap().split(" fields").next().unwrap();
    assert_eq!(records["centralcap.edit"]["minimise.fields"], fields);
}

/// The metadata of a capture, by the records' names.
fn records(path: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let capture = Capture::open(&[path]).unwrap();
    let mut entries = capture.entries();
    entries.by_ref().for_each(drop);
    let records = entries.metadata().iter();
    records.map(|record| (record.name.clone(), record.metadata.clone())).collect()
}

#[test]
fn none_of_the_frames_that_are_left_could_be_left_out() {
    let place = Place::new();
    place.synthetic("in.mcap", synth::Options { seed: 9, messages: 1000, ..Default::default() });
    place.minimise(&[]);
    let entries = place.entries("out.mcap");
    let mut judge = Judge::default();
    let found: Vec<_> = entries.iter().map(|entry| judge.of(entry)).collect();
    let mut counts = BTreeMap::<&String, u32>::new();
    for feature in found.iter().flatten() {
        *counts.entry(feature).or_default() += 1;
    }
    for (entry, found) in entries.iter().zip(&found).filter(|(entry, _)| entry.frame().is_some()) {
        assert!(found.iter().any(|feature| counts[feature] == 1), "{entry:?}");
    }
}

#[test]
fn it_is_asked_after_everything_that_selects() {
    let place = Place::new();
    place.synthetic("in.mcap", synth::Options { seed: 5, messages: 600, ..Default::default() });
    let labels = |place: &Place| {
        let entries = place.entries("out.mcap");
        let labels = entries.iter().filter_map(|entry| Some(entry.frame()?.kind.label.clone()));
        let labels: BTreeSet<_> = labels.collect();
        std::fs::remove_file(place.path("out.mcap")).unwrap();
        labels.into_iter().collect::<Vec<_>>().join(" ")
    };
    place.minimise(&["--topic", "presence"]);
    assert_eq!(labels(&place), "presence");
    place.minimise(&["--where", ".topic == \"location\" and .data.geofence_event != null"]);
    assert_eq!(labels(&place), "location.geofence");
    let ran = place.minimise(&["--sample", "1", "--restamp", "2026-12-01T00:00:00Z"]);
    assert!(ran.stderr.contains("7 of 7 frames cover 7 of 7 types, "), "{}", ran.stderr);
    let first = place.entries("out.mcap")[0].received;
    assert!(first.to_string().starts_with("2026-12-01T00:00:00"), "{first}");
}

#[test]
fn of_what_is_no_message_and_of_each_session_event_one_is_kept() {
    let place = Place::new();
    let mut entries = Entries::new();
    let ms = Duration::from_millis;
    for (number, topic) in ["audit", "security", "audit"].into_iter().enumerate() {
        let of = subscription(&format!("{number} {topic}"), topic);
        let number = number as u64;
        entries.happened(ms(10 * number), &of, 1, Event::Connected(Connected::default()));
        let broken = Bytes::from([&[0x12, 50 + number as u8][..], topic.as_bytes()].concat());
        entries.frame(ms(10 * number + 1), &of, broken);
        for field in [7, 8, 7] {
            let data = envelope(topic, "1", message::len(field, b"x"));
            entries.frame(ms(10 * number + 2), &of, data);
        }
        entries.happened(ms(10 * number + 3), &of, 1, Event::Closed(Closed::default()));
    }
    entries.write(Path::new(&place.path("in.mcap")));
    let ran = place.minimise(&[]);
    assert!(ran.stderr.contains(", 2 of 2 broken\n"), "{}", ran.stderr);
    let left = place.entries("out.mcap");
    let events = left.iter().filter(|entry| matches!(entry.what, What::Event(_)));
    assert_eq!(events.count(), 4, "two of each topic");
    let broken = left.iter().filter_map(Entry::frame).filter(|frame| frame.data[1] >= 50);
    let found: Vec<_> = broken.map(|frame| frame.kind.label.clone()).collect();
    assert_eq!(found, ["audit", "security"]);
}

#[test]
fn what_is_in_it_does_not_depend_on_the_run() {
    let place = Place::new();
    place.synthetic("in.mcap", synth::Options { seed: 2, messages: 400, ..Default::default() });
    let made = |place: &Place| {
        place.minimise(&[]);
        let made = std::fs::read(place.path("out.mcap")).unwrap();
        std::fs::remove_file(place.path("out.mcap")).unwrap();
        made
    };
    assert!(made(&place) == made(&place));
}

#[test]
fn what_a_redaction_leaves_out_is_not_covered() {
    let place = Place::new();
    let mut entries = Entries::new();
    let of = subscription("a", "audit");
    let data = envelope("audit", "1", message::len(1000, b"x"));
    entries.frame(Duration::ZERO, &of, data);
    entries.write(Path::new(&place.path("in.mcap")));
    let ran = place.minimise(&[]);
    assert!(ran.stderr.contains("1 of 1 unknown fields"), "{}", ran.stderr);
    std::fs::remove_file(place.path("out.mcap")).unwrap();
    let ran = place.minimise(&["--redact"]);
    assert!(ran.stderr.contains("0 of 1 unknown fields"), "{}", ran.stderr);
    assert!(ran.stderr.contains("left out: 1 field, unknown"), "{}", ran.stderr);
}
