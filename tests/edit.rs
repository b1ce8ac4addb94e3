//! What `edit` promises: many captures to one, and nothing changed that was not meant to be.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use centralcap::{
    capture::{Capture, HotSegment},
    entry::{
        Entry, Subscription, Timestamp, What,
        session_event::{Closed, Connected, Event, Gap},
    },
    synth::{self, Synth},
};
use support::{
    capture::{Entries, about, entries_of, envelope, message, subscription},
    command::{Ran, centralcap},
    place::Place,
};

const MS: fn(u64) -> Duration = Duration::from_millis;

impl Place {
    /// Frames of one subscription at these milliseconds.
    fn capture(&self, name: &str, of: &Arc<Subscription>, moments: &[u64]) -> Vec<Entry> {
        let mut entries = Entries::new();
        for (number, moment) in moments.iter().enumerate() {
            entries.frame(MS(*moment), of, message(&of.topic, number as u32, 20));
        }
        entries.write(&self.path(name));
        entries.made
    }

    /// Runs `edit` on some of what is here, with `out.mcap` as the output.
    fn edit(&self, inputs: &[&str], options: &[&str]) -> Ran {
        let mut arguments: Vec<OsString> = vec!["edit".into(), "-o".into()];
        arguments.push(self.path("out.mcap").into());
        arguments.extend(inputs.iter().map(|name| self.path(name).into()));
        arguments.extend(options.iter().map(OsString::from));
        centralcap(arguments)
    }

    /// The same where all goes well: what is in the output.
    fn edited(&self, inputs: &[&str], options: &[&str]) -> Vec<Entry> {
        let ran = self.edit(inputs, options);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        entries_of(&self.path("out.mcap"))
    }
}

/// All metadata records, by name.
fn metadata_of(path: &Path) -> Vec<(String, BTreeMap<String, String>)> {
    let capture = Capture::open(&[path]).unwrap();
    let mut entries = capture.entries();
    entries.by_ref().for_each(|entry| drop(entry.unwrap()));
    let records = entries.metadata().iter();
    records.map(|record| (record.name.clone(), record.metadata.clone())).collect()
}

