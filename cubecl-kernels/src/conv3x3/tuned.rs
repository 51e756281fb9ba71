//! 3x3 convolutions where Burn can use the device's matrix units: the fastest of CubeK's implicit GEMMs and the kernels
//! of [`own`], found by CubeCL's autotune.
//!
//! Burn's own selection also has its direct kernel, which sums f16 in f16 and bf16 in bf16 and can be the fastest for
//! small layers. Features of a small network were then off by 1.6 % of the largest in f16 and by 10 % in bf16,
//! instead of 0.4 % and 3 % (tests/cuda). Every candidate here sums in f32.

#[cfg(all(test, feature = "flex"))]
mod tests;

use super::fused::{self, Pass};
use super::own;
use super::spread::{Grid, spread};
use crate::fused_product::Epilogue;
use crate::launch::{channels_last, empty};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeTuneId;
use burn_cubecl::ops::{permute_nchw_to_nhwc, permute_nhwc_to_nchw, reshape};
use burn_cubecl::tensor::CubeTensor;
use cubecl::AutotuneKey;
use cubecl::tune::{LocalTuner, Tunable, TunableSet, local_tuner};
use cubek::convolution::AcceleratedTileKind::{self, Cmma, Mma};
use cubek::convolution::ConvAlgorithm::{
    self, SimpleAsyncCyclic, SimpleAsyncStrided, SimpleAsyncTma, SimpleSyncCyclic,
    SimpleSyncStrided,
};
use cubek::convolution::routines::simple::{
    SimpleAsyncCyclicConv, SimpleAsyncStridedConv, SimpleAsyncTmaConv, SimpleSyncCyclicConv,
    SimpleSyncStridedConv,
};
use cubek::matmul::multi_level::components::tile::TileMatmulKind;
use cubek::matmul::multi_level::routines::batch::simple::SimpleArgs;
use serde::{Deserialize, Serialize};

/// Parameters of a pass besides its two operands.
#[derive(Clone, Debug)]
struct Call {
    pass: Pass,
    stride: usize,
    /// Shape `[n, h, w, c]` of the result.
    result: [usize; 4],
    epilogue: Epilogue,
    /// Whether a candidate is timed. One that cannot run is then left out.
    is_trial: bool,
}

/// Autotune key. Channels are exact, because they decide which candidates can run.
#[derive(AutotuneKey, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Conv3x3Key {
    pass: Pass,
    stride: usize,
    dtype: DType,
    inputs: usize,
    outputs: usize,
    /// Whether the epilogue reads the output of a ReLU.
    is_masked: bool,
    /// Whether the channels of the right operand are adjacent in memory.
    is_channels_last: bool,
    /// Pixels of the output, of all images.
    #[autotune(anchor)]
    pixels: usize,
}

/// The implicit GEMMs that Burn registers.
const GEMMS: [(&str, ConvAlgorithm, AcceleratedTileKind); 6] = [
    ("conv3x3_sync_cmma", SimpleSyncCyclic, Cmma),
    ("conv3x3_sync_mma", SimpleSyncStrided, Mma),
    ("conv3x3_async_cmma", SimpleAsyncCyclic, Cmma),
    ("conv3x3_async_mma", SimpleAsyncStrided, Mma),
    ("conv3x3_tma_cmma", SimpleAsyncTma, Cmma),
    ("conv3x3_tma_mma", SimpleAsyncTma, Mma),
];

type Operands = (CubeTensor, CubeTensor, Call);

/// The result of `pass`, `[n, c, h, w]`. `left` is the input or the gradient of the output, `right` the weights
/// `[o, c, 3, 3]`. Operands of the epilogue are channels-last: a bias and a ReLU of the output, or the output of a ReLU
/// that masks the gradient.
pub fn tuned(
    pass: Pass,
    [left, right]: [CubeTensor; 2],
    stride: usize,
    [n, c, h, w]: [usize; 4],
    epilogue: Epilogue,
) -> CubeTensor {
    static TUNER: LocalTuner<Conv3x3Key, CubeTuneId> = local_tuner!();
    let client = left.client.clone();
    let id = CubeTuneId::new(&client, &left.device);
    let candidates = TUNER.init(&id, || {
        let trial = |_: &Conv3x3Key, (left, right, call): &Operands| {
            let mut call = call.clone();
            call.is_trial = true;
            (left.clone(), right.clone(), call)
        };
        let set: TunableSet<_, Operands, _> = TunableSet::new(key, trial);
        let set = set.with(Tunable::new("conv3x3_own", |operands| {
            Ok::<_, String>(run_own_kernels(operands))
        }));
        GEMMS.into_iter().fold(set, |set, (name, algorithm, tile)| {
            set.with(Tunable::new(name, move |operands| {
                run_candidate(algorithm, tile, operands)
            }))
        })
    });
    let call = Call {
        pass,
        stride,
        result: [n, h, w, c],
        epilogue,
        is_trial: false,
    };
    // Activations are made dense, as in the tests of the candidates. Weights keep their layout, because a copy would
    // be one more launch.
    let operands = (channels_last(left), permute_nchw_to_nhwc(right), call);
    permute_nhwc_to_nchw(TUNER.execute(&id, &client, candidates, operands))
}

