//! One damage at a time: every bit of a capture flipped, and every cut, in both states of a segment.
//!
//! Whatever comes out is what was received, in its order, once; whatever does not is told, with which
//! frames they are; and no bit costs more than its place in the file allows, which [`Part`] says. All of
//! it is some hundred thousand reads of the whole file: with optimisation, or if `DAMAGE=all` is set. A
//! debug build takes every [`STEP`]th.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]

mod support;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use centralcap::{
    capture::{Capture, Compression, HotSegment, seal_left_overs},
    entry::{
        Entry, Subscription, What,
        session_event::{Closed, Connected, Event},
    },
    error::Error,
};
use mcap::records::op;
use prost::Message;
use support::capture::{Entries, about, subscription};
use tempfile::TempDir;

/// What a debug build leaves out: of so many damages it takes one. No multiple of 2, so that of the bytes
/// all bits come by.
const STEP: usize = 31;

/// The most memory that reading a damaged capture of this size may take.
const MOST_MEMORY: u64 = 64 << 20;

/// How large the content of a chunk is here, so that there are several in a small file.
const CHUNK_SIZE: u64 = 3000;

/// The opcode of our own record in a hot segment.
const CHECKPOINT: u8 = 0x81;

/// With its header.
const CHECKPOINT_SIZE: usize = RECORD_HEADER + 20;

/// An opcode and a length stand before every record.
const RECORD_HEADER: usize = 1 + 8;

/// Three subscriptions, of which one is closed and comes back, and one comes late.
fn entries() -> Vec<Entry> {
    let names = [("early", "new"), ("closed", "newer"), ("late", "new")];
    let owners = names.map(|(name, topic)| subscription(name, topic));
    let mut entries = Entries::new();
    let mut noise = fastrand::Rng::with_seed(7);
    let mut last = [0; 3];
    for number in 0..120_u32 {
        // Not at the moment that the envelopes tell: that is written down where it is another.
        let after = Duration::from_millis(u64::from(number) + 1);
        let who = if number > 50 { noise.usize(..3) } else { noise.usize(..2) };
        let owner = &owners[who];
        if number == 60 {
            let last_sequence = last[1].into();
            let closed = Event::Closed(Closed { last_sequence, ..Closed::default() });
            entries.happened(after, &owners[1], 1, closed);
            last[1] = 0;
        }
        if last[who] == 0 {
            entries.happened(after, owner, 1, Event::Connected(Connected::default()));
        }
        last[who] += 1;
        let size = noise.usize(40..200);
        let payload: Vec<u8> = std::iter::repeat_with(|| noise.u8(..)).take(size).collect();
        let envelope = support::capture::envelope(&owner.topic, &number.to_string(), payload);
        entries.numbered(after, owner, last[who], envelope);
    }
    entries.made
}

/// A capture in one of its states, and what damage to each part of it may do.
struct Specimen {
    name: &'static str,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// For each entry, where the smallest thing begins and ends that has a checksum and has it in it.
    places: Vec<Range<usize>>,
    /// Of a hot one, by the number of the channel, whose entries they are.
    channels: Vec<(u16, BTreeSet<usize>)>,
    parts: Vec<Part>,
}

/// A record, or a piece of one, and what a wrong bit in it may do at most.
#[derive(Debug, Default)]
struct Part {
    span: Range<usize>,
    /// Entries that may not come out.
    cost: BTreeSet<usize>,
    /// Entries that may come out as somebody else's: who has a channel in a hot segment stands in one
    /// record, on which all that follows depends.
    renamed: BTreeSet<usize>,
}

/// A record of the file.
struct Record<'b> {
    opcode: u8,
    start: usize,
    content: &'b [u8],
}

impl Record<'_> {
    fn end(&self) -> usize {
        self.start + RECORD_HEADER + self.content.len()
    }

    /// The first field of schemas, channels and messages.
    fn id(&self) -> u16 {
        u16::from_le_bytes(*self.content.first_chunk().unwrap())
    }
}

fn records(bytes: &[u8]) -> Vec<Record<'_>> {
    let mut at = mcap::MAGIC.len();
    let mut found = Vec::new();
    while at < bytes.len() && !bytes[at..].starts_with(mcap::MAGIC) {
        let content = at + RECORD_HEADER;
        let length = u64::from_le_bytes(bytes[at + 1..content].try_into().unwrap());
        let end = content + usize::try_from(length).unwrap();
        found.push(Record { opcode: bytes[at], start: at, content: &bytes[content..end] });
        at = end;
    }
    found
}

