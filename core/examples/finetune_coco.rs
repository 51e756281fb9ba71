//! Fine-tunes weights on a COCO dataset, with the class names of the dataset:
//! `cargo run --release --example finetune_coco -- coco.safetensors DATA runs/mine train.steps=500`

use mrcnn_core::eval::Metrics;
use mrcnn_core::train::{Observer, Outcome, StepReport, Trainer};
use mrcnn_core::weights;

/// Prints the progress, and stops the run when the loss is low enough.
struct Progress {
    loss: f32,
}

impl Observer for Progress {
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
    let [pretrained, data, out, settings @ ..] = &args[..] else {
        return Err("usage: finetune_coco WEIGHTS DATA OUT [KEY=VALUE ...]".into());
    };
    let mut config = weights::load(pretrained)?.config.with(settings)?;
    config.data.dir = data.into();
    config.model.num_classes = 0; // The number of classes of the data.
    let (trainer, _) = Trainer::builder(config).folder(out).build()?;
    let model = trainer.model_from(pretrained)?.model;
    match trainer.run(model, &mut Progress { loss: f32::MAX })? {
        Outcome::Finished(metrics) => println!("{metrics}"),
        Outcome::Stopped(checkpoint) => println!("stopped, saved {}", checkpoint.display()),
    }
    println!("best weights: {}", trainer.folder().best().display());
    Ok(())
}
