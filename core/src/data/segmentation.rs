//! Conversion of an annotation's segmentation to a mask. The contents of the file are untrusted.

use super::json::{Counts, Field, RawSegmentation};
use vernier_mask::Rle;

/// A fault of an annotation, and how to fix it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    /// A label shared by faults of the same kind.
    pub kind: &'static str,
    pub reason: String,
    pub fix: &'static str,
}

impl Fault {
    pub fn new(kind: &'static str, reason: impl Into<String>, fix: &'static str) -> Self {
        let reason = reason.into();
        Self { kind, reason, fix }
    }
}

/// A mask, and the number of polygon parts that were left out.
pub(crate) struct Drawn {
    pub mask: Rle,
    pub dropped_parts: usize,
}

/// The mask over a `height x width` image.
pub(crate) fn mask(
    segmentation: &RawSegmentation,
    height: u32,
    width: u32,
) -> Result<Drawn, Fault> {
    match segmentation {
        RawSegmentation::Missing => Err(Fault::new(
            "no segmentation",
            "there is no segmentation",
            "add polygons or RLE, or delete it",
        )),
        RawSegmentation::Polygons(polygons) => from_polygons(polygons, height, width),
        RawSegmentation::Rle { size, counts } => from_rle(size, counts, height, width).map(whole),
        RawSegmentation::Other(shown) => Err(Fault::new(
            "segmentation type",
            format!("the segmentation is neither polygons nor RLE, but {shown}"),
            "write [[x1,y1,x2,y2,...]] or {\"size\":[h,w],\"counts\":...}",
        )),
    }
}

fn whole(mask: Rle) -> Drawn {
    let dropped_parts = 0;
    Drawn {
        mask,
        dropped_parts,
    }
}

fn from_polygons(polygons: &[Vec<f64>], height: u32, width: u32) -> Result<Drawn, Fault> {
    if polygons.iter().all(Vec::is_empty) {
        return Err(Fault::new(
            "empty segmentation",
            "the segmentation is empty",
            "draw a polygon or delete the annotation",
        ));
    }
    let (mut parts, mut outline) = (Vec::with_capacity(polygons.len()), 0.0);
    for polygon in polygons {
        if !polygon.iter().all(|v| v.is_finite() && v.abs() < 1e6) {
            return Err(Fault::new(
                "coordinate",
                "a polygon has a coordinate that is NaN, infinite or beyond a million",
                "export the annotation again",
            ));
        }
        let numbers = polygon.len();
        if numbers % 2 == 1 {
            let reason = format!("a polygon has {numbers} numbers, an odd count");
            return Err(Fault::new(
                "odd polygon",
                reason,
                "every point needs x and y",
            ));
        }
        // Stray clicks next to a valid part.
        if numbers < 6 {
            continue;
        }
        outline += length(polygon);
        if outline > LONGEST_OUTLINE {
            return Err(Fault::new(
                "long outline",
                format!("the outline is more than {LONGEST_OUTLINE:.0} pixels long"),
                "export the annotation again",
            ));
        }
        parts.push(polygon.clone());
    }
    if parts.is_empty() {
        let most = polygons.iter().map(Vec::len).max().unwrap_or_default() / 2;
        return Err(Fault::new(
            "too few points",
            format!("a polygon has {most} points"),
            "at least 3 points are needed: redraw or delete it",
        ));
    }
    let dropped_parts = polygons.len() - parts.len();
    let mask = Rle::from_polygons(&parts, height, width).map_err(|error| {
        let reason = format!("the polygons cannot be drawn: {error}");
        Fault::new("polygons", reason, "redraw them")
    })?;
    Ok(Drawn {
        mask,
        dropped_parts,
    })
}

/// Approximate number of elementary steps for drawing a segmentation into an image of `width` columns: the length of
/// its outlines, and a pass over the runs so far for each further part.
pub(crate) fn drawing_steps(segmentation: &RawSegmentation, width: u32) -> usize {
    let RawSegmentation::Polygons(polygons) = segmentation else {
        return 0;
    };
    let is_drawn = |polygon: &&Vec<f64>| polygon.len() >= 6;
    let outlines = polygons
        .iter()
        .filter(is_drawn)
        .map(|polygon| length(polygon));
    // `as` saturates, and turns NaN into 0: such polygons are rejected before they are drawn.
    let outline = outlines.sum::<f64>() as usize;
    let runs = outline.min(2 * width as usize);
    outline.saturating_add(polygons.len().saturating_mul(runs))
}