/// A sealed capture of several chunks: what our own writer makes, with smaller chunks.
fn sealed() -> Specimen {
    let folder = memory();
    let path = folder.path().join("a.mcap");
    let mut made = Entries::new();
    made.made = entries();
    made.write(&path);
    let own = fs::read(path).unwrap();
    let options = mcap::WriteOptions::new().profile("centralcap").disable_seeking(true);
    let options = options.compression(Some(mcap::Compression::Zstd)).compression_threads(0);
    let options = options.chunk_size(Some(CHUNK_SIZE));
    let mut writer = options.create(mcap::write::NoSeek::new(Vec::new())).unwrap();
    let summary = mcap::Summary::read(&own).unwrap().unwrap();
    let about = mcap::read::metadata(&own, &summary.metadata_indexes[0]).unwrap();
    writer.write_metadata(&about).unwrap();
    for message in mcap::MessageStream::new(&own).unwrap() {
        writer.write(&message.unwrap()).unwrap();
    }
    writer.finish().unwrap();
    let bytes = writer.into_inner().into_inner();

    let mut parts = vec![Part { span: 0..mcap::MAGIC.len(), ..Part::default() }];
    let (mut places, mut at) = (Vec::new(), 0);
    for record in records(&bytes) {
        let mut part = Part { span: record.start..record.end(), ..Part::default() };
        if record.opcode == op::CHUNK {
            let mcap::records::Record::Chunk { header, .. } =
                mcap::parse_record(op::CHUNK, record.content).unwrap()
            else {
                panic!("a chunk is one")
            };
            let of_chunk = made.made[at..]
                .iter()
                .map(|entry| entry.received.as_nanos() <= header.message_end_time);
            let next = at + of_chunk.take_while(|is_in| *is_in).count();
            places.resize(next, part.span.clone());
            part.cost = (at..next).collect();
            at = next;
        }
        parts.push(part);
    }
    let end = parts.last().unwrap().span.end;
    parts.push(Part { span: end..bytes.len(), ..Part::default() });
    let chunks = parts.iter().filter(|part| !part.cost.is_empty()).count();
    assert!(at == made.made.len() && chunks > 5, "{chunks} chunks");
    Specimen { name: "a.mcap", bytes, entries: made.made, places, channels: Vec::new(), parts }
}

/// A hot segment as a kill leaves it, with a checkpoint after each tenth entry and one at the end.
fn hot() -> Specimen {
    let folder = memory();
    let entries = entries();
    let path = folder.path().join("a.mcap");
    let mut segment = HotSegment::create(&path, &about(Duration::ZERO), &[]).unwrap();
    for entries in entries.chunks(10) {
        for entry in entries {
            segment.append(entry).unwrap();
        }
        segment.checkpoint().unwrap();
    }
    let hot = segment.path().to_owned();
    drop(segment);
    let bytes = fs::read(hot).unwrap();
    let (places, channels, parts) = parts_of_hot(&bytes, entries.len());
    Specimen { name: "a.open.mcap", bytes, entries, places, channels, parts }
}

/// A hot segment of a recorder that was killed when so many of its entries were proven.
fn killed(proven: usize) -> Specimen {
    let folder = memory();
    let entries = entries();
    let path = folder.path().join("a.mcap");
    let mut segment = HotSegment::create(&path, &about(Duration::ZERO), &[]).unwrap();
    for (number, entry) in entries.iter().enumerate() {
        if number > 0 && number == proven {
            segment.checkpoint().unwrap();
        }
        segment.append(entry).unwrap();
    }
    segment.commit().unwrap();
    let hot = segment.path().to_owned();
    drop(segment);
    let bytes = fs::read(hot).unwrap();
    let (places, channels, parts) = parts_of_hot(&bytes, entries.len());
    Specimen { name: "a.open.mcap", bytes, entries, places, channels, parts }
}

type Channels = Vec<(u16, BTreeSet<usize>)>;

