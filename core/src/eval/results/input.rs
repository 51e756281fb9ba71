//! Annotation and results files as text, with budgets for the memory and time of reading them.

use crate::budget::{Budget, OverBudget};
use crate::data::json::{Element, Foreign, RawSegmentation, ScanError, open_text, scan_text};
use crate::data::segmentation::drawing_steps;
use crate::eval::EvalError;
use crate::image::decode::MAX_PIXELS;
use std::io::{BufReader, Read};
use std::path::Path;

/// A file that is read as text.
pub(super) struct Input<'a> {
    pub path: &'a Path,
    open: &'a dyn Fn() -> std::io::Result<Box<dyn Read>>,
    /// Memory for entries, which may be far larger than their text.
    entries: Budget,
    /// Memory and time for masks.
    masks: Budget,
}

impl<'a> Input<'a> {
    /// A file of `length` bytes.
    pub fn new(
        path: &'a Path,
        length: u64,
        open: &'a dyn Fn() -> std::io::Result<Box<dyn Read>>,
    ) -> Self {
        Self {
            path,
            open,
            entries: Budget::for_file(length),
            masks: Budget::for_masks(length),
        }
    }

    /// Calls `each` with every element of the file's lists.
    pub fn scan(
        &self,
        each: &mut dyn FnMut(Element) -> Result<(), String>,
    ) -> Result<Option<Foreign>, EvalError> {
        let io = |source| EvalError::Io {
            path: self.path.into(),
            source,
        };
        scan_text((self.open)().map_err(io)?, each).map_err(|error| match error {
            ScanError::Io(source) => io(source),
            ScanError::Json(reason) => self.json(reason),
        })
    }

    /// Whether the text begins with `[`.
    pub fn begins_with_list(&self) -> bool {
        let Ok(text) = (self.open)() else {
            return false;
        };
        let bytes = BufReader::new(text).bytes().map_while(Result::ok);
        let mut bytes = bytes.skip_while(u8::is_ascii_whitespace);
        bytes.next() == Some(b'[')
    }

    /// The error for an invalid file.
    pub fn json(&self, reason: String) -> EvalError {
        EvalError::Json {
            path: self.path.into(),
            reason,
        }
    }

    /// Charges the memory of an entry.
    pub fn charge_entry<T>(&self) -> Result<(), String> {
        let charged = self.entries.values::<T>(1);
        charged.map_err(|over| over.to_string())
    }

    /// Charges the drawing of a mask of a `width x height` image, before it is drawn: once here and once by hotcoco.
    pub fn charge_drawing(
        &self,
        segmentation: &RawSegmentation,
        (width, height): (u32, u32),
    ) -> Result<(), String> {
        if *segmentation == RawSegmentation::Missing {
            return Ok(());
        }
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(format!(
                "its image has {width}x{height} pixels; masks of at most 100 megapixels are evaluated"
            ));
        }
        let steps = drawing_steps(segmentation, width);
        self.masks
            .work(steps.saturating_mul(2))
            .map_err(masks_over_budget)
    }

    /// Charges the memory of a mask's run lengths, here and in hotcoco.
    pub fn charge_mask(&self, mask: &vernier_mask::Rle) -> Result<(), String> {
        let charged = self.masks.values::<u32>(2 * mask.counts.len());
        charged.map_err(masks_over_budget)
    }
}

fn masks_over_budget(over: OverBudget) -> String {
    format!("the masks of this file: {over}")
}

/// The length of a file for its budgets.
pub(super) fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

/// Opens a file's text.
pub(super) fn opener(path: &Path) -> impl Fn() -> std::io::Result<Box<dyn Read>> {
    move || open_text(path)
}
