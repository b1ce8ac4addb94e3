//! The records of one segment, read from the first to the last, strictly.
//!
//! All checks of the `mcap` reader are on (the checksums of the data section and of the summary, a
//! limit on every length), and four of our own: a chunk is checked before anything of it comes out,
//! opcodes that MCAP reserves are damage, so is a piece of a hot segment that the checkpoint behind it does
//! not prove, and a segment must end as its state demands. What is wrong is told and left out, and reading
//! goes on where something is proven to be whole. Chunks are unpacked here and not by the `mcap` reader, which
//! does it piece by piece: at once takes half the time.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use mcap::{
    McapError,
    records::op,
    sans_io::linear_reader::{LinearReadEvent, LinearReader, LinearReaderOptions},
};

use super::{
    PROFILE, RECORD_HEADER_SIZE, RECORD_LIMIT,
    chunk::{self, Chunk, Sharing},
    hot::{self, CHECKPOINT, Checkpoint},
    record::{MESSAGE_HEADER_SIZE, Parsed, Record, expect_hot, foreign, parse},
    rooms::Rooms,
    salvage::{Judge, Piece, Search},
    stranger,
    stretch::{Next, Stretch, read_at},
    summary::summary,
};
use crate::error::{Damaged, Error, Kind, Result, counted};

/// MCAP's magic, at both ends of a file.
pub(super) const MAGIC_SIZE: u64 = mcap::MAGIC.len() as u64;

/// How much is read from the file at once.
const READ_SIZE: usize = 256 * 1024;

/// The bytes of messages that follow each other outside of chunks lie in blocks of this size.
const BLOCK_SIZE: usize = 64 * 1024;

/// So many blocks of a hot segment are looked after: as much lies in them as is on its way to a fast client.
const BLOCKS: usize = 16;

/// How much is tried where the file seems to be at its end: it may grow.
const LEAST_READ: usize = 4 * 1024;

/// The records of a segment. Damage need not be the end of it: see [`Records::end`].
pub(super) struct Records {
    linear: LinearReader,
    chunk: Chunk,
    file: File,
    path: PathBuf,
    hot: bool,
    /// The lock is ours: it says nothing about a live recorder.
    left_over: bool,
    /// Bytes handed to the linear reader.
    fed: u64,
    /// Where the next record begins, or the one in which something is wrong.
    offset: u64,
    /// Hot only: the checksum of all before, but within a stretch.
    checksum: crc32fast::Hasher,
    /// So many have come by.
    messages: u64,
    proven: Option<Checkpoint>,
    proven_until: u64,
    /// A chunk has come by, so messages are in chunks.
    chunked: bool,
    /// Where the last one begins.
    chunk_offset: u64,
    /// Sealed only: up to here all chunks have come by, or have been told of.
    searched: u64,
    /// Hot only: up to here it was judged.
    judged: u64,
    judge: Judge,
    /// Hot only: what was found to be proven, and is read by itself.
    stretch: Option<Stretch>,
    /// Blocks that were read of it.
    rooms: Rooms,
    /// Hot only: what comes before this checkpoint is damaged. Who has a channel is believed all the same, as
    /// what comes behind it depends on that; messages are left out.
    distrusted: Option<Checkpoint>,
    /// Hot only: when the last message was received that was read.
    latest: Option<u64>,
    /// Something is wrong, and that was told.
    told: bool,
    /// All messages have come by: what is wrong behind them costs none.
    complete: bool,
    search: Search,
    state: State,
    /// Room for the bytes of the next messages.
    block: BytesMut,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the header record.
    Start,
    Reading,
    Ended(End),
}

/// How a segment ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// As it should.
    Whole,
    /// All that is wrong is that the last record is cut off.
    Torn,
    /// In any other way: something in it is not what was written.
    Broken,
}

