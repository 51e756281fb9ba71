//! Backbones: from images to a feature pyramid.
//!
//! A backbone owns its stages: their layers, how they are initialized and frozen, and how much memory their activations
//! use. To add a backbone, add a variant of [`Body`].

pub(crate) mod fpn;
pub(crate) mod resnet;

use super::init::Init;
use super::layer::Layer;
use super::layers::Conv2d;
use super::memory::Activations;
use super::norm::Norm;
use crate::config::ModelConfig;
use burn::module::Module;
use burn::tensor::{DType, Device, FloatDType, Tensor};
use fpn::Fpn;
use resnet::ResNet;

/// A body and its feature pyramid.
#[derive(Module, Debug)]
pub struct BackboneFpn {
    /// C2 to C5.
    pub body: Body,
    /// P2 to P6.
    pub fpn: Fpn,
}

/// The network below the pyramid; its parameters are under `backbone.body` for every variant.
#[derive(Module, Debug)]
pub enum Body {
    /// Residual networks.
    ResNet(ResNet),
}

impl Body {
    fn new(init: &Init<'_>, config: &ModelConfig) -> Self {
        Self::ResNet(ResNet::new(init, config))
    }

    /// Channels of C2 to C5.
    fn channels(config: &ModelConfig) -> [usize; 4] {
        ResNet::channels(config)
    }

    /// Images `[n, 3, h, w]` -> C2, C3, C4, C5 at strides 4, 8, 16, 32, in the dtype of the images.
    pub fn forward(&self, images: Tensor<4>) -> [Tensor<4>; 4] {
        let dtype = images.dtype().into();
        self.forward_in(images, dtype, false)
    }

    /// As [`Self::forward`], in `dtype`. If `is_linked`, everything that uses C2 to C5 must mask the gradients of them,
    /// see [`Links`](mrcnn_kernels::Links).
    pub(super) fn forward_in(
        &self,
        images: Tensor<4>,
        dtype: FloatDType,
        is_linked: bool,
    ) -> [Tensor<4>; 4] {
        match self {
            Self::ResNet(body) => body.forward_in(images, dtype, is_linked),
        }
    }

    /// Whether [`Self::forward_in`] can leave the masks of the last ReLUs to the layers that use C2 to C5.
    fn can_be_linked(&self, device: &Device, dtype: DType) -> bool {
        match self {
            Self::ResNet(body) => body.can_be_linked(device, dtype),
        }
    }

    fn count(&self, memory: &mut Activations, cells: &dyn Fn(usize) -> u64) {
        match self {
            Self::ResNet(body) => body.count(memory, cells),
        }
    }

    /// The first convolution and its norm, which compute in the dtype of the images; `None` if the body has no such
    /// layer.
    pub(super) fn stem(&mut self) -> Option<(&mut Conv2d, &mut Option<Norm>)> {
        match self {
            Self::ResNet(body) => Some(body.stem()),
        }
    }

    /// All layers but the stem.
    fn layers(&mut self) -> Box<dyn Iterator<Item = Layer<'_>> + '_> {
        match self {
            Self::ResNet(body) => Box::new(body.layers()),
        }
    }
}

impl BackboneFpn {
    /// A backbone with its feature pyramid.
    pub fn new(init: &Init<'_>, config: &ModelConfig) -> Self {
        Self {
            body: Body::new(&init.child("body"), config),
            fpn: Fpn::new(&init.child("fpn"), Body::channels(config), config),
        }
    }

    /// Normalized images `[n, 3, h, w]`, sides a multiple of 32 -> P2 to P6, `[n, c, h, w]` at strides
    /// 4 to 64, in the dtype of the images.
    pub fn forward(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        let dtype = images.dtype().into();
        self.forward_in(images, dtype)
    }

    /// As [`Self::forward`], in `dtype`.
    pub(crate) fn forward_in(&self, images: Tensor<4>, dtype: FloatDType) -> Vec<Tensor<4>> {
        let can_link_body = self.body.can_be_linked(&images.device(), dtype.into());
        let is_linked = can_link_body && self.fpn.can_be_linked();
        let features = self.body.forward_in(images, dtype, is_linked);
        self.fpn.pyramid(features, is_linked)
    }

    /// All layers but the stem.
    pub(super) fn layers(&mut self) -> impl Iterator<Item = Layer<'_>> {
        self.body.layers().chain(self.fpn.layers())
    }

    /// Counts the activations of an image; `cells` are rows times columns at a stride. See [`Fpn::count`].
    pub(crate) fn count(
        &self,
        memory: &mut Activations,
        cells: &dyn Fn(usize) -> u64,
        keeps_outputs: bool,
    ) {
        self.body.count(memory, cells);
        self.fpn.count(memory, cells, keeps_outputs);
    }
}
