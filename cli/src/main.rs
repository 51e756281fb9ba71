//! `mrcnn-cli`: a thin shell around `mrcnn-core`.

mod args;
mod benchmark;
mod convert;
mod dataset;
mod doctor;
mod eval;
mod interrupt;
mod predict;
mod progress;
mod quickstart;
mod ranks;
mod recipe;
mod stall;
mod train;

use args::{Cli, Command};
use clap::Parser;
use mimalloc::MiMalloc;
use mrcnn_backends::failure::{caught, message, wants_memory};
use std::process::ExitCode;

/// A training step on the processor allocates thousands of tensors: 6 % faster than glibc's allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    quiet_devices();
    let command = Cli::parse().command;
    let result = caught(|| match command {
        Command::Quickstart(args) => quickstart::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Dataset { command } => dataset::run(&command),
        Command::Benchmark(args) => benchmark::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// A device's thread without memory panics at every work that is left for it; the error at the end says
/// it once.
fn quiet_devices() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !message(panic.payload()).is_some_and(wants_memory) {
            hook(panic);
        }
    }));
}

/// An error with its causes, those left out that it tells itself.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
