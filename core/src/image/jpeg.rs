//! Detection of incomplete JPEG files. Decoders fill missing parts with gray and report success, so
//! the file's structure is checked and decoding is strict.

use super::jpeg_scan::{Walk, walk};
use ::image::{DynamicImage, GrayImage, RgbImage};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Decodes a JPEG whose compressed data is complete. `Ok(None)` means that the lenient decoder is needed: the file has
/// oddities, but no missing pixels.
pub(super) fn decode_whole(bytes: &[u8]) -> Result<Option<DynamicImage>, String> {
    check_structure(bytes)?;
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    if decoder.decode_headers().is_err() {
        return Ok(None);
    }
    let space = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => ColorSpace::Luma,
        Some(_) => ColorSpace::RGB,
        None => return Ok(None),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let Some((width, height)) = decoder.dimensions() else {
        return Ok(None);
    };
    let pixels = match decoder.decode() {
        Ok(pixels) => pixels,
        Err(error) => {
            let reason = error.to_string();
            // Oddities of the headers, which every decoder skips.
            return match ["Extra bytes", "restart boundary", "components"]
                .iter()
                .any(|odd| reason.contains(odd))
            {
                true => Ok(None),
                false => Err(format!(
                    "truncated or damaged JPEG: {}",
                    reason.trim_matches(['"', '\n', ' '])
                )),
            };
        }
    };
    let (width, height) = (width as u32, height as u32);
    Ok(match space {
        ColorSpace::Luma => {
            GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8)
        }
        _ => RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8),
    })
}

/// Returns an error if the file has fewer blocks than its size needs, although it ends with an end marker. Takes
/// about a quarter of the time of decoding.
pub(super) fn check_blocks(bytes: &[u8]) -> Result<(), String> {
    match walk(bytes) {
        Walk::Short(done, all) => Err(format!(
            "truncated JPEG: {:.0} % of its blocks are missing",
            100.0 * (all - done) as f64 / all as f64
        )),
        Walk::Whole | Walk::Unknown => Ok(()),
    }
}

const START_OF_SCAN: u8 = 0xDA;
const END_OF_IMAGE: u8 = 0xD9;
const HUFFMAN_TABLES: u8 = 0xC4;

/// Follows the markers to the end of the image. Returns an error if there is no end marker, or if a block of the
/// compressed data is zeroed.
fn check_structure(bytes: &[u8]) -> Result<(), String> {
    const TRUNCATED: &str = "truncated JPEG: the end of the file is missing";
    let (mut at, mut baseline, mut zeros_are_flat) = (2, true, true);
    loop {
        // Fill bytes may precede a marker, and some programs leave bytes between segments.
        while bytes.get(at).is_some_and(|byte| *byte != 0xFF) {
            at += 1;
        }
        while bytes.get(at) == Some(&0xFF) {
            at += 1;
        }
        let marker = *bytes.get(at).ok_or(TRUNCATED)?;
        at += 1;
        match marker {
            END_OF_IMAGE => return Ok(()),
            // Markers without a length; 0 is a stuffed byte in data that is out of place.
            0x00 | 0x01 | 0xD0..=0xD8 => continue,
            _ => {}
        }
        let length = bytes.get(at..at + 2).ok_or(TRUNCATED)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let segment = bytes.get(at + 2..at + length.max(2)).ok_or(TRUNCATED)?;
        at += length.max(2);
        match marker {
            0xC2 | 0xC6 | 0xCA | 0xCE => baseline = false,
            HUFFMAN_TABLES => zeros_are_flat &= zeros_end_blocks(segment),
            START_OF_SCAN => {
                let end = scan_end(bytes, at).ok_or(TRUNCATED)?;
                if baseline && !zeros_are_flat && has_zeroed_block(&bytes[at..end]) {
                    return Err("damaged JPEG: a block of the file is zeroed".into());
                }
                at = end;
            }
            _ => {}
        }
    }
}

