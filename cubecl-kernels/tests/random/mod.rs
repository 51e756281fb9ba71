//! Random cases of the property tests.
//!
//! `MRCNN_CASES` sets the number of cases per test (10,000), `MRCNN_SEED` the first seed (1). A failure prints the seed
//! of its round; with `MRCNN_CASES=1` this seed repeats exactly those cases.

use std::thread::panicking;

/// SplitMix64.
pub struct Random(pub u64);

/// Default number of cases per test.
#[allow(dead_code, reason = "each test uses some")]
pub const CASES: usize = 10_000;

/// Runs `round` until enough cases are checked. `round` gets its number, which is its seed, and returns the number of
/// cases that it checked. There are at least `settings` rounds, one per setting of the test, unless `MRCNN_CASES` is 1.
/// Returns the total number of cases.
#[allow(dead_code, reason = "each test uses some")]
pub fn cases(
    test: &str,
    settings: usize,
    mut round: impl FnMut(&mut Random, usize) -> usize,
) -> usize {
    let (wanted, first) = (setting("MRCNN_CASES", CASES), setting("MRCNN_SEED", 1));
    let rounds = if wanted == 1 { 0 } else { settings };
    let (mut done, mut seed) = (0, first);
    while done < wanted || seed - first < rounds {
        let _named = Named { test, seed };
        done += round(&mut Random(mrcnn_kernels::mix(seed as u64)), seed);
        seed += 1;
    }
    println!("{test}: {done} cases");
    done
}

fn setting(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(value) => value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a whole number, not `{value}`")),
        Err(_) => default,
    }
}

/// Prints how to repeat the cases of a round if it fails.
struct Named<'a> {
    test: &'a str,
    seed: usize,
}

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if panicking() {
            let Self { test, seed } = self;
            eprintln!("{test}: MRCNN_SEED={seed} MRCNN_CASES=1 repeats these cases");
        }
    }
}

#[allow(dead_code, reason = "each test uses some")]
impl Random {
    pub fn bits(&mut self) -> u64 {
        let counter = self.0;
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mrcnn_kernels::mix(counter)
    }

    /// An integer below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit as u64) as usize
    }

    /// A number in `low..high`, a multiple of 2^-24 of the range.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// An integer with a magnitude of at most `largest`.
    pub fn whole(&mut self, largest: i32) -> f32 {
        (self.below(2 * largest as usize + 1) as i32 - largest) as f32
    }

    /// Numbers in -1..1.
    pub fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.between(-1.0, 1.0)).collect()
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}
