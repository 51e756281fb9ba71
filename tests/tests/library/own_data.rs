//! Training on a custom source, with an observer that receives reports and stops the run.

use super::small::{config, small_image};
use burn::tensor::Device;
use image::RgbImage;
use mrcnn_core::Rle;
use mrcnn_core::config::Config;
use mrcnn_core::data::{Classes, DatasetSource, Instance, Sample, SourceError};
use mrcnn_core::eval::Metrics;
use mrcnn_core::train::{Observer, Outcome, StepReport, TrainError, Trainer};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Images in memory with one box each; counts how often pixels are loaded.
#[derive(Default)]
struct Boxes {
    request_count: AtomicUsize,
    broken: bool,
    /// Whether loading pixels panics, because of a bug in the source.
    panics: AtomicBool,
}

impl DatasetSource for Boxes {
    fn name(&self) -> String {
        "boxes".into()
    }

    fn classes(&self) -> Classes {
        Classes {
            names: vec!["odd".into(), "even".into()],
            ids: vec![3, 9],
        }
    }

    fn len(&self) -> usize {
        4
    }

    fn sample(&self, index: usize) -> Result<Sample, SourceError> {
        let mask = Rle::from_bbox([10.0, 8.0, 30.0, 20.0], 60, 80)?;
        let instances = vec![Instance::new(1 + index % 2, mask)];
        let name = format!("box {index}");
        Ok(Sample::new(index as u64 + 5, name, (80, 60), instances))
    }

    fn image(&self, index: usize) -> Result<RgbImage, SourceError> {
        assert!(!self.panics.load(Ordering::SeqCst), "a bug in the source");
        self.request_count.fetch_add(1, Ordering::SeqCst);
        match self.broken && index == 2 {
            true => Err("out of paper".into()),
            false => Ok(small_image(80, 60)),
        }
    }
}

/// Counts the calls, and stops after some steps.
struct StopsAfter {
    steps: usize,
    step: usize,
    evaluations: usize,
}

impl Observer for StopsAfter {
    fn on_step(&mut self, report: &StepReport) {
        assert!(report.loss().is_finite());
        self.step = report.step;
    }

    fn on_eval(&mut self, _step: usize, _metrics: &Metrics) {
        self.evaluations += 1;
    }

    fn should_stop(&self) -> bool {
        self.step == self.steps
    }
}

fn stops_after(steps: usize) -> StopsAfter {
    StopsAfter {
        steps,
        step: 0,
        evaluations: 0,
    }
}

fn recipe() -> Config {
    let mut config = config();
    config.model.num_classes = 0;
    (config.train.steps, config.train.batch_size) = (4, 2);
    config.log.report = false;
    config
}

fn trainer(folder: &Path, source: &Arc<Boxes>) -> Result<Trainer, TrainError> {
    let builder = Trainer::builder(recipe())
        .folder(folder)
        .device(&Device::flex())
        .data(source.clone(), source.clone());
    Ok(builder.build()?.0)
}

/// Nothing is written for a setting that the device cannot keep.
#[test]
fn graphs_of_steps_are_refused_on_the_cpu() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().join("run");
    let mut config = recipe();
    config.train.graph = true;
    let source = Arc::new(Boxes::default());
    let builder = Trainer::builder(config)
        .folder(&at)
        .device(&Device::flex())
        .data(source.clone(), source);
    let error = builder.build().err().expect("the CPU records no graphs");
    let wanted = "train.graph: steps are recorded on CUDA GPUs";
    assert!(error.to_string().starts_with(wanted), "{error}");
    assert!(!at.exists());
}

#[test]
fn a_run_on_ones_own_images_is_stopped_and_continues() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().join("run");
    let source = Arc::new(Boxes::default());
    let run = trainer(&at, &source).expect("a trainer");
    assert_eq!(run.config().model.num_classes, 3);
    let checked = source.request_count.load(Ordering::SeqCst);
    assert_eq!(checked, 8, "each image of both splits is decoded once");
    let mut watch = stops_after(2);
    let outcome = run.run(run.new_model(), &mut watch).expect("a run");
    let Outcome::Stopped(checkpoint) = outcome else {
        panic!("the observer stops it: {outcome:?}");
    };
    assert!(checkpoint.is_dir());
    assert_eq!((watch.step, watch.evaluations), (2, 0));
    assert!(source.request_count.load(Ordering::SeqCst) > checked);
    // A trainer holds the lock of its run folder.
    drop(run);

    let builder = Trainer::builder(Config::default())
        .folder(&at)
        .device(&Device::flex())
        .data(source.clone(), source.clone());
    let (run, saved, warnings) = builder.resume(&[]).expect("the run");
    assert!(warnings.is_empty(), "{warnings:?}");
    let mut watch = stops_after(9);
    let outcome = run.run_from(saved, &mut watch).expect("a run");
    assert!(matches!(outcome, Outcome::Finished(_)));
    assert_eq!((watch.step, watch.evaluations), (4, 1));
    assert!(run.folder().best().is_file());

    // From these weights to a model with the same classes: no parameter keeps its random initial value.
    let transfer = run.model_from(run.folder().best()).expect("a model");
    assert!(transfer.fresh.is_empty(), "{:?}", transfer.fresh);
    // An observer is optional.
    let again = trainer(&folder.path().join("again"), &source).expect("a trainer");
    again.run(transfer.model, &mut ()).expect("a run");
}

#[test]
fn an_image_that_the_source_cannot_give_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = Arc::new(Boxes {
        broken: true,
        ..Boxes::default()
    });
    let error = trainer(&folder.path().join("run"), &source);
    let error = error.err().expect("a refusal").to_string();
    assert!(
        error.contains("box 2") && error.contains("out of paper"),
        "{error}"
    );
    assert!(!folder.path().join("run").exists());
}

/// A panic of a source is reported with its name, and the run is saved as for other errors.
#[test]
fn a_source_that_panics_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().join("run");
    let source = Arc::new(Boxes::default());
    let run = trainer(&at, &source).expect("a trainer");
    source.panics.store(true, Ordering::SeqCst);
    let error = run.run(run.new_model(), &mut ()).expect_err("no batch");
    let message = error.to_string();
    assert!(
        message.contains("box ") && message.contains("it panicked"),
        "{message}"
    );
    assert!(at.join("checkpoints/00000000/manifest.json").is_file());
}
