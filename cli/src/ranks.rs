//! Several processes: starting, connecting and ending them.

use crate::backend::BackendArgs;
use crate::interrupt::relayed;
use crate::terminal::{describe, note};
use anyhow::{Result, bail};
use clap::Args;
use mrcnn_backends::comm::{Communicator, Launch, connect, supervise, worker_commands};
use mrcnn_backends::{BackendKind, Selected};
use mrcnn_core::train::RunFolder;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The environment variable with the run folder that the first process of `--gpus` has reserved for its workers.
const RUN_FOLDER: &str = "MRCNN_RUN_FOLDER";

/// The run folder that was reserved for this process.
pub fn reserved_folder() -> Option<PathBuf> {
    std::env::var_os(RUN_FOLDER).map(PathBuf::from)
}

#[derive(Debug, Args)]
pub struct RankArgs {
    /// Start this many processes on this machine, one per CUDA GPU; other ways: docs/distributed.md
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    gpus: Option<u16>,
    /// Seconds that a process waits for the others before it ends and reports where it waits
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    comm_timeout: u64,
}

impl RankArgs {
    /// Whether this process only starts and watches those of `--gpus`.
    pub fn starts_workers(&self) -> Result<bool> {
        let Some(gpus) = self.gpus else {
            return Ok(false);
        };
        let launch = Launch::detect()?;
        if launch.is_launched() && launch.world_size != usize::from(gpus) {
            // A worker of `--gpus` has this world size, so another launcher started this process.
            bail!(
                "--gpus {gpus}, and {} processes were started by a launcher: leave --gpus out",
                launch.world_size
            );
        }
        Ok(!launch.is_launched())
    }

    /// Starts and watches the processes of `--gpus`, and returns their exit status. Their logs go to `ranks/` in
    /// the run folder, if there is one.
    pub fn supervise(&self, run: Option<&Path>) -> Result<u8> {
        // On a signal the workers save and end, and this process waits for them.
        let mut signals = relayed()?;
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let count = self.gpus.unwrap_or(1).into();
        let mut commands = worker_commands(count, &arguments)?;
        let logs = match run {
            Some(run) => {
                for command in &mut commands {
                    command.env(RUN_FOLDER, run);
                }
                run.join(RunFolder::RANKS)
            }
            // An unpredictable name, in a folder that other users cannot write to.
            None => tempfile::Builder::new().prefix("mrcnn-").tempdir()?.keep(),
        };
        Ok(supervise(commands, &logs, &mut signals)?)
    }

    /// This process's device, and its connection to the others.
    pub fn join(&self, backend: &BackendArgs) -> Result<(Selected, Arc<dyn Communicator>)> {
        let launch = Launch::detect()?;
        let kind = match (self.gpus, backend.kind()) {
            (Some(_), BackendKind::Auto | BackendKind::Cuda) => BackendKind::Cuda,
            (Some(_), kind) => bail!("--gpus is for CUDA GPUs; with --backend {kind} use mpirun"),
            (None, kind) => kind,
        };
        let is_lead = launch.rank == 0;
        let selected = backend.select_as(kind, launch.local_rank, is_lead)?;
        let limit = Duration::from_secs(self.comm_timeout);
        let comm = connect(&launch, selected.kind, limit)?;
        if is_lead && !comm.is_alone() {
            note!("{} ranks over {}", comm.world_size(), comm.name());
        }
        Ok((selected, comm))
    }
}

/// Runs this rank's work; if it fails, reports the error and ends the other ranks, which would wait for it.
pub fn together<T>(comm: &dyn Communicator, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let result = work();
    match result {
        Err(error) if comm.world_size() > 1 => {
            note!("error: rank {}: {}", comm.rank(), describe(&error));
            comm.abort()
        }
        result => result,
    }
}
