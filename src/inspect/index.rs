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
    Fold, Sizes,
    verify::{
        chunk::{Content, header_at},
        records::{HEAD_SIZE, MESSAGE_HEAD, Next, Records},
    },
};
use crate::{
    capture::{Capture, PROFILE, Summary},
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
        let (channels, entries, spare) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut indexed = Segment { number, file, size, spare, channels, entries };
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
    /// The messages of one chunk.
    entries: Vec<Indexed>,
}

/// A message, as the index of its chunk has it.
#[derive(Clone, Copy)]
struct Indexed {
    /// Where in the chunk.
    place: u64,
    received: Timestamp,
    /// Whose it is: counted from 0, in the order in which the chunk has their indexes.
    channel: usize,
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
        self.entries.clear();
        let mut channels = Vec::new();
        let mut records = Records::new(&data[..], 0);
        while let Next::Record(head) = records.next()? {
            let Some([id_low, id_high, ..]) = records.bytes::<6>()? else { return Ok(false) };
            let known = self.channels.get(&u16::from_le_bytes([id_low, id_high]));
            let Some(known) = known.filter(|_| head.opcode == op::MESSAGE_INDEX) else {
                return Ok(false);
            };
            let entries = records.all()?;
            self.entries.extend(entries.as_chunks::<16>().0.iter().map(|entry| {
                let (time, place) = entry.split_at(8);
                let number = |part: &[u8]| part.first_chunk().map_or(0, |n| u64::from_le_bytes(*n));
                let received = Timestamp::from_nanos(number(time));
                Indexed { place: number(place), received, channel: channels.len() }
            }));
            channels.push((known, None::<Sizes>));
        }
        // Those of each channel are in order already, which this kind of sorting makes use of.
        self.entries.sort_by_key(|entry| entry.place);
        let ends = self.entries.iter().skip(1).map(|entry| entry.place);
        let ends = ends.chain([chunk.uncompressed_size]);
        for (&Indexed { place, received, channel }, end) in self.entries.iter().zip(ends) {
            let Some(size) = end.checked_sub(place + HEAD_SIZE + MESSAGE_HEAD as u64) else {
                return Ok(false);
            };
            let (known, sum) = &mut channels[channel];
            let sizes = Sizes::of(size, received);
            match sum {
                Some(sum) => sum.add(&sizes),
                None => *sum = Some(sizes),
            }
            fold.timeline.count(known.row, received);
        }
        for (Known { kind, row, .. }, sizes) in channels {
            if let (Some(kind), Some(sizes)) = (kind, sizes) {
                fold.frames(self.number, *row, kind, &sizes);
            }
        }
        self.spare = data;
        Ok(true)
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
                    records.bytes::<MESSAGE_HEAD>()?
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
