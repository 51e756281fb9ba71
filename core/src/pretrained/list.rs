//! The list of pretrained models: those of this crate, and those of the file `MRCNN_MODELS`.

use super::error::PretrainedError;
use super::model::PretrainedModel;
use serde::Deserialize;
use std::collections::HashSet;
use std::path::Path;

/// The models of this crate.
const BUILT_IN: &str = include_str!("models.toml");

/// The environment variable with the path of a list of one's own models.
pub(super) const OWN_LIST: &str = "MRCNN_MODELS";

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

#[cfg(test)]
mod tests {
    use super::super::model::{FEWEST_DIGITS, ModelKind};
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
                "norm_eps",
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
}
