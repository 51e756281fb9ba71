//! A shard of an evaluation: matched image by image, merged with other shards, summarized at the end.

use super::{
    AreaProtocol, EvalError, Metrics, annotations, categories, images, numbers, of_kind, results,
};
use crate::data::{Classes, Sample};
use crate::detection::Detection;
use hotcoco::{EvalMode, IouType, Params, StreamingEval};

/// Boxes and masks of some images, matched with the ground truth.
///
/// Merged shards of an evaluation are bit-equal to [`super::evaluate`] of all images at
/// once, in any order. A detection takes about 20 bytes.
#[derive(Clone)]
pub struct EvalShard {
    bbox: StreamingEval,
    segm: StreamingEval,
    protocol: AreaProtocol,
}

impl EvalShard {
    /// A shard without images.
    pub fn new(classes: &Classes, protocol: AreaProtocol) -> Result<Self, EvalError> {
        let part =
            |kind| StreamingEval::new(Params::new(kind), EvalMode::Coco, categories(classes));
        Ok(Self {
            bbox: part(IouType::Bbox)?,
            segm: part(IouType::Segm)?,
            protocol,
        })
    }

    /// Matches images and their detections (by image id).
    pub fn add(
        &mut self,
        samples: &[&Sample],
        detections: &[(u64, Vec<Detection>)],
        classes: &Classes,
    ) -> Result<(), EvalError> {
        let found = results(detections, classes);
        for (kind, part) in [
            (IouType::Bbox, &mut self.bbox),
            (IouType::Segm, &mut self.segm),
        ] {
            part.update(
                images(samples.iter().copied()),
                annotations(samples.iter().copied(), classes),
                of_kind(&found, kind, self.protocol),
            )?;
        }
        Ok(())
    }

    /// Merges another shard, as written by [`Self::to_bytes`].
    pub fn merge(&mut self, bytes: &[u8]) -> Result<(), EvalError> {
        let cut = || {
            let length = u64::from_le_bytes(*bytes.first_chunk()?);
            bytes[8..].split_at_checked(usize::try_from(length).ok()?)
        };
        let (bbox, segm) = cut().ok_or_else(|| {
            hotcoco::Error::InvalidInput("a shard of the evaluation is truncated".into())
        })?;
        self.bbox.merge(StreamingEval::from_bytes(bbox)?)?;
        self.segm.merge(StreamingEval::from_bytes(segm)?)?;
        Ok(())
    }

    /// Serializes the shard for another process of the same version.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (bbox, segm) = (self.bbox.to_bytes(), self.segm.to_bytes());
        let length = (bbox.len() as u64).to_le_bytes();
        [&length, &bbox[..], &segm[..]].concat()
    }

    /// COCO's metrics over all merged images.
    pub fn metrics(self) -> Metrics {
        let count = |part: StreamingEval| {
            let mut eval = part.finalize();
            eval.accumulate();
            // Computes the metrics without printing them, as `summarize` would.
            eval.summarize_lines();
            numbers(&eval)
        };
        Metrics {
            bbox: count(self.bbox),
            segm: count(self.segm),
            protocol: self.protocol,
        }
    }
}
