//! `data.yaml` of a YOLO dataset.

use super::spec::ImportError;
use super::yaml::{Node, parse};
use crate::data::json::read_text;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The parts that are used here.
pub(super) struct DataYaml {
    /// Folder that the others are in.
    pub root: PathBuf,
    /// Folders or lists of images of each split.
    pub splits: Vec<(&'static str, Vec<PathBuf>)>,
    /// Names of the classes by number.
    pub names: BTreeMap<u64, String>,
}

/// The YAML file of a folder: `data.yaml`, or the only one.
pub(super) fn file_in(folder: &Path) -> Option<PathBuf> {
    let usual = folder.join("data.yaml");
    if usual.is_file() {
        return Some(usual);
    }
    let entries = std::fs::read_dir(folder).ok()?;
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let is_yaml = |path: &PathBuf| {
        let extension = path
            .extension()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        path.is_file() && ["yaml", "yml"].contains(&extension.as_str())
    };
    let mut files = paths.filter(is_yaml);
    files.next().filter(|_| files.next().is_none())
}

impl DataYaml {
    /// Reads the YAML file of a folder, or the file itself.
    pub fn read(source: &Path) -> Result<Self, ImportError> {
        let (path, folder) = match source.is_dir() {
            true => (file_in(source).unwrap_or(source.join("data.yaml")), source),
            false => (
                source.to_path_buf(),
                source.parent().unwrap_or(Path::new("")),
            ),
        };
        let fault = |reason: String| ImportError::source(&path, reason);
        let text = read_text(&path).map_err(|e| ImportError::io(&path, e))?;
        let data = parse(&text).map_err(fault)?;
        let root = folder.join(data.get("path").and_then(Node::text).unwrap_or_default());
        let mut splits = Vec::new();
        for split in ["train", "val", "test"] {
            let node = data
                .get(split)
                .or_else(|| (split == "val").then(|| data.get("valid")).flatten());
            let paths = match node {
                Some(Node::Scalar(path)) => vec![PathBuf::from(path)],
                Some(Node::List(list)) => {
                    list.iter().filter_map(Node::text).map(Into::into).collect()
                }
                None | Some(Node::Null) => continue,
                Some(Node::Map(_)) => {
                    return Err(fault(format!(
                        "`{split}` is neither a path nor a list of paths"
                    )));
                }
            };
            splits.push((split, paths));
        }
        let names = data.get("names").and_then(names);
        let names = names.ok_or_else(|| {
            fault("`names` must be a list, or numbers from 0 with their names".into())
        })?;
        Ok(Self {
            // `path` is often that of the machine where the file was written.
            root: if root.is_dir() { root } else { folder.into() },
            splits,
            names,
        })
    }
}

fn names(names: &Node) -> Option<BTreeMap<u64, String>> {
    let text = |node: &Node| node.text().map(String::from);
    let pairs: Option<BTreeMap<u64, String>> = match names {
        Node::List(list) => (0..)
            .zip(list)
            .map(|(n, name)| Some((n, text(name)?)))
            .collect(),
        Node::Map(map) => map
            .iter()
            .map(|(number, name)| Some((number.parse().ok()?, text(name)?)))
            .collect(),
        _ => None,
    };
    pairs.filter(|pairs| !pairs.is_empty())
}
