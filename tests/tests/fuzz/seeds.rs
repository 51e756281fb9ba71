//! Initial files for the mutations, written by the crate itself.

use image::{ImageFormat, Rgb, RgbImage};
use mrcnn_tests::protobuf::{masked_crc, message};
use mrcnn_tests::torch_file::{Named, arrays, legacy, zipped};
use std::io::Cursor;

pub fn images() -> Vec<Vec<u8>> {
    let image = RgbImage::from_fn(13, 9, |x, y| Rgb([x as u8 * 19, y as u8 * 28, 7]));
    let formats = [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::Bmp,
        ImageFormat::WebP,
    ];
    let written = formats.map(|format| {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).expect("memory");
        bytes.into_inner()
    });
    written.to_vec()
}

pub fn safetensors() -> Vec<Vec<u8>> {
    vec![mrcnn_tests::small_weights()]
}

fn tensors() -> Vec<Named> {
    vec![
        (
            "backbone.body.conv1.weight".into(),
            vec![2, 3],
            vec![1.0; 6],
        ),
        ("b".into(), vec![3], vec![2.0; 3]),
    ]
}

pub fn pickles() -> Vec<Vec<u8>> {
    vec![arrays(&tensors())]
}

pub fn torch_zip() -> Vec<Vec<u8>> {
    vec![zipped(&tensors())]
}

pub fn torch_legacy() -> Vec<Vec<u8>> {
    vec![legacy(&tensors())]
}

pub fn tables() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    let prefix = folder.path().join("model.ckpt");
    mrcnn_tests::tensorflow_file::write(&prefix, &tensors());
    vec![std::fs::read(folder.path().join("model.ckpt.index")).expect("an index")]
}

pub fn records() -> Vec<Vec<u8>> {
    let list = message(3, &message(1, &[5, 7]));
    let entry = [message(1, b"image/width"), message(2, &list)].concat();
    let example = message(1, &message(1, &entry));
    let length = (example.len() as u64).to_le_bytes();
    let parts: [&[u8]; 4] = [
        &length,
        &masked_crc(&length).to_le_bytes(),
        &example,
        &masked_crc(&example).to_le_bytes(),
    ];
    vec![parts.concat()]
}

pub fn yaml() -> Vec<Vec<u8>> {
    let text: &[&str] = &[
        "path: .\ntrain: images/train\nval: [a, b]\nnames: {0: cat, 1: dog}\n",
        "train: a\nnames:\n  - cat\n  - 'no'\n",
    ];
    text.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub fn labels() -> Vec<Vec<u8>> {
    vec![b"0 0.1 0.1 0.9 0.1 0.5 0.9\n1 0.5 0.5 0.2 0.2\n".to_vec()]
}

pub fn masks() -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 8, 4);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_palette(vec![9; 256 * 3]);
    let mut writer = encoder.write_header().expect("memory");
    let pixels: Vec<u8> = (0..32).map(|i| [0, 1, 2, 255][i / 8]).collect();
    writer.write_image_data(&pixels).expect("memory");
    writer.finish().expect("memory");
    vec![bytes]
}

pub fn configs() -> Vec<Vec<u8>> {
    mrcnn_core::config::PRESETS
        .iter()
        .map(|(_, text)| text.as_bytes().to_vec())
        .collect()
}

pub fn progress() -> Vec<Vec<u8>> {
    let text = r#"{"version":"0.1.0","step":6,"optimizer_steps":6,"seed":0,"epoch":1,"index":2,"best":0.5,"stale":1,"metrics_bytes":1234}"#;
    vec![text.as_bytes().to_vec()]
}
