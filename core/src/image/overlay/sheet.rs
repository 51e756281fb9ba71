//! Arrangement of images on a sheet.

use super::canvas::{Canvas, Rect};
use super::text::Font;
use ::image::{Rgb, RgbImage, imageops};

/// Arranges images side by side with captions.
pub fn side_by_side(images: &[(&str, &RgbImage)]) -> RgbImage {
    let height = images.iter().map(|(_, image)| image.height()).max();
    let height = height.unwrap_or(1);
    let text = (height as f32 / 24.0).max(11.0);
    let (caption, gap) = ((text * 1.6) as u32, (text / 3.0) as u32);
    let width: u32 = images.iter().map(|(_, image)| image.width() + gap).sum();
    let size = (width.saturating_sub(gap).max(1), height + caption);
    let mut canvas = Canvas::new(RgbImage::from_pixel(size.0, size.1, Rgb([255; 3])));
    let mut x = 0;
    for (name, image) in images {
        let at = Rect {
            x: x + 2,
            y: 0,
            width: image.width().into(),
            height: caption.into(),
        };
        let font = Font::embedded();
        if let Some(name) = font.fit(name, text, image.width() as f32) {
            font.write(&mut canvas, &name, text, at, [40; 3]);
        }
        x += i64::from(image.width() + gap);
    }
    let mut sheet = canvas.into_image();
    let mut x = 0;
    for (_, image) in images {
        imageops::replace(&mut sheet, *image, x, caption.into());
        x += i64::from(image.width() + gap);
    }
    sheet
}

/// Stacks images vertically.
pub fn stack_vertically(images: &[RgbImage]) -> RgbImage {
    const GAP: u32 = 6;
    let width = images.iter().map(|image| image.width()).max().unwrap_or(1);
    let height: u32 = images.iter().map(|image| image.height() + GAP).sum();
    let mut sheet = RgbImage::from_pixel(width, height.saturating_sub(GAP).max(1), Rgb([255; 3]));
    let mut y = 0;
    for image in images {
        imageops::replace(&mut sheet, image, 0, y);
        y += (image.height() + GAP) as i64;
    }
    sheet
}
