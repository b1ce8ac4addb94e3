//! What `inspect --gaps` makes of the ledger.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::{fs, path::Path, process::Command, sync::Arc, time::Duration};

use centralcap::{
    capture::{Capture, HotSegment},
    entry::{
        Subscription,
        session_event::{
            ClockStepped, Closed, Connected, Continued, DroppedFrames, Event, ExportDropped,
            Failed, Gap, KeyRenewed, Rejected, SegmentDeleted, gap::Cause,
        },
    },
    inspect::{self, Coverage, Look},
    select::{Selection, glob},
};

use self::support::{
    capture::{Entries, START, about, message, subscription},
    command::{centralcap, centralcap_with},
    feed::{Feed, Reply, Say},
};

mod support;

const PLAIN: Look = Look { color: false, unicode: true, width: inspect::WIDTH, everything: false };

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn nanos(after: u64) -> u64 {
    START.after(seconds(after)).as_nanos()
}

fn connected() -> Event {
    let peer = "192.0.2.1:443".to_owned();
    Event::Connected(Connected { attempt: 1, status: 101, round_trip_ns: 23_000_000, peer })
}

fn continued(last_sequence: u64) -> Event {
    Event::Continued(Continued { since_ns: START.as_nanos(), last_sequence })
}

fn closed(code: Option<u32>, reason: &str, last_sequence: u64) -> Event {
    let reason = reason.to_owned();
    Event::Closed(Closed { code, reason, clean: code.is_some(), last_sequence })
}

fn gap(from: u64, to: u64, cause: Cause) -> Event {
    Event::Gap(Gap { from_ns: nanos(from), to_ns: nanos(to), cause: cause.into() })
}

fn rejected(attempt: u32) -> Event {
    Event::Rejected(Rejected { attempt, status: 503, body: b"maintenance\n"[..].into() })
}

fn failed(attempt: u32) -> Event {
    Event::Failed(Failed { attempt, reason: "connection refused".to_owned() })
}

fn dropped(count: u64) -> Event {
    let reason = "cannot write: no space left on device".to_owned();
    Event::DroppedFrames(DroppedFrames { count, bytes: 100 * count, reason })
}

/// What happened to one subscription, by the second.
fn ledger(of: &Arc<Subscription>, told: Vec<(u64, u32, Event)>) -> Entries {
    let mut entries = Entries::new();
    tell(&mut entries, of, told);
    entries
}

fn tell(entries: &mut Entries, of: &Arc<Subscription>, told: Vec<(u64, u32, Event)>) {
    for (after, connection, event) in told {
        entries.happened(seconds(after), of, connection, event);
    }
}

fn frame(entries: &mut Entries, after: u64, of: &Arc<Subscription>, sequence: u32) {
    entries.numbered(seconds(after), of, sequence, message(&of.topic, sequence, 10));
}

/// The coverage of each subscription, by name.
fn coverage(paths: &[&Path], selection: Selection) -> Vec<Coverage> {
    let profile = inspect::gaps(&Capture::open(paths).unwrap(), selection).unwrap();
    profile.subscriptions.into_iter().map(|found| found.coverage.unwrap()).collect()
}

fn of_all(paths: &[&Path]) -> Coverage {
    let mut found = coverage(paths, Selection::default());
    assert_eq!(found.len(), 1);
    found.remove(0)
}

/// Covered spans, gaps with causes and unknown spans, in seconds after the start.
type Shown = (Vec<(u64, u64)>, Vec<(u64, u64, String)>, Vec<(u64, u64)>);

fn shown(coverage: &Coverage) -> Shown {
    let ends = |span: inspect::Span| {
        let after = |moment: centralcap::entry::Timestamp| moment.since(START).as_secs();
        (after(span.first), after(span.last))
    };
    let gap = |gap: &inspect::Gap| (ends(gap.span).0, ends(gap.span).1, gap.cause.clone());
    (
        coverage.covered.iter().map(|span| ends(*span)).collect(),
        coverage.gaps.iter().map(gap).collect(),
        coverage.unknown.iter().map(|span| ends(*span)).collect(),
    )
}

