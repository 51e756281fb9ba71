use super::super::own::reduce_partials;
use super::super::spread::spread_both;
use super::*;
use crate::test_gpu::{self, values, whole_numbers};

#[test]
fn units_share_vectors_of_channels() {
    let supported = [4, 8, 64, 256, 1024];
    assert!(supported.into_iter().all(can_sum));
    let others = [1, 2, 3, 12, 20, 255, 2048];
    assert!(!others.into_iter().any(can_sum));
}

#[test]
fn batches_cover_all_vectors() {
    for vectors in [1, 1023, 1024, 1025, 1 << 20, (1 << 20) + 1, 17_500_000] {
        let [cubes, batches] = cubes_and_batches(vectors);
        let per_cube = batches * BATCH * UNITS as usize;
        assert!(cubes * per_cube >= vectors && (cubes - 1) * per_cube < vectors);
        assert!(cubes <= MAX_CUBES);
    }
}

/// Sums per channel of `pixels [.., channels]`. Those of small whole numbers are exact.
fn channel_sums(pixels: &[f32], channels: usize) -> Vec<f32> {
    let mut sums = vec![0.0; channels];
    for pixel in pixels.chunks(channels) {
        for (sum, value) in sums.iter_mut().zip(pixel) {
            *sum += value;
        }
    }
    sums
}

/// The last shape has more vectors than one batch per unit, and more rows of sums than a cube has units.
#[test]
fn grids_and_sums_are_those_of_separate_launches() {
    let Some((selected, device)) = test_gpu::open() else {
        return;
    };
    for (stride, [n, h, w], [c, o]) in [
        (1, [2, 7, 6], [16, 8]),
        (1, [1, 1, 1], [4, 4]),
        (2, [3, 9, 7], [12, 64]),
        (1, [1, 5, 6], [4, 1024]),
        (1, [1, 130, 126], [4, 256]),
    ] {
        let [rows, columns] = [h, w].map(|size: usize| size.div_ceil(stride));
        let x = whole_numbers([n, h, w, c], 1, &device, DType::F32);
        let grad = whole_numbers([n, rows, columns, o], 2, &device, DType::F32);
        let spread = |pixels: &CubeTensor, origin, stride| Spread {
            pixels: pixels.clone(),
            grid: Grid {
                rows: h + 2,
                columns: w + 2,
                origin,
                stride,
            },
            total: n * (h + 2) * (w + 2),
        };
        let operands = || [spread(&x, 1, 1), spread(&grad, 0, stride)];
        let case = format!("stride {stride}, [{n}, {h}, {w}], [{c}, {o}]");
        let (grids, sums) = spread_with_sums(operands());
        let expected = spread_both(operands());
        assert!(grids.map(values) == expected.map(values), "grids, {case}");

        let partials = whole_numbers([3, 9, c, o], 3, &device, DType::F32);
        let weights = reduce_partials(partials.clone(), 3, [c, o], DType::F32);
        let (found, bias) = reduce_with_sums(partials, sums, 3, [c, o], DType::F32);
        assert!(values(found) == values(weights), "weights, {case}");
        assert_eq!(values(bias), channel_sums(&values(grad), o), "bias, {case}");
    }
    selected.device.sync().expect("the device works");
}
