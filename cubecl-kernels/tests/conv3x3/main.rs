//! conv3x3 on the GPU adapter and on the CPU, compared with Burn's convolution and its gradients on the CPU.
//!
//! Most data are small whole numbers, for which every sum is exact in f32 in any order, so the
//! two must be bit-equal. Fractions are compared within a bound on the rounding error.

#[path = "../adapter/mod.rs"]
mod adapter;
#[path = "../random/mod.rs"]
mod random;
mod tracking;

use burn::tensor::{
    DType, Device, FloatDType, Tensor, TensorData, activation, module, ops::ConvOptions,
};
use mrcnn_kernels::conv3x3;
use random::Random;

#[derive(Clone, Copy, Debug)]
struct Case {
    n: usize,
    c: usize,
    o: usize,
    h: usize,
    w: usize,
    stride: usize,
    bias: bool,
    relu: bool,
}

/// Data of a case: input, weights, bias, and the gradient of the output.
struct Data {
    x: TensorData,
    weight: TensorData,
    bias: TensorData,
    grad: TensorData,
}

/// Output, and the gradients of input, weights and bias.
type Results = [Vec<f32>; 4];

const NAMES: [&str; 4] = [
    "output",
    "gradient of x",
    "gradient of weight",
    "gradient of bias",
];

fn cases(random: &mut Random, count: usize) -> Vec<Case> {
    const CHANNELS: [usize; 8] = [1, 3, 4, 5, 8, 16, 64, 256];
    const SIZES: [usize; 10] = [1, 2, 3, 7, 8, 9, 16, 17, 33, 64];
    /// Number of multiply-adds that take the CPU about ten milliseconds.
    const WORK: usize = 20_000_000;
    let mut draw = || Case {
        n: 1 + random.below(3),
        c: random.pick(&CHANNELS),
        o: random.pick(&CHANNELS),
        h: random.pick(&SIZES),
        w: random.pick(&SIZES),
        stride: 1 + random.below(2),
        bias: random.below(2) == 0,
        relu: random.below(2) == 0,
    };
    std::iter::repeat_with(&mut draw)
        .filter(|case| 9 * case.n * case.c * case.o * case.h * case.w <= WORK)
        .take(count)
        .collect()
}

impl Case {
    fn output(&self) -> [usize; 4] {
        let [h, w] = [self.h, self.w].map(|size| size.div_ceil(self.stride));
        [self.n, self.o, h, w]
    }

    fn data(&self, mut value: impl FnMut() -> f32) -> Data {
        let mut draw = |shape: &[usize]| {
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| value()).collect();
            TensorData::new(values, shape.to_vec())
        };
        Data {
            x: draw(&[self.n, self.c, self.h, self.w]),
            weight: draw(&[self.o, self.c, 3, 3]),
            bias: draw(&[self.o]),
            grad: draw(&self.output()),
        }
    }

    /// Number of terms of the longest sum behind each result.
    fn terms(&self) -> [usize; 4] {
        let [n, o, h, w] = self.output();
        [9 * self.c + 1, 9 * o, n * h * w, n * h * w]
    }
}

/// Runs `conv` and its gradients, in `dtype`, on `device`.
fn run(
    case: &Case,
    data: &Data,
    device: &Device,
    dtype: FloatDType,
    conv: impl Fn(Tensor<4>, Tensor<4>, Option<Tensor<1>>) -> Tensor<4>,
) -> Results {
    let device = device.clone().autodiff();
    let options: (&Device, DType) = (&device, dtype.into());
    let x = Tensor::<4>::from_data(data.x.clone(), options).require_grad();
    let weight = Tensor::<4>::from_data(data.weight.clone(), options).require_grad();
    let bias = Tensor::<1>::from_data(data.bias.clone(), options).require_grad();
    let grad = Tensor::<4>::from_data(data.grad.clone(), options);
    let output = conv(x.clone(), weight.clone(), case.bias.then(|| bias.clone()));
    assert_eq!(output.dims(), case.output(), "{case:?}");
    let gradients = (output.clone() * grad).sum().backward();
    let bias_gradient = bias.grad(&gradients).map(floats).unwrap_or_default();
    [
        floats(output),
        floats(x.grad(&gradients).expect("x is tracked")),
        floats(weight.grad(&gradients).expect("the weight is tracked")),
        bias_gradient,
    ]
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data()
        .convert::<f32>()
        .try_into_vec()
        .expect("f32")
}