/// Position of the end of a scan's compressed data: the next marker that is not a restart.
fn scan_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == 0xFF)?;
        match bytes.get(at + 1)? {
            0x00 | 0xD0..=0xD7 => at += 2,
            0xFF => at += 1,
            _ => return Some(at),
        }
    }
}

/// Whether every AC table of the segment codes "end of block" or "16 zeros" by zero bits only, as optimized tables
/// of flat images may. Long runs of zero bytes are valid then.
fn zeros_end_blocks(mut segment: &[u8]) -> bool {
    while let Some((&class, rest)) = segment.split_first() {
        let Some((lengths, symbols)) = rest.split_at_checked(16) else {
            break;
        };
        let count: usize = lengths.iter().map(|&length| usize::from(length)).sum();
        let Some((symbols, next)) = symbols.split_at_checked(count) else {
            break;
        };
        if class >> 4 == 1 && !matches!(symbols.first(), Some(0x00 | 0xF0)) {
            return false;
        }
        segment = next;
    }
    true
}

/// Whether the data has 512 zero bytes in a row, the size of the smallest sectors of disks and memory cards; valid data
/// has only a few.
fn has_zeroed_block(data: &[u8]) -> bool {
    const SECTOR: usize = 512;
    let mut run = 0;
    data.iter().any(|byte| {
        run = if *byte == 0 { run + 1 } else { 0 };
        run >= SECTOR
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::codecs::jpeg::JpegEncoder;

    /// A JPEG of gradients and noise.
    fn whole() -> Vec<u8> {
        let noise = |x: u32, y: u32| {
            (x.wrapping_mul(7919).wrapping_add(y.wrapping_mul(104_729)) >> 3) as u8 % 24
        };
        let image = RgbImage::from_fn(320, 240, |x, y| {
            ::image::Rgb([(x / 2) as u8 + noise(x, y), y as u8, noise(y, x) + 90])
        });
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 92)
            .encode_image(&image)
            .unwrap();
        bytes
    }

    #[test]
    fn missing_and_zeroed_data_is_named() {
        let bytes = whole();
        assert!(decode_whole(&bytes).unwrap().is_some());
        assert_eq!(walk(&bytes), Walk::Whole);
        let offset = |fraction: f64| (bytes.len() as f64 * fraction) as usize;
        let cut = |fraction: f64| bytes[..offset(fraction)].to_vec();
        let mut ended = cut(0.6);
        ended.extend([0xFF, 0xD9]);
        let mut tail = bytes.clone();
        tail[offset(0.6)..].fill(0);
        let mut middle = bytes.clone();
        middle[offset(0.5)..offset(0.5) + 1024].fill(0);
        let damaged = [
            cut(0.98),
            cut(0.9),
            cut(0.6),
            cut(0.1),
            bytes[..bytes.len() - 2].to_vec(),
            ended,
            tail,
            middle,
        ];
        for (index, bytes) in damaged.iter().enumerate() {
            let error = decode_whole(bytes)
                .err()
                .or_else(|| check_blocks(bytes).err());
            let error = error.unwrap_or_else(|| panic!("case {index} is accepted"));
            assert!(error.contains("JPEG"), "{error}");
        }
        // Data after the end marker, as phones append it.
        let mut longer = bytes.clone();
        longer.extend(vec![0; 5000]);
        assert!(decode_whole(&longer).unwrap().is_some());
    }

    #[test]
    fn flat_images_are_sound() {
        for value in [0, 127, 255] {
            let image = RgbImage::from_pixel(2000, 1500, ::image::Rgb([value; 3]));
            let mut bytes = Vec::new();
            JpegEncoder::new_with_quality(&mut bytes, 75)
                .encode_image(&image)
                .unwrap();
            assert_eq!(walk(&bytes), Walk::Whole);
            let pixels = decode_whole(&bytes).unwrap().unwrap().into_rgb8();
            assert!(pixels.pixels().all(|pixel| pixel.0[0].abs_diff(value) <= 1));
        }
    }
}
