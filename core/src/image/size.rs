//! Sizes of images after resizing, by the configuration.

use crate::config::{Fit, ImageConfig};

/// Height and width after resizing: the shorter side becomes `min_size`, unless the longer side would exceed
/// `max_size`. Sides are truncated as in torchvision, to at least 1.
pub fn output_size(height: u32, width: u32, min_size: u32, max_size: u32) -> (u32, u32) {
    let shorter = height.min(width).max(1) as f64;
    let longer = height.max(width).max(1) as f64;
    let scale = (min_size as f64 / shorter).min(max_size as f64 / longer);
    let side = |length: u32| ((length as f64 * scale) as u32).max(1);
    (side(height), side(width))
}

impl ImageConfig {
    /// Height and width of an image after resizing.
    pub fn resized(&self, height: u32, width: u32) -> (u32, u32) {
        match self.fit {
            Fit::ShorterSide => output_size(height, width, self.min_size, self.max_size),
            Fit::Box => {
                let scale = (self.min_size as f64 / height.max(1) as f64)
                    .min(self.max_size as f64 / width.max(1) as f64);
                let side = |length: u32| ((length as f64 * scale) as u32).max(1);
                (side(height), side(width))
            }
        }
    }

    /// Minimum height and width of a batch.
    pub fn smallest_batch(&self) -> (usize, usize) {
        match self.fit {
            Fit::ShorterSide => (1, 1),
            Fit::Box => (self.min_size as usize, self.max_size as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_at_least_one() {
        assert_eq!(output_size(1, 1, 800, 1333), (800, 800));
        assert_eq!(output_size(60, 4000, 800, 1333), (19, 1333));
        assert_eq!(output_size(1, 60000, 800, 1333), (1, 1333));
    }

    #[test]
    fn a_box_contains_every_image() {
        let config = ImageConfig {
            fit: Fit::Box,
            min_size: 832,
            max_size: 1344,
            ..ImageConfig::default()
        };
        // 640x480 and 480x640 of COCO with torchvision's sizes, and a very elongated image.
        assert_eq!(config.resized(480, 640), (832, 1109));
        assert_eq!(config.resized(640, 480), (832, 624));
        assert_eq!(config.resized(10, 2000), (6, 1344));
        assert_eq!(config.smallest_batch(), (832, 1344));
        assert_eq!(ImageConfig::default().resized(480, 640), (800, 1066));
    }
}
