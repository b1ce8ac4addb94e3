//! What must hold of any bytes: each target takes some, and panics if it does not. The fuzzer calls them,
//! and `tests/fuzz.rs` with a bounded number of inputs.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

use bytes::Bytes;
use centralcap::{
    accounts::{self, Account},
    capture::{self, Capture, HotSegment},
    codec::{
        columns::{Layout, Rows},
        json::{self, Text},
        notes::Notes,
        plan::{BytesStyle, Plan, Style},
        reflect,
    },
    edit,
    encode::{self, Encoder},
    entry::{Entry, What},
    error::Error,
    inspect,
    protocol::Key,
    schema::{self, FrameTypes, Resolver},
    select::Selection,
    sink::{Sink, ndjson::Ndjson},
    synth::{self, Synth},
};
use prost::Message;
use serde_json::value::RawValue;
use tempfile::TempDir;

use super::{
    capture::{Entries, about, message as frame, subscription},
    message,
    subject::{self, STYLES, Subject},
};

/// One of them.
pub struct Target {
    /// As the fuzzer calls it.
    pub name: &'static str,
    /// Takes an input. Returns whether there was anything in it to be looked at.
    pub run: fn(&[u8]) -> bool,
    /// What to begin with: inputs that go far.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 6] = [
    Target { name: "decode", run: decode, seeds: decode_seeds },
    Target { name: "reader", run: reader, seeds: reader_seeds },
    Target { name: "salvage", run: salvage, seeds: salvage_seeds },
    Target { name: "pool", run: pool, seeds: pool_seeds },
    Target { name: "encode", run: encode, seeds: encode_seeds },
    Target { name: "accounts", run: accounts, seeds: accounts_seeds },
];

/// Longer seeds only make the fuzzer slow.
const LONGEST: usize = 1000;

/// The folder of our package.
fn package() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The fuzzer's own package is in ours.
    if manifest.ends_with("fuzz") { manifest.parent().unwrap() } else { manifest }
}

/// A folder in memory where there is such a place.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap()
}

static SUBJECTS: LazyLock<Vec<Subject>> = LazyLock::new(|| subject::subjects(package()));

/// The first byte says which type of message the rest is. Both decoders say the same about it.
pub fn decode(input: &[u8]) -> bool {
    let Some((&first, data)) = input.split_first() else { return false };
    let Some(subject) = SUBJECTS.get(usize::from(first)) else { return false };
    subject.check(data, STYLES.len());
    true
}

fn decode_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut add = |subject: usize, data: &[u8]| {
        if data.len() <= LONGEST {
            seeds.push([&[u8::try_from(subject).unwrap()], data].concat());
        }
    };
    // Tidy messages, and ones in which everything is out of order that may be.
    for (index, subject) in SUBJECTS.iter().enumerate() {
        for seed in 0..20 {
            add(index, &message::random_small(&subject.descriptor, seed));
        }
    }
    // Frames as they are on the wire, a few of each type.
    let types = FrameTypes::of(centralcap::protocol::PROTOCOLS[0]);
    let mut labels: Vec<_> = types.all().map(|kind| kind.label.clone()).collect();
    labels.sort();
    for (index, label) in labels.iter().enumerate() {
        let own = synthetic(2000).into_iter();
        let own = own.filter(|entry| entry.frame().is_some_and(|frame| frame.kind.label == *label));
        own.take(10).for_each(|entry| add(index, &entry.frame().unwrap().data));
    }
    seeds
}

fn synthetic(messages: u64) -> Vec<Entry> {
    let options = synth::Options { seed: 3, messages, devices: 20, ..synth::Options::default() };
    Synth::new(&options).unwrap().collect()
}

const NAMES: [&str; 2] = ["a.mcap", "a.open.mcap"];

/// All that a capture gives, and all that is wrong with it, which has to be damage, or that it is none.
fn read(path: &Path) -> (Vec<Entry>, Vec<Error>) {
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for entry in Capture::open(&[path]).unwrap().entries() {
        match entry {
            Ok(entry) => found.push(entry),
            Err(error) => {
                assert!(error.is_damage() || error.is_not_a_capture(), "{error}");
                assert!(!error.to_string().is_empty());
                errors.push(error);
            }
        }
    }
    (found, errors)
}

