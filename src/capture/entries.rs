//! The entries of one segment: its messages, with what its channels and schemas make of them.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::Hash,
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use mcap::records;

use super::{
    PROFILE,
    chunk::Sharing,
    loss::Last,
    reader::{End, Records},
    record::Record,
    summary::{of_summary, summary},
};
use crate::{
    entry::{Entry, Frame, FrameType, Subscription, Timestamp, What, session_event::Event},
    error::{Kind, Lost, Result},
    schema,
};

/// So much of a segment may be what it says about itself, as that is kept: more than 65,535 channels take.
const ABOUTS_LIMIT: usize = 64 * 1024 * 1024;

/// The entries of one segment.
pub(super) struct SegmentEntries {
    records: Records,
    schemas: BTreeMap<u16, (String, Bytes)>,
    channels: BTreeMap<u16, Numbered>,
    metadata: Vec<records::Metadata>,
    /// What its end says, if it was asked.
    summary: OnceCell<Option<mcap::Summary>>,
    shared: Shared,
    /// So many bytes have the schemas, channels and metadata that are kept.
    kept: usize,
    /// Messages so far.
    count: u64,
    /// Channels of messages that nobody has declared.
    unknown: BTreeSet<u16>,
    /// Damage was told, in which a channel may have been declared.
    damaged: bool,
}

/// About how much memory a map takes.
fn size_of_map(map: &BTreeMap<String, String>) -> usize {
    // An entry takes more than what is in it.
    const ENTRY: usize = 100;

    map.iter().map(|(name, value)| ENTRY + name.len() + value.len()).sum()
}

/// A channel, and where the counter of frames has come to, as its messages tell.
struct Numbered {
    channel: Channel,
    last: u32,
    /// Which message of the segment told that; 0 if none has.
    at: u64,
}

/// What the channels of all segments of a capture have in common, each once: whoever keeps something
/// for a subscription or a type keeps it once, however many segments there are.
#[derive(Default)]
pub(super) struct Shared {
    subscriptions: HashSet<Arc<Subscription>>,
    types: HashSet<Arc<FrameType>>,
}

impl Shared {
    pub(super) fn of(&mut self, channel: Channel) -> Channel {
        Channel {
            subscription: once(&mut self.subscriptions, channel.subscription),
            kind: channel.kind.map(|kind| once(&mut self.types, kind)),
        }
    }
}

fn once<T: Eq + Hash>(known: &mut HashSet<Arc<T>>, new: Arc<T>) -> Arc<T> {
    match known.get(&new) {
        Some(known) => Arc::clone(known),
        None => {
            known.insert(Arc::clone(&new));
            new
        }
    }
}

/// What a channel makes of its messages.
#[derive(Clone)]
pub(super) struct Channel {
    pub subscription: Arc<Subscription>,
    /// None for the session channel.
    pub kind: Option<Arc<FrameType>>,
}

impl Channel {
    pub(super) fn new(
        topic: &str,
        metadata: &BTreeMap<String, String>,
        schema: Option<(&str, &Bytes)>,
    ) -> Self {
        let value = |name: &str| metadata.get(name).cloned().unwrap_or_default();
        let subscription = Subscription {
            name: value("subscription"),
            protocol: value("protocol"),
            topic: value("topic"),
            host: value("host"),
        };
        let payload = metadata.get("payload");
        let prefix = format!("/{}/", subscription.name);
        let label = topic.strip_prefix(&prefix).unwrap_or(topic);
        let kind = match schema {
            Some((name, _)) if name == schema::SESSION_EVENT => None,
            Some((name, data)) => Some(FrameType {
                label: label.to_owned(),
                envelope: name.to_owned(),
                payload: payload.cloned(),
                descriptors: data.clone(),
            }),
            // It stood where the segment is damaged.
            None if payload.is_some_and(|payload| payload == schema::SESSION_EVENT) => None,
            None => Some(schema::bundled_type(&subscription.protocol, label, payload)),
        };
        let kind = kind.map(Arc::new);
        Self { subscription: Arc::new(subscription), kind }
    }

