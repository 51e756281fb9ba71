//! Two ranks on a device that samples on the device: equal to one process, with one read per step beside the exchange.

use super::reads::reads_of;
use super::small::{config, sample, small_image};
use burn::module::list_param_ids;
use burn::tensor::{Device, Tensor, TensorData};
use mrcnn_backends::BackendKind;
use mrcnn_backends::comm::{CommError, Communicator, Reduction};
use mrcnn_core::random::Stream;
use mrcnn_core::train::LossValues;
use mrcnn_core::train::parts::{
    Batch, ParamGradients, TrainSample, accumulated_losses_and_gradients,
    losses_and_gradients_of_ranks,
};
use mrcnn_core::{Config, MaskRcnn};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

const WORLD: usize = 2;

/// Two ranks as threads of this process, which exchange bytes through memory.
#[derive(Clone, Debug)]
pub(super) struct Threads {
    rank: usize,
    barrier: Arc<Barrier>,
    bytes: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Number of tensors that the exchange itself has read.
    reads: Arc<AtomicUsize>,
    /// Whether gradients are exchanged as with NCCL: those of the heads before those of the backbone are computed.
    overlaps: bool,
}

impl Threads {
    pub(super) fn ranks() -> [Self; WORLD] {
        let one = Self {
            rank: 0,
            barrier: Arc::new(Barrier::new(WORLD)),
            bytes: Arc::new(Mutex::new(vec![Vec::new(); WORLD])),
            reads: Arc::default(),
            overlaps: false,
        };
        [0, 1].map(|rank| Self {
            rank,
            ..one.clone()
        })
    }

    /// The mean of flat values over the ranks, as tensors of `lengths`.
    fn mean(
        &self,
        mine: TensorData,
        lengths: Vec<usize>,
        device: &Device,
    ) -> Result<Vec<Tensor<1>>, CommError> {
        let all = self.all_gather_bytes(mine.as_bytes())?;
        let values = |bytes: &Vec<u8>| -> Vec<f32> {
            let values = bytes.as_chunks::<4>().0.iter();
            values.map(|value| f32::from_le_bytes(*value)).collect()
        };
        let [first, second] = [values(&all[0]), values(&all[1])];
        let mut means = first.iter().zip(&second).map(|(a, b)| (a + b) / 2.0);
        let means = lengths.into_iter().map(|length| {
            let values: Vec<f32> = means.by_ref().take(length).collect();
            Tensor::from_data(TensorData::new(values, [length]), device)
        });
        Ok(means.collect())
    }
}

impl Communicator for Threads {
    fn name(&self) -> &'static str {
        "threads"
    }

    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        WORLD
    }

    fn all_reduce_mean(&self, tensors: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, CommError> {
        self.start_all_reduce_mean(tensors)?.finish()
    }

    fn start_all_reduce_mean(&self, tensors: Vec<Tensor<1>>) -> Result<Reduction<'_>, CommError> {
        let device = tensors[0].device();
        let lengths: Vec<usize> = tensors.iter().map(|tensor| tensor.dims()[0]).collect();
        self.reads.fetch_add(1, Ordering::SeqCst);
        let mine = Tensor::cat(tensors, 0).into_data();
        Ok(Reduction::until(move || self.mean(mine, lengths, &device)))
    }

    fn overlaps(&self) -> bool {
        self.overlaps
    }

    fn broadcast(&self, tensors: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, CommError> {
        Ok(tensors)
    }

    fn barrier(&self) -> Result<(), CommError> {
        self.barrier.wait();
        Ok(())
    }

    fn all_gather_bytes(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        self.bytes.lock().expect("no rank has failed")[self.rank] = mine.to_vec();
        self.barrier.wait();
        let all = self.bytes.lock().expect("no rank has failed").clone();
        self.barrier.wait();
        Ok(all)
    }

    fn mark(&self, _place: &str) {}

    fn waited(&self) -> Duration {
        Duration::ZERO
    }

    fn abort(&self) -> ! {
        std::process::exit(1)
    }
}

/// A network that samples all RoIs, so that no near-tie decides, and two images of different sizes and
/// numbers of objects.
fn inputs() -> (Config, Batch) {
    let mut config = config();
    let rpn = &mut config.model.rpn;
    (rpn.pre_nms_train, rpn.post_nms_train) = (20, 40);
    config.model.roi.batch_per_image = 256;
    let boxes = [[8.0, 10.0, 60.0, 70.0], [50.0, 20.0, 88.0, 88.0]];
    let images = [((128, 96), 2), ((96, 96), 1)];
    let samples = images.into_iter().map(|((width, height), objects)| {
        let image = small_image(width, height);
        let sample = sample(&image, &boxes[..objects]);
        TrainSample::new(image, &sample, &config.image, false)
    });
    let batch = Batch::new(samples.collect(), config.image.size_divisor);
    (config, batch)
}

type Step = (LossValues, ParamGradients);

/// The shards of both ranks: an image for each, or both for the first one.
fn shards(batch: &Batch, is_uneven: bool) -> [Batch; WORLD] {
    if is_uneven {
        let [_, _, height, width] = batch.shape;
        return [batch.clone(), Batch::of_shard(Vec::new(), (height, width))];
    }
    let mut shards = batch.clone().split(WORLD).into_iter();
    [0, 1].map(|rank| Batch {
        places: vec![rank],
        ..shards.next().expect("as many as ranks")
    })
}

