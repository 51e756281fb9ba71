//! The place of a process among the ranks of a run, and small numbers that ranks exchange.

use mrcnn_backends::comm::{self, CommError, Communicator};
use std::ops::Range;

/// Which of the processes of a run one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// From 0.
    pub rank: usize,
    /// How many there are.
    pub world: usize,
}

impl Rank {
    /// A process that is alone.
    pub const SINGLE: Self = Self { rank: 0, world: 1 };

    /// The rank of a communicator.
    pub fn of(comm: &dyn Communicator) -> Self {
        Self {
            rank: comm.rank(),
            world: comm.world_size(),
        }
    }

    /// This rank's part of `count` things in order: parts of equal size, the first ones of one more.
    pub fn share(self, count: usize) -> Range<usize> {
        comm::share(count, self.rank, self.world)
    }
}

/// A few numbers of every rank, in the order of the ranks.
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
