//! COCO's 12 numbers, and what they were counted by.

use serde::{Deserialize, Serialize};
use std::fmt;

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
            let [bbox, segm] = [self.bbox, self.segm].map(|values| shown_metric(values[index]));
            writeln!(f, "{name:>6}  {bbox:>6}  {segm:>6}")?;
        }
        let protocol = match self.protocol {
            AreaProtocol::Mask => "mask area (as Detectron2)",
            AreaProtocol::Box => "box area (as pycocotools with boxes in the results)",
        };
        write!(f, "sizes s, m, l of the masks by {protocol}")
    }
}

/// A number with three digits; `-` where it is undefined.
pub fn shown_metric(value: f64) -> String {
    if value < 0.0 {
        "-".into()
    } else {
        format!("{value:.3}")
    }
}
