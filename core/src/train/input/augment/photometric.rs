//! Brightness, contrast, saturation and hue (Liu et al., SSD, 2016), as torchvision's
//! `RandomPhotometricDistort` computes them for 8-bit images.

use crate::config::AugmentConfig;
use crate::random::Stream;
use ::image::RgbImage;

/// Distorts an image in place: each of the four with probability `config.photometric`; the contrast
/// before or after saturation and hue, with equal probability.
pub fn distort(image: &mut RgbImage, config: &AugmentConfig, stream: Stream) {
    if config.photometric == 0.0 {
        return;
    }
    let happens = |index: u64| stream.uniform(index) < config.photometric;
    let within = |index: u64, strength: f64| strength * (2.0 * stream.uniform(index) - 1.0);
    let contrast_first = stream.bits(0) & 1 == 0;
    let contrast = happens(3).then(|| (1.0 + within(4, config.contrast)) as f32);
    if happens(1) {
        brighten(image, (1.0 + within(2, config.brightness)) as f32);
    }
    if let Some(factor) = contrast.filter(|_| contrast_first) {
        change_contrast(image, factor);
    }
    if happens(5) {
        saturate(image, (1.0 + within(6, config.saturation)) as f32);
    }
    if happens(7) {
        turn_hue(image, within(8, config.hue) as f32);
    }
    if let Some(factor) = contrast.filter(|_| !contrast_first) {
        change_contrast(image, factor);
    }
}

/// Multiplies every value by `factor`.
fn brighten(image: &mut RgbImage, factor: f32) {
    let table: [u8; 256] = std::array::from_fn(|v| (v as f32 * factor).clamp(0.0, 255.0) as u8);
    image.iter_mut().for_each(|v| *v = table[*v as usize]);
}

/// Multiplies the distance of every value from the image's mean gray by `factor`.
fn change_contrast(image: &mut RgbImage, factor: f32) {
    let grays = image.as_raw().as_chunks::<3>().0.iter();
    let sum: u64 = grays.map(|pixel| gray(*pixel) as u64).sum();
    let pixels = (image.as_raw().len() / 3).max(1);
    let mean = (sum as f64 / pixels as f64) as f32;
    let table: [u8; 256] = std::array::from_fn(|v| blend(v as f32, mean, factor));
    image.iter_mut().for_each(|v| *v = table[*v as usize]);
}

/// Multiplies the distance of every value from its pixel's gray by `factor`.
fn saturate(image: &mut RgbImage, factor: f32) {
    for pixel in image.as_chunks_mut::<3>().0 {
        let gray = gray(*pixel) as f32;
        *pixel = pixel.map(|v| blend(v as f32, gray, factor));
    }
}

/// Rotates the hue by `turn` full turns; lightness and saturation (HSV) do not change.
fn turn_hue(image: &mut RgbImage, turn: f32) {
    for pixel in image.as_chunks_mut::<3>().0 {
        let [r, g, b] = pixel.map(f32::from);
        let (most, least) = (r.max(g).max(b), r.min(g).min(b));
        let range = most - least;
        if range == 0.0 {
            continue;
        }
        let sixth = if most == r {
            (g - b) / range
        } else if most == g {
            (b - r) / range + 2.0
        } else {
            (r - g) / range + 4.0
        };
        let hue = (sixth / 6.0 + turn).rem_euclid(1.0) * 6.0;
        // A channel decreases from the largest value to the smallest with its distance in hue.
        let channel = |offset: f32| {
            let k = (offset + hue) % 6.0;
            let value = most - range * k.min(4.0 - k).clamp(0.0, 1.0);
            (value + 0.5).clamp(0.0, 255.0) as u8
        };
        *pixel = [channel(5.0), channel(3.0), channel(1.0)];
    }
}

/// The gray value of a pixel (ITU-R 601), truncated to an integer as in torchvision.
fn gray([r, g, b]: [u8; 3]) -> u8 {
    (0.2989 * r as f32 + 0.587 * g as f32 + 0.114 * b as f32) as u8
}

fn blend(value: f32, other: f32, factor: f32) -> u8 {
    (factor * value + (1.0 - factor) * other).clamp(0.0, 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIXELS: [[u8; 3]; 8] = [
        [200, 30, 60],
        [10, 240, 90],
        [40, 70, 220],
        [255, 255, 255],
        [0, 0, 0],
        [128, 127, 129],
        [180, 180, 20],
        [90, 10, 200],
    ];

    fn changed(change: impl Fn(&mut RgbImage)) -> Vec<u8> {
        let raw = PIXELS.concat();
        let mut image = RgbImage::from_raw(4, 2, raw).expect("eight pixels");
        change(&mut image);
        image.into_raw()
    }

    /// torchvision 0.29's `adjust_*` on the same pixels; it rounds the hue at other points, hence the tolerance of 1.
    #[test]
    #[rustfmt::skip]
    fn the_changes_are_torchvisions() {
        let cases: [(Vec<u8>, [u8; 24]); 6] = [
            (changed(|image| brighten(image, 1.1)),
             [220, 33, 66, 11, 255, 99, 44, 77, 242, 255, 255, 255, 0, 0, 0, 140, 139, 141, 198, 198, 22, 99, 11, 220]),
            (changed(|image| change_contrast(image, 1.4)),
             [234, 0, 38, 0, 255, 80, 10, 52, 255, 255, 255, 255, 0, 0, 0, 133, 132, 134, 206, 206, 0, 80, 0, 234]),
            (changed(|image| change_contrast(image, 0.6)),
             [165, 63, 81, 51, 189, 99, 69, 87, 177, 198, 198, 198, 45, 45, 45, 122, 121, 123, 153, 153, 57, 99, 51, 165]),
            (changed(|image| saturate(image, 1.5)),
             [255, 3, 48, 0, 255, 58, 21, 66, 255, 255, 255, 255, 0, 0, 0, 128, 127, 130, 189, 189, 0, 107, 0, 255]),
            (changed(|image| turn_hue(image, -0.05)),
             [200, 30, 111, 10, 240, 21, 40, 124, 220, 255, 255, 255, 0, 0, 0, 127, 127, 129, 180, 132, 20, 33, 10, 200]),
            (changed(|image| turn_hue(image, 0.4)),
             [30, 200, 68, 182, 10, 240, 220, 82, 40, 255, 255, 255, 0, 0, 0, 129, 129, 127, 20, 116, 180, 200, 166, 10]),
        ];
        for (number, (found, wanted)) in cases.iter().enumerate() {
            for (found, wanted) in found.iter().zip(wanted) {
                assert!(found.abs_diff(*wanted) <= 1, "case {number}: {found}, not {wanted}");
            }
        }
    }

    #[test]
    fn a_chance_of_nothing_changes_nothing_and_each_strength_matters() {
        let off = AugmentConfig::default();
        let all = AugmentConfig {
            photometric: 1.0,
            ..off.clone()
        };
        let stream = Stream::named("photometric", 1);
        let made = |config: &AugmentConfig| changed(|image| distort(image, config, stream));
        assert_eq!(made(&off), PIXELS.concat());
        let whole = made(&all);
        assert_ne!(whole, PIXELS.concat());
        for without in [
            AugmentConfig {
                brightness: 0.0,
                ..all.clone()
            },
            AugmentConfig {
                contrast: 0.0,
                ..all.clone()
            },
            AugmentConfig {
                saturation: 0.0,
                ..all.clone()
            },
            AugmentConfig {
                hue: 0.0,
                ..all.clone()
            },
        ] {
            assert_ne!(made(&without), whole, "{without:?}");
        }
    }
}
