//! The views of test-time augmentation.

use crate::config::ImageConfig;
use std::ops::RangeInclusive;

/// Scales that views may have.
pub(in crate::predict) const SCALES: RangeInclusive<f32> = 0.1..=10.0;

/// The views of test-time augmentation, for [`PredictorBuilder::tta`](crate::predict::PredictorBuilder::tta).
#[derive(Clone, Debug, PartialEq)]
pub struct TtaSettings {
    /// Factors of `image.min_size` and `image.max_size`, from 0.1 to 10, one view for each.
    pub scales: Vec<f32>,
    /// Whether each of these views is also detected mirrored, left to right.
    pub flip: bool,
}

impl Default for TtaSettings {
    /// Six views: 1, 0.8 and 1.25 times `image.min_size`, each as it is and mirrored.
    fn default() -> Self {
        Self {
            scales: vec![1.0, 0.8, 1.25],
            flip: true,
        }
    }
}

impl TtaSettings {
    /// Scale of each view, and whether it is mirrored. The first one is not.
    pub(super) fn views(&self) -> Vec<(f32, bool)> {
        let flips: &[bool] = if self.flip { &[false, true] } else { &[false] };
        let of_scale = |&scale: &f32| flips.iter().map(move |&flip| (scale, flip));
        self.scales.iter().flat_map(of_scale).collect()
    }

    pub(in crate::predict) fn is_valid(&self) -> bool {
        !self.scales.is_empty() && self.scales.iter().all(|scale| SCALES.contains(scale))
    }
}

/// The settings of a view.
pub(super) fn scaled(image: &ImageConfig, scale: f32) -> ImageConfig {
    let side = |length: u32| ((f64::from(length) * f64::from(scale)).round() as u32).max(1);
    ImageConfig {
        min_size: side(image.min_size),
        max_size: side(image.max_size),
        ..image.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scale_is_a_view_and_its_mirror_image() {
        let settings = TtaSettings::default();
        assert!(settings.is_valid());
        let wanted = [
            (1.0, false),
            (1.0, true),
            (0.8, false),
            (0.8, true),
            (1.25, false),
            (1.25, true),
        ];
        assert_eq!(settings.views(), wanted);
        let sizes = |scale| {
            let image = scaled(&ImageConfig::default(), scale);
            (image.min_size, image.max_size)
        };
        assert_eq!(
            [sizes(1.0), sizes(0.8), sizes(1.25)],
            [(800, 1333), (640, 1066), (1000, 1666)]
        );
        for scales in [vec![], vec![1.0, f32::NAN], vec![0.0], vec![11.0]] {
            assert!(!TtaSettings { scales, flip: true }.is_valid());
        }
    }
}
