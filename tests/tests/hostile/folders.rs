//! Folders and files that lead to the wrong masks, never end, or take time that grows with the square of their size.

use mrcnn_core::data::import::{Format, ImportSpec, import};
use mrcnn_core::weights::load_bytes;
use std::fs::{create_dir_all, write};
use std::path::Path;
use std::time::{Duration, Instant};

fn image(path: &Path) {
    create_dir_all(path.parent().expect("a folder")).expect("a folder");
    image::GrayImage::new(30, 20).save(path).expect("an image");
}

fn spec(format: Format, source: &Path) -> ImportSpec {
    ImportSpec {
        format,
        source: source.into(),
        images: None,
        split: None,
        out: source.join("coco"),
    }
}

/// More objects than the 8 bits of VOC's masks distinguish: the 257th would get the mask of the first.
pub fn voc(folder: &Path) {
    let root = folder.join("voc");
    for part in ["JPEGImages", "SegmentationObject", "SegmentationClass"] {
        image(&root.join(part).join("a.png"));
    }
    std::fs::rename(root.join("JPEGImages/a.png"), root.join("JPEGImages/a.jpg")).expect("a name");
    create_dir_all(root.join("Annotations")).expect("a folder");
    create_dir_all(root.join("ImageSets/Segmentation")).expect("a folder");
    write(root.join("ImageSets/Segmentation/train.txt"), "a\n").expect("a list");
    let object = "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>";
    let xml = format!(
        "<annotation><filename>a.jpg</filename><size><width>30</width><height>20</height><depth>3</depth></size>{}</annotation>",
        object.repeat(257)
    );
    write(root.join("Annotations/a.xml"), xml).expect("annotations");
    let error = import(&spec(Format::Voc, &root)).expect_err("257 objects");
    let error = error.to_string();
    assert!(error.contains("distinguish 254"), "{error}");
}

/// A pipe among the images of a YOLO dataset never ends.
pub fn pipe_among_images(folder: &Path) {
    let root = folder.join("yolo");
    image(&root.join("images/train/a.png"));
    create_dir_all(root.join("labels/train")).expect("a folder");
    write(
        root.join("labels/train/a.txt"),
        "0 0.1 0.1 0.9 0.1 0.5 0.9\n",
    )
    .expect("labels");
    write(
        root.join("data.yaml"),
        "train: images/train\nnames: [cat]\n",
    )
    .expect("data.yaml");
    let made = std::process::Command::new("mkfifo")
        .arg(root.join("images/train/q.png"))
        .status();
    if made.is_ok_and(|status| status.success()) {
        match import(&spec(Format::Yolo, &root)) {
            Ok(imported) => assert_eq!(imported[0].images, 1),
            Err(error) => assert!(error.to_string().contains("not a regular file"), "{error}"),
        }
    }
}

/// As many classes as objects. A search through all classes for every object takes 40 billion steps.
pub fn classes_and_objects(folder: &Path) {
    const COUNT: usize = 200_000;
    image(&folder.join("many.png"));
    let list = |item: &dyn Fn(usize) -> String| (1..=COUNT).map(item).collect::<Vec<_>>().join(",");
    let categories = list(&|id| format!(r#"{{"id":{id},"name":"c{id}"}}"#));
    let objects = list(&|id| {
        format!(
            r#"{{"id":{id},"image_id":1,"category_id":{id},"bbox":[1,1,3,3],"segmentation":[[1,1,4,1,4,4]]}}"#
        )
    });
    let text = format!(
        r#"{{"images":[{{"id":1,"file_name":"many.png","width":30,"height":20}}],"categories":[{categories}],"annotations":[{objects}]}}"#
    );
    let path = folder.join("many.json");
    write(&path, text).expect("a file");
    let started = Instant::now();
    let report = mrcnn_core::data::check(&path, None).expect("a report");
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );
    assert!(!report.to_string().contains("has no object"), "{report}");
}

/// A bit that changed in a weights file of this crate.
pub fn flipped_bit(whole: &[u8]) {
    load_bytes(whole, Path::new("whole")).expect("a sound file");
    let header = u64::from_le_bytes(*whole.first_chunk().expect("a length")) as usize;
    for place in [
        8 + header,
        8 + header + (whole.len() - header) / 2,
        whole.len() - 1,
    ] {
        let mut damaged = whole.to_vec();
        damaged[place] ^= 1;
        let error = load_bytes(&damaged, Path::new("flipped.safetensors"));
        let error = error.expect_err("damage").to_string();
        assert!(
            error.contains("flipped.safetensors") && error.contains("checksum"),
            "{error}"
        );
    }
}