fn why(from: u64, to: u64, cause: &str) -> (u64, u64, String) {
    (from, to, cause.to_owned())
}

/// Everything that can come between, once: a run that is refused at first, closed, without room, killed
/// and followed by another, and a quiet subscription beside it.
fn eventful(folder: &Path) {
    let (places, changes) =
        (subscription("north-location", "location"), subscription("north-audit", "audit"));
    let mut entries = Entries::new();
    tell(&mut entries, &changes, vec![(3, 1, connected())]);
    tell(&mut entries, &places, vec![(0, 0, failed(1)), (1, 0, rejected(2)), (4, 1, connected())]);
    frame(&mut entries, 9, &places, 1);
    let told = vec![
        (20, 1, closed(Some(1001), "going away", 1)),
        (21, 1, rejected(1)),
        (25, 1, failed(2)),
        (32, 2, connected()),
        (32, 2, gap(20, 32, Cause::Server)),
    ];
    tell(&mut entries, &places, told);
    frame(&mut entries, 33, &places, 1);
    tell(&mut entries, &places, vec![(41, 2, dropped(20)), (50, 2, gap(40, 50, Cause::Disk))]);
    frame(&mut entries, 60, &places, 22);
    entries.write(&folder.join("a.mcap"));

    let mut entries = Entries::new();
    tell(&mut entries, &changes, vec![(90, 1, connected()), (90, 1, gap(60, 90, Cause::Killed))]);
    tell(&mut entries, &places, vec![(91, 1, connected()), (91, 1, gap(60, 91, Cause::Killed))]);
    tell(&mut entries, &places, vec![(119, 1, closed(Some(1000), "", 0))]);
    tell(&mut entries, &changes, vec![(120, 1, closed(Some(1000), "", 0))]);
    entries.write_of_run(&folder.join("b.mcap"), seconds(85));
}

#[test]
fn the_page_shows_each_gap_with_its_cause_and_what_was_said() {
    let folder = tempfile::tempdir().unwrap();
    eventful(folder.path());
    let capture = Capture::open(&[folder.path()]).unwrap();
    let mut profile = inspect::gaps(&capture, Selection::default()).unwrap();
    profile.totals.stored_bytes = 4096;
    profile.totals.compression = Some(0.5);
    profile.about.as_mut().unwrap().version = "VERSION".to_owned();
    insta::assert_snapshot!(profile.gaps_text(PLAIN));
}

#[test]
fn the_readme_shows_what_it_prints() {
    let folder = tempfile::tempdir().unwrap();
    eventful(folder.path());
    let ran = centralcap(["inspect", "--gaps", folder.path().to_str().unwrap()]);
    let readme = include_str!("../README.md");
    let (_, shown) = readme.split_once("$ centralcap inspect --gaps captures/\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    assert!(shown.lines().count() > 20, "{shown}");
    for part in shown.split("...\n") {
        assert!(ran.stdout.contains(part), "{part} in {}", ran.stdout);
    }
}

#[test]
fn the_document_has_the_same_facts() {
    let folder = tempfile::tempdir().unwrap();
    eventful(folder.path());
    let path = folder.path().to_str().unwrap();
    let ran = centralcap(["inspect", "--gaps", "--json", path]);
    assert_eq!(ran.code, 3, "{ran:?}");
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let coverage = &document["subscriptions"][1]["coverage"];
    assert_eq!(coverage["covered_seconds"], 16.0 + 8.0 + 10.0 + 28.0);
    let closed = &coverage["gaps"][1];
    assert_eq!(closed["from"], "2026-11-18T11:07:00.000000000Z");
    assert_eq!(closed["to"], "2026-11-18T11:07:12.000000000Z");
    assert_eq!((&closed["cause"], &closed["attempts"]), (&"server".into(), &2.into()));
    assert_eq!(
        (&closed["said"][0]["event"], &closed["said"][0]["code"]),
        (&"closed".into(), &1001.into())
    );
    assert_eq!(closed["said"][1]["reason"], "connection refused");
    let disk = &coverage["gaps"][2];
    assert_eq!(
        (&disk["cause"], &disk["frames"], &disk["bytes"]),
        (&"disk".into(), &20.into(), &2000.into())
    );
    // Without the option nobody pays for it.
    let plain = centralcap(["inspect", "--json", path]);
    let document: serde_json::Value = serde_json::from_str(&plain.stdout).unwrap();
    assert!(document["subscriptions"][0]["coverage"].is_null());
}

#[test]
fn a_killed_run_covered_a_quiet_subscription_until_it_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    eventful(folder.path());
    let expected = (vec![(3, 60), (90, 120)], vec![why(60, 90, "killed")], vec![]);
    let all = coverage(&[folder.path()], Selection::default());
    assert_eq!(shown(&all[0]), expected);
    // Also where nobody else is looked at.
    let selection = Selection { subscriptions: vec![glob("north-a*").unwrap()], ..<_>::default() };
    assert_eq!(shown(&coverage(&[folder.path()], selection)[0]), expected);
    // Without the next run nobody knows how it ended, and nobody says that it was a gap.
    let alone = coverage(&[&folder.path().join("a.mcap")], Selection::default());
    assert_eq!(shown(&alone[0]), (vec![(3, 60)], vec![], vec![]));
}

