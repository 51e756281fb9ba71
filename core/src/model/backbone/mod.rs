//! Backbones: ResNet and the feature pyramid.

pub(crate) mod fpn;
pub(crate) mod resnet;
