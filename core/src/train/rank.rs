//! The rank of a process in a run, and the exchange of small numbers between ranks.

use mrcnn_backends::comm::{self, CommError, Communicator};
use std::ops::Range;

/// The rank of a process and the number of ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// From 0.
    pub rank: usize,
    /// Number of ranks.
    pub world: usize,
}

impl Rank {
    /// The only rank of a run with a single process.
    pub const SINGLE: Self = Self { rank: 0, world: 1 };

    /// The rank of this process in a communicator.
    pub fn of(comm: &dyn Communicator) -> Self {
        Self {
            rank: comm.rank(),
            world: comm.world_size(),
        }
    }

    /// This rank's shard of `count` items in order: shards of equal size, or with one more item in the first ones.
    pub fn shard(self, count: usize) -> Range<usize> {
        comm::shard(count, self.rank, self.world)
    }
}

/// Gathers a few numbers of every rank, in the order of the ranks.
pub(crate) fn gather_numbers<const N: usize>(
    comm: &dyn Communicator,
    mine: [u64; N],
) -> Result<Vec<[u64; N]>, CommError> {
    let bytes: Vec<u8> = mine
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let all = comm.all_gather_bytes(&bytes)?;
    let numbers = |bytes: &Vec<u8>| {
        std::array::from_fn(|i| {
            let bytes = bytes.get(8 * i..).and_then(|rest| rest.first_chunk());
            u64::from_le_bytes(bytes.copied().unwrap_or_default())
        })
    };
    Ok(all.iter().map(numbers).collect())
}
