//! Trains on a COCO data set from the weights of another one, class names and all:
//! `cargo run --release --example finetune_coco -- coco.safetensors DATA runs/mine train.steps=500`

use mrcnn_core::eval::Metrics;
use mrcnn_core::train::{Observer, Outcome, StepReport, Trainer};
use mrcnn_core::weights;

/// Prints what happens; stops the run where the loss is low enough.
struct Watch {
    loss: f32,
}

impl Observer for Watch {
    fn on_step(&mut self, report: &StepReport) {
        self.loss = report.loss();
        println!("step {}: loss {:.3}", report.step, self.loss);
    }

    fn on_eval(&mut self, step: usize, metrics: &Metrics) {
        println!("step {step}: mask AP {:.3}", metrics.mask_ap());
    }

    fn should_stop(&self) -> bool {
        self.loss < 0.05
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [start, data, out, settings @ ..] = &args[..] else {
        return Err("usage: finetune_coco WEIGHTS DATA OUT [KEY=VALUE ...]".into());
    };
    let mut config = weights::load(start)?.config.with(settings)?;
    config.data.dir = data.into();
    config.model.num_classes = 0; // As many as the data have.
    let (trainer, _) = Trainer::builder(config).folder(out).build()?;
    let model = trainer.model_from(start)?.model;
    match trainer.run(model, &mut Watch { loss: f32::MAX })? {
        Outcome::Finished(metrics) => println!("{metrics}"),
        Outcome::Stopped(checkpoint) => println!("stopped, saved {}", checkpoint.display()),
    }
    println!("weights: {}", trainer.folder.best().display());
    Ok(())
}
