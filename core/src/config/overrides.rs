//! Reading a configuration: file, then `key=value` overrides, then checks.

use super::{Config, NormKind};
use std::path::{Path, PathBuf};
use thiserror::Error;
use toml::{Table, Value};

/// Why a configuration was refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}; check the path given with --config")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a configuration.
    #[error("{path}: {message}")]
    Parse {
        /// The file, or `--set`.
        path: PathBuf,
        /// What is wrong and where.
        message: String,
    },
    /// An override is not `key=value`.
    #[error("--set {text}: expected key=value, e.g. --set train.steps=500")]
    Override {
        /// The override as given.
        text: String,
    },
    /// An override names a key that does not exist.
    #[error("--set {key}: no such key{hint}")]
    UnknownKey {
        /// The key as given.
        key: String,
        /// What may have been meant.
        hint: String,
    },
    /// A value makes no sense.
    #[error("{key} = {value}: {reason}")]
    Value {
        /// The key at fault.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        reason: &'static str,
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
    pub fn with(&self, overrides: &[String]) -> Result<Self, ConfigError> {
        let set_error = |error: String| ConfigError::Parse {
            path: "--set".into(),
            message: error,
        };
        let mut table = Table::try_from(self).map_err(|error| set_error(error.to_string()))?;
        for text in overrides {
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| ConfigError::Override { text: text.clone() })?;
            set(&mut table, key.trim(), parse_value(value.trim()))?;
        }
        table
            .try_into()
            .map_err(|error: toml::de::Error| set_error(error.to_string()))
    }

    /// Checks what types cannot say.
    pub fn check(&self) -> Result<(), ConfigError> {
        let model = &self.model;
        let positive = [
            ("model.width", model.width),
            ("model.fpn_channels", model.fpn_channels),
            ("model.box_head.pool", model.box_head.pool),
            ("model.box_head.hidden", model.box_head.hidden),
            ("model.mask_head.pool", model.mask_head.pool),
            ("model.mask_head.hidden", model.mask_head.hidden),
            ("model.norm_groups", model.norm_groups),
            ("image.size_divisor", self.image.size_divisor as usize),
            ("image.min_size", self.image.min_size as usize),
            ("image.max_size", self.image.max_size as usize),
            ("train.batch_size", self.train.batch_size),
            ("train.replicas", self.train.replicas),
            ("train.steps", self.train.steps),
        ];
        if let Some((key, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(invalid(key, 0, "must be at least 1"));
        }
        if model.rpn.anchor_sizes.len() != 5 {
            let count = model.rpn.anchor_sizes.len();
            return Err(invalid(
                "model.rpn.anchor_sizes",
                count,
                "needs one size for each of P2-P6",
            ));
        }
        if model.rpn.anchor_ratios.is_empty() {
            return Err(invalid(
                "model.rpn.anchor_ratios",
                "[]",
                "needs at least one ratio",
            ));
        }
        if model.norm == NormKind::None {
            return Err(invalid(
                "model.norm",
                "none",
                "the backbone needs a normalisation",
            ));
        }
        if model.freeze_at > 5 {
            return Err(invalid(
                "model.freeze_at",
                model.freeze_at,
                "must be 0 to 5",
            ));
        }
        if self.train.replicas > self.train.batch_size {
            return Err(invalid(
                "train.replicas",
                self.train.replicas,
                "must not exceed train.batch_size: each replica needs a picture",
            ));
        }
        let norms = [model.norm, model.head_norm];
        if self.train.replicas > 1 && norms.contains(&NormKind::BatchNorm) {
            return Err(invalid(
                "train.replicas",
                self.train.replicas,
                "batch_norm's running statistics are those of one model: set model.norm to \
                 group_norm, or replicas to 1",
            ));
        }
        if !(self.train.learning_rate >= 0.0 && self.train.learning_rate.is_finite()) {
            let rate = self.train.learning_rate;
            return Err(invalid(
                "train.learning_rate",
                rate,
                "must be finite and not negative",
            ));
        }
        Ok(())
    }
}

fn invalid(key: &'static str, value: impl ToString, reason: &'static str) -> ConfigError {
    ConfigError::Value {
        key,
        value: value.to_string(),
        reason,
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

/// Replaces the value at a dotted key that must exist; integers become floats where a float stood.
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
    format!("; here are: {}", keys.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn mistakes_are_named() {
        let message = |overrides: &[&str]| parse(overrides).unwrap_err().to_string();
        assert!(message(&["train.stepz=7"]).contains("steps"));
        assert!(message(&["steps"]).contains("key=value"));
        assert!(message(&["train.steps=many"]).contains("steps"));
        assert!(message(&["train.steps=0"]).contains("at least 1"));
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