/// The first byte says which state the rest is a segment of. Whoever reads it comes to an end, and all
/// readers say the same.
pub fn reader(input: &[u8]) -> bool {
    let Some((&first, bytes)) = input.split_first() else { return false };
    let folder = folder();
    let path = folder.path().join(NAMES[usize::from(first % 2)]);
    fs::write(&path, bytes).unwrap();
    let (found, errors) = read(&path);
    let capture = Capture::open(&[&path]).unwrap();
    let shared = capture.entries().sharing(&std::sync::Arc::default());
    let shared: Vec<_> = shared.filter_map(Result::ok).collect();
    assert!(shared == found, "sharing reads something else");
    let _ = capture.channels();
    let _ = capture::contents(&path);
    let _ = capture::each_record(&path, |_, _| Ok(()));
    match inspect::gaps(&capture, Selection::default()) {
        Ok(profile) => {
            let frames = found.iter().filter(|entry| entry.frame().is_some()).count();
            assert_eq!(profile.totals.frames, frames as u64);
            assert!(errors.is_empty() || profile.losses().is_some(), "{errors:#?}");
            assert!(!profile.json().is_empty());
        }
        Err(error) => assert!(error.is_not_a_capture(), "{error}"),
    }
    true
}

fn reader_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = SPECIMENS
        .iter()
        .enumerate()
        .map(|(state, specimen)| [&[state as u8], &specimen.bytes[..]].concat())
        .collect();
    // Without anything in it, and without an end.
    let empty = folder();
    let path = empty.path().join("a.mcap");
    Entries::new().write(&path);
    seeds.push([vec![0], fs::read(path).unwrap()].concat());
    for state in 0..2 {
        let seed = &seeds[state];
        seeds.push(seed[..seed.len() * 2 / 3].to_vec());
    }
    seeds
}

/// A small capture that is whole.
struct Specimen {
    name: &'static str,
    bytes: Vec<u8>,
}

fn specimen_entries() -> Vec<Entry> {
    let mut entries = Entries::new();
    let owners = ["one", "two"].map(|name| subscription(name, "new"));
    for owner in &owners {
        entries.event(owner);
    }
    for number in 0..24 {
        let (owner, after) = (&owners[number as usize % 2], Duration::from_millis(number.into()));
        entries.numbered(after, owner, number / 2 + 1, frame("new", number, 30));
    }
    entries.made
}

/// One sealed, of several chunks, and one hot, of several pieces.
static SPECIMENS: LazyLock<[Specimen; 2]> = LazyLock::new(|| {
    let folder = folder();
    let path = folder.path().join("a.mcap");
    let mut entries = Entries::new();
    entries.made = specimen_entries();
    entries.write(&path);
    let own = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let options = mcap::WriteOptions::new().profile("centralcap").disable_seeking(true);
    let options = options.compression(Some(mcap::Compression::Zstd)).compression_threads(0);
    let to = mcap::write::NoSeek::new(Vec::new());
    let mut writer = options.chunk_size(Some(600)).create(to).unwrap();
    for message in mcap::MessageStream::new(&own).unwrap() {
        writer.write(&message.unwrap()).unwrap();
    }
    writer.finish().unwrap();
    let sealed = writer.into_inner().into_inner();

    let mut segment = HotSegment::create(&path, &about(Duration::ZERO), &[]).unwrap();
    for entries in entries.made.chunks(7) {
        for entry in entries {
            segment.append(entry).unwrap();
        }
        segment.checkpoint().unwrap();
    }
    let hot = segment.path().to_owned();
    drop(segment);
    [
        Specimen { name: NAMES[0], bytes: sealed },
        Specimen { name: NAMES[1], bytes: fs::read(hot).unwrap() },
    ]
});

static SPECIMEN_ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(specimen_entries);

/// How many bytes of an input are one damage.
const DAMAGE_SIZE: usize = 5;

