//! Locator of image files: by the name in their entry, or by one that annotation tools derive from it.

use super::remarks::{Difference, Remarks};
use crate::image::EXTENSIONS;
use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};
use unicode_normalization::UnicodeNormalization;

/// Locates the files of a split.
pub(crate) struct Locator {
    /// Folders that names are relative to, the most likely one first.
    roots: Vec<PathBuf>,
    /// Files below the first root by simplified name; built on demand.
    index: Option<Index>,
    /// Remarks on the names looked up so far.
    pub remarks: Remarks,
}

impl Locator {
    pub fn new(images: &Path, annotations: &Path) -> Self {
        let mut roots = vec![images.to_path_buf()];
        let folder = annotations.parent().unwrap_or(Path::new(""));
        for root in [Some(folder), folder.parent(), images.parent()]
            .into_iter()
            .flatten()
        {
            let root = root.to_path_buf();
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        Self {
            roots,
            index: None,
            remarks: Remarks::default(),
        }
    }

    /// Whether several files below the folder of the images have the name of an entry, so that none of them is certain.
    pub fn is_ambiguous(&self, name: &str) -> bool {
        let key = simplified(name);
        let last = key.rsplit('/').next().unwrap_or_default();
        let stem = last.rsplit_once('.').map_or(last, |(stem, _)| stem);
        self.index.as_ref().is_some_and(|index| {
            let several =
                |map: &HashMap<_, Option<PathBuf>>, key| matches!(map.get(key), Some(None));
            several(&index.names, last) || several(&index.stems, stem)
        })
    }

    /// The reason why [`Self::find`] has no file for `name`, whose expected path is `expected`.
    pub fn missing(&self, name: &str, expected: &Path) -> String {
        let expected = expected.display();
        match self.is_ambiguous(name) {
            true => format!(
                "{expected} is missing, and several files in other folders or of other types have its name"
            ),
            false => format!("{expected} is missing"),
        }
    }

    /// The file of an entry, or its expected path if there is no file.
    pub fn find(&mut self, name: &str) -> Result<PathBuf, PathBuf> {
        let expected = self.roots[0].join(name);
        let parts: Vec<Component> = Path::new(name).components().collect();
        let leaves = parts
            .iter()
            .any(|part| matches!(part, Component::ParentDir | Component::RootDir));
        if leaves {
            self.remarks.outside(name);
        }
        if !name.is_empty() && expected.is_file() {
            return Ok(expected);
        }
        match self.near(name) {
            Some((difference, path)) => {
                self.remarks.near(difference, name, &path);
                Ok(path)
            }
            None => Err(expected),
        }
    }

    fn near(&mut self, name: &str) -> Option<(Difference, PathBuf)> {
        let mut difference = Difference::Folder;
        let mut candidates = vec![name.to_string()];
        if let Some(path) = url_path(name) {
            difference = Difference::Url;
            candidates.insert(0, path);
        }
        if name.contains('%') {
            if difference == Difference::Folder {
                difference = Difference::Percent;
            }
            let decoded = |text: &String| {
                percent_encoding::percent_decode_str(text)
                    .decode_utf8_lossy()
                    .into_owned()
            };
            let decoded: Vec<String> = candidates.iter().map(decoded).collect();
            candidates.splice(0..0, decoded);
        }
        if name.contains('\\') {
            if difference == Difference::Folder {
                difference = Difference::Separator;
            }
            candidates = candidates
                .iter()
                .map(|text| text.replace('\\', "/"))
                .collect();
        }
        candidates.retain(|text| !text.trim_matches('/').is_empty());
        let found = candidates.iter().find_map(|text| self.below_a_root(text));
        if let Some(path) = found {
            return Some((difference, path));
        }
        let index = self.index.get_or_insert_with(|| Index::new(&self.roots[0]));
        candidates.iter().find_map(|text| index.find(text))
    }

    /// The path below any root, with leading folders removed one by one.
    fn below_a_root(&self, name: &str) -> Option<PathBuf> {
        let parts: Vec<&str> = name
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .collect();
        if parts.contains(&"..") {
            return None;
        }
        (0..parts.len()).find_map(|first| {
            let rest: PathBuf = parts[first..].iter().collect();
            let paths = self.roots.iter().map(|root| root.join(&rest));
            paths.into_iter().find(|path| path.is_file())
        })
    }
}

/// The path of a URL, or of Label Studio's `/data/local-files/?d=...`.
fn url_path(name: &str) -> Option<String> {
    if let Some((_, path)) = name.split_once("?d=") {
        return Some(path.into());
    }
    let (scheme, rest) = name.split_once("://")?;
    let plain = scheme.chars().all(|c| c.is_ascii_alphanumeric());
    let path = rest.split_once('/')?.1;
    let path = path.split(['?', '#']).next().unwrap_or_default();
    plain.then(|| path.to_string())
}

/// Files below a folder by simplified names.
struct Index {
    /// Keys are the path in lower case and normal form, the file name, and the file name without its extension. `None`
    /// if several files have the key.
    paths: HashMap<String, Option<PathBuf>>,
    names: HashMap<String, Option<PathBuf>>,
    stems: HashMap<String, Option<PathBuf>>,
}

/// Maximum number of files, more than any folder of images has, so that `/` given by mistake does not take forever.
const MAX_FILES: usize = 5_000_000;

impl Index {
    fn new(root: &Path) -> Self {
        let mut index = Self {
            paths: HashMap::new(),
            names: HashMap::new(),
            stems: HashMap::new(),
        };
        let (mut folders, mut count) = (vec![root.to_path_buf()], 0);
        let mut seen = HashSet::new();
        while let Some(folder) = folders.pop() {
            // Links may form cycles.
            let real = folder.canonicalize().unwrap_or(folder.clone());
            if !seen.insert(real) {
                continue;
            }
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                count += 1;
                if count > MAX_FILES {
                    return index;
                }
                if path.is_dir() {
                    folders.push(path);
                } else if path.is_file() {
                    index.add(root, path);
                }
            }
        }
        index
    }

