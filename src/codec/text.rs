//! Text that grows, and quick ways to write what JSON mostly consists of.
//!
//! What is short is copied as a block of fixed size of which only the beginning counts, and what belongs
//! together (a key, its value, quotes) is written after one look at whether there is room for all of
//! it. That this look was enough is what the compiler cannot see: this is the crate's one module with
//! `unsafe`, and all that it offers to others is safe. Each use says why it is right, and a debug build
//! checks each write. `benches/` shows what it buys.

#![allow(unsafe_code, reason = "a bench shows what it buys")]

use std::{ops::Range, ptr};

use self::digits::{
    ASCII_ZEROS, DECIMAL_AND_DOT, EIGHT_DIGITS, PAIRS_AND_COLON, eight_digits, lower_case,
    without_separators,
};
use super::bytes::HEX_PAIRS;

mod digits;

/// There is always room for so many bytes when a [`Pen`] is taken: more than any of the writes below
/// comes to.
const ROOM: usize = 128;

/// Keys and names are hardly ever longer.
const BLOCK: usize = 32;

/// A short text that is copied as a block.
#[derive(Debug)]
pub struct Literal {
    block: [u8; BLOCK],
    /// How much of the block counts: at most all of it, 0 if the text is longer.
    len: u8,
    /// The text, if it does not fit.
    long: Option<Box<[u8]>>,
}

impl Literal {
    pub(super) fn new(text: &str) -> Self {
        let text = text.as_bytes();
        let mut block = [0; BLOCK];
        match block.get_mut(..text.len()) {
            Some(room) => {
                room.copy_from_slice(text);
                Self { block, len: text.len() as u8, long: None }
            }
            None => Self { block, len: 0, long: Some(text.into()) },
        }
    }

    /// Whether it is copied as a block.
    pub(super) const fn is_short(&self) -> bool {
        self.long.is_none()
    }

    /// The text itself.
    pub fn text(&self) -> &[u8] {
        self.long.as_deref().unwrap_or(&self.block[..usize::from(self.len)])
    }
}

/// Text that grows. Its memory is kept when it is cleared.
#[derive(Debug, Default)]
pub struct Text {
    bytes: Vec<u8>,
    /// Below this length there is still [`ROOM`].
    limit: usize,
    /// What is bounded, while something is.
    bounds: Option<Bounds>,
}

/// What may be written from some place on.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    start: usize,
    most: usize,
    is_over: bool,
}

impl Text {
    /// The text so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes it has.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// There is none.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Forgets all from there on.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// From here on no more than so many bytes are kept, and a little. What comes when there are more takes
    /// the place of what is there, and is worthless.
    pub(super) fn begin(&mut self, most: usize) {
        self.bounds = Some(Bounds { start: self.bytes.len(), most, is_over: false });
    }

    /// Ends that. Returns whether there were more.
    pub(super) fn end(&mut self) -> bool {
        self.bounds.take().is_some_and(|bounds| {
            bounds.is_over || self.bytes.len().saturating_sub(bounds.start) > bounds.most
        })
    }

    /// Whoever writes does not look, so all is taken away. Places of before may be behind the end then.
    #[cold]
    fn stay_in_bounds(&mut self) {
        if let Some(bounds) = &mut self.bounds
            && self.bytes.len().saturating_sub(bounds.start) > bounds.most
        {
            bounds.is_over = true;
            self.bytes.truncate(bounds.start);
        }
    }

    /// Appends a text of any length.
    #[inline]
    pub fn extend(&mut self, text: &[u8]) {
        if text.len() > self.bytes.capacity() - self.bytes.len() {
            self.stay_in_bounds();
        }
        self.bytes.extend_from_slice(text);
    }

    /// Appends so many bytes, for the caller to write over.
    #[inline]
    pub(super) fn zeros(&mut self, count: usize) -> &mut [u8] {
        if count > self.bytes.capacity() - self.bytes.len() {
            self.stay_in_bounds();
        }
        let start = self.bytes.len();
        self.bytes.resize(start + count, 0);
        &mut self.bytes[start..]
    }

    /// Appends the nine digits of what is left of a second.
    pub fn nanoseconds(&mut self, nanos: u32) {
        const EIGHT: u32 = EIGHT_DIGITS as u32;

        let mut pen = self.pen();
        // SAFETY: nine bytes.
        unsafe {
            pen.byte(b'0' + (nanos / EIGHT % 10) as u8);
            pen.next_digits(nanos % EIGHT);
            self.lift(pen);
        }
    }

