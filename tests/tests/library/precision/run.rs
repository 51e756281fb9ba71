//! 300 steps on shapes in f16.

use super::{resolved, run_config};
use burn::module::Module;
use burn::tensor::Device;
use mrcnn_backends::Precision;
use mrcnn_core::MaskRcnn;
use mrcnn_core::benchmark::synthetic_pictures;
use mrcnn_core::config::{AutoScale, Config, LossScale, OptimizerKind, Schedule};
use mrcnn_core::random::Stream;
use mrcnn_core::train::{
    Batch, Ema, LossScaler, Optimizer, Replicas, TrainSample, forward_losses, learning_rate,
};

/// Pictures to train on, and others to evaluate on.
const TRAIN: usize = 24;
const EVAL: usize = 24;
const BATCH: usize = 2;

fn config() -> Config {
    let mut config = run_config(BATCH);
    config.train.optimizer = OptimizerKind::Adamw;
    (config.train.learning_rate, config.train.lr_batch) = (0.002, 0);
    (config.train.warmup_steps, config.train.warmup_factor) = (30, 0.01);
    config.train.schedule = Schedule::Cosine;
    config.train.weight_decay = 0.01;
    config.train.clip_norm = 10.0;
    config.train.loss_scale = LossScale::Auto(AutoScale::Auto);
    config
}

/// Losses on the evaluation pictures after the run, the same samples every time, by averaged weights; how
/// many steps were skipped.
fn trained(precision: Precision, samples: &[TrainSample]) -> ([f64; 5], usize) {
    let config = config();
    let precision = resolved(precision);
    let device = Device::flex().autodiff();
    let mut model = MaskRcnn::new(&config.model, 1, &device).with_precision(precision);
    let mut optimizer = Optimizer::new(&config.train);
    let mut scaler = LossScaler::new(&config.train, precision);
    let mut average = Ema::new(&model, 0.98);
    let whole = Replicas::new(1).expect("no threads of its own");
    let batch_of =
        |samples: &[TrainSample]| Batch::new(samples.to_vec(), config.image.size_divisor);
    let mut skipped = 0;
    for step in 0..config.train.steps {
        let start = step * BATCH % TRAIN;
        let batch = batch_of(&samples[start..start + BATCH]);
        let stream = Stream::named("run", step as u64);
        let found = whole.losses_and_gradients(&model, batch, stream, &device, scaler.factor());
        let (_, gradients) = found.expect("a step");
        let rate = learning_rate(step, &config.train);
        let (moved, outcome) = optimizer.step(model, gradients, rate);
        model = moved;
        if outcome.applied {
            scaler.applied();
            average.update(&model, step + 1);
        } else {
            assert!(scaler.overflowed().is_some(), "step {step}: f32 overflowed");
            skipped += 1;
        }
    }
    let model = average.apply(&model).valid();
    let mut sums = [0.0; 5];
    for start in (TRAIN..TRAIN + EVAL).step_by(BATCH) {
        let batch = batch_of(&samples[start..start + BATCH]);
        let stream = Stream::named("evaluation", start as u64);
        let (losses, _) = forward_losses(&model, &batch, stream, &Device::flex()).expect("losses");
        for (sum, loss) in sums
            .iter_mut()
            .zip(losses.values().into_data().iter::<f64>())
        {
            *sum += loss / (EVAL / BATCH) as f64;
        }
    }
    (sums, skipped)
}

#[test]
fn a_run_in_f16_follows_f32() {
    let config = config();
    let (pictures, dataset) = synthetic_pictures(TRAIN + EVAL, 4);
    let samples = pictures.into_iter().zip(&dataset.samples);
    let samples: Vec<TrainSample> = samples
        .map(|(image, sample)| TrainSample::new(image, sample, &config.image, false))
        .collect();
    let (whole, none) = trained(Precision::F32, &samples);
    let (half, skipped) = trained(Precision::F16, &samples);
    let sum = |losses: [f64; 5]| losses.iter().sum::<f64>();
    let (whole_loss, half_loss) = (sum(whole), sum(half));
    let apart = (half_loss - whole_loss).abs() / whole_loss;
    println!("f32 {whole:.4?}, f16 {half:.4?}: {apart:.1e} apart, {skipped} steps skipped");
    assert_eq!(none, 0);
    assert!(skipped < 20, "{skipped} steps were skipped");
    assert!(apart < 0.02, "{half_loss} in f16, {whole_loss} in f32");
}
