//! `predict` on real photos with a full-size model.

use crate::cli_ok;
use burn::tensor::Device;
use mrcnn_core::Config;
use mrcnn_core::data::Classes;
use mrcnn_core::weights::save;
use mrcnn_tests::recipe;

#[test]
fn photos_at_r50_fpn_full_size() {
    let Some(data) = mrcnn_tests::shared_data("coco_ccby") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let config = Config {
        model: recipe::r50_config(0.0),
        ..Config::default()
    };
    let model = recipe::model(&config.model, 1, &Device::flex());
    let names = (1..=90).map(|id| format!("category {id}")).collect();
    let classes = Classes {
        names,
        ids: (1..=90).collect(),
    };
    let weights = at.join("recipe.safetensors");
    save(&weights, &model, &config, &classes, None).expect("weights");

    let mut photos: Vec<String> = std::fs::read_dir(data.join("images"))
        .expect("photos")
        .filter_map(|entry| Some(entry.ok()?.path().display().to_string()))
        .collect();
    photos.sort();
    // Two photos; all of them with MRCNN_ALL_PHOTOS=1, which takes minutes on a CPU.
    if std::env::var_os("MRCNN_ALL_PHOTOS").is_none() {
        photos.truncate(2);
    }
    let weights = weights.display().to_string();
    let mut args = vec![
        "predict",
        "--backend=cpu",
        "--weights",
        &weights,
        "--score=0.05",
    ];
    args.extend(photos.iter().map(String::as_str));
    let table = cli_ok(at, &args);
    println!("{table}");
    assert!(
        table.contains("category"),
        "recipe weights find something: {table}"
    );
    let overlays = std::fs::read_dir(at.join("runs/predict"))
        .expect("a folder")
        .count();
    // With detections.json and images.json.
    assert_eq!(overlays, photos.len() + 2);
}
