//! Inputs of `predict`: images and videos, with their ids if they belong to a dataset.

mod dataset;
mod files;

use super::input::{Input, Origin};
use super::remote::Remote;
use super::video::{Live, Source};
use anyhow::{Result, bail};
use dataset::dataset_of;
use mrcnn_core::data::{Classes, Dataset, LeftOut, printable};
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Everything to predict.
#[derive(Default)]
pub struct Inputs {
    pub images: Vec<Input>,
    /// The classes of the dataset to which the images belong.
    pub classes: Option<Classes>,
    /// Videos that are given by name or pattern, and cameras.
    pub videos: Vec<Source>,
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

/// Collects files, URLs, cameras, the images of folders and datasets, and the matches of patterns. Nothing is
/// downloaded.
pub fn find(
    arguments: &[OsString],
    split: Option<&str>,
    recursive: bool,
    offline: bool,
) -> Result<Inputs> {
    let mut inputs = Inputs::default();
    for argument in arguments {
        let path = Path::new(argument);
        let before = inputs.images.len() + inputs.videos.len();
        if argument == "-" {
            inputs.add_stdin()?;
        } else if let Some(url) = Remote::parse(argument, offline)? {
            inputs.add_url(url);
        } else if let Some(live) = Live::parse(argument)? {
            inputs.videos.push(Source::Live(live));
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
            return self.videos.push(Source::File(path));
        }
        self.images.push(Input {
            image_id: self.next_id(),
            file_name: path.to_string_lossy().into_owned(),
            path,
            origin: Origin::File,
        });
    }

    fn add_url(&mut self, url: Remote) {
        let path = PathBuf::from(url.file_name());
        if has_extension(&path, &VIDEOS) {
            return self.videos.push(Source::Url(url));
        }
        // Names must be unique for `--resume`, but two URLs may be equal without their queries.
        let is_used = |name: &str| self.images.iter().any(|image| image.file_name == name);
        let mut file_name = url.name().to_string();
        for number in 2.. {
            if !is_used(&file_name) {
                break;
            }
            file_name = format!("{}#{number}", url.name());
        }
        self.images.push(Input {
            image_id: self.next_id(),
            file_name,
            path,
            origin: Origin::Url(url),
        });
    }

    /// Adds the image on standard input.
    fn add_stdin(&mut self) -> Result<()> {
        let is_stdin = |image: &Input| matches!(image.origin, Origin::Stdin);
        if self.images.iter().any(is_stdin) {
            bail!("- is given twice, but standard input can be read once; give it once");
        }
        self.images.push(Input {
            image_id: self.next_id(),
            file_name: "stdin".into(),
            path: "stdin".into(),
            origin: Origin::Stdin,
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
            origin: Origin::File,
        });
        self.images.extend(images);
        Ok(())
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
