//! `mrcnn-cli config`.

use crate::terminal::out;
use anyhow::Result;
use clap::Subcommand;
use mrcnn_core::config::{Explanation, explain};

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Explain a setting: its meaning, default and bounds, and the presets that change it.
    #[command(after_help = EXAMPLES)]
    Explain {
        /// Setting or section, e.g. train.learning_rate or model.rpn; by default all settings are listed
        key: Option<String>,
    },
}

const EXAMPLES: &str = "\
Examples:
  mrcnn-cli config explain
  mrcnn-cli config explain train.learning_rate
  mrcnn-cli config explain augment";

pub fn run(command: &ConfigCommand) -> Result<()> {
    let ConfigCommand::Explain { key } = command;
    let settings = explain(key.as_deref().unwrap_or_default())?;
    match &settings[..] {
        [setting] => describe(setting),
        settings => list(settings),
    }
    Ok(())
}

fn describe(setting: &Explanation) {
    out!("{}\n  {}", setting.key, setting.text);
    out!("  default: {}", setting.default);
    if let Some(bounds) = setting.bounds {
        out!("  values:  {bounds}");
    }
    if let Some(words) = &setting.words {
        out!("  values:  {words}");
    }
    for (preset, value) in &setting.presets {
        out!("  {preset}: {value}");
    }
}

fn list(settings: &[Explanation]) {
    out!("{:<32} {:<28} values", "setting", "default");
    for setting in settings {
        let values = match (setting.bounds, &setting.words) {
            (Some(bounds), _) => bounds.to_string(),
            (None, Some(words)) => words.clone(),
            (None, None) => "text".into(),
        };
        out!("{:<32} {:<28} {values}", setting.key, setting.default);
    }
}
