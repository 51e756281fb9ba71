//! `mrcnn-cli predict`.

use crate::args::{PredictArgs, PrintFormat};
use crate::{note, out, terminal};
use anyhow::{Context, Result, anyhow, bail};
use mrcnn_core::data::detections_json;
use mrcnn_core::image::decode::decode;
use mrcnn_core::{Prediction, Predictor};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

pub fn run(args: &PredictArgs) -> Result<()> {
    let pictures = find_pictures(&args.pictures)?;
    let weights = match &args.weights {
        Some(path) => path.clone(),
        None => newest_weights(Path::new("runs"))?,
    };
    let backend = args.model.backend.select()?;
    let precision = args.model.backend.precision(&backend, true)?;
    let mut builder = Predictor::builder()
        .weights(&weights)
        .overrides(&args.model.overrides.set)
        .device(&backend.device)
        .precision(precision.precision())
        .score(args.score);
    if let Some(config) = args.model.config()? {
        builder = builder.config(config);
    }
    let predictor = builder.build()?;
    note!("weights: {}", weights.display());
    let out = free_folder(&args.out)?;
    let table = args.format == PrintFormat::Table;
    if table {
        out!("{:<40} {:>11} {:>8}  detections", "picture", "size", "ms");
    }
    let mut records = Vec::new();
    let mut failed = 0;
    for (index, path) in pictures.iter().enumerate() {
        let image = match decode(path) {
            Ok(image) => image,
            Err(error) => {
                note!("error: {error}");
                failed += 1;
                continue;
            }
        };
        let started = Instant::now();
        let mut found = predictor.predict(&image)?;
        // `--set model.roi.score_threshold` may be lower.
        found.detections.retain(|found| found.score >= args.score);
        if table {
            out!("{}", row(path, started, &found));
        }
        let overlay = out.join(overlay_name(path, index));
        let drawn = found.draw(&image).save(&overlay);
        drawn.with_context(|| overlay.display().to_string())?;
        let (id, detections) = (index as u64 + 1, &found.detections);
        records.extend(detections_json(id, Some(path), detections, found.classes()));
    }
    let json = out.join("detections.json");
    let text = serde_json::to_string(&records)?;
    std::fs::write(&json, &text).with_context(|| json.display().to_string())?;
    match args.format {
        PrintFormat::Table => out!("overlays and detections.json in {}", out.display()),
        PrintFormat::Json => terminal::raw(&text),
    }
    if failed > 0 {
        bail!("{failed} of {} pictures could not be read", pictures.len());
    }
    Ok(())
}

/// A picture's line of the table.
fn row(path: &Path, started: Instant, found: &Prediction) -> String {
    let milliseconds = started.elapsed().as_millis();
    let size = format!("{}x{}", found.width, found.height);
    let shown = shorten(&path.display().to_string(), 40);
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
        .map(|object| format!("{} {:.2}", object.name, object.score))
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

/// The end of a long path, which tells files apart.
fn shorten(path: &str, length: usize) -> String {
    let count = path.chars().count();
    if count <= length {
        return path.into();
    }
    let end: String = path.chars().skip(count - (length - 3)).collect();
    format!("...{end}")
}

/// `photo.png`, with its number where two pictures have the same name.
fn overlay_name(path: &Path, index: usize) -> String {
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or("picture");
    format!("{:04}_{stem}.png", index + 1)
}

const EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "bmp", "webp"];

/// Files as they are, the pictures in folders, the matches of patterns; sorted within each.
fn find_pictures(inputs: &[String]) -> Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        let mut found = if path.is_dir() {
            pictures_in(path)?
        } else if path.is_file() {
            vec![path.to_path_buf()]
        } else {
            let matches = glob::glob(input).with_context(|| format!("{input}: a bad pattern"))?;
            let is_picture = |path: &PathBuf| path.is_file() && has_extension(path);
            matches.filter_map(Result::ok).filter(is_picture).collect()
        };
        if found.is_empty() {
            bail!(
                "{input}: no such file, no picture in it, no match ({})",
                EXTENSIONS.join(", ")
            );
        }
        found.sort();
        pictures.extend(found);
    }
    Ok(pictures)
}

fn pictures_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    Ok(paths
        .filter(|path| path.is_file() && has_extension(path))
        .collect())
}

fn has_extension(path: &Path) -> bool {
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    EXTENSIONS.contains(&extension.to_lowercase().as_str())
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
                "no weights: give --weights FILE, or train first (no best.safetensors under runs/)"
            )
        })
}

/// Creates the folder, or `-2`, `-3` and so on where it is in use.
pub fn free_folder(path: &Path) -> Result<PathBuf> {
    let path = mrcnn_core::train::free_name(path);
    std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}
