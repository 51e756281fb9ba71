//! Dynamic loss scaling (Micikevicius et al., 2017, section 3.2).
//!
//! Half of the activation gradients of a detector are too small for f16. The loss is therefore multiplied by the
//! largest factor that does not overflow, and the gradients are divided by it in f32 before clipping. An
//! overflow is visible in the gradient norm, which is read anyway.

use crate::config::{LossScale, TrainConfig};
use mrcnn_backends::{Precision, Resolved};
use serde::{Deserialize, Serialize};

/// The state of the loss scale, for checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScaleState {
    /// The factor for the loss of the next step.
    pub scale: f64,
    /// Steps since it last changed.
    pub good_steps: usize,
    /// Number of consecutive skipped steps so far.
    pub skipped: usize,
}

/// Factor of the loss, adapted after each step.
#[derive(Clone, Debug)]
pub struct LossScaler {
    state: Option<ScaleState>,
    period: usize,
}

/// Initial factor of `auto`: so high that the first steps find the limit.
const START: f64 = 65536.0;

/// Consecutive overflows that end a run: by then the scale is about a millionth of its value before, mostly 1.
pub const MAX_SKIPPED: usize = 20;

impl LossScaler {
    /// As `train.loss_scale` configures it; by default it is used for f16 only.
    pub fn new(config: &TrainConfig, precision: Resolved) -> Self {
        let start = match config.loss_scale {
            LossScale::From(scale) => scale,
            LossScale::Auto(_) if precision.precision() == Precision::F16 => START,
            LossScale::Auto(_) => 0.0,
        };
        Self {
            state: (start > 0.0).then_some(ScaleState {
                scale: start,
                good_steps: 0,
                skipped: 0,
            }),
            period: config.loss_scale_period,
        }
    }

    /// Restores the state of a checkpoint. If loss scaling was on there and is off here, or the other way round, it
    /// starts with its initial state.
    pub fn resume(&mut self, saved: Option<ScaleState>) {
        if let (Some(state), Some(saved)) = (&mut self.state, saved) {
            *state = saved;
        }
    }

    /// The state; `None` if loss scaling is off.
    pub fn state(&self) -> Option<ScaleState> {
        self.state
    }

    /// The factor for the loss of the next step; 1 if loss scaling is off.
    pub fn factor(&self) -> f64 {
        self.state.map_or(1.0, |state| state.scale)
    }

    /// Records a step that updated the weights.
    pub fn applied(&mut self) {
        let Some(state) = &mut self.state else {
            return;
        };
        (state.good_steps, state.skipped) = (state.good_steps + 1, 0);
        if state.good_steps >= self.period {
            (state.scale, state.good_steps) = (state.scale * 2.0, 0);
        }
    }

    /// Records a step whose loss or gradient was not finite; returns the number of consecutive ones. `None` if
    /// loss scaling is off: a smaller scale cannot help then.
    pub fn overflowed(&mut self) -> Option<usize> {
        let state = self.state.as_mut()?;
        state.scale = (state.scale / 2.0).max(1.0);
        (state.good_steps, state.skipped) = (0, state.skipped + 1);
        Some(state.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AutoScale;
    use burn::tensor::Device;

    fn scaler(precision: Precision, loss_scale: LossScale) -> LossScaler {
        let config = TrainConfig {
            loss_scale,
            loss_scale_period: 3,
            ..TrainConfig::default()
        };
        let precision = precision.resolve(&Device::flex()).unwrap();
        LossScaler::new(&config, precision)
    }

    const AUTO: LossScale = LossScale::Auto(AutoScale::Auto);

    #[test]
    fn the_scale_follows_its_steps() {
        let mut scaler = scaler(Precision::F16, AUTO);
        let mut factors = vec![scaler.factor()];
        // o: an overflow.
        for step in "o..o...o".chars() {
            match step {
                'o' => assert!(scaler.overflowed().is_some()),
                _ => scaler.applied(),
            }
            factors.push(scaler.factor());
        }
        let halves = [1.0, 2.0, 2.0, 2.0, 4.0, 4.0, 4.0, 2.0, 4.0];
        assert_eq!(factors, halves.map(|by| 65536.0 / by));
        for skipped in 2..=21 {
            assert_eq!(scaler.overflowed(), Some(skipped));
        }
        assert_eq!(scaler.factor(), 1.0, "never below 1");
    }

    #[test]
    fn only_f16_is_scaled_by_default() {
        assert_eq!(scaler(Precision::F32, AUTO).factor(), 1.0);
        assert_eq!(scaler(Precision::Bf16, AUTO).state(), None);
        assert_eq!(scaler(Precision::F16, LossScale::From(0.0)).state(), None);
        assert_eq!(scaler(Precision::F32, LossScale::From(8.0)).factor(), 8.0);
        assert_eq!(scaler(Precision::F32, AUTO).overflowed(), None);
    }

    #[test]
    fn the_configuration_reads_back() {
        for (text, wanted) in [
            ("auto", AUTO),
            ("0", LossScale::From(0.0)),
            ("1024", LossScale::From(1024.0)),
        ] {
            let config = crate::Config::default();
            let config = config.with(&[format!("train.loss_scale={text}")]).unwrap();
            assert_eq!(config.train.loss_scale, wanted);
            let text = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<crate::Config>(&text).unwrap(), config);
        }
    }

    #[test]
    fn a_resumed_scale_continues() {
        let mut first = scaler(Precision::F16, AUTO);
        first.overflowed();
        first.applied();
        let mut second = scaler(Precision::F16, AUTO);
        second.resume(first.state());
        assert_eq!(second.state(), first.state());
        second.resume(None);
        assert_eq!(second.state(), first.state());
    }
}
