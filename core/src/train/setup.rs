//! From a configuration to a run that is ready to start; everything that can be refused is refused
//! here, before anything is written.

use super::checkpoint::{Saved, newest as newest_checkpoint};
use super::error::TrainError;
use super::handout;
use super::ranks::{self, Rank};
use super::run_folder::RunFolder;
use super::trainer::Trainer;
use crate::config::Config;
use crate::data::{DataError, Dataset, OnProblem, Problem, check_pictures};
use crate::eval::AreaProtocol;
use burn::tensor::Device;
use mrcnn_backends::comm::Communicator;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

impl Trainer {
    /// Opens both splits, decodes every picture once (unless `data.check_pictures` is off), takes
    /// `model.num_classes` from the data where it is 0, and creates the run folder.
    ///
    /// Returns what was left out or is doubtful too. With `data.on_problem = "refuse"` a bad
    /// annotation or picture is an error. Several ranks of `comm` share the decoding, must have the
    /// same configuration and data, and rank 0 creates the folder.
    pub fn prepare(
        config: Config,
        folder: &Path,
        device: &Device,
        protocol: AreaProtocol,
        comm: Arc<dyn Communicator>,
    ) -> Result<(Self, Vec<Problem>), TrainError> {
        let lead = comm.rank() == 0;
        Self::with_folder(config, device, protocol, comm, |config| match lead {
            true => RunFolder::create(folder, config),
            false => Ok(RunFolder::of_another(folder)),
        })
    }

    /// Opens a run that ended early, with its newest whole checkpoint for [`Self::go_on`].
    ///
    /// Its configuration is that of the folder's `args.toml` with `overrides`; the strings are about
    /// checkpoints that are broken. Of several ranks only rank 0 reads the folder. Any number of ranks
    /// may go on with what any other number began: the order of the pictures is that of the steps.
    pub fn resume(
        folder: &Path,
        overrides: &[String],
        device: &Device,
        protocol: AreaProtocol,
        comm: Arc<dyn Communicator>,
    ) -> Result<(Self, Saved, Vec<String>), TrainError> {
        let lead = comm.rank() == 0;
        let (config, saved, mut said) = match lead {
            true => {
                let config = Config::load(Some(&RunFolder::args(folder)), overrides)?;
                let (saved, said) = newest_checkpoint(&RunFolder::checkpoints_in(folder))?;
                handout::give(&*comm, &config, &saved)?;
                (config, saved, said)
            }
            false => {
                let (config, saved) = handout::take(&*comm, folder)?;
                (config, saved, Vec::new())
            }
        };
        let (trainer, problems) =
            Self::with_folder(config, device, protocol, comm, |config| match lead {
                true => RunFolder::open(folder, config),
                false => Ok(RunFolder::of_another(folder)),
            })?;
        said.extend(problems.iter().map(Problem::to_string));
        Ok((trainer, saved, said))
    }

    fn with_folder(
        mut config: Config,
        device: &Device,
        protocol: AreaProtocol,
        comm: Arc<dyn Communicator>,
        folder: impl Fn(&Config) -> Result<RunFolder, TrainError>,
    ) -> Result<(Self, Vec<Problem>), TrainError> {
        ranks::check(&config, &*comm)?;
        let precision = config.train.precision.resolve(device)?;
        config.train.precision = precision.precision();
        let data = config.data.clone();
        let mut problems = Vec::new();
        let mut open = |split: &str| -> Result<Dataset, TrainError> {
            let (mut dataset, found) = Dataset::open(&data.dir, split, data.on_problem)?;
            problems.extend(found);
            if data.check_pictures {
                problems.extend(drop_broken_pictures(&mut dataset, data.on_problem, &*comm)?);
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
        if !comm.is_alone() {
            must_be_equal(&*comm, &config, &train, &val)?;
        }
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
                precision,
                protocol,
                comm,
            },
            problems,
        ))
    }
}

/// Leaves out pictures that cannot be decoded, or refuses them. Each rank decodes its share, says what
/// is wrong there, and leaves out what any rank could not decode.
fn drop_broken_pictures(
    dataset: &mut Dataset,
    on_problem: OnProblem,
    comm: &dyn Communicator,
) -> Result<Vec<Problem>, TrainError> {
    let share = Rank::of(comm).share(dataset.samples.len());
    let broken = check_pictures(&dataset.samples[share]);
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
    dataset
        .samples
        .retain(|sample| !left_out.contains(&sample.image_id));
    if dataset.samples.is_empty() {
        let path = dataset.annotations.clone();
        return Err(DataError::Empty { path }.into());
    }
    Ok(broken)
}

/// Ranks with another recipe or other pictures would train on something that nobody asked for.
fn must_be_equal(
    comm: &dyn Communicator,
    config: &Config,
    train: &Dataset,
    val: &Dataset,
) -> Result<(), TrainError> {
    // Where the pictures lie may differ from machine to machine.
    let mut config = config.clone();
    config.data.dir = Default::default();
    let text = toml::to_string(&config).unwrap_or_default();
    let help = "start every rank with the same arguments";
    ranks::must_agree(comm, "settings", help, text.as_bytes())?;
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
        let help = "copy the same data set to every machine";
        ranks::must_agree(
            comm,
            &format!("pictures in the split {split}"),
            help,
            &bytes,
        )?;
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
