//! conv2d on the CPU compared with Burn's own operations, with all gradients.

mod random;

use burn::tensor::{
    DType, Device, FloatDType, Tensor, TensorData, activation, module, ops::ConvOptions,
};
use mrcnn_kernels::{ConvParams, conv2d};
use random::Random;

#[derive(Clone, Copy, Debug)]
struct Case {
    n: usize,
    c: usize,
    o: usize,
    groups: usize,
    size: [usize; 2],
    kernel: usize,
    stride: usize,
    scale: bool,
    bias: bool,
    residual: bool,
    relu: bool,
}

fn case(random: &mut Random) -> Case {
    let groups = random.pick(&[1, 1, 2, 3, 8]);
    Case {
        n: 1 + random.below(3),
        c: groups * random.pick(&[1, 3, 8, 17]),
        o: groups * random.pick(&[1, 4, 8, 13]),
        groups,
        size: [1 + random.below(17), 1 + random.below(17)],
        kernel: random.pick(&[1, 3, 5, 7]),
        stride: 1 + random.below(2),
        scale: random.below(2) == 0,
        bias: random.below(2) == 0,
        residual: random.below(2) == 0,
        relu: random.below(2) == 0,
    }
}

/// The implementation under test: Burn's in f32, or [`conv2d`] with inputs of a dtype.
#[derive(Clone, Copy)]
enum Implementation {
    Burn,
    Ours(FloatDType),
}

/// Output, and the gradients of x, weight, scale, bias and residual (empty if there is none).
fn run(case: &Case, seed: u64, implementation: Implementation) -> [Vec<f32>; 6] {
    let device = Device::flex().autodiff();
    let mut random = Random(seed);
    // Small whole numbers: every sum is exact in f32, in any order.
    let mut values = |shape: &[usize]| {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| random.whole(3))
            .collect();
        TensorData::new(values, shape.to_vec())
    };
    let output = case.size.map(|size| size.div_ceil(case.stride));
    let output = [case.n, case.o, output[0], output[1]];
    let x = Tensor::<4>::from_data(
        values(&[case.n, case.c, case.size[0], case.size[1]]),
        &device,
    );
    let weight = values(&[case.o, case.c / case.groups, case.kernel, case.kernel]);
    let weight = Tensor::<4>::from_data(weight, &device).require_grad();
    let mut channel = || Tensor::<1>::from_data(values(&[case.o]), &device).require_grad();
    let (scale, bias) = (channel(), channel());
    let residual = Tensor::<4>::from_data(values(&output), &device).require_grad();
    let grad = Tensor::<4>::from_data(values(&output), &device);
    let x = x.require_grad();
    let params = ConvParams {
        weight: weight.clone(),
        scale: case.scale.then(|| scale.clone()),
        bias: case.bias.then(|| bias.clone()),
        stride: case.stride,
    };
    let added = case.residual.then(|| residual.clone());
    let y = match implementation {
        Implementation::Burn => by_burn(case, x.clone(), params, added),
        Implementation::Ours(dtype) => {
            let added = added.map(|it| it.cast(dtype));
            let y = conv2d(x.clone().cast(dtype), params, added, case.relu);
            assert_eq!(y.dtype(), dtype.into(), "{case:?}");
            y.cast(FloatDType::F32)
        }
    };
    assert_eq!(y.dims(), output, "{case:?}");
    let gradients = (y.clone() * grad).sum().backward();
    [
        floats(Some(y)),
        floats(x.grad(&gradients)),
        floats(weight.grad(&gradients)),
        floats(scale.grad(&gradients)),
        floats(bias.grad(&gradients)),
        floats(residual.grad(&gradients)),
    ]
}

fn by_burn(
    case: &Case,
    x: Tensor<4>,
    params: ConvParams,
    residual: Option<Tensor<4>>,
) -> Tensor<4> {
    let weight = match params.scale {
        Some(scale) => params.weight * scale.reshape([-1, 1, 1, 1]),
        None => params.weight,
    };
    let options = ConvOptions::new([case.stride; 2], [case.kernel / 2; 2], [1, 1], case.groups);
    let y = module::conv2d(x, weight, params.bias, options);
    let y = match residual {
        Some(residual) => y + residual,
        None => y,
    };
    if case.relu { activation::relu(y) } else { y }
}

fn floats<const D: usize>(tensor: Option<Tensor<D>>) -> Vec<f32> {
    let Some(tensor) = tensor else {
        return Vec::new();
    };
    let data = tensor.into_data().convert::<f32>();
    data.try_into_vec().expect("f32")
}