/// Who has them, and when they were received, in milliseconds after the start.
fn shown(entries: &[Entry]) -> String {
    let shown = entries.iter().map(|entry| {
        let after = entry.received.since(support::capture::START).as_millis();
        format!("{}{after}", entry.subscription.name)
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[test]
fn without_options_everything_stays_bit_for_bit() {
    let place = Place::new();
    let options = synth::Options { messages: 500, customers: 2, ..synth::Options::default() };
    synth::write(&options, &place.path("in.mcap")).unwrap();
    let before = fs::read(place.path("in.mcap")).unwrap();

    let made: Vec<_> = Synth::new(&options).unwrap().collect();
    assert!(made.iter().any(|entry| entry.frame().is_none()), "session events are in it");
    assert!(place.edited(&["in.mcap"], &[]) == made, "an entry has changed");
    assert!(fs::read(place.path("in.mcap")).unwrap() == before, "the input has changed");
    assert_eq!(place.names(), ["in.mcap", "out.mcap"]);
}

#[test]
fn the_selection_is_that_of_all_inputs_together() {
    let place = Place::new();
    place.capture("a.mcap", &subscription("a", "audit"), &[100, 300, 500]);
    place.capture("b.mcap", &subscription("b", "security"), &[200, 400, 600]);
    for (options, expected) in [
        (&["--limit", "3"][..], "a100 b200 a300"),
        (&["--skip", "4"], "a500 b600"),
        (&["--topic", "security"], "b200 b400 b600"),
        (&["--subscription", "[a]"], "a100 a300 a500"),
        // From the earliest entry of all, not of each.
        (&["--from", "+200ms", "--to", "+400ms"], "a300 b400"),
    ] {
        assert_eq!(shown(&place.edited(&["a.mcap", "b.mcap"], options)), expected, "{options:?}");
        fs::remove_file(place.path("out.mcap")).unwrap();
    }
}

#[test]
fn whoever_orders_the_inputs_decides_on_ties() {
    let place = Place::new();
    place.capture("a.mcap", &subscription("a", "audit"), &[1, 2, 2, 3]);
    place.capture("b.mcap", &subscription("b", "audit"), &[2, 2, 3]);
    let merged = place.edited(&["a.mcap", "b.mcap"], &[]);
    assert_eq!(shown(&merged), "a1 a2 a2 b2 b2 a3 b3");
    let sequences: Vec<_> = merged.iter().map(|entry| entry.frame().unwrap().sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 1, 2, 4, 3]);

    fs::remove_file(place.path("out.mcap")).unwrap();
    assert_eq!(shown(&place.edited(&["b.mcap", "a.mcap"], &[])), "a1 b2 b2 a2 a2 b3 a3");
}

#[test]
fn a_clock_that_was_set_back_changes_nobodys_order() {
    let place = Place::new();
    let made = place.capture("a.mcap", &subscription("a", "audit"), &[20, 30, 10, 12, 40]);
    place.capture("b.mcap", &subscription("b", "audit"), &[25, 35]);
    let merged = place.edited(&["a.mcap", "b.mcap"], &[]);
    assert_eq!(shown(&merged), "a20 b25 a30 a10 a12 b35 a40");
    let of_a: Vec<_> = merged.into_iter().filter(|entry| entry.subscription.name == "a").collect();
    assert_eq!(of_a, made);
}

#[test]
fn folders_and_what_is_still_recorded_are_inputs_like_any_other() {
    let place = Place::new();
    fs::create_dir(place.path("folder")).unwrap();
    let a = subscription("a", "audit");
    place.capture("folder/1.mcap", &a, &[1, 5]);
    place.capture("folder/2.mcap", &a, &[7, 9]);
    let mut entries = Entries::new();
    entries.frame(MS(6), &subscription("hot", "security"), message("security", 1, 20));
    let mut hot = HotSegment::create(&place.path("hot.mcap"), &about(Duration::ZERO), &[]).unwrap();
    hot.append(&entries.made[0]).unwrap();
    hot.commit().unwrap();
    let merged = place.edited(&["folder", "hot.open.mcap"], &[]);
    assert_eq!(shown(&merged), "a1 a5 hot6 a7 a9");
}

#[test]
fn the_output_says_what_was_done() {
    let place = Place::new();
    let a = subscription("a", "audit");
    let mut entries = Entries::new();
    for moment in [1, 2, 3] {
        entries.frame(MS(moment), &a, message("audit", moment as u32, 20));
    }
    entries.write_of_run(&place.path("late.mcap"), MS(7));
    entries.write_of_run(&place.path("early.mcap"), MS(5));
    place.edited(&["late.mcap", "early.mcap"], &["--limit", "5", "--topic", "audit"]);

    let records = metadata_of(&place.path("out.mcap"));
    let names: Vec<_> = records.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["centralcap", "centralcap.input", "centralcap.input", "centralcap.edit"]);
    let own = &records[0].1;
    assert_eq!(own["option.edit.inputs"], "late.mcap, early.mcap");
    assert_eq!((&*own["option.edit.limit"], &*own["option.edit.topic"]), ("5", "audit"));
    assert!(!own.contains_key("option.edit.skip"), "nobody asked for it");
    assert_eq!(own["started"], about(MS(5)).started.to_string());
    assert_eq!(records[1].1["input"], "late.mcap");
    assert_eq!(records[1].1["started"], about(MS(7)).started.to_string());
    assert_eq!(records[2].1["input"], "early.mcap");
    let result = &records[3].1;
    assert_eq!((&*result["frames"], &*result["events"], &*result["damaged"]), ("5", "0", "0"));

    // What an edited capture was made of is still known of what is made of it.
    fs::rename(place.path("out.mcap"), place.path("again.mcap")).unwrap();
    place.edited(&["again.mcap"], &[]);
    let inputs: Vec<_> = metadata_of(&place.path("out.mcap"))
        .into_iter()
        .filter_map(|(name, record)| (name == "centralcap.input").then(|| record["input"].clone()))
        .collect();
    assert_eq!(inputs, ["again.mcap", "late.mcap", "early.mcap"]);
}

#[test]
fn the_level_decides_on_the_size_and_on_nothing_else() {
    let place = Place::new();
    let options = synth::Options { messages: 1200, ..synth::Options::default() };
    synth::write(&options, &place.path("in.mcap")).unwrap();
    let at = |level: &str| {
        let entries = place.edited(&["in.mcap"], &["--level", level]);
        let size = fs::metadata(place.path("out.mcap")).unwrap().len();
        fs::remove_file(place.path("out.mcap")).unwrap();
        (entries, size)
    };
    let ((quick, large), (slow, small)) = (at("1"), at("12"));
    assert!(quick == slow, "the level has changed an entry");
    assert!(small < large, "{small} bytes at level 12, {large} at level 1");
    for level in ["0", "20", "high"] {
        let ran = place.edit(&["in.mcap"], &["--level", level]);
        assert!(ran.code == 2 && ran.stderr.contains("expected a level of zstd"), "{ran:?}");
    }
}

#[test]
fn no_input_is_ever_written_over_whatever_it_is_called() {
    let place = Place::new();
    place.capture("in.mcap", &subscription("a", "audit"), &[1, 2]);
    fs::create_dir(place.path("sub")).unwrap();
    place.capture("sub/other.mcap", &subscription("b", "audit"), &[1]);
    #[cfg(unix)]
    {
        fs::hard_link(place.path("in.mcap"), place.path("hard.mcap")).unwrap();
        std::os::unix::fs::symlink("in.mcap", place.path("soft.mcap")).unwrap();
    }
    let contents = || {
        let paths = ["in.mcap", "sub/other.mcap"];
        paths.map(|name| fs::read(place.path(name)).unwrap())
    };
    let (before, names) = (contents(), place.names());
    let outputs: &[&str] = if cfg!(unix) {
        &["in.mcap", "sub/../in.mcap", "sub/other.mcap", "hard.mcap", "soft.mcap"]
    } else {
        &["in.mcap", "sub/../in.mcap", "sub/other.mcap"]
    };
    for output in outputs {
        let inputs = [place.path("in.mcap"), place.path("sub")];
        let ran = centralcap(
            [OsString::from("edit"), "-o".into(), place.path(output).into()]
                .into_iter()
                .chain(inputs.map(Into::into)),
        );
        assert_eq!(ran.code, 2, "{output}: {}", ran.stderr);
        assert!(ran.stderr.contains("expected an output that is no input"), "{}", ran.stderr);
        assert!(ran.stderr.contains("hint: what is read is never written over"), "{}", ran.stderr);
    }
    assert!(contents() == before, "an input was changed");
    assert_eq!(place.names(), names);
}

#[test]
fn an_output_that_is_there_already_is_refused() {
    let place = Place::new();
    place.capture("in.mcap", &subscription("a", "audit"), &[1]);
    fs::write(place.path("out.mcap"), "something dear").unwrap();
    let ran = place.edit(&["in.mcap"], &[]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("expected a new file"), "{}", ran.stderr);
    assert_eq!(fs::read(place.path("out.mcap")).unwrap(), b"something dear");

    // So is the name that a recording will get when it is sealed.
    fs::remove_file(place.path("out.mcap")).unwrap();
    let hot = HotSegment::create(&place.path("out.mcap"), &about(MS(0)), &[]).unwrap();
    let ran = place.edit(&["in.mcap"], &[]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("out.open.mcap already there"), "{}", ran.stderr);
    drop(hot);
    assert_eq!(place.names(), ["in.mcap", "out.open.mcap"]);
}

#[test]
fn a_new_capture_has_a_name() {
    for (command, expected) in [
        (&["edit", "fixtures/small.mcap"][..], "a file"),
        (&["synth"], "a file"),
        (&["encode", "fixtures/README.md"], "a file"),
        (&["record", "--hostname", "feed.example.com", "--topic", "audit"], "a folder"),
    ] {
        let ran = centralcap([command, &["-o", "-"]].concat());
        let told = ran.stderr.contains(&format!("expected {expected}, found -"));
        assert!(ran.code == 2 && told, "{}", ran.stderr);
    }
}

#[test]
fn what_comes_before_damage_is_kept_and_the_damage_told() {
    let place = Place::new();
    let options = synth::Options { messages: 2500, ..synth::Options::default() };
    synth::write(&options, &place.path("whole.mcap")).unwrap();
    let mut bytes = fs::read(place.path("whole.mcap")).unwrap();
    bytes.truncate(bytes.len() * 2 / 3);
    fs::write(place.path("cut.mcap"), &bytes).unwrap();
    place.capture("late.mcap", &subscription("late", "audit"), &[1, 2]);

    let ran = place.edit(&["cut.mcap", "late.mcap"], &[]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("warning: damaged capture").count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("cut.mcap at byte"), "{}", ran.stderr);
    assert!(ran.stderr.ends_with("1 damaged place\n"), "{}", ran.stderr);
    let saved = entries_of(&place.path("out.mcap"));
    let made: Vec<_> = Synth::new(&options).unwrap().collect();
    let (of_cut, of_late) = saved.split_at(saved.len() - 2);
    assert!(of_cut.len() > 100 && of_cut == &made[..of_cut.len()], "{} entries", of_cut.len());
    assert_eq!(shown(of_late), "late1 late2");
    let (_, result) = metadata_of(&place.path("out.mcap")).pop().unwrap();
    assert_eq!(result["damaged"], "1");
}

#[test]
fn where_nothing_can_be_saved_nothing_is_written() {
    let place = Place::new();
    place.capture("in.mcap", &subscription("a", "audit"), &[1]);
    let mut bytes = fs::read(place.path("in.mcap")).unwrap();
    bytes.truncate(60);
    fs::write(place.path("cut.mcap"), &bytes).unwrap();
    fs::write(place.path("stranger.mcap"), "what is this?").unwrap();
    let names = place.names();
    for (inputs, code, expected) in [
        (&["cut.mcap"][..], 1, "error: damaged capture"),
        (&["stranger.mcap"], 1, "error: expected a capture"),
        (&["stranger.mcap", "stranger.mcap"], 1, "error: expected a capture"),
        (&["in.mcap", "absent.mcap"], 1, "error: cannot open"),
    ] {
        let ran = place.edit(inputs, &[]);
        assert_eq!(ran.code, code, "{inputs:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{inputs:?}: {}", ran.stderr);
        assert_eq!(place.names(), names, "{inputs:?}");
    }
    // A stranger among captures is one loss among what goes well.
    let ran = place.edit(&["stranger.mcap", "in.mcap"], &[]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("warning: expected a capture"), "{}", ran.stderr);
    assert_eq!(shown(&entries_of(&place.path("out.mcap"))), "a1");
}

#[test]
fn session_events_stay_among_the_frames() {
    let place = Place::new();
    let a = subscription("a", "audit");
    let mut entries = Entries::new();
    entries.happened(MS(0), &a, 1, Event::Connected(Connected::default()));
    entries.frame(MS(1), &a, message("audit", 1, 20));
    entries.frame(MS(2), &a, message("audit", 2, 20));
    entries.happened(MS(3), &a, 1, Event::Closed(Closed::default()));
    entries.write(&place.path("a.mcap"));
    place.capture("b.mcap", &subscription("b", "security"), &[1, 3]);
    let merged = place.edited(&["a.mcap", "b.mcap"], &["--limit", "9"]);
    let is_event: Vec<_> = merged.iter().map(|entry| entry.frame().is_none()).collect();
    assert_eq!(shown(&merged), "a0 a1 b1 a2 a3 b3");
    assert_eq!(is_event, [true, false, false, false, true, false]);
}

#[test]
fn where_keeps_the_frames_for_which_it_holds_and_all_events() {
    let place = Place::new();
    let options = synth::Options { messages: 600, ..synth::Options::default() };
    synth::write(&options, &place.path("in.mcap")).unwrap();
    let made: Vec<_> = Synth::new(&options).unwrap().collect();
    let condition = ".data.aps[]?.status == \"DOWN\"";
    let kept = place.edited(&["in.mcap"], &["--where", condition]);

    let input = place.path("in.mcap");
    let lines = centralcap([
        OsStr::new("decode"),
        input.as_os_str(),
        "--where".as_ref(),
        condition.as_ref(),
    ]);
    let expected: Vec<_> = lines.json_lines().iter().map(|line| line["received"].clone()).collect();
    let (frames, events): (Vec<_>, Vec<_>) =
        kept.into_iter().partition(|entry| entry.frame().is_some());
    let found: Vec<_> = frames.iter().map(|entry| entry.received.to_string()).collect();
    assert!(!found.is_empty() && found.len() < 100, "{} frames", found.len());
    assert_eq!(found, expected);
    assert!(frames.iter().all(|frame| made.contains(frame)), "a frame has changed");
    assert_eq!(events.len(), made.iter().filter(|entry| entry.frame().is_none()).count());
    let own = &metadata_of(&place.path("out.mcap"))[0].1;
    assert_eq!(own["option.edit.where"], condition);
}

#[test]
fn a_frame_of_which_nobody_can_say_whether_it_is_wanted_is_left_out_and_told() {
    let place = Place::new();
    let a = subscription("a", "audit");
    let mut entries = Entries::new();
    entries.frame(MS(1), &a, Bytes::from_static(b"\x12\x05audit"));
    entries.frame(MS(2), &a, Bytes::from_static(b"\xff\xff no protobuf"));
    entries.frame(MS(3), &a, Bytes::from_static(b"\x12\x05other"));
    entries.write(&place.path("in.mcap"));
    let condition = "if .subject == \"other\" then error(\"no\") else true end";
    let ran = place.edit(&["in.mcap"], &["--where", condition]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("warning: cannot decode frame 2"), "{}", ran.stderr);
    assert!(ran.stderr.contains("warning: cannot judge frame 3"), "{}", ran.stderr);
    assert!(ran.stderr.contains("left out: 1 frame that could not be decoded, 1 that"));
    assert_eq!(shown(&entries_of(&place.path("out.mcap"))), "a1");
    let (_, result) = metadata_of(&place.path("out.mcap")).pop().unwrap();
    assert_eq!((&*result["undecodable"], &*result["unjudged"]), ("1", "1"));

    let ran = place.edit(&["in.mcap"], &["--where", ".a =="]);
    assert!(ran.code == 2 && ran.stderr.contains("expected a jq expression"), "{ran:?}");
}

#[test]
fn a_subscription_gets_its_new_name_and_keeps_everything_else() {
    let place = Place::new();
    let made = place.capture("a.mcap", &subscription("acme/audit", "audit"), &[1, 3]);
    place.capture("b.mcap", &subscription("b", "security"), &[2]);
    let renamed = place.edited(&["a.mcap", "b.mcap"], &["--rename", "acme/audit=customer 1"]);
    assert_eq!(shown(&renamed), "customer 11 b2 customer 13");
    let expected = Entry {
        subscription: Arc::new(Subscription {
            name: "customer 1".to_owned(),
            ..(*made[0].subscription).clone()
        }),
        ..made[0].clone()
    };
    assert_eq!(renamed[0], expected);
    let own = &metadata_of(&place.path("out.mcap"))[0].1;
    assert_eq!(own["option.edit.rename"], "acme/audit=customer 1");
}

#[test]
fn one_name_for_two_needs_the_same_topic() {
    let place = Place::new();
    place.capture("a.mcap", &subscription("a", "audit"), &[1, 3]);
    place.capture("b.mcap", &subscription("b", "audit"), &[2]);
    place.capture("c.mcap", &subscription("c", "security"), &[2]);
    assert_eq!(shown(&place.edited(&["a.mcap", "b.mcap"], &["--rename", "b=a"])), "a1 a2 a3");
    fs::remove_file(place.path("out.mcap")).unwrap();
    let names = place.names();
    for options in [&["--rename", "c=a"][..], &["--rename", "c=d", "--rename", "a=d"]] {
        let ran = place.edit(&["a.mcap", "c.mcap"], options);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains("expected names that tell \"a\" and \"c\" apart"), "{ran:?}");
        assert_eq!(place.names(), names);
    }
    // Names that change places are as good as any.
    let swapped = place.edited(&["a.mcap", "c.mcap"], &["--rename", "a=c", "--rename", "c=a"]);
    assert_eq!(shown(&swapped), "c1 a2 c3");
}

