//! What the summary of a sealed segment says, held against what is at the places that it names.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Seek, SeekFrom},
};

use mcap::records::{ChunkIndex, Footer, MetadataIndex, Record, Statistics, op};

use super::{
    chunk::{self, Header},
    contents::{Contents, HELD},
    findings::{Check, Findings, Spot},
    records::{HEAD_SIZE, Head, Next, Records},
};
use crate::error::counted;

/// How much is read at once where only the heads of indexes are wanted.
const READ_SIZE: usize = 8 * 1024;

/// What of a summary has come by.
#[derive(Default)]
pub(super) struct Summary {
    statistics: Option<(Spot, Statistics)>,
    /// The last chunk that has an index, and how many have one. They come in the order of their chunks.
    chunk: Option<u64>,
    chunks: u64,
    /// Likewise.
    metadata: Option<u64>,
    metadata_count: u64,
    attachments: u64,
    /// Where the records of one opcode stand together: from, to.
    groups: BTreeMap<u8, (u64, u64)>,
    last: u8,
    /// What was said about these.
    offsets: BTreeMap<u8, (u64, u64)>,
}

/// What is there.
pub(super) struct Counts {
    pub chunks: u64,
    pub attachments: u32,
    /// From where to where the summary reaches.
    pub summary: (u64, u64),
}

impl Summary {
    /// A record of the summary.
    pub(super) fn saw(&mut self, head: Head, findings: &mut Findings) {
        let is_new = self.last != head.opcode;
        self.last = head.opcode;
        let group = self.groups.entry(head.opcode).or_insert((head.offset, head.offset));
        if is_new && group.1 != head.offset {
            findings.fault(Check::Summary, Spot::at(head.offset), || {
                let expected = format!("records of opcode {:#04x} together", head.opcode);
                (expected, "one apart from the others".to_owned())
            });
        }
        group.1 = head.end();
    }

