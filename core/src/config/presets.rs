//! Presets: recipes that are part of the crate.

use super::{Config, ConfigError};
use std::path::Path;

/// Presets by name as TOML, for `mrcnn-cli train --config NAME`.
pub const PRESETS: [(&str, &str); 6] = [
    ("quickstart", include_str!("../../configs/quickstart.toml")),
    ("nuclei", include_str!("../../configs/nuclei.toml")),
    (
        "r50_fpn_1x_coco",
        include_str!("../../configs/r50_fpn_1x_coco.toml"),
    ),
    (
        "r50_fpn_3x_coco",
        include_str!("../../configs/r50_fpn_3x_coco.toml"),
    ),
    ("r50_fpn_v2", include_str!("../../configs/r50_fpn_v2.toml")),
    (
        "r50_fpn_reference",
        include_str!("../../configs/r50_fpn_reference.toml"),
    ),
];

impl Config {
    /// The preset `name` of [`PRESETS`]. If it does not exist, the error lists all names.
    pub fn preset(name: &str) -> Result<Self, ConfigError> {
        let Some((name, text)) = PRESETS.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
            return Err(ConfigError::UnknownPreset {
                name: name.into(),
                known: names.join(", "),
            });
        };
        Self::parse(text, Path::new(name), &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_a_configuration_and_others_are_named() {
        for (name, _) in PRESETS {
            Config::preset(name).unwrap();
        }
        let error = Config::preset("r18").unwrap_err().to_string();
        assert!(error.contains("r18") && error.contains("nuclei"), "{error}");
    }
}
