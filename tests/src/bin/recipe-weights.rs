//! Writes the recipe's R50-FPN (91 classes, seed 1) as f16: `recipe-weights FILE`. For tests of sizes
//! and speeds of what reads weight files.

use mrcnn_core::config::Config;
use mrcnn_core::data::Classes;
use mrcnn_core::model::MaskRcnn;
use mrcnn_core::weights::{Checkpoint, StoredAs};
use mrcnn_tests::recipe;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: recipe-weights FILE");
        return ExitCode::FAILURE;
    };
    let config = Config {
        model: recipe::r50_config(1e-5),
        ..Config::default()
    };
    let device = mrcnn_backends::select(mrcnn_backends::BackendKind::Cpu)
        .expect("the tests build the processor's backend")
        .device;
    let model = MaskRcnn::new(&config.model, 0, &device);
    let checkpoint = Checkpoint {
        tensors: recipe::tensors(&model, 1),
        classes: Classes {
            names: (1..91).map(|label| format!("class {label}")).collect(),
            ids: (1..91).collect(),
        },
        training: None,
        config,
    };
    match checkpoint.save(&path, StoredAs::F16) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
