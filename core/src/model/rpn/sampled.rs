//! Predictions at sampled anchors, for the losses.
//!
//! The losses read the predictions of a few hundred of the 270,000 anchors of a large image, so nearly all gradients
//! of the head's output are zero. Proposals need the predictions of all anchors, but no gradients. In training the
//! head therefore runs over the whole pyramid without a graph, and once more with a graph over the windows of cells
//! that the sampled anchors depend on. Gradients are the same sums without their zeros. If the windows have more
//! cells than the pyramid, the head runs once, with a graph.

use super::head::{AnchorPredictions, Rpn, window_side};
use super::windows::Windows;
use crate::config::RpnConfig;
use crate::model::layers::Conv2d;
use crate::model::roi::pool::PackedPyramid;
use crate::model::slots::on;
use burn::tensor::{Int, Tensor, TensorData};
use mrcnn_kernels::{ConvParams, linear};

impl Rpn {
    /// The predictions of the anchors `index [n, k]`, as [`Rpn::forward`] predicts them, in the dtype of the features.
    ///
    /// * `features` - P2 to P5 of the `n` images.
    /// * `grids` - rows and columns of each level of the RPN.
    pub(crate) fn at_anchors(
        &self,
        features: &PackedPyramid,
        grids: &[(usize, usize)],
        config: &RpnConfig,
        index: Tensor<2, Int>,
    ) -> AnchorPredictions {
        let convs: Vec<&Conv2d> = self.head.conv.iter().flatten().collect();
        let ratios = config.anchor_ratios.len();
        let device = features.device();
        let (side, plain) = (window_side(config), device.clone().inner());
        let key = (grids.to_vec(), side, features.dtype());
        let windows =
            (self.windows).get(&plain, key, || Windows::new(features, grids, side, &plain));

        let [n, k] = index.dims();
        let index = index.reshape([n * k]);
        let cell = index.clone() / ratios as i64;
        let ratio = index - cell.clone() * ratios as i64;
        let windows = Windows {
            rois: on(&windows.rois, &device).select(0, cell.clone()),
            inside: on(&windows.inside, &device).select(0, cell),
        };
        let hidden = hidden(&convs, features, windows, [n, side]);
        // Two products, unlike for whole maps, so that the losses read both outputs without a copy.
        let logits = middle(hidden.clone(), self.head.cls_logits.params(), false);
        let deltas = middle(hidden, self.head.bbox_pred.params(), false);
        AnchorPredictions {
            logits: logits.reshape([n * k, ratios, 1]),
            deltas: deltas.reshape([n * k, ratios, 4]),
            ratio: Some(ratio),
        }
    }
}

/// The hidden layer `[r, c, 1, 1]` in the middle of `r` windows, of which each of `n` images has as many.
fn hidden(
    convs: &[&Conv2d],
    features: &PackedPyramid,
    windows: Windows,
    [n, mut side]: [usize; 2],
) -> Tensor<4> {
    let Windows { rois, inside } = windows;
    let [r, _] = rois.dims();
    let images = (0..r).map(|row| (row / (r / n).max(1)) as f32).collect();
    let images = Tensor::from_data(TensorData::new(images, [r, 1]), &rois.device());
    let mut x = features.pool_windows(Tensor::cat(vec![images, rois], 1), side);
    let mut inside = inside.reshape([r, 1, side, side]);
    // Each convolution is padded with zeros beyond the map.
    x = x * inside.clone();
    let Some((last, before)) = convs.split_last() else {
        return x;
    };
    for conv in before {
        x = conv.rectified(x);
        side -= 2;
        inside = inner(inside, side);
        x = inner(x, side) * inside.clone();
    }
    let x = middle(x, last.params(), true);
    let [r, channels] = x.dims();
    x.reshape([r, channels, 1, 1])
}

/// The windows without their outermost cells, of which `side` in each direction are left.
fn inner(x: Tensor<4>, side: usize) -> Tensor<4> {
    x.narrow(2, 1, side).narrow(3, 1, side)
}