    /// Takes away the quotes round all from there on, if there are any.
    pub(super) fn unquote(&mut self, start: usize) {
        // Beyond its bounds the text may end before that.
        if let Some([b'"', .., b'"']) = self.bytes.get(start..) {
            self.bytes.pop();
            self.bytes.remove(start);
        }
    }

    /// Appends one byte.
    #[inline(always)]
    pub(super) fn byte(&mut self, byte: u8) {
        self.block(&[byte], 1);
    }

    /// Appends the first `len` bytes of a block.
    #[inline(always)]
    pub(super) fn block<const SIZE: usize>(&mut self, block: &[u8; SIZE], len: usize) {
        const { assert!(SIZE <= ROOM) };
        let mut pen = self.pen();
        // SAFETY: there is room for the block.
        unsafe {
            pen.block(block, len.min(SIZE));
            self.lift(pen);
        }
    }

    /// Appends a literal.
    #[inline(always)]
    pub(super) fn literal(&mut self, literal: &Literal) {
        match &literal.long {
            Some(text) => self.extend(text),
            None => self.block(&literal.block, usize::from(literal.len)),
        }
    }

    /// Appends a short key and a literal.
    #[inline(always)]
    pub(super) fn literals(&mut self, key: &Literal, second: &Literal) {
        if second.long.is_some() {
            self.literal(key);
            self.literal(second);
            return;
        }
        let mut pen = self.pen_behind(Some(key));
        // SAFETY: two blocks have 64 bytes.
        unsafe {
            pen.block(&second.block, usize::from(second.len));
            self.lift(pen);
        }
    }

    /// Appends a short key and the first `len` bytes of a block.
    #[inline(always)]
    pub(super) fn word<const SIZE: usize>(
        &mut self,
        key: &Literal,
        block: &[u8; SIZE],
        len: usize,
    ) {
        const { assert!(BLOCK + SIZE <= ROOM) };
        let mut pen = self.pen_behind(Some(key));
        // SAFETY: there is room for the key and the block.
        unsafe {
            pen.block(block, len.min(SIZE));
            self.lift(pen);
        }
    }

    /// Appends a short key, if there is one, and a natural number, in quotes if these are wanted.
    #[inline(always)]
    pub(super) fn natural(&mut self, key: Option<&Literal>, has_quotes: bool, number: u64) {
        let mut pen = self.pen_behind(key);
        // SAFETY: after 32 bytes of key two quotes and, for the number, at most 27.
        unsafe {
            pen.byte_if(has_quotes, b'"');
            pen.number(number);
            pen.byte_if(has_quotes, b'"');
            self.lift(pen);
        }
    }

    /// Appends a short key, if there is one, and an integer, in quotes if these are wanted.
    #[inline(always)]
    pub(super) fn integer(
        &mut self,
        key: Option<&Literal>,
        has_quotes: bool,
        is_negative: bool,
        number: u64,
    ) {
        let mut pen = self.pen_behind(key);
        // SAFETY: after 32 bytes of key two quotes, a sign and, for the number, at most 27.
        unsafe {
            pen.byte_if(has_quotes, b'"');
            pen.byte_if(is_negative, b'-');
            pen.number(number);
            pen.byte_if(has_quotes, b'"');
            self.lift(pen);
        }
    }

    /// Appends a short key, if there is one, and the first `len` bytes of a block, in quotes.
    #[inline(always)]
    pub(super) fn string<const SIZE: usize>(
        &mut self,
        key: Option<&Literal>,
        block: &[u8; SIZE],
        len: usize,
    ) {
        const { assert!(BLOCK + SIZE + 2 <= ROOM) };
        let mut pen = self.pen_behind(key);
        // SAFETY: there is room for the key, two quotes and the block.
        unsafe {
            pen.byte(b'"');
            pen.block(block, len.min(SIZE));
            pen.byte(b'"');
            self.lift(pen);
        }
    }