fn ours(case: &Case, data: &Data, device: &Device, dtype: FloatDType) -> Results {
    run(case, data, device, dtype, |x, weight, bias| {
        conv3x3(x, weight, bias, case.stride, case.relu)
    })
}

fn burns(case: &Case, data: &Data) -> Results {
    run(
        case,
        data,
        &Device::flex(),
        FloatDType::F32,
        |x, weight, bias| {
            let options = ConvOptions::new([case.stride; 2], [1, 1], [1, 1], 1);
            let output = module::conv2d(x, weight, bias, options);
            if case.relu {
                activation::relu(output)
            } else {
                output
            }
        },
    )
}

fn assert_equal(case: &Case, got: &Results, want: &Results) {
    for ((got, want), name) in got.iter().zip(want).zip(NAMES) {
        assert_eq!(got.len(), want.len(), "{name} of {case:?}");
        for (place, (got, want)) in got.iter().zip(want).enumerate() {
            // By value: the sign of a zero may differ.
            assert!(
                got == want,
                "{name} of {case:?} at {place}: {got}, not {want}"
            );
        }
    }
}

fn assert_within_rounding(case: &Case, got: &Results, want: &Results) {
    for (i, terms) in case.terms().into_iter().enumerate() {
        // A term is at most 1, so rounding changes a partial sum of `terms` terms by at most half of
        // `terms * EPSILON`; the roundings do not all have the same direction.
        let bound = terms as f32 * f32::EPSILON;
        for (got, want) in got[i].iter().zip(&want[i]) {
            let name = NAMES[i];
            assert!(
                (got - want).abs() <= bound,
                "{name} of {case:?}: {got}, not {want}"
            );
        }
    }
}

#[test]
fn whole_numbers_agree_to_the_bit() {
    let Some(adapter) = adapter::adapter() else {
        return;
    };
    let mut random = Random(1);
    for case in cases(&mut random, 150) {
        let data = case.data(|| random.whole(3));
        let got = ours(&case, &data, &adapter.device, FloatDType::F32);
        assert_equal(&case, &got, &burns(&case, &data));
    }
}

/// Each case is an image with its output and the gradient of its input. The gradients of weights and bias
/// are sums over the images of a round.
#[test]
fn ten_thousand_random_images() {
    let Some(adapter) = adapter::adapter() else {
        return;
    };
    // llvmpipe ends every loop after 65,532 rounds (its LP_MAX_TGSI_LOOP_ITERATIONS), and Burn may sum the
    // gradient of a bias in one loop.
    const LONGEST_SUM: usize = 65_532;
    const CHANNELS: [usize; 7] = [1, 3, 4, 5, 8, 12, 16];
    const SIZES: [[usize; 2]; 12] = [
        [1, 1],
        [1, 255],
        [16, 16],
        [257, 1],
        [2, 3],
        [7, 9],
        [8, 8],
        [3, 17],
        [33, 2],
        [5, 31],
        [256, 256],
        [13, 6],
    ];
    random::cases("conv3x3", 6 * SIZES.len(), |random, round| {
        let [h, w] = SIZES[round % SIZES.len()];
        let n = [100, 255, 256, 257, 1, 64][round / SIZES.len() % 6];
        let n = n.min(LONGEST_SUM / (h * w)).max(1);
        let [c, o] = [0; 2].map(|_| random.pick(&CHANNELS));
        let case = Case {
            n,
            c,
            o,
            h,
            w,
            stride: 1 + random.below(2),
            bias: random.below(2) == 0 && h * w <= LONGEST_SUM,
            relu: random.below(2) == 0,
        };
        let data = case.data(|| random.whole(3));
        let got = ours(&case, &data, &adapter.device, FloatDType::F32);
        assert_equal(&case, &got, &burns(&case, &data));
        n
    });
}

