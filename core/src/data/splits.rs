//! Splits of a dataset, located by the common folder layouts.

use super::error::DataError;
use std::path::{Path, PathBuf};

/// The files of a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// `train`, `val`, ...; `all` if the only annotation file names no split.
    pub name: String,
    /// The annotation file.
    pub annotations: PathBuf,
    /// Folder of the images.
    pub images: PathBuf,
}

impl Split {
    /// Whether the file belongs to no particular split: `annotations.json`, CVAT's `instances_default.json`,
    /// Label Studio's `result.json`.
    pub fn is_whole(&self) -> bool {
        ["all", "default"].contains(&self.name.to_lowercase().as_str())
    }

    /// `train2017` for `instances_train2017.json`; otherwise [`Self::name`].
    fn whole_name(&self) -> String {
        let stem = self.annotations.file_stem().and_then(|stem| stem.to_str());
        match stem.and_then(strip_prefix) {
            Some("") | None => self.name.clone(),
            Some(whole) => whole.into(),
        }
    }
}

/// The split `name` of a dataset, by its full name (`train2017`) or without the year, ignoring case;
/// `valid` and `validation` mean `val`. A dataset with a single annotation file serves as every split. If several
/// files match, it is an error.
pub fn find_split(dir: &Path, name: &str) -> Result<Split, DataError> {
    find_split_in(dir, None, name)
}

/// As [`find_split`], with the folder of the images if it is known.
pub(crate) fn find_split_in(
    dir: &Path,
    images: Option<&Path>,
    name: &str,
) -> Result<Split, DataError> {
    let splits = find_splits_in(dir, images)?;
    for wanted in [name, "all", "default"] {
        match matching(&splits, wanted)[..] {
            [] => {}
            [split] => return Ok(split.clone()),
            ref found => {
                let files = found.iter().map(|split| split.annotations.clone());
                return Err(DataError::Ambiguous {
                    split: name.into(),
                    files: files.collect(),
                });
            }
        }
    }
    let names: Vec<String> = splits
        .iter()
        .map(|split| format!("`{}`", split.name))
        .collect();
    Err(DataError::NoSplit {
        dir: dir.into(),
        wanted: name.into(),
        known: names.join(", "),
    })
}

/// The splits with this name; only those with the full name if there are any.
fn matching<'a>(splits: &'a [Split], wanted: &str) -> Vec<&'a Split> {
    let called = |name_of: fn(&Split) -> String| -> Vec<&Split> {
        let fits = |split: &&Split| canonical(&name_of(split)) == canonical(wanted);
        splits.iter().filter(fits).collect()
    };
    let exact = called(Split::whole_name);
    match exact.is_empty() {
        true => called(|split| split.name.clone()),
        false => exact,
    }
}

/// Lower case, with one word for each of `train` and `val`.
fn canonical(name: &str) -> String {
    let name = name.to_lowercase();
    match name.as_str() {
        "valid" | "validation" => "val".into(),
        "training" => "train".into(),
        _ => name,
    }
}

/// Every split of a folder, by the common layouts. An annotation file instead of a folder is a dataset with
/// one split.
pub fn find_splits(dir: &Path) -> Result<Vec<Split>, DataError> {
    find_splits_in(dir, None)
}

/// As [`find_splits`], with the folder of the images if it is known.
pub fn find_splits_in(dir: &Path, images: Option<&Path>) -> Result<Vec<Split>, DataError> {
    let io_error = |source| DataError::Io {
        path: dir.into(),
        source,
    };
    if !std::fs::metadata(dir).map_err(io_error)?.is_dir() {
        return Ok(vec![single_file(dir, images)]);
    }
    let mut files = Vec::new();
    for folder in [
        dir.to_path_buf(),
        dir.join("annotations"),
        dir.join("Annotations"),
    ] {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if folder == *dir => return Err(io_error(error)),
            Err(_) => continue,
        };
        let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        files.extend(paths.filter(|path| !is_hidden(path)));
    }
    files.sort();
    // The same folder twice on file systems that ignore case.
    files.dedup_by(|a, b| {
        a.canonicalize()
            .ok()
            .zip(b.canonicalize().ok())
            .is_some_and(|(a, b)| a == b)
    });
    let mut splits: Vec<Split> = files
        .iter()
        .filter_map(|path| split_of(dir, path))
        .collect();
    if splits.is_empty() {
        splits.extend(only_json(dir, &files)?);
    }
    if let Some(images) = images {
        splits
            .iter_mut()
            .for_each(|split| split.images = images.into());
    }
    match splits.is_empty() {
        true => Err(DataError::NotFound { dir: dir.into() }),
        false => Ok(splits),
    }
}

