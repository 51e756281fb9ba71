//! Detection of the launcher that started this process, and connection to the other processes.

use super::{CommError, Communicator, Single};
use crate::BackendKind;
use std::sync::Arc;
use std::time::Duration;

/// How this process was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Rank of this process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub world_size: usize,
    /// Rank among the processes of this machine: the index of its GPU.
    pub local_rank: usize,
    by: Launcher,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Launcher {
    /// Without a launcher.
    Nobody,
    /// By `mpirun` or `srun`.
    Mpi,
    /// By `--gpus`, torchrun, or anything else that sets `RANK` and `WORLD_SIZE`.
    Environment,
}

/// Environment variables of MPI launchers: rank, number of ranks, rank on this machine.
const MPI_VARIABLES: [[&str; 3]; 3] = [
    // Open MPI.
    [
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
    ],
    // MPICH, Intel MPI, and Slurm's pmi2.
    ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"],
    // Slurm with --mpi=pmix.
    ["PMIX_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"],
];

const VARIABLES: [&str; 3] = ["RANK", "WORLD_SIZE", "LOCAL_RANK"];

impl Launch {
    /// Reads the launcher's environment variables.
    pub fn detect() -> Result<Self, CommError> {
        Self::from_variables(&|name| std::env::var(name).ok())
    }

    /// The launcher that started this process, if there is exactly one.
    pub fn is_launched(&self) -> bool {
        self.by != Launcher::Nobody
    }

    fn from_variables(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, CommError> {
        let set = |names: &[&str; 3]| get(names[0]).is_some() && get(names[1]).is_some();
        let (names, by) = match MPI_VARIABLES.into_iter().find(set) {
            _ if set(&VARIABLES) => (VARIABLES, Launcher::Environment),
            Some(names) => (names, Launcher::Mpi),
            None => {
                return Ok(Self {
                    rank: 0,
                    world_size: 1,
                    local_rank: 0,
                    by: Launcher::Nobody,
                });
            }
        };
        let wrong = |name, value, reason| CommError::Launcher {
            name,
            value,
            reason,
        };
        let number = |name: &'static str| match get(name) {
            None => Ok(0),
            Some(value) => match value.parse::<usize>() {
                Ok(number) => Ok(number),
                Err(_) => Err(wrong(name, value, "it must be a number from 0")),
            },
        };
        let (rank, world_size) = (number(names[0])?, number(names[1])?);
        if rank >= world_size {
            let value = rank.to_string();
            return Err(wrong(
                names[0],
                value,
                "it must be less than the number of ranks",
            ));
        }
        Ok(Self {
            rank,
            world_size,
            local_rank: number(names[2])?,
            by,
        })
    }
}

/// Connects this process to the others of its run. `limit` is how long a rank waits for another one
/// before it ends with an error.
pub fn connect(
    launch: &Launch,
    backend: BackendKind,
    limit: Duration,
) -> Result<Arc<dyn Communicator>, CommError> {
    match (launch.by, backend) {
        (Launcher::Nobody, _) => Ok(Arc::new(Single)),
        (Launcher::Environment, BackendKind::Cuda) => nccl_over_tcp(launch, limit),
        (Launcher::Mpi, BackendKind::Cuda) => nccl_over_mpi(launch, limit),
        _ if launch.world_size == 1 => Ok(Arc::new(Single)),
        (Launcher::Mpi, _) => over_mpi(launch, backend, limit),
        (Launcher::Environment, _) => Err(no_transport(launch, backend, NEEDS_MPIRUN)),
    }
}

const NEEDS_MPIRUN: &str = "CPUs and wgpu devices communicate over MPI: build with `--features mpi` \
                            and start with mpirun, or use --backend cuda";
#[cfg(not(feature = "mpi"))]
const NEEDS_MPI: &str = "build again with `--features mpi`";
#[cfg(not(feature = "cuda"))]
const NEEDS_CUDA: &str = "build again with `--features cuda`";

fn no_transport(launch: &Launch, backend: BackendKind, help: &'static str) -> CommError {
    let launcher = match launch.by {
        Launcher::Environment => "a launcher (RANK and WORLD_SIZE are set)",
        _ => "mpirun or srun",
    };
    CommError::NoTransport {
        world: launch.world_size,
        launcher,
        backend,
        help,
    }
}

#[cfg(feature = "mpi")]
fn over_mpi(
    _launch: &Launch,
    _backend: BackendKind,
    limit: Duration,
) -> Result<Arc<dyn Communicator>, CommError> {
    Ok(Arc::new(super::mpi::Mpi::start(limit)?))
}

