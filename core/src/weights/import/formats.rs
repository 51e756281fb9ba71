//! Conversion of weights of any supported system to ours.

use super::detectron2_config::Detectron2Config;
use super::tensorflow::{self, Bundle};
use super::torch::{self, Contents};
use super::{classes, infer, names_detectron2, names_tensorflow, names_torchvision, prefix};
use crate::budget::excerpt;
use crate::config::{Backbone, ChannelOrder, Config};
use crate::data::Classes;
use crate::weights::error::WeightsError;
use crate::weights::own::{self, Checkpoint};
use crate::weights::state::StateDict;
use burn::tensor::TensorData;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// System that wrote the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// This crate: `mrcnn-cli train` or `convert`.
    Own,
    /// torchvision's detection models.
    Torchvision,
    /// A classification ResNet with torchvision's names: a backbone.
    Backbone,
    /// Detectron2.
    Detectron2,
    /// The reference system, or its pre-trained ResNets.
    TensorFlow,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "mrcnn",
            Self::Torchvision => "torchvision detection",
            Self::Backbone => "torchvision classification (a backbone)",
            Self::Detectron2 => "Detectron2",
            Self::TensorFlow => "TensorFlow checkpoint of the reference system",
        })
    }
}

/// Information that a file lacks.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The classes, if they are not COCO's.
    pub classes: Option<Classes>,
    /// The prefix of the model's names in a file that has several models, e.g. `ema_model.`.
    pub prefix: Option<String>,
    /// The configuration of a Detectron2 model, if it is not one of the model zoo.
    pub detectron2: Option<Detectron2Config>,
}

/// Imported weights, with notes about the import.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The weights, with the configuration that reproduces their results.
    pub checkpoint: Checkpoint,
    /// The system that wrote them.
    pub format: Format,
    /// Entries of the file that are not weights of the network.
    pub ignored: Vec<String>,
    /// Assumptions, for the user.
    pub notes: Vec<String>,
}

/// Reads weights of any supported system; a TensorFlow checkpoint by its prefix or any of its files.
///
/// Missing tensors are detected later, when the weights are loaded into a model.
pub fn import(path: &Path, options: &ImportOptions) -> Result<Imported, WeightsError> {
    let imported = read(path, options)?;
    if options.detectron2.is_some() && imported.format != Format::Detectron2 {
        let reason = "a Detectron2 configuration is given, but these are weights of another system";
        return Err(unsupported(path, reason.into()));
    }
    imported.checkpoint.check(path)?;
    Ok(imported)
}

fn read(path: &Path, options: &ImportOptions) -> Result<Imported, WeightsError> {
    if let Some(prefix) = tensorflow::prefix(path) {
        return from_tensorflow(&prefix, options)
            .map_err(|reason| format_error(path, "TensorFlow checkpoint", reason));
    }
    let io_error = |source| WeightsError::Io {
        path: path.into(),
        source,
    };
    let mut file = File::open(path).map_err(io_error)?;
    if !file.metadata().map_err(io_error)?.is_file() {
        return Err(unsupported(path, "not a regular file".into()));
    }
    let length = file.metadata().map_err(io_error)?.len();
    let mut start = Vec::new();
    (&mut file)
        .take(32)
        .read_to_end(&mut start)
        .map_err(io_error)?;
    let whole = || {
        if length > LARGEST_IN_MEMORY {
            let reason = format!("it has {length} bytes; at most {LARGEST_IN_MEMORY} are read");
            return Err(format_error(path, PICKLE, reason));
        }
        std::fs::read(path).map_err(io_error)
    };
    // Checked first: the header length of a safetensors file can start with the same bytes as other formats.
    if start.get(8) == Some(&b'{') {
        start.clear();
    }
    let contents = if start.starts_with(b"PK") {
        let contents = torch::read_zip(file, length);
        contents.map_err(|reason| format_error(path, "PyTorch", reason))?
    } else if torch::is_legacy(&start) {
        let contents = torch::read_legacy(&whole()?);
        contents.map_err(|reason| format_error(path, "PyTorch (before 1.6)", reason))?
    } else if matches!(start[..], [0x80, 2..=5, ..]) {
        let contents = torch::read_arrays(&whole()?);
        contents.map_err(|reason| format_error(path, PICKLE, reason))?
    } else {
        let file = own::open(path)?;
        if own::is_own(&file.texts()) {
            return own(own::read_own(file)?, options).map_err(|reason| unsupported(path, reason));
        }
        Contents {
            tensors: file.read()?,
            ignored: Vec::new(),
        }
    };
    from_names(contents, options).map_err(|reason| unsupported(path, reason))
}

