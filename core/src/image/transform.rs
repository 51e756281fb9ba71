//! Conversion of images to tensors: resizing, normalization, padding.
//!
//! Follows torchvision's `GeneralizedRCNNTransform`.

#[doc(hidden)]
pub use super::resize::resize_bilinear;
pub use super::resize::{Planes, nearest_taps, prepare, prepare_window};
pub use super::size::output_size;

/// Stacks images, zero-padded at the right and bottom to the largest one, rounded up to `divisor`.
///
/// Returns the values and their shape `[n, 3, h, w]`.
pub fn stack(images: &[&Planes], divisor: u32) -> (Vec<f32>, [usize; 4]) {
    stack_at_least(images, divisor, (1, 1))
}

/// As [`stack`], with at least `min_size` rows and columns.
pub fn stack_at_least(
    images: &[&Planes],
    divisor: u32,
    min_size: (usize, usize),
) -> (Vec<f32>, [usize; 4]) {
    let sizes = images.iter().map(|p| (p.height as u32, p.width as u32));
    stack_to(images, padded_size(sizes, divisor, min_size))
}

/// Smallest height and width that contain every image and `min_size`, rounded up to `divisor`.
pub fn padded_size(
    sizes: impl Iterator<Item = (u32, u32)>,
    divisor: u32,
    min_size: (usize, usize),
) -> (usize, usize) {
    let largest = |(h, w): (usize, usize), (height, width): (u32, u32)| {
        (h.max(height as usize), w.max(width as usize))
    };
    let (height, width) = sizes.fold(min_size, largest);
    let side = |length: usize| length.max(1).next_multiple_of(divisor as usize);
    (side(height), side(width))
}

/// Stacks images, zero-padded at the right and bottom to `(height, width)`; no image may be larger.
pub fn stack_to(images: &[&Planes], (height, width): (usize, usize)) -> (Vec<f32>, [usize; 4]) {
    let mut values = vec![0.0; images.len() * 3 * height * width];
    for (image, target) in images.iter().zip(values.chunks_mut(3 * height * width)) {
        let planes = image.values.chunks(image.height * image.width);
        for (plane, target) in planes.zip(target.chunks_mut(height * width)) {
            for (row, target) in plane.chunks(image.width).zip(target.chunks_mut(width)) {
                target[..image.width].copy_from_slice(row);
            }
        }
    }
    (values, [images.len(), 3, height, width])
}
