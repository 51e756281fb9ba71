//! Test-time augmentation: several views of an image are detected, and their detections are merged.
//!
//! Boxes of all views are suppressed per class, and each kept box becomes the mean of the boxes that agree with it,
//! weighted by their scores (box voting, Gidaris and Komodakis 2015). Its score is the mean over the views, so that an
//! object that is found in one view only has a lower score. The mask head then predicts the merged boxes in every view,
//! and the mean of the mask probabilities is pasted, as in Detectron2's `GeneralizedRCNNWithTTA`.

mod settings;
mod views;
mod vote;

pub(super) use settings::SCALES;
pub use settings::TtaSettings;