/// One rank's step.
fn of_rank(config: &Config, shard: Batch, device: &Device, comm: &Threads) -> (Step, MaskRcnn) {
    let model = MaskRcnn::new(&config.model, 1, device);
    let stream = Stream::named("ranks", 0);
    let train = &config.train;
    let step = losses_and_gradients_of_ranks(comm, &model, shard, stream, device, train, 1.0);
    (step.expect("a step"), model)
}

fn together(
    config: &Config,
    shards: &[Batch; WORLD],
    device: &Device,
    overlaps: bool,
) -> (Vec<(Step, MaskRcnn)>, usize) {
    let ranks = Threads::ranks().map(|rank| Threads { overlaps, ..rank });
    let steps = thread::scope(|scope| {
        let start = |(comm, shard)| scope.spawn(move || of_rank(config, shard, device, comm));
        let ranks: Vec<_> = ranks.iter().zip(shards.clone()).map(start).collect();
        let steps = ranks.into_iter().map(|rank| rank.join().expect("a rank"));
        steps.collect()
    });
    (steps, ranks[0].reads.load(Ordering::SeqCst))
}

fn flat(gradients: ParamGradients, model: &MaskRcnn) -> Vec<f32> {
    let mut gradients = gradients.by_id();
    let ids = list_param_ids(model).into_iter();
    let gradients = ids.filter_map(|id| gradients.remove(&id));
    gradients
        .flat_map(|gradient| gradient.into_data().iter::<f32>().collect::<Vec<_>>())
        .collect()
}

fn assert_same(what: &str, found: (Step, &MaskRcnn), wanted: &(LossValues, Vec<f32>)) {
    let ((losses, gradients), model) = found;
    for ((name, found), (_, wanted)) in losses.named().zip(wanted.0.named()) {
        // Sums of f32 in another order, of activations that other kernels may have computed.
        let error = (found - wanted).abs() / wanted.abs();
        assert!(error <= 1e-5, "{what} {name}: {found}, not {wanted}");
    }
    let (found, wanted) = (flat(gradients, model), &wanted.1);
    assert_eq!(found.len(), wanted.len(), "{what}");
    let square = |of: &mut dyn Iterator<Item = f64>| of.map(|v| v * v).sum::<f64>().sqrt();
    let pairs = found.iter().zip(wanted);
    let difference = square(&mut pairs.map(|(a, b)| f64::from(a - b)));
    let norm = square(&mut wanted.iter().map(|&v| f64::from(v)));
    println!(
        "{what}: gradients {:.1e} of their norm apart",
        difference / norm
    );
    assert!(difference <= 1e-4 * norm, "{what}: {difference} of {norm}");
}

#[test]
fn ranks_and_micro_batches_on_a_device_equal_one_process_without_further_reads() {
    let (config, batch) = inputs();
    for (kind, device) in mrcnn_tests::devices() {
        let device = device.autodiff();
        let model = MaskRcnn::new(&config.model, 1, &device);
        let step = |count: usize| {
            let (stream, batch) = (Stream::named("ranks", 0), batch.clone());
            let step = accumulated_losses_and_gradients(&model, batch, count, stream, &device, 1.0);
            step.expect("a step")
        };
        let (losses, gradients) = step(1);
        let wanted = (losses, flat(gradients, &model));
        assert_same(
            &format!("{kind}, two micro-batches"),
            (step(2), &model),
            &wanted,
        );
        // Tuning reads clocks, so the first pass does not count.
        let even = shards(&batch, false);
        let together = |overlaps| together(&config, &even, &device, overlaps);
        // Both ways on the CPU; a GPU that the CPU simulates needs minutes for each.
        let ways: &[bool] = match kind {
            BackendKind::Cpu => &[false, true],
            _ => &[true],
        };
        for &overlaps in ways {
            for (rank, (step, model)) in together(overlaps).0.into_iter().enumerate() {
                let what = format!("{kind}, rank {rank}, overlap {overlaps}");
                assert_same(&what, (step, &model), &wanted);
            }
        }
        if kind == BackendKind::Cpu {
            continue;
        }
        let (_, reads) = reads_of(&device, || step(1));
        assert_eq!(reads, 1, "{kind}: reads of a step");
        let (_, reads) = reads_of(&device, || step(2));
        assert_eq!(reads, 1, "{kind}: reads of a step in two micro-batches");
        let ((_, exchanged), reads) = reads_of(&device, || together(true));
        let exchanges = "sample counts, gradients of the heads and of the backbone";
        assert_eq!(exchanged, 3 * WORLD, "{kind}: {exchanges}");
        assert_eq!(reads, exchanged + WORLD, "{kind}: reads of two ranks");
    }
}

/// A rank with two micro-batches, and one without images, which takes part in the same calls.
#[test]
fn a_rank_without_images_takes_part_in_the_exchange() {
    let (mut config, batch) = inputs();
    let device = Device::flex().autodiff();
    let model = MaskRcnn::new(&config.model, 1, &device);
    let stream = Stream::named("ranks", 0);
    let whole = accumulated_losses_and_gradients(&model, batch.clone(), 1, stream, &device, 1.0);
    let (losses, gradients) = whole.expect("a step");
    let wanted = (losses, flat(gradients, &model));
    config.train.accumulate = 2;
    let uneven = shards(&batch, true);
    for overlaps in [false, true] {
        let (ranks, _) = together(&config, &uneven, &device, overlaps);
        for (rank, (step, model)) in ranks.into_iter().enumerate() {
            let what = format!("uneven, rank {rank}, overlap {overlaps}");
            assert_same(&what, (step, &model), &wanted);
        }
    }
}