fn parts_of_hot(bytes: &[u8], entries: usize) -> (Vec<Range<usize>>, Channels, Vec<Part>) {
    let records = records(bytes);
    // A piece ends with its checkpoint.
    let pieces: Vec<usize> = records
        .iter()
        .scan(0, |piece, record| {
            let own = *piece;
            *piece += usize::from(record.opcode == CHECKPOINT);
            Some(own)
        })
        .collect();
    let of_piece = |wanted: usize| -> BTreeSet<usize> {
        let messages =
            records.iter().zip(&pieces).filter(|(record, _)| record.opcode == op::MESSAGE);
        let numbered = messages.enumerate().filter(|(_, (_, piece))| **piece == wanted);
        numbered.map(|(number, _)| number).collect()
    };
    let messages: Vec<_> = records.iter().filter(|record| record.opcode == op::MESSAGE).collect();
    assert_eq!(messages.len(), entries);
    let of_channel = |id: u16| -> BTreeSet<usize> {
        let own = messages.iter().enumerate().filter(|(_, record)| record.id() == id);
        own.map(|(number, _)| number).collect()
    };
    // The entries of the channels that are declared there or behind it.
    let declared = |from: usize, piece: Option<usize>| -> BTreeSet<usize> {
        let behind = records.iter().zip(&pieces).skip(from);
        let channels = behind.filter(|(record, own)| {
            record.opcode == op::CHANNEL && piece.is_none_or(|piece| piece == **own)
        });
        channels.flat_map(|(record, _)| of_channel(record.id())).collect()
    };

    let mut parts = vec![Part { span: 0..mcap::MAGIC.len(), ..Part::default() }];
    for (index, (record, &piece)) in records.iter().zip(&pieces).enumerate() {
        let mut cost = of_piece(piece);
        let mut renamed = BTreeSet::new();
        if record.opcode == CHECKPOINT {
            // It proves what is before it, and what is behind it begins with it.
            cost.extend(of_piece(piece + 1));
        }
        if matches!(record.opcode, op::SCHEMA | op::CHANNEL) {
            renamed = declared(index, None);
        }
        // A wrong opcode or length hides what follows, up to the next checkpoint.
        let mut hidden = declared(index, Some(piece));
        if record.opcode == CHECKPOINT {
            hidden.extend(declared(index, Some(piece + 1)));
        }
        let content = record.start + RECORD_HEADER;
        parts.push(Part {
            span: record.start..content,
            cost: cost.union(&hidden).copied().collect(),
            renamed: renamed.clone(),
        });
        if record.opcode == CHECKPOINT {
            // Where it is not known for one, its piece ends with the next.
            cost.extend(hidden);
        } else if record.opcode == op::CHANNEL {
            cost.extend(of_channel(record.id()));
        }
        parts.push(Part { span: content..record.end(), cost, renamed });
    }
    let places = messages.iter().map(|record| record.start..record.end()).collect();
    let channels = records.iter().filter(|record| record.opcode == op::CHANNEL);
    let channels = channels.map(|record| (record.id(), of_channel(record.id()))).collect();
    (places, channels, parts)
}

/// What came of reading a damaged capture.
struct Read {
    found: Vec<Entry>,
    errors: Vec<Error>,
    told: Vec<String>,
}

impl Read {
    fn of(path: &Path) -> Self {
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        for entry in Capture::open(&[path]).unwrap().entries() {
            match entry {
                Ok(entry) => found.push(entry),
                Err(error) => errors.push(error),
            }
        }
        let told = errors.iter().map(Error::to_string).collect();
        Self { found, errors, told }
    }
}

impl Specimen {
    /// Which of the entries did not come out. Fails if anything else did, or something twice, or if
    /// one belongs to somebody else that may not.
    fn missing(&self, found: &[Entry], renamed: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut missing = BTreeSet::new();
        let mut all = self.entries.iter().enumerate();
        for found in found {
            loop {
                let (index, entry) = all.next().unwrap_or_else(|| {
                    panic!("it was not received, or not in this order: {found:?}")
                });
                if entry == found || (renamed.contains(&index) && is_same_content(entry, found)) {
                    break;
                }
                missing.insert(index);
            }
        }
        missing.extend(all.map(|(index, _)| index));
        missing
    }

    /// Whether it is said which frame is missing: by its number, or that of all that are.
    fn is_told(&self, read: &Read, missing: &BTreeSet<usize>, index: usize) -> bool {
        let Some(frame) = self.entries[index].frame() else { return !read.errors.is_empty() };
        let owner = &self.entries[index].subscription;
        let earlier = |sequence: u32| {
            sequence == 0
                || self.entries[..index].iter().any(|entry| {
                    entry.subscription == *owner
                        && entry.frame().is_some_and(|frame| frame.sequence == sequence)
                })
        };
        let of_channel = |id: u16| {
            let own = self.channels.iter().find(|(known, _)| *known == id);
            own.is_some_and(|(_, entries)| entries.contains(&index))
        };
        read.told.iter().any(|told| match told.strip_prefix("lost of ") {
            Some(lost) => covers(lost, owner, frame.sequence, earlier, of_channel),
            None => told.contains(&format!("; {} messages did not come by", missing.len())),
        })
    }

