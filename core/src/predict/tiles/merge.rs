//! Merging of detections of neighboring tiles that are the same object.

use super::grid::Tile;
use super::spans::Spans;
use crate::detection::Detection;

/// Minimum IoU, within the overlap of their tiles, of the masks of two detections of the same object.
const SAME: f64 = 0.5;

/// If a border cuts the object, the minimum intersection of both masks as a fraction of the smaller one: in the tile
/// with less of the object, its mask often ends too early.
const SAME_PIECE: f64 = 0.7;

/// Distance in pixels from a border of a tile within which a box counts as cut.
const NEAR: f32 = 2.0;

/// A detection of one tile, in pixels of the image.
pub(super) struct Piece {
    index: usize,
    tile: Tile,
    label: usize,
    score: f32,
    bbox: [f32; 4],
    spans: Spans,
}

impl Piece {
    /// A detection of tile `index` in an image of `height` rows.
    pub fn new(detection: Detection, index: usize, tile: Tile, height: u32) -> Self {
        let (x, y) = (tile.x as f32, tile.y as f32);
        let [x1, y1, x2, y2] = detection.bbox;
        Self {
            index,
            tile,
            label: detection.label,
            score: detection.score,
            bbox: [x1 + x, y1 + y, x2 + x, y2 + y],
            spans: Spans::of_tile(&detection.mask, tile, height),
        }
    }

    /// Whether a border of the tile that is not one of the image cuts the object.
    fn is_cut(&self, (width, height): (u32, u32)) -> bool {
        let [x1, y1, x2, y2] = self.bbox;
        let (left, top) = (self.tile.x, self.tile.y);
        let (right, bottom) = (left + self.tile.width, top + self.tile.height);
        (left > 0 && x1 <= left as f32 + NEAR)
            || (top > 0 && y1 <= top as f32 + NEAR)
            || (right < width && x2 >= right as f32 - NEAR)
            || (bottom < height && y2 >= bottom as f32 - NEAR)
    }

    /// Whether both are the same object, by their masks within the overlap of their tiles.
    fn is_same(&self, other: &Self, size: (u32, u32)) -> bool {
        if self.label != other.label || self.index == other.index || !touch(self.bbox, other.bbox) {
            return false;
        }
        let Some(window) = self.tile.shared(&other.tile) else {
            return false;
        };
        let (a, b) = (
            self.spans.within(window, size.1),
            other.spans.within(window, size.1),
        );
        let (area_a, area_b, shared) = (a.area(), b.area(), a.shared(&b));
        if shared == 0 {
            return false;
        }
        let (smaller, either) = (area_a.min(area_b), area_a + area_b - shared);
        let is_cut = self.is_cut(size) || other.is_cut(size);
        shared as f64 >= SAME * either as f64
            || (is_cut && shared as f64 >= SAME_PIECE * smaller as f64)
    }
}

fn touch(a: [f32; 4], b: [f32; 4]) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

/// The objects of an image of `size`, best first. Detections of the same object are merged: the box and the mask are
/// those of the best detection that no border cuts, or the union if all are cut; the score is the best of all.
pub(super) fn merged(mut pieces: Vec<Piece>, size: (u32, u32)) -> Vec<Detection> {
    pieces.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut groups = Groups::new(pieces.len());
    for a in 0..pieces.len() {
        for b in a + 1..pieces.len() {
            if pieces[a].is_same(&pieces[b], size) {
                groups.join(a, b);
            }
        }
    }
    let mut objects: Vec<Detection> = Vec::new();
    for group in groups.lists() {
        objects.push(object(group.iter().map(|&index| &pieces[index]), size));
    }
    objects.sort_by(|a, b| b.score.total_cmp(&a.score));
    objects
}

/// One object from its pieces, best first.
fn object<'a>(pieces: impl Iterator<Item = &'a Piece> + Clone, size: (u32, u32)) -> Detection {
    let score = pieces.clone().map(|piece| piece.score).fold(0.0, f32::max);
    let whole = pieces.clone().find(|piece| !piece.is_cut(size));
    let (bbox, spans, label) = match whole {
        Some(piece) => (piece.bbox, piece.spans.clone(), piece.label),
        None => pieces.fold(
            (
                [f32::MAX, f32::MAX, f32::MIN, f32::MIN],
                Spans::default(),
                0,
            ),
            |(bbox, spans, _), piece| {
                let [x1, y1, x2, y2] = piece.bbox;
                let bbox = [
                    bbox[0].min(x1),
                    bbox[1].min(y1),
                    bbox[2].max(x2),
                    bbox[3].max(y2),
                ];
                (bbox, spans.union(&piece.spans), piece.label)
            },
        ),
    };
    Detection {
        bbox,
        label,
        score,
        mask: spans.to_rle(size),
    }
}

/// Sets of indices that were joined.
struct Groups(Vec<usize>);

impl Groups {
    fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    fn root(&mut self, mut index: usize) -> usize {
        while self.0[index] != index {
            self.0[index] = self.0[self.0[index]];
            index = self.0[index];
        }
        index
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }

    /// The sets, each in ascending order.
    fn lists(mut self) -> Vec<Vec<usize>> {
        let count = self.0.len();
        let mut lists = vec![Vec::new(); count];
        for index in 0..count {
            let root = self.root(index);
            lists[root].push(index);
        }
        lists.retain(|list| !list.is_empty());
        lists
    }
}

