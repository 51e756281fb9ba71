//! `mrcnn-cli dataset convert`.

use crate::terminal::out;
use anyhow::Result;
use clap::{Args, ValueEnum};
use mrcnn_core::data::import::{Format, ImportSpec, import};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DatasetConvertArgs {
    /// Format of SOURCE
    #[arg(long, value_enum, default_value = "auto")]
    from: From,
    /// cvat: annotations.xml. labelme: the folder with the JSON files. via: the JSON file. lvis: the JSON file.
    /// voc: the folder with Annotations, JPEGImages, SegmentationObject. yolo: the folder with data.yaml.
    /// tfrecord: the folder with the shards
    source: PathBuf,
    /// Folder of the images if they are not beside SOURCE; for lvis, COCO's (train2017/, val2017/)
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Read only this split; for cvat, labelme, via (default: train) and lvis (default: from the file name), its name
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// Output folder in COCO's layout: OUT/SPLIT/ and OUT/annotations/instances_SPLIT.json
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// Detected from the contents
    Auto,
    /// CVAT for images 1.1 (XML)
    Cvat,
    /// A JSON file per image
    Labelme,
    /// VGG Image Annotator's JSON
    Via,
    /// COCO JSON with images identified by coco_url
    Lvis,
    /// Pascal VOC with object masks
    Voc,
    /// Text files of polygons
    Yolo,
    /// Shards of the reference system (create_coco_tf_record.py)
    Tfrecord,
}

const EXAMPLES: &str = "\
Examples:
  mrcnn-cli dataset convert labelme_folder --out my_coco
  mrcnn-cli dataset convert via_project.json --images photos --out my_coco
  mrcnn-cli dataset convert --from cvat annotations.xml --images photos --out my_coco
  mrcnn-cli dataset convert --from voc VOCdevkit/VOC2012 --out voc_coco
  mrcnn-cli dataset convert --from yolo my_yolo --out my_coco
  mrcnn-cli dataset convert --from lvis lvis_v1_train.json --images coco --out lvis_coco
  mrcnn-cli dataset convert --from tfrecord /data/tfrecords --out coco

Images become hard links if OUT is on the same file system, and copies otherwise. Boxes without a mask are left out
and counted.";

pub fn run(args: &DatasetConvertArgs) -> Result<()> {
    let spec = ImportSpec {
        format: match args.from {
            From::Auto => Format::Auto,
            From::Cvat => Format::Cvat,
            From::Labelme => Format::Labelme,
            From::Via => Format::Via,
            From::Lvis => Format::Lvis,
            From::Voc => Format::Voc,
            From::Yolo => Format::Yolo,
            From::Tfrecord => Format::Tfrecord,
        },
        source: args.source.clone(),
        images: args.images.clone(),
        split: args.split.clone(),
        out: args.out.clone(),
    };
    for split in import(&spec)? {
        out!(
            "{}: {} images, {} objects",
            split.split,
            split.images,
            split.objects
        );
        for (reason, count) in &split.left_out {
            out!("  left out: {count} x {reason}");
        }
        for note in &split.notes {
            out!("  note: {note}");
        }
    }
    let out = args.out.display();
    out!("check it: mrcnn-cli dataset check {out}");
    Ok(())
}
