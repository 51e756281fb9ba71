//! `mrcnn-cli quickstart`: renders shapes, trains on them, evaluates and predicts.

use crate::backend::BackendArgs;
use crate::interrupt::{Requests, SAVING};
use crate::progress::Progress;
use crate::shared::{OverrideArgs, seed_override};
use crate::terminal::{note, out};
use anyhow::{Context, Result};
use clap::Args;
use mrcnn_core::Config;
use mrcnn_core::data::shapes::{self, ShapesSpec};
use mrcnn_core::eval::{AreaProtocol, Metrics};
use mrcnn_core::evaluate::ground_truth_and_prediction;
use mrcnn_core::image::overlay::stack_vertically;
use mrcnn_core::predict::Predictor;
use mrcnn_core::train::{Outcome, Trainer};
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Debug, Args)]
pub struct QuickstartArgs {
    /// Folder for data, run and image; a number is appended if it exists
    #[arg(long, value_name = "DIR", default_value = "runs/quickstart")]
    out: PathBuf,
    /// Seed of the scenes and of training; 0 by default
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    backend: BackendArgs,
    #[command(flatten)]
    overrides: OverrideArgs,
}

pub fn run(args: &QuickstartArgs) -> Result<u8> {
    let started = Instant::now();
    let out = mrcnn_core::train::free_name(&args.out);
    let data = out.join("data");
    let spec = ShapesSpec {
        seed: args.seed.unwrap_or_default(),
        ..ShapesSpec::default()
    };
    let mut config = Config::preset("quickstart")?;
    config.data.dir = data.clone();
    // The images were just rendered.
    config.data.check_images = false;
    let precision = args.backend.precision_override();
    let options = seed_override(args.seed).into_iter().chain(precision);
    let config = config.with(&args.overrides.append_to(options)?)?;
    config.check()?;
    let backend = args.backend.select()?;
    note!(
        "1/3 rendering {} + {} images in {}",
        spec.train,
        spec.val,
        data.display()
    );
    shapes::render(&data, &spec)?;

    let protocol = AreaProtocol::default();
    let run = out.join("run");
    let builder = Trainer::builder(config)
        .folder(&run)
        .device(&backend.device);
    let (trainer, _) = builder.area(protocol).build()?;

    let steps = trainer.config().train.steps;
    let image_count = trainer.val_set().samples.len();
    note!("2/3 training {steps} steps, evaluated on {image_count} validation images");
    let requests = Requests::catch(Some(SAVING));
    let mut progress = Progress::new(steps, true, requests.clone());
    let metrics = match trainer.run(trainer.new_model(), &mut progress)? {
        Outcome::Finished(metrics) => metrics,
        Outcome::Stopped(_) => {
            let run = trainer.folder().path().display();
            out!("stopped; resume with: mrcnn-cli train --resume {run}");
            return Ok(requests.exit_code());
        }
    };

    let best = trainer.folder().best();
    let predictor = Predictor::builder()
        .weights(&best)
        .device(&backend.device)
        .precision(trainer.precision().precision())
        .build()?;
    let image = out.join("predictions.png");
    draw(&predictor, &trainer, &image)?;
    note!("3/3 predicted with {}", best.display());
    let seconds = started.elapsed().as_secs_f64();
    out!("{metrics}\n\n{}, {seconds:.0} s in all\n", shown(&metrics));
    out!("image:   {}", image.display());
    out!("run:     {}", trainer.folder().path().display());
    if trainer.config().log.report {
        out!("report:  {}", trainer.folder().report().display());
    }
    out!(
        "next:    mrcnn-cli predict {} --weights {}",
        trainer.config().data.dir.join("val").display(),
        best.display()
    );
    Ok(0)
}

fn shown(metrics: &Metrics) -> String {
    let [bbox, mask] = [metrics.box_ap(), metrics.mask_ap()].map(|ap| ap.max(0.0));
    format!("box AP {bbox:.3}, mask AP {mask:.3}")
}

/// Number of validation images on the sheet.
const ROWS: usize = 4;

/// Draws ground truth and predictions of the first validation images on one sheet.
fn draw(predictor: &Predictor, trainer: &Trainer, path: &Path) -> Result<()> {
    let mut rows = Vec::new();
    for sample in trainer.val_set().samples.iter().take(ROWS) {
        let image = sample.image()?;
        let found = predictor.predict(&image)?;
        rows.push(ground_truth_and_prediction(
            sample,
            &found.detections,
            trainer.val_set(),
        )?);
    }
    stack_vertically(&rows)
        .save(path)
        .with_context(|| path.display().to_string())
}