const PICKLE: &str = "pickle";

/// Maximum length of files that are read at once: those of Detectron2 and of torch before 1.6.
const LARGEST_IN_MEMORY: u64 = 1 << 30;

fn format_error(path: &Path, kind: &'static str, reason: String) -> WeightsError {
    WeightsError::Format {
        path: path.into(),
        kind,
        reason,
    }
}

fn unsupported(path: &Path, reason: String) -> WeightsError {
    WeightsError::Unsupported {
        path: path.into(),
        reason,
    }
}

fn own(mut checkpoint: Checkpoint, options: &ImportOptions) -> Result<Imported, String> {
    if options.classes.is_some() {
        let count = checkpoint.classes.len() + 1;
        checkpoint.classes = named(count, options)?;
    }
    Ok(Imported {
        checkpoint,
        format: Format::Own,
        ignored: Vec::new(),
        notes: Vec::new(),
    })
}

/// Determines the system by the names in a file.
fn from_names(contents: Contents, options: &ImportOptions) -> Result<Imported, String> {
    let Contents {
        tensors,
        mut ignored,
    } = contents;
    let model = prefix::strip(tensors, options.prefix.as_deref())?;
    ignored.extend(model.others);
    let tensors = model.tensors;
    let has = |start: &str| tensors.keys().any(|name| name.starts_with(start));
    let mut imported = if has("backbone.bottom_up.") {
        from_detectron2(tensors, ignored, options)
    } else if has("backbone.body.") {
        from_torchvision(tensors, ignored, options)
    } else if has("layer1.0.conv1.weight") {
        from_classification(tensors, ignored)
    } else {
        Err(unknown(&tensors))
    }?;
    if !model.prefix.is_empty() {
        let note = format!("names begin with `{}`, which is removed", model.prefix);
        imported.notes.push(note);
    }
    Ok(imported)
}

/// The reason why tensors of no known names are refused.
fn unknown(tensors: &StateDict) -> String {
    let first: Vec<_> = tensors.keys().take(3).map(|name| excerpt(name)).collect();
    let common = match prefix::common(tensors) {
        prefix if prefix.is_empty() => prefix,
        prefix => format!("; all of them begin with `{}`", excerpt(&prefix)),
    };
    format!(
        "its {} tensors ({}{common}) belong to no supported model; torchvision, Detectron2 and the reference \
         system are supported",
        tensors.len(),
        first.join(", ")
    )
}

fn from_torchvision(
    tensors: StateDict,
    ignored: Vec<String>,
    options: &ImportOptions,
) -> Result<Imported, String> {
    let old = tensors.keys().any(|name| names_torchvision::is_old(name));
    let renamed = tensors
        .into_iter()
        .map(|(name, data)| (names_torchvision::detection(&name), data))
        .collect();
    let mut imported = imported(Format::Torchvision, renamed, ignored, options)?;
    let model = &mut imported.checkpoint.config.model;
    if old && model.num_classes == 91 {
        model.norm_eps = 0.0;
        let note = "published COCO weights: batch norm adds 0 to the variance, as torchvision does";
        imported.notes.push(note.into());
    } else if model.box_head.convs > 0 {
        let note = "batch norm adds 1e-5 to the variance, as in maskrcnn_resnet50_fpn_v2; batch norm is imported frozen: \
                    train it with model.norm=batch_norm and model.head_norm=batch_norm";
        imported.notes.push(note.into());
    } else {
        let note = "batch norm adds 1e-5 to the variance; for a model that started from \
                    torchvision's COCO weights set model.norm_eps=0";
        imported.notes.push(note.into());
    }
    Ok(imported)
}

