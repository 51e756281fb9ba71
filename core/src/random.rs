//! Counter-based random generator: a value is a pure function of a key and an index.
//!
//! Without state, initial weights and sampled proposals are the same on every backend, in every order of evaluation and
//! after resuming a run. The mixing function is SplitMix64 (Steele et al., 2014).

use mrcnn_kernels::mix;

/// A stream of random numbers, addressed by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream(u64);

impl Stream {
    /// The stream of random numbers for a name (a parameter, a purpose) and a seed.
    pub fn named(name: &str, seed: u64) -> Self {
        Self(fnv1a64(name).wrapping_add(seed.wrapping_mul(0xD1B5_4A32_D192_ED03)))
    }

    /// An independent stream for `index`: a step, an image, a shard.
    pub fn fork(self, index: u64) -> Self {
        Self(mix(self.0 ^ mix(index)))
    }

    /// The seed for the random generator of the kernels, which returns the same bits as [`Self::bits`].
    pub fn seed(self) -> u64 {
        self.0
    }

    /// 64 random bits.
    pub fn bits(self, index: u64) -> u64 {
        mix(self.0.wrapping_add(index))
    }

    /// Uniform in `[0, 1)`, a multiple of 2^-24, so exact in f32.
    pub fn uniform(self, index: u64) -> f64 {
        (self.bits(index) >> 40) as f64 / 16_777_216.0
    }

    /// Normal with mean 0 and standard deviation 1 (Box-Muller).
    pub fn normal(self, index: u64) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform(2 * index)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform(2 * index + 1)).cos()
    }
}

fn fnv1a64(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::Stream;

    #[test]
    fn streams_are_uniform_normal_and_distinct() {
        let stream = Stream::named("test", 7);
        let n = 20_000;
        let mean = (0..n).map(|i| stream.uniform(i)).sum::<f64>() / n as f64;
        let variance = (0..n).map(|i| stream.normal(i).powi(2)).sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.01 && (variance - 1.0).abs() < 0.05);
        assert_ne!(stream.bits(0), stream.fork(1).bits(0));
        assert_ne!(stream.bits(0), Stream::named("test", 8).bits(0));
    }
}
