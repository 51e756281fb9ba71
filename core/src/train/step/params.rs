//! Trained parameters of a model as flat tensors.

use crate::model::MaskRcnn;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use std::collections::HashMap;

/// The trained parameters, without a graph, in the order of the model.
pub(crate) fn trained(model: &MaskRcnn) -> Vec<(ParamId, Tensor<1>)> {
    let mut trained = Trained(Vec::new());
    model.visit(&mut trained);
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
pub(crate) struct Put(pub(crate) HashMap<ParamId, Tensor<1>>);

impl ModuleMapper for Put {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(value) = self.0.remove(&param.id) else {
            return param;
        };
        param.map(|old| Tensor::from_inner(value.reshape(old.shape())).require_grad())
    }
}
