//! A training step on several ranks, with the same losses and gradients as one process with the whole batch.

use super::peers::Exchange;
use crate::config::{Config, TrainConfig, Wire};
use crate::model::MaskRcnn;
use crate::random::Stream;
use crate::train::error::{LoadError, TrainError};
use crate::train::input::batch::Batch;
use crate::train::rank::gather_numbers;
use crate::train::step::accumulate::{micro_batches, sum_of_micro_batches};
use crate::train::step::gradients::ParamGradients;
use crate::train::step::losses::LossValues;
use crate::weights::{StateDict, load_state_dict, state_dict};
use burn::tensor::{Device, Tensor, TensorData};
use mrcnn_backends::comm::{CommError, Communicator};
use std::path::Path;

/// Rejects settings that work with one process only.
pub(crate) fn check(config: &Config, comm: &dyn Communicator) -> Result<(), TrainError> {
    if comm.is_alone() {
        return Ok(());
    }
    let refused = |key, reason| Err(TrainError::Setting { key, reason });
    if config.train.replicas > 1 {
        return refused(
            "train.replicas",
            "replicas share one process: set it to 1 and start more ranks instead",
        );
    }
    if comm.world_size() > 1
        && let Some(keys) = config.model.batch_norm_keys()
    {
        return refused(
            keys,
            "batch_norm's statistics are those of one process: use group_norm or frozen_bn",
        );
    }
    if config.train.graph {
        return refused(
            "train.graph",
            "a graph has no communication between ranks: set it to false",
        );
    }
    if config.train.wire == Wire::F16 && comm.name() != "nccl" {
        return refused("train.wire", "only NCCL sends f16: set it to f32");
    }
    Ok(())
}

/// The losses and gradients of the whole step, on every rank.
///
/// `batch` is the shard of this rank, which may be empty, computed in `train.accumulate` micro-batches. Its losses are
/// divided by the sample counts of all ranks, which are reduced before the backward pass. A communicator that
/// [overlaps](Communicator::overlaps) sends the gradients of the heads while the backward pass of the backbone runs.
/// Gradients are sent `scale` times as large.
pub fn losses_and_gradients(
    comm: &dyn Communicator,
    model: &MaskRcnn,
    batch: Batch,
    stream: Stream,
    device: &Device,
    config: &TrainConfig,
    scale: f64,
) -> Result<(LossValues, ParamGradients), TrainError> {
    let images = batch.image_ids.len() as u64;
    let micro_batches = micro_batches(batch, config.accumulate);
    let wire = config.wire;
    let exchange = Exchange { comm, wire };
    let sums = sum_of_micro_batches(model, &micro_batches, stream, device, scale, &exchange)?;
    let (losses, gradients) = sums.scaled(1.0 / scale).read()?;
    let all = gather_numbers(comm, [images, u64::from(gradients.norm().to_bits())])?;
    if all.iter().all(|&[images, _]| images == 0) {
        return Err(LoadError::nothing_left(&[]).into());
    }
    // Every rank must clip by the same norm.
    let norm = f32::from_bits(all[0][1] as u32);
    Ok((losses, gradients.with_norm(norm)))
}

/// The next action of all ranks.
pub(crate) enum NextAction {
    /// Run the step.
    Step {
        /// Whether a rank left out images that are not known yet.
        left_out: bool,
    },
    /// Write a checkpoint and stop, because the observer of a rank requested it.
    Stop,
    /// Write a checkpoint and stop, because these ranks have no batch.
    Failed(Vec<usize>),
}

