//! The tiles of an image.

/// Size of the tiles of [`Predictor::predict_tiled`](crate::predict::Predictor::predict_tiled).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TileSettings {
    /// Side of a tile in pixels.
    pub size: u32,
    /// Minimum overlap of neighboring tiles as a fraction of their side, in `0..=0.5`. An object that is not larger
    /// than the overlap is inside at least one tile as a whole.
    pub overlap: f64,
}

impl TileSettings {
    /// Number of tiles of an image.
    pub fn count(&self, width: u32, height: u32) -> usize {
        Grid::new((width, height), self).len()
    }

    pub(super) fn is_valid(&self) -> bool {
        self.size >= SMALLEST && (0.0..=0.5).contains(&self.overlap)
    }
}

/// Smallest side of a tile in pixels: below it, tiles show parts of objects only.
pub(in crate::predict) const SMALLEST: u32 = 64;

/// A window of the image in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

impl Tile {
    /// The window that both have; `None` if there is none.
    pub fn shared(&self, other: &Self) -> Option<Self> {
        let (x, width) = both((self.x, self.width), (other.x, other.width))?;
        let (y, height) = both((self.y, self.height), (other.y, other.height))?;
        Some(Self {
            x,
            y,
            width,
            height,
        })
    }
}

fn both((a, length): (u32, u32), (b, other): (u32, u32)) -> Option<(u32, u32)> {
    let start = a.max(b);
    let end = (a + length).min(b + other);
    (end > start).then(|| (start, end - start))
}

/// Equal tiles in rows and columns, which begin and end at the borders of the image.
#[derive(Debug)]
pub(super) struct Grid {
    columns: Vec<(u32, u32)>,
    rows: Vec<(u32, u32)>,
}

impl Grid {
    pub fn new((width, height): (u32, u32), settings: &TileSettings) -> Self {
        Self {
            columns: windows(width, settings),
            rows: windows(height, settings),
        }
    }

    pub fn len(&self) -> usize {
        self.columns.len() * self.rows.len()
    }

    /// Row by row.
    pub fn tiles(&self) -> Vec<Tile> {
        let in_row = |&(y, height): &(u32, u32)| {
            let columns = self.columns.iter();
            columns.map(move |&(x, width)| Tile {
                x,
                y,
                width,
                height,
            })
        };
        self.rows.iter().flat_map(in_row).collect()
    }
}

/// Start and length of the windows along an axis, with at least the overlap between neighbors.
fn windows(length: u32, settings: &TileSettings) -> Vec<(u32, u32)> {
    let size = settings.size.max(1);
    if length <= size {
        return vec![(0, length)];
    }
    let overlap = (f64::from(size) * settings.overlap).round() as u32;
    let step = (size - overlap.min(size - 1)).max(1);
    let gaps = (length - size).div_ceil(step);
    let start = |index| u64::from(length - size) * u64::from(index) / u64::from(gaps);
    (0..=gaps)
        .map(|index| (start(index) as u32, size))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_image_and_overlap() {
        for (length, size, overlap) in [
            (100, 100, 0.2),
            (101, 100, 0.2),
            (12_000, 1333, 0.25),
            (999, 64, 0.0),
            (300, 100, 0.5),
        ] {
            let settings = TileSettings { size, overlap };
            let found = windows(length, &settings);
            assert_eq!(found[0].0, 0);
            let (start, last) = found[found.len() - 1];
            assert_eq!(start + last, length);
            let least = (f64::from(size) * overlap) as u32;
            for pair in found.windows(2) {
                assert!(pair[1].0 + least <= pair[0].0 + pair[0].1, "{found:?}");
            }
        }
        let settings = TileSettings {
            size: 100,
            overlap: 0.2,
        };
        assert_eq!(settings.count(100, 40), 1);
        assert_eq!(settings.count(180, 260), 6);
    }
}