#[cfg(not(feature = "mpi"))]
fn over_mpi(
    launch: &Launch,
    backend: BackendKind,
    _limit: Duration,
) -> Result<Arc<dyn Communicator>, CommError> {
    Err(no_transport(launch, backend, NEEDS_MPI))
}

#[cfg(feature = "cuda")]
fn nccl_over_tcp(launch: &Launch, limit: Duration) -> Result<Arc<dyn Communicator>, CommError> {
    use super::nccl::{Nccl, unique_id};
    use super::rendezvous::{Meeting, exchange_id, inherited_listener, master, token};
    let id = match launch.rank {
        0 => Some(unique_id()?),
        _ => None,
    };
    let id = match id {
        Some(id) if launch.world_size == 1 => id,
        id => {
            let get = |name: &str| std::env::var(name).ok();
            let (rank, address) = (launch.rank, master(launch.rank, &get)?);
            let listener = inherited_listener(&get).transpose();
            let listener = listener.map_err(|source| CommError::Rendezvous {
                rank,
                address,
                source,
            })?;
            let meeting = Meeting {
                rank,
                world: launch.world_size,
                address,
                token: token(&get)?,
                limit,
            };
            exchange_id(&meeting, listener, id)?
        }
    };
    Ok(Arc::new(Nccl::start(launch, id, None, limit)?))
}

/// The id is sent over MPI if this build has it, otherwise over rank 0's TCP port.
#[cfg(all(feature = "cuda", feature = "mpi"))]
fn nccl_over_mpi(launch: &Launch, limit: Duration) -> Result<Arc<dyn Communicator>, CommError> {
    use super::nccl::{Nccl, unique_id};
    let mpi = super::mpi::Mpi::start(limit)?;
    let mine = match mpi.rank() {
        0 => unique_id()?.to_vec(),
        _ => Vec::new(),
    };
    let id = mpi.all_gather_bytes(&mine)?.swap_remove(0);
    let id: [u8; super::nccl::ID_BYTES] = id
        .try_into()
        .map_err(|_| CommError::Mpi("rank 0 sent no NCCL id"))?;
    Ok(Arc::new(Nccl::start(
        launch,
        id,
        Some(Box::new(mpi)),
        limit,
    )?))
}

#[cfg(all(feature = "cuda", not(feature = "mpi")))]
fn nccl_over_mpi(launch: &Launch, limit: Duration) -> Result<Arc<dyn Communicator>, CommError> {
    match std::env::var_os("MASTER_ADDR") {
        Some(_) => nccl_over_tcp(launch, limit),
        None if launch.world_size == 1 => Ok(Arc::new(Single)),
        None => Err(no_transport(
            launch,
            BackendKind::Cuda,
            "build with `--features cuda,mpi`, or set MASTER_ADDR to rank 0's host",
        )),
    }
}

#[cfg(not(feature = "cuda"))]
fn nccl_over_tcp(launch: &Launch, _limit: Duration) -> Result<Arc<dyn Communicator>, CommError> {
    Err(no_transport(launch, BackendKind::Cuda, NEEDS_CUDA))
}

#[cfg(not(feature = "cuda"))]
use nccl_over_tcp as nccl_over_mpi;

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(variables: &[(&str, &str)]) -> Result<Launch, CommError> {
        let get = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.to_string())
        };
        Launch::from_variables(&get)
    }

    #[test]
    fn every_launcher_is_known() {
        let torchrun = [("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")];
        let found = launch(&torchrun).unwrap();
        assert_eq!((found.rank, found.world_size, found.local_rank), (5, 8, 1));
        for names in MPI_VARIABLES {
            let found = launch(&[(names[0], "2"), (names[1], "4"), (names[2], "1")]).unwrap();
            assert_eq!((found.rank, found.world_size, found.local_rank), (2, 4, 1));
            assert_eq!(found.by, Launcher::Mpi);
        }
        // A variable of Slurm's job outside of srun does not mean that there are several processes.
        assert_eq!(launch(&[("SLURM_LOCALID", "0")]).unwrap().world_size, 1);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let error = launch(&[("RANK", "x"), ("WORLD_SIZE", "2")]).unwrap_err();
        assert!(error.to_string().contains("RANK=x"), "{error}");
        let error = launch(&[("RANK", "2"), ("WORLD_SIZE", "2")]).unwrap_err();
        assert!(error.to_string().contains("less than"), "{error}");
    }

    #[test]
    fn processors_need_mpi() {
        let found = launch(&[("RANK", "0"), ("WORLD_SIZE", "2")]).unwrap();
        let error = connect(&found, BackendKind::Cpu, Duration::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("mpirun"), "{error}");
        let alone = launch(&[]).unwrap();
        let single = connect(&alone, BackendKind::Cpu, Duration::from_secs(1)).unwrap();
        assert!(single.is_alone());
    }
}
