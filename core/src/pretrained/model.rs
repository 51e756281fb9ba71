//! An entry of the list of pretrained models.

use super::error::PretrainedError;
use crate::config::Config;
use serde::Deserialize;

/// Number of digits of a hash that are enough: as many as torchvision's file names have.
pub(super) const FEWEST_DIGITS: usize = 8;

/// Part of the network that a model has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// A whole Mask R-CNN.
    #[default]
    Detector,
    /// A classification network, from which training starts.
    Backbone,
}

/// The classes of a detector.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum ClassList {
    /// `coco_91` (torchvision: labels are COCO's category ids) or `coco_80` (Detectron2: labels without gaps).
    Coco(Coco),
    /// Names in the order of the labels.
    Names(Vec<String>),
}

/// A numbering of COCO's classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coco {
    /// 90 labels, 10 of them unused.
    #[serde(rename = "coco_91")]
    Sparse,
    /// 80 labels.
    #[serde(rename = "coco_80")]
    Dense,
}

/// A model that can be downloaded by its name.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainedModel {
    /// The name, as for `--weights`.
    pub name: String,
    /// Detector or backbone.
    #[serde(default)]
    pub kind: ModelKind,
    /// The architecture in words.
    #[serde(default)]
    pub architecture: String,
    /// The URL of the file.
    pub url: String,
    /// Length of the file in bytes, rounded if the publisher rounds it; for information.
    pub size: Option<u64>,
    /// The SHA-256 in hexadecimal, or its first digits, at least 8; `None` if it is not known.
    pub sha256: Option<String>,
    /// The classes; `None` if the file has them, or for a backbone.
    pub classes: Option<ClassList>,
    /// Published box AP on COCO val2017, in percent.
    pub box_ap: Option<f64>,
    /// Published mask AP on COCO val2017, in percent.
    pub mask_ap: Option<f64>,
    /// License of the code that trained it.
    pub code_license: Option<String>,
    /// License of the weights.
    pub weights_license: Option<String>,
    /// Settings that the predictions depend on and that the file does not contain, as `key=value`.
    #[serde(default)]
    pub settings: Vec<String>,
}

impl PretrainedModel {
    /// The last part of the URL: the name of the file in the cache and on a mirror.
    pub fn file_name(&self) -> &str {
        let path = self.url.split(['?', '#']).next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default()
    }

    /// The license of the weights, or that it is not known.
    pub fn license(&self) -> &str {
        self.weights_license.as_deref().unwrap_or("not stated")
    }

    /// Whether a digest in hexadecimal is that of the list; `None` if the list has none.
    pub fn has_digest(&self, digest: &str) -> Option<bool> {
        Some(digest.starts_with(self.sha256.as_deref()?))
    }

    /// Whether the model has detection heads; otherwise an error.
    pub fn check_detector(&self) -> Result<(), PretrainedError> {
        match self.kind {
            ModelKind::Detector => Ok(()),
            ModelKind::Backbone => Err(PretrainedError::Backbone {
                name: self.name.clone(),
            }),
        }
    }

    /// Checks the entry. The error is the reason, without the name of the entry.
    pub(super) fn check(&self) -> Result<(), String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.name.is_empty() || !self.name.chars().all(is_plain) || self.name == "none" {
            return Err(
                "a name consists of letters, digits, `.`, `_` and `-`, and is not `none`".into(),
            );
        }
        if !self.url.starts_with("https://") && !self.url.starts_with("http://") {
            return Err(format!(
                "url = \"{}\" is not an http or https URL",
                self.url
            ));
        }
        let file = self.file_name();
        if file.is_empty() || file.starts_with('.') || !file.chars().all(is_plain) {
            return Err(format!(
                "url = \"{}\" does not end in a file name of letters, digits, `.`, `_` and `-`",
                self.url
            ));
        }
        if let Some(digest) = &self.sha256 {
            let is_lower_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
            if !(FEWEST_DIGITS..=64).contains(&digest.len()) || !digest.chars().all(is_lower_hex) {
                return Err(format!(
                    "sha256 = \"{digest}\" is not 8 to 64 digits of 0-9 and a-f; `sha256sum FILE` prints 64"
                ));
            }
        }
        let config = Config::default().with(&self.settings);
        config.map(drop).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_digest_may_be_known_in_part() {
        let mut model = super::super::find("maskrcnn_resnet50_fpn").unwrap();
        let whole = model.sha256.clone().unwrap();
        model.sha256 = Some(whole[..8].into());
        assert_eq!(model.has_digest(&whole), Some(true));
        assert_eq!(model.has_digest(&whole.replace('b', "c")), Some(false));
        model.sha256 = None;
        assert_eq!(model.has_digest(&whole), None);
    }
}
