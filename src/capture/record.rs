//! One record of a segment: what stands before it, and what it says to us.
//!
//! Most of them are messages, so these are parsed here; for the few others the `mcap` crate does it.

use bytes::Bytes;
use mcap::records::{self, op};

use super::{RECORD_HEADER_SIZE, hot::CHECKPOINT};

/// What stands before the bytes of a message: its channel, its sequence number and its two times.
pub(crate) const MESSAGE_HEADER_SIZE: usize = 2 + 4 + 8 + 8;

/// No record that says something about the capture may be larger: a schema, a channel, metadata. What it
/// becomes in memory may be ten times as much.
pub(super) const ABOUT_LIMIT: usize = 4 * 1024 * 1024;

/// A record that matters to a capture. The others are indexes of what these say.
pub(super) enum Record {
    Schema { id: u16, name: String, encoding: String, data: Bytes },
    Channel(records::Channel),
    Message { header: records::MessageHeader, data: Bytes },
    Metadata(records::Metadata),
}

/// The opcode and the length of a record that begins so.
#[inline]
pub(super) fn record_header(bytes: &[u8]) -> Option<(u8, u64)> {
    let [opcode, length @ ..] = *bytes.first_chunk::<RECORD_HEADER_SIZE>()?;
    Some((opcode, u64::from_le_bytes(length)))
}

/// Opcodes that MCAP keeps for its future. A file of ours has none: a flipped bit makes them, and so
/// do the zeros that a power cut leaves behind. (MCAP: "0x00 is not a valid opcode".)
fn is_reserved(opcode: u8) -> bool {
    matches!(opcode, 0 | 0x10..=0x7f)
}

/// All that a hot segment is written with.
pub(super) fn is_of_hot(opcode: u8) -> bool {
    matches!(
        opcode,
        op::HEADER | op::SCHEMA | op::CHANNEL | op::MESSAGE | op::METADATA | CHECKPOINT
    )
}

/// Holds an opcode against those that a hot segment is written with. Its header is its first record, and no
/// other.
pub(super) fn expect_hot(opcode: u8, is_first: bool) -> Result<(), String> {
    let again = opcode == op::HEADER && !is_first;
    if again || !is_of_hot(opcode) {
        return Err(format!("opcode {opcode:#04x} is none of a recorder's"));
    }
    Ok(())
}

/// A record that was read.
pub(super) enum Parsed {
    Header(records::Header),
    Record(Record),
}

/// What a record says. None for those that say nothing about the capture; `keep` makes something lasting of a message's bytes.
#[inline]
pub(super) fn parse(
    opcode: u8,
    data: &[u8],
    keep: impl FnOnce(&[u8]) -> Bytes,
) -> Result<Option<Parsed>, String> {
    if is_reserved(opcode) {
        return Err(format!("opcode {opcode:#04x} is none that MCAP has"));
    }
    let record = match opcode {
        // Nearly all records are.
        op::MESSAGE => {
            let message = message(data).ok_or("a message has no whole header")?;
            let (header, data) = message;
            return Ok(Some(Parsed::Record(Record::Message { header, data: keep(data) })));
        }
        op::HEADER | op::SCHEMA | op::CHANNEL | op::METADATA if data.len() > ABOUT_LIMIT => {
            let size = data.len();
            return Err(format!("a record about the capture of {size} bytes is over the limit"));
        }
        op::HEADER | op::SCHEMA | op::CHANNEL | op::METADATA => {
            mcap::parse_record(opcode, data).map_err(|error| error.to_string())?
        }
        _ => return Ok(None),
    };
    Ok(Some(match record {
        records::Record::Header(header) => Parsed::Header(header),
        records::Record::Schema { header, data } => Parsed::Record(Record::Schema {
            id: header.id,
            name: header.name,
            encoding: header.encoding,
            data: Bytes::copy_from_slice(&data),
        }),
        records::Record::Channel(channel) => Parsed::Record(Record::Channel(channel)),
        records::Record::Metadata(metadata) => Parsed::Record(Record::Metadata(metadata)),
        _ => return Ok(None),
    }))
}

/// What a file is whose header has another profile than ours.
pub(super) fn foreign(profile: &str) -> String {
    format!("MCAP of another program, with the profile {profile:?},")
}

/// The header of a message, and its bytes.
fn message(record: &[u8]) -> Option<(records::MessageHeader, &[u8])> {
    let (head, data) = record.split_first_chunk::<MESSAGE_HEADER_SIZE>()?;
    let (channel_id, head) = head.split_first_chunk()?;
    let (sequence, head) = head.split_first_chunk()?;
    let (log_time, publish_time) = head.split_first_chunk()?;
    let header = records::MessageHeader {
        channel_id: u16::from_le_bytes(*channel_id),
        sequence: u32::from_le_bytes(*sequence),
        log_time: u64::from_le_bytes(*log_time),
        publish_time: u64::from_le_bytes(*publish_time.first_chunk()?),
    };
    Some((header, data))
}
