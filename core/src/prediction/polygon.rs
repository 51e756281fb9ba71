//! Masks as polygons along the edges of pixels, holes included.
//!
//! Written here because what there is either smooths (marching squares lose or gain half a pixel, and
//! thin parts), or drops holes, or brings a linear algebra library along.

use crate::detection::{Detection, MaskBitmap};

/// A corner of pixels: column and row, 0 to the picture's width and height.
pub type Corner = [u32; 2];

/// One piece of a mask: pixels that touch at their sides.
///
/// Corners lie between pixels, so the area is exactly the number of pixels; rings are not closed (the
/// last corner is not the first one again).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polygon {
    /// The outline, clockwise on the screen (rows count downwards).
    pub exterior: Vec<Corner>,
    /// The outlines of holes, counter-clockwise.
    pub holes: Vec<Vec<Corner>>,
}

impl Detection {
    /// The mask as polygons, one a piece, in the order of their uppermost rows. None where it is empty.
    pub fn polygons(&self) -> Vec<Polygon> {
        Tracer::new(&self.bitmap()).polygons()
    }
}

impl Polygon {
    /// Pixels within: those of the exterior without those of the holes.
    pub fn area(&self) -> u64 {
        let holes: i64 = self.holes.iter().map(|ring| doubled_area(ring)).sum();
        ((doubled_area(&self.exterior) + holes) / 2).max(0) as u64
    }

    /// COCO's form, `[x1, y1, x2, y2, ...]` in pixels: drawn by pycocotools it gives the same pixels.
    ///
    /// COCO has no holes. Each one is joined to the outline by a cut of no width, which is walked in
    /// both directions: a filling by the even-odd or the non-zero rule leaves it open.
    pub fn to_coco(&self) -> Vec<f64> {
        let mut rings = vec![self.exterior.clone()];
        let mut holes: Vec<_> = self.holes.iter().map(|ring| from_top(ring)).collect();
        holes.sort_by_key(|ring| ring[0][1]);
        rings.extend(holes);
        // From the lowest: what a hole is joined to lies above it and is not yet joined itself.
        for index in (1..rings.len()).rev() {
            let hole = rings.remove(index);
            let above = rings
                .iter()
                .enumerate()
                .filter_map(|(ring, corners)| Some((ring, edge_above(corners, hole[0])?)))
                .max_by_key(|(_, (_, row))| *row);
            if let Some((ring, (after, row))) = above {
                let cut = [hole[0][0], row];
                let walked = [cut].into_iter().chain(hole.iter().copied());
                let walked: Vec<Corner> = walked.chain([hole[0], cut]).collect();
                rings[ring].splice(after + 1..after + 1, walked);
            }
        }
        rings[0].iter().flatten().map(|&v| f64::from(v)).collect()
    }
}

/// Twice the area within a ring; negative where it is counter-clockwise on the screen.
fn doubled_area(ring: &[Corner]) -> i64 {
    let next = ring.iter().cycle().skip(1);
    let terms = ring.iter().zip(next).map(|(a, b)| {
        let [[x1, y1], [x2, y2]] = [*a, *b].map(|corner| corner.map(i64::from));
        x1 * y2 - x2 * y1
    });
    terms.sum()
}

/// The ring from the left one of its uppermost corners.
fn from_top(ring: &[Corner]) -> Vec<Corner> {
    let mut ring = ring.to_vec();
    let top = (0..ring.len()).min_by_key(|&i| (ring[i][1], ring[i][0]));
    ring.rotate_left(top.unwrap_or_default());
    ring
}

/// The lowest horizontal edge above the pixel to the lower right of a corner: the place of its first
/// end in the ring, and its row.
fn edge_above(ring: &[Corner], [x, y]: Corner) -> Option<(usize, u32)> {
    let next = ring.iter().cycle().skip(1);
    ring.iter()
        .zip(next)
        .enumerate()
        .filter(|(_, (a, b))| {
            let covers = a[0].min(b[0]) <= x && x < a[0].max(b[0]);
            a[1] == b[1] && a[1] < y && covers
        })
        .map(|(place, (a, _))| (place, a[1]))
        .max_by_key(|(_, row)| *row)
}

