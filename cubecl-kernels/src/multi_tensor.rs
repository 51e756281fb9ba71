//! Launches over many tensors, each of which gets a range of the cubes. With one launch per tensor, launching would
//! take longer than the work on most of them.

use crate::launch::{UNITS, dense};
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::Client;
use cubecl::prelude::*;

/// Elements per cube of a kernel that computes element by element.
pub(crate) const CHUNK: u32 = 16 * UNITS;

/// Maximum number of tensors, or groups of tensors, per launch; each adds a branch to the kernel, which all cubes pass.
const MAX_TENSORS: usize = 96;

/// Bytes of arguments of the tensors of a launch. CUDA 12.0 passes at most 4,096 to a kernel.
const MAX_ARGUMENT_BYTES: u32 = 4000;

/// Bytes of arguments per buffer: its address and its length.
const BUFFER_BYTES: u32 = 12;

/// Bytes of the scalars of a tensor, or of a group: its range and at most three more.
const SCALAR_BYTES: u32 = 24;

/// Bindings that a launch needs beside those of its tensors: up to two outputs and CubeCL's own.
const OTHER_BINDINGS: u32 = 3;

/// Maximum number of cubes in one dimension of a launch that every device allows.
const MAX_CUBES: usize = 65535;

/// The cubes of one tensor, or of a group of tensors of the same length, in a launch.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct CubeRange {
    /// Number of elements of each tensor.
    pub length: u32,
    /// The first cube.
    pub from: u32,
    /// The cube after the last.
    pub to: u32,
}

#[cube]
impl CubeRange {
    /// Whether this cube is one of them.
    pub fn contains_this_cube(&self) -> bool {
        CUBE_POS_X >= self.from && CUBE_POS_X < self.to
    }

    /// The first element of this unit, which has every [`Self::step`]-th one from there on.
    pub fn first(&self) -> u32 {
        (CUBE_POS_X - self.from) * UNITS + UNIT_POS
    }

    /// Number of units of the range.
    pub fn step(&self) -> u32 {
        (self.to - self.from) * UNITS
    }
}

/// A launch over several tensors.
pub(crate) struct Launch {
    /// Indices of the tensors, with their cubes.
    pub tensors: Vec<(usize, CubeRangeLaunch)>,
    /// Number of cubes.
    pub cubes: u32,
}

/// Number of cubes of a tensor of `length` elements: one per `chunk`, as far as a launch has them.
pub(crate) fn cubes_of(length: usize, chunk: u32) -> usize {
    length.div_ceil(chunk as usize).min(MAX_CUBES)
}

/// Divides tensors of `lengths` into launches with [`cubes_of`] each. Empty tensors are left out. `bindings` is the
/// number of buffers per tensor, or per group of tensors.
pub(crate) fn launches(
    on: &CubeTensor,
    lengths: &[usize],
    chunk: u32,
    bindings: u32,
) -> Vec<Launch> {
    // One tensor per launch even where the device reports fewer bindings: the launch then reports the error.
    let most = most_tensors(&on.client, bindings).clamp(1, MAX_TENSORS);
    divide(lengths, chunk, most)
}

/// Whether a launch can bind the `bindings` buffers of one tensor.
pub(crate) fn can_bind(client: &Client, bindings: u32) -> bool {
    most_tensors(client, bindings) > 0
}

fn most_tensors(client: &Client, bindings: u32) -> usize {
    let allowed = client.properties().hardware.max_bindings;
    let bound = allowed.saturating_sub(OTHER_BINDINGS) / bindings;
    bound.min(MAX_ARGUMENT_BYTES / (BUFFER_BYTES * bindings + SCALAR_BYTES)) as usize
}

fn divide(lengths: &[usize], chunk: u32, most: usize) -> Vec<Launch> {
    let mut launches: Vec<Launch> = Vec::new();
    for (index, &length) in lengths.iter().enumerate() {
        let cubes = cubes_of(length, chunk);
        if cubes == 0 {
            continue;
        }
        let has_room = |launch: &&mut Launch| {
            launch.tensors.len() < most && launch.cubes as usize + cubes <= MAX_CUBES
        };
        let from = match launches.last_mut().filter(has_room) {
            Some(launch) => launch.cubes,
            None => {
                launches.push(Launch {
                    tensors: Vec::new(),
                    cubes: 0,
                });
                0
            }
        };
        if let Some(launch) = launches.last_mut() {
            let (length, to) = (length as u32, from + cubes as u32);
            launch
                .tensors
                .push((index, CubeRangeLaunch { length, from, to }));
            launch.cubes = to;
        }
    }
    launches
}

/// Numbers of elements.
pub(crate) fn lengths(tensors: &[CubeTensor]) -> Vec<usize> {
    let counts = tensors.iter().map(|tensor| tensor.meta.num_elements());
    counts.collect()
}

/// The tensors as dense inputs.
///
/// # Panics
///
/// If one is not f32.
pub(crate) fn dense_f32(tensors: Vec<CubeTensor>) -> Vec<CubeTensor> {
    let tensors = tensors.into_iter().map(|tensor| {
        assert_eq!(tensor.dtype, DType::F32, "the tensors must be f32");
        dense(tensor)
    });
    tensors.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_in_one_range() {
        let lengths = [0, 1, 4096, 4097, 0, 100_000, 7];
        for most in [1, 2, 3, 32] {
            let mut found = Vec::new();
            for Launch { tensors, cubes } in divide(&lengths, 4096, most) {
                assert!(tensors.len() <= most);
                let mut next = 0;
                for (index, range) in tensors {
                    assert_eq!(range.from, next);
                    assert_eq!(range.to - range.from, range.length.div_ceil(4096));
                    next = range.to;
                    found.push((index, range.length as usize));
                }
                assert_eq!(next, cubes);
            }
            let wanted = lengths.iter().copied().enumerate();
            assert_eq!(found, wanted.filter(|(_, n)| *n > 0).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_launch_ends_before_its_cubes_exceed_the_limit() {
        let launches = divide(&[60_000 * 4096, 6_000 * 4096], 4096, 32);
        assert_eq!(launches.len(), 2);
    }

    /// A parameter of which each cube has several chunks.
    #[test]
    fn the_largest_tensor_has_a_launch() {
        let launches = divide(&[1 << 31], 4096, 32);
        let cubes: Vec<_> = launches.iter().map(|launch| launch.cubes).collect();
        assert_eq!(cubes, [MAX_CUBES as u32]);
    }
}