/// Whether a file is hidden, such as macOS's `._annotations.json`.
fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

fn stem_of(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn is_json(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
        && path.is_file()
}

/// The split of an annotation file or of a folder that contains one.
fn split_of(dir: &Path, path: &Path) -> Option<Split> {
    let stem = stem_of(path);
    if is_json(path) {
        let name = split_name(&stem)?;
        return Some(Split {
            images: image_folder(dir, &name, &stem),
            name,
            annotations: path.into(),
        });
    }
    // The layouts of Roboflow and Supervisely, and a folder with annotations beside the images.
    let names = [
        "_annotations.coco.json",
        "annotations/instances.json",
        "annotations.json",
        "annotations.coco.json",
        "result.json",
    ];
    let annotations = names
        .iter()
        .map(|name| path.join(name))
        .find(|path| path.is_file())?;
    let own = path.join("images");
    let of_tool = names[..2].iter().any(|name| annotations.ends_with(name));
    let known = of_tool || !canonical_splits(&stem).is_empty();
    known.then(|| Split {
        name: stem,
        annotations,
        images: if own.is_dir() { own } else { path.into() },
    })
}

/// The name if it is a usual name of a split.
fn canonical_splits(name: &str) -> String {
    let name = canonical(name);
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit());
    match ["train", "val", "test"].contains(&name) {
        true => name.into(),
        false => String::new(),
    }
}

/// The only JSON file of a folder, whatever its name.
fn only_json(dir: &Path, files: &[PathBuf]) -> Result<Option<Split>, DataError> {
    let json: Vec<&PathBuf> = files.iter().filter(|path| is_json(path)).collect();
    match json[..] {
        [] => Ok(None),
        [file] => Ok(Some(Split {
            name: "all".into(),
            annotations: file.clone(),
            images: image_folder(dir, "all", "annotations"),
        })),
        _ => Err(DataError::Unnamed {
            dir: dir.into(),
            files: json.into_iter().cloned().collect(),
        }),
    }
}

/// An annotation file that was given directly.
fn single_file(file: &Path, images: Option<&Path>) -> Split {
    let folder = file.parent().unwrap_or(Path::new(""));
    let stem = stem_of(file);
    let dir = match folder.file_name() {
        Some(name) if name.eq_ignore_ascii_case("annotations") => folder.parent().unwrap_or(folder),
        _ => folder,
    };
    let found = || match split_name(&stem) {
        Some(name) => image_folder(dir, &name, &stem),
        None => image_folder(dir, "all", "annotations"),
    };
    // Whatever the file's name, there is no other split.
    Split {
        name: "all".into(),
        annotations: file.into(),
        images: images.map_or_else(found, Path::to_path_buf),
    }
}

/// `instances_train2017` -> `train2017`, `annotations` -> empty.
fn strip_prefix(stem: &str) -> Option<&str> {
    ["instances", "annotations"]
        .iter()
        .find_map(|prefix| {
            let start = stem.get(..prefix.len())?;
            start
                .eq_ignore_ascii_case(prefix)
                .then(|| &stem[prefix.len()..])
        })
        .map(|rest| rest.trim_start_matches(['_', '-']))
}

/// `instances_train2017` -> `train`, `annotations_val` -> `val`, `annotations` -> `all`.
fn split_name(stem: &str) -> Option<String> {
    let whole = ["_annotations.coco", "annotations.coco", "result"];
    let name = match strip_prefix(stem) {
        _ if whole.contains(&stem) => "",
        Some(rest) => rest,
        None if !canonical_splits(stem).is_empty() => stem,
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
    // `annotations.json` names no split: a folder of that name does not contain the images.
    let full = match strip_prefix(stem) {
        Some("") => name,
        _ => stem.rsplit('_').next().unwrap_or(name),
    };
    let names = [
        full.to_string(),
        name.into(),
        full.to_lowercase(),
        name.to_lowercase(),
    ];
    let folders = |base: PathBuf| {
        names
            .iter()
            .map(move |name| base.join(name))
            .collect::<Vec<_>>()
    };
    let choices = [folders(dir.into()), folders(dir.join("images"))].concat();
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
mod tests;
