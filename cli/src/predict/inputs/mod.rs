//! Finds the images for `predict`, with their ids if they belong to a dataset.

use super::input::Input;
use anyhow::{Context, Result, bail};
use mrcnn_core::data::{
    Classes, DataError, Dataset, LeftOut, OnProblem, Split, find_split, find_splits, printable,
};
use mrcnn_core::image::EXTENSIONS;
use mrcnn_core::image::decode::is_image;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Everything to predict.
#[derive(Default)]
pub struct Inputs {
    pub images: Vec<Input>,
    /// The classes of the dataset to which the images belong.
    pub classes: Option<Classes>,
    /// Videos that are given by name or pattern.
    pub videos: Vec<PathBuf>,
    /// Notes about files that are not read.
    pub notes: Vec<String>,
    /// Images of the dataset that cannot be used.
    pub left_out: Vec<LeftOut>,
    skipped: BTreeMap<String, Vec<PathBuf>>,
    folders: Vec<PathBuf>,
}

/// Extensions of files that are read as videos.
const VIDEOS: [&str; 12] = [
    "mp4", "mov", "mkv", "avi", "webm", "m4v", "mpg", "mpeg", "wmv", "flv", "ts", "3gp",
];

/// Files that commonly lie beside images.
const COMPANIONS: [&str; 9] = [
    "json", "txt", "xml", "yaml", "yml", "csv", "md", "html", "db",
];

/// Collects files, the images of folders and datasets, and the matches of patterns.
pub fn find(arguments: &[OsString], split: Option<&str>, recursive: bool) -> Result<Inputs> {
    let mut inputs = Inputs::default();
    for argument in arguments {
        let path = Path::new(argument);
        let before = inputs.images.len() + inputs.videos.len();
        if argument == "-" {
            inputs.add_stdin()?;
        } else if path.is_dir() {
            match dataset_of(path, split)? {
                Some((dataset, from)) => inputs.add_dataset(dataset, &from)?,
                None => inputs.add_folder(path, recursive)?,
            }
        } else if path.exists() {
            inputs.add_file(path.to_path_buf());
        } else {
            inputs.add_pattern(argument)?;
        }
        if inputs.images.len() + inputs.videos.len() == before {
            inputs.note_skipped();
            let notes = inputs.notes.join("; ");
            let notes = if notes.is_empty() {
                notes
            } else {
                format!(" ({notes})")
            };
            bail!(
                "{}: no such file, no image in it, no match{notes}; PNG, JPEG, WebP, TIFF and BMP are read, and videos if ffmpeg is installed",
                printable(&argument.to_string_lossy())
            );
        }
    }
    inputs.note_skipped();
    let mut ids = HashSet::new();
    if let Some(twice) = inputs
        .images
        .iter()
        .find(|image| !ids.insert(image.image_id))
    {
        bail!(
            "image id {} is used twice ({}): predict one dataset at a time",
            twice.image_id,
            twice.path.display()
        );
    }
    Ok(inputs)
}

