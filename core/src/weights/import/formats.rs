//! Conversion of weights of any supported system to this crate's names and layouts.

use super::imported::{Format, ImportOptions, Imported, imported, named};
use super::of_detectron2::{from_caffe2, from_detectron2};
use super::tensorflow::{self, Bundle};
use super::torch::{self, Contents};
use super::{names_caffe2, names_tensorflow, names_torchvision, prefix};
use crate::budget::excerpt;
use crate::config::Backbone;
use crate::weights::error::WeightsError;
use crate::weights::own::{self, Checkpoint};
use crate::weights::state::StateDict;
use burn::tensor::TensorData;
use std::fs::File;
use std::io::Read;
use std::path::Path;

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
    } else if tensors.keys().any(|name| names_caffe2::is_known(name)) {
        from_caffe2(tensors, ignored)
    } else {
        Err(unknown(&tensors))
    }?;
    if !model.prefix.is_empty() {
        let note = format!("names begin with `{}`, which is removed", model.prefix);
        imported.notes.push(note);
    }
    Ok(imported)
}

/// The reason why tensors with unknown names are rejected.
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
    model.rpn.anchor_offset = 0.5;
    let note = "batch norm adds 1e-4 to the variance, and anchors have the order 1, 0.5, 2 and the centers of \
                the cells, as in the reference system; its anchors of ratio 0.5 and 2 have 1 % less area";
    imported.notes.push(note.into());
    Ok(imported)
}

/// Side of the box head's pooled RoIs in the reference system.
const BOX_POOL: usize = 7;

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
