//! Errors of communication between processes.

use crate::BackendKind;
use burn::tensor::{DType, ExecutionError};
use std::net::SocketAddr;
use std::time::Duration;
use thiserror::Error;

/// An error of communication between processes.
#[derive(Debug, Error)]
pub enum CommError {
    /// A launcher's environment variable is not a number, or contradicts the others.
    #[error("the launcher set {name}={value}: {reason}")]
    Launcher {
        /// The environment variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// The fault.
        reason: &'static str,
    },
    /// Several processes were started, but this build cannot connect them.
    #[error(
        "{world} processes were started by {launcher}, but this build cannot connect them \
         with the {backend} backend; {help}"
    )]
    NoTransport {
        /// Number of processes.
        world: usize,
        /// Name of the launcher, such as `mpirun`.
        launcher: &'static str,
        /// The backend that computes.
        backend: BackendKind,
        /// The fix.
        help: &'static str,
    },
    /// MPI cannot be initialized.
    #[error(
        "MPI cannot be initialized: {0}; use the mpirun of the MPI library that this program was built with"
    )]
    Mpi(&'static str),
    /// The NCCL library is missing.
    #[error(
        "several GPUs need NVIDIA's NCCL, but libnccl.so.2 cannot be loaded; install it (Debian: \
         apt-get install libnccl2; pip install nvidia-nccl-cu12 has it too) and add its folder to \
         LD_LIBRARY_PATH"
    )]
    NoNccl,
    /// NCCL failed.
    #[error("NCCL: {call} failed: {reason}; set NCCL_DEBUG=INFO for details")]
    Nccl {
        /// Name of the call.
        call: &'static str,
        /// Its error.
        reason: String,
    },
    /// A dtype that cannot be sent.
    #[error("{name} cannot send {dtype:?}; {help}")]
    DType {
        /// Name of the communicator.
        name: &'static str,
        /// The dtype of the tensor.
        dtype: DType,
        /// The fix.
        help: &'static str,
    },
    /// Tensors cannot be read from the device.
    #[error("the device failed: {0}")]
    Device(#[from] ExecutionError),
    /// Rank 0 cannot listen for the other ranks.
    #[error(
        "rank {rank} at {address}: {source}; MASTER_ADDR and MASTER_PORT must name rank 0's host and a free port of it"
    )]
    Rendezvous {
        /// The rank of this process.
        rank: usize,
        /// The expected address of rank 0.
        address: SocketAddr,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// There are several processes without a common secret.
    #[error(
        "the processes of a run need a shared secret, so that no other program can join them, but MRCNN_TOKEN is not \
         set (16 characters or more): set it to the same value for all of them, e.g. \
         export MRCNN_TOKEN=$(openssl rand -hex 32) before srun; --gpus and mpirun need none"
    )]
    NoToken,
    /// Not every rank connected in time.
    #[error("rank {rank} at {address}: after {waited:?} {missing}")]
    Absent {
        /// The rank of this process.
        rank: usize,
        /// The expected address of rank 0.
        address: SocketAddr,
        /// Time that this rank waited for the others, or for rank 0.
        waited: Duration,
        /// The ranks that are missing.
        missing: String,
    },
    /// `MASTER_ADDR` cannot be resolved.
    #[error("MASTER_ADDR={host}: {source}")]
    Host {
        /// The host name.
        host: String,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// Ranks differ in data that must be the same.
    #[error("ranks {ranks:?} have other {what} than rank 0; {help}")]
    Differs {
        /// The ranks that differ.
        ranks: Vec<usize>,
        /// The values that differ.
        what: String,
        /// The fix.
        help: &'static str,
    },
}