#[cfg(test)]
mod tests {
    use super::super::grid::{Grid, TileSettings};
    use super::*;
    use crate::random::Stream;
    use vernier_mask::Rle;

    /// Columns, rows and label of an ellipse.
    #[derive(Clone, Copy, Debug)]
    struct Ellipse {
        center: (f32, f32),
        radius: (f32, f32),
        label: usize,
    }

    impl Ellipse {
        fn has(&self, x: u32, y: u32) -> bool {
            let dx = (x as f32 + 0.5 - self.center.0) / self.radius.0;
            let dy = (y as f32 + 0.5 - self.center.1) / self.radius.1;
            dx * dx + dy * dy <= 1.0
        }

        /// The detection of its part in a tile by a network without errors.
        fn detection_in(&self, tile: Tile) -> Option<Detection> {
            let (mut counts, mut value) = (vec![0], false);
            let mut bbox = [u32::MAX, u32::MAX, 0, 0];
            for x in 0..tile.width {
                for y in 0..tile.height {
                    let next = self.has(tile.x + x, tile.y + y);
                    if next != value {
                        counts.push(0);
                        value = next;
                    }
                    *counts.last_mut().expect("a run") += 1;
                    if next {
                        bbox = [
                            bbox[0].min(x),
                            bbox[1].min(y),
                            bbox[2].max(x + 1),
                            bbox[3].max(y + 1),
                        ];
                    }
                }
            }
            (bbox[2] > 0).then(|| Detection {
                bbox: bbox.map(|side| side as f32),
                label: self.label,
                score: 0.5 + 0.4 * self.label as f32 / 10.0,
                mask: Rle::from_counts(tile.height, tile.width, counts),
            })
        }
    }

    /// Objects of a scene that do not touch, some of them larger than a tile.
    fn scene(seed: u64, size: (u32, u32)) -> Vec<Ellipse> {
        let mut found: Vec<Ellipse> = Vec::new();
        for number in 0..200 {
            let stream = Stream::named("scene of ellipses", seed).fork(number);
            let mut index = 0..;
            let mut at = |most: u32| {
                (stream.uniform(index.next().unwrap_or(0)) * f64::from(most)).floor() as f32
            };
            let ellipse = Ellipse {
                center: (at(size.0), at(size.1)),
                radius: (4.0 + at(60), 4.0 + at(60)),
                label: 1 + at(3) as usize,
            };
            let is_free = found.iter().all(|other| {
                let far = |a: f32, b: f32, c: f32, d: f32| (a - b).abs() > c + d + 2.0;
                far(
                    ellipse.center.0,
                    other.center.0,
                    ellipse.radius.0,
                    other.radius.0,
                ) || far(
                    ellipse.center.1,
                    other.center.1,
                    ellipse.radius.1,
                    other.radius.1,
                )
            });
            if is_free {
                found.push(ellipse);
            }
        }
        found
    }

    /// Merging the detections of all tiles gives the scene: every object once, with its whole mask.
    #[test]
    fn pieces_become_the_objects() {
        let size = (300, 220);
        let image = Tile {
            x: 0,
            y: 0,
            width: size.0,
            height: size.1,
        };
        let mut cut = 0;
        for seed in 0..40 {
            let settings = TileSettings {
                size: 64 + seed as u32,
                overlap: 0.2 + 0.1 * (seed % 3) as f64,
            };
            let tiles = Grid::new(size, &settings).tiles();
            let scene = scene(seed, size);
            let mut pieces = Vec::new();
            for (index, &tile) in tiles.iter().enumerate() {
                let detections = scene
                    .iter()
                    .filter_map(|ellipse| ellipse.detection_in(tile));
                pieces
                    .extend(detections.map(|detection| Piece::new(detection, index, tile, size.1)));
            }
            cut += pieces.iter().filter(|piece| piece.is_cut(size)).count();
            let key = |found: &Detection| {
                (
                    found.label,
                    found.bbox.map(|side| side as u32),
                    found.mask.counts.to_vec(),
                )
            };
            let mut found: Vec<_> = merged(pieces, size).iter().map(key).collect();
            let mut wanted: Vec<_> = scene
                .iter()
                .filter_map(|ellipse| ellipse.detection_in(image))
                .map(|detection| key(&detection))
                .collect();
            found.sort();
            wanted.sort();
            assert_eq!(found, wanted, "seed {seed}");
        }
        assert!(cut > 1000, "{cut} pieces were cut");
    }

    #[test]
    fn neighbors_of_one_class_stay_apart() {
        let size = (200, 100);
        let tiles = Grid::new(
            size,
            &TileSettings {
                size: 120,
                overlap: 0.3,
            },
        )
        .tiles();
        // Two objects beside each other in the overlap, and one of another class behind them.
        let [a, b] = [90.0, 106.0].map(|x| Ellipse {
            center: (x, 50.0),
            radius: (8.0, 20.0),
            label: 1,
        });
        let behind = Ellipse { label: 2, ..a };
        let mut pieces = Vec::new();
        for (index, &tile) in tiles.iter().enumerate() {
            let detections = [a, b, behind]
                .into_iter()
                .filter_map(|ellipse| ellipse.detection_in(tile));
            pieces.extend(detections.map(|detection| Piece::new(detection, index, tile, size.1)));
        }
        let found = merged(pieces, size);
        let labels: Vec<usize> = found.iter().map(|found| found.label).collect();
        assert_eq!(labels, [2, 1, 1]);
    }
}
