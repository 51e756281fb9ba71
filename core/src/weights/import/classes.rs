//! The classes of models trained on COCO.

use crate::data::Classes;

/// Names by category id, from 1; unused ids of COCO have empty names.
const COCO: [&str; 90] = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "",
    "backpack",
    "umbrella",
    "",
    "",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "",
    "dining table",
    "",
    "",
    "toilet",
    "",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
];

/// COCO's classes with the label equal to the category id (torchvision, the reference system); the
/// ids that COCO does not use are `unused N`.
pub fn coco_91() -> Classes {
    let name = |(index, name): (usize, &&str)| match *name {
        "" => format!("unused {}", index + 1),
        name => name.to_string(),
    };
    Classes {
        names: COCO.iter().enumerate().map(name).collect(),
        ids: (1..=COCO.len() as u64).collect(),
    }
}

/// COCO's 80 classes with contiguous labels (Detectron2).
pub fn coco_80() -> Classes {
    let used = (1..).zip(COCO).filter(|(_, name)| !name.is_empty());
    let (ids, names) = used.map(|(id, name)| (id, name.to_string())).unzip();
    Classes { names, ids }
}

/// `count` classes without known names.
pub fn numbered(count: usize) -> Classes {
    Classes {
        names: (1..=count).map(|label| format!("class {label}")).collect(),
        ids: (1..=count as u64).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coco_has_80_classes() {
        let classes = coco_80();
        assert_eq!(classes.len(), 80);
        let last = (classes.names[79].as_str(), classes.ids[79]);
        assert_eq!(last, ("toothbrush", 90));
        assert_eq!(coco_91().name(44), "bottle");
    }
}
