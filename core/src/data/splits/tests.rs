use super::*;

fn folder(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "{}").unwrap();
    }
    folder
}

#[test]
fn a_split_is_found_by_either_name_and_none_by_chance() {
    let at = folder(&[
        "annotations/instances_train2014.json",
        "annotations/instances_train2017.json",
        "annotations/instances_val2017.json",
        "annotations/annotations.json",
        "train2014/a.jpg",
        "train2017/a.jpg",
        "val2017/a.jpg",
    ]);
    let found = |name| find_split(at.path(), name).map(|split| split.images);
    for whole in ["train2014", "train2017", "val2017"] {
        assert_eq!(found(whole).unwrap(), at.path().join(whole));
    }
    assert_eq!(found("val").unwrap(), at.path().join("val2017"));
    let message = found("train").unwrap_err().to_string();
    assert!(
        message.contains("train2014") && message.contains("train2017"),
        "{message}"
    );
    // The file serves as every split; its images are not beside it.
    assert_eq!(found("test").unwrap(), at.path());
    assert_eq!(found("VAL").unwrap(), at.path().join("val2017"));
}

#[test]
fn roboflow_and_single_files_are_found() {
    let at = folder(&[
        "valid/_annotations.coco.json",
        "train/_annotations.coco.json",
    ]);
    assert_eq!(
        find_split(at.path(), "val").unwrap().images,
        at.path().join("valid")
    );
    let at = folder(&["annotations.json", "images/a.jpg"]);
    assert_eq!(
        find_split(at.path(), "val").unwrap().images,
        at.path().join("images")
    );
}

#[test]
fn layouts_of_annotation_tools_are_found() {
    let cases: [(&[&str], &str, &str, &str); 10] = [
        // CVAT: without a subset, and with subsets.
        (
            &["annotations/instances_default.json", "images/a.png"],
            "train",
            "annotations/instances_default.json",
            "images",
        ),
        (
            &["annotations/instances_default.json", "images/default/a.png"],
            "val",
            "annotations/instances_default.json",
            "images/default",
        ),
        (
            &["annotations/instances_Train.json", "images/Train/a.png"],
            "train",
            "annotations/instances_Train.json",
            "images/Train",
        ),
        // Label Studio, and Roboflow without splits.
        (
            &["result.json", "images/a.png"],
            "train",
            "result.json",
            "images",
        ),
        (
            &["_annotations.coco.json", "a.png"],
            "train",
            "_annotations.coco.json",
            "",
        ),
        // A folder per split, with its own annotations.
        (
            &["Train/annotations.json", "Train/images/a.png"],
            "train",
            "Train/annotations.json",
            "Train/images",
        ),
        (
            &["validation/annotations.json"],
            "val",
            "validation/annotations.json",
            "validation",
        ),
        // Supervisely: a project of datasets, and one of them.
        (
            &["val/annotations/instances.json", "val/images/a.png"],
            "val",
            "val/annotations/instances.json",
            "val/images",
        ),
        (
            &["annotations/instances.json", "images/a.png"],
            "train",
            "annotations/instances.json",
            "images",
        ),
        // The only JSON file.
        (
            &["labels.json", "images/a.png", "._labels.json"],
            "train",
            "labels.json",
            "images",
        ),
    ];
    for (files, name, annotations, images) in cases {
        let at = folder(files);
        let split = find_split(at.path(), name).unwrap();
        assert_eq!(split.annotations, at.path().join(annotations), "{files:?}");
        assert_eq!(split.images, at.path().join(images), "{files:?}");
    }
}

#[test]
fn a_file_is_a_dataset_and_other_splits_are_listed() {
    let at = folder(&["a/instances_train.json", "images/x.png", "pixels/x.png"]);
    let file = at.path().join("a/instances_train.json");
    let split = find_split(&file, "val").unwrap();
    assert!(split.is_whole() && split.annotations == file);
    let pixels = at.path().join("pixels");
    assert_eq!(
        find_split_in(&file, Some(&pixels), "train").unwrap().images,
        pixels
    );
    let at = folder(&[
        "annotations/instances_train.json",
        "annotations/instances_extra.json",
    ]);
    let error = find_split(at.path(), "val").unwrap_err().to_string();
    assert!(error.contains("`extra`, `train`"), "{error}");
    let at = folder(&["one.json", "two.json"]);
    let error = find_split(at.path(), "val").unwrap_err().to_string();
    assert!(
        error.contains("one.json") && error.contains("two.json"),
        "{error}"
    );
}
