//! Conversion of annotation tools' outlines, circles and ellipses to polygons, with boxes and areas.

use super::writer::{Mask, Object};

/// A point in pixels.
pub(super) type Point = [f64; 2];

/// Corners of the polygon that replaces a circle; the area differs by less than 0.2 %.
const CORNERS: usize = 64;

/// An ellipse as a polygon; `turn` is its rotation in radians.
pub(super) fn ellipse(center: Point, radii: [f64; 2], turn: f64) -> Vec<Point> {
    let (sin, cos) = turn.sin_cos();
    let corner = |i: usize| {
        let (y, x) = (i as f64 / CORNERS as f64 * std::f64::consts::TAU).sin_cos();
        let (x, y) = (x * radii[0], y * radii[1]);
        [center[0] + x * cos - y * sin, center[1] + x * sin + y * cos]
    };
    (0..CORNERS).map(corner).collect()
}

/// The area of a polygon, by the shoelace formula.
pub(super) fn area(points: &[Point]) -> f64 {
    let next = points.iter().cycle().skip(1);
    let doubled: f64 = points
        .iter()
        .zip(next)
        .map(|(a, b)| a[0] * b[1] - b[0] * a[1])
        .sum();
    doubled.abs() / 2.0
}

/// An object of polygons, clipped to the image; `None` if it has no area.
pub(super) fn object(
    image_id: u64,
    category_id: u64,
    polygons: Vec<Vec<Point>>,
    (width, height): (u32, u32),
) -> Option<Object> {
    let limits = [f64::from(width), f64::from(height)];
    let clip = |point: Point| [0, 1].map(|axis| point[axis].clamp(0.0, limits[axis]));
    let polygons: Vec<Vec<Point>> = polygons
        .into_iter()
        .map(|polygon| polygon.into_iter().map(clip).collect::<Vec<_>>())
        .filter(|polygon| polygon.len() >= 3 && area(polygon) > 0.0)
        .collect();
    let edge = |axis: usize, pick: fn(f64, f64) -> f64| {
        polygons
            .iter()
            .flatten()
            .map(|point| point[axis])
            .reduce(pick)
    };
    let (left, top) = (edge(0, f64::min)?, edge(1, f64::min)?);
    let (right, bottom) = (edge(0, f64::max)?, edge(1, f64::max)?);
    Some(Object {
        id: 0,
        image_id,
        category_id,
        bbox: [left, top, right - left, bottom - top],
        area: polygons.iter().map(|polygon| area(polygon)).sum(),
        iscrowd: 0,
        segmentation: Mask::Polygons(
            polygons
                .into_iter()
                .map(|polygon| polygon.concat())
                .collect(),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ellipses_have_their_area_and_turn() {
        let points = ellipse([50.0, 40.0], [20.0, 10.0], std::f64::consts::FRAC_PI_2);
        let wanted = std::f64::consts::PI * 200.0;
        assert!((area(&points) / wanted - 1.0).abs() < 0.002);
        let object = object(1, 2, vec![points], (100, 45)).unwrap();
        for (found, wanted) in object.bbox.iter().zip([40.0, 20.0, 20.0, 25.0]) {
            assert!((found - wanted).abs() < 0.1, "{:?}", object.bbox);
        }
        assert!(super::object(1, 1, vec![vec![[0.0, 0.0], [1.0, 1.0]]], (9, 9)).is_none());
    }
}
