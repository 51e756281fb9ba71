//! Preparation of a run from its configuration; every invalid setting is rejected
//! here, before anything is written.

use super::builder::TrainerBuilder;
use super::checkpoint::{Saved, newest as newest_checkpoint, newest_config, remove_leftovers};
use super::folder::RunFolder;
use super::handout;
use super::trainer::Trainer;
use crate::config::{Config, ModelConfig};
use crate::data::{
    DataError, Dataset, LeftOut, OnProblem, Problem, Severity, check_images, check_objects,
    open_training_data, shared_images,
};
use crate::device::select_device;
use crate::train::error::TrainError;
use crate::train::rank::Rank;
use crate::train::ranks::exchange;
use crate::train::step::targets::selection_limits;
use burn::tensor::Device;
use mrcnn_backends::comm::Communicator;
use mrcnn_kernels::{can_select, records_graphs};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

impl TrainerBuilder {
    /// Checks the configuration, opens the data, and creates the run folder; if the name is taken, a number is
    /// appended.
    ///
    /// Every image is decoded once, unless `data.check_images` is off. Several ranks divide the images, must have the
    /// same configuration and data, and rank 0 creates the folder. `model.num_classes` is taken from the data if it is
    /// 0. Also returns the problems of the data: entries that are left out or suspicious. With
    /// `data.on_problem = "refuse"`, an invalid annotation or image is an error.
    pub fn build(self) -> Result<(Trainer, Vec<Problem>), TrainError> {
        self.config.check()?;
        let is_lead = self.comm.rank() == 0;
        self.finish(|folder, config| match is_lead {
            true => RunFolder::create(folder, config),
            false => Ok(RunFolder::unlocked(folder)),
        })
    }

    /// Opens a run that ended early, with its newest intact checkpoint for [`Trainer::run_from`]. Data sources that
    /// were given to the builder must be given again.
    ///
    /// The configuration is that of the folder's `args.toml` with `overrides`; the strings are warnings about damaged
    /// checkpoints, the data and changed settings. With several ranks, only rank 0 reads the folder. Any number of
    /// ranks may resume a run of any other number: the order of the images depends on the step only.
    pub fn resume(
        mut self,
        overrides: &[String],
    ) -> Result<(Trainer, Saved, Vec<String>), TrainError> {
        let folder = &self.folder;
        let (comm, is_lead) = (&*self.comm, self.comm.rank() == 0);
        let mut opened = None;
        let (config, saved, mut warnings) = match is_lead {
            true => {
                // Before anything is read: another process may be writing to it.
                let opened = opened.insert(RunFolder::open(folder)?);
                remove_leftovers(&opened.checkpoints())?;
                let config = saved_config(opened, overrides)?;
                let (saved, warnings) = newest_checkpoint(&opened.checkpoints())?;
                handout::send(comm, &config, &saved)?;
                (config, saved, warnings)
            }
            false => {
                let (config, saved) = handout::receive(comm, folder)?;
                // The location of the images may differ between ranks.
                let config = config.with(overrides)?;
                config.check()?;
                (config, saved, Vec::new())
            }
        };
        self.config = config;
        let (trainer, problems) =
            self.finish(|folder, _| Ok(opened.unwrap_or_else(|| RunFolder::unlocked(folder))))?;
        warnings.extend(problems.iter().map(Problem::to_string));
        let used_images = saved.progress.step * trainer.config.train.batch_size;
        if is_lead && used_images != saved.progress.images_done(trainer.train.samples.len()) {
            warnings.push(
                "train.batch_size or the number of images has changed: some images of this epoch \
                 are used twice or not at all"
                    .into(),
            );
        }
        Ok((trainer, saved, warnings))
    }

    fn finish(
        mut self,
        folder: impl FnOnce(&Path, &Config) -> Result<RunFolder, TrainError>,
    ) -> Result<(Trainer, Vec<Problem>), TrainError> {
        let (config, comm) = (&mut self.config, &*self.comm);
        exchange::check(config, comm)?;
        let device = match self.device {
            Some(device) => device,
            None => select_device(self.backend, comm.rank())?.device,
        };
        if config.train.graph && !can_record(&config.model, &device) {
            return Err(TrainError::Setting {
                key: "train.graph",
                reason: "steps are recorded on CUDA GPUs, if their kernels can select as many boxes as model.rpn and \
                         model.roi request: set it to false",
            });
        }
        let precision = config.train.precision.resolve(&device)?;
        config.train.precision = precision.precision();
        let (mut train, mut val, mut problems) = match (self.train, self.val) {
            (Some(train), Some(val)) => {
                let on_problem = config.data.on_problem;
                let (train, mut problems) = Dataset::from_source(train, on_problem)?;
                let (mut val, more) = Dataset::from_source(val, on_problem)?;
                problems.extend(more);
                problems.extend(val.take_classes(&train)?);
                config.data.val_fraction = 0.0;
                (train, val, problems)
            }
            _ => {
                let data = open_training_data(&config.data)?;
                if !data.is_held_out {
                    config.data.val_fraction = 0.0;
                }
                (data.train, data.val, data.problems)
            }
        };
        for dataset in [&mut train, &mut val] {
            dataset.set_depth(config.image.depth);
            if config.data.check_images {
                let found = drop_broken_images(dataset, config.data.on_problem, comm)?;
                problems.extend(found);
            }
        }
        // With `data.val = data.train`, the same images in both sets are intended.
        if config.data.val != config.data.train {
            problems.extend(shared_images(&train, &val));
        }
        problems.extend(check_objects(&train, &val)?);
        set_classes(config, &train)?;
        let mut choices = Vec::new();
        if let Some(given) = &self.fine_tuning {
            choices = config.for_fine_tuning(train.samples.len(), given);
            config.check()?;
        }
        config.train.resolve_epochs(train.samples.len());
        if !comm.is_alone() {
            must_be_equal(comm, config, &train, &val)?;
        }
        let trainer = Trainer {
            folder: folder(&self.folder, config)?,
            config: self.config,
            choices,
            train: Arc::new(train),
            val: Arc::new(val),
            device,
            precision,
            protocol: self.protocol,
            comm: self.comm,
        };
        Ok((trainer, problems))
    }
}