    /// Appends the first `len` bytes of blocks that follow each other, in quotes.
    #[inline(always)]
    pub(super) fn quoted(&mut self, blocks: &[[u8; 16]], len: usize) {
        let bytes = blocks.as_flattened();
        self.bytes.reserve(bytes.len() + ROOM);
        self.byte(b'"');
        let mut pen = self.pen();
        // SAFETY: room for all blocks has just been made.
        unsafe {
            for block in blocks {
                pen.block(block, 16);
            }
            self.lift(pen);
        }
        let excess = bytes.len() - len.min(bytes.len());
        self.bytes.truncate(self.bytes.len() - excess);
        self.byte(b'"');
    }

    /// Appends a MAC address that is given in any of its forms (six octets or eight, twelve digits, or
    /// pairs of digits with colons or hyphens between them) as lower-case pairs of digits with colons
    /// between them, in quotes. If it is none, false, and nothing is written.
    #[inline]
    pub(super) fn mac(&mut self, address: &[u8]) -> bool {
        let pen = self.pen();
        // SAFETY: all the room is left.
        let Some(pen) = (unsafe { pen.mac(address) }) else { return false };
        // SAFETY: it is the last one.
        unsafe { self.lift(pen) };
        true
    }

    /// Appends a short key and an object that has a short key and such an address, or nothing.
    #[inline(always)]
    pub(super) fn object_of_mac(&mut self, key: &Literal, inner: &Literal, address: &[u8]) -> bool {
        debug_assert!(inner.is_short());
        let mut pen = self.pen_behind(Some(key));
        // SAFETY: after 32 bytes of key 32 of the other, 34 of the address and a bracket.
        unsafe {
            let mut opened = pen;
            pen.block(&inner.block, usize::from(inner.len));
            // In place of the comma.
            opened.byte(b'{');
            let Some(mut pen) = pen.mac(address) else { return false };
            pen.byte(b'}');
            self.lift(pen);
        }
        true
    }

    /// Appends an IPv4 address, in quotes.
    pub(super) fn dotted(&mut self, octets: [u8; 4]) {
        let mut pen = self.pen();
        // SAFETY: 2 quotes and 4 blocks of 4.
        unsafe {
            pen.byte(b'"');
            // No branch on how many digits an octet has.
            for octet in octets {
                let len = 2 + usize::from(octet > 9) + usize::from(octet > 99);
                pen.block(&DECIMAL_AND_DOT[usize::from(octet)], len);
            }
            // In place of the last dot.
            pen.at -= 1;
            pen.byte(b'"');
            self.lift(pen);
        }
    }

    /// Appends an IPv6 address, in quotes, with two colons for the groups that are left out.
    pub(super) fn groups(&mut self, groups: [u16; 8], left_out: Range<usize>) {
        let mut pen = self.pen();
        // SAFETY: 2 quotes and for each group at most 6 bytes.
        unsafe {
            pen.byte(b'"');
            for (index, group) in groups.into_iter().enumerate() {
                if left_out.contains(&index) {
                    // The colon before it stands behind the group before it, if there is one.
                    if index == left_out.start {
                        pen.block(b"::", if index == 0 { 2 } else { 1 });
                    }
                    continue;
                }
                let [high, low] = group.to_be_bytes().map(|octet| HEX_PAIRS[usize::from(octet)]);
                let zeros = (group.leading_zeros() / 4).min(3);
                let digits = u32::from_le_bytes([high[0], high[1], low[0], low[1]]) >> (8 * zeros);
                pen.block(&digits.to_le_bytes(), 4 - zeros as usize);
                pen.byte_if(index < 7, b':');
            }
            pen.byte(b'"');
            self.lift(pen);
        }
    }

    /// Turns the comma that begins the first field or element into a bracket, and appends the other.
    #[inline(always)]
    pub(super) fn close(&mut self, opened: usize, brackets: [u8; 2]) {
        match self.bytes.get_mut(opened) {
            Some(comma) => {
                *comma = brackets[0];
                self.byte(brackets[1]);
            }
            None => self.block(&brackets, 2),
        }
    }

    /// A pen behind all that is there, with [`ROOM`] before it.
    #[inline(always)]
    fn pen(&mut self) -> Pen {
        if self.bytes.len() >= self.limit {
            self.make_room();
        }
        Pen {
            start: self.bytes.as_mut_ptr(),
            at: self.bytes.len(),
            #[cfg(debug_assertions)]
            end: self.bytes.capacity(),
        }
    }

