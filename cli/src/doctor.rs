//! `mrcnn-cli doctor`.

use crate::shared::PrintFormat;
use crate::terminal::{self, out};
use anyhow::Result;
use clap::Args;
use mrcnn_backends::diagnose;
use mrcnn_core::train::machine;
use serde_json::json;

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    format: PrintFormat,
}

pub fn run(args: &DoctorArgs) -> Result<()> {
    let (machine, diagnosis) = (machine(), diagnose());
    match args.format {
        PrintFormat::Table => {
            out!("mrcnn    {}", env!("CARGO_PKG_VERSION"));
            for (name, value) in machine {
                out!("{name:<8} {value}");
            }
            out!("{}", diagnosis.to_string().trim_end());
        }
        PrintFormat::Json => {
            let mut value = serde_json::to_value(diagnosis)?;
            value["version"] = json!(env!("CARGO_PKG_VERSION"));
            for (name, text) in machine {
                value["machine"][name] = json!(text);
            }
            terminal::raw(&serde_json::to_string_pretty(&value)?);
        }
    }
    Ok(())
}
