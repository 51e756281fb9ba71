//! Buckets that combine many tensors into few messages, because each message has a fixed cost.

use burn::tensor::{DType, Tensor};
use std::ops::Range;

/// A bucket is closed when it has this many bytes (the default of torch's DDP).
const BUCKET_BYTES: usize = 25 << 20;

/// Groups of tensors for one message: consecutive tensors of one dtype, up to about [`BUCKET_BYTES`].
pub(super) fn buckets(sizes: &[(DType, usize)]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (index, &(dtype, length)) in sizes.iter().enumerate() {
        match found.last_mut() {
            Some(last) if bytes < BUCKET_BYTES && sizes[last.start].0 == dtype => {
                last.end = index + 1;
            }
            _ => {
                found.push(index..index + 1);
                bytes = 0;
            }
        }
        bytes += length * dtype.size();
    }
    found
}

/// How tensors are divided into buckets.
pub(super) struct Buckets {
    sizes: Vec<(DType, usize)>,
    ranges: Vec<Range<usize>>,
}

impl Buckets {
    /// The buckets of `tensors`, and each of them as a flat tensor, computed lazily.
    pub(super) fn of(tensors: Vec<Tensor<1>>) -> (Self, impl Iterator<Item = Tensor<1>>) {
        let sizes: Vec<(DType, usize)> = tensors.iter().map(|t| (t.dtype(), t.dims()[0])).collect();
        let ranges = buckets(&sizes);
        let mut tensors = tensors.into_iter();
        let flat = (ranges.clone().into_iter())
            .map(move |bucket| Tensor::cat(tensors.by_ref().take(bucket.len()).collect(), 0));
        (Self { sizes, ranges }, flat)
    }

    /// The tensors of `flat`, one flat tensor per bucket.
    pub(super) fn split(self, flat: Vec<Tensor<1>>) -> Vec<Tensor<1>> {
        assert_eq!(flat.len(), self.ranges.len(), "one result per bucket");
        let mut found = Vec::with_capacity(self.sizes.len());
        for (bucket, flat) in self.ranges.iter().zip(flat) {
            let mut start = 0;
            for &(_, length) in &self.sizes[bucket.clone()] {
                found.push(flat.clone().narrow(0, start, length));
                start += length;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "flex")]
    use burn::tensor::{Device, FloatDType};

    #[test]
    fn buckets_are_full_and_of_one_type() {
        let mb = |n: usize| (DType::F32, n << 18);
        assert_eq!(buckets(&[mb(10), mb(10), mb(10), mb(1)]), [0..3, 3..4]);
        assert_eq!(buckets(&[mb(100), mb(1), mb(1)]), [0..1, 1..3]);
        assert_eq!(
            buckets(&[mb(1), (DType::F16, 4), mb(1)]),
            [0..1, 1..2, 2..3]
        );
        assert!(buckets(&[]).is_empty());
    }

    #[cfg(feature = "flex")]
    #[test]
    fn buckets_come_apart_as_they_were() {
        let device = Device::flex();
        let mut tensors: Vec<Tensor<1>> = [3, 1, 5]
            .map(|n| Tensor::arange(0..n, &device).float())
            .into();
        // Another dtype between them makes three buckets.
        tensors[1] = tensors[1].clone().cast(FloatDType::F16);
        let (buckets, flat) = Buckets::of(tensors.clone());
        let twice: Vec<_> = flat.map(|flat| flat * 2.0).collect();
        assert_eq!(twice.len(), 3);
        let twice = buckets.split(twice);
        for (found, given) in twice.into_iter().zip(tensors) {
            assert_eq!(found.into_data(), (given * 2.0).into_data());
        }
        let (buckets, flat) = Buckets::of(Vec::new());
        assert!(buckets.split(flat.collect()).is_empty());
    }
}
