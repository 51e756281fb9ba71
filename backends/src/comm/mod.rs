//! Training by several processes, one a device: who they are and how they talk.
//!
//! [`connect`] finds out how this process was started and returns its [`Communicator`]: [`Single`]
//! where it is alone, MPI under `mpirun` or `srun` (feature `mpi`, processor and wgpu devices), NCCL
//! between NVIDIA cards (feature `cuda`).

#[cfg(any(feature = "mpi", feature = "cuda", test))]
mod buckets;
mod error;
mod launch;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "cuda")]
mod nccl;
#[cfg(feature = "cuda")]
mod nccl_library;
mod rendezvous;
mod share;
mod single;
mod token;
mod watch;
mod workers;

pub use error::CommError;
pub use launch::{Launch, connect};
#[cfg(feature = "fuzzing")]
pub use rendezvous::fuzzing;
pub use rendezvous::{Meeting, exchange_id};
pub use share::share;
pub use single::Single;
pub use token::Token;
pub use watch::{Waiting, Watch};
pub use workers::{WorkersError, supervise, worker_commands};

use burn::tensor::Tensor;
use std::fmt;
use std::time::Duration;

/// What the processes of a run do together. Every rank must make the same calls in the same order.
pub trait Communicator: fmt::Debug + Send + Sync {
    /// `single`, `mpi` or `nccl`.
    fn name(&self) -> &'static str;

    /// Which of the processes this is, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn world_size(&self) -> usize;

    /// The mean over the ranks, element by element, of tensors that have the same lengths on every
    /// rank; they stay on their devices. Sent in buckets of about 25 MB, in the tensors' own type.
    /// Every rank gets the same bits.
    fn all_reduce_mean(&self, tensors: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, CommError>;

    /// Rank 0's tensors; the other ranks give tensors of the same lengths for their devices.
    fn broadcast(&self, tensors: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, CommError>;

    /// Returns once every rank has called it.
    fn barrier(&self) -> Result<(), CommError>;

    /// What every rank gives, in the order of the ranks; of any length, different ones too.
    fn all_gather_bytes(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>, CommError>;

    /// Says where the run is (`step 12`), for the report of a rank that has waited too long.
    fn mark(&self, place: &str);

    /// Time spent in these calls so far, waiting for the other ranks and sending.
    fn waited(&self) -> Duration;

    /// Ends this process so that the others end too, where they can be reached.
    fn abort(&self) -> !;

    /// Whether there is nobody to talk to, so that nothing need be exchanged.
    fn is_alone(&self) -> bool {
        false
    }
}
