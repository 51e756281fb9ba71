//! Arithmetic on boxes: box targets and rows for RoIAlign. On GPUs each is one kernel; with Burn's operations it is up
//! to twenty small ones.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernel;
#[cfg(all(test, feature = "flex"))]
mod tests;

#[cfg(any(feature = "wgpu", feature = "cuda"))]
use crate::capability::is_plain_gpu_f32;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Whether kernels can read `tensors`, which are not empty.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn have_kernels<const D: usize>(tensors: &[&Tensor<D>]) -> bool {
    let mut tensors = tensors.iter();
    tensors.all(|tensor| is_plain_gpu_f32(tensor) && tensor.shape().num_elements() > 0)
}

/// The deltas that turn `references` into `objects`, both `[n, k, 4]`, f32, in pixels: `dx, dy, dw, dh` times
/// `weights`, where `matched [n, k]` is not negative; zeros elsewhere. As torchvision's `BoxCoder.encode`
/// (R-CNN, appendix C). Not differentiable.
///
/// # Panics
///
/// If the shapes do not match.
pub fn encode_boxes(
    objects: Tensor<3>,
    references: Tensor<3>,
    matched: Tensor<2, Int>,
    weights: [f32; 4],
) -> Tensor<3> {
    let [n, k] = matched.dims();
    assert_eq!(
        (objects.dims(), references.dims()),
        ([n, k, 4], [n, k, 4]),
        "encode_boxes: an object and a reference per index"
    );
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if have_kernels(&[&objects, &references]) {
        return cube::encode(objects, references, matched, weights);
    }
    encode_by_operations(objects, references, matched, weights)
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
