//! Entries to MCAP records: the channels, schemas and messages of CAPTURE's contract.
//!
//! One writer serves both states of a segment. It only appends: nothing is patched later.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use mcap::{WriteOptions, records::MessageHeader, write::NoSeek};
use prost::Message;

use super::{About, PROFILE, channel_metadata, hot, unfinished::Unfinished};
use crate::{
    entry::{Entry, FrameType, Subscription, Timestamp, What},
    error::{Error, Kind, Result},
    schema,
};

/// The size at which a chunk is closed. Damage costs all of it, and who looks for one message unpacks all of it.
/// With 1 MiB captures would be 2 % smaller, and 2 % sooner unpacked.
const CHUNK_SIZE: u64 = 384 * 1024;

/// How much work compressing a sealed segment may be: a level of zstd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression(u32);

impl Compression {
    /// The levels above it take much memory.
    pub const HIGHEST: u32 = 19;

    /// From 1, the quickest, to the highest. None for any other.
    pub const fn new(level: u32) -> Option<Self> {
        if level >= 1 && level <= Self::HIGHEST { Some(Self(level)) } else { None }
    }
}

/// Of telemetry, level 9 makes a twelfth less and takes four times as long.
impl Default for Compression {
    fn default() -> Self {
        Self(3)
    }
}

/// What all schemas and messages are.
pub(super) const ENCODING: &str = "protobuf";

const LIBRARY: &str = concat!("centralcap ", env!("CARGO_PKG_VERSION"));

/// Writes entries to one MCAP file.
pub struct Writer<W: Write> {
    mcap: mcap::Writer<NoSeek<W>>,
    path: PathBuf,
    /// By the addresses of the subscription and the frame type. Both are kept alive beside the id,
    /// so that an address cannot come to mean something else.
    channels: HashMap<(usize, usize), Known>,
    /// The one that was used last: much of one comes in a row.
    latest: Option<((usize, usize), u16)>,
}

struct Known {
    id: u16,
    _alive: (Arc<Subscription>, Option<Arc<FrameType>>),
}

impl<W: Write> Writer<W> {
    /// A hot writer: unchunked, so that a record that was written can be read.
    pub(super) fn hot(to: W, path: &Path) -> Result<Self> {
        // No checksum over the file: checkpoints carry one that holds at any moment.
        let options = options().use_chunks(false).calculate_data_section_crc(false);
        Self::with(options, to, path)
    }

    /// A sealed writer: zstd chunks, indexes, statistics and checksums.
    pub(super) fn sealed(to: W, path: &Path, compression: Compression) -> Result<Self> {
        let options = options()
            .compression(Some(mcap::Compression::Zstd))
            .compression_level(compression.0)
            // Its default is one thread per core and writer.
            .compression_threads(0)
            .chunk_size(Some(CHUNK_SIZE));
        Self::with(options, to, path)
    }

    fn with(options: WriteOptions, to: W, path: &Path) -> Result<Self> {
        let mcap = options.create(NoSeek::new(to)).map_err(record_error(path))?;
        Ok(Self { mcap, path: path.to_owned(), channels: HashMap::new(), latest: None })
    }

    pub(super) fn about(&mut self, about: &About, types: &[&FrameType]) -> Result<()> {
        self.metadata(&about.metadata(types))
    }

    pub(super) fn metadata(&mut self, metadata: &mcap::records::Metadata) -> Result<()> {
        self.mcap.write_metadata(metadata).map_err(record_error(&self.path))
    }

    /// Takes one entry.
    pub fn append(&mut self, entry: &Entry) -> Result<()> {
        let log_time = entry.received.as_nanos();
        let (sequence, publish_time) = match &entry.what {
            What::Frame(frame) => {
                (frame.sequence, frame.sent.map_or(log_time, Timestamp::as_nanos))
            }
            What::Event(_) => (0, log_time),
        };
        let channel_id = self.channel(entry)?;
        let header = MessageHeader { channel_id, sequence, log_time, publish_time };
        let written = match &entry.what {
            What::Frame(frame) => self.mcap.write_to_known_channel(&header, &frame.data),
            What::Event(event) => self.mcap.write_to_known_channel(&header, &event.encode_to_vec()),
        };
        written.map_err(record_error(&self.path))
    }

    fn channel(&mut self, entry: &Entry) -> Result<u16> {
        let kind = entry.frame().map(|frame| &frame.kind);
        let key = (
            Arc::as_ptr(&entry.subscription) as usize,
            kind.map_or(0, |kind| Arc::as_ptr(kind) as usize),
        );
        if let Some((latest, id)) = self.latest
            && latest == key
        {
            return Ok(id);
        }
        if let Some(known) = self.channels.get(&key) {
            self.latest = Some((key, known.id));
            return Ok(known.id);
        }
        let id = self.new_channel(&entry.subscription, kind).map_err(record_error(&self.path))?;
        let alive = (Arc::clone(&entry.subscription), kind.cloned());
        self.channels.insert(key, Known { id, _alive: alive });
        Ok(id)
    }

