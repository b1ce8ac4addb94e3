//! What is in one segment, record after record: who has a channel, what was written on it, and what an
//! index of it has to say.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{self, BufRead},
    sync::Arc,
};

use mcap::records::{self, op};
use sha2::{Digest, Sha256};

use super::{
    findings::{Check, Findings, Spot, bounded},
    ledger::{Key, Ledgers, Whose},
    records::{Next, Records},
};
use crate::{
    capture::{MESSAGE_HEADER_SIZE, PROFILE, PastDamage},
    error::counted,
    schema::{self, SESSION_EVENT},
};

/// No record is held that is larger than this, but for frames none ever is.
pub(super) const HELD: u64 = 4 * 1024 * 1024;

/// A session event that is larger is a text message, which says nothing about frames.
const EVENT_LIMIT: u64 = 1024 * 1024;

/// So many messages of a chunk are remembered until its index has come by. A chunk of ours is closed at
/// 1 MiB, where no more than 33,825 have room.
const INDEXED_LIMIT: usize = 256 * 1024;

/// How much of a subscription's name is kept.
const NAME_KEPT: usize = 64;

/// No channel of that id.
const NONE: u32 = u32::MAX;

/// What has come by.
pub(super) struct Contents<'v> {
    pub findings: &'v mut Findings,
    ledgers: &'v mut Ledgers,
    /// In the order in which they were declared,
    channels: Vec<Channel>,
    /// and where they are among these, by id.
    places: Vec<u32>,
    schemas: BTreeMap<u16, Schema>,
    run: Option<usize>,
    recording: Recording,
    /// What the segment remembers of damage. The counters of what was saved have its holes.
    pub past: BTreeSet<PastDamage>,
    /// Something in it is only in captures of ours.
    pub is_ours: bool,
    pub messages: u64,
    pub frames: u64,
    pub events: u64,
    pub metadata: u32,
    /// The first and the last time of a message.
    pub span: Option<(u64, u64)>,
    pub chunk: ChunkContents,
}

/// What the recording says about itself.
struct Recording {
    key: Key,
    whole: bool,
    /// The checksums of descriptor sets, by payload.
    descriptors: HashMap<String, String>,
}

struct Schema {
    content: Key,
    is_session: bool,
    descriptors: [u8; 32],
    is_repeated: bool,
}

struct Channel {
    id: u16,
    content: Key,
    subscription: Key,
    name: Arc<str>,
    is_session: bool,
    is_repeated: bool,
    messages: u64,
    whose: Option<Whose>,
    /// Of the chunk that came by last: the first and the last message, and how many.
    first: u32,
    last: u32,
    count: u64,
    is_indexed: bool,
}

/// A message of the chunk that came by last.
struct Entry {
    log_time: u64,
    /// Where it is in the chunk.
    place: u64,
    /// The next one of its channel.
    next: u32,
}

/// What has come by of a chunk.
#[derive(Default)]
pub(super) struct ChunkContents {
    pub span: Option<(u64, u64)>,
    pub messages: u64,
    entries: Vec<Entry>,
    /// The channels that have something in it, or an index.
    used: Vec<usize>,
    /// There were more messages than are remembered.
    is_too_much: bool,
}

impl ChunkContents {
    /// The messages of a channel in it.
    fn of<'c>(&'c self, channel: &Channel) -> impl Iterator<Item = &'c Entry> {
        let at = |index: u32| self.entries.get(index as usize);
        std::iter::successors(at(channel.first), move |entry| at(entry.next))
    }
}

impl<'v> Contents<'v> {
    pub(super) fn new(
        findings: &'v mut Findings,
        ledgers: &'v mut Ledgers,
        past: BTreeSet<PastDamage>,
    ) -> Self {
        let recording = Recording {
            key: Key::default(),
            whole: past.is_empty(),
            descriptors: HashMap::default(),
        };
        Self {
            findings,
            ledgers,
            channels: Vec::new(),
            places: vec![NONE; usize::from(u16::MAX) + 1],
            schemas: BTreeMap::new(),
            run: None,
            recording,
            past,
            is_ours: false,
            messages: 0,
            frames: 0,
            events: 0,
            metadata: 0,
            span: None,
            chunk: ChunkContents::default(),
        }
    }

