//! Numbers read off the wire, eight bytes at a time where eight bytes are there.
//!
//! All functions take where the number begins and where the message ends. They return the number and
//! where it ends, or None if it is cut off, too long or not allowed; the caller finds out which.

use std::ops::Range;

/// The highest bit of each byte: where it is set, a varint goes on.
const GOES_ON: u64 = 0x8080_8080_8080_8080;

/// A tag whose field number and wire type may still be impossible ones.
#[inline(always)]
pub(super) fn loose_tag(data: &[u8], at: usize, end: usize) -> Option<(u32, usize)> {
    let data = data.get(..end)?;
    let first = *data.get(at)?;
    if first < 0x80 {
        return Some((u32::from(first), at + 1));
    }
    if let Some(&second) = data.get(at + 1)
        && second < 0x80
    {
        return Some((u32::from(first & 0x7f) | u32::from(second) << 7, at + 2));
    }
    match long_tag(data, at) {
        (_, 0) => None,
        tag => Some(tag),
    }
}

/// Where it is none, it ends at 0: two numbers stay in registers, an option of two does not.
#[cold]
fn long_tag(data: &[u8], at: usize) -> (u32, usize) {
    let (tag, next) = varint(data, at, data.len()).unwrap_or_default();
    match u32::try_from(tag) {
        Ok(tag) => (tag, next),
        Err(_) => (0, 0),
    }
}

/// A tag whose field number and wire type are possible ones.
pub(super) fn tag(data: &[u8], at: usize, end: usize) -> Option<(u32, usize)> {
    let (tag, next) = varint(data, at, end)?;
    let is_tag = tag >= 8 && u32::try_from(tag).is_ok() && tag & 7 <= 5;
    is_tag.then_some((tag as u32, next))
}

/// A varint of at most ten bytes and 64 bits.
#[inline(always)]
pub(super) fn varint(data: &[u8], at: usize, end: usize) -> Option<(u64, usize)> {
    let data = data.get(..end)?;
    let first = *data.get(at)?;
    if first < 0x80 {
        return Some((u64::from(first), at + 1));
    }
    if let Some(&second) = data.get(at + 1)
        && second < 0x80
    {
        return Some((u64::from(first & 0x7f) | u64::from(second) << 7, at + 2));
    }
    number(data, at, data.len())
}

/// A varint of any length, none of them quicker than others: how long numbers are is not for the
/// processor to guess. What stands behind `end` is looked at, but does not count.
#[inline(always)]
pub(super) fn number(data: &[u8], at: usize, end: usize) -> Option<(u64, usize)> {
    let word = match data.get(at..)?.first_chunk() {
        Some(block) => u64::from_le_bytes(*block),
        None => last_word(data, at),
    };
    let last = !word & GOES_ON;
    // All bits up to the highest one of the last byte.
    let bits = last ^ last.wrapping_sub(1);
    // Sevens of bits become fourteens, those become twenty-eights, those the number: the upper one of
    // each two moves down to the lower one.
    let number = word & bits & !GOES_ON;
    let number = number - ((number & 0x7f00_7f00_7f00_7f00) >> 1);
    let number = number - 3 * ((number & 0x3fff_0000_3fff_0000) >> 2);
    let number = number & 0xffff_ffff | number >> 32 << 28;
    let next = at + last.trailing_zeros() as usize / 8 + 1;
    let (number, next) = if last == 0 { longest(number, data, at + 8)? } else { (number, next) };
    (next <= end).then_some((number, next))
}

/// A number whose first eight bytes all go on: what is negative has ten. The last one is at `at` or
/// behind it.
#[inline(never)]
fn longest(number: u64, data: &[u8], at: usize) -> Option<(u64, usize)> {
    match *data.get(at..)? {
        [ninth @ ..0x80, ..] => Some((number | u64::from(ninth) << 56, at + 1)),
        [ninth, tenth @ ..=1, ..] => {
            Some((number | u64::from(ninth & 0x7f) << 56 | u64::from(tenth) << 63, at + 2))
        }
        _ => None,
    }
}

