//! Drawing of detections: masks, contours, boxes, names and scores.

mod canvas;
mod color;
mod labels;
mod mask;
mod occupancy;
mod sheet;
mod text;

pub use color::ColorBy;
pub use sheet::{side_by_side, stack_vertically};
pub use text::Font;

use crate::detection::Detection;
use ::image::{RgbImage, imageops};
use canvas::{Canvas, Rect};
use labels::Request;
use occupancy::Occupancy;

/// Options of [`draw`].
#[derive(Clone, Debug)]
pub struct OverlayOptions {
    /// Whether masks are filled.
    pub masks: bool,
    /// Opacity of filled masks, `0..=1`.
    pub opacity: f32,
    /// Whether the outlines of masks are drawn.
    pub contours: bool,
    /// Whether boxes are drawn.
    pub boxes: bool,
    /// Whether names are drawn. A label never covers another one; with many objects, those that have no space are
    /// left out, the ones with the lowest scores first.
    pub labels: bool,
    /// Whether scores are drawn: after the names, or alone.
    pub scores: bool,
    /// Whether each class or each object has its own color.
    pub color_by: ColorBy,
    /// Font of the labels.
    pub font: Font,
    /// Factor by which the image is enlarged before it is drawn on, `1..=8`, so that labels have space.
    pub zoom: u32,
}

impl Default for OverlayOptions {
    fn default() -> Self {
        Self {
            masks: true,
            opacity: 0.4,
            contours: true,
            boxes: true,
            labels: true,
            scores: true,
            color_by: ColorBy::Class,
            font: Font::embedded(),
            zoom: 1,
        }
    }
}

/// Lengths that follow the size of the image, in pixels.
struct Lengths {
    /// Half the width of a contour.
    contour: f32,
    /// Width of the lines of a box.
    frame: i64,
    /// Size of the text.
    text: f32,
}

impl Lengths {
    fn of(canvas: &Canvas) -> Self {
        let side = (canvas.width() as f32 * canvas.height() as f32).sqrt();
        Self {
            contour: (side / 900.0).max(0.7),
            frame: ((side / 700.0).round() as i64).max(1),
            text: (side * 0.016 + 2.0).max(SMALLEST_TEXT),
        }
    }
}

/// Size in pixels below which text is hard to read.
const SMALLEST_TEXT: f32 = 9.5;

/// Draws detections on a copy of the image, the one with the highest score on top; `name_of` maps a label to a name.
/// Masks of another size than the image are left out.
pub fn draw(
    image: &RgbImage,
    detections: &[Detection],
    name_of: &dyn Fn(usize) -> String,
    options: &OverlayOptions,
) -> RgbImage {
    let zoom = options.zoom.clamp(1, 8);
    let (width, height) = (image.width() * zoom, image.height() * zoom);
    let mut canvas = Canvas::new(match zoom {
        1 => image.clone(),
        _ => imageops::resize(image, width, height, imageops::FilterType::CatmullRom),
    });
    let lengths = Lengths::of(&canvas);
    let color = |index: usize| options.color_by.color(index, detections[index].label);
    let mut occupancy = Occupancy::new(width, height);
    for (index, detection) in detections.iter().enumerate().rev() {
        if (detection.mask.w, detection.mask.h) != image.dimensions() {
            continue;
        }
        let bitmap = detection.bitmap();
        occupancy.add(&bitmap, zoom);
        if options.masks {
            mask::fill(&mut canvas, &bitmap, zoom, color(index), options.opacity);
        }
        if options.contours {
            mask::outline(&mut canvas, detection, zoom, color(index), lengths.contour);
        }
    }
    let boxes: Vec<Rect> = detections.iter().map(|d| bounds(d, zoom)).collect();
    if options.boxes {
        // Contours show the objects already.
        let opacity = if options.contours { 0.6 } else { 0.9 };
        for index in (0..detections.len()).rev() {
            canvas.frame(boxes[index], lengths.frame, color(index), opacity);
        }
    }
    if options.labels || options.scores {
        let requests: Vec<Request> = detections
            .iter()
            .enumerate()
            .map(|(index, detection)| Request {
                bounds: boxes[index],
                color: color(index),
                name: options.labels.then(|| {
                    options
                        .font
                        .shown(&name_of(detection.label), detection.label)
                }),
                score: options.scores.then(|| format!("{:.2}", detection.score)),
            })
            .collect();
        let sizes = [lengths.text, SMALLEST_TEXT];
        labels::draw(&mut canvas, &requests, &occupancy, &options.font, sizes);
    }
    canvas.into_image()
}

