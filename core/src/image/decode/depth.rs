//! Images with 16 bits per sample, of which cameras and microscopes often use fewer.

use ::image::DynamicImage;

/// Significant bits of the brightest sample of a 16-bit image, rounded up to the bit depths of cameras.
pub(super) fn used_bits(image: &DynamicImage) -> Option<u32> {
    let highest = |samples: &[u16], channels: usize| {
        let colors = if channels.is_multiple_of(2) {
            channels - 1
        } else {
            channels
        };
        samples
            .chunks_exact(channels)
            .flat_map(|pixel| &pixel[..colors])
            .copied()
            .max()
    };
    let highest = match image {
        DynamicImage::ImageLuma16(image) => highest(image.as_raw(), 1),
        DynamicImage::ImageLumaA16(image) => highest(image.as_raw(), 2),
        DynamicImage::ImageRgb16(image) => highest(image.as_raw(), 3),
        DynamicImage::ImageRgba16(image) => highest(image.as_raw(), 4),
        _ => return None,
    };
    let needed = u16::BITS - highest.unwrap_or_default().leading_zeros();
    [8, 10, 12, 14]
        .into_iter()
        .find(|bits| needed <= *bits)
        .or(Some(16))
}

/// Multiplies the samples of a 16-bit image by a power of two.
pub(super) fn stretch(image: &mut DynamicImage, bits: u32) {
    let samples = match image {
        DynamicImage::ImageLuma16(image) => image.as_flat_samples_mut().samples,
        DynamicImage::ImageLumaA16(image) => image.as_flat_samples_mut().samples,
        DynamicImage::ImageRgb16(image) => image.as_flat_samples_mut().samples,
        DynamicImage::ImageRgba16(image) => image.as_flat_samples_mut().samples,
        _ => return,
    };
    samples.iter_mut().for_each(|sample| *sample <<= bits);
}
