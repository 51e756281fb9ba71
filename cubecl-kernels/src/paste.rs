//! Pasting a predicted `m x m` mask into its box of the picture.

/// The window of a picture that a mask covers, with its probabilities.
#[derive(Clone, Debug, PartialEq)]
pub struct PastedMask {
    /// Left column of the window in pixels.
    pub x: usize,
    /// Top row of the window in pixels.
    pub y: usize,
    /// Width of the window in pixels; 0 where the box lies outside the picture.
    pub width: usize,
    /// Height of the window in pixels.
    pub height: usize,
    /// Probabilities `[height, width]`, row-major.
    pub probabilities: Vec<f32>,
}

/// Grows `[x1, y1, x2, y2]` about its centre by `scale`, as torchvision's `expand_boxes`.
pub fn expand_box(bbox: [f32; 4], scale: f32) -> [f32; 4] {
    let half_width = (bbox[2] - bbox[0]) * 0.5 * scale;
    let half_height = (bbox[3] - bbox[1]) * 0.5 * scale;
    let centre_x = (bbox[2] + bbox[0]) * 0.5;
    let centre_y = (bbox[3] + bbox[1]) * 0.5;
    [
        centre_x - half_width,
        centre_y - half_height,
        centre_x + half_width,
        centre_y + half_height,
    ]
}

/// Resizes the `size x size` probabilities `mask` (row-major) to `bbox` (pixels) and cuts them to a
/// picture of `image_width x image_height` pixels.
///
/// Follows torchvision's `paste_masks_in_image`: one pixel of zero padding, the box grown to match
/// and truncated to integers, bilinear interpolation without aligned corners. Only the window inside
/// the picture is computed.
pub fn paste_mask(
    mask: &[f32],
    size: usize,
    bbox: [f32; 4],
    image_width: usize,
    image_height: usize,
) -> PastedMask {
    let padded = size + 2;
    let grown = expand_box(bbox, padded as f32 / size as f32);
    // Truncation towards zero, saturating at the i64 range; NaN becomes 0.
    let [x1, y1, x2, y2] = grown.map(|v| v as i64);
    let box_width = x2.saturating_sub(x1).saturating_add(1).max(1);
    let box_height = y2.saturating_sub(y1).saturating_add(1).max(1);
    let (left, right) = visible(x1, x2, image_width);
    let (top, bottom) = visible(y1, y2, image_height);
    let columns = taps(left, right, x1, box_width, padded);
    let rows = taps(top, bottom, y1, box_height, padded);

    let at = |row: usize, column: usize| {
        let inside = (1..=size).contains(&row) && (1..=size).contains(&column);
        if inside {
            mask[(row - 1) * size + column - 1]
        } else {
            0.0
        }
    };
    let mut probabilities = Vec::with_capacity(rows.len() * columns.len());
    for row in &rows {
        for column in &columns {
            let upper = at(row.low, column.low) * (1.0 - column.fraction)
                + at(row.low, column.high) * column.fraction;
            let lower = at(row.high, column.low) * (1.0 - column.fraction)
                + at(row.high, column.high) * column.fraction;
            probabilities.push(upper * (1.0 - row.fraction) + lower * row.fraction);
        }
    }
    PastedMask {
        x: left,
        y: top,
        width: columns.len(),
        height: rows.len(),
        probabilities,
    }
}

/// The pixels `[from, to)` of a picture's axis that the inclusive box `low..=high` covers.
fn visible(low: i64, high: i64, limit: usize) -> (usize, usize) {
    let limit = limit as i64;
    let from = low.clamp(0, limit);
    let to = high.saturating_add(1).clamp(from, limit);
    (from as usize, to as usize)
}

struct Tap {
    low: usize,
    high: usize,
    fraction: f32,
}

/// Source rows or columns for the target pixels `from..to` of a box that starts at `origin`.
fn taps(from: usize, to: usize, origin: i64, length: i64, source: usize) -> Vec<Tap> {
    let scale = source as f32 / length as f32;
    (from..to)
        .map(|pixel| {
            let target = (pixel as i64).saturating_sub(origin) as f32;
            let position = ((target + 0.5) * scale - 0.5).max(0.0);
            let low = (position as usize).min(source - 1);
            let high = (low + 1).min(source - 1);
            Tap {
                low,
                high,
                fraction: position - low as f32,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::paste_mask;

    #[test]
    fn a_full_mask_fills_its_box() {
        let pasted = paste_mask(&[1.0; 28 * 28], 28, [10.0, 20.0, 38.0, 48.0], 100, 100);
        let solid = pasted.probabilities.iter().filter(|&&p| p > 0.5).count();
        assert!((28 * 28..=30 * 30).contains(&solid), "{solid} pixels");
    }

    #[test]
    fn boxes_outside_or_broken_give_empty_windows() {
        for bbox in [[-50.0, -50.0, -40.0, -40.0], [200.0, 5.0, 230.0, 9.0]] {
            assert!(
                paste_mask(&[1.0; 4], 2, bbox, 100, 100)
                    .probabilities
                    .is_empty()
            );
        }
        let broken = paste_mask(&[1.0; 4], 2, [f32::NAN; 4], 3, 3);
        assert!(broken.probabilities.len() <= 9);
        let huge = paste_mask(&[1.0; 4], 2, [-1e30, -1e30, 1e30, 1e30], 3, 3);
        assert_eq!(huge.probabilities.len(), 9);
    }
}
