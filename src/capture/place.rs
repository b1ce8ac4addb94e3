//! A frame once more, by its place: for whoever shows a capture and goes to and fro in it.
//!
//! A chunk is proven by its checksum. A hot segment has no chunks, and of it the bytes are taken as they are:
//! whoever has a place has read what is there before.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use mcap::records::op;

use super::{
    Capture, RECORD_HEADER_SIZE, RECORD_LIMIT, Segment,
    chunk::Chunk,
    entries::frame,
    hot,
    record::{Parsed, Record, parse, record_header},
};
use crate::{
    entry::{Entry, FrameType, Subscription, Timestamp, What},
    error::{Error, Kind, Result},
};

/// So many hot segments are held open. A recorder has one.
const HELD: usize = 16;

/// Where a frame is in a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which segment, counted from 0.
    pub segment: u32,
    /// Where its record begins in the file, or the chunk that it is in.
    pub offset: u64,
    /// Where its record begins in what is unpacked of that chunk; None if it is in none.
    pub within: Option<u32>,
}

/// Reads frames by their places.
pub struct Places {
    segments: Vec<Segment>,
    /// The hot ones, open from the beginning: a hot segment is deleted when it is sealed.
    hot: HashMap<u32, File>,
    /// The last one of all others.
    last: Option<(PathBuf, File)>,
    /// The last one, and where it is.
    chunk: Chunk,
    unpacked: Option<(u32, u64)>,
}

impl Places {
    /// Reads those of a capture, also of segments that are sealed from now on.
    pub fn of(capture: &Capture) -> Self {
        let hot = (0..).zip(capture.segments()).filter(|(_, segment)| segment.hot).take(HELD);
        Self {
            segments: capture.segments().to_vec(),
            hot: hot.filter_map(|(of, hot)| Some((of, File::open(&hot.path).ok()?))).collect(),
            last: None,
            chunk: Chunk::default(),
            unpacked: None,
        }
    }

    /// The frame that is there. Whose it is and what it is taken for is known.
    pub fn frame(
        &mut self,
        place: Place,
        subscription: &Arc<Subscription>,
        kind: &Arc<FrameType>,
    ) -> Result<Entry> {
        let (opcode, record) = match place.within {
            None => self.record(place)?,
            Some(within) => self.record_in_chunk(place, within)?,
        };
        let parsed = parse(opcode, &record, |data| record.slice_ref(data));
        let Ok(Some(Parsed::Record(Record::Message { header, data }))) = parsed else {
            return Err(self.gone(place));
        };
        Ok(Entry {
            subscription: Arc::clone(subscription),
            received: Timestamp::from_nanos(header.log_time),
            what: What::Frame(frame(&header, kind, data)),
        })
    }

    /// A record of a file, with its opcode.
    fn record(&mut self, place: Place) -> Result<(u8, Bytes)> {
        let path = self.path(place);
        let mut file = match (self.hot.get(&place.segment), place.within, &mut self.last) {
            (Some(file), None, _) => file,
            (_, _, Some((of, file))) if *of == path => &*file,
            (_, _, last) => {
                let file = File::open(&path).map_err(Error::io("open", &path))?;
                &last.insert((path.clone(), file)).1
            }
        };
        let mut header = [0; RECORD_HEADER_SIZE];
        file.seek(SeekFrom::Start(place.offset)).map_err(Error::io("read", &path))?;
        file.read_exact(&mut header).map_err(Error::io("read", &path))?;
        let header = record_header(&header).filter(|(_, length)| *length <= RECORD_LIMIT as u64);
        let Some((opcode, length)) = header else { return Err(self.gone(place)) };
        // It takes no memory before something is read into it.
        let mut data = vec![0; length as usize];
        file.read_exact(&mut data).map_err(Error::io("read", &path))?;
        Ok((opcode, data.into()))
    }

    fn record_in_chunk(&mut self, place: Place, within: u32) -> Result<(u8, Bytes)> {
        let chunk = Some((place.segment, place.offset));
        if self.unpacked != chunk {
            self.unpacked = None;
            let (opcode, record) = self.record(place)?;
            if opcode != op::CHUNK {
                return Err(self.gone(place));
            }
            let opened = self.chunk.open(&record);
            opened.map_err(|reason| self.damaged(place, reason))?;
            self.unpacked = chunk;
        }
        self.chunk.go_to(within as usize);
        match self.chunk.next() {
            Some(Ok((opcode, span))) => Ok((opcode, self.chunk.content().slice(span))),
            Some(Err(_)) | None => Err(self.gone(place)),
        }
    }

    /// What was hot and is in a chunk was sealed before it was read.
    fn path(&self, place: Place) -> PathBuf {
        match self.segments.get(place.segment as usize) {
            Some(segment) if segment.hot && place.within.is_some() => {
                hot::sealed_path(&segment.path)
            }
            Some(segment) => segment.path.clone(),
            None => PathBuf::new(),
        }
    }

    fn gone(&self, place: Place) -> Error {
        self.damaged(place, "the frame that was there is gone".to_owned())
    }

    fn damaged(&self, place: Place, reason: String) -> Error {
        Kind::damaged(&self.path(place), place.offset, reason).into()
    }
}
