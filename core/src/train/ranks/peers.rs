//! The exchange between ranks during a step: sample counts, losses and gradients.
//!
//! With NCCL, the gradients of the heads are sent while the backward pass of the backbone runs, the others after it.

use crate::config::Wire;
use crate::train::error::TrainError;
use crate::train::step::gradients::ParamGradients;
use crate::train::step::losses::Losses;
use crate::train::step::peers::Peers;
use crate::train::step::samples::SampleCounts;
use crate::train::step::sums::Sums;
use burn::module::ParamId;
use burn::tensor::{FloatDType, Tensor};
use mrcnn_backends::comm::{Communicator, Reduction};

/// The ranks of a run as the peers of a step.
pub(super) struct Exchange<'a> {
    pub(super) comm: &'a dyn Communicator,
    /// Dtype in which gradients are sent.
    pub(super) wire: Wire,
}

impl<'a> Peers for Exchange<'a> {
    type Error = TrainError;
    type Heads = Sent<'a>;

    fn cuts_at_pyramid(&self) -> bool {
        self.comm.overlaps()
    }

    fn reduce_counts(&self, mine: SampleCounts) -> Result<SampleCounts, TrainError> {
        mine.mean_over(self.comm.world_size(), |counts| {
            let means = self.comm.all_reduce_mean(vec![counts])?;
            Ok(means.into_iter().next().expect("one tensor was given"))
        })
    }

    fn send_heads(&self, mine: Sums) -> Result<Sent<'a>, TrainError> {
        // The losses come first: with f32 on the wire they need no bucket of their own.
        self.send(mine.losses.into(), mine.gradients)
    }

    fn finish(&self, heads: Sent<'a>, backbone: ParamGradients) -> Result<Sums, TrainError> {
        let backbone = match self.cuts_at_pyramid() {
            true => Some(self.send(Vec::new(), backbone)?),
            false => None,
        };
        let (losses, gradients) = heads.finish()?;
        let mut losses = losses.into_iter();
        let heads = Sums {
            losses: Losses::NAMES.map(|_| losses.next().expect("as many as were sent")),
            gradients,
        };
        Ok(match backbone {
            Some(backbone) => heads.with_first(backbone.finish()?.1),
            None => heads,
        })
    }
}

impl<'a> Exchange<'a> {
    /// Starts the mean over the ranks of `numbers` and `gradients`.
    fn send(
        &self,
        numbers: Vec<Tensor<1>>,
        gradients: ParamGradients,
    ) -> Result<Sent<'a>, TrainError> {
        let (ids, gradients) = gradients.into_parts();
        let count = numbers.len();
        let mut tensors = numbers;
        tensors.extend(gradients.into_iter().map(|tensor| match self.wire {
            Wire::F32 => tensor,
            Wire::F16 => tensor.cast(FloatDType::F16),
        }));
        Ok(Sent {
            reduction: self.comm.start_all_reduce_mean(tensors)?,
            count,
            ids,
        })
    }
}

/// Numbers and gradients on their way to the other ranks.
pub(super) struct Sent<'a> {
    reduction: Reduction<'a>,
    /// How many numbers there are.
    count: usize,
    /// Parameters of the gradients, which come after the numbers.
    ids: Vec<ParamId>,
}

impl Sent<'_> {
    /// The means over the ranks.
    fn finish(self) -> Result<(Vec<Tensor<1>>, ParamGradients), TrainError> {
        let mut numbers = self.reduction.finish()?;
        let means = numbers.split_off(self.count);
        let means = means.into_iter().map(|tensor| tensor.cast(FloatDType::F32));
        let gradients = self.ids.into_iter().zip(means).collect();
        Ok((numbers, ParamGradients::new(gradients)))
    }
}
