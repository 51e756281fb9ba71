//! Comparison of an annotation's box with its mask, and the likely cause if they disagree.

use super::json::{Counts, RawSegmentation};
use super::segmentation::Fault;
use vernier_mask::Rle;

/// Left, top, right and bottom in pixels.
type Corners = [f64; 4];

/// Rounded coordinates, polygon rasterization and boxes that end on the last pixel move a side by at most
/// two pixels.
const ROUNDING: f64 = 2.0;
/// A cause is reported if it explains every side within this many pixels.
const EXPLAINED: f64 = 2.5;
/// Hand-drawn and amodal boxes overlap with their masks by more than this.
const DOUBTFUL_IOU: f64 = 0.5;
/// With a smaller overlap, the box and the mask belong to different objects.
const CONTRADICTING_IOU: f64 = 0.3;

/// Agreement of a box and a mask.
#[derive(Debug, PartialEq)]
pub(crate) enum Agreement {
    /// They agree, up to rounding or hand-drawn boxes.
    Good,
    /// They overlap little, for no known cause.
    Doubtful(Fault),
    /// They disagree for a known cause, or are in different places.
    Contradiction(Fault),
}

/// Compares `bbox` (`x, y, width, height` as annotated) with a mask that has pixels.
pub(crate) fn compare(bbox: [f64; 4], mask: &Rle, segmentation: &RawSegmentation) -> Agreement {
    let extent = extent(mask);
    let (width, height) = (f64::from(mask.w), f64::from(mask.h));
    let [x, y, w, h] = bbox;
    let annotated = clipped([x, y, x + w, y + h], width, height);
    if distance(annotated, extent) <= ROUNDING {
        return Agreement::Good;
    }
    if let Some((kind, cause, fix)) = cause(bbox, extent, mask, segmentation) {
        let reason = format!(
            "the box {} does not fit the mask {}: {cause}",
            shown(bbox),
            shown(xywh(extent))
        );
        return Agreement::Contradiction(Fault::new(kind, reason, fix));
    }
    let overlap = iou(annotated, extent);
    if overlap >= DOUBTFUL_IOU {
        return Agreement::Good;
    }
    let reason = format!(
        "the box {} and the mask {} overlap with an IoU of only {overlap:.2}",
        shown(bbox),
        shown(xywh(extent))
    );
    let fault = Fault::new(
        "box and mask apart",
        reason,
        "redraw the one that is wrong (see `dataset preview`)",
    );
    match overlap < CONTRADICTING_IOU {
        true => Agreement::Contradiction(fault),
        false => Agreement::Doubtful(fault),
    }
}

/// The extent of a mask in pixels.
fn extent(mask: &Rle) -> Corners {
    let [x, y, w, h] = mask.bbox().map(f64::from);
    [x, y, x + w, y + h]
}

fn xywh([x1, y1, x2, y2]: Corners) -> [f64; 4] {
    [x1, y1, x2 - x1, y2 - y1]
}

fn shown(numbers: [f64; 4]) -> String {
    let numbers = numbers.map(|v| (v * 100.0).round() / 100.0);
    let [x, y, w, h] = numbers;
    format!("[{x}, {y}, {w}, {h}]")
}

fn clipped([x1, y1, x2, y2]: Corners, width: f64, height: f64) -> Corners {
    [
        x1.clamp(0.0, width),
        y1.clamp(0.0, height),
        x2.clamp(0.0, width),
        y2.clamp(0.0, height),
    ]
}

/// Largest distance between corresponding sides.
fn distance(a: Corners, b: Corners) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}

fn iou(a: Corners, b: Corners) -> f64 {
    let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0);
    let area = |c: Corners| (c[2] - c[0]).max(0.0) * (c[3] - c[1]).max(0.0);
    let both = side(0) * side(1);
    both / (area(a) + area(b) - both).max(f64::MIN_POSITIVE)
}

type Cause = (&'static str, String, &'static str);

