use super::*;
use crate::capability::has_matrix_units;
use crate::test_gpu::{self, values, whole_numbers};
use burn_cubecl::CubeDevice;

/// Both passes of a convolution of `n` images of `h x w` pixels, with `c` input and `o` output channels, by every
/// candidate, without and with an epilogue. Returns a description of each difference.
fn compare(
    device: &CubeDevice,
    dtype: DType,
    [n, h, w]: [usize; 3],
    [c, o]: [usize; 2],
    stride: usize,
) -> Vec<String> {
    let [rows, columns] = [h, w].map(|size| size.div_ceil(stride));
    let x = whole_numbers([n, h, w, c], 1, device, dtype);
    // As the parameters of a model are stored.
    let weight = permute_nchw_to_nhwc(whole_numbers([o, c, 3, 3], 2, device, dtype));
    let grad = whole_numbers([n, rows, columns, o], 3, device, dtype);
    let bias = reshape(
        whole_numbers([1, 1, 1, o], 4, device, dtype),
        Shape::new([o]),
    );
    let nothing = Epilogue::default;
    let relu = Epilogue {
        bias: Some(bias),
        relu: true,
        ..nothing()
    };
    let mask = Epilogue {
        rectified: Some(x.clone()),
        ..nothing()
    };
    let mut wrong = Vec::new();
    for (pass, left, right, result, epilogue) in [
        (Pass::Forward, &x, &weight, [n, rows, columns, o], nothing()),
        (Pass::Forward, &x, &weight, [n, rows, columns, o], relu),
        (Pass::InputGradient, &grad, &weight, [n, h, w, c], nothing()),
        (Pass::InputGradient, &grad, &weight, [n, h, w, c], mask),
    ] {
        let case = format!(
            "{pass:?} in {dtype:?}, stride {stride}, [{n}, {h}, {w}] [{c}, {o}], {}",
            match (epilogue.relu, epilogue.rectified.is_some()) {
                (true, _) => "ReLU",
                (_, true) => "mask",
                _ => "no epilogue",
            }
        );
        let call = Call {
            pass,
            stride,
            result,
            epilogue,
            is_trial: true,
        };
        let operands = || (left.clone(), right.clone(), call.clone());
        let wanted = values(run_own_kernels(operands()));
        let mut ran = 0;
        for (name, algorithm, tile) in GEMMS {
            if let Ok(found) = implicit_gemm(algorithm, tile, operands()) {
                ran += 1;
                let found = values(found);
                let differ = |(found, wanted): (&f32, &f32)| found != wanted;
                let count = found
                    .iter()
                    .zip(&wanted)
                    .filter(|&pair| differ(pair))
                    .count();
                if count > 0 {
                    wrong.push(format!(
                        "{name}, {case}: {count} of {} values",
                        wanted.len()
                    ));
                }
            }
        }
        if ran == 0 {
            wrong.push(format!("{case}: no candidate can run"));
        }
    }
    wrong
}

#[test]
fn a_choice_that_declines_is_replaced() {
    let Some((selected, device)) = test_gpu::open() else {
        return;
    };
    let of = |is_trial| {
        let (pass, result) = (Pass::InputGradient, [1, 7, 6, 8]);
        let call = Call {
            pass,
            stride: 1,
            result,
            epilogue: Epilogue::default(),
            is_trial,
        };
        let grad = whole_numbers([1, 7, 6, 8], 3, &device, DType::F32);
        let weight = whole_numbers([8, 3, 3, 8], 2, &device, DType::F32);
        (grad, weight, call)
    };
    // This combination declines on every device.
    let declining = |operands| run_candidate(SimpleAsyncTma, Cmma, operands);
    assert!(declining(of(true)).is_err());
    let replaced = declining(of(false)).expect("a result");
    assert_eq!(values(replaced), values(run_own_kernels(of(false))));
    selected.device.sync().expect("the device works");
}

#[test]
fn every_candidate_sums_in_f32() {
    let Some((selected, device)) = test_gpu::open() else {
        return;
    };
    // The gradient of the input of a strided convolution is that of the spread gradient with stride 1, on every
    // device.
    let grad = whole_numbers([2, 4, 3, 8], 3, &device, DType::F32);
    let weight = whole_numbers([8, 3, 3, 8], 2, &device, DType::F32);
    let of = |grad, stride| {
        let result = [2, 7, 6, 8];
        let pass = Pass::InputGradient;
        values(run_own_kernels((
            grad,
            weight.clone(),
            Call {
                pass,
                stride,
                result,
                epilogue: Epilogue::default(),
                is_trial: false,
            },
        )))
    };
    assert_eq!(
        of(spread_gradient(2, grad.clone(), [2, 7, 6, 8]), 1),
        of(grad, 2)
    );
    let mut wrong = Vec::new();
    let client = weight.client.clone();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        if !has_matrix_units(&client, dtype) {
            eprintln!("SKIPPED: the GPU has no matrix units for {dtype:?}");
            continue;
        }
        for stride in [1, 2] {
            for (size, channels) in [
                ([2, 7, 6], [16, 8]),
                ([1, 9, 12], [32, 64]),
                ([2, 16, 16], [64, 64]),
                ([1, 8, 8], [128, 32]),
                ([1, 5, 9], [24, 40]),
                ([2, 7, 6], [20, 20]),
                ([1, 5, 4], [3, 5]),
                ([3, 33, 9], [8, 256]),
            ] {
                wrong.extend(compare(&device, dtype, size, channels, stride));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    selected.device.sync().expect("the device works");
}
