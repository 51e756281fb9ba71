//! The prediction for an image: objects with names, scores, boxes and masks, COCO results and drawing.

use crate::data::{Classes, DetectionRecord, detections_json};
use crate::detection::Detection;
use crate::image::overlay::{OverlayOptions, draw};
use ::image::RgbImage;
use std::ops::Deref;
use std::sync::Arc;

/// The detections of one image, in its pixels, best first.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Width of the image in pixels.
    pub width: u32,
    /// Height of the image in pixels.
    pub height: u32,
    /// The objects, best first.
    pub detections: Vec<Detection>,
    classes: Arc<Classes>,
}

impl Prediction {
    /// Detections of an image of `width x height` pixels, with labels of `classes`.
    pub fn new(
        (width, height): (u32, u32),
        detections: Vec<Detection>,
        classes: Arc<Classes>,
    ) -> Self {
        Self {
            width,
            height,
            detections,
            classes,
        }
    }

    /// The objects with the names of their classes, best first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Object<'_>> {
        self.detections.iter().map(|detection| Object {
            name: self.classes.name(detection.label),
            detection,
        })
    }

    /// Removes the objects for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&Object<'_>) -> bool) {
        let classes = &self.classes;
        self.detections.retain(|detection| {
            keep(&Object {
                name: classes.name(detection.label),
                detection,
            })
        });
    }

    /// Number of detected objects.
    pub fn len(&self) -> usize {
        self.detections.len()
    }

    /// Whether there are no detections.
    pub fn is_empty(&self) -> bool {
        self.detections.is_empty()
    }

    /// Class names and category ids.
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// The objects in COCO's results format: `[x, y, width, height]` in pixels, category ids of the weights, masks as
    /// compressed RLE. Serializes to the input of pycocotools' `loadRes`.
    pub fn to_coco(&self, image_id: u64) -> Vec<DetectionRecord> {
        detections_json(image_id, None, &self.detections, &self.classes)
    }

    /// Draws masks, contours, boxes, names and scores on a copy of `image`, the image that was predicted. On an image
    /// of another size, masks are left out.
    pub fn draw(&self, image: &RgbImage) -> RgbImage {
        self.draw_with(image, &OverlayOptions::default())
    }

    /// As [`Self::draw`], with options.
    pub fn draw_with(&self, image: &RgbImage, options: &OverlayOptions) -> RgbImage {
        let name = |label| self.classes.name(label);
        draw(image, &self.detections, &name, options)
    }
}

/// An object of a [`Prediction`]: a [`Detection`] and the name of its class.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<'a> {
    /// Name of the class; `class N` if the weights have no name for it.
    pub name: String,
    /// Box, label, score and mask.
    pub detection: &'a Detection,
}

impl Deref for Object<'_> {
    type Target = Detection;

    fn deref(&self) -> &Detection {
        self.detection
    }
}

impl<'a> IntoIterator for &'a Prediction {
    type Item = Object<'a>;
    type IntoIter = Box<dyn Iterator<Item = Object<'a>> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vernier_mask::Rle;

    fn prediction() -> Prediction {
        let detection = |label, score| Detection {
            bbox: [2.0, 3.0, 7.0, 9.0],
            label,
            score,
            mask: Rle::from_bbox([2.0, 3.0, 5.0, 6.0], 20, 30).unwrap(),
        };
        let classes = Classes {
            names: vec!["cat".into()],
            ids: vec![17],
        };
        let detections = vec![detection(1, 0.9), detection(2, 0.4)];
        Prediction::new((30, 20), detections, Arc::new(classes))
    }

    #[test]
    fn objects_have_the_names_of_their_labels() {
        let prediction = prediction();
        let names: Vec<String> = prediction.iter().map(|object| object.name).collect();
        assert_eq!(names, ["cat", "class 2"]);
        let scores: Vec<f32> = (&prediction)
            .into_iter()
            .map(|object| object.score)
            .collect();
        assert_eq!(scores, [0.9, 0.4]);
        let mut cats = prediction.clone();
        cats.retain(|object| object.name == "cat");
        assert_eq!(cats.detections, prediction.detections[..1]);
    }

    #[test]
    fn coco_results_have_category_ids_and_widths() {
        let json = serde_json::to_value(prediction().to_coco(5)).unwrap();
        assert_eq!(json[0]["image_id"], 5);
        assert_eq!(json[0]["category_id"], 17);
        assert_eq!(json[0]["bbox"], serde_json::json!([2.0, 3.0, 5.0, 6.0]));
        assert_eq!(json[0]["segmentation"]["size"], serde_json::json!([20, 30]));
        assert!(json[0].get("file_name").is_none());
    }

    #[test]
    fn options_select_what_is_drawn() {
        let (prediction, image) = (prediction(), RgbImage::new(30, 20));
        let drawn = prediction.draw(&image);
        assert_ne!(drawn, image);
        let nothing = OverlayOptions {
            masks: false,
            contours: false,
            boxes: false,
            labels: false,
            scores: false,
            ..OverlayOptions::default()
        };
        assert_eq!(prediction.draw_with(&image, &nothing), image);
    }
}
