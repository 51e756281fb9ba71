//! A table of objects (CSV, RFC 4180).

use crate::data::{Classes, DetectionRecord};
use std::collections::HashMap;

/// The columns of [`csv_rows`]. `instance` counts the objects of an image from 1; the corners of the box and the area
/// of the mask are in pixels.
pub const CSV_HEADER: &str =
    "image_id,file_name,instance,category_id,class,score,x1,y1,x2,y2,area\n";

/// A line per result, without the header. The area is empty if a mask is not valid.
pub fn csv_rows(results: &[DetectionRecord], classes: &Classes) -> String {
    let mut counts: HashMap<u64, usize> = HashMap::new();
    let rows = results.iter().map(|record| {
        let number = counts.entry(record.image_id).or_default();
        *number += 1;
        let label = classes.label_of(record.category_id);
        let name = label.map_or(String::new(), |label| classes.name(label));
        let [x, y, width, height] = record.bbox;
        let corners = [x, y, x + width, y + height].map(|v| format!("{v:.2}"));
        let area = record
            .segmentation
            .mask()
            .map_or(String::new(), |mask| mask.area().to_string());
        format!(
            "{},{},{number},{},{},{:.4},{},{area}\n",
            record.image_id,
            quoted(record.file_name.as_deref().unwrap_or_default()),
            record.category_id,
            quoted(&name),
            record.score,
            corners.join(","),
        )
    });
    rows.collect()
}

/// A field, in quotation marks if it needs them.
fn quoted(field: &str) -> String {
    match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn rows_have_the_columns_of_the_header() {
        let prediction = example();
        let mut records = prediction.to_coco(4);
        records[0].file_name = Some("a b.png".into());
        let rows = csv_rows(&records, prediction.classes());
        let first = rows.lines().next().unwrap();
        let black = "\"cat, \"\"black\"\"\"";
        assert_eq!(
            first,
            format!("4,a b.png,1,3,{black},0.7500,40.00,20.00,60.00,40.00,400")
        );
        let second = rows.lines().nth(1).unwrap();
        assert!(second.starts_with("4,,2,7,dog,"), "{second}");
        assert_eq!(second.split(',').count(), CSV_HEADER.split(',').count());
    }
}