    fn add(&mut self, root: &Path, path: PathBuf) {
        let text = |part: &std::ffi::OsStr| simplified(&part.to_string_lossy());
        let whole = path.strip_prefix(root).unwrap_or(&path).as_os_str();
        // Annotations often lie beside their image, under its name but for the extension.
        let stem = path.file_stem().filter(|_| has_image_extension(&path));
        let keys = [
            (&mut self.paths, Some(whole)),
            (&mut self.names, path.file_name()),
            (&mut self.stems, stem),
        ];
        for (map, key) in keys {
            if let Some(key) = key {
                let same = map.entry(text(key)).or_insert_with(|| Some(path.clone()));
                if same.as_ref() != Some(&path) {
                    *same = None;
                }
            }
        }
    }

    fn find(&self, name: &str) -> Option<(Difference, PathBuf)> {
        let key = simplified(name.trim_start_matches("./"));
        let last = key.rsplit('/').next().unwrap_or_default();
        let stem = last.rsplit_once('.').map_or(last, |(stem, _)| stem);
        let case = |found: &Option<PathBuf>| found.clone().map(|path| (Difference::Case, path));
        let by_path = self.paths.get(&key).and_then(case);
        let by_name = || self.names.get(last).and_then(case);
        let by_stem = || {
            let found = self.stems.get(stem)?.clone()?;
            (!stem.is_empty()).then_some((Difference::Extension, found))
        };
        by_path.or_else(by_name).or_else(by_stem)
    }
}

fn has_image_extension(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

/// Lower case, and composed characters (NFC).
fn simplified(name: &str) -> String {
    name.replace('\\', "/")
        .nfc()
        .collect::<String>()
        .to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_under_nearly_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let files = [
            "images/001.png",
            "images/001.json",
            "images/Capture d\u{e9}cran 002.png",
            "images/deep/003.JPG",
            "images/e\u{301}t\u{e9}.png",
            "images/twice/a.png",
            "images/again/a.png",
        ];
        for file in files {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let cases = [
            ("001.png", "images/001.png", None),
            (
                "images\\001.png",
                "images/001.png",
                Some(Difference::Separator),
            ),
            (
                "C:\\data\\images\\001.png",
                "images/001.png",
                Some(Difference::Separator),
            ),
            (
                "Capture%20d%C3%A9cran%20002.png",
                "images/Capture d\u{e9}cran 002.png",
                Some(Difference::Percent),
            ),
            (
                "https://host/a/001.png?v=2",
                "images/001.png",
                Some(Difference::Url),
            ),
            (
                "/data/local-files/?d=images/001.png",
                "images/001.png",
                Some(Difference::Url),
            ),
            ("train/001.png", "images/001.png", Some(Difference::Folder)),
            ("003.jpg", "images/deep/003.JPG", Some(Difference::Case)),
            (
                "\u{e9}t\u{e9}.png",
                "images/e\u{301}t\u{e9}.png",
                Some(Difference::Case),
            ),
            ("001.jpg", "images/001.png", Some(Difference::Extension)),
        ];
        for (name, wanted, difference) in cases {
            let mut locator = Locator::new(&root.join("images"), &root.join("annotations.json"));
            assert_eq!(locator.find(name), Ok(root.join(wanted)), "{name}");
            let faults = locator.remarks.faults();
            let reason = faults.first().map_or("", |fault| &fault.reason);
            let wanted = difference.map_or("", Difference::shown);
            assert!(
                reason.contains(wanted) && reason.is_empty() == wanted.is_empty(),
                "{name}: {reason}"
            );
        }
        let mut locator = Locator::new(&root.join("images"), &root.join("annotations.json"));
        for name in ["a.png", "b.png", "", "../other.png"] {
            assert!(locator.find(name).is_err(), "{name}");
            assert_eq!(locator.is_ambiguous(name), name == "a.png", "{name}");
        }
        let faults = locator.remarks.faults();
        assert!(faults.len() == 1 && faults[0].reason.contains("`../other.png`"));
    }
}
