//! Steps recorded as graphs and replayed: the host launches a graph instead of hundreds of kernels.
//!
//! A graph reads and writes the buffers with which it was recorded. So its inputs and trained parameters have buffers
//! of their own, into which those of each step are copied, and its gradients stay in its own buffers until the next
//! replay.

use super::accumulate::step_on_device;
use super::gradients::ParamGradients;
use super::inputs::{FlatInputs, SampleInputs};
use super::losses::LossValues;
use super::params::{ParamWriter, trained};
use super::sums::read;
use crate::model::MaskRcnn;
use crate::random::Stream;
use crate::train::input::batch::Batch;
use burn::module::{Module, ParamId};
use burn::tensor::{Device, ExecutionError, Graph, Tensor, TensorData, capture};
use mrcnn_kernels::overwrite;

/// Recorded steps, one for each batch size and loss scale.
#[derive(Default)]
pub struct StepGraphs {
    /// Sizes without a graph, with the number of their steps so far.
    unrecorded: Vec<(Key, usize)>,
    recorded: Vec<(Key, StepGraph)>,
    /// Whether a recording failed after others, so that there is no memory for more.
    is_full: bool,
}

/// Key of a graph: the shapes of its inputs, and the loss scale.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    images: [usize; 4],
    /// Lengths of the other inputs.
    lengths: Vec<usize>,
    /// Bits of the loss scale.
    scale: u64,
}

/// Number of steps of a size before it is recorded: they tune its kernels.
const TUNING_STEPS: usize = 2;

/// Maximum number of graphs. Each keeps the memory of a step.
const MAX_GRAPHS: usize = 4;

impl StepGraphs {
    /// The losses and gradients of `batch`, as those of a step that is launched kernel by kernel. Fails if the device
    /// records no graph at all. The gradients are valid until the next call.
    pub fn losses_and_gradients(
        &mut self,
        model: &MaskRcnn,
        batch: Batch,
        stream: Stream,
        device: &Device,
        scale: f64,
    ) -> Result<(LossValues, ParamGradients), ExecutionError> {
        let inputs = Inputs::new(batch, stream, &device.clone().inner());
        let key = inputs.key(scale);
        // Graphs of another loss scale are of no use until it returns.
        self.recorded.retain(|(other, _)| other.scale == key.scale);
        let mut recorded = self.recorded.iter_mut();
        let (numbers, gradients) = match recorded.find(|(other, _)| *other == key) {
            Some((_, graph)) => graph.replay(model, Some(inputs)),
            None => match self.record(model, &inputs, key)? {
                Some(graph) => graph.replay(model, None),
                None => inputs.launch(model, scale),
            },
        };
        read(numbers, gradients)
    }

    /// Records a graph for `key`; `None` if it is not due, or if there is no memory for another graph. Fails if a
    /// recording fails while there is no other graph.
    fn record(
        &mut self,
        model: &MaskRcnn,
        inputs: &Inputs,
        key: Key,
    ) -> Result<Option<&mut StepGraph>, ExecutionError> {
        if !self.count_step(&key) {
            return Ok(None);
        }
        let scale = f64::from_bits(key.scale);
        if let Some(graph) = StepGraph::record(model, inputs.clone(), scale)? {
            self.recorded.push((key, graph));
            return Ok(self.recorded.last_mut().map(|(_, graph)| graph));
        }
        if self.recorded.is_empty() {
            return Err(ExecutionError::WithContext {
                reason: "the device does not record a step as a graph, or has no memory for it: set train.graph \
                         to false"
                    .into(),
            });
        }
        self.is_full = true;
        Ok(None)
    }

    /// Counts a step of a size without a graph, and returns whether the size is to be recorded now.
    fn count_step(&mut self, key: &Key) -> bool {
        if self.is_full || self.recorded.len() == MAX_GRAPHS {
            return false;
        }
        let Some(place) = self.unrecorded.iter().position(|(other, _)| other == key) else {
            self.unrecorded.push((key.clone(), 1));
            return false;
        };
        self.unrecorded[place].1 += 1;
        let is_due = self.unrecorded[place].1 > TUNING_STEPS;
        if is_due {
            self.unrecorded.remove(place);
        }
        is_due
    }
}

