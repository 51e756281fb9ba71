//! Normalisation: frozen batch norm folded into the convolution, batch norm, group norm.

use super::layers::{Conv2d, full, like, zeros};
use crate::config::{ModelConfig, NormKind};
use burn::module::{Module, Param, RunningState};
use burn::tensor::{Device, Tensor, activation::relu, module};
use mrcnn_kernels::{ConvParams, conv2d, group_norm};

/// Normalisation of a convolution's output, with torch's parameter names.
#[derive(Module, Debug)]
pub struct Norm {
    /// Scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// Mean of each channel; batch norms only.
    pub running_mean: Option<RunningState<Tensor<1>>>,
    /// Variance of each channel; batch norms only.
    pub running_var: Option<RunningState<Tensor<1>>>,
    #[module(skip)]
    rule: Rule,
}

#[derive(Clone, Debug)]
struct Rule {
    groups: usize,
    epsilon: f64,
    momentum: f64,
    /// Frozen norms use their running statistics in training too.
    frozen: bool,
}

impl Norm {
    /// A norm of `kind` over `channels`; `None` for [`NormKind::None`].
    pub fn new(
        kind: NormKind,
        channels: usize,
        frozen: bool,
        config: &ModelConfig,
        device: &Device,
    ) -> Option<Self> {
        let batch = matches!(kind, NormKind::FrozenBn | NormKind::BatchNorm);
        let running =
            |value: f32| batch.then(|| RunningState::new(Tensor::full([channels], value, device)));
        let rule = Rule {
            groups: largest_divisor(channels, config.norm_groups),
            epsilon: config.norm_eps,
            momentum: config.norm_momentum,
            frozen: frozen || kind == NormKind::FrozenBn,
        };
        (kind != NormKind::None).then(|| Self {
            weight: zeros([channels], device),
            bias: zeros([channels], device),
            running_mean: running(0.0),
            running_var: running(1.0),
            rule,
        })
    }

    /// Convolution and norm, then the residual added and a ReLU if `rectify`: `[n, in, h, w]` ->
    /// `[n, out, h', w']`, in the dtype of `x`.
    ///
    /// Fixed statistics are folded: `conv(x, W * s) + b` reads the activation once instead of twice. Others
    /// are taken and applied in f32.
    pub fn after(
        &self,
        conv: &Conv2d,
        x: Tensor<4>,
        mut residual: Option<Tensor<4>>,
        rectify: bool,
    ) -> Tensor<4> {
        let output = match (&self.running_mean, &self.running_var) {
            (Some(mean), Some(var)) if self.rule.frozen || !x.device().is_autodiff() => {
                let scale = self.weight.val() / (var.value() + self.rule.epsilon).sqrt();
                let shift = self.bias.val() - mean.value() * scale.clone();
                let folded = ConvParams {
                    scale: Some(scale),
                    bias: Some(shift),
                    ..conv.params()
                };
                return conv2d(x, folded, residual, rectify);
            }
            (Some(mean), Some(var)) => {
                let y = conv.forward(x.clone());
                like(self.batch_norm(full(y), mean, var), &x)
            }
            _ => {
                let y = full(conv.forward(x.clone()));
                let (weight, bias) = (self.weight.val(), self.bias.val());
                let Rule {
                    groups, epsilon, ..
                } = self.rule;
                // In f32 what follows is part of the norm; else it follows in the dtype of x.
                let same = y.dtype() == x.dtype();
                let (residual_now, relu_now) = match same {
                    true => (residual.take(), rectify),
                    false => (None, false),
                };
                let y = group_norm(y, weight, bias, groups, epsilon, residual_now, relu_now);
                if same {
                    return y;
                }
                like(y, &x)
            }
        };
        let output = match residual {
            Some(residual) => output + residual,
            None => output,
        };
        if rectify { relu(output) } else { output }
    }

    fn batch_norm(
        &self,
        x: Tensor<4>,
        mean: &RunningState<Tensor<1>>,
        var: &RunningState<Tensor<1>>,
    ) -> Tensor<4> {
        let [n, _, h, w] = x.dims();
        let result =
            module::batch_norm_train(x, self.weight.val(), self.bias.val(), self.rule.epsilon);
        // The running variance is the unbiased one, as in torch.
        let count = (n * h * w) as f64;
        let unbiased = count / (count - 1.0).max(1.0);
        let momentum = self.rule.momentum;
        let blend = |state: &RunningState<Tensor<1>>, new: Tensor<1>| {
            let old = state.value_sync();
            state.update((old * (1.0 - momentum) + new.detach() * momentum).detach());
        };
        blend(mean, result.mean);
        blend(var, result.variance * unbiased);
        result.output
    }
}

/// The largest number of groups up to `groups` that divides `channels`.
fn largest_divisor(channels: usize, groups: usize) -> usize {
    (1..=groups.clamp(1, channels.max(1)))
        .rev()
        .find(|g| channels.is_multiple_of(*g))
        .unwrap_or(1)
}

/// Convolution, optional norm and, if `rectify`, ReLU: torchvision's `Conv2dNormActivation`.
pub(crate) fn conv_norm(
    conv: &Conv2d,
    norm: &Option<Norm>,
    x: Tensor<4>,
    rectify: bool,
) -> Tensor<4> {
    match norm {
        Some(norm) => norm.after(conv, x, None, rectify),
        None => conv2d(x, conv.params(), None, rectify),
    }
}

/// The end of a residual block: `relu(norm(conv(x)) + residual)`.
pub(super) fn conv_norm_add(
    conv: &Conv2d,
    norm: &Option<Norm>,
    x: Tensor<4>,
    residual: Tensor<4>,
) -> Tensor<4> {
    match norm {
        Some(norm) => norm.after(conv, x, Some(residual), true),
        None => conv2d(x, conv.params(), Some(residual), true),
    }
}
