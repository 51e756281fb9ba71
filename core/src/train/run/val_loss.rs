//! The losses on pictures that are not trained on.

use crate::config::Config;
use crate::data::Dataset;
use crate::model::MaskRcnn;
use crate::random::Stream;
use crate::train::error::TrainError;
use crate::train::input::batch::{Batch, TrainSample};
use crate::train::input::loader::usable_image;
use crate::train::ranks::exchange::Rank;
use crate::train::step::host::forward_losses;
use crate::train::step::losses::Losses;
use burn::module::Module;
use burn::tensor::Device;
use mrcnn_backends::comm::Communicator;

/// Pictures at a time.
const BATCH: usize = 4;

/// The mean losses (in the order of [`Losses::NAMES`]) over the first `train.val_loss_pictures`
/// pictures of a data set, without flips; none where that is 0.
///
/// The same samples are drawn each time, so that two evaluations can be compared. `model` may be in
/// training; `device` is one without autodiff. Ranks share the batches; every rank gets the same bits as
/// one alone would.
pub fn validation_losses(
    comm: &dyn Communicator,
    model: &MaskRcnn,
    dataset: &Dataset,
    config: &Config,
    device: &Device,
) -> Result<Option<[f64; 5]>, TrainError> {
    let model = model.valid();
    let stream = Stream::named("validation", config.train.seed);
    let count = config.train.val_loss_pictures.min(dataset.samples.len());
    let batches = Rank::of(comm).share(count.div_ceil(BATCH));
    let mut mine = Vec::new();
    for index in batches {
        let samples = &dataset.samples[index * BATCH..count.min((index + 1) * BATCH)];
        let mut prepared = Vec::with_capacity(samples.len());
        for sample in samples {
            let image = usable_image(sample, config.data.on_problem)?;
            let prepare = |image| TrainSample::new(image, sample, &config.image, false);
            prepared.extend(image.map(prepare));
        }
        let n = prepared.len();
        if n == 0 {
            continue;
        }
        let image = &config.image;
        let batch = Batch::at_least(prepared, image.size_divisor, image.smallest_batch());
        let (losses, _) = forward_losses(&model, &batch, stream.fork(index as u64), device)?;
        let values = losses.values().try_into_data()?;
        mine.extend((n as f64).to_le_bytes());
        mine.extend(values.iter::<f64>().flat_map(f64::to_le_bytes));
    }
    // Summed batch by batch in their order, whoever had them.
    let (mut sums, mut pictures) = ([0.0; Losses::NAMES.len()], 0.0);
    for batch in comm.all_gather_bytes(&mine)?.concat().as_chunks::<48>().0 {
        let mut numbers = batch.as_chunks::<8>().0.iter().copied();
        let n = numbers.next().map_or(0.0, f64::from_le_bytes);
        for (sum, value) in sums.iter_mut().zip(numbers) {
            *sum += f64::from_le_bytes(value) * n;
        }
        pictures += n;
    }
    Ok((pictures > 0.0).then(|| sums.map(|sum| sum / pictures)))
}
