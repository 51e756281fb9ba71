//! COCO evaluation, by `hotcoco` (bit-equal to pycocotools).

use crate::data::{Classes, Dataset, RleRecord};
use crate::detection::Detection;
use hotcoco::{Annotation, COCO, COCOeval, Category, Image, IouType, Segmentation};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// Why an evaluation failed.
#[derive(Debug, Error)]
#[error("COCO evaluation failed: {0}; check the data with `mrcnn-cli dataset check DIR`")]
pub struct EvalError(#[from] hotcoco::Error);

/// By which area masks are sorted into small, medium and large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AreaProtocol {
    /// The mask's own area, as Detectron2 reports.
    #[default]
    Mask,
    /// The area of the detection's box, as pycocotools does when a result has both, and as the
    /// reference system reports. Changes only the mask numbers by size.
    Box,
}

/// Names of the 12 numbers in COCO's order.
pub const METRIC_NAMES: [&str; 12] = [
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
];

/// The 12 numbers for boxes and the 12 for masks; -1 where there is no ground truth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Box numbers, in the order of [`METRIC_NAMES`].
    pub bbox: [f64; 12],
    /// Mask numbers.
    pub segm: [f64; 12],
    /// How masks were sorted by size.
    pub protocol: AreaProtocol,
}

impl Metrics {
    /// Mask AP over IoU 0.50 to 0.95.
    pub fn mask_ap(&self) -> f64 {
        self.segm[0]
    }

    /// Box AP over IoU 0.50 to 0.95.
    pub fn box_ap(&self) -> f64 {
        self.bbox[0]
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>6}  {:>6}  {:>6}", "", "box", "mask")?;
        for (index, name) in METRIC_NAMES.iter().enumerate() {
            let [bbox, segm] = [self.bbox, self.segm].map(|values| shown(values[index]));
            writeln!(f, "{name:>6}  {bbox:>6}  {segm:>6}")?;
        }
        let protocol = match self.protocol {
            AreaProtocol::Mask => "mask area (as Detectron2)",
            AreaProtocol::Box => "box area (as pycocotools with boxes in the results)",
        };
        write!(f, "sizes s, m, l of the masks by {protocol}")
    }
}

fn shown(value: f64) -> String {
    if value < 0.0 {
        "-".into()
    } else {
        format!("{value:.3}")
    }
}

/// Evaluates the detections of pictures (by image id) against a data set.
///
/// Only the pictures in `detections` count, so a subset can be evaluated.
pub fn evaluate(
    dataset: &Dataset,
    detections: &[(u64, Vec<Detection>)],
    protocol: AreaProtocol,
) -> Result<Metrics, EvalError> {
    let truth = Arc::new(COCO::from_dataset(ground_truth(dataset)));
    let image_ids: Vec<u64> = detections.iter().map(|(id, _)| *id).collect();
    let run = |kind: IouType| -> Result<[f64; 12], EvalError> {
        let results = results(detections, &dataset.classes, kind, protocol);
        let mut eval = COCOeval::new(truth.clone(), truth.load_res_anns(results)?, kind);
        eval.params.img_ids = image_ids.clone();
        eval.evaluate()?;
        eval.accumulate();
        // Fills the numbers; `run` would print them too.
        eval.summarize_lines();
        let mut numbers = [-1.0; 12];
        let stats = eval.stats().unwrap_or_default();
        numbers
            .iter_mut()
            .zip(stats)
            .for_each(|(number, stat)| *number = *stat);
        Ok(numbers)
    };
    Ok(Metrics {
        bbox: run(IouType::Bbox)?,
        segm: run(IouType::Segm)?,
        protocol,
    })
}

fn ground_truth(dataset: &Dataset) -> hotcoco::Dataset {
    let classes = &dataset.classes;
    let categories = classes.ids.iter().zip(&classes.names);
    let instances = dataset.samples.iter().flat_map(|sample| {
        sample
            .instances
            .iter()
            .map(move |instance| (sample.image_id, instance))
    });
    hotcoco::Dataset {
        images: dataset
            .samples
            .iter()
            .map(|s| Image {
                id: s.image_id,
                height: s.height,
                width: s.width,
                ..Default::default()
            })
            .collect(),
        categories: categories
            .map(|(&id, name)| Category {
                id,
                name: name.clone(),
                ..Default::default()
            })
            .collect(),
        annotations: instances
            .enumerate()
            .map(|(index, (image_id, instance))| Annotation {
                id: index as u64 + 1,
                image_id,
                category_id: classes.category_id(instance.label).unwrap_or_default(),
                bbox: Some(xywh(instance.bbox)),
                area: Some(instance.area),
                segmentation: Some(segmentation(&instance.mask)),
                iscrowd: instance.crowd,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

fn results(
    detections: &[(u64, Vec<Detection>)],
    classes: &Classes,
    kind: IouType,
    protocol: AreaProtocol,
) -> Vec<Annotation> {
    let masks = kind == IouType::Segm;
    let boxes = !masks || protocol == AreaProtocol::Box;
    let all = detections
        .iter()
        .flat_map(|(id, found)| found.iter().map(move |d| (*id, d)));
    all.map(|(image_id, detection)| Annotation {
        image_id,
        category_id: classes.category_id(detection.label).unwrap_or_default(),
        bbox: boxes.then(|| xywh(detection.bbox)),
        segmentation: masks.then(|| segmentation(&detection.mask)),
        score: Some(detection.score as f64),
        ..Default::default()
    })
    .collect()
}

fn xywh([x1, y1, x2, y2]: [f32; 4]) -> [f64; 4] {
    [x1 as f64, y1 as f64, (x2 - x1) as f64, (y2 - y1) as f64]
}

fn segmentation(mask: &vernier_mask::Rle) -> Segmentation {
    let RleRecord { size, counts } = RleRecord::new(mask);
    Segmentation::CompressedRle { size, counts }
}
