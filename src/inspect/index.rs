//! A profile of what the index of a capture says, for captures that take long to read.
//!
//! The index of a chunk has the time and the place of each message in it, so how many frames each
//! subscription has, how large they are and when they came can be had without unpacking. Unpacked are only
//! chunks with session events in them, and those in which a channel is declared: what is between two
//! messages there is not one of them alone.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    mem,
    sync::Arc,
};

use mcap::records::{ChunkIndex, MetadataIndex, Record, op};

use super::{
    Fold, Sizes, Span,
    verify::{
        chunk::{Content, header_at},
        records::{HEAD_SIZE, Next, Records},
    },
};
use crate::{
    capture::{Capture, MESSAGE_HEADER_SIZE, PROFILE, Summary},
    entry::{Entry, FrameType, Subscription, Timestamp, What},
    error::Result,
    schema,
};

/// No index of a chunk is read that is larger, and no session event.
const LIMIT: u64 = 16 * 1024 * 1024;

/// Folds all segments. False: the index does not say enough.
pub(super) fn fold(capture: &Capture, fold: &mut Fold) -> Result<bool> {
    for (number, segment) in capture.segments().iter().enumerate() {
        let Some(summary) = segment.summary() else { return Ok(false) };
        let (file, _) = segment.open()?;
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        let mut indexed = Segment {
            number,
            file,
            size,
            spare: Vec::new(),
            channels: BTreeMap::new(),
            spans: Vec::new(),
            places: Vec::new(),
        };
        // What is cut or makes no sense is for whoever reads all of it.
        if !indexed.fold(&summary, fold).unwrap_or(false) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// One that is read by its index.
struct Segment {
    number: usize,
    file: File,
    size: u64,
    /// Memory that is used again.
    spare: Vec<u8>,
    /// Those that have come by.
    channels: BTreeMap<u16, Known>,
    /// The channels of one chunk, in the order in which it has their indexes, and from when to when their
    /// messages came.
    spans: Vec<(u16, Span)>,
    /// Where in the chunk its messages are; the lowest [`u16::BITS`] say whose, by the number in `spans`.
    places: Vec<u64>,
}

struct Known {
    subscription: Arc<Subscription>,
    /// None for session events.
    kind: Option<Arc<FrameType>>,
    row: usize,
}

impl Segment {
    fn fold(&mut self, summary: &Summary, fold: &mut Fold) -> io::Result<bool> {
        for index in &summary.metadata {
            if index.name == PROFILE {
                let Some(metadata) = self.metadata(index)? else { return Ok(false) };
                fold.about(&[metadata]);
            }
        }
        for chunk in &summary.chunks {
            let mut is_plain = true;
            for id in chunk.message_index_offsets.keys() {
                if !self.channels.contains_key(id) {
                    let Some((subscription, kind)) = summary.channels.get(id) else {
                        return Ok(false);
                    };
                    let (subscription, kind) = (Arc::clone(subscription), kind.clone());
                    let row = fold.row(&subscription);
                    self.channels.insert(*id, Known { subscription, kind, row });
                    is_plain = false;
                }
                is_plain &= self.channels[id].kind.is_some();
            }
            let is_read =
                if is_plain { self.index(chunk, fold)? } else { self.unpack(chunk, fold)? };
            if !is_read {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn metadata(&mut self, index: &MetadataIndex) -> io::Result<Option<mcap::records::Metadata>> {
        let Some(data) = self.bytes(index.offset, index.length)? else { return Ok(None) };
        let record = data.get(HEAD_SIZE as usize..).unwrap_or_default();
        Ok(match mcap::parse_record(op::METADATA, record) {
            Ok(Record::Metadata(metadata)) => Some(metadata),
            _ => None,
        })
    }

    /// So many bytes of the file, None if they are too many.
    fn bytes(&mut self, offset: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
        if length > LIMIT || offset.saturating_add(length) > self.size {
            return Ok(None);
        }
        let mut data = mem::take(&mut self.spare);
        data.resize(length as usize, 0);
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.read_exact(&mut data)?;
        Ok(Some(data))
    }

    /// The frames of a chunk as its indexes have them.
    fn index(&mut self, chunk: &ChunkIndex, fold: &mut Fold) -> io::Result<bool> {
        let place = chunk.chunk_start_offset.saturating_add(chunk.chunk_length);
        let Some(data) = self.bytes(place, chunk.message_index_length)? else { return Ok(false) };
        let is_read = self.places(&data, fold).is_some();
        self.spare = data;
        Ok(is_read && self.sizes(chunk.uncompressed_size, fold).is_some())
    }

    /// When the messages of a chunk came, and where in it they are. None: its indexes make no sense.
    fn places(&mut self, mut indexes: &[u8], fold: &mut Fold) -> Option<()> {
        self.places.clear();
        self.spans.clear();
        while !indexes.is_empty() {
            let (id, entries) = message_index(&mut indexes)?;
            let row = self.channels.get(&id)?.row;
            let nth = u64::from(u16::try_from(self.spans.len()).ok()?);
            let (mut first, mut last, mut highest) = (u64::MAX, 0, 0);
            self.places.extend(entries.iter().map(|entry| {
                let [time, place] = numbers(entry);
                (first, last, highest) = (first.min(time), last.max(time), highest.max(place));
                place << u16::BITS | nth
            }));
            if entries.is_empty() {
                continue;
            }
            if highest >= 1 << (u64::BITS - u16::BITS) {
                return None;
            }
            let [first, last] = [first, last].map(Timestamp::from_nanos);
            let span = Span { first, last };
            if !fold.timeline.count_all(row, span, entries.len() as u64) {
                for entry in entries {
                    fold.timeline.count(row, Timestamp::from_nanos(numbers(entry)[0]));
                }
            }
            self.spans.push((id, span));
        }
        Some(())
    }

    /// How large those messages are: each ends where the next one begins.
    #[expect(
        clippy::stable_sort_primitive,
        reason = "it makes use of runs that are in order already"
    )]
    fn sizes(&mut self, end: u64, fold: &mut Fold) -> Option<()> {
        // Those of each channel are.
        self.places.sort();
        let spans = self.spans.iter();
        let mut sizes: Vec<_> = spans.map(|(_, span)| Sizes::none_in(*span)).collect();
        let ends = self.places.iter().skip(1).map(|next| next >> u16::BITS).chain([end]);
        for (place, end) in self.places.iter().zip(ends) {
            let start = (place >> u16::BITS) + HEAD_SIZE + MESSAGE_HEADER_SIZE as u64;
            let size = end.checked_sub(start)?;
            sizes[usize::from(*place as u16)].add(size);
        }
        for ((id, _), sizes) in self.spans.iter().zip(sizes) {
            let Known { kind, row, .. } = &self.channels[id];
            fold.frames(self.number, *row, kind.as_ref()?, &sizes);
        }
        Some(())
    }

    /// The same of a chunk as it is, with the session events in it.
    fn unpack(&mut self, chunk: &ChunkIndex, fold: &mut Fold) -> io::Result<bool> {
        let Some((head, header)) = header_at(&mut self.file, chunk.chunk_start_offset)? else {
            return Ok(false);
        };
        if header.fault(head.length).is_some() {
            return Ok(false);
        }
        let content = Content::of(&mut self.file, head.offset, &header)?;
        let mut records = Records::new(content, 0);
        while let Next::Record(head) = records.next()? {
            if head.opcode == op::MESSAGE
                && let Some([id_low, id_high, _, _, _, _, times @ ..]) =
                    records.bytes::<MESSAGE_HEADER_SIZE>()?
            {
                let id = u16::from_le_bytes([id_low, id_high]);
                let Some(known) = self.channels.get(&id) else { return Ok(false) };
                let received = times.first_chunk().map_or(0, |time| u64::from_le_bytes(*time));
                let received = Timestamp::from_nanos(received);
                if let Some(kind) = &known.kind {
                    fold.timeline.count(known.row, received);
                    let sizes = Sizes::of(records.rest(), received);
                    fold.frames(self.number, known.row, kind, &sizes);
                } else if records.rest() <= LIMIT {
                    let Ok(event) = schema::session_event(&records.all()?) else {
                        return Ok(false);
                    };
                    let subscription = Arc::clone(&known.subscription);
                    let entry = Entry { subscription, received, what: What::Event(event) };
                    fold.entry(self.number, &entry);
                }
            }
            if !records.skip()? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Takes the index of a channel: whose it is, and its messages.
fn message_index<'d>(from: &mut &'d [u8]) -> Option<(u16, &'d [[u8; 16]])> {
    let (head, data) = from.split_first_chunk::<{ HEAD_SIZE as usize }>()?;
    let [op::MESSAGE_INDEX, length @ ..] = *head else { return None };
    let length = usize::try_from(u64::from_le_bytes(length)).ok()?;
    let (record, rest) = data.split_at_checked(length)?;
    *from = rest;
    let (id, record) = record.split_first_chunk()?;
    let (_, entries) = record.split_first_chunk::<4>()?;
    Some((u16::from_le_bytes(*id), entries.as_chunks().0))
}

/// The time and the place of a message.
fn numbers(entry: &[u8; 16]) -> [u64; 2] {
    let number = |at| u64::from_le_bytes(std::array::from_fn(|byte| entry[at + byte]));
    [number(0), number(8)]
}
