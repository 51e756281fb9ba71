//! The files that `predict` writes per image and at the end.

use super::input::Input;
use super::output::JsonList;
use super::records::Entry;
use anyhow::{Context, Result};
use clap::ValueEnum;
use mrcnn_core::Prediction;
use mrcnn_core::data::{Classes, DetectionRecord};
use mrcnn_core::image::RgbImage;
use mrcnn_core::image::overlay::OverlayOptions;
use mrcnn_core::predict::{CSV_HEADER, CocoImage, coco_dataset, csv_rows, yolo_data_yaml};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// An output format of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// The image with boxes, masks and names: NUMBER_NAME.png
    Overlay,
    /// COCO results alone: detections.json, which is written in any case
    Coco,
    /// COCO dataset with polygons, for CVAT and Label Studio: coco_dataset.json
    CocoDataset,
    /// A JSON file per image, with the image: labelme/
    Labelme,
    /// YOLO-seg dataset, with the images: yolo/
    Yolo,
    /// A table with a line per object: detections.csv
    Csv,
    /// 16-bit PNG with the number of the object of each pixel: label_maps/
    LabelMaps,
    /// PNG with transparency per object: cutouts/
    Cutouts,
}

pub struct Saver {
    pub out: PathBuf,
    pub forms: Vec<Form>,
    pub drawing: OverlayOptions,
}

impl Saver {
    fn saves(&self, form: Form) -> bool {
        self.forms.contains(&form)
    }

    /// Creates the folders.
    pub fn start(&self, classes: &Classes) -> Result<()> {
        let folders = [
            (Form::Labelme, "labelme"),
            (Form::Yolo, "yolo/images/train"),
            (Form::Yolo, "yolo/labels/train"),
            (Form::LabelMaps, "label_maps"),
            (Form::Cutouts, "cutouts"),
        ];
        for (_, folder) in folders.iter().filter(|(form, _)| self.saves(*form)) {
            let folder = self.out.join(folder);
            std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        if self.saves(Form::Yolo) {
            write(&self.out.join("yolo/data.yaml"), &yolo_data_yaml(classes))?;
        }
        Ok(())
    }

    /// Writes the files of the image `index`.
    pub fn image(
        &self,
        index: usize,
        input: &Input,
        image: &RgbImage,
        found: &Prediction,
    ) -> Result<()> {
        let stem = input.path.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{:04}_{stem}", index + 1);
        let png = |folder: &str| self.out.join(folder).join(format!("{name}.png"));
        if self.saves(Form::Overlay) {
            let path = png("");
            saved(&path, found.draw_with(image, &self.drawing).save(&path))?;
        }
        if self.saves(Form::Labelme) {
            let beside = self.copy("labelme", &name, input, image)?;
            let text = serde_json::to_string_pretty(&found.to_labelme(&beside))?;
            write(
                &self.out.join("labelme").join(format!("{name}.json")),
                &text,
            )?;
        }
        if self.saves(Form::Yolo) {
            self.copy("yolo/images/train", &name, input, image)?;
            let labels = self.out.join("yolo/labels/train");
            write(&labels.join(format!("{name}.txt")), &found.to_yolo())?;
        }
        if self.saves(Form::LabelMaps) {
            let path = png("label_maps");
            saved(&path, found.label_map().save(&path))?;
        }
        if self.saves(Form::Cutouts) {
            for (index, object) in found.iter().enumerate() {
                let Some(cutout) = found.cutout(index, image) else {
                    continue;
                };
                let class = file_name(&object.name);
                let file = format!("{name}_{:03}_{class}.png", index + 1);
                let path = self.out.join("cutouts").join(file);
                saved(&path, cutout.save(&path))?;
            }
        }
        Ok(())
    }

    /// Places the image in a folder of the results, as a link if the file system allows it; returns its new file name.
    fn copy(&self, folder: &str, name: &str, input: &Input, image: &RgbImage) -> Result<String> {
        let extension = input.path.extension().unwrap_or_default().to_string_lossy();
        let file = match (input.is_file(), extension.is_empty()) {
            (true, false) => format!("{name}.{extension}"),
            (true, true) => name.to_string(),
            (false, _) => format!("{name}.png"),
        };
        let to = self.out.join(folder).join(&file);
        if !input.is_file() {
            saved(&to, image.save(&to))?;
            return Ok(file);
        }
        // With --resume, an earlier run may have left a copy of an image that it did not finish.
        std::fs::remove_file(&to).ok();
        // A link to a symbolic link would break if its target is relative.
        let from = input
            .path
            .canonicalize()
            .unwrap_or_else(|_| input.path.clone());
        if std::fs::hard_link(&from, &to).is_err() {
            std::fs::copy(&from, &to).with_context(|| to.display().to_string())?;
        }
        Ok(file)
    }

    /// Writes the files about all images, from the lists on disk, so that they include those of earlier runs.
    pub fn finish(&self, classes: &Classes) -> Result<()> {
        if !self.saves(Form::Csv) && !self.saves(Form::CocoDataset) {
            return Ok(());
        }
        let path = self.out.join("detections.json");
        let mut records: Vec<DetectionRecord> = Vec::new();
        for element in JsonList::read(&path)? {
            records.push(serde_json::from_str(element.get())?);
        }
        if self.saves(Form::Csv) {
            let rows = csv_rows(&records, classes);
            write(
                &self.out.join("detections.csv"),
                &format!("{CSV_HEADER}{rows}"),
            )?;
        }
        if self.saves(Form::CocoDataset) {
            let mut images = Vec::new();
            for element in JsonList::read(&self.out.join("images.json"))? {
                let entry: Entry = serde_json::from_str(element.get())?;
                if entry.error.is_none() {
                    images.push(CocoImage {
                        id: entry.id,
                        file_name: entry.file_name,
                        width: entry.width,
                        height: entry.height,
                    });
                }
            }
            let dataset = coco_dataset(&images, &records, classes);
            let dataset = dataset.with_context(|| path.display().to_string())?;
            write(
                &self.out.join("coco_dataset.json"),
                &serde_json::to_string(&dataset)?,
            )?;
        }
        Ok(())
    }

    /// The results that were written, for the last line of the table.
    pub fn written(&self) -> String {
        let mut names = vec!["detections.json", "images.json"];
        let mut seen = HashSet::new();
        for form in self.forms.iter().filter(|form| seen.insert(**form as u8)) {
            match form {
                Form::Overlay => names.insert(0, "overlays"),
                Form::Coco => {}
                Form::CocoDataset => names.push("coco_dataset.json"),
                Form::Labelme => names.push("labelme/"),
                Form::Yolo => names.push("yolo/"),
                Form::Csv => names.push("detections.csv"),
                Form::LabelMaps => names.push("label_maps/"),
                Form::Cutouts => names.push("cutouts/"),
            }
        }
        let last = names.pop().unwrap_or_default();
        format!("{} and {last} in {}", names.join(", "), self.out.display())
    }
}

/// A class name as part of a file name.
fn file_name(class: &str) -> String {
    let safe = |c: char| {
        if c.is_alphanumeric() || "-_".contains(c) {
            c
        } else {
            '_'
        }
    };
    class.chars().take(40).map(safe).collect()
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

fn saved<E: std::error::Error + Send + Sync + 'static>(
    path: &Path,
    result: std::result::Result<(), E>,
) -> Result<()> {
    result.with_context(|| path.display().to_string())
}
