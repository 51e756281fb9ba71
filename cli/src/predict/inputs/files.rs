//! The images and videos of folders and patterns.

use super::{Inputs, VIDEOS, has_extension};
use anyhow::{Context, Result};
use mrcnn_core::data::printable;
use mrcnn_core::image::EXTENSIONS;
use mrcnn_core::image::decode::is_image;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Extensions of files that commonly lie beside images; they are skipped without a note.
const COMPANIONS: [&str; 9] = [
    "json", "txt", "xml", "yaml", "yml", "csv", "md", "html", "db",
];

impl Inputs {
    pub(super) fn add_folder(&mut self, folder: &Path, recursive: bool) -> Result<()> {
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

    pub(super) fn add_pattern(&mut self, argument: &OsString) -> Result<()> {
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

    pub(super) fn note_skipped(&mut self) {
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
