//! What `inspect` shows of captures, whole and broken ones.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use centralcap::{
    capture::{Capture, PastDamage},
    entry::{
        Subscription,
        session_event::{
            ClockStepped, Closed, Connected, Continued, DroppedFrames, Event, ExportDropped,
            Failed, Gap, KeyRenewed, Rejected, SegmentDeleted, TextFrame, gap::Cause,
        },
    },
    inspect::{self, Look, Profile},
    select::Selection,
};
use serde_json::Value as Json;

use self::support::{
    capture::{Entries, START, envelope, message, subscription},
    command::{Ran, centralcap, centralcap_with},
};

mod support;

const PLAIN: Look = Look { color: false, unicode: true, width: inspect::WIDTH, everything: false };

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn connected(attempt: u32) -> Event {
    let peer = "192.0.2.1:443".to_owned();
    Event::Connected(Connected { attempt, status: 101, round_trip_ns: 23_000_000, peer })
}

fn closed(code: Option<u32>, reason: &str, last_sequence: u64) -> Event {
    let reason = reason.to_owned();
    Event::Closed(Closed { code, reason, clean: code == Some(1000), last_sequence })
}

fn gap(from: u64, to: u64) -> Event {
    let at = |after| START.after(seconds(after)).as_nanos();
    Event::Gap(Gap { from_ns: at(from), to_ns: at(to), cause: Cause::Server.into() })
}

/// A location: field 1 is a float, and there is a field 15.
fn location(customer: &str) -> bytes::Bytes {
    envelope("location", customer, &[0x0d, 0x00, 0x00, 0x80, 0x3f, 0x7a, 0x00][..])
}

/// A geofence notice: field 1 is an enum, and there is no field 15.
fn geofence(customer: &str) -> bytes::Bytes {
    envelope("location", customer, &[0x08, 0x01, 0x1a, 0x05, b'l', b'o', b'b', b'b', b'y'][..])
}

/// Everything that can happen, once.
fn eventful() -> Entries {
    let mut entries = Entries::new();
    let places = subscription("campus-places", "location");
    let changes = subscription("campus-changes", "audit");
    entries.happened(seconds(0), &places, 0, Event::Failed(failed()));
    entries.happened(seconds(1), &places, 0, Event::Rejected(rejected()));
    entries.happened(seconds(2), &places, 0, Event::KeyRenewed(KeyRenewed { written_back: true }));
    entries.happened(seconds(3), &places, 1, connected(3));
    entries.happened(seconds(3), &changes, 1, connected(1));
    for (after, sequence) in [(4, 1), (5, 2), (9, 5)] {
        entries.numbered(seconds(after), &places, sequence, location("1000001"));
    }
    entries.happened(seconds(9), &places, 1, Event::DroppedFrames(dropped()));
    entries.numbered(seconds(10), &places, 6, geofence("1000001"));
    entries.numbered(seconds(11), &changes, 1, message("audit", 1, 2000));
    entries.happened(seconds(12), &changes, 1, Event::TextFrame(text_frame()));
    entries.happened(seconds(12), &changes, 1, Event::Continued(continued()));
    entries.happened(seconds(12), &changes, 1, Event::ClockStepped(clock_stepped()));
    entries.happened(seconds(12), &changes, 1, Event::ExportDropped(export_dropped()));
    entries.happened(seconds(12), &changes, 1, Event::SegmentDeleted(segment_deleted()));
    entries.happened(seconds(13), &places, 1, closed(Some(1001), "going away", 6));
    entries.happened(seconds(43), &places, 1, gap(13, 43));
    entries.happened(seconds(43), &places, 2, connected(1));
    entries.numbered(seconds(44), &places, 1, geofence("1000001"));
    entries.happened(seconds(45), &places, 2, closed(Some(1000), "", 1));
    entries.happened(seconds(45), &changes, 1, closed(None, "connection reset", 1));
    entries
}

fn failed() -> Failed {
    Failed { attempt: 1, reason: "connection refused".to_owned() }
}

fn rejected() -> Rejected {
    Rejected { attempt: 2, status: 401, body: b"Unauthorized\n"[..].into() }
}

fn dropped() -> DroppedFrames {
    DroppedFrames { count: 2, bytes: 80, reason: "the disk is full".to_owned() }
}

fn continued() -> Continued {
    Continued { since_ns: START.after(seconds(3)).as_nanos(), last_sequence: 1 }
}

