//! Remarks on image files that were found under another name than that of their entry.

use super::segmentation::Fault;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Difference between the name of a file and its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
    Separator,
    Percent,
    Url,
    Folder,
    Case,
    Extension,
}

impl Difference {
    pub fn shown(self) -> &'static str {
        match self {
            Self::Separator => "backslashes",
            Self::Percent => "percent encoding",
            Self::Url => "a URL in place of a path",
            Self::Folder => "another folder",
            Self::Case => "upper and lower case or another Unicode form",
            Self::Extension => "another extension",
        }
    }
}

/// Counts of unusual names with the first of each kind.
#[derive(Default)]
pub(crate) struct Remarks {
    near: BTreeMap<Difference, (usize, String, PathBuf)>,
    /// Names that point outside the dataset's folders.
    outside: Option<(usize, String)>,
}

impl Remarks {
    /// Records that the file of `name` was found at `path`.
    pub fn near(&mut self, difference: Difference, name: &str, path: &Path) {
        let remark = self.near.entry(difference);
        remark.or_insert_with(|| (0, name.into(), path.into())).0 += 1;
    }

    /// Records a name that points outside the dataset's folders.
    pub fn outside(&mut self, name: &str) {
        self.outside.get_or_insert_with(|| (0, name.into())).0 += 1;
    }

    /// One remark per kind of unusual name.
    pub fn faults(&self) -> Vec<Fault> {
        let near = self.near.iter().map(|(difference, (count, name, path))| {
            let reason = format!(
                "{count} images were found although their names differ ({}): `{name}` is {}",
                difference.shown(),
                path.display()
            );
            Fault::new("file name", reason, "fine if these are the images")
        });
        let outside = self.outside.iter().map(|(count, name)| {
            let reason =
                format!("{count} images have names outside the dataset's folder, such as `{name}`");
            let fix = "use names relative to the folder of the images";
            Fault::new("file outside", reason, fix)
        });
        near.chain(outside).collect()
    }
}