/// Each has a counter of its own: nothing is missing where one name has two of them.
#[test]
fn where_two_become_one_no_frame_is_missing() {
    let place = Place::new();
    place.capture("a.mcap", &subscription("a", "audit"), &[1, 3, 5]);
    place.capture("b.mcap", &subscription("b", "audit"), &[2, 4]);
    fs::create_dir(place.path("both")).unwrap();
    for name in ["a.mcap", "b.mcap"] {
        fs::rename(place.path(name), place.path("both").join(name)).unwrap();
    }
    for (renames, whole) in [
        (&[][..], "yes"),
        (&["--rename", "a=b", "--rename", "b=a"], "yes"),
        (&["--rename", "b=a"], "no"),
        (&["--rename", "a=c", "--rename", "b=c"], "no"),
    ] {
        place.edited(&["both"], renames);
        let out = place.path("out.mcap");
        assert_eq!(metadata_of(&out)[0].1["option.edit.whole"], whole, "{renames:?}");
        let ran = centralcap(["inspect", out.to_str().unwrap()]);
        assert_eq!(ran.code, 0, "{renames:?}: {}", ran.stdout);
        fs::remove_file(out).unwrap();
    }
}

#[test]
fn a_new_name_for_nobody_is_refused() {
    let place = Place::new();
    place.capture("a.mcap", &subscription("a", "audit"), &[1]);
    for (rename, expected) in [
        ("b=c", "expected a subscription of the input (a), found \"b\""),
        ("a", "expected OLD=NEW"),
        ("a=", "expected OLD=NEW"),
        ("=a", "expected OLD=NEW"),
    ] {
        let ran = place.edit(&["a.mcap"], &["--rename", rename]);
        assert!(ran.code == 2 && ran.stderr.contains(expected), "{rename}: {ran:?}");
    }
    assert_eq!(place.names(), ["a.mcap"]);
}

