//! The division of launches over many tensors. A launch per tensor would cost more than the work on most of them.

use crate::launch::dense;
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::Client;
use cubecl::prelude::*;

/// Most tensors, or groups of tensors, of one launch: each adds a branch to the kernel.
const MOST: usize = 32;

/// Bindings that a launch needs beside those of its tensors: an output and CubeCL's own.
const OTHER_BINDINGS: u32 = 3;

/// Cubes of a launch on one dimension that every device allows.
const MOST_CUBES: usize = 65535;

/// A tensor, or a group of tensors of the same length, in a launch.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Share {
    /// Number of elements.
    pub length: u32,
    /// The first of its cubes, and the one after its last.
    pub from: u32,
    pub to: u32,
}

#[cube]
impl Share {
    /// Whether this cube works on it.
    pub fn is_of_cube(&self) -> bool {
        CUBE_POS_X >= self.from && CUBE_POS_X < self.to
    }

    /// The elements of this cube: from the first up to the second.
    pub fn range(&self, #[comptime] chunk: u32) -> (u32, u32) {
        let start = (CUBE_POS_X - self.from) * chunk;
        (start, min(start + chunk, self.length))
    }
}

/// The launches over tensors of `lengths`, with a cube per `chunk` elements: for each the places of its tensors with
/// their shares, and its number of cubes. Empty tensors have none. `bindings` is the number of buffers per place.
pub(crate) fn launches(
    on: &CubeTensor,
    lengths: &[usize],
    chunk: u32,
    bindings: u32,
) -> Vec<(Vec<(usize, ShareLaunch)>, u32)> {
    let most = places(&on.client, bindings).max(1);
    divide(lengths, chunk, most.min(MOST))
}

/// Whether a launch can bind `bindings` buffers for one place.
pub(crate) fn binds(client: &Client, bindings: u32) -> bool {
    places(client, bindings) > 0
}

fn places(client: &Client, bindings: u32) -> usize {
    let allowed = client.properties().hardware.max_bindings;
    (allowed.saturating_sub(OTHER_BINDINGS) / bindings) as usize
}

fn divide(lengths: &[usize], chunk: u32, most: usize) -> Vec<(Vec<(usize, ShareLaunch)>, u32)> {
    let mut launches = Vec::new();
    let (mut shares, mut cubes) = (Vec::new(), 0);
    for (place, &length) in lengths.iter().enumerate() {
        let own = length.div_ceil(chunk as usize);
        assert!(own <= MOST_CUBES, "a parameter of {length} elements");
        if !shares.is_empty() && (shares.len() == most || cubes + own > MOST_CUBES) {
            launches.push((
                std::mem::take(&mut shares),
                std::mem::take(&mut cubes) as u32,
            ));
        }
        if own > 0 {
            let (from, to) = (cubes as u32, (cubes + own) as u32);
            shares.push((
                place,
                ShareLaunch {
                    length: length as u32,
                    from,
                    to,
                },
            ));
            cubes += own;
        }
    }
    if !shares.is_empty() {
        launches.push((shares, cubes as u32));
    }
    launches
}

/// Lengths of flat tensors.
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
    fn every_element_is_in_one_share() {
        let lengths = [0, 1, 4096, 4097, 0, 100_000, 7];
        for most in [1, 2, 3, 32] {
            let launches = divide(&lengths, 4096, most);
            let mut found = Vec::new();
            for (shares, cubes) in &launches {
                assert!(shares.len() <= most);
                let mut next = 0;
                for (place, share) in shares {
                    assert_eq!(share.from, next);
                    assert_eq!(share.to - share.from, share.length.div_ceil(4096));
                    next = share.to;
                    found.push((*place, share.length as usize));
                }
                assert_eq!(next, *cubes);
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
}