/// Maximum length of an outline in pixels, which determines the memory for drawing. The largest objects of COCO have
/// some ten thousand.
const LONGEST_OUTLINE: f64 = 4e6;

/// Length of a closed polygon `x, y, x, y...`, along the axes.
fn length(points: &[f64]) -> f64 {
    let last = points.len() - 2;
    let steps = (0..points.len()).map(|i| {
        let before = if i < 2 { last + i } else { i - 2 };
        (points[i] - points[before]).abs()
    });
    steps.sum()
}

/// The fix for corrupted run lengths.
const EXPORT: &str = "export the mask again";

fn from_rle(
    size: &Field<super::json::Numbers>,
    counts: &Counts,
    height: u32,
    width: u32,
) -> Result<Rle, Fault> {
    let wanted = [f64::from(height), f64::from(width)];
    let fix = "size must be [height, width] of the image";
    match size {
        Field::Value(numbers) if numbers.0 == wanted => {}
        Field::Value(numbers) if numbers.0 == [wanted[1], wanted[0]] => {
            let reason =
                format!("the RLE's size is [{width}, {height}], with height and width swapped");
            return Err(Fault::new("RLE size swapped", reason, fix));
        }
        Field::Value(numbers) if numbers.0.len() == 2 => {
            let reason = format!(
                "the RLE is {}x{}, the image {width}x{height}",
                numbers.0[1], numbers.0[0]
            );
            return Err(Fault::new("RLE size", reason, fix));
        }
        Field::Value(_) | Field::Bad(_) => {
            return Err(Fault::new(
                "RLE size",
                "the RLE's size is not two numbers",
                fix,
            ));
        }
        Field::Missing => return Err(Fault::new("RLE size", "the RLE has no size", fix)),
    }
    let rle = match counts {
        Counts::Compressed(text) => Rle::from_string_bytes(text.as_bytes(), height, width)
            .map_err(|error| {
                let python = text.starts_with("b'") || text.starts_with("b\"");
                let reason = format!("the RLE counts are invalid: {error}");
                match python {
                    true => Fault::new(
                        "RLE bytes",
                        format!("{reason} (they are the text of Python bytes, b'...')"),
                        "write counts.decode() in Python",
                    ),
                    false => Fault::new("RLE counts", reason, EXPORT),
                }
            })?,
        Counts::Runs(runs) => Rle::from_counts(height, width, runs.clone()),
        Counts::Missing => return Err(Fault::new("RLE counts", "the RLE has no counts", EXPORT)),
        Counts::Other => {
            let reason = "the RLE counts are neither text nor numbers";
            return Err(Fault::new("RLE counts", reason, EXPORT));
        }
    };
    let cells: u64 = rle.counts.iter().map(|&run| u64::from(run)).sum();
    let wanted = u64::from(height) * u64::from(width);
    if cells != wanted {
        let reason = format!("the RLE covers {cells} pixels of {wanted}");
        return Err(Fault::new("RLE counts", reason, EXPORT));
    }
    Ok(rle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_outline_is_refused_before_it_is_drawn() {
        let zigzag = |times: usize| {
            let points = (0..times).flat_map(|i| [(i % 2) as f64 * 1.8e6 - 9e5, i as f64]);
            vec![points.collect::<Vec<_>>()]
        };
        let fault = from_polygons(&zigzag(10_000), 100, 100).err().unwrap();
        assert!(fault.reason.contains("4000000 pixels long"), "{fault:?}");
        // As far away, but short.
        assert!(from_polygons(&zigzag(3), 100, 100).is_ok());
        let square = [0.0, 0.0, 200.0, 0.0, 200.0, 50.0, 0.0, 50.0];
        let drawn = from_polygons(&[square.to_vec()], 100, 100).ok().unwrap();
        assert_eq!(drawn.mask.area(), 5000);
    }

    #[test]
    fn stray_parts_are_dropped_and_counted() {
        let square = vec![0.0, 0.0, 20.0, 0.0, 20.0, 5.0, 0.0, 5.0];
        let drawn = from_polygons(&[square, vec![50.0, 50.0, 51.0, 51.0]], 100, 100)
            .ok()
            .unwrap();
        assert_eq!((drawn.mask.area(), drawn.dropped_parts), (100, 1));
        let fault = from_polygons(&[vec![50.0, 50.0, 51.0, 51.0]], 100, 100)
            .err()
            .unwrap();
        assert!(fault.reason.contains("2 points"), "{fault:?}");
    }
}
