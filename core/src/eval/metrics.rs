//! COCO's 12 metrics, for boxes and for masks.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Area by which masks are grouped into small, medium and large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AreaProtocol {
    /// The mask's own area, as in Detectron2.
    #[default]
    Mask,
    /// The area of the detection's box, as in pycocotools if a result has both, and as in the
    /// reference system. It affects only the mask metrics by size.
    Box,
}

/// Names of the 12 metrics in COCO's order.
pub const METRIC_NAMES: [&str; 12] = [
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
];

/// COCO's 12 metrics for boxes and for masks; -1 if there is no ground truth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Box metrics, in the order of [`METRIC_NAMES`].
    pub bbox: [f64; 12],
    /// Mask metrics.
    pub segm: [f64; 12],
    /// Grouping of masks by area.
    pub protocol: AreaProtocol,
}

impl Metrics {
    /// Mask AP, averaged over the IoU thresholds 0.50 to 0.95.
    pub fn mask_ap(&self) -> f64 {
        self.segm[0]
    }

    /// Box AP, averaged over the IoU thresholds 0.50 to 0.95.
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

/// A number with three decimal places; `-` if it is undefined.
pub fn shown_metric(value: f64) -> String {
    if value < 0.0 {
        "-".into()
    } else {
        format!("{value:.3}")
    }
}
