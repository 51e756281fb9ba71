//! Options of `predict` for very large images.

use crate::terminal::note;
use clap::Args;
use mrcnn_core::config::ImageConfig;
use mrcnn_core::predict::TileSettings;
use std::sync::Once;

/// Images whose longer side is more than this times `image.max_size` are predicted in tiles: shrunk to
/// `image.max_size`, objects of a hundred pixels would be lost.
const LARGE: u32 = 8;

#[derive(Debug, Args)]
pub struct TileArgs {
    /// Side in pixels of the tiles in which images are predicted; objects are joined across tile borders, and 0
    /// disables tiles. By default, images whose longer side is more than 8 times image.max_size are predicted in tiles
    /// of twice image.max_size
    #[arg(long, value_name = "PIXELS")]
    tile: Option<u32>,
    /// Minimum overlap of neighboring tiles, as a fraction of their side
    #[arg(long, value_name = "FRACTION", default_value_t = 0.25)]
    overlap: f64,
}

impl TileArgs {
    /// The tiles of an image; `None` if it is predicted as a whole. Tiles that were not requested are noted once.
    pub fn of(&self, (width, height): (u32, u32), config: &ImageConfig) -> Option<TileSettings> {
        static NOTED: Once = Once::new();
        let is_large = width.max(height) > LARGE.saturating_mul(config.max_size);
        let size = match self.tile {
            Some(0) => return None,
            Some(size) => size,
            None if is_large => config.max_size * 2,
            None => return None,
        };
        let settings = TileSettings {
            size,
            overlap: self.overlap,
        };
        if self.tile.is_none() {
            NOTED.call_once(|| {
                let count = settings.count(width, height);
                note!(
                    "note: an image of {width}x{height} pixels is predicted in {count} tiles of {size} pixels; --tile 0 \
                     predicts it as a whole, shrunk to {} pixels",
                    config.max_size
                );
            });
        }
        Some(settings)
    }
}
