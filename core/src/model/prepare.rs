//! A copy of the model whose parameters are prepared for GPU kernels: cast to the dtype of the activations, with frozen
//! batch norms folded into convolutions.
//!
//! A layer that does this itself launches three or four kernels per call. Here a few launches prepare all layers.

use super::MaskRcnn;
use super::layer::{Layer, ParamVisitor};
use super::layers::Conv2d;
use super::norm::Norm;
use burn::backend::DispatchTensor;
use burn::module::{Param, ParamId};
use burn::tensor::{DType, FloatDType, Tensor};
use mrcnn_kernels::{
    Folded, FrozenNorms, TensorList, adopt, can_prepare_weights, cast_weights, fold_norms,
};
use std::collections::HashMap;

/// A prepared model. It is valid until the parameters change; with autodiff, for one forward and backward pass.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Its outputs are those of the model that it was made from.
    pub(crate) model: MaskRcnn,
    /// Scales of the folded norms, for `ParamGradients::restored`; `None` if the parameters were not prepared.
    #[cfg_attr(not(feature = "train"), allow(dead_code))]
    pub(crate) scales: Option<Scales>,
}

/// Scales of the norms that were folded into parameters.
pub(crate) type Scales = HashMap<ParamId, Tensor<1>>;

impl MaskRcnn {
    /// The same model with its parameters as the kernels of its device read them. On devices that read them as they
    /// are, it is a copy.
    pub(crate) fn prepared(&self) -> Prepared {
        let mut model = self.clone();
        if !can_prepare_weights(&self.device()) {
            let scales = None;
            return Prepared { model, scales };
        }
        let dtype = self.dtype();
        let mut scales = Scales::new();
        // The stem computes in f32.
        let stem = model.backbone.body.stem();
        fold(stem.into_iter(), FloatDType::F32, &mut scales);
        let (same, full): (Vec<_>, Vec<_>) = model
            .convs_with_norms()
            .partition(|(conv, _)| conv.dtype(dtype) == dtype);
        fold(same.into_iter(), dtype, &mut scales);
        fold(full.into_iter(), FloatDType::F32, &mut scales);
        if dtype != FloatDType::F32 {
            model.cast(dtype);
        }
        let scales = Some(scales);
        Prepared { model, scales }
    }

    fn layers(&mut self) -> impl Iterator<Item = Layer<'_>> {
        let Self {
            backbone,
            rpn,
            roi_heads,
            ..
        } = self;
        backbone
            .layers()
            .chain(rpn.layers())
            .chain(roi_heads.layers())
    }

    fn convs_with_norms(&mut self) -> impl Iterator<Item = (&mut Conv2d, &mut Option<Norm>)> {
        self.layers().filter_map(|layer| match layer {
            Layer::ConvNorm(conv, norm) => Some((conv, norm)),
            _ => None,
        })
    }

    /// The parameters that are f32 and read as `dtype`, cast to it.
    fn cast(&mut self, dtype: FloatDType) {
        let mut collect = Collect(Vec::new());
        self.layers()
            .for_each(|layer| layer.params(dtype, &mut collect));
        let cast = cast_weights(TensorList(collect.0), dtype);
        let mut adopt = Adopt(cast.0.into_iter());
        self.layers()
            .for_each(|layer| layer.params(dtype, &mut adopt));
    }
}

/// Folds norms with fixed statistics into their convolutions, whose weights become `dtype` and whose bias replaces the
/// norm.
fn fold<'a>(
    pairs: impl Iterator<Item = (&'a mut Conv2d, &'a mut Option<Norm>)>,
    dtype: FloatDType,
    all_scales: &mut Scales,
) {
    let mut weights = Vec::new();
    let (mut convs, mut epsilons) = (Vec::new(), Vec::new());
    let mut norms = [(); 4].map(|()| Vec::new());
    for (conv, norm) in pairs {
        let is_tracked = conv.weight.val().device().is_autodiff();
        let Some(fixed) = norm.as_ref().and_then(|norm| norm.fixed(is_tracked)) else {
            continue;
        };
        if conv.bias.is_some() {
            continue;
        }
        weights.push(conv.weight.val().inner());
        for (list, tensor) in norms.iter_mut().zip(fixed.tensors) {
            list.push(tensor.inner());
        }
        epsilons.push(fixed.epsilon);
        *norm = None;
        convs.push(conv);
    }
    let [weights_of_norms, biases, means, vars] = norms.map(TensorList::of);
    let norms = FrozenNorms {
        weights: weights_of_norms,
        biases,
        means,
        vars,
        epsilons,
    };
    let Folded {
        weights,
        shifts,
        scales,
    } = fold_norms(TensorList::of(weights), norms, dtype);
    let folded = weights.into_tensors().zip(shifts.into_tensors());
    for ((conv, (weight, shift)), scale) in convs.into_iter().zip(folded).zip(scales.into_tensors())
    {
        conv.weight = (conv.weight.clone()).map(|old| adopt(old, weight));
        all_scales.insert(conv.weight.id, scale);
        let shift = match conv.weight.val().device().is_autodiff() {
            true => Tensor::from_inner(shift),
            false => shift,
        };
        conv.bias = Some(Param::initialized(ParamId::new(), shift));
    }
}

/// Lists the parameters that are f32, without a graph.
struct Collect(Vec<DispatchTensor>);

impl ParamVisitor for Collect {
    fn visit<const D: usize>(&mut self, param: &mut Param<Tensor<D>>) {
        if is_f32(param) {
            self.0.push(param.val().inner().into_dispatch());
        }
    }
}

/// Replaces the parameters that are f32 by the next tensor of a list.
struct Adopt(std::vec::IntoIter<DispatchTensor>);

impl ParamVisitor for Adopt {
    fn visit<const D: usize>(&mut self, param: &mut Param<Tensor<D>>) {
        if is_f32(param) {
            let prepared = self.0.next().expect("as many as were collected");
            let prepared = Tensor::from_dispatch(prepared);
            *param = param.clone().map(|old| adopt(old, prepared));
        }
    }
}

fn is_f32<const D: usize>(param: &Param<Tensor<D>>) -> bool {
    param.val().dtype() == DType::F32
}
