//! Entries of a COCO file as written.

use super::json::{Field, Flag, Id, Number, Numbers, RawSegmentation, Text};
use serde::Deserialize;

/// An entry of `images`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct RawImage {
    #[serde(default)]
    pub id: Field<Id>,
    #[serde(default)]
    pub file_name: Field<Text>,
    #[serde(default)]
    pub width: Field<Id>,
    #[serde(default)]
    pub height: Field<Id>,
}

/// An entry of `categories`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct RawCategory {
    #[serde(default)]
    pub id: Field<Id>,
    #[serde(default)]
    pub name: Field<Text>,
}

/// An entry of `annotations`, or a result, which also has a score.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct RawAnnotation {
    #[serde(default)]
    pub id: Field<Id>,
    #[serde(default)]
    pub image_id: Field<Id>,
    #[serde(default)]
    pub category_id: Field<Id>,
    #[serde(default)]
    pub bbox: Field<Numbers>,
    #[serde(default)]
    pub area: Field<Number>,
    #[serde(default)]
    pub iscrowd: Field<Flag>,
    #[serde(default)]
    pub segmentation: RawSegmentation,
    #[cfg(feature = "train")]
    #[serde(default)]
    pub score: Field<Number>,
    #[cfg(feature = "train")]
    #[serde(default)]
    pub file_name: Field<Text>,
    /// Name of the class, which some programs write beside or instead of its id.
    #[cfg(feature = "train")]
    #[serde(default)]
    pub category_name: Field<Text>,
}
