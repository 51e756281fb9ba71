//! MPI communication over host buffers, for CPUs and wgpu devices.

use super::buckets::Buckets;
use super::{CommError, Communicator, Watch};
use burn::tensor::{Tensor, TensorData};
use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::datatype::PartitionMut;
use mpi::environment::{Universe, initialize_with_threading};
use mpi::topology::{Communicator as _, SimpleCommunicator};
use mpi::traits::*;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Communicator of all processes that `mpirun` or `srun` started.
///
/// Errors of MPI end the job (its default handler), so no call returns one.
pub struct Mpi {
    rank: usize,
    world: usize,
    watch: Watch,
    /// One call at a time, the threading level requested from MPI.
    turn: Mutex<()>,
    /// Finalizes MPI when dropped.
    _universe: Universe,
}

impl Mpi {
    /// Initializes MPI.
    pub fn start(limit: Duration) -> Result<Self, CommError> {
        let Some((universe, threading)) = initialize_with_threading(Threading::Serialized) else {
            return Err(CommError::Mpi("it was started already"));
        };
        if threading < Threading::Serialized {
            return Err(CommError::Mpi("it does not allow threads"));
        }
        let world = universe.world();
        let (rank, world) = (world.rank() as usize, world.size() as usize);
        Ok(Self {
            rank,
            world,
            watch: Watch::start(rank, world, limit),
            turn: Mutex::new(()),
            _universe: universe,
        })
    }

    fn world(&self) -> (SimpleCommunicator, MutexGuard<'_, ()>) {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        (SimpleCommunicator::world(), turn)
    }

    /// Exchanges the values of a flat tensor on the host, and moves them back to its device.
    fn on_host(
        &self,
        flat: Tensor<1>,
        exchange: impl FnOnce(&SimpleCommunicator, Vec<f32>) -> Vec<f32>,
    ) -> Result<Tensor<1>, CommError> {
        let (device, dtype, dims) = (flat.device(), flat.dtype(), flat.dims());
        let values = flat.try_into_data()?.try_into_vec::<f32>();
        let values = values.map_err(|_| CommError::DType {
            name: "MPI",
            dtype,
            help: "set train.wire to f32",
        })?;
        let (world, _turn) = self.world();
        let values = exchange(&world, values);
        Ok(Tensor::from_data(TensorData::new(values, dims), &device))
    }
}

impl Communicator for Mpi {
    fn name(&self) -> &'static str {
        "mpi"
    }

    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.world
    }

    fn all_reduce_mean(&self, tensors: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, CommError> {
        let scale = 1.0 / self.world as f32;
        let mean = |flat| {
            self.on_host(flat, |world, mine| {
                let _waiting = self.watch.waiting("all_reduce");
                let mut sum = vec![0.0f32; mine.len()];
                world.all_reduce_into(&mine[..], &mut sum[..], SystemOperation::sum());
                sum.iter_mut().for_each(|value| *value *= scale);
                sum
            })
        };
        by_bucket(tensors, mean)
    }

    fn broadcast(&self, tensors: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, CommError> {
        let broadcast = |flat| {
            self.on_host(flat, |world, mut values| {
                let _waiting = self.watch.waiting("broadcast");
                world.process_at_rank(0).broadcast_into(&mut values[..]);
                values
            })
        };
        by_bucket(tensors, broadcast)
    }

    fn barrier(&self) -> Result<(), CommError> {
        let (world, _turn) = self.world();
        let _waiting = self.watch.waiting("barrier");
        world.barrier();
        Ok(())
    }

    fn all_gather_bytes(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        let (world, _turn) = self.world();
        let _waiting = self.watch.waiting("all_gather");
        let mut lengths = vec![0u64; self.world];
        world.all_gather_into(&(mine.len() as u64), &mut lengths[..]);
        let all: u64 = lengths.iter().sum();
        match i32::try_from(all) {
            Ok(all) => Ok(gather(&world, mine, &lengths, all as usize)),
            // Counts of MPI have 32 bits.
            Err(_) => Ok(gather_in_turn(&world, mine, &lengths)),
        }
    }

    fn mark(&self, place: &str) {
        self.watch.mark(place);
    }

    fn waited(&self) -> Duration {
        self.watch.waited()
    }

    fn abort(&self) -> ! {
        SimpleCommunicator::world().abort(1)
    }
}

/// Runs `exchange` on each bucket of `tensors`.
fn by_bucket(
    tensors: Vec<Tensor<1>>,
    exchange: impl FnMut(Tensor<1>) -> Result<Tensor<1>, CommError>,
) -> Result<Vec<Tensor<1>>, CommError> {
    let (buckets, flat) = Buckets::of(tensors);
    let exchanged = flat.map(exchange).collect::<Result<_, _>>()?;
    Ok(buckets.split(exchanged))
}

fn gather(world: &SimpleCommunicator, mine: &[u8], lengths: &[u64], all: usize) -> Vec<Vec<u8>> {
    let counts: Vec<i32> = lengths.iter().map(|&length| length as i32).collect();
    let starts: Vec<i32> = counts
        .iter()
        .scan(0, |end, count| {
            *end += count;
            Some(*end - count)
        })
        .collect();
    if all == 0 {
        return vec![Vec::new(); lengths.len()];
    }
    // The address of an empty slice of bytes is 1, which Open MPI interprets as MPI_IN_PLACE.
    let mine = if mine.is_empty() { &[0][..0] } else { mine };
    let mut bytes = vec![0u8; all];
    let mut parts = PartitionMut::new(&mut bytes[..], &counts[..], &starts[..]);
    world.all_gather_varcount_into(mine, &mut parts);
    let part = |(&start, &count): (&i32, &i32)| {
        let (start, count) = (start as usize, count as usize);
        bytes[start..start + count].to_vec()
    };
    starts.iter().zip(&counts).map(part).collect()
}

/// Broadcasts from each rank in turn, in chunks.
fn gather_in_turn(world: &SimpleCommunicator, mine: &[u8], lengths: &[u64]) -> Vec<Vec<u8>> {
    const PART: usize = 1 << 30;
    let mut found = Vec::with_capacity(lengths.len());
    for (rank, &length) in lengths.iter().enumerate() {
        let mut bytes = match rank == world.rank() as usize {
            true => mine.to_vec(),
            false => vec![0; length as usize],
        };
        for part in bytes.chunks_mut(PART) {
            world.process_at_rank(rank as i32).broadcast_into(part);
        }
        found.push(bytes);
    }
    found
}

impl Drop for Mpi {
    fn drop(&mut self) {
        // A panic would run MPI_Finalize, which waits for ranks that wait for this one.
        if std::thread::panicking() {
            self.abort();
        }
    }
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mpi(rank {} of {})", self.rank, self.world)
    }
}