/// The box of a detection in pixels of the canvas.
fn bounds(detection: &Detection, zoom: u32) -> Rect {
    let [x1, y1, x2, y2] = detection
        .bbox
        .map(|v| (v.clamp(-1e6, 1e6) * zoom as f32).round() as i64);
    Rect {
        x: x1,
        y: y1,
        width: (x2 - x1).max(1),
        height: (y2 - y1).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::Rgb;
    use vernier_mask::Rle;

    fn detection(bbox: [f32; 4], mask: Rle) -> Detection {
        Detection {
            bbox,
            label: 1,
            score: 0.9,
            mask,
        }
    }

    fn name(_: usize) -> String {
        "circle".into()
    }

    fn only(change: impl Fn(&mut OverlayOptions)) -> OverlayOptions {
        let mut options = OverlayOptions {
            masks: false,
            contours: false,
            boxes: false,
            labels: false,
            scores: false,
            ..OverlayOptions::default()
        };
        change(&mut options);
        options
    }

    /// Pixels that differ from black.
    fn drawn(image: &RgbImage) -> usize {
        image
            .pixels()
            .filter(|&&pixel| pixel != Rgb([0; 3]))
            .count()
    }

    #[test]
    fn every_part_draws_its_own_pixels() {
        let image = RgbImage::new(120, 90);
        let mask = Rle::from_bbox([40.0, 45.0, 30.0, 20.0], 90, 120).unwrap();
        let found = [detection([40.0, 45.0, 70.0, 65.0], mask)];
        let draw = |options: &OverlayOptions| draw(&image, &found, &name, options);
        assert_eq!(draw(&only(|_| ())), image);
        let filled = draw(&only(|options| options.masks = true));
        // With the pixels around it, into which the edge fades.
        assert_eq!(drawn(&filled), 32 * 22);
        let contour = draw(&only(|options| options.contours = true));
        assert_eq!(contour.get_pixel(55, 55), &Rgb([0; 3]));
        assert!(contour.get_pixel(55, 45).0.iter().any(|&value| value > 60));
        let frame = draw(&only(|options| options.boxes = true));
        assert_eq!(drawn(&frame), 2 * 30 + 2 * 18);
        let [name, score] = [
            draw(&only(|options| options.labels = true)),
            draw(&only(|options| options.scores = true)),
        ];
        assert!(drawn(&name) > 100 && drawn(&score) > 100 && name != score);
        let both = only(|options| (options.labels, options.scores) = (true, true));
        assert!(drawn(&draw(&both)) > drawn(&name));
        let large = draw(&only(|options| (options.zoom, options.boxes) = (3, true)));
        assert_eq!(large.dimensions(), (360, 270));
        assert!(large.get_pixel(120, 160).0.iter().any(|&value| value > 60));
    }

    #[test]
    fn odd_boxes_and_tiny_images_do_not_panic() {
        let tiny = RgbImage::new(1, 1);
        let odd = [
            [-9e9, -5.0, 9e9, 5.0],
            [f32::NAN; 4],
            [50.0, 50.0, 60.0, 60.0],
        ];
        let odd = odd.map(|bbox| detection(bbox, Rle::empty(1, 1)));
        draw(&tiny, &odd, &name, &OverlayOptions::default());
        assert_eq!(draw(&tiny, &[], &name, &OverlayOptions::default()), tiny);
        let full = Rle::from_bbox([0.0, 0.0, 9.0, 7.0], 7, 9).unwrap();
        let found = [detection([0.0, 0.0, 9.0, 7.0], full)];
        draw(
            &RgbImage::new(9, 7),
            &found,
            &name,
            &OverlayOptions::default(),
        );
    }
}
