//! Arguments of CubeK's matrix kernels with a fused epilogue, which is applied in registers before the output is
//! written.

use crate::epilogue::cube::{masked, rectified};
use cubecl::prelude::barrier::Barrier;
use cubecl::prelude::*;
use cubecl::std::tensor::layout::{Layout, LayoutExpand};
use cubecl::std::tensor::{
    View, ViewMut, ViewOperations, ViewOperationsExpand, ViewOperationsMut, ViewOperationsMutExpand,
};
use cubek::matmul::multi_level::args::{
    Acc, AccSize, BatchedCoords, InputArg, Lhs, LhsSize, MatmulArgs, Rhs, RhsSize, RuntimeConfig,
    TensorArgs, TensorInputs, TensorMapArgs, TensorMapInputs, TensorOutput,
};
use cubek::matmul::multi_level::components::global::memory::GlobalLayoutConfig;
use std::marker::PhantomData;

/// An output and the operands of its epilogue, all `[m, n]`.
#[derive(CubeType, CubeLaunch, Clone)]
#[expand(derive(Clone))]
pub struct EpilogueOutput<E: CubePrimitive> {
    output: TensorOutput<E>,
    bias: ComptimeOption<View<'static, E, BatchedCoords>>,
    residual: ComptimeOption<View<'static, E, BatchedCoords>>,
    rectified: ComptimeOption<View<'static, E, BatchedCoords>>,
    #[cube(comptime)]
    relu: bool,
}

/// An output view that applies the epilogue to each value that is written to it.
#[derive(CubeType)]
#[allow(dead_code, reason = "only the expanded type is used")]
struct FinishedOutput<'a, E: CubePrimitive> {
    output: ViewMut<'a, E, BatchedCoords>,
    epilogue: EpilogueOutput<E>,
}

/// `value`, which has the dtype of the output, plus `bias` and `residual` in f32, then `max(., 0)` if `relu`, then 0
/// where `rectified` is 0 or less.
#[cube]
fn finish<E: CubePrimitive>(value: E, pos: BatchedCoords, epilogue: &EpilogueOutput<E>) -> E {
    let mut sum = Vector::<f32, E::Size>::cast_from(value);
    #[comptime]
    match &epilogue.bias {
        ComptimeOption::Some(bias) => sum += Vector::<f32, E::Size>::cast_from(bias.read(pos)),
        ComptimeOption::None => {}
    }
    #[comptime]
    match &epilogue.residual {
        ComptimeOption::Some(residual) => {
            sum += Vector::<f32, E::Size>::cast_from(residual.read(pos))
        }
        ComptimeOption::None => {}
    }
    if epilogue.relu.comptime() {
        sum = rectified::<E::Size>(sum);
    }
    #[comptime]
    match &epilogue.rectified {
        ComptimeOption::Some(output) => {
            let output = Vector::<f32, E::Size>::cast_from(output.read(pos));
            sum = masked::<E::Size>(sum, output);
        }
        ComptimeOption::None => {}
    }
    E::cast_from(sum)
}

/// `output` as a view that applies the epilogue to each value that is written to it.
#[cube]
fn finished<'a, E: CubePrimitive>(
    output: ViewMut<'a, E, BatchedCoords>,
    epilogue: EpilogueOutput<E>,
) -> ViewMut<'a, E, BatchedCoords> {
    let finished = FinishedOutput::<'a, E> { output, epilogue };
    ViewMut::new::<FinishedOutput<'a, E>, BatchedCoords>(finished, SameCoordinates::new())
}