    /// Whether it is said that something is wrong at the place where an entry was.
    fn is_place_told(&self, read: &Read, index: usize) -> bool {
        let place = &self.places[index];
        read.told.iter().any(|told| {
            let Some(from) = number_behind(told, " at byte ") else { return false };
            let until = number_behind(told, ", up to byte ").unwrap_or(self.bytes.len());
            from <= place.start && until >= place.end
        })
    }

    /// Reads it with one bit flipped, and fails if anything is not as it must be.
    fn check_flip(&self, path: &Path, bit: usize) {
        let byte = bit / 8;
        let part = self.parts.iter().find(|part| part.span.contains(&byte)).unwrap();
        let read = Read::of(path);
        let case = || {
            let Self { name, bytes, .. } = self;
            let at = byte - part.span.start;
            let opcode = bytes[part.span.start];
            format!(
                "{name}: bit {} of byte {byte} ({at} of {opcode:#x}): {:#?}",
                bit % 8,
                read.told
            )
        };
        assert!(!read.errors.is_empty(), "nothing is told: {}", case());
        let is_stranger = read.errors[0].is_not_a_capture();
        assert!(is_stranger || read.errors.iter().all(Error::is_damage), "{}", case());
        let missing = self.missing(&read.found, &part.renamed);
        assert!(missing.is_subset(&part.cost), "{missing:?} of {:?}: {}", part.cost, case());
        for &index in &missing {
            let is_told = self.is_told(&read, &missing, index)
                || (part.renamed.contains(&index) && self.is_place_told(&read, index));
            assert!(is_told || is_stranger, "{:?} is not told: {}", self.entries[index], case());
        }
        if !self.channels.is_empty() {
            return;
        }
        // Who is in a sealed one can be had without reading all of it.
        for (owner, kind) in Capture::open(&[path]).unwrap().channels().iter().flatten() {
            let has = |entry: &Entry| {
                entry.subscription == *owner && entry.frame().map(|it| &it.kind) == kind.as_ref()
            };
            assert!(self.entries.iter().any(has), "{owner:?} {kind:?}: {}", case());
        }
    }
}

/// The same moment and bytes, whoever it is said to belong to.
fn is_same_content(entry: &Entry, found: &Entry) -> bool {
    let content = |entry: &Entry| match &entry.what {
        What::Frame(frame) => (frame.sequence, frame.sent, frame.data.to_vec()),
        What::Event(event) => (0, None, event.encode_to_vec()),
    };
    entry.received == found.received && content(entry) == content(found)
}

fn number_behind(text: &str, words: &str) -> Option<usize> {
    let (_, rest) = text.split_once(words)?;
    rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

/// Whether a sentence of losses is about a frame.
fn covers(
    lost: &str,
    owner: &Subscription,
    sequence: u32,
    is_earlier: impl Fn(u32) -> bool,
    is_of_channel: impl Fn(u16) -> bool,
) -> bool {
    if let Some(rest) = lost.strip_prefix("channel ") {
        let (id, rest) = rest.split_once(' ').unwrap();
        assert_eq!(rest, "(nobody knows whose it is): all from here on");
        return is_of_channel(id.parse().unwrap());
    }
    let Some(frames) = lost.strip_prefix(&format!("{} ({}): ", owner.name, owner.topic)) else {
        return false;
    };
    frames.split(", and ").any(|frames| {
        let frames = frames.strip_suffix(" of the next connection").unwrap_or(frames);
        if let Some(before) = frames.strip_prefix("the frames after ") {
            return is_earlier(
                before.strip_suffix(", if there were any").unwrap().parse().unwrap(),
            );
        }
        if frames == "the first frames of a connection, if there were any" {
            return is_earlier(0);
        }
        if let Some(only) = frames.strip_prefix("frame ") {
            return only.parse::<u32>().unwrap() == sequence;
        }
        let range = frames.strip_prefix("frames ").unwrap().split(" (").next().unwrap();
        let (first, last) = range.split_once(" to ").unwrap();
        (first.parse().unwrap()..=last.parse().unwrap()).contains(&sequence)
    })
}

/// A folder in memory where there is such a place: these are many files.
fn memory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap()
}

