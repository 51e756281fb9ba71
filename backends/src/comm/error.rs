//! Why processes cannot work together.

use crate::BackendKind;
use burn::tensor::{DType, ExecutionError};
use std::net::SocketAddr;
use std::time::Duration;
use thiserror::Error;

/// Why processes cannot work together.
#[derive(Debug, Error)]
pub enum CommError {
    /// A launcher's variable is no number, or does not fit the others.
    #[error("the launcher set {name}={value}: {reason}")]
    Launcher {
        /// The environment variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Several processes were started, and nothing in this build lets them talk.
    #[error(
        "{world} processes were started by {launcher}, and with the {backend} backend this build \
         cannot connect them; {help}"
    )]
    NoTransport {
        /// How many.
        world: usize,
        /// `mpirun`, ...
        launcher: &'static str,
        /// What computes.
        backend: BackendKind,
        /// What to do.
        help: &'static str,
    },
    /// MPI does not start.
    #[error("MPI does not start: {0}; is the mpirun in use that of the MPI that was built with?")]
    Mpi(&'static str),
    /// The NCCL library is not there.
    #[error(
        "several cards need NVIDIA's NCCL, and libnccl.so.2 cannot be loaded; install it (Debian: \
         apt-get install libnccl2; pip install nvidia-nccl-cu12 has it too) and name its folder in \
         LD_LIBRARY_PATH"
    )]
    NoNccl,
    /// NCCL failed.
    #[error("NCCL: {call} failed: {reason}; NCCL_DEBUG=INFO says more")]
    Nccl {
        /// What was called.
        call: &'static str,
        /// Its error.
        reason: String,
    },
    /// A type of tensor that cannot be sent.
    #[error("{name} cannot send {dtype:?}; {help}")]
    DType {
        /// Which communicator.
        name: &'static str,
        /// The tensor's type.
        dtype: DType,
        /// What to do.
        help: &'static str,
    },
    /// Tensors cannot be read from the device.
    #[error("the device failed: {0}")]
    Device(#[from] ExecutionError),
    /// Rank 0 cannot be reached, or the others did not come.
    #[error(
        "rank {rank} at {address}: {source}; MASTER_ADDR and MASTER_PORT must name rank 0's host and a free port of it"
    )]
    Rendezvous {
        /// This process.
        rank: usize,
        /// Where rank 0 is expected.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Several processes without a common secret.
    #[error(
        "the processes of a run share a secret, so that no stranger joins them, and MRCNN_TOKEN is not set (16 \
         characters or more): set it to the same value for all of them, e.g. \
         export MRCNN_TOKEN=$(openssl rand -hex 32) before srun; --gpus and mpirun need none"
    )]
    NoToken,
    /// Not everybody came in time.
    #[error("rank {rank} at {address}: after {waited:?} {missing}")]
    Absent {
        /// This process.
        rank: usize,
        /// Where rank 0 is expected.
        address: SocketAddr,
        /// How long it waited.
        waited: Duration,
        /// Who is missing.
        missing: String,
    },
    /// `MASTER_ADDR` means no address.
    #[error("MASTER_ADDR={host}: {source}")]
    Host {
        /// The name.
        host: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Ranks that must hold the same do not.
    #[error("ranks {ranks:?} have other {what} than rank 0; {help}")]
    Differs {
        /// Those that differ.
        ranks: Vec<usize>,
        /// What differs.
        what: String,
        /// What to do.
        help: &'static str,
    },
}
