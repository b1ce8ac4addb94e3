//! The part of `just bench` that is measured inside a process: each way in turn on the frames of the
//! capture that is given, or only the one way that is named. Prints a line for each: its name, the
//! seconds it took, and the bytes that it went over. Without a capture there is nothing to do.
//!
//! The ways `unpack` and `repack` are none of these: one does nothing but read the capture and unpack it, so
//! that the whole process can be held against `decode`, which does that too; the other also packs it again,
//! as `edit` does.
//!
//! Seconds are those for which the processor worked on it, where the system tells: others who use the
//! machine change them less.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on should stop")]
#![allow(clippy::print_stdout, reason = "it is the result")]

use std::{
    collections::HashMap,
    env, fs,
    hint::black_box,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Instant,
};

use centralcap::{
    capture::Capture,
    codec::{json::Text, plan::Style},
    entry::Entry,
    schema::{self, Resolver},
    sink::{Sink, ndjson::Ndjson},
};
use mcap::{
    records::{Record, op},
    sans_io::linear_reader::{LinearReadEvent, LinearReader, LinearReaderOptions},
};
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};

/// So many bytes of frames are kept in memory: more than a cache holds. `measure.py` keeps as many.
const KEPT: usize = 16 << 20;

/// At which sealed captures are compressed.
const LEVEL: i32 = 3;

/// A piece of output is thrown away when it has this size, as if it had been written.
const PIECE: usize = 256 << 10;

fn main() {
    let mut arguments = env::args().skip(1).filter(|argument| argument != "--bench");
    let Some(capture) = arguments.next().map(PathBuf::from) else { return };
    let only = arguments.next();
    match only.as_deref() {
        Some("unpack") => return read_and_unpack(&capture, |content| _ = black_box(content)),
        Some("repack") => return read_and_repack(&capture),
        _ => {}
    }

    let frames = frames(&capture);
    let size = frames.iter().map(|entry| entry.frame().unwrap().data.len()).sum();
    let chunks = chunks(&capture);
    let unpacked = chunks.iter().map(|chunk| chunk.size).sum();
    let mut sink = Ndjson::new(Resolver::default(), Style::default());
    start(&mut sink, &frames);
    let mut descriptors = HashMap::new();

    let ways: [Way<'_>; 4] = [
        (
            "start",
            0,
            Box::new(|| start(&mut Ndjson::new(Resolver::default(), Style::default()), &frames)),
        ),
        ("walk", size, Box::new(|| walk(&mut sink, &frames))),
        ("prost-reflect", size, Box::new(|| reflect(&mut descriptors, &frames))),
        ("zstd", unpacked, Box::new(|| unpack(&chunks))),
    ];
    for (name, size, mut way) in ways {
        if only.as_ref().is_none_or(|only| only == name) {
            let start = seconds();
            way();
            println!("{name}\t{}\t{size}", seconds() - start);
        }
    }
}

type Way<'w> = (&'static str, usize, Box<dyn FnMut() + 'w>);

/// For how long this thread has been worked on or, if the system does not tell, the time.
fn seconds() -> f64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    let told = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.as_ref().and_then(|told| told.split(' ').next()?.parse::<u64>().ok());
    nanos.map_or_else(|| START.elapsed().as_secs_f64(), |nanos| nanos as f64 / 1e9)
}

fn frames(capture: &Path) -> Vec<Entry> {
    let mut size = 0;
    let entries = Capture::open(&[capture]).unwrap().entries().map(Result::unwrap);
    entries
        .filter(|entry| entry.frame().is_some())
        .take_while(|entry| {
            size += entry.frame().unwrap().data.len();
            size <= KEPT
        })
        .collect()
}

/// Schemas and plans for all types.
fn start(sink: &mut Ndjson, frames: &[Entry]) {
    let mut seen = Vec::new();
    for entry in frames {
        let kind = Arc::as_ptr(&entry.frame().unwrap().kind);
        if !seen.contains(&kind) {
            seen.push(kind);
            sink.entry(entry, &mut Text::default()).unwrap();
        }
    }
}

/// `benches/run` counts the instructions of this by its name.
#[inline(never)]
fn walk(sink: &mut Ndjson, frames: &[Entry]) {
    let mut text = Text::default();
    for entry in frames {
        if text.len() > PIECE {
            black_box(text.as_bytes());
            text.clear();
        }
        sink.entry(entry, &mut text).unwrap();
    }
    black_box(text.as_bytes());
}

