//! Arguments of `predict` for its overlays.

use crate::terminal::note;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use mrcnn_core::data::{Classes, printable};
use mrcnn_core::image::overlay::{ColorBy, Font, OverlayOptions};
use std::path::PathBuf;

/// Options for drawing overlays.
#[derive(Debug, Args)]
pub struct DrawArgs {
    /// Parts of the overlays, separated by commas
    #[arg(
        long,
        value_enum,
        value_name = "PARTS",
        value_delimiter = ',',
        default_value = "boxes,masks,labels,contours,scores"
    )]
    draw: Vec<Part>,
    /// Colors by class or by instance
    #[arg(long, value_enum, default_value = "class")]
    color: Color,
    /// TrueType or OpenType font of the labels; the embedded one has Latin, Greek and Cyrillic letters
    #[arg(long, value_name = "FILE")]
    font: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The outline of the box
    Boxes,
    /// The area of the mask in a transparent color
    Masks,
    /// The name of the class
    Labels,
    /// The outline of the mask
    Contours,
    /// The score, after the name or alone
    Scores,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Color {
    /// A class has the same color in every image
    Class,
    /// Every object of an image has its own color
    Instance,
}

impl DrawArgs {
    pub fn options(&self) -> Result<OverlayOptions> {
        let draws = |part| self.draw.contains(&part);
        let font = match &self.font {
            Some(path) => Font::read(path).with_context(|| format!("--font {}", path.display()))?,
            None => Font::embedded(),
        };
        Ok(OverlayOptions {
            boxes: draws(Part::Boxes),
            masks: draws(Part::Masks),
            labels: draws(Part::Labels),
            contours: draws(Part::Contours),
            scores: draws(Part::Scores),
            color_by: match self.color {
                Color::Class => ColorBy::Class,
                Color::Instance => ColorBy::Instance,
            },
            font,
            ..OverlayOptions::default()
        })
    }
}

/// Names the classes whose labels the font cannot show.
pub fn note_glyphs(drawing: &OverlayOptions, classes: &Classes) {
    let lacks = |name: &&String| !drawing.font.has_all(name);
    let lacking: Vec<&String> = classes.names.iter().filter(lacks).collect();
    if let (true, Some(first)) = (drawing.labels, lacking.first()) {
        note!(
            "note: the font lacks characters of {} class names, such as {}; overlays show \u{25a1} and the number of \
             the class in their place, and --font FILE.ttf selects another font",
            lacking.len(),
            printable(first)
        );
    }
}
