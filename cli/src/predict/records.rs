//! The lists of images and detections, and the lines of the table.

use super::output::JsonList;
use anyhow::Result;
use mrcnn_core::Prediction;
use mrcnn_core::data::{Classes, printable};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

/// An image in `images.json`.
#[derive(Deserialize, Serialize)]
pub struct Entry {
    pub id: u64,
    pub file_name: String,
    #[serde(default)]
    pub width: u32,
    #[serde(default)]
    pub height: u32,
    /// Number of detections.
    #[serde(default)]
    pub detections: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `detections.json` and `images.json`, which are valid JSON at any moment.
pub struct Lists {
    pub detections: JsonList,
    pub images: JsonList,
    /// Names of the images that an earlier run finished.
    pub done: HashSet<String>,
    pub counts: Counts,
}

/// Objects per category id.
#[derive(Default)]
pub struct Counts {
    images: usize,
    objects: BTreeMap<u64, usize>,
}

impl Counts {
    pub fn add(&mut self, category_ids: impl Iterator<Item = u64>) {
        self.images += 1;
        for id in category_ids {
            *self.objects.entry(id).or_default() += 1;
        }
    }

    /// `3 images, 7 objects: 5 cat, 2 dog`, the most frequent class first; `noun` is `images` or `frames`.
    pub fn shown(&self, classes: &Classes, noun: &str) -> String {
        let all: usize = self.objects.values().sum();
        let mut counts: Vec<(u64, usize)> = self.objects.iter().map(|(&i, &n)| (i, n)).collect();
        counts.sort_by_key(|&(id, count)| (std::cmp::Reverse(count), id));
        let name = |id| {
            let label = classes.label_of(id).unwrap_or_default();
            printable(&classes.name(label))
        };
        let counts: Vec<String> = counts
            .iter()
            .map(|&(id, count)| format!("{count} {}", name(id)))
            .collect();
        let colon = if counts.is_empty() { "" } else { ": " };
        let images = counted(self.images, noun);
        let objects = counted(all, "objects");
        format!("{images}, {objects}{colon}{}", counts.join(", "))
    }
}

/// `1 image`, `2 images`.
fn counted(count: usize, plural: &str) -> String {
    let noun = match count {
        1 => plural.strip_suffix('s').unwrap_or(plural),
        _ => plural,
    };
    format!("{count} {noun}")
}

impl Lists {
    /// Opens the lists in `out`. With `resume`, results of an image that an earlier run did not finish are dropped;
    /// otherwise all of them are.
    pub fn open(out: &Path, resume: bool) -> Result<Self> {
        let paths = ["detections.json", "images.json"].map(|name| out.join(name));
        let (mut kept, mut entries, mut done) = (Vec::new(), Vec::new(), HashSet::new());
        let mut counts = Counts::default();
        if resume {
            for element in JsonList::read(&paths[1])? {
                let entry: Entry = serde_json::from_str(element.get())?;
                if entry.error.is_none() && done.insert(entry.file_name) {
                    entries.push(element);
                    counts.images += 1;
                }
            }
            #[derive(Deserialize)]
            struct Named {
                file_name: String,
                category_id: u64,
            }
            for element in JsonList::read(&paths[0])? {
                let named: Named = serde_json::from_str(element.get())?;
                if done.contains(&named.file_name) {
                    kept.push(element);
                    *counts.objects.entry(named.category_id).or_default() += 1;
                }
            }
        }
        Ok(Self {
            detections: JsonList::create(&paths[0], &kept)?,
            images: JsonList::create(&paths[1], &entries)?,
            done,
            counts,
        })
    }
}

/// The entry in `images.json` of an image that cannot be read.
pub fn failure(id: u64, file_name: String, error: String) -> serde_json::Result<String> {
    serde_json::to_string(&Entry {
        id,
        file_name,
        width: 0,
        height: 0,
        detections: 0,
        error: Some(error),
    })
}

/// The line of an image in the table.
pub fn row(name: &str, time: Duration, found: &Prediction) -> String {
    let milliseconds = time.as_millis();
    let size = format!("{}x{}", found.width, found.height);
    let shown = shorten(&printable(name), 40);
    format!(
        "{shown:<40} {size:>11} {milliseconds:>8}  {}",
        summary(found)
    )
}

/// `circle 0.99, circle 0.87, star 0.61`, at most five of them.
fn summary(found: &Prediction) -> String {
    const SHOWN: usize = 5;
    let objects = found.iter().take(SHOWN);
    let mut text: Vec<String> = objects
        .map(|object| format!("{} {:.2}", printable(&object.name), object.score))
        .collect();
    if found.len() > SHOWN {
        text.push(format!("and {} more", found.len() - SHOWN));
    }
    if text.is_empty() {
        "none".into()
    } else {
        text.join(", ")
    }
}

/// The end of a long path, which identifies the file.
fn shorten(path: &str, length: usize) -> String {
    let count = path.chars().count();
    if count <= length {
        return path.into();
    }
    let end: String = path.chars().skip(count - (length - 3)).collect();
    format!("...{end}")
}
