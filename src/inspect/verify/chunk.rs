//! Chunks: unpacked as a whole where they are small, as all that we write are but for those with a large
//! frame; else piece by piece, so that none of them makes us hold much.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
};

use mcap::records::op;

use super::records::{HEAD_SIZE, Head, Summed};
use crate::capture::RECORD_LIMIT;

/// A chunk whose content is larger is not held.
pub(in crate::inspect) const CONTENT_SIZE: u64 = 4 * 1024 * 1024;

/// The largest window of zstd that is taken, as a power of two: the levels that we write need no more.
const WINDOW_LOG: u32 = 23;

/// How much of a file is read at once, where a chunk is not held.
const READ_SIZE: usize = 128 * 1024;

/// Times, size, checksum, the length of the compression's name; without that name, and without the length
/// of what is packed.
const FIXED: usize = 8 + 8 + 8 + 4 + 4;

/// The longest name of a compression that is looked at.
const NAME_LIMIT: usize = 16;

/// So many bytes of a chunk are enough to know what it says.
const HEADER_LIMIT: usize = FIXED + NAME_LIMIT + 8;

/// What a chunk says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::inspect) struct Header {
    pub first: u64,
    pub last: u64,
    /// Of its content.
    pub size: u64,
    pub crc: u32,
    pub compression: String,
    /// Of its content as it is in the file.
    pub packed: u64,
    /// Its own size: where in the record the content begins.
    pub own: u64,
}

impl Header {
    /// Reads the beginning of a chunk's record.
    pub(in crate::inspect) fn read(data: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(*data.get(at..)?.first_chunk()?));
        let short = |at: usize| Some(u32::from_le_bytes(*data.get(at..)?.first_chunk()?));
        let length = short(28)? as usize;
        if length > NAME_LIMIT {
            return None;
        }
        let name = data.get(FIXED..FIXED + length)?;
        Some(Self {
            first: number(0)?,
            last: number(8)?,
            size: number(16)?,
            crc: short(24)?,
            compression: String::from_utf8(name.to_vec()).ok()?,
            packed: number(FIXED + length)?,
            own: (FIXED + length + 8) as u64,
        })
    }

    /// What is wrong with it in a record of that length: what was expected, and what was found.
    pub(in crate::inspect) fn fault(&self, length: u64) -> Option<(String, String)> {
        if !matches!(&*self.compression, "" | "zstd") {
            let expected = "a chunk that is compressed with zstd, or not at all".to_owned();
            return Some((expected, format!("{:?}", self.compression)));
        }
        if self.size > RECORD_LIMIT as u64 {
            let expected = format!("a chunk of at most {RECORD_LIMIT} bytes");
            return Some((expected, self.size.to_string()));
        }
        let room = length.saturating_sub(self.own);
        (self.packed != room)
            .then(|| (format!("a chunk with {room} bytes in its record"), self.packed.to_string()))
    }
}

