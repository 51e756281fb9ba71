//! Images above the usual limit, which `predict` reads, and images above the limit of `predict`.

use image::GrayImage;
use mrcnn_core::config::Depth;
use mrcnn_core::image::decode::{decode_large, decode_large_bytes, decode_with};
use std::path::Path;

#[test]
fn images_of_up_to_250_megapixels_are_read_for_prediction_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("scene.png");
    GrayImage::new(11_000, 9_100).save(&path).expect("an image");
    let decoded = decode_large(&path, Depth::Full).expect("an image");
    assert_eq!(decoded.image.dimensions(), (11_000, 9_100));
    drop(decoded);
    let error = decode_with(&path, Depth::Full)
        .expect_err("a refusal")
        .to_string();
    assert!(
        error.contains("11000x9100 pixels; 1 to 100 megapixels are read"),
        "{error}"
    );
    // The same file with a larger size in its header.
    let mut bytes = std::fs::read(&path).expect("the file");
    bytes[16..20].copy_from_slice(&30_000u32.to_be_bytes());
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    let error = decode_large_bytes(&bytes, Path::new("scene.png"), Depth::Full);
    let error = error.expect_err("a refusal").to_string();
    assert!(
        error.contains("30000x9100 pixels; 1 to 250 megapixels are read"),
        "{error}"
    );
}

/// The checksum of a chunk of a PNG.
fn crc32(bytes: &[u8]) -> u32 {
    let of_byte = |crc: u32, &byte: &u8| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| match crc & 1 {
            1 => crc >> 1 ^ 0xEDB8_8320,
            _ => crc >> 1,
        })
    };
    !bytes.iter().fold(u32::MAX, of_byte)
}
