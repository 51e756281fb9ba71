//! An image on which rectangles and lines are blended.

use ::image::{Rgb, RgbImage};

/// A rectangle in pixels; it may lie outside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rect {
    pub x: i64,
    pub y: i64,
    pub width: i64,
    pub height: i64,
}

impl Rect {
    /// Pixels that both rectangles cover.
    pub fn shared(&self, other: &Self) -> i64 {
        let overlap = |a: i64, b: i64, c: i64, d: i64| ((a + b).min(c + d) - a.max(c)).max(0);
        overlap(self.x, self.width, other.x, other.width)
            * overlap(self.y, self.height, other.y, other.height)
    }

    pub fn area(&self) -> i64 {
        self.width * self.height
    }
}

/// A point in pixels; the center of the first pixel is at 0.5.
pub(super) type Point = [f32; 2];

pub(super) struct Canvas {
    image: RgbImage,
}

impl Canvas {
    pub fn new(image: RgbImage) -> Self {
        Self { image }
    }

    pub fn into_image(self) -> RgbImage {
        self.image
    }

    pub fn width(&self) -> i64 {
        self.image.width().into()
    }

    pub fn height(&self) -> i64 {
        self.image.height().into()
    }

    /// The part of a range of columns that is inside.
    pub fn columns(&self, from: i64, to: i64) -> std::ops::Range<i64> {
        from.max(0)..to.min(self.width())
    }

    /// The part of a range of rows that is inside.
    pub fn rows(&self, from: i64, to: i64) -> std::ops::Range<i64> {
        from.max(0)..to.min(self.height())
    }

    /// Mixes a color into a pixel, if it is inside.
    pub fn blend(&mut self, x: i64, y: i64, color: [u8; 3], opacity: f32) {
        if !(0..self.width()).contains(&x) || !(0..self.height()).contains(&y) {
            return;
        }
        let Rgb(pixel) = self.image.get_pixel_mut(x as u32, y as u32);
        for (old, new) in pixel.iter_mut().zip(color) {
            let mixed = f32::from(*old) * (1.0 - opacity) + f32::from(new) * opacity;
            *old = (mixed + 0.5) as u8;
        }
    }

    /// Draws the lines of a rectangle, `width` pixels wide, inside its border.
    pub fn frame(&mut self, rect: Rect, width: i64, color: [u8; 3], opacity: f32) {
        let width = width.min((rect.width + 1) / 2).min((rect.height + 1) / 2);
        let [right, bottom] = [rect.x + rect.width, rect.y + rect.height];
        for y in self.rows(rect.y, bottom) {
            let is_line = y < rect.y + width || y >= bottom - width;
            let columns = match is_line {
                true => [self.columns(rect.x, right), 0..0],
                false => [
                    self.columns(rect.x, rect.x + width),
                    self.columns((right - width).max(rect.x + width), right),
                ],
            };
            for x in columns.into_iter().flatten() {
                self.blend(x, y, color, opacity);
            }
        }
    }

    /// Draws a filled rectangle with rounded corners.
    pub fn panel(&mut self, rect: Rect, radius: f32, color: [u8; 3], opacity: f32) {
        let half = [rect.width as f32 / 2.0, rect.height as f32 / 2.0];
        for y in self.rows(rect.y, rect.y + rect.height) {
            for x in self.columns(rect.x, rect.x + rect.width) {
                let offset = [x - rect.x, y - rect.y];
                let beyond = [0, 1].map(|axis| {
                    let distance = (offset[axis] as f32 + 0.5 - half[axis]).abs();
                    (distance - half[axis] + radius).max(0.0)
                });
                let coverage = (radius - beyond[0].hypot(beyond[1]) + 0.5).clamp(0.0, 1.0);
                self.blend(x, y, color, opacity * coverage);
            }
        }
    }

    /// Draws closed lines of `2 * radius` pixels with smooth edges. Where they cross, pixels are blended once.
    pub fn closed_lines(&mut self, rings: &[Vec<Point>], radius: f32, color: [u8; 3]) {
        let reach = radius + 1.0;
        let edge = |axis: usize, pick: fn(f32, f32) -> f32, start: f32| {
            rings.iter().flatten().map(|p| p[axis]).fold(start, pick)
        };
        let from = [0, 1].map(|axis| (edge(axis, f32::min, f32::MAX) - reach).floor() as i64);
        let to = [0, 1].map(|axis| (edge(axis, f32::max, f32::MIN) + reach).ceil() as i64);
        let (columns, rows) = (self.columns(from[0], to[0]), self.rows(from[1], to[1]));
        if columns.is_empty() || rows.is_empty() {
            return;
        }
        let stride = (columns.end - columns.start) as usize;
        let mut coverage = vec![0u8; stride * (rows.end - rows.start) as usize];
        for ring in rings {
            for (index, &a) in ring.iter().enumerate() {
                let b = ring[(index + 1) % ring.len()];
                let span = |axis: usize, inside: &std::ops::Range<i64>| {
                    let from = (a[axis].min(b[axis]) - reach).floor() as i64;
                    let to = (a[axis].max(b[axis]) + reach).ceil() as i64;
                    from.max(inside.start)..to.min(inside.end)
                };
                for y in span(1, &rows) {
                    for x in span(0, &columns) {
                        let distance = distance([x as f32 + 0.5, y as f32 + 0.5], a, b);
                        let value = (radius + 0.5 - distance).clamp(0.0, 1.0) * 255.0;
                        let cell =
                            (y - rows.start) as usize * stride + (x - columns.start) as usize;
                        coverage[cell] = coverage[cell].max(value as u8);
                    }
                }
            }
        }
        for y in rows.clone() {
            for x in columns.clone() {
                let cell = (y - rows.start) as usize * stride + (x - columns.start) as usize;
                if coverage[cell] > 0 {
                    self.blend(x, y, color, f32::from(coverage[cell]) / 255.0);
                }
            }
        }
    }
}

/// Distance of a point from the line between two points.
fn distance(point: Point, a: Point, b: Point) -> f32 {
    let [dx, dy] = [b[0] - a[0], b[1] - a[1]];
    let [px, py] = [point[0] - a[0], point[1] - a[1]];
    let length = dx * dx + dy * dy;
    let along = match length > 0.0 {
        true => ((px * dx + py * dy) / length).clamp(0.0, 1.0),
        false => 0.0,
    };
    (px - along * dx).hypot(py - along * dy)
}
