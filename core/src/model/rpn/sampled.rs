//! Predictions at sampled anchors, for the losses.
//!
//! The losses read the predictions of a few hundred of the hundred thousand anchors of an image, so nearly all gradients
//! of the head's output are zero. Proposals need the predictions of all anchors, but no gradients. In training the head
//! therefore runs over the whole pyramid without a graph, and once more with a graph over the windows of cells that the
//! sampled anchors depend on. Gradients are the same sums without their zeros. If the windows have more cells than the
//! pyramid, the head runs once, with a graph.

use super::cache::SizeKey;
use super::head::{Rpn, join, split_outputs};
use crate::config::RpnConfig;
use crate::model::layers::{Conv2d, full, like};
use crate::model::roi::pool::{PackedPyramid, WINDOW_ROI};
use crate::model::slots::on;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};
use mrcnn_kernels::{ConvParams, row_product};

/// A row per cell of the RPN's levels of `grids` `(rows, columns)`, for its window of `side` by `side` cells:
/// `[cells, WINDOW_ROI + side * side]`, the RoI without its image, then for each cell of the window 1 if it is on the map, 0
/// elsewhere.
fn windows(
    features: &PackedPyramid,
    grids: &[(usize, usize)],
    side: usize,
    device: &Device,
) -> Tensor<2> {
    let is_on = |at: usize, offset: usize, count: usize| {
        (side / 2..side / 2 + count).contains(&(at + offset))
    };
    let mut rows = Vec::new();
    for (level, &(height, width)) in grids.iter().enumerate() {
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            rows.extend(features.window(level, (y, x), side));
            rows.extend((0..side * side).map(|cell| {
                let (down, right) = (cell / side, cell % side);
                f32::from(is_on(y, down, height) && is_on(x, right, width))
            }));
        }
    }
    let cells = grids.iter().map(|(height, width)| height * width).sum();
    let data = TensorData::new(rows, [cells, WINDOW_ROI + side * side]);
    Tensor::from_data(data, device)
}

impl Rpn {
    /// Whether [`Self::at_anchors`] of `k` anchors per image reads fewer cells than a pyramid has.
    pub(crate) fn prefers_windows(&self, pyramid: &[Tensor<4>], k: usize) -> bool {
        let side = 2 * self.head.conv.iter().flatten().count() + 1;
        let cells = pyramid
            .iter()
            .map(|level| level.dims()[2] * level.dims()[3]);
        k * side * side < cells.sum()
    }

    /// Logits `[n, k]` and deltas `[n, k, 4]` of the anchors `index [n, k]`, f32, as [`Rpn::forward`] predicts them.
    ///
    /// * `features` - P2 to P5 of the `n` images, which are padded to `(height, width)` pixels.
    /// * `grids` - rows and columns of each level of the RPN.
    pub(crate) fn at_anchors(
        &self,
        features: &PackedPyramid,
        padded: (usize, usize),
        grids: &[(usize, usize)],
        config: &RpnConfig,
        index: Tensor<2, Int>,
    ) -> (Tensor<2>, Tensor<3>) {
        let convs: Vec<&Conv2d> = self.head.conv.iter().flatten().collect();
        let ratios = config.anchor_ratios.len() as i64;
        let device = features.device();
        let key = SizeKey {
            padded,
            grids: grids.to_vec(),
            config: config.clone(),
            device: device.clone().inner(),
        };
        let side = 2 * convs.len() + 1;
        let windows = self
            .windows
            .get(key, |key| windows(features, grids, side, &key.device));

        let [n, k] = index.dims();
        let index = index.reshape([n * k]);
        let cell = index.clone() / ratios;
        let ratio = (index - cell.clone() * ratios).reshape([n * k, 1]);
        let rows = on(&windows, &device).select(0, cell);
        let hidden = hidden(&convs, features, rows, [n, side]);
        let both = join([&self.head.cls_logits, &self.head.bbox_pred].map(Conv2d::params));
        let (logits, deltas) = split_outputs(full(middle(hidden, both)), 1);
        let logits = logits.gather(1, ratio.clone());
        let deltas = deltas.reshape([n * k, ratios as usize, 4]);
        let ratio = ratio.unsqueeze_dim::<3>(2).expand([n * k, 1, 4]);
        let deltas = deltas.gather(1, ratio);
        (logits.reshape([n, k]), deltas.reshape([n, k, 4]))
    }
}

