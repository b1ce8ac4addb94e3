//! `inspect --verify`: what is whole passes, and each check is seen failing on a capture that is spoilt in
//! exactly that way, with checksums that hold.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Barrier},
    time::Duration,
};

use bytes::Bytes;
use centralcap::{
    capture::{self, Capture, Compression, HotSegment},
    entry::{
        Subscription,
        session_event::{
            ClockStepped, Closed, Connected, Continued, DroppedFrames, Event, Gap, SegmentDeleted,
            gap::Cause,
        },
    },
    inspect::{self, Check, Verdict},
};
use mcap::records::{Record, op};
use support::{
    capture::{Entries, START, about, message, subscription},
    command::{Ran, centralcap},
    feed::{Feed, Reply, Say},
};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn connected() -> Event {
    Event::Connected(Connected { attempt: 1, status: 101, ..Connected::default() })
}

fn closed(last_sequence: u64) -> Event {
    Event::Closed(Closed { code: Some(1000), clean: true, last_sequence, ..Closed::default() })
}

fn gap(from: u64, to: u64) -> Event {
    let at = |after| START.after(seconds(after)).as_nanos();
    Event::Gap(Gap { from_ns: at(from), to_ns: at(to), cause: Cause::Server.into() })
}

fn dropped(count: u64) -> Event {
    Event::DroppedFrames(DroppedFrames { count, ..DroppedFrames::default() })
}

/// One step of a recording of one subscription, so many seconds after the start.
enum Step {
    Event(u64, u32, Event),
    Frame(u64, u32),
}
use Step::{Event as E, Frame as F};

fn told(of: &Arc<Subscription>, steps: Vec<Step>) -> Entries {
    let mut entries = Entries::new();
    for step in steps {
        match step {
            E(after, connection, event) => {
                entries.happened(seconds(after), of, connection, event);
            }
            F(after, sequence) => {
                let data = message("audit", sequence, 100);
                entries.numbered(seconds(after), of, sequence, data);
            }
        }
    }
    entries
}

/// Two connections, four frames, a gap.
fn good() -> Vec<Step> {
    vec![
        E(0, 1, connected()),
        F(1, 1),
        F(2, 2),
        F(3, 3),
        E(4, 1, closed(3)),
        E(8, 2, connected()),
        E(8, 2, gap(4, 8)),
        F(9, 1),
        E(10, 2, closed(1)),
    ]
}

fn verdict(path: &Path) -> Verdict {
    inspect::verify(&Capture::open(&[path]).unwrap()).unwrap()
}

/// The checks that fail, and all that is said about it.
fn faults(verdict: &Verdict) -> (Vec<Check>, String) {
    let failed = verdict.checks.iter().filter(|checked| checked.faults > 0);
    let words: String = failed
        .clone()
        .flat_map(|checked| &checked.first)
        .map(|fault| {
            let place = format!("{} {:?}", fault.offset, fault.in_chunk);
            format!("at {place}: expected {}, found {}\n", fault.expected, fault.found)
        })
        .collect();
    (failed.map(|checked| checked.check).collect(), words)
}

#[track_caller]
fn assert_whole(path: &Path) {
    let verdict = verdict(path);
    assert!(verdict.whole, "{}: {:?}", path.display(), faults(&verdict));
}

