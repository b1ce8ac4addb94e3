//! Where to read on in a damaged segment.
//!
//! Of a sealed one, with the next whole chunk: it is known by its header, and proven by the checksum of its
//! content. Of a hot one, with the next checkpoint: a piece between two of them is proven before anything of
//! it comes out, so a piece that is not costs itself and nothing behind it.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use crc32fast::Hasher;
use mcap::records::{Record, op};

use super::{
    RECORD_HEADER_SIZE, RECORD_LIMIT,
    chunk::Chunk,
    hot::{CHECKPOINT, Checkpoint},
    reader::is_hot,
};

/// How much is searched at once.
const BLOCK: usize = 256 * 1024;

/// How many checkpoints are looked at until one proves what is before it: bytes of a frame may look like one.
const LOOKED_AT: usize = 8;

/// Beyond what the file has itself, so much may be unpacked in vain. Whoever made up a file of beginnings of
/// chunks does not keep us for ever.
const UNPACKED_IN_VAIN: u64 = 1024 * 1024 * 1024;

/// So many bytes of a chunk's record are enough to know it by: two times, a size, a checksum, how its content is
/// compressed, and how long that is then.
const CHUNK_HEADER: usize = 8 + 8 + 8 + 4 + (4 + 4) + 8;

/// The search for whole chunks.
#[derive(Default)]
pub(super) struct Search {
    in_vain: u64,
}

impl Search {
    /// Where the next whole chunk begins that does so at `from` or behind it.
    pub(super) fn next_chunk(&mut self, file: &File, from: u64) -> io::Result<Option<u64>> {
        let size = file.metadata()?.len();
        let mut chunk = Chunk::default();
        let mut places = Places::of(file, from, op::CHUNK, RECORD_HEADER_SIZE + CHUNK_HEADER);
        while let Some((place, header)) = places.next()? {
            let (_, length) = record_header(&header);
            let left = size.saturating_sub(place + RECORD_HEADER_SIZE as u64);
            if length > left.min(RECORD_LIMIT as u64)
                || !is_chunk(&header[RECORD_HEADER_SIZE..], length)
            {
                continue;
            }
            let mut record = Vec::new();
            (&*file).seek(SeekFrom::Start(place + RECORD_HEADER_SIZE as u64))?;
            file.take(length).read_to_end(&mut record)?;
            // Without a checksum nothing is proven.
            let parsed = mcap::parse_record(op::CHUNK, &record);
            let Ok(Record::Chunk { header, .. }) = parsed else { continue };
            if header.uncompressed_crc != 0 && chunk.open(&record) == Ok(0) {
                return Ok(Some(place));
            }
            self.in_vain = self.in_vain.saturating_add(header.uncompressed_size);
            if self.in_vain > size.saturating_add(UNPACKED_IN_VAIN) {
                return Ok(None);
            }
        }
        Ok(None)
    }
}

/// Whether a record of that length may be a chunk that begins so.
fn is_chunk(header: &[u8], length: u64) -> bool {
    let (sizes, name) = header.split_at(28);
    let rest =
        [&b"\x04\0\0\0zstd"[..], b"\0\0\0\0"].iter().find_map(|known| name.strip_prefix(*known));
    let Some(packed) = rest.and_then(|rest| rest.first_chunk()) else { return false };
    let before = 28 + name.len() - rest.map_or(0, <[u8]>::len) + 8;
    let unpacked = sizes[16..].first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes));
    u64::from_le_bytes(*packed) == length.saturating_sub(before as u64)
        && unpacked <= RECORD_LIMIT as u64
}

/// A piece of a hot segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Up to this checkpoint it is what was written.
    Proven(Checkpoint),
    /// Something before this checkpoint is not what was written.
    Damaged(Checkpoint),
    /// No checkpoint follows that could tell.
    Open,
}

/// Judges the piece that begins at `from`, where the checksum of all before it is `crc`.
pub(super) fn judge(file: &File, from: u64, crc: u32) -> io::Result<Piece> {
    match behind_records(&mut Places::of_checkpoints(file, from, crc), from)? {
        Some(proof) => Ok(Piece::Proven(proof)),
        None => among_all(&mut Places::of_checkpoints(file, from, crc), from),
    }
}

/// The checkpoint to which records lead that follow each other, if it proves them. The search ends with the
/// first thing that is no record of a hot segment.
fn behind_records(places: &mut Places<'_>, from: u64) -> io::Result<Option<Checkpoint>> {
    let mut place = from;
    while let Some(record) = places.at(place)? {
        let (opcode, length) = record_header(record);
        // The one before this piece is a part of it.
        if opcode == CHECKPOINT && place > from {
            let checkpoint = checkpoint_at(place, record);
            return Ok(checkpoint.filter(|found| places.checksum() == Some(found.crc)));
        }
        if !is_hot(opcode) || length > RECORD_LIMIT as u64 {
            return Ok(None);
        }
        place += RECORD_HEADER_SIZE as u64 + length;
    }
    Ok(None)
}

