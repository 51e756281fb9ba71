//! Agreement of all ranks to stop an evaluation between its batches.

use crate::train::error::TrainError;
use crate::train::rank::gather_numbers;
use mrcnn_backends::comm::{CommError, Communicator};
use std::ops::ControlFlow;

/// Exchange after each batch of whether any rank stops: a single rank must not leave, because the others would wait for
/// it in the exchange at the end.
pub(super) struct Agreement<'a> {
    comm: &'a dyn Communicator,
    /// Number of remaining exchanges; ranks with one batch less than others have one more at the end.
    left: usize,
    failure: Option<CommError>,
}

impl<'a> Agreement<'a> {
    /// For ranks of at most `batches` batches.
    pub fn new(comm: &'a dyn Communicator, batches: usize) -> Self {
        Self {
            comm,
            left: batches,
            failure: None,
        }
    }

    /// Exchanges after a batch whether this rank stops; `Break` if any rank does.
    pub fn exchange(&mut self, mine: ControlFlow<()>) -> ControlFlow<()> {
        self.left = self.left.saturating_sub(1);
        match gather_numbers(self.comm, [u64::from(mine.is_break())]) {
            Ok(all) if all.iter().all(|&[wants_stop]| wants_stop == 0) => ControlFlow::Continue(()),
            Ok(_) => ControlFlow::Break(()),
            Err(error) => {
                self.failure = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// The result of a rank's batches, or [`TrainError::Interrupted`] if the ranks have agreed to stop.
    pub fn end<T>(mut self, result: Result<T, TrainError>) -> Result<T, TrainError> {
        let mut result = result;
        while result.is_ok() && self.left > 0 {
            if self.exchange(ControlFlow::Continue(())).is_break() {
                result = Err(TrainError::Interrupted);
            }
        }
        match self.failure {
            Some(error) => Err(error.into()),
            None => result,
        }
    }
}