/// Agrees with the other ranks on step `step` (from 0), given whether this rank stops and whether it failed to load its
/// batch, and the number of images that it has newly left out. Returns an error if ranks are at different steps.
pub(crate) fn agree(
    comm: &dyn Communicator,
    step: usize,
    stop: bool,
    has_failed: bool,
    left_out: usize,
) -> Result<NextAction, CommError> {
    let mine = [
        step as u64,
        u64::from(stop),
        u64::from(has_failed),
        left_out as u64,
    ];
    let all = match comm.is_alone() {
        true => vec![mine],
        false => {
            comm.mark(&format!("step {}", step + 1));
            gather_numbers(comm, mine)?
        }
    };
    let ranks_where = |is_so: &dyn Fn(&[u64; 4]) -> bool| -> Vec<usize> {
        (0..all.len()).filter(|&rank| is_so(&all[rank])).collect()
    };
    let ranks = ranks_where(&|numbers| numbers[0] != all[0][0]);
    if !ranks.is_empty() {
        return Err(CommError::Differs {
            ranks,
            what: format!(
                "steps ({:?})",
                all.iter().map(|[step, ..]| step).collect::<Vec<_>>()
            ),
            help: "start them all from one checkpoint",
        });
    }
    let failed = ranks_where(&|numbers| numbers[2] != 0);
    Ok(match failed.is_empty() {
        _ if all.iter().any(|&[_, stop, ..]| stop != 0) => NextAction::Stop,
        true => NextAction::Step {
            left_out: all.iter().any(|&[.., left_out]| left_out != 0),
        },
        false => NextAction::Failed(failed),
    })
}

/// The reason of the first of these ranks, on every rank.
pub(crate) fn reason_of(
    comm: &dyn Communicator,
    ranks: &[usize],
    mine: &str,
) -> Result<String, CommError> {
    let all = comm.all_gather_bytes(mine.as_bytes())?;
    let first = ranks.first().and_then(|&rank| all.get(rank));
    Ok(String::from_utf8_lossy(first.map_or(&[], Vec::as_slice)).into_owned())
}

/// Broadcasts rank 0's weights to every rank.
pub(crate) fn same_weights(
    comm: &dyn Communicator,
    model: MaskRcnn,
    device: &Device,
) -> Result<MaskRcnn, TrainError> {
    if comm.is_alone() {
        return Ok(model);
    }
    let state = state_dict(&model);
    let flat = state.values().map(|data| {
        let values: Vec<f32> = data.iter::<f32>().collect();
        Tensor::<1>::from_floats(values.as_slice(), device)
    });
    let flat = comm.broadcast(flat.collect())?;
    let mut same = StateDict::new();
    for ((name, old), tensor) in state.into_iter().zip(flat) {
        let values: Vec<f32> = tensor.try_into_data()?.iter::<f32>().collect();
        same.insert(name, TensorData::new(values, old.shape().clone()));
    }
    Ok(load_state_dict(model, same, Path::new("rank 0's weights"))?)
}

/// Returns an error on ranks whose `bytes` differ from those of rank 0.
pub(crate) fn must_agree(
    comm: &dyn Communicator,
    what: &str,
    help: &'static str,
    bytes: &[u8],
) -> Result<(), CommError> {
    let hashes = gather_numbers(comm, [u64::from(crc32c::crc32c(bytes)), bytes.len() as u64])?;
    let differs = |&rank: &usize| hashes[rank] != hashes[0];
    let ranks: Vec<usize> = (0..hashes.len()).filter(differs).collect();
    match ranks.is_empty() {
        true => Ok(()),
        false => Err(CommError::Differs {
            ranks,
            what: what.into(),
            help,
        }),
    }
}

/// Returns an error if the weights of the ranks differ.
pub(crate) fn weights_must_agree(
    comm: &dyn Communicator,
    model: &MaskRcnn,
    step: usize,
) -> Result<(), CommError> {
    if comm.is_alone() {
        return Ok(());
    }
    let mut bytes = Vec::new();
    for data in state_dict(model).values() {
        bytes.extend(crc32c::crc32c(data.as_bytes()).to_le_bytes());
    }
    let help =
        "the ranks' machines compute different results: resume from a checkpoint before this step";
    must_agree(comm, &format!("weights after step {step}"), help, &bytes)
}