#[test]
fn shift_moves_when_everything_was_received_and_no_byte_of_a_frame() {
    let place = Place::new();
    let a = subscription("a", "audit");
    let nanos = |after| support::capture::START.after(MS(after)).as_nanos();
    let gap = |from_ns, to_ns| Event::Gap(Gap { from_ns, to_ns, ..Gap::default() });
    let mut entries = Entries::new();
    entries.frame(MS(0), &a, envelope("audit", "1", &b"one"[..]));
    entries.happened(MS(9), &a, 1, gap(nanos(2), nanos(8)));
    // From a moment that is not known.
    entries.happened(MS(9), &a, 1, gap(0, nanos(8)));
    entries.write(&place.path("in.mcap"));
    for (shift, by) in [("1h30m", 5_400_000_i64), ("-250ms", -250), ("+5s", 5000)] {
        let shifted = place.edited(&["in.mcap"], &["--shift", shift]);
        let moved = |nanos: u64| nanos.checked_add_signed(by * 1_000_000).unwrap();
        let received: Vec<_> = shifted.iter().map(|entry| entry.received.as_nanos()).collect();
        assert_eq!(received, [0, 9, 9].map(|after| moved(nanos(after))), "{shift}");
        let frame = shifted[0].frame().unwrap();
        assert_eq!(frame.data, entries.made[0].frame().unwrap().data, "{shift}");
        // It was sent when it was received, which the capture need not say. Now it has to.
        assert_eq!(frame.sent, Some(support::capture::START), "{shift}");
        let expected = [
            Event::Gap(Gap { from_ns: moved(nanos(2)), to_ns: moved(nanos(8)), ..Gap::default() }),
            Event::Gap(Gap { from_ns: 0, to_ns: moved(nanos(8)), ..Gap::default() }),
        ];
        let events = shifted.iter().filter_map(|entry| match &entry.what {
            What::Event(event) => event.event.clone(),
            What::Frame(_) => None,
        });
        assert_eq!(events.collect::<Vec<_>>(), expected, "{shift}");
        let own = &metadata_of(&place.path("out.mcap"))[0].1;
        let started: Timestamp = own["started"].parse().unwrap();
        assert_eq!(started.as_nanos(), moved(nanos(0)), "{shift}");
        assert_eq!(own["option.edit.shift"].replace(' ', ""), shift.trim_start_matches('+'));
        fs::remove_file(place.path("out.mcap")).unwrap();
    }
    let names = place.names();
    for (options, expected) in [
        (&["--shift", "soon"][..], "expected a duration"),
        (&["--shift", "-876000h"], "moved by -876000h\n"),
        (&["--shift", "1h", "--restamp", "2026-11-01T08:00:00Z"], "cannot be used with"),
        (&["--restamp", "now"], "hint: 2026-11-01T08:00:00Z or "),
        (&["--restamp", "0206-12-01T08:00:00Z"], "expected a moment from 1970 to 2554, found"),
        (&["--restamp", "9999-12-01T08:00:00Z"], "expected a moment from 1970 to 2554, found"),
        (&["--restamp", "2554-01-01T08:00:00Z"], "at most 292 years"),
        (&["--restamp", "2300-01-01T08:00:00Z"], "expected a time from 2001-09-09 to 2106"),
        (&["--restamp", "1999-01-01T08:00:00Z"], "expected a time from 2001-09-09 to 2106"),
    ] {
        let ran = place.edit(&["in.mcap"], options);
        assert!(ran.code == 2 && ran.stderr.contains(expected), "{options:?}: {ran:?}");
        assert_eq!(place.names(), names);
    }
}