/// How many of so many damages are tried here: all, or one of [`STEP`].
fn step() -> usize {
    let all = !cfg!(debug_assertions) || std::env::var_os("DAMAGE").is_some_and(|it| it == "all");
    if all { 1 } else { STEP }
}

/// Calls `check` with each number up to `count`, or some of them, on all cores. Each has its own file with
/// these bytes.
fn each(
    specimen: &Specimen,
    count: usize,
    what: &str,
    check: impl Fn(&Path, &mut File, usize) + Sync,
) {
    let begun = Instant::now();
    let (next, step) = (AtomicUsize::new(0), step());
    let cores = thread::available_parallelism().map_or(1, Into::into);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let folder = memory();
                let path = folder.path().join(specimen.name);
                fs::write(&path, &specimen.bytes).unwrap();
                let mut file = File::options().read(true).write(true).open(&path).unwrap();
                loop {
                    let number = next.fetch_add(step, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    check(&path, &mut file, number);
                }
            });
        }
    });
    let most = most_memory();
    println!(
        "{what} of {}: {} of {count} in {:.1?}, at most {} MiB",
        specimen.name,
        count.div_ceil(step),
        begun.elapsed(),
        most >> 20
    );
    assert!(most < MOST_MEMORY, "{} MiB", most >> 20);
}

/// The most memory that this process has had, where the system says so.
fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let most = most.and_then(|most| most.trim().split(' ').next()?.parse::<u64>().ok());
    most.unwrap_or(0) << 10
}

fn put(file: &mut File, at: usize, byte: u8) {
    file.seek(SeekFrom::Start(at as u64)).unwrap();
    file.write_all(&[byte]).unwrap();
}

fn flip_each_bit(specimen: &Specimen) {
    let size = specimen.bytes.len();
    assert!((20_000..60_000).contains(&size), "{size} bytes");
    each(specimen, size * 8, "flipped bits", |path, file, bit| {
        let byte = specimen.bytes[bit / 8];
        put(file, bit / 8, byte ^ 1 << (bit % 8));
        specimen.check_flip(path, bit);
        put(file, bit / 8, byte);
    });
}

#[test]
fn no_flipped_bit_of_a_sealed_capture_goes_unnoticed_or_costs_more_than_its_chunk() {
    flip_each_bit(&sealed());
}

#[test]
fn no_flipped_bit_of_a_hot_segment_goes_unnoticed_or_costs_more_than_its_piece() {
    flip_each_bit(&hot());
}

/// All cuts, each after the one before it, so that the file only ever gets longer.
fn cut_everywhere(specimen: &Specimen, check: impl Fn(usize, &Read) + Sync) {
    let size = specimen.bytes.len();
    each(specimen, size, "cuts", |path, file, cut| {
        file.set_len(0).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(&specimen.bytes[..cut]).unwrap();
        let read = Read::of(path);
        let whole = specimen.places.iter().take_while(|place| place.end <= cut).count();
        assert!(read.found == specimen.entries[..whole], "cut at {cut}: {:#?}", read.told);
        check(cut, &read);
    });
}

#[test]
fn a_sealed_capture_cut_anywhere_gives_its_whole_chunks_and_says_so() {
    cut_everywhere(&sealed(), |cut, read| {
        let error = read.errors.first().unwrap_or_else(|| panic!("cut at {cut} and no error"));
        assert!(error.is_damage() || error.is_not_a_capture(), "cut at {cut}: {error}");
    });
}

#[test]
fn a_hot_segment_cut_anywhere_gives_its_whole_entries_and_tells_of_half_a_record() {
    let specimen = hot();
    let mut ends: Vec<_> = records(&specimen.bytes).iter().map(Record::end).collect();
    // Nothing at all, and the magic alone.
    ends.extend([0, mcap::MAGIC.len()]);
    cut_everywhere(&specimen, |cut, read| {
        assert_eq!(read.errors.is_empty(), ends.contains(&cut), "cut at {cut}: {:#?}", read.told);
        assert!(read.errors.iter().all(Error::is_damage), "cut at {cut}: {:#?}", read.told);
    });
}

