//! The reference system's TFRecords.

use super::{assert_same, imported, open, shapes, spec};
use image::{GrayImage, Luma};
use mrcnn_core::data::Sample;
use mrcnn_core::data::import::{Format, import};
use mrcnn_core::data::shapes::CLASSES;
use mrcnn_tests::protobuf::{masked_crc, message, varint};
use std::fs::{create_dir_all, write};
use std::path::PathBuf;

enum List<'a> {
    Bytes(Vec<&'a [u8]>),
    Floats(Vec<f32>),
    Ints(Vec<u64>),
}

/// `tf.train.Example` as TensorFlow writes it: numbers are packed.
fn example(features: &[(&str, List)]) -> Vec<u8> {
    let features = features.iter().flat_map(|(key, list)| {
        let list = match list {
            List::Bytes(values) => {
                let values: Vec<u8> = values.iter().flat_map(|v| message(1, v)).collect();
                message(1, &values)
            }
            List::Floats(values) => {
                let values: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                message(2, &message(1, &values))
            }
            List::Ints(values) => {
                let values: Vec<u8> = values.iter().flat_map(|v| varint(*v)).collect();
                message(3, &message(1, &values))
            }
        };
        message(1, &[message(1, key.as_bytes()), message(2, &list)].concat())
    });
    message(1, &features.collect::<Vec<_>>())
}

/// A record: length, its checksum, the bytes, their checksum.
pub fn record(bytes: &[u8]) -> Vec<u8> {
    let masked = |bytes: &[u8]| masked_crc(bytes).to_le_bytes();
    let length = (bytes.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), bytes, &masked(bytes)].concat()
}

/// A record in the format of `create_coco_tf_record.py`.
pub fn coco_record(sample: &Sample, id: u64) -> Vec<u8> {
    let encoded = std::fs::read(&sample.path).expect("an image");
    let (width, height) = (sample.width, sample.height);
    let masks: Vec<Vec<u8>> = sample
        .instances
        .iter()
        .map(|instance| {
            let cells = instance.mask.to_row_major_raster_bytes();
            let mask = GrayImage::from_fn(width, height, |x, y| {
                Luma([cells[(y * width + x) as usize]])
            });
            let mut png = std::io::Cursor::new(Vec::new());
            mask.write_to(&mut png, image::ImageFormat::Png)
                .expect("a PNG");
            png.into_inner()
        })
        .collect();
    let corner = |axis: usize, side: u32| {
        let boxes = sample.instances.iter().map(|instance| instance.bbox[axis]);
        List::Floats(boxes.map(|v| v / side as f32).collect())
    };
    let labels = sample
        .instances
        .iter()
        .map(|i| [13, 15, 16, 90][i.label - 1]);
    let texts = sample
        .instances
        .iter()
        .map(|i| CLASSES[i.label - 1].as_bytes());
    let (id, name) = (id.to_string(), format!("../{id:012}.png"));
    example(&[
        ("image/height", List::Ints(vec![height.into()])),
        ("image/width", List::Ints(vec![width.into()])),
        ("image/filename", List::Bytes(vec![name.as_bytes()])),
        ("image/source_id", List::Bytes(vec![id.as_bytes()])),
        ("image/encoded", List::Bytes(vec![&encoded])),
        ("image/format", List::Bytes(vec![b"png"])),
        ("image/object/bbox/xmin", corner(0, width)),
        ("image/object/bbox/ymin", corner(1, height)),
        ("image/object/bbox/xmax", corner(2, width)),
        ("image/object/bbox/ymax", corner(3, height)),
        ("image/object/class/text", List::Bytes(texts.collect())),
        ("image/object/class/label", List::Ints(labels.collect())),
        (
            "image/object/is_crowd",
            List::Ints(vec![0; sample.instances.len()]),
        ),
        (
            "image/object/area",
            List::Floats(sample.instances.iter().map(|i| i.area as f32).collect()),
        ),
        (
            "image/object/mask",
            List::Bytes(masks.iter().map(Vec::as_slice).collect()),
        ),
    ])
}

#[test]
fn the_references_shards_come_back() {
    let (folder, samples) = shapes();
    let at = folder.path();
    let shards = at.join("shards");
    create_dir_all(&shards).expect("a folder");
    let files = [
        ("train-00000-of-00002.tfrecord", 0..3),
        ("train-00001-of-00002.tfrecord", 3..5),
        ("val-00000-of-00001.tfrecord", 5..7),
    ];
    for (name, range) in files {
        let records = range.map(|index| record(&coco_record(&samples[index], 139 + index as u64)));
        write(shards.join(name), records.collect::<Vec<_>>().concat()).expect("a shard");
    }
    let out = at.join("out");
    let found = imported(&spec(Format::Tfrecord, &shards, &out));
    assert_eq!(found.iter().map(|s| s.images).collect::<Vec<_>>(), [5, 2]);
    for (split, wanted) in [("train", &samples[..5]), ("val", &samples[5..])] {
        let dataset = open(&out, split);
        assert_same(&dataset.samples, wanted, &dataset.classes.names);
        // COCO's sparse ids are kept, and no name points outside the folder.
        assert!(
            dataset
                .classes
                .ids
                .iter()
                .all(|id| [13, 15, 16, 90].contains(id))
        );
        assert!(dataset.samples[0].path.starts_with(out.join(split)));
    }
    assert_eq!(open(&out, "train").samples[0].image_id, 139);

    // A flipped bit, a truncated file, and a file with other contents are reported.
    let file = shards.join("train-00000-of-00002.tfrecord");
    let whole = std::fs::read(&file).expect("a shard");
    let fault = |bytes: &[u8]| {
        write(&file, bytes).expect("a shard");
        let to: PathBuf = tempfile::tempdir_in(at).expect("a folder").keep();
        import(&spec(Format::Tfrecord, &shards, &to))
            .unwrap_err()
            .to_string()
    };
    let mut turned = whole.clone();
    turned[whole.len() / 2] ^= 4;
    assert!(fault(&turned).contains("checksum"));
    let short = fault(&whole[..whole.len() - 9]);
    assert!(
        short.contains("record 3") && short.contains("ends within it"),
        "{short}"
    );
    let mut long = whole.clone();
    long[6] = 9;
    assert!(fault(&long).contains("record 1"));
    assert!(fault(&record(&example(&[]))).contains("no image/encoded"));
    assert!(fault(&record(b"\xff\xff\xff")).contains("record 1"));
}
