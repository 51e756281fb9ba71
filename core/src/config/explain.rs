//! Explanations of settings from the doc comments of their fields: one text for docs.rs and the command line.

use super::{Bounds, Config, ConfigError, PRESETS, bounds};
use std::path::Path;
use toml::Value;

/// The sources of the structs, which have a doc comment for every field.
const SOURCES: [&str; 5] = [
    include_str!("augment.rs"),
    include_str!("image.rs"),
    include_str!("logging.rs"),
    include_str!("model.rs"),
    include_str!("training.rs"),
];

/// The struct of each section.
const SECTIONS: [(&str, &str); 10] = [
    ("model", "ModelConfig"),
    ("model.rpn", "RpnConfig"),
    ("model.roi", "RoiConfig"),
    ("model.box_head", "BoxHeadConfig"),
    ("model.mask_head", "MaskHeadConfig"),
    ("image", "ImageConfig"),
    ("data", "DataConfig"),
    ("train", "TrainConfig"),
    ("augment", "AugmentConfig"),
    ("log", "LogConfig"),
];

/// A setting: its meaning, default value and bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// `train.steps`.
    pub key: String,
    /// Its meaning.
    pub text: String,
    /// The default value, as TOML.
    pub default: String,
    /// The bounds, if it is a number.
    pub bounds: Option<&'static Bounds>,
    /// The valid words, if it is an enumeration.
    pub words: Option<String>,
    /// Presets with another value than the default.
    pub presets: Vec<(&'static str, String)>,
}

/// The setting `key`, or all settings whose key starts with `key.` (all of them for an empty one).
pub fn explain(key: &str) -> Result<Vec<Explanation>, ConfigError> {
    let settings = Config::default().settings()?;
    let section = format!("{key}.");
    let wanted = |name: &str| key.is_empty() || name == key || name.starts_with(&section);
    let presets = PRESETS.map(|(name, text)| {
        let config = Config::parse(text, Path::new(name), &[]);
        (name, config.and_then(|config| config.settings()))
    });
    let mut found = Vec::new();
    for (index, (name, default)) in settings.iter().enumerate() {
        if !wanted(name) {
            continue;
        }
        let mut others = Vec::new();
        for (preset, settings) in &presets {
            let Ok(settings) = settings else { continue };
            let value = settings.get(index).map(|(_, value)| value);
            if let Some(value) = value.filter(|value| *value != default) {
                others.push((*preset, value.to_string()));
            }
        }
        found.push(Explanation {
            key: name.clone(),
            text: documentation(name).unwrap_or_default(),
            default: default.to_string(),
            bounds: bounds(name),
            words: words(name, default),
            presets: others,
        });
    }
    if found.is_empty() {
        let names: Vec<&str> = settings.iter().map(|(name, _)| name.as_str()).collect();
        return Err(ConfigError::UnknownKey {
            key: key.into(),
            hint: closest(key, &names),
        });
    }
    Ok(found)
}

fn closest(key: &str, names: &[&str]) -> String {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_string();
    let score = |name: &&&str| {
        let whole = strsim::normalized_levenshtein(key, name);
        whole.max(strsim::normalized_levenshtein(&last(key), &last(name)))
    };
    let best = names.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
    best.map_or_else(String::new, |best| format!("; the closest is {best}"))
}

/// The valid words of a setting, as serde lists them.
fn words(key: &str, default: &Value) -> Option<String> {
    if default.is_bool() {
        return Some("true, false".into());
    }
    if !default.is_str() {
        return None;
    }
    let error = Config::default().with(&[format!("{key}='?'")]).err()?;
    let text = error.to_string();
    let (_, words) = text.split_once("expected ")?;
    let words = words.lines().next()?.trim_start_matches("one of ");
    Some(words.replace('`', ""))
}

/// The doc comment of a setting's field.
fn documentation(key: &str) -> Option<String> {
    let (section, field) = key.rsplit_once('.')?;
    let (_, name) = SECTIONS.iter().find(|(known, _)| *known == section)?;
    let start = format!("pub struct {name} {{");
    let body = SOURCES
        .iter()
        .find_map(|source| Some(source.split_once(&start)?.1))?;
    let field = format!("pub {field}:");
    let mut text: Vec<&str> = Vec::new();
    for line in body.lines().map(str::trim) {
        match line.strip_prefix("///") {
            Some(comment) => text.push(comment.trim()),
            None if line.starts_with(&field) => return Some(text.join(" ")),
            None if line == "}" => return None,
            None if line.starts_with("#[") => {}
            None => text.clear(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_explained() {
        let all = explain("").unwrap();
        assert_eq!(all.len(), Config::default().settings().unwrap().len());
        for setting in &all {
            assert!(setting.text.len() > 5, "{}: no text", setting.key);
        }
    }

    #[test]
    fn a_setting_has_its_bounds_words_and_presets() {
        let one = |key: &str| explain(key).unwrap().remove(0);
        let rate = one("train.learning_rate");
        assert_eq!(rate.default, "0.02");
        assert_eq!(rate.bounds.unwrap().to_string(), "from 0 to 1e30");
        assert!(rate.presets.contains(&("nuclei", "0.002".into())));
        let words = one("train.optimizer").words.unwrap();
        assert!(words.contains("sgd") && words.contains("adamw"), "{words}");
        assert_eq!(one("log.csv").words.unwrap(), "true, false");
        assert_eq!(one("data.dir").words, None);
        assert_eq!(explain("model.box_head").unwrap().len(), 3);
    }

    #[test]
    fn an_unknown_setting_names_the_closest() {
        let message = explain("train.learnign_rate").unwrap_err().to_string();
        assert!(message.contains("train.learning_rate"), "{message}");
    }
}
