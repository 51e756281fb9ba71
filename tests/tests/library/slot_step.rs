//! A training step with samples in fixed slots equals one without padding.

use super::small::{config, sample, small_image, step_losses};
use burn::module::{Module, ModuleMapper, Param, list_param_ids};
use burn::tensor::{Device, Tensor};
use mrcnn_backends::BackendKind;
use mrcnn_core::config::{Backbone, NormKind};
use mrcnn_core::random::Stream;
use mrcnn_core::train::Losses;
use mrcnn_core::train::parts::{
    Batch, GroundTruth, ParamGradients, Replicas, StepFeatures, TrainSample, losses,
    sample_in_slots,
};
use mrcnn_core::weights::state_dict;
use mrcnn_core::{Config, MaskRcnn};
use mrcnn_kernels::{MAX_TOP_K, can_select};
use mrcnn_tests::close::{magnitude, max_abs_error};

/// Images without objects, with one, and with more than 16: the slots of the ground truth double.
fn batches(config: &Config) -> Vec<Batch> {
    let two = vec![[8.0, 10.0, 60.0, 70.0], [50.0, 20.0, 90.0, 88.0]];
    let many: Vec<[f32; 4]> = (0..37)
        .map(|i| {
            let (x, y) = ((i * 13 % 90) as f32, (i * 29 % 70) as f32);
            [x, y, x + 6.0 + (i % 9) as f32, y + 5.0 + (i % 14) as f32]
        })
        .collect();
    let images = |all: &[(u32, u32, &[[f32; 4]])]| {
        let samples = all.iter().map(|&(width, height, boxes)| {
            let image = small_image(width, height);
            let sample = sample(&image, boxes);
            TrainSample::new(image, &sample, &config.image, false)
        });
        Batch::new(samples.collect(), config.image.size_divisor)
    };
    let empty = images(&[(96, 96, &[])]);
    assert_eq!(empty.gts, [GroundTruth::default()]);
    vec![
        images(&[(128, 96, &two), (96, 96, &two[..1])]),
        images(&[(100, 90, &many), (96, 120, &[])]),
        empty,
    ]
}

type Step = (Vec<f64>, Vec<Vec<f32>>);

fn outcome(model: &MaskRcnn, losses: &Losses) -> Step {
    let values: Vec<f64> = losses.values().inner().into_data().iter::<f64>().collect();
    let gradients = ParamGradients::of(model, &losses.total().backward());
    step_of(model, values, gradients)
}

/// Losses, gradients, and the statistics of batch norms, which the step moved.
fn step_of(model: &MaskRcnn, values: Vec<f64>, gradients: ParamGradients) -> Step {
    let mut gradients = gradients.by_id();
    // Ids differ between models, but their order does not.
    let ids = list_param_ids(model).into_iter();
    let gradients = ids.filter_map(|id| gradients.remove(&id));
    let gradients = gradients.map(|gradient| gradient.into_data().iter::<f32>().collect());
    // Steps also move the statistics of batch norms.
    let statistics = state_dict(model).into_iter();
    let statistics = statistics.filter(|(name, _)| name.contains(".running_"));
    let statistics = statistics.map(|(_, data)| data.iter::<f32>().collect());
    (values, gradients.chain(statistics).collect())
}

/// Losses are sums in another order: 1e-5 relative. A gradient is compared by its largest value.
fn assert_same(what: &str, found: &Step, wanted: &Step, tolerance: f64) {
    for ((name, found), wanted) in Losses::NAMES.iter().zip(&found.0).zip(&wanted.0) {
        let error = (found - wanted).abs();
        assert!(
            error <= 1e-5 * wanted.abs(),
            "{what} {name}: {found}, not {wanted}"
        );
    }
    assert_eq!(found.1.len(), wanted.1.len(), "{what}: parameters");
    let mut worst = 0.0f64;
    for (found, wanted) in found.1.iter().zip(&wanted.1) {
        let error = max_abs_error(found, wanted).0 / magnitude(wanted).max(1e-3);
        worst = worst.max(error);
    }
    println!("{what}: gradients within {worst:.1e} of their largest values");
    assert!(worst < tolerance, "{what}: a gradient is off by {worst}");
}

/// The CPU removes padded slots, other devices keep them: the samples, losses and gradients are the same.
#[test]
fn slots_follow_dense_samples() {
    slots_follow(config());
}

/// The statistics of batch norms in the heads are those of the samples without padding.
#[test]
fn slots_follow_dense_samples_with_batch_norm_in_the_heads() {
    let mut config = config();
    config.model.head_norm = NormKind::BatchNorm;
    (config.model.box_head.convs, config.model.rpn.convs) = (1, 2);
    slots_follow(config);
}

fn slots_follow(config: Config) {
    let cpu = Device::flex().autodiff();
    let wanted: Vec<Step> = batches(&config)
        .iter()
        .enumerate()
        .map(|(seed, batch)| {
            let model = MaskRcnn::new(&config.model, 1, &cpu);
            let stream = Stream::named("slots", seed as u64);
            let (losses, _) = step_losses(&model, batch, stream, &cpu);
            outcome(&model, &losses)
        })
        .collect();
    for (kind, device) in mrcnn_tests::devices() {
        let device = device.autodiff();
        // A software adapter tunes the kernels of every shape for minutes, so the last one is left out.
        let count = if kind == BackendKind::Cpu { 3 } else { 2 };
        let batches = batches(&config).into_iter().take(count);
        for (seed, (batch, wanted)) in batches.zip(&wanted).enumerate() {
            let model = MaskRcnn::new(&config.model, 1, &device);
            let stream = Stream::named("slots", seed as u64);
            let step = StepFeatures::new(&model, &batch, &device, false);
            let samples = sample_in_slots(&model, &batch, &step, stream);
            let found = losses(&model, step, &samples, &samples.counts());
            let found = outcome(&model, &found);
            // Another device rounds the activations themselves differently.
            let tolerance = 2e-3;
            assert_same(&format!("{kind} batch {seed}"), &found, wanted, tolerance);
        }
    }
}

