//! Rendered images with the size of COCO images.

use crate::boxes::Bbox;
use crate::config::{Fit, ImageConfig};
use crate::data::shapes::{Scene, ShapesSpec, scene, scene_of_size};
use crate::data::{Classes, Dataset, Instance, Sample};
use crate::image::transform::padded_size;
use crate::random::Stream;
use ::image::RgbImage;
use std::path::PathBuf;

/// Longer side of an image of COCO.
const LONGER_SIDE: u32 = 640;

/// Largest number of objects per image.
const MAX_OBJECTS: usize = 12;

/// Renders `count` images with sides of 480 to 640 px and up to 12 objects of `classes` classes, with their ground
/// truth. The result is the same at every call.
pub fn synthetic_images(count: usize, classes: usize) -> (Vec<RgbImage>, Dataset) {
    let spec = ShapesSpec {
        size_min: 480,
        size_max: LONGER_SIDE,
        max_objects: MAX_OBJECTS,
        ..ShapesSpec::default()
    };
    let scenes = (0..count as u64).map(|index| scene("benchmark", index, &spec));
    dataset(scenes, classes)
}

/// As [`synthetic_images`], with a longer side of 640 px, and an aspect ratio with which images are resized to the
/// largest padded size of `config`.
pub(super) fn render_largest(
    count: usize,
    classes: usize,
    config: &ImageConfig,
) -> (Vec<RgbImage>, Dataset) {
    let (height, width) = largest_shape(config);
    let stream = Stream::named("benchmark", 0);
    let scenes = (0..count as u64)
        .map(|index| scene_of_size(stream.fork(index), width, height, MAX_OBJECTS));
    dataset(scenes, classes)
}

/// Height and width, of which the longer is 640, that are resized to the largest padded size of `config`.
fn largest_shape(config: &ImageConfig) -> (u32, u32) {
    // Limits the aspect ratio to 20: configurations with a larger one get images below their largest size.
    const SHORTEST_SIDE: u32 = 32;
    let (rows, columns) = match config.fit {
        Fit::ShorterSide => (config.min_size.min(config.max_size), config.max_size),
        Fit::Box => (config.min_size, config.max_size),
    };
    let shorter = LONGER_SIDE as f64 * rows.min(columns) as f64 / rows.max(columns).max(1) as f64;
    // Rounding the shorter side can make the padded side one `size_divisor` smaller, so both roundings are tried.
    let shapes = [shorter.floor(), shorter.ceil()].map(|shorter| {
        let shorter = (shorter as u32).clamp(SHORTEST_SIDE, LONGER_SIDE);
        match rows > columns {
            true => (LONGER_SIDE, shorter),
            false => (shorter, LONGER_SIDE),
        }
    });
    let padded_pixels = |&(height, width): &(u32, u32)| {
        let resized = std::iter::once(config.resized(height, width));
        let (height, width) = padded_size(resized, config.size_divisor, config.smallest_batch());
        height * width
    };
    let [one, other] = shapes;
    match padded_pixels(&one) > padded_pixels(&other) {
        true => one,
        false => other,
    }
}

/// The images of `scenes` and a dataset of them, whose objects have one of `classes` classes.
fn dataset(scenes: impl Iterator<Item = Scene>, classes: usize) -> (Vec<RgbImage>, Dataset) {
    let classes = classes.max(1);
    let (mut images, mut samples) = (Vec::new(), Vec::new());
    for (index, scene) in (1..).zip(scenes) {
        let instances = scene.instances.into_iter().map(|object| {
            let [x, y, w, h] = object.mask.bbox().map(|v| v as f32);
            let bbox: Bbox = [x, y, x + w, y + h];
            Instance {
                annotation_id: 0,
                label: (object.label - 1) % classes + 1,
                bbox,
                area: (w * h) as f64,
                mask: object.mask,
                is_crowd: false,
            }
        });
        samples.push(Sample::new(
            index,
            PathBuf::new(),
            scene.image.dimensions(),
            instances.collect(),
        ));
        images.push(scene.image);
    }
    let dataset = Dataset {
        annotations: PathBuf::from("rendered"),
        classes: Classes {
            names: (1..=classes).map(|id| format!("class {id}")).collect(),
            ids: (1..=classes as u64).collect(),
        },
        samples,
        ..Dataset::default()
    };
    (images, dataset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_the_largest_padded_size_of_the_configuration() {
        let side = |side: u32| side.next_multiple_of(32) as usize;
        for (min_size, max_size) in [
            (800, 1333),
            (800, 1344),
            (800, 1345),
            (800, 1313),
            (1024, 2049),
            (64, 96),
            (192, 192),
            (1333, 800),
            (300, 256),
        ] {
            for fit in [Fit::ShorterSide, Fit::Box] {
                let config = ImageConfig {
                    fit,
                    min_size,
                    max_size,
                    ..ImageConfig::default()
                };
                let (height, width) = largest_shape(&config);
                assert_eq!(height.max(width), LONGER_SIDE);
                let resized = std::iter::once(config.resized(height, width));
                let padded = padded_size(resized, config.size_divisor, config.smallest_batch());
                let wanted = match fit {
                    Fit::ShorterSide => (side(min_size.min(max_size)), side(max_size)),
                    Fit::Box => (side(min_size), side(max_size)),
                };
                assert_eq!(padded, wanted, "{min_size}, {max_size}, {fit:?}");
            }
        }
    }

    #[test]
    fn thin_configurations_have_small_images() {
        for (min_size, max_size) in [(1, 32768), (32768, 1), (1, 1)] {
            let config = ImageConfig {
                fit: Fit::Box,
                min_size,
                max_size,
                ..ImageConfig::default()
            };
            let (images, data) = render_largest(2, 4, &config);
            assert!(
                images
                    .iter()
                    .all(|image| image.width().max(image.height()) == LONGER_SIDE)
            );
            assert_eq!(data.samples.len(), 2);
        }
    }
}
