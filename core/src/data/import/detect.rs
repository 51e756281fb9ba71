//! Detection of a file's or folder's format from its contents.

use super::data_yaml;
use super::spec::{Format, ImportError};
use crate::data::json::{Foreign, scan};
use crate::data::splits::find_splits;
use std::path::{Path, PathBuf};

/// The format of a source, and the file or folder to read.
pub(super) fn detect(source: &Path) -> Result<Format, ImportError> {
    let fault = |reason: String| ImportError::source(source, reason);
    if source.is_file() {
        return match extension(source).as_str() {
            "xml" => Ok(Format::Cvat),
            "yaml" | "yml" => Ok(Format::Yolo),
            "json" => of_json(source),
            _ if is_shard(source) => Ok(Format::Tfrecord),
            _ => Err(fault("no known format; name it with --from".into())),
        };
    }
    let has = |name: &str| source.join(name).exists();
    if has("Annotations") && has("JPEGImages") {
        return Ok(Format::Voc);
    }
    if has("annotations.xml") {
        return Ok(Format::Cvat);
    }
    if data_yaml::file_in(source).is_some() {
        return Ok(Format::Yolo);
    }
    let entries = std::fs::read_dir(source).map_err(|error| ImportError::io(source, error))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    files.sort();
    if files.iter().any(|path| is_shard(path)) {
        return Ok(Format::Tfrecord);
    }
    let json: Vec<&PathBuf> = files
        .iter()
        .filter(|path| extension(path) == "json")
        .collect();
    for path in &json {
        // One file of labelme or VIA is enough; the others belong to further images.
        if let Ok(format @ (Format::Labelme | Format::Via)) = of_json(path) {
            return Ok(format);
        }
    }
    if find_splits(source).is_ok() {
        return Err(fault(
            "this is a COCO dataset already: use it directly with `mrcnn-cli train --data`".into(),
        ));
    }
    match json.first() {
        Some(path) => of_json(path),
        None => Err(fault("no known format in it; name it with --from".into())),
    }
}

fn extension(path: &Path) -> String {
    path.extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase()
}

fn is_shard(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.contains(".tfrecord") || name.contains("-of-")
}

fn of_json(path: &Path) -> Result<Format, ImportError> {
    let mut has_url = false;
    let found = scan(path, &mut |element| {
        let is_image = element.section == crate::data::json::Section::Images && element.index == 0;
        has_url |= is_image && element.text.windows(10).any(|part| part == b"\"coco_url\"");
        Ok(())
    });
    match found {
        Ok(Some(Foreign::Labelme)) => Ok(Format::Labelme),
        Ok(Some(Foreign::Via)) => Ok(Format::Via),
        Ok(Some(foreign)) => Err(ImportError::source(path, foreign.advice())),
        Ok(None) if has_url => Ok(Format::Lvis),
        Ok(None) => {
            let reason = "this is a COCO file already: use it directly with `mrcnn-cli train --data FILE --images DIR`";
            Err(ImportError::source(path, reason))
        }
        Err(crate::data::json::ScanError::Io(error)) => Err(ImportError::io(path, error)),
        Err(crate::data::json::ScanError::Json(reason)) => Err(ImportError::source(path, reason)),
    }
}
