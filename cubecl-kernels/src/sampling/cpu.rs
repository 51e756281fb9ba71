//! Random generator and sampling scores on host memory.

/// SplitMix64's output function (Steele, Lea and Flood, 2014): 64 random bits of a counter.
pub fn mix(counter: u64) -> u64 {
    let z = counter.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The key of candidate `index` with `seed`, below 2^24. The candidates with the smallest keys are sampled; for equal
/// keys, those with the lower index.
pub fn sampling_key(seed: u64, index: u64) -> u32 {
    (mix(seed.wrapping_add(index)) >> 40) as u32
}

#[cfg(feature = "flex")]
mod flex {
    use super::sampling_key;
    use crate::flex::integers;
    use crate::matching::BACKGROUND;
    use crate::sampling::SamplingOps;
    use burn::backend::Flex;
    use burn::backend::tensor::{FloatTensor, IntTensor};
    use burn::tensor::TensorData;
    use burn_flex::FlexTensor;

    impl SamplingOps for Flex {
        fn sampling_scores(matches: IntTensor<Self>, seeds: IntTensor<Self>) -> FloatTensor<Self> {
            let [matches, seeds] = [matches, seeds].map(|tensor| tensor.to_contiguous());
            let shape = matches.layout().shape();
            let [n, total] = [shape[0], shape[1]];
            let mut scores = vec![f32::NEG_INFINITY; n * 2 * total];
            let (matches, seeds) = (integers(&matches), integers(&seeds));
            for (image, seed) in seeds.as_chunks::<2>().0.iter().enumerate() {
                let seed = u64::from(seed[0] as u32) << 32 | u64::from(seed[1] as u32);
                let row = &mut scores[image * 2 * total..][..2 * total];
                for (index, &matched) in matches[image * total..][..total].iter().enumerate() {
                    let score = 1.0 - sampling_key(seed, index as u64) as f32 / 16_777_216.0;
                    if matched >= 0 {
                        row[index] = score;
                    } else if matched == BACKGROUND {
                        row[total + index] = score;
                    }
                }
            }
            FlexTensor::from_data(TensorData::new(scores, [n, 2 * total]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{mix, sampling_key};

    #[test]
    fn the_generator_is_splitmix64() {
        // The first outputs of Vigna's splitmix64.c with state 1234567.
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let outputs = [0, 1, 2].map(|i: u64| mix(1_234_567u64.wrapping_add(i.wrapping_mul(STEP))));
        assert_eq!(
            outputs,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
        assert!((0..1000).all(|index| sampling_key(7, index) < 1 << 24));
    }
}