/// This check fails, no other one, and so many times, and this is said.
#[track_caller]
fn assert_fails(path: &Path, check: Check, count: u64, words: &str) {
    let verdict = verdict(path);
    let (checks, said) = faults(&verdict);
    assert_eq!((checks, verdict.faults()), (vec![check], count), "{said}");
    assert!(said.contains(words), "expected {words:?} in:\n{said}");
    assert!(!verdict.whole);
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn verified(path: &Path, more: &[&str]) -> Ran {
    let path = path.to_str().unwrap();
    centralcap(["--color", "never", "inspect", "--verify", path].iter().chain(more))
}

/// A place for captures. In memory where there is such a place: files are synced.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::TempDir::new_in(memory)
        } else {
            tempfile::TempDir::new()
        };
        Self { folder: folder.unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A sealed capture of this story.
    fn sealed(&self, steps: Vec<Step>) -> PathBuf {
        let path = self.path("capture.mcap");
        fs::remove_file(&path).ok();
        told(&subscription("a", "audit"), steps).write(&path);
        path
    }

    /// A capture of several chunks.
    fn long(&self) -> PathBuf {
        let path = self.path("long.mcap");
        let a = subscription("a", "audit");
        let noise = noise(20_000);
        let mut entries = Entries::new();
        entries.happened(seconds(0), &a, 1, connected());
        for sequence in 1..=350 {
            entries.numbered(seconds(sequence.into()), &a, sequence, noise.slice(..10_000));
        }
        entries.happened(seconds(999), &a, 1, closed(350));
        entries.write(&path);
        path
    }

    /// The segments of one recording.
    fn segments(&self, stories: Vec<Vec<Step>>) -> PathBuf {
        for (number, steps) in stories.into_iter().enumerate() {
            let path = self.path(&format!("{number}.mcap"));
            told(&subscription("a", "audit"), steps).write(&path);
        }
        self.folder.path().to_owned()
    }

    /// A sealed capture whose chunks are not compressed, so that what is in them can be changed.
    fn plain(&self) -> Spoilt {
        let mut entries = told(&subscription("a", "audit"), good());
        let other = subscription("b", "presence");
        entries.happened(seconds(10), &other, 1, connected());
        entries.numbered(seconds(11), &other, 1, message("presence", 1, 50));
        entries.happened(seconds(12), &other, 1, closed(1));
        let made = self.path("made.mcap");
        fs::remove_file(&made).ok();
        entries.write(&made);
        let path = self.path("plain.mcap");
        let file = BufWriter::new(File::create(&path).unwrap());
        let options = mcap::WriteOptions::new().profile("centralcap").compression(None);
        // Several chunks.
        let options = options.chunk_size(Some(150));
        let mut writer = options.create(file).unwrap();
        let mut in_summary = false;
        capture::each_record(&made, |opcode, data| {
            in_summary |= opcode == op::DATA_END;
            match mcap::parse_record(opcode, data).unwrap() {
                _ if in_summary => {}
                Record::Schema { header, data } => {
                    let name = &header.name;
                    writer.add_schema_with_id(header.id, name, &header.encoding, &data).unwrap();
                }
                Record::Channel(channel) => {
                    let mcap::records::Channel { id, schema_id, topic, .. } = &channel;
                    let encoding = &channel.message_encoding;
                    let metadata = &channel.metadata;
                    writer.add_channel_with_id(*id, *schema_id, topic, encoding, metadata).unwrap();
                }
                Record::Message { header, data } => {
                    writer.write_to_known_channel(&header, &data).unwrap();
                }
                Record::Metadata(metadata) => writer.write_metadata(&metadata).unwrap(),
                _ => {}
            }
            Ok(())
        })
        .unwrap();
        writer.finish().unwrap();
        drop(writer);
        assert_whole(&path);
        Spoilt { data: fs::read(&path).unwrap(), path }
    }
}

/// A capture whose bytes are being changed.
struct Spoilt {
    path: PathBuf,
    data: Vec<u8>,
}

impl Spoilt {
    /// Where each record begins, its opcode and its length.
    fn records(&self) -> Vec<(usize, u8, usize)> {
        let mut found = Vec::new();
        let mut at = mcap::MAGIC.len();
        while at + mcap::MAGIC.len() < self.data.len() {
            let length = u64::from_le_bytes(self.data[at + 1..at + 9].try_into().unwrap());
            found.push((at, self.data[at], length as usize));
            at += 9 + length as usize;
        }
        found
    }

    /// Where the content of the n-th record of an opcode begins.
    fn nth(&self, opcode: u8, n: usize) -> usize {
        let records = self.records();
        let (at, ..) = records.iter().filter(|record| record.1 == opcode).nth(n).unwrap();
        at + 9
    }

    /// The same of the last one.
    fn last(&self, opcode: u8) -> usize {
        let records = self.records();
        records.iter().rfind(|record| record.1 == opcode).unwrap().0 + 9
    }

    fn add(&mut self, at: usize, by: u8) {
        self.data[at] = self.data[at].wrapping_add(by);
    }

    /// Where something stands, for the first time behind a place.
    fn find(&self, behind: usize, what: &[u8]) -> usize {
        behind + self.data[behind..].windows(what.len()).position(|here| here == what).unwrap()
    }

    /// All checksums hold again.
    fn sum(&mut self) {
        let records = self.records();
        for &(at, _, length) in records.iter().filter(|record| record.1 == op::CHUNK) {
            // Times, size, checksum, no compression, size.
            let crc = crc32fast::hash(&self.data[at + 9 + 40..at + 9 + length]);
            self.data[at + 9 + 24..at + 9 + 28].copy_from_slice(&crc.to_le_bytes());
        }
        let (end, ..) = *records.iter().find(|record| record.1 == op::DATA_END).unwrap();
        let crc = crc32fast::hash(&self.data[..end]);
        self.data[end + 9..end + 13].copy_from_slice(&crc.to_le_bytes());
        let footer = self.last(op::FOOTER);
        let crc = crc32fast::hash(&self.data[end + 13..footer + 16]);
        self.data[footer + 16..footer + 20].copy_from_slice(&crc.to_le_bytes());
    }