/// By 9.9 seconds, forward.
fn clock_stepped() -> ClockStepped {
    let from_ns = START.after(Duration::from_millis(2100)).as_nanos();
    ClockStepped { from_ns, to_ns: START.after(seconds(12)).as_nanos() }
}

fn export_dropped() -> ExportDropped {
    let reason = "it takes frames more slowly than they come".to_owned();
    ExportDropped { exporter: "exec #1".to_owned(), frames: 3, bytes: 6000, reason }
}

fn segment_deleted() -> SegmentDeleted {
    SegmentDeleted {
        segment: "20260101T070000.000Z.mcap".to_owned(),
        frames: 12,
        from_ns: START.after(seconds(1)).as_nanos(),
        to_ns: START.after(seconds(2)).as_nanos(),
        reason: "the recording is to keep no more".to_owned(),
    }
}

fn text_frame() -> TextFrame {
    TextFrame { data: b"maintenance at noon"[..].into() }
}

fn written(folder: &tempfile::TempDir, entries: &Entries) -> PathBuf {
    let path = folder.path().join("capture.mcap");
    entries.write(&path);
    path
}

fn profile(path: &Path) -> Profile {
    inspect::inspect(&Capture::open(&[path]).unwrap(), Selection::default()).unwrap()
}

fn inspected(path: &Path, options: &[&str]) -> Ran {
    let path = path.to_str().unwrap();
    centralcap(["--color", "never", "inspect", path].iter().chain(options))
}

fn json(ran: &Ran) -> Json {
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn the_page_shows_all_that_happened() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(&folder, &eventful());
    let mut profile = profile(&path);
    // What differs from folder to folder and from one release of zstd to the next.
    profile.segments[0].path = "capture.mcap".into();
    profile.segments[0].bytes = 4096;
    profile.totals.stored_bytes = 4096;
    profile.totals.compression = Some(0.5);
    profile.about.as_mut().unwrap().version = "VERSION".to_owned();
    insta::assert_snapshot!(profile.text(PLAIN));
}

/// Every path in a document: `a.b`, `a.b[].c`.
fn paths(value: &Json, here: &str, found: &mut BTreeSet<String>) {
    match value {
        Json::Object(fields) => {
            for (name, value) in fields {
                let path = if here.is_empty() { name.clone() } else { format!("{here}.{name}") };
                paths(value, &path, found);
            }
        }
        Json::Array(values) => {
            for value in values {
                paths(value, &format!("{here}[]"), found);
            }
        }
        _ => {
            let events = [
                "subscriptions[].history.first[]",
                "subscriptions[].history.last[]",
                "subscriptions[].coverage.gaps[].said[]",
            ];
            let event = events.iter().find_map(|prefix| here.strip_prefix(prefix));
            let here = event.map_or(here.to_owned(), |rest| format!("event{rest}"));
            // The options' names are the recording's own.
            let option = here.starts_with("about.options.");
            found.insert(if option { "about.options".to_owned() } else { here });
        }
    }
}

#[test]
fn the_document_names_every_key_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut entries = eventful();
    let many = subscription("campus-flapping", "audit");
    for after in 0..120 {
        entries.happened(seconds(after), &many, 0, Event::Failed(failed()));
    }
    // Nothing is known of the time before this.
    let late = subscription("campus-changes", "audit");
    entries.happened(seconds(500), &late, 7, Event::Continued(continued()));
    let path = written(&folder, &entries);
    let mut found = BTreeSet::new();
    let capture = Capture::open(&[&path]).unwrap();
    let mut profile = inspect::gaps(&capture, Selection::default()).unwrap();
    assert_eq!(profile.past_damage, None);
    let lost = vec!["lost of a (audit): frame 1".to_owned()];
    profile.past_damage = Some(PastDamage { damaged_places: 1, lost, lost_more: 0 });
    paths(&serde_json::from_str(&profile.json()).unwrap(), "", &mut found);

    let document = include_str!("../docs/inspect-json.md");
    // Views have documents of their own.
    let (document, _) = document.split_once("\n# The views\n").unwrap();
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.flat_map(|row| row.split('|').nth(1).unwrap().split(','));
    let documented: BTreeSet<_> =
        cells.map(|cell| cell.trim().trim_matches('`').to_owned()).collect();

    let missing: Vec<_> = found.difference(&documented).collect();
    assert!(missing.is_empty(), "not in the document: {missing:?}");
    // Objects and lists are found by what is in them.
    let is_found = |path: &&String| found.iter().any(|known| known.starts_with(path.as_str()));
    let events = |path: &&String| {
        path.contains(".history.") || path.ends_with(".said[]") || *path == "about.options"
    };
    let extra: Vec<_> = documented.iter().filter(|path| !is_found(path) && !events(path)).collect();
    assert!(extra.is_empty(), "only in the document: {extra:?}");
}

