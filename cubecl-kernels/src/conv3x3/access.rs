//! Reads and writes of four channels at a time, for tensors whose number of channels need not be a multiple of four.

use cubecl::prelude::*;

/// Width of the vectors of the tiles, independent of the vectors of the tensors.
pub type Four = Const<4>;

/// Four channels starting at `channel` of the pixel at `offset`; zero beyond `channels`.
#[cube]
pub fn read_four<E: Float, N: Size>(
    values: &[Vector<E, N>],
    offset: u32,
    channel: u32,
    channels: u32,
) -> Vector<f32, Four> {
    let lanes = N::value().comptime();
    let mut four = Vector::<f32, Four>::new(0.0f32);
    #[unroll]
    for part in 0..comptime!(4 / lanes) {
        let first = channel + comptime!((part * lanes) as u32);
        if first < channels {
            let value = values[((offset + first) / comptime!(lanes as u32)) as usize];
            #[unroll]
            for lane in 0..lanes {
                four.insert(
                    comptime!(part * lanes + lane),
                    f32::cast_from(value.extract(lane)),
                );
            }
        }
    }
    four
}

/// Adds the bias to four channels starting at `channel`, applies a ReLU if `relu`, and writes those below `channels`.
#[cube]
pub fn write_four<E: Float, N: Size>(
    output: &mut [Vector<E, N>],
    bias: &[Vector<E, N>],
    four: Vector<f32, Four>,
    offset: u32,
    channel: u32,
    channels: u32,
    #[comptime] relu: bool,
) {
    let lanes = N::value().comptime();
    #[unroll]
    for part in 0..comptime!(4 / lanes) {
        let first = channel + comptime!((part * lanes) as u32);
        if first < channels {
            let mut value = Vector::<f32, N>::new(0.0f32);
            #[unroll]
            for lane in 0..lanes {
                value.insert(lane, four.extract(comptime!(part * lanes + lane)));
            }
            value += Vector::cast_from(bias[(first / comptime!(lanes as u32)) as usize]);
            if relu {
                value = max(value, Vector::new(0.0f32));
            }
            output[((offset + first) / comptime!(lanes as u32)) as usize] =
                Vector::cast_from(value);
        }
    }
}
