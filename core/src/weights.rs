//! Weights in and out: safetensors with torchvision's names, the configuration in the header.

use crate::config::Config;
use crate::data::Classes;
use crate::model::MaskRcnn;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why weights could not be read or written.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a safetensors file, or a damaged one.
    #[error("{path}: not a readable safetensors file ({reason}); was the copy cut short?")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The header does not describe a model of ours.
    #[error(
        "{path}: the header has no usable `{key}` ({reason}); was it written by mrcnn-cli train?"
    )]
    Header {
        /// The file.
        path: PathBuf,
        /// The missing or broken entry.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Names or shapes do not fit the model.
    #[error("{path}: {count} tensors do not fit the model: {details}")]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// How many do not fit.
        count: usize,
        /// The first few, and why.
        details: String,
    },
}

/// The names of the modules above a parameter, kept while walking a model.
#[derive(Debug, Default)]
pub(crate) struct ModulePath(Vec<String>);

impl ModulePath {
    pub(crate) fn enter(&mut self, name: &str) {
        self.0.push(name.to_string());
    }

    pub(crate) fn exit(&mut self) {
        self.0.pop();
    }

    /// `backbone.body.layer1.0.conv1.weight`
    pub(crate) fn name(&self) -> String {
        self.0.join(".")
    }
}

/// Tensors by name, f32, on the host.
pub type StateDict = BTreeMap<String, TensorData>;

/// All parameters and statistics of a model, f32.
pub fn state_dict(model: &MaskRcnn) -> StateDict {
    let mut collector = Collector::default();
    // `valid` settles the running statistics of batch norms.
    model.valid().visit(&mut collector);
    collector.tensors
}

#[derive(Default)]
struct Collector {
    path: ModulePath,
    tensors: StateDict,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.tensors
            .insert(self.path.name(), param.val().into_data().convert::<f32>());
    }
}

/// Puts `tensors` into the model, which must have the same names and shapes.
///
/// `path` is named in the error, which lists what is missing, unexpected or of another shape.
pub fn load_state_dict(
    model: MaskRcnn,
    tensors: StateDict,
    path: &Path,
) -> Result<MaskRcnn, WeightsError> {
    let mut loader = Loader {
        path: ModulePath::default(),
        tensors,
        problems: Vec::new(),
    };
    let model = model.map(&mut loader);
    let unexpected = loader
        .tensors
        .into_keys()
        .filter(|name| !name.ends_with(TRACKED));
    let mut problems = loader.problems;
    problems.extend(unexpected.map(|name| format!("{name} is unexpected")));
    if problems.is_empty() {
        return Ok(model);
    }
    Err(WeightsError::Mismatch {
        path: path.into(),
        count: problems.len(),
        details: problems[..problems.len().min(5)].join("; "),
    })
}

/// torch counts batches in a buffer that nothing reads.
const TRACKED: &str = "num_batches_tracked";

struct Loader {
    path: ModulePath,
    tensors: StateDict,
    problems: Vec<String>,
}

impl ModuleMapper for Loader {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        let Some(data) = self.tensors.remove(&name) else {
            self.problems.push(format!("{name} is missing"));
            return param;
        };
        let wanted = param.lazy_shape();
        if *data.shape() != wanted {
            let problem = format!("{name} is {:?}, the model wants {wanted:?}", data.shape());
            self.problems.push(problem);
            return param;
        }
        let trained = param.val().is_require_grad();
        param
            .map(|old| Tensor::from_data(data, &old.device()).detach())
            .set_require_grad(trained)
    }
}

/// Writes a model with its configuration and class names, by way of a temporary file, so that a
/// killed process leaves the old file or the new one.
pub fn save(
    path: &Path,
    model: &MaskRcnn,
    config: &Config,
    classes: &Classes,
) -> Result<(), WeightsError> {
    let header_error = |key, reason: String| WeightsError::Header {
        path: path.into(),
        key,
        reason,
    };
    let config_text =
        toml::to_string(config).map_err(|error| header_error("config", error.to_string()))?;
    let classes_text = serde_json::to_string(classes)
        .map_err(|error| header_error("classes", error.to_string()))?;
    let header = HashMap::from([
        ("format".to_string(), "mrcnn".to_string()),
        ("config".to_string(), config_text),
        ("classes".to_string(), classes_text),
    ]);
    let format_error = |reason: String| WeightsError::Format {
        path: path.into(),
        reason,
    };
    let tensors = state_dict(model);
    let views = tensors
        .iter()
        .map(|(name, data)| {
            let shape = data.shape().iter().copied().collect();
            TensorView::new(Dtype::F32, shape, data.as_bytes()).map(|view| (name, view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format_error(error.to_string()))?;
    let bytes = safetensors::serialize(views, Some(header))
        .map_err(|error| format_error(error.to_string()))?;
    write_whole(path, &bytes).map_err(|source| WeightsError::Io {
        path: path.into(),
        source,
    })
}

fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("safetensors.tmp");
    let file = std::fs::File::create(&temporary)?;
    std::io::Write::write_all(&mut &file, bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

/// Weights with what is needed to use them.
#[derive(Debug)]
pub struct Checkpoint {
    /// The configuration they were trained with.
    pub config: Config,
    /// Class names and category ids.
    pub classes: Classes,
    /// The tensors.
    pub tensors: StateDict,
}

/// Reads a file that [`save`] wrote.
pub fn load(path: &Path) -> Result<Checkpoint, WeightsError> {
    let bytes = std::fs::read(path).map_err(|source| WeightsError::Io {
        path: path.into(),
        source,
    })?;
    let format_error = |reason: String| WeightsError::Format {
        path: path.into(),
        reason,
    };
    let (_, metadata) =
        SafeTensors::read_metadata(&bytes).map_err(|error| format_error(error.to_string()))?;
    let header = metadata.metadata().clone().unwrap_or_default();
    let header_error = |key, reason: String| WeightsError::Header {
        path: path.into(),
        key,
        reason,
    };
    let entry = |key: &'static str| {
        header
            .get(key)
            .ok_or_else(|| header_error(key, "it is missing".into()))
    };
    let config = Config::parse(entry("config")?, path, &[])
        .map_err(|error| header_error("config", error.to_string()))?;
    let classes = serde_json::from_str(entry("classes")?)
        .map_err(|error| header_error("classes", error.to_string()))?;
    Ok(Checkpoint {
        config,
        classes,
        tensors: read_tensors(path, &bytes)?,
    })
}

/// The f32 tensors of a safetensors file in memory; `path` is named in errors.
fn read_tensors(path: &Path, bytes: &[u8]) -> Result<StateDict, WeightsError> {
    let format_error = |reason: String| WeightsError::Format {
        path: path.into(),
        reason,
    };
    let file = SafeTensors::deserialize(bytes).map_err(|error| format_error(error.to_string()))?;
    file.tensors()
        .into_iter()
        .filter(|(name, _)| !name.ends_with(TRACKED))
        .map(|(name, view)| {
            if view.dtype() != Dtype::F32 {
                return Err(format_error(format!(
                    "{name} is {:?}, expected F32",
                    view.dtype()
                )));
            }
            let values: Vec<f32> = view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            Ok((name, TensorData::new(values, view.shape().to_vec())))
        })
        .collect()
}
