//! Drawing of detections: masks, outlines, boxes, names and scores.

use crate::detection::Detection;
use ::image::{Rgb, RgbImage, imageops};
use font8x8::UnicodeFonts;

/// Options of [`draw`].
#[derive(Clone, Debug, PartialEq)]
pub struct OverlayOptions {
    /// Opacity of the masks, `0..=1`.
    pub opacity: f32,
    /// Whether boxes are drawn.
    pub boxes: bool,
    /// Whether names are drawn. With more than 12 objects they are left out if they would cover more than a fifth of
    /// the image.
    pub labels: bool,
    /// Whether scores are drawn after the names.
    pub scores: bool,
}

impl Default for OverlayOptions {
    fn default() -> Self {
        Self {
            opacity: 0.45,
            boxes: true,
            labels: true,
            scores: true,
        }
    }
}

/// Draws detections on a copy of the image, the one with the highest score on top; `name_of` maps a label to a name.
pub fn draw(
    image: &RgbImage,
    detections: &[Detection],
    name_of: &dyn Fn(usize) -> String,
    options: &OverlayOptions,
) -> RgbImage {
    let mut canvas = image.clone();
    for (index, detection) in detections.iter().enumerate().rev() {
        draw_mask(&mut canvas, detection, colour(index), options.opacity);
    }
    let tag = |detection: &Detection| match options.scores {
        true => format!("{} {:.2}", name_of(detection.label), detection.score),
        false => name_of(detection.label),
    };
    let tags: Vec<String> = detections.iter().map(tag).collect();
    let labels = options.labels && !is_crowded(&canvas, &tags);
    for (index, detection) in detections.iter().enumerate().rev() {
        let [x1, y1, x2, y2] = detection.bbox.map(|v| v.clamp(-1e6, 1e6) as i64);
        if options.boxes {
            draw_box(&mut canvas, [x1, y1, x2 - 1, y2 - 1], colour(index));
        }
        if labels {
            draw_tag(&mut canvas, x1, y1, &tags[index], colour(index));
        }
    }
    canvas
}

/// Distinct colours: hues are a golden angle apart.
fn colour(index: usize) -> [u8; 3] {
    let hue = (index as f32 * 0.618_034 + 0.05).fract();
    [5.0, 3.0, 1.0].map(|n: f32| {
        let k = (n + hue * 6.0) % 6.0;
        (255.0 * (1.0 - 0.8 * k.min(4.0 - k).clamp(0.0, 1.0))) as u8
    })
}

fn draw_mask(canvas: &mut RgbImage, detection: &Detection, colour: [u8; 3], opacity: f32) {
    let (width, height) = canvas.dimensions();
    if (detection.mask.w, detection.mask.h) != (width, height) {
        return;
    }
    let window = detection.bitmap();
    let is_set = |x: usize, y: usize| {
        x < window.width && y < window.height && window.cells[y * window.width + x] != 0
    };
    for y in 0..window.height {
        for x in (0..window.width).filter(|&x| is_set(x, y)) {
            // Beyond the left and top borders, coordinates wrap to large values, which are outside the window.
            let inner = is_set(x.wrapping_sub(1), y)
                && is_set(x + 1, y)
                && is_set(x, y.wrapping_sub(1))
                && is_set(x, y + 1);
            let opacity = if inner { opacity } else { 1.0 };
            let [x, y] = [window.x + x, window.y + y].map(|v| v as i64);
            blend(canvas, x, y, colour, opacity);
        }
    }
}

fn blend(canvas: &mut RgbImage, x: i64, y: i64, colour: [u8; 3], opacity: f32) {
    let (width, height) = canvas.dimensions();
    if (0..width as i64).contains(&x) && (0..height as i64).contains(&y) {
        let Rgb(pixel) = canvas.get_pixel_mut(x as u32, y as u32);
        for (old, new) in pixel.iter_mut().zip(colour) {
            *old = (*old as f32 * (1.0 - opacity) + new as f32 * opacity) as u8;
        }
    }
}

fn draw_box(canvas: &mut RgbImage, [x1, y1, x2, y2]: [i64; 4], colour: [u8; 3]) {
    let (width, height) = (canvas.width() as i64, canvas.height() as i64);
    for x in x1.max(0)..=x2.min(width - 1) {
        blend(canvas, x, y1, colour, 0.9);
        blend(canvas, x, y2, colour, 0.9);
    }
    for y in y1.max(0)..=y2.min(height - 1) {
        blend(canvas, x1, y, colour, 0.9);
        blend(canvas, x2, y, colour, 0.9);
    }
}

/// Side of a character in pixels.
const CHARACTER: i64 = 8;

/// Pixels per cell of a character.
fn text_scale(canvas: &RgbImage) -> i64 {
    if canvas.width().min(canvas.height()) >= 600 {
        2
    } else {
        1
    }
}