    fn write(&self) -> &Path {
        fs::write(&self.path, &self.data).unwrap();
        &self.path
    }
}

/// Changes a capture, sums it up again, and sees this check fail, so many times, and no other.
#[track_caller]
fn spoil(check: Check, count: u64, words: &str, change: impl FnOnce(&mut Spoilt)) {
    let place = Place::new();
    let mut spoilt = place.plain();
    change(&mut spoilt);
    spoilt.sum();
    assert_fails(spoilt.write(), check, count, words);
}

#[test]
fn what_we_make_is_whole() {
    let fixtures = fs::read_dir(fixture("")).unwrap().map(|item| item.unwrap().path());
    let captures: Vec<_> =
        fixtures.filter(|path| path.extension().is_some_and(|kind| kind == "mcap")).collect();
    assert!(captures.len() >= 2, "{captures:?}");
    for path in &captures {
        assert_whole(path);
    }
    let place = Place::new();
    assert_whole(&place.sealed(good()));
    let small = fixture("small.mcap");
    let small = small.to_str().unwrap();
    for (number, options) in [
        &["--topic", "audit"][..],
        &["--from", "+1m", "--limit", "9"],
        &["--shift", "-90m"],
        &["--restamp", "2026-12-01T08:00:00Z"],
        &["--rename", "north-audit=audit"],
        &["--sample", "3"],
        &["--minimise"],
        &["--redact"],
        &["--level", "19"],
    ]
    .into_iter()
    .enumerate()
    {
        let path = place.path(&format!("edited-{number}.mcap"));
        let output = ["-o", path.to_str().unwrap()];
        let ran = centralcap(["edit", small].iter().chain(options).chain(&output));
        assert_eq!(ran.code, 0, "{options:?}: {ran:?}");
        assert_whole(&path);
    }
    let path = place.path("synth.mcap");
    let output = path.to_str().unwrap();
    let ran = centralcap(["synth", "--seed", "5", "--messages", "300", "-o", output]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_whole(&path);
    let path = place.long();
    assert!(verdict(&path).segments[0].chunks > 1);
    assert_whole(&path);
}

/// Bytes that cannot be compressed.
fn noise(size: u32) -> Bytes {
    (0..size).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A folder of several segments, the last of which is hot, and what it takes to get there.
#[cfg(unix)]
#[test]
fn what_is_recorded_is_whole_sealed_and_hot() {
    let frames = |numbers: std::ops::Range<u32>| {
        numbers.map(|number| Say::Binary(message("monitoring", number, 10_000)))
    };
    let barrier = Arc::new(Barrier::new(2));
    let settle = Say::Settle(Arc::clone(&barrier));
    let script = frames(0..30).chain([Say::Drop]);
    let again = frames(0..50).chain([settle, Say::Stay]);
    let feed = Feed::start(vec![Reply::Feed(script.collect()), Reply::Feed(again.collect())]);
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("centralcap"))
        .args(["record", "--hostname", &feed.url(), "--topic", "monitoring"])
        .args(["--split-size", "200kB", "-o"])
        .arg(folder.path())
        .env("CENTRALCAP_KEY", "synthetic-key")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    barrier.wait();
    assert_whole(folder.path());
    let live = verdict(folder.path());
    assert_eq!((live.frames, live.segments.last().unwrap().live), (80, true));
    // It is proven within a second.
    support::wait::wait_for("checkpoint", String::new, || {
        let segments = verdict(folder.path()).segments;
        let hot = segments.last().unwrap();
        hot.checkpoints > 0 && hot.unproven == 0
    });
    child.kill().unwrap();
    child.wait().unwrap();
    barrier.wait();
    assert_whole(folder.path());
    let left = verdict(folder.path());
    assert_eq!((left.frames, left.segments.last().unwrap().live), (80, false));
    assert!(left.segments.len() >= 3, "{:?}", left.segments);
    capture::seal_left_overs(folder.path(), Compression::default()).unwrap();
    assert_whole(folder.path());

    // Without one of them in the middle it is not.
    let sealed = Capture::open(&[folder.path()]).unwrap().segments()[1].path.clone();
    fs::remove_file(sealed).unwrap();
    assert_fails(folder.path(), Check::Segments, 1, "connection 1 of monitoring to go on after");
}

#[test]
fn each_flipped_bit_is_seen() {
    let place = Place::new();
    let path = place.sealed(good());
    let whole = fs::read(&path).unwrap();
    // The schemas are most of it, and one byte of them is as good as another.
    let step = whole.len() / 150 + 1;
    for at in (0..whole.len()).filter(|at| at % step == 0 || *at < 50 || at + 100 > whole.len()) {
        let mut data = whole.clone();
        data[at] ^= 1 << (at % 8);
        fs::write(&path, &data).unwrap();
        assert!(!verdict(&path).whole, "byte {at} of {}", whole.len());
    }
    for cut in (0..whole.len()).step_by(step) {
        fs::write(&path, &whole[..cut]).unwrap();
        let verdict = inspect::verify(&Capture::open(&[&path]).unwrap());
        assert!(!verdict.is_ok_and(|verdict| verdict.whole), "cut at {cut}");
    }
    fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
    assert_fails(&path, Check::Records, 1, "the end of the file, found 1 more");
}

/// A hot segment of this story, with a checkpoint before its last frame.
fn hot(place: &Place, steps: Vec<Step>) -> PathBuf {
    let entries = told(&subscription("a", "audit"), steps).made;
    let about = about(Duration::ZERO);
    let mut segment = HotSegment::create(&place.path("h.mcap"), &about, &[]).unwrap();
    let (last, before) = entries.split_last().unwrap();
    for entry in before {
        segment.append(entry).unwrap();
    }
    segment.checkpoint().unwrap();
    segment.append(last).unwrap();
    segment.commit().unwrap();
    let path = segment.path().to_owned();
    drop(segment);
    path
}

#[test]
fn each_flipped_bit_of_a_hot_segment_is_seen_up_to_its_last_checkpoint() {
    let place = Place::new();
    let path = hot(&place, good());
    assert_whole(&path);
    let read = verdict(&path);
    assert_eq!((read.segments[0].checkpoints, read.segments[0].unproven), (1, 1));
    let whole = fs::read(&path).unwrap();
    // One frame and the checkpoint's own record come behind.
    let proven = whole.len() - 9 - 22 - 9 - 20;
    let step = whole.len() / 150 + 1;
    for at in (0..proven).filter(|at| at % step == 0 || *at < 50 || at + 100 > proven) {
        let mut data = whole.clone();
        data[at] ^= 1 << (at % 8);
        fs::write(&path, &data).unwrap();
        let verdict = inspect::verify(&Capture::open(&[&path]).unwrap());
        assert!(!verdict.is_ok_and(|verdict| verdict.whole), "byte {at}");
    }
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_fails(&path, Check::Records, 1, "a whole record, found the first");
}

#[test]
fn behind_a_wrong_length_in_a_hot_segment_is_looked_at_what_follows() {
    let place = Place::new();
    let steps = || (0..10).map(|number| F(u64::from(number), number + 1));
    let path = hot(&place, steps().collect());
    assert_eq!(verdict(&path).frames, 10);
    let whole = fs::read(&path).unwrap();
    // Where messages begin, and their lengths.
    let (mut at, mut messages) = (8, Vec::new());
    while at < whole.len() {
        let length = u64::from_le_bytes(whole[at + 1..at + 9].try_into().unwrap());
        if whole[at] == op::MESSAGE {
            messages.push(at);
        }
        at += 9 + length as usize;
    }
    let with = |message: usize, length: u64| {
        let mut data = whole.clone();
        data[messages[message] + 1..][..8].copy_from_slice(&length.to_le_bytes());
        fs::write(&path, &data).unwrap();
        let verdict = verdict(&path);
        let (checks, words) = faults(&verdict);
        assert!(checks.contains(&Check::Records), "{words}");
        let place = format!("at {} None: expected", messages[message]);
        let next = format!("reading went on at byte {}", messages[message + 1]);
        assert!(words.contains(&place) && words.contains(&next), "{words}");
        (verdict.frames, verdict.segments[0].unproven, words)
    };
    // A checkpoint stands before the last one.
    for length in [1_000_000, u64::MAX] {
        let (frames, unproven, words) = with(4, length);
        assert_eq!((frames, unproven), (9, 1), "{words}");
        assert!(words.contains("expected 9 messages before it, found 8"), "{words}");
    }
    // What no checkpoint proves is read as well, also where it is a file that was set aside.
    let set_aside = place.path("h.mcap.damaged");
    let mut data = whole.clone();
    let without_proof = messages[9];
    data.truncate(without_proof);
    let proof = data.len() - 9 - 20;
    data.truncate(proof);
    data[messages[4] + 1..][..8].copy_from_slice(&1_000_000_u64.to_le_bytes());
    fs::write(&set_aside, &data).unwrap();
    let verdict = verdict(&set_aside);
    assert_eq!((verdict.frames, verdict.segments[0].unproven), (8, 8), "{:?}", faults(&verdict));
}

#[test]
fn a_checkpoint_that_does_not_hold_is_one_fault() {
    let place = Place::new();
    let path = hot(&place, good());
    let whole = fs::read(&path).unwrap();
    // Its entries.
    let at = whole.windows(9).rposition(|here| *here == [0x81, 20, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    let mut data = whole.clone();
    data[at + 9 + 8] += 1;
    fs::write(&path, &data).unwrap();
    assert_fails(&path, Check::Checkpoints, 1, "expected 9 messages before it, found 8");
    // A frame's last byte.
    let mut data = whole;
    let frame = data.windows(4).position(|here| here == b"....").unwrap();
    data[frame] = b',';
    fs::write(&path, &data).unwrap();
    assert_fails(&path, Check::Checkpoints, 1, "which proves bytes 0 to");
}

#[test]
fn a_chunk_that_is_not_what_it_says() {
    // Its checksum, with that of the file put right: the content is another one.
    let place = Place::new();
    let mut spoilt = place.plain();
    spoilt.sum();
    let chunk = spoilt.nth(op::CHUNK, 0);
    spoilt.add(chunk + 24, 1);
    let (end, ..) = *spoilt.records().iter().find(|record| record.1 == op::DATA_END).unwrap();
    let crc = crc32fast::hash(&spoilt.data[..end]);
    spoilt.data[end + 9..end + 13].copy_from_slice(&crc.to_le_bytes());
    let verdict = verdict(spoilt.write());
    let (checks, words) = faults(&verdict);
    // What is not proven is not looked into, so it is missing everywhere else, too.
    assert_eq!(checks[0], Check::ChunkChecksums, "{words}");
    assert!(words.contains(&format!("at {} None: expected the checksum", chunk - 9)), "{words}");
    assert!(checks.contains(&Check::Statistics), "{checks:?}");
    assert!(!checks.contains(&Check::DataChecksum), "{checks:?}");

    spoil(Check::ChunkIndexes, 2, "a chunk with messages from time", |spoilt| {
        let chunk = spoilt.nth(op::CHUNK, 0);
        spoilt.add(chunk, 1);
    });
}

#[test]
fn checksums_over_sections() {
    let place = Place::new();
    let mut spoilt = place.plain();
    let end = spoilt.last(op::DATA_END);
    spoilt.add(end, 1);
    assert_fails(spoilt.write(), Check::DataChecksum, 1, "over all before, found 0x");
    spoilt.data[end..end + 4].fill(0);
    assert_fails(spoilt.write(), Check::DataChecksum, 1, "a checksum over all before, found none");
    let mut spoilt = place.plain();
    let footer = spoilt.last(op::FOOTER);
    spoilt.add(footer + 16, 1);
    assert_fails(spoilt.write(), Check::SummaryChecksum, 1, "over all before, found 0x");
}

#[test]
fn chunk_indexes() {
    for (field, words) in [
        (0, "message_start_time"),
        (8, "message_end_time"),
        (24, "chunk_length"),
        // Behind the map, which has one entry of 10 bytes.
        (32 + 4 + 10, "message_index_length"),
        (32 + 4 + 10 + 8 + 4, "compressed_size"),
        (32 + 4 + 10 + 8 + 4 + 8, "uncompressed_size"),
        (32 + 4 + 2, "the index of channel"),
    ] {
        spoil(Check::ChunkIndexes, 1, words, |spoilt| {
            let index = spoilt.nth(op::CHUNK_INDEX, 1);
            assert_eq!(spoilt.data[index + 32], 10, "of one channel");
            spoilt.add(index + field, 1);
        });
    }
    // One twice, in the place of the next.
    spoil(Check::ChunkIndexes, 1, "the index of a chunk behind byte", |spoilt| {
        let records = spoilt.records();
        let two: Vec<_> = records.iter().filter(|record| record.1 == op::CHUNK_INDEX).collect();
        // Two beside each other with as many channels.
        let two = two.windows(2).find(|two| two[0].2 == two[1].2).expect("a pair");
        spoilt.data.copy_within(two[0].0..two[1].0, two[1].0);
    });
}

#[test]
fn message_indexes() {
    // Its id, its length, then the time and the place of the first message.
    spoil(Check::MessageIndexes, 1, "message 1 of channel", |spoilt| {
        let index = spoilt.nth(op::MESSAGE_INDEX, 0);
        spoilt.add(index + 6, 1);
    });
    spoil(Check::MessageIndexes, 1, "message 1 of channel", |spoilt| {
        let index = spoilt.nth(op::MESSAGE_INDEX, 1);
        spoilt.add(index + 6 + 8, 1);
    });
}

#[test]
fn statistics_count_what_is_there() {
    for (field, words) in [
        (0, "message_count 12, as there is, found 13"),
        (8, "schema_count"),
        (10, "channel_count 4"),
        (14, "attachment_count 0"),
        (18, "metadata_count 1"),
        (22, "chunk_count"),
        (26, "message_start_time"),
        (34, "message_end_time"),
        (42 + 4 + 2, "of channel 1, as there are"),
    ] {
        spoil(Check::Statistics, 1, words, |spoilt| {
            let statistics = spoilt.last(op::STATISTICS);
            spoilt.add(statistics + field, 1);
        });
    }
}

#[test]
fn the_summary_says_where_things_are() {
    spoil(Check::Summary, 1, "the place of metadata", |spoilt| {
        let index = spoilt.last(op::METADATA_INDEX);
        spoilt.add(index, 1);
    });
    spoil(Check::Summary, 1, "metadata \"centralcap\" of", |spoilt| {
        let index = spoilt.last(op::METADATA_INDEX);
        spoilt.add(index + 8, 1);
    });
    spoil(Check::Summary, 1, "records of opcode 0x03: bytes", |spoilt| {
        let offset = spoilt.nth(op::SUMMARY_OFFSET, 0);
        spoilt.add(offset + 1, 1);
    });
    spoil(Check::Summary, 1, "what is in it at byte", |spoilt| {
        let footer = spoilt.last(op::FOOTER);
        spoilt.add(footer + 8, 1);
    });
}

#[test]
fn channels_are_the_same_everywhere() {
    spoil(Check::Channels, 1, "(/b/presence) as it was declared, found another", |spoilt| {
        let channel = spoilt.last(op::CHANNEL);
        let at = spoilt.find(channel, b"presence");
        let host = spoilt.find(at, b"feed.example.com");
        spoilt.add(host, 1);
    });
    // A message of nobody.
    let place = Place::new();
    let mut spoilt = place.plain();
    let data = spoilt.find(0, b"\x12\x08presence");
    assert_eq!(spoilt.data[data - 22 - 9], op::MESSAGE);
    spoilt.data[data - 22 + 1] = 0x77;
    spoilt.sum();
    let verdict = verdict(spoilt.write());
    let (checks, words) = faults(&verdict);
    assert!(checks.contains(&Check::Channels), "{words}");
    assert!(words.contains("a message of a channel that was declared"), "{words}");
}

#[test]
fn a_record_that_belongs_nowhere() {
    // The first letter of the profile.
    spoil(Check::Records, 1, "the profile \"centralcap\", found \"dentralcap\"", |spoilt| {
        let header = spoilt.nth(op::HEADER, 0);
        spoilt.add(header + 4, 1);
    });
    // An opcode that MCAP keeps for its future: what was there is missing, too.
    let place = Place::new();
    let mut spoilt = place.plain();
    let metadata = spoilt.nth(op::METADATA, 0);
    spoilt.data[metadata - 9] = 0x10;
    spoilt.sum();
    let verdict = verdict(spoilt.write());
    let (checks, words) = faults(&verdict);
    assert_eq!(checks, [Check::Records, Check::Summary, Check::Statistics], "{words}");
    assert!(words.contains("before the end of the data, found opcode 0x10"), "{words}");
}

/// A story that is wrong in one way.
#[track_caller]
fn tell(check: Check, count: u64, words: &str, steps: Vec<Step>) {
    let place = Place::new();
    assert_fails(&place.sealed(steps), check, count, words);
}

#[test]
fn times_are_in_order_unless_the_clock_was_set() {
    tell(
        Check::Order,
        1,
        "nothing of a before",
        vec![E(0, 1, connected()), F(1, 1), F(5, 2), F(3, 3), F(6, 4), E(7, 1, closed(4))],
    );
    let at = |after| START.after(seconds(after)).as_nanos();
    let stepped = Event::ClockStepped(ClockStepped { from_ns: at(105), to_ns: at(3) });
    let place = Place::new();
    assert_whole(&place.sealed(vec![
        E(0, 1, connected()),
        F(100, 1),
        E(3, 1, stepped),
        F(4, 2),
        E(5, 1, closed(2)),
    ]));
}

#[test]
fn frames_are_numbered_without_holes_but_for_what_was_dropped() {
    let hole = |event: Option<Event>| {
        let mut steps = vec![E(0, 1, connected()), F(1, 1), F(2, 2)];
        steps.extend(event.map(|event| E(3, 1, event)));
        steps.extend([F(4, 5), E(5, 1, closed(5))]);
        steps
    };
    tell(Check::Sequences, 1, "expected frame 3 of a, found frame 5", hole(None));
    tell(Check::Sequences, 1, "expected frame 3 of a, found frame 5", hole(Some(dropped(1))));
    let place = Place::new();
    assert_whole(&place.sealed(hole(Some(dropped(2)))));
    tell(
        Check::Ledger,
        1,
        "3 lost frames of a, as the ledger says, found 2",
        hole(Some(dropped(3))),
    );
    // Swapped, or twice.
    tell(
        Check::Sequences,
        2,
        "expected frame 4 of a, found frame 2",
        vec![E(0, 1, connected()), F(1, 1), F(2, 3), F(2, 2), F(2, 3), E(5, 1, closed(3))],
    );
    tell(
        Check::Sequences,
        1,
        "expected frame 2 of a, found frame 1",
        vec![E(0, 1, connected()), F(1, 1), F(2, 1), F(3, 2), E(5, 1, closed(2))],
    );
}

#[test]
fn the_ledger_agrees_with_the_frames() {
    let steps = |last| vec![E(0, 1, connected()), F(1, 1), F(2, 2), E(3, 1, closed(last))];
    tell(Check::Ledger, 1, "5 frames of a, as its end says, found none after frame 2", steps(5));
    tell(Check::Ledger, 1, "1 frame of a, as its end says, found 2", steps(1));
    let between = |event| {
        let mut steps = vec![E(0, 1, connected()), F(1, 1), E(2, 1, closed(1))];
        steps.extend(event);
        steps.extend([E(9, 2, connected()), E(9, 2, gap(2, 9)), F(9, 1), E(10, 2, closed(1))]);
        steps
    };
    tell(
        Check::Ledger,
        1,
        "no frame of a between two connections, found frame 2",
        between(Some(F(2, 2))),
    );
    let without: Vec<_> = between(None).into_iter().filter(|step| !is_gap(step)).collect();
    tell(Check::Ledger, 1, "a gap of a between two connections", without);
    tell(
        Check::Ledger,
        1,
        "the end of connection 1 of a, found connection 2",
        vec![E(0, 1, connected()), F(1, 1), E(2, 2, connected()), F(3, 1), E(4, 2, closed(1))],
    );
    tell(
        Check::Ledger,
        1,
        "connection 2 of a, found connection 3",
        vec![
            E(0, 1, connected()),
            E(2, 1, closed(0)),
            E(4, 3, connected()),
            E(4, 3, gap(2, 4)),
            E(6, 3, closed(0)),
        ],
    );
    tell(
        Check::Ledger,
        1,
        "nothing of a in its gap from",
        vec![
            E(0, 1, connected()),
            F(10, 1),
            E(12, 1, closed(1)),
            E(20, 2, connected()),
            E(20, 2, gap(3, 20)),
            E(21, 2, closed(0)),
        ],
    );
    tell(
        Check::Ledger,
        1,
        "a gap of a that ends after",
        vec![
            E(0, 1, connected()),
            E(12, 1, closed(0)),
            E(20, 2, connected()),
            E(20, 2, gap(20, 12)),
            E(21, 2, closed(0)),
        ],
    );
    tell(
        Check::Ledger,
        1,
        "no frame of a before it is connected",
        vec![F(0, 1), E(1, 1, connected()), F(2, 1), E(3, 1, closed(1))],
    );
}

fn is_gap(step: &Step) -> bool {
    matches!(step, E(_, _, Event::Gap(_)))
}

#[test]
fn a_segment_goes_on_where_the_one_before_has_ended() {
    let continued = |last_sequence| {
        E(3, 1, Event::Continued(Continued { since_ns: START.as_nanos(), last_sequence }))
    };
    let first = || vec![E(0, 1, connected()), F(1, 1), F(2, 2)];
    let second = |last, next| vec![continued(last), F(4, next), E(5, 1, closed(next.into()))];
    let folder = |segments| {
        let place = Place::new();
        place.segments(segments);
        place
    };
    assert_whole(folder(vec![first(), second(2, 3)]).folder.path());
    let expected = "connection 1 of a to go on after frame 2, found connection 1 after frame 7";
    let place = folder(vec![first(), second(7, 8)]);
    assert_fails(place.folder.path(), Check::Segments, 1, expected);
    let place = folder(vec![first(), vec![F(4, 3), E(5, 1, closed(3))]]);
    assert_fails(place.folder.path(), Check::Segments, 1, "connection 1 of a to be continued");
    // That one was deleted is told.
    let deleted = E(6, 1, Event::SegmentDeleted(SegmentDeleted::default()));
    let mut last = second(7, 8);
    last.push(deleted);
    assert_whole(folder(vec![first(), last]).folder.path());
    // Who is up, and is not heard of.
    let other = Entries::new();
    let place = folder(vec![first()]);
    let mut entries = other;
    let b = subscription("b", "presence");
    entries.happened(seconds(6), &b, 1, connected());
    entries.write(&place.path("1.mcap"));
    assert_fails(place.folder.path(), Check::Segments, 1, "found nothing of it");
}

#[test]
fn who_took_frames_out_has_said_so() {
    let place = Place::new();
    let path = place.sealed(good());
    let few = place.path("few.mcap");
    let ran =
        centralcap(["edit", path.to_str().unwrap(), "--limit", "2", "-o", few.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let verdict = verdict(&few);
    assert!(verdict.whole && verdict.frames == 2);
    let looked_at = |check: Check| verdict.checks[check as usize].looked_at;
    assert_eq!((looked_at(Check::Sequences), looked_at(Check::Ledger)), (0, 0));
}

#[test]
fn damage_costs_what_is_there_and_reading_goes_on_behind_it() {
    let place = Place::new();
    let path = place.long();
    let whole = verdict(&path);
    let mut spoilt = Spoilt { data: fs::read(&path).unwrap(), path };
    let second = spoilt.nth(op::CHUNK, 1);
    let third = spoilt.nth(op::CHUNK, 2);
    // A length that reaches beyond the file.
    spoilt.data[second - 2] = 0x7f;
    let verdict = verdict(spoilt.write());
    let (checks, words) = faults(&verdict);
    for check in [Check::Records, Check::DataChecksum, Check::Sequences, Check::Statistics] {
        assert!(checks.contains(&check), "{check:?} in {words}");
    }
    let until = format!("reading went on at byte {}", third - 9);
    assert!(
        words.contains(&format!("at {} None", second - 9)) && words.contains(&until),
        "{words}"
    );
    assert_eq!(verdict.segments[0].chunks + 1, whole.segments[0].chunks);
}

#[test]
fn a_frame_that_is_too_large_to_be_held_is_looked_at_in_pieces() {
    let place = Place::new();
    let path = place.path("large.mcap");
    let a = subscription("a", "audit");
    let mut entries = Entries::new();
    entries.happened(seconds(0), &a, 1, connected());
    let noise = noise(9_000_000);
    for (sequence, size) in [(1, 100), (2, 9_000_000), (3, 100), (4, 5_000_000), (5, 100)] {
        entries.numbered(seconds(sequence.into()), &a, sequence, noise.slice(..size));
    }
    entries.happened(seconds(9), &a, 1, closed(5));
    entries.write(&path);
    assert_whole(&path);
    let mut spoilt = Spoilt { data: fs::read(&path).unwrap(), path };
    let middle = spoilt.data.len() / 2;
    spoilt.add(middle, 1);
    let verdict = verdict(spoilt.write());
    let (checks, words) = faults(&verdict);
    assert!(checks.contains(&Check::ChunkChecksums), "{words}");
}

#[test]
fn the_command_says_it_in_a_table_and_by_its_exit_code() {
    let place = Place::new();
    let ran = verified(&fixture("small.mcap"), &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for words in [
        "content     40 frames and 10 session events",
        "verdict     whole",
        "  chunk checksums   ok     1 chunk",
        "  checkpoints       -      nothing",
        "  ledger            ok     10 session events",
    ] {
        assert!(ran.stdout.contains(words), "{words:?} in\n{}", ran.stdout);
    }

    let mut steps = good();
    steps.remove(2);
    let path = place.sealed(steps);
    let ran = verified(&path, &[]);
    assert_eq!((ran.code, &*ran.stderr), (3, ""), "{ran:?}");
    for words in ["verdict     not whole: 1 fault", "sequences         1 fault", "in its chunk"] {
        assert!(ran.stdout.contains(words), "{words:?} in\n{}", ran.stdout);
    }
    let ran = verified(&path, &["--json"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["whole"], false);
    let sequences = &json["checks"][Check::Sequences as usize];
    assert_eq!((&sequences["check"], &sequences["faults"]), (&"sequences".into(), &1.into()));
    assert_eq!(sequences["first"][0]["expected"], "frame 2 of a");

    // All keys are documented.
    let document = include_str!("../docs/inspect-json.md");
    let (_, section) = document.split_once("\n## `--verify`\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut missing = Vec::new();
    keys(&json, "", &mut |path| {
        if !section.contains(&format!("`{path}`")) {
            missing.push(path.to_owned());
        }
    });
    assert_eq!(missing, [""; 0]);

    let ran = verified(&path, &["--limit", "1"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    let stranger = place.path("stranger.mcap");
    fs::write(&stranger, "something else altogether").unwrap();
    let ran = verified(&stranger, &[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("expected a capture, found something else"), "{ran:?}");
    // Among others it is a fault.
    assert_eq!(verified(&path, &[stranger.to_str().unwrap()]).code, 3);
}

/// Every path of a value that has no others below it: `a.b`, `a[].c`.
fn keys(value: &serde_json::Value, here: &str, see: &mut impl FnMut(&str)) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                let path = if here.is_empty() { name.clone() } else { format!("{here}.{name}") };
                keys(value, &path, see);
            }
        }
        serde_json::Value::Array(values) => {
            for value in values {
                keys(value, &format!("{here}[]"), see);
            }
        }
        _ => see(here),
    }
}
