//! Exponential moving average of the weights (Polyak averaging), which often predicts better than the last weights.

use crate::model::MaskRcnn;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use std::collections::HashMap;

/// The moving average of every parameter, flat.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    values: HashMap<ParamId, Tensor<1>>,
}

impl Ema {
    /// An average that starts from `model`.
    pub fn new(model: &MaskRcnn, decay: f64) -> Self {
        let values = HashMap::new();
        let mut ema = Self { decay, values };
        ema.blend(model, 0.0);
        ema
    }

    /// Updates the average with the weights after step `step` (from 1): `average = d * average + (1 - d) * weights`.
    ///
    /// `d = min(decay, (1 + step) / (10 + step))`, so that the random initial weights soon lose their influence.
    pub fn update(&mut self, model: &MaskRcnn, step: usize) {
        let step = step as f64;
        self.blend(model, self.decay.min((1.0 + step) / (10.0 + step)));
    }

    /// The model with the averaged weights, without autodiff. It is not a clone of `model`: clones share the running
    /// statistics of batch norms, so averaged statistics would leak into training.
    pub fn apply(&self, model: &MaskRcnn) -> MaskRcnn {
        model.valid().map(&mut Replace(&self.values))
    }

    fn blend(&mut self, model: &MaskRcnn, decay: f64) {
        let values = &mut self.values;
        model.visit(&mut Blend { values, decay });
    }
}

struct Blend<'a> {
    values: &'a mut HashMap<ParamId, Tensor<1>>,
    decay: f64,
}

impl ModuleVisitor for Blend<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let value = if value.device().is_autodiff() {
            value.inner()
        } else {
            value
        };
        let count = value.shape().num_elements();
        let value = value.reshape([count]);
        let blended = match self.values.remove(&param.id) {
            Some(old) if self.decay > 0.0 => old * self.decay + value * (1.0 - self.decay),
            _ => value,
        };
        self.values.insert(param.id, blended);
    }
}

struct Replace<'a>(&'a HashMap<ParamId, Tensor<1>>);

impl ModuleMapper for Replace<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(value) = self.0.get(&param.id) else {
            return param;
        };
        let value = value.clone();
        param.map(|old| value.reshape(old.shape()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;
    use crate::weights::state_dict;
    use burn::tensor::Device;

    #[test]
    fn the_average_follows_its_formula() {
        let config = ModelConfig {
            width: 2,
            fpn_channels: 2,
            num_classes: 2,
            ..ModelConfig::default()
        };
        let device = Device::flex().autodiff();
        let [start, moved] = [0, 1].map(|seed| MaskRcnn::new(&config, seed, &device));
        // The same ids with other values.
        let path = std::path::Path::new("test");
        let moved = crate::weights::load_state_dict(start.clone(), state_dict(&moved), path);
        let moved = moved.unwrap();
        let mut ema = Ema::new(&start, 0.999);
        ema.update(&moved, 1);
        ema.update(&moved, 2);
        // d = 2/11, then 3/12.
        let kept = 2.0 / 11.0 * 3.0 / 12.0;
        let [start, wanted, found] = [&start, &moved, &ema.apply(&start)].map(state_dict);
        for (name, found) in found {
            let pairs = start[&name].iter::<f64>().zip(wanted[&name].iter::<f64>());
            for (found, (start, moved)) in found.iter::<f64>().zip(pairs) {
                let wanted = kept * start + (1.0 - kept) * moved;
                assert!((found - wanted).abs() < 1e-6, "{name}: {found}, {wanted}");
            }
        }
    }

    #[test]
    fn the_statistics_of_batch_norms_stay_the_models() {
        let config = ModelConfig {
            width: 2,
            fpn_channels: 2,
            num_classes: 2,
            norm: crate::config::NormKind::BatchNorm,
            freeze_at: 0,
            ..ModelConfig::default()
        };
        let device = Device::flex().autodiff();
        let mut model = MaskRcnn::new(&config, 0, &device);
        let mut ema = Ema::new(&model, 0.5);
        // Each forward pass in training moves the statistics.
        let see = |model: &MaskRcnn, value: f32| {
            let image = Tensor::<4>::full([1, 3, 64, 64], value, &device);
            model.features(image);
        };
        see(&model, 3.0);
        see(&model, 5.0);
        ema.update(&model, 1);
        // Flushes the update that Burn delays, as a checkpoint does.
        model = model.no_grad();
        let before = state_dict(&model);
        let averaged = state_dict(&ema.apply(&model));
        let after = state_dict(&model);
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
        let name = before.keys().find(|name| name.ends_with("running_mean"));
        let name = name.expect("a batch norm");
        assert_ne!(
            format!("{:?}", averaged[name]),
            format!("{:?}", after[name])
        );
        // The average follows the formula on the next update, too.
        assert_eq!(
            format!("{averaged:?}"),
            format!("{:?}", state_dict(&ema.apply(&model)))
        );
    }
}
