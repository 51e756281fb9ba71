//! Data sets of other formats, written here and read back.

use image::{GrayImage, Luma};
use mrcnn_core::data::import::{Format, ImportSpec, Imported, import};
use mrcnn_core::data::shapes::{CLASSES, ShapesSpec, render};
use mrcnn_core::data::{Dataset, OnProblem, Sample, check};
use std::fs::{create_dir_all, write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use vernier_mask::Rle;

/// Rendered shapes: the objects of a picture do not overlap.
fn shapes() -> (TempDir, Vec<Sample>) {
    let folder = tempfile::tempdir().expect("a folder");
    let spec = ShapesSpec {
        train: 5,
        val: 2,
        size_min: 64,
        size_max: 128,
        ..ShapesSpec::default()
    };
    render(&folder.path().join("shapes"), &spec).expect("pictures");
    let samples = ["train", "val"].map(|split| open(&folder.path().join("shapes"), split).samples);
    (folder, samples.concat())
}

fn open(folder: &Path, split: &str) -> Dataset {
    let opened = Dataset::open(folder, split, OnProblem::Refuse);
    opened.unwrap_or_else(|error| panic!("{error}")).0
}

fn spec(format: Format, source: &Path, out: &Path) -> ImportSpec {
    ImportSpec {
        format,
        source: source.into(),
        images: None,
        split: None,
        out: out.into(),
    }
}

fn imported(spec: &ImportSpec) -> Vec<Imported> {
    import(spec).unwrap_or_else(|error| panic!("{error}"))
}

/// Holds what was read back to what was written: pictures by name, objects in order.
fn assert_same(found: &[Sample], wanted: &[Sample], names: &[String]) {
    assert_eq!(found.len(), wanted.len());
    for (index, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let [a, b] = [found, wanted].map(|sample| image::open(&sample.path).expect("a picture"));
        assert!(a.to_rgb8() == b.to_rgb8(), "picture {index} is another");
        assert_eq!(
            found.instances.len(),
            wanted.instances.len(),
            "picture {index}"
        );
        for (found, wanted) in found.instances.iter().zip(&wanted.instances) {
            assert_eq!(found.mask, wanted.mask, "picture {index}");
            assert_eq!(names[found.label - 1], CLASSES[wanted.label - 1]);
            for (found, wanted) in found.bbox.iter().zip(wanted.bbox) {
                // Boxes in parts of a picture are f32 there.
                assert!((found - wanted).abs() < 1e-3, "{found}, not {wanted}");
            }
            assert_eq!(found.crowd, wanted.crowd);
        }
    }
}

/// The file of objects by number, 255 around the first one as VOC has borders.
fn object_numbers(sample: &Sample, path: &Path) {
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
    // A palette in which two objects look alike: the index counts, not the colour.
    encoder.set_palette([7u8; 768].to_vec());
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(&numbers).expect("pixels");
}

fn voc_xml(sample: &Sample, name: &str) -> String {
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
            voc_xml(sample, name),
        )
        .expect("XML");
    }
    let lists = voc.join("ImageSets/Segmentation");
    write(lists.join("train.txt"), names[..5].join("\n")).expect("a list");
    write(lists.join("val.txt"), names[5..].join("\n") + "\n").expect("a list");
    let out = folder.path().join("coco");
    let found = imported(&spec(Format::Voc, &voc, &out));
    assert_eq!(found.iter().map(|s| s.pictures).collect::<Vec<_>>(), [5, 2]);
    assert!(
        found.iter().all(|split| split.left_out.is_empty()),
        "{found:?}"
    );
    for (split, wanted) in [("train", &samples[..5]), ("val", &samples[5..])] {
        let dataset = open(&out, split);
        assert_same(&dataset.samples, wanted, &dataset.classes.names);
    }
    assert_eq!(check(&out).expect("a report").errors(), 0);

    // A picture without masks is left out, a broken file is named.
    std::fs::remove_file(voc.join(format!("SegmentationObject/{}.png", names[0]))).expect("gone");
    let found = imported(&spec(Format::Voc, &voc, &folder.path().join("less")));
    assert_eq!(found[0].pictures, 4);
    assert_eq!(found[0].left_out.values().sum::<usize>(), 1);
    write(
        voc.join(format!("Annotations/{}.xml", names[1])),
        "<annotation><size>",
    )
    .expect("XML");
    let error = import(&spec(Format::Voc, &voc, &folder.path().join("none"))).unwrap_err();
    assert!(error.to_string().contains(&names[1]), "{error}");
}

/// Writes labels of two pictures; a hexagon, a triangle that leaves the picture, and a box.
fn yolo(root: &Path, yaml: &str) {
    for part in ["images/train", "labels/train"] {
        create_dir_all(root.join(part)).expect("a folder");
    }
    for name in ["a", "b", "c"] {
        let picture = image::RgbImage::new(80, 60);
        picture
            .save(root.join(format!("images/train/{name}.png")))
            .expect("a picture");
    }
    let lines = "1 0.25 0.1 0.5 0.1 0.6 0.4 0.5 0.8 0.25 0.8 0.1 0.4\n\n0 0.5 0.5 0.2 0.2\n";
    write(root.join("labels/train/a.txt"), lines).expect("labels");
    write(
        root.join("labels/train/b.txt"),
        "0 0.75 0.5 1.05 0.5 0.75 0.9\n",
    )
    .expect("labels");
    write(root.join("data.yaml"), yaml).expect("data.yaml");
}

