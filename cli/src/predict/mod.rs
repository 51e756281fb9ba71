//! `mrcnn-cli predict`.

mod args;
mod inputs;
mod output;

pub use args::PredictArgs;

use crate::interrupt::Requests;
use crate::progress::bar;
use crate::shared::{PrintFormat, free_folder};
use crate::terminal::{self, note, out};
use crate::weights::Needed;
use anyhow::{Context, Result, anyhow, bail};
use indicatif::ProgressBar;
use inputs::Input;
use mrcnn_core::config::Depth;
use mrcnn_core::data::{Classes, LeftOut, detections_json, printable};
use mrcnn_core::image::decode::decode_with;
use mrcnn_core::{Prediction, Predictor};
use output::JsonList;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

pub fn run(args: &PredictArgs) -> Result<()> {
    let found = inputs::find(&args.images, args.split.as_deref(), args.recursive)?;
    let weights = match &args.weights {
        Some(path) => path.clone(),
        None => newest_weights(Path::new("runs"))?,
    };
    let source = args.fetch.source(&weights, Needed::Detector, true)?;
    let backend = args.model.backend.select()?;
    let precision = args.model.backend.precision(&backend, true)?;
    let mut builder = Predictor::builder()
        .weights(source)
        .overrides(&args.model.overrides.set)
        .device(&backend.device)
        .precision(precision.precision())
        .score(args.score);
    if let Some(config) = args.model.config()? {
        builder = builder.config(config);
    }
    let predictor = builder.build()?;
    note!("weights: {}", weights.display());
    found.notes.iter().for_each(|note| note!("note: {note}"));
    let out = match args.resume {
        true => {
            std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
            args.out.clone()
        }
        false => free_folder(&args.out)?,
    };
    let labels = match &found.classes {
        Some(classes) => Some(Relabelling::new(&predictor, classes.clone())?),
        None => None,
    };
    let run = Run {
        args,
        predictor: &predictor,
        labels,
        out,
    };
    run.images(&found.images, &found.left_out)
}

/// An image in `images.json`.
#[derive(Deserialize, Serialize)]
struct Entry {
    id: u64,
    file_name: String,
    #[serde(default)]
    width: u32,
    #[serde(default)]
    height: u32,
    /// Number of detections.
    #[serde(default)]
    detections: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Maps labels of the weights to those of a dataset.
struct Relabelling {
    classes: Classes,
    labels: Vec<Option<usize>>,
}

impl Relabelling {
    fn new(predictor: &Predictor, classes: Classes) -> Result<Self> {
        let labels = predictor.classes().labels_in(&classes).ok_or_else(|| {
            anyhow!(
                "not all of the dataset's classes {:?} are among those of the weights, {:?}; to predict with the \
                 classes of the weights, copy its images to another folder and give that",
                classes.names,
                predictor.classes().names
            )
        })?;
        Ok(Self { classes, labels })
    }
}

struct Run<'a> {
    args: &'a PredictArgs,
    predictor: &'a Predictor,
    labels: Option<Relabelling>,
    out: PathBuf,
}

