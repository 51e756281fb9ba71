use super::*;
use burn::tensor::{Device, FloatDType, TensorData};

/// Rows and columns of levels, some of which have fewer cells than a cube has units.
const GRIDS: [[usize; 2]; 4] = [[5, 7], [3, 4], [1, 2], [1, 1]];

/// Levels of `n` images with `per_cell` anchors per cell.
struct Problem<'a> {
    n: usize,
    per_cell: usize,
    grids: &'a [[usize; 2]],
}

impl Problem<'_> {
    /// Outputs `[n, h, w, 5a]` of each level: different whole numbers, which f16 represents exactly.
    fn outputs(&self) -> Vec<Vec<f32>> {
        let mut numbers = (-1000..).map(|number: i32| number as f32);
        let outputs = self.n * self.per_cell * OUTPUTS;
        let levels = self.grids.iter();
        levels
            .map(|[h, w]| numbers.by_ref().take(h * w * outputs).collect())
            .collect()
    }

    /// Logits and deltas by the definition.
    fn wanted(&self) -> [Vec<f32>; 2] {
        let (mut logits, mut deltas) = (Vec::new(), Vec::new());
        let levels = self.outputs();
        for image in 0..self.n {
            for level in &levels {
                let length = level.len() / self.n;
                let of_image = &level[image * length..][..length];
                for cell in of_image.chunks(OUTPUTS * self.per_cell) {
                    logits.extend(&cell[..self.per_cell]);
                    deltas.extend(&cell[self.per_cell..]);
                }
            }
        }
        [logits, deltas]
    }

    /// The levels `[n, 5a, h, w]` on `device`.
    fn levels(&self, device: &Device, dtype: FloatDType, is_channels_last: bool) -> Vec<Tensor<4>> {
        let levels = self.outputs().into_iter().zip(self.grids);
        let levels = levels.map(|(values, &[h, w])| {
            let data = TensorData::new(values, [self.n, h, w, OUTPUTS * self.per_cell]);
            let order = [0, 3, 1, 2];
            if is_channels_last {
                return Tensor::<4>::from_data(data, device)
                    .cast(dtype)
                    .permute(order);
            }
            let level = Tensor::<4>::from_data(data, &Device::flex()).permute(order);
            Tensor::<4>::from_data(level.into_data(), device).cast(dtype)
        });
        levels.collect()
    }

    fn check(&self, device: &Device, dtype: FloatDType) {
        let Self { n, per_cell, grids } = *self;
        let anchors = grids.iter().map(|[h, w]| h * w * per_cell).sum::<usize>();
        for is_channels_last in [true, false] {
            let levels = self.levels(device, dtype, is_channels_last);
            let (logits, deltas) = flatten_rpn_outputs(levels);
            assert_eq!(logits.dims(), [n, anchors]);
            assert_eq!(deltas.dims(), [n, anchors, 4]);
            let found = [logits.into_data(), deltas.into_data()];
            let found: [Vec<f32>; 2] = found.map(|data| data.try_into_vec().expect("f32"));
            assert_eq!(
                found,
                self.wanted(),
                "{n} images, {per_cell} per cell, {grids:?}, {dtype:?}, {is_channels_last}"
            );
        }
    }
}

fn check(device: &Device, dtype: FloatDType) {
    for (n, per_cell) in [(1, 1), (1, 3), (3, 1), (3, 3)] {
        for grids in [&GRIDS[..], &GRIDS[3..]] {
            let problem = Problem { n, per_cell, grids };
            problem.check(device, dtype);
        }
    }
}

#[test]
fn predictions_are_in_the_order_of_the_anchors() {
    check(&Device::flex(), FloatDType::F32);
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn gpus_compute_the_same() {
    let Some((selected, _)) = crate::test_gpu::open() else {
        return;
    };
    let device = &selected.device;
    check(device, FloatDType::F32);
    // Only where it is certainly supported.
    if crate::capability::multiplies_on_matrix_units(device, DType::F16) {
        check(device, FloatDType::F16);
    }
    // With a graph, which the kernel does not have.
    check(&device.clone().autodiff(), FloatDType::F32);
}
