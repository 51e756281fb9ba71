//! Arguments of `predict` that select objects.

use anyhow::{Result, bail};
use clap::Args;
use mrcnn_core::Prediction;
use mrcnn_core::data::{Classes, printable};
use std::str::FromStr;

#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Keep only objects of these classes, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    classes: Vec<String>,
    /// Keep at most N objects per image, those with the highest scores
    #[arg(long, value_name = "N")]
    max_detections: Option<usize>,
    /// Keep only objects with a mask of MIN to MAX pixels, such as 100..5000, 100.. or ..5000
    #[arg(long, value_name = "MIN..MAX")]
    area: Option<AreaRange>,
}

/// Areas in pixels; both ends are included.
#[derive(Clone, Copy, Debug, PartialEq)]
struct AreaRange {
    from: u64,
    to: u64,
}

impl FromStr for AreaRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let end = |text: &str, open: u64| match text {
            "" => Some(open),
            number => number.parse().ok(),
        };
        let range = text.split_once("..").and_then(|(from, to)| {
            Some(Self {
                from: end(from, 0)?,
                to: end(to, u64::MAX)?,
            })
        });
        match range {
            Some(range) if range.from <= range.to => Ok(range),
            _ => Err(format!(
                "`{text}` is not a range of pixels; give MIN..MAX, such as 100..5000, 100.. or ..5000"
            )),
        }
    }
}

impl FilterArgs {
    /// Fails if a class is unknown.
    pub fn check(&self, classes: &Classes) -> Result<()> {
        let unknown = self
            .classes
            .iter()
            .find(|name| !classes.names.contains(name));
        if let Some(unknown) = unknown {
            let known: Vec<String> = classes.names.iter().map(|name| printable(name)).collect();
            bail!(
                "--classes {}: no such class; the classes are {}",
                printable(unknown),
                known.join(", ")
            );
        }
        Ok(())
    }

    pub fn apply(&self, found: &mut Prediction) {
        found.retain(|object| {
            let is_class = self.classes.is_empty() || self.classes.contains(&object.name);
            let fits = self
                .area
                .is_none_or(|range| (range.from..=range.to).contains(&object.mask.area()));
            is_class && fits
        });
        found
            .detections
            .truncate(self.max_detections.unwrap_or(usize::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_open_ends() {
        let range = |text: &str| text.parse::<AreaRange>();
        let found = |from, to| Ok(AreaRange { from, to });
        assert_eq!(range("100..5000"), found(100, 5000));
        assert_eq!(range("100.."), found(100, u64::MAX));
        assert_eq!(range("..5000"), found(0, 5000));
        for wrong in ["100", "5..2", "a..b", "-1..3", "1...3"] {
            assert!(range(wrong).unwrap_err().contains("100..5000"), "{wrong}");
        }
    }
}
