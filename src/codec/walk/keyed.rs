//! Ways of their own for what is frequent: a field's name and its value at once, and lists of messages.
//!
//! Each is a function of its own: what one needs would be in the way of the others, and of the loop that
//! calls them. What is not as they expect goes the way of all values.

use std::ops::Range;

use super::{DEPTH_LIMIT, Link, Result, Stop, Walk, Writer, wide};
use crate::codec::plan::{Field, Form, Kind, Message};

impl<'w, W: Writer> Walk<'w, W> {
    /// A varint of any length.
    #[inline(never)]
    pub(super) fn keyed_number(
        &mut self,
        field: &'w Field,
        data: &'w [u8],
        at: usize,
        link: &Link<'_>,
    ) -> Result<usize> {
        let Some((number, next)) = wide::number(self.data, at, data.len()) else {
            return Err(self.broken(field, at, data.len(), link));
        };
        match field.kind {
            Kind::Int32 => self.out.field_int32(field, number as i32),
            Kind::Uint32 => self.out.field_uint32(field, number as u32),
            Kind::Int64 => self.out.field_int64(field, number as i64),
            _ => self.out.field_uint64(field, number),
        }
        Ok(next)
    }

    #[inline(always)]
    pub(super) fn keyed_enum(
        &mut self,
        field: &'w Field,
        data: &'w [u8],
        at: usize,
        link: &Link<'_>,
    ) -> Result<usize> {
        let Kind::Enum(index) = field.kind else { return Err(Stop::Disorder) };
        let names = self.plan.enumeration(index);
        // As long as one byte can say.
        if let Some(&number @ ..0x80) = data.get(at)
            && let Some(name) = names.text(number.into())
        {
            self.out.field_literal(field, name);
            return Ok(at + 1);
        }
        self.keyed_other(field, data, at, link)
    }

    #[inline(always)]
    pub(super) fn keyed_string(
        &mut self,
        field: &'w Field,
        data: &'w [u8],
        at: usize,
        link: &Link<'_>,
    ) -> Result<usize> {
        // The string, and what is behind it, whoever's that is.
        let head = self.data.get(at..).and_then(<[u8]>::first_chunk::<17>);
        if let Some([len @ ..=16, block @ ..]) = head
            && let next = at + 1 + usize::from(*len)
            && next <= data.len()
            && self.out.field_short_string(field, block, usize::from(*len))
        {
            return Ok(next);
        }
        self.keyed_long_string(field, data, at, link)
    }

    #[inline(never)]
    pub(super) fn keyed_long_string(
        &mut self,
        field: &'w Field,
        data: &'w [u8],
        at: usize,
        link: &Link<'_>,
    ) -> Result<usize> {
        let span = self.span(field, at, data.len(), link)?;
        let next = span.end;
        if let Err(byte) = self.out.field_string(field, self.data, span.clone()) {
            self.not_utf8(field, span, byte, link)?;
        }
        Ok(next)
    }

    #[inline(never)]
    pub(super) fn keyed_bytes(
        &mut self,
        field: &'w Field,
        data: &'w [u8],
        at: usize,
        link: &Link<'_>,
    ) -> Result<usize> {
        let Kind::Bytes(shown) = field.kind else { return Err(Stop::Disorder) };
        let span = self.span(field, at, data.len(), link)?;
        let next = span.end;
        self.out.field_bytes(field, shown, &data[span]);
        Ok(next)
    }

    #[inline(never)]
    pub(super) fn keyed_mac(
        &mut self,
        field: &'w Field,
        data: &'w [u8],
        at: usize,
        link: &Link<'_>,
    ) -> Result<usize> {
        let Kind::Mac(index) = field.kind else { return Err(Stop::Disorder) };
        let message = self.plan.message(index);
        if let Some([8, 0x0a, 6, address @ ..]) = data.get(at..at + 9)
            && link.depth < DEPTH_LIMIT
        {
            self.out.field_mac(field, &message.fields[0], address);
            return Ok(at + 9);
        }
        // As long as one byte can say. An empty one may count as absent.
        if let [length @ ..0x80, 0x0a, inner @ 1..0x7e, rest @ ..] = &data[at..]
            && *length == inner + 2
            && let Some(address) = rest.get(..usize::from(*inner))
            && link.depth < DEPTH_LIMIT
        {
            self.out.field_mac(field, &message.fields[0], address);
            return Ok(at + 1 + usize::from(*length));
        }
        self.keyed_other(field, data, at, link)
    }

    #[inline(never)]
    pub(super) fn keyed_message(
        &mut self,
        field: &'w Field,
        data: &'w [u8],
        at: usize,
        link: &Link<'_>,
    ) -> Result<usize> {
        let Kind::Message(index) = field.kind else { return Err(Stop::Disorder) };
        let span = self.span(field, at, data.len(), link)?;
        let next = span.end;
        let message = self.plan.message(index);
        self.out.field(field);
        if message.form == Form::Object {
            self.object_here(field, message, span, link)?;
        } else {
            self.nested(field, message, span, link)?;
        }
        Ok(next)
    }

    #[inline(never)]
    pub(super) fn keyed_other(
        &mut self,
        field: &'w Field,
        data: &'w [u8],
        at: usize,
        link: &Link<'_>,
    ) -> Result<usize> {
        self.out.field(field);
        self.value(field, at, data.len(), link)
    }

    /// Elements that follow each other, each behind the same tag. Returns where the last one ends.
    #[inline(never)]
    pub(super) fn list(
        &mut self,
        field: &'w Field,
        at: usize,
        end: usize,
        link: &Link<'_>,
    ) -> Result<usize> {
        self.out.field(field);
        let opened = self.out.open_list();
        let next = match field.kind {
            Kind::Message(index) if self.plan.message(index).form == Form::Object => {
                self.messages(field, self.plan.message(index), at, end, link)?
            }
            _ => self.values(field, at, end, link)?,
        };
        self.out.close_list(opened);
        Ok(next)
    }

    /// The elements of a list, the first one's tag already read. Returns where the last one ends.
    #[inline(never)]
    fn values(
        &mut self,
        field: &'w Field,
        at: usize,
        end: usize,
        link: &Link<'_>,
    ) -> Result<usize> {
        let tag = field.tag();
        let mut at = at;
        loop {
            self.element(field, at, link)?;
            at = self.value(field, at, end, link)?;
            match wide::loose_tag(self.data, at, end) {
                Some((next, value)) if next == tag => at = value,
                _ => return Ok(at),
            }
        }
    }

    /// The same for messages that are objects.
    #[inline(never)]
    fn messages(
        &mut self,
        field: &'w Field,
        message: &'w Message,
        at: usize,
        end: usize,
        link: &Link<'_>,
    ) -> Result<usize> {
        let tag = field.tag();
        let mut at = at;
        loop {
            self.element(field, at, link)?;
            let span = self.span(field, at, end, link)?;
            at = span.end;
            self.object_here(field, message, span, link)?;
            match wide::loose_tag(self.data, at, end) {
                Some((next, value)) if next == tag => at = value,
                _ => return Ok(at),
            }
        }
    }

    /// A message that is an object, and is walked right here.
    #[inline(always)]
    fn object_here(
        &mut self,
        field: &'w Field,
        message: &'w Message,
        span: Range<usize>,
        link: &Link<'_>,
    ) -> Result<()> {
        let link = link.down(field, span.start)?;
        let opened = self.out.open_message();
        self.straight_here(message, span, 0, &link)?;
        self.out.close_message(opened);
        Ok(())
    }
}