#[test]
fn a_connection_that_is_taken_over_leaves_no_gap_unless_one_is_told() {
    let of = subscription("changes", "audit");
    let told = |renewed: bool, gap: Option<Event>| {
        let folder = tempfile::tempdir().unwrap();
        let key = Event::KeyRenewed(KeyRenewed { written_back: true });
        let mut all = vec![(0, 1, connected()), (5, 1, key)];
        all.truncate(1 + usize::from(renewed));
        let reason = "the connection with the new key stands";
        all.extend([(5, 1, closed(Some(1000), reason, 0)), (6, 2, connected())]);
        all.extend(gap.map(|gap| (6, 2, gap)));
        all.push((9, 2, closed(Some(1000), "", 0)));
        ledger(&of, all).write(&folder.path().join("a.mcap"));
        of_all(&[folder.path()])
    };
    assert_eq!(shown(&told(true, None)), (vec![(0, 9)], vec![], vec![]));
    let expected = (vec![(0, 5), (6, 9)], vec![why(5, 6, "server")], vec![]);
    for (renewed, gap) in [(false, None), (true, Some(gap(5, 6, Cause::Server)))] {
        let found = told(renewed, gap);
        assert_eq!(shown(&found), expected, "{renewed}");
        assert_eq!(found.gaps[0].said.len(), 1, "{:?}", found.gaps);
    }
}

/// Between what was written down of the end of a connection and what was told of the gap may be an instant.
#[test]
fn what_is_unknown_for_less_than_a_millisecond_is_not_told() {
    let of = subscription("changes", "audit");
    let page = |micros: u64| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mcap");
        let from_ns = nanos(5) + 1000 * micros;
        let told = Gap { from_ns, to_ns: nanos(6), cause: Cause::Shutdown.into() };
        let all = vec![
            (0, 1, connected()),
            (5, 1, closed(Some(1000), "", 0)),
            (6, 2, connected()),
            (6, 2, Event::Gap(told)),
            (9, 2, closed(Some(1000), "", 0)),
        ];
        ledger(&of, all).write(&path);
        inspect::gaps(&Capture::open(&[path]).unwrap(), Selection::default())
            .unwrap()
            .gaps_text(PLAIN)
    };
    let rows = |page: String| {
        page.lines().filter(|line| line.contains(" unknown ") && line.ends_with(" -")).count()
    };
    assert_eq!(rows(page(600)), 0, "{}", page(600));
    assert_eq!(rows(page(60_000)), 1, "{}", page(60_000));
}