impl Run<'_> {
    fn images(&self, images: &[Input], left_out: &[LeftOut]) -> Result<()> {
        let (mut detections, mut entries, done) = self.open()?;
        let left: Vec<(usize, &Input)> = images
            .iter()
            .enumerate()
            .filter(|(_, image)| !done.contains(&image.file_name))
            .collect();
        if left.len() < images.len() {
            note!(
                "{} of {} images are already done",
                images.len() - left.len(),
                images.len()
            );
        }
        let table = self.args.format == PrintFormat::Table;
        if table {
            out!("{:<40} {:>11} {:>8}  detections", "image", "size", "ms");
        }
        let requests = Requests::catch(true);
        let bar = bar(left.len(), "predicting {bar:30} {pos}/{len} ETA {eta}");
        for image in left_out {
            bar.suspend(|| {
                note!(
                    "error: image {}: {}",
                    image.image_id,
                    printable(&image.reason)
                )
            });
            let name = image.path.to_string_lossy().into_owned();
            entries.push(&[failure(image.image_id, name, image.reason.clone())?])?;
        }
        let (mut failed, mut finished) = (left_out.len(), 0);
        for (index, image) in &left {
            if requests.end() {
                break;
            }
            match self.image(image, *index, &bar)? {
                Ok((records, entry)) => {
                    detections.push(&records)?;
                    entries.push(&[serde_json::to_string(&entry)?])?;
                }
                Err(error) => {
                    bar.suspend(|| note!("error: {}", printable(&error)));
                    failed += 1;
                    let name = image.file_name.clone();
                    entries.push(&[failure(image.image_id, name, error)?])?;
                }
            }
            finished += 1;
            bar.inc(1);
        }
        bar.finish_and_clear();
        let out = self.out.display();
        match self.args.format {
            PrintFormat::Table => out!("overlays, detections.json and images.json in {out}"),
            PrintFormat::Json => terminal::raw(&detections.text()?),
        }
        if finished < left.len() {
            bail!(
                "stopped after {finished} of {} images; continue with --resume --out {out}",
                left.len()
            );
        }
        if failed > 0 {
            let all = left.len() + left_out.len();
            bail!("{failed} of {all} images could not be read");
        }
        Ok(())
    }

    /// The two lists, and the names of images that are done. Results of an image that an earlier run did
    /// not finish are dropped.
    fn open(&self) -> Result<(JsonList, JsonList, HashSet<String>)> {
        let paths = ["detections.json", "images.json"].map(|name| self.out.join(name));
        let (mut kept, mut entries, mut done) = (Vec::new(), Vec::new(), HashSet::new());
        if self.args.resume {
            for element in JsonList::read(&paths[1])? {
                let entry: Entry = serde_json::from_str(element.get())?;
                if entry.error.is_none() && done.insert(entry.file_name) {
                    entries.push(element);
                }
            }
            #[derive(Deserialize)]
            struct Named {
                file_name: String,
            }
            for element in JsonList::read(&paths[0])? {
                let named: Named = serde_json::from_str(element.get())?;
                if done.contains(&named.file_name) {
                    kept.push(element);
                }
            }
        }
        let detections = JsonList::create(&paths[0], &kept)?;
        Ok((detections, JsonList::create(&paths[1], &entries)?, done))
    }

    /// Predicts an image and draws it. The inner error concerns the image only.
    #[allow(clippy::type_complexity)]
    fn image(
        &self,
        input: &Input,
        index: usize,
        bar: &ProgressBar,
    ) -> Result<std::result::Result<(Vec<String>, Entry), String>> {
        let depth = self.predictor.config().image.depth;
        let decoded = match decode_with(&input.path, depth) {
            Ok(decoded) => decoded,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let path = input.path.display().to_string();
        let warn = |text: &str| bar.suspend(|| note!("warning: {}: {text}", printable(&path)));
        if let (Some(bits @ ..=14), Depth::Full) = (decoded.used_bits, depth) {
            warn(&format!(
                "it uses {bits} of its 16 bits and is nearly black in 8; --set image.depth=auto scales it"
            ));
        }
        if decoded.has_more {
            warn("it has more than one frame or page, and only the first is used");
        }
        let image = decoded.image;
        let started = Instant::now();
        let mut found = self.predictor.predict(&image)?;
        // `--set model.roi.score_threshold` may be lower.
        found
            .detections
            .retain(|found| found.score >= self.args.score);
        if self.args.format == PrintFormat::Table {
            bar.suspend(|| out!("{}", row(&input.path, started, &found)));
        }
        let overlay = self.out.join(overlay_name(&input.path, index));
        let drawn = found.draw(&image).save(&overlay);
        drawn.with_context(|| overlay.display().to_string())?;
        let mut detections = found.detections.clone();
        let mut classes = found.classes();
        if let Some(labels) = &self.labels {
            detections.retain_mut(|detection| {
                let label = labels.labels.get(detection.label).copied().flatten();
                detection.label = label.unwrap_or_default();
                label.is_some()
            });
            classes = &labels.classes;
        }
        let entry = Entry {
            id: input.image_id,
            file_name: input.file_name.clone(),
            width: found.width,
            height: found.height,
            detections: detections.len(),
            error: None,
        };
        let records = detections_json(input.image_id, Some(&input.file_name), &detections, classes);
        let records: serde_json::Result<Vec<String>> =
            records.iter().map(serde_json::to_string).collect();
        Ok(Ok((records?, entry)))
    }
}

/// The entry in `images.json` of an image that cannot be read.
fn failure(id: u64, file_name: String, error: String) -> serde_json::Result<String> {
    serde_json::to_string(&Entry {
        id,
        file_name,
        width: 0,
        height: 0,
        detections: 0,
        error: Some(error),
    })
}

/// The line of an image in the table.
fn row(path: &Path, started: Instant, found: &Prediction) -> String {
    let milliseconds = started.elapsed().as_millis();
    let size = format!("{}x{}", found.width, found.height);
    let shown = shorten(&printable(&path.display().to_string()), 40);
    format!(
        "{shown:<40} {size:>11} {milliseconds:>8}  {}",
        summary(found)
    )
}

/// `circle 0.99, circle 0.87, star 0.61`, at most five of them.
fn summary(found: &Prediction) -> String {
    const SHOWN: usize = 5;
    let objects = found.iter().take(SHOWN);
    let mut text: Vec<String> = objects
        .map(|object| format!("{} {:.2}", printable(&object.name), object.score))
        .collect();
    if found.len() > SHOWN {
        text.push(format!("and {} more", found.len() - SHOWN));
    }
    if text.is_empty() {
        "none".into()
    } else {
        text.join(", ")
    }
}

/// The end of a long path, which identifies the file.
fn shorten(path: &str, length: usize) -> String {
    let count = path.chars().count();
    if count <= length {
        return path.into();
    }
    let end: String = path.chars().skip(count - (length - 3)).collect();
    format!("...{end}")
}

/// File name of an overlay: `0007_photo.png` for the seventh image.
fn overlay_name(path: &Path, index: usize) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    format!("{:04}_{stem}.png", index + 1)
}

/// The newest `best.safetensors` up to two folders below `runs`.
fn newest_weights(runs: &Path) -> Result<PathBuf> {
    let patterns = ["*/best.safetensors", "*/*/best.safetensors"];
    let found = patterns
        .iter()
        .filter_map(|pattern| glob::glob(&runs.join(pattern).to_string_lossy()).ok());
    let modified = |path: &PathBuf| {
        path.metadata()
            .and_then(|m| m.modified())
            .unwrap_or(SystemTime::UNIX_EPOCH)
    };
    found
        .flatten()
        .filter_map(Result::ok)
        .max_by_key(modified)
        .ok_or_else(|| {
            anyhow!(
                "no weights: give --weights NAME (of a model that `mrcnn-cli models` lists) or FILE, or train first (no \
                 best.safetensors under runs/)"
            )
        })
}