/// The convolution with a bias at the middle cell of windows as large as its kernel, and a ReLU if `rectify`:
/// `[r, c, k, k]` -> `[r, o]`.
fn middle(x: Tensor<4>, params: ConvParams, rectify: bool) -> Tensor<2> {
    // Channels last, which is how GPUs pool.
    let by_cell = |x: Tensor<4>| {
        let [r, c, k, _] = x.dims();
        x.permute([0, 2, 3, 1]).reshape([r, k * k * c])
    };
    let bias = params.bias.expect("each convolution of the RPN has a bias");
    linear(by_cell(x), by_cell(params.weight), bias, rectify)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::Config;
    use crate::config::ModelConfig;
    use crate::model::init::Init;
    use burn::tensor::module::max_pool2d;
    use burn::tensor::ops::MaxPoolOptions;
    use burn::tensor::{Device, Distribution, Gradients};

    /// Sides of P2 to P5: odd and even ones, and maps of one row and of one cell.
    const SIZES: [[[usize; 2]; 4]; 3] = [
        [[9, 7], [5, 4], [3, 2], [3, 4]],
        [[4, 5], [2, 3], [1, 2], [1, 3]],
        [[8, 8], [4, 4], [2, 2], [1, 1]],
    ];

    /// Feature maps whose last level is every second cell of the one before.
    fn pyramid(n: usize, sizes: [[usize; 2]; 4], device: &Device) -> Vec<Tensor<4>> {
        let random = |[h, w]: [usize; 2]| {
            Tensor::random([n, 6, h, w], Distribution::Default, device).require_grad()
        };
        let mut levels: Vec<Tensor<4>> = sizes.map(random).into();
        let options = MaxPoolOptions::new([1, 1]).with_stride([2, 2]);
        levels.push(max_pool2d(levels[3].clone(), options));
        levels
    }

    fn rpn(convs: usize, device: &Device) -> (Rpn, ModelConfig) {
        let settings = [
            "model.num_classes=3".to_string(),
            "model.fpn_channels=6".into(),
            format!("model.rpn.convs={convs}"),
        ];
        let config = Config::default().with(&settings).expect("settings").model;
        (Rpn::new(&Init::random(3, device), &config), config)
    }

    /// Every anchor in another order, and the first one three times more, as in padded slots.
    fn indices(n: usize, anchors: usize, device: &Device) -> Tensor<2, Int> {
        let one = (0..anchors).map(|at| (at * 7 + 2) % anchors).chain([0; 3]);
        let all: Vec<i32> = (0..n)
            .flat_map(|_| one.clone())
            .map(|at| at as i32)
            .collect();
        Tensor::from_data(TensorData::new(all, [n, anchors + 3]), device)
    }

    fn difference(a: Tensor<1>, b: Tensor<1>) -> f32 {
        (a - b).abs().max().into_scalar::<f32>()
    }

    /// The predictions are those of the whole map, and so are the gradients.
    #[test]
    fn windows_predict_what_the_map_predicts() {
        for (convs, sizes) in [1, 2, 3].into_iter().zip(SIZES).chain([(1, SIZES[2])]) {
            let device = Device::flex().autodiff();
            let (rpn, config) = rpn(convs, &device);
            let levels = pyramid(2, sizes, &device);
            let packed = PackedPyramid::new(&levels, &config.roi);
            let output = rpn.forward(&levels);
            let [n, anchors] = output.objectness.dims();
            let (index, grids) = (indices(n, anchors, &device), output.grids.clone());
            let got = rpn.at_anchors(&packed, &grids, &config.rpn, index.clone());
            let [got, want] = [got, output.at(index)].map(|found| {
                let [logits, deltas] = [found.logits, found.deltas].map(|of_cells| {
                    let [rows, _, outputs] = of_cells.dims();
                    let Some(ratio) = found.ratio.clone() else {
                        return of_cells.flatten::<1>(0, 2);
                    };
                    let ratio = ratio.reshape([rows, 1, 1]).expand([rows, 1, outputs]);
                    of_cells.gather(1, ratio).flatten::<1>(0, 2)
                });
                Tensor::cat(vec![logits, deltas], 0)
            });
            // Sums of 54 products below 1, in another order.
            let error = difference(got.clone(), want.clone());
            assert!(error < 1e-5, "{convs} convolutions: {error}");

            let weight = Tensor::random(got.dims(), Distribution::Default, &device.clone().inner());
            let weight: Tensor<1> = Tensor::from_inner(weight);
            let gradients = [got, want].map(|values| (values * weight.clone()).sum().backward());
            assert_same_gradients(&rpn, &levels[..4], &gradients);
        }
    }

    fn assert_same_gradients(rpn: &Rpn, levels: &[Tensor<4>], gradients: &[Gradients; 2]) {
        let check = |what: &str, [got, want]: [Option<Tensor<1>>; 2]| {
            let (got, want) = (got.expect(what), want.expect(what));
            let largest = want.clone().abs().max().into_scalar::<f32>();
            let error = difference(got, want);
            assert!(
                error < 1e-5 * largest.max(1.0),
                "{what}: {error} of {largest}"
            );
        };
        let flat = |tensor: &Tensor<4>| {
            [0, 1].map(|at| Some(tensor.grad(&gradients[at])?.flatten::<1>(0, 3)))
        };
        let head = &rpn.head;
        let convs = head.conv.iter().flatten();
        for conv in convs.chain([&head.cls_logits, &head.bbox_pred]) {
            check("weights", flat(&conv.weight.val()));
            let bias = conv.bias.as_ref().expect("a bias").val();
            check("bias", [0, 1].map(|at| bias.grad(&gradients[at])));
        }
        levels.iter().for_each(|level| check("level", flat(level)));
    }
}
