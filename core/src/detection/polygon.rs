//! Polygons of masks along pixel edges, with holes.
//!
//! Existing crates were not used, because they smooth (marching squares lose or gain half a pixel, and thin parts),
//! drop holes, or depend on a linear algebra library.

use super::ring::{Point, join, simplify};
use super::{Detection, MaskBitmap};

/// A pixel corner: column and row, from 0 to the width and height of the image.
pub type Corner = [u32; 2];

/// One connected component of a mask: pixels that touch at their sides.
///
/// Corners lie between pixels, so the area is exactly the number of pixels. Rings are not closed: the first corner is
/// not repeated at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polygon {
    /// The outline, clockwise on the screen (rows count downwards).
    pub exterior: Vec<Corner>,
    /// The outlines of holes, counter-clockwise.
    pub holes: Vec<Vec<Corner>>,
}

impl Detection {
    /// The polygons of the mask, one per connected component, ordered by their top rows. Empty for an empty mask.
    pub fn polygons(&self) -> Vec<Polygon> {
        Tracer::new(&self.bitmap()).polygons()
    }
}

impl Polygon {
    /// Area in pixels, without the holes.
    pub fn area(&self) -> u64 {
        let holes: i64 = self.holes.iter().map(|ring| doubled_area(ring)).sum();
        ((doubled_area(&self.exterior) + holes) / 2).max(0) as u64
    }

    /// COCO's polygon format, `[x1, y1, x2, y2, ...]` in pixels; pycocotools renders it to the same pixels.
    ///
    /// COCO polygons have no holes. Each hole is joined to the outline by a cut without width that is traversed in both
    /// directions, so that the even-odd and the non-zero fill rules both leave the hole empty.
    pub fn to_coco(&self) -> Vec<f64> {
        self.simplified(0.0).concat()
    }

    /// One ring with fewer points, for editing by hand: outlines are moved by at most `tolerance` pixels, and holes are
    /// joined to the outline as in [`Self::to_coco`].
    pub fn simplified(&self, tolerance: f64) -> Vec<Point> {
        let holes = self.holes.iter().map(|ring| simplify(ring, tolerance));
        join(simplify(&self.exterior, tolerance), holes.collect())
    }
}

/// Twice the signed area of a ring; negative if it is counter-clockwise on the screen.
fn doubled_area(ring: &[Corner]) -> i64 {
    let next = ring.iter().cycle().skip(1);
    let terms = ring.iter().zip(next).map(|(a, b)| {
        let [[x1, y1], [x2, y2]] = [*a, *b].map(|corner| corner.map(i64::from));
        x1 * y2 - x2 * y1
    });
    terms.sum()
}

/// Index of the topmost corner of a ring, the left one of several.
fn top(ring: &[Corner]) -> usize {
    (0..ring.len())
        .min_by_key(|&i| (ring[i][1], ring[i][0]))
        .unwrap_or_default()
}

/// Traces pixel edges with the mask on the right-hand side.
struct Tracer<'a> {
    bitmap: &'a MaskBitmap,
    /// For each pixel whose top edge is part of a ring, the index of the ring plus 1; otherwise 0.
    upper: Vec<u32>,
    rings: Vec<Vec<Corner>>,
}

/// East, south, west, north.
const STEPS: [[i64; 2]; 4] = [[1, 0], [0, 1], [-1, 0], [0, -1]];

/// Offset from the current corner to the pixel ahead on the right, per direction.
const AHEAD_RIGHT: [[i64; 2]; 4] = [[0, 0], [-1, 0], [-1, -1], [0, -1]];

/// Offset from the current corner to the pixel ahead on the left, per direction.
const AHEAD_LEFT: [[i64; 2]; 4] = [[0, -1], [0, 0], [-1, 0], [-1, -1]];

impl<'a> Tracer<'a> {
    fn new(bitmap: &'a MaskBitmap) -> Self {
        Self {
            bitmap,
            upper: vec![0; bitmap.cells.len()],
            rings: Vec::new(),
        }
    }

    fn is_set(&self, x: i64, y: i64) -> bool {
        let (width, height) = (self.bitmap.width as i64, self.bitmap.height as i64);
        let inside = (0..width).contains(&x) && (0..height).contains(&y);
        inside && self.bitmap.cells[(y * width + x) as usize] != 0
    }

    fn polygons(mut self) -> Vec<Polygon> {
        let (width, height) = (self.bitmap.width as i64, self.bitmap.height as i64);
        for y in 0..height {
            for x in 0..width {
                let is_upper = self.is_set(x, y) && !self.is_set(x, y - 1);
                if is_upper && self.upper[(y * width + x) as usize] == 0 {
                    self.trace(x, y);
                }
            }
        }
        self.into_polygons()
    }

    /// Traces the ring with the top edge of pixel `x, y`. Where two pixels touch at a corner only, the ring stays at
    /// the current pixel.
    fn trace(&mut self, x: i64, y: i64) {
        let number = self.rings.len() as u32 + 1;
        let mut ring = Vec::new();
        let ([mut cx, mut cy], mut direction) = ([x, y], 0);
        loop {
            if direction == 0 {
                let cell = (cy * self.bitmap.width as i64 + cx) as usize;
                if self.upper[cell] != 0 {
                    break;
                }
                self.upper[cell] = number;
            }
            (cx, cy) = (cx + STEPS[direction][0], cy + STEPS[direction][1]);
            let at = |[dx, dy]: [i64; 2]| self.is_set(cx + dx, cy + dy);
            let turn = match (at(AHEAD_RIGHT[direction]), at(AHEAD_LEFT[direction])) {
                (false, _) => 1,
                (true, false) => 0,
                (true, true) => 3,
            };
            if turn != 0 {
                ring.push([cx as u32, cy as u32]);
            }
            direction = (direction + turn) % 4;
        }
        self.rings.push(ring);
    }

