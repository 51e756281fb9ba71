//! From a configuration to a run that is ready to start; everything that can be refused is refused
//! here, before anything is written.

use super::checkpoint::{Saved, newest as newest_checkpoint};
use super::error::TrainError;
use super::run_folder::RunFolder;
use super::trainer::Trainer;
use crate::config::Config;
use crate::data::{DataError, Dataset, OnProblem, Problem, check_pictures};
use crate::eval::AreaProtocol;
use burn::tensor::Device;
use std::path::Path;
use std::sync::Arc;

impl Trainer {
    /// Opens both splits, decodes every picture once (unless `data.check_pictures` is off), takes
    /// `model.num_classes` from the data where it is 0, and creates the run folder.
    ///
    /// Returns what was left out or is doubtful too. With `data.on_problem = "refuse"` a bad
    /// annotation or picture is an error.
    pub fn prepare(
        config: Config,
        folder: &Path,
        device: &Device,
        protocol: AreaProtocol,
    ) -> Result<(Self, Vec<Problem>), TrainError> {
        Self::with_folder(config, device, protocol, |config| {
            RunFolder::create(folder, config)
        })
    }

    /// Opens a run that ended early, with its newest whole checkpoint for [`Self::go_on`].
    ///
    /// Its configuration is that of the folder's `args.toml` with `overrides`; the strings are about
    /// checkpoints that are broken.
    pub fn resume(
        folder: &Path,
        overrides: &[String],
        device: &Device,
        protocol: AreaProtocol,
    ) -> Result<(Self, Saved, Vec<String>), TrainError> {
        let config = Config::load(Some(&RunFolder::args(folder)), overrides)?;
        let (saved, mut said) = newest_checkpoint(&RunFolder::checkpoints_in(folder))?;
        let (trainer, problems) = Self::with_folder(config, device, protocol, |config| {
            RunFolder::open(folder, config)
        })?;
        said.extend(problems.iter().map(Problem::to_string));
        Ok((trainer, saved, said))
    }

    fn with_folder(
        mut config: Config,
        device: &Device,
        protocol: AreaProtocol,
        folder: impl Fn(&Config) -> Result<RunFolder, TrainError>,
    ) -> Result<(Self, Vec<Problem>), TrainError> {
        let data = config.data.clone();
        let mut problems = Vec::new();
        let mut open = |split: &str| -> Result<Dataset, TrainError> {
            let (mut dataset, found) = Dataset::open(&data.dir, split, data.on_problem)?;
            problems.extend(found);
            if data.check_pictures {
                problems.extend(drop_broken_pictures(&mut dataset, data.on_problem)?);
            }
            Ok(dataset)
        };
        let (train, val) = (open(&data.train)?, open(&data.val)?);
        if train.classes != val.classes {
            return Err(TrainError::Classes {
                train: train.classes.names,
                val: val.classes.names,
                path: val.annotations,
            });
        }
        set_classes(&mut config, &train)?;
        config.train.resolve_epochs(train.samples.len());
        let folder = folder(&config)?;
        let device = device.clone();
        let (train, val) = (Arc::new(train), Arc::new(val));
        Ok((
            Self {
                config,
                train,
                val,
                folder,
                device,
                protocol,
            },
            problems,
        ))
    }
}

/// Leaves out pictures that cannot be decoded, or refuses them.
fn drop_broken_pictures(
    dataset: &mut Dataset,
    on_problem: OnProblem,
) -> Result<Vec<Problem>, DataError> {
    let broken = check_pictures(&dataset.samples);
    if on_problem == OnProblem::Refuse && !broken.is_empty() {
        return Err(DataError::refused(&dataset.annotations, &broken));
    }
    dataset
        .samples
        .retain(|s| broken.iter().all(|p| p.image_id != Some(s.image_id)));
    if dataset.samples.is_empty() {
        return Err(DataError::Empty {
            path: dataset.annotations.clone(),
        });
    }
    Ok(broken)
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
