//! Textures: value noise in octaves, stripes, checks.

use crate::random::Stream;

/// A pattern over the plane with values in about `-1..=1`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Texture {
    stream: Stream,
    kind: u64,
    period: f32,
    direction: (f32, f32),
}

impl Texture {
    /// The texture of a random stream.
    pub fn new(stream: Stream) -> Self {
        let angle = stream.uniform(1) as f32 * std::f32::consts::TAU;
        Self {
            stream,
            kind: stream.bits(0) % 4,
            period: 6.0 + 18.0 * stream.uniform(2) as f32,
            direction: (angle.cos(), angle.sin()),
        }
    }

    /// The value at a point in pixels.
    pub fn at(&self, x: f32, y: f32) -> f32 {
        let along = (x * self.direction.0 + y * self.direction.1) / self.period;
        let across = (y * self.direction.0 - x * self.direction.1) / self.period;
        let noise = self.octaves(x, y);
        match self.kind {
            0 => noise,
            1 => 0.6 * (along * std::f32::consts::PI).sin() + 0.5 * noise,
            2 => {
                let check = (along.floor() as i64 + across.floor() as i64).rem_euclid(2);
                0.8 * (check as f32 - 0.5) + 0.5 * noise
            }
            _ => 0.5 * (along / 4.0).sin() + 0.7 * noise,
        }
    }

    fn octaves(&self, x: f32, y: f32) -> f32 {
        let mut sum = 0.0;
        for (octave, (cell, weight)) in [(40.0, 0.5), (16.0, 0.3), (6.0, 0.2)].iter().enumerate() {
            sum += weight * value_noise(self.stream.fork(octave as u64), x / cell, y / cell);
        }
        sum
    }
}

/// Smooth interpolation of random values at integer coordinates, in `-1..=1`.
fn value_noise(stream: Stream, x: f32, y: f32) -> f32 {
    let (column, row) = (x.floor(), y.floor());
    let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
    let (u, v) = (smooth(x - column), smooth(y - row));
    let corner = |dx: i64, dy: i64| {
        let key = ((row as i64 + dy) << 32) ^ ((column as i64 + dx) & 0xffff_ffff);
        2.0 * stream.uniform(key as u64) as f32 - 1.0
    };
    let top = corner(0, 0) * (1.0 - u) + corner(1, 0) * u;
    let bottom = corner(0, 1) * (1.0 - u) + corner(1, 1) * u;
    top * (1.0 - v) + bottom * v
}
