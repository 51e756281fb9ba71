//! Where a picture comes to lie in the network's input.

use crate::boxes::{self, Bbox};

/// A window of the resized, perhaps mirrored picture; all sizes are rows and columns in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Rows and columns of the picture as it was decoded.
    pub original: (u32, u32),
    /// Whether left and right are exchanged.
    pub flip: bool,
    /// Rows and columns that the whole picture is resized to.
    pub resized: (u32, u32),
    /// Row and column of the window's upper left corner within the resized picture.
    pub origin: (u32, u32),
    /// Rows and columns of the window; beyond the resized picture it is empty.
    pub size: (u32, u32),
}

impl Placement {
    /// The whole picture, resized.
    pub fn whole(original: (u32, u32), resized: (u32, u32), flip: bool) -> Self {
        Self {
            original,
            flip,
            resized,
            origin: (0, 0),
            size: resized,
        }
    }

    /// Whether the window is the whole resized picture and nothing else.
    pub fn is_whole(&self) -> bool {
        self.origin == (0, 0) && self.size == self.resized
    }

    /// Rows of the resized picture that the window shows.
    pub fn rows(&self) -> std::ops::Range<usize> {
        range(self.origin.0, self.size.0, self.resized.0)
    }

    /// Columns of the resized picture that the window shows.
    pub fn columns(&self) -> std::ops::Range<usize> {
        range(self.origin.1, self.size.1, self.resized.1)
    }

    /// A box of the original picture in the pixels of the window, which it may reach over.
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
