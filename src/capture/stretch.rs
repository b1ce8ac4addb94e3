//! A piece of a hot segment that is proven: what is in it is what was written. It is read by blocks, of which
//! records are parts: nothing is copied, and no more than a block is kept with what is kept of it. As a rule it
//! is one block, and stayed in memory when it was proven.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    mem,
    ops::Range,
};

use bytes::Bytes;

use super::{
    RECORD_HEADER_SIZE, RECORD_LIMIT,
    hot::{Checkpoint, PIECE_SIZE},
    record::record_header,
    rooms::Rooms,
};

/// How much is read at once, if no record is larger.
const BLOCK_SIZE: usize = PIECE_SIZE as usize;

/// A proven piece that is being read.
pub(super) struct Stretch {
    start: u64,
    /// The checkpoint behind it: what proves it. It does not begin before `place`.
    proof: Checkpoint,
    block: Bytes,
    /// So much of the block is a part of it.
    filled: usize,
    /// Where in the block the next record begins,
    at: usize,
    /// and where in the file.
    place: u64,
}

/// What comes next in a stretch.
pub(super) enum Next {
    /// A record: its opcode, and where in the block is what is in it.
    Record(u8, Range<usize>),
    /// Nothing that could be a record, whatever proves it.
    Nonsense(String),
    End,
}

impl Stretch {
    pub(super) const fn new(start: u64, proof: Checkpoint) -> Self {
        Self { start, proof, block: Bytes::new(), filled: 0, at: 0, place: start }
    }

    /// One that is in memory: it begins there in the block.
    pub(super) const fn in_memory(start: u64, proof: Checkpoint, block: Bytes, at: usize) -> Self {
        let filled = at + (proof.offset - start) as usize;
        Self { start, proof, block, filled, at, place: start }
    }

    /// Where it begins.
    pub(super) const fn start(&self) -> u64 {
        self.start
    }

    /// The checkpoint behind it.
    pub(super) const fn proof(&self) -> Checkpoint {
        self.proof
    }

    /// What is left of it when all before that place was read otherwise.
    pub(super) fn behind(self, place: u64) -> Option<Self> {
        if place > self.proof.offset {
            return None;
        }
        let at = self.at as u64 + place.checked_sub(self.place)?;
        Some(match usize::try_from(at) {
            Ok(at) if at <= self.filled => Self { start: place, at, place, ..self },
            _ => Self::new(place, self.proof),
        })
    }

    /// What the next record is a part of, after it was read.
    pub(super) const fn block(&self) -> &Bytes {
        &self.block
    }

    /// Reads on, into memory of before if there is some.
    #[inline]
    pub(super) fn next(&mut self, file: &File, rooms: &mut Rooms) -> io::Result<Next> {
        loop {
            let rest = &self.block[self.at..self.filled];
            let header = record_header(rest);
            let length = header.map_or(0, |(_, length)| length);
            let size = length.saturating_add(RECORD_HEADER_SIZE as u64);
            if let Some((opcode, _)) = header
                && size <= rest.len() as u64
            {
                let start = self.at + RECORD_HEADER_SIZE;
                (self.at, self.place) = (self.at + size as usize, self.place + size);
                return Ok(Next::Record(opcode, start..self.at));
            }
            let left = self.proof.offset - self.place;
            if left == 0 {
                return Ok(Next::End);
            }
            if size > left.min(RECORD_LIMIT as u64) {
                let reason = format!("a record of {size} bytes reaches past what proves it");
                return Ok(Next::Nonsense(reason));
            }
            self.read(file, size.max(BLOCK_SIZE as u64).min(left), rooms)?;
        }
    }