/// The next run knows until when it went on, but not what has been taken away of it since.
#[test]
fn what_is_not_there_any_more_of_a_killed_run_covered_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let of = subscription("changes", "audit");
    let mut first = ledger(&of, vec![(0, 1, connected())]);
    frame(&mut first, 5, &of, 1);
    let mut second = ledger(&of, vec![(10, 1, continued(1))]);
    frame(&mut second, 15, &of, 2);
    // That is the last thing it wrote, and says nothing of coverage but that it lived.
    let backlog = ExportDropped { exporter: "file".to_owned(), frames: 1, ..<_>::default() };
    tell(&mut second, &of, vec![(18, 1, Event::ExportDropped(backlog))]);
    let next = vec![
        (30, 1, connected()),
        (30, 1, gap(18, 30, Cause::Killed)),
        (40, 1, closed(Some(1000), "", 0)),
    ];
    first.write(&folder.path().join("a.mcap"));
    second.write(&folder.path().join("b.mcap"));
    ledger(&of, next).write_of_run(&folder.path().join("c.mcap"), seconds(29));
    let killed = || vec![why(18, 30, "killed")];
    let whole = of_all(&[folder.path()]);
    assert_eq!(shown(&whole), (vec![(0, 18), (30, 40)], killed(), vec![]));

    fs::remove_file(folder.path().join("b.mcap")).unwrap();
    let without = of_all(&[folder.path()]);
    assert_eq!(shown(&without), (vec![(0, 5), (30, 40)], killed(), vec![(5, 18)]));
}

#[test]
fn segments_of_one_run_follow_each_other_wherever_they_are() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let of = subscription("changes", "audit");
    let mut first = ledger(&of, vec![(0, 1, connected())]);
    frame(&mut first, 5, &of, 1);
    let mut second = ledger(&of, vec![(10, 1, continued(1))]);
    frame(&mut second, 15, &of, 2);
    let mut third = ledger(&of, vec![(20, 1, continued(2))]);
    frame(&mut third, 25, &of, 3);
    tell(&mut third, &of, vec![(30, 1, closed(Some(1000), "", 3))]);
    first.write(&there.path().join("1.mcap"));
    second.write(&there.path().join("2.mcap"));
    third.write(&here.path().join("3.mcap"));
    let whole = of_all(&[there.path(), here.path()]);
    assert_eq!(shown(&whole), (vec![(0, 30)], vec![], vec![]));
    assert_eq!(whole.covered_percent, Some(100.0));

    fs::remove_file(there.path().join("2.mcap")).unwrap();
    let without = of_all(&[there.path(), here.path()]);
    assert_eq!(shown(&without), (vec![(0, 5), (20, 30)], vec![], vec![(5, 20)]));
}

#[test]
fn a_gap_that_another_recorder_covered_is_none() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let of = subscription("changes", "audit");
    let broken = vec![
        (0, 1, connected()),
        (10, 1, closed(None, "reset", 0)),
        (30, 2, connected()),
        (30, 2, gap(10, 30, Cause::Network)),
        (60, 2, closed(Some(1000), "", 0)),
    ];
    ledger(&of, broken).write(&one.path().join("a.mcap"));
    let told = vec![(5, 1, connected()), (25, 1, closed(Some(1000), "", 0))];
    ledger(&of, told).write_of_run(&two.path().join("b.mcap"), seconds(5));
    let both = of_all(&[one.path(), two.path()]);
    assert_eq!(shown(&both), (vec![(0, 25), (30, 60)], vec![why(25, 30, "network")], vec![]));

    let (one, two) = (one.path().to_str().unwrap(), two.path().to_str().unwrap());
    assert_eq!(centralcap(["inspect", "--gaps", one, two]).code, 3);
    let longer = vec![(5, 1, connected()), (35, 1, closed(Some(1000), "", 0))];
    ledger(&of, longer).write_of_run(&Path::new(two).join("c.mcap"), seconds(6));
    let ran = centralcap(["inspect", "--gaps", one, two]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("100.00 %"), "{}", ran.stdout);
}

#[test]
fn between_recordings_that_do_not_know_of_each_other_nothing_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let of = subscription("changes", "audit");
    for (name, begin) in [("a.mcap", 0), ("b.mcap", 3600)] {
        let told = vec![(begin, 1, connected()), (begin + 60, 1, closed(Some(1000), "", 0))];
        ledger(&of, told).write_of_run(&folder.path().join(name), seconds(begin));
    }
    let found = of_all(&[folder.path()]);
    assert_eq!(shown(&found), (vec![(0, 60), (3600, 3660)], vec![], vec![(60, 3600)]));
    let ran = centralcap(["inspect", "--gaps", folder.path().to_str().unwrap()]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stdout.contains("lost        1 unknown time"), "{}", ran.stdout);
}

