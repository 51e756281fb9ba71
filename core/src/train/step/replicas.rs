//! Losses and gradients of a step, by one model or by several replicas in parallel.
//!
//! As in torch's `DistributedDataParallel`, each replica divides its losses by its own sample counts, and the gradients
//! are averaged.

use super::accumulate::sum_of_micro_batches;
use super::gradients::ParamGradients;
use super::losses::LossValues;
use super::peers::Alone;
use super::sums::Sums;
use crate::model::MaskRcnn;
use crate::random::Stream;
use crate::train::input::batch::Batch;
use burn::module::Module;
use burn::tensor::{Device, ExecutionError};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use std::panic::resume_unwind;
use std::thread;

/// Copies of a model that divide a batch, each with its own CPU threads.
#[derive(Debug)]
pub struct Replicas(Vec<ThreadPool>);

impl Replicas {
    /// `count` replicas divide the CPU's threads evenly; a single one uses them all.
    pub fn new(count: usize) -> Result<Self, ThreadPoolBuildError> {
        let count = count.max(1);
        let threads = (rayon::current_num_threads() / count).max(1);
        let pool = |_| ThreadPoolBuilder::new().num_threads(threads).build();
        let pools = if count == 1 { 0 } else { count };
        Ok(Self((0..pools).map(pool).collect::<Result<_, _>>()?))
    }

    /// The losses and gradients of `batch`; between the backward pass and the end, the gradients are `scale` times as
    /// large.
    ///
    /// The batch is split into as many shards as there are replicas (of equal size, or one image more), each computed
    /// with its own autodiff graph. The operations of a small model are too short to be divided among cores: two
    /// replicas on two cores are 1.4 times as fast as one model on both. The result does not depend on how the threads
    /// are scheduled.
    pub fn losses_and_gradients(
        &self,
        model: &MaskRcnn,
        batch: Batch,
        stream: Stream,
        device: &Device,
        scale: f64,
    ) -> Result<(LossValues, ParamGradients), ExecutionError> {
        if self.0.is_empty() {
            return one_replica(model, batch, stream, device, scale)?.read();
        }
        let images = batch.image_ids.len();
        let shards = batch.split(self.0.len());
        let sums = thread::scope(|scope| {
            let mut threads = Vec::with_capacity(shards.len());
            for (replica, (shard, pool)) in shards.into_iter().zip(&self.0).enumerate() {
                // A fork has the same values but no common graph, so that threads do not wait for a lock.
                let model = model.clone().fork(device);
                let stream = stream.fork(replica as u64);
                let weight = shard.image_ids.len() as f64 / images as f64;
                let work = move || -> Result<Sums, ExecutionError> {
                    let sums = one_replica(&model, shard, stream, device, scale)?;
                    Ok(sums.weighted(weight))
                };
                threads.push(scope.spawn(move || pool.install(work)));
            }
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| resume_unwind(panic))
            };
            let sums = threads.into_iter().map(join);
            sums.collect::<Result<Vec<Sums>, ExecutionError>>()
        })?;
        let plain = device.clone().inner();
        let sums = Sums::of(sums).unwrap_or_else(|| Sums::zeros(model, &plain));
        sums.read()
    }
}

fn one_replica(
    model: &MaskRcnn,
    batch: Batch,
    stream: Stream,
    device: &Device,
    scale: f64,
) -> Result<Sums, ExecutionError> {
    let sums = sum_of_micro_batches(model, &[batch], stream, device, scale, &Alone)?;
    Ok(sums.scaled(1.0 / scale))
}