    fn new_channel(
        &mut self,
        subscription: &Subscription,
        kind: Option<&Arc<FrameType>>,
    ) -> mcap::McapResult<u16> {
        let (label, schema, payload) = if let Some(kind) = kind {
            let schema = self.mcap.add_schema(&kind.envelope, ENCODING, &kind.descriptors)?;
            (kind.label.as_str(), schema, kind.payload.as_deref())
        } else {
            let descriptors = schema::session_event_descriptors();
            let schema = self.mcap.add_schema(schema::SESSION_EVENT, ENCODING, &descriptors)?;
            ("session", schema, Some(schema::SESSION_EVENT))
        };
        let topic = format!("/{}/{label}", subscription.name);
        self.mcap.add_channel(schema, &topic, ENCODING, &channel_metadata(subscription, payload))
    }

    /// The writer of the `mcap` crate, for copying records as they are.
    pub(super) fn records(&mut self) -> &mut mcap::Writer<NoSeek<W>> {
        &mut self.mcap
    }

    /// Hands everything on to the writer below.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.mcap.flush().map_err(record_error(&self.path))
    }

    /// Writes the summary and the footer, and gives the writer below back.
    pub fn finish(mut self) -> Result<W> {
        self.mcap.finish().map_err(record_error(&self.path))?;
        Ok(self.mcap.into_inner().into_inner())
    }
}

fn options() -> WriteOptions {
    WriteOptions::new().profile(PROFILE).library(LIBRARY).disable_seeking(true)
}

fn record_error(path: &Path) -> impl FnOnce(mcap::McapError) -> Error {
    move |source| match source {
        mcap::McapError::Io(source) => Error::io("write", path)(source),
        source => Kind::Record { path: path.to_owned(), source }.into(),
    }
}

/// A sealed capture under construction. It gets its name only when it is whole and on the disk, and
/// it never takes the place of a file that is already there.
pub struct SealedFile {
    writer: Writer<BufWriter<File>>,
    unfinished: Unfinished,
}

impl SealedFile {
    /// Starts a capture that will be named `path`.
    pub fn create(path: &Path, about: &About, types: &[&FrameType]) -> Result<Self> {
        Self::create_compressed(path, about, types, Compression::default())
    }

    /// The same with another compression.
    pub fn create_compressed(
        path: &Path,
        about: &About,
        types: &[&FrameType],
        compression: Compression,
    ) -> Result<Self> {
        // The name is taken: the recording of which it is, or the next one, seals it under that.
        let hot = hot::hot_path(path);
        if hot.exists() {
            return Err(Kind::OutputExists { path: hot }.into());
        }
        let mut file = Self::bare(path, compression)?;
        file.writer.about(about, types)?;
        Ok(file)
    }

    /// The same without anything in it yet.
    pub(super) fn bare(path: &Path, compression: Compression) -> Result<Self> {
        hot::refuse_hot_name(path)?;
        let (file, unfinished) = Unfinished::create(path)?;
        let writer = Writer::sealed(BufWriter::with_capacity(1 << 18, file), path, compression)?;
        Ok(Self { writer, unfinished })
    }

    /// Takes one entry.
    pub fn append(&mut self, entry: &Entry) -> Result<()> {
        self.writer.append(entry)
    }

    /// Writes a metadata record between the entries.
    pub fn metadata(&mut self, metadata: &mcap::records::Metadata) -> Result<()> {
        self.writer.metadata(metadata)
    }

    pub(super) fn writer(&mut self) -> &mut Writer<BufWriter<File>> {
        &mut self.writer
    }

    /// Finishes the file, brings it to the disk and gives it its name. Returns its size in bytes.
    pub fn finish(self) -> Result<u64> {
        self.finish_if(|_| Ok(()))
    }

    /// The same if this finds nothing wrong with the file, which has another name until then.
    pub fn finish_if(self, check: impl FnOnce(&Path) -> Result<()>) -> Result<u64> {
        let file = self.writer.finish()?.into_inner();
        let path = self.unfinished.path();
        let file = file.map_err(|error| Error::io("write", path)(error.into_error()))?;
        let size = file.metadata().map_err(Error::io("look at", path))?.len();
        self.unfinished.finish_on_disk_if(&file, check)?;
        Ok(size)
    }
}