#[test]
fn yolo_polygons_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let spellings = [
        "path: /nowhere\ntrain: images/train\nnames:\n  0: cat\n  1: 'dog: big'\n",
        "train: ../images/train\nnc: 2\nnames: [cat, 'dog: big']\n",
        "train: [images/train]\nnames:\n- cat\n- 'dog: big'\n",
    ];
    for (number, yaml) in spellings.iter().enumerate() {
        let root = folder.path().join(format!("yolo{number}"));
        let out = folder.path().join(format!("coco{number}"));
        yolo(&root, yaml);
        let found = imported(&spec(Format::Yolo, &root, &out));
        assert_eq!((found[0].pictures, found[0].objects), (3, 2), "{yaml}");
        assert_eq!(found[0].left_out["box without a polygon"], 1);
        let dataset = open(&out, "train");
        assert_eq!(dataset.classes.names, ["cat", "dog: big"]);
        let [a, b, c] = &dataset.samples[..] else {
            panic!("three pictures");
        };
        let hexagon = [
            20.0, 6.0, 40.0, 6.0, 48.0, 24.0, 40.0, 48.0, 20.0, 48.0, 8.0, 24.0,
        ];
        let triangle = [60.0, 30.0, 80.0, 30.0, 60.0, 54.0];
        for (sample, label, points) in [(a, 2, &hexagon[..]), (b, 1, &triangle)] {
            let wanted = Rle::from_polygon(points, 60, 80).expect("a polygon");
            assert_eq!(sample.instances[0].mask, wanted);
            assert_eq!(sample.instances[0].label, label);
        }
        assert_eq!(a.instances[0].bbox, [8.0, 6.0, 48.0, 48.0]);
        assert!(
            c.instances.is_empty(),
            "a picture without a file has no objects"
        );
        assert_eq!(check(&out).expect("a report").errors(), 0);
    }
    // What is wrong is named with its line.
    let root = folder.path().join("yolo0");
    for (line, wanted) in [
        ("2 0 0 1 0 1 1", "class `2`"),
        ("0 0 0 1 0 1", "5 coordinates"),
        ("0 0 0 1 0 80 1", "`80` is not a part"),
        ("0 0 0 x 0 1 1", "`x` is not a part"),
    ] {
        write(root.join("labels/train/b.txt"), format!("\n{line}\n")).expect("labels");
        let out = folder.path().join("broken");
        let error = import(&spec(Format::Yolo, &root, &out))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("b.txt, line 2") && error.contains(wanted),
            "{error}"
        );
    }
}

#[test]
fn lvis_finds_cocos_pictures() {
    let (folder, samples) = shapes();
    let at = folder.path();
    create_dir_all(at.join("coco/val2017")).expect("a folder");
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for (index, sample) in samples.iter().enumerate() {
        let id = 1000 + index;
        let name = format!("val2017/{id:012}.png");
        std::fs::copy(&sample.path, at.join("coco").join(&name)).expect("a copy");
        images.push(serde_json::json!({
            "id": id, "width": sample.width, "height": sample.height,
            "coco_url": format!("http://images.cocodataset.org/{name}"),
            "neg_category_ids": [1], "not_exhaustive_category_ids": []
        }));
        for instance in &sample.instances {
            let [x, y, w, h] = instance.mask.bbox();
            let counts = instance.mask.to_string_bytes();
            annotations.push(serde_json::json!({
                "id": annotations.len() + 1, "image_id": id, "category_id": 10 * instance.label,
                "bbox": [x, y, w, h], "area": instance.area,
                "segmentation": {
                    "size": [sample.height, sample.width],
                    "counts": String::from_utf8(counts).expect("ASCII")
                }
            }));
        }
    }
    images.push(
        serde_json::json!({"id": 5, "width": 9, "height": 9, "coco_url": "http://x/y/z.jpg"}),
    );
    let categories: Vec<_> = (1..)
        .zip(CLASSES)
        .map(|(id, name)| serde_json::json!({"id": 10 * id, "name": name, "frequency": "f"}))
        .collect();
    let text = serde_json::json!({
        "images": images, "annotations": annotations, "categories": categories
    });
    let json = at.join("lvis_v1_val.json");
    write(&json, text.to_string()).expect("JSON");
    let spec = ImportSpec {
        images: Some(at.join("coco")),
        ..spec(Format::Lvis, &json, &at.join("out"))
    };
    let found = imported(&spec);
    assert_eq!(
        (found[0].split.as_str(), found[0].pictures),
        ("val", samples.len())
    );
    assert_eq!(
        found[0].left_out.values().sum::<usize>(),
        1,
        "the picture that is not there"
    );
    let dataset = open(&at.join("out"), "val");
    assert_eq!(dataset.samples[0].image_id, 1000);
    assert_same(&dataset.samples, &samples, &dataset.classes.names);
}

