//! Position of an image in the input of the network.

use crate::boxes::{self, Bbox};

/// A window of the resized and optionally flipped image; all sizes are `(rows, columns)` in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Size of the decoded image.
    pub original: (u32, u32),
    /// Whether the image is flipped horizontally.
    pub flip: bool,
    /// Size that the whole image is resized to.
    pub resized: (u32, u32),
    /// Row and column of the top left corner of the window in the resized image.
    pub origin: (u32, u32),
    /// Size of the window; outside the resized image it is empty.
    pub size: (u32, u32),
}

impl Placement {
    /// The whole image, resized.
    pub fn whole(original: (u32, u32), resized: (u32, u32), flip: bool) -> Self {
        Self {
            original,
            flip,
            resized,
            origin: (0, 0),
            size: resized,
        }
    }

    /// Whether the window is exactly the resized image.
    pub fn is_whole(&self) -> bool {
        self.origin == (0, 0) && self.size == self.resized
    }

    /// Rows of the resized image inside the window.
    pub fn rows(&self) -> std::ops::Range<usize> {
        range(self.origin.0, self.size.0, self.resized.0)
    }

    /// Columns of the resized image inside the window.
    pub fn columns(&self) -> std::ops::Range<usize> {
        range(self.origin.1, self.size.1, self.resized.1)
    }

    /// Converts a box of the original image to pixels of the window; it is not clipped.
    pub fn place(&self, bbox: &Bbox) -> Bbox {
        let [x1, y1, x2, y2] = *bbox;
        let width = self.original.1 as f32;
        let bbox = match self.flip {
            true => [width - x2, y1, width - x1, y2],
            false => *bbox,
        };
        let [x1, y1, x2, y2] = boxes::resize(&bbox, self.original, self.resized);
        let (top, left) = (self.origin.0 as f32, self.origin.1 as f32);
        [x1 - left, y1 - top, x2 - left, y2 - top]
    }
}

fn range(origin: u32, size: u32, resized: u32) -> std::ops::Range<usize> {
    let end = (origin + size).min(resized);
    origin.min(end) as usize..end as usize
}