/// A varint of up to four bytes, as most are. None also if there are no four bytes to look at, whoever's
/// they are.
#[inline(always)]
pub(super) fn short_number(data: &[u8], at: usize, end: usize) -> Option<(u32, usize)> {
    let word = u32::from_le_bytes(*data.get(at..at.wrapping_add(4))?.first_chunk()?);
    let last = !word & GOES_ON as u32;
    if last == 0 {
        return None;
    }
    // As in `number`.
    let word = word & (last ^ (last - 1)) & !(GOES_ON as u32);
    let word = word - ((word & 0x7f00_7f00) >> 1);
    let word = word & 0xffff | word >> 16 << 14;
    let next = at + last.trailing_zeros() as usize / 8 + 1;
    (next <= end).then_some((word, next))
}

/// The fewer than eight bytes at the end of the data, zeros behind them: a number that is cut off ends
/// past the end.
#[inline(never)]
fn last_word(data: &[u8], at: usize) -> u64 {
    let left = data.len() - at;
    match data.last_chunk() {
        Some(_) if left == 0 => 0,
        Some(block) => u64::from_le_bytes(*block) >> (64 - 8 * left),
        None => {
            let mut block = [0; 8];
            block[..left].copy_from_slice(&data[at..]);
            u64::from_le_bytes(block)
        }
    }
}

/// The bytes behind a length. The message ends where `data` does.
#[inline(always)]
pub(super) fn span(data: &[u8], at: usize) -> Option<Range<usize>> {
    let (length, start) = varint(data, at, data.len())?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    (end <= data.len()).then_some(start..end)
}

/// So many bytes.
#[inline(always)]
pub(super) fn fixed<const SIZE: usize>(
    data: &[u8],
    at: usize,
    end: usize,
) -> Option<([u8; SIZE], usize)> {
    let bytes = data.get(..end)?.get(at..)?.first_chunk()?;
    Some((*bytes, at + SIZE))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::encoding::encode_varint;

    use super::*;

    proptest! {
        #[test]
        fn varints_are_read_whatever_follows(
            value: u64, shift in 0_u32..64, before in 0_usize..9, after in 0_usize..12,
        ) {
            let value = value >> shift;
            let mut data = vec![0xff; before];
            encode_varint(value, &mut data);
            let end = data.len();
            data.extend(vec![0xff; after]);
            prop_assert_eq!(varint(&data, before, data.len()), Some((value, end)));
            prop_assert_eq!(varint(&data, before, end), Some((value, end)));
            prop_assert_eq!(varint(&data, before, end - 1), None);
            if let Some((short, next)) = short_number(&data, before, end) {
                prop_assert_eq!((u64::from(short), next), (value, end));
            } else {
                prop_assert!(end - before > 4 || data.len() < before + 4);
            }
            prop_assert_eq!(short_number(&data, before, end - 1), None);
            prop_assert_eq!(number(&data, before, data.len()), Some((value, end)));
            prop_assert_eq!(number(&data, before, end), Some((value, end)));
            prop_assert_eq!(number(&data, before, end - 1), None);
        }
    }

    #[test]
    fn what_is_longer_than_64_bits_is_refused() {
        let mut data = [0xff_u8; 12];
        data[9] = 1;
        assert_eq!(varint(&data, 0, 12), Some((u64::MAX, 10)));
        data[9] = 2;
        assert_eq!(varint(&data, 0, 12), None);
        assert_eq!(varint(&[0x80; 12], 0, 12), None);
        assert_eq!(varint(&[0x81, 0x80, 0x00], 0, 3), Some((1, 3)));
    }

    #[test]
    fn a_tag_has_a_number_and_one_of_six_wire_types() {
        assert_eq!(tag(&[0x08], 0, 1), Some((8, 1)));
        assert_eq!(tag(&[0x07], 0, 1), None);
        assert_eq!(tag(&[0x0e], 0, 1), None);
        assert_eq!(tag(&[0x80, 0x80, 0x80, 0x80, 0x10], 0, 5), None);
    }
}