fn from_classification(tensors: StateDict, mut ignored: Vec<String>) -> Result<Imported, String> {
    let mut body = StateDict::new();
    for (name, data) in tensors {
        match names_torchvision::classification(&name) {
            Some(ours) => drop(body.insert(ours, data)),
            None => ignored.push(name),
        }
    }
    imported(Format::Backbone, body, ignored, &ImportOptions::default())
}

fn from_detectron2(
    tensors: StateDict,
    mut ignored: Vec<String>,
    options: &ImportOptions,
) -> Result<Imported, String> {
    let mut renamed = StateDict::new();
    let mut pixels = BTreeMap::new();
    for (name, data) in tensors {
        match names_detectron2::rename(&name) {
            Some(ours) => drop(renamed.insert(ours, data)),
            None if name == "pixel_mean" || name == "pixel_std" => {
                pixels.insert(name, data.iter::<f32>().collect::<Vec<f32>>());
            }
            None => ignored.push(name),
        }
    }
    names_detectron2::background_first(&mut renamed);
    let mut imported = imported(Format::Detectron2, renamed, ignored, options)?;
    let config = &mut imported.checkpoint.config;
    config.model.rpn.round_anchors = false;
    config.model.roi.aligned = true;
    config.model.roi.sampling_ratio = 0;
    // The ResNeXt of Detectron2's model zoo is not one of MSRA's.
    let std = match config.model.groups {
        1 => vec![1.0; 3],
        _ => vec![57.375, 57.12, 58.395],
    };
    let msra = (vec![103.53, 116.28, 123.675], std);
    let known = pixels.remove("pixel_mean").zip(pixels.remove("pixel_std"));
    let stated = known.is_some();
    let (mean, std) = known.unwrap_or(msra);
    let (&[m0, m1, m2], &[s0, s1, s2]) = (mean.as_slice(), std.as_slice()) else {
        return Err("pixel_mean or pixel_std does not have 3 values".into());
    };
    // Red is the brightest channel of COCO: the order of the mean is the order of the channels.
    let bgr = m0 < m2;
    let rgb = |v: [f32; 3]| if bgr { [v[2], v[1], v[0]] } else { v }.map(|v| v / 255.0);
    config.image.mean = rgb([m0, m1, m2]);
    config.image.std = rgb([s0, s1, s2]);
    config.image.channels = if bgr {
        ChannelOrder::Bgr
    } else {
        ChannelOrder::Rgb
    };
    // The MSRA backbones have a standard deviation of 1; those of torchvision have another one.
    config.model.stride_in_1x1 = s0 == 1.0;
    if let Some(theirs) = &options.detectron2 {
        theirs.apply(config)?;
        return Ok(imported);
    }
    imported.notes.push(format!(
        "{} {} channel order, stride in the {} convolution; for another model give its config.yaml with \
         --detectron2-config",
        if stated {
            "by its pixel_mean and pixel_std:"
        } else {
            "as in Detectron2's model zoo:"
        },
        if bgr { "BGR" } else { "RGB" },
        if s0 == 1.0 { "1x1" } else { "3x3" },
    ));
    Ok(imported)
}