impl Records {
    /// Whoever has the lock of a hot segment and reads it knows that nobody writes it any more.
    pub(super) fn of_left_over(path: &Path) -> Result<Self> {
        Ok(Self { left_over: true, ..Self::open(path)? })
    }

    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let hot = hot::is_hot(path);
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(mcap::MAGIC);
        Ok(Self {
            linear: LinearReader::new_with_options(checks()),
            chunk: Chunk::default(),
            file,
            path: path.to_owned(),
            hot,
            left_over: false,
            fed: 0,
            offset: MAGIC_SIZE,
            checksum,
            messages: 0,
            proven: None,
            proven_until: 0,
            chunked: false,
            chunk_offset: 0,
            searched: MAGIC_SIZE,
            judged: 0,
            judge: Judge::default(),
            stretch: None,
            rooms: Rooms::new(BLOCKS),
            distrusted: None,
            latest: None,
            told: false,
            complete: false,
            search: Search::default(),
            state: State::Start,
            block: BytesMut::new(),
        })
    }

    /// Shares what is unpacked with other readers.
    pub(super) fn share(&mut self, sharing: Arc<Sharing>) {
        self.chunk.share(sharing);
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn is_hot(&self) -> bool {
        self.hot
    }

    /// All messages have come by: what is wrong behind them costs none.
    pub(super) const fn is_complete(&self) -> bool {
        self.complete
    }

    /// How it ended; None while there may be more.
    pub(super) fn end(&self) -> Option<End> {
        match self.state {
            State::Ended(end) => Some(end),
            State::Start | State::Reading => None,
        }
    }

    /// What came last is of a damaged piece: who has a channel.
    pub(super) const fn is_distrusted(&self) -> bool {
        self.distrusted.is_some()
    }

    /// Everything before this byte is what was written, but for damage that was told. Hot only.
    pub(super) fn proven_until(&self) -> u64 {
        self.proven_until
    }

    /// Where the next record begins; in a sealed segment, the one behind the chunk.
    pub(super) const fn place(&self) -> u64 {
        self.offset
    }

    /// Whether nothing more is in the chunk that is read, or none is.
    pub(super) fn chunk_is_over(&self) -> bool {
        self.chunk.is_over()
    }

    /// Where the message begins that came last, of which that is the data: its record in the file, or else the
    /// chunk that it is in, and where it is in there.
    pub(super) fn place_of(&self, data: &[u8]) -> (u64, Option<u32>) {
        let size = (RECORD_HEADER_SIZE + MESSAGE_HEADER_SIZE + data.len()) as u64;
        if self.chunked {
            // No chunk is larger than its limit.
            let within = (self.chunk.place() as u64).saturating_sub(size) as u32;
            (self.chunk_offset, Some(within))
        } else {
            (self.offset.saturating_sub(size), None)
        }
    }

    /// Says that what was read last makes no sense, which ends it.
    pub(super) fn damaged(&mut self, reason: String) -> Error {
        self.state = State::Ended(End::Broken);
        damaged(&self.path, self.place(), reason)
    }

    /// The next record. An error may have more behind it, unless this [has ended](Self::end).
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<Result<Record>> {
        loop {
            if self.end().is_some() {
                return None;
            }
            // As nearly all are.
            let record = match self.chunked_record() {
                Ok(None) => self.step(),
                chunked => chunked,
            };
            match record {
                Ok(Some(record)) => return Some(Ok(record)),
                Ok(None) => self.state = State::Ended(End::Whole),
                Err(error) => {
                    // Whoever knows better how it ended has said so.
                    let told = if self.end().is_some() { Some(error) } else { self.read_on(error) };
                    if let Some(error) = told {
                        self.told = true;
                        return Some(Err(error));
                    }
                }
            }
        }
    }

    /// Goes where reading can go on after an error, and returns what there is to be told.
    fn read_on(&mut self, error: Error) -> Option<Error> {
        let (offset, reason) = match error.into_kind() {
            // A checkpoint knows better.
            Kind::NotACapture { found, .. } if self.is_proven_behind_magic() => {
                self.go_to(MAGIC_SIZE);
                self.state = State::Start;
                let reason = format!("it begins like {found}");
                let (path, until) = (self.path.clone(), Some(MAGIC_SIZE));
                return Some(Kind::Damaged(Damaged { path, offset: 0, until, reason }).into());
            }
            // It has gone there already.
            Kind::Damaged(damage) if damage.until.is_some() => {
                return Some(Kind::Damaged(damage).into());
            }
            // Nothing else was to be expected there.
            Kind::Damaged(_) | Kind::NotACapture { .. }
                if let Some(checkpoint) = self.distrusted =>
            {
                self.skip_to(checkpoint);
                return None;
            }
            Kind::Damaged(Damaged { offset, reason, .. }) => (offset, reason),
            Kind::NotACapture { found, .. } if !self.hot && is_ours(&self.path) => {
                (0, format!("it begins like {found}"))
            }
            other => {
                self.state = State::Ended(End::Broken);
                return Some(other.into());
            }
        };
        // A length that is wrong may have swallowed whole chunks, also that of a record which is passed over.
        let from = self.searched;
        let from = if offset == from { from + 1 } else { from };
        let found = match self.hot {
            false => self.search.next_chunk(&self.file, from),
            // It was written like that.
            true if self.stretch.is_some() => Ok(None),
            true => self.search.next_record(&self.file, offset + 1, self.latest),
        };
        let until = match found {
            Ok(until) => until,
            Err(source) => {
                self.state = State::Ended(End::Broken);
                return Some(Error::io("read", &self.path)(source));
            }
        };
        match until {
            Some(until) => {
                self.go_to(until);
                self.searched = until;
            }
            None => self.state = State::Ended(End::Broken),
        }
        let offset = if until.is_some_and(|until| until < offset) { from } else { offset };
        let path = self.path.clone();
        Some(Kind::Damaged(Damaged { path, offset, until, reason }).into())
    }

    /// Nothing was read yet of a hot segment, and its first checkpoint proves all but the magic.
    fn is_proven_behind_magic(&mut self) -> bool {
        let hot = self.hot && self.state == State::Start;
        hot && matches!(self.next_piece(MAGIC_SIZE), Ok(Piece::Proven(_)))
    }

    /// The piece of a hot segment that begins there, behind all that was read.
    fn next_piece(&mut self, from: u64) -> io::Result<Piece> {
        let crc = self.checksum.clone().finalize();
        self.judge.judge(&self.file, from, crc, &mut self.rooms)
    }

    /// Reads on with the record that begins there.
    fn go_to(&mut self, place: u64) {
        // The checksum of the data section is of what was left out, too.
        let checks = checks().with_skip_start_magic(true).with_validate_data_section_crc(false);
        self.linear = LinearReader::new_with_options(checks);
        (self.fed, self.offset) = (place, place);
        self.state = State::Reading;
    }

    /// Decides, before anything of it comes out, whether the next piece of a hot segment is what was written.
    fn judge(&mut self) -> Result<()> {
        let piece = self.next_piece(self.offset).map_err(Error::io("read", &self.path))?;
        // At the start, the linear reader is before the magic or the header, and goes on there.
        if self.state != State::Start && !matches!(piece, Piece::Proven(_)) {
            self.go_to(self.offset);
        }
        match piece {
            Piece::Proven(stretch) => {
                let until = stretch.proof().offset;
                (self.judged, self.proven_until) = (until, until);
                self.stretch = Some(stretch);
            }
            Piece::Open => self.judged = u64::MAX,
            Piece::Damaged(checkpoint) => {
                (self.judged, self.distrusted) = (u64::MAX, Some(checkpoint));
                let entries = checkpoint.entries.saturating_sub(self.messages);
                let reason =
                    format!("a checksum does not hold over {}", counted(entries, "message"));
                return Err(Kind::Damaged(Damaged {
                    path: self.path.clone(),
                    offset: self.offset,
                    until: Some(checkpoint.offset),
                    reason,
                })
                .into());
            }
        }
        Ok(())
    }

    /// Reads on behind a damaged piece of a hot segment.
    fn skip_to(&mut self, checkpoint: Checkpoint) {
        let Checkpoint { offset, entries, crc } = checkpoint;
        self.go_to(offset);
        self.checksum = crc32fast::Hasher::new_with_initial_len(crc, offset);
        (self.messages, self.judged, self.distrusted) = (entries, offset, None);
    }

    #[inline(never)]
    fn step(&mut self) -> Result<Option<Record>> {
        loop {
            if let Some(record) = self.chunked_record()? {
                return Ok(Some(record));
            }
            if self.state == State::Reading && self.stretch.is_some() {
                if let Some(record) = self.proven_record()? {
                    return Ok(Some(record));
                }
                continue;
            }
            match self.distrusted {
                Some(checkpoint) if self.offset >= checkpoint.offset => {
                    self.skip_to(checkpoint);
                    continue;
                }
                None if self.hot && self.offset >= self.judged => {
                    self.judge()?;
                    continue;
                }
                _ => {}
            }
            let (opcode, parsed, length) = match self.linear.next_event() {
                None => return Ok(None),
                Some(Ok(LinearReadEvent::ReadRequest(wanted))) => {
                    if !self.feed(wanted)? {
                        return self.end_of_file();
                    }
                    continue;
                }
                Some(Ok(LinearReadEvent::Record { data, opcode: op::CHUNK }))
                    if !self.hot && self.state != State::Start =>
                {
                    let rest = opened(&mut self.chunk, data, &self.path, self.offset)?;
                    self.chunk_offset = self.offset;
                    self.offset += RECORD_HEADER_SIZE as u64 + data.len() as u64 - rest;
                    (self.chunked, self.searched) = (true, self.offset);
                    if rest > 0 {
                        // The length of the record is wrong, and what it swallows is the next one.
                        self.go_to(self.offset);
                        return Err(self.nonsense(format!("a chunk ends {rest} bytes early")));
                    }
                    continue;
                }
                Some(Ok(LinearReadEvent::Record { data, opcode })) => {
                    if self.hot {
                        let is_first = self.state == State::Start;
                        if self.distrusted.is_none() {
                            expect_hot(opcode, is_first)
                                .map_err(|reason| damaged(&self.path, self.offset, reason))?;
                        }
                        if opcode == CHECKPOINT {
                            let crc = self.checksum.clone().finalize();
                            let found =
                                Checkpoint { offset: self.offset, entries: self.messages, crc };
                            let checked = check(data, self.proven, found)
                                .map_err(|reason| damaged(&self.path, self.offset, reason));
                            match checked {
                                Ok(()) => self.proven = Some(found),
                                // That it is wrong has been told.
                                Err(_) if self.distrusted.is_some() => {}
                                Err(error) => return Err(error),
                            }
                            self.proven_until = self.proven_until.max(self.offset);
                            if self.judged == u64::MAX && self.distrusted.is_none() {
                                // Where the file has grown there may be another one by now.
                                self.judged = 0;
                            }
                        }
                        self.checksum.update(&[opcode]);
                        self.checksum.update(&(data.len() as u64).to_le_bytes());
                        self.checksum.update(data);
                    }
                    if opcode == op::MESSAGE && self.chunked {
                        let reason = "a message is outside of the chunks".to_owned();
                        return Err(damaged(&self.path, self.offset, reason));
                    }
                    let parsed = parse(opcode, data, |data| copied(data, &mut self.block));
                    (opcode, parsed, data.len() as u64)
                }
                Some(Err(error)) => return Err(self.failed(&error)),
            };
            let record = match parsed {
                // Where it ends is known all the same, and what follows may say who has a channel.
                Err(_) if self.distrusted.is_some() => None,
                parsed => parsed.map_err(|reason| damaged(&self.path, self.place(), reason))?,
            };
            self.offset += RECORD_HEADER_SIZE as u64 + length;
            self.complete |= opcode == op::DATA_END;
            self.messages += u64::from(opcode == op::MESSAGE);
            if self.hot && self.distrusted.is_none() {
                self.note_time(record.as_ref());
            }
            if self.state == State::Start {
                self.state = State::Reading;
                self.check_header(opcode, record.as_ref())?;
                self.stretch = self.stretch.take().and_then(|stretch| stretch.behind(self.offset));
            }
            match record {
                Some(Parsed::Record(Record::Message { .. })) if self.distrusted.is_some() => {}
                Some(Parsed::Record(record)) => return Ok(Some(record)),
                Some(Parsed::Header(_)) | None => {}
            }
        }
    }

    /// The next record of the chunk that is read. None where it has no more.
    #[inline]
    fn chunked_record(&mut self) -> Result<Option<Record>> {
        while let Some(record) = self.chunk.next() {
            let content = self.chunk.content();
            let (chunk, block) = (&self.chunk, &mut self.block);
            let parsed = record.and_then(|(opcode, span)| {
                parse(opcode, &content[span], |data| kept(chunk, data, block))
            });
            if let Some(Parsed::Record(record)) = parsed.map_err(|reason| self.nonsense(reason))? {
                self.messages += u64::from(matches!(record, Record::Message { .. }));
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// The next record of the stretch that is read. None where it has no more, and after one that says nothing
    /// about the capture.
    fn proven_record(&mut self) -> Result<Option<Record>> {
        let Some(stretch) = &mut self.stretch else { return Ok(None) };
        let next =
            stretch.next(&self.file, &mut self.rooms).map_err(Error::io("read", &self.path))?;
        let damaged = |reason| damaged(&self.path, self.offset, reason);
        let (opcode, span) = match next {
            Next::Record(opcode, span) => (opcode, span),
            Next::Nonsense(reason) => return Err(damaged(reason)),
            Next::End => {
                let Checkpoint { offset, crc, .. } = stretch.proof();
                self.checksum = crc32fast::Hasher::new_with_initial_len(crc, offset);
                self.stretch = None;
                return Ok(None);
            }
        };
        let block = stretch.block();

        let data = &block[span];
        expect_hot(opcode, false).map_err(damaged)?;
        if opcode == CHECKPOINT {
            if stretch.start() != self.offset {
                return Err(damaged("a checkpoint stands where it proves nothing".to_owned()));
            }
            let crc = self.checksum.clone().finalize();
            let found = Checkpoint { offset: self.offset, entries: self.messages, crc };
            check(data, self.proven, found).map_err(damaged)?;
            self.proven = Some(found);
        }
        let parsed = parse(opcode, data, |data| block.slice_ref(data)).map_err(damaged)?;
        let length = data.len() as u64;
        self.offset += RECORD_HEADER_SIZE as u64 + length;
        self.messages += u64::from(opcode == op::MESSAGE);
        self.note_time(parsed.as_ref());
        Ok(match parsed {
            Some(Parsed::Record(record)) => Some(record),
            Some(Parsed::Header(_)) | None => None,
        })
    }

    #[inline]
    fn note_time(&mut self, record: Option<&Parsed>) {
        if let Some(Parsed::Record(Record::Message { header, .. })) = record {
            self.latest = Some(header.log_time);
        }
    }

    /// A record of a whole chunk makes no sense: it was written like that. The next ones may.
    pub(super) fn nonsense(&self, reason: String) -> Error {
        let (path, place) = (self.path.clone(), self.offset);
        Kind::Damaged(Damaged { path, offset: place, until: Some(place), reason }).into()
    }

    fn check_header(&self, opcode: u8, record: Option<&Parsed>) -> Result<()> {
        match record {
            // Nobody but a recorder has written a checkpoint.
            _ if self.distrusted.is_some() => Ok(()),
            Some(Parsed::Header(header)) if header.profile == PROFILE => Ok(()),
            Some(Parsed::Header(header)) => {
                let found = foreign(&header.profile);
                Err(Kind::NotACapture { path: self.path.clone(), found }.into())
            }
            _ => Err(damaged(
                &self.path,
                MAGIC_SIZE,
                format!("expected a header record, found opcode {opcode:#04x}"),
            )),
        }
    }

    /// Whether there was more to read. The file may grow where there was not.
    fn feed(&mut self, wanted: usize) -> Result<bool> {
        let read = read_for(&mut self.linear, &self.file, self.fed, wanted);
        let read = read.map_err(Error::io("read", &self.path))?;
        if read > 0 {
            self.linear.notify_read(read);
            self.fed += read as u64;
        }
        Ok(read > 0)
    }

    /// The file has ended and the footer has not been seen.
    fn end_of_file(&mut self) -> Result<Option<Record>> {
        if self.fed == 0 {
            // Killed between creating it and the first write, or just created by a live recorder.
            if self.hot {
                return Ok(None);
            }
            return Err(self.not_a_capture("an empty file"));
        }
        if self.distrusted.is_some() {
            // A length in there is wrong.
            return Err(damaged(&self.path, self.offset, "a record has no end".to_owned()));
        }
        if !self.hot {
            // A whole file ends behind its magic, where the linear reader asks for nothing more
            // except to see that nothing follows.
            self.linear.notify_read(0);
            return match self.linear.next_event() {
                None => Ok(None),
                _ if self.state != State::Start => {
                    let reason = "the file ends before its footer".to_owned();
                    Err(damaged(&self.path, self.offset, reason))
                }
                _ => Err(self.not_a_capture("the beginning of one at most")),
            };
        }
        let whole = if self.fed < MAGIC_SIZE { 0 } else { self.offset };
        let torn = self.fed - whole;
        // A live recorder may be in the middle of a record.
        if !self.left_over && hot::is_owned(&self.file) {
            return Ok(None);
        }
        if torn == 0 {
            return Ok(None);
        }
        if whole > 0 && self.proven_until == whole {
            return Err(damaged(
                &self.path,
                whole,
                "the length of a checkpoint is wrong".to_owned(),
            ));
        }
        let next = self.search.next_record(&self.file, whole + 1, self.latest);
        if let Some(next) = next.map_err(Error::io("read", &self.path))? {
            // A wrong length has swallowed what follows, as far as that was written.
            let reason = format!("a record has no end, and another one stands at byte {next}");
            return Err(damaged(&self.path, whole, reason));
        }
        if !self.told {
            self.state = State::Ended(End::Torn);
        }
        let reason = format!("the last record is incomplete, {torn} bytes of it are there");
        Err(damaged(&self.path, whole, reason))
    }

    fn failed(&mut self, error: &McapError) -> Error {
        match error {
            // The counts of the summary say what it has cost.
            McapError::BadDataCrc { .. } => self.complete = true,
            // What follows may be a capture of its own, in which channels are other ones.
            McapError::BytesAfterEndMagic => self.state = State::Ended(End::Broken),
            _ => {}
        }
        self.fault(error)
    }

    fn fault(&self, error: &McapError) -> Error {
        match error {
            McapError::BadMagic if self.state == State::Start => {
                self.not_a_capture(stranger(&self.path))
            }
            McapError::BytesAfterEndMagic => damaged(
                &self.path,
                self.offset,
                "more follows behind its end, which is not read".to_owned(),
            ),
            McapError::Io(source) => damaged(
                &self.path,
                self.offset,
                format!("its content cannot be unpacked: {source}"),
            ),
            McapError::BadDataCrc { .. } => {
                let expected = summary(&self.path).and_then(|summary| summary.stats);
                let expected = expected.map_or(self.messages, |counts| counts.message_count);
                let missing = counted(expected.saturating_sub(self.messages), "message");
                let reason = format!(
                    "the checksum over all before does not hold; {missing} did not come by"
                );
                damaged(&self.path, self.offset, reason)
            }
            error => damaged(&self.path, self.offset, error.to_string()),
        }
    }

    fn not_a_capture(&self, found: &str) -> Error {
        Kind::NotACapture { path: self.path.clone(), found: found.to_owned() }.into()
    }
}

/// How many bytes of a chunk's record are none of its.
fn opened(chunk: &mut Chunk, record: &[u8], path: &Path, offset: u64) -> Result<u64> {
    if chunk::is_lz4(record) {
        return Err(Kind::Compression { path: path.to_owned(), found: "lz4" }.into());
    }
    chunk.open(record).map_err(|reason| damaged(path, offset, reason))
}

fn damaged(path: &Path, offset: u64, reason: String) -> Error {
    Kind::damaged(path, offset, reason).into()
}

/// What the `mcap` reader checks.
fn checks() -> LinearReaderOptions {
    LinearReaderOptions::default()
        .with_emit_chunks(true)
        .with_validate_data_section_crc(true)
        .with_validate_summary_section_crc(true)
        .with_check_finishes_after_end_magic(true)
        .with_record_length_limit(RECORD_LIMIT)
}

/// Whether the end of a sealed segment says that it is one, whatever its beginning says.
fn is_ours(path: &Path) -> bool {
    summary(path).is_some_and(|summary| {
        summary.channels.values().any(|channel| channel.metadata.contains_key("subscription"))
    })
}

/// A part of a chunk, or a copy of it where all of the chunk would be kept for little.
fn kept(chunk: &Chunk, data: &[u8], block: &mut BytesMut) -> Bytes {
    if chunk.is_dense() { chunk.content().slice_ref(data) } else { copied(data, block) }
}

/// A copy in what is left of the block, or else in a new one: most messages are small, and a piece of
/// memory for each would cost more than what it holds.
fn copied(data: &[u8], block: &mut BytesMut) -> Bytes {
    if block.capacity() < data.len() {
        *block = BytesMut::with_capacity(BLOCK_SIZE.max(data.len()));
    }
    block.extend_from_slice(data);
    block.split().freeze()
}

/// Holds a checkpoint against what was really read before it.
fn check(data: &[u8], last: Option<Checkpoint>, found: Checkpoint) -> Result<(), String> {
    let Some(expected) = Checkpoint::from_bytes(data) else {
        return Err("a checkpoint is too short".to_owned());
    };
    if expected == found {
        return Ok(());
    }
    let since = last.map_or(0, |last| last.offset);
    Err(format!("the checksum over bytes {since} to {} does not hold", found.offset))
}

/// Every record of a file with its opcode, just as it is in the file or in one of its chunks: for whoever
/// wants to see all that was written, whatever it means.
pub fn each_record(path: &Path, mut see: impl FnMut(u8, &[u8]) -> Result<()>) -> Result<()> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut reader = LinearReader::new_with_options(checks());
    let mut chunk = Chunk::default();
    let mut fed = 0;
    while let Some(event) = reader.next_event() {
        let damaged = |reason| damaged(path, fed, reason);
        match event.map_err(|error| damaged(error.to_string()))? {
            LinearReadEvent::ReadRequest(wanted) => {
                let read = read_for(&mut reader, &file, fed, wanted);
                let read = read.map_err(Error::io("read", path))?;
                reader.notify_read(read);
                fed += read as u64;
            }
            LinearReadEvent::Record { data, opcode: op::CHUNK } => {
                let rest = chunk.open(data).map_err(damaged)?;
                if rest > 0 {
                    return Err(damaged(format!("a chunk ends {rest} bytes early")));
                }
                while let Some(record) = chunk.next() {
                    let (opcode, span) = record.map_err(damaged)?;
                    see(opcode, &chunk.content()[span])?;
                }
            }
            LinearReadEvent::Record { data, opcode } => see(opcode, data)?,
        }
    }
    Ok(())
}

/// Reads what the linear reader asks for, behind what it was fed, and in the hope of more records a bit more.
/// What a record says about its length makes no buffer larger than the file is.
fn read_for(reader: &mut LinearReader, file: &File, fed: u64, wanted: usize) -> io::Result<usize> {
    let left = file.metadata()?.len().saturating_sub(fed);
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    read_at(file, fed, reader.insert(wanted.max(READ_SIZE).min(left.max(LEAST_READ))))
}
