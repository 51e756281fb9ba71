//! Lists of tensors as arguments and results of backend operations. Burn's derive macro supports only structures
//! with a fixed number of tensors.

use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Backend, BackendTensor, Dispatch, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind,
    ExtensionType,
};
use burn::tensor::Tensor;

/// Float tensors, in order. An operation whose lists are all empty has no device to run on, so do not call it.
#[derive(Clone, Debug)]
pub struct TensorList<B: Backend>(pub Vec<FloatTensor<B>>);

impl TensorList<Dispatch> {
    /// The list of `tensors`.
    pub fn of<const D: usize>(tensors: impl IntoIterator<Item = Tensor<D>>) -> Self {
        Self(tensors.into_iter().map(Tensor::into_dispatch).collect())
    }

    /// The tensors of the list, which all have `D` dimensions.
    pub fn into_tensors<const D: usize>(self) -> impl Iterator<Item = Tensor<D>> {
        self.0.into_iter().map(Tensor::from_dispatch)
    }
}

impl<B: Backend> ExtensionType<B> for TensorList<B> {
    type Target = TensorList<Dispatch>;

    fn map_to_dispatch<F>(self, map_kind: F, autodiff: DispatchAutodiffContext) -> Self::Target
    where
        F: Fn(BackendTensor<B>) -> DispatchTensorKind,
    {
        let wrapped = self.0.into_iter().map(|tensor| DispatchTensor {
            kind: map_kind(BackendTensor::Float(tensor)),
            autodiff,
        });
        TensorList(wrapped.collect())
    }

    fn map_from_dispatch<F>(target: Self::Target, unwrap_kind: F) -> Self
    where
        F: Fn(DispatchTensor) -> BackendTensor<B>,
    {
        let tensors = target.0.into_iter();
        Self(tensors.map(|tensor| unwrap_kind(tensor).float()).collect())
    }

    fn routing_tensor(target: &Self::Target) -> Option<&DispatchTensor> {
        target.0.first()
    }

    fn routing_float_tensor(target: &Self::Target) -> Option<&DispatchTensor> {
        target.0.first()
    }

    fn autodiff_context(target: &Self::Target) -> DispatchAutodiffContext {
        let contexts = target.0.iter().map(|tensor| tensor.autodiff);
        contexts.fold(DispatchAutodiffContext::Disabled, |all, one| all.merge(one))
    }
}

#[cfg(feature = "fusion")]
mod fused {
    //! The equivalent of the derive macro's code for structures: each method applies that of a single tensor to all.

    use super::TensorList;
    use burn::backend::Backend;
    use burn::backend::fusion::custom::{
        ExtensionMetadata, Float, FusionValueAdapter, HandleContainer, OutputTensor, TensorId,
        TensorIr, TensorSpec,
    };
    use burn::backend::fusion::{
        ExecutionError, Fusion, FusionBackend, FusionRuntime, FusionTensor,
    };

    type Handles<B> =
        HandleContainer<<<B as FusionBackend>::FusionRuntime as FusionRuntime>::FusionHandle>;
    type Fused<B> = FusionTensor<<B as FusionBackend>::FusionRuntime>;

    impl<B: Backend> ExtensionMetadata for TensorList<B> {
        type Metadata = Vec<TensorSpec>;
        type Input = Vec<TensorIr>;
        type Output = Vec<OutputTensor>;
    }

    impl<B: FusionBackend> FusionValueAdapter<B> for TensorList<B> {
        type Metadata = Vec<TensorSpec>;
        type Input = Vec<TensorIr>;
        type Output = Vec<OutputTensor>;
        type Inner = Self;
        type Fused = TensorList<Fusion<B>>;

        fn to_metadata(value: &Self::Fused) -> Self::Metadata {
            let tensors = value.0.iter();
            tensors
                .map(<Float as FusionValueAdapter<B>>::to_metadata)
                .collect()
        }

        fn visit_fused_tensors(value: &Self::Fused, visit: &mut impl FnMut(&Fused<B>)) {
            value.0.iter().for_each(visit);
        }

        fn tensor_count(meta: &Self::Metadata) -> usize {
            meta.len()
        }

        fn append_input_ir(value: Self::Fused, inputs: &mut Vec<TensorIr>) -> Self::Input {
            let tensors = value.0.into_iter();
            tensors
                .map(|tensor| <Float as FusionValueAdapter<B>>::append_input_ir(tensor, inputs))
                .collect()
        }

        fn resolve_inputs(input: &Self::Input, handles: &mut Handles<B>) -> Self::Inner {
            let inputs = input.iter();
            Self(
                inputs
                    .map(|input| <Float as FusionValueAdapter<B>>::resolve_inputs(input, handles))
                    .collect(),
            )
        }

        fn append_output_ir(
            meta: &Self::Metadata,
            out: &mut Vec<TensorIr>,
            create: &mut impl FnMut() -> TensorId,
        ) -> Self::Output {
            let specs = meta.iter();
            specs
                .map(|spec| <Float as FusionValueAdapter<B>>::append_output_ir(spec, out, create))
                .collect()
        }

        fn validate_outputs(
            value: &Self::Inner,
            output: &Self::Output,
            device: Option<&B::Device>,
        ) -> Result<(), ExecutionError> {
            if value.0.len() != output.len() {
                return Err(ExecutionError::generic(format!(
                    "expected a list of {} tensors, and the operation returned {}",
                    output.len(),
                    value.0.len()
                )));
            }
            value.0.iter().zip(output).try_for_each(|(value, output)| {
                <Float as FusionValueAdapter<B>>::validate_outputs(value, output, device)
            })
        }

        fn register_output_handles(
            value: Self::Inner,
            output: &Self::Output,
            handles: &mut Handles<B>,
        ) {
            for (value, output) in value.0.into_iter().zip(output) {
                <Float as FusionValueAdapter<B>>::register_output_handles(value, output, handles);
            }
        }

        fn build_fused_output(
            meta: &Self::Metadata,
            tensors: &mut std::vec::IntoIter<Fused<B>>,
        ) -> Self::Fused {
            let specs = meta.iter();
            TensorList(
                specs
                    .map(|spec| <Float as FusionValueAdapter<B>>::build_fused_output(spec, tensors))
                    .collect(),
            )
        }
    }
}
