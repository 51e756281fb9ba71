//! Trained parameters of a model as flat tensors.

use crate::model::MaskRcnn;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use std::collections::HashMap;

/// A part of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Whole,
    /// Up to the feature pyramid.
    Backbone,
    /// RPN and RoI heads.
    Heads,
}

impl Part {
    /// Visits the parameters of this part of `model`.
    pub(crate) fn visit(self, model: &MaskRcnn, visitor: &mut impl ModuleVisitor) {
        if matches!(self, Self::Whole | Self::Backbone) {
            model.backbone.visit(visitor);
        }
        if matches!(self, Self::Whole | Self::Heads) {
            model.rpn.visit(visitor);
            model.roi_heads.visit(visitor);
        }
    }
}

/// The trained parameters, without a graph, in the order of the model.
pub(crate) fn trained(model: &MaskRcnn) -> Vec<(ParamId, Tensor<1>)> {
    trained_of(model, Part::Whole)
}

/// [`trained`] of a part of the model.
pub(crate) fn trained_of(model: &MaskRcnn, part: Part) -> Vec<(ParamId, Tensor<1>)> {
    let mut trained = Trained(Vec::new());
    part.visit(model, &mut trained);
    trained.0
}

struct Trained(Vec<(ParamId, Tensor<1>)>);

impl ModuleVisitor for Trained {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if value.is_require_grad() {
            let count = value.shape().num_elements();
            self.0.push((param.id, value.inner().reshape([count])));
        }
    }
}

/// Puts values of trained parameters into a model.
pub(crate) struct ParamWriter(pub(crate) HashMap<ParamId, Tensor<1>>);

impl ModuleMapper for ParamWriter {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(value) = self.0.remove(&param.id) else {
            return param;
        };
        param.map(|old| Tensor::from_inner(value.reshape(old.shape())).require_grad())
    }
}
