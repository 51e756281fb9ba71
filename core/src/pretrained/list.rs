//! The list of pretrained models: those of this crate, and those of the file `MRCNN_MODELS`.

use super::error::PretrainedError;
use crate::config::Config;
use serde::Deserialize;
use std::collections::HashSet;
use std::path::Path;

/// The models of this crate.
const BUILT_IN: &str = include_str!("models.toml");

/// The environment variable with the path of a list of one's own models.
pub(super) const OWN_LIST: &str = "MRCNN_MODELS";

/// Number of digits of a hash that are enough: as many as torchvision's file names have.
const FEWEST_DIGITS: usize = 8;

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
    /// An architecture that this build does not have, so that the model cannot be used.
    pub lacks: Option<String>,
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
    /// Licence of the code that trained it.
    pub code_license: Option<String>,
    /// Licence of the weights.
    pub weights_license: Option<String>,
    /// Settings that the predictions depend on and that the file does not show, as `key=value`.
    #[serde(default)]
    pub settings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    model: Vec<PretrainedModel>,
}

/// All models: those of this crate, then those of the file that `MRCNN_MODELS` names.
///
/// # Errors
///
/// If that file cannot be read, has an invalid entry, or uses a name or a file name of this crate's list.
pub fn models() -> Result<Vec<PretrainedModel>, PretrainedError> {
    let list_error = |path: &Path, reason: String| PretrainedError::List {
        path: path.into(),
        reason,
    };
    let built_in =
        parse(BUILT_IN).map_err(|reason| list_error(Path::new("models.toml"), reason))?;
    let Some(path) = std::env::var_os(OWN_LIST).filter(|path| !path.is_empty()) else {
        return Ok(built_in);
    };
    let path = Path::new(&path);
    let text =
        std::fs::read_to_string(path).map_err(|error| list_error(path, error.to_string()))?;
    let own = parse(&text).map_err(|reason| list_error(path, reason))?;
    let mut all = built_in;
    all.extend(own);
    check_unique(&all).map_err(|reason| list_error(path, reason))?;
    Ok(all)
}

/// Reads a list in the format of `MRCNN_MODELS` from its text.
///
/// # Errors
///
/// The entry, what is wrong with it, and what to do.
pub fn parse(text: &str) -> Result<Vec<PretrainedModel>, String> {
    let list: List = toml::from_str(text).map_err(|error| error.to_string())?;
    for model in &list.model {
        model
            .check()
            .map_err(|reason| format!("model `{}`: {reason}", model.name))?;
    }
    check_unique(&list.model)?;
    Ok(list.model)
}

/// Names, and the file names in the cache, must not repeat.
fn check_unique(models: &[PretrainedModel]) -> Result<(), String> {
    let (mut names, mut files) = (HashSet::new(), HashSet::new());
    for model in models {
        if !names.insert(&model.name) {
            return Err(format!(
                "the name `{}` is used twice: rename one",
                model.name
            ));
        }
        let file = model.file_name();
        if !files.insert(file) {
            return Err(format!(
                "model `{}`: another model has a file named {file}: rename the file on its server",
                model.name
            ));
        }
    }
    Ok(())
}

impl PretrainedModel {
    /// The last part of the URL: the name of the file in the cache and on a mirror.
    pub fn file_name(&self) -> &str {
        let path = self.url.split(['?', '#']).next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default()
    }

    /// The licence of the weights, or that it is not known.
    pub fn license(&self) -> &str {
        self.weights_license.as_deref().unwrap_or("not stated")
    }

    /// Whether a digest in hexadecimal is that of the list; `None` if the list has none.
    pub fn has_digest(&self, digest: &str) -> Option<bool> {
        Some(digest.starts_with(self.sha256.as_deref()?))
    }

    /// Whether this build can use the model.
    pub fn check_architecture(&self) -> Result<(), PretrainedError> {
        match &self.lacks {
            Some(lacks) => Err(PretrainedError::Architecture {
                name: self.name.clone(),
                lacks: lacks.clone(),
            }),
            None => Ok(()),
        }
    }

    /// As [`Self::check_architecture`], and whether the model has detection heads.
    pub fn check_detector(&self) -> Result<(), PretrainedError> {
        match self.kind {
            ModelKind::Detector => self.check_architecture(),
            ModelKind::Backbone => Err(PretrainedError::Backbone {
                name: self.name.clone(),
            }),
        }
    }

    fn check(&self) -> Result<(), String> {
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
    use super::*;

    #[test]
    fn the_list_of_this_crate_is_valid_and_complete() {
        let models = parse(BUILT_IN).unwrap();
        assert_eq!(models.len(), 15);
        for model in &models {
            let is_detector = model.kind == ModelKind::Detector;
            assert_eq!(model.mask_ap.is_some(), is_detector, "{}", model.name);
            assert_eq!(model.classes.is_some(), is_detector, "{}", model.name);
            assert!(model.url.starts_with("https://") && model.weights_license.is_some());
            assert!(!model.architecture.is_empty() && model.code_license.is_some());
            // torchvision's file names end in the first digits of the hash.
            if model.url.contains("pytorch.org") {
                let stem = model.file_name().strip_suffix(".pth").unwrap();
                let digits = &stem[stem.len() - FEWEST_DIGITS..];
                assert!(
                    model.sha256.as_ref().unwrap().starts_with(digits),
                    "{}",
                    model.name
                );
            }
        }
    }

    #[test]
    fn invalid_entries_are_named_with_a_fix() {
        let entry = |more: &str| format!("[[model]]\nname = \"cells\"\n{more}");
        let url = "url = \"https://example.org/cells.safetensors\"\n";
        assert_eq!(
            parse(&entry(url)).unwrap()[0].file_name(),
            "cells.safetensors"
        );
        for (more, part) in [
            ("", "missing field `url`"),
            ("url = \"ftp://example.org/a\"", "not an http"),
            ("url = \"https://example.org/\"", "file name"),
            ("url = \"https://example.org/..\"", "file name"),
            (&format!("{url}sha256 = \"ABCDEF01\""), "sha256sum"),
            (&format!("{url}sha256 = \"abc\""), "sha256sum"),
            (
                &format!("{url}settings = [\"model.norm_ep=0\"]"),
                "model.norm_eps",
            ),
            (&format!("{url}sizes = 3"), "unknown field"),
            (&format!("{url}{}", entry(url)), "used twice"),
        ] {
            let error = parse(&entry(more)).unwrap_err();
            assert!(error.contains(part), "{more}: {error}");
        }
        let escaping = "[[model]]\nname = \"../up\"\nurl = \"https://example.org/a\"";
        assert!(parse(escaping).unwrap_err().contains("letters"));
    }

    #[test]
    fn a_digest_may_be_known_in_part() {
        let mut model = parse(BUILT_IN).unwrap().remove(0);
        let whole = model.sha256.clone().unwrap();
        model.sha256 = Some(whole[..8].into());
        assert_eq!(model.has_digest(&whole), Some(true));
        assert_eq!(model.has_digest(&whole.replace('b', "c")), Some(false));
        model.sha256 = None;
        assert_eq!(model.has_digest(&whole), None);
    }
}
