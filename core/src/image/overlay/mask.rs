//! Filled masks and their outlines, with smooth edges.

use super::canvas::{Canvas, Point};
use crate::detection::{Corner, Detection, MaskBitmap};

/// Fills a mask; the edge fades over two pixels.
pub(super) fn fill(
    canvas: &mut Canvas,
    bitmap: &MaskBitmap,
    zoom: u32,
    color: [u8; 3],
    opacity: f32,
) {
    let smooth = Smooth::new(bitmap);
    let zoom = i64::from(zoom);
    let [left, top] = [bitmap.x as i64 - 1, bitmap.y as i64 - 1];
    let right = left + smooth.width as i64;
    let bottom = top + smooth.height as i64;
    for y in canvas.rows(top * zoom, bottom * zoom) {
        for x in canvas.columns(left * zoom, right * zoom) {
            let coverage = match zoom {
                1 => smooth.at(x - left, y - top),
                _ => {
                    let place = [(x, left), (y, top)].map(|(position, start)| {
                        (position as f32 + 0.5) / zoom as f32 - 0.5 - start as f32
                    });
                    smooth.between(place)
                }
            };
            if coverage > 0.0 {
                canvas.blend(x, y, color, opacity * coverage);
            }
        }
    }
}

/// A mask after a 3x3 filter, with a margin of one pixel.
struct Smooth {
    width: usize,
    height: usize,
    /// `0..=16`.
    cells: Vec<u8>,
}

impl Smooth {
    fn new(bitmap: &MaskBitmap) -> Self {
        let (width, height) = (bitmap.width + 2, bitmap.height + 2);
        let mut cells = vec![0u8; width * height];
        let mut row = vec![0u8; width];
        for y in 0..bitmap.height {
            row.fill(0);
            let from = &bitmap.cells[y * bitmap.width..][..bitmap.width];
            for (x, _) in from.iter().enumerate().filter(|(_, cell)| **cell != 0) {
                row[x] += 1;
                row[x + 1] += 2;
                row[x + 2] += 1;
            }
            for (offset, weight) in [(0, 1), (1, 2), (2, 1)] {
                let to = &mut cells[(y + offset) * width..][..width];
                to.iter_mut()
                    .zip(&row)
                    .for_each(|(to, value)| *to += weight * value);
            }
        }
        Self {
            width,
            height,
            cells,
        }
    }

    /// Coverage of a pixel, `0..=1`.
    fn at(&self, x: i64, y: i64) -> f32 {
        let inside = (0..self.width as i64).contains(&x) && (0..self.height as i64).contains(&y);
        match inside {
            true => f32::from(self.cells[y as usize * self.width + x as usize]) / 16.0,
            false => 0.0,
        }
    }

    /// Coverage between the centers of four pixels.
    fn between(&self, [x, y]: Point) -> f32 {
        let [left, top] = [x.floor(), y.floor()];
        let [dx, dy] = [x - left, y - top];
        let at = |column: i64, row: i64| self.at(left as i64 + column, top as i64 + row);
        let upper = at(0, 0) * (1.0 - dx) + at(1, 0) * dx;
        let lower = at(0, 1) * (1.0 - dx) + at(1, 1) * dx;
        upper * (1.0 - dy) + lower * dy
    }
}

/// Draws the outlines of a mask and of its holes.
pub(super) fn outline(
    canvas: &mut Canvas,
    detection: &Detection,
    zoom: u32,
    color: [u8; 3],
    radius: f32,
) {
    let polygons = detection.polygons();
    let rings = polygons
        .iter()
        .flat_map(|polygon| [&polygon.exterior].into_iter().chain(&polygon.holes));
    // Fewer points than pixels if lines are wide.
    let step = ((radius / zoom as f32) as usize).max(1);
    let rings: Vec<Vec<Point>> = rings
        .map(|ring| {
            let points = smoothed(&edges(ring));
            let kept = points.into_iter().step_by(step);
            kept.map(|point| point.map(|v| v * zoom as f32)).collect()
        })
        .collect();
    canvas.closed_lines(&rings, radius, color);
}

/// The centers of the pixel edges along a ring.
fn edges(ring: &[Corner]) -> Vec<Point> {
    let next = ring.iter().cycle().skip(1);
    let sides = ring.iter().zip(next).flat_map(|(a, b)| {
        let [from, to] = [a, b].map(|corner| corner.map(|v| v as f32));
        let step = [0, 1].map(|axis| (to[axis] - from[axis]).clamp(-1.0, 1.0));
        let length = a[0].abs_diff(b[0]) + a[1].abs_diff(b[1]);
        (0..length)
            .map(move |index| [0, 1].map(|axis| from[axis] + step[axis] * (index as f32 + 0.5)))
    });
    sides.collect()
}

/// Each point averaged with its neighbors, which turns stairs into slopes.
fn smoothed(points: &[Point]) -> Vec<Point> {
    const WEIGHTS: [f32; 5] = [1.0, 2.0, 3.0, 2.0, 1.0];
    let count = points.len();
    if count < 8 {
        return points.to_vec();
    }
    let averaged = |index: usize| {
        let neighbors = (count + index - 2..).map(|neighbor| points[neighbor % count]);
        let weighted = WEIGHTS.iter().zip(neighbors);
        weighted.fold([0.0; 2], |sum, (weight, point)| {
            [0, 1].map(|axis| sum[axis] + weight / 9.0 * point[axis])
        })
    };
    (0..count).map(averaged).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stairs_become_slopes() {
        let mut ring: Vec<Corner> = (0..12).flat_map(|i| [[i, i], [i + 1, i]]).collect();
        ring.extend([[12, 12], [0, 12]]);
        let points = smoothed(&edges(&ring));
        assert_eq!(points.len(), 48);
        // In the middle of the diagonal.
        for [x, y] in &points[8..16] {
            assert!((x - y - 0.5).abs() < 0.07, "{x} {y}");
        }
    }

    #[test]
    fn a_filled_mask_keeps_its_area() {
        let bitmap = MaskBitmap {
            x: 3,
            y: 2,
            width: 5,
            height: 4,
            cells: vec![1; 20],
        };
        let smooth = Smooth::new(&bitmap);
        let area: u32 = smooth.cells.iter().map(|&cell| u32::from(cell)).sum();
        assert_eq!(area, 16 * 20);
        assert_eq!((smooth.at(3, 2), smooth.at(0, 0)), (1.0, 1.0 / 16.0));
        assert_eq!(smooth.between([3.0, 2.0]), 1.0);
    }
}