fn reflect(descriptors: &mut HashMap<usize, MessageDescriptor>, frames: &[Entry]) {
    let mut out = Vec::new();
    for entry in frames {
        let frame = entry.frame().unwrap();
        let descriptor = descriptors.entry(Arc::as_ptr(&frame.kind) as usize);
        let descriptor = descriptor.or_insert_with(|| {
            let pool = schema::from_descriptor_set(&frame.kind.descriptors, "a bench").unwrap();
            schema::message(&pool, &frame.kind.envelope).unwrap()
        });
        if out.len() > PIECE {
            black_box(&out);
            out.clear();
        }
        let message = DynamicMessage::decode(descriptor.clone(), &*frame.data).unwrap();
        let options = SerializeOptions::new().use_proto_field_name(true);
        let mut serializer = serde_json::Serializer::new(&mut out);
        message.serialize_with_options(&mut serializer, &options).unwrap();
    }
    black_box(&out);
}

struct Chunk {
    packed: Vec<u8>,
    size: usize,
}

/// The chunks of a capture as they are in the file.
fn chunks(capture: &Path) -> Vec<Chunk> {
    let mut reader =
        LinearReader::new_with_options(LinearReaderOptions::default().with_emit_chunks(true));
    let mut rest = &*fs::read(capture).unwrap();
    let mut chunks = Vec::new();
    while let Some(event) = reader.next_event() {
        match event.unwrap() {
            LinearReadEvent::ReadRequest(wanted) => {
                let (next, left) = rest.split_at(wanted.min(rest.len()));
                reader.insert(next.len()).copy_from_slice(next);
                reader.notify_read(next.len());
                rest = left;
            }
            LinearReadEvent::Record { opcode: op::CHUNK, data } => {
                if let Record::Chunk { header, data } = mcap::parse_record(op::CHUNK, data).unwrap()
                {
                    assert_eq!(header.compression, "zstd");
                    let size = header.uncompressed_size as usize;
                    chunks.push(Chunk { packed: data.into_owned(), size });
                }
            }
            LinearReadEvent::Record { .. } => {}
        }
    }
    chunks
}

/// The least that a process can do to have all chunks unpacked and packed again.
fn read_and_repack(capture: &Path) {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).unwrap();
    let mut packed = Vec::new();
    read_and_unpack(capture, |content| {
        packed.resize(zstd::zstd_safe::compress_bound(content.len()), 0);
        let size = compressor.compress_to_buffer(content, &mut packed[..]).unwrap();
        black_box(&packed[..size]);
    });
}

/// The least that a process can do to have all chunks unpacked: record after record is read, and nothing
/// is checked.
fn read_and_unpack(capture: &Path, mut each: impl FnMut(&[u8])) {
    let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
    let mut file = fs::File::open(capture).unwrap();
    let end = file.metadata().unwrap().len() - mcap::MAGIC.len() as u64;
    let mut at = file.seek(SeekFrom::Start(mcap::MAGIC.len() as u64)).unwrap();
    let (mut header, mut record, mut content) = ([0; 9], Vec::new(), Vec::new());
    while at < end {
        file.read_exact(&mut header).unwrap();
        let length = u64::from_le_bytes(header[1..].try_into().unwrap());
        record.clear();
        (&mut file).take(length).read_to_end(&mut record).unwrap();
        if header[0] == op::CHUNK
            && let Record::Chunk { header, data } = mcap::parse_record(op::CHUNK, &record).unwrap()
        {
            content.clear();
            content.reserve(header.uncompressed_size as usize);
            decompressor.decompress_to_buffer(&data, &mut content).unwrap();
            assert_eq!(content.len() as u64, header.uncompressed_size);
            each(&content);
        }
        at += header.len() as u64 + length;
    }
}

/// What zstd can do at best: each chunk in one go, into memory that is already there.
fn unpack(chunks: &[Chunk]) {
    let mut decompressor = zstd::bulk::Decompressor::new().unwrap();
    let mut content = vec![0; chunks.iter().map(|chunk| chunk.size).max().unwrap_or(0)];
    for chunk in chunks {
        let size = decompressor.decompress_to_buffer(&chunk.packed, &mut content).unwrap();
        assert_eq!(size, chunk.size);
        black_box(&content);
    }
}
