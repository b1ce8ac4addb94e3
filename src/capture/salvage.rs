//! Where to read on in a damaged segment.
//!
//! Of a sealed one, with the next whole chunk: it is known by its header, and proven by the checksum of its
//! content. Of a hot one, with the next checkpoint: a piece between two of them is proven before anything of
//! it comes out, so a piece that is not costs itself and nothing behind it. What had to be read for that stays
//! in memory, if it is not much: then the piece is read once. Behind the last checkpoint nothing is proven:
//! there it is the next record that can hardly be anything else.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    mem,
};

use bytes::Bytes;
use crc32fast::Hasher;
use mcap::records::{Record, op};

use super::{
    RECORD_HEADER_SIZE, RECORD_LIMIT,
    chunk::Chunk,
    hot::{CHECKPOINT, Checkpoint, PIECE_SIZE},
    record::{ABOUT_LIMIT, MESSAGE_HEADER_SIZE, is_of_hot, record_header},
    rooms::Rooms,
    stretch::{Stretch, read_at},
    writer::ENCODING,
};

/// How much is read at once: a piece has its end before that only where little comes in a second.
const BLOCK: usize = PIECE_SIZE as usize;

/// And then by how much more: what follows the end is read with it.
const STEP: usize = 32 * 1024;

/// A piece up to this size stays in memory.
const KEPT: usize = 4 * BLOCK;

/// How many checkpoints are looked at until one proves what is before it: bytes of a frame may look like one.
const LOOKED_AT: usize = 8;

/// Beyond what the file has itself, so much may be read and unpacked in vain. Whoever made up a file of beginnings
/// of chunks does not keep us for ever.
const IN_VAIN: u64 = 1024 * 1024 * 1024;

/// So many bytes of a chunk's record are enough to know it by: two times, a size, a checksum, how its content is
/// compressed, and how long that is then.
const CHUNK_HEADER: usize = 8 + 8 + 8 + 4 + (4 + 4) + 8;

/// So often reading goes on where nothing is proven. Whoever made up a file of beginnings of records has not so
/// many errors to tell.
const MOST_FOUND: u32 = 1000;

/// A message that is not proven was received in so many nanoseconds around the one before it: a year.
const NEAR: u64 = 365 * 86_400 * 1_000_000_000;

/// The search for what is whole.
#[derive(Default)]
pub(crate) struct Search {
    /// So many bytes were read, and unpacked, of what was none.
    in_vain: u64,
    /// So many records of hot segments were found.
    found: u32,
}

impl Search {
    /// Where the next whole chunk begins that does so at `from` or behind it.
    pub(super) fn next_chunk(&mut self, file: &File, from: u64) -> io::Result<Option<u64>> {
        let size = file.metadata()?.len();
        let mut chunk = Chunk::default();
        let mut rooms = Rooms::new(1);
        let known_by = RECORD_HEADER_SIZE + CHUNK_HEADER;
        let find = |bytes: &[u8]| memchr::memchr(op::CHUNK, bytes);
        let mut places = Places::of(find, known_by, file, from, &mut rooms);
        while let Some((place, header)) = places.next()? {
            let Some((_, length)) = record_header(&header) else { continue };
            let left = size.saturating_sub(place + RECORD_HEADER_SIZE as u64);
            if length > left.min(RECORD_LIMIT as u64) {
                continue;
            }
            let unpacked = unpacked_size(&header[RECORD_HEADER_SIZE..], length);
            let Some(unpacked) = unpacked else { continue };
            // Each may have all that follows for its content, however little it says that it unpacks.
            let tried = self.in_vain.saturating_add(length + unpacked);
            if tried > size.saturating_add(IN_VAIN) {
                return Ok(None);
            }
            let mut record = Vec::new();
            (&*file).seek(SeekFrom::Start(place + RECORD_HEADER_SIZE as u64))?;
            file.take(length).read_to_end(&mut record)?;
            // Without a checksum nothing is proven.
            let parsed = mcap::parse_record(op::CHUNK, &record);
            let has_checksum = matches!(
                parsed,
                Ok(Record::Chunk { header, .. }) if header.uncompressed_crc != 0
            );
            if has_checksum && chunk.open(&record) == Ok(0) {
                return Ok(Some(place));
            }
            self.in_vain = tried;
        }
        Ok(None)
    }

