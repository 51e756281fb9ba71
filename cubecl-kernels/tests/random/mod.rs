//! The random numbers of the property tests: the cases are the same on every run.

/// SplitMix64.
pub struct Random(pub u64);

#[allow(dead_code, reason = "each test uses some")]
impl Random {
    pub fn bits(&mut self) -> u64 {
        let counter = self.0;
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mrcnn_kernels::mix(counter)
    }

    /// A whole number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit as u64) as usize
    }

    /// A number in `low..high`, a multiple of 2^-24 of the range.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }

    pub fn pick(&mut self, choices: &[usize]) -> usize {
        choices[self.below(choices.len())]
    }
}
