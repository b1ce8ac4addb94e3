//! Memory for what is unpacked or read. It is used again when nobody has kept a part of it.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// Memory that has been in use.
pub(super) struct Rooms {
    /// The latest one first.
    left: VecDeque<Bytes>,
    most: usize,
}

impl Rooms {
    /// Looks after so many at most.
    pub(super) const fn new(most: usize) -> Self {
        Self { left: VecDeque::new(), most }
    }

    /// Looks after what is no longer read. Others may have parts of it.
    pub(super) fn leave(&mut self, content: Bytes) {
        if !content.is_empty() {
            self.left.truncate(self.most.saturating_sub(1));
            self.left.push_front(content);
        }
    }

    /// Memory that nobody uses, with nothing in it: some of before, if there is.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut free = self.free().unwrap_or_default();
        // Whatever is left in it would be moved to its beginning.
        free.advance(free.len());
        free.into()
    }

    /// The same with so many bytes in it at least, whatever they are: to read into.
    pub(super) fn take_filled(&mut self, size: usize) -> BytesMut {
        match self.free().map(Bytes::try_into_mut) {
            Some(Ok(mut free)) => {
                free.resize(size.max(free.len()), 0);
                free
            }
            _ => BytesMut::zeroed(size),
        }
    }

    /// Who was first is likely to be ready first.
    fn free(&mut self) -> Option<Bytes> {
        let free = self.left.iter().rposition(Bytes::is_unique)?;
        self.left.remove(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_when_nobody_has_a_part_of_it() {
        let mut rooms = Rooms::new(2);
        let content = Bytes::from(vec![7; 1000]);
        let (place, part) = (content.as_ptr(), content.slice(10..20));
        rooms.leave(content);
        assert_eq!(rooms.take().capacity(), 0);
        assert_eq!(part, [7; 10][..]);
        drop(part);
        let room = rooms.take();
        assert_eq!((room.as_ptr(), room.len()), (place, 0));
        assert!(room.capacity() >= 1000);
        assert_eq!(rooms.take().capacity(), 0);
    }

    #[test]
    fn no_more_is_kept_than_was_said() {
        let mut rooms = Rooms::new(2);
        for size in 1..=5 {
            rooms.leave(vec![0; size].into());
        }
        let sizes = [rooms.take().capacity(), rooms.take().capacity(), rooms.take().capacity()];
        assert_eq!(sizes, [4, 5, 0]);
    }
}