/// Does one damage: what, where, how far and with what.
fn damage(bytes: &mut Vec<u8>, how: [u8; DAMAGE_SIZE]) {
    let [what, low, high, length, value] = how;
    let at = usize::from(u16::from_le_bytes([low, high]));
    if bytes.is_empty() {
        return;
    }
    let at = at % bytes.len();
    let end = bytes.len().min(at + usize::from(length));
    match what % 5 {
        0 => bytes[at] ^= value,
        1 => bytes[at..end].fill(value),
        2 => drop(bytes.drain(at..end)),
        3 => drop(bytes.splice(at..at, std::iter::repeat_n(value, length.into()))),
        _ => bytes.truncate(at),
    }
}

/// A capture with damages: the first byte says in which state, each five others are one. What comes out
/// was in it, in its order, once; what is wrong is told; and what `edit` makes of it is whole.
pub fn salvage(input: &[u8]) -> bool {
    let Some((&first, damages)) = input.split_first() else { return false };
    let specimen = &SPECIMENS[usize::from(first % 2)];
    let is_hot = first % 2 == 1;
    let mut bytes = specimen.bytes.clone();
    for how in damages.as_chunks().0 {
        damage(&mut bytes, *how);
    }
    let folder = folder();
    let path = folder.path().join(specimen.name);
    fs::write(&path, &bytes).unwrap();
    let (found, errors) = read(&path);

    // Of a hot segment that is so up to its last checkpoint.
    let proven = specimen.bytes.len() - LAST_CHECKPOINT;
    let is_proven = !is_hot
        || bytes.len() == specimen.bytes.len() && bytes[proven..] == specimen.bytes[proven..];
    if is_proven {
        let mut all = SPECIMEN_ENTRIES.iter();
        let all_found = found.iter().all(|found| all.any(|entry| is_same(entry, found)));
        assert!(all_found, "{found:#?}");
        assert_eq!(errors.is_empty(), bytes == specimen.bytes, "{errors:#?}");
        assert!(!errors.is_empty() || found == *SPECIMEN_ENTRIES);
    }

    let output = folder.path().join("salvaged.mcap");
    match edit::edit(&[path], &output, &edit::Options::default(), |_| ()) {
        Ok(_) => {
            let (salvaged, errors) = read(&output);
            assert!(errors.is_empty(), "{errors:#?}");
            assert!(salvaged.len() == found.len());
            let mut both = salvaged.iter().zip(&found);
            assert!(both.all(|(salvaged, found)| salvaged == found), "{salvaged:#?}");
        }
        Err(_) => assert!(found.is_empty() && !output.exists()),
    }
    true
}

/// How many bytes a checkpoint takes.
const LAST_CHECKPOINT: usize = 1 + 8 + 20;

/// Whose it is may be said in what is damaged.
fn is_same(entry: &Entry, found: &Entry) -> bool {
    let content = |entry: &Entry| match &entry.what {
        What::Frame(frame) => (frame.sequence, frame.sent, frame.data.to_vec()),
        What::Event(event) => (0, None, event.encode_to_vec()),
    };
    entry.received == found.received && content(entry) == content(found)
}

fn salvage_seeds() -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(5);
    let damages = |random: &mut fastrand::Rng, count: usize| -> Vec<u8> {
        (0..count * DAMAGE_SIZE).map(|_| random.u8(..)).collect()
    };
    let seeds = (0..60).map(|number| [vec![number], damages(&mut random, number.into())].concat());
    seeds.take(12).collect()
}

/// A descriptor set behind two bytes that say how long it is, and a message. The set is refused, or all
/// messages of it can be used.
pub fn pool(input: &[u8]) -> bool {
    /// So many types of a set are enough.
    const TYPES: usize = 8;

    let Some((length, rest)) = input.split_first_chunk() else { return false };
    let Some((set, data)) = rest.split_at_checked(u16::from_le_bytes(*length).into()) else {
        return false;
    };
    let Ok(pool) = schema::from_descriptor_set(set, "an input") else { return true };
    for descriptor in pool.all_messages().take(TYPES) {
        for style in STYLES {
            let plan = Plan::new(&descriptor, style);
            let (mut text, mut notes) = (Text::default(), Notes::default());
            let walked = json::write(&plan, data, &mut text, &mut notes);
            match walked {
                Ok(()) => {
                    drop(serde_json::from_slice::<serde_json::Value>(text.as_bytes()).unwrap());
                }
                Err(_) => assert!(text.is_empty()),
            }
            let layout = Layout::of(&plan);
            let _ = Rows::default().fill(&plan, &layout, data, &mut notes);
        }
        let _ = reflect::decode(&descriptor, data).map(|it| reflect::to_json(&it, STYLES[0]));
    }
    true
}

