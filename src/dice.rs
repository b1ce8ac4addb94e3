//! Random numbers that never change: `SplitMix64` (Steele, Lea, Flood 2014), so that a seed means the
//! same bytes whatever version of a library is built in.

/// A stream of numbers from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `end` - 1.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        // The bias is beyond anything a synthetic campus could show.
        self.next() % end
    }

    /// A number from `first` to `last`.
    pub(crate) const fn within(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True once in `count` times.
    pub(crate) const fn once_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// From 0 up to, but not including, 1.
    #[allow(clippy::cast_precision_loss, reason = "53 bits are what a double has room for")]
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len() as u64) as usize]
    }
}
