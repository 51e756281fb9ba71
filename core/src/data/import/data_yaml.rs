//! `data.yaml` of a YOLO data set.

use super::ImportError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use yaml_rust2::{Yaml, YamlLoader};

/// What of it counts here.
pub(super) struct DataYaml {
    /// Folder that the others are in.
    pub root: PathBuf,
    /// Folders or lists of pictures of each split.
    pub splits: Vec<(&'static str, Vec<PathBuf>)>,
    /// Names of the classes by number.
    pub names: BTreeMap<u64, String>,
}

impl DataYaml {
    /// Reads `folder/data.yaml`.
    pub fn read(folder: &Path) -> Result<Self, ImportError> {
        let path = folder.join("data.yaml");
        let fault = |reason: String| ImportError::source(&path, reason);
        let text = std::fs::read_to_string(&path).map_err(|e| ImportError::io(&path, e))?;
        let documents = YamlLoader::load_from_str(&text).map_err(|e| fault(e.to_string()))?;
        let data = documents.first().unwrap_or(&Yaml::Null);
        let root = folder.join(data["path"].as_str().unwrap_or_default());
        let mut splits = Vec::new();
        for split in ["train", "val", "test"] {
            let paths = match &data[split] {
                Yaml::String(path) => vec![PathBuf::from(path)],
                Yaml::Array(list) => list
                    .iter()
                    .filter_map(Yaml::as_str)
                    .map(Into::into)
                    .collect(),
                Yaml::BadValue | Yaml::Null => continue,
                _ => {
                    return Err(fault(format!(
                        "`{split}` is neither a path nor a list of them"
                    )));
                }
            };
            splits.push((split, paths));
        }
        let names = names(&data["names"]);
        let names = names.ok_or_else(|| {
            let wanted = "`names` must be a list, or numbers from 0 with their names";
            fault(wanted.into())
        })?;
        Ok(Self {
            // Written on another machine, `path` often leads nowhere here.
            root: if root.is_dir() { root } else { folder.into() },
            splits,
            names,
        })
    }
}

fn names(names: &Yaml) -> Option<BTreeMap<u64, String>> {
    let pairs: Option<BTreeMap<u64, String>> = match names {
        Yaml::Array(list) => (0..)
            .zip(list)
            .map(|(n, name)| Some((n, scalar(name)?)))
            .collect(),
        Yaml::Hash(map) => map
            .iter()
            .map(|(number, name)| Some((u64::try_from(number.as_i64()?).ok()?, scalar(name)?)))
            .collect(),
        _ => None,
    };
    pairs.filter(|pairs| !pairs.is_empty())
}

/// A name; `no` and `7` are names too, whatever YAML takes them for.
fn scalar(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) | Yaml::Real(text) => Some(text.clone()),
        Yaml::Integer(number) => Some(number.to_string()),
        Yaml::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}