    /// The same, if it says something about places or counts.
    pub(super) fn record(
        &mut self,
        record: Record<'_>,
        spot: Spot,
        file: &mut File,
        findings: &mut Findings,
    ) -> io::Result<()> {
        match record {
            Record::Statistics(statistics) => {
                let before = self.statistics.replace((spot, statistics));
                if before.is_some() {
                    findings.fault(Check::Statistics, spot, || {
                        ("statistics once".to_owned(), "another time".to_owned())
                    });
                }
            }
            Record::ChunkIndex(index) => self.chunk_index(&index, spot, file, findings)?,
            Record::MetadataIndex(index) => self.metadata_index(&index, spot, file, findings)?,
            Record::AttachmentIndex(_) => {
                self.attachments += 1;
                findings.looked_at(Check::Summary, 1);
            }
            Record::SummaryOffset(said) => {
                findings.looked_at(Check::Summary, 1);
                let end = said.group_start.saturating_add(said.group_length);
                // A group of nothing says nothing.
                if said.group_length > 0 {
                    self.offsets.insert(said.group_opcode, (said.group_start, end));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn chunk_index(
        &mut self,
        said: &ChunkIndex,
        spot: Spot,
        file: &mut File,
        findings: &mut Findings,
    ) -> io::Result<()> {
        findings.looked_at(Check::ChunkIndexes, 1);
        self.chunks += 1;
        let place = said.chunk_start_offset;
        if self.chunk.is_some_and(|last| last >= place) {
            findings.fault(Check::ChunkIndexes, spot, || {
                let last = self.chunk.unwrap_or_default();
                (format!("the index of a chunk behind byte {last}"), format!("of one at {place}"))
            });
        }
        self.chunk = Some(place);
        let Some(there) = index_at(file, place)? else {
            findings.fault(Check::ChunkIndexes, spot, || {
                (format!("a chunk at byte {place}"), "something else there".to_owned())
            });
            return Ok(());
        };
        let fields = [
            ("message_start_time", there.message_start_time, said.message_start_time),
            ("message_end_time", there.message_end_time, said.message_end_time),
            ("chunk_length", there.chunk_length, said.chunk_length),
            ("message_index_length", there.message_index_length, said.message_index_length),
            ("compressed_size", there.compressed_size, said.compressed_size),
            ("uncompressed_size", there.uncompressed_size, said.uncompressed_size),
        ];
        for (name, is, says) in fields.into_iter().filter(|(_, is, says)| is != says) {
            findings.fault(Check::ChunkIndexes, spot, || {
                (format!("{name} {is}, as the chunk at byte {place} has"), says.to_string())
            });
        }
        if there.compression != said.compression {
            findings.fault(Check::ChunkIndexes, spot, || {
                (format!("the compression {:?}", there.compression), said.compression.clone())
            });
        }
        if there.message_index_offsets != said.message_index_offsets {
            findings.fault(Check::ChunkIndexes, spot, || {
                let (is, says) = (&there.message_index_offsets, &said.message_index_offsets);
                let channel = is.keys().chain(says.keys()).find(|id| is.get(id) != says.get(id));
                let channel = channel.copied().unwrap_or_default();
                let at = |place: Option<&u64>| {
                    place.map_or_else(|| "none".to_owned(), |place| format!("at byte {place}"))
                };
                let expected = at(is.get(&channel));
                let expected = format!("the index of channel {channel} {expected}");
                (expected, at(says.get(&channel)))
            });
        }
        Ok(())
    }

    fn metadata_index(
        &mut self,
        said: &MetadataIndex,
        spot: Spot,
        file: &mut File,
        findings: &mut Findings,
    ) -> io::Result<()> {
        findings.looked_at(Check::Summary, 1);
        self.metadata_count += 1;
        if self.metadata.is_some_and(|last| last >= said.offset) {
            findings.fault(Check::Summary, spot, || {
                let expected = "indexes in the order of what they are of".to_owned();
                (expected, format!("that of metadata at byte {}", said.offset))
            });
        }
        self.metadata = Some(said.offset);
        // Behind the end nothing is found; farther than this the system does not go.
        let place = said.offset.min(i64::MAX as u64);
        file.seek(SeekFrom::Start(place))?;
        let mut records = Records::new(BufReader::with_capacity(READ_SIZE, file), place);
        let there = match records.next()? {
            Next::Record(head) if head.opcode == op::METADATA && head.length <= HELD => {
                match mcap::parse_record(op::METADATA, &records.all()?) {
                    Ok(Record::Metadata(metadata)) => {
                        Some((HEAD_SIZE + head.length, metadata.name))
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        let is = there.as_ref().map(|(length, name)| (*length, &**name));
        if is != Some((said.length, &*said.name)) {
            findings.fault(Check::Summary, spot, || {
                let there = there.map_or_else(
                    || "the place of metadata".to_owned(),
                    |(length, name)| format!("metadata {name:?} of {length} bytes"),
                );
                let found = format!("{:?} of {} bytes", said.name, said.length);
                (there, format!("{found} at byte {}", said.offset))
            });
        }
        Ok(())
    }

    /// The summary is over.
    pub(super) fn finish(
        &mut self,
        footer: Footer,
        spot: Spot,
        counts: Counts,
        contents: &mut Contents<'_>,
    ) {
        let mut differs = |check, name: &str, is: u64, says: u64| {
            if is != says {
                contents.findings.fault(check, spot, || {
                    (format!("{}, as there are", counted(is, name)), says.to_string())
                });
            }
        };
        differs(Check::ChunkIndexes, "index of a chunk", counts.chunks, self.chunks);
        let metadata = u64::from(contents.metadata);
        let mut differs = |check, name: &str, is: u64, says: u64| {
            if is != says {
                contents.findings.fault(check, spot, || {
                    (format!("{}, as there are", counted(is, name)), says.to_string())
                });
            }
        };
        differs(Check::Summary, "index of metadata", metadata, self.metadata_count);
        let attachments = u64::from(counts.attachments);
        differs(Check::Summary, "index of attachments", attachments, self.attachments);
        self.places(footer, spot, &counts, contents.findings);
        self.statistics(spot, &counts, contents);
    }

    /// Where the summary and its groups are.
    fn places(&self, footer: Footer, spot: Spot, counts: &Counts, findings: &mut Findings) {
        let mut groups = self.groups.clone();
        let offsets = groups.remove(&op::SUMMARY_OFFSET);
        let (start, end) = counts.summary;
        let start = if start == end { 0 } else { start };
        let offset_start = offsets.map_or(0, |(from, _)| from);
        for (name, is, says) in [
            ("the summary", start, footer.summary_start),
            ("what is in it", offset_start, footer.summary_offset_start),
        ] {
            if is != says {
                findings.fault(Check::Summary, spot, || {
                    (format!("{name} at byte {is}"), format!("at byte {says}"))
                });
            }
        }
        let opcodes =
            groups.keys().chain(self.offsets.keys().filter(|op| !groups.contains_key(op)));
        for opcode in opcodes {
            let (is, says) = (groups.get(opcode), self.offsets.get(opcode));
            if is != says {
                let words = |place: Option<&(u64, u64)>| {
                    place.map_or_else(
                        || "none".to_owned(),
                        |(from, to)| format!("bytes {from} to {to}"),
                    )
                };
                findings.fault(Check::Summary, spot, || {
                    let expected = format!("records of opcode {opcode:#04x}: {}", words(is));
                    (expected, words(says))
                });
            }
        }
    }

    fn statistics(&mut self, spot: Spot, counts: &Counts, contents: &mut Contents<'_>) {
        contents.findings.looked_at(Check::Statistics, 1);
        let Some((spot, said)) = self.statistics.take() else {
            contents.findings.fault(Check::Statistics, spot, || {
                ("statistics in the summary".to_owned(), "none".to_owned())
            });
            return;
        };
        let (schemas, channels) = contents.declared();
        let (first, last) = contents.span.unwrap_or_default();
        let fields = [
            ("message_count", contents.messages, said.message_count),
            ("schema_count", schemas as u64, said.schema_count.into()),
            ("channel_count", channels as u64, said.channel_count.into()),
            ("attachment_count", counts.attachments.into(), said.attachment_count.into()),
            ("metadata_count", contents.metadata.into(), said.metadata_count.into()),
            ("chunk_count", counts.chunks, said.chunk_count.into()),
            ("message_start_time", first, said.message_start_time),
            ("message_end_time", last, said.message_end_time),
        ];
        for (name, is, says) in fields.into_iter().filter(|(_, is, says)| is != says) {
            contents.findings.fault(Check::Statistics, spot, || {
                (format!("{name} {is}, as there is"), says.to_string())
            });
        }
        let is = contents.counts();
        let says = said.channel_message_counts;
        let both = is.keys().chain(says.keys().filter(|id| !is.contains_key(id)));
        let count = |of: &BTreeMap<u16, u64>, id: &u16| of.get(id).copied().unwrap_or_default();
        for id in both.filter(|id| count(&is, id) != count(&says, id)) {
            contents.findings.fault(Check::Statistics, spot, || {
                let messages = counted(count(&is, id), "message");
                let expected = format!("{messages} of channel {id}, as there are");
                (expected, count(&says, id).to_string())
            });
        }
    }
}

/// The index that a chunk at that place should have; None if there is none.
fn index_at(file: &mut File, place: u64) -> io::Result<Option<ChunkIndex>> {
    let end_of_file = file.metadata()?.len();
    if place >= end_of_file {
        return Ok(None);
    }
    let found = chunk::header_at(file, place)?.filter(|(head, _)| head.end() <= end_of_file);
    let Some((head, header)) = found else { return Ok(None) };
    let Header { first, last, size, compression, packed, .. } = header;
    file.seek(SeekFrom::Start(head.end()))?;
    let mut records = Records::new(BufReader::with_capacity(READ_SIZE, file), head.end());
    let mut offsets = BTreeMap::new();
    let mut end = head.end();
    while records.peek()? == Some(op::MESSAGE_INDEX) {
        let Next::Record(head) = records.next()? else { break };
        let Some(id) = records.bytes::<2>()?.filter(|_| head.end() <= end_of_file) else { break };
        offsets.entry(u16::from_le_bytes(id)).or_insert(head.offset);
        end = head.end();
        records.skip_by(|file, rest| file.seek_relative(rest as i64))?;
    }
    Ok(Some(ChunkIndex {
        message_start_time: first,
        message_end_time: last,
        chunk_start_offset: place,
        chunk_length: head.end() - head.offset,
        message_index_offsets: offsets,
        message_index_length: end - head.end(),
        compression,
        compressed_size: packed,
        uncompressed_size: size,
    }))
}