/// Multiplies the elements of vectors, norms and their statistics among them, by different numbers.
struct Vary;

impl ModuleMapper for Vary {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if D != 1 {
            return param;
        }
        param.map(|value| {
            let count = value.shape().num_elements();
            let factors: Vec<f32> = (0..count).map(|i| 0.7 + 0.1 * (i % 7) as f32).collect();
            let is_trained = value.is_require_grad();
            let value = value.inner();
            let factors = Tensor::<1>::from_floats(factors.as_slice(), &value.device());
            let varied = value.clone() * factors.reshape(value.shape());
            Tensor::from_inner(varied).set_require_grad(is_trained)
        })
    }
}

/// A step with weights that are prepared for a GPU, with their norms folded and their gradients restored, equals that
/// of the CPU, whose layers read the parameters themselves.
#[test]
fn prepared_weights_give_the_same_step() {
    let frozen = NormKind::FrozenBn;
    let [mut folded, mut grouped, mut trained] = [config(), config(), config()];
    (folded.model.norm, folded.model.head_norm) = (frozen, frozen);
    folded.model.box_head.convs = 1;
    (grouped.model.backbone, grouped.model.groups) = (Backbone::Resnet50, 2);
    grouped.model.norm = frozen;
    (trained.model.norm, trained.model.head_norm) = (NormKind::BatchNorm, NormKind::GroupNorm);
    for (what, config) in [
        ("folded", folded),
        ("grouped", grouped),
        ("trained", trained),
    ] {
        let step_on = |device: &Device| -> Step {
            let device = device.clone().autodiff();
            let model = MaskRcnn::new(&config.model, 1, &device).map(&mut Vary);
            let (batch, stream) = (batches(&config).remove(0), Stream::named("prepared", 0));
            let whole = Replicas::new(1).expect("no threads of its own");
            let found = whole.losses_and_gradients(&model, batch, stream, &device, 1.0);
            let (losses, gradients) = found.expect("a step");
            let values = losses.named().map(|(_, loss)| f64::from(loss));
            step_of(&model, values.collect(), gradients)
        };
        let wanted = step_on(&Device::flex());
        for (kind, device) in mrcnn_tests::devices() {
            if kind != BackendKind::Cpu {
                let found = step_on(&device);
                // As in `slots_follow`.
                assert_same(&format!("{kind}, {what}"), &found, &wanted, 2e-3);
            }
        }
    }
}

/// The losses of the RPN and their gradients from the windows of few anchors equal those from a graph over the whole
/// pyramid.
#[test]
fn windows_of_anchors_follow_the_whole_pyramid() {
    for convs in [1, 2] {
        let mut config = config();
        (config.model.rpn.convs, config.model.rpn.batch_per_image) = (convs, 8);
        let batch = &batches(&config)[0];
        for (kind, device) in mrcnn_tests::devices() {
            let device = device.autodiff();
            let model = MaskRcnn::new(&config.model, 1, &device);
            let step = StepFeatures::new(&model, batch, &device, false);
            assert!(
                !step.has_rpn_graph(),
                "few anchors need no graph of the RPN"
            );
            let samples = sample_in_slots(&model, batch, &step, Stream::named("windows", 0));
            let of = |step| outcome(&model, &losses(&model, step, &samples, &samples.counts()));
            let found = of(step);
            let step = StepFeatures::with_rpn_graph(&model, batch, &device);
            assert!(step.has_rpn_graph());
            let wanted = of(step);
            // The same sums in another order.
            let what = format!("{kind}, {convs} convolutions");
            assert_same(&what, &found, &wanted, 1e-4);
        }
    }
}

/// A GPU selects at most [`MAX_TOP_K`] boxes at a time; more are selected on the CPU, and detection and training continue on
/// the GPU.
#[test]
fn more_boxes_than_a_gpu_selects() {
    let mut config = config();
    let rpn = &mut config.model.rpn;
    (rpn.pre_nms_train, rpn.pre_nms_test) = (MAX_TOP_K + 1, MAX_TOP_K + 1);
    let batch = &batches(&config)[0];
    let losses_on = |device: &Device| -> Vec<f64> {
        let device = device.clone().autodiff();
        let model = MaskRcnn::new(&config.model, 1, &device);
        let stream = Stream::named("slots", 0);
        let (losses, _) = step_losses(&model, batch, stream, &device);
        losses.values().inner().into_data().iter::<f64>().collect()
    };
    let wanted = losses_on(&Device::flex());
    for (kind, device) in mrcnn_tests::devices() {
        let model = MaskRcnn::new(&config.model, 1, &device);
        assert_eq!(
            can_select(&device, &model.selection_limits()),
            kind == BackendKind::Cpu
        );
        let features = model.features(batch.images(&device));
        let proposals = model.propose(&features, &batch.sizes);
        let proposals = pollster::block_on(proposals).expect("proposals");
        assert_eq!(proposals.scores.device(), device, "{kind}");
        let found = model.detect_boxes(&features, proposals, &batch.sizes);
        assert_eq!(pollster::block_on(found).expect("boxes").len(), 2, "{kind}");
        for (found, wanted) in losses_on(&device).iter().zip(&wanted) {
            // Another device rounds the activations differently.
            assert!(
                (found - wanted).abs() <= 1e-3 * wanted,
                "{kind}: {found}, {wanted}"
            );
        }
    }
}