/// The dataset in a folder, or the dataset whose images the folder contains.
fn dataset_of(folder: &Path, split: Option<&str>) -> Result<Option<(Dataset, PathBuf)>> {
    let found = match find_splits(folder) {
        Ok(splits) => Some(choose(folder, &splits, split)?),
        Err(error) if split.is_some() && parent_split(folder).is_none() => return Err(error.into()),
        Err(_) => parent_split(folder),
    };
    let Some(found) = found else { return Ok(None) };
    match Dataset::open_files(&found, OnProblem::Skip) {
        Ok((dataset, _)) => Ok(Some((dataset, found.annotations))),
        // A folder of images with an unrelated JSON file beside them.
        Err(DataError::NotCoco { .. } | DataError::Empty { .. }) if split.is_none() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn choose(folder: &Path, splits: &[Split], name: Option<&str>) -> Result<Split> {
    if let Some(name) = name {
        return Ok(find_split(folder, name)?);
    }
    if let [only] = splits {
        return Ok(only.clone());
    }
    find_split(folder, "val").map_err(|_| {
        let names: Vec<&str> = splits.iter().map(|split| split.name.as_str()).collect();
        anyhow::anyhow!(
            "{}: it has several splits; give --split with one of {}",
            folder.display(),
            names.join(", ")
        )
    })
}

/// The split of a dataset one or two folders above whose images lie in `folder`.
fn parent_split(folder: &Path) -> Option<Split> {
    let folder = folder.canonicalize().ok()?;
    let mut parents = folder.ancestors().skip(1).take(2);
    parents.find_map(|parent| {
        let splits = find_splits(parent).ok()?;
        let mut own = splits
            .into_iter()
            .filter(|split| split.images.canonicalize().is_ok_and(|at| at == folder));
        let first = own.next()?;
        own.next().is_none().then_some(first)
    })
}

impl Inputs {
    fn next_id(&self) -> u64 {
        self.images
            .iter()
            .map(|image| image.image_id)
            .max()
            .unwrap_or(0)
            + 1
    }

    fn add_file(&mut self, path: PathBuf) {
        if has_extension(&path, &VIDEOS) {
            return self.videos.push(path);
        }
        self.images.push(Input {
            image_id: self.next_id(),
            file_name: path.to_string_lossy().into_owned(),
            path,
            is_file: true,
        });
    }

    /// The image that another program writes to this one.
    fn add_stdin(&mut self) -> Result<()> {
        if self.images.iter().any(|image| !image.is_file) {
            bail!("- is given twice, but standard input can be read once; give it once");
        }
        self.images.push(Input {
            image_id: self.next_id(),
            file_name: "stdin".into(),
            path: "stdin".into(),
            is_file: false,
        });
        Ok(())
    }

    fn add_dataset(&mut self, dataset: Dataset, annotations: &Path) -> Result<()> {
        if self.classes.is_some() || !self.images.is_empty() {
            bail!(
                "{}: predict a dataset alone, so that its image ids are kept",
                annotations.display()
            );
        }
        self.notes.push(format!(
            "image ids and classes are those of {}",
            dataset.description()
        ));
        self.classes = Some(dataset.classes);
        self.left_out = dataset.left_out;
        let images = dataset.samples.into_iter().map(|sample| Input {
            path: sample.path,
            image_id: sample.image_id,
            file_name: sample.file_name,
            is_file: true,
        });
        self.images.extend(images);
        Ok(())
    }

    fn add_folder(&mut self, folder: &Path, recursive: bool) -> Result<()> {
        let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .collect();
        paths.sort();
        let is_hidden = |path: &Path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with('.'))
        };
        for path in paths.into_iter().filter(|path| !is_hidden(path)) {
            // A link may point to a parent folder.
            let is_link = path
                .symlink_metadata()
                .is_ok_and(|entry| entry.is_symlink());
            match (path.is_dir(), path.is_file()) {
                (true, _) if recursive && !is_link => self.add_folder(&path, recursive)?,
                (true, _) => self.folders.push(path),
                (_, true) if has_extension(&path, &EXTENSIONS) || is_image(&path) => {
                    self.add_file(path)
                }
                (_, true) if !has_extension(&path, &COMPANIONS) => {
                    let extension = path
                        .extension()
                        .map_or("without extension".into(), |extension| {
                            format!(".{}", extension.to_string_lossy().to_lowercase())
                        });
                    self.skipped.entry(extension).or_default().push(path);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn add_pattern(&mut self, argument: &OsString) -> Result<()> {
        let Some(pattern) = argument.to_str() else {
            return Ok(());
        };
        let matches = glob::glob(pattern).with_context(|| format!("{pattern}: invalid pattern"))?;
        let mut paths: Vec<PathBuf> = matches.filter_map(Result::ok).collect();
        paths.sort();
        for path in paths {
            let is_video = has_extension(&path, &VIDEOS);
            if path.is_file() && (is_video || has_extension(&path, &EXTENSIONS) || is_image(&path))
            {
                self.add_file(path);
            }
        }
        Ok(())
    }

    fn note_skipped(&mut self) {
        for (extension, paths) in std::mem::take(&mut self.skipped) {
            let first = printable(&paths[0].to_string_lossy());
            let fix = match has_extension(&paths[0], &VIDEOS) {
                true => "; give videos by name or pattern",
                false => "",
            };
            self.notes.push(format!(
                "{} files {extension} are not read, such as {first}{fix}",
                paths.len()
            ));
        }
        let folders = std::mem::take(&mut self.folders);
        if let Some(first) = folders.first() {
            self.notes.push(format!(
                "{} subfolders are not read, such as {}; use --recursive to read them",
                folders.len(),
                printable(&first.to_string_lossy())
            ));
        }
    }
}

fn has_extension(path: &Path, known: &[&str]) -> bool {
    let extension = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    known.contains(&extension.as_str())
}