    /// Assigns each hole to the outline around it, and converts corners to image coordinates.
    fn into_polygons(self) -> Vec<Polygon> {
        let is_hole: Vec<bool> = self.rings.iter().map(|r| doubled_area(r) < 0).collect();
        let mut holes: Vec<usize> = (0..self.rings.len()).filter(|&i| is_hole[i]).collect();
        holes.sort_by_key(|&hole| self.rings[hole].iter().map(|corner| corner[1]).min());
        // The ring above a hole is its outline, or an earlier hole of the same outline.
        let mut outline: Vec<usize> = (0..self.rings.len()).collect();
        for &hole in &holes {
            let ring = &self.rings[hole];
            let [x, mut y] = ring[top(ring)].map(i64::from);
            while self.is_set(x, y - 1) {
                y -= 1;
            }
            let above = self.upper[(y * self.bitmap.width as i64 + x) as usize];
            outline[hole] = outline[above as usize - 1];
        }
        let mut holes_of = vec![Vec::new(); self.rings.len()];
        for hole in holes {
            holes_of[outline[hole]].push(self.in_image(hole));
        }
        let outlines = (0..self.rings.len()).filter(|&ring| !is_hole[ring]);
        outlines
            .map(|ring| Polygon {
                exterior: self.in_image(ring),
                holes: std::mem::take(&mut holes_of[ring]),
            })
            .collect()
    }

    /// A ring in image coordinates.
    fn in_image(&self, ring: usize) -> Vec<Corner> {
        let (left, top) = (self.bitmap.x as u32, self.bitmap.y as u32);
        let corners = self.rings[ring].iter();
        corners.map(|[x, y]| [x + left, y + top]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;
    use vernier_mask::Rle;

    fn detection(mask: Rle) -> Detection {
        Detection {
            bbox: [0.0; 4],
            label: 1,
            score: 1.0,
            mask,
        }
    }

    /// A mask from a drawing, rows of `#` and `.`.
    fn drawn(rows: &[&str]) -> Detection {
        let cells: Vec<u8> = rows
            .concat()
            .bytes()
            .map(|cell| u8::from(cell == b'#'))
            .collect();
        let (height, width) = (rows.len() as u32, rows[0].len() as u32);
        detection(Rle::from_row_major_raster_bytes(&cells, height, width).unwrap())
    }

    #[test]
    fn a_ring_has_one_hole_and_an_island_is_a_component() {
        let ring = drawn(&[
            ".......", //
            ".#####.", //
            ".#...#.", //
            ".#.#.#.", //
            ".#...#.", //
            ".#####.",
        ]);
        let polygons = ring.polygons();
        assert_eq!(polygons.len(), 2);
        assert_eq!(polygons[0].exterior, [[6, 1], [6, 6], [1, 6], [1, 1]]);
        assert_eq!(
            polygons[0].holes,
            [[[5, 5], [5, 2], [2, 2], [2, 5]].to_vec()]
        );
        assert_eq!(polygons[1].exterior, [[4, 3], [4, 4], [3, 4], [3, 3]]);
        let areas: Vec<u64> = polygons.iter().map(Polygon::area).collect();
        assert_eq!(areas, [16, 1]);
    }

    #[test]
    fn pixels_that_touch_at_a_corner_are_two_components() {
        assert_eq!(drawn(&["#.", ".#"]).polygons().len(), 2);
        assert_eq!(drawn(&["##", ".#"]).polygons().len(), 1);
        assert!(drawn(&["..", ".."]).polygons().is_empty());
    }

    /// COCO's rasterization of the polygons must give back every pixel.
    #[test]
    fn polygons_rendered_by_coco_equal_the_mask() {
        let stream = Stream::named("polygons", 0);
        let mut holes = 0;
        for case in 0..400u64 {
            let random = stream.fork(case);
            let side = |index| 1 + (random.uniform(index) * 24.0) as u32;
            let ([h, w], density) = ([side(0), side(1)], random.uniform(2));
            let cells: Vec<u8> = (0..u64::from(h * w))
                .map(|cell| u8::from(random.uniform(3 + cell) < density))
                .collect();
            let mask = Rle::from_row_major_raster_bytes(&cells, h, w).unwrap();
            let polygons = detection(mask.clone()).polygons();
            holes += polygons.iter().map(|p| p.holes.len()).sum::<usize>();
            let area: u64 = polygons.iter().map(Polygon::area).sum();
            assert_eq!(area, mask.area());
            let flat: Vec<Vec<f64>> = polygons.iter().map(Polygon::to_coco).collect();
            let back = match flat.is_empty() {
                true => Rle::empty(h, w),
                false => Rle::from_polygons(&flat, h, w).unwrap(),
            };
            assert_eq!(
                back.to_row_major_raster_bytes(),
                mask.to_row_major_raster_bytes(),
                "case {case}: {h}x{w}"
            );
        }
        assert!(holes > 500, "the masks have holes: {holes}");
    }
}