/// Frames 1, 2, 5 and 6 of one connection.
fn holed(of: &Arc<Subscription>) -> Entries {
    let mut entries = Entries::new();
    entries.happened(seconds(0), of, 1, connected(1));
    for sequence in [1, 2, 5, 6] {
        let after = seconds(sequence.into());
        entries.numbered(after, of, sequence, message("audit", sequence, 10));
    }
    entries.happened(seconds(7), of, 1, closed(Some(1000), "", 6));
    entries
}

#[test]
fn missing_sequence_numbers_are_a_loss() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(&folder, &holed(&subscription("changes", "audit")));
    let ran = inspected(&path, &[]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(
        ran.stdout.contains("sequence  2 frames missing in 1 place, 2 without a word about it"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("lost        2 missing frames"), "{}", ran.stdout);

    let ran = inspected(&path, &["--json"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (3, "warning: 2 missing frames\n"));
    let expected = serde_json::json!({"holes": 1, "missing": 2, "unexplained": 2});
    assert_eq!(json(&ran)["subscriptions"][0]["sequence"], expected);
}

#[test]
fn with_a_selection_of_frames_nothing_is_called_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(&folder, &holed(&subscription("changes", "audit")));
    for selection in [&["--skip", "1"][..], &["--from", "+2s"], &["--topic", "audit"]] {
        let ran = inspected(&path, selection);
        assert_eq!(ran.code, 0, "{selection:?}: {ran:?}");
        assert!(ran.stdout.contains("sequence  not checked"), "{}", ran.stdout);
        let document = json(&inspected(&path, &[selection, &["--json"]].concat()));
        assert!(document["subscriptions"][0]["sequence"].is_null());
        assert!(document["totals"]["compression"].is_null());
    }
    // All frames of the subscriptions that are named are there.
    assert_eq!(inspected(&path, &["--subscription", "ch*"]).code, 3);
}

#[test]
fn a_cut_capture_is_shown_as_far_as_it_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let changes = subscription("changes", "audit");
    let mut entries = Entries::new();
    // What does not compress, so that there is more than one chunk.
    let mut noise = 1_u32;
    for sequence in 1..=40 {
        let payload: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        })
        .take(60_000)
        .collect();
        let data = envelope("audit", "1", payload);
        entries.numbered(seconds(sequence.into()), &changes, sequence, data);
    }
    let path = written(&folder, &entries);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() * 2 / 3]).unwrap();

    let ran = inspected(&path, &[]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stdout.contains("1 damaged segment"), "{}", ran.stdout);
    assert!(ran.stdout.contains("the file ends before its footer"), "{}", ran.stdout);
    let document = json(&inspected(&path, &["--json"]));
    let frames = document["totals"]["frames"].as_u64().unwrap();
    assert!((1..40).contains(&frames), "{frames} frames");
    assert_eq!(document["segments"][0]["entries"], frames);
    let damage = document["segments"][0]["damage"].as_str().unwrap();
    assert!(damage.contains(path.to_str().unwrap()) && damage.contains("at byte "), "{damage}");
}

#[test]
fn what_is_no_capture_is_refused_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let empty_folder = folder.path().join("folder");
    fs::create_dir(&empty_folder).unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let refusals = [
        (file("empty.mcap", b""), "found an empty file in"),
        (file("text.mcap", b"a text, and no capture\n"), "found something else in"),
        (file("lines.ndjson", b"{\"topic\": \"audit\"}\n"), "found JSON in"),
        (file("page.json", b"\n{\n  \"audit\": []\n}\n"), "found JSON in"),
        (file("packed.mcap.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03"), "found what gzip has packed in"),
        (
            file("packed.ndjson.zst", b"\x28\xb5\x2f\xfd\x04\x58\0\0"),
            "found what zstd has packed in",
        ),
        (file("short.mcap", &mcap::MAGIC[..5]), "found the beginning of one at most in"),
        (empty_folder, "expected a capture, found none in"),
    ];
    for (path, reason) in refusals {
        let ran = inspected(&path, &[]);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
        assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(reason), "{ran:?}");
        assert!(ran.stderr.contains(path.to_str().unwrap()), "{ran:?}");
        assert!(ran.stderr.contains("\nhint: "), "{ran:?}");
    }
    let ran = inspected(&folder.path().join("missing.mcap"), &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("missing.mcap"), "{ran:?}");
}

