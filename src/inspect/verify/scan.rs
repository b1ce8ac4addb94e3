//! A sealed file in pieces: as many records as are worth being handed on together, one chunk at most among
//! them, and that at the beginning. Only heads are looked at here.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
};

use mcap::records::op;

use super::{
    chunk,
    records::{HEAD_SIZE, Head},
};

/// So many bytes of a file are held together. A chunk of ours has less, but for one with a large frame.
const BATCH_SIZE: u64 = 2 * 1024 * 1024;

/// How much is read from the file at once.
const READ_SIZE: usize = 256 * 1024;

pub(super) const MAGIC_SIZE: u64 = mcap::MAGIC.len() as u64;

/// A piece of a file.
pub(super) enum Piece {
    Batch(Batch),
    /// A record that is too large to be held.
    Large(Head),
    /// What is there is no record; the next one that is found begins a chunk.
    Broken(Broken),
}

/// Records that follow each other.
#[derive(Default)]
pub(super) struct Batch {
    pub heads: Vec<Head>,
    /// All of their bytes.
    pub bytes: Vec<u8>,
}

impl Batch {
    /// Where the first record begins.
    pub(super) fn start(&self) -> u64 {
        self.heads.first().map_or(0, |head| head.offset)
    }

    /// What is in a record of it.
    pub(super) fn data(&self, head: Head) -> &[u8] {
        let start = (head.offset - self.start() + HEAD_SIZE) as usize;
        &self.bytes[start..start + head.length as usize]
    }

    fn push(&mut self, head: Head, data: &mut impl Read) -> io::Result<bool> {
        self.heads.push(head);
        self.bytes.push(head.opcode);
        self.bytes.extend_from_slice(&head.length.to_le_bytes());
        Ok(data.take(head.length).read_to_end(&mut self.bytes)? as u64 == head.length)
    }
}

/// A place at which there is no record.
pub(super) struct Broken {
    pub offset: u64,
    /// Where reading goes on; None if nowhere.
    pub until: Option<u64>,
    pub expected: &'static str,
    pub found: String,
}

/// Walks over a file.
pub(super) struct Scanner {
    file: BufReader<File>,
    size: u64,
    at: u64,
    /// The next record, whose head was read already.
    pending: Option<Head>,
    search: chunk::Search,
    is_over: bool,
}

impl Scanner {
    /// Begins behind the magic, with a file of that size.
    pub(super) fn new(mut file: File, size: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(MAGIC_SIZE))?;
        Ok(Self {
            file: BufReader::with_capacity(READ_SIZE, file),
            size,
            at: MAGIC_SIZE,
            pending: None,
            search: chunk::Search::default(),
            is_over: false,
        })
    }

    /// The next piece, in this memory.
    pub(super) fn next(&mut self, mut batch: Batch) -> io::Result<Option<Piece>> {
        batch.heads.clear();
        batch.bytes.clear();
        loop {
            let head = match self.head()? {
                Ok(Some(head)) => head,
                Ok(None) => break,
                Err(_) if !batch.heads.is_empty() => break,
                Err((expected, found)) => return self.broken(expected, found).map(Some),
            };
            let is_alone = matches!(head.opcode, op::DATA_END | op::FOOTER);
            let size = batch.bytes.len() as u64 + HEAD_SIZE + head.length;
            let begins = batch.heads.is_empty();
            if !begins && (is_alone || head.opcode == op::CHUNK || size > BATCH_SIZE) {
                break;
            }
            self.pending = None;
            self.at = head.end();
            if size > BATCH_SIZE {
                self.file.seek_relative(head.length as i64)?;
                return Ok(Some(Piece::Large(head)));
            }
            if !batch.push(head, &mut self.file)? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if is_alone {
                self.is_over = head.opcode == op::FOOTER;
                break;
            }
        }
        Ok((!batch.heads.is_empty()).then_some(Piece::Batch(batch)))
    }

    /// The head of the next record, None at the end. The error is what is wrong with it.
    #[allow(clippy::type_complexity, reason = "what was expected, and what was found")]
    fn head(&mut self) -> io::Result<Result<Option<Head>, (&'static str, String)>> {
        if self.is_over {
            return Ok(Ok(None));
        }
        if let Some(head) = self.pending {
            return Ok(Ok(Some(head)));
        }
        let left = self.size.saturating_sub(self.at);
        if left < HEAD_SIZE {
            return Ok(Err(("a footer", format!("the end of the file after {left} bytes"))));
        }
        let mut bytes = [0; HEAD_SIZE as usize];
        self.file.read_exact(&mut bytes)?;
        let [opcode, length @ ..] = bytes;
        let head = Head { opcode, offset: self.at, length: u64::from_le_bytes(length) };
        // No opcode is 0: where all is zero, nothing is a record.
        if opcode == 0 {
            self.file.seek_relative(-(HEAD_SIZE as i64))?;
            return Ok(Err(("a record", "opcode 0x00".to_owned())));
        }
        if head.end() > self.size {
            self.file.seek_relative(-(HEAD_SIZE as i64))?;
            let found = format!("opcode {opcode:#04x} with {} bytes, of {left}", head.length);
            return Ok(Err(("a record within the file", found)));
        }
        self.pending = Some(head);
        Ok(Ok(Some(head)))
    }

    /// Goes to where reading can go on.
    fn broken(&mut self, expected: &'static str, found: String) -> io::Result<Piece> {
        let offset = self.at;
        let until = self.search.next_chunk(self.file.get_mut(), self.size, offset + 1)?;
        match until {
            Some(place) => {
                self.file.seek(SeekFrom::Start(place))?;
                self.at = place;
            }
            None => self.is_over = true,
        }
        Ok(Piece::Broken(Broken { offset, until, expected, found }))
    }

    /// What is behind the footer: the magic, and nothing else. The error is what was found.
    pub(super) fn end(&mut self) -> io::Result<Result<(), String>> {
        let mut rest = Vec::new();
        (&mut self.file).take(MAGIC_SIZE).read_to_end(&mut rest)?;
        let more = !self.file.fill_buf()?.is_empty();
        Ok(match &rest[..] {
            magic if magic != mcap::MAGIC => Err("something else".to_owned()),
            _ if more => Err(format!("{} more", self.size.saturating_sub(self.at + MAGIC_SIZE))),
            _ => Ok(()),
        })
    }

    pub(super) const fn at(&self) -> u64 {
        self.at
    }
}
