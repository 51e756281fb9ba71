//! Functions that open the splits of COCO datasets.

use super::dataset::Dataset;
use super::error::DataError;
use super::problem::{Problem, Severity};
use super::reader::read_split;
use super::splits::{Split, find_split};
use crate::config::OnProblem;
use std::path::Path;

impl Dataset {
    /// Opens the split `name` of the dataset in `dir`. The problems are errors, whose entries are left out, and
    /// warnings; with [`OnProblem::Refuse`], an error rejects the dataset.
    pub fn open(
        dir: &Path,
        name: &str,
        on_problem: OnProblem,
    ) -> Result<(Self, Vec<Problem>), DataError> {
        Self::open_files(&find_split(dir, name)?, on_problem)
    }

    /// Opens a split whose files are known.
    pub fn open_files(
        split: &Split,
        on_problem: OnProblem,
    ) -> Result<(Self, Vec<Problem>), DataError> {
        let (dataset, problems) = read_split(split)?;
        let errors: Vec<Problem> = problems
            .iter()
            .filter(|p| p.severity == Severity::Error)
            .cloned()
            .collect();
        if on_problem == OnProblem::Refuse && !errors.is_empty() {
            return Err(DataError::refused(&split.annotations, &errors));
        }
        if dataset.samples.is_empty() {
            return Err(DataError::Empty {
                path: split.annotations.clone(),
            });
        }
        Ok((dataset, problems))
    }
}