/// Protocol buffers by hand: a field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 128 {
        out.push(length as u8 | 128);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(bytes);
    out
}

enum List<'a> {
    Bytes(Vec<&'a [u8]>),
    Floats(Vec<f32>),
    Ints(Vec<u64>),
}

/// `tf.train.Example` as TensorFlow writes it: numbers are packed.
fn example(features: &[(&str, List)]) -> Vec<u8> {
    let features = features.iter().flat_map(|(key, list)| {
        let list = match list {
            List::Bytes(values) => field(
                1,
                &values.iter().flat_map(|v| field(1, v)).collect::<Vec<_>>(),
            ),
            List::Floats(values) => field(
                2,
                &field(
                    1,
                    &values
                        .iter()
                        .flat_map(|v| v.to_le_bytes())
                        .collect::<Vec<_>>(),
                ),
            ),
            List::Ints(values) => {
                let varint = |mut value: u64| {
                    let mut bytes = Vec::new();
                    while value >= 128 {
                        bytes.push(value as u8 | 128);
                        value >>= 7;
                    }
                    bytes.push(value as u8);
                    bytes
                };
                field(
                    3,
                    &field(
                        1,
                        &values.iter().flat_map(|v| varint(*v)).collect::<Vec<_>>(),
                    ),
                )
            }
        };
        field(1, &[field(1, key.as_bytes()), field(2, &list)].concat())
    });
    field(1, &features.collect::<Vec<_>>())
}

/// A record: length, its checksum, the bytes, theirs.
fn record(bytes: &[u8]) -> Vec<u8> {
    let masked = |bytes: &[u8]| {
        let crc = crc32c::crc32c(bytes);
        (crc.rotate_right(15).wrapping_add(0xa282_ead8)).to_le_bytes()
    };
    let length = (bytes.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), bytes, &masked(bytes)].concat()
}

/// A picture as `create_coco_tf_record.py` writes it.
fn coco_record(sample: &Sample, id: u64) -> Vec<u8> {
    let encoded = std::fs::read(&sample.path).expect("a picture");
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
    assert_eq!(found.iter().map(|s| s.pictures).collect::<Vec<_>>(), [5, 2]);
    for (split, wanted) in [("train", &samples[..5]), ("val", &samples[5..])] {
        let dataset = open(&out, split);
        assert_same(&dataset.samples, wanted, &dataset.classes.names);
        // COCO's sparse ids stay, and no name leaves the folder.
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

    // A bit that turned, a file that ends early, and one of something else are named.
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

/// Bytes turned, cut and doubled at random: an error or a data set, never a panic.
#[test]
fn damaged_sources_do_not_panic() {
    use mrcnn_core::random::Stream;
    let (folder, samples) = shapes();
    let at = folder.path();
    let record = record(&coco_record(&samples[0], 1));
    create_dir_all(at.join("shards")).expect("a folder");
    yolo(
        &at.join("yolo"),
        "train: images/train\nnames: {0: cat, 1: dog}\n",
    );
    let voc = at.join("voc");
    for part in ["Annotations", "JPEGImages", "SegmentationObject"] {
        create_dir_all(voc.join(part)).expect("a folder");
    }
    std::fs::copy(&samples[0].path, voc.join("JPEGImages/a.png")).expect("a copy");
    object_numbers(&samples[0], &voc.join("SegmentationObject/a.png"));
    write(voc.join("Annotations/a.xml"), voc_xml(&samples[0], "a")).expect("XML");
    let sources = [
        (Format::Tfrecord, "shards", "shards/train-0-of-1.tfrecord"),
        (Format::Yolo, "yolo", "yolo/data.yaml"),
        (Format::Yolo, "yolo", "yolo/labels/train/a.txt"),
        (Format::Voc, "voc", "voc/Annotations/a.xml"),
        (Format::Voc, "voc", "voc/SegmentationObject/a.png"),
    ];
    write(at.join("shards/train-0-of-1.tfrecord"), &record).expect("a shard");
    let mut refused = [0; 5];
    for (number, (format, source, file)) in sources.into_iter().enumerate() {
        let whole = std::fs::read(at.join(file)).expect("a file");
        for attempt in 0..60 {
            let stream = Stream::named(file, attempt);
            let place = (stream.bits(0) % whole.len() as u64) as usize;
            let mut bytes = whole.clone();
            match attempt % 3 {
                0 => bytes[place] = stream.bits(1) as u8,
                1 => bytes.truncate(place),
                _ => bytes.extend_from_within(place..),
            }
            write(at.join(file), bytes).expect("a file");
            let out = at.join(format!("out-{number}-{attempt}"));
            match import(&spec(format, &at.join(source), &out)) {
                Ok(_) => drop(Dataset::open(&out, "train", OnProblem::Skip)),
                Err(error) => {
                    refused[number] += 1;
                    assert_eq!(error.to_string().lines().count(), 1, "{error}");
                }
            }
        }
        write(at.join(file), whole).expect("a file");
    }
    println!("of 60 each, refused: {refused:?}");
    assert!(refused.iter().all(|count| *count >= 5), "{refused:?}");
}
