//! `mrcnn-cli doctor`.

use crate::profile::PROFILE;
use crate::shared::PrintFormat;
use crate::terminal::{self, out};
use anyhow::{Context, Result, bail};
use clap::Args;
use mrcnn_backends::{diagnose, kernel_cache};
use mrcnn_core::train::machine;
use serde_json::json;

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    format: PrintFormat,
    /// Delete the CUDA kernels that earlier runs compiled and tuned, then exit
    #[arg(long)]
    clear_kernels: bool,
}

pub fn run(args: &DoctorArgs) -> Result<()> {
    if args.clear_kernels {
        return clear_kernels();
    }
    let (machine, diagnosis) = (machine(), diagnose());
    match args.format {
        PrintFormat::Table => {
            out!("mrcnn    {}, profile {PROFILE}", env!("CARGO_PKG_VERSION"));
            for (name, value) in machine {
                out!("{name:<8} {value}");
            }
            out!("{}", diagnosis.to_string().trim_end());
            if let Some(folder) = kernel_cache::folder() {
                let megabytes = kernel_cache::size(&folder) as f64 / 1e6;
                out!(
                    "kernels of earlier runs: {megabytes:.1} MB in {}",
                    folder.display()
                );
            }
        }
        PrintFormat::Json => {
            let mut value = serde_json::to_value(diagnosis)?;
            value["version"] = json!(env!("CARGO_PKG_VERSION"));
            value["profile"] = json!(PROFILE);
            for (name, text) in machine {
                value["machine"][name] = json!(text);
            }
            terminal::raw(&serde_json::to_string_pretty(&value)?);
        }
    }
    Ok(())
}

fn clear_kernels() -> Result<()> {
    let Some(folder) = kernel_cache::folder() else {
        bail!("no kernels are kept: this build has no CUDA, or MRCNN_KERNEL_CACHE=off is set");
    };
    let freed = kernel_cache::clear(&folder).with_context(|| folder.display().to_string())?;
    out!(
        "deleted {:.1} MB in {}",
        freed as f64 / 1e6,
        folder.display()
    );
    Ok(())
}
