//! `data.yaml` of a YOLO dataset.

use super::spec::{ImportError, read_text};
use crate::yaml;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use yaml_rust2::Yaml;

/// Maximum length of `data.yaml` in bytes: 10,000 class names take 200 KB.
const LONGEST: u64 = 1 << 20;

/// The entries that are used.
#[derive(Debug)]
pub(crate) struct DataYaml {
    /// Folder that the others are relative to.
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
        let text = read_text(&path, LONGEST)?;
        let mut data = Self::parse(&text).map_err(|reason| ImportError::source(&path, reason))?;
        let root = folder.join(&data.root);
        // On another machine than the one that wrote the file, `path` often does not exist.
        data.root = if root.is_dir() { root } else { folder.into() };
        Ok(data)
    }

    /// Parses the text of a file; `root` is the folder that it names.
    pub fn parse(text: &str) -> Result<Self, String> {
        let data = &yaml::load(text)?;
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
                _ => return Err(format!("`{split}` is neither a path nor a list of them")),
            };
            splits.push((split, paths));
        }
        let names = names(&data["names"]);
        let names = names.ok_or("`names` must be a list, or numbers from 0 with their names")?;
        Ok(Self {
            root: data["path"].as_str().unwrap_or_default().into(),
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

/// A class name; `no` and `7` are names too, although YAML reads them as other types.
fn scalar(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) | Yaml::Real(text) => Some(text.clone()),
        Yaml::Integer(number) => Some(number.to_string()),
        Yaml::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_read() {
        let text = "path: d\ntrain: [a, b]\nval: c\nnames: {0: cat, 1: 7}\n";
        let data = DataYaml::parse(text).unwrap();
        assert_eq!(data.root, Path::new("d"));
        assert_eq!(data.splits[0].1, ["a", "b"].map(PathBuf::from));
        assert_eq!(data.names[&1], "7");
    }

    /// 505 bytes that took more than 4 GB, and 200 KB that overflowed the stack.
    #[test]
    fn aliases_and_deep_nesting_are_refused() {
        let mut laughs = String::from("a0: &a0 [x]\n");
        for level in 1..10 {
            let refs = vec![format!("*a{}", level - 1); 10].join(",");
            laughs.push_str(&format!("a{level}: &a{level} [{refs}]\n"));
        }
        let error = DataYaml::parse(&laughs).unwrap_err();
        assert!(
            error.contains("line 2") && error.contains("aliases"),
            "{error}"
        );
        for deep in ["- ".repeat(100_000), "[".repeat(100_000)] {
            let error = DataYaml::parse(&deep).unwrap_err();
            assert!(
                error.contains("64 levels") || error.contains("recursion"),
                "{error}"
            );
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("data.yaml"), vec![b'#'; 2 << 20]).unwrap();
        let error = DataYaml::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("data.yaml: 2097152 bytes"), "{error}");
    }
}
