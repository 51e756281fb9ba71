//! Pictures to tensors: resizing, normalising, padding.
//!
//! Follows torchvision's `GeneralizedRCNNTransform`.

use crate::config::ImageConfig;
use ::image::RgbImage;

/// A picture as three planes, `[3, height, width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Planes {
    /// Row-major values of one plane after the other, in the configured order.
    pub values: Vec<f32>,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// Height and width after resizing: the shorter side becomes `min_size` unless the longer one would
/// exceed `max_size`; truncated as torchvision does, at least 1.
pub fn output_size(height: u32, width: u32, min_size: u32, max_size: u32) -> (u32, u32) {
    let shorter = height.min(width).max(1) as f64;
    let longer = height.max(width).max(1) as f64;
    let scale = (min_size as f64 / shorter).min(max_size as f64 / longer);
    let side = |length: u32| ((length as f64 * scale) as u32).max(1);
    (side(height), side(width))
}

/// The picture as planes with mean 0 and deviation 1, per the configuration.
pub fn normalize(image: &RgbImage, config: &ImageConfig) -> Planes {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let mut values = vec![0.0; 3 * height * width];
    let planes = values.chunks_mut((height * width).max(1));
    for (channel, plane) in config.channels.planes().into_iter().zip(planes) {
        let (mean, std) = (config.mean[channel], config.std[channel]);
        let table: [f32; 256] = std::array::from_fn(|v| (v as f32 / 255.0 - mean) / std);
        for (value, pixel) in plane.iter_mut().zip(image.as_raw().chunks_exact(3)) {
            *value = table[pixel[channel] as usize];
        }
    }
    Planes {
        values,
        height,
        width,
    }
}

/// Resizes and normalises a picture for the model.
pub fn prepare(image: &RgbImage, config: &ImageConfig) -> Planes {
    let size = config.resized(image.height(), image.width());
    resize_bilinear(&normalize(image, config), size)
}

/// Bilinear resizing to `(height, width)` without aligned corners or anti-aliasing.
pub fn resize_bilinear(planes: &Planes, (height, width): (u32, u32)) -> Planes {
    let (height, width) = (height as usize, width as usize);
    if (height, width) == (planes.height, planes.width) {
        return planes.clone();
    }
    let rows = bilinear_taps(height, planes.height);
    let columns = bilinear_taps(width, planes.width);
    let mut values = Vec::with_capacity(3 * height * width);
    for plane in planes.values.chunks(planes.height * planes.width) {
        for &(top, bottom, y) in &rows {
            let upper = &plane[top * planes.width..][..planes.width];
            let lower = &plane[bottom * planes.width..][..planes.width];
            values.extend(columns.iter().map(|&(left, right, x)| {
                (1.0 - y) * ((1.0 - x) * upper[left] + x * upper[right])
                    + y * ((1.0 - x) * lower[left] + x * lower[right])
            }));
        }
    }
    Planes {
        values,
        height,
        width,
    }
}

/// For each of `to` target cells: its two source cells and the weight of the second.
fn bilinear_taps(to: usize, from: usize) -> Vec<(usize, usize, f32)> {
    let scale = from as f32 / to as f32;
    (0..to)
        .map(|target| {
            let position = ((target as f32 + 0.5) * scale - 0.5).max(0.0);
            let low = (position as usize).min(from - 1);
            (low, (low + 1).min(from - 1), position - low as f32)
        })
        .collect()
}

/// The source cell of each of `to` target cells in nearest-neighbour resizing, as torch rounds.
pub fn nearest_taps(to: usize, from: usize) -> Vec<usize> {
    let scale = from as f32 / to as f32;
    (0..to)
        .map(|target| ((target as f32 * scale) as usize).min(from.saturating_sub(1)))
        .collect()
}

/// Stacks pictures, zero-padded right and bottom to the largest, rounded up to `divisor`.
///
/// Returns the values and their shape `[n, 3, h, w]`.
pub fn stack(images: &[&Planes], divisor: u32) -> (Vec<f32>, [usize; 4]) {
    stack_at_least(images, divisor, (1, 1))
}

/// As [`stack`], with at least `least` rows and columns.
pub fn stack_at_least(
    images: &[&Planes],
    divisor: u32,
    least: (usize, usize),
) -> (Vec<f32>, [usize; 4]) {
    let sizes = images.iter().map(|p| (p.height as u32, p.width as u32));
    stack_to(images, padded_size(sizes, divisor, least))
}

/// Height and width that hold every picture and `least`, rounded up to `divisor`.
pub fn padded_size(
    sizes: impl Iterator<Item = (u32, u32)>,
    divisor: u32,
    least: (usize, usize),
) -> (usize, usize) {
    let largest = |(h, w): (usize, usize), (height, width): (u32, u32)| {
        (h.max(height as usize), w.max(width as usize))
    };
    let (height, width) = sizes.fold(least, largest);
    let side = |length: usize| length.max(1).next_multiple_of(divisor as usize);
    (side(height), side(width))
}

/// Stacks pictures, zero-padded right and bottom to `(height, width)`, none of them larger.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_never_vanish() {
        assert_eq!(output_size(1, 1, 800, 1333), (800, 800));
        assert_eq!(output_size(60, 4000, 800, 1333), (19, 1333));
        assert_eq!(output_size(1, 60000, 800, 1333), (1, 1333));
    }
}