fn pool_seeds() -> Vec<Vec<u8>> {
    let with_length = |set: &[u8], data: &[u8]| {
        let length = u16::try_from(set.len()).unwrap().to_le_bytes();
        [&length, set, data].concat()
    };
    let own = schema::session_event_descriptors();
    let mut seeds = vec![with_length(&own, b"\x08\x01"), with_length(&own, b"")];
    // The types of the tests, each file for itself where it needs no other.
    let torture = subject::torture(package());
    let mut files = HashSet::new();
    for descriptor in &torture {
        let file = descriptor.parent_file();
        if file.dependencies().len() == 0 && files.insert(file.name().to_owned()) {
            let set = prost_reflect::prost_types::FileDescriptorSet {
                file: vec![file.file_descriptor_proto().clone()],
            };
            seeds.push(with_length(&set.encode_to_vec(), &message::random(descriptor, 3)));
        }
    }
    seeds
}

/// A line of JSON behind a byte that says how bytes are written. It is refused with what was expected,
/// or the frame is decoded to a line that gives the same frame.
pub fn encode(input: &[u8]) -> bool {
    let Some((&first, line)) = input.split_first() else { return false };
    let bytes = [BytesStyle::Text, BytesStyle::Base64, BytesStyle::Hex][usize::from(first) % 3];
    let raw = first & 0x40 != 0;
    // A new one for each: it keeps all types that it has seen.
    let resolver = Resolver::default();
    let options = encode::Options { bytes, raw, start: encode::START, resolver: resolver.clone() };
    let entry = match Encoder::new(&options).entry(line) {
        Ok(entry) => entry,
        Err(unfit) => {
            assert!(!unfit.expected.is_empty() && !unfit.found.is_empty(), "{unfit:?}");
            return true;
        }
    };
    let style = Style { bytes, ..Style::default() };
    let mut lines = Ndjson::new(resolver, style).showing_unknown(true).showing_raw(raw);
    let mut line = Text::default();
    // Raw bytes need not be a message.
    match lines.entry(&entry, &mut line) {
        Err(error) if raw && error.is_undecodable() => return true,
        decoded => assert!(decoded.unwrap()),
    }
    let shown = String::from_utf8_lossy(line.as_bytes()).into_owned();
    if shown.contains("@unprintable") {
        return true;
    }
    let again = Encoder::new(&options).entry(shown.trim_end().as_bytes());
    let again = again.unwrap_or_else(|unfit| panic!("{unfit:?} in {shown}"));
    let mut line = Text::default();
    assert!(lines.entry(&again, &mut line).unwrap());
    assert_eq!(shown, String::from_utf8_lossy(line.as_bytes()));
    true
}

fn encode_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (first, bytes) in [(0, BytesStyle::Text), (1, BytesStyle::Base64), (0x42, BytesStyle::Hex)]
    {
        let style = Style { bytes, ..Style::default() };
        let lines = Ndjson::new(Resolver::default(), style).showing_unknown(true);
        let mut lines = lines.showing_raw(first & 0x40 != 0);
        for entry in synthetic(60).iter().filter(|entry| entry.frame().is_some()) {
            let mut line = Text::default();
            lines.entry(entry, &mut line).unwrap();
            if line.len() <= LONGEST {
                seeds.push([&[first], line.as_bytes().trim_ascii_end()].concat());
            }
        }
    }
    for line in [
        r#"{"topic": "audit", "data": {"username": "me", "client_ip": {"addr": "192.0.2.7"}}}"#,
        r#"{"topic": "presence", "data": {"timestamp": 1e3, "eventType": "rssi"}}"#,
        r#"{"topic": "new", "received": "2026-02-01T00:00:00Z", "data": "AAEC"}"#,
    ] {
        seeds.push([b"\0", line.as_bytes()].concat());
    }
    seeds
}