/// The configuration of a resumed run: its `args.toml` or, if that is lost (a power cut may leave it
/// empty), the one in the weights of its newest checkpoint.
fn saved_config(folder: &RunFolder, overrides: &[String]) -> Result<Config, TrainError> {
    let args = RunFolder::args(folder.path());
    let is_lost = std::fs::metadata(&args).map_or(true, |args| args.len() == 0);
    match is_lost
        .then(|| newest_config(&folder.checkpoints()))
        .flatten()
    {
        Some(config) => {
            let config = config.with(overrides)?;
            config.check()?;
            Ok(config)
        }
        None => Ok(Config::load(Some(&args), overrides)?),
    }
}

/// Leaves out images that cannot be decoded, or returns an error; returns these and suspicious ones. Each rank
/// decodes its shard, reports problems there, and leaves out what any rank could not decode.
fn drop_broken_images(
    dataset: &mut Dataset,
    on_problem: OnProblem,
    comm: &dyn Communicator,
) -> Result<Vec<Problem>, TrainError> {
    let shard = Rank::of(comm).shard(dataset.samples.len());
    let found = check_images(&dataset.samples[shard]);
    let errors = found
        .iter()
        .filter(|problem| problem.severity == Severity::Error);
    let broken: Vec<Problem> = errors.cloned().collect();
    if on_problem == OnProblem::Refuse && !broken.is_empty() {
        return Err(DataError::refused(&dataset.annotations, &broken).into());
    }
    let ids = broken.iter().filter_map(|problem| problem.image_id);
    let mine: Vec<u8> = ids.flat_map(u64::to_le_bytes).collect();
    let mut left_out = HashSet::new();
    for ids in comm.all_gather_bytes(&mine)? {
        left_out.extend(
            ids.as_chunks::<8>()
                .0
                .iter()
                .map(|id| u64::from_le_bytes(*id)),
        );
    }
    let (broken_samples, samples) = std::mem::take(&mut dataset.samples)
        .into_iter()
        .partition(|sample| left_out.contains(&sample.image_id));
    dataset.samples = samples;
    for sample in broken_samples {
        let own = broken
            .iter()
            .find(|problem| problem.image_id == Some(sample.image_id));
        dataset.left_out.push(LeftOut {
            image_id: sample.image_id,
            path: sample.path,
            reason: own.map_or("another rank cannot read it".into(), |problem| {
                problem.reason.clone()
            }),
        });
    }
    if dataset.samples.is_empty() {
        let path = dataset.annotations.clone();
        return Err(DataError::Empty { path }.into());
    }
    Ok(found)
}

/// Returns an error if ranks have different settings or images.
fn must_be_equal(
    comm: &dyn Communicator,
    config: &Config,
    train: &Dataset,
    val: &Dataset,
) -> Result<(), TrainError> {
    // The location of the images may differ between machines.
    let mut config = config.clone();
    config.data.dir = Default::default();
    let text = toml::to_string(&config).unwrap_or_default();
    let help = "start every rank with the same arguments";
    exchange::must_agree(comm, "settings", help, text.as_bytes())?;
    for (split, dataset) in [("train", train), ("val", val)] {
        let mut bytes = Vec::new();
        for sample in &dataset.samples {
            let objects = sample.instances.len() as u64;
            for number in [
                sample.image_id,
                sample.width.into(),
                sample.height.into(),
                objects,
            ] {
                bytes.extend(number.to_le_bytes());
            }
        }
        let help = "copy the same dataset to every machine";
        exchange::must_agree(comm, &format!("images in the split {split}"), help, &bytes)?;
    }
    Ok(())
}

fn set_classes(config: &mut Config, train: &Dataset) -> Result<(), TrainError> {
    let found = train.classes.len() + 1;
    if config.model.num_classes == 0 {
        config.model.num_classes = found;
    }
    if config.model.num_classes != found {
        return Err(TrainError::ClassCount {
            configured: config.model.num_classes,
            found,
            path: train.annotations.clone(),
        });
    }
    Ok(())
}

/// Whether `device` records graphs, and a step computes everything on it.
fn can_record(config: &ModelConfig, device: &Device) -> bool {
    records_graphs(device) && can_select(device, &selection_limits(config))
}
