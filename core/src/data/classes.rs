//! Classes: labels, names and category ids.

use super::error::DataError;
use super::json::read_text;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// The classes of a dataset: labels `1..=len` for its category ids, in ascending order of the ids.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Classes {
    /// Name of label `i + 1`.
    pub names: Vec<String>,
    /// Category id of label `i + 1`.
    pub ids: Vec<u64>,
}

impl Classes {
    /// The label of a category id.
    pub fn label_of(&self, category_id: u64) -> Option<usize> {
        self.ids
            .iter()
            .position(|&id| id == category_id)
            .map(|index| index + 1)
    }

    /// The name of a label; `background` for 0, `class N` for an unknown label.
    pub fn name(&self, label: usize) -> String {
        match label.checked_sub(1) {
            None => "background".into(),
            Some(index) => self
                .names
                .get(index)
                .cloned()
                .unwrap_or(format!("class {label}")),
        }
    }

    /// The category id of a label.
    pub fn category_id(&self, label: usize) -> Option<u64> {
        label
            .checked_sub(1)
            .and_then(|index| self.ids.get(index).copied())
    }

    /// Number of classes without the background.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no classes.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Whether the classes have names of their own, and not only [`Self::name`]'s `class 1`, `class 2`, ... as those of
    /// imported weights.
    pub fn has_names(&self) -> bool {
        let mut named = (1..).zip(&self.names);
        named.any(|(label, name): (usize, _)| *name != format!("class {label}"))
    }

    /// Maps each label of these classes, from 0, to its label in `others`; the background stays 0.
    ///
    /// Classes are the same if their names are and, if several classes share a name, their ids too. `None` if
    /// a class of `others` is not among these.
    pub fn labels_in(&self, others: &Self) -> Option<Vec<Option<usize>>> {
        let back = others.matched(self);
        let all_known = back.iter().all(Option::is_some);
        all_known.then(|| {
            let mut labels = vec![None; self.len() + 1];
            for (label, own) in back.into_iter().enumerate() {
                if let Some(own) = own {
                    labels[own] = Some(label);
                }
            }
            labels
        })
    }

    /// Maps each label of these classes, from 0, to the label of the class of the same name in `others`.
    pub(crate) fn matched(&self, others: &Self) -> Vec<Option<usize>> {
        let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
        for (label, name) in (1..).zip(&others.names) {
            by_name.entry(name).or_default().push(label);
        }
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for name in &self.names {
            *counts.entry(name).or_default() += 1;
        }
        let label =
            |(name, id): (&String, &u64)| match by_name.get(name.as_str()).map(Vec::as_slice) {
                Some([label]) if counts.get(name.as_str()) == Some(&1) => Some(*label),
                Some(labels) => labels
                    .iter()
                    .copied()
                    .find(|label| others.ids.get(label - 1) == Some(id)),
                None => None,
            };
        let labels = self.names.iter().zip(&self.ids).map(label);
        [Some(0)].into_iter().chain(labels).collect()
    }

    /// Reads classes from a text file with one name per line, which get the ids 1, 2, ..., or from the
    /// `categories` of a COCO JSON file, in ascending order of their ids.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let text = read_text(path).map_err(|source| DataError::Io {
            path: path.into(),
            source,
        })?;
        let is_json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        Self::parse(&text, is_json, path)
    }

    /// The classes of a text with a name per line, or of COCO's JSON; `path` is named in errors.
    pub(crate) fn parse(text: &str, is_json: bool, path: &Path) -> Result<Self, DataError> {
        let mut pairs: Vec<(u64, String)> = if is_json {
            let file: Categories = serde_json::from_str(text).map_err(|error| DataError::Json {
                path: path.into(),
                reason: error.to_string(),
            })?;
            file.categories
                .into_iter()
                .map(|c| (c.id, c.name))
                .collect()
        } else {
            // Old Macintosh programs end lines with a carriage return only.
            let names = text.split(['\n', '\r']).map(str::trim);
            let names: Vec<&str> = names.filter(|line| !line.is_empty()).collect();
            let mut seen = HashSet::new();
            if let Some(name) = names.iter().find(|name| !seen.insert(**name)) {
                let reason = format!(
                    "the class `{name}` is listed twice; every class needs a name of its own"
                );
                return Err(DataError::Io {
                    path: path.into(),
                    source: std::io::Error::new(std::io::ErrorKind::InvalidData, reason),
                });
            }
            (1..).zip(names.into_iter().map(String::from)).collect()
        };
        pairs.sort();
        let (ids, names) = pairs.into_iter().unzip();
        Ok(Self { names, ids })
    }
}

#[derive(Deserialize)]
struct Categories {
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Category {
    id: u64,
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(pairs: &[(u64, &str)]) -> Classes {
        let (ids, names) = pairs
            .iter()
            .map(|&(id, name)| (id, name.to_string()))
            .unzip();
        Classes { names, ids }
    }

    #[test]
    fn labels_follow_ids_and_names() {
        let model = classes(&[(1, "person"), (2, "unused 2"), (3, "car")]);
        let data = classes(&[(1, "person"), (3, "car")]);
        let labels = model.labels_in(&data).unwrap();
        assert_eq!(labels, [Some(0), Some(1), None, Some(2)]);
        assert_eq!(model.labels_in(&classes(&[(1, "tree")])), None);
        assert_eq!(data.labels_in(&model), None);
        // Names count, not ids.
        let turned = classes(&[(1, "car"), (2, "person")]);
        assert_eq!(
            turned.labels_in(&data).unwrap(),
            [Some(0), Some(2), Some(1)]
        );
        // Ids matter if names are used twice.
        let twice = classes(&[(1, "a"), (2, "a")]);
        assert_eq!(
            twice.labels_in(&twice).unwrap(),
            [Some(0), Some(1), Some(2)]
        );
    }

    #[test]
    fn names_are_read_from_lines_and_from_coco() {
        let folder = tempfile::tempdir().unwrap();
        let (lines, json) = (folder.path().join("a.txt"), folder.path().join("b.json"));
        std::fs::write(&lines, "\u{feff}cat\r\n\r\n dog \r\n").unwrap();
        std::fs::write(
            &json,
            r#"{"categories":[{"id":7,"name":"b"},{"id":2,"name":"a"}]}"#,
        )
        .unwrap();
        assert_eq!(
            Classes::read(&lines).unwrap(),
            classes(&[(1, "cat"), (2, "dog")])
        );
        assert_eq!(
            Classes::read(&json).unwrap(),
            classes(&[(2, "a"), (7, "b")])
        );
        assert!(Classes::read(&folder.path().join("none")).is_err());
    }
}
