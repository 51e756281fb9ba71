//! One step's losses and gradients, by one model or by several replicas side by side.
//!
//! As in torch's `DistributedDataParallel`, each replica normalises its losses by its own samples, and
//! the gradients are averaged.

use super::gradients::ParamGradients;
use super::host::step_losses;
use super::losses::read_losses;
use crate::model::MaskRcnn;
use crate::random::Stream;
use crate::train::input::batch::Batch;
use burn::module::Module;
use burn::tensor::{Device, ExecutionError};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use std::panic::resume_unwind;
use std::thread;

/// Copies of a model that share a batch, each with processor threads of its own.
#[derive(Debug)]
pub struct Replicas(Vec<ThreadPool>);

impl Replicas {
    /// `count` replicas share the processor's threads evenly; a single one uses them as it likes.
    pub fn new(count: usize) -> Result<Self, ThreadPoolBuildError> {
        let count = count.max(1);
        let threads = (rayon::current_num_threads() / count).max(1);
        let pool = |_| ThreadPoolBuilder::new().num_threads(threads).build();
        let pools = if count == 1 { 0 } else { count };
        Ok(Self((0..pools).map(pool).collect::<Result<_, _>>()?))
    }

    /// The five losses (in the order of [`crate::train::Losses::NAMES`]) and the gradients of `batch`; between the
    /// backward pass and the end, the gradients are `scale` times as large.
    ///
    /// The batch is cut into as many parts as there are replicas (of equal size, or one picture more),
    /// each done with an autodiff graph of its own. A small model's operations are too short to share
    /// out among cores: two replicas on two cores are 1.4 times as fast as one model on both. The
    /// result does not depend on how the threads run.
    pub fn losses_and_gradients(
        &self,
        model: &MaskRcnn,
        batch: Batch,
        stream: Stream,
        device: &Device,
        scale: f64,
    ) -> Result<([f32; 5], ParamGradients), ExecutionError> {
        if self.0.is_empty() {
            return one_replica(model, &batch, stream, device, scale);
        }
        let pictures = batch.image_ids.len();
        let parts = batch.split(self.0.len());
        let shares: Vec<f64> = parts
            .iter()
            .map(|part| part.image_ids.len() as f64 / pictures as f64)
            .collect();
        let found = thread::scope(|scope| {
            let mut threads = Vec::with_capacity(parts.len());
            for (replica, (part, pool)) in parts.into_iter().zip(&self.0).enumerate() {
                // A fork shares the values but not the graph, so that threads do not wait for a lock.
                let model = model.clone().fork(device);
                let stream = stream.fork(replica as u64);
                let work = move || one_replica(&model, &part, stream, device, scale);
                threads.push(scope.spawn(move || pool.install(work)));
            }
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| resume_unwind(panic))
            };
            threads.into_iter().map(join).collect::<Vec<Result<_, _>>>()
        });
        let mut losses = [0.0; 5];
        let mut gradients = Vec::with_capacity(found.len());
        for (found, share) in found.into_iter().zip(shares) {
            let (part, gradient) = found?;
            for (sum, loss) in losses.iter_mut().zip(part) {
                *sum += loss * share as f32;
            }
            gradients.push((gradient, share));
        }
        Ok((losses, ParamGradients::mean(gradients)))
    }
}

fn one_replica(
    model: &MaskRcnn,
    batch: &Batch,
    stream: Stream,
    device: &Device,
    scale: f64,
) -> Result<([f32; 5], ParamGradients), ExecutionError> {
    let losses = step_losses(model, batch, stream, device)?;
    let found = read_losses(losses.values().inner())?;
    let gradients = losses.backward(scale);
    Ok((found, ParamGradients::of(model, &gradients).unscaled(scale)))
}
