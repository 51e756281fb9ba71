//! An annotation's segmentation to a mask, nothing trusted.

use super::coco::{Counts, Segmentation};
use vernier_mask::Rle;

/// The mask over a `height x width` picture, or what is wrong and how to mend it.
pub(super) fn mask(
    segmentation: &Segmentation,
    height: u32,
    width: u32,
) -> Result<Rle, (String, &'static str)> {
    match segmentation {
        Segmentation::Polygons(polygons) => from_polygons(polygons, height, width),
        Segmentation::Rle { size, counts } => from_rle(*size, counts, height, width),
        Segmentation::Other(_) => Err((
            "the segmentation is neither polygons nor RLE".into(),
            "write [[x1,y1,x2,y2,...]] or {\"size\":[h,w],\"counts\":...}",
        )),
    }
}

fn from_polygons(
    polygons: &[Vec<Option<f64>>],
    height: u32,
    width: u32,
) -> Result<Rle, (String, &'static str)> {
    if polygons.is_empty() {
        return Err((
            "the segmentation is empty".into(),
            "draw a polygon or delete the annotation",
        ));
    }
    let (mut parts, mut outline) = (Vec::with_capacity(polygons.len()), 0.0);
    for polygon in polygons {
        let numbers = polygon.len();
        if numbers % 2 == 1 {
            let reason = format!("a polygon has {numbers} numbers, an odd count");
            return Err((reason, "give x and y of every point"));
        }
        if numbers < 6 {
            let reason = format!("a polygon has {} points", numbers / 2);
            return Err((reason, "at least 3 points are needed: redraw or delete it"));
        }
        let points: Option<Vec<f64>> = polygon
            .iter()
            .map(|v| v.filter(|v| v.is_finite() && v.abs() < 1e6))
            .collect();
        let Some(points) = points else {
            return Err((
                "a polygon has a coordinate that is NaN, infinite or beyond a million".into(),
                "export the annotation again",
            ));
        };
        outline += length(&points);
        if outline > LONGEST_OUTLINE {
            return Err((
                format!("the outline is more than {LONGEST_OUTLINE:.0} pixels long"),
                "export the annotation again",
            ));
        }
        parts.push(points);
    }
    Rle::from_polygons(&parts, height, width).map_err(|error| {
        (
            format!("the polygons cannot be drawn: {error}"),
            "redraw them",
        )
    })
}

/// Pixels; drawing takes memory by them. The outlines of COCO's largest objects have some ten thousand.
const LONGEST_OUTLINE: f64 = 4e6;

/// Of a closed polygon `x, y, x, y...`, along the axes.
fn length(points: &[f64]) -> f64 {
    let last = points.len() - 2;
    let steps = (0..points.len()).map(|i| {
        let before = if i < 2 { last + i } else { i - 2 };
        (points[i] - points[before]).abs()
    });
    steps.sum()
}

fn from_rle(
    size: [u32; 2],
    counts: &Counts,
    height: u32,
    width: u32,
) -> Result<Rle, (String, &'static str)> {
    if size != [height, width] {
        let reason = format!(
            "the RLE is {}x{}, the picture {width}x{height}",
            size[1], size[0]
        );
        return Err((reason, "size must be [height, width] of the picture"));
    }
    const EXPORT: &str = "export the mask again";
    let rle = match counts {
        Counts::Compressed(text) => Rle::from_string_bytes(text.as_bytes(), height, width)
            .map_err(|error| (format!("the RLE counts are broken: {error}"), EXPORT))?,
        Counts::Runs(runs) => Rle::from_counts(height, width, runs.clone()),
        Counts::Other(_) => {
            return Err(("the RLE counts are neither text nor numbers".into(), EXPORT));
        }
    };
    let cells: u64 = rle.counts.iter().map(|&run| run as u64).sum();
    let wanted = height as u64 * width as u64;
    if cells != wanted {
        return Err((format!("the RLE covers {cells} pixels of {wanted}"), EXPORT));
    }
    Ok(rle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outline_without_end_is_refused_before_it_is_drawn() {
        let zigzag = |times: usize| {
            let points = (0..times).flat_map(|i| [(i % 2) as f64 * 1.8e6 - 9e5, i as f64]);
            vec![points.map(Some).collect::<Vec<_>>()]
        };
        let (reason, _) = from_polygons(&zigzag(10_000), 100, 100).unwrap_err();
        assert!(reason.contains("4000000 pixels long"), "{reason}");
        // As far out, but short.
        from_polygons(&zigzag(3), 100, 100).unwrap();
        let square = [0.0, 0.0, 200.0, 0.0, 200.0, 50.0, 0.0, 50.0].map(Some);
        let mask = from_polygons(&[square.to_vec()], 100, 100).unwrap();
        assert_eq!(mask.area(), 5000);
    }
}