/// The hidden layer `[r, c, 1, 1]` in the middle of the windows `rows`, of which each of `n` images has as many.
fn hidden(
    convs: &[&Conv2d],
    features: &PackedPyramid,
    rows: Tensor<2>,
    [n, mut side]: [usize; 2],
) -> Tensor<4> {
    let [r, _] = rows.dims();
    let images = (0..r).map(|row| (row / (r / n).max(1)) as f32).collect();
    let images = Tensor::from_data(TensorData::new(images, [r, 1]), &rows.device());
    let rois = rows.clone().narrow(1, 0, WINDOW_ROI);
    let mut x = features.pool_windows(Tensor::cat(vec![images, rois], 1), side);
    let is_on = rows.narrow(1, WINDOW_ROI, side * side);
    let mut is_on = like(is_on.reshape([r, 1, side, side]), &x);
    // Each convolution is padded with zeros beyond the map.
    x = x * is_on.clone();
    let Some((last, before)) = convs.split_last() else {
        return x;
    };
    for conv in before {
        x = conv.rectified(x);
        side -= 2;
        is_on = inner(is_on, side);
        x = inner(x, side) * is_on.clone();
    }
    let x = relu(middle(x, last.params()));
    let [r, channels] = x.dims();
    x.reshape([r, channels, 1, 1])
}

/// The windows without their outermost cells, of which `side` in each direction are left.
fn inner(x: Tensor<4>, side: usize) -> Tensor<4> {
    x.narrow(2, 1, side).narrow(3, 1, side)
}

/// The convolution at the middle cell of windows as large as its kernel: `[r, c, k, k]` -> `[r, o]`.
fn middle(x: Tensor<4>, params: ConvParams) -> Tensor<2> {
    // Channels last, which is how GPUs pool.
    let by_cell = |x: Tensor<4>| {
        let [r, c, k, _] = x.dims();
        x.permute([0, 2, 3, 1]).reshape([r, k * k * c])
    };
    let output = row_product(by_cell(x), by_cell(params.weight));
    match params.bias {
        Some(bias) => {
            let bias = like(bias, &output);
            output + bias.unsqueeze()
        }
        None => output,
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::Config;
    use crate::model::init::Init;
    use burn::tensor::Distribution;
    use burn::tensor::module::max_pool2d;
    use burn::tensor::ops::MaxPoolOptions;

    /// Feature maps whose last level is every second cell of the one before, with odd and even sides.
    fn pyramid(n: usize, channels: usize, device: &Device) -> Vec<Tensor<4>> {
        let mut levels: Vec<Tensor<4>> = [[9, 7], [5, 4], [3, 2], [3, 4]]
            .map(|[h, w]| {
                let random = Tensor::random([n, channels, h, w], Distribution::Default, device);
                random.require_grad()
            })
            .into();
        let options = MaxPoolOptions::new([1, 1]).with_stride([2, 2]);
        levels.push(max_pool2d(levels[3].clone(), options));
        levels
    }

    /// The predictions at every anchor are those of the whole map, and so are the gradients.
    #[test]
    fn windows_predict_what_the_map_predicts() {
        for convs in [1, 2] {
            let device = Device::flex().autodiff();
            let settings = [
                "model.num_classes=3".to_string(),
                "model.fpn_channels=6".into(),
                format!("model.rpn.convs={convs}"),
            ];
            let config = Config::default().with(&settings).expect("settings").model;
            let rpn = Rpn::new(&Init::random(3, &device), &config);
            let levels = pyramid(2, 6, &device);
            let packed = PackedPyramid::new(&levels, &config.roi);
            let expected = rpn.forward(&levels);
            let [n, anchors] = expected.objectness.dims();
            let all = Tensor::<1, Int>::arange(0..anchors as i64, &device);
            let index = all.unsqueeze::<2>().expand([n, anchors]);
            let (logits, deltas) =
                rpn.at_anchors(&packed, (64, 64), &expected.grids, &config.rpn, index);

            let difference = |a: Tensor<1>, b: Tensor<1>| (a - b).abs().max().into_scalar::<f32>();
            let flat = |logits: &Tensor<2>, deltas: &Tensor<3>| {
                Tensor::cat(
                    vec![logits.clone().flatten(0, 1), deltas.clone().flatten(0, 2)],
                    0,
                )
            };
            let [got, want] = [
                flat(&logits, &deltas),
                flat(&expected.objectness, &expected.deltas),
            ];
            // Sums of 54 products below 1, in another order.
            assert!(
                difference(got.clone(), want.clone()) < 1e-5,
                "{convs} convolutions"
            );

            let weight = Tensor::random(got.dims(), Distribution::Default, &device.clone().inner());
            let weight: Tensor<1> = Tensor::from_inner(weight);
            let [got, want] = [got, want].map(|values| (values * weight.clone()).sum().backward());
            let conv = |at: usize| rpn.head.conv[at][0].weight.val();
            let weights = (0..convs)
                .map(conv)
                .chain([rpn.head.bbox_pred.weight.val()]);
            for tensor in weights.chain(levels[..4].to_vec()) {
                let [got, want] = [&got, &want].map(|gradients| {
                    tensor
                        .grad(gradients)
                        .expect("a gradient")
                        .flatten::<1>(0, 3)
                });
                let largest = want.clone().abs().max().into_scalar::<f32>();
                let difference = difference(got, want);
                assert!(
                    difference < 1e-5 * largest.max(1.0),
                    "{convs}: {difference} of {largest}"
                );
            }
        }
    }
}
