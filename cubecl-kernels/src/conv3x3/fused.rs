//! CubeK's implicit GEMMs with an epilogue, see [`crate::fused_product`].

use crate::fused_product::{Epilogue, WithEpilogue, elements};
use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubek::convolution::components::global::args::RuntimeArgs;
use cubek::convolution::components::{
    ConvSetupError, ConvolutionOperation, ConvolutionProblem, Dimensionality,
};
use cubek::convolution::routines::Routine;
use cubek::convolution::{backward_data, forward};
use cubek::matmul::definition::{AccumulatorOperand, AvailableVectorSizes, MatmulElems};
use cubek::matmul::multi_level::args::{Acc, AccSize, InputArg, TensorOutput};
use cubek::matmul::multi_level::definition::BatchMatmulBlueprint;
use cubek::matmul::multi_level::routines::batch::simple::SimpleArgs;
use cubek::matmul::multi_level::{BatchMatmulRoutine, launch_kernel};
use cubek::matmul::routine::BlueprintStrategy;
use cubek::std::{InputBinding, MatrixLayout};
use serde::{Deserialize, Serialize};

/// A pass of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Pass {
    /// The output, from the input and the weights.
    Forward,
    /// The gradient of the input, from that of the output and the weights.
    InputGradient,
}

/// CubeK's simple routines.
pub(super) trait GemmRoutine:
    Routine<
        Blueprint = BatchMatmulBlueprint,
        Strategy = SimpleArgs,
        Args: GemmArgs<Self::MatmulRoutine>,
    >
{
}

impl<R> GemmRoutine for R where
    R: Routine<
            Blueprint = BatchMatmulBlueprint,
            Strategy = SimpleArgs,
            Args: GemmArgs<R::MatmulRoutine>,
        >
{
}

/// The arguments of a routine `A`, in both passes.
pub(super) trait GemmArgs<A: BatchMatmulRoutine<RuntimeArgs>>:
    WithEpilogue<Config = RuntimeArgs>
    + forward::args::ConcreteArgs<A>
    + backward_data::args::ConcreteArgs<A>
{
}

impl<A, MA> GemmArgs<A> for MA
where
    A: BatchMatmulRoutine<RuntimeArgs>,
    MA: WithEpilogue<Config = RuntimeArgs>
        + forward::args::ConcreteArgs<A>
        + backward_data::args::ConcreteArgs<A>,
{
}

type Output = TensorOutput<Vector<Acc, AccSize>>;

