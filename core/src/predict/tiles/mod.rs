//! Prediction of very large images tile by tile.
//!
//! Each tile is predicted like an image of its own, so that the memory is that of one tile and objects are not shrunk
//! beyond what the network was trained on. Neighboring tiles overlap; detections of the same object in several tiles
//! become one, as do the pieces of an object that is cut by the border of a tile.

pub(super) mod grid;
mod merge;
mod spans;

use super::error::PredictError;
use super::prediction::Prediction;
use super::predictor::Predictor;
use ::image::RgbImage;
use ::image::imageops::crop_imm;
pub use grid::TileSettings;

use grid::Grid;
use merge::Piece;

impl Predictor {
    /// Predicts an image tile by tile. `on_tile` is called with the number of finished tiles and their total.
    ///
    /// An image that is not larger than a tile is predicted as a whole. `roi.max_detections` applies to each tile.
    pub fn predict_tiled(
        &self,
        image: &RgbImage,
        settings: &TileSettings,
        on_tile: &mut dyn FnMut(usize, usize),
    ) -> Result<Prediction, PredictError> {
        if !settings.is_valid() {
            return Err(PredictError::Tiles {
                size: settings.size,
                overlap: settings.overlap,
            });
        }
        let grid = Grid::new(image.dimensions(), settings);
        if grid.len() == 1 {
            let prediction = self.predict(image)?;
            on_tile(1, 1);
            return Ok(prediction);
        }
        let mut pieces = Vec::new();
        for (index, tile) in grid.tiles().into_iter().enumerate() {
            let part = crop_imm(image, tile.x, tile.y, tile.width, tile.height).to_image();
            let found = self.predict(&part)?;
            let found = found.detections.into_iter();
            pieces
                .extend(found.map(|detection| Piece::new(detection, index, tile, image.height())));
            on_tile(index + 1, grid.len());
        }
        let detections = merge::merged(pieces, image.dimensions());
        Ok(Prediction::new(
            image.dimensions(),
            detections,
            self.classes.clone(),
        ))
    }
}