/// CubeK's arguments `$base`, of which `$inputs` are the inputs, with an [`EpilogueOutput`].
macro_rules! with_epilogue {
    ($args:ident, $base:ident, $inputs:ident) => {
        /// CubeK's arguments of this name with an [`EpilogueOutput`].
        #[derive(Clone)]
        pub struct $args<Config: RuntimeConfig = ()>(PhantomData<Config>);

        #[cube]
        impl<Config: RuntimeConfig> MatmulArgs for $args<Config> {
            type Output<EO: CubePrimitive> = EpilogueOutput<EO>;
            type Input<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive> =
                $inputs<Lhs, Rhs, EO>;
            type Config = Config;
            type State<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive> = (
                ($inputs<Lhs, Rhs, EO>, TensorOutput<EO>, Config),
                EpilogueOutput<EO>,
            );

            fn init_state<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
                input: &Self::Input<Lhs, Rhs, EO>,
                output: &mut Self::Output<EO>,
                config: Self::Config,
                #[comptime] _lhs_layout_config: GlobalLayoutConfig,
                #[comptime] _rhs_layout_config: GlobalLayoutConfig,
                #[comptime] _out_layout_config: GlobalLayoutConfig,
            ) -> Self::State<Lhs, Rhs, EO> {
                (
                    (input.clone(), output.output.clone(), config),
                    output.clone(),
                )
            }

            fn view_lhs<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
                state: &Self::State<Lhs, Rhs, EO>,
            ) -> View<'_, Lhs, BatchedCoords> {
                $base::<Config>::view_lhs::<Lhs, Rhs, EO>(&state.0)
            }

            fn batch_lhs<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
                state: &Self::State<Lhs, Rhs, EO>,
                batch: usize,
            ) -> usize {
                $base::<Config>::batch_lhs::<Lhs, Rhs, EO>(&state.0, batch)
            }

            fn view_rhs<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
                state: &Self::State<Lhs, Rhs, EO>,
            ) -> View<'_, Rhs, BatchedCoords> {
                $base::<Config>::view_rhs::<Lhs, Rhs, EO>(&state.0)
            }

            fn batch_rhs<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
                state: &Self::State<Lhs, Rhs, EO>,
                batch: usize,
            ) -> usize {
                $base::<Config>::batch_rhs::<Lhs, Rhs, EO>(&state.0, batch)
            }

            fn view_acc<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
                state: &Self::State<Lhs, Rhs, EO>,
            ) -> ComptimeOption<View<'_, EO, BatchedCoords>> {
                $base::<Config>::view_acc::<Lhs, Rhs, EO>(&state.0)
            }

            fn batch_acc<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
                state: &Self::State<Lhs, Rhs, EO>,
                batch: usize,
            ) -> usize {
                $base::<Config>::batch_acc::<Lhs, Rhs, EO>(&state.0, batch)
            }

            fn view_out<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
                state: &Self::State<Lhs, Rhs, EO>,
            ) -> ViewMut<'_, EO, BatchedCoords> {
                finished(
                    $base::<Config>::view_out::<Lhs, Rhs, EO>(&state.0),
                    state.1.clone(),
                )
            }

            fn batch_out<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
                state: &Self::State<Lhs, Rhs, EO>,
                batch: usize,
            ) -> usize {
                $base::<Config>::batch_out::<Lhs, Rhs, EO>(&state.0, batch)
            }

            fn runtime_config<Lhs: CubePrimitive, Rhs: CubePrimitive, EO: CubePrimitive>(
                state: &Self::State<Lhs, Rhs, EO>,
            ) -> Self::Config {
                $base::<Config>::runtime_config::<Lhs, Rhs, EO>(&state.0)
            }
        }
    };
}

with_epilogue!(EpilogueArgs, TensorArgs, TensorInputs);
with_epilogue!(EpilogueMapArgs, TensorMapArgs, TensorMapInputs);

/// CubeK arguments that have a variant with an epilogue.
pub trait WithEpilogue: MatmulArgs {
    /// Whether the inputs are loaded by tensor maps.
    const IS_TENSOR_MAP: bool;
    /// The variant, with the same inputs.
    type Args: MatmulArgs<
            Config = Self::Config,
            Input<Vector<Lhs, LhsSize>, Vector<Rhs, RhsSize>, Vector<Acc, AccSize>> = InputArg<
                Self,
            >,
            Output<Vector<Acc, AccSize>> = EpilogueOutput<Vector<Acc, AccSize>>,
        >;
}

impl<Config: RuntimeConfig> WithEpilogue for TensorArgs<Config> {
    const IS_TENSOR_MAP: bool = false;
    type Args = EpilogueArgs<Config>;
}

impl<Config: RuntimeConfig> WithEpilogue for TensorMapArgs<Config> {
    const IS_TENSOR_MAP: bool = true;
    type Args = EpilogueMapArgs<Config>;
}

/// Identity layout; the wrapped view checks bounds.
#[derive(CubeType, Clone)]
struct SameCoordinates {}

#[cube]
impl SameCoordinates {
    fn new() -> Self {
        SameCoordinates {}
    }
}

