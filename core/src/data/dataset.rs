//! A dataset: images with their objects, and classes mapped from the file.

use super::classes::Classes;
use crate::boxes::Bbox;
use crate::config::Depth;
use ::image::RgbImage;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use vernier_mask::Rle;

/// One object of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Id in the annotation file.
    pub annotation_id: u64,
    /// Class, `1..=K`.
    pub label: usize,
    /// Corners in pixels of the original image.
    pub bbox: Bbox,
    /// Mask over the whole image.
    pub mask: Rle,
    /// Annotated area in square pixels.
    pub area: f64,
    /// Whether the object is a group that is not labeled individually: not trained on and ignored in evaluation.
    pub is_crowd: bool,
}

/// One image and its objects.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Id in the annotation file.
    pub image_id: u64,
    /// The path of the file, or a name for messages.
    pub path: PathBuf,
    /// File name in the annotation file.
    pub file_name: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Objects, crowds included.
    pub instances: Vec<Instance>,
    /// Source of the pixels for [`Sample::image`].
    pub origin: Origin,
    /// Conversion of 16-bit files to 8 bits.
    pub depth: Depth,
}

/// An image that is left out of a dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct LeftOut {
    /// Id in the annotation file.
    pub image_id: u64,
    /// The path of the file; empty if the entry has none.
    pub path: PathBuf,
    /// The reason it is left out.
    pub reason: String,
}

/// A split of a dataset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dataset {
    /// The annotation file, or the name of the source.
    pub annotations: PathBuf,
    /// Remarks for the description: which part of the file this is, or that its classes were matched by name.
    pub part: Option<String>,
    /// Its classes.
    pub classes: Classes,
    /// Its images in the order of the file.
    pub samples: Vec<Sample>,
    /// Images that are left out because of `on_problem = "skip"`.
    pub left_out: Vec<LeftOut>,
}

impl Dataset {
    /// The annotation file, the part of it if it is not the whole file, and the number of images that are left out.
    pub fn description(&self) -> String {
        let mut text = self.annotations.display().to_string();
        if let Some(part) = &self.part {
            text.push_str(&format!(", {part}"));
        }
        if !self.left_out.is_empty() {
            const NAMED: usize = 5;
            let name = |image: &LeftOut| match image.path.file_name() {
                Some(name) => name.to_string_lossy().into_owned(),
                None => format!("image {}", image.image_id),
            };
            let mut names: Vec<String> = self.left_out.iter().take(NAMED).map(name).collect();
            if self.left_out.len() > NAMED {
                names.push("...".into());
            }
            let names = names.join(", ");
            text.push_str(&format!(
                " ({} images left out: {names})",
                self.left_out.len()
            ));
        }
        text
    }

    /// Sets the conversion of 16-bit files to 8 bits.
    pub fn set_depth(&mut self, depth: Depth) {
        self.samples
            .iter_mut()
            .for_each(|sample| sample.depth = depth);
    }

    /// Number of objects, crowds included.
    pub(crate) fn instances(&self) -> usize {
        self.samples
            .iter()
            .map(|sample| sample.instances.len())
            .sum()
    }

    /// Number of objects that are not crowds.
    pub(crate) fn objects(&self) -> usize {
        let instances = self.samples.iter().flat_map(|sample| &sample.instances);
        instances.filter(|instance| !instance.is_crowd).count()
    }
}

/// Error of a source, shown as it is.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// A split of a dataset from any storage: a folder, a database, an archive, a renderer.
///
/// [`Dataset::open`] reads COCO files. A [`Dataset`] is a source itself, so that another
/// source can wrap it. [`Dataset::from_source`] checks a source and converts it for
/// training and evaluation.
pub trait DatasetSource: Send + Sync {
    /// Name of the source in messages and reports.
    fn name(&self) -> String;

    /// Class names and category ids; label `i + 1` is the class at index `i`.
    fn classes(&self) -> Classes;

    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there are no images.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size and objects of image `index`, without its pixels; called once and kept in memory.
    fn sample(&self, index: usize) -> Result<Sample, SourceError>;

    /// The pixels of image `index`, with the size of its sample, and the same pixels on every call; called
    /// once per epoch, by several threads concurrently.
    fn image(&self, index: usize) -> Result<RgbImage, SourceError>;
}

/// Source of the pixels of a [`Sample`].
#[derive(Clone, Default)]
pub enum Origin {
    /// The file at its path.
    #[default]
    File,
    /// Image `index` of a source.
    Source(Arc<dyn DatasetSource>, usize),
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("File"),
            Self::Source(source, index) => write!(f, "Source({:?}, {index})", source.name()),
        }
    }
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File, Self::File) => true,
            (Self::Source(a, i), Self::Source(b, j)) => Arc::ptr_eq(a, b) && i == j,
            _ => false,
        }
    }
}