/// The inputs of a step in tensors of one dimension, which no view shares.
#[derive(Clone)]
struct Inputs {
    images: Tensor<1>,
    shape: [usize; 4],
    sampling: FlatInputs,
}

impl Inputs {
    fn new(batch: Batch, stream: Stream, device: &Device) -> Self {
        let sampling = SampleInputs::new(&batch, stream, device).flat();
        let length = batch.values.len();
        let values = TensorData::new(batch.values, [length]);
        Self {
            images: Tensor::from_data(values, device),
            shape: batch.shape,
            sampling,
        }
    }

    fn images(&self) -> Tensor<4> {
        self.images.clone().reshape(self.shape)
    }

    /// The step, launched kernel by kernel.
    fn launch(&self, model: &MaskRcnn, scale: f64) -> Output {
        let images = Tensor::from_inner(self.images());
        step_on_device(model, images, &self.sampling.shaped(), scale)
    }

    fn key(&self, scale: f64) -> Key {
        Key {
            images: self.shape,
            lengths: self.sampling.lengths(),
            scale: scale.to_bits(),
        }
    }
}

type Output = (Tensor<1>, ParamGradients);

/// A recorded step and the buffers that it reads.
struct StepGraph {
    inputs: Inputs,
    /// Trained parameters, flat, in the order of [`trained`].
    params: Vec<Tensor<1>>,
    graph: Graph<Output, Box<dyn FnMut() -> Output>>,
}

impl StepGraph {
    /// `None` if the device records no graph, or has no memory for it.
    fn record(
        model: &MaskRcnn,
        inputs: Inputs,
        scale: f64,
    ) -> Result<Option<Self>, ExecutionError> {
        let device = inputs.images.device();
        // Every replay overwrites them first.
        let buffers = trained(model).into_iter();
        let buffers = buffers.map(|(id, param)| (id, Tensor::zeros(param.dims(), &device)));
        let buffers: Vec<(ParamId, Tensor<1>)> = buffers.collect();
        device.sync()?;
        let params = buffers.iter().map(|(_, buffer)| buffer.clone()).collect();
        let own = model
            .clone()
            .map(&mut ParamWriter(buffers.into_iter().collect()));
        let fixed = inputs.clone();
        let step: Box<dyn FnMut() -> Output> = Box::new(move || fixed.launch(&own, scale));
        let graph = capture(&device, step);
        Ok(graph.is_hardware().then_some(Self {
            inputs,
            params,
            graph,
        }))
    }

    /// The step with the parameters of `model`, and with other inputs than the last ones if there are any.
    fn replay(&mut self, model: &MaskRcnn, inputs: Option<Inputs>) -> Output {
        let current = trained(model).into_iter().map(|(_, param)| param);
        let mut floats: Vec<_> = self.params.iter().cloned().zip(current).collect();
        let mut integers = Vec::new();
        if let Some(inputs) = inputs {
            floats.push((self.inputs.images.clone(), inputs.images));
            let (more, pairs) = self.inputs.sampling.pairs(inputs.sampling);
            floats.extend(more);
            integers = pairs;
        }
        let written = overwrite(floats, integers);
        // SAFETY: the graph's buffers are tensors of `self` and of its closure and output. The copies into them and all
        // that reads its output are enqueued on the stream of this thread, as the replay is.
        let output = unsafe { self.graph.replay() }.clone();
        drop(written);
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(side: usize) -> Key {
        Key {
            images: [2, 3, side, side],
            lengths: vec![side],
            scale: 0,
        }
    }

    #[test]
    fn a_size_is_recorded_at_its_third_step() {
        let mut graphs = StepGraphs::default();
        let due = [64, 64, 96, 64, 96, 96].map(|side| graphs.count_step(&key(side)));
        assert_eq!(due, [false, false, false, true, false, true]);
        assert!(
            graphs.unrecorded.is_empty(),
            "recorded sizes are not counted"
        );
        graphs.is_full = true;
        assert!(
            ![64; 4]
                .map(|side| graphs.count_step(&key(side)))
                .contains(&true)
        );
    }
}