#[test]
fn that_nothing_is_selected_is_said() {
    let place = Place::new();
    place.capture("in.mcap", &subscription("a", "audit"), &[0, 100]);
    for options in [&["--topic", "audti"][..], &["--subscription", "b*"], &["--from", "+1h"]] {
        let ran = place.edit(&["in.mcap"], options);
        assert!(ran.code == 0 && ran.stderr.contains("warning: no frame is selected"), "{ran:?}");
        fs::remove_file(place.path("out.mcap")).unwrap();
    }
    // Nobody has selected anything.
    place.capture("empty.mcap", &subscription("a", "audit"), &[]);
    let ran = place.edit(&["empty.mcap"], &[]);
    assert!(ran.code == 0 && !ran.stderr.contains("warning"), "{ran:?}");
}

#[test]
fn that_where_holds_for_nothing_is_said() {
    let place = Place::new();
    fs::copy("fixtures/small.mcap", place.path("in.mcap")).unwrap();
    let warning = "warning: no frame is selected: --where holds for none\n";
    let ran = place.edit(&["in.mcap"], &["--where", "false"]);
    assert!(ran.code == 0 && ran.stderr.contains(warning), "{ran:?}");
    let input = place.path("in.mcap");
    let ran = centralcap(["decode".as_ref(), input.as_os_str(), "--where=false".as_ref()]);
    assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (0, "", warning));
    let ran = centralcap(["decode".as_ref(), input.as_os_str(), "--where=true".as_ref()]);
    assert!(ran.code == 0 && ran.stderr.is_empty(), "{ran:?}");
}

