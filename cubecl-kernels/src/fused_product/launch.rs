//! Launches of CubeK's matrix kernels with an epilogue.

use super::args::{EpilogueOutputLaunch, WithEpilogue};
use crate::epilogue::cube::{add_to_rows, mask_rows};
use crate::launch::{dense, empty, view, zeros};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::Shape;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::ops::reshape;
use burn_cubecl::tensor::CubeTensor;
use cubecl::features::Tma;
use cubecl::prelude::*;
use cubecl::std::tensor::launch::ViewArg;
use cubek::matmul::definition::{
    AvailableVectorSizes, MatmulAvailabilityError, MatmulElems, MatmulGlobalElems, MatmulProblem,
    MatmulSetupError,
};
use cubek::matmul::multi_level::args::{
    Acc, AccSize, BatchedCoords, ConcreteInputsFactory, ConcreteOutputFactory, InputArg,
    TensorArgs, TensorMapArgs, TensorOutput,
};
use cubek::matmul::multi_level::components::global::memory::{GlobalLayout, GlobalLayoutLaunch};
use cubek::matmul::multi_level::definition::{BatchMatmulBlueprint, Blueprint};
use cubek::matmul::multi_level::{BatchMatmulRoutine, launch_kernel};
use cubek::matmul::routine::BlueprintStrategy;
use cubek::std::InputBinding;

/// Epilogue of a product `[m, n]`: `value + bias + residual`, then `max(., 0)` if `relu`, then 0 where `rectified` is
/// 0 or less. Operands have the dtype of the product; for a convolution, `m` are the three axes of its pixels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Epilogue {
    /// `[n]`.
    pub(crate) bias: Option<CubeTensor>,
    /// `[m, n]`.
    pub(crate) residual: Option<CubeTensor>,
    /// Output `[m, n]` of a ReLU, which masks the result: the result is the gradient of that output.
    pub(crate) rectified: Option<CubeTensor>,
    /// Whether a ReLU follows the sum.
    pub(crate) relu: bool,
}

/// The operands and the epilogue of a product.
#[derive(Clone, Debug)]
pub(super) struct Product {
    /// `[m, k]` and `[k, n]`, of one dtype.
    pub(super) operands: [CubeTensor; 2],
    pub(super) epilogue: Epilogue,
}

impl Product {
    /// An uninitialized result `[m, n]`.
    fn output(&self) -> CubeTensor {
        let [left, right] = &self.operands;
        let ([m, _], [_, n]) = (left.meta.shape().dims(), right.meta.shape().dims());
        empty(left, [m, n], left.dtype)
    }

    /// The result by Burn's default kernel and those of [`crate::epilogue`].
    pub(super) fn compute_separately(self) -> Result<CubeTensor, MatmulSetupError> {
        let output = self.output();
        let ([left, right], dtype) = (self.operands, output.dtype);
        let output = matmul(left, right, Some(output), MatmulStrategy::Cube, dtype)?;
        self.epilogue.apply(&output);
        Ok(output)
    }

    /// The result by a kernel of CubeK that has the epilogue.
    pub(super) fn compute<A>(self, strategy: A::Strategy) -> Result<CubeTensor, MatmulSetupError>
    where
        A: BatchMatmulRoutine<(), Blueprint = BatchMatmulBlueprint>,
    {
        let size = self.operands[0].dtype.size();
        let client = self.operands[0].client.clone();
        let sizes = AvailableVectorSizes::from_type_sizes(&client, size, size, size);
        self.launch::<TensorArgs, A>(strategy, sizes)
    }

    /// The same by a kernel that loads tensor maps.
    pub(super) fn compute_with_tma<A>(
        self,
        strategy: A::Strategy,
    ) -> Result<CubeTensor, MatmulSetupError>
    where
        A: BatchMatmulRoutine<(), Blueprint = BatchMatmulBlueprint>,
    {
        let client = self.operands[0].client.clone();
        if !client.properties().features.tma.contains(Tma::Base) {
            let error = MatmulAvailabilityError::TmaUnavailable;
            return Err(MatmulSetupError::Unavailable(error));
        }
        let size = self.operands[0].dtype.size();
        let sizes = AvailableVectorSizes::from_type_size_tma(&client, size);
        self.launch::<TensorMapArgs, A>(strategy, sizes)
    }