#[cube]
impl Layout for SameCoordinates {
    type Coordinates = BatchedCoords;
    type SourceCoordinates = BatchedCoords;

    fn to_source_pos(&self, pos: Self::Coordinates) -> BatchedCoords {
        pos
    }

    fn to_source_pos_checked(&self, pos: Self::Coordinates) -> (BatchedCoords, bool) {
        (pos, true.runtime())
    }

    fn shape(&self) -> Self::Coordinates {
        (usize::MAX.runtime(), u32::MAX.runtime(), u32::MAX.runtime())
    }

    fn is_in_bounds(&self, _pos: Self::Coordinates) -> bool {
        true.runtime()
    }
}

type Pos = <BatchedCoords as CubeType>::ExpandType;

impl<E: CubePrimitive> Vectorized for FinishedOutput<'_, E> {}
impl<E: CubePrimitive> VectorizedExpand for FinishedOutputExpand<'_, E> {
    fn __expand_vector_size_method(&self, scope: &Scope) -> VectorSize {
        self.output.__expand_vector_size_method(scope)
    }
}

/// CubeK only writes the output, so reads are unreachable.
impl<E: CubePrimitive> ViewOperations<E, BatchedCoords> for FinishedOutput<'_, E> {}
impl<E: CubePrimitive> ViewOperationsExpand<E, BatchedCoords> for FinishedOutputExpand<'_, E> {
    fn __expand_read_method(&self, _scope: &Scope, _pos: Pos) -> E::ExpandType {
        unreachable!("{ONLY_WRITTEN}")
    }

    fn __expand_read_checked_method(&self, _scope: &Scope, _pos: Pos) -> E::ExpandType {
        unreachable!("{ONLY_WRITTEN}")
    }

    fn __expand_read_masked_method(
        &self,
        _scope: &Scope,
        _pos: Pos,
        _value: E::ExpandType,
    ) -> E::ExpandType {
        unreachable!("{ONLY_WRITTEN}")
    }

    fn __expand_read_unchecked_method(&self, _scope: &Scope, _pos: Pos) -> E::ExpandType {
        unreachable!("{ONLY_WRITTEN}")
    }

    fn __expand_as_linear_slice_method(
        &self,
        _scope: &Scope,
        _pos: Pos,
        _end: Pos,
    ) -> &SliceExpand<E> {
        unreachable!("{ONLY_WRITTEN}")
    }

    fn __expand_tensor_map_load_method(
        &self,
        _scope: &Scope,
        _barrier: &NativeExpand<Barrier>,
        _shared_memory: &mut SliceExpand<E>,
        _pos: Pos,
    ) {
        unreachable!("{ONLY_WRITTEN}")
    }

    fn __expand_shape_method(&self, scope: &Scope) -> Pos {
        self.output.__expand_shape_method(scope)
    }

    fn __expand_is_in_bounds_method(&self, scope: &Scope, pos: Pos) -> NativeExpand<bool> {
        self.output.__expand_is_in_bounds_method(scope, pos)
    }
}

const ONLY_WRITTEN: &str = "the output of a product is written value by value";

impl<E: CubePrimitive> ViewOperationsMut<E, BatchedCoords> for FinishedOutput<'_, E> {}
impl<E: CubePrimitive> ViewOperationsMutExpand<E, BatchedCoords> for FinishedOutputExpand<'_, E> {
    fn __expand_write_method(&self, scope: &Scope, pos: Pos, value: E::ExpandType) {
        let value = finish::expand::<E>(scope, value, pos, &self.epilogue);
        self.output.clone().__expand_write_method(scope, pos, value);
    }

    fn __expand_write_checked_method(&self, scope: &Scope, pos: Pos, value: E::ExpandType) {
        let is_inside = self.output.__expand_is_in_bounds_method(scope, pos);
        if_expand(scope, is_inside, |scope| {
            self.__expand_write_method(scope, pos, value)
        });
    }

    fn __expand_as_linear_slice_mut_method(
        &self,
        _scope: &Scope,
        _pos: Pos,
        _end: Pos,
    ) -> &mut SliceExpand<E> {
        unreachable!("{ONLY_WRITTEN}")
    }

    fn __expand_tensor_map_store_method(
        &self,
        _scope: &Scope,
        _shared_memory: &SliceExpand<E>,
        _pos: Pos,
    ) {
        unreachable!("{ONLY_WRITTEN}")
    }
}