#[test]
fn what_is_recorded_right_now_is_covered_until_now() {
    let folder = tempfile::tempdir().unwrap();
    let of = subscription("changes", "audit");
    let mut entries = ledger(&of, vec![(0, 1, connected())]);
    frame(&mut entries, 40, &of, 1);
    let mut segment =
        HotSegment::create(&folder.path().join("a.mcap"), &about(seconds(0)), &[]).unwrap();
    for entry in &entries.made {
        segment.append(entry).unwrap();
    }
    segment.commit().unwrap();
    assert_eq!(shown(&of_all(&[folder.path()])), (vec![(0, 40)], vec![], vec![]));
    assert_eq!(centralcap(["inspect", "--gaps", folder.path().to_str().unwrap()]).code, 0);
}

#[test]
fn a_connection_that_is_lost_while_nothing_can_be_written_has_a_gap_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let of = subscription("changes", "audit");
    let told = vec![
        (0, 1, connected()),
        (10, 1, continued(0)),
        (11, 1, dropped(3)),
        (15, 1, closed(Some(1001), "restart", 3)),
        (20, 1, gap(10, 20, Cause::Disk)),
        (25, 2, connected()),
        (25, 2, gap(15, 25, Cause::Server)),
        (30, 2, closed(Some(1000), "", 0)),
    ];
    ledger(&of, told).write(&folder.path().join("a.mcap"));
    let found = of_all(&[folder.path()]);
    let gaps = vec![why(10, 20, "disk"), why(20, 25, "server")];
    assert_eq!(shown(&found), (vec![(0, 10), (25, 30)], gaps, vec![]));
    let said = |at: usize| format!("{:?}", found.gaps[at].said);
    assert!(said(0).contains("no space left") && !said(0).contains("restart"), "{}", said(0));
    assert!(said(1).contains("restart") && !said(1).contains("no space left"), "{}", said(1));
}

/// As where the segments before are gone, or damaged.
#[test]
fn a_frame_is_proof_of_a_connection_whose_beginning_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let of = subscription("changes", "audit");
    let mut entries = Entries::new();
    for sequence in 7..=9 {
        frame(&mut entries, sequence.into(), &of, sequence);
    }
    tell(&mut entries, &of, vec![(12, 3, continued(9)), (20, 3, closed(None, "reset", 9))]);
    frame(&mut entries, 30, &of, 2);
    tell(&mut entries, &of, vec![(35, 4, closed(Some(1000), "", 2))]);
    entries.write(&folder.path().join("a.mcap"));
    let found = of_all(&[folder.path()]);
    assert_eq!(shown(&found), (vec![(7, 20), (30, 35)], vec![], vec![(20, 30)]));
}

/// As where a chunk in the middle is damaged.
#[test]
fn nothing_is_known_of_a_time_whose_frames_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    let of = subscription("changes", "audit");
    let mut entries = ledger(&of, vec![(0, 1, connected())]);
    for sequence in [1, 2, 3, 7, 8] {
        frame(&mut entries, 2 * u64::from(sequence), &of, sequence);
    }
    // These are gone, too, but somebody says so.
    tell(&mut entries, &of, vec![(18, 1, dropped(2))]);
    frame(&mut entries, 22, &of, 11);
    tell(&mut entries, &of, vec![(30, 1, closed(Some(1000), "", 13))]);
    entries.write(&folder.path().join("a.mcap"));
    let found = of_all(&[folder.path()]);
    assert_eq!(shown(&found), (vec![(0, 6), (14, 22)], vec![], vec![(6, 14), (22, 30)]));
}

/// It stopped while it waited for the server, and so did the next one.
#[test]
fn a_recording_that_ends_without_a_connection_ends_with_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let of = subscription("changes", "audit");
    let told = vec![
        (0, 1, connected()),
        (10, 1, closed(Some(1011), "oops", 0)),
        (12, 1, rejected(1)),
        // It takes a moment until that is written down.
        (31, 1, gap(10, 30, Cause::Server)),
    ];
    ledger(&of, told).write(&folder.path().join("a.mcap"));
    let next = vec![(50, 0, failed(1)), (70, 0, gap(30, 70, Cause::Shutdown))];
    ledger(&of, next).write_of_run(&folder.path().join("b.mcap"), seconds(50));
    let found = of_all(&[folder.path()]);
    let gaps = vec![why(10, 30, "server"), why(30, 70, "shutdown")];
    assert_eq!(shown(&found), (vec![(0, 10)], gaps, vec![]));
    assert_eq!(found.gaps.iter().map(|gap| gap.attempts).collect::<Vec<_>>(), [1, 1]);
}

