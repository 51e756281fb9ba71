//! The optimizer's moments by parameter name, for checkpoints.

use super::optimizer::{Moments, Optimizer};
use crate::model::{MaskRcnn, ModulePath};
use crate::weights::StateDict;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Tensor};
use std::collections::HashMap;

const FIRST: &str = ".first";
const SECOND: &str = ".second";

impl Optimizer {
    /// The moments of every parameter that was updated, flat: `NAME.first`, and for AdamW `NAME.second`.
    pub fn state_dict(&self, model: &MaskRcnn) -> StateDict {
        let mut tensors = StateDict::new();
        for (name, id) in names(model) {
            let Some(moments) = self.state.get(&id) else {
                continue;
            };
            let read = |tensor: &Tensor<1>| tensor.clone().into_data().convert::<f32>();
            if let Some(second) = &moments.second {
                tensors.insert(format!("{name}{SECOND}"), read(second));
            }
            tensors.insert(format!("{name}{FIRST}"), read(&moments.first));
        }
        tensors
    }

    /// Restores what [`Self::state_dict`] returned, after `steps` steps. The error names tensors that do not
    /// belong to a parameter of the model.
    pub fn load_state_dict(
        &mut self,
        model: &MaskRcnn,
        mut tensors: StateDict,
        steps: i32,
        device: &Device,
    ) -> Result<(), String> {
        let mut state = HashMap::new();
        for (name, id) in names(model) {
            let Some(first) = tensors.remove(&format!("{name}{FIRST}")) else {
                continue;
            };
            let second = tensors.remove(&format!("{name}{SECOND}"));
            let moments = Moments {
                first: Tensor::from_data(first, device),
                second: second.map(|second| Tensor::from_data(second, device)),
            };
            state.insert(id, moments);
        }
        if let Some(name) = tensors.keys().next() {
            return Err(format!("the model has no parameter for {name}"));
        }
        (self.state, self.steps) = (state, steps);
        Ok(())
    }
}

/// Every parameter's name and id.
pub(crate) fn names(model: &MaskRcnn) -> Vec<(String, ParamId)> {
    let mut names = Names::default();
    model.visit(&mut names);
    names.found
}

#[derive(Default)]
struct Names {
    path: ModulePath,
    found: Vec<(String, ParamId)>,
}

impl ModuleVisitor for Names {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push((self.path.name(), param.id));
    }
}
