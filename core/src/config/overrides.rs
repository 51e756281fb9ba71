//! Reading a configuration: file, then `key=value` overrides.

use super::Config;
use std::path::{Path, PathBuf};
use thiserror::Error;
use toml::{Table, Value};

/// Errors of reading or checking a configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}; check the path given with --config")]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The file is not a valid configuration.
    #[error("{path}: {message}")]
    Parse {
        /// The path of the file, or `--set`.
        path: PathBuf,
        /// The fault, with its position.
        message: String,
    },
    /// An override is not `key=value`.
    #[error("--set {text}: expected key=value, e.g. --set train.steps=500")]
    Override {
        /// The override as given.
        text: String,
    },
    /// An override names a key that does not exist.
    #[error("{key}: no such setting{hint}")]
    UnknownKey {
        /// The key as given.
        key: String,
        /// The closest setting that exists.
        hint: String,
    },
    /// There is no preset of that name.
    #[error("{name}: no such preset; the presets are {known}")]
    UnknownPreset {
        /// The name as given.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// A value is invalid.
    #[error("{key} = {value}: {reason}")]
    Value {
        /// The key of the setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// The values that it may have.
        reason: String,
    },
}

impl Config {
    /// Reads `file` (or the defaults), applies `overrides` (`train.steps=500`) and checks the result.
    pub fn load(file: Option<&Path>, overrides: &[String]) -> Result<Self, ConfigError> {
        let (text, path) = match file {
            Some(path) => (read(path)?, path.to_path_buf()),
            None => (String::new(), PathBuf::from("defaults")),
        };
        Self::parse(&text, &path, overrides)
    }

    /// Parses TOML `text` from `path` (named in errors), with overrides.
    pub fn parse(text: &str, path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let parse_error = |message: String| ConfigError::Parse {
            path: path.into(),
            message,
        };
        let config: Config =
            toml::from_str(text).map_err(|error| parse_error(error.to_string()))?;
        let config = config.with(overrides)?;
        config.check()?;
        Ok(config)
    }

    /// This configuration with `key=value` overrides; values are TOML, bare words are strings.
    pub fn with(&self, overrides: &[impl AsRef<str>]) -> Result<Self, ConfigError> {
        let set_error = |error: String| ConfigError::Parse {
            path: "--set".into(),
            message: error,
        };
        let mut table = Table::try_from(self).map_err(|error| set_error(error.to_string()))?;
        for text in overrides.iter().map(AsRef::as_ref) {
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| ConfigError::Override { text: text.into() })?;
            let key = key.trim();
            let renamed = FORMER_NAMES.iter().find(|(former, _)| *former == key);
            let key = renamed.map_or(key, |(_, name)| name);
            set(&mut table, key, parse_value(value.trim()))?;
        }
        table
            .try_into()
            .map_err(|error: toml::de::Error| set_error(error.to_string()))
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.into(),
        source,
    })
}

fn parse_value(text: &str) -> Value {
    toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_string()))
}

/// Settings that were renamed before version 0.1; the former names are still read.
const FORMER_NAMES: [(&str, &str); 4] = [
    ("data.check_pictures", "data.check_images"),
    ("train.val_loss_pictures", "train.val_loss_images"),
    ("train.val_pictures", "train.val_images"),
    ("log.worst_pictures", "log.worst_images"),
];

/// Replaces the value at a dotted key that must exist; integers become floats if the old value is a float.
fn set(table: &mut Table, key: &str, value: Value) -> Result<(), ConfigError> {
    let unknown = |table: &Table| ConfigError::UnknownKey {
        key: key.into(),
        hint: hint(table),
    };
    let (parents, last) = match key.rsplit_once('.') {
        Some((parents, last)) => (parents.split('.').collect(), last),
        None => (Vec::new(), key),
    };
    let mut table = table;
    for parent in parents {
        let error = unknown(table);
        table = match table.get_mut(parent) {
            Some(Value::Table(inner)) => inner,
            _ => return Err(error),
        };
    }
    let value = match (table.get(last), value) {
        (None, _) => return Err(unknown(table)),
        (Some(Value::Float(_)), Value::Integer(number)) => Value::Float(number as f64),
        (_, value) => value,
    };
    table.insert(last.to_string(), value);
    Ok(())
}

fn hint(table: &Table) -> String {
    let keys: Vec<&str> = table.keys().map(String::as_str).collect();
    format!("; the settings here are {}", keys.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NormKind;

    fn parse(overrides: &[&str]) -> Result<Config, ConfigError> {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        Config::parse("", Path::new("test.toml"), &overrides)
    }

    #[test]
    fn overrides_reach_every_depth_and_type() {
        let config = parse(&[
            "train.steps=7",
            "train.learning_rate=1",
            "model.norm=group_norm",
            "model.mask_head.convs=[8, 8]",
            "data.dir=/tmp/x",
        ])
        .unwrap();
        assert_eq!(config.train.steps, 7);
        assert_eq!(config.train.learning_rate, 1.0);
        assert_eq!(config.model.norm, NormKind::GroupNorm);
        assert_eq!(config.model.mask_head.convs, [8, 8]);
        assert_eq!(config.data.dir, Path::new("/tmp/x"));
    }

    /// Run folders and command lines with the former names of settings still work.
    #[test]
    fn former_names_are_read() {
        let text = "[train]\nval_pictures = 3\nval_loss_pictures = 4\n[data]\ncheck_pictures = false\n\
                    [log]\nworst_pictures = 5\n";
        let config = Config::parse(text, Path::new("args.toml"), &[]).unwrap();
        assert_eq!(
            (config.train.val_images, config.train.val_loss_images),
            (3, 4)
        );
        assert_eq!(
            (config.data.check_images, config.log.worst_images),
            (false, 5)
        );
        for (former, name) in FORMER_NAMES {
            let value = if former == "data.check_pictures" {
                "false"
            } else {
                "7"
            };
            let [a, b] = [former, name].map(|key| parse(&[&format!("{key}={value}")]).unwrap());
            assert_eq!(a, b, "{former}");
            assert_ne!(a, Config::default(), "{former}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let message = |overrides: &[&str]| parse(overrides).unwrap_err().to_string();
        assert!(message(&["train.stepz=7"]).contains("steps"));
        assert!(message(&["steps"]).contains("key=value"));
        assert!(message(&["train.steps=many"]).contains("steps"));
        let unknown = Config::parse("[model]\nwidht = 3", Path::new("a.toml"), &[]).unwrap_err();
        assert!(unknown.to_string().contains("a.toml") && unknown.to_string().contains("widht"));
    }

    #[test]
    fn a_saved_configuration_reads_back() {
        let config = parse(&["train.steps=7"]).unwrap();
        let text = toml::to_string(&config).unwrap();
        assert_eq!(
            Config::parse(&text, Path::new("args.toml"), &[]).unwrap(),
            config
        );
    }
}