/// What the recorder writes down fits together to the nanosecond: there is nothing between.
#[test]
fn a_recording_that_was_made_has_its_gaps_and_no_others() {
    let said = |name| Say::Binary(message("audit", name, 10));
    let feed = Feed::start(vec![
        Reply::Feed(vec![said(1), Say::Drop]),
        Reply::Answer("503 Service Unavailable", "maintenance".to_owned()),
        Reply::Feed(vec![said(2), Say::Close(1001, "restart")]),
        Reply::Feed(vec![said(3), Say::Stay]),
        Reply::Feed(vec![said(4), Say::Stay]),
    ]);
    let folder = tempfile::tempdir().unwrap();
    for frames in ["3", "1"] {
        let mut record = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"));
        record
            .args(["record", "--hostname", &feed.url(), "--topic", "audit", "-o"])
            .arg(folder.path())
            .args(["--stop-after-messages", frames])
            .env("CENTRALCAP_KEY", "synthetic-key-for-tests");
        record.output().unwrap();
    }
    let found = of_all(&[folder.path()]);
    let of = |gap: &inspect::Gap| (gap.cause.clone(), gap.attempts);
    let expected = [("network", 1), ("server", 0), ("shutdown", 0)];
    let expected = expected.map(|(cause, attempts)| (cause.to_owned(), attempts));
    assert_eq!(found.gaps.iter().map(of).collect::<Vec<_>>(), expected);
    assert_eq!((found.covered.len(), &found.unknown), (4, &vec![]));
    let words = format!("{:?}", found.gaps[0].said);
    assert!(words.contains("maintenance"), "{words}");
    let words = format!("{:?}", found.gaps[1].said);
    assert!(words.contains("1001") && words.contains("restart"), "{words}");
}

#[test]
fn a_clock_that_is_set_makes_no_time_longer_or_shorter() {
    const DAY: u64 = 86_400;

    let folder = tempfile::tempdir().unwrap();
    let of = subscription("changes", "audit");
    // A day ahead at first; set right 20 seconds after the beginning, in a gap.
    let step = ClockStepped { from_ns: nanos(DAY + 20), to_ns: nanos(20) };
    let told = vec![
        (DAY, 1, connected()),
        (DAY + 4, 1, dropped(2)),
        (DAY + 6, 1, gap(DAY + 3, DAY + 6, Cause::Disk)),
        (DAY + 10, 1, closed(None, "reset", 0)),
        (20, 1, Event::ClockStepped(step)),
        (30, 2, connected()),
        (30, 2, gap(10, 30, Cause::Network)),
        (60, 2, closed(Some(1000), "", 0)),
    ];
    ledger(&of, told).write(&folder.path().join("a.mcap"));
    let found = of_all(&[folder.path()]);
    let gaps = vec![why(3, 6, "disk"), why(10, 30, "network")];
    assert_eq!(shown(&found), (vec![(0, 3), (6, 10), (30, 60)], gaps, vec![]));
    assert_eq!(found.gaps[0].frames, 2);
    let ran = centralcap(["inspect", "--gaps", folder.path().to_str().unwrap()]);
    assert!(ran.stdout.contains("1 clock step"), "{}", ran.stdout);
    assert!(ran.stdout.contains("by the clock as it was set at last"), "{}", ran.stdout);
}

