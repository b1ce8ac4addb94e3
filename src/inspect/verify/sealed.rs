//! A sealed segment: every byte of it is in a checksum, and everything that its indexes say is held against
//! what is there.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use mcap::records::{self, op};

use super::{
    Segment,
    chunk::{self, Header},
    contents::{Contents, HELD},
    findings::{Check, Spot, went_on},
    index,
    records::{HEAD_SIZE, Head, Records},
    scan::{MAGIC_SIZE, Piece, Scanner},
    workers::{self, Content, Prepared},
};
use crate::{
    capture,
    error::{Error, Kind, Result},
};

/// Looks at all of a sealed segment, of which both are open, and which has that size.
pub(super) fn verify(
    path: &Path,
    [file, again]: [File; 2],
    size: u64,
    contents: &mut Contents<'_>,
) -> Result<Segment> {
    let failed = |error: io::Error| Error::io("read", path)(error);
    let mut sealed = Sealed::new(path, contents, again, size);
    sealed.magic(path)?;
    let scanner = Scanner::new(file, size).map_err(failed)?;
    let read = workers::each_piece(scanner, |piece| sealed.piece(piece));
    if sealed.is_lz4 {
        return Err(Kind::Compression { path: path.to_owned(), found: "lz4" }.into());
    }
    let mut scanner = read.map_err(failed)?;
    sealed.end(&mut scanner).map_err(failed)?;
    Ok(sealed.finish())
}

/// The parts of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    /// Before the header.
    Start,
    Data,
    Summary,
    End,
}

struct Sealed<'c, 'v> {
    path: &'c Path,
    contents: &'c mut Contents<'v>,
    /// For what has to be looked up.
    file: File,
    size: u64,
    section: Section,
    /// The checksum of what has come by of this section; None if it cannot be known.
    sum: Option<crc32fast::Hasher>,
    /// Where the last chunk begins of which the indexes may still come by.
    chunk: Option<u64>,
    segment: Segment,
    attachments: u32,
    summary_start: u64,
    summary: index::Summary,
    /// The summary was asked who has a channel.
    is_declared: bool,
    /// It is compressed in the other of MCAP's two ways, which is no fault of it, and cannot be read.
    is_lz4: bool,
}

impl<'c, 'v> Sealed<'c, 'v> {
    fn new(path: &'c Path, contents: &'c mut Contents<'v>, file: File, size: u64) -> Self {
        let mut sum = crc32fast::Hasher::new();
        sum.update(mcap::MAGIC);
        Self {
            path,
            contents,
            is_declared: false,
            is_lz4: false,
            file,
            size,
            section: Section::Start,
            sum: Some(sum),
            chunk: None,
            segment: Segment::default(),
            attachments: 0,
            summary_start: 0,
            summary: index::Summary::default(),
        }
    }

    /// The magic at the beginning. A file that has none at either end is none of ours.
    fn magic(&mut self, path: &Path) -> Result<()> {
        let failed = |error: io::Error| Error::io("read", path)(error);
        let begins = magic_at(&mut self.file, 0).map_err(failed)?;
        if begins {
            return Ok(());
        }
        let end = self.size.saturating_sub(MAGIC_SIZE);
        let ends = end > 0 && magic_at(&mut self.file, end).map_err(failed)?;
        if !ends {
            let found = if self.size == 0 { "an empty file" } else { capture::stranger(path) };
            let (path, found) = (path.to_owned(), found.to_owned());
            return Err(Kind::NotACapture { path, found }.into());
        }
        self.sum = None;
        self.contents.findings.fault(Check::Records, Spot::at(0), || {
            ("MCAP's magic".to_owned(), "something else".to_owned())
        });
        Ok(())
    }

    fn piece(&mut self, prepared: &Prepared) -> io::Result<()> {
        match &prepared.piece {
            Piece::Batch(batch) => {
                let ends = batch.heads.first().map(|head| head.opcode);
                match ends {
                    Some(op::DATA_END) => {
                        let head = batch.heads[0];
                        self.data_end(head, batch.data(head));
                        return Ok(());
                    }
                    Some(op::FOOTER) => {
                        let head = batch.heads[0];
                        self.footer(head, &batch.bytes);
                        return Ok(());
                    }
                    _ => {}
                }
                for (index, &head) in batch.heads.iter().enumerate() {
                    match &prepared.chunk {
                        Some(chunk) if index == 0 => {
                            self.chunk(head, chunk.header.as_ref(), &chunk.content)?;
                        }
                        _ => self.record(head, batch.data(head))?,
                    }
                }
                if let Some(sum) = &mut self.sum {
                    sum.combine(&prepared.sum);
                }
            }
            Piece::Large(head) => self.large(*head)?,
            Piece::Broken(broken) => {
                let spot = Spot::at(broken.offset);
                self.contents.findings.fault(Check::Records, spot, || {
                    let then = went_on(broken.until);
                    (broken.expected.to_owned(), format!("{}; {then}", broken.found))
                });
                self.sum = None;
                self.declare(spot);
                if self.section == Section::Start {
                    self.section = Section::Data;
                }
            }
        }
        Ok(())
    }