#[test]
fn restamp_moves_the_times_in_frames_along() {
    let place = Place::new();
    let options = synth::Options { messages: 300, ..synth::Options::default() };
    synth::write(&options, &place.path("in.mcap")).unwrap();
    let made: Vec<_> = Synth::new(&options).unwrap().collect();
    let to: Timestamp = "2031-03-04T05:06:07Z".parse().unwrap();
    let restamped = place.edited(&["in.mcap"], &["--restamp", &to.to_string()]);
    assert_eq!(restamped.len(), made.len());
    assert_eq!(restamped[0].received, to);
    let by = to.since(made[0].received);
    for (old, new) in made.iter().zip(&restamped) {
        assert_eq!(new.received, old.received.after(by));
        let (Some(old), Some(new)) = (old.frame(), new.frame()) else { continue };
        assert_eq!(new.sent, Some(old.sent.unwrap().after(by)));
        assert_eq!(new.sequence, old.sequence);
        assert_ne!(new.data, old.data);
    }

    // And back again, to the last bit: nothing but times has changed.
    fs::rename(place.path("out.mcap"), place.path("new.mcap")).unwrap();
    let back = place.edited(&["new.mcap"], &["--restamp", &made[0].received.to_string()]);
    assert!(back == made, "an entry is not what it was");
}

/// Frames of one subscription, each of which holds its letter.
fn lettered(path: &Path, of: &Arc<Subscription>, frames: &[(u64, &str)]) {
    let mut entries = Entries::new();
    entries.event(of);
    for (moment, letter) in frames {
        entries.frame(MS(*moment), of, envelope(&of.topic, "1", letter.as_bytes().to_vec()));
    }
    entries.write(path);
}