/// Nothing is missing here, only there; and it may be told when all connections have long ended.
#[test]
fn what_was_dropped_elsewhere_or_deleted_changes_neither_coverage_nor_exit_code() {
    let of = subscription("changes", "audit");
    let reason = "nobody listens".to_owned();
    let exporter = "tcp://collector.example.com:9000".to_owned();
    let dropped = ExportDropped { exporter, frames: 7, bytes: 700, reason };
    let ended = || vec![(10, 1, connected()), (20, 1, closed(Some(1000), "", 0))];
    let mut told = ended();
    told.insert(1, (15, 1, Event::ExportDropped(dropped.clone())));
    told.push((25, 1, Event::ExportDropped(dropped)));
    told.push((25, 0, Event::SegmentDeleted(SegmentDeleted::default())));
    let found = [told, ended()].map(|told| {
        let folder = tempfile::tempdir().unwrap();
        ledger(&of, told).write(&folder.path().join("a.mcap"));
        for more in [&["--gaps"][..], &[]] {
            let path = folder.path().to_str().unwrap();
            let ran = centralcap(["inspect", path].iter().chain(more));
            assert_eq!(ran.code, 0, "{}", ran.stdout);
        }
        of_all(&[folder.path()])
    });
    assert_eq!(shown(&found[0]), (vec![(10, 20)], vec![], vec![]));
    assert_eq!(found[0], found[1]);
}

#[test]
fn frames_that_were_lost_outside_of_any_gap_are_a_loss_too() {
    let folder = tempfile::tempdir().unwrap();
    let of = subscription("changes", "audit");
    let told = vec![(0, 1, connected()), (5, 1, dropped(1)), (10, 1, closed(Some(1000), "", 1))];
    let path = folder.path().join("a.mcap");
    ledger(&of, told).write(&path);
    let found = of_all(&[&path]);
    assert_eq!((found.gaps.len(), found.lost_frames, found.lost_bytes), (0, 1, 100));
    assert_eq!(centralcap(["inspect", "--gaps", path.to_str().unwrap()]).code, 3);
}

#[test]
fn the_drawing_is_as_wide_as_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    eventful(folder.path());
    let capture = Capture::open(&[folder.path()]).unwrap();
    let profile = inspect::gaps(&capture, Selection::default()).unwrap();
    for (width, column) in [(60, "4s"), (100, "2s"), (300, "1s")] {
        let page = profile.gaps_text(Look { width, ..PLAIN });
        assert!(page.contains(&format!("one column is {column}\n")), "{width}: {page}");
        let drawn = page.lines().filter(|line| line.ends_with(" %"));
        assert!(
            drawn.clone().count() == 2 && drawn.clone().all(|line| line.chars().count() <= width)
        );
    }
}

/// Covered, gap and unknown are told apart without colour and without Unicode, on a page of its width.
#[test]
fn the_drawing_needs_neither_colour_nor_unicode() {
    let folder = tempfile::tempdir().unwrap();
    let long = "a subscription with a name that has no end ".repeat(4);
    let of = subscription(&long, "audit");
    let told = vec![
        (0, 1, connected()),
        (10, 1, closed(None, &long, 0)),
        (30, 2, connected()),
        (30, 2, gap(10, 30, Cause::Network)),
        (40, 2, closed(Some(1000), "", 0)),
    ];
    ledger(&of, told).write(&folder.path().join("a.mcap"));
    let told = vec![(50, 1, connected()), (60, 1, closed(Some(1000), "", 0))];
    ledger(&of, told).write_of_run(&folder.path().join("b.mcap"), seconds(50));
    let path = folder.path().to_str().unwrap();
    let page = |locale| centralcap_with(&[("LC_ALL", locale)], ["inspect", "--gaps", path]).stdout;
    let ascii = page("C");
    assert!(ascii.is_ascii(), "{ascii}");
    let drawing = format!(
        "{}{}{}{}{}",
        "#".repeat(10),
        "-".repeat(20),
        "#".repeat(10),
        "?".repeat(10),
        "#".repeat(10)
    );
    assert!(ascii.contains(&drawing), "{drawing} in {ascii}");
    let unicode = page("C.UTF-8");
    for line in ascii.lines().chain(unicode.lines()) {
        assert!(line.chars().count() <= 100, "wider than the page: {line}");
    }
    let colour = centralcap(["--color", "always", "inspect", "--gaps", path]).stdout;
    assert!(colour.contains("\u{1b}[31m\u{2591}"), "{colour}");
}
