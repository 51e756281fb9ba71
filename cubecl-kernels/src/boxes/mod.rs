//! Arithmetic on boxes: targets of samples, gathering, and rows for RoIAlign. On GPUs each is one kernel; with Burn's
//! operations it is up to twenty small ones.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernel;
mod roi_targets;
#[cfg(all(test, feature = "flex"))]
mod tests;

pub use roi_targets::{RoiTargets, roi_targets};

#[cfg(any(feature = "wgpu", feature = "cuda"))]
use crate::capability::is_plain_gpu_f32;
use crate::sampling::Choice;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Whether kernels can read `tensors`, which are not empty.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn have_kernels<const D: usize>(tensors: &[&Tensor<D>]) -> bool {
    let mut tensors = tensors.iter();
    tensors.all(|tensor| is_plain_gpu_f32(tensor) && tensor.shape().num_elements() > 0)
}

/// The deltas from the chosen references to their objects: `dx, dy, dw, dh` times `weights` where a sample has an
/// object, zeros elsewhere. As torchvision's `BoxCoder.encode` (R-CNN, appendix C). Not differentiable.
///
/// * `gt` - `[n, t, 4]`, f32, in pixels, of which `choice.matched` are the objects.
/// * `references` - `[n, b, 4]`, or `[1, b, 4]` for all images, f32, in pixels: the candidates.
/// * `choice` - of `k` candidates per image.
///
/// Returns `[n, k, 4]`, f32.
///
/// # Panics
///
/// If the shapes do not match.
pub fn encode_boxes(
    gt: Tensor<3>,
    references: Tensor<3>,
    choice: &Choice,
    weights: [f32; 4],
) -> Tensor<3> {
    let ([n, _], [images, _, corners]) = (choice.matched.dims(), gt.dims());
    let [reference_sets, total, reference_corners] = references.dims();
    assert_eq!(
        choice.candidates.dims(),
        choice.matched.dims(),
        "encode_boxes: a candidate per match"
    );
    assert!(
        (images, corners, reference_corners) == (n, 4, 4) && [1, n].contains(&reference_sets),
        "encode_boxes: gt [n, t, 4] and references [n or 1, b, 4] of the {n} images of the choice, not {:?} and {:?}",
        gt.dims(),
        references.dims()
    );
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if have_kernels(&[&gt, &references]) && choice.matched.shape().num_elements() * total > 0 {
        return cube::encode(gt, references, choice, weights);
    }
    let matched = choice.matched.clone();
    let objects = rows_at(gt, matched.clone().clamp_min(0));
    let references = rows_at(references.expand([n, total, 4]), choice.candidates.clone());
    encode_by_operations(objects, references, matched, weights)
}

/// The boxes at the indices `index [n, k]` of `boxes [n, b, 4]`, f32: `[n, k, 4]`. A negative index gives the first
/// box. Not differentiable.
///
/// # Panics
///
/// If the shapes do not match.
pub fn gather_boxes(boxes: Tensor<3>, index: Tensor<2, Int>) -> Tensor<3> {
    let ([n, _, corners], [images, _]) = (boxes.dims(), index.dims());
    assert_eq!(
        (n, corners),
        (images, 4),
        "gather_boxes: a row of indices per image, four corners per box"
    );
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if have_kernels(&[&boxes]) && index.shape().num_elements() > 0 {
        return cube::gather(boxes, index);
    }
    rows_at(boxes, index.clamp_min(0))
}

/// The rows `index [n, k]` of `values [n, b, 4]`: `[n, k, 4]`.
fn rows_at(values: Tensor<3>, index: Tensor<2, Int>) -> Tensor<3> {
    let [n, k] = index.dims();
    values.gather(1, index.unsqueeze_dim::<3>(2).expand([n, k, 4]))
}

fn encode_by_operations(
    objects: Tensor<3>,
    references: Tensor<3>,
    matched: Tensor<2, Int>,
    [wx, wy, ww, wh]: [f32; 4],
) -> Tensor<3> {
    let [n, k, _] = objects.dims();
    let device = objects.device();
    let no_object = matched.lower_elem(0).unsqueeze_dim::<3>(2);
    // Padded slots may hold boxes without area, whose logarithm is not finite.
    let sides_masked = no_object.clone().expand([n, k, 2]);
    let center_and_side = |boxes: Tensor<3>| {
        let low = boxes.clone().narrow(2, 0, 2);
        let side = boxes.narrow(2, 2, 2) - low.clone();
        let side = side.mask_fill(sides_masked.clone(), 1.0);
        (low + side.clone() * 0.5, side)
    };
    let weights = |weights: [f32; 2]| {
        let data = TensorData::new(weights.to_vec(), [1, 1, 2]);
        Tensor::<3>::from_data(data, &device).expand([n, k, 2])
    };
    let (center, side) = center_and_side(references);
    let (object, object_side) = center_and_side(objects);
    let shifts = (object - center) / side.clone() * weights([wx, wy]);
    let scales = (object_side / side).log() * weights([ww, wh]);
    Tensor::cat(vec![shifts, scales], 2).mask_fill(no_object.expand([n, k, 4]), 0.0)
}

/// Boxes `[n, slots, 4]`, f32, as rows `[n * slots, 6]` for RoIAlign: image, level, box.
///
/// * `min_sides` - the smallest side (square root of the area) of a box of each level but the first, ascending.
///
/// # Panics
///
/// If the shape does not match.
pub fn roi_rows(boxes: Tensor<3>, min_sides: &[f32]) -> Tensor<2> {
    assert_eq!(boxes.dims()[2], 4, "roi_rows: four corners per box");
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if have_kernels(&[&boxes]) {
        return cube::rows(boxes, min_sides);
    }
    rows_by_operations(boxes, min_sides)
}

fn rows_by_operations(boxes: Tensor<3>, min_sides: &[f32]) -> Tensor<2> {
    let [n, slots, _] = boxes.dims();
    let corner = |i: usize| boxes.clone().narrow(2, i, 1);
    let side = ((corner(2) - corner(0)) * (corner(3) - corner(1))).sqrt();
    let levels = min_sides
        .iter()
        .map(|&least| side.clone().greater_equal_elem(least).float())
        .fold(side.zeros_like(), |sum, is_coarser| sum + is_coarser);
    let images = images(n, &side.device()).expand([n, slots, 1]);
    Tensor::cat(vec![images, levels, boxes], 2).reshape([n * slots, 6])
}

fn images(n: usize, device: &Device) -> Tensor<3> {
    let images: Vec<f32> = (0..n).map(|image| image as f32).collect();
    Tensor::from_data(TensorData::new(images, [n, 1, 1]), device)
}
