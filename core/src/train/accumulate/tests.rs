use super::*;
use crate::benchmark::synthetic_images;
use crate::config::{Backbone, Config, NormKind};
use crate::train::TrainSample;
use burn::module::list_param_ids;

/// Four pictures of unlike sizes and a network that samples of them all there is: what is sampled does
/// not hang on near-ties.
fn step() -> (MaskRcnn, Batch, Device) {
    let mut config = Config::default();
    let model = &mut config.model;
    model.backbone = Backbone::Resnet18;
    (model.width, model.fpn_channels, model.num_classes) = (4, 8, 5);
    (model.norm, model.head_norm, model.freeze_at) = (NormKind::GroupNorm, NormKind::None, 0);
    (model.rpn.pre_nms_train, model.rpn.post_nms_train) = (20, 40);
    model.rpn.anchor_sizes = vec![8.0, 16.0, 32.0, 64.0, 128.0];
    (model.roi.batch_per_image, model.box_head.hidden) = (256, 16);
    (model.mask_head.convs, model.mask_head.hidden) = (vec![8], 8);
    (config.image.min_size, config.image.max_size) = (96, 160);
    let device = Device::flex().autodiff();
    let (pictures, dataset) = synthetic_images(4, 4);
    let samples = pictures.into_iter().zip(&dataset.samples);
    let samples =
        samples.map(|(image, sample)| TrainSample::new(image, sample, &config.image, false));
    let batch = Batch::new(samples.collect(), config.image.size_divisor);
    (MaskRcnn::new(&config.model, 1, &device), batch, device)
}

fn read(model: &MaskRcnn, gradients: ParamGradients) -> Vec<Vec<f32>> {
    let mut gradients = gradients.by_id();
    let ids = list_param_ids(model).into_iter();
    let gradients = ids.filter_map(|id| gradients.remove(&id));
    gradients
        .map(|gradient| gradient.into_data().iter::<f32>().collect())
        .collect()
}

/// The device's way of sampling, here on the processor.
#[test]
fn slots_in_parts_are_the_whole() {
    let (model, batch, device) = step();
    let stream = Stream::named("accumulate", 0);
    let run = |count: usize| {
        let parts = micro_batches(batch.clone(), count);
        assert_eq!(parts.len(), count);
        let (values, gradients) = slot_parts(&model, &parts, stream, &device, 1.0).unwrap();
        (read_losses(values).unwrap(), read(&model, gradients))
    };
    let (losses, gradients) = run(1);
    let whole = super::super::slot_losses(&model, &batch, stream, &device);
    assert_eq!(losses, read_losses(whole.values().inner()).unwrap());
    for count in [2, 4] {
        let (found, parts) = run(count);
        for (found, wanted) in found.iter().zip(losses) {
            // Sums of f32 in another order.
            assert!((found - wanted).abs() <= 2e-6 * wanted, "{found}, {wanted}");
        }
        let pairs = || parts.iter().flatten().zip(gradients.iter().flatten());
        let apart: f64 = pairs().map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let length: f64 = pairs().map(|(_, b)| f64::from(*b).powi(2)).sum();
        let apart = (apart / length).sqrt();
        println!("{count} parts: gradients {apart:.1e} of their length apart");
        assert!(apart <= 1e-6, "{count} parts: {apart}");
    }
}

#[test]
fn parts_keep_padding_and_places() {
    let (_, batch, _) = step();
    let parts = micro_batches(batch.clone(), 2);
    let places: Vec<_> = parts.iter().map(|part| part.places.clone()).collect();
    assert_eq!(places, [vec![0, 1], vec![2, 3]]);
    assert!(parts.iter().all(|part| part.shape[2..] == batch.shape[2..]));
    let none = Batch::of_share(Vec::new(), (32, 32));
    assert!(micro_batches(none, 2).is_empty());
}
