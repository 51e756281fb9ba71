//! Reads from a GPU: none between the upload of images and their detections.
//!
//! wgpu-core logs every mapping of a buffer; an operator that fell back to the CPU, or a
//! synchronous read, would map one.

use super::found::found;
use super::small::{config, sample, small_image, step_losses};
use burn::tensor::{Device, Tensor};
use mrcnn_backends::{
    BackendKind, buffer_reads, count_buffer_reads, count_tuned_kernels, tuned_kernels,
};
use mrcnn_core::MaskRcnn;
use mrcnn_core::Predictor;
use mrcnn_core::image::transform::{prepare, stack};
use mrcnn_core::random::Stream;
use mrcnn_core::train::parts::{Batch, TrainSample};
use mrcnn_core::weights::import::numbered;
use mrcnn_kernels::can_select;

/// Number of buffers that are mapped by `work` and by everything that was enqueued on `device` before its end.
pub fn reads_of<T>(device: &Device, work: impl FnOnce() -> T) -> (T, usize) {
    count_tuned_kernels(|_| ());
    let settle = || device.sync().expect("the device is alive");
    settle();
    assert!(count_buffer_reads(true), "the only logger");
    let before = buffer_reads();
    let result = work();
    settle();
    let after = buffer_reads();
    count_buffer_reads(false);
    (result, after - before)
}

/// Reads of a pass that tunes no kernel, because tuning reads clocks. The second pass may still tune: Burn can fuse its
/// operations differently from those of the first.
pub fn reads_of_tuned<T>(device: &Device, mut pass: impl FnMut() -> T) -> (T, usize) {
    for _ in 0..4 {
        let before = tuned_kernels();
        let found = reads_of(device, &mut pass);
        if tuned_kernels() == before {
            return found;
        }
    }
    panic!("each of 4 passes tuned kernels");
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

#[test]
fn nothing_is_read_before_the_detections() {
    let config = config();
    let images = [(128, 96), (96, 96)].map(|(w, h)| prepare(&small_image(w, h), &config.image));
    let (values, shape) = stack(&[&images[0], &images[1]], config.image.size_divisor);
    let sizes = images.each_ref().map(|p| (p.height as u32, p.width as u32));
    for (kind, device) in mrcnn_tests::devices() {
        if kind == BackendKind::Cpu {
            continue;
        }
        let model = MaskRcnn::new(&config.model, 1, &device);
        assert!(can_select(&device, &model.selection_limits()));
        let detect = || {
            let data = burn::tensor::TensorData::new(values.clone(), shape);
            model.detect_in_slots(Tensor::from_data(data, &device), &sizes)
        };
        let ((found, masks), reads) = reads_of_tuned(&device, detect);
        assert_eq!(reads, 0, "{kind}: buffers read before the detections");
        let (_, reads) = reads_of(&device, || pollster::block_on(found.read()));
        assert_eq!(reads, 1, "{kind}: reads of the detections");
        let (_, reads) = reads_of(&device, || floats(masks));
        assert_eq!(reads, 1, "{kind}: reads of the masks");
    }
}

#[test]
fn nothing_is_read_during_a_training_step() {
    let config = config();
    let image = small_image(128, 96);
    let sample = sample(&image, &[[8.0, 10.0, 60.0, 70.0], [50.0, 20.0, 90.0, 88.0]]);
    let sample = TrainSample::new(image, &sample, &config.image, false);
    let batch = Batch::new(vec![sample.clone(), sample], config.image.size_divisor);
    for (kind, device) in mrcnn_tests::devices() {
        if kind == BackendKind::Cpu {
            continue;
        }
        let device = device.autodiff();
        let model = MaskRcnn::new(&config.model, 1, &device);
        let step = || {
            let (losses, _) = step_losses(&model, &batch, Stream::named("reads", 0), &device);
            let gradients = losses.total().backward();
            (losses.values(), gradients)
        };
        let ((losses, _gradients), reads) = reads_of_tuned(&device, step);
        assert_eq!(reads, 0, "{kind}: buffers read during a step");
        let (losses, reads) = reads_of(&device, || floats(losses.inner()));
        assert_eq!(reads, 1, "{kind}: reads of the losses");
        assert!(losses.iter().all(|loss| loss.is_finite()));
    }
}

#[test]
fn predictions_are_detections_pasted_on_the_host() {
    let config = config();
    let images = [small_image(300, 190), small_image(160, 160)];
    let planes = images.each_ref().map(|p| prepare(p, &config.image));
    for (kind, device) in mrcnn_tests::devices() {
        let model = MaskRcnn::new(&config.model, 1, &device);
        let builder = Predictor::builder().model(model, numbered(2));
        let predictor = builder.config(config.clone()).build().expect("a predictor");
        let found = found(&predictor, &planes);
        let images: Vec<_> = images.iter().collect();
        let predicted = predictor.predict_batch(&images).expect("detections");
        let (mut pixels, mut off) = (0u64, 0u64);
        for (index, found) in found.into_iter().enumerate() {
            let resized = (planes[index].height as u32, planes[index].width as u32);
            let original = (images[index].height(), images[index].width());
            assert_eq!(found.len(), predicted[index].len(), "{kind}");
            assert!(found.len() > 3, "{kind}: {} detections", found.len());
            for (found, predicted) in found.into_iter().zip(&predicted[index]) {
                let found = found.into_detection(resized, original);
                assert_eq!(found.label, predicted.label, "{kind}");
                let [a, b] =
                    [&found, predicted.detection].map(|d| d.mask.to_row_major_raster_bytes());
                pixels += a.iter().map(|&cell| u64::from(cell)).sum::<u64>();
                off += a.iter().zip(&b).filter(|(a, b)| a != b).count() as u64;
            }
        }
        println!("{kind}: {off} of {pixels} pixels differ");
        assert!(pixels > 1000, "{kind}: {pixels} pixels");
        // Bit-equal on the CPU. A GPU may select other kernels in between, which round
        // differently at the threshold.
        let allowed = if kind == BackendKind::Cpu {
            0
        } else {
            pixels / 1000
        };
        assert!(off <= allowed, "{kind}: {off} of {pixels} pixels differ");
    }
}
