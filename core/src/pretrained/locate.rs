//! Resolution of a value of `--weights` to a file or a pretrained model.

use super::error::PretrainedError;
use super::list::models;
use super::model::PretrainedModel;
use std::path::{Path, PathBuf};

/// The file or the pretrained model of a value of `--weights`.
#[derive(Clone, Debug, PartialEq)]
pub enum Located {
    /// A file.
    File(PathBuf),
    /// A pretrained model.
    Model(Box<PretrainedModel>),
}

/// Number of names that an error lists.
const SHOWN: usize = 3;

/// Distinguishes files and names: a value with a path separator, or that exists, is a file (or the prefix of a
/// TensorFlow checkpoint); everything else is the name of a model.
///
/// # Errors
///
/// If there is neither such a file nor such a model; the error lists the nearest names.
pub fn locate(value: &Path) -> Result<Located, PretrainedError> {
    let has_separator = value.components().count() != 1
        || value
            .as_os_str()
            .to_string_lossy()
            .contains(std::path::is_separator);
    if has_separator || value.exists() || value.with_added_extension("index").exists() {
        return Ok(Located::File(value.into()));
    }
    find(&value.to_string_lossy()).map(|model| Located::Model(Box::new(model)))
}

/// The model `name` of [`models`].
///
/// # Errors
///
/// If there is no such model; the error lists the nearest names.
pub fn find(name: &str) -> Result<PretrainedModel, PretrainedError> {
    let mut all = models()?;
    match all.iter().position(|model| model.name == name) {
        Some(index) => Ok(all.swap_remove(index)),
        None => Err(PretrainedError::UnknownName {
            name: crate::budget::excerpt(name).to_string(),
            nearest: nearest(name, &all),
        }),
    }
}

/// ` (the nearest names are ...)`, if some are similar.
fn nearest(name: &str, models: &[PretrainedModel]) -> String {
    // The time of a comparison is proportional to the product of the lengths.
    let name: String = name.chars().take(100).collect::<String>().to_lowercase();
    let mut scored: Vec<(f64, &str)> = models
        .iter()
        .map(|model| {
            (
                strsim::normalized_damerau_levenshtein(&name, &model.name.to_lowercase()),
                model.name.as_str(),
            )
        })
        .filter(|(score, _)| *score > 0.5)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<&str> = scored.iter().take(SHOWN).map(|(_, name)| *name).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(" (the nearest names are {})", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_names_are_distinguished() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resnet50");
        std::fs::write(&file, "").unwrap();
        for path in [
            file.as_path(),
            Path::new("./resnet50"),
            Path::new("none/here.pth"),
            Path::new("/"),
        ] {
            assert_eq!(locate(path).unwrap(), Located::File(path.into()));
        }
        match locate(Path::new("resnet50")).unwrap() {
            Located::Model(model) => assert_eq!(model.architecture, "ResNet-50"),
            Located::File(path) => panic!("{}", path.display()),
        }
    }

    #[test]
    fn unknown_names_list_the_nearest() {
        let error = locate(Path::new("maskrcnn_resnet50"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("nearest names are maskrcnn_resnet50_fpn,"),
            "{error}"
        );
        let error = locate(Path::new("Mask_RCNN_r_50_fpn_3x"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("are mask_rcnn_R_50_FPN_3x,"), "{error}");
        let error = locate(Path::new("best.safetensors"))
            .unwrap_err()
            .to_string();
        assert!(
            !error.contains("nearest") && error.contains("neither a file"),
            "{error}"
        );
    }

    #[test]
    fn a_model_of_another_kind_is_refused() {
        find("maskrcnn_resnet50_fpn")
            .unwrap()
            .check_detector()
            .unwrap();
        let backbone = find("resnet50").unwrap();
        let error = backbone.check_detector().unwrap_err().to_string();
        assert!(error.contains("train --weights resnet50"), "{error}");
    }
}
