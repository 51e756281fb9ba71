//! Tilings of the kernels by class of device.
//!
//! On a GPU, a block of 8 by 8 sums fits in the registers of a unit, and the tiles take 8 to 9 of the 16 KiB of shared
//! memory that WebGPU guarantees. A software rasterizer (Mesa's lavapipe, on which CI runs) loads from memory one
//! invocation at a time, which costs tens of times a multiply-add, and spilling sums to its cache is cheap. There,
//! blocks are as large as a compile time of a few seconds allows.

use cubecl::client::Client;
use cubecl::prelude::*;

/// Whether the device is a software rasterizer. These vectorize over as many invocations as a CPU register has lanes;
/// GPUs have planes of 16 or more.
fn is_software(client: &Client) -> bool {
    client.properties().hardware.plane_size_max <= 8
}

/// Tiling of a cube. A unit computes `rows` pixels by `vectors` vectors of four channels, interleaved with its
/// neighbors, so that neighbors read neighboring vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiling {
    /// Units along the channels.
    pub units_x: usize,
    /// Units along the pixels.
    pub units_y: usize,
    /// Pixels per unit.
    pub rows: usize,
    /// Vectors of output channels per unit.
    pub vectors: usize,
    /// Vectors of input channels per step of the reduction.
    pub depth: usize,
}

impl Tiling {
    /// The tiling of a convolution to `outputs` channels.
    pub fn new(client: &Client, outputs: usize) -> Self {
        let [rows, vectors, depth] = match (is_software(client), outputs) {
            (false, _) => [8, 2, 4],
            // Each channel is written separately, and a large block would take minutes to compile.
            (true, _) if !outputs.is_multiple_of(4) => [4, 1, 4],
            (true, ..=64) => [16, 2, 1],
            // With 216 pixels per cube, the levels of an 800x1344 image have a utilization of 97 % or more.
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

    /// Units per cube.
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

    /// Vectors between pixels in shared memory; odd, so that pixels are in different banks.
    pub const fn pitch(&self) -> usize {
        self.depth + 1
    }

    /// Vectors of the input tile that each unit loads; the last units load fewer unless [`Self::loads_evenly`].
    pub const fn input_loads(&self) -> usize {
        (self.pixels() * self.depth).div_ceil(self.units())
    }

    /// Whether every unit loads the same number of vectors of the input tile.
    pub const fn loads_evenly(&self) -> bool {
        (self.pixels() * self.depth).is_multiple_of(self.units())
    }

    /// Vectors of the weight tile that each unit loads.
    pub const fn weight_loads(&self) -> usize {
        4 * self.depth * self.outputs() / self.units()
    }
}

/// Tiling of the gradient. A unit computes `rows` vectors of four input channels by `vectors` vectors of four output
/// channels, interleaved with its neighbors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GradientTiling {
    /// Units along the output channels.
    pub units_x: usize,
    /// Units along the taps and input channels.
    pub units_y: usize,
    /// Vectors of input channels per unit.
    pub rows: usize,
    /// Vectors of output channels per unit.
    pub vectors: usize,
    /// Pixels per step of the reduction.
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

    /// Units per cube.
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

/// Sizes of the convolution, and the distance between the pixels of consecutive steps.
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
    /// Stride of the convolution.
    pub stride: u32,
    /// Pixels of all output images, and pixels per cube.
    pub pixels: u32,
    pub pixels_per_cube: u32,
    /// A step of the reduction in images, rows and columns.
    pub step_images: u32,
    pub step_rows: u32,
    pub step_cols: u32,
}
