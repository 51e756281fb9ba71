//! Runs of several ranks end together: an interrupt during an evaluation, and a rank that cannot load an image.

use super::ranks::Threads;
use super::small::{config, small_image};
use burn::tensor::Device;
use image::RgbImage;
use mrcnn_core::data::{Classes, DatasetSource, Instance, Sample, SourceError};
use mrcnn_core::train::{Observer, Outcome, StepReport, TrainError, Trainer};
use mrcnn_core::{Config, Rle};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Images with one box each, some of which can become unavailable.
struct Boxes {
    count: usize,
    away: AtomicBool,
}

impl Boxes {
    fn new(count: usize) -> Arc<Self> {
        let away = AtomicBool::new(false);
        Arc::new(Self { count, away })
    }
}

impl DatasetSource for Boxes {
    fn name(&self) -> String {
        "boxes".into()
    }

    fn classes(&self) -> Classes {
        Classes {
            names: vec!["box".into()],
            ids: vec![1],
        }
    }

    fn len(&self) -> usize {
        self.count
    }

    fn sample(&self, index: usize) -> Result<Sample, SourceError> {
        let mask = Rle::from_bbox([10.0, 8.0, 30.0, 20.0], 60, 80)?;
        let instances = vec![Instance::new(1, mask)];
        let name = format!("box {index}");
        Ok(Sample::new(index as u64 + 5, name, (80, 60), instances))
    }

    fn image(&self, index: usize) -> Result<RgbImage, SourceError> {
        match self.away.load(Ordering::SeqCst) && index % 2 == 1 {
            true => Err("the disk is away".into()),
            false => Ok(small_image(80, 60)),
        }
    }
}

fn recipe(steps: usize) -> Config {
    let mut config = config();
    config.model.num_classes = 0;
    (config.train.steps, config.train.batch_size) = (steps, 2);
    (config.train.eval_every, config.train.checkpoint_every) = (2, 0);
    (config.data.prefetch, config.train.val_images) = (1, 0);
    config.log.report = false;
    config
}

/// Stops once an evaluation has started.
#[derive(Default)]
struct StopsEvaluation(bool);

impl Observer for StopsEvaluation {
    fn on_eval_progress(&mut self, _done: usize, _all: usize) {
        self.0 = true;
    }

    fn should_stop(&self) -> bool {
        self.0
    }
}

/// Makes images unavailable after the first step.
struct RemovesImages(Arc<Boxes>);

impl Observer for RemovesImages {
    fn on_step(&mut self, _report: &StepReport) {
        self.0.away.store(true, Ordering::SeqCst);
    }
}

type Ended = Result<Outcome, TrainError>;

/// Runs two ranks, each with its own data and observer, and returns how they ended.
fn run(
    folder: &Path,
    config: &Config,
    data: [Arc<Boxes>; 2],
    observers: [Box<dyn Observer + Send>; 2],
) -> [Ended; 2] {
    let val = Boxes::new(9);
    let ranks = Threads::ranks().into_iter().zip(data).zip(observers);
    let threads: Vec<_> = ranks
        .map(|((comm, train), mut observer)| {
            let builder = Trainer::builder(config.clone())
                .folder(folder)
                .device(&Device::flex())
                .data(train, val.clone())
                .comm(Arc::new(comm));
            std::thread::spawn(move || {
                let (trainer, _) = builder.build()?;
                trainer.run(trainer.new_model(), &mut *observer)
            })
        })
        .collect();
    let mut ends = threads
        .into_iter()
        .map(|thread| thread.join().expect("a rank"));
    std::array::from_fn(|_| ends.next().expect("two ranks"))
}

fn evaluations(folder: &Path) -> usize {
    let log = std::fs::read_to_string(folder.join("metrics.jsonl")).expect("a log");
    log.lines().filter(|line| line.contains("\"eval\"")).count()
}

/// Continues a run in one process, to its end.
fn finish(folder: &Path, steps: usize) {
    let source = Boxes::new(4);
    let builder = Trainer::builder(Config::default())
        .folder(folder)
        .device(&Device::flex())
        .data(source, Boxes::new(9));
    let steps = format!("train.steps={steps}");
    let (run, saved, _) = builder
        .resume(std::slice::from_ref(&steps))
        .expect("a checkpoint");
    let outcome = run.run_from(saved, &mut ()).expect("a run");
    assert!(matches!(outcome, Outcome::Finished(_)));
}

#[test]
fn a_rank_that_is_asked_to_stop_during_an_evaluation_ends_all() {
    // Nine images in batches of four: rank 0 has two batches, and rank 1 has one.
    for stopped in 0..2 {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().join("run");
        let mut observers: [Box<dyn Observer + Send>; 2] = [Box::new(()), Box::new(())];
        observers[stopped] = Box::new(StopsEvaluation::default());
        let ends = run(&at, &recipe(4), [(); 2].map(|()| Boxes::new(4)), observers);
        for (rank, end) in ends.into_iter().enumerate() {
            let Ok(Outcome::Stopped(checkpoint)) = end else {
                panic!("rank {rank}: {end:?}");
            };
            assert!(
                checkpoint.ends_with("checkpoints/00000002"),
                "{}",
                checkpoint.display()
            );
            assert!(checkpoint.join("manifest.json").is_file());
        }
        assert_eq!(evaluations(&at), 0);
        finish(&at, 4);
        assert_eq!(
            evaluations(&at),
            2,
            "the one that was due, and the last one"
        );
    }
}

#[test]
fn ranks_that_are_not_interrupted_evaluate_to_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path().join("run");
    let ends = run(
        &at,
        &recipe(2),
        [(); 2].map(|()| Boxes::new(4)),
        [Box::new(()), Box::new(())],
    );
    assert!(
        ends.iter()
            .all(|end| matches!(end, Ok(Outcome::Finished(_)))),
        "{ends:?}"
    );
    assert_eq!(evaluations(&at), 1);
}

/// The disk of one rank becomes unavailable: rank 0 writes a checkpoint of the previous steps, and all ranks report the
/// reason.
#[test]
fn a_rank_without_an_image_saves_for_all() {
    for failing in 0..2 {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().join("run");
        let data = [(); 2].map(|()| Boxes::new(4));
        let mut observers: [Box<dyn Observer + Send>; 2] = [Box::new(()), Box::new(())];
        observers[failing] = Box::new(RemovesImages(data[failing].clone()));
        let mut config = recipe(100);
        config.train.eval_every = 0;
        let ends = run(&at, &config, data, observers);
        for (rank, end) in ends.into_iter().enumerate() {
            let error = end
                .err()
                .unwrap_or_else(|| panic!("rank {rank} has finished"));
            let is_own = rank == failing;
            assert_eq!(matches!(error, TrainError::Load(_)), is_own, "{error:?}");
            assert_eq!(
                matches!(error, TrainError::OtherRank { .. }),
                !is_own,
                "{error:?}"
            );
            let message = error.to_string();
            assert!(
                message.contains("the disk is away"),
                "rank {rank}: {message}"
            );
        }
        let checkpoints = at.join("checkpoints").read_dir().expect("checkpoints");
        let names: Vec<String> = checkpoints
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        let steps: usize = names[0].parse().expect("a step");
        assert_eq!(names.len(), 1, "{names:?}");
        assert!((1..10).contains(&steps), "{steps} steps");
        finish(&at, steps + 2);
    }
}