    /// Who has a channel may have been said where the file is damaged: what follows is not to blame. The summary
    /// repeats it.
    fn declare(&mut self, spot: Spot) {
        if std::mem::replace(&mut self.is_declared, true) {
            return;
        }
        for (opcode, data) in capture::declared(self.path) {
            match opcode {
                op::SCHEMA => self.contents.schema(&data, spot, false),
                _ => self.contents.channel(&data, spot, false),
            }
        }
    }

    /// A record that is not held. Of a chunk what is in it is read piece by piece.
    fn large(&mut self, head: Head) -> io::Result<()> {
        if self.sum.is_some() {
            self.file.seek(SeekFrom::Start(head.offset))?;
            let mut rest = HEAD_SIZE + head.length;
            let mut block = vec![0; 64 * 1024];
            while rest > 0 {
                let wanted = block.len().min(usize::try_from(rest).unwrap_or(block.len()));
                self.file.read_exact(&mut block[..wanted])?;
                if let Some(sum) = &mut self.sum {
                    sum.update(&block[..wanted]);
                }
                rest -= wanted as u64;
            }
        }
        let spot = Spot::at(head.offset);
        match head.opcode {
            op::CHUNK => {
                let header = chunk::header_at(&mut self.file, head.offset)?;
                let content = match &header {
                    None => Content::Faulty(("a chunk".to_owned(), "something else".to_owned())),
                    Some((_, header)) => {
                        header.fault(head.length).map_or(Content::TooLarge, Content::Faulty)
                    }
                };
                self.chunk(head, header.map(|(_, header)| header).as_ref(), &content)
            }
            op::ATTACHMENT | 0x80.. => self.record(head, &[]),
            _ if head.length <= HELD => {
                let mut data = Vec::new();
                self.file.seek(SeekFrom::Start(head.offset + HEAD_SIZE))?;
                (&self.file).take(head.length).read_to_end(&mut data)?;
                self.record(head, &data)
            }
            opcode => {
                self.contents.findings.looked_at(Check::Records, 1);
                self.contents.too_large(opcode, head.length, spot);
                Ok(())
            }
        }
    }

    /// A chunk, whose content was unpacked or is to be read now.
    fn chunk(&mut self, head: Head, header: Option<&Header>, content: &Content) -> io::Result<()> {
        if header.is_some_and(|header| header.compression == "lz4") {
            self.is_lz4 = true;
            return Err(io::ErrorKind::Unsupported.into());
        }
        let spot = Spot::at(head.offset);
        self.end_chunk();
        self.contents.findings.looked_at(Check::Records, 1);
        self.contents.findings.looked_at(Check::ChunkChecksums, 1);
        self.segment.chunks += 1;
        if self.section != Section::Data {
            self.misplaced(head);
        }
        let faulty = match (content, header) {
            (Content::Faulty(words), _) => Some(words.clone()),
            (Content::Held(content), Some(header)) => {
                let mut records = Records::new(&content[..], 0);
                self.contents.chunk(&mut records, header.size, head.offset)?;
                None
            }
            (Content::TooLarge, Some(header)) => {
                let proven = chunk::Content::of(&mut self.file, head.offset, header)?.prove(header);
                if proven.is_ok() {
                    let content = chunk::Content::of(&mut self.file, head.offset, header)?;
                    let mut records = Records::new(content, 0);
                    self.contents.chunk(&mut records, header.size, head.offset)?;
                }
                proven.err()
            }
            (_, None) => None,
        };
        if let Some(words) = faulty {
            self.contents.findings.fault(Check::ChunkChecksums, spot, || words);
            return Ok(());
        }
        // Of what is not in it, its indexes are not to blame.
        self.chunk = Some(head.offset);
        let there = self.contents.chunk.span.unwrap_or_default();
        if let Some(header) = header
            && (header.first, header.last) != there
        {
            self.contents.findings.fault(Check::ChunkIndexes, spot, || {
                (
                    format!("a chunk with messages from time {} to {}", there.0, there.1),
                    format!("{} to {}", header.first, header.last),
                )
            });
        }
        Ok(())
    }

    /// All indexes of the last chunk have come by.
    fn end_chunk(&mut self) {
        if let Some(offset) = self.chunk.take() {
            self.contents.end_chunk(Spot::at(offset));
        }
    }

