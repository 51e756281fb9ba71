//! Boxes of results that are not `x, y, width, height` in pixels.

use hotcoco::Annotation;
use std::collections::HashMap;

/// The reason why the boxes of results without masks are not `x, y, width, height` in pixels; `None` if they may be.
/// The boxes of results with masks are compared with the masks instead.
pub(super) fn misread(
    results: &[Annotation],
    sizes: &HashMap<u64, (u32, u32)>,
) -> Option<&'static str> {
    let boxes: Vec<([f64; 4], [f64; 2])> = results
        .iter()
        .filter(|result| result.segmentation.is_none())
        .filter_map(|result| {
            let &(width, height) = sizes.get(&result.image_id)?;
            let is_known = width > 4 && height > 4;
            let sides = [f64::from(width), f64::from(height)];
            result.bbox.filter(|_| is_known).map(|bbox| (bbox, sides))
        })
        .collect();
    if boxes.is_empty() {
        return None;
    }
    let is_fraction = |v: &f64| (-0.01..=1.01).contains(v);
    let mut numbers = boxes.iter().flat_map(|(bbox, _)| bbox);
    if numbers.clone().all(is_fraction) && numbers.any(|v| v.fract() != 0.0) {
        return Some(
            "the boxes are normalized, fractions of the image; multiply them by its sides",
        );
    }
    // Boxes that are not clipped extend a little beyond the image, but these fit it as corners.
    let are_corners = boxes.iter().all(|&([a, b, c, d], [width, height])| {
        c > a && d > b && c <= 1.05 * width && d <= 1.05 * height
    });
    let beyond = |&&([a, b, c, d], [width, height]): &&([f64; 4], [f64; 2])| {
        a + c > 1.1 * width || b + d > 1.1 * height
    };
    let beyond = boxes.iter().filter(beyond).count();
    (are_corners && 10 * beyond >= boxes.len()).then_some(
        "the boxes are x1, y1, x2, y2: as x, y, width, height many lie far beyond the image",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Boxes of a 160x120 image.
    fn reason(boxes: &[[f64; 4]]) -> Option<&'static str> {
        let result = |&bbox: &[f64; 4]| Annotation {
            image_id: 1,
            bbox: Some(bbox),
            ..Default::default()
        };
        let results: Vec<Annotation> = boxes.iter().map(result).collect();
        misread(&results, &HashMap::from([(1, (160, 120))]))
    }

    #[test]
    fn corners_and_fractions_are_recognized() {
        let boxes = [[92.0, 58.0, 28.0, 28.0], [10.0, 70.0, 40.0, 45.0]];
        let corners = boxes.map(|[x, y, w, h]| [x, y, x + w, y + h]);
        let fractions = boxes.map(|[x, y, w, h]| [x / 160.0, y / 120.0, w / 160.0, h / 120.0]);
        assert_eq!(reason(&boxes), None);
        assert!(reason(&corners).is_some_and(|reason| reason.contains("x1, y1")));
        assert!(reason(&fractions).is_some_and(|reason| reason.contains("normalized")));
        // Large boxes that are not clipped, and nothing at all.
        assert_eq!(reason(&[[-4.0, -3.0, 170.0, 128.0], boxes[0]]), None);
        assert_eq!(reason(&[[0.0; 4]]), None);
        assert_eq!(reason(&[]), None);
    }
}