fn key((left, right, call): &Operands) -> Conv3x3Key {
    let left_shape = left.meta.shape().dims::<4>();
    let (grid, [inputs, outputs]) = match call.pass {
        Pass::Forward => (call.result, [left_shape[3], call.result[3]]),
        Pass::InputGradient => (left_shape, [call.result[3], left_shape[3]]),
    };
    let [images, rows, columns, _] = grid;
    Conv3x3Key::new(
        call.pass,
        call.stride,
        left.dtype,
        inputs,
        outputs,
        call.epilogue.rectified.is_some(),
        right.meta.strides()[3] == 1,
        images * rows * columns,
    )
}

/// The result by the kernels of [`own`], channels last.
fn run_own_kernels((left, right, call): Operands) -> CubeTensor {
    let [left, right] = [left, right].map(permute_nhwc_to_nchw);
    let [n, h, w, c] = call.result;
    match call.pass {
        Pass::Forward => {
            let Epilogue {
                bias,
                residual: None,
                rectified: None,
                relu,
            } = call.epilogue
            else {
                unreachable!("the output of a convolution has a bias and a ReLU at most");
            };
            let result = own::forward(left, right, bias, call.stride, relu);
            permute_nchw_to_nhwc(result)
        }
        Pass::InputGradient => {
            let result = own::input_gradient([n, c, h, w], right, left, call.stride);
            let result = permute_nchw_to_nhwc(result);
            call.epilogue.apply(&result);
            result
        }
    }
}

/// The result by CubeK, channels last. Autotune times one size and uses its choice for all sizes with the same key.
/// If CubeK rejects one of them, on which CubeCL would panic, the project's own kernels compute the result.
fn run_candidate(
    algorithm: ConvAlgorithm,
    tile: AcceleratedTileKind,
    operands: Operands,
) -> Result<CubeTensor, String> {
    if operands.2.is_trial {
        return implicit_gemm(algorithm, tile, operands);
    }
    implicit_gemm(algorithm, tile, operands.clone()).or_else(|_| Ok(run_own_kernels(operands)))
}

/// `grad [n, h', w', o]` at every `stride`-th pixel of the input's grid, whose shape is `[n, h, w, c]`.
fn spread_gradient(
    stride: usize,
    grad: CubeTensor,
    [n, rows, columns, _]: [usize; 4],
) -> CubeTensor {
    let [.., o] = grad.meta.shape().dims::<4>();
    let grid = Grid {
        rows,
        columns,
        origin: 0,
        stride,
    };
    reshape(
        spread(grad, grid, n * rows * columns),
        Shape::new([n, rows, columns, o]),
    )
}

/// The result by CubeK, channels last; an error if the candidate cannot run.
fn implicit_gemm(
    algorithm: ConvAlgorithm,
    tile_kind: AcceleratedTileKind,
    (left, right, call): Operands,
) -> Result<CubeTensor, String> {
    if (call.pass, algorithm) == (Pass::InputGradient, SimpleAsyncTma) {
        // As in CubeK's own entry point; the kernel would wait for loads that are not issued (cubek 0.3.1).
        return Err("CubeK has no gradient of the input that loads tensor maps".into());
    }
    let (left, stride) = match call.pass {
        // CubeK has no gradient of the input of a strided convolution.
        Pass::InputGradient if call.stride > 1 => {
            (spread_gradient(call.stride, left, call.result), 1)
        }
        _ => (left, call.stride),
    };
    let result = empty(&left, call.result, left.dtype);
    let tile_matmul = match tile_kind {
        Cmma => TileMatmulKind::Cmma,
        Mma => TileMatmulKind::Mma,
    };
    let args = SimpleArgs {
        tile_matmul,
        multi_rows: false,
    };
    let launch = match algorithm {
        SimpleSyncCyclic => fused::launch::<SimpleSyncCyclicConv>,
        SimpleSyncStrided => fused::launch::<SimpleSyncStridedConv>,
        SimpleAsyncCyclic => fused::launch::<SimpleAsyncCyclicConv>,
        SimpleAsyncStrided => fused::launch::<SimpleAsyncStridedConv>,
        _ => fused::launch::<SimpleAsyncTmaConv>,
    };
    launch(
        call.pass,
        args,
        [left, right],
        stride,
        &result,
        call.epilogue,
    )
    .map_err(|error| format!("{error:?}"))?;
    Ok(result)
}