/// Writes `output [n, h, w, c]` of `pass` with its epilogue; an error if the routine cannot run. `left` is
/// channels-last, `right` are the weights `[o, 3, 3, c]`.
pub(super) fn launch<R: GemmRoutine>(
    pass: Pass,
    strategy: SimpleArgs,
    [left, right]: [CubeTensor; 2],
    stride: usize,
    output: &CubeTensor,
    epilogue: Epilogue,
) -> Result<(), ConvSetupError> {
    let client = output.client.clone();
    let storage = dtype_to_storage_type(output.dtype);
    let elements = elements(storage);
    let operation = match pass {
        Pass::Forward => ConvolutionOperation::Forward,
        Pass::InputGradient => ConvolutionOperation::BackwardData,
    };
    let [left, right] = [left, right].map(|operand| {
        let binding = R::correct_layout(&client, operand.binding(), storage, operation)?;
        Ok::<_, ConvSetupError>(InputBinding::new(binding, storage))
    });
    let (left, right, out) = (left?, right?, output.clone().binding());
    let problem = problem(operation, [&left, &right], &out, stride, &elements);
    let size = storage.size();
    let rows = MatrixLayout::RowMajor;
    let sizes = AvailableVectorSizes::from_type_sizes(&client, size, size, size)
        .filter_lhs_with_tensor(&left.data().strides, &left.data().shape, rows)
        .filter_rhs_with_tensor(&right.data().strides, &right.data().shape, rows)
        .filter_out_with_tensor(&out.strides, &out.shape);
    let sizes = R::filter_vector_sizes(sizes).pick_max()?;
    let settings =
        <R::MatmulRoutine as BatchMatmulRoutine<RuntimeArgs>>::device_settings(&client, sizes);
    let no_bias = AccumulatorOperand::Absent;
    let strategy = BlueprintStrategy::Inferred(strategy);
    let matrices = problem.as_matmul_problem(no_bias);
    let expanded = R::MatmulRoutine::expand_blueprint(&matrices, &settings, &strategy)?;
    // The factories of both passes have the same names, and differ in these arguments.
    macro_rules! arguments {
        ([$($operand:expr),*], [$($of_output:expr)?]) => {{
            let problem = <R::Args as ConcreteArgs<R::MatmulRoutine>>::adjust_problem(
                &client, problem, &expanded.blueprint, &elements,
            );
            let matrices = problem.as_matmul_problem(no_bias);
            let info = R::MatmulRoutine::prepare(&matrices, &settings, expanded)?;
            let (input, config) =
                <InputArg<R::Args> as ConcreteInputsFactory<R::MatmulRoutine>>::create(
                    $($operand,)* &info.blueprint, &problem, &elements,
                );
            let out = <Output as ConcreteOutputFactory<R::MatmulRoutine>>::create(
                out, &info.blueprint, &problem, $($of_output)?
            );
            (input, config, out, info)
        }};
    }
    let (input, config, out, info) = match pass {
        Pass::Forward => {
            use forward::args::{ConcreteArgs, ConcreteInputsFactory, ConcreteOutputFactory};
            arguments!([left, right, None], [&elements])
        }
        Pass::InputGradient => {
            use backward_data::args::{ConcreteArgs, ConcreteInputsFactory, ConcreteOutputFactory};
            arguments!([left, right], [])
        }
    };
    let output = epilogue.argument(output, out, info.vector_sizes.out, &info.blueprint);
    launch_kernel::<<R::Args as WithEpilogue>::Args, R::MatmulRoutine>(
        &client, input, output, config, info,
    )
    .map_err(ConvSetupError::Matmul)
}

/// CubeK's description of the convolution whose result is `out`.
fn problem(
    operation: ConvolutionOperation,
    [left, right]: [&InputBinding; 2],
    out: &TensorBinding,
    stride: usize,
    elements: &MatmulElems,
) -> ConvolutionProblem {
    let (left, right) = (left.data(), right.data());
    // Weights are `[o, 3, 3, c]`.
    let ([o, c], kernel) = ([right.shape[0], right.shape[3]], 9);
    let is_forward = operation == ConvolutionOperation::Forward;
    let (input, gradient) = if is_forward { (left, out) } else { (out, left) };
    let pixels = |binding: &TensorBinding| binding.shape[..3].iter().product::<usize>();
    let (sum_channels, rhs_layout) = match is_forward {
        true => (c, MatrixLayout::ColMajor),
        false => (o, MatrixLayout::RowMajor),
    };
    let address_type = (left.required_address_type(elements.lhs_global.size()))
        .max(right.required_address_type(elements.rhs_global.size()))
        .max(out.required_address_type(elements.acc_global.size()));
    ConvolutionProblem {
        m: pixels(out),
        n: out.shape[3],
        k: sum_channels * kernel,
        lhs_strides: left.strides.clone(),
        rhs_strides: right.strides.clone(),
        lhs_layout: MatrixLayout::RowMajor,
        rhs_layout,
        kernel_size: vec![3; 2],
        stride: vec![stride as u32; 2],
        padding: vec![1; 2],
        dilation: vec![1; 2],
        batches: out.shape[0],
        in_shape: input.shape[1..3].into(),
        out_shape: gradient.shape[1..3].into(),
        channels: c,
        out_channels: o,
        padded_channels: sum_channels,
        operation,
        dimensionality: Dimensionality::Dim2,
        global_dtypes: elements.as_global_elems(),
        address_type,
    }
}
