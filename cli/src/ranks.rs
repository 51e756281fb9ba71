//! Several processes: starting them, joining them, ending together.

use crate::args::BackendArgs;
use crate::interrupt::handed_on;
use crate::told;
use anyhow::{Result, bail};
use clap::Args;
use mrcnn_backends::comm::{Communicator, Launch, connect, supervise, worker_commands};
use mrcnn_backends::{BackendKind, Selected};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Args)]
pub struct RankArgs {
    /// Start this many processes on this machine, one a CUDA card; other ways: docs/distributed.md
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    gpus: Option<u16>,
    /// Seconds that a process waits for the others before it ends and says where it waits
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    comm_timeout: u64,
}

impl RankArgs {
    /// Starts and watches the processes of `--gpus`; false where this is to be one process itself.
    pub fn supervised(&self) -> Result<bool> {
        let Some(gpus) = self.gpus else {
            return Ok(false);
        };
        let launch = Launch::detect()?;
        if launch.is_launched() {
            // One of the processes, or started by something else too.
            if launch.world_size != usize::from(gpus) {
                bail!(
                    "--gpus {gpus}, and {} processes were started by a launcher: leave --gpus out",
                    launch.world_size
                );
            }
            return Ok(false);
        }
        // Ctrl-C reaches the processes too, SIGTERM is handed on: they save and end, and this one waits.
        let stop = handed_on()?;
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let logs = std::env::temp_dir().join(format!("mrcnn-{}", std::process::id()));
        supervise(worker_commands(gpus.into(), &arguments)?, &logs, &stop)?;
        Ok(true)
    }

    /// This process's device, and the way to the others.
    pub fn join(&self, backend: &BackendArgs) -> Result<(Selected, Arc<dyn Communicator>)> {
        let launch = Launch::detect()?;
        let kind = match (self.gpus, backend.kind()?) {
            (Some(_), BackendKind::Auto | BackendKind::Cuda) => BackendKind::Cuda,
            (Some(_), kind) => bail!("--gpus is for CUDA cards; with --backend {kind} use mpirun"),
            (None, kind) => kind,
        };
        let lead = launch.rank == 0;
        let selected = backend.select_as(kind, launch.local_rank, lead)?;
        let limit = Duration::from_secs(self.comm_timeout);
        let comm = connect(&launch, selected.kind, limit)?;
        if lead && !comm.is_alone() {
            eprintln!("{} ranks over {}", comm.world_size(), comm.name());
        }
        Ok((selected, comm))
    }
}

/// Does this rank's work; where it fails, says so and ends the other ranks, which would wait for it.
pub fn together(comm: &dyn Communicator, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let result = work();
    match result {
        Err(error) if comm.world_size() > 1 => {
            eprintln!("error: rank {}: {}", comm.rank(), told(&error));
            comm.abort()
        }
        result => result,
    }
}