#[test]
fn dedup_leaves_out_what_was_received_twice_within_the_window() {
    let place = Place::new();
    let a = subscription("a", "audit");
    lettered(&place.path("one.mcap"), &a, &[(0, "x"), (100, "y"), (5000, "x"), (30_000, "y")]);
    lettered(&place.path("two.mcap"), &a, &[(3, "x"), (103, "y"), (200, "z"), (5003, "x")]);
    // The same bytes on a subscription of another name are somebody else's.
    lettered(&place.path("other.mcap"), &subscription("b", "audit"), &[(1, "x")]);
    let inputs = ["one.mcap", "two.mcap", "other.mcap"];
    for (options, expected) in [
        (&["--dedup"][..], "a0 b1 a100 a200 a30000"),
        (&["--dedup=1s"], "a0 b1 a100 a200 a5000 a30000"),
        // The window is counted from the one that was kept, and both its ends belong to it.
        (&["--dedup=5s"], "a0 b1 a100 a200 a5003 a30000"),
        (&["--dedup=2ms"], "a0 b1 a3 a100 a103 a200 a5000 a5003 a30000"),
        (&["--dedup=3ms", "--rename", "b=a"], "a0 a100 a200 a5000 a30000"),
    ] {
        let kept = place.edited(&inputs, options);
        let (frames, events): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|entry| entry.frame().is_some());
        assert_eq!(shown(&frames), expected, "{options:?}");
        assert_eq!(events.len(), 3, "session events are no duplicates of each other");
        fs::remove_file(place.path("out.mcap")).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_is_given_twice_is_read_once_and_named() {
    let place = Place::new();
    let of = subscription("a", "audit");
    let all = place.capture("in.mcap", &of, &[1, 2, 3]);
    place.capture("more.mcap", &of, &[7]);
    std::os::unix::fs::symlink(place.path("in.mcap"), place.path("link.mcap")).unwrap();
    fs::hard_link(place.path("in.mcap"), place.path("hard.mcap")).unwrap();
    let folder = place.path("folder");
    fs::create_dir(&folder).unwrap();
    fs::copy(place.path("in.mcap"), folder.join("1.mcap")).unwrap();
    fs::copy(place.path("more.mcap"), folder.join("2.mcap")).unwrap();
    for (inputs, frames, named, more) in [
        (&["in.mcap", "in.mcap"][..], 3, "in.mcap", ""),
        (&["in.mcap", "link.mcap"], 3, "link.mcap", ""),
        (&["hard.mcap", "more.mcap", "in.mcap"], 4, "in.mcap", ""),
        (&["folder/2.mcap", "folder"], 4, "folder/2.mcap", ""),
        (&["folder", "folder", "more.mcap"], 5, "folder/1.mcap", ", and 1 more file"),
    ] {
        let named = place.path(named);
        let said = format!("warning: given twice, and read once: {}{more}\n", named.display());
        let ran = place.edit(inputs, &["--quiet"]);
        assert_eq!((ran.code, ran.stderr), (0, said.clone()), "{inputs:?}");
        assert_eq!(entries_of(&place.path("out.mcap")).len(), frames, "{inputs:?}");
        fs::remove_file(place.path("out.mcap")).unwrap();
        for command in [&["decode"][..], &["inspect", "--json"], &["inspect", "--messages"]] {
            let paths = inputs.iter().map(|name| place.path(name).into_os_string());
            let ran = centralcap(command.iter().map(OsString::from).chain(paths));
            assert!(ran.stderr.starts_with(&said), "{command:?} {inputs:?}: {ran:?}");
        }
    }
    // It is as if it had been given once, in what is written down as well.
    assert_eq!(place.edited(&["in.mcap", "link.mcap"], &[]), all);
    let records = metadata_of(&place.path("out.mcap"));
    let own = |name: &str| {
        let values = records.iter().filter_map(|(_, record)| record.get(name));
        values.cloned().collect::<Vec<_>>()
    };
    assert_eq!(own("option.edit.inputs"), ["in.mcap"]);
    assert_eq!(own("option.edit.whole"), ["yes"]);
}

#[test]
fn a_window_without_an_equals_sign_is_told_from_a_path() {
    let place = Place::new();
    let inputs = ["in.mcap"];
    place.capture("in.mcap", &subscription("a", "audit"), &[1, 2]);
    let ran = place.edit(&inputs, &["--dedup", "1m"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.stderr.starts_with("error: expected --dedup=1m, found --dedup 1m\nhint: "),
        "{ran:?}"
    );
    // A capture may be called so, and without --dedup nobody has a window in mind.
    let ran = place.edit(&inputs, &["./1m"]);
    assert!(ran.code == 1 && ran.stderr.contains("cannot open"), "{ran:?}");
    assert_eq!(place.names(), inputs);
}

#[test]
fn dedup_begins_anew_where_a_clock_was_set_back() {
    let place = Place::new();
    let a = subscription("a", "audit");
    let after = [(0, "x"), (50_500, "y"), (50_501, "x"), (59_000, "x")];
    let frames = [&[(60_000, "x"), (60_001, "y")][..], &after].concat();
    lettered(&place.path("in.mcap"), &a, &frames);
    let kept = place.edited(&["in.mcap"], &["--dedup=10s"]);
    assert_eq!(shown(&kept[1..]), "a60000 a60001 a0 a50500 a50501");
}

#[test]
fn a_sample_is_spread_evenly_over_each_topic() {
    let place = Place::new();
    place.capture("a.mcap", &subscription("a", "audit"), &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    place.capture("b.mcap", &subscription("b", "audit"), &[20, 21, 22, 23, 24, 25]);
    lettered(&place.path("c.mcap"), &subscription("c", "security"), &[(30, "x"), (31, "y")]);
    let inputs = ["a.mcap", "b.mcap", "c.mcap"];
    for (options, expected) in [
        (&["--sample", "1"][..], "a0 c30"),
        // Of 16 audit frames every fourth, and all there are of security.
        (&["--sample", "4"], "a0 a4 a8 b22 c30 c31"),
        (&["--sample", "3"], "a0 a6 b21 c30 c31"),
        // Of what is left when everything else was asked.
        (&["--sample", "2", "--to", "+10ms"], "a0 a5"),
    ] {
        let taken = place.edited(&inputs, options);
        let (frames, events): (Vec<_>, Vec<_>) =
            taken.into_iter().partition(|entry| entry.frame().is_some());
        assert_eq!(shown(&frames), expected, "{options:?}");
        assert_eq!(events.len(), 1, "session events are taken always");
        fs::remove_file(place.path("out.mcap")).unwrap();
    }
    let ran = place.edit(&["a.mcap"], &["--sample", "0"]);
    assert!(ran.code == 2, "{ran:?}");
}

#[test]
fn what_a_sample_could_not_read_is_told_once() {
    let place = Place::new();
    let options = synth::Options { messages: 2500, ..synth::Options::default() };
    synth::write(&options, &place.path("whole.mcap")).unwrap();
    let mut bytes = fs::read(place.path("whole.mcap")).unwrap();
    bytes.truncate(bytes.len() * 2 / 3);
    fs::write(place.path("cut.mcap"), &bytes).unwrap();
    let ran = place.edit(&["cut.mcap"], &["--sample", "5"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("warning: damaged capture").count(), 1, "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("lost of north-audit (audit)").count(), 1, "{}", ran.stderr);
}

#[test]
fn what_an_edit_has_left_out_is_not_lost() {
    let place = Place::new();
    let a = subscription("a", "audit");
    let mut entries = Entries::new();
    entries.happened(MS(0), &a, 1, Event::Connected(Connected::default()));
    for (number, letter) in [(1, "x"), (2, "y"), (3, "x"), (4, "z")] {
        let data = envelope("audit", "1", letter.as_bytes().to_vec());
        entries.numbered(MS(number.into()), &a, number, data);
    }
    let closed = Closed { last_sequence: 4, clean: true, ..Closed::default() };
    entries.happened(MS(9), &a, 1, Event::Closed(closed));
    entries.write(&place.path("in.mcap"));
    entries.write(&place.path("twin.mcap"));

    let inspected = |inputs: &[&str], options: &[&str]| {
        place.edited(inputs, options);
        let ran = centralcap(["inspect".as_ref(), place.path("out.mcap").as_os_str()]);
        fs::rename(place.path("out.mcap"), place.path("earlier.mcap")).unwrap();
        ran.code
    };
    for options in [&["--limit", "2"][..], &["--skip", "3"], &["--sample", "2"], &["--dedup"]] {
        assert_eq!(inspected(&["in.mcap"], options), 0, "{options:?}");
    }
    assert_eq!(inspected(&["in.mcap", "twin.mcap"], &[]), 0, "numbers that are there twice");
    // An edit of an edit leaves out what that one did.
    assert_eq!(inspected(&["in.mcap"], &["--skip", "2"]), 0);
    assert_eq!(inspected(&["earlier.mcap"], &[]), 0);

    // But what the recording itself does not have is missing, in the output as in the input.
    entries.made.remove(2);
    fs::remove_file(place.path("in.mcap")).unwrap();
    entries.write(&place.path("in.mcap"));
    assert_eq!(inspected(&["in.mcap"], &["--shift", "1s", "--rename", "a=b"]), 3);
    assert_eq!(inspected(&["earlier.mcap"], &["--level", "1"]), 3);
}

/// The files of a folder and what is in them.
fn parts_of(folder: &Path) -> Vec<(String, String)> {
    let listing = fs::read_dir(folder).unwrap().map(|item| item.unwrap().path());
    let part = |path: PathBuf| {
        (path.file_name().unwrap().to_str().unwrap().to_owned(), shown(&entries_of(&path)))
    };
    let mut parts: Vec<_> = listing.map(part).collect();
    parts.sort();
    parts
}

#[test]
fn an_output_is_split_into_a_folder() {
    let place = Place::new();
    place.capture("a.mcap", &subscription("a/1", "audit"), &[1, 3, 3_600_000]);
    place.capture("b.mcap", &subscription("b", "security"), &[2]);
    place.capture("c.mcap", &subscription("c", "audit"), &[4, 7_200_000, 5]);
    let inputs = ["a.mcap", "b.mcap", "c.mcap"];
    // The start is seven minutes past an hour.
    for (by, expected) in [
        (
            "topic",
            &[("audit.mcap", "a/11 a/13 c4 a/13600000 c7200000 c5"), ("security.mcap", "b2")][..],
        ),
        (
            "subscription",
            &[
                ("a%2F1.mcap", "a/11 a/13 a/13600000"),
                ("b.mcap", "b2"),
                ("c.mcap", "c4 c7200000 c5"),
            ],
        ),
        // A clock that is set back by hours comes back to an hour that is finished.
        (
            "hour",
            &[
                ("HOUR+0-2.mcap", "c5"),
                ("HOUR+0.mcap", "a/11 b2 a/13 c4"),
                ("HOUR+1.mcap", "a/13600000"),
                ("HOUR+2.mcap", "c7200000"),
            ],
        ),
    ] {
        let ran = place.edit(&inputs, &["--split-by", by]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let hour = |after: u64| {
            let time = support::capture::START.after(Duration::from_secs(after * 3600)).to_string();
            time[..13].to_owned()
        };
        let named = |name: &str| {
            (0..3).fold(name.to_owned(), |name, after| {
                name.replace(&format!("HOUR+{after}"), &hour(after))
            })
        };
        let expected: Vec<_> =
            expected.iter().map(|(name, what)| (named(name), (*what).to_owned())).collect();
        assert_eq!(parts_of(&place.path("out.mcap")), expected, "{by}");
        let (_, result) = metadata_of(&place.path("out.mcap").join(&expected[0].0)).pop().unwrap();
        assert_eq!(result["frames"], expected[0].1.split(' ').count().to_string());

        let ran = place.edit(&inputs, &["--split-by", by]);
        assert!(ran.code == 1 && ran.stderr.contains("already there"), "{ran:?}");
        fs::remove_dir_all(place.path("out.mcap")).unwrap();
        assert_eq!(place.names(), inputs);
    }
    let ran = place.edit(&inputs, &["--split-by", "colour"]);
    assert!(ran.code == 2 && ran.stderr.contains("expected one of topic, subscription, hour"));
    // A folder with nothing in it would be no capture, and in the way of the next attempt.
    let ran = place.edit(&inputs, &["--split-by", "topic", "--topic", "nope"]);
    assert_eq!((ran.code, place.names()), (0, inputs.map(str::to_owned).to_vec()));
    let expected =
        format!("nothing to split, so there is no {}\n", place.path("out.mcap").display());
    assert!(ran.stderr.ends_with(&expected), "{}", ran.stderr);
}

#[test]
fn more_parts_than_can_be_written_at_a_time_are_refused_and_nothing_stays() {
    let place = Place::new();
    let mut entries = Entries::new();
    for number in 0..65 {
        let of = subscription(&format!("s{number}"), "audit");
        entries.frame(MS(number), &of, message("audit", 1, 20));
    }
    entries.write(&place.path("in.mcap"));
    let ran = place.edit(&["in.mcap"], &["--split-by", "subscription"]);
    assert!(ran.code == 2 && ran.stderr.contains("expected at most 64 parts"), "{ran:?}");
    assert_eq!(place.names(), ["in.mcap"]);
}