    /// A pen behind the short key, if there is one. There is room for what [`ROOM`] leaves beside
    /// [`BLOCK`].
    #[inline(always)]
    fn pen_behind(&mut self, key: Option<&Literal>) -> Pen {
        let mut pen = self.pen();
        if let Some(key) = key {
            debug_assert!(key.is_short());
            // SAFETY: there is room for a block. Of a key that is too long for one nothing counts.
            unsafe { pen.block(&key.block, usize::from(key.len)) };
        }
        pen
    }

    /// Makes what was written count.
    #[inline(always)]
    unsafe fn lift(&mut self, pen: Pen) {
        // SAFETY: `at` is within the capacity, and all before it has been written, if the pen is the last
        // one that was taken.
        unsafe { self.bytes.set_len(pen.at) };
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self) {
        // So much at most, so that the bounds are looked at now and then.
        const MOST: usize = 16 * 1024 * 1024;

        self.stay_in_bounds();
        self.bytes.reserve(self.bytes.len().clamp(1024, MOST));
        // The capacity never becomes less, so this stays true.
        self.limit = self.bytes.capacity() - ROOM;
    }
}

/// Writes bytes one behind the other into room that has been made. They count when it is lifted.
///
/// Whoever calls its methods has to see to it that, since the pen was taken, no more than [`ROOM`]
/// bytes are written, blocks counted in full.
#[derive(Clone, Copy)]
struct Pen {
    /// Where the text begins.
    start: *mut u8,
    /// Behind the last byte that counts.
    at: usize,
    /// How much of the text's memory may be written to.
    #[cfg(debug_assertions)]
    end: usize,
}

impl Pen {
    /// A block of which the first `len` bytes count.
    #[inline(always)]
    unsafe fn block<const SIZE: usize>(&mut self, block: &[u8; SIZE], len: usize) {
        debug_assert!(len <= SIZE);
        #[cfg(debug_assertions)]
        assert!(self.at + SIZE <= self.end);
        // SAFETY: the caller says that there is room. Nobody else has a reference to it.
        unsafe { ptr::copy_nonoverlapping(block.as_ptr(), self.start.add(self.at), SIZE) };
        self.at += len;
    }

    #[inline(always)]
    unsafe fn byte(&mut self, byte: u8) {
        // SAFETY: the caller says that there is room.
        unsafe { self.block(&[byte], 1) };
    }

    #[inline(always)]
    unsafe fn byte_if(&mut self, is_wanted: bool, byte: u8) {
        // SAFETY: the caller says that there is room.
        unsafe { self.block(&[byte], usize::from(is_wanted)) };
    }

    /// A number: at most 20 digits, in blocks that come to at most 24 bytes.
    #[inline(always)]
    unsafe fn number(&mut self, number: u64) {
        // SAFETY: the caller says that there is room.
        unsafe {
            if number < EIGHT_DIGITS {
                self.first_digits(number as u32);
            } else {
                *self = many_digits(*self, number);
            }
        }
    }

    /// Up to eight digits, no zeros before them.
    #[inline(always)]
    unsafe fn first_digits(&mut self, number: u32) {
        let digits = eight_digits(number);
        // The last digit stays, whatever it is.
        let zeros = (digits | 1 << 56).trailing_zeros() / 8;
        let text = (digits | ASCII_ZEROS) >> (8 * zeros);
        // SAFETY: the caller says that there is room.
        unsafe { self.block(&text.to_le_bytes(), 8 - zeros as usize) };
    }

    /// Eight digits, zeros before them.
    #[inline(always)]
    unsafe fn next_digits(&mut self, number: u32) {
        let text = eight_digits(number) | ASCII_ZEROS;
        // SAFETY: the caller says that there is room.
        unsafe { self.block(&text.to_le_bytes(), 8) };
    }

    /// A MAC address in any of its forms, in quotes, in blocks that come to at most 34 bytes. None if it
    /// is none.
    #[inline(always)]
    unsafe fn mac(mut self, address: &[u8]) -> Option<Self> {
        // SAFETY: the caller says that there is room.
        unsafe {
            match <[u8; 6]>::try_from(address) {
                Ok(octets) => {
                    self.octets(octets);
                    Some(self)
                }
                Err(_) => self.other_mac(address),
            }
        }
    }

