//! The losses on pictures that are not trained on.

use super::batch::{Batch, TrainSample};
use super::error::TrainError;
use super::loader::LoadError;
use super::losses::Losses;
use super::step::forward_losses;
use crate::config::Config;
use crate::data::{Dataset, OnProblem};
use crate::image::decode::decode;
use crate::model::MaskRcnn;
use crate::random::Stream;
use burn::module::Module;
use burn::tensor::Device;

/// Pictures at a time.
const BATCH: usize = 4;

/// The mean losses (in the order of [`Losses::NAMES`]) over the first `train.val_loss_pictures`
/// pictures of a data set, without flips; none where that is 0.
///
/// The same samples are drawn each time, so that two evaluations can be compared. `model` may be in
/// training; `device` is one without autodiff.
pub fn validation_losses(
    model: &MaskRcnn,
    dataset: &Dataset,
    config: &Config,
    device: &Device,
) -> Result<Option<[f64; 5]>, TrainError> {
    let model = model.valid();
    let stream = Stream::named("validation", config.train.seed);
    let count = config.train.val_loss_pictures.min(dataset.samples.len());
    let (mut sums, mut pictures) = ([0.0; Losses::NAMES.len()], 0);
    for (index, samples) in dataset.samples[..count].chunks(BATCH).enumerate() {
        let mut prepared = Vec::with_capacity(samples.len());
        for sample in samples {
            match decode(&sample.path) {
                Ok(image) => prepared.push(TrainSample::new(image, sample, &config.image, false)),
                Err(_) if config.data.on_problem == OnProblem::Skip => {}
                Err(error) => return Err(LoadError::from(error).into()),
            }
        }
        let n = prepared.len();
        if n == 0 {
            continue;
        }
        let image = &config.image;
        let batch = Batch::at_least(prepared, image.size_divisor, image.smallest_batch());
        let (losses, _) = forward_losses(&model, &batch, stream.fork(index as u64), device)?;
        let values = losses.values().try_into_data()?;
        for (sum, value) in sums.iter_mut().zip(values.iter::<f64>()) {
            *sum += value * n as f64;
        }
        pictures += n;
    }
    Ok((pictures > 0).then(|| sums.map(|sum| sum / pictures as f64)))
}
