//! Settings of the rendered dataset.

/// Settings of the rendered dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct ShapesSpec {
    /// Number of training images.
    pub train: usize,
    /// Number of validation images.
    pub val: usize,
    /// Minimum side of an image in pixels.
    pub size_min: u32,
    /// Maximum side of an image in pixels.
    pub size_max: u32,
    /// Maximum number of shapes per image, at least 2.
    pub max_objects: usize,
    /// Seed; an image depends on the seed, its split and its index alone.
    pub seed: u64,
}

impl Default for ShapesSpec {
    fn default() -> Self {
        Self {
            train: 2400,
            val: 100,
            size_min: 128,
            size_max: 192,
            max_objects: 5,
            seed: 0,
        }
    }
}