    /// One that is no six octets.
    #[inline(never)]
    unsafe fn other_mac(mut self, address: &[u8]) -> Option<Self> {
        if let Ok(octets) = <[u8; 8]>::try_from(address) {
            // SAFETY: the caller says that there is room.
            unsafe { self.octets(octets) };
            return Some(self);
        }
        let (first, last) = match address.len() {
            12 => (
                u64::from_le_bytes(*address.first_chunk()?),
                u32::from_le_bytes(*address.last_chunk()?),
            ),
            _ => without_separators(address)?,
        };
        let first = lower_case(first)?;
        let last = lower_case(u64::from(last) | (ASCII_ZEROS << 32))?;
        // SAFETY: the caller says that there is room.
        unsafe {
            self.byte(b'"');
            for (digits, pairs) in [(first, 4), (last, 2)] {
                for pair in 0..pairs {
                    let pair = (digits >> (16 * pair)) as u32 & 0xffff;
                    self.block(&(pair | 0x3a_0000).to_le_bytes(), 3);
                }
            }
            // In place of the last colon.
            self.at -= 1;
            self.byte(b'"');
        }
        Some(self)
    }

    /// Pairs of hex digits with colons between them, in quotes.
    #[inline(always)]
    unsafe fn octets<const COUNT: usize>(&mut self, octets: [u8; COUNT]) {
        // SAFETY: the caller says that there is room.
        unsafe {
            self.byte(b'"');
            for octet in octets {
                self.block(&PAIRS_AND_COLON[usize::from(octet)], 3);
            }
            // In place of the last colon.
            self.at -= 1;
            self.byte(b'"');
        }
    }
}

/// A number that has more than eight digits, and room for 24.
#[inline(never)]
unsafe fn many_digits(mut pen: Pen, number: u64) -> Pen {
    let (high, low) = (number / EIGHT_DIGITS, number % EIGHT_DIGITS);
    // SAFETY: the caller says that there is room.
    unsafe {
        if high < EIGHT_DIGITS {
            pen.first_digits(high as u32);
        } else {
            pen.first_digits((high / EIGHT_DIGITS) as u32);
            pen.next_digits((high % EIGHT_DIGITS) as u32);
        }
        pen.next_digits(low as u32);
    }
    pen
}

/// Whether a byte is ASCII and stands for itself in JSON.
#[inline(always)]
pub(super) const fn is_plain(byte: u8) -> bool {
    byte.cast_signed() >= 0x20 && byte != b'"' && byte != b'\\'
}

