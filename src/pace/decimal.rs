//! Decimal numbers without the detour over a float that would round them.

/// So many parts has one.
pub(super) const ONE: u64 = 1_000_000_000;

/// A number in billionths, rounded to the nearest, if it is one that fits. It may have an exponent: `1.5e3`.
pub(super) fn billionths(text: &str) -> Option<u64> {
    /// So many digits behind the point are billionths.
    const DIGITS: i64 = 9;
    let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let all = [whole, fraction].concat();
    // So many of them count, with zeros behind them if they are fewer.
    let length =
        i64::try_from(whole.len()).ok()? + i64::from(exponent.parse::<i32>().ok()?) + DIGITS;
    let Ok(length) = usize::try_from(length) else { return Some(0) };
    let (counting, finer) = all.split_at(length.min(all.len()));
    let zeros = u32::try_from(length - counting.len()).ok()?;
    let up = finer.bytes().next().is_some_and(|digit| digit >= b'5');
    let counting: u64 = if counting.is_empty() { 0 } else { counting.parse().ok()? };
    counting.checked_mul(10_u64.checked_pow(zeros)?)?.checked_add(up.into())
}