/// Walks along the sides of pixels, the mask on the right.
struct Tracer<'a> {
    bitmap: &'a MaskBitmap,
    /// For each pixel whose upper side is an outline, the ring that has it, plus 1.
    upper: Vec<u32>,
    rings: Vec<Vec<Corner>>,
}

/// East, south, west, north.
const STEPS: [[i64; 2]; 4] = [[1, 0], [0, 1], [-1, 0], [0, -1]];

/// The pixel to the right of the way, seen from the corner where the step ends, were it to go on.
const AHEAD_RIGHT: [[i64; 2]; 4] = [[0, 0], [-1, 0], [-1, -1], [0, -1]];

/// The pixel to the left of it.
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
        self.sorted()
    }

    /// Follows the outline that has the upper side of pixel `x, y`. Where two pixels touch at a corner
    /// only, it stays with the one that it is at.
    fn trace(&mut self, x: i64, y: i64) {
        let number = self.rings.len() as u32 + 1;
        let mut ring = Vec::new();
        let ([mut cx, mut cy], mut way) = ([x, y], 0);
        loop {
            if way == 0 {
                let cell = (cy * self.bitmap.width as i64 + cx) as usize;
                if self.upper[cell] != 0 {
                    break;
                }
                self.upper[cell] = number;
            }
            (cx, cy) = (cx + STEPS[way][0], cy + STEPS[way][1]);
            let at = |[dx, dy]: [i64; 2]| self.is_set(cx + dx, cy + dy);
            let turn = match (at(AHEAD_RIGHT[way]), at(AHEAD_LEFT[way])) {
                (false, _) => 1,
                (true, false) => 0,
                (true, true) => 3,
            };
            if turn != 0 {
                ring.push([cx as u32, cy as u32]);
            }
            way = (way + turn) % 4;
        }
        self.rings.push(ring);
    }

    /// Gives each hole to the outline around it, and the corners their place in the picture.
    fn sorted(self) -> Vec<Polygon> {
        let is_hole: Vec<bool> = self.rings.iter().map(|r| doubled_area(r) < 0).collect();
        let mut holes: Vec<usize> = (0..self.rings.len()).filter(|&i| is_hole[i]).collect();
        holes.sort_by_key(|&hole| self.rings[hole].iter().map(|corner| corner[1]).min());
        // The ring above a hole is the outline, or a hole of the same outline, which came before.
        let mut outline: Vec<usize> = (0..self.rings.len()).collect();
        for &hole in &holes {
            let [x, mut y] = from_top(&self.rings[hole])[0].map(i64::from);
            while self.is_set(x, y - 1) {
                y -= 1;
            }
            let above = self.upper[(y * self.bitmap.width as i64 + x) as usize];
            outline[hole] = outline[above as usize - 1];
        }
        let mut holes_of = vec![Vec::new(); self.rings.len()];
        for hole in holes {
            holes_of[outline[hole]].push(self.moved(hole));
        }
        let outlines = (0..self.rings.len()).filter(|&ring| !is_hole[ring]);
        outlines
            .map(|ring| Polygon {
                exterior: self.moved(ring),
                holes: std::mem::take(&mut holes_of[ring]),
            })
            .collect()
    }

    /// A ring in the pixels of the picture.
    fn moved(&self, ring: usize) -> Vec<Corner> {
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
    fn a_ring_has_one_hole_and_an_island_is_a_piece_of_its_own() {
        let found = drawn(&[
            ".......", //
            ".#####.", //
            ".#...#.", //
            ".#.#.#.", //
            ".#...#.", //
            ".#####.",
        ]);
        let polygons = found.polygons();
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
    fn pixels_that_touch_at_a_corner_are_two_pieces() {
        assert_eq!(drawn(&["#.", ".#"]).polygons().len(), 2);
        assert_eq!(drawn(&["##", ".#"]).polygons().len(), 1);
        assert!(drawn(&["..", ".."]).polygons().is_empty());
    }

    /// COCO's own way of drawing polygons is the judge: every pixel must come back.
    #[test]
    fn drawn_by_cocos_rule_the_polygons_are_the_mask() {
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