#[test]
fn one_damaged_segment_of_several_is_named_and_the_others_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let changes = subscription("changes", "audit");
    for (name, sequence) in [("a.mcap", 1), ("b.mcap", 2), ("c.mcap", 3)] {
        let mut entries = Entries::new();
        let data = message("audit", sequence, 100);
        entries.numbered(seconds(sequence.into()), &changes, sequence, data);
        entries.write(&folder.path().join(name));
    }
    let damaged = folder.path().join("b.mcap");
    fs::write(&damaged, "neither is this").unwrap();

    let ran = inspected(folder.path(), &["--json"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    let document = json(&ran);
    let found: Vec<_> = (0..3).map(|index| &document["segments"][index]["damage"]).collect();
    assert!(found[0].is_null() && found[1].is_string() && found[2].is_null());
    assert_eq!(document["totals"]["frames"], 2);
    let ran = inspected(folder.path(), &[]);
    assert_eq!(ran.code, 3);
    assert!(ran.stdout.contains("found something else in"), "{}", ran.stdout);
}

#[test]
fn a_capture_without_entries_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(&folder, &Entries::new());
    let ran = inspected(&path, &[]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    assert!(ran.stdout.contains("span        no entries"), "{}", ran.stdout);
    let document = json(&inspected(&path, &["--json"]));
    assert!(document["span"].is_null() && document["timeline"].is_null());
    assert_eq!(document["about"]["version"], env!("CARGO_PKG_VERSION"));
}

/// Names and reasons come from anybody, and a terminal obeys what it is sent.
#[test]
fn what_a_terminal_would_obey_is_shown_as_an_escape() {
    let folder = tempfile::tempdir().unwrap();
    let evil = "a\x1b[2Jb\u{9b}c\u{7f}d\u{202e}e\ninspected: all is well\rf";
    let of = subscription(evil, "audit");
    let mut entries = Entries::new();
    entries.happened(seconds(0), &of, 1, connected(1));
    entries.numbered(seconds(1), &of, 1, message("audit", 1, 10));
    entries.happened(seconds(2), &of, 1, closed(Some(1011), evil, 1));
    let path = written(&folder, &entries);

    let ran = inspected(&path, &[]);
    let obeyed =
        |character: char| (character.is_control() && character != '\n') || character == '\u{202e}';
    assert!(!ran.stdout.contains(obeyed), "{:?}", ran.stdout);
    assert!(!ran.stdout.lines().any(|line| line.starts_with("inspected")), "{}", ran.stdout);
    assert!(ran.stdout.contains("a\\u{1b}[2Jb\\u{9b}c\\u{7f}d\\u{202e}e\\ninsp"), "{}", ran.stdout);

    let ran = inspected(&path, &["--json"]);
    assert!(!ran.stdout.contains(obeyed), "{:?}", ran.stdout);
    let document = json(&ran);
    let found = &document["subscriptions"][0];
    // Shown as escapes, and still the same text to whoever parses it.
    assert_eq!(found["name"], evil);
    assert_eq!(found["history"]["first"][1]["reason"], evil);
}

#[test]
fn colour_is_there_when_it_is_wanted_and_only_then() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(&folder, &eventful());
    let path = path.to_str().unwrap();
    assert!(!centralcap(["--color", "never", "inspect", path]).stdout.contains('\x1b'));
    assert!(!centralcap(["inspect", path]).stdout.contains('\x1b'));
    assert!(centralcap(["--color", "always", "inspect", path]).stdout.contains("\x1b[31m"));
}

