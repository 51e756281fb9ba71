//! One step by several ranks: the same losses and gradients as by one process with the whole batch.

use crate::config::{Config, NormKind, TrainConfig, Wire};
use crate::model::MaskRcnn;
use crate::random::Stream;
use crate::train::error::TrainError;
use crate::train::input::batch::Batch;
use crate::train::input::loader::LoadError;
use crate::train::step::accumulate::{host_parts, micro_batches};
use crate::train::step::counts::StepCounts;
use crate::train::step::gradients::ParamGradients;
use crate::train::step::losses::read_losses;
use crate::weights::{StateDict, load_state_dict, state_dict};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use mrcnn_backends::comm::{self, CommError, Communicator};
use std::ops::Range;
use std::path::Path;

/// Which of the processes of a run one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// From 0.
    pub rank: usize,
    /// How many there are.
    pub world: usize,
}

impl Rank {
    /// A process that is alone.
    pub const SINGLE: Self = Self { rank: 0, world: 1 };

    /// The rank of a communicator.
    pub fn of(comm: &dyn Communicator) -> Self {
        Self {
            rank: comm.rank(),
            world: comm.world_size(),
        }
    }

    /// This rank's part of `count` things in order: parts of equal size, the first ones of one more.
    pub fn share(self, count: usize) -> Range<usize> {
        comm::share(count, self.rank, self.world)
    }
}

/// Refuses what only one process can do.
pub(crate) fn check(config: &Config, comm: &dyn Communicator) -> Result<(), TrainError> {
    if comm.is_alone() {
        return Ok(());
    }
    let refused = |key, reason| Err(TrainError::Ranks { key, reason });
    if config.train.replicas > 1 {
        return refused(
            "train.replicas",
            "replicas share one process: set it to 1 and start as many ranks more",
        );
    }
    let norms = [config.model.norm, config.model.head_norm];
    if comm.world_size() > 1 && norms.contains(&NormKind::BatchNorm) {
        return refused(
            "model.norm",
            "batch_norm's statistics are those of one process: set it to group_norm or frozen_bn",
        );
    }
    if config.train.wire == Wire::F16 && comm.name() != "nccl" {
        return refused("train.wire", "only NCCL sends f16: set it to f32");
    }
    Ok(())
}

/// The five losses of the whole step and its gradients, on every rank.
///
/// `batch` is this rank's share, perhaps empty, done in `train.accumulate` parts. As each part's losses
/// are divided by its own samples, they count by their share of the samples of all ranks. Gradients are
/// sent `scale` times as large.
pub(crate) fn losses_and_gradients(
    comm: &dyn Communicator,
    model: &MaskRcnn,
    batch: Batch,
    stream: Stream,
    device: &Device,
    config: &TrainConfig,
    scale: f64,
) -> Result<([f32; 5], ParamGradients), TrainError> {
    let pictures = batch.image_ids.len();
    let parts = micro_batches(batch, config.accumulate);
    // Their mean over the ranks is the step's.
    let world = comm.world_size() as f64;
    let whole = |mine| Ok::<_, TrainError>((of_all_ranks(comm, mine, pictures)?, world));
    let (values, gradients) = host_parts(model, &parts, stream, device, scale, whole)?;
    let (values, gradients) = mean(comm, values, gradients, config.wire)?;
    let gradients = gradients.unscaled(scale);
    let found = read_losses(values)?;
    let norms = gather_numbers(comm, [u64::from(gradients.norm().to_bits())])?;
    let norm = f32::from_bits(norms[0][0] as u32);
    Ok((found, gradients.with_norm(norm)))
}

/// The samples of all ranks, of which this one has `mine` in `pictures` pictures.
fn of_all_ranks(
    comm: &dyn Communicator,
    mine: StepCounts,
    pictures: usize,
) -> Result<StepCounts, TrainError> {
    let mine = [pictures, mine.anchors, mine.regions, mine.objects].map(|count| count as u64);
    let mut all = [0; 4];
    for theirs in gather_numbers(comm, mine)? {
        for (sum, count) in all.iter_mut().zip(theirs) {
            *sum += count as usize;
        }
    }
    let [pictures, anchors, regions, objects] = all;
    if pictures == 0 {
        return Err(LoadError::NothingLeft.into());
    }
    Ok(StepCounts {
        anchors,
        regions,
        objects,
    })
}

/// Whether any rank wants to stop before step `step` (from 0); refuses ranks that are at other steps.
pub(crate) fn agree_to_stop(
    comm: &dyn Communicator,
    step: usize,
    stop: bool,
) -> Result<bool, CommError> {
    if comm.is_alone() {
        return Ok(stop);
    }
    comm.mark(&format!("step {}", step + 1));
    let all = gather_numbers(comm, [step as u64, u64::from(stop)])?;
    let ranks: Vec<usize> = (0..all.len())
        .filter(|&rank| all[rank][0] != all[0][0])
        .collect();
    if !ranks.is_empty() {
        return Err(CommError::Differs {
            ranks,
            what: format!(
                "steps ({:?})",
                all.iter().map(|[step, _]| step).collect::<Vec<_>>()
            ),
            help: "start them all from one checkpoint",
        });
    }
    Ok(all.iter().any(|&[_, stop]| stop != 0))
}

/// A few numbers of every rank, in the order of the ranks.
pub(crate) fn gather_numbers<const N: usize>(
    comm: &dyn Communicator,
    mine: [u64; N],
) -> Result<Vec<[u64; N]>, CommError> {
    let bytes: Vec<u8> = mine
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let all = comm.all_gather_bytes(&bytes)?;
    let numbers = |bytes: &Vec<u8>| {
        std::array::from_fn(|i| {
            let bytes = bytes.get(8 * i..).and_then(|rest| rest.first_chunk());
            u64::from_le_bytes(bytes.copied().unwrap_or_default())
        })
    };
    Ok(all.iter().map(numbers).collect())
}

fn mean(
    comm: &dyn Communicator,
    values: Tensor<1>,
    gradients: ParamGradients,
    wire: Wire,
) -> Result<(Tensor<1>, ParamGradients), CommError> {
    // The losses come first: with f32 on the wire they need no bucket of their own.
    let mut tensors = vec![values];
    tensors.extend(gradients.tensors().into_iter().map(|tensor| match wire {
        Wire::F32 => tensor,
        Wire::F16 => tensor.cast(FloatDType::F16),
    }));
    let means = comm.all_reduce_mean(tensors)?;
    let mut means = means.into_iter().map(|tensor| match wire {
        Wire::F32 => tensor,
        Wire::F16 => tensor.cast(FloatDType::F32),
    });
    let values = means.next().expect("as many tensors as were given");
    Ok((values, gradients.with(means)))
}

/// Rank 0's weights on every rank.
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

/// Refuses ranks whose `bytes` are not those of rank 0.
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

/// Refuses weights that have come apart.
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
    let help = "the ranks' machines compute differently: resume from a checkpoint before this step";
    must_agree(comm, &format!("weights after step {step}"), help, &bytes)
}