    /// The profile, which says that it is a capture of ours.
    pub(super) fn header(&mut self, data: &[u8], spot: Spot) {
        match mcap::parse_record(op::HEADER, data) {
            Ok(records::Record::Header(header)) if header.profile == PROFILE => {
                self.is_ours = true;
            }
            Ok(records::Record::Header(header)) => {
                self.findings.fault(Check::Records, spot, || {
                    (format!("the profile {PROFILE:?}"), format!("{:?}", header.profile))
                });
            }
            _ => self.unreadable(op::HEADER, spot),
        }
    }

    pub(super) fn metadata(&mut self, data: &[u8], spot: Spot) {
        self.metadata += 1;
        let Ok(records::Record::Metadata(record)) = mcap::parse_record(op::METADATA, data) else {
            return self.unreadable(op::METADATA, spot);
        };
        if let Some(past) = PastDamage::of(&record) {
            self.past.insert(past);
            self.recording.whole = false;
        }
        if record.name != PROFILE || self.run.is_some() {
            return;
        }
        let whole = record.metadata.get("option.edit.whole");
        let descriptors = record.metadata.iter().filter_map(|(name, value)| {
            Some((name.strip_prefix("sha256.")?.to_owned(), value.clone()))
        });
        self.recording = Recording {
            key: key_of(data),
            whole: self.past.is_empty() && whole.is_none_or(|whole| whole != "no"),
            descriptors: descriptors.collect(),
        };
    }

    /// A schema, or what the summary repeats of it.
    pub(super) fn schema(&mut self, data: &[u8], spot: Spot, in_summary: bool) {
        let Ok(records::Record::Schema { header, data: descriptors }) =
            mcap::parse_record(op::SCHEMA, data)
        else {
            return self.unreadable(op::SCHEMA, spot);
        };
        let content = key_of(data);
        let name = || format!("schema {} ({})", header.id, header.name);
        match self.schemas.get_mut(&header.id) {
            Some(known) => {
                known.is_repeated |= in_summary;
                if known.content != content {
                    self.findings.fault(Check::Channels, spot, || {
                        (format!("{} as it was declared", name()), "another".to_owned())
                    });
                }
            }
            None if in_summary => self.findings.fault(Check::Channels, spot, || {
                ("a schema that was declared before".to_owned(), name())
            }),
            None => {
                let schema = Schema {
                    content,
                    is_session: header.name == SESSION_EVENT,
                    descriptors: Sha256::digest(&descriptors).into(),
                    is_repeated: false,
                };
                self.schemas.insert(header.id, schema);
            }
        }
    }

    /// A channel, or what the summary repeats of it.
    pub(super) fn channel(&mut self, data: &[u8], spot: Spot, in_summary: bool) {
        let Ok(records::Record::Channel(channel)) = mcap::parse_record(op::CHANNEL, data) else {
            return self.unreadable(op::CHANNEL, spot);
        };
        let content = key_of(data);
        let place = self.places[usize::from(channel.id)];
        let name = || format!("channel {} ({})", channel.id, channel.topic);
        if let Some(known) = self.channels.get_mut(place as usize) {
            known.is_repeated |= in_summary;
            if known.content != content {
                self.findings.fault(Check::Channels, spot, || {
                    (format!("{} as it was declared", name()), "another".to_owned())
                });
            }
            return;
        }
        if in_summary {
            self.findings.fault(Check::Channels, spot, || {
                ("a channel that was declared before".to_owned(), name())
            });
            return;
        }
        self.findings.looked_at(Check::Channels, 1);
        self.check_schema(&channel, spot);
        let value = |name: &str| channel.metadata.get(name).map_or("", String::as_str);
        let subscription = value("subscription");
        self.is_ours |= channel.metadata.contains_key("subscription");
        if !channel.topic.starts_with(&format!("/{subscription}/")) {
            self.findings.fault(Check::Channels, spot, || {
                (format!("a channel of {subscription:?}"), name())
            });
        }
        let mut identity = Sha256::new();
        for name in ["subscription", "topic", "host", "protocol"] {
            identity.update((value(name).len() as u64).to_le_bytes());
            identity.update(value(name));
        }
        self.places[usize::from(channel.id)] = self.channels.len() as u32;
        self.channels.push(Channel {
            id: channel.id,
            content,
            subscription: shortened(identity),
            name: bounded(subscription.to_owned(), NAME_KEPT).into(),
            is_session: self.schemas.get(&channel.schema_id).is_some_and(|known| known.is_session),
            is_repeated: false,
            messages: 0,
            whose: None,
            first: NONE,
            last: NONE,
            count: 0,
            is_indexed: false,
        });
    }