/// Unpacks chunks, one after the other.
#[derive(Default)]
pub(in crate::inspect) struct Unpacker {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl Unpacker {
    /// What is in a chunk that is small enough to be held, in this memory; or what is wrong with it.
    pub(in crate::inspect) fn unpack(
        &mut self,
        header: &Header,
        packed: &[u8],
        content: &mut Vec<u8>,
    ) -> Result<(), (String, String)> {
        let unpackable = |error: io::Error| {
            ("a chunk that can be unpacked".to_owned(), format!("one that cannot be: {error}"))
        };
        content.clear();
        if header.compression.is_empty() {
            content.extend_from_slice(packed);
        } else {
            let zstd = match &mut self.zstd {
                Some(zstd) => zstd,
                none => none.insert(zstd::bulk::Decompressor::new().map_err(unpackable)?),
            };
            content.reserve(header.size as usize);
            zstd.decompress_to_buffer(packed, content).map_err(unpackable)?;
        }
        proven(header, content.len() as u64, crc32fast::hash(content))
    }
}

/// Holds what was unpacked against what the chunk says.
fn proven(header: &Header, size: u64, crc: u32) -> Result<(), (String, String)> {
    if size != header.size {
        return Err((format!("a chunk of {} bytes", header.size), size.to_string()));
    }
    if header.crc == 0 && size > 0 {
        return Err((format!("the checksum {crc:#010x} of a chunk"), "none".to_owned()));
    }
    if crc != header.crc {
        let expected = format!("the checksum {:#010x} of a chunk", header.crc);
        return Err((expected, format!("{crc:#010x}")));
    }
    Ok(())
}

/// A chunk's content, piece by piece.
pub(in crate::inspect) enum Content<'f> {
    Plain(io::Take<BufReader<&'f mut File>>),
    Zstd(Box<Unpacking<'f>>),
}

type Unpacking<'f> =
    BufReader<io::Take<zstd::stream::read::Decoder<'static, io::Take<BufReader<&'f mut File>>>>>;

impl<'f> Content<'f> {
    /// That of the chunk whose record begins there.
    pub(in crate::inspect) fn of(
        file: &'f mut File,
        offset: u64,
        header: &Header,
    ) -> io::Result<Self> {
        file.seek(SeekFrom::Start(offset + HEAD_SIZE + header.own))?;
        let packed = BufReader::with_capacity(READ_SIZE, file).take(header.packed);
        if header.compression.is_empty() {
            return Ok(Self::Plain(packed));
        }
        let mut content = zstd::stream::read::Decoder::with_buffer(packed)?;
        content.window_log_max(WINDOW_LOG)?;
        // One byte more than there should be is enough to see that it is too much.
        let content = content.take(header.size + 1);
        Ok(Self::Zstd(Box::new(BufReader::with_capacity(READ_SIZE, content))))
    }

    /// Whether all of it is what the chunk says; or what is wrong with it. Nothing of it is kept. The
    /// error of reading the file is not told apart from that of unpacking.
    pub(in crate::inspect) fn prove(self, header: &Header) -> Result<(), (String, String)> {
        let mut content = Summed::new(self);
        let mut size = 0;
        loop {
            match content.fill_buf().map(<[u8]>::len) {
                Ok(0) => break,
                Ok(count) => {
                    size += count as u64;
                    content.consume(count);
                }
                Err(error) => {
                    let found = format!("one that cannot be: {error}");
                    return Err(("a chunk that can be unpacked".to_owned(), found));
                }
            }
        }
        proven(header, size, content.crc())
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(content) => content.read(buffer),
            Self::Zstd(content) => content.read(buffer),
        }
    }
}

impl BufRead for Content<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self {
            Self::Plain(content) => content.fill_buf(),
            Self::Zstd(content) => content.fill_buf(),
        }
    }

    fn consume(&mut self, count: usize) {
        match self {
            Self::Plain(content) => content.consume(count),
            Self::Zstd(content) => content.consume(count),
        }
    }
}

/// What the record that begins there says, if it is a chunk.
pub(in crate::inspect) fn header_at(
    file: &mut File,
    offset: u64,
) -> io::Result<Option<(Head, Header)>> {
    let mut data = Vec::new();
    file.seek(SeekFrom::Start(offset))?;
    file.take(HEAD_SIZE + HEADER_LIMIT as u64).read_to_end(&mut data)?;
    Ok(parsed(&data, offset))
}

fn parsed(data: &[u8], offset: u64) -> Option<(Head, Header)> {
    let (head, data) = data.split_first_chunk::<{ HEAD_SIZE as usize }>()?;
    let [opcode, length @ ..] = *head;
    let head = Head { opcode, offset, length: u64::from_le_bytes(length) };
    let header = Header::read(data).filter(|_| opcode == op::CHUNK)?;
    Some((head, header))
}

/// The search for the next whole chunk behind a place at which there is no record.
#[derive(Default)]
pub(in crate::inspect) struct Search {
    in_vain: u64,
}

/// Beyond what the file has itself, so much may be unpacked in vain. Whoever made up a file of beginnings of
/// chunks does not keep us for ever.
const UNPACKED_IN_VAIN: u64 = 1024 * 1024 * 1024;

impl Search {
    /// Where it begins, at `from` or behind it, in a file of that size.
    pub(in crate::inspect) fn next_chunk(
        &mut self,
        file: &mut File,
        size: u64,
        from: u64,
    ) -> io::Result<Option<u64>> {
        const OVERLAP: u64 = HEAD_SIZE + HEADER_LIMIT as u64;

        let mut start = from;
        let mut block = Vec::new();
        while start < size {
            block.clear();
            file.seek(SeekFrom::Start(start))?;
            file.take(READ_SIZE as u64 + OVERLAP).read_to_end(&mut block)?;
            let searched = block.len().min(READ_SIZE);
            for at in memchr::memchr_iter(op::CHUNK, &block[..searched]) {
                let offset = start + at as u64;
                let Some((head, header)) = parsed(&block[at..], offset) else { continue };
                if head.end() > size || header.crc == 0 || header.fault(head.length).is_some() {
                    continue;
                }
                if Content::of(file, offset, &header)?.prove(&header).is_ok() {
                    return Ok(Some(offset));
                }
                self.in_vain = self.in_vain.saturating_add(header.size);
                if self.in_vain > size.saturating_add(UNPACKED_IN_VAIN) {
                    return Ok(None);
                }
            }
            start += searched as u64;
            if searched == 0 {
                break;
            }
        }
        Ok(None)
    }
}
