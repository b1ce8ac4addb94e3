//! A hot segment: records behind each other, and checkpoints that say what all before them was. Behind what is no
//! record reading goes on where whoever reads entries goes on, too.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use mcap::records::op;

use super::{
    Segment,
    contents::{Contents, HELD},
    findings::{Check, Spot, went_on},
    records::{Head, Next, Records, Summed},
};
use crate::{
    capture::{CHECKPOINT, Checkpoint, RECORD_LIMIT, Search},
    error::{Error, Kind, Result, counted},
};

const READ_SIZE: usize = 256 * 1024;

/// Looks at the first `size` bytes of a hot segment, of which both are open, and which its recorder may be writing.
pub(super) fn verify(
    path: &Path,
    [file, again]: [File; 2],
    size: u64,
    is_live: bool,
    contents: &mut Contents<'_>,
) -> Result<Segment> {
    let mut from = Summed::new(BufReader::with_capacity(READ_SIZE, file.take(size)));
    let mut magic = Vec::new();
    let failed = |error: io::Error| Error::io("read", path)(error);
    (&mut from).take(mcap::MAGIC.len() as u64).read_to_end(&mut magic).map_err(failed)?;
    let segment = Segment::default();
    let search = Search::default();
    let (at, proven, missing, is_behind) = (0, None, 0, false);
    let mut hot =
        Hot { contents, segment, again, search, size, is_live, at, proven, missing, is_behind };
    if magic == mcap::MAGIC {
        hot.records(Records::new(from, magic.len() as u64)).map_err(failed)?;
    } else if !mcap::MAGIC.starts_with(&magic) {
        let (path, found) = (path.to_owned(), "something else".to_owned());
        return Err(Kind::NotACapture { path, found }.into());
    } else if magic.is_empty() {
        // Killed, or just begun, before anything was written.
        hot.contents.is_ours = true;
    } else {
        hot.contents.is_ours = true;
        hot.torn(0, magic.len() as u64);
    }
    Ok(hot.segment)
}

struct Hot<'c, 'v> {
    contents: &'c mut Contents<'v>,
    segment: Segment,
    /// For what has to be looked up.
    again: File,
    search: Search,
    size: u64,
    is_live: bool,
    /// Where the last record ended.
    at: u64,
    /// What the last checkpoint said.
    proven: Option<Checkpoint>,
    /// So many messages were passed over before it.
    missing: u64,
    /// Something was passed over since then.
    is_behind: bool,
}

type Source = Records<Summed<BufReader<io::Take<File>>>>;

impl Hot<'_, '_> {
    fn records(&mut self, mut records: Source) -> io::Result<()> {
        self.at = records.at();
        let mut is_first = true;
        loop {
            // The checksum is of what comes before the checkpoint.
            let crc = match records.peek()? {
                Some(CHECKPOINT) => records.inner().crc(),
                _ => 0,
            };
            let head = match records.next()? {
                Next::Record(head) => head,
                Next::End => break,
                Next::Torn(count) => {
                    self.torn(self.at, count);
                    break;
                }
            };
            let spot = Spot::at(head.offset);
            self.contents.findings.looked_at(Check::Records, 1);
            let misfit = misfit(head, is_first);
            is_first = false;
            let is_torn = misfit.is_none() && head.end() > self.size;
            if misfit.is_some() || is_torn {
                // A live recorder may be in the middle of it.
                let until = if is_torn && self.is_live { None } else { self.behind(&records)? };
                if is_torn && until.is_none() {
                    self.torn(head.offset, self.size - head.offset);
                    break;
                }
                let (expected, found) = misfit.unwrap_or_else(|| {
                    let found = format!("opcode {:#04x} with {}", head.opcode, head.length);
                    ("a record that ends before the file".to_owned(), found)
                });
                self.contents.findings.fault(Check::Records, spot, || {
                    (expected, format!("{found}; {}", went_on(until)))
                });
                let Some(until) = until else { break };
                records.skip_to(until)?;
                (self.at, self.is_behind) = (until, true);
                continue;
            }
            self.at = head.end();
            if head.opcode == op::MESSAGE {
                self.contents.message(&mut records, head.offset, spot)?;
                records.skip()?;
                continue;
            }
            let data = records.all()?;
            match head.opcode {
                op::HEADER => self.contents.header(&data, spot),
                op::SCHEMA => self.contents.schema(&data, spot, false),
                op::CHANNEL => self.contents.channel(&data, spot, false),
                op::METADATA => self.contents.metadata(&data, spot),
                _ => {
                    if let Some(proof) = self.checkpoint(&data, crc, spot) {
                        // What follows can be proven all the same.
                        let mut sum =
                            crc32fast::Hasher::new_with_initial_len(proof.crc, head.offset);
                        sum.update(&[head.opcode]);
                        sum.update(&head.length.to_le_bytes());
                        sum.update(&data);
                        records.inner().sum = sum;
                    }
                }
            }
        }
        let proven = self.proven.map_or(0, |proof| proof.entries);
        self.segment.unproven = (self.contents.messages + self.missing).saturating_sub(proven);
        Ok(())
    }

