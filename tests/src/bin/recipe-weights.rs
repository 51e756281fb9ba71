//! Writes R50-FPN weights of the recipe (91 classes, seed 1) as f16: `recipe-weights FILE`. For tests of size and speed.

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
        .expect("the tests are built with the CPU backend")
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
