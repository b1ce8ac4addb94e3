//! What a walk tells: a message in the words of JSON, for whoever spells them.

use std::ops::Range;

use crate::codec::plan::{Bytes, Field, Literal};

/// What a walk writes to. Calls come as JSON is nested: a field, then its value, which is a scalar
/// or what stands between an opening and its closing.
pub trait Writer {
    /// A place in what was written.
    type Mark: Copy;

    /// Whether anybody will see it. What an `Any` holds is looked at only then.
    const SHOWN: bool = true;

    /// Where the next thing will be written.
    fn mark(&self) -> Self::Mark;
    /// Forgets everything from there on.
    fn rewind(&mut self, to: Self::Mark);

    /// A field's value follows.
    fn field(&mut self, field: &Field);
    /// The value of a key that is not in the schema follows.
    fn name(&mut self, name: &str);
    /// The next element of the list follows.
    fn element(&mut self);
    /// A message or a map begins.
    fn open_message(&mut self) -> Self::Mark;
    /// It ends.
    fn close_message(&mut self, opened: Self::Mark);
    /// A list begins.
    fn open_list(&mut self) -> Self::Mark;
    /// It ends.
    fn close_list(&mut self, opened: Self::Mark);

    /// The null of a `Value`.
    fn null(&mut self);
    /// A bool.
    fn bool(&mut self, value: bool);
    /// An int32 or its like.
    fn int32(&mut self, value: i32);
    /// A uint32 or its like.
    fn uint32(&mut self, value: u32);
    /// An int64 or its like.
    fn int64(&mut self, value: i64);
    /// A uint64 or its like.
    fn uint64(&mut self, value: u64);
    /// A float.
    fn float(&mut self, value: f32);
    /// A double.
    fn double(&mut self, value: f64);
    /// The string at `span` of `data`. If it is not UTF-8, nothing is written and the byte of `data`
    /// where it stops being so is returned.
    fn string(&mut self, data: &[u8], span: Range<usize>) -> Result<(), usize>;
    /// What should have been a string but is not UTF-8.
    fn not_utf8(&mut self, data: &[u8]);
    /// Bytes.
    fn bytes(&mut self, shown: Bytes, data: &[u8]);
    /// A value that the plan has rendered as JSON: an enum's name or a declared default.
    fn literal(&mut self, literal: &Literal);
    /// The message that is nothing but these six bytes of a MAC address, in the field `addr`.
    fn mac(&mut self, addr: &Field, address: [u8; 6]);

    // A field and its value at once, for those who are quicker that way.

    /// [`field`](Self::field) and [`bool`](Self::bool).
    #[inline(always)]
    fn field_bool(&mut self, field: &Field, value: bool) {
        self.field(field);
        self.bool(value);
    }
    /// [`field`](Self::field) and [`int32`](Self::int32).
    #[inline(always)]
    fn field_int32(&mut self, field: &Field, value: i32) {
        self.field(field);
        self.int32(value);
    }
    /// [`field`](Self::field) and [`uint32`](Self::uint32).
    #[inline(always)]
    fn field_uint32(&mut self, field: &Field, value: u32) {
        self.field(field);
        self.uint32(value);
    }
    /// [`field`](Self::field) and [`int64`](Self::int64).
    #[inline(always)]
    fn field_int64(&mut self, field: &Field, value: i64) {
        self.field(field);
        self.int64(value);
    }
    /// [`field`](Self::field) and [`uint64`](Self::uint64).
    #[inline(always)]
    fn field_uint64(&mut self, field: &Field, value: u64) {
        self.field(field);
        self.uint64(value);
    }
    /// [`field`](Self::field) and [`string`](Self::string). If it is not UTF-8, only the field is
    /// written.
    #[inline(always)]
    fn field_string(
        &mut self,
        field: &Field,
        data: &[u8],
        span: Range<usize>,
    ) -> Result<(), usize> {
        self.field(field);
        self.string(data, span)
    }
    /// The same with the string that the first `len` bytes of a block are, if it is one of those for which
    /// there is a quicker way; else false, and nothing is written.
    #[inline(always)]
    fn field_short_string(&mut self, field: &Field, block: &[u8; 16], len: usize) -> bool {
        let _ = (field, block, len);
        false
    }
    /// [`field`](Self::field) and [`bytes`](Self::bytes).
    #[inline(always)]
    fn field_bytes(&mut self, field: &Field, shown: Bytes, data: &[u8]) {
        self.field(field);
        self.bytes(shown, data);
    }
    /// [`field`](Self::field) and [`literal`](Self::literal).
    #[inline(always)]
    fn field_literal(&mut self, field: &Field, literal: &Literal) {
        self.field(field);
        self.literal(literal);
    }
    /// A field with the message that is nothing but the bytes of a MAC address, in the field `addr`.
    #[inline(always)]
    fn field_mac(&mut self, field: &Field, addr: &Field, data: &[u8]) {
        self.field(field);
        let opened = self.open_message();
        self.field_bytes(addr, Bytes::Mac, data);
        self.close_message(opened);
    }
}
