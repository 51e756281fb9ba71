//! Writes weights of the recipe with 91 classes, for tests of the browser demo and benchmarks:
//!
//! - `recipe-weights FILE`: R50-FPN as f16 in this project's format, for tests of size and speed;
//! - `recipe-weights --torchvision FILE`: a narrow network as torchvision saves it, for `convert`.

use mrcnn_backends::{BackendKind, select};
use mrcnn_core::config::{Config, ModelConfig};
use mrcnn_core::data::Classes;
use mrcnn_core::model::MaskRcnn;
use mrcnn_core::weights::{Checkpoint, StateDict, StoredAs};
use mrcnn_tests::{recipe, torch_file};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["--torchvision", path] => write_torchvision(path.as_ref()),
        [path] => write_own(path.as_ref()),
        _ => Err("usage: recipe-weights [--torchvision] FILE".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// R50-FPN as f16.
fn write_own(path: &Path) -> Result<(), Box<dyn Error>> {
    let config = Config {
        model: recipe::r50_config(1e-5),
        ..Config::default()
    };
    let checkpoint = Checkpoint {
        tensors: tensors(&config.model, 1)?,
        classes: Classes {
            names: (1..91).map(|label| format!("class {label}")).collect(),
            ids: (1..91).collect(),
        },
        training: None,
        config,
    };
    Ok(checkpoint.save(path, StoredAs::F16)?)
}

/// A narrow network with torchvision's names in torch's file format.
fn write_torchvision(path: &Path) -> Result<(), Box<dyn Error>> {
    let tensors = tensors(&recipe::narrow_config(90), 3)?;
    let named = tensors.iter().map(|(name, data)| {
        let values = data.iter::<f32>().collect();
        (name.clone(), data.shape().to_vec(), values)
    });
    let named: Vec<torch_file::Named> = named.collect();
    Ok(std::fs::write(path, torch_file::zipped(&named))?)
}

fn tensors(config: &ModelConfig, seed: u64) -> Result<StateDict, Box<dyn Error>> {
    let device = select(BackendKind::Cpu)?.device;
    Ok(recipe::tensors(&MaskRcnn::new(config, 0, &device), seed))
}
