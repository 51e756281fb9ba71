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

/// The split `name` of a folder: by its whole name (`train2017`), else without the year; Roboflow says `valid`
/// for `val`, and a folder with a single annotation file is every split. Where several files fit, none is
/// taken.
pub fn find_split(dir: &Path, name: &str) -> Result<Split, DataError> {
    let splits = find_splits(dir)?;
    let also = if name == "val" { "valid" } else { name };
    for wanted in [name, also, "all"] {
        let called = |name_of: fn(&Split) -> &str| -> Vec<&Split> {
            let splits = splits.iter();
            splits.filter(|split| name_of(split) == wanted).collect()
        };
        let mut found = called(Split::whole_name);
        if found.is_empty() {
            found = called(|split| &split.name);
        }
        match found[..] {
            [] => {}
            [split] => return Ok(split.clone()),
            _ => {
                let files = found.iter().map(|split| split.annotations.clone());
                return Err(DataError::Ambiguous {
                    split: name.into(),
                    files: files.collect(),
                });
            }
        }
    }
    Err(DataError::NotFound {
        dir: dir.into(),
        wanted: format!(" for split `{name}`"),
    })
}

impl Split {
    /// `train2017` of `instances_train2017.json`; else as [`Self::name`].
    fn whole_name(&self) -> &str {
        let stem = self.annotations.file_stem().and_then(|stem| stem.to_str());
        match stem.and_then(strip_prefix) {
            Some("") | None => &self.name,
            Some(whole) => whole,
        }
    }
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

/// `instances_train2017` -> `train2017`, `annotations` -> nothing left.
fn strip_prefix(stem: &str) -> Option<&str> {
    ["instances", "annotations"]
        .iter()
        .find_map(|prefix| stem.strip_prefix(prefix))
        .map(|rest| rest.trim_start_matches('_'))
}

/// `instances_train2017` -> `train`, `annotations_val` -> `val`, `annotations` -> `all`.
fn split_name(stem: &str) -> Option<String> {
    let name = match strip_prefix(stem) {
        Some(rest) => rest,
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
    // `annotations.json` says no name: a folder called so is not the pictures'.
    let full = match strip_prefix(stem) {
        Some("") => name,
        _ => stem.rsplit('_').next().unwrap_or(name),
    };
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

#[cfg(test)]
mod tests {
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
        // The file of every split; its pictures do not lie beside it.
        assert_eq!(found("test").unwrap(), at.path());
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
}
