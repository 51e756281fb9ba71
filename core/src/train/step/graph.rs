//! Steps recorded as graphs and replayed: the host launches a graph instead of hundreds of kernels.
//!
//! A graph reads and writes the buffers with which it was recorded. So its inputs and trained parameters have buffers of
//! their own, into which those of each step are copied, and its gradients stay in its own buffers until the next replay.

use super::accumulate::{read, step_on_device};
use super::gradients::ParamGradients;
use super::inputs::{FlatInputs, SampleInputs};
use super::losses::LossValues;
use crate::model::MaskRcnn;
use crate::random::Stream;
use crate::train::input::batch::Batch;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, ExecutionError, Graph, Tensor, TensorData, capture};
use mrcnn_kernels::overwrite;
use std::collections::HashMap;

/// Graphs of the last sizes of batches.
#[derive(Default)]
pub struct StepGraphs {
    /// Sizes that are not recorded, and how many steps they had.
    seen: Vec<(Key, usize)>,
    recorded: Vec<(Key, StepGraph)>,
}

/// What a graph depends on: shapes, and the loss scale.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    images: [usize; 4],
    /// Lengths of the other inputs.
    lengths: Vec<usize>,
    scale: u64,
}

/// Steps of a size before it is recorded: they tune its kernels.
const STEPS_BEFORE: usize = 2;

/// Maximum number of graphs. Each keeps the memory of a step.
const MOST: usize = 4;

impl StepGraphs {
    /// The losses and gradients of `batch`, as those of a step that is launched kernel by kernel. Fails if the device
    /// records no graphs. The gradients are valid until the next call.
    pub fn losses_and_gradients(
        &mut self,
        model: &MaskRcnn,
        batch: &Batch,
        stream: Stream,
        device: &Device,
        scale: f64,
    ) -> Result<(LossValues, ParamGradients), ExecutionError> {
        let inputs = Inputs::new(batch, stream, &device.clone().inner());
        let key = inputs.key(scale);
        let place = self.recorded.iter().position(|(other, _)| *other == key);
        let place = match place {
            None if self.is_due(&key) => {
                let graph = StepGraph::record(model, inputs.clone(), scale)?;
                self.recorded.push((key, graph));
                Some(self.recorded.len() - 1)
            }
            place => place,
        };
        let (numbers, gradients) = match place {
            Some(place) => self.recorded[place].1.replay(model, inputs),
            None => {
                let (images, inputs) = (inputs.images(), inputs.sampling.shaped());
                step_on_device(model, Tensor::from_inner(images), &inputs, scale)
            }
        };
        read(numbers, gradients)
    }

    /// Counts a step of a size without a graph; whether the size is to be recorded now.
    fn is_due(&mut self, key: &Key) -> bool {
        let Some((_, steps)) = self.seen.iter_mut().find(|(other, _)| other == key) else {
            self.seen.push((key.clone(), 1));
            return false;
        };
        *steps += 1;
        *steps > STEPS_BEFORE && self.recorded.len() < MOST
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
    fn new(batch: &Batch, stream: Stream, device: &Device) -> Self {
        let values = TensorData::new(batch.values.clone(), [batch.values.len()]);
        Self {
            images: Tensor::from_data(values, device),
            shape: batch.shape,
            sampling: SampleInputs::new(batch, stream, device).flat(),
        }
    }

    fn images(&self) -> Tensor<4> {
        self.images.clone().reshape(self.shape)
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
    fn record(model: &MaskRcnn, inputs: Inputs, scale: f64) -> Result<Self, ExecutionError> {
        let current = trained(model);
        let device = inputs.images.device();
        let buffers = current.iter().map(|(_, param)| {
            let buffer = Tensor::zeros([param.dims()[0]], &device);
            (buffer, param.clone())
        });
        let buffers: Vec<(Tensor<1>, Tensor<1>)> = buffers.collect();
        let params: Vec<_> = buffers.iter().map(|(buffer, _)| buffer.clone()).collect();
        let written = overwrite(buffers, Vec::new());
        device.sync()?;
        drop(written);

        let ids = current.iter().map(|(id, _)| *id);
        let by_id: HashMap<_, _> = ids.zip(params.clone()).collect();
        let (model, fixed) = (model.clone(), inputs.clone());
        let step: Box<dyn FnMut() -> Output> = Box::new(move || {
            let model = model.clone().map(&mut Put(&by_id));
            let images = Tensor::from_inner(fixed.images());
            step_on_device(&model, images, &fixed.sampling.shaped(), scale)
        });
        let graph = capture(&device, step);
        match graph.is_hardware() {
            true => Ok(Self {
                inputs,
                params,
                graph,
            }),
            false => Err(ExecutionError::WithContext {
                reason: "the device does not record a step as a graph: set train.graph to false"
                    .into(),
            }),
        }
    }

    fn replay(&mut self, model: &MaskRcnn, inputs: Inputs) -> Output {
        let current = trained(model).into_iter().map(|(_, param)| param);
        let mut floats: Vec<_> = self.params.iter().cloned().zip(current).collect();
        floats.push((self.inputs.images.clone(), inputs.images));
        let (more, integers) = self.inputs.sampling.pairs(inputs.sampling);
        floats.extend(more);
        let written = overwrite(floats, integers);
        // SAFETY: the graph's buffers are tensors of `self` and of its closure and output. The copies into them and all
        // that reads its output are enqueued on the stream of this thread, as the replay is.
        let output = unsafe { self.graph.replay() }.clone();
        drop(written);
        output
    }
}

/// The trained parameters, flat and without a graph, in the order of the model.
fn trained(model: &MaskRcnn) -> Vec<(ParamId, Tensor<1>)> {
    struct Trained(Vec<(ParamId, Tensor<1>)>);
    impl ModuleVisitor for Trained {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            if value.is_require_grad() {
                let count = value.shape().num_elements();
                self.0.push((param.id, value.inner().reshape([count])));
            }
        }
    }
    let mut trained = Trained(Vec::new());
    model.visit(&mut trained);
    trained.0
}

/// Replaces trained parameters by flat tensors.
struct Put<'a>(&'a HashMap<ParamId, Tensor<1>>);

impl ModuleMapper for Put<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(value) = self.0.get(&param.id).cloned() else {
            return param;
        };
        param.map(|old| Tensor::from_inner(value.reshape(old.shape())).require_grad())
    }
}
