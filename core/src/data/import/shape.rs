//! Conversion of annotation tools' outlines, circles and ellipses to polygons, with boxes and areas.

use super::writer::{Mask, Object};
use crate::budget::Budget;
use vernier_mask::Rle;

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

/// The object of a mask of the whole image; `None` for a mask without a pixel.
pub(super) fn of_mask(image_id: u64, category_id: u64, mask: &Rle) -> Option<Object> {
    (mask.area() > 0).then(|| Object {
        id: 0,
        image_id,
        category_id,
        bbox: mask.bbox().map(f64::from),
        area: mask.area() as f64,
        iscrowd: 0,
        segmentation: Mask::rle(mask),
    })
}

/// The mask of run lengths along the rows of a box `left, top, width, height`, background first. What lies outside the
/// image is left out.
pub(super) fn from_runs(
    runs: &[u32],
    [left, top, columns, rows]: [u32; 4],
    (width, height): (u32, u32),
    budget: &Budget,
) -> Result<Rle, String> {
    let cells = u64::from(columns) * u64::from(rows);
    let covered: u64 = runs.iter().map(|run| u64::from(*run)).sum();
    if covered != cells {
        return Err(format!(
            "its runs cover {covered} pixels, its box {columns}x{rows} has {cells}"
        ));
    }
    if cells == 0 {
        return Ok(Rle::empty(height, width));
    }
    let shown = columns.min(width.saturating_sub(left));
    let shown_rows = rows.min(height.saturating_sub(top));
    // For each column, the rows where the foreground starts and ends, alternately.
    let mut edges: Vec<Vec<u32>> = vec![Vec::new(); shown as usize];
    let (mut previous, mut run, mut end) = (Vec::new(), 0, 0u64);
    for row in 0..=shown_rows {
        let mut current = Vec::new();
        if row < shown_rows {
            let first = u64::from(row) * u64::from(columns);
            let next = first + u64::from(columns);
            loop {
                let start = end.max(first);
                let stop = (end + u64::from(runs[run])).min(next);
                if run % 2 == 1 && stop > start {
                    let place = |cell: u64| ((cell - first) as u32).min(shown);
                    toggle(&mut current, [place(start), place(stop)]);
                }
                if end + u64::from(runs[run]) > next || run + 1 == runs.len() {
                    break;
                }
                end += u64::from(runs[run]);
                run += 1;
            }
        }
        // Pairs of start and end of the columns that differ from the row above.
        let mut changed: Vec<u32> = previous.iter().chain(&current).copied().collect();
        changed.sort_unstable();
        let mut pairs = Vec::new();
        changed
            .iter()
            .for_each(|&column| match pairs.last() == Some(&column) {
                true => drop(pairs.pop()),
                false => pairs.push(column),
            });
        for pair in pairs.as_chunks::<2>().0 {
            let count = (pair[1] - pair[0]) as usize;
            budget.work(count).map_err(|error| error.to_string())?;
            let changed = &mut edges[pair[0] as usize..pair[1] as usize];
            changed.iter_mut().for_each(|edges| edges.push(row));
        }
        budget
            .work(changed.len() + 1)
            .map_err(|error| error.to_string())?;
        previous = current;
    }
    Ok(by_columns(&edges, [left, top], (width, height)))
}

/// Adds the columns `start..end` to a row's edges, which are in ascending order.
fn toggle(edges: &mut Vec<u32>, [start, end]: [u32; 2]) {
    if start == end {
        return;
    }
    match edges.last() == Some(&start) {
        true => drop(edges.pop()),
        false => edges.push(start),
    }
    edges.push(end);
}

