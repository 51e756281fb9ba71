//! Finding the splits of a data set by the common folder layouts.

use super::DataError;
use std::path::{Path, PathBuf};

/// Where a split's files are.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// `train`, `val`, ...
    pub name: String,
    /// The annotation file.
    pub annotations: PathBuf,
    /// Folder of the pictures.
    pub images: PathBuf,
}

/// The split `name` of a folder; Roboflow says `valid` for `val`, and a folder with a single
/// annotation file is every split.
pub fn find_split(dir: &Path, name: &str) -> Result<Split, DataError> {
    let splits = find_splits(dir)?;
    let also = if name == "val" { "valid" } else { name };
    [name, also, "all"]
        .iter()
        .find_map(|wanted| splits.iter().find(|split| split.name == *wanted))
        .cloned()
        .ok_or_else(|| DataError::NotFound {
            dir: dir.into(),
            wanted: format!(" for split `{name}`"),
        })
}

/// Every split in a folder, by the common layouts; a JSON file is a split of its own.
pub fn find_splits(dir: &Path) -> Result<Vec<Split>, DataError> {
    let io_error = |source| DataError::Io {
        path: dir.into(),
        source,
    };
    let mut splits = Vec::new();
    let mut candidates: Vec<PathBuf> = Vec::new();
    for folder in [dir.to_path_buf(), dir.join("annotations")] {
        if folder.is_dir() {
            let entries = std::fs::read_dir(&folder).map_err(io_error)?;
            candidates.extend(entries.filter_map(|entry| entry.ok().map(|entry| entry.path())));
        }
    }
    if !dir.is_dir() {
        std::fs::metadata(dir).map_err(io_error)?;
    }
    candidates.sort();
    for path in candidates {
        let stem = path
            .file_stem()
            .and_then(|s| s.to_str())
            .unwrap_or_default()
            .to_string();
        let roboflow = path.join("_annotations.coco.json");
        if roboflow.is_file() {
            splits.push(Split {
                name: stem,
                annotations: roboflow,
                images: path,
            });
        } else if path.extension().is_some_and(|e| e == "json")
            && let Some(name) = split_name(&stem)
        {
            let images = image_folder(dir, &name, &stem);
            splits.push(Split {
                name,
                annotations: path,
                images,
            });
        }
    }
    if splits.is_empty() {
        return Err(DataError::NotFound {
            dir: dir.into(),
            wanted: String::new(),
        });
    }
    Ok(splits)
}

/// `instances_train2017` -> `train`, `annotations_val` -> `val`, `annotations` -> `all`.
fn split_name(stem: &str) -> Option<String> {
    let rest = ["instances", "annotations"]
        .iter()
        .find_map(|prefix| stem.strip_prefix(prefix));
    let name = match rest {
        Some(rest) => rest.trim_start_matches('_'),
        None if ["train", "val", "valid", "test"].contains(&stem) => stem,
        None => return None,
    };
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit());
    Some(if name.is_empty() {
        "all".into()
    } else {
        name.into()
    })
}

fn image_folder(dir: &Path, name: &str, stem: &str) -> PathBuf {
    let full = stem.rsplit('_').next().unwrap_or(name);
    let choices = [
        dir.join(full),
        dir.join("images").join(full),
        dir.join(name),
    ];
    let found = choices.into_iter().find(|path| path.is_dir());
    found.unwrap_or_else(|| {
        if dir.join("images").is_dir() {
            dir.join("images")
        } else {
            dir.into()
        }
    })
}