    /// Where the next record begins behind what is none. A wrong length may have swallowed it.
    fn behind(&mut self, records: &Source) -> io::Result<Option<u64>> {
        let latest = self.contents.span.map(|(_, latest)| latest);
        let next = self.search.next_record(&self.again, records.at(), latest)?;
        Ok(next.filter(|&next| next < self.size))
    }

    /// Whether a checkpoint holds. If not, what it says is returned.
    fn checkpoint(&mut self, data: &[u8], crc: u32, spot: Spot) -> Option<Checkpoint> {
        self.contents.findings.looked_at(Check::Checkpoints, 1);
        self.segment.checkpoints += 1;
        let Some(said) = Checkpoint::from_bytes(data) else {
            self.contents.findings.fault(Check::Checkpoints, spot, || {
                ("a checkpoint".to_owned(), format!("only {} bytes", data.len()))
            });
            return None;
        };
        let entries = self.contents.messages + self.missing;
        let there = Checkpoint { offset: spot.offset, entries, crc };
        if std::mem::take(&mut self.is_behind) {
            self.missing = said.entries.saturating_sub(self.contents.messages);
        }
        let since = self.proven.map_or(0, |proof| proof.offset);
        self.proven = Some(said);
        if said == there {
            return None;
        }
        if said.crc != there.crc {
            self.contents.findings.fault(Check::Checkpoints, spot, || {
                let bytes = format!("bytes {since} to {}", spot.offset);
                let expected = format!("the checksum {:#010x}, which proves {bytes}", said.crc);
                (expected, format!("{:#010x}", there.crc))
            });
        }
        if said.entries != there.entries {
            self.contents.findings.fault(Check::Checkpoints, spot, || {
                let expected = format!("{} before it", counted(said.entries, "message"));
                (expected, there.entries.to_string())
            });
        }
        if said.offset != there.offset {
            self.contents.findings.fault(Check::Checkpoints, spot, || {
                (format!("a checkpoint for byte {}", spot.offset), format!("{}", said.offset))
            });
        }
        Some(said)
    }

    /// The last record is cut off: a live recorder may be in the middle of it.
    fn torn(&mut self, offset: u64, there: u64) {
        if !self.is_live {
            self.contents.findings.fault(Check::Records, Spot::at(offset), || {
                ("a whole record".to_owned(), format!("the first {there} bytes of one"))
            });
        }
    }
}

/// What is wrong with a record, if that can be seen already.
fn misfit(head: Head, is_first: bool) -> Option<(String, String)> {
    let found = format!("opcode {:#04x}", head.opcode);
    let expected = match head.opcode {
        op::HEADER if is_first => None,
        _ if is_first => Some("a header"),
        op::SCHEMA | op::CHANNEL | op::MESSAGE | op::METADATA | CHECKPOINT => None,
        _ => Some("a record of a recorder"),
    };
    if let Some(expected) = expected {
        return Some((expected.to_owned(), found));
    }
    let limit = if head.opcode == op::MESSAGE { RECORD_LIMIT as u64 } else { HELD };
    (head.length > limit).then(|| {
        (format!("at most {limit} bytes in a record"), format!("{found} with {}", head.length))
    })
}
