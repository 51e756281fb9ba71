//! Trains on a custom dataset: images of discs, rendered when they are loaded.
//! `cargo run --release --example custom_dataset -- runs/discs train.steps=300`

use mrcnn_core::data::{Classes, DatasetSource, Instance, Sample, SourceError};
use mrcnn_core::image::RgbImage;
use mrcnn_core::random::Stream;
use mrcnn_core::train::{Observer, Outcome, StepReport, Trainer};
use mrcnn_core::{Config, Predictor, Rle};
use std::sync::Arc;

/// Images with one disc each, dark or bright.
struct Discs {
    split: &'static str,
    count: usize,
}

/// Width and height in pixels.
const SIZE: (u32, u32) = (96, 80);

impl Discs {
    /// Label, center and radius of the disc of an image.
    fn disc(&self, index: usize) -> (usize, [f64; 3]) {
        let random = Stream::named(self.split, index as u64);
        let radius = 8.0 + 16.0 * random.uniform(0);
        let center = |side: u32, random| radius + (f64::from(side) - 2.0 * radius) * random;
        let (x, y) = (
            center(SIZE.0, random.uniform(1)),
            center(SIZE.1, random.uniform(2)),
        );
        (1 + index % 2, [x, y, radius])
    }

    fn is_inside([x, y, radius]: [f64; 3], column: u32, row: u32) -> bool {
        let (dx, dy) = (f64::from(column) + 0.5 - x, f64::from(row) + 0.5 - y);
        dx * dx + dy * dy < radius * radius
    }
}

impl DatasetSource for Discs {
    fn name(&self) -> String {
        format!("discs, {} split", self.split)
    }

    fn classes(&self) -> Classes {
        Classes {
            names: vec!["dark".into(), "bright".into()],
            ids: vec![1, 2],
        }
    }

    fn len(&self) -> usize {
        self.count
    }

    fn sample(&self, index: usize) -> Result<Sample, SourceError> {
        let (label, disc) = self.disc(index);
        let (width, height) = SIZE;
        let rows = (0..height).flat_map(|row| (0..width).map(move |column| (column, row)));
        let cells: Vec<u8> = rows
            .map(|(column, row)| u8::from(Self::is_inside(disc, column, row)))
            .collect();
        let mask = Rle::from_row_major_raster_bytes(&cells, height, width)?;
        let (id, name) = (index as u64 + 1, format!("disc {index}"));
        Ok(Sample::new(
            id,
            name,
            SIZE,
            vec![Instance::new(label, mask)],
        ))
    }

    fn image(&self, index: usize) -> Result<RgbImage, SourceError> {
        let (label, disc) = self.disc(index);
        let color = [[40, 60, 90], [240, 220, 200]][label - 1];
        Ok(RgbImage::from_fn(SIZE.0, SIZE.1, |column, row| {
            let noise = ((column * 31 + row * 17 + index as u32 * 7) % 23) as u8;
            match Self::is_inside(disc, column, row) {
                true => color.into(),
                false => [128 + noise; 3].into(),
            }
        }))
    }
}

struct LossPrinter;

impl Observer for LossPrinter {
    fn on_step(&mut self, report: &StepReport) {
        if report.step.is_multiple_of(20) {
            println!("step {}: loss {:.3}", report.step, report.loss());
        }
    }
}

fn main() -> Result<(), SourceError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [out, settings @ ..] = &args[..] else {
        return Err("usage: custom_dataset OUT [KEY=VALUE ...]".into());
    };
    let config = Config::preset("quickstart")?.with(settings)?;
    let discs = |split, count| Arc::new(Discs { split, count });
    let (trainer, _) = Trainer::builder(config)
        .folder(out)
        .data(discs("train", 200), discs("val", 20))
        .build()?;
    if let Outcome::Finished(metrics) = trainer.run(trainer.new_model(), &mut LossPrinter)? {
        println!("{metrics}");
    }
    let best = trainer.folder().best();
    let predictor = Predictor::builder().weights(&best).score(0.5).build()?;
    for object in &predictor.predict(&discs("val", 20).image(3)?)? {
        println!("{} {:.2} {:?}", object.name, object.score, object.bbox);
    }
    Ok(())
}