#[test]
fn the_cpu_agrees_with_burns_convolution() {
    let mut random = Random(2);
    for mut case in cases(&mut random, 30) {
        let whole = case.data(|| random.whole(3));
        let got = ours(&case, &whole, &Device::flex(), FloatDType::F32);
        assert_equal(&case, &got, &burns(&case, &whole));
        // A sum near zero may round to either side of it, which changes its gradient.
        case.relu = false;
        let data = case.data(|| random.between(-1.0, 1.0));
        let got = ours(&case, &data, &Device::flex(), FloatDType::F32);
        assert_within_rounding(&case, &got, &burns(&case, &data));
    }
}

#[test]
fn fractions_agree_within_rounding() {
    let Some(adapter) = adapter::adapter() else {
        return;
    };
    let mut random = Random(3);
    for mut case in cases(&mut random, 40) {
        // A sum near zero may round to either side of it, which changes its gradient.
        case.relu = false;
        let data = case.data(|| random.between(-1.0, 1.0));
        let got = ours(&case, &data, &adapter.device, FloatDType::F32);
        let want = burns(&case, &data);
        assert_within_rounding(&case, &got, &want);
    }
}

#[test]
fn two_runs_agree_to_the_bit() {
    let Some(adapter) = adapter::adapter() else {
        return;
    };
    let mut random = Random(4);
    let mut cases = cases(&mut random, 8);
    // Enough pixels for the gradient of the weights to be split.
    cases.push(Case {
        n: 2,
        c: 16,
        o: 8,
        h: 64,
        w: 33,
        stride: 1,
        bias: true,
        relu: true,
    });
    for case in cases {
        let data = case.data(|| random.between(-1.0, 1.0));
        let once = ours(&case, &data, &adapter.device, FloatDType::F32);
        let again = ours(&case, &data, &adapter.device, FloatDType::F32);
        let bits = |results: &Results| {
            results
                .clone()
                .map(|r| r.into_iter().map(f32::to_bits).collect::<Vec<_>>())
        };
        assert_eq!(bits(&once), bits(&again), "{case:?}");
    }
}

/// The values after a conversion to a dtype and back.
fn rounded(results: Results, dtype: FloatDType) -> Results {
    results.map(|values| {
        let values = Tensor::<1>::from_floats(values.as_slice(), &Device::flex());
        floats(values.cast(dtype))
    })
}

/// Sums of whole numbers are exact in f32, so results are those of f32, rounded once. With sums in f16 they would differ:
/// there, 2048 plus 1 is 2048.
#[test]
fn f16_and_bf16_are_summed_in_f32() {
    let Some(adapter) = adapter::adapter() else {
        return;
    };
    for dtype in [FloatDType::F16, FloatDType::BF16] {
        if !adapter.device.supports_dtype(dtype) {
            mrcnn_test_support::skip(&format!("the adapter has no {dtype:?}"));
            continue;
        }
        let mut random = Random(5);
        let wide = Case {
            n: 1,
            c: 256,
            o: 8,
            h: 5,
            w: 6,
            stride: 1,
            bias: false,
            relu: false,
        };
        let ones = wide.data(|| 1.0);
        let got = ours(&wide, &ones, &adapter.device, dtype);
        assert_equal(&wide, &got, &rounded(burns(&wide, &ones), dtype));
        for case in cases(&mut random, 40) {
            // With matrix units, a bias is added to the output that is rounded already, which bf16 shows.
            let case = Case {
                bias: case.bias && dtype == FloatDType::F16,
                ..case
            };
            let data = case.data(|| random.whole(1));
            let got = ours(&case, &data, &adapter.device, dtype);
            assert_equal(&case, &got, &rounded(burns(&case, &data), dtype));
        }
    }
}
