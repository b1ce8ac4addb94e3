//! What the end of a sealed segment says about all of it. It can be had without reading the rest.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use mcap::records::op;

use super::{RECORD_LIMIT, entries::Channel, reader::MAGIC_SIZE};
use crate::entry::{Subscription, Timestamp};

/// The summary of a sealed segment, without reading the rest; None if it has no whole one.
pub(super) fn summary(path: &Path) -> Option<mcap::Summary> {
    use mcap::sans_io::summary_reader::{SummaryReadEvent, SummaryReader, SummaryReaderOptions};

    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    // The summary reader does not ask for it.
    whole_summary(&mut file, size).ok()??;
    let options =
        SummaryReaderOptions::default().with_file_size(size).with_record_length_limit(RECORD_LIMIT);
    let mut reader = SummaryReader::new_with_options(options);
    while let Some(event) = reader.next_event() {
        match event.ok()? {
            SummaryReadEvent::ReadRequest(wanted) => {
                let read = file.read(reader.insert(wanted)).ok()?;
                reader.notify_read(read);
            }
            SummaryReadEvent::SeekRequest(to) => {
                let position = file.seek(to).ok()?;
                reader.notify_seeked(position);
            }
        }
    }
    reader.finish()
}

/// The summary, if it is what its checksum says. That covers all from the summary's start up to the
/// checksum itself, the last field of the footer.
fn whole_summary(file: &mut File, size: u64) -> io::Result<Option<Vec<u8>>> {
    const FOOTER: u64 = 8 + 8 + 4;

    let Some(footer) = size.checked_sub(FOOTER + MAGIC_SIZE) else { return Ok(None) };
    let mut start = [0; 8];
    file.seek(SeekFrom::Start(footer))?;
    file.read_exact(&mut start)?;
    let start = u64::from_le_bytes(start);
    let end = footer + FOOTER - 4;
    if start == 0 || start >= end || end - start > RECORD_LIMIT as u64 {
        return Ok(None);
    }
    let mut summary = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    (&*file).take(end - start).read_to_end(&mut summary)?;
    let mut expected = [0; 4];
    file.read_exact(&mut expected)?;
    file.rewind()?;
    Ok((crc32fast::hash(&summary) == u32::from_le_bytes(expected)).then_some(summary))
}

/// The records of schemas and channels in the summary of a sealed segment, each with its opcode: none if
/// there is no whole one.
pub(crate) fn declared(path: &Path) -> Vec<(u8, Vec<u8>)> {
    let Ok(mut file) = File::open(path) else { return Vec::new() };
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let Ok(Some(summary)) = whole_summary(&mut file, size) else { return Vec::new() };
    let mut declared = Vec::new();
    let mut rest = &summary[..];
    while let [opcode, behind @ ..] = rest
        && let Some((length, behind)) = behind.split_first_chunk()
        && let Some((data, behind)) = usize::try_from(u64::from_le_bytes(*length))
            .ok()
            .and_then(|n| behind.split_at_checked(n))
    {
        if matches!(*opcode, op::SCHEMA | op::CHANNEL) {
            declared.push((*opcode, data.to_vec()));
        }
        rest = behind;
    }
    declared
}

/// A channel as the summary has it.
pub(super) fn of_summary(channel: &mcap::Channel<'_>) -> Channel {
    let schema = channel.schema.as_ref();
    let data = schema.map(|schema| schema.data.to_vec().into()).unwrap_or_default();
    let schema = schema.map(|schema| (schema.name.as_str(), &data));
    Channel::new(&channel.topic, &channel.metadata, schema)
}

/// What a sealed segment says that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Who has something in it, and how many frames, by name.
    pub frames: Vec<(Arc<Subscription>, u64)>,
    /// The first and the last time of an entry.
    pub from: Timestamp,
    /// See `from`.
    pub to: Timestamp,
}

/// What a sealed segment holds, if its end is whole.
pub fn contents(path: &Path) -> Option<Contents> {
    let summary = summary(path)?;
    let counts = summary.stats?;
    let mut frames = BTreeMap::new();
    for (id, channel) in &summary.channels {
        let data = Bytes::new();
        let schema = channel.schema.as_ref().map(|schema| (schema.name.as_str(), &data));
        let Channel { subscription, kind } =
            Channel::new(&channel.topic, &channel.metadata, schema);
        let count = counts.channel_message_counts.get(id).copied().unwrap_or_default();
        let (_, sum) = frames.entry(subscription.name.clone()).or_insert((subscription, 0));
        *sum += kind.map_or(0, |_| count);
    }
    Some(Contents {
        frames: frames.into_values().collect(),
        from: Timestamp::from_nanos(counts.message_start_time),
        to: Timestamp::from_nanos(counts.message_end_time),
    })
}