#[test]
fn a_locale_without_unicode_gets_ascii() {
    let folder = tempfile::tempdir().unwrap();
    let long = "caf\u{e9} with a name that has no end ".repeat(5);
    let of = subscription(&long, "brand-new-topic-with-a-long-name");
    let mut entries = Entries::new();
    entries.happened(seconds(0), &of, 1, Event::Failed(Failed { attempt: 1, reason: long }));
    for sequence in 1..30 {
        entries.numbered(seconds(sequence.into()), &of, sequence, &b"\x12\x03new"[..]);
        entries.happened(seconds(sequence.into()), &of, 1, connected(1));
    }
    let path = written(&folder, &entries);
    let path = path.to_str().unwrap();
    let page = |locale: &str| centralcap_with(&[("LC_ALL", locale)], ["inspect", path]).stdout;
    let ascii = page("C");
    assert!(ascii.is_ascii(), "{ascii}");
    assert!(ascii.contains("..."), "{ascii}");
    let unicode = page("C.UTF-8");
    assert!(unicode.contains('\u{2026}') && unicode.contains('\u{2588}'), "{unicode}");
    for line in ascii.lines().chain(unicode.lines()) {
        assert!(line.chars().count() <= 100, "wider than the page: {line}");
    }
}

/// The document about a capture, without what only reading all of it can tell.
fn without_sequences(profile: &Profile) -> Json {
    let mut document: Json = serde_json::from_str(&profile.json()).unwrap();
    for subscription in document["subscriptions"].as_array_mut().unwrap() {
        subscription["sequence"] = Json::Null;
    }
    document
}

#[test]
fn the_index_says_the_same_without_unpacking() {
    let folder = tempfile::tempdir().unwrap();
    let eventful = written(&folder, &eventful());
    // Several chunks, most of them without anything but frames, of every size.
    let long = folder.path().join("long.mcap");
    let mut entries = Entries::new();
    let owners = ["a", "b", "c"].map(|name| subscription(name, "audit"));
    for number in 0..3000 {
        let owner = &owners[if number % 50 == 7 { 2 } else { number as usize % 2 }];
        entries.frame(seconds(number.into()), owner, message("audit", number, number as usize));
    }
    entries.happened(seconds(4000), &owners[0], 1, closed(None, "", 1));
    entries.write(&long);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for path in [&eventful, &long, &fixtures.join("campus.mcap"), &fixtures] {
        let capture = Capture::open(&[path]).unwrap();
        let indexed = inspect::inspect_index(&capture).unwrap().expect("an index");
        let read = inspect::inspect(&capture, Selection::default()).unwrap();
        assert_eq!(without_sequences(&indexed), without_sequences(&read), "{}", path.display());
        assert!(indexed.subscriptions.iter().all(|subscription| subscription.sequence.is_none()));
        assert!(indexed.text(PLAIN).contains("not checked, only the index was read"));
        assert!(!read.text(PLAIN).contains("index"));
    }
    // Nothing in it was unpacked that only has frames in it.
    let mut bytes = fs::read(&long).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 100].fill(0);
    fs::write(&long, &bytes).unwrap();
    let capture = Capture::open(&[&long]).unwrap();
    assert!(inspect::inspect_index(&capture).unwrap().is_some());
    assert!(inspect::inspect(&capture, Selection::default()).unwrap().losses().is_some());
    // Without an index all has to be read.
    bytes.truncate(bytes.len() - 100);
    fs::write(&long, &bytes).unwrap();
    let capture = Capture::open(&[&long]).unwrap();
    assert!(inspect::inspect_index(&capture).unwrap().is_none());
}

#[test]
fn that_nothing_is_selected_is_said_in_every_view() {
    const WARNING: &str = "warning: no frame is selected";
    const HINT: &str = "--find 06:0c:00:a6:0:8d is no MAC address";

    let folder = tempfile::tempdir().unwrap();
    let path = written(&folder, &eventful());
    for view in [&[][..], &["--gaps"], &["--messages"], &["--top"], &["--drift"]] {
        let none = |find: &str| inspected(&path, &[view, &["--find", find]].concat());
        let ran = none("absent");
        assert!(ran.stderr.contains(WARNING) && !ran.stderr.contains(HINT), "{view:?}: {ran:?}");
        let ran = none("06:0c:00:a6:0:8d");
        assert!(ran.stderr.contains(WARNING) && ran.stderr.contains(HINT), "{view:?}: {ran:?}");
        let ran = inspected(&path, view);
        assert!(!ran.stderr.contains(WARNING), "{view:?}: {ran:?}");
    }
}

#[test]
fn a_frame_that_is_not_counted_from_1_is_refused_in_words() {
    for wrong in ["0", "-1", "first"] {
        let ran = inspected(Path::new("fixtures/small.mcap"), &[&format!("--message={wrong}")]);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains("the number of a frame, counted from 1"), "{ran:?}");
    }
}