    /// What a message is. The error is a reason.
    #[inline(always)]
    pub(super) fn entry(
        &self,
        header: &records::MessageHeader,
        data: Bytes,
    ) -> Result<Entry, String> {
        let what = match &self.kind {
            Some(kind) => What::Frame(frame(header, kind, data)),
            None => What::Event(
                schema::session_event(&data)
                    .map_err(|error| format!("a session event is none: {error}"))?,
            ),
        };
        let subscription = Arc::clone(&self.subscription);
        Ok(Entry { subscription, received: Timestamp::from_nanos(header.log_time), what })
    }
}

/// The frame that a message is.
#[inline(always)]
pub(super) fn frame(header: &records::MessageHeader, kind: &Arc<FrameType>, data: Bytes) -> Frame {
    let is_sent = header.publish_time != header.log_time;
    Frame {
        sequence: header.sequence,
        sent: is_sent.then(|| Timestamp::from_nanos(header.publish_time)),
        kind: Arc::clone(kind),
        data,
    }
}

impl SegmentEntries {
    pub(super) fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            records: Records::open(path)?,
            schemas: BTreeMap::new(),
            channels: BTreeMap::new(),
            metadata: Vec::new(),
            summary: OnceCell::new(),
            shared: Shared::default(),
            kept: 0,
            count: 0,
            unknown: BTreeSet::new(),
            damaged: false,
        })
    }

    /// Shares what is unpacked with other readers.
    pub(super) fn unpacking(mut self, sharing: Option<Arc<Sharing>>) -> Self {
        if let Some(sharing) = sharing {
            self.records.share(sharing);
        }
        self
    }

    /// Shares with earlier segments.
    pub(super) fn sharing(self, shared: Shared) -> Self {
        Self { shared, ..self }
    }

    pub(super) fn into_shared(self) -> Shared {
        self.shared
    }

    /// The metadata records that came by so far.
    pub(super) fn metadata(&self) -> &[records::Metadata] {
        &self.metadata
    }

    /// See [`Records::chunk_is_over`].
    pub(super) fn chunk_is_over(&self) -> bool {
        self.records.chunk_is_over()
    }

    /// See [`Records::place_of`].
    pub(super) fn place_of(&self, data: &[u8]) -> (u64, Option<u32>) {
        self.records.place_of(data)
    }

    /// The channels that came by so far.
    pub(super) fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.values().map(|numbered| &numbered.channel)
    }

    /// When the recording was started that it is of, as it says itself.
    pub(super) fn recording(&self) -> Option<&str> {
        let about = self.metadata.iter().find(|record| record.name == PROFILE)?;
        about.metadata.get("started").map(String::as_str)
    }

    /// Where the counters of all frames have come to; None where nothing has come that tells.
    pub(super) fn last_sequences(&self) -> Last {
        let mut last = HashMap::<_, &Numbered>::new();
        let counts = |numbered: &&Numbered| numbered.channel.kind.is_some() || numbered.at > 0;
        for numbered in self.channels.values().filter(counts) {
            let latest = last.entry(&numbered.channel.subscription).or_insert(numbered);
            if latest.at < numbered.at {
                *latest = numbered;
            }
        }
        let told = |numbered: &Numbered| (numbered.at > 0).then_some(numbered.last);
        last.into_iter().map(|(of, numbered)| (Arc::clone(of), told(numbered))).collect()
    }

    /// The damage may have cost frames, and counters tell which.
    pub(super) fn counters_tell(&self) -> bool {
        !self.records.is_complete() && self.records.end() != Some(End::Torn) && !self.has_holes()
    }

    /// What is a selection has counters with holes.
    pub(super) fn has_holes(&self) -> bool {
        self.metadata.iter().any(|record| {
            let whole = record.metadata.get("option.edit.whole");
            record.name == PROFILE && whole.is_some_and(|whole| whole == "no")
        })
    }

    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<Result<Entry>> {
        loop {
            let entry = match self.records.next()? {
                Ok(Record::Message { header, data }) => self.entry(&header, data).transpose(),
                Ok(about) => self.learn(about).err().map(Err),
                Err(error) => {
                    self.damaged = true;
                    Some(Err(error))
                }
            };
            if entry.is_some() {
                return entry;
            }
        }
    }

    /// Keeps what a segment says about itself.
    #[inline(never)]
    fn learn(&mut self, about: Record) -> Result<()> {
        match about {
            Record::Schema { id, name, data, .. } => {
                if !self.schemas.contains_key(&id) {
                    self.keep(name.len() + data.len())?;
                    self.schemas.insert(id, (name, data));
                }
            }
            Record::Channel(channel) => {
                // Channels are repeated in the summary; the first word stands.
                if self.channels.contains_key(&channel.id) {
                    return Ok(());
                }
                self.keep(channel.topic.len() + size_of_map(&channel.metadata))?;
                if !self.schemas.contains_key(&channel.schema_id) {
                    self.declare_schema(channel.schema_id)?;
                }
                let schema = self.schemas.get(&channel.schema_id);
                let schema = schema.map(|(name, data)| (name.as_str(), data));
                let new = Channel::new(&channel.topic, &channel.metadata, schema);
                let numbered = Numbered { channel: self.shared.of(new), last: 0, at: 0 };
                self.channels.insert(channel.id, numbered);
            }
            Record::Metadata(record) => {
                self.keep(size_of_map(&record.metadata))?;
                self.metadata.push(record);
            }
            Record::Message { .. } => {}
        }
        Ok(())
    }

    /// Makes sure that no segment fills the memory with what it says about itself.
    fn keep(&mut self, size: usize) -> Result<()> {
        if self.kept + size > ABOUTS_LIMIT {
            let reason = "the records about the capture are over the limit together".to_owned();
            return Err(self.records.nonsense(reason));
        }
        self.kept += size;
        Ok(())
    }

    /// What its end says, which is read once: anybody may ask for what nobody has declared.
    fn summary(&self) -> Option<&mcap::Summary> {
        let read = || if self.records.is_hot() { None } else { summary(self.records.path()) };
        self.summary.get_or_init(read).as_ref()
    }

    /// A schema that stands where the segment is damaged: the summary may know it.
    fn declare_schema(&mut self, id: u16) -> Result<()> {
        let Some(schema) = self.summary().and_then(|summary| summary.schemas.get(&id)) else {
            return Ok(());
        };
        let known = (schema.name.clone(), Bytes::copy_from_slice(&schema.data));
        self.keep(known.0.len() + known.1.len())?;
        self.schemas.insert(id, known);
        Ok(())
    }

    /// The channel of a message that nobody has declared so far: the summary may know it.
    fn declare(&mut self, id: u16) {
        let Some(channel) = self.summary().and_then(|summary| summary.channels.get(&id)) else {
            return;
        };
        let channel = of_summary(channel);
        let numbered = Numbered { channel: self.shared.of(channel), last: 0, at: 0 };
        self.channels.insert(id, numbered);
    }

    /// None for a message that nothing can be made of, of which was told before.
    #[inline(always)]
    fn entry(&mut self, header: &records::MessageHeader, data: Bytes) -> Result<Option<Entry>> {
        self.count += 1;
        let id = header.channel_id;
        let numbered = match self.channels.get_mut(&id) {
            Some(numbered) => numbered,
            None if !self.unknown.insert(id) => return Ok(None),
            None => {
                self.declare(id);
                self.channels.get_mut(&id).ok_or_else(|| {
                    if !self.damaged {
                        return self.records.nonsense(format!("nobody has declared channel {id}"));
                    }
                    Kind::Lost(Lost {
                        subscription: format!("channel {id}"),
                        topic: "nobody knows whose it is".to_owned(),
                        frames: "all from here on".to_owned(),
                    })
                    .into()
                })?
            }
        };
        let entry = numbered.channel.entry(header, data);
        let entry = entry.map_err(|reason| self.records.nonsense(reason))?;
        if let Some(last) = counter(&entry.what) {
            (numbered.last, numbered.at) = (last, self.count);
        }
        Ok(Some(entry))
    }
}

/// Where the counter of frames is behind that, if it says so.
#[inline(always)]
fn counter(what: &What) -> Option<u32> {
    match what {
        What::Frame(frame) => Some(frame.sequence),
        What::Event(event) => match &event.event {
            // The next frame is the first one of its connection.
            Some(Event::Connected(_) | Event::Closed(_)) => Some(0),
            Some(Event::Continued(continued)) => {
                Some(u32::try_from(continued.last_sequence).unwrap_or(u32::MAX))
            }
            _ => None,
        },
    }
}
