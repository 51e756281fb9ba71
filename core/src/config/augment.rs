//! Settings of augmentation.

use serde::{Deserialize, Serialize};

/// Augmentation of training images, in addition to `train.flip`; all of it is off by default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Multi-scale training: shorter sides in pixels, one of which is sampled per image and replaces
    /// `image.min_size`. Detectron2 uses `[640, 672, 704, 736, 768, 800]`. Empty is off.
    pub min_sizes: Vec<u32>,
    /// Large-scale jitter (Ghiasi et al., 2021): the smallest and the largest factor of the size that
    /// fits the frame, e.g. `[0.1, 2.0]` (large-scale) or `[0.8, 1.25]` (standard). A larger image is cropped to the
    /// frame at a random position, a smaller one is padded. Empty is off.
    pub scale_jitter: Vec<f64>,
    /// Rows and columns of the frame of `augment.scale_jitter`; 0 uses `image.max_size`. The paper uses 1024.
    pub jitter_size: u32,
    /// Probability of each of the four photometric distortions (SSD; 0.5 in torchvision's `RandomPhotometricDistort`);
    /// 0 is off.
    pub photometric: f64,
    /// Brightness is multiplied by a factor up to this far from 1.
    pub brightness: f64,
    /// The distance from the mean gray is multiplied by a factor up to this far from 1.
    pub contrast: f64,
    /// The distance from the pixel's gray is multiplied by a factor up to this far from 1.
    pub saturation: f64,
    /// The hue is rotated by up to this fraction of a full turn, in either direction.
    pub hue: f64,
    /// Simple copy-paste (Ghiasi et al., 2021): probability that half of the objects of another
    /// random image are pasted onto an image; 0 is off.
    pub copy_paste: f64,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            min_sizes: Vec::new(),
            scale_jitter: Vec::new(),
            jitter_size: 0,
            photometric: 0.0,
            brightness: 0.125,
            contrast: 0.5,
            saturation: 0.5,
            hue: 0.05,
            copy_paste: 0.0,
        }
    }
}

/// The largest factor of the jitter.
const LARGEST_SCALE: f64 = 8.0;

impl AugmentConfig {
    /// Smallest and largest factor of the scale jitter, if it is on.
    pub fn jitter(&self) -> Option<(f64, f64)> {
        match self.scale_jitter[..] {
            [low, high] => Some((low, high)),
            _ => None,
        }
    }

    /// The key of an invalid setting, its value and what it must be; `None` if all are valid.
    pub(super) fn fault(
        &self,
        image: &super::ImageConfig,
    ) -> Option<(&'static str, String, &'static str)> {
        let fault = |key, value: String, reason| Some((key, value, reason));
        let sizes = format!("{:?}", self.min_sizes);
        if self
            .min_sizes
            .iter()
            .any(|&side| !(1..=image.max_size).contains(&side))
        {
            let reason = "needs sides from 1 to image.max_size; [] uses image.min_size";
            return fault("augment.min_sizes", sizes, reason);
        }
        if !self.min_sizes.is_empty() && image.fit == super::Fit::Box {
            let reason = "selects the shorter side, which image.fit = \"box\" does not have: use \
                          augment.scale_jitter";
            return fault("augment.min_sizes", sizes, reason);
        }
        if !self.min_sizes.is_empty() && !self.scale_jitter.is_empty() {
            let reason = "augment.scale_jitter sets the size too: leave one of them out";
            return fault("augment.min_sizes", sizes, reason);
        }
        let range_is_sound =
            |&(low, high): &(f64, f64)| low > 0.0 && low <= high && high <= LARGEST_SCALE;
        if !self.scale_jitter.is_empty() && self.jitter().filter(range_is_sound).is_none() {
            let reason = "needs a smallest and a largest factor, above 0 and up to 8: [0.1, 2.0]";
            let value = format!("{:?}", self.scale_jitter);
            return fault("augment.scale_jitter", value, reason);
        }
        if self.jitter_size > 0 && self.scale_jitter.is_empty() {
            let reason = "does nothing without augment.scale_jitter = [0.1, 2.0]";
            return fault("augment.jitter_size", self.jitter_size.to_string(), reason);
        }
        None
    }
}
