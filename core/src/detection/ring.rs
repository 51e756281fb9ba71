//! Rings of points: simplification, and joining of several rings to one.

/// A point in pixels.
pub type Point = [f64; 2];

/// A ring without points that are at most `tolerance` pixels from the line between their neighbors (Douglas and
/// Peucker, 1973). A ring of which less than three points would be left keeps all of them.
pub(super) fn simplify(ring: &[[u32; 2]], tolerance: f64) -> Vec<Point> {
    let points: Vec<Point> = ring.iter().map(|corner| corner.map(f64::from)).collect();
    if tolerance <= 0.0 || points.len() < 4 {
        return points;
    }
    // The ring is two lines: from the first point to the one farthest from it, and back.
    let far = |a: &usize, b: &usize| {
        length(points[*a], points[0]).total_cmp(&length(points[*b], points[0]))
    };
    let middle = (0..points.len()).max_by(far).unwrap_or_default();
    let mut kept = vec![false; points.len() + 1];
    let mut lines = vec![(0, middle), (middle, points.len())];
    let at = |index: usize| points[index % points.len()];
    while let Some((start, end)) = lines.pop() {
        (kept[start], kept[end]) = (true, true);
        let distances = (start + 1..end).map(|i| (distance(at(i), at(start), at(end)), i));
        if let Some((farthest, index)) = distances.max_by(|a, b| a.0.total_cmp(&b.0))
            && farthest > tolerance
        {
            lines.extend([(start, index), (index, end)]);
        }
    }
    let left: Vec<Point> = (0..points.len()).filter(|&i| kept[i]).map(at).collect();
    match left.len() < 3 {
        true => points,
        false => left,
    }
}

fn length(a: Point, b: Point) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// Distance of a point from the line between `a` and `b`.
fn distance(point: Point, a: Point, b: Point) -> f64 {
    let [dx, dy] = [b[0] - a[0], b[1] - a[1]];
    let square = dx * dx + dy * dy;
    let along = ((point[0] - a[0]) * dx + (point[1] - a[1]) * dy) / square.max(f64::MIN_POSITIVE);
    let along = along.clamp(0.0, 1.0);
    length(point, [a[0] + along * dx, a[1] + along * dy])
}

/// One ring of an outline and its holes. Each hole is joined by a vertical cut without width to the ring above it.
pub(super) fn join(exterior: Vec<Point>, holes: Vec<Vec<Point>>) -> Vec<Point> {
    let mut holes: Vec<Vec<Point>> = holes.into_iter().map(from_top).collect();
    holes.sort_by(|a, b| a[0][1].total_cmp(&b[0][1]));
    let mut rings = vec![exterior];
    rings.extend(holes);
    // Starting with the lowest hole: a hole is joined to a ring above it, which must not be joined itself yet.
    for index in (1..rings.len()).rev() {
        let hole = rings.remove(index);
        let above = rings
            .iter()
            .enumerate()
            .filter_map(|(ring, points)| Some((ring, edge_above(points, hole[0])?)))
            .max_by(|a, b| a.1.1.total_cmp(&b.1.1));
        if let Some((ring, (start, y))) = above {
            let cut = [hole[0][0], y];
            let detour = [cut].into_iter().chain(hole.iter().copied());
            let detour: Vec<Point> = detour.chain([hole[0], cut]).collect();
            rings[ring].splice(start + 1..start + 1, detour);
        }
    }
    rings.swap_remove(0)
}

/// The ring rotated to start at its topmost point, the left one of several.
fn from_top(mut ring: Vec<Point>) -> Vec<Point> {
    let order = |a: &usize, b: &usize| {
        let [a, b] = [ring[*a], ring[*b]];
        a[1].total_cmp(&b[1]).then(a[0].total_cmp(&b[0]))
    };
    let top = (0..ring.len()).min_by(order);
    ring.rotate_left(top.unwrap_or_default());
    ring
}

/// The lowest edge above a point: the index of its first point in the ring, and the y at which it is crossed.
fn edge_above(ring: &[Point], [x, y]: Point) -> Option<(usize, f64)> {
    let next = ring.iter().cycle().skip(1);
    ring.iter()
        .zip(next)
        .enumerate()
        .filter(|(_, (a, b))| a[0].min(b[0]) <= x && x < a[0].max(b[0]))
        .map(|(index, (a, b))| (index, a[1] + (x - a[0]) / (b[0] - a[0]) * (b[1] - a[1])))
        .filter(|(_, crossed)| *crossed < y)
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// One ring of several that do not overlap, for formats with one polygon per object. Each is joined to those before it
/// by a line without width between their nearest points.
pub fn merge(rings: Vec<Vec<Point>>) -> Vec<Point> {
    let mut rings = rings.into_iter();
    let mut merged = rings.next().unwrap_or_default();
    for ring in rings {
        let pairs = (0..merged.len()).flat_map(|a| (0..ring.len()).map(move |b| (a, b)));
        let near = |&(a, b): &(usize, usize)| length(merged[a], ring[b]);
        let nearest = pairs.min_by(|a, b| near(a).total_cmp(&near(b)));
        if let Some((a, b)) = nearest {
            let tour = ring[b..].iter().chain(&ring[..=b]).copied();
            let tour: Vec<Point> = tour.chain([merged[a]]).collect();
            merged.splice(a + 1..a + 1, tour);
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::Detection;
    use vernier_mask::Rle;

    /// IoU of a mask and its polygons, and the number of points of the polygons.
    fn fidelity(mask: &Rle, tolerance: f64) -> (f64, usize) {
        let detection = Detection {
            bbox: [0.0; 4],
            label: 1,
            score: 1.0,
            mask: mask.clone(),
        };
        let rings = detection
            .polygons()
            .into_iter()
            .map(|p| p.simplified(tolerance));
        let ring = merge(rings.collect());
        let drawn = Rle::from_polygon(&ring.concat(), mask.h, mask.w).unwrap();
        let shared = drawn.intersect_area(mask).unwrap();
        let union = drawn.area() + mask.area() - shared;
        (shared as f64 / union as f64, ring.len())
    }

    /// A disc with a hole, and another one beside it.
    fn discs() -> Rle {
        let inside = |x: f64, y: f64, center: [f64; 2], radius: f64| {
            (x - center[0]).hypot(y - center[1]) < radius
        };
        let cells: Vec<u8> = (0..200 * 300)
            .map(|cell| {
                let [x, y] = [f64::from(cell % 300), f64::from(cell / 300)];
                let ring = inside(x, y, [90.0, 100.0], 80.0) && !inside(x, y, [100.0, 90.0], 30.0);
                u8::from(ring || inside(x, y, [230.0, 120.0], 40.0))
            })
            .collect();
        Rle::from_row_major_raster_bytes(&cells, 200, 300).unwrap()
    }

    #[test]
    fn fewer_points_keep_the_shape() {
        let mask = discs();
        let (exact, many) = fidelity(&mask, 0.0);
        assert!(exact > 0.999, "{exact}");
        let (close, few) = fidelity(&mask, 1.0);
        assert!(close > 0.98 && few * 6 < many, "{close} {few} {many}");
        let square = Rle::from_bbox([10.0, 10.0, 20.0, 30.0], 50, 50).unwrap();
        assert_eq!(fidelity(&square, 1.0), (1.0, 4));
        let pixel = Rle::from_bbox([10.0, 10.0, 1.0, 1.0], 50, 50).unwrap();
        assert_eq!(fidelity(&pixel, 1.0), (1.0, 4));
    }
}
