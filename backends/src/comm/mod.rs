//! Communication between the processes of a training run, one per device.
//!
//! [`connect`] detects how this process was started and returns its [`Communicator`]: [`Single`]
//! if it is the only one, MPI under `mpirun` or `srun` (feature `mpi`, CPU and wgpu devices), NCCL
//! between NVIDIA GPUs (feature `cuda`).

#[cfg(any(feature = "mpi", feature = "cuda", test))]
mod buckets;
mod connect;
mod error;
mod launch;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "cuda")]
mod nccl;
#[cfg(feature = "cuda")]
mod nccl_library;
mod reduction;
mod rendezvous;
mod shard;
mod single;
mod token;
mod watch;
mod workers;

pub use connect::connect;
pub use error::CommError;
pub use launch::Launch;
pub use reduction::Reduction;
#[doc(hidden)]
pub use rendezvous::fuzzing;
pub use rendezvous::{Meeting, exchange_id};
pub use shard::shard;
pub use single::Single;
pub use token::Token;
pub use watch::{Waiting, Watch};
pub use workers::{WorkersError, supervise, worker_commands};

use burn::tensor::Tensor;
use std::fmt;
use std::time::Duration;

/// Collective operations of a run's processes. Every rank must make the same calls in the same order.
pub trait Communicator: fmt::Debug + Send + Sync {
    /// `single`, `mpi` or `nccl`.
    fn name(&self) -> &'static str;

    /// Rank of this process, from 0.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn world_size(&self) -> usize;

    /// Mean over the ranks, element by element, of tensors that have the same lengths on every
    /// rank; they stay on their devices. Sent in buckets of about 25 MB, in the tensors' own dtype.
    /// The result is bit-equal on every rank.
    fn all_reduce_mean(&self, tensors: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, CommError>;

    /// Whether [`Self::start_all_reduce_mean`] returns before the exchange ends, as with NCCL.
    fn overlaps(&self) -> bool {
        false
    }

    /// Starts [`Self::all_reduce_mean`]. If the communicator [overlaps](Self::overlaps), it sends while the device
    /// computes what is enqueued before [`Reduction::finish`]; otherwise this call waits for the end. Every rank must
    /// start and finish reductions in the same order. Fails as [`Self::all_reduce_mean`] does.
    fn start_all_reduce_mean(&self, tensors: Vec<Tensor<1>>) -> Result<Reduction<'_>, CommError> {
        self.all_reduce_mean(tensors).map(Reduction::complete)
    }

    /// Broadcast of rank 0's tensors; the other ranks pass tensors of the same lengths on their devices.
    fn broadcast(&self, tensors: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, CommError>;

    /// Barrier: returns after every rank has called it.
    fn barrier(&self) -> Result<(), CommError>;

    /// All-gather of bytes, in the order of the ranks; lengths may differ.
    fn all_gather_bytes(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>, CommError>;

    /// Records the position in the run (`step 12`), for the report of a rank that has waited too long.
    fn mark(&self, place: &str);

    /// Time spent in these calls so far, waiting for the other ranks included.
    fn waited(&self) -> Duration;

    /// Ends this process and, if they can be reached, the others.
    fn abort(&self) -> !;

    /// Whether there is only one rank, so that nothing needs to be exchanged.
    fn is_alone(&self) -> bool {
        false
    }
}
