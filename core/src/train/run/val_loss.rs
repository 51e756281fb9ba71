//! Losses on the validation set.

use crate::config::Config;
use crate::data::Dataset;
use crate::evaluate::usable::usable_image;
use crate::model::MaskRcnn;
use crate::random::Stream;
use crate::train::error::TrainError;
use crate::train::input::batch::{Batch, TrainSample};
use crate::train::rank::Rank;
use crate::train::step::features::StepFeatures;
use crate::train::step::losses::{Losses, losses};
use crate::train::step::targets::sample;
use burn::module::Module;
use burn::tensor::Device;
use mrcnn_backends::comm::Communicator;

/// Images per batch.
const BATCH: usize = 4;

/// The mean losses by name over the first `train.val_loss_images` images of a dataset, without flips; empty if
/// that is 0.
///
/// The samples are the same each time, so that evaluations can be compared. `model` may be in training; `device`
/// has no autodiff. The batches are divided among the ranks; the result is bit-equal to that of a single process.
pub fn validation_losses(
    comm: &dyn Communicator,
    model: &MaskRcnn,
    dataset: &Dataset,
    config: &Config,
    device: &Device,
) -> Result<Vec<(&'static str, f64)>, TrainError> {
    let model = model.valid().prepared().model;
    let stream = Stream::named("validation", config.train.seed);
    let count = config.train.val_loss_images.min(dataset.samples.len());
    let batches = Rank::of(comm).shard(count.div_ceil(BATCH));
    let mut mine = Vec::new();
    for index in batches {
        let samples = &dataset.samples[index * BATCH..count.min((index + 1) * BATCH)];
        let mut prepared = Vec::with_capacity(samples.len());
        // The evaluation reads the same images, and reports those that are left out.
        let mut left_out = Vec::new();
        for sample in samples {
            let image = usable_image(sample, config.data.on_problem, &mut left_out)?;
            let prepare = |image| TrainSample::new(image, sample, &config.image, false);
            prepared.extend(image.map(prepare));
        }
        let n = prepared.len();
        if n == 0 {
            continue;
        }
        let image = &config.image;
        let batch = Batch::at_least(prepared, image.size_divisor, image.smallest_batch());
        let step = StepFeatures::new(&model, &batch, device, false);
        let samples = sample(&model, &batch, &step, stream.fork(index as u64))?;
        let losses = losses(&model, step, &samples, &samples.counts());
        let values = losses.values().try_into_data()?;
        mine.extend((n as f64).to_le_bytes());
        mine.extend(values.iter::<f64>().flat_map(f64::to_le_bytes));
    }
    // Summed in the order of the batches, on whichever rank they were computed.
    let (mut sums, mut images) = (Losses::NAMES.map(|name| (name, 0.0)), 0.0);
    let all = comm.all_gather_bytes(&mine)?.concat();
    for batch in all.chunks_exact(size_of::<f64>() * (1 + sums.len())) {
        let mut numbers = batch.as_chunks().0.iter().copied().map(f64::from_le_bytes);
        let n = numbers.next().unwrap_or(0.0);
        for ((_, sum), value) in sums.iter_mut().zip(numbers) {
            *sum += value * n;
        }
        images += n;
    }
    let means = sums.into_iter().map(|(name, sum)| (name, sum / images));
    Ok(means.filter(|_| images > 0.0).collect())
}
