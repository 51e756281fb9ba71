//! Seeds: annotation and results files.

use mrcnn_core::Rle;

/// A mask of an image of 40x30 pixels: a square, or two triangles.
fn masks() -> [Rle; 2] {
    let square = vec![4.0, 3.0, 24.0, 3.0, 24.0, 20.0, 4.0, 20.0];
    let triangles = vec![
        vec![2.0, 2.0, 30.0, 2.0, 2.0, 25.0],
        vec![38.5, 28.5, 20.5, 28.5, 38.5, 10.0],
    ];
    [vec![square], triangles].map(|polygons| Rle::from_polygons(&polygons, 30, 40).expect("a mask"))
}

fn counts(mask: &Rle) -> String {
    String::from_utf8(mask.to_string_bytes()).expect("ASCII")
}

/// Annotations of images 1 and 2: polygons, compressed and uncompressed run lengths, a crowd.
fn objects() -> Vec<serde_json::Value> {
    let [square, triangles] = masks();
    let bbox = |mask: &Rle| mask.bbox();
    vec![
        serde_json::json!({"id": 1, "image_id": 1, "category_id": 3, "bbox": [4, 3, 20, 17], "area": 340, "iscrowd": 0,
            "segmentation": [[4, 3, 24, 3, 24, 20, 4, 20]]}),
        serde_json::json!({"id": 2, "image_id": 1, "category_id": 7, "bbox": bbox(&triangles), "iscrowd": 1,
            "area": triangles.area(), "segmentation": {"size": [30, 40], "counts": counts(&triangles)}}),
        serde_json::json!({"id": 3, "image_id": 2, "category_id": 3, "bbox": bbox(&square), "area": square.area(),
            "segmentation": {"size": [30, 40], "counts": square.counts.to_vec()}}),
    ]
}

fn file(images: serde_json::Value) -> Vec<u8> {
    let categories = serde_json::json!([{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]);
    let value =
        serde_json::json!({"images": images, "annotations": objects(), "categories": categories});
    value.to_string().into_bytes()
}

/// COCO files whose images exist.
pub fn coco() -> Vec<Vec<u8>> {
    let image =
        |id: u64, name| serde_json::json!({"id": id, "file_name": name, "width": 40, "height": 30});
    let compact = file(serde_json::json!([
        image(1, "nuclei.toml"),
        image(2, "quickstart.toml")
    ]));
    // With a byte order mark and spaces, as some tools write.
    let text = String::from_utf8(compact.clone()).expect("ASCII");
    let spaced = text
        .replace(',', " ,\n")
        .replace("\"id\":1", "\"id\":\"1\"");
    vec![compact, ["\u{feff}", &spaced].concat().into_bytes()]
}

pub fn lvis() -> Vec<Vec<u8>> {
    let url = |id| format!("http://images.cocodataset.org/val2017/{id:012}.jpg");
    let image =
        |id: u64| serde_json::json!({"id": id, "coco_url": url(id), "width": 40, "height": 30});
    vec![file(serde_json::json!([image(1), image(2)]))]
}

pub fn annotations() -> Vec<Vec<u8>> {
    let objects = objects().into_iter();
    let of_one_image = objects.map(|mut object| {
        object["image_id"] = 1.into();
        object.to_string().into_bytes()
    });
    of_one_image.collect()
}

/// A COCO file and its results, with the file names of the images or only with their ids.
pub fn results() -> Vec<Vec<u8>> {
    let [square, triangles] = masks();
    let result = |image: u64, category: u64, mask: &Rle, score: f64| {
        serde_json::json!({"image_id": image, "category_id": category, "bbox": mask.bbox(), "score": score,
            "segmentation": {"size": [30, 40], "counts": counts(mask)}})
    };
    let both = vec![
        result(1, 3, &square, 0.9),
        result(1, 7, &triangles, 0.5),
        result(2, 3, &triangles, 0.25),
    ];
    let mut named = both.clone();
    for (result, name) in named
        .iter_mut()
        .zip(["nuclei.toml", "nuclei.toml", "quickstart.toml"])
    {
        result["file_name"] = name.into();
    }
    let mut boxes = both.clone();
    for result in &mut boxes {
        result
            .as_object_mut()
            .expect("an object")
            .remove("segmentation");
    }
    let gt = coco().swap_remove(0);
    let with = |results: Vec<serde_json::Value>| {
        let results = serde_json::Value::from(results).to_string();
        [&gt, &b"\0"[..], results.as_bytes()].concat()
    };
    vec![with(both), with(named), with(boxes)]
}

/// Masks without their JSON: kind, height minus 1 and width minus 1, and then counts or coordinates.
pub fn rle() -> Vec<Vec<u8>> {
    let [square, triangles] = masks();
    let runs = triangles.counts.iter().flat_map(|run| run.to_le_bytes());
    let numbers = [
        4.0f32,
        3.0,
        24.0,
        3.0,
        24.0,
        20.0,
        f32::NAN,
        2.0,
        2.0,
        30.0,
        2.0,
        2.0,
        25.0,
    ];
    let polygons = numbers.iter().flat_map(|number| number.to_le_bytes());
    vec![
        [&[0, 29, 39], &square.to_string_bytes()[..]].concat(),
        [1, 29, 39].into_iter().chain(runs).collect(),
        [2, 29, 39].into_iter().chain(polygons).collect(),
    ]
}