/// What is sealed passes for whole from then on, so nothing may get in that is not proven, and nothing
/// that is proven may stay out.
#[test]
fn all_that_is_proven_of_a_damaged_hot_segment_is_sealed_and_the_rest_is_kept() {
    let _alone = sealing();
    let specimen = hot();
    // Each is sealed, which syncs: one bit of 17, some of each byte of the smallest record.
    let count = specimen.bytes.len() * 8 / 17;
    each(&specimen, count, "sealed with flipped bits", |path, _, number| {
        let bit = number * 17;
        let (byte, folder) = (bit / 8, path.parent().unwrap());
        let mut bytes = specimen.bytes.clone();
        bytes[byte] ^= 1 << (bit % 8);
        fs::write(path, &bytes).unwrap();
        let [sealed] = &seal_left_overs(folder, Compression::default()).unwrap().sealed[..] else {
            panic!("bit {bit}: one segment")
        };
        let kept: PathBuf = folder.join("a.mcap.damaged");
        assert!(sealed.damage.is_some() && fs::read(&kept).unwrap() == bytes, "bit {bit}");
        fs::remove_file(kept).unwrap();
        let (least, most) = (specimen.proven(byte, false), specimen.proven(byte, true));
        let sealed = sealed.path.as_deref().map(|path| {
            let read = Read::of(path);
            assert!(read.told.is_empty(), "bit {bit}: {:#?}", read.told);
            fs::remove_file(path).unwrap();
            read.found
        });
        let sealed = sealed.unwrap_or_default();
        assert!(sealed == least || sealed == most, "bit {bit} of byte {byte}");
    });
}

/// To be held by who seals many, which takes memory: only one of them is to be measured.
static SEALING: Mutex<()> = Mutex::new(());

fn sealing() -> MutexGuard<'static, ()> {
    SEALING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seals the one segment that is in the folder, and says what was kept of it as it was.
fn seal_one(folder: &Path) -> Option<PathBuf> {
    let left = seal_left_overs(folder, Compression::default()).unwrap();
    assert!(left.unsealed.is_empty() && left.sealed.len() == 1, "{left:?}");
    let kept = folder.join("a.mcap.damaged");
    kept.exists().then_some(kept)
}

/// A frame of random bytes is cut off like any other.
#[test]
fn a_hot_segment_cut_behind_its_last_checkpoint_is_sealed_and_nothing_is_kept_aside() {
    let _alone = sealing();
    for proven in [0, 40] {
        let specimen = killed(proven);
        each(&specimen, specimen.bytes.len(), "sealed cuts", |path, _, cut| {
            fs::write(path, &specimen.bytes[..cut]).unwrap();
            assert_eq!(seal_one(path.parent().unwrap()), None, "cut at {cut}");
            let whole = specimen.places.iter().take_while(|place| place.end <= cut).count();
            let sealed = path.with_file_name("a.mcap");
            if sealed.exists() {
                assert!(Read::of(&sealed).found == specimen.entries[..whole], "cut at {cut}");
                fs::remove_file(sealed).unwrap();
            } else {
                assert_eq!(whole, 0, "cut at {cut}");
            }
        });
    }
}