/// A known mistake that explains every side.
fn cause(
    bbox: [f64; 4],
    extent: Corners,
    mask: &Rle,
    segmentation: &RawSegmentation,
) -> Option<Cause> {
    let (width, height) = (f64::from(mask.w), f64::from(mask.h));
    let [a, b, c, d] = bbox;
    let fits = |corners: Corners| distance(clipped(corners, width, height), extent) <= EXPLAINED;
    if fits([a, b, c, d]) {
        return Some((
            "box corners",
            "it is x1, y1, x2, y2".into(),
            "write bbox as [x, y, width, height]; `dataset check --fix OUT` takes it from the mask",
        ));
    }
    if fits([b, a, b + d, a + c]) || fits([b, a, d, c]) {
        return Some((
            "swapped axes",
            "x and y are swapped in one of them".into(),
            "export the annotations again with x before y",
        ));
    }
    if fits([a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0]) {
        return Some((
            "box center",
            "it is the center, width and height".into(),
            "write bbox as [x, y, width, height] from the upper left corner",
        ));
    }
    let scaled = [a * width, b * height, (a + c) * width, (b + d) * height];
    if bbox.iter().all(|v| (-0.01..=1.01).contains(v)) && fits(scaled) {
        return Some((
            "normalized coordinates",
            "its numbers are normalized, fractions of the image".into(),
            "multiply by the image's width and height",
        ));
    }
    if let Some(turned) = by_rows(mask, segmentation)
        && distance([a, b, a + c, b + d], turned) <= ROUNDING
    {
        return Some((
            "row-major RLE",
            "the RLE counts run along the rows, as of a C-ordered array".into(),
            "encode by columns: pycocotools.mask.encode(numpy.asfortranarray(mask))",
        ));
    }
    if matches!(segmentation, RawSegmentation::Rle { .. }) {
        let inverse = inverted(mask);
        let is_inverse = inverse.area() > 0
            && distance([a, b, a + c, b + d], self::extent(&inverse)) <= ROUNDING;
        if is_inverse {
            return Some((
                "inverted mask",
                "it fits the background of the mask, whose values are inverted".into(),
                "encode the mask again, with 1 for the object",
            ));
        }
    }
    if let Some(factors) = scale(bbox, extent) {
        return Some((
            "scaled",
            format!(
                "the mask is scaled by {:.3} x {:.3} against the box",
                factors[0], factors[1]
            ),
            "annotate the image in its own size",
        ));
    }
    let [e1, e2, e3, e4] = extent;
    let (dx, dy) = (e1 - a, e2 - b);
    let same_size = (e3 - e1 - c).abs() <= EXPLAINED && (e4 - e2 - d).abs() <= EXPLAINED;
    // Beyond the tolerance for hand-drawn boxes.
    let is_apart = iou([a, b, a + c, b + d], extent) < 0.75;
    (same_size && is_apart).then(|| {
        (
            "shift",
            // Adding 0 turns -0 into 0.
            format!(
                "the mask lies {:.0}, {:.0} pixels from the box",
                dx.round() + 0.0,
                dy.round() + 0.0
            ),
            "export the annotations again, with boxes and masks of the same image",
        )
    })
}

/// The extent of the mask if its runs were row-major; `None` for polygons.
fn by_rows(mask: &Rle, segmentation: &RawSegmentation) -> Option<Corners> {
    let RawSegmentation::Rle { counts, .. } = segmentation else {
        return None;
    };
    if matches!(counts, Counts::Missing | Counts::Other) || mask.w == 0 {
        return None;
    }
    let width = u64::from(mask.w);
    let (mut start, mut found) = (0u64, None::<[u64; 4]>);
    for (index, &run) in mask.counts.iter().enumerate() {
        let run = u64::from(run);
        if index % 2 == 1 && run > 0 {
            let last = start + run - 1;
            let (top, bottom) = (start / width, last / width);
            let (left, right) = match top == bottom {
                true => (start % width, last % width),
                false => (0, width - 1),
            };
            let [x1, y1, x2, y2] = found.unwrap_or([left, top, right, bottom]);
            found = Some([x1.min(left), y1.min(top), x2.max(right), y2.max(bottom)]);
        }
        start += run;
    }
    let [x1, y1, x2, y2] = found?.map(|v| v as f64);
    Some([x1, y1, x2 + 1.0, y2 + 1.0])
}

/// The mask of the background.
fn inverted(mask: &Rle) -> Rle {
    let counts = match mask.counts.first() {
        Some(0) => mask.counts[1..].to_vec(),
        _ => [&[0], &mask.counts[..]].concat(),
    };
    Rle::from_counts(mask.h, mask.w, counts)
}

