use super::launch::Product;
use super::tuned::KERNELS;
use super::{Epilogue, product};
use crate::capability::has_matrix_units;
use crate::test_gpu::{self, values, whole_numbers};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeDevice;
use burn_cubecl::ops::{permute, reshape};
use burn_cubecl::tensor::CubeTensor;
use cubecl::features::Tma;
use cubek::matmul::multi_level::components::tile::TileMatmulKind::{Cmma, Mma};

fn matrix(shape: [usize; 2], seed: usize, device: &CubeDevice, dtype: DType) -> CubeTensor {
    let tensor = whole_numbers([1, 1, shape[0], shape[1]], seed, device, dtype);
    reshape(tensor, Shape::new(shape))
}

/// A product of whole numbers and the operands of an epilogue: bit 0 of `parts` is the bias, then the residual, the
/// output of a ReLU, a ReLU, and whether the right operand is transposed in memory.
fn case([m, k, n]: [usize; 3], parts: usize, device: &CubeDevice, dtype: DType) -> Product {
    let has = |bit: usize| parts >> bit & 1 == 1;
    let output = |seed| matrix([m, n], seed, device, dtype);
    let bias = reshape(matrix([1, n], 3, device, dtype), Shape::new([n]));
    let right = match has(4) {
        true => permute(matrix([n, k], 2, device, dtype), &[1, 0]),
        false => matrix([k, n], 2, device, dtype),
    };
    Product {
        operands: [matrix([m, k], 1, device, dtype), right],
        epilogue: Epilogue {
            bias: has(0).then_some(bias),
            residual: has(1).then(|| output(4)),
            rectified: has(2).then(|| output(5)),
            relu: has(3),
        },
    }
}

/// Sizes whose sides are and are not multiples of tiles and vectors. There are fewer in f32 and bf16, which differ from
/// f16 in the units alone, because NVRTC compiles most cases anew.
const SIZES: [(DType, &[[usize; 3]]); 3] = [
    (DType::F32, &[[33, 24, 20]]),
    (DType::F16, &[[257, 64, 40], [33, 24, 20]]),
    (DType::BF16, &[[70, 32, 24]]),
];

/// Sums of whole numbers are exact in f32 and are rounded once by each of the two ways; those that are compared are
/// small enough to be exact in every dtype.
#[test]
fn every_candidate_finishes_its_product() {
    let Some((selected, device)) = test_gpu::open() else {
        return;
    };
    let client = whole_numbers([1; 4], 1, &device, DType::F32).client;
    let mut wrong = Vec::new();
    for (dtype, sizes) in SIZES {
        if !has_matrix_units(&client, dtype) {
            eprintln!("SKIPPED: the GPU has no matrix units for {dtype:?}");
            continue;
        }
        for (index, &size) in sizes.iter().enumerate() {
            let mut ran = 0;
            for (name, kernel) in KERNELS {
                for tile in [Cmma, Mma] {
                    // Some combinations of parts; the last one depends on the size and the candidate.
                    for parts in [15, 4 + 16, (index * 7 + name.len()) % 32] {
                        let of = || case(size, parts, &device, dtype);
                        let Ok(found) = kernel.compute(tile, of()) else {
                            continue;
                        };
                        ran += 1;
                        let wanted = of().compute_separately().expect("Burn's kernel runs");
                        if values(found) != values(wanted) {
                            wrong
                                .push(format!("{name} {tile:?} {dtype:?} {size:?}, parts {parts}"));
                        }
                    }
                }
            }
            if ran == 0 {
                wrong.push(format!("{dtype:?} {size:?}: no candidate can run"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    selected.device.sync().expect("the device works");
}

/// Products of many rows and few columns have the tallest tiles. A launch that is refused fails the read of its result.
#[test]
fn no_candidate_is_refused_at_its_launch() {
    let Some((selected, device)) = test_gpu::open() else {
        return;
    };
    let client = whole_numbers([1; 4], 1, &device, DType::F32).client;
    if !has_matrix_units(&client, DType::F16) {
        eprintln!("SKIPPED: the GPU has no matrix units for f16");
        return;
    }
    let mut launched = Vec::new();
    for (name, kernel) in KERNELS {
        for tile in [Cmma, Mma] {
            let product = case([2080, 64, 64], 1 + 16, &device, DType::F16);
            if let Ok(output) = kernel.compute(tile, product) {
                let length = output.meta.num_elements();
                let bytes = output.client.read_one(output.handle.clone());
                let bytes = bytes.unwrap_or_else(|error| panic!("{name} {tile:?}: {error}"));
                assert_eq!(bytes.len(), 2 * length);
                launched.push(name);
            }
        }
    }
    let has_tensor_maps = client.properties().features.tma.contains(Tma::Base);
    for (name, _) in KERNELS {
        if has_tensor_maps && name.starts_with("tma") {
            assert_eq!(
                launched.iter().filter(|other| **other == name).count(),
                2,
                "{name}"
            );
        }
    }
    assert!(!launched.is_empty());
    eprintln!("{} candidates were launched", launched.len());
    selected.device.sync().expect("the device works");
}

/// The candidate that autotune selects, beside sums of the host. Without matrix units it is the one that needs none.
#[test]
fn a_product_is_finished_as_defined() {
    let Some((selected, device)) = test_gpu::open() else {
        return;
    };
    let [m, k, n] = [37, 24, 16];
    for parts in 0..32 {
        let Product {
            operands: [left, right],
            epilogue,
        } = case([m, k, n], parts, &device, DType::F32);
        let host = |tensor: &Option<CubeTensor>| tensor.clone().map(values);
        let (x, w) = (values(left.clone()), values(right.clone()));
        let (bias, residual) = (host(&epilogue.bias), host(&epilogue.residual));
        let (rectified, relu) = (host(&epilogue.rectified), epilogue.relu);
        let found = values(product(left, right, epilogue));
        for (index, found) in found.into_iter().enumerate() {
            let (row, column) = (index / n, index % n);
            let sum: f32 = (0..k).map(|i| x[row * k + i] * w[i * n + column]).sum();
            let sum = sum + bias.as_ref().map_or(0.0, |bias| bias[column]);
            let sum = sum + residual.as_ref().map_or(0.0, |residual| residual[index]);
            let sum = if relu { sum.max(0.0) } else { sum };
            let is_cut = rectified
                .as_ref()
                .is_some_and(|output| output[index] <= 0.0);
            let wanted = if is_cut { 0.0 } else { sum };
            assert_eq!(found, wanted, "value {index}, parts {parts}");
        }
    }
    let [left, right] = [[0, k], [k, n]].map(|shape| matrix(shape, 1, &device, DType::F32));
    let nothing = product(left, right, Epilogue::default());
    assert_eq!(nothing.meta.shape().dims(), [0, n]);
    selected.device.sync().expect("the device works");
}
