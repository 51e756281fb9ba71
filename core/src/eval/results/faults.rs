//! Faults of annotation and results files.

use crate::data::printable;
use crate::eval::EvalError;
use std::path::Path;

/// Faults of a file; the first few are shown.
#[derive(Default)]
pub(super) struct Faults {
    pub count: usize,
    first: Vec<String>,
}

impl Faults {
    pub fn push(&mut self, fault: String) {
        self.count += 1;
        if self.first.len() < 3 {
            self.first.push(fault);
        }
    }

    /// Returns an error if the file has faults.
    pub fn refuse(self, path: &Path, fix: &'static str) -> Result<(), EvalError> {
        if self.count == 0 {
            return Ok(());
        }
        let first: Vec<String> = self.first.iter().map(|fault| printable(fault)).collect();
        Err(EvalError::Refused {
            path: path.into(),
            count: self.count,
            first: first.join("\n"),
            fix,
        })
    }
}
