//! `mrcnn-cli dataset shapes`.

use crate::terminal::out;
use anyhow::{Result, ensure};
use clap::Args;
use mrcnn_core::data::shapes;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct ShapesArgs {
    /// Output folder; must be empty or new
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Number of training images
    #[arg(long, default_value_t = 2400)]
    train: usize,
    /// Number of validation images
    #[arg(long, default_value_t = 100)]
    val: usize,
    /// Smallest and largest side of an image in pixels
    #[arg(long, num_args = 2, value_names = ["MIN", "MAX"], default_values_t = [128, 192])]
    size: Vec<u32>,
    /// Maximum number of shapes per image, at least 2
    #[arg(long, default_value_t = 5)]
    objects: usize,
    /// Seed; the same seed renders the same images
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub fn run(args: &ShapesArgs) -> Result<()> {
    let [size_min, size_max] = [args.size[0], args.size[1]];
    ensure!(
        (32..=4096).contains(&size_min) && (size_min..=4096).contains(&size_max),
        "--size {size_min} {size_max}: give two sides from 32 to 4096, the smaller first"
    );
    ensure!(
        args.objects >= 2,
        "--objects {}: an image has at least 2 shapes",
        args.objects
    );
    ensure!(
        mrcnn_core::train::free_name(&args.out) == args.out,
        "{}: the folder is not empty; give a new folder",
        args.out.display()
    );
    let spec = shapes::ShapesSpec {
        train: args.train,
        val: args.val,
        size_min,
        size_max,
        max_objects: args.objects,
        seed: args.seed,
    };
    shapes::render(&args.out, &spec)?;
    out!(
        "{} + {} images in {}",
        args.train,
        args.val,
        args.out.display()
    );
    Ok(())
}
