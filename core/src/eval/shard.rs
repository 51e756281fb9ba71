//! A part of an evaluation: matched image by image, merged with other parts, counted at the end.

use super::{
    AreaProtocol, EvalError, Metrics, annotations, categories, images, numbers, of_kind, results,
};
use crate::data::{Classes, Sample};
use crate::detection::Detection;
use hotcoco::{EvalMode, IouType, Params, StreamingEval};

/// Boxes and masks of some images, matched with the truth.
///
/// Parts of the same evaluation merge to the bits that [`super::evaluate`] gives for all images at
/// once, in whatever order. A detection takes about 20 bytes.
#[derive(Clone)]
pub struct EvalShard {
    bbox: StreamingEval,
    segm: StreamingEval,
    protocol: AreaProtocol,
}

impl EvalShard {
    /// A part without images.
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

    /// Takes in another part, as [`Self::to_bytes`] wrote it.
    pub fn merge(&mut self, bytes: &[u8]) -> Result<(), EvalError> {
        let cut = || {
            let length = u64::from_le_bytes(*bytes.first_chunk()?);
            bytes[8..].split_at_checked(usize::try_from(length).ok()?)
        };
        let (bbox, segm) = cut().ok_or_else(|| {
            hotcoco::Error::InvalidInput("a part of the evaluation is cut off".into())
        })?;
        self.bbox.merge(StreamingEval::from_bytes(bbox)?)?;
        self.segm.merge(StreamingEval::from_bytes(segm)?)?;
        Ok(())
    }

    /// The part for another process of this version.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (bbox, segm) = (self.bbox.to_bytes(), self.segm.to_bytes());
        let length = (bbox.len() as u64).to_le_bytes();
        [&length, &bbox[..], &segm[..]].concat()
    }

    /// COCO's numbers over all images taken in.
    pub fn metrics(self) -> Metrics {
        let count = |part: StreamingEval| {
            let mut eval = part.finalize();
            eval.accumulate();
            // Fills the numbers; `summarize` would print them too.
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
