//! Gradients of a pyramid that several heads pool.

use super::adapter::adapter;
use super::boxes::{levels, rois};
use super::random::Random;
use super::{floats, tensor};
use burn::tensor::Device;
use mrcnn_kernels::{RoiAlignParams, roi_align};

/// Several heads pool one pyramid, which another operation reads, too: the gradient is the sum of theirs. The
/// gradient of that operation is also that of another tensor, which must not change.
#[test]
fn gradients_of_heads_are_added() {
    let gpu = adapter();
    let gpu = gpu.as_ref().map(|adapter| adapter.device.clone());
    for device in gpu.into_iter().chain([Device::flex()]) {
        let heads = Heads::new(device);
        let alone = [0, 1, 2].map(|head| heads.gradients(&[head], false)[0].clone());
        for is_leaf in [false, true] {
            let [together, other] = heads.gradients(&[0, 1, 2], is_leaf);
            // In the order of the backward pass, which is not specified.
            let orders = [[0, 1, 2], [0, 2, 1], [1, 2, 0]].map(|[a, b, c]| {
                let sums = (0..together.len()).map(|at| alone[a][at] + alone[b][at] + alone[c][at]);
                sums.collect::<Vec<f32>>()
            });
            assert!(orders.contains(&together), "leaf: {is_leaf}");
            assert!(other.is_empty());
            let twice: Vec<f32> = alone[1].iter().map(|g| g + g).collect();
            assert_eq!(heads.gradients(&[1, 1], is_leaf)[0], twice);
            let [with_other, other] = heads.gradients(&[1, SUM], is_leaf);
            assert_eq!(other, heads.weights);
            let sums: Vec<f32> = alone[1].iter().zip(&other).map(|(a, b)| a + b).collect();
            assert_eq!(with_other, sums);
        }
    }
}

/// The operation that adds another tensor to the pyramid, in the list of heads.
const SUM: usize = 3;

/// Three heads with 20 RoIs each, and weights of their results in the loss.
struct Heads {
    device: Device,
    pyramid: Vec<f32>,
    heads: [(RoiAlignParams, Vec<f32>, Vec<f32>); 3],
    weights: Vec<f32>,
}

impl Heads {
    fn new(device: Device) -> Self {
        let mut random = Random(11);
        let params = |bins: usize| RoiAlignParams {
            output: [bins; 2],
            sampling_ratio: 2,
            aligned: false,
            zero_padding: false,
            levels: levels(3),
        };
        let len = 2 * params(1).cells() * 5;
        Self {
            device,
            pyramid: random.values(len),
            heads: [7, 14, 3].map(|bins| {
                let rois = rois(&mut random, 20, 2, 1, &params(bins));
                (params(bins), rois, random.values(20 * 5 * bins * bins))
            }),
            weights: random.values(len),
        }
    }

    /// Gradients of the pyramid, a leaf or not, and of the tensor that is added to it.
    fn gradients(&self, heads: &[usize], is_leaf: bool) -> [Vec<f32>; 2] {
        let device = self.device.clone().autodiff();
        let shape = [self.pyramid.len() / 5, 5];
        let leaf = tensor(&self.pyramid, shape, &device).require_grad();
        let features = match is_leaf {
            true => leaf.clone(),
            false => leaf.clone() * 1.0,
        };
        let other = tensor(&self.pyramid, shape, &device).require_grad();
        let losses = heads.iter().map(|&head| {
            if head == SUM {
                let sum = features.clone() + other.clone();
                return (sum * tensor(&self.weights, shape, &device)).sum();
            }
            let (params, rows, weight) = &self.heads[head];
            let [bins, _] = params.output;
            let pooled = roi_align(features.clone(), tensor(rows, [20, 6], &device), params);
            (pooled * tensor(weight, [20, 5, bins, bins], &device)).sum()
        });
        let loss = losses.reduce(|sum, loss| sum + loss).expect("a head");
        let gradients = loss.backward();
        let pyramid = floats(leaf.grad(&gradients).expect("a gradient"));
        [pyramid, other.grad(&gradients).map_or(vec![], floats)]
    }
}