    fn record(&mut self, head: Head, data: &[u8]) -> io::Result<()> {
        let spot = Spot::at(head.offset);
        self.contents.findings.looked_at(Check::Records, 1);
        if self.section == Section::Start {
            self.section = Section::Data;
            if head.opcode == op::HEADER {
                self.contents.header(data, spot);
                return Ok(());
            }
            self.contents.findings.fault(Check::Records, spot, || {
                ("a header".to_owned(), format!("opcode {:#04x}", head.opcode))
            });
        }
        if !matches!(head.opcode, op::MESSAGE_INDEX | 0x80..) {
            self.end_chunk();
        }
        let in_summary = self.section == Section::Summary;
        if in_summary {
            self.summary.saw(head, self.contents.findings);
        }
        match head.opcode {
            op::SCHEMA => self.contents.schema(data, spot, in_summary),
            op::CHANNEL => self.contents.channel(data, spot, in_summary),
            op::MESSAGE_INDEX if !in_summary => {
                // Without the chunk's content there is nothing to hold it against.
                if self.chunk.is_some() {
                    self.contents.message_index(data, spot);
                }
            }
            op::METADATA if !in_summary => self.contents.metadata(data, spot),
            op::ATTACHMENT if !in_summary => self.attachments += 1,
            op::MESSAGE if !in_summary && self.segment.chunks == 0 => {
                let whole = [&[op::MESSAGE][..], &head.length.to_le_bytes(), data].concat();
                let mut records = Records::new(&whole[..], head.offset);
                if let super::records::Next::Record(_) = records.next()? {
                    self.contents.message(&mut records, head.offset, spot)?;
                }
            }
            op::STATISTICS
            | op::CHUNK_INDEX
            | op::METADATA_INDEX
            | op::ATTACHMENT_INDEX
            | op::SUMMARY_OFFSET
                if in_summary =>
            {
                match mcap::parse_record(head.opcode, data) {
                    Ok(record) => {
                        let findings = &mut *self.contents.findings;
                        self.summary.record(record, spot, &mut self.file, findings)?;
                    }
                    Err(_) => self.contents.unreadable(head.opcode, spot),
                }
            }
            0x80.. => {}
            _ => self.misplaced(head),
        }
        Ok(())
    }

    fn misplaced(&mut self, head: Head) {
        let section = match self.section {
            Section::Start | Section::Data => "before the end of the data",
            Section::Summary => "in the summary",
            Section::End => "behind the footer",
        };
        self.contents.findings.fault(Check::Records, Spot::at(head.offset), || {
            let expected = format!("a record that belongs {section}");
            (expected, format!("opcode {:#04x}", head.opcode))
        });
    }

    fn data_end(&mut self, head: Head, data: &[u8]) {
        let spot = Spot::at(head.offset);
        self.end_chunk();
        self.contents.findings.looked_at(Check::Records, 1);
        if self.section == Section::Summary {
            return self.misplaced(head);
        }
        self.section = Section::Summary;
        self.summary_start = head.end();
        let Ok(records::Record::DataEnd(said)) = mcap::parse_record(op::DATA_END, data) else {
            return self.contents.unreadable(op::DATA_END, spot);
        };
        let there = self.sum.replace(crc32fast::Hasher::new());
        self.checksum(Check::DataChecksum, there, said.data_section_crc, spot);
    }

    fn checksum(&mut self, check: Check, there: Option<crc32fast::Hasher>, said: u32, spot: Spot) {
        self.contents.findings.looked_at(check, 1);
        let there = there.map(crc32fast::Hasher::finalize);
        if there == Some(said) {
            return;
        }
        self.contents.findings.fault(check, spot, || {
            let found = there.map_or_else(
                || "some of it could not be read".to_owned(),
                |there| format!("{there:#010x}"),
            );
            let expected = match said {
                0 => "a checksum over all before".to_owned(),
                said => format!("the checksum {said:#010x} over all before"),
            };
            (expected, if said == 0 { "none".to_owned() } else { found })
        });
    }

    /// Its own first fields are in the checksum that it has.
    fn footer(&mut self, head: Head, bytes: &[u8]) {
        const COVERED: usize = HEAD_SIZE as usize + 8 + 8;

        let spot = Spot::at(head.offset);
        self.contents.findings.looked_at(Check::Records, 1);
        let in_summary = self.section == Section::Summary;
        self.section = Section::End;
        let data = &bytes[HEAD_SIZE as usize..];
        let footer = match mcap::parse_record(op::FOOTER, data) {
            Ok(records::Record::Footer(footer)) if in_summary => footer,
            Ok(_) => return self.misplaced(head),
            Err(_) => return self.contents.unreadable(op::FOOTER, spot),
        };
        if let Some(sum) = &mut self.sum {
            sum.update(&bytes[..COVERED]);
        }
        let there = self.sum.take();
        self.checksum(Check::SummaryChecksum, there, footer.summary_crc, spot);
        self.contents.end_summary(spot);
        let counts = index::Counts {
            chunks: self.segment.chunks,
            attachments: self.attachments,
            summary: (self.summary_start, head.offset),
        };
        self.summary.finish(footer, spot, counts, self.contents);
    }

    fn end(&mut self, scanner: &mut Scanner) -> io::Result<()> {
        let spot = Spot::at(scanner.at());
        self.end_chunk();
        if self.section == Section::End
            && let Err(found) = scanner.end()?
        {
            self.contents.findings.fault(Check::Records, spot, || {
                ("MCAP's magic and the end of the file".to_owned(), found)
            });
        }
        Ok(())
    }

    fn finish(self) -> Segment {
        self.segment
    }
}

fn magic_at(file: &mut File, place: u64) -> io::Result<bool> {
    let mut found = Vec::new();
    file.seek(SeekFrom::Start(place))?;
    file.take(MAGIC_SIZE).read_to_end(&mut found)?;
    Ok(found == mcap::MAGIC)
}