/// Width and height of a tag in pixels.
fn tag_size(text: &str, scale: i64) -> (i64, i64) {
    let width = text.chars().count() as i64 * CHARACTER * scale + 2;
    (width, CHARACTER * scale + 2)
}

/// Whether the tags would cover too much of the image.
fn is_crowded(canvas: &RgbImage, tags: &[String]) -> bool {
    let scale = text_scale(canvas);
    let area = |text: &String| {
        let (width, height) = tag_size(text, scale);
        width * height
    };
    let covered: i64 = tags.iter().map(area).sum();
    tags.len() > 12 && covered * 5 > i64::from(canvas.width()) * i64::from(canvas.height())
}

fn draw_tag(canvas: &mut RgbImage, x: i64, y: i64, text: &str, colour: [u8; 3]) {
    let scale = text_scale(canvas);
    let (width, height) = tag_size(text, scale);
    // Above the box if there is space, and always inside the image.
    let x = x.min(canvas.width() as i64 - width).max(0);
    let y = (y - height).min(canvas.height() as i64 - height).max(0);
    for dy in 0..height {
        for dx in 0..width {
            blend(canvas, x + dx, y + dy, colour, 0.85);
        }
    }
    let brightness: u32 = colour
        .iter()
        .zip([3, 6, 1])
        .map(|(&c, w)| c as u32 * w)
        .sum();
    let ink = if brightness > 1400 { [0; 3] } else { [255; 3] };
    write_text(canvas, x + 1, y + 1, text, scale, ink);
}

fn write_text(canvas: &mut RgbImage, x: i64, y: i64, text: &str, scale: i64, ink: [u8; 3]) {
    for (index, character) in text.chars().enumerate() {
        let glyph = font8x8::BASIC_FONTS
            .get(character)
            .or_else(|| font8x8::LATIN_FONTS.get(character))
            .or_else(|| font8x8::BASIC_FONTS.get('?'))
            .unwrap_or_default();
        for (row, bits) in glyph.iter().enumerate() {
            for column in (0..8).filter(|column| bits >> column & 1 == 1) {
                let left = x + (index as i64 * CHARACTER + column) * scale;
                let top = y + row as i64 * scale;
                for cell in 0..scale * scale {
                    blend(canvas, left + cell % scale, top + cell / scale, ink, 1.0);
                }
            }
        }
    }
}

/// Arranges images side by side with captions.
pub fn side_by_side(images: &[(&str, &RgbImage)]) -> RgbImage {
    const CAPTION: u32 = 12;
    const GAP: u32 = 4;
    let width: u32 = images.iter().map(|(_, image)| image.width() + GAP).sum();
    let height = images
        .iter()
        .map(|(_, image)| image.height())
        .max()
        .unwrap_or(1);
    let size = (width.saturating_sub(GAP).max(1), height + CAPTION);
    let mut sheet = RgbImage::from_pixel(size.0, size.1, Rgb([255; 3]));
    let mut x = 0;
    for (caption, image) in images {
        write_text(&mut sheet, x + 2, 2, caption, 1, [0; 3]);
        imageops::replace(&mut sheet, *image, x, CAPTION as i64);
        x += (image.width() + GAP) as i64;
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

#[cfg(test)]
mod tests {
    use super::*;
    use vernier_mask::Rle;

    fn detection(bbox: [f32; 4], mask: Rle) -> Detection {
        Detection {
            bbox,
            label: 1,
            score: 0.9,
            mask,
        }
    }

    #[test]
    fn masks_are_drawn_and_boxes_outside_do_not_panic() {
        let image = RgbImage::new(40, 30);
        let mask = Rle::from_bbox([20.0, 15.0, 10.0, 10.0], 30, 40).unwrap();
        let plain = OverlayOptions {
            boxes: false,
            labels: false,
            ..Default::default()
        };
        let name = |_: usize| "circle".to_string();
        let drawn = draw(
            &image,
            &[detection([20.0, 15.0, 30.0, 25.0], mask)],
            &name,
            &plain,
        );
        assert_ne!(drawn.get_pixel(25, 20), image.get_pixel(25, 20));
        assert_eq!(drawn.get_pixel(5, 5), image.get_pixel(5, 5));
        let tiny = RgbImage::new(1, 1);
        let odd = [
            [-9e9, -5.0, 9e9, 5.0],
            [f32::NAN; 4],
            [50.0, 50.0, 60.0, 60.0],
        ];
        let odd = odd.map(|bbox| detection(bbox, Rle::empty(1, 1)));
        draw(&tiny, &odd, &name, &OverlayOptions::default());
        let tags = |count| vec!["nucleus 0.99".to_string(); count];
        let canvas = RgbImage::new(256, 256);
        assert!(!is_crowded(&tiny, &tags(12)) && !is_crowded(&canvas, &tags(13)));
        assert!(is_crowded(&canvas, &tags(14)));
        assert_eq!(draw(&tiny, &[], &name, &OverlayOptions::default()), tiny);
    }
}
