//! Resizing and normalization of images in one pass.

use super::Placement;
use crate::config::ImageConfig;
use ::image::RgbImage;

/// An image as three planes, `[3, height, width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Planes {
    /// Row-major values, plane by plane, in the configured order of channels.
    pub values: Vec<f32>,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
}

/// Resizes and normalizes an image for the model.
pub fn prepare(image: &RgbImage, config: &ImageConfig) -> Planes {
    let original = (image.height(), image.width());
    let resized = config.resized(original.0, original.1);
    prepare_window(image, config, &Placement::whole(original, resized, false))
}

/// Computes the window of `placement`: resized bilinearly as by torch, flipped, and normalized with the mean and
/// standard deviation of the configuration. Outside the image, values are 0.
pub fn prepare_window(image: &RgbImage, config: &ImageConfig, placement: &Placement) -> Planes {
    let tables = config.channels.planes().map(|channel| {
        let (mean, std) = (config.mean[channel], config.std[channel]);
        let table: [f32; 256] = std::array::from_fn(|v| (v as f32 / 255.0 - mean) / std);
        (channel, table)
    });
    let width = image.width() as usize;
    let read = |plane: usize, row: usize, line: &mut [f32]| {
        let (channel, table) = &tables[plane];
        let pixels = &image.as_raw()[3 * row * width..3 * (row + 1) * width];
        for (value, pixel) in line.iter_mut().zip(pixels.as_chunks::<3>().0) {
            *value = table[pixel[*channel] as usize];
        }
    };
    resize_rows(read, placement)
}

/// Bilinear resizing to `(height, width)`, as torch's `interpolate` without aligned corners and anti-aliasing. Hidden,
/// because only tests have images that are not 8-bit.
#[doc(hidden)]
pub fn resize_bilinear(planes: &Planes, size: (u32, u32)) -> Planes {
    let read = |plane: usize, row: usize, line: &mut [f32]| {
        let start = (plane * planes.height + row) * planes.width;
        line.copy_from_slice(&planes.values[start..start + planes.width]);
    };
    let original = (planes.height as u32, planes.width as u32);
    resize_rows(read, &Placement::whole(original, size, false))
}

/// Resizes an image whose rows `read(plane, row, line)` writes into a line. Each row is read and resized along its
/// columns once, when the first row of the window needs it.
fn resize_rows(read: impl Fn(usize, usize, &mut [f32]), placement: &Placement) -> Planes {
    let (height, width) = (placement.size.0 as usize, placement.size.1 as usize);
    let from = (placement.original.0 as usize, placement.original.1 as usize);
    let rows = &bilinear_taps(placement.resized.0 as usize, from.0)[placement.rows()];
    let columns = &bilinear_taps(placement.resized.1 as usize, from.1)[placement.columns()];
    let mirrored = |column: usize| match placement.flip {
        true => from.1 - 1 - column,
        false => column,
    };
    let columns: Vec<(usize, usize, f32)> = columns
        .iter()
        .map(|&(left, right, x)| (mirrored(left), mirrored(right), x))
        .collect();
    let mut values = vec![0.0; 3 * height * width];
    let mut line = vec![0.0; from.1];
    for plane in 0..3 {
        let mut held = [0, 1].map(|_| (usize::MAX, vec![0.0; columns.len()]));
        for (row, &(top, bottom, weight)) in rows.iter().enumerate() {
            if held[0].0 != top {
                held.swap(0, 1);
            }
            for ((held, resized), wanted) in held.iter_mut().zip([top, bottom]) {
                if *held == wanted {
                    continue;
                }
                *held = wanted;
                read(plane, wanted, &mut line);
                for (value, &(left, right, x)) in resized.iter_mut().zip(&columns) {
                    *value = (1.0 - x) * line[left] + x * line[right];
                }
            }
            let start = (plane * height + row) * width;
            let target = &mut values[start..start + columns.len()];
            let lines = held[0].1.iter().zip(&held[1].1);
            for (value, (upper, lower)) in target.iter_mut().zip(lines) {
                *value = (1.0 - weight) * upper + weight * lower;
            }
        }
    }
    Planes {
        values,
        height,
        width,
    }
}

/// For each of `to` target cells, its two source cells and the weight of the second.
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

/// The source cell of each of `to` target cells in nearest-neighbor resizing, as torch rounds.
pub fn nearest_taps(to: usize, from: usize) -> Vec<usize> {
    let scale = from as f32 / to as f32;
    (0..to)
        .map(|target| ((target as f32 * scale) as usize).min(from.saturating_sub(1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::imageops::{crop_imm, flip_horizontal};
    use ::image::{Rgb, RgbImage};

    fn test_image(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            Rgb([(x * 37 + y * 11) as u8, (y * 53) as u8, (x * y * 7) as u8])
        })
    }

    /// A pixel by the definition of bilinear interpolation.
    fn pixel(image: &RgbImage, config: &ImageConfig, to: (u32, u32), at: (u32, u32)) -> [f32; 3] {
        let tap =
            |to: u32, from: u32, at: u32| bilinear_taps(to as usize, from as usize)[at as usize];
        let (top, bottom, y) = tap(to.0, image.height(), at.0);
        let (left, right, x) = tap(to.1, image.width(), at.1);
        let value = |row: usize, column: usize, c: usize| {
            let level = image.get_pixel(column as u32, row as u32).0[c];
            (level as f32 / 255.0 - config.mean[c]) / config.std[c]
        };
        [0, 1, 2].map(|c| {
            let upper = (1.0 - x) * value(top, left, c) + x * value(top, right, c);
            let lower = (1.0 - x) * value(bottom, left, c) + x * value(bottom, right, c);
            (1.0 - y) * upper + y * lower
        })
    }

    #[test]
    fn windows_are_crops_of_the_resized_image() {
        let config = ImageConfig::default();
        let image = test_image(23, 17);
        let mirrored = flip_horizontal(&image);
        for resized in [(17, 23), (40, 61), (9, 30), (60, 8), (1, 1)] {
            for (flip, source) in [(false, &image), (true, &mirrored)] {
                let placement = Placement {
                    original: (17, 23),
                    flip,
                    resized,
                    origin: (resized.0 / 3, resized.1 / 4),
                    size: (20, 25),
                };
                let window = prepare_window(&image, &config, &placement);
                for row in 0..20u32 {
                    for column in 0..25u32 {
                        let at = (row + resized.0 / 3, column + resized.1 / 4);
                        let inside = at.0 < resized.0 && at.1 < resized.1;
                        let expected = match inside {
                            true => pixel(source, &config, resized, at),
                            false => [0.0; 3],
                        };
                        let index = (row * 25 + column) as usize;
                        let actual = [0, 1, 2].map(|c| window.values[c * 500 + index]);
                        assert_eq!(actual, expected, "{placement:?} at {row}, {column}");
                    }
                }
            }
        }
        // A window without resizing is a crop.
        let placement = Placement {
            origin: (3, 5),
            size: (8, 9),
            ..Placement::whole((17, 23), (17, 23), false)
        };
        let crop = crop_imm(&image, 5, 3, 9, 8).to_image();
        let window = prepare_window(&image, &config, &placement);
        let whole = Placement::whole((8, 9), (8, 9), false);
        assert_eq!(window, prepare_window(&crop, &config, &whole));
    }
}
