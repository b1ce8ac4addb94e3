//! A frame's bytes on lines, each field beginning one. A line is made when it is shown: a frame may be large.

use std::ops::Range;

use centralcap::inspect::message::{Dissection, Line};

/// So many bytes stand on one line.
pub(super) const BYTES: usize = 16;

/// Which bytes a line has.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    /// Of each field, and at last of the bytes that are of none: on which line it begins, and its bytes.
    parts: Vec<(usize, Range<usize>)>,
    lines: usize,
}

impl Sheet {
    pub(super) fn of(found: &Dissection) -> Self {
        let mut sheet = Self::default();
        for field in &found.wire {
            // Also a field without bytes is shown.
            sheet.add(field.offset..field.offset + field.bytes, 1);
        }
        let size = found.data.len();
        sheet.add(size - found.left_out..size, 0);
        sheet
    }

    fn add(&mut self, bytes: Range<usize>, least: usize) {
        let lines = bytes.len().div_ceil(BYTES).max(least);
        self.parts.push((self.lines, bytes));
        self.lines += lines;
    }

    pub(super) const fn len(&self) -> usize {
        self.lines
    }

    /// The bytes of a line, and the field that begins there; None behind the last one.
    pub(super) fn line<'f>(
        &self,
        at: usize,
        found: &'f Dissection,
    ) -> Option<(Range<usize>, Option<&'f Line>)> {
        if at >= self.lines {
            return None;
        }
        let part = self.parts.partition_point(|(first, _)| *first <= at) - 1;
        let (first, bytes) = &self.parts[part];
        let begin = bytes.start + (at - first) * BYTES;
        let field = found.wire.get(part).filter(|_| at == *first);
        Some((begin..bytes.end.min(begin + BYTES), field))
    }
}