/// What a wrong length hides is no record that was cut off: it is not deleted, and read all the same.
#[test]
fn a_wrong_length_behind_the_last_checkpoint_costs_what_it_swallows_and_nothing_is_deleted() {
    let _alone = sealing();
    for proven in [0, 40] {
        let specimen = killed(proven);
        let all = records(&specimen.bytes);
        let last = all.iter().rfind(|record| record.opcode == CHECKPOINT);
        let unproven = last.map_or(0, |checkpoint| checkpoint.start);
        let unproven: Vec<_> = all.iter().filter(|record| record.start >= unproven).collect();
        let count = (unproven.len() - 1) * 64;
        each(&specimen, count, "flipped bits of lengths", |path, _, number| {
            let (record, bit) = (unproven[number / 64], number % 64);
            let length = record.content.len() as u64 ^ (1 << bit);
            let wrong = (record.start + RECORD_HEADER) as u64 + length;
            if all.iter().any(|record| record.end() as u64 == wrong) {
                // What ends where another record does is one, and nothing there proves anything.
                return;
            }
            let mut bytes = specimen.bytes.clone();
            bytes[record.start + 1 + bit / 8] ^= 1 << (bit % 8);
            fs::write(path, &bytes).unwrap();
            let case = || format!("bit {bit} of the record at {}", record.start);
            let kept = seal_one(path.parent().unwrap());
            let kept = kept.unwrap_or_else(|| panic!("{}: it was deleted", case()));
            assert!(fs::read(&kept).unwrap() == bytes, "{}", case());

            let read = Read::of(&kept);
            assert!(read.errors.iter().all(Error::is_damage), "{}: {:#?}", case(), read.told);
            // Where the file ends before that, it says nothing.
            let wrong = if wrong > bytes.len() as u64 { record.end() as u64 } else { wrong };
            let next = all.iter().map(|record| record.start).find(|start| *start as u64 >= wrong);
            let hidden = record.start..next.unwrap_or(bytes.len());
            let is_hidden = |place: usize| hidden.contains(&place);
            let unknown: BTreeSet<u16> = all
                .iter()
                .filter(|channel| channel.opcode == op::CHANNEL)
                .filter(|channel| {
                    let schema = u16::from_le_bytes(*channel.content[2..].first_chunk().unwrap());
                    let mut schemas = all.iter().filter(|schema| schema.opcode == op::SCHEMA);
                    is_hidden(channel.start)
                        || schemas.any(|it| it.id() == schema && is_hidden(it.start))
                })
                .map(Record::id)
                .collect();
            let messages = all.iter().filter(|record| record.opcode == op::MESSAGE);
            let expected = messages.zip(&specimen.entries).filter(|(message, _)| {
                !is_hidden(message.start) && !unknown.contains(&message.id())
            });
            let mut found = read.found.iter();
            for (message, entry) in expected {
                let is_there = found.any(|found| found == entry);
                assert!(is_there, "{}: at {}: {:#?}", case(), message.start, read.told);
            }
            let sealed = path.with_file_name("a.mcap");
            if sealed.exists() {
                assert!(Read::of(&sealed).found == specimen.entries[..proven], "{}", case());
                fs::remove_file(sealed).unwrap();
            }
            fs::remove_file(kept).unwrap();
        });
    }
}

#[test]
fn an_end_that_is_cut_off_does_not_hide_damage_before_it() {
    let specimen = hot();
    let folder = memory();
    let path = folder.path().join(specimen.name);
    let mut bytes = specimen.bytes[..specimen.bytes.len() - 5].to_vec();
    bytes[specimen.places[35].end - 1] ^= 1;
    fs::write(path, &bytes).unwrap();
    let kept = seal_one(folder.path()).expect("what was damaged is kept");
    assert!(fs::read(kept).unwrap() == bytes);
}

impl Specimen {
    /// Of a hot segment, the entries of the pieces that this byte is in no way part of, as far as it is said
    /// in such a piece whose they are. Not all of a checkpoint is needed for what is before it: that may be
    /// `proven_all_the_same`.
    fn proven(&self, byte: usize, proven_all_the_same: bool) -> Vec<Entry> {
        let records = records(&self.bytes);
        // The magic is the same in every file, so nothing depends on it.
        let mut start = mcap::MAGIC.len();
        let pieces: Vec<Range<usize>> = records
            .iter()
            .filter(|record| record.opcode == CHECKPOINT)
            .map(|record| std::mem::replace(&mut start, record.start)..record.end())
            .collect();
        let is_proven = |at: usize| {
            let own = pieces.iter().rfind(|piece| piece.contains(&at)).unwrap();
            let checkpoint = own.end - CHECKPOINT_SIZE..own.end;
            !own.contains(&byte) || proven_all_the_same && checkpoint.contains(&byte)
        };
        let declared = |opcode: u8| -> BTreeSet<u16> {
            let declared = records.iter().filter(|record| record.opcode == opcode);
            declared.filter(|record| is_proven(record.start)).map(Record::id).collect()
        };
        let (schemas, declared) = (declared(op::SCHEMA), declared(op::CHANNEL));
        // Sealing ends with a channel whose schema is not proven. The rest is in what is kept.
        let until = records.iter().find(|record| {
            let schema = || u16::from_le_bytes(*record.content[2..].first_chunk().unwrap());
            record.opcode == op::CHANNEL && is_proven(record.start) && !schemas.contains(&schema())
        });
        let until = until.map_or(usize::MAX, |record| record.start);
        let messages = records.iter().filter(|record| record.opcode == op::MESSAGE);
        let proven = messages.zip(&self.entries).filter(|(record, _)| {
            record.start < until && is_proven(record.start) && declared.contains(&record.id())
        });
        proven.map(|(_, entry)| entry.clone()).collect()
    }
}
