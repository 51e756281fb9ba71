//! How the kernels cut their work, by class of device.
//!
//! On a GPU a unit's block of 8 by 8 sums stays in registers, and the tiles take 8 to 9 KiB of the
//! 16 KiB of shared memory that WebGPU promises. A software rasterizer (Mesa's lavapipe, on which CI
//! runs) loads from memory one invocation at a time, which costs tens of times what a
//! multiply-add does, and spills sums to its cache at little cost: there blocks are as large as
//! compiling them in a few seconds allows.

use cubecl::client::Client;
use cubecl::prelude::*;

/// Whether the device is a software rasterizer. Those vectorise over as many invocations as a
/// register of the processor has lanes; GPUs have planes of 16 or more.
fn is_software(client: &Client) -> bool {
    client.properties().hardware.plane_size_max <= 8
}

/// How a cube cuts its tile. A unit owns `rows` pixels by `vectors` vectors of four channels,
/// interleaved with its neighbours' so that neighbours read neighbouring vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiling {
    /// Units along the channels.
    pub units_x: usize,
    /// Units along the pixels.
    pub units_y: usize,
    /// Pixels a unit.
    pub rows: usize,
    /// Vectors of output channels a unit.
    pub vectors: usize,
    /// Vectors of input channels a step of the reduction.
    pub depth: usize,
}

impl Tiling {
    /// The tiling of a convolution to `outputs` channels.
    pub fn new(client: &Client, outputs: usize) -> Self {
        let [rows, vectors, depth] = match (is_software(client), outputs) {
            (false, _) => [8, 2, 4],
            // Each channel is written on its own: a large block takes minutes to compile.
            (true, _) if !outputs.is_multiple_of(4) => [4, 1, 4],
            (true, ..=64) => [16, 2, 1],
            // 216 pixels a cube fill the levels of an 800x1344 picture to 97 % and more.
            (true, _) => [27, 4, 1],
        };
        Self {
            units_x: 8,
            units_y: 8,
            rows,
            vectors,
            depth,
        }
    }

    /// Units of a cube.
    pub const fn units(&self) -> usize {
        self.units_x * self.units_y
    }

    /// Pixels of the tile.
    pub const fn pixels(&self) -> usize {
        self.units_y * self.rows
    }

    /// Vectors of output channels of the tile.
    pub const fn outputs(&self) -> usize {
        self.units_x * self.vectors
    }

    /// Vectors from pixel to pixel in shared memory; odd, so that pixels lie in different banks.
    pub const fn pitch(&self) -> usize {
        self.depth + 1
    }

    /// Vectors of the input tile that each unit loads, the last ones fewer unless [`Self::loads_evenly`].
    pub const fn input_loads(&self) -> usize {
        (self.pixels() * self.depth).div_ceil(self.units())
    }

    /// Whether every unit loads as many vectors of the input tile.
    pub const fn loads_evenly(&self) -> bool {
        (self.pixels() * self.depth).is_multiple_of(self.units())
    }

    /// Vectors of the weight tile that each unit loads.
    pub const fn weight_loads(&self) -> usize {
        4 * self.depth * self.outputs() / self.units()
    }
}

/// How a cube cuts its tile of the gradient. A unit owns `rows` vectors of four input channels by
/// `vectors` vectors of four output channels, interleaved with its neighbours'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GradientTiling {
    /// Units along the output channels.
    pub units_x: usize,
    /// Units along the taps and input channels.
    pub units_y: usize,
    /// Vectors of input channels a unit.
    pub rows: usize,
    /// Vectors of output channels a unit.
    pub vectors: usize,
    /// Pixels a step of the reduction.
    pub depth: usize,
}

impl GradientTiling {
    /// The tiling of the gradient of weights to `outputs` channels.
    pub fn new(client: &Client, outputs: usize) -> Self {
        let [rows, vectors, depth] = match (is_software(client), outputs) {
            (false, _) => [2, 2, 16],
            (true, ..=64) => [2, 2, 4],
            (true, _) => [4, 4, 4],
        };
        Self {
            units_x: 8,
            units_y: 8,
            rows,
            vectors,
            depth,
        }
    }

    /// Units of a cube.
    pub const fn units(&self) -> usize {
        self.units_x * self.units_y
    }

    /// Vectors of input channels of the tile.
    pub const fn inputs(&self) -> usize {
        self.units_y * self.rows
    }

    /// Vectors of output channels of the tile.
    pub const fn outputs(&self) -> usize {
        self.units_x * self.vectors
    }

    /// Vectors of the input tile that each unit loads.
    pub const fn input_loads(&self) -> usize {
        self.inputs() * self.depth / self.units()
    }

    /// Vectors of the tile of output gradients that each unit loads.
    pub const fn grad_loads(&self) -> usize {
        self.outputs() * self.depth / self.units()
    }
}

/// Sizes of the convolution, and how far apart the pixels of two steps lie.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
pub struct GradientSizes {
    /// Rows and columns of the input.
    pub input_rows: u32,
    pub input_cols: u32,
    /// Channels of the input.
    pub inputs: u32,
    /// Rows and columns of the output.
    pub output_rows: u32,
    pub output_cols: u32,
    /// Channels of the output.
    pub outputs: u32,
    /// Of the convolution.
    pub stride: u32,
    /// Pixels of all output images, and of one cube's share.
    pub pixels: u32,
    pub share: u32,
    /// A step of the reduction in images, rows and columns.
    pub step_images: u32,
    pub step_rows: u32,
    pub step_cols: u32,
}