    /// The schema must be known, and be the one that the recording says it is.
    fn check_schema(&mut self, channel: &records::Channel, spot: Spot) {
        let name = || format!("channel {} ({})", channel.id, channel.topic);
        let Some(schema) = self.schemas.get(&channel.schema_id) else {
            self.findings.fault(Check::Channels, spot, || {
                (format!("schema {} of {}", channel.schema_id, name()), "none so far".to_owned())
            });
            return;
        };
        let payload = channel.metadata.get("payload");
        let told = payload.and_then(|payload| self.recording.descriptors.get(payload));
        if let Some(told) = told.filter(|told| **told != hex(&schema.descriptors)) {
            self.findings.fault(Check::Channels, spot, || {
                let expected = format!("descriptors of {} with the SHA-256 {told}", name());
                (expected, hex(&schema.descriptors))
            });
        }
    }

    /// What is in a chunk that begins there. All of it is read.
    pub(super) fn chunk<R: BufRead>(
        &mut self,
        records: &mut Records<R>,
        size: u64,
        chunk: u64,
    ) -> io::Result<()> {
        loop {
            let head = match records.next()? {
                Next::Record(head) => head,
                Next::End => return Ok(()),
                Next::Torn(_) => {
                    let spot = Spot { offset: chunk, in_chunk: Some(records.at()) };
                    self.past_the_end(spot);
                    return Ok(());
                }
            };
            let spot = Spot { offset: chunk, in_chunk: Some(head.offset) };
            self.findings.looked_at(Check::Records, 1);
            if head.end() > size {
                self.past_the_end(spot);
                return Ok(());
            }
            match head.opcode {
                op::MESSAGE => self.message(records, head.offset, spot)?,
                op::SCHEMA | op::CHANNEL if head.length <= HELD => {
                    let data = records.all()?;
                    if head.opcode == op::SCHEMA {
                        self.schema(&data, spot, false);
                    } else {
                        self.channel(&data, spot, false);
                    }
                }
                op::SCHEMA | op::CHANNEL => self.too_large(head.opcode, head.length, spot),
                // For applications.
                0x80.. => {}
                opcode => self.findings.fault(Check::Records, spot, || {
                    let expected = "a schema, a channel or a message in a chunk".to_owned();
                    (expected, format!("opcode {opcode:#04x}"))
                }),
            }
            if !records.skip()? {
                self.past_the_end(spot);
                return Ok(());
            }
        }
    }

