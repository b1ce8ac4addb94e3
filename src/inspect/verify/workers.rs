//! Pieces of a file, unpacked by several threads and handed on in their order.
//!
//! Each thread takes the next piece, unpacks it, and hands on whatever has its turn by then, unless
//! another one is at that. So none waits while there is work, and a few pieces are all that is held.

use std::{
    collections::BTreeMap,
    io,
    sync::{Condvar, Mutex, PoisonError},
    thread,
};

use mcap::records::op;

use super::{
    chunk::{CONTENT_SIZE, Header, Unpacker},
    scan::{Batch, Piece, Scanner},
};
use crate::threads::{OnPanic, locked};

/// So many pieces may wait for their turn.
const AHEAD: usize = 2;

/// A piece, and what can be known of it alone.
pub(super) struct Prepared {
    pub piece: Piece,
    /// The checksum of all its bytes, if it is held.
    pub sum: crc32fast::Hasher,
    /// If it begins with a chunk.
    pub chunk: Option<Chunk>,
}

/// A chunk.
pub(super) struct Chunk {
    /// None if it makes no sense.
    pub header: Option<Header>,
    pub content: Content,
}

/// What is in a chunk.
pub(super) enum Content {
    Held(Vec<u8>),
    /// It is too large to be held.
    TooLarge,
    /// What was expected, and what was found.
    Faulty((String, String)),
}

/// Hands all pieces of a file on, and returns the scanner at the end of it.
pub(super) fn each_piece(
    scanner: Scanner,
    fold: impl FnMut(&Prepared) -> io::Result<()> + Send,
) -> io::Result<Scanner> {
    let desk = Desk {
        source: Mutex::new(Source { scanner, turn: 0, is_over: false }),
        line: Mutex::new(Line::default()),
        moved: Condvar::new(),
        fold: Mutex::new(fold),
    };
    thread::scope(|scope| {
        for _ in 1..super::threads() {
            scope.spawn(|| desk.work());
        }
        desk.work();
    });
    let line = desk.line.into_inner().unwrap_or_else(PoisonError::into_inner);
    let source = desk.source.into_inner().unwrap_or_else(PoisonError::into_inner);
    line.failure.map_or(Ok(source.scanner), Err)
}

struct Desk<F> {
    source: Mutex<Source>,
    line: Mutex<Line>,
    /// Something was handed on, or all is over.
    moved: Condvar,
    fold: Mutex<F>,
}

struct Source {
    scanner: Scanner,
    /// That of the next piece.
    turn: u64,
    is_over: bool,
}

/// Pieces that wait for their turn.
#[derive(Default)]
struct Line {
    turn: u64,
    waiting: BTreeMap<u64, Prepared>,
    /// Somebody is handing on, and will hand on what comes next, too.
    is_busy: bool,
    is_over: bool,
    failure: Option<io::Error>,
    /// Memory that is used again.
    batches: Vec<Batch>,
    contents: Vec<Vec<u8>>,
}

impl Line {
    /// The memory of what was handed on.
    fn take_back(&mut self, handed_on: Prepared) {
        if let Piece::Batch(batch) = handed_on.piece {
            self.batches.push(batch);
        }
        if let Some(Chunk { content: Content::Held(content), .. }) = handed_on.chunk {
            self.contents.push(content);
        }
    }
}

impl<F: FnMut(&Prepared) -> io::Result<()>> Desk<F> {
    fn work(&self) {
        let _guard = OnPanic(|| self.end(None));
        let mut unpacker = Unpacker::default();
        while let Some((batch, content)) = self.memory() {
            let next = {
                let mut source = locked(&self.source);
                if source.is_over {
                    break;
                }
                let next = source.scanner.next(batch);
                source.is_over = !matches!(next, Ok(Some(_)));
                source.turn += 1;
                next.map(|piece| piece.map(|piece| (source.turn - 1, piece)))
            };
            match next {
                Ok(Some((turn, piece))) => {
                    self.hand_on(turn, prepared(piece, &mut unpacker, content));
                }
                Ok(None) => break,
                Err(error) => {
                    self.end(Some(error));
                    break;
                }
            }
        }
    }

    /// Memory for the next piece, as soon as few others are waiting; None if all is over.
    fn memory(&self) -> Option<(Batch, Vec<u8>)> {
        let mut line = locked(&self.line);
        while line.waiting.len() >= AHEAD && !line.is_over {
            line = self.moved.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        let memory =
            (line.batches.pop().unwrap_or_default(), line.contents.pop().unwrap_or_default());
        (!line.is_over).then_some(memory)
    }

    fn hand_on(&self, turn: u64, prepared: Prepared) {
        let mut line = locked(&self.line);
        line.waiting.insert(turn, prepared);
        while !line.is_busy
            && !line.is_over
            && let turn = line.turn
            && let Some(next) = line.waiting.remove(&turn)
        {
            line.is_busy = true;
            drop(line);
            let result = (locked(&self.fold))(&next);
            line = locked(&self.line);
            line.is_busy = false;
            line.take_back(next);
            line.turn += 1;
            if let Err(error) = result {
                line.failure.get_or_insert(error);
                line.is_over = true;
            }
            self.moved.notify_all();
        }
    }

    fn end(&self, failure: Option<io::Error>) {
        let mut line = locked(&self.line);
        line.failure = line.failure.take().or(failure);
        line.is_over = true;
        self.moved.notify_all();
    }
}

fn prepared(piece: Piece, unpacker: &mut Unpacker, mut content: Vec<u8>) -> Prepared {
    let mut sum = crc32fast::Hasher::new();
    let Piece::Batch(batch) = &piece else { return Prepared { piece, sum, chunk: None } };
    sum.update(&batch.bytes);
    let chunk = batch.heads.first().filter(|head| head.opcode == op::CHUNK).map(|head| {
        let data = batch.data(*head);
        let Some(header) = Header::read(data) else {
            let words = ("a chunk".to_owned(), "something else in its record".to_owned());
            return Chunk { header: None, content: Content::Faulty(words) };
        };
        let content = match header.fault(head.length) {
            Some(words) => Content::Faulty(words),
            None if header.size > CONTENT_SIZE => Content::TooLarge,
            None => match unpacker.unpack(&header, &data[header.own as usize..], &mut content) {
                Ok(()) => Content::Held(content),
                Err(words) => Content::Faulty(words),
            },
        };
        Chunk { header: Some(header), content }
    });
    Prepared { piece, sum, chunk }
}
