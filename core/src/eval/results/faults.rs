//! Faults of annotation and results files.

use crate::data::json::ScanError;
use crate::data::printable;
use crate::eval::EvalError;
use std::path::Path;

pub(super) fn scan_error(path: &Path, error: ScanError) -> EvalError {
    match error {
        ScanError::Io(source) => EvalError::Io {
            path: path.into(),
            source,
        },
        ScanError::Json(reason) => EvalError::Json {
            path: path.into(),
            reason,
        },
    }
}

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

    pub fn refuse(self, path: &Path, fix: &'static str) -> Result<(), EvalError> {
        match self.count {
            0 => Ok(()),
            count => Err(EvalError::Refused {
                path: path.into(),
                count,
                first: self
                    .first
                    .iter()
                    .map(|fault| printable(fault))
                    .collect::<Vec<_>>()
                    .join("\n"),
                fix,
            }),
        }
    }
}
