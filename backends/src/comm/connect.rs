//! Connection of this process to the other processes of its run.

use super::launch::{Launch, Launcher};
use super::{CommError, Communicator, Single};
use crate::BackendKind;
use std::sync::Arc;
use std::time::Duration;

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

    fn launch(variables: &[(&str, &str)]) -> Launch {
        let get = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.to_string())
        };
        Launch::from_variables(&get).unwrap()
    }

    #[test]
    fn cpus_need_mpi() {
        let found = launch(&[("RANK", "0"), ("WORLD_SIZE", "2")]);
        let error = connect(&found, BackendKind::Cpu, Duration::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("mpirun"), "{error}");
        let alone = launch(&[]);
        let single = connect(&alone, BackendKind::Cpu, Duration::from_secs(1)).unwrap();
        assert!(single.is_alone());
    }
}