/// The mask with these edges, one list per column from `left` on, with rows counted from `top`.
fn by_columns(edges: &[Vec<u32>], [left, top]: [u32; 2], (width, height): (u32, u32)) -> Rle {
    let (mut counts, mut end) = (Vec::<u32>::new(), 0u64);
    for (column, edges) in edges.iter().enumerate() {
        let first = (u64::from(left) + column as u64) * u64::from(height) + u64::from(top);
        for &[start, stop] in edges.as_chunks::<2>().0 {
            let (start, length) = (first + u64::from(start), stop - start);
            match counts.last_mut() {
                // The foreground reaches from the bottom of a column to the top of the next.
                Some(last) if start == end => *last += length,
                _ => counts.extend([(start - end) as u32, length]),
            }
            end = start + u64::from(length);
        }
    }
    let total = u64::from(width) * u64::from(height);
    if end < total {
        counts.push((total - end) as u32);
    }
    Rle::from_counts(height, width, counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn runs_of_a_box_are_placed_in_the_image() {
        // Rows of the box: .##, #.., ###.
        let (box_, runs) = ([2, 1, 3, 3], [1, 3, 2, 3]);
        let budget = Budget::for_file(0);
        for size in [(10, 6), (4, 6), (10, 3), (5, 4), (2, 9)] {
            let (width, height) = size;
            let found = from_runs(&runs, box_, size, &budget).unwrap();
            let mut cells = vec![0; (width * height) as usize];
            for (x, y) in [(1, 0), (2, 0), (0, 1), (0, 2), (1, 2), (2, 2)] {
                let (x, y) = (x + box_[0], y + box_[1]);
                if x < width && y < height {
                    cells[(y * width + x) as usize] = 1;
                }
            }
            let wanted = Rle::from_row_major_raster_bytes(&cells, height, width).unwrap();
            assert_eq!(
                found.to_row_major_raster_bytes(),
                wanted.to_row_major_raster_bytes(),
                "{size:?}"
            );
            assert_eq!(found.area(), wanted.area());
            assert_eq!(
                found.to_string_bytes(),
                wanted.to_string_bytes(),
                "{size:?}"
            );
        }
        let full = from_runs(&[0, 12], [0, 0, 3, 4], (3, 4), &budget).unwrap();
        assert_eq!(full.area(), 12);
        let error = from_runs(&[1, 2], [0, 0, 3, 3], (9, 9), &budget).unwrap_err();
        assert!(error.contains("cover 3 pixels"), "{error}");
        let wide = from_runs(&[u32::MAX, u32::MAX], [0, 0, u32::MAX, 2], (9, 9), &budget);
        assert_eq!(wide.unwrap().area(), 9);
    }

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

    #[test]
    fn random_masks_are_placed_as_their_pixels() {
        let (stream, mut numbers) = (Stream::named("runs of a box", 3), 0..);
        for case in 0..300 {
            let mut below = |most: u32| {
                let number = stream.bits(numbers.next().unwrap_or_default());
                (number % u64::from(most)) as u32
            };
            let size = (1 + below(9), 1 + below(9));
            let place = [below(size.0), below(size.1), 1 + below(7), 1 + below(7)];
            let (mut runs, mut cells, density) = (vec![0], Vec::new(), 1 + below(4));
            for _ in 0..place[2] * place[3] {
                let set = below(5) < density;
                if (runs.len() % 2 == 0) != set {
                    runs.push(0);
                }
                *runs.last_mut().unwrap() += 1;
                cells.push(set);
            }
            let mut raster = vec![0; (size.0 * size.1) as usize];
            for (index, set) in cells.iter().enumerate() {
                let (x, y) = (
                    place[0] + index as u32 % place[2],
                    place[1] + index as u32 / place[2],
                );
                if *set && x < size.0 && y < size.1 {
                    raster[(y * size.0 + x) as usize] = 1;
                }
            }
            let wanted = Rle::from_row_major_raster_bytes(&raster, size.1, size.0).unwrap();
            let found = from_runs(&runs, place, size, &Budget::for_file(0)).unwrap();
            assert_eq!(
                found.to_string_bytes(),
                wanted.to_string_bytes(),
                "case {case}: {runs:?} {place:?} {size:?}"
            );
        }
    }
}
