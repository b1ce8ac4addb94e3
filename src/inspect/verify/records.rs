//! Records one after the other, from anything that can be read. Of each only so much is in memory as
//! somebody wants of it, whatever it says about its length.

use std::io::{self, BufRead, Read};

use crate::capture::RECORD_HEADER_SIZE;

/// What stands before every record, as places in files are counted.
pub(in crate::inspect) const HEAD_SIZE: u64 = RECORD_HEADER_SIZE as u64;

/// What stands before a record.
#[derive(Clone, Copy, Debug)]
pub(in crate::inspect) struct Head {
    pub opcode: u8,
    /// Where the record begins: with this.
    pub offset: u64,
    /// How many bytes follow.
    pub length: u64,
}

impl Head {
    /// Where the record ends.
    pub(in crate::inspect) const fn end(self) -> u64 {
        self.offset.saturating_add(HEAD_SIZE).saturating_add(self.length)
    }
}

/// The records in a piece of a file, or in a chunk.
pub(in crate::inspect) struct Records<R> {
    from: R,
    at: u64,
    /// What is left of the record that was returned last.
    rest: u64,
}

/// What comes next.
pub(in crate::inspect) enum Next {
    Record(Head),
    /// So many bytes are there, and no whole head is.
    Torn(u64),
    End,
}

impl<R: BufRead> Records<R> {
    /// What is read begins at this offset.
    pub(in crate::inspect) const fn new(from: R, at: u64) -> Self {
        Self { from, at, rest: 0 }
    }

    /// Where reading has come to.
    pub(in crate::inspect) const fn at(&self) -> u64 {
        self.at
    }

    pub(in crate::inspect) const fn inner(&mut self) -> &mut R {
        &mut self.from
    }

    /// What is left of the record that was read last.
    pub(in crate::inspect) const fn rest(&self) -> u64 {
        self.rest
    }

    /// The opcode of the next record, without going there; all of the last one has to be read.
    pub(in crate::inspect) fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.from.fill_buf()?.first().copied())
    }

    /// The head of the next record. What is left of the last one has to be [skipped](Self::skip) before.
    #[inline]
    pub(in crate::inspect) fn next(&mut self) -> io::Result<Next> {
        debug_assert_eq!(self.rest, 0, "the record before was not read to its end");
        let mut head = [0; HEAD_SIZE as usize];
        let read = read_up_to(&mut self.from, &mut head)?;
        if read < head.len() {
            self.at += read as u64;
            return Ok(if read == 0 { Next::End } else { Next::Torn(read as u64) });
        }
        let [opcode, length @ ..] = head;
        let head = Head { opcode, offset: self.at, length: u64::from_le_bytes(length) };
        self.at += HEAD_SIZE;
        self.rest = head.length;
        Ok(Next::Record(head))
    }

    /// The next bytes of the record; fewer if the record or the file ends before.
    #[inline]
    pub(in crate::inspect) fn bytes<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        let wanted = N.min(usize::try_from(self.rest).unwrap_or(N));
        let read = read_up_to(&mut self.from, &mut bytes[..wanted])?;
        self.took(read as u64);
        Ok((read == N).then_some(bytes))
    }

    /// All that is left of the record; what the file does not have is missing.
    pub(in crate::inspect) fn all(&mut self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        self.from.by_ref().take(self.rest).read_to_end(&mut all)?;
        self.took(all.len() as u64);
        Ok(all)
    }

    /// Goes to the end of the record, or of the file. False: the file ended before.
    #[inline]
    pub(in crate::inspect) fn skip(&mut self) -> io::Result<bool> {
        while self.rest > 0 {
            let here = self.from.fill_buf()?.len();
            if here == 0 {
                return Ok(false);
            }
            let skipped = here.min(usize::try_from(self.rest).unwrap_or(here));
            self.from.consume(skipped);
            self.took(skipped as u64);
        }
        Ok(true)
    }

    /// Goes to a place behind this one, whatever the record says about its length.
    pub(in crate::inspect) fn skip_to(&mut self, place: u64) -> io::Result<bool> {
        self.rest = place.saturating_sub(self.at);
        self.skip()
    }

    /// Goes to the end of the record in a way that needs no reading.
    pub(in crate::inspect) fn skip_by(
        &mut self,
        skip: impl FnOnce(&mut R, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        skip(&mut self.from, self.rest)?;
        self.took(self.rest);
        Ok(())
    }

    fn took(&mut self, count: u64) {
        self.at += count;
        self.rest -= count;
    }
}

/// Reads until the buffer is full or there is no more.
#[inline]
fn read_up_to(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match from.read(&mut buffer[read..]) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Keeps the checksum of all that is read.
pub(in crate::inspect) struct Summed<R> {
    from: R,
    pub sum: crc32fast::Hasher,
}

impl<R> Summed<R> {
    pub(in crate::inspect) fn new(from: R) -> Self {
        Self { from, sum: crc32fast::Hasher::new() }
    }

    pub(in crate::inspect) fn crc(&self) -> u32 {
        self.sum.clone().finalize()
    }
}

impl<R: BufRead> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let here = self.from.fill_buf()?;
        let count = here.len().min(buffer.len());
        buffer[..count].copy_from_slice(&here[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Summed<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.from.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        // Nothing is read here: it is in the buffer already.
        if let Ok(here) = self.from.fill_buf() {
            self.sum.update(&here[..count.min(here.len())]);
        }
        self.from.consume(count);
    }
}
