//! Boxes on the host: geometry and cell anchors.
//!
//! A box is `[x1, y1, x2, y2]` in pixels; its area is `(x2 - x1) * (y2 - y1)`.

mod anchors;
mod coder;

// `Anchors`, `BoxCoder`, `clip` and `is_large_enough` are hidden: the model computes the same on the device, and tests
// compare it with these.
#[doc(hidden)]
pub use anchors::Anchors;
pub use anchors::{AnchorLayout, cell_anchors};
pub use coder::BOX_CLIP;
#[doc(hidden)]
pub use coder::BoxCoder;
pub use mrcnn_kernels::iou;

/// A box `[x1, y1, x2, y2]` in pixels.
pub type Bbox = [f32; 4];

/// Area in square pixels, the product of the sides; it can be negative for inverted boxes.
pub fn area(bbox: &Bbox) -> f32 {
    (bbox[2] - bbox[0]) * (bbox[3] - bbox[1])
}

/// The box clipped to an image of `height x width` pixels.
#[doc(hidden)]
pub fn clip(bbox: Bbox, height: f32, width: f32) -> Bbox {
    [
        bbox[0].clamp(0.0, width),
        bbox[1].clamp(0.0, height),
        bbox[2].clamp(0.0, width),
        bbox[3].clamp(0.0, height),
    ]
}

/// Whether both sides are at least `min_size` pixels.
#[doc(hidden)]
pub fn is_large_enough(bbox: &Bbox, min_size: f32) -> bool {
    bbox[2] - bbox[0] >= min_size && bbox[3] - bbox[1] >= min_size
}

/// The box after resizing the image from `from` to `to`, both `(height, width)`.
pub fn resize(bbox: &Bbox, from: (u32, u32), to: (u32, u32)) -> Bbox {
    let ratio_y = to.0 as f32 / from.0 as f32;
    let ratio_x = to.1 as f32 / from.1 as f32;
    [
        bbox[0] * ratio_x,
        bbox[1] * ratio_y,
        bbox[2] * ratio_x,
        bbox[3] * ratio_y,
    ]
}

/// The FPN level for pooling a box: `floor(4 + log2(sqrt(area) / 224))` (FPN, equation 1), clamped to `k_min..=k_max`,
/// as an index from `k_min`. Boxes without area use the finest level.
pub fn pyramid_level(bbox: &Bbox, k_min: i32, k_max: i32) -> usize {
    let level = (4.0 + (area(bbox).sqrt() / 224.0).log2() + 1e-6).floor();
    (level.clamp(k_min as f32, k_max as f32) as i32).clamp(k_min, k_max) as usize - k_min as usize
}
