//! The fastest of CubeK's kernels for a product with an epilogue, found by CubeCL's autotune.

use super::launch::{Epilogue, Product};
use crate::launch::empty;
use crate::launches::problem;
use burn::tensor::DType;
use burn_cubecl::CubeTuneId;
use burn_cubecl::tensor::CubeTensor;
use cubecl::AutotuneKey;
use cubecl::tune::{LocalTuner, Tunable, TunableSet, TuneGroup, local_tuner};
use cubek::matmul::definition::MatmulSetupError;
use cubek::matmul::multi_level::components::tile::TileMatmulKind::{self, Cmma, Mma};
use cubek::matmul::multi_level::routines::batch::double_buffering::{
    CyclicDoubleBufferingAlgorithm, DoubleBufferingArgs,
};
use cubek::matmul::multi_level::routines::batch::ordered_double_buffering::{
    OrderedDoubleBufferingAlgorithm, OrderedSelectionArgs,
};
use cubek::matmul::multi_level::routines::batch::simple::{
    SimpleAlgorithm, SimpleArgs, SimpleTmaAlgorithm,
};
use cubek::matmul::multi_level::routines::batch::specialized::{
    SpecializedAlgorithm, SpecializedStrategy,
};
use serde::{Deserialize, Serialize};

/// Autotune key. Columns are exact, because they decide which candidates can run.
#[derive(AutotuneKey, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProductKey {
    dtype: DType,
    /// Columns of the left operand.
    inputs: usize,
    /// Columns of the right operand.
    outputs: usize,
    /// Whether the right operand is row-major.
    is_row_major: bool,
    /// Whether its rows begin at multiples of 16 bytes, which some candidates need; rows of weights may be padded.
    is_aligned: bool,
    /// Matrices of the size of the output that the epilogue reads.
    operands: usize,
    #[autotune(anchor)]
    rows: usize,
}

/// CubeK's kernels that Burn tries for large products.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kernel {
    Simple {
        multi_rows: bool,
    },
    Double {
        is_specialized: bool,
    },
    Ordered {
        row_count: u32,
    },
    /// Loads operands by tensor maps, which GPUs have from compute capability 9.0 on.
    Tma {
        multi_rows: bool,
    },
    SpecializedTma,
}

pub(super) const KERNELS: [(&str, Kernel); 9] = [
    ("simple", Kernel::Simple { multi_rows: false }),
    ("simple_multi_rows", Kernel::Simple { multi_rows: true }),
    (
        "double",
        Kernel::Double {
            is_specialized: false,
        },
    ),
    (
        "double_specialized",
        Kernel::Double {
            is_specialized: true,
        },
    ),
    ("ordered_4", Kernel::Ordered { row_count: 4 }),
    ("ordered_8", Kernel::Ordered { row_count: 8 }),
    ("tma", Kernel::Tma { multi_rows: false }),
    ("tma_multi_rows", Kernel::Tma { multi_rows: true }),
    ("tma_specialized", Kernel::SpecializedTma),
];

impl Kernel {
    pub(super) fn compute(
        self,
        tile_matmul: TileMatmulKind,
        product: Product,
    ) -> Result<CubeTensor, MatmulSetupError> {
        match self {
            Kernel::Simple { multi_rows } => product.compute::<SimpleAlgorithm>(SimpleArgs {
                tile_matmul,
                multi_rows,
            }),
            Kernel::Double { is_specialized } => {
                product.compute::<CyclicDoubleBufferingAlgorithm>(DoubleBufferingArgs {
                    tile_matmul,
                    specialized: is_specialized,
                })
            }
            Kernel::Ordered { row_count } => {
                product.compute::<OrderedDoubleBufferingAlgorithm>(OrderedSelectionArgs {
                    tile_matmul,
                    partition_k: Some(2),
                    row_count: Some(row_count),
                    rows_per_plane: Some(2),
                })
            }
            Kernel::Tma { multi_rows } => {
                product.compute_with_tma::<SimpleTmaAlgorithm>(SimpleArgs {
                    tile_matmul,
                    multi_rows,
                })
            }
            Kernel::SpecializedTma => product
                .compute_with_tma::<SpecializedAlgorithm>(SpecializedStrategy { tile_matmul }),
        }
    }
}

/// `left [m, k]` times `right [k, n]`, then `epilogue`: dense `[m, n]`. The device has matrix units for the dtype.
pub(crate) fn product(left: CubeTensor, right: CubeTensor, epilogue: Epilogue) -> CubeTensor {
    static TUNER: LocalTuner<ProductKey, CubeTuneId> = local_tuner!();
    let ([m, _], [_, n]) = (left.meta.shape().dims(), right.meta.shape().dims());
    if m * n == 0 {
        return empty(&left, [m, n], left.dtype);
    }
    let inputs = left.meta.shape()[1];
    let _problem = problem(|| format!("product of {m}x{inputs} and {inputs}x{n}"));
    let client = left.client.clone();
    let id = CubeTuneId::new(&client, &left.device);
    let candidates = TUNER.init(&id, || {
        let trial = |_: &ProductKey, call: &Call| Call {
            is_trial: true,
            ..call.clone()
        };
        let set = TunableSet::new(key, trial);
        let last = TuneGroup::new("separate", |_: &ProductKey| 0);
        let separate = Tunable::new("product_and_epilogue", |call: Call| {
            (call.product.compute_separately()).map_err(|error| format!("{error:?}"))
        });
        let first = TuneGroup::new("fused", |_: &ProductKey| 1);
        let mut set: TunableSet<_, Call, _> = set.with(separate.group(&last, |_| 0));
        for (name, kernel) in KERNELS {
            for (unit, tile_matmul) in [("cmma", Cmma), ("mma", Mma)] {
                let run = move |call| run_candidate(kernel, tile_matmul, call);
                let tunable = Tunable::new(&format!("product_{name}_{unit}"), run);
                set = set.with(tunable.group(&first, |_| 0));
            }
        }
        set
    });
    let operands = [left, right];
    let call = Call {
        product: Product { operands, epilogue },
        is_trial: false,
    };
    TUNER.execute(&id, &client, candidates, call)
}

#[derive(Clone, Debug)]
struct Call {
    product: Product,
    /// Whether a candidate is timed. One that cannot run is then left out.
    is_trial: bool,
}

/// Autotune times one size and uses its choice for all sizes with the same key. If CubeK rejects one of them, on which
/// CubeCL would panic, the result is computed without that kernel.
fn run_candidate(
    kernel: Kernel,
    tile_matmul: TileMatmulKind,
    Call { product, is_trial }: Call,
) -> Result<CubeTensor, String> {
    let result = match is_trial {
        true => kernel.compute(tile_matmul, product),
        false => {
            (kernel.compute(tile_matmul, product.clone())).or_else(|_| product.compute_separately())
        }
    };
    result.map_err(|error| format!("{error:?}"))
}

fn key(Call { product, .. }: &Call) -> ProductKey {
    let [left, right] = &product.operands;
    let ([m, k], [_, n]) = (left.meta.shape().dims(), right.meta.shape().dims());
    let stride = right.meta.strides()[0].max(right.meta.strides()[1]);
    let Epilogue {
        residual,
        rectified,
        ..
    } = &product.epilogue;
    ProductKey::new(
        left.dtype,
        k,
        n,
        right.meta.strides()[1] == 1,
        (stride * right.dtype.size()).is_multiple_of(16),
        usize::from(residual.is_some()) + usize::from(rectified.is_some()),
        m,
    )
}
