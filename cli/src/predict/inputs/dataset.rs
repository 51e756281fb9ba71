//! Detection of the dataset to which the images of a folder belong.

use anyhow::Result;
use mrcnn_core::data::{DataError, Dataset, OnProblem, Split, find_split, find_splits};
use std::path::{Path, PathBuf};

/// The dataset in a folder, or the dataset whose images the folder contains.
pub(super) fn dataset_of(folder: &Path, split: Option<&str>) -> Result<Option<(Dataset, PathBuf)>> {
    let found = match find_splits(folder) {
        Ok(splits) => Some(choose(folder, &splits, split)?),
        Err(error) if split.is_some() && parent_split(folder).is_none() => return Err(error.into()),
        Err(_) => parent_split(folder),
    };
    let Some(found) = found else { return Ok(None) };
    match Dataset::open_files(&found, OnProblem::Skip) {
        Ok((dataset, _)) => Ok(Some((dataset, found.annotations))),
        // A folder of images with an unrelated JSON file beside them.
        Err(DataError::NotCoco { .. } | DataError::Empty { .. }) if split.is_none() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn choose(folder: &Path, splits: &[Split], name: Option<&str>) -> Result<Split> {
    if let Some(name) = name {
        return Ok(find_split(folder, name)?);
    }
    if let [only] = splits {
        return Ok(only.clone());
    }
    find_split(folder, "val").map_err(|_| {
        let names: Vec<&str> = splits.iter().map(|split| split.name.as_str()).collect();
        anyhow::anyhow!(
            "{}: the dataset has several splits; give --split with one of {}",
            folder.display(),
            names.join(", ")
        )
    })
}

/// The split of a dataset one or two folders above whose images lie in `folder`.
fn parent_split(folder: &Path) -> Option<Split> {
    let folder = folder.canonicalize().ok()?;
    let mut parents = folder.ancestors().skip(1).take(2);
    parents.find_map(|parent| {
        let splits = find_splits(parent).ok()?;
        let mut own = splits
            .into_iter()
            .filter(|split| split.images.canonicalize().is_ok_and(|at| at == folder));
        let first = own.next()?;
        own.next().is_none().then_some(first)
    })
}
