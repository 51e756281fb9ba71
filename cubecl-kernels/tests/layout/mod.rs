//! The same values in the memory layouts that an operator's inputs may have.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Memory layout of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Row-major without gaps.
    Dense,
    /// Rows with a gap after each: a slice of a wider tensor, as CUDA allocates tensors.
    Padded,
    /// Row-major from the middle of a buffer.
    Offset,
    /// Stored with the dimensions in reverse order.
    Permuted,
}

impl Layout {
    pub const ALL: [Self; 4] = [Self::Dense, Self::Padded, Self::Offset, Self::Permuted];

    /// Additional elements around the tensor: multiples of the alignment of views (512 bytes at
    /// most), so that slices stay views.
    const BESIDE: usize = 128;

    /// A tensor of `values`, row-major, with `shape`; NaN surrounds them in memory.
    pub fn float<const D: usize>(
        self,
        values: &[f32],
        shape: [usize; D],
        device: &Device,
    ) -> Tensor<D> {
        let data = |values: Vec<f32>, shape: Vec<usize>| TensorData::new(values, shape);
        match self {
            Self::Dense => Tensor::from_data(data(values.to_vec(), shape.to_vec()), device),
            Self::Padded => {
                let (wide, values) = padded(values, shape, f32::NAN);
                Tensor::<D>::from_data(data(values, wide.to_vec()), device)
                    .slice(shape.map(|size| 0..size))
            }
            Self::Offset => {
                let (range, values) = offset(values, f32::NAN);
                let length = values.len();
                Tensor::<1>::from_data(data(values, vec![length]), device)
                    .slice([range])
                    .reshape(shape)
            }
            Self::Permuted => {
                let (reversed, values) = reversed(values, shape);
                Tensor::<D>::from_data(data(values, reversed.to_vec()), device)
                    .permute(backwards::<D>())
            }
        }
    }

    /// As [`Self::float`]; the surrounding numbers are invalid as indices and counts.
    pub fn int<const D: usize>(
        self,
        values: &[i32],
        shape: [usize; D],
        device: &Device,
    ) -> Tensor<D, Int> {
        const BESIDE: i32 = 1_000_003;
        let data = |values: Vec<i32>, shape: Vec<usize>| TensorData::new(values, shape);
        match self {
            Self::Dense => Tensor::from_data(data(values.to_vec(), shape.to_vec()), device),
            Self::Padded => {
                let (wide, values) = padded(values, shape, BESIDE);
                Tensor::<D, Int>::from_data(data(values, wide.to_vec()), device)
                    .slice(shape.map(|size| 0..size))
            }
            Self::Offset => {
                let (range, values) = offset(values, BESIDE);
                let length = values.len();
                Tensor::<1, Int>::from_data(data(values, vec![length]), device)
                    .slice([range])
                    .reshape(shape)
            }
            Self::Permuted => {
                let (reversed, values) = reversed(values, shape);
                Tensor::<D, Int>::from_data(data(values, reversed.to_vec()), device)
                    .permute(backwards::<D>())
            }
        }
    }
}

fn padded<T: Copy, const D: usize>(
    values: &[T],
    shape: [usize; D],
    beside: T,
) -> ([usize; D], Vec<T>) {
    let mut wide = shape;
    wide[D - 1] += Layout::BESIDE;
    let rows = values.chunks(shape[D - 1]);
    let gap = [beside; Layout::BESIDE];
    (wide, rows.flat_map(|row| [row, &gap].concat()).collect())
}

fn offset<T: Copy>(values: &[T], beside: T) -> (std::ops::Range<usize>, Vec<T>) {
    let gap = [beside; Layout::BESIDE];
    (
        Layout::BESIDE..Layout::BESIDE + values.len(),
        [&gap[..], values, &gap].concat(),
    )
}

fn backwards<const D: usize>() -> [isize; D] {
    std::array::from_fn(|dim| (D - 1 - dim) as isize)
}

/// The values in column-major order, and the reversed shape.
fn reversed<T: Copy, const D: usize>(values: &[T], shape: [usize; D]) -> ([usize; D], Vec<T>) {
    let reversed: [usize; D] = std::array::from_fn(|dim| shape[D - 1 - dim]);
    let source = |index: usize| {
        // The last dimension of the reversed shape is the first of the shape.
        let mut rest = index;
        let mut place = 0;
        for dim in 0..D {
            let step: usize = shape[dim + 1..].iter().product();
            place += rest % shape[dim] * step;
            rest /= shape[dim];
        }
        values[place]
    };
    (reversed, (0..values.len()).map(source).collect())
}
