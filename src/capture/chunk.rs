//! A chunk of a sealed segment: unpacked as a whole, checked, then read record by record.
//!
//! What it says about its size makes no memory be touched: only what really is in it does. It is
//! refused if that is more or less than it says, or not what its checksum is of.

use std::{
    collections::VecDeque,
    mem,
    ops::Range,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use mcap::records::{ChunkHeader, Record, op};

use super::{RECORD_HEADER_SIZE, RECORD_LIMIT, record::record_header, rooms::Rooms};
use crate::threads::locked;

/// What a chunk has but the name of its compression, and its content: two times, a size, a checksum and two
/// lengths.
const HEADER_OF_CHUNK: usize = 8 + 8 + 8 + 4 + 4 + 8;

/// What many readers of one capture have unpacked. Whoever comes to a chunk that another one still has
/// shares it: however many they are, a chunk is unpacked about once, and is in memory once. Whoever is alone
/// keeps nothing for others, and uses its own memory again, which is quicker.
#[derive(Debug, Default)]
pub struct Unpacked {
    readers: AtomicUsize,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    /// All that somebody may have.
    known: Vec<(Packed, Weak<Content>)>,
    /// The last ones, for those who come a little later.
    latest: VecDeque<Arc<Content>>,
}

/// Which chunk it is: what its header says, and a checksum of what is packed. Where only that differs, one
/// of them is damaged, and has to be damaged for everybody.
#[derive(Debug, PartialEq, Eq)]
struct Packed {
    header: ChunkHeader,
    checksum: u32,
}

/// So many are kept though nobody reads them, if they are not larger than chunks usually are.
const LATEST: usize = 8;
const LARGE: usize = 4 * 1024 * 1024;

/// What is in a chunk, as soon as the first one who wants it has unpacked it.
#[derive(Debug, Default)]
struct Content(OnceLock<Result<Vec<u8>, String>>);

impl Unpacked {
    /// The content of a chunk.
    fn of(
        &self,
        header: &ChunkHeader,
        data: &[u8],
        unpack: impl FnOnce() -> Result<Vec<u8>, String>,
    ) -> Result<Bytes, String> {
        let packed = Packed { header: header.clone(), checksum: crc32fast::hash(data) };
        let content = locked(&self.shelf).content(packed);
        // Not under the lock: other chunks do not have to wait.
        content.0.get_or_init(unpack).as_ref().map_err(String::clone)?;
        Ok(Bytes::from_owner(Shared(content)))
    }
}

/// One of the readers of what is unpacked.
pub(super) struct Sharing(Arc<Unpacked>);

impl Sharing {
    pub(super) fn of(unpacked: &Arc<Unpacked>) -> Self {
        unpacked.readers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(unpacked))
    }

    /// What there is, if there are other readers.
    fn with_others(&self) -> Option<&Unpacked> {
        Some(&*self.0).filter(|unpacked| unpacked.readers.load(Ordering::Relaxed) > 1)
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shelf {
    fn content(&mut self, packed: Packed) -> Arc<Content> {
        let mut known = self.known.iter().filter(|(known, _)| *known == packed);
        if let Some(content) = known.find_map(|(_, content)| content.upgrade()) {
            return content;
        }
        let content = Arc::<Content>::default();
        self.known.retain(|(_, content)| content.strong_count() > 0);
        let is_usual = packed.header.uncompressed_size <= LARGE as u64;
        self.known.push((packed, Arc::downgrade(&content)));
        if is_usual {
            self.latest.truncate(LATEST - 1);
            self.latest.push_front(Arc::clone(&content));
        }
        content
    }
}

/// Content that was unpacked.
struct Shared(Arc<Content>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        match self.0.0.get() {
            Some(Ok(content)) => content,
            _ => &[],
        }
    }
}

/// The chunk that is being read.
pub(super) struct Chunk {
    sharing: Option<Arc<Sharing>>,
    unpacker: Option<zstd::bulk::Decompressor<'static>>,
    content: Bytes,
    /// The content belongs to others, too.
    is_shared: bool,
    /// Where the next record begins.
    at: usize,
    /// Much of it is messages: whoever keeps one of them may keep all of it.
    is_dense: bool,
    /// Earlier ones.
    rooms: Rooms,
}

/// So many chunks are looked after: in as many the frames lie that are being decoded.
const READ: usize = 8;

impl Default for Chunk {
    fn default() -> Self {
        Self {
            sharing: None,
            unpacker: None,
            content: Bytes::new(),
            is_shared: false,
            at: 0,
            is_dense: false,
            rooms: Rooms::new(READ),
        }
    }
}

impl Chunk {
    /// Unpacks nothing that another reader has unpacked already.
    pub(super) fn share(&mut self, sharing: Arc<Sharing>) {
        self.sharing = Some(sharing);
    }

    /// Takes a chunk record in place of the last one, or says what is wrong with it. Returns how many bytes of
    /// the record are none of its.
    pub(super) fn open(&mut self, record: &[u8]) -> Result<u64, String> {
        let read = mem::take(&mut self.content);
        if !self.is_shared {
            self.rooms.leave(read);
        }
        self.at = 0;
        let length = record.len();
        let record = mcap::parse_record(op::CHUNK, record).map_err(|error| error.to_string())?;
        let Record::Chunk { header, data } = record else {
            return Err("a chunk is none".to_owned());
        };
        let own = HEADER_OF_CHUNK + header.compression.len() + data.len();
        if header.uncompressed_size > RECORD_LIMIT as u64 {
            let size = header.uncompressed_size;
            return Err(format!("a chunk of {size} bytes is over the limit"));
        }
        let sharing = self.sharing.clone();
        let others = sharing.as_deref().and_then(Sharing::with_others);
        // Of what has no checksum, MCAP says 0.
        let others = others.filter(|_| header.uncompressed_crc != 0);
        self.is_shared = others.is_some();
        self.content = match others {
            Some(unpacked) => unpacked.of(&header, &data, || self.checked(&header, &data))?,
            None => self.checked(&header, &data)?.into(),
        };
        self.is_dense = is_dense(&self.content);
        Ok(length.saturating_sub(own) as u64)
    }

    fn checked(&mut self, header: &ChunkHeader, data: &[u8]) -> Result<Vec<u8>, String> {
        let content = self.unpack(header, data)?;
        let (expected, found) = (header.uncompressed_size, content.len());
        if found as u64 != expected {
            return Err(format!("a chunk of {expected} bytes has {found}"));
        }
        let expected = header.uncompressed_crc;
        let found = if expected == 0 { 0 } else { crc32fast::hash(&content) };
        if found != expected {
            return Err(format!(
                "the checksum of a chunk is {expected:#010x}, that of its content {found:#010x}"
            ));
        }
        Ok(content)
    }

    fn unpack(&mut self, header: &ChunkHeader, data: &[u8]) -> Result<Vec<u8>, String> {
        let unpackable = |error| format!("a chunk cannot be unpacked: {error}");
        match &*header.compression {
            "" => Ok(data.to_vec()),
            "zstd" => {
                let unpacker = match &mut self.unpacker {
                    Some(unpacker) => unpacker,
                    none => none.insert(zstd::bulk::Decompressor::new().map_err(unpackable)?),
                };
                let mut content = self.rooms.take();
                content.reserve(header.uncompressed_size as usize);
                unpacker.decompress_to_buffer(data, &mut content).map_err(unpackable)?;
                Ok(content)
            }
            other => Err(format!("a chunk is compressed with {other:?}")),
        }
    }

    /// Whether parts of it should be kept as such. Of others that would be far more memory than they have.
    pub(super) const fn is_dense(&self) -> bool {
        self.is_dense
    }

    /// All its records. Parts of it may be kept when it is no longer read.
    pub(super) const fn content(&self) -> &Bytes {
        &self.content
    }

    /// Where the next record begins.
    pub(super) const fn place(&self) -> usize {
        self.at
    }

    /// Whether it has no more records.
    pub(super) fn is_over(&self) -> bool {
        self.at >= self.content.len()
    }

    /// Reads on with the record that begins there.
    pub(super) fn go_to(&mut self, place: usize) {
        self.at = place.min(self.content.len());
    }

    /// The next record: its opcode and where in the content is what is in it. None when there are no
    /// more.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Result<(u8, Range<usize>), String>> {
        let rest = &self.content[self.at..];
        if rest.is_empty() {
            return None;
        }
        let record = record_header(rest).and_then(|(opcode, length)| {
            let data = rest[RECORD_HEADER_SIZE..].get(..usize::try_from(length).ok()?)?;
            Some((opcode, data.len()))
        });
        let start = self.at + RECORD_HEADER_SIZE;
        self.at = record.map_or(self.content.len(), |(_, length)| start + length);
        let record = record.map(|(opcode, length)| (opcode, start..start + length));
        Some(record.ok_or_else(|| "a record reaches past the end of its chunk".to_owned()))
    }
}

/// Whether a chunk is compressed with the other of MCAP's two ways. No damage makes of one name the other.
pub(super) fn is_lz4(record: &[u8]) -> bool {
    let record = mcap::parse_record(op::CHUNK, record);
    matches!(record, Ok(Record::Chunk { header, .. }) if header.compression == "lz4")
}

/// Whether at least a quarter of a chunk's content is in messages, or it is so small that it does not matter.
/// Looks at no more than tells.
fn is_dense(content: &[u8]) -> bool {
    const SMALL: usize = 64 * 1024;

    if content.len() <= SMALL {
        return true;
    }
    let (mut rest, mut messages) = (content, 0);
    while let Some((opcode, length)) = record_header(rest) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(size) = length.checked_add(RECORD_HEADER_SIZE) else { break };
        let Some((record, next)) = rest.split_at_checked(size) else { break };
        if opcode == op::MESSAGE {
            messages += record.len();
            if messages >= content.len() / 4 {
                return true;
            }
        }
        rest = next;
    }
    false
}
