//! A copy of the model whose parameters are prepared for GPU kernels: cast to the dtype of the activations, with frozen
//! batch norms folded into convolutions.
//!
//! A layer that does this itself launches three or four kernels per call. Here a few launches prepare all layers.

use super::MaskRcnn;
use super::layer::{Layer, ParamVisitor};
use super::layers::{Conv2d, Linear};
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
    /// For `ParamGradients::restored`; `None` if the parameters were not prepared.
    #[cfg_attr(not(feature = "train"), allow(dead_code))]
    pub(crate) changes: Option<Changes>,
}

/// How prepared parameters differ from the originals, beside their dtype.
#[derive(Debug, Default)]
#[cfg_attr(not(feature = "train"), allow(dead_code))]
pub(crate) struct Changes {
    /// Scales of the norms that were folded into weights.
    pub(crate) scales: HashMap<ParamId, Tensor<1>>,
    /// Channels of the weights `[out, channels * cells]` that became `[out, cells * channels]`.
    pub(crate) channels: HashMap<ParamId, usize>,
}

impl MaskRcnn {
    /// The same model with its parameters as the kernels of its device read them. On devices that read them as they
    /// are, it is a copy.
    pub(crate) fn prepared(&self) -> Prepared {
        let mut model = self.clone();
        if !can_prepare_weights(&self.device()) {
            let changes = None;
            return Prepared { model, changes };
        }
        let dtype = self.dtype();
        let mut changes = Changes::default();
        // The stem computes in f32.
        let stem = model.backbone.body.stem();
        fold(stem.into_iter(), FloatDType::F32, &mut changes);
        let (same, full): (Vec<_>, Vec<_>) = model
            .convs_with_norms()
            .partition(|(conv, _)| conv.dtype(dtype) == dtype);
        fold(same.into_iter(), dtype, &mut changes);
        fold(full.into_iter(), FloatDType::F32, &mut changes);
        if dtype != FloatDType::F32 {
            model.cast(dtype, &mut changes);
        }
        let changes = Some(changes);
        Prepared { model, changes }
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

    /// Casts the f32 parameters that layers read as `dtype`.
    fn cast(&mut self, dtype: FloatDType, changes: &mut Changes) {
        let mut collect = WeightCollector(Vec::new());
        self.layers()
            .for_each(|layer| layer.params(dtype, &mut collect));
        let cast = cast_weights(TensorList(collect.0), dtype);
        let mut adopt = WeightReplacer {
            prepared: cast.0.into_iter(),
            changes,
        };
        self.layers()
            .for_each(|layer| layer.params(dtype, &mut adopt));
    }
}

/// Folds norms with fixed statistics into their convolutions, whose weights become `dtype` and whose bias replaces the
/// norm.
fn fold<'a>(
    pairs: impl Iterator<Item = (&'a mut Conv2d, &'a mut Option<Norm>)>,
    dtype: FloatDType,
    changes: &mut Changes,
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
        changes.scales.insert(conv.weight.id, scale);
        let shift = match conv.weight.val().device().is_autodiff() {
            true => Tensor::from_inner(shift),
            false => shift,
        };
        conv.bias = Some(Param::initialized(ParamId::new(), shift));
    }
}

/// Lists the parameters that are f32, without a graph.
struct WeightCollector(Vec<DispatchTensor>);

impl ParamVisitor for WeightCollector {
    fn visit<const D: usize>(&mut self, param: &mut Param<Tensor<D>>) {
        if is_f32(param) {
            self.0.push(param.val().inner().into_dispatch());
        }
    }

    fn visit_flattened_weight(&mut self, linear: &mut Linear) {
        if is_f32(&linear.weight) {
            let weight = linear.weight.val().inner();
            // Parameters with four dimensions become channels-last.
            self.0
                .push(columns_as_maps(weight, linear.channels).into_dispatch());
        }
    }
}

/// Replaces the parameters that are f32 by the next tensor of a list.
struct WeightReplacer<'a> {
    prepared: std::vec::IntoIter<DispatchTensor>,
    changes: &'a mut Changes,
}

impl WeightReplacer<'_> {
    fn next<const D: usize>(&mut self) -> Tensor<D> {
        Tensor::from_dispatch(self.prepared.next().expect("as many as were collected"))
    }
}

impl ParamVisitor for WeightReplacer<'_> {
    fn visit<const D: usize>(&mut self, param: &mut Param<Tensor<D>>) {
        if is_f32(param) {
            let prepared = self.next();
            *param = param.clone().map(|old| adopt(old, prepared));
        }
    }

    fn visit_flattened_weight(&mut self, linear: &mut Linear) {
        if is_f32(&linear.weight) {
            let prepared = channels_last_columns(self.next());
            linear.weight = (linear.weight.clone()).map(|old| adopt(old, prepared));
            linear.reads_channels_last = true;
            let channels = &mut self.changes.channels;
            channels.insert(linear.weight.id, linear.channels);
        }
    }
}

fn is_f32<const D: usize>(param: &Param<Tensor<D>>) -> bool {
    param.val().dtype() == DType::F32
}

/// Weights `[out, channels * cells]` as `[out, channels, cells, 1]`.
fn columns_as_maps(weight: Tensor<2>, channels: usize) -> Tensor<4> {
    let [output, input] = weight.dims();
    weight.reshape([output, channels, input / channels, 1])
}

/// Weights `[out, channels, cells, 1]` -> `[out, cells * channels]`; a view if they are channels-last.
fn channels_last_columns(maps: Tensor<4>) -> Tensor<2> {
    let [output, channels, cells, _] = maps.dims();
    (maps.permute([0, 2, 3, 1])).reshape([output, cells * channels])
}

/// The gradient `[out, cells * channels]` of prepared weights as `[out, channels, cells, 1]`, a view.
#[cfg(feature = "train")]
pub(crate) fn channels_first_gradient<const D: usize>(
    gradient: Tensor<D>,
    channels: usize,
) -> Tensor<4> {
    let shape = gradient.shape();
    let (output, input) = (shape[0], shape.num_elements() / shape[0].max(1));
    let last: Tensor<4> = gradient.reshape([output, input / channels, 1, channels]);
    last.permute([0, 3, 1, 2])
}

#[cfg(all(test, feature = "flex", feature = "train"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, Int};

    /// The gradient of prepared weights is restored to the order of the parameter.
    #[test]
    fn columns_are_restored_to_their_order() {
        let (outputs, channels, cells) = (2, 3, 4);
        let count = (outputs * channels * cells) as i64;
        let values = Tensor::<1, Int>::arange(0..count, &Device::flex()).float();
        let weight: Tensor<2> = values.reshape([outputs, channels * cells]);
        let maps = columns_as_maps(weight.clone(), channels);
        let columns = channels_last_columns(maps);
        // Channel 1 of cell 0 is the second column.
        let column: Vec<f32> = (columns.clone().narrow(1, 1, 1).into_data())
            .try_into_vec()
            .expect("f32");
        assert_eq!(column, [4.0, 16.0]);
        let restored = channels_first_gradient(columns, channels).reshape(weight.dims());
        assert_eq!(restored.into_data(), weight.into_data());
    }
}
