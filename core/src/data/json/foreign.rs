//! Detection of JSON files of other tools, for better error messages.

use super::element::{Element, Section};
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// Kind of a JSON file that is not COCO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    Labelme,
    Via,
    LabelStudio,
    Datumaro,
    /// COCO's panoptic annotations, whose masks are PNG files.
    Panoptic,
    /// COCO's captions.
    Captions,
    /// A list of COCO results.
    Results,
    /// A list of something else.
    List,
    /// An object without `images`.
    Unknown,
}

impl Foreign {
    /// The kind of the file, and what to do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Labelme => {
                "this is a labelme file, not COCO; convert the folder with `mrcnn-cli dataset convert --from \
                 labelme DIR --out OUT`"
            }
            Self::Via => {
                "this is a VIA (VGG Image Annotator) file, not COCO; convert it with `mrcnn-cli dataset convert \
                 --from via FILE --out OUT`"
            }
            Self::LabelStudio => {
                "this is Label Studio's own JSON; export the project as \"COCO with Images\" instead"
            }
            Self::Datumaro => "this is Datumaro's JSON; export the dataset as COCO instead",
            Self::Panoptic => {
                "these are COCO's panoptic annotations, whose masks are PNG files; use the instance annotations \
                 (instances_*.json), or convert them with panopticapi's panoptic2detection_coco_format.py"
            }
            Self::Captions => {
                "these are COCO's captions, without objects; use the instance annotations (instances_*.json)"
            }
            Self::Results => {
                "this is a list of results, not annotations; give it to `mrcnn-cli eval --results`"
            }
            Self::List => {
                "this is a list, but COCO annotations are an object with `images` and `annotations`"
            }
            Self::Unknown => {
                "there is no list `images`; COCO annotations have `images`, `annotations` and `categories`"
            }
        }
    }
}

/// The outer structure of a file.
#[derive(Default)]
pub(super) struct Shape {
    pub is_list: bool,
    /// Keys of the outer object.
    pub keys: Vec<String>,
    /// Keys of the first element or of the first object among the values.
    inner: Vec<String>,
    /// Keys of the first annotation.
    annotation: Vec<String>,
}

impl Shape {
    pub fn record_element(&mut self, element: &Element) {
        if element.index == 0 {
            self.inner = keys(element.text);
        }
    }

    pub fn record_list(&mut self, element: &Element) {
        if element.index == 0 && element.section == Section::Annotations {
            self.annotation = keys(element.text);
        }
    }

    pub fn record_entry(&mut self, key: String, value: &[u8]) {
        if self.inner.is_empty() {
            self.inner = keys(value);
        }
        // VIA has a key for every image.
        const ENOUGH: usize = 100;
        if self.keys.len() < ENOUGH {
            self.keys.push(key);
        }
    }

    pub fn foreign(&self) -> Option<Foreign> {
        let outer = |key: &str| self.keys.iter().any(|known| known == key);
        let inner = |key: &str| self.inner.iter().any(|known| known == key);
        if self.is_list {
            return Some(match () {
                () if inner("image_id") && (inner("bbox") || inner("segmentation")) => {
                    Foreign::Results
                }
                () if inner("data") || inner("annotations") || inner("predictions") => {
                    Foreign::LabelStudio
                }
                () => Foreign::List,
            });
        }
        if outer("images") {
            let first = |key: &str| self.annotation.iter().any(|known| known == key);
            return match () {
                () if first("segments_info") => Some(Foreign::Panoptic),
                () if first("caption") && !first("category_id") => Some(Foreign::Captions),
                () => None,
            };
        }
        Some(match () {
            () if outer("shapes") || outer("imagePath") => Foreign::Labelme,
            () if outer("_via_img_metadata") || outer("_via_settings") => Foreign::Via,
            () if inner("regions") && inner("filename") => Foreign::Via,
            () if outer("items") && outer("categories") => Foreign::Datumaro,
            () => Foreign::Unknown,
        })
    }
}

/// The keys of an object; empty for any other value.
fn keys(text: &[u8]) -> Vec<String> {
    let parsed: Result<BTreeMap<String, IgnoredAny>, _> = serde_json::from_slice(text);
    parsed
        .map(|map| map.into_keys().collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::scan;
    use super::*;

    #[test]
    fn files_of_other_tools_are_named() {
        let cases = [
            (
                r#"{"images": [], "annotations": [{"image_id": 1, "segments_info": []}]}"#,
                Some(Foreign::Panoptic),
            ),
            (
                r#"{"images": [], "annotations": [{"id": 1, "image_id": 1, "caption": "a"}]}"#,
                Some(Foreign::Captions),
            ),
            (
                r#"{"version": "5", "shapes": [], "imagePath": "a.png"}"#,
                Some(Foreign::Labelme),
            ),
            (
                r#"{"a.png12": {"filename": "a.png", "regions": []}}"#,
                Some(Foreign::Via),
            ),
            (
                r#"{"_via_settings": {}, "_via_img_metadata": {}}"#,
                Some(Foreign::Via),
            ),
            (
                r#"[{"id": 1, "data": {"image": "a"}, "annotations": []}]"#,
                Some(Foreign::LabelStudio),
            ),
            (
                r#"[{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]"#,
                Some(Foreign::Results),
            ),
            (
                r#"{"info": {}, "categories": [], "items": []}"#,
                Some(Foreign::Datumaro),
            ),
            ("[]", Some(Foreign::List)),
            ("{}", Some(Foreign::Unknown)),
            (r#"{"annotations": []}"#, Some(Foreign::Unknown)),
            (r#"{"images": []}"#, None),
        ];
        for (text, wanted) in cases {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            assert_eq!(
                scan(file.path(), &mut |_| Ok(())).unwrap(),
                wanted,
                "{text}"
            );
        }
    }
}
