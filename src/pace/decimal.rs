//! Decimal numbers without the detour over a float that would round them.

/// So many parts has one.
pub(super) const ONE: u64 = 1_000_000_000;

/// A number in billionths, rounded to the nearest, if it is one that fits.
pub(super) fn billionths(text: &str) -> Option<u64> {
    const DIGITS: usize = 9;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let (fraction, finer) = fraction.split_at(fraction.len().min(DIGITS));
    let fraction: u64 = format!("{fraction:0<DIGITS$}").parse().ok()?;
    let up = finer.bytes().next().is_some_and(|digit| digit >= b'5');
    whole.parse::<u64>().ok()?.checked_mul(ONE)?.checked_add(fraction)?.checked_add(up.into())
}