/// An input file. It is refused without a word of what is in it, or a key can be replaced, and that
/// changes nothing else.
pub fn accounts(input: &[u8]) -> bool {
    let folder = folder();
    let path: PathBuf = folder.path().join("input.json");
    fs::write(&path, input).unwrap();
    let [old, new] = [OLD_KEY, NEW_KEY].map(|key| Key::new(key).unwrap());
    let before = match accounts::read(&path) {
        Ok(before) => before,
        Err(error) => {
            assert!(
                !error.to_string().contains(OLD_KEY) || is_in_a_name(input, OLD_KEY),
                "{error}"
            );
            assert!(accounts::replace_key(&path, &old, &new).is_err());
            assert_eq!(fs::read(&path).unwrap(), input);
            return true;
        }
    };
    let is_there = before.iter().any(|account| account.key == old || account.key == new);
    assert_eq!(accounts::replace_key(&path, &old, &new).unwrap(), is_there);
    let renewed = |account: &Account| {
        let key = if account.key == old { new.clone() } else { account.key.clone() };
        Account { key, ..account.clone() }
    };
    let expected: Vec<_> = before.iter().map(renewed).collect();
    assert_eq!(accounts::read(&path).unwrap(), expected);
    if !before.iter().any(|account| account.key == old) {
        assert_eq!(fs::read(&path).unwrap(), input);
    }
    true
}

/// Whether an account has this in its name, which is no secret.
fn is_in_a_name(input: &[u8], word: &str) -> bool {
    type Members = HashMap<String, Box<RawValue>>;

    let Ok(input) = serde_json::from_slice::<Members>(input) else { return false };
    let customers = input.get("customers").map_or("", |customers| customers.get());
    let Ok(customers) = serde_json::from_str::<Members>(customers) else { return false };
    customers.keys().any(|name| name.contains(word))
}

const OLD_KEY: &str = "synthetic-old-key";
const NEW_KEY: &str = "synthetic-new-key";

fn accounts_seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"customers": {"west": {"wsskey": "synthetic-old-key", "topic": "audit"}}}"#,
        r#"{
  "note": "synthetic-old-key", "customers": {
    "west":  {"wsskey": "synthetic-old-key", "topic": "audit", "color": [1, {"wsskey": null}]},
    "east": {"topic": "monitoring", "wsskey": "synthetic\u002dold-key", "username": "a@example.com"}
  }, "wsskey": "synthetic-old-key"
}
"#,
        r#"{"customers": {"a": {"wsskey": "", "topic": "audit"}}}"#,
        r#"{"customers": {"a\"b": {"wsskey": "synthetic-other-key", "topic": "é"}}, "x": 1e400}"#,
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

/// The seeds of a target with changes that a seed decides: of any length, and cheap.
pub fn mutated(seed: &[u8], others: &[Vec<u8>], random: &mut fastrand::Rng) -> Bytes {
    let mut data = seed.to_vec();
    for _ in 0..random.usize(1..4) {
        if data.is_empty() {
            data.push(random.u8(..));
        }
        let at = random.usize(..data.len());
        let end = data.len().min(at + random.usize(1..20));
        match random.u8(..7) {
            0 => data[at] ^= 1 << random.u8(..8),
            1 => data[at] = random.u8(..),
            2 => drop(data.drain(at..end)),
            3 => {
                let new: Vec<u8> = (at..end).map(|_| random.u8(..)).collect();
                drop(data.splice(at..at, new));
            }
            4 => data.extend_from_within(at..end),
            5 => data[at..end].fill([0, 0x7f, 0x80, 0xff][random.usize(..4)]),
            _ => {
                let other = &others[random.usize(..others.len())];
                let from = random.usize(..=other.len());
                let to = other.len().min(from + random.usize(1..40));
                drop(data.splice(at..end, other[from..to].iter().copied()));
            }
        }
    }
    data.into()
}
