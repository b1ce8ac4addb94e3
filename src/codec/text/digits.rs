//! Digits as characters, all of a number or an address at once: in tables, or as the bytes of one integer, the
//! first one lowest.

#![forbid(unsafe_code)]

use std::array;

use crate::codec::bytes::HEX_PAIRS;

/// The two hex digits of each octet, a colon behind them.
pub(super) static PAIRS_AND_COLON: [[u8; 4]; 256] = {
    let mut texts = [[b':'; 4]; 256];
    let mut octet = 0;
    while octet < 256 {
        [texts[octet][0], texts[octet][1]] = HEX_PAIRS[octet];
        octet += 1;
    }
    texts
};

/// The decimal form of each octet, a dot behind it.
pub(super) static DECIMAL_AND_DOT: [[u8; 4]; 256] = {
    let mut texts = [[b'.'; 4]; 256];
    let mut octet = 0;
    while octet < 256 {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let mut skipped = if octet > 99 {
            0
        } else if octet > 9 {
            1
        } else {
            2
        };
        let mut at = 0;
        while skipped < 3 {
            texts[octet][at] = b'0' + digits[skipped] as u8;
            skipped += 1;
            at += 1;
        }
        octet += 1;
    }
    texts
};

/// The first eight and the last four characters of pairs with colons or hyphens between them.
#[inline(never)]
pub(super) fn without_separators(pairs: &[u8]) -> Option<(u64, u32)> {
    let is_between = |at: usize| matches!(pairs[at], b':' | b'-');
    if pairs.len() != 17 || ![2, 5, 8, 11, 14].into_iter().all(is_between) {
        return None;
    }
    let first = array::from_fn(|at| pairs[at / 2 * 3 + at % 2]);
    let last = [pairs[12], pairs[13], pairs[15], pairs[16]];
    Some((u64::from_le_bytes(first), u32::from_le_bytes(last)))
}

/// Eight hex digits in lower case; None if one of them is none.
#[inline(always)]
pub(super) const fn lower_case(digits: u64) -> Option<u64> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHEST: u64 = 0x80 * ONES;

    /// Sets the highest bit of each byte, all ASCII, that is at least so much.
    const fn at_least(bytes: u64, least: u8) -> u64 {
        bytes + (0x80 - least as u64) * ONES
    }
    let ascii = digits & !HIGHEST;
    let numerals = at_least(ascii, b'0') & !at_least(ascii, b'9' + 1);
    let letters = ascii | (0x20 * ONES);
    let abcdef = at_least(letters, b'a') & !at_least(letters, b'f' + 1);
    if (numerals | abcdef) & !digits & HIGHEST == HIGHEST { Some(letters) } else { None }
}

/// The first number that has more digits.
pub(super) const EIGHT_DIGITS: u64 = 100_000_000;

/// Turns eight digits into their characters.
pub(super) const ASCII_ZEROS: u64 = 0x3030_3030_3030_3030;

/// The eight digits of a number below 10^8 as bytes 0 to 9, the first one lowest.
///
/// Halves are split in two until each byte is a digit, all parts at once. Dividing by 100 and by 10 is
/// multiplying and shifting, which is exact for numbers as small as these.
#[inline(always)]
pub(super) const fn eight_digits(number: u32) -> u64 {
    // Moves what is left of a part, which is `whole` times `by` less, behind the `whole`.
    const fn split(parts: u64, whole: u64, by: u64, bits: u32) -> u64 {
        (parts << bits).wrapping_add(whole.wrapping_mul(1_u64.wrapping_sub(by << bits)))
    }

    let number = number as u64;
    let fours = split(number, number / 10_000, 10_000, 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = split(fours, hundreds, 100, 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    split(twos, tens, 10, 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_bytes_only_hex_digits_count_as_such() {
        for byte in 0..=u8::MAX {
            for place in 0..8 {
                let mut digits = *b"09afAF5c";
                digits[place] = byte;
                let all = digits.iter().all(u8::is_ascii_hexdigit);
                let expected =
                    all.then(|| u64::from_le_bytes(digits.map(|it| it.to_ascii_lowercase())));
                assert_eq!(lower_case(u64::from_le_bytes(digits)), expected);
            }
        }
    }
}