    /// Where the next record of a hot segment begins that does so at `from` or behind it: one that is whole, has
    /// the content of its kind, and behind which another one begins, or the file ends. A message is one that was
    /// received around the `latest`, if there is one. What is in frames may look like that, but hardly does.
    pub(crate) fn next_record(
        &mut self,
        file: &File,
        from: u64,
        latest: Option<u64>,
    ) -> io::Result<Option<u64>> {
        if self.found >= MOST_FOUND {
            return Ok(None);
        }
        let size = file.metadata()?.len();
        let mut rooms = Rooms::new(1);
        let known_by = RECORD_HEADER_SIZE + MESSAGE_HEADER_SIZE;
        let find = |bytes: &[u8]| memchr::memchr3(op::MESSAGE, op::CHANNEL, op::SCHEMA, bytes);
        let mut places = Places::of(find, known_by, file, from, &mut rooms);
        while let Some((place, head)) = places.next()? {
            let Some((opcode, length)) = record_header(&head) else { continue };
            let start = place + RECORD_HEADER_SIZE as u64;
            if length > size.saturating_sub(start).min(RECORD_LIMIT as u64) {
                continue;
            }
            let head = &head[RECORD_HEADER_SIZE..];
            let is_one = if opcode == op::MESSAGE {
                let (_, times) = head.split_at(2 + 4);
                let received = times.first_chunk().map(|time| u64::from_le_bytes(*time));
                let is_near = |latest: u64| received.is_some_and(|at| at.abs_diff(latest) <= NEAR);
                length >= MESSAGE_HEADER_SIZE as u64 && latest.is_none_or(is_near)
            } else {
                self.is_about(file, start, opcode, length)?
            };
            if is_one && is_followed(file, start + length, size)? {
                self.found += 1;
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Whether that is a schema or a channel as a recorder writes them.
    fn is_about(&mut self, file: &File, start: u64, opcode: u8, length: u64) -> io::Result<bool> {
        let tried = self.in_vain.saturating_add(length);
        if length > ABOUT_LIMIT as u64 || tried > IN_VAIN {
            return Ok(false);
        }
        let mut content = Vec::new();
        (&*file).seek(SeekFrom::Start(start))?;
        file.take(length).read_to_end(&mut content)?;
        let is_one = match mcap::parse_record(opcode, &content) {
            Ok(Record::Schema { header, .. }) => header.encoding == ENCODING,
            Ok(Record::Channel(channel)) => channel.message_encoding == ENCODING,
            _ => false,
        };
        if !is_one {
            self.in_vain = tried;
        }
        Ok(is_one)
    }
}

/// Whether a record of a hot segment begins there, or the file ends.
fn is_followed(file: &File, place: u64, size: u64) -> io::Result<bool> {
    let mut header = [0; RECORD_HEADER_SIZE];
    let mut read = 0;
    while read < header.len() {
        match read_at(file, place + read as u64, &mut header[read..])? {
            0 => break,
            more => read += more,
        }
    }
    Ok(match record_header(&header[..read]) {
        Some((opcode, length)) => is_of_hot(opcode) && length <= RECORD_LIMIT as u64,
        None => place == size || is_of_hot(header[0]),
    })
}

/// How much a record of that length says that it unpacks, if it may be a chunk that begins so.
fn unpacked_size(header: &[u8], length: u64) -> Option<u64> {
    let (sizes, name) = header.split_at(28);
    let known = [&b"\x04\0\0\0zstd"[..], b"\0\0\0\0"];
    let rest = known.iter().find_map(|known| name.strip_prefix(*known))?;
    let packed = u64::from_le_bytes(*rest.first_chunk()?);
    let before = 28 + name.len() - rest.len() + 8;
    let unpacked = u64::from_le_bytes(*sizes[16..].first_chunk()?);
    let fits = packed == length.saturating_sub(before as u64) && unpacked <= RECORD_LIMIT as u64;
    fits.then_some(unpacked)
}

/// A piece of a hot segment.
pub(super) enum Piece {
    /// Up to a checkpoint it is what was written.
    Proven(Stretch),
    /// Something before this checkpoint is not what was written.
    Damaged(Checkpoint),
    /// No checkpoint follows that could tell.
    Open,
}

/// Judges the pieces of a segment, one after the other.
#[derive(Default)]
pub(super) struct Judge {
    /// What was read last. More pieces may be in it, or the beginning of one.
    block: Block,
}

impl Judge {
    /// Judges the piece that begins at `from`, where the checksum of all before it is `crc`.
    pub(super) fn judge(
        &mut self,
        file: &File,
        from: u64,
        crc: u32,
        rooms: &mut Rooms,
    ) -> io::Result<Piece> {
        let mut places = Places::of_checkpoints(file, from, crc, rooms);
        places.begin_with(mem::take(&mut self.block));
        let Some(proof) = behind_records(&mut places, from)? else {
            return among_all(&mut Places::of_checkpoints(file, from, crc, rooms), from);
        };
        self.block = places.block;
        let block = &self.block;
        Ok(Piece::Proven(match block.index(from) {
            Some(at) => Stretch::in_memory(from, proof, block.bytes.clone(), at),
            None => Stretch::new(from, proof),
        }))
    }
}

/// The checkpoint to which records lead that follow each other, if it proves them. The search ends with the
/// first thing that is no record of a hot segment.
fn behind_records(places: &mut Places<'_>, from: u64) -> io::Result<Option<Checkpoint>> {
    let mut place = from;
    while let Some(record) = places.at(place)? {
        let Some((opcode, length)) = record_header(record) else { break };
        // The one before this piece is a part of it.
        if opcode == CHECKPOINT && place > from {
            let checkpoint = checkpoint_at(place, record);
            return Ok(checkpoint.filter(|found| places.checksum() == Some(found.crc)));
        }
        if !is_of_hot(opcode) || length > RECORD_LIMIT as u64 {
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
            return Ok(Piece::Proven(Stretch::new(from, checkpoint)));
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
    let (_, length) = record_header(record)?;
    let checkpoint = Checkpoint::from_bytes(&record[RECORD_HEADER_SIZE..])?;
    (checkpoint.offset == place && length >= Checkpoint::SIZE as u64).then_some(checkpoint)
}

/// A part of a file that was read.
#[derive(Default)]
struct Block {
    /// Where it begins.
    start: u64,
    bytes: Bytes,
    /// So many of the bytes have been read.
    filled: usize,
}

impl Block {
    /// Which byte stands at that place, if it was read, or would be the next one.
    fn index(&self, place: u64) -> Option<usize> {
        let index = usize::try_from(place.checked_sub(self.start)?).ok()?;
        (index <= self.filled).then_some(index)
    }

    /// Reads on behind what was read, of which all before `from` is not needed any more. False if the file has
    /// ended.
    fn read_on(&mut self, file: &File, from: usize, rooms: &mut Rooms) -> io::Result<bool> {
        let needed = from..self.filled;
        let mut bytes = match mem::take(&mut self.bytes).try_into_mut() {
            Ok(mut own) => {
                if from > 0 {
                    own.copy_within(needed.clone(), 0);
                }
                own
            }
            // Others have parts of it.
            Err(shared) => {
                let mut own = rooms.take_filled((needed.len() + STEP).max(BLOCK + STEP));
                own[..needed.len()].copy_from_slice(&shared[needed.clone()]);
                rooms.leave(shared);
                own
            }
        };
        (self.start, self.filled) = (self.start + from as u64, needed.len());
        let until = BLOCK.max(self.filled + STEP);
        if bytes.len() < until {
            bytes.resize(until, 0);
        }
        let end = self.start + self.filled as u64;
        let read = read_at(file, end, &mut bytes[self.filled..until])?;
        self.filled += read;
        self.bytes = bytes.freeze();
        Ok(read > 0)
    }
}

type Find = fn(&[u8]) -> Option<usize>;

/// The places of a file at which an opcode may stand, each with as many bytes as were asked for.
struct Places<'f> {
    /// Where in some bytes the next one is.
    find: Find,
    size: usize,
    file: &'f File,
    rooms: &'f mut Rooms,
    block: Block,
    /// What the block has from here on is kept,
    from: usize,
    /// while it is less than this.
    most: usize,
    /// So much of the block has been searched.
    at: usize,
    /// If it is asked for: that of all before the block,
    checksum: Option<Hasher>,
    /// and of so much of the block.
    summed: usize,
}

impl<'f> Places<'f> {
    fn of(find: Find, size: usize, file: &'f File, from: u64, rooms: &'f mut Rooms) -> Self {
        let block = Block { start: from, ..Block::default() };
        let (from, most, at, checksum, summed) = (0, 0, 0, None, 0);
        Self { find, size, file, rooms, block, from, most, at, checksum, summed }
    }

    /// Those of checkpoints, with the checksum of what is before them, which is `crc` at `from`.
    fn of_checkpoints(file: &'f File, from: u64, crc: u32, rooms: &'f mut Rooms) -> Self {
        let size = RECORD_HEADER_SIZE + Checkpoint::SIZE;
        let places = Self::of(|bytes| memchr::memchr(CHECKPOINT, bytes), size, file, from, rooms);
        Self { checksum: Some(Hasher::new_with_initial(crc)), ..places }
    }

    /// Begins with what was read before, and keeps what is read, if it is not much.
    fn begin_with(&mut self, read: Block) {
        self.most = KEPT;
        if let Some(from) = read.index(self.block.start) {
            (self.block, self.from, self.at, self.summed) = (read, from, from, from);
        }
    }

    /// The next place where the opcode stands.
    fn next(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        loop {
            let Block { start, bytes, .. } = &self.block;
            let whole = self.whole();
            let rest = bytes.get(self.at..whole).unwrap_or_default();
            if let Some(found) = (self.find)(rest) {
                let at = self.at + found;
                self.at = at + 1;
                return Ok(Some((start + at as u64, bytes[at..at + self.size].to_vec())));
            }
            self.at = self.at.max(whole);
            if !self.read_on()? {
                return Ok(None);
            }
        }
    }

    /// What stands at a place, whatever it is, that is not before the last one; None if the file ends there.
    fn at(&mut self, place: u64) -> io::Result<Option<&[u8]>> {
        loop {
            let at = place - self.block.start;
            if at < self.whole() as u64 {
                let at = at as usize;
                self.at = at + 1;
                return Ok(Some(&self.block.bytes[at..at + self.size]));
            }
            if !self.read_on()? {
                return Ok(None);
            }
        }
    }

    /// At so many places of the block all is there that was asked for.
    fn whole(&self) -> usize {
        self.block.filled.saturating_sub(self.size - 1)
    }

    /// Goes on with the next part of the file. False if the file has ended.
    fn read_on(&mut self) -> io::Result<bool> {
        if self.block.filled - self.from >= self.most {
            self.from = self.whole();
            self.sum(self.from);
        }
        let passed = mem::take(&mut self.from);
        self.at = self.at.saturating_sub(passed);
        self.summed -= passed;
        self.block.read_on(self.file, passed, self.rooms)
    }

    /// The checksum of all before the place that was found last, if it is asked for.
    fn checksum(&mut self) -> Option<u32> {
        self.sum(self.at - 1);
        self.checksum.clone().map(Hasher::finalize)
    }

    fn sum(&mut self, until: usize) {
        if let Some(checksum) = &mut self.checksum {
            checksum.update(&self.block.bytes[self.summed..until]);
        }
        self.summed = until;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail anywhere")]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::capture::stretch::Next;

    /// A hot segment of pieces, each of so many messages of so many bytes. What is in a message could be
    /// checkpoints.
    fn segment_of(pieces: &[(usize, usize)]) -> (File, Vec<u8>) {
        let (mut bytes, mut summed, mut checksum) = (Vec::new(), 0, Hasher::new());
        let mut entries = 0;
        for &(messages, size) in pieces {
            for _ in 0..messages {
                bytes.push(op::MESSAGE);
                bytes.extend((size as u64).to_le_bytes());
                bytes.extend(std::iter::repeat_n(CHECKPOINT, size));
                entries += 1;
            }
            let offset = bytes.len() as u64;
            checksum.update(&bytes[summed..]);
            summed = bytes.len();
            let crc = checksum.clone().finalize();
            Checkpoint { offset, entries, crc }.write_to(&mut bytes);
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        (file, bytes)
    }

    /// The bytes of the records of all pieces, as they are read when each is proven, and how many pieces.
    fn read(file: &File) -> (Vec<u8>, usize) {
        let (mut judge, mut rooms) = (Judge::default(), Rooms::new(4));
        let (mut found, mut pieces) = (Vec::new(), 0);
        let (mut from, mut crc) = (0, 0);
        while let Piece::Proven(mut stretch) = judge.judge(file, from, crc, &mut rooms).unwrap() {
            while let Next::Record(opcode, span) = stretch.next(file, &mut rooms).unwrap() {
                found.push(opcode);
                found.extend((span.len() as u64).to_le_bytes());
                found.extend_from_slice(&stretch.block()[span]);
            }
            (from, crc) = (stretch.proof().offset, stretch.proof().crc);
            assert_eq!(found.len() as u64, from);
            pieces += 1;
        }
        (found, pieces)
    }

    #[test]
    fn pieces_of_any_size_are_proven_and_read() {
        let one = |size: usize| (1, size - RECORD_HEADER_SIZE);
        let around = |size: usize| (size - 40..size + 40).map(one);
        let mut pieces = vec![(0, 0), (1, 0), (1, 1), (200, 1000), (300, 1000), (1, 5), (5, 7)];
        pieces.extend([(4000, 1000), (1, 3 * KEPT), (1, 30), (3000, 20), (0, 0)]);
        pieces.extend(around(BLOCK).chain(around(STEP)).chain(std::iter::repeat_n((7, 30), 3000)));
        pieces.extend(around(KEPT).step_by(9));
        let (file, bytes) = segment_of(&pieces);
        let (found, proven) = read(&file);
        // Nothing proves the last checkpoint.
        let whole = bytes.len() - RECORD_HEADER_SIZE - Checkpoint::SIZE;
        assert!(found == bytes[..whole]);
        // Before the first one there is no piece.
        assert_eq!(proven, pieces.len() - 1);
    }

    #[test]
    fn a_wrong_bit_in_a_message_costs_the_piece_that_it_is_in() {
        const OF_CHECKPOINT: usize = RECORD_HEADER_SIZE + Checkpoint::SIZE;

        let (_, bytes) = segment_of(&[(2, 10), (3, 5), (2, 20)]);
        let first = 2 * (RECORD_HEADER_SIZE + 10);
        let second = first + OF_CHECKPOINT + 3 * (RECORD_HEADER_SIZE + 5);
        for at in (0..first).chain(first + OF_CHECKPOINT..second) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&damaged).unwrap();
            let (mut judge, mut rooms) = (Judge::default(), Rooms::new(4));
            let (mut from, mut crc) = (0, 0);
            if at > first {
                let piece = judge.judge(&file, from, crc, &mut rooms).unwrap();
                let Piece::Proven(stretch) = piece else { panic!("bit at {at}") };
                (from, crc) = (stretch.proof().offset, stretch.proof().crc);
                assert_eq!(from, first as u64);
            }
            let piece = judge.judge(&file, from, crc, &mut rooms).unwrap();
            let end = if at > first { second } else { first } as u64;
            assert!(matches!(piece, Piece::Damaged(behind) if behind.offset == end), "bit at {at}");
        }
    }
}
