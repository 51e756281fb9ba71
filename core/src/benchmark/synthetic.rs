//! Rendered images with the size of COCO images.

use crate::boxes::Bbox;
use crate::config::ImageConfig;
use crate::data::shapes::{Scene, ShapesSpec, scene, scene_of_size};
use crate::data::{Classes, Dataset, Instance, Sample};
use crate::random::Stream;
use ::image::RgbImage;
use std::path::PathBuf;

/// Longer side of a COCO image.
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

/// As [`synthetic_images`], with images 640 px wide that are resized to the largest size of `config`, so that batches
/// have the padded size of the sizes in the configuration.
pub(super) fn largest_images(
    count: usize,
    classes: usize,
    config: &ImageConfig,
) -> (Vec<RgbImage>, Dataset) {
    let height = (LONGER_SIDE * config.min_size).div_ceil(config.max_size.max(1));
    let stream = Stream::named("benchmark", 0);
    let scenes = (0..count as u64)
        .map(|index| scene_of_size(stream.fork(index), LONGER_SIDE, height, MAX_OBJECTS));
    dataset(scenes, classes)
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
    use crate::config::Fit;
    use crate::image::transform::padded_size;

    #[test]
    fn images_have_the_largest_padded_size_of_the_configuration() {
        let sizes = [(800, 1333), (800, 1344), (64, 96), (192, 192), (832, 1344)];
        for (min_size, max_size) in sizes {
            for fit in [Fit::ShorterSide, Fit::Box] {
                let config = ImageConfig {
                    fit,
                    min_size,
                    max_size,
                    ..ImageConfig::default()
                };
                let (images, data) = largest_images(2, 4, &config);
                assert_eq!((images.len(), data.samples.len()), (2, 2));
                assert!(
                    data.samples
                        .iter()
                        .all(|sample| !sample.instances.is_empty())
                );
                let resized = images
                    .iter()
                    .map(|image| config.resized(image.height(), image.width()));
                let padded = padded_size(resized, config.size_divisor, config.smallest_batch());
                let side = |side: u32| side.next_multiple_of(32) as usize;
                assert_eq!(padded, (side(min_size), side(max_size)), "{fit:?}");
            }
        }
    }
}