    /// A message whose head was read. `place` is what an index would say.
    pub(super) fn message<R: BufRead>(
        &mut self,
        records: &mut Records<R>,
        place: u64,
        spot: Spot,
    ) -> io::Result<()> {
        let Some(head) = records.bytes::<MESSAGE_HEADER_SIZE>()? else {
            self.unreadable(op::MESSAGE, spot);
            return Ok(());
        };
        let [c0, c1, s0, s1, s2, s3, times @ ..] = head;
        let (id, sequence) = (u16::from_le_bytes([c0, c1]), u32::from_le_bytes([s0, s1, s2, s3]));
        let log_time = times.first_chunk().map_or(0, |time| u64::from_le_bytes(*time));

        self.messages += 1;
        self.chunk.messages += 1;
        self.span = Some(including(self.span, log_time));
        self.chunk.span = Some(including(self.chunk.span, log_time));
        let index = self.places[usize::from(id)] as usize;
        let Some(channel) = self.channels.get_mut(index) else {
            self.findings.fault(Check::Channels, spot, || {
                ("a message of a channel that was declared".to_owned(), format!("channel {id}"))
            });
            return Ok(());
        };
        channel.messages += 1;
        if spot.in_chunk.is_some() {
            let chunk = &mut self.chunk;
            let number = chunk.entries.len() as u32;
            match chunk.entries.get_mut(channel.last as usize) {
                Some(before) => before.next = number,
                None => {
                    channel.first = number;
                    chunk.used.push(index);
                }
            }
            chunk.is_too_much |= chunk.entries.len() == INDEXED_LIMIT;
            if !chunk.is_too_much {
                chunk.entries.push(Entry { log_time, place, next: NONE });
                channel.last = number;
            }
            channel.count += 1;
        }
        let (is_session, whose) = (channel.is_session, channel.whose);
        let whose = whose.unwrap_or_else(|| self.whose(index));
        if !is_session {
            self.frames += 1;
            self.ledgers.frame(whose, sequence, log_time, spot, self.findings);
            return Ok(());
        }
        self.events += 1;
        if records.rest() <= EVENT_LIMIT {
            match schema::session_event(&records.all()?) {
                Ok(event) => self.ledgers.event(whose, &event, log_time, spot, self.findings),
                Err(error) => self.findings.fault(Check::Ledger, spot, || {
                    ("a session event".to_owned(), format!("something else: {error}"))
                }),
            }
        }
        Ok(())
    }

    /// Whose a channel's messages are. The recording has said what it is by now, or never does.
    #[cold]
    fn whose(&mut self, index: usize) -> Whose {
        let run = self.run();
        let channel = &mut self.channels[index];
        *channel.whose.insert(self.ledgers.whose(run, channel.subscription, &channel.name))
    }

    fn run(&mut self) -> usize {
        let Recording { key, whole, .. } = self.recording;
        *self.run.get_or_insert_with(|| self.ledgers.begin(key, whole, self.findings))
    }

    /// An index of the messages of a channel in the chunk that has just come by.
    pub(super) fn message_index(&mut self, data: &[u8], spot: Spot) {
        let (head, list) = data.split_at(data.len().min(2 + 4));
        let Some(head) = head.first_chunk::<6>() else {
            return self.unreadable(op::MESSAGE_INDEX, spot);
        };
        let [c0, c1, length @ ..] = *head;
        let id = u16::from_le_bytes([c0, c1]);
        let length = u32::from_le_bytes(length) as usize;
        if length > list.len() || !length.is_multiple_of(16) {
            return self.unreadable(op::MESSAGE_INDEX, spot);
        }
        let found = list[..length].as_chunks::<16>().0.iter().map(|entry| {
            let (time, place) = entry.split_at(8);
            let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
            (number(time), number(place))
        });
        let count = length as u64 / 16;
        self.findings.looked_at(Check::MessageIndexes, count);
        if self.chunk.is_too_much {
            return;
        }
        let index = self.places[usize::from(id)] as usize;
        let channel = self.channels.get_mut(index);
        let Some(channel) = channel.filter(|channel| !channel.is_indexed) else {
            self.findings.fault(Check::MessageIndexes, spot, || {
                let expected = "one index for each channel of the chunk".to_owned();
                (expected, format!("another one for channel {id}"))
            });
            return;
        };
        channel.is_indexed = true;
        if channel.count == 0 {
            self.chunk.used.push(index);
        }
        let there = self.chunk.of(channel).map(|entry| (entry.log_time, entry.place));
        let differs = there.zip(found).enumerate().find(|(_, (is, said))| is != said);
        if let Some((number, (is, said))) = differs {
            self.findings.fault(Check::MessageIndexes, spot, || {
                let name = format!("message {} of channel {id}", number + 1);
                (
                    format!("{name} at {} of its chunk, time {}", is.1, is.0),
                    format!("at {}, time {}", said.1, said.0),
                )
            });
        } else if channel.count != count {
            let is = channel.count;
            self.findings.fault(Check::MessageIndexes, spot, || {
                (format!("{} of channel {id}", counted(is, "message")), count.to_string())
            });
        }
    }

