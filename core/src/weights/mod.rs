//! Reading and writing of weights: safetensors with torchvision's names and the configuration in the header.

mod error;
#[cfg(feature = "convert")]
pub mod import;
mod load;
pub(crate) mod names;
mod own;
mod source;
mod state;
mod transfer;

pub use error::WeightsError;
pub use load::{load, load_bytes, load_state_dict};
pub use own::{Checkpoint, StoredAs, TrainingRecord, f16_overflows, save, write_tensors};
#[cfg(feature = "train")]
pub(crate) use own::{from_bytes, to_bytes};
pub use source::WeightsSource;
pub use state::{FloatType, StateDict, state_dict};
pub use transfer::{Transfer, transfer};