    fn launch<MA, A>(
        self,
        strategy: A::Strategy,
        sizes: AvailableVectorSizes,
    ) -> Result<CubeTensor, MatmulSetupError>
    where
        MA: WithEpilogue<Config = ()>,
        InputArg<MA>: ConcreteInputsFactory<A>,
        A: BatchMatmulRoutine<(), Blueprint = BatchMatmulBlueprint>,
    {
        let output = self.output();
        let client = output.client.clone();
        let storage = dtype_to_storage_type(output.dtype);
        let elements = elements(storage);
        let out = output.clone().binding();
        let [left, right] = self
            .operands
            .map(|operand| InputBinding::new(operand.binding(), storage));
        let address_type = (left.required_address_type())
            .max(right.required_address_type())
            .max(out.required_address_type(storage.size()));
        let problem = MatmulProblem::from_shapes_and_strides(
            left.shape().into(),
            right.shape().into(),
            out.shape.clone(),
            left.data().strides.clone(),
            right.data().strides.clone(),
            out.strides.clone(),
            elements.as_global_elems(),
            address_type,
            None,
            None,
        )?;
        let sizes = sizes
            .filter_lhs_with_tensor(&problem.lhs_strides, &problem.lhs_shape, problem.lhs_layout)
            .filter_rhs_with_tensor(&problem.rhs_strides, &problem.rhs_shape, problem.rhs_layout)
            .filter_out_with_tensor(&problem.out_strides, &problem.out_shape)
            .pick_max()?;
        let settings = A::device_settings(&client, sizes);
        let strategy = BlueprintStrategy::Inferred(strategy);
        let mut expanded = A::expand_blueprint(&problem, &settings, &strategy)?;
        if MA::IS_TENSOR_MAP && !fits_tensor_maps(&expanded.blueprint) {
            // If there are at least four times as many rows as columns, CubeK selects tiles of 32x8
            // (`find_instruction_size`), which are 512 rows per stage.
            let m = problem.m.min(4 * problem.n - 1);
            let fewer_rows = MatmulProblem {
                m,
                ..problem.clone()
            };
            expanded = A::expand_blueprint(&fewer_rows, &settings, &strategy)?;
            // The last stage of all rows may be incomplete.
            expanded.blueprint.check_m_bounds = true;
            if !fits_tensor_maps(&expanded.blueprint) {
                let error = "a stage is larger than a box of a tensor map";
                return Err(MatmulSetupError::InvalidConfig(Box::new(error)));
            }
        }
        let info = A::prepare(&problem, &settings, expanded)?;
        let (blueprint, sizes, dtypes) = (&info.blueprint, &info.vector_sizes, &info.dtypes);
        let input = <InputArg<MA> as ConcreteInputsFactory<A>>::create(
            left, right, blueprint, &problem, sizes, dtypes,
        );
        let out = <TensorOutput<Vector<Acc, AccSize>> as ConcreteOutputFactory<A>>::create(
            out, blueprint, &problem, sizes, dtypes,
        );
        let output_arg = self.epilogue.argument(&output, out, sizes.out, blueprint);
        launch_kernel::<MA::Args, A>(&client, input, output_arg, (), info)?;
        Ok(output)
    }
}

/// Whether a tensor map can load each stage: CUDA's boxes have at most 256 values per axis. A launch that CUDA refuses
/// marks its buffers as failed, so that later launches that reuse them fail, too.
fn fits_tensor_maps(blueprint: &BatchMatmulBlueprint) -> bool {
    let tiles = blueprint.tiling_scheme();
    let sides = [
        tiles.elements_per_stage_along_m(),
        tiles.elements_per_stage_along_n(),
        tiles.elements_per_stage_along_k(),
    ];
    sides.iter().all(|&side| side <= 256)
}

/// CubeK's dtypes of a product whose operands and result are `storage`.
pub(crate) fn elements(storage: ElemType) -> MatmulElems {
    MatmulElems::from_globals(&MatmulGlobalElems {
        lhs: storage,
        rhs: storage,
        out: storage,
    })
}

type OutputArg = <TensorOutput<Vector<Acc, AccSize>> as LaunchArg>::RuntimeArg;

impl Epilogue {
    /// Applies the epilogue to `output`, whose last axis has its `n` columns, by separate kernels.
    pub(crate) fn apply(self, output: &CubeTensor) {
        let Self {
            bias,
            residual,
            rectified,
            relu,
        } = self;
        if bias.is_some() || residual.is_some() || relu {
            let columns = *output.meta.shape().last().expect("an output has columns");
            let bias = bias.unwrap_or_else(|| zeros(output, [columns], output.dtype));
            add_to_rows(output, &dense(bias), residual.map(dense).as_ref(), relu);
        }
        if let Some(rectified) = rectified {
            mask_rows(&dense(rectified), output);
        }
    }

    /// The argument of a kernel that writes `output`, whose last axis has its `n` columns, in vectors of `width`;
    /// `out` is CubeK's argument for it.
    pub(crate) fn argument(
        self,
        output: &CubeTensor,
        out: OutputArg,
        width: usize,
        blueprint: &BatchMatmulBlueprint,
    ) -> EpilogueOutputLaunch<Vector<Acc, AccSize>> {
        let config = blueprint.out_global_layout_config();
        let columns = *output.meta.shape().last().expect("an output has columns");
        let shape = [output.meta.num_elements() / columns, columns];
        let argument = |operand: CubeTensor| {
            let binding = operand.binding();
            let layout = GlobalLayoutLaunch::from_handle(&binding, width, config);
            ViewArg::<BatchedCoords>::new_tensor::<GlobalLayout>(binding.into_tensor_arg(), layout)
        };
        // The bias as a matrix whose rows are all equal.
        let bias = self.bias.map(|bias| view(dense(bias), shape, [0, 1]));
        let matrix = |operand| reshape(operand, Shape::new(shape));
        EpilogueOutputLaunch::new(
            out,
            bias.map(argument).into(),
            self.residual.map(matrix).map(argument).into(),
            self.rectified.map(matrix).map(argument).into(),
            self.relu,
        )
    }
}
