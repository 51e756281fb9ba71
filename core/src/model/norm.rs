//! Normalization: frozen batch norm folded into the convolution, batch norm, group norm.

use super::init::{Fill, Init};
use super::layers::{Conv2d, full, like};
use super::memory::{Activations, FLOAT};
use crate::config::{ModelConfig, NormKind};
use burn::module::{Module, Param, RunningState};
use burn::tensor::{Tensor, activation::relu, module};
use mrcnn_kernels::{ConvParams, group_norm, has_selection_kernels};

/// Normalization of a convolution's output, with torch's parameter names.
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
    is_frozen: bool,
}

/// Settings of a [`Norm`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormSettings {
    /// Kind of normalization.
    pub kind: NormKind,
    /// Number of groups of group norm.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f64,
    /// Momentum of the running statistics: the weight of the new batch.
    pub momentum: f64,
}

impl NormSettings {
    /// The norms of the backbone.
    pub fn of_body(config: &ModelConfig) -> Self {
        Self {
            kind: config.norm,
            groups: config.norm_groups,
            epsilon: config.norm_eps,
            momentum: config.norm_momentum,
        }
    }

    /// The norms of the FPN, the box head and the mask head.
    pub fn of_heads(config: &ModelConfig) -> Self {
        Self {
            kind: config.head_norm,
            ..Self::of_body(config)
        }
    }
}

/// A norm whose statistics are fixed.
pub(crate) struct FixedNorm {
    /// Weight, bias, mean and variance, `[channels]`.
    pub(crate) tensors: [Tensor<1>; 4],
    pub(crate) epsilon: f64,
}

impl Norm {
    /// A norm over `channels`; `None` for [`NormKind::None`].
    pub fn new(init: &Init<'_>, channels: usize, settings: NormSettings) -> Option<Self> {
        let kind = settings.kind;
        if kind == NormKind::None {
            return None;
        }
        let init = init.frozen(kind == NormKind::FrozenBn);
        let has_statistics = matches!(kind, NormKind::FrozenBn | NormKind::BatchNorm);
        let running = |value: f32| {
            let values = Tensor::full([channels], value, init.device());
            has_statistics.then(|| RunningState::new(values))
        };
        Some(Self {
            weight: init.param("weight", [channels], Fill::Constant(1.0)),
            bias: init.param("bias", [channels], Fill::Constant(0.0)),
            running_mean: running(0.0),
            running_var: running(1.0),
            rule: Rule {
                groups: largest_divisor(channels, settings.groups),
                epsilon: settings.epsilon,
                momentum: settings.momentum,
                is_frozen: init.is_frozen(),
            },
        })
    }

    /// Its parameters and statistics, if they are the same for every batch: frozen, or without a graph (`!is_tracked`).
    pub(crate) fn fixed(&self, is_tracked: bool) -> Option<FixedNorm> {
        let (mean, var) = (self.running_mean.as_ref()?, self.running_var.as_ref()?);
        (self.rule.is_frozen || !is_tracked).then(|| FixedNorm {
            tensors: [
                self.weight.val(),
                self.bias.val(),
                mean.value(),
                var.value(),
            ],
            epsilon: self.rule.epsilon,
        })
    }

    /// Bytes per output that the backward pass needs of a convolution with this norm and a ReLU; `bytes` is the size of
    /// an activation. Norms compute in f32.
    fn kept(&self, bytes: u64) -> u64 {
        match (&self.running_mean, self.rule.is_frozen) {
            // The output of the ReLU, which is the input of the next layer.
            (Some(_), true) => bytes,
            (Some(_), false) => FLOAT + bytes,
            // A single operator on the CPU: its input, and the output of the ReLU.
            (None, _) if bytes == FLOAT && !has_selection_kernels(&self.weight.val().device()) => {
                FLOAT + bytes
            }
            // Centered, normalized, and the output of the ReLU.
            (None, _) => 2 * FLOAT + bytes,
        }
    }

