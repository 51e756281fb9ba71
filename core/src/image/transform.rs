//! Pictures to tensors and masks to the picture: resizing, normalising, padding, run lengths.
//!
//! Follows torchvision's `GeneralizedRCNNTransform`.

pub use super::resize::{
    Planes, nearest_taps, output_size, prepare, prepare_window, resize_bilinear,
};
use mrcnn_kernels::PastedMask;
use vernier_mask::Rle;

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

/// The cells of a pasted mask above `threshold`, as run lengths over a `height x width` picture.
pub fn to_rle(mask: &PastedMask, threshold: f32, height: usize, width: usize) -> Rle {
    let mut runs = Runs::default();
    runs.add(false, mask.x * height);
    for column in 0..mask.width {
        runs.add(false, mask.y);
        for row in 0..mask.height {
            runs.add(mask.probabilities[row * mask.width + column] > threshold, 1);
        }
        runs.add(false, height - mask.y - mask.height);
    }
    runs.add(false, (width - mask.x - mask.width) * height);
    runs.counts.push(runs.length);
    Rle::from_counts(height as u32, width as u32, runs.counts)
}

/// Run lengths in the making; background comes first.
#[derive(Default)]
struct Runs {
    counts: Vec<u32>,
    value: bool,
    length: u32,
}

impl Runs {
    fn add(&mut self, value: bool, cells: usize) {
        if cells == 0 {
            return;
        }
        if value != self.value {
            self.counts.push(std::mem::take(&mut self.length));
            self.value = value;
        }
        self.length += cells as u32;
    }
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

    #[test]
    fn run_lengths_are_those_of_the_whole_picture() {
        // Windows that touch each border, among them the whole picture.
        for (x, y, width, height) in [
            (0, 0, 4, 5),
            (1, 1, 2, 3),
            (2, 0, 2, 5),
            (0, 2, 4, 3),
            (3, 4, 1, 1),
        ] {
            for pattern in 0..64u32 {
                let probabilities: Vec<f32> = (0..width * height)
                    .map(|i| ((pattern >> (i % 6)) & 1) as f32)
                    .collect();
                let mut whole = vec![0u8; 20];
                for row in 0..height {
                    for column in 0..width {
                        whole[(y + row) * 4 + x + column] =
                            probabilities[row * width + column] as u8;
                    }
                }
                let mask = PastedMask {
                    x,
                    y,
                    width,
                    height,
                    probabilities,
                };
                let rle = to_rle(&mask, 0.5, 5, 4);
                assert_eq!(rle.to_row_major_raster_bytes(), whole);
            }
        }
    }
}
