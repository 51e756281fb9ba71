//! Weights in and out: safetensors with torchvision's names, the configuration in the header.

mod error;
mod file;
mod floats;
mod loading;

pub use error::WeightsError;
pub use file::{Checkpoint, StoredAs, TrainingRecord, f16_overflows, save, write_tensors};
#[cfg(feature = "train")]
pub(crate) use file::{from_bytes, to_bytes};
#[cfg(feature = "convert")]
pub(crate) use file::{is_own, open, read_own};
pub use floats::FloatType;
pub use loading::{Transfer, load_state_dict, transfer};

use crate::model::MaskRcnn;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use std::collections::BTreeMap;
use std::path::Path;

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

/// Reads weights with what is needed to use them.
///
/// A file that [`save`] wrote; with the feature `convert` also what [`crate::convert::import`] reads.
pub fn load(path: impl AsRef<Path>) -> Result<Checkpoint, WeightsError> {
    let path = path.as_ref();
    #[cfg(feature = "convert")]
    return Ok(crate::convert::import(path, &Default::default())?.checkpoint);
    #[cfg(not(feature = "convert"))]
    file::read_own(file::open(path)?)
}

/// As [`load`], from the bytes of a file that [`save`] wrote; `name` stands for the file in errors.
pub fn load_bytes(bytes: &[u8], name: &Path) -> Result<Checkpoint, WeightsError> {
    file::read_own(file::TensorFile::open(name, std::io::Cursor::new(bytes))?)
}

/// torch counts batches in a buffer that nothing reads.
pub(crate) const TRACKED: &str = "num_batches_tracked";