/// The first checkpoint that proves what is before it, wherever one may stand.
fn among_all(places: &mut Places<'_>, from: u64) -> io::Result<Piece> {
    let mut first = None;
    let mut looked_at = 0;
    while looked_at < LOOKED_AT
        && let Some((place, record)) = places.next()?
    {
        let Some(checkpoint) = checkpoint_at(place, &record).filter(|_| place > from) else {
            continue;
        };
        looked_at += 1;
        if places.checksum() == Some(checkpoint.crc) {
            return Ok(Piece::Proven(checkpoint));
        }
        // Each entry is a record.
        if checkpoint.entries <= place / RECORD_HEADER_SIZE as u64 {
            first.get_or_insert(checkpoint);
        }
    }
    Ok(first.map_or(Piece::Open, Piece::Damaged))
}

/// The checkpoint at a place, if it is one. It says itself where it stands, so hardly anything else can be taken
/// for it.
fn checkpoint_at(place: u64, record: &[u8]) -> Option<Checkpoint> {
    let (_, length) = record_header(record);
    let checkpoint = Checkpoint::from_bytes(&record[RECORD_HEADER_SIZE..])?;
    (checkpoint.offset == place && length >= Checkpoint::SIZE as u64).then_some(checkpoint)
}

fn record_header(record: &[u8]) -> (u8, u64) {
    let length = record[1..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    (record[0], length)
}

/// The places of a file at which an opcode stands, each with as many bytes as were asked for.
struct Places<'f> {
    file: &'f File,
    opcode: u8,
    size: usize,
    block: Vec<u8>,
    /// Where the block begins,
    start: u64,
    /// and how much of it has been searched.
    at: usize,
    /// If it is asked for: that of all before the block,
    checksum: Option<Hasher>,
    /// and of so much of the block.
    summed: usize,
}

impl<'f> Places<'f> {
    fn of(file: &'f File, from: u64, opcode: u8, size: usize) -> Self {
        Self {
            file,
            opcode,
            size,
            block: Vec::new(),
            start: from,
            at: 0,
            checksum: None,
            summed: 0,
        }
    }

    /// Those of checkpoints, with the checksum of what is before them, which is `crc` at `from`.
    fn of_checkpoints(file: &'f File, from: u64, crc: u32) -> Self {
        let places = Self::of(file, from, CHECKPOINT, RECORD_HEADER_SIZE + Checkpoint::SIZE);
        Self { checksum: Some(Hasher::new_with_initial(crc)), ..places }
    }

    /// The next place where the opcode stands.
    fn next(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        loop {
            let rest = self.block.get(self.at..self.whole()).unwrap_or_default();
            if let Some(found) = memchr::memchr(self.opcode, rest) {
                let at = self.at + found;
                self.at = at + 1;
                return Ok(Some((self.start + at as u64, self.block[at..at + self.size].to_vec())));
            }
            if !self.read_on()? {
                return Ok(None);
            }
        }
    }

    /// What stands at a place, whatever it is, that is not before the last one; None if the file ends there.
    fn at(&mut self, place: u64) -> io::Result<Option<&[u8]>> {
        loop {
            let at = place - self.start;
            if at < self.whole() as u64 {
                let at = at as usize;
                self.at = at + 1;
                return Ok(Some(&self.block[at..at + self.size]));
            }
            if !self.read_on()? {
                return Ok(None);
            }
        }
    }

    /// At so many places of the block all is there that was asked for.
    fn whole(&self) -> usize {
        self.block.len().saturating_sub(self.size - 1)
    }

    /// Goes on with the next block. False if the file has ended.
    fn read_on(&mut self) -> io::Result<bool> {
        let whole = self.whole();
        self.sum(whole);
        self.block.drain(..whole);
        self.summed = 0;
        (self.start, self.at) = (self.start + whole as u64, 0);
        let end = self.start + self.block.len() as u64;
        self.file.seek(SeekFrom::Start(end))?;
        let room = (BLOCK - self.block.len()) as u64;
        Ok(self.file.take(room).read_to_end(&mut self.block)? > 0)
    }

    /// The checksum of all before the place that was found last, if it is asked for.
    fn checksum(&mut self) -> Option<u32> {
        self.sum(self.at - 1);
        self.checksum.clone().map(Hasher::finalize)
    }

    fn sum(&mut self, until: usize) {
        if let Some(checksum) = &mut self.checksum {
            checksum.update(&self.block[self.summed..until]);
            self.summed = until;
        }
    }
}
