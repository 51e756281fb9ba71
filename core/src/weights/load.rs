//! Loading of weights from a file, and into a model.

use super::error::WeightsError;
use super::names::is_counter;
use super::own::{self, Checkpoint};
use super::state::StateDict;
use crate::budget::excerpt;
use crate::model::{MaskRcnn, ModulePath};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use mrcnn_kernels::upload_dense;
use std::path::Path;

/// Reads weights with everything needed to use them.
///
/// Reads files that [`super::save`] wrote; with the feature `convert` also those that [`super::import::import`] reads.
pub fn load(path: impl AsRef<Path>) -> Result<Checkpoint, WeightsError> {
    let path = path.as_ref();
    #[cfg(feature = "convert")]
    return Ok(super::import::import(path, &Default::default())?.checkpoint);
    #[cfg(not(feature = "convert"))]
    own::read_own(own::open(path)?)
}

/// As [`load`], from the bytes of a file that [`super::save`] wrote; `name` is the file's name in errors.
pub fn load_bytes(bytes: &[u8], name: &Path) -> Result<Checkpoint, WeightsError> {
    own::read_own(own::TensorFile::open(name, std::io::Cursor::new(bytes))?)
}

/// Loads `tensors` into the model, which must have the same names and shapes.
///
/// `path` is named in the error, which lists tensors that are missing, unexpected or of another shape.
pub fn load_state_dict(
    model: MaskRcnn,
    tensors: StateDict,
    path: &Path,
) -> Result<MaskRcnn, WeightsError> {
    Ok(load_except(model, tensors, path, |_| false)?.0)
}

/// As [`load_state_dict`], but parameters for which `is_optional` holds keep their initial values if `tensors` lacks
/// them; their names are returned.
pub(super) fn load_except(
    model: MaskRcnn,
    tensors: StateDict,
    path: &Path,
    is_optional: impl Fn(&str) -> bool,
) -> Result<(MaskRcnn, Vec<String>), WeightsError> {
    let (model, loader) = Loader::run(model, tensors, is_optional);
    let fresh = loader.finish(path)?;
    Ok((model, fresh))
}

struct Loader<F> {
    path: ModulePath,
    tensors: StateDict,
    is_optional: F,
    missing: Vec<String>,
    misshapen: Vec<String>,
    fresh: Vec<String>,
}

impl<F: Fn(&str) -> bool> Loader<F> {
    fn run(model: MaskRcnn, tensors: StateDict, is_optional: F) -> (MaskRcnn, Self) {
        let mut loader = Self {
            path: ModulePath::default(),
            tensors,
            is_optional,
            missing: Vec::new(),
            misshapen: Vec::new(),
            fresh: Vec::new(),
        };
        (model.map(&mut loader), loader)
    }

    /// Returns the parameters that kept their initial values, or an error with everything that does not match.
    fn finish(self, path: &Path) -> Result<Vec<String>, WeightsError> {
        let unexpected: Vec<&String> = self
            .tensors
            .keys()
            .filter(|name| !is_counter(name))
            .collect();
        let count = self.missing.len() + self.misshapen.len() + unexpected.len();
        if count == 0 {
            return Ok(self.fresh);
        }
        let missing = self.missing.iter().map(|name| {
            let hint = closest(name, &unexpected);
            format!("{name} is missing{hint}")
        });
        let names = unexpected.iter().map(|name| {
            let hint = match name.len() <= LONGEST_NAME {
                true => closest(name, &self.missing.iter().collect::<Vec<_>>()),
                false => String::new(),
            };
            format!("{} is unexpected{hint}", excerpt(name))
        });
        let all = missing.chain(self.misshapen.iter().cloned()).chain(names);
        let mut details: Vec<String> = all.take(SHOWN).collect();
        if count > SHOWN {
            details.push(format!("and {} more", count - SHOWN));
        }
        Err(WeightsError::Mismatch {
            path: path.into(),
            count,
            details: details.join("; "),
        })
    }
}

/// Number of names listed in an error.
const SHOWN: usize = 5;

/// Number of names that are compared to find the closest.
const MAX_NAMES: usize = 2000;

/// Maximum length of a name that is compared; the longest of a supported network has 60 bytes.
const LONGEST_NAME: usize = 128;

/// ` (the closest is x)` if one is similar enough.
fn closest(name: &str, others: &[&String]) -> String {
    // The time of a comparison is proportional to the product of the lengths, and names come from untrusted files.
    let scored = others
        .iter()
        .filter(|other| other.len() <= LONGEST_NAME)
        .take(MAX_NAMES)
        .map(|other| (strsim::normalized_levenshtein(name, other), other));
    match scored.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((score, other)) if score > 0.7 => format!(" (the closest is {other})"),
        _ => String::new(),
    }
}

impl<F: Fn(&str) -> bool> ModuleMapper for Loader<F> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        let Some(data) = self.tensors.remove(&name) else {
            if (self.is_optional)(&name) {
                self.fresh.push(name);
            } else {
                self.missing.push(name);
            }
            return param;
        };
        let wanted = param.lazy_shape();
        if *data.shape() != wanted {
            let problem = format!("{name} is {:?}, the model has {wanted:?}", data.shape());
            self.misshapen.push(problem);
            return param;
        }
        let trained = param.val().is_require_grad();
        param
            .map(|old| Tensor::<D>::detach(upload_dense(data, &old.device())))
            .set_require_grad(trained)
    }
}