    /// Convolution and norm, then the residual added and a ReLU if `rectify`: `[n, in, h, w]` ->
    /// `[n, out, h', w']`, in the dtype of `x`.
    ///
    /// Fixed statistics are folded: `conv(x, W * s) + b` reads the activation once instead of twice. Other norms
    /// are computed and applied in f32.
    pub fn conv_norm(
        &self,
        conv: &Conv2d,
        x: Tensor<4>,
        mut residual: Option<Tensor<4>>,
        rectify: bool,
    ) -> Tensor<4> {
        if let Some(FixedNorm { tensors, epsilon }) = self.fixed(x.device().is_autodiff()) {
            let [weight, bias, mean, var] = tensors;
            let scale = weight / (var + epsilon).sqrt();
            let shift = bias - mean * scale.clone();
            let folded = ConvParams {
                scale: Some(scale),
                // Cast here, so that it is part of the same launch on GPUs.
                bias: Some(like(shift, &x)),
                ..conv.params()
            };
            return conv.forward_with(x, folded, residual, rectify);
        }
        let output = match (&self.running_mean, &self.running_var) {
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
                // In f32 the residual and the ReLU are part of the norm; otherwise they follow in the dtype of x.
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

    /// [`Self::conv_norm`] and a ReLU for pooled RoIs `[r, in, h, w]` of a training step, of which those with 0 in
    /// `valid [r]` are padding: the statistics of a batch norm are those of the other RoIs.
    pub(crate) fn conv_norm_of_rois(
        &self,
        conv: &Conv2d,
        x: Tensor<4>,
        valid: &Tensor<1>,
    ) -> Tensor<4> {
        match (&self.running_mean, &self.running_var) {
            (Some(mean), Some(var)) if !self.rule.is_frozen && x.device().is_autodiff() => {
                let y = full(conv.forward(x.clone()));
                relu(like(self.masked_batch_norm(y, valid, [mean, var]), &x))
            }
            _ => self.conv_norm(conv, x, None, true),
        }
    }

    /// Batch norm with the statistics of the rows that are 1 in `valid`.
    ///
    /// Sums over the cells of a RoI come first, so that the graph keeps one tensor of the size of `x`.
    fn masked_batch_norm(
        &self,
        x: Tensor<4>,
        valid: &Tensor<1>,
        [mean, var]: [&RunningState<Tensor<1>>; 2],
    ) -> Tensor<4> {
        let [rows, channels, h, w] = x.dims();
        let valid = full(valid.clone()).reshape([rows, 1]);
        let count = valid.clone().sum() * (h * w) as f64;
        let divisor = count.clone().clamp_min(1.0);
        let mean_of = |values: Tensor<4>| {
            let of_rows = values.reshape([rows, channels, h * w]).sum_dim(2);
            let sum = (of_rows.reshape([rows, channels]) * valid.clone()).sum_dim(0);
            sum.reshape([channels]) / divisor.clone()
        };
        let per_channel = |values: Tensor<1>| values.reshape([1, channels, 1, 1]);
        let new_mean = mean_of(x.clone());
        let centered = x - per_channel(new_mean.clone());
        let new_var = mean_of(centered.clone() * centered.clone());
        let scale = self.weight.val() / (new_var.clone() + self.rule.epsilon).sqrt();
        // Without a valid row the statistics stay.
        let momentum = count.clone().clamp_max(1.0) * self.rule.momentum;
        self.blend(mean, new_mean, momentum.clone());
        let unbiased = count.clone() / (count - 1.0).clamp_min(1.0);
        self.blend(var, new_var * unbiased, momentum);
        centered * per_channel(scale) + per_channel(self.bias.val())
    }

    /// Moves running statistics by `momentum [1]` towards those of a batch.
    fn blend(&self, state: &RunningState<Tensor<1>>, new: Tensor<1>, momentum: Tensor<1>) {
        let old = state.value_sync();
        let step = (new.detach() - old.clone()) * momentum.detach();
        state.update((old + step).detach());
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
        let momentum = Tensor::full([1], self.rule.momentum, &result.mean.device());
        self.blend(mean, result.mean, momentum.clone());
        self.blend(var, result.variance * unbiased, momentum);
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
        Some(norm) => norm.conv_norm(conv, x, None, rectify),
        None => conv.forward_with(x, conv.params(), None, rectify),
    }
}

/// [`conv_norm`] and a ReLU for pooled RoIs; `valid` is their valid mask `[r]` in training.
pub(crate) fn conv_norm_of_rois(
    (conv, norm): (&Conv2d, &Option<Norm>),
    x: Tensor<4>,
    valid: Option<&Tensor<1>>,
) -> Tensor<4> {
    match (norm, valid) {
        (Some(norm), Some(valid)) => norm.conv_norm_of_rois(conv, x, valid),
        _ => conv_norm(conv, norm, x, true),
    }
}

/// The end of a residual block: `relu(norm(conv(x)) + residual)`.
pub(crate) fn conv_norm_add(
    conv: &Conv2d,
    norm: &Option<Norm>,
    x: Tensor<4>,
    residual: Tensor<4>,
) -> Tensor<4> {
    match norm {
        Some(norm) => norm.conv_norm(conv, x, Some(residual), true),
        None => conv.forward_with(x, conv.params(), Some(residual), true),
    }
}

/// Counts the memory of [`conv_norm`] with an output of `cells` rows times columns, which is kept for a later layer if
/// `is_kept`.
pub(crate) fn count_conv_norm(
    memory: &mut Activations,
    conv: &Conv2d,
    norm: &Option<Norm>,
    cells: u64,
    is_kept: bool,
) {
    let bytes = memory.bytes;
    let kept = norm.as_ref().map_or(bytes, |norm| norm.kept(bytes));
    let kept = if is_kept { kept } else { kept - bytes };
    let is_trained = conv.weight.val().is_require_grad();
    memory.add(conv.settings().output as u64 * cells, kept, is_trained);
}
