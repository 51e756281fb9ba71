//! Predictions at sampled anchors, for the losses.
//!
//! The losses read the predictions of a few hundred of the 270,000 anchors of a large image, so nearly all gradients
//! of the head's output are zero. Proposals need the predictions of all anchors, but no gradients. In training the
//! head therefore runs over the whole pyramid without a graph, and once more with a graph over the windows of cells
//! that the sampled anchors depend on. Gradients are the same sums without their zeros. If the windows do not have
//! fewer cells than the pyramid, the head runs once, with a graph.

use super::head::{AnchorPredictions, Rpn, window_side};
use super::windows::{Windows, images_of_samples};
use crate::config::RpnConfig;
use crate::model::layers::Conv2d;
use crate::model::roi::pool::PackedPyramid;
use crate::model::slots::on;
use burn::tensor::{Int, Tensor};
use mrcnn_kernels::{ConvParams, LinearParams, Links, has_links, linear_layers};

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
        let table = || Windows::new(features, grids, side, &plain);
        let windows = self.windows.get(&plain, key, table);
        let [n, k] = index.dims();
        let images = || images_of_samples([n, k], &plain);
        let images = on(&self.images.get(&plain, [n, k], images), &device);

        let index = index.reshape([n * k]);
        let cell = index.clone() / ratios as i64;
        let ratio = index - cell.clone() * ratios as i64;
        let rois = on(&windows.rois, &device).select(0, cell.clone());
        let inside = (windows.inside.as_ref()).map(|inside| on(inside, &device).select(0, cell));
        let pooled = features.pool_windows(Tensor::cat(vec![images, rois], 1), side);
        let has_links = has_links(&device, features.dtype());
        let conv_output = convolve_windows(&convs, pooled, inside, has_links);
        // Two products, unlike for whole maps, so that the losses read both outputs without a copy.
        let predictors = [&self.head.cls_logits, &self.head.bbox_pred].map(as_linear);
        let links = Links {
            masks_input: has_links && !convs.is_empty(),
            output_is_masked: false,
        };
        let [logits, deltas] = linear_layers(conv_output, predictors, false, links);
        AnchorPredictions {
            logits: logits.reshape([n * k, ratios, 1]),
            deltas: deltas.reshape([n * k, ratios, 4]),
            ratio: Some(ratio),
        }
    }
}

/// The output `[r, c]` of the convolutions in the middle of windows `x [r, c, side, side]`, with [`Windows::inside`] of
/// each. If `is_linked`, the layers that use it mask its gradient.
fn convolve_windows(
    convs: &[&Conv2d],
    mut x: Tensor<4>,
    inside: Option<Tensor<2>>,
    is_linked: bool,
) -> Tensor<2> {
    let Some((last, before)) = convs.split_last() else {
        return by_cell(x);
    };
    let [r, _, mut side, _] = x.dims();
    let mut inside = inside.map(|inside| inside.reshape([r, 1, side - 2, side - 2]));
    for (index, conv) in before.iter().enumerate() {
        side -= 2;
        x = crop_border(conv.forward_relu(x), side);
        if index > 0 {
            inside = inside.map(|inside| crop_border(inside, side));
        }
        // The next convolution is padded with zeros beyond the map.
        if let Some(inside) = &inside {
            x = x * inside.clone();
        }
    }
    let links = Links {
        masks_input: false,
        output_is_masked: is_linked,
    };
    // At the middle cell of a window as large as the kernel, a convolution is a fully connected layer.
    let [output] = linear_layers(by_cell(x), [as_linear(last)], true, links);
    output
}

/// The windows without their outermost cells, of which `side` in each direction are left.
fn crop_border(x: Tensor<4>, side: usize) -> Tensor<4> {
    x.narrow(2, 1, side).narrow(3, 1, side)
}

/// `[r, c, k, k]` -> `[r, k * k * c]`: channels last, which is how GPUs pool.
fn by_cell(x: Tensor<4>) -> Tensor<2> {
    let [r, c, k, _] = x.dims();
    x.permute([0, 2, 3, 1]).reshape([r, k * k * c])
}

/// The convolution as a layer of windows as large as its kernel, see [`by_cell`].
fn as_linear(conv: &Conv2d) -> LinearParams {
    let ConvParams { weight, bias, .. } = conv.params();
    LinearParams {
        weight: by_cell(weight),
        bias: bias.expect("each convolution of the RPN has a bias"),
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::Config;
    use crate::config::ModelConfig;
    use crate::model::init::Init;
    use burn::tensor::module::max_pool2d;
    use burn::tensor::ops::MaxPoolOptions;
    use burn::tensor::{Device, Distribution, Gradients, TensorData};

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
