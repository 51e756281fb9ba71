//! Pascal VOC.

use super::{assert_same, imported, open, shapes, spec};
use mrcnn_core::data::import::{Format, import};
use mrcnn_core::data::shapes::CLASSES;
use mrcnn_core::data::{Sample, check};
use std::fs::{create_dir_all, write};
use std::path::Path;

/// Segmentation with the number of each object, and 255 around the first one like the borders in VOC.
pub fn object_numbers(sample: &Sample, path: &Path) {
    let (width, height) = (sample.width, sample.height);
    let mut numbers = vec![0u8; (width * height) as usize];
    for (number, instance) in (1..).zip(&sample.instances) {
        let cells = instance.mask.to_row_major_raster_bytes();
        for (cell, number_here) in cells.iter().zip(&mut numbers) {
            if *cell != 0 {
                *number_here = number;
            }
        }
    }
    if let Some(corner) = numbers.first_mut().filter(|number| **number == 0) {
        *corner = 255;
    }
    let file = std::fs::File::create(path).expect("a file");
    let mut encoder = png::Encoder::new(file, width, height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    // A palette in which two objects have the same color: only the index matters.
    encoder.set_palette([7u8; 768].to_vec());
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(&numbers).expect("pixels");
}

pub fn xml(sample: &Sample, name: &str) -> String {
    let objects: String = sample
        .instances
        .iter()
        .map(|instance| {
            // 1-based, both ends included.
            let [x1, y1, x2, y2] = instance.bbox;
            let (label, x1, y1) = (CLASSES[instance.label - 1], x1 + 1.0, y1 + 1.0);
            format!(
                "<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{x1}</xmin>\
                 <ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            )
        })
        .collect();
    let (width, height) = (sample.width, sample.height);
    format!(
        "<annotation><filename>{name}.png</filename><size><width>{width}</width>\
         <height>{height}</height><depth>3</depth></size>{objects}</annotation>"
    )
}

#[test]
fn voc_comes_back() {
    let (folder, samples) = shapes();
    let voc = folder.path().join("VOC2012");
    for part in [
        "Annotations",
        "JPEGImages",
        "SegmentationObject",
        "ImageSets/Segmentation",
    ] {
        create_dir_all(voc.join(part)).expect("a folder");
    }
    let names: Vec<String> = (0..samples.len()).map(|i| format!("2007_{i:06}")).collect();
    for (sample, name) in samples.iter().zip(&names) {
        std::fs::copy(&sample.path, voc.join(format!("JPEGImages/{name}.png"))).expect("a copy");
        object_numbers(sample, &voc.join(format!("SegmentationObject/{name}.png")));
        write(
            voc.join(format!("Annotations/{name}.xml")),
            xml(sample, name),
        )
        .expect("XML");
    }
    let lists = voc.join("ImageSets/Segmentation");
    write(lists.join("train.txt"), names[..5].join("\n")).expect("a list");
    write(lists.join("val.txt"), names[5..].join("\n") + "\n").expect("a list");
    let out = folder.path().join("coco");
    let found = imported(&spec(Format::Voc, &voc, &out));
    assert_eq!(found.iter().map(|s| s.images).collect::<Vec<_>>(), [5, 2]);
    assert!(
        found.iter().all(|split| split.left_out.is_empty()),
        "{found:?}"
    );
    for (split, wanted) in [("train", &samples[..5]), ("val", &samples[5..])] {
        let dataset = open(&out, split);
        assert_same(&dataset.samples, wanted, &dataset.classes.names);
    }
    assert_eq!(check(&out, None).expect("a report").errors(), 0);

    // An image without masks is left out, a broken file is reported.
    std::fs::remove_file(voc.join(format!("SegmentationObject/{}.png", names[0]))).expect("gone");
    let found = imported(&spec(Format::Voc, &voc, &folder.path().join("less")));
    assert_eq!(found[0].images, 4);
    assert_eq!(found[0].left_out.values().sum::<usize>(), 1);
    write(
        voc.join(format!("Annotations/{}.xml", names[1])),
        "<annotation><size>",
    )
    .expect("XML");
    let error = import(&spec(Format::Voc, &voc, &folder.path().join("none"))).unwrap_err();
    assert!(error.to_string().contains(&names[1]), "{error}");
}