/// Which of sixteen bytes is the first that is not plain; 16 if all are.
#[inline(always)]
pub(super) fn first_special(block: &[u8; 16]) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{
            _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128,
            _mm_set1_epi8,
        };

        // SAFETY: SSE2 is part of every x86-64, and sixteen bytes are read from sixteen.
        let special = unsafe {
            let block = _mm_loadu_si128(block.as_ptr().cast());
            // What is not ASCII is negative.
            let low = _mm_cmplt_epi8(block, _mm_set1_epi8(0x20));
            let quote = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'"' as i8));
            let backslash = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'\\' as i8));
            _mm_movemask_epi8(_mm_or_si128(low, _mm_or_si128(quote, backslash)))
        };
        (special | 1 << 16).trailing_zeros() as usize
    }
    #[cfg(not(target_arch = "x86_64"))]
    block.iter().position(|&byte| !is_plain(byte)).unwrap_or(16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Something that is written, and what it should come out as.
    #[derive(Clone, Debug)]
    enum Write {
        Literal(String),
        Literals(String, String),
        Integer(bool, bool, u64),
        Short([u8; 16], usize),
        Quoted(String),
        Mac([u8; 6]),
        Dotted([u8; 4]),
        Nanoseconds(u32),
        Object,
    }

    impl Write {
        fn to(&self, text: &mut Text, expected: &mut String) {
            let key = Literal::new(",\"a key that fills the whole b\":");
            match self {
                Self::Literal(literal) => {
                    text.literal(&Literal::new(literal));
                    expected.push_str(literal);
                }
                Self::Literals(first, second) => {
                    text.literals(&Literal::new(first), &Literal::new(second));
                    *expected += &format!("{first}{second}");
                }
                &Self::Integer(has_quotes, is_negative, number) => {
                    text.integer(Some(&key), has_quotes, is_negative, number);
                    let quote = if has_quotes { "\"" } else { "" };
                    let minus = if is_negative { "-" } else { "" };
                    expected.push_str(str::from_utf8(key.text()).unwrap());
                    *expected += &format!("{quote}{minus}{number}{quote}");
                }
                Self::Short(block, len) => {
                    text.string(Some(&key), block, *len);
                    let string = str::from_utf8(&block[..*len]).unwrap();
                    expected.push_str(str::from_utf8(key.text()).unwrap());
                    *expected += &format!("\"{string}\"");
                }
                Self::Quoted(string) => {
                    let mut padded = string.as_bytes().to_vec();
                    padded.resize(string.len().next_multiple_of(16), b'?');
                    text.quoted(padded.as_chunks().0, string.len());
                    *expected += &format!("\"{string}\"");
                }
                Self::Mac(octets) => {
                    assert!(text.object_of_mac(&key, &key, octets));
                    let shown: Vec<_> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
                    let (key, shown) = (str::from_utf8(key.text()).unwrap(), shown.join(":"));
                    *expected += &format!("{key}{{{}\"{shown}\"}}", &key[1..]);
                }
                &Self::Dotted(octets) => {
                    text.dotted(octets);
                    *expected += &format!("\"{}\"", std::net::Ipv4Addr::from(octets));
                }
                &Self::Nanoseconds(nanos) => {
                    text.nanoseconds(nanos);
                    *expected += &format!("{nanos:09}");
                }
                Self::Object => {
                    let opened = text.len();
                    text.literal(&key);
                    text.close(opened, *b"{}");
                    text.close(text.len(), *b"[]");
                    let key = str::from_utf8(key.text()).unwrap();
                    *expected += &format!("{{{}}}[]", &key[1..]);
                }
            }
        }
    }

    fn write() -> impl Strategy<Value = Write> {
        let number = (any::<u64>(), 0_u32..64).prop_map(|(number, shift)| number >> shift);
        prop_oneof![
            "[ -~]{0,70}".prop_map(Write::Literal),
            ("[ -~]{0,32}", "[ -~]{0,70}").prop_map(|(key, text)| Write::Literals(key, text)),
            (any::<bool>(), any::<bool>(), number)
                .prop_map(|(quotes, minus, number)| Write::Integer(quotes, minus, number)),
            (prop::array::uniform16(b' '..b'~'), 0_usize..=16)
                .prop_map(|(block, len)| Write::Short(block, len)),
            "[ -~]{0,70}".prop_map(Write::Quoted),
            any::<[u8; 6]>().prop_map(Write::Mac),
            any::<[u8; 4]>().prop_map(Write::Dotted),
            (0..1_000_000_000_u32).prop_map(Write::Nanoseconds),
            Just(Write::Object),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_there(writes in prop::collection::vec(write(), 0..200)) {
            let (mut text, mut expected) = (Text::default(), String::new());
            for write in writes {
                write.to(&mut text, &mut expected);
                prop_assert_eq!(str::from_utf8(text.as_bytes()), Ok(&*expected));
            }
        }
    }

    #[test]
    fn more_than_a_block_has_does_not_count() {
        let mut text = Text::default();
        text.block(b"ab", 3);
        text.string(None, b"cd", usize::MAX);
        text.word(&Literal::new("e"), b"fg", 9);
        text.quoted(&[*b"0123456789abcdef"], 17);
        assert_eq!(text.as_bytes(), b"ab\"cd\"efg\"0123456789abcdef\"");
    }

    #[test]
    fn a_mac_of_digits_is_shown_in_lower_case_whatever_is_between_the_pairs() {
        for address in ["0A0b0C0d0e9F", "0A:0b:0C:0d:0e:9F", "0A-0b-0C-0d-0e-9F"] {
            let mut text = Text::default();
            assert!(text.mac(address.as_bytes()));
            assert_eq!(text.as_bytes(), b"\"0a:0b:0c:0d:0e:9f\"");
        }
    }

    #[test]
    fn what_is_no_mac_leaves_nothing() {
        let key = Literal::new(",\"k\":");
        for address in
            [&[1; 5][..], &[1; 7], b"", b"no digits at", b"02:00:5e:10:00/01", &[b'0'; 13]]
        {
            let mut text = Text::default();
            assert!(!text.mac(address) && !text.object_of_mac(&key, &key, address));
            assert!(text.is_empty());
        }
    }
}