/// Factors that scale the box to the extent, if two explain all four sides and differ from 1.
fn scale(bbox: [f64; 4], extent: Corners) -> Option<[f64; 2]> {
    let [x, y, w, h] = bbox;
    let factors = [(extent[2] - extent[0]) / w, (extent[3] - extent[1]) / h];
    if !factors
        .iter()
        .all(|factor| factor.is_finite() && (0.02..=50.0).contains(factor))
    {
        return None;
    }
    let [fx, fy] = factors;
    let explained = [(x * fx, extent[0]), (y * fy, extent[1])];
    // The factor cannot be determined for an object at the origin.
    let is_reliable = extent[0] > 8.0 && extent[1] > 8.0;
    let close = explained
        .iter()
        .all(|(scaled, wanted)| (scaled - wanted).abs() <= EXPLAINED);
    // Rounding of a small object looks like a factor near 1.
    let different = fx.max(1.0 / fx) > 1.3 && fy.max(1.0 / fy) > 1.3;
    (is_reliable && close && different).then_some(factors)
}

/// Whether polygons lie within the unit square of an image that is larger, so that they are fractions of the image
/// instead of pixels.
pub(crate) fn is_normalized(segmentation: &RawSegmentation, width: u32, height: u32) -> bool {
    let RawSegmentation::Polygons(polygons) = segmentation else {
        return false;
    };
    let mut numbers = polygons.iter().flatten().peekable();
    width > 4
        && height > 4
        && numbers.peek().is_some()
        && numbers.clone().all(|v| (-0.01..=1.01).contains(v))
        && numbers.any(|v| v.fract() != 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rectangle(x: f64, y: f64, w: f64, h: f64) -> (Rle, RawSegmentation) {
        let polygon = vec![x, y, x + w, y, x + w, y + h, x, y + h];
        let mask = Rle::from_polygons(std::slice::from_ref(&polygon), 100, 200).unwrap();
        (mask, RawSegmentation::Polygons(vec![polygon]))
    }

    #[track_caller]
    fn kind(bbox: [f64; 4]) -> &'static str {
        let (mask, segmentation) = rectangle(30.0, 20.0, 50.0, 40.0);
        match compare(bbox, &mask, &segmentation) {
            Agreement::Good => "good",
            Agreement::Doubtful(_) => "doubtful",
            Agreement::Contradiction(fault) => fault.kind,
        }
    }

    #[test]
    fn causes_are_distinguished() {
        let cases = [
            ([30.0, 20.0, 50.0, 40.0], "good"),
            ([29.4, 19.3, 51.0, 41.9], "good"),
            ([25.0, 16.0, 58.0, 47.0], "good"),
            ([30.0, 20.0, 80.0, 60.0], "box corners"),
            ([20.0, 30.0, 40.0, 50.0], "swapped axes"),
            ([20.0, 30.0, 60.0, 80.0], "swapped axes"),
            ([55.0, 40.0, 50.0, 40.0], "box center"),
            ([0.15, 0.2, 0.25, 0.4], "normalized coordinates"),
            ([90.0, 20.0, 50.0, 40.0], "shift"),
            ([60.0, 40.0, 100.0, 80.0], "scaled"),
            ([120.0, 5.0, 30.0, 70.0], "box and mask apart"),
            ([30.0, 20.0, 50.0, 14.0], "doubtful"),
        ];
        for (bbox, wanted) in cases {
            assert_eq!(kind(bbox), wanted, "{bbox:?}");
        }
    }

    #[test]
    fn inverted_masks_are_named() {
        let (mask, _) = rectangle(30.0, 20.0, 50.0, 40.0);
        let inverse = inverted(&mask);
        assert_eq!(inverse.area() + mask.area(), 100 * 200);
        assert_eq!(inverted(&inverse), mask);
        let segmentation = RawSegmentation::Rle {
            size: Default::default(),
            counts: Counts::Runs(inverse.counts.to_vec()),
        };
        let found = compare([30.0, 20.0, 50.0, 40.0], &inverse, &segmentation);
        assert!(matches!(found, Agreement::Contradiction(fault) if fault.kind == "inverted mask"));
    }

    #[test]
    fn runs_along_the_rows_are_named() {
        let (mask, _) = rectangle(30.0, 20.0, 50.0, 40.0);
        // The runs of the same mask along its rows, read as if they ran along its columns.
        let mut cells = vec![0; 200 * 100];
        for y in 20..60 {
            cells[y * 200 + 30..y * 200 + 80].fill(1);
        }
        let wrong = Rle::from_raster_bytes(&cells, 100, 200).unwrap();
        assert_eq!(wrong.area(), mask.area());
        let segmentation = RawSegmentation::Rle {
            size: Default::default(),
            counts: Counts::Runs(wrong.counts.to_vec()),
        };
        let found = compare([30.0, 20.0, 50.0, 40.0], &wrong, &segmentation);
        assert!(matches!(found, Agreement::Contradiction(fault) if fault.kind == "row-major RLE"));
    }
}