const NAMES: [&str; 6] = [
    "output",
    "gradient of x",
    "gradient of weight",
    "gradient of scale",
    "gradient of bias",
    "gradient of residual",
];

#[test]
fn whole_numbers_agree_to_the_bit() {
    let mut random = Random(1);
    for seed in 0..200 {
        let case = case(&mut random);
        let got = run(&case, seed, Implementation::Ours(FloatDType::F32));
        let want = run(&case, seed, Implementation::Burn);
        for ((got, want), name) in got.iter().zip(&want).zip(NAMES) {
            assert_eq!(got, want, "{name} of {case:?}");
        }
    }
}

/// In f16 and bf16 each result is that of f32, rounded once. Without a scale, because the gradient of the scaled weights
/// is rounded before it is scaled.
#[test]
fn reduced_precision_is_f32_rounded_once() {
    let mut random = Random(2);
    for seed in 0..100 {
        let case = Case {
            scale: false,
            ..case(&mut random)
        };
        let exact = run(&case, seed, Implementation::Burn);
        for dtype in [FloatDType::F16, FloatDType::BF16] {
            let got = run(&case, seed, Implementation::Ours(dtype));
            for ((got, exact), name) in got.iter().zip(&exact).zip(NAMES) {
                let exact = Tensor::<1>::from_floats(exact.as_slice(), &Device::flex());
                let want = floats(Some(exact.cast(dtype)));
                assert_eq!(got, &want, "{name} of {case:?} in {dtype:?}");
            }
        }
    }
}

/// The product of weights and scale is rounded to the dtype of the input, in which GPUs multiply.
#[test]
fn scaled_weights_are_rounded() {
    let device = Device::flex();
    let x = Tensor::<4>::ones([1, 2, 2, 2], (&device, DType::BF16));
    // 1 + 2^-8 is half way between two numbers of bf16 and becomes 1; 3 (1 + 2^-8) becomes 3 + 2^-6. The second channel
    // subtracts the scale, so that the sum itself is exact in bf16.
    for (scale, rounded) in [(1.0, 0.0), (3.0, 0.015625)] {
        let weight = Tensor::<4>::from_floats([[[[1.00390625]], [[-1.0]]]], &device);
        let params = ConvParams {
            weight,
            scale: Some(Tensor::full([1], scale, &device)),
            bias: None,
            stride: 1,
        };
        let y = conv2d(x.clone(), params, None, false);
        assert_eq!(floats(Some(y)), [rounded; 4]);
    }
}

/// As in torch: the mask of a ReLU does not hide that an output is NaN.
#[test]
fn the_gradient_of_a_nan_is_kept() {
    let device = Device::flex().autodiff();
    for dtype in [FloatDType::F32, FloatDType::F16] {
        let x = Tensor::<4>::from_floats([[[[f32::NAN, -1.0, 1.0]]]], &device).require_grad();
        let params = ConvParams {
            weight: Tensor::ones([1, 1, 1, 1], &device),
            scale: None,
            bias: None,
            stride: 1,
        };
        let y = conv2d(x.clone().cast(dtype), params, None, true);
        let gradients = y.cast(FloatDType::F32).sum().backward();
        assert_eq!(floats(x.grad(&gradients)), [1.0, 0.0, 1.0]);
    }
}

/// Tensors that are views: the operator must read the values of the view.
#[test]
fn views_are_read_as_they_show() {
    let device = Device::flex();
    let mut random = Random(3);
    let mut tensor = |shape: [usize; 4]| {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| random.whole(3))
            .collect();
        Tensor::<4>::from_data(TensorData::new(values, shape), &device)
    };
    let (x, weight, residual) = (
        tensor([2, 6, 5, 4]),
        tensor([3, 4, 3, 3]),
        tensor([2, 3, 4, 9]),
    );
    let params = |weight| ConvParams {
        weight,
        scale: None,
        bias: None,
        stride: 1,
    };
    let x = x.permute([0, 1, 3, 2]).narrow(1, 1, 4);
    let residual = residual.narrow(3, 2, 5);
    let weight = weight.permute([0, 1, 3, 2]);
    let copy = |tensor: &Tensor<4>| Tensor::<4>::from_data(tensor.to_data(), &device);
    let got = conv2d(
        x.clone(),
        params(weight.clone()),
        Some(residual.clone()),
        true,
    );
    let want = conv2d(copy(&x), params(copy(&weight)), Some(copy(&residual)), true);
    assert_eq!(got.into_data(), want.into_data());
}