    /// All indexes of a chunk have come by; what is not indexed is told at the chunk.
    pub(super) fn end_chunk(&mut self, spot: Spot) {
        if self.chunk.is_too_much {
            self.findings.fault(Check::MessageIndexes, spot, || {
                (
                    format!("at most {INDEXED_LIMIT} messages in a chunk"),
                    "more, which were not held against their index".to_owned(),
                )
            });
        }
        for &index in &self.chunk.used {
            let channel = &mut self.channels[index];
            if !channel.is_indexed && !self.chunk.is_too_much {
                let (id, count) = (channel.id, channel.count);
                self.findings.fault(Check::MessageIndexes, spot, || {
                    let messages = counted(count, "message");
                    (format!("an index of {messages} of channel {id}"), "none".to_owned())
                });
            }
            (channel.first, channel.last, channel.count) = (NONE, NONE, 0);
            channel.is_indexed = false;
        }
        // The memory is used again.
        self.chunk.entries.clear();
        self.chunk.used.clear();
        (self.chunk.span, self.chunk.messages, self.chunk.is_too_much) = (None, 0, false);
    }

    /// How many schemas and channels have come by.
    pub(super) fn declared(&self) -> (usize, usize) {
        (self.schemas.len(), self.channels.len())
    }

    /// How many messages each channel has that has any.
    pub(super) fn counts(&self) -> BTreeMap<u16, u64> {
        let used = self.channels.iter().filter(|channel| channel.messages > 0);
        used.map(|channel| (channel.id, channel.messages)).collect()
    }

    /// The summary is over, which is to repeat all that was declared.
    pub(super) fn end_summary(&mut self, spot: Spot) {
        for (id, _) in self.schemas.iter().filter(|(_, schema)| !schema.is_repeated) {
            self.findings.fault(Check::Channels, spot, || {
                (format!("schema {id} in the summary"), "none".to_owned())
            });
        }
        for channel in self.channels.iter().filter(|channel| !channel.is_repeated) {
            self.findings.fault(Check::Channels, spot, || {
                (format!("channel {} in the summary", channel.id), "none".to_owned())
            });
        }
    }

    /// The segment is over.
    pub(super) fn finish(&mut self) {
        if self.messages > 0
            && let Some(run) = self.run
        {
            self.ledgers.end(run, self.findings);
        }
    }

    pub(super) fn unreadable(&mut self, opcode: u8, spot: Spot) {
        self.findings.fault(Check::Records, spot, || {
            (format!("a record of opcode {opcode:#04x}"), "something else in it".to_owned())
        });
    }

    pub(super) fn too_large(&mut self, opcode: u8, length: u64, spot: Spot) {
        self.findings.fault(Check::Records, spot, || {
            let expected = format!("at most {HELD} bytes in a record of opcode {opcode:#04x}");
            (expected, length.to_string())
        });
    }

    fn past_the_end(&mut self, spot: Spot) {
        self.findings.fault(Check::Records, spot, || {
            ("a record within its chunk".to_owned(), "one that reaches past its end".to_owned())
        });
    }
}

fn including(span: Option<(u64, u64)>, at: u64) -> (u64, u64) {
    span.map_or((at, at), |(first, last)| (first.min(at), last.max(at)))
}

fn key_of(data: &[u8]) -> Key {
    shortened(Sha256::new_with_prefix(data))
}

fn shortened(sum: Sha256) -> Key {
    let sum: [u8; 32] = sum.finalize().into();
    *sum.first_chunk().expect("half of it")
}

fn hex(key: &[u8; 32]) -> String {
    key.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
