//! Files with several images: animated PNG and WebP, TIFF with pages. Only the first image is decoded.

use ::image::ImageFormat;
use ::image::codecs::{png::PngDecoder, webp::WebPDecoder};
use std::io::{BufRead, Seek};

/// Whether a file has more images than the first. `false` if it cannot be read, which decoding reports.
pub(super) fn has_more(mut file: impl BufRead + Seek) -> bool {
    let Ok(start) = file.fill_buf() else {
        return false;
    };
    match ::image::guess_format(start) {
        Ok(ImageFormat::Png) => {
            PngDecoder::new(file).is_ok_and(|png| png.is_apng().is_ok_and(|is| is))
        }
        Ok(ImageFormat::WebP) => WebPDecoder::new(file).is_ok_and(|webp| webp.has_animation()),
        Ok(ImageFormat::Tiff) => {
            tiff::decoder::Decoder::new(file).is_ok_and(|tiff| tiff.more_images())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn tiff(pages: usize) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let mut encoder = tiff::encoder::TiffEncoder::new(&mut bytes).unwrap();
        for _ in 0..pages {
            let page = encoder.write_image::<tiff::encoder::colortype::Gray8>(2, 1, &[1, 2]);
            page.unwrap();
        }
        bytes.into_inner()
    }

    fn png(frames: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
        encoder.set_color(png::ColorType::Grayscale);
        if frames > 1 {
            encoder.set_animated(frames, 0).unwrap();
        }
        let mut writer = encoder.write_header().unwrap();
        for _ in 0..frames {
            writer.write_image_data(&[1, 2]).unwrap();
        }
        writer.finish().unwrap();
        bytes
    }

    /// A WebP file of one frame with the extended header; bit 1 of its flags marks an animation.
    fn webp(animated: bool) -> Vec<u8> {
        let mut still = Cursor::new(Vec::new());
        let pixels = ::image::RgbImage::new(2, 1);
        pixels.write_to(&mut still, ImageFormat::WebP).unwrap();
        let still = still.into_inner();
        let chunk = |name: &[u8; 4], data: &[u8]| {
            let length = (data.len() as u32).to_le_bytes();
            let padding = vec![0; data.len() % 2];
            [name, &length[..], data, &padding].concat()
        };
        let header = chunk(
            b"VP8X",
            &[if animated { 2 } else { 0 }, 0, 0, 0, 1, 0, 0, 0, 0, 0],
        );
        let image = &still[12..];
        let contents = match animated {
            false => image.to_vec(),
            true => {
                let place = [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 10, 0, 0, 0];
                let frame = chunk(b"ANMF", &[&place[..], image].concat());
                [chunk(b"ANIM", &[0; 6]), frame.clone(), frame].concat()
            }
        };
        let all = [b"WEBP", &header[..], &contents].concat();
        chunk(b"RIFF", &all)
    }

    #[test]
    fn several_images_in_a_file_are_detected() {
        let has_more = |bytes: Vec<u8>| has_more(Cursor::new(bytes));
        for more in [false, true] {
            assert_eq!(has_more(tiff(1 + usize::from(more))), more, "TIFF");
            assert_eq!(has_more(png(1 + u32::from(more))), more, "PNG");
            assert_eq!(has_more(webp(more)), more, "WebP");
        }
        for damaged in [Vec::new(), png(2)[..20].to_vec(), tiff(2)[..7].to_vec()] {
            assert!(!has_more(damaged));
        }
    }
}