fn from_tensorflow(prefix: &Path, options: &ImportOptions) -> Result<Imported, String> {
    let bundle = Bundle::open(prefix)?;
    let convs = bundle.entries.keys().filter(|name| {
        let leaf = name.strip_suffix("/kernel").unwrap_or_default();
        let leaf = leaf.rsplit('/').next().unwrap_or_default();
        leaf.starts_with("conv2d_")
    });
    let backbone = match convs.count() {
        103 => Backbone::Resnet101,
        154 => Backbone::Resnet152,
        _ => Backbone::Resnet50,
    };
    let (mut tensors, mut ignored, mut total) = (StateDict::new(), Vec::new(), 0u64);
    for (name, entry) in &bundle.entries {
        let Some((ours, layout)) = names_tensorflow::rename(name, backbone, BOX_POOL) else {
            ignored.push(name.clone());
            continue;
        };
        total = total.saturating_add(entry.size.max(0) as u64);
        if total > bundle.data_length() {
            return Err(format!("{name} shares its values with another variable"));
        }
        let Some((values, shape)) = bundle.read(name)? else {
            ignored.push(name.clone());
            continue;
        };
        let (values, shape) = layout.apply(&values, &shape).ok_or_else(|| {
            format!("{name} has the shape {shape:?}, which is not possible for it")
        })?;
        tensors.insert(ours, TensorData::new(values, shape));
    }
    if tensors.is_empty() {
        return Err("none of its variables belongs to a ResNet or to the detector".into());
    }
    let mut imported = imported(Format::TensorFlow, tensors, ignored, options)?;
    let model = &mut imported.checkpoint.config.model;
    model.norm_eps = 1e-4;
    model.rpn.anchor_ratios = vec![1.0, 0.5, 2.0];
    model.rpn.round_anchors = false;
    let note = "batch norm adds 1e-4 to the variance and anchors have the order 1, 0.5, 2, as in \
                the reference system; its anchors of ratio 0.5 and 2 have 1 % less area";
    imported.notes.push(note.into());
    Ok(imported)
}

/// Side of the box head's pooled RoIs in the reference system.
const BOX_POOL: usize = 7;

/// Tensors with our names and the configuration inferred from their shapes.
fn imported(
    format: Format,
    tensors: StateDict,
    ignored: Vec<String>,
    options: &ImportOptions,
) -> Result<Imported, String> {
    // Dimensions without data would become those of the network.
    if let Some((name, data)) = tensors.iter().find(|(_, data)| data.shape().contains(&0)) {
        return Err(format!(
            "{name} has the shape {:?}: it is empty",
            data.shape()
        ));
    }
    let config = Config {
        model: infer::model_config(&tensors)?,
        ..Config::default()
    };
    let classes = match config.model.num_classes {
        0 => Classes::default(),
        count => named(count, options)?,
    };
    Ok(Imported {
        checkpoint: Checkpoint {
            config,
            classes,
            training: None,
            tensors,
        },
        format,
        ignored,
        notes: Vec::new(),
    })
}

/// The given classes, or COCO's if their number is that of a COCO model.
fn named(count: usize, options: &ImportOptions) -> Result<Classes, String> {
    match &options.classes {
        Some(given) if given.len() + 1 == count => Ok(given.clone()),
        Some(given) => Err(format!(
            "it has {} classes without the background, but {} names are given",
            count - 1,
            given.len()
        )),
        None => Ok(match count {
            91 => classes::coco_91(),
            81 => classes::coco_80(),
            other => classes::numbered(other - 1),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error of reading a safetensors file with this header and no data.
    fn refusal(header: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        std::fs::write(&path, bytes).unwrap();
        let refused = import(&path, &ImportOptions::default());
        refused.unwrap_err().to_string()
    }

    #[test]
    fn a_header_may_be_as_long_as_a_zip_begins() {
        // "PK", and the first bytes of a pickle.
        for length in [0x4B50, 0x0280, 0x0480] {
            let mut header =
                r#"{"other":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#.to_string();
            header.extend(std::iter::repeat_n(' ', length - header.len()));
            let message = refusal(&header);
            let is_taken_for_another = message.contains("PyTorch") || message.contains("pickle");
            assert!(!is_taken_for_another, "{length}: {message}");
        }
    }

    #[test]
    fn sides_without_data_are_refused() {
        let name = "roi_heads.box_predictor.cls_score.weight";
        let entry = r#"{"dtype":"F32","shape":[1099511627776,0],"data_offsets":[0,0]}"#;
        let body = r#""backbone.body.conv1.weight":{"dtype":"F32","shape":[0,3,7,7],"data_offsets":[0,0]}"#;
        let message = refusal(&format!("{{\"{name}\":{entry},{body}}}"));
        assert!(message.contains("it is empty"), "{message}");
    }
}