    /// Reads on from the next record.
    fn read(&mut self, file: &File, size: u64, rooms: &mut Rooms) -> io::Result<()> {
        let read = mem::take(&mut self.block);
        // One that is far larger than others is hardly ever needed again.
        if read.len() <= 2 * BLOCK_SIZE {
            rooms.leave(read);
        }
        let size = size as usize;
        let mut block = rooms.take_filled(size);
        let mut filled = 0;
        while filled < size {
            let read = read_at(file, self.place + filled as u64, &mut block[filled..size])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
        }
        (self.block, self.filled, self.at) = (block.freeze(), filled, 0);
        Ok(())
    }
}

/// Reads what stands at a place, as much of it as comes at once. Zero if the file ends there.
pub(super) fn read_at(mut file: &File, place: u64, to: &mut [u8]) -> io::Result<usize> {
    file.seek(SeekFrom::Start(place))?;
    loop {
        match file.read(to) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail anywhere")]
mod tests {
    use std::io::Write;

    use super::*;

    /// A file with these records behind some bytes that are none.
    fn file_of(records: &[(u8, usize)]) -> (File, Stretch) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"magic").unwrap();
        let mut end = 5;
        for &(opcode, size) in records {
            file.write_all(&[opcode]).unwrap();
            file.write_all(&(size as u64).to_le_bytes()).unwrap();
            file.write_all(&vec![opcode; size]).unwrap();
            end += (RECORD_HEADER_SIZE + size) as u64;
        }
        (file, Stretch::new(5, Checkpoint { offset: end, entries: 0, crc: 0 }))
    }

    /// All records until something else comes, and what that says.
    fn read(file: &File, stretch: &mut Stretch) -> (Vec<(u8, usize)>, Option<String>) {
        let mut found = Vec::new();
        loop {
            match stretch.next(file, &mut Rooms::new(1)).unwrap() {
                Next::Record(opcode, span) => {
                    let data = &stretch.block()[span];
                    assert!(data.iter().all(|byte| *byte == opcode));
                    found.push((opcode, data.len()));
                }
                Next::Nonsense(reason) => return (found, Some(reason)),
                Next::End => return (found, None),
            }
        }
    }

    #[test]
    fn records_come_whole_wherever_a_block_ends() {
        let sizes = [0, 1, BLOCK_SIZE - 40, 7, 30, BLOCK_SIZE, 3 * BLOCK_SIZE, 0, 5];
        let records: Vec<_> = (1..).zip(sizes).collect();
        let (file, mut stretch) = file_of(&records);
        assert_eq!(read(&file, &mut stretch), (records.clone(), None));

        let place = 5 + (2 * RECORD_HEADER_SIZE + 1) as u64;
        let end = stretch.proof().offset;
        let whole = || Stretch::new(5, stretch.proof());
        let in_memory = || {
            let mut block = vec![0; 7 + end as usize];
            read_at(&file, 5, &mut block[7..]).unwrap();
            Stretch::in_memory(5, stretch.proof(), block.into(), 7)
        };
        for stretch in [&whole as &dyn Fn() -> Stretch, &in_memory] {
            assert_eq!(read(&file, &mut stretch()), (records.clone(), None));
            let mut rest = stretch().behind(place).unwrap();
            assert_eq!(read(&file, &mut rest), (records[2..].to_vec(), None));
            assert!(stretch().behind(end).is_some());
            assert!(stretch().behind(end + 1).is_none());
        }
    }

    #[test]
    fn a_record_that_reaches_past_the_proof_is_nonsense() {
        let (file, whole) = file_of(&[(1, 10), (2, 10)]);
        for missing in 1..=2 * RECORD_HEADER_SIZE as u64 {
            let proof = Checkpoint { offset: whole.proof().offset - missing, ..whole.proof() };
            let (found, reason) = read(&file, &mut Stretch::new(5, proof));
            assert_eq!(found, [(1, 10)]);
            assert!(reason.unwrap().contains("reaches past what proves it"));
        }
    }

    #[test]
    fn a_file_that_has_become_shorter_is_an_error() {
        let (file, mut stretch) = file_of(&[(1, 10)]);
        file.set_len(20).unwrap();
        assert!(stretch.next(&file, &mut Rooms::new(1)).is_err());
    }
}
