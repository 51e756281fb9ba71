//! The rendered dataset: scenes of overlapping circles, squares, triangles and stars.

mod scene;
mod spec;
mod texture;

pub(crate) use scene::scene_of_size;
pub use scene::{Scene, SceneInstance, scene};
pub use spec::ShapesSpec;

use super::DataError;
use super::coco::RleRecord;
use serde_json::json;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Class names; index `i` has label `i + 1`.
pub const CLASSES: [&str; 4] = ["circle", "square", "triangle", "star"];

/// Renders `OUT/train`, `OUT/val` and `OUT/annotations/instances_{train,val}.json`.
pub fn render(out: &Path, spec: &ShapesSpec) -> Result<(), DataError> {
    for (split, count) in [("train", spec.train), ("val", spec.val)] {
        let folder = out.join(split);
        create(&folder)?;
        create(&out.join("annotations"))?;
        let scenes = render_split(&folder, split, count, spec)?;
        let text = annotations(&scenes).to_string();
        let path = out
            .join("annotations")
            .join(format!("instances_{split}.json"));
        std::fs::write(&path, text).map_err(|source| DataError::Io { path, source })?;
    }
    Ok(())
}

fn create(folder: &Path) -> Result<(), DataError> {
    std::fs::create_dir_all(folder).map_err(|source| DataError::Io {
        path: folder.into(),
        source,
    })
}

/// Width and height of a saved image, and its shapes.
type Rendered = ((u32, u32), Vec<SceneInstance>);

/// Renders and saves the images of a split, with one thread per core. Returns their sizes and instances.
fn render_split(
    folder: &Path,
    split: &str,
    count: usize,
    spec: &ShapesSpec,
) -> Result<Vec<Rendered>, DataError> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(done);
            }
            let Scene { image, instances } = scene(split, index as u64, spec);
            let path = folder.join(file_name(index));
            image.save(&path).map_err(|error| DataError::Io {
                path,
                source: std::io::Error::other(error),
            })?;
            done.push((index, (image.dimensions(), instances)));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut scenes = Vec::with_capacity(count);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(done) => scenes.extend(done?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok::<_, DataError>(())
    })?;
    scenes.sort_by_key(|(index, _)| *index);
    Ok(scenes.into_iter().map(|(_, scene)| scene).collect())
}

fn file_name(index: usize) -> String {
    format!("{index:06}.png")
}

fn annotations(scenes: &[Rendered]) -> serde_json::Value {
    let images: Vec<_> = scenes
        .iter()
        .enumerate()
        .map(|(index, ((width, height), _))| {
            json!({"id": index + 1, "file_name": file_name(index), "width": width, "height": height})
        })
        .collect();
    let instances = scenes
        .iter()
        .enumerate()
        .flat_map(|(index, (_, instances))| {
            instances.iter().map(move |instance| (index + 1, instance))
        });
    let annotations: Vec<_> = instances
        .enumerate()
        .map(|(index, (image_id, instance))| {
            json!({
                "id": index + 1,
                "image_id": image_id,
                "category_id": instance.label,
                "bbox": instance.mask.bbox(),
                "area": instance.mask.area(),
                "iscrowd": 0,
                "segmentation": RleRecord::new(&instance.mask),
            })
        })
        .collect();
    let categories: Vec<_> = CLASSES
        .iter()
        .enumerate()
        .map(|(index, name)| json!({"id": index + 1, "name": name, "supercategory": "shape"}))
        .collect();
    json!({"images": images, "annotations": annotations, "categories": categories})
}
