//! Pretrained models by name: a list, a cache, and downloads into it.
//!
//! [`find`] looks a name up, [`fetch`] returns the file of a model, from the cache or from the network. Nothing is
//! downloaded unless a model is requested by name. [`get_bytes`] and [`get_file`] download other files by their URL.
//!
//! | environment variable | effect |
//! |---|---|
//! | `MRCNN_CACHE` | the folder whose `models` has the files, by default `mrcnn` in the system's cache folder |
//! | `MRCNN_MODEL_BASE_URL` | a mirror: file names are appended to this URL |
//! | `MRCNN_MODELS` | a TOML file with models of one's own |
//! | `MRCNN_OFFLINE` | `1` forbids the network |
//! | `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` | the proxy |
//! | `SSL_CERT_FILE` | certificate authorities as PEM, in place of Mozilla's list |
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use mrcnn_core::{Predictor, image::decode::decode};
//!
//! let predictor = Predictor::builder().pretrained("maskrcnn_resnet50_fpn").build()?;
//! println!("{} objects", predictor.predict(&decode("photo.jpg")?)?.len());
//! # Ok(())
//! # }
//! ```

mod cache;
mod client;
mod download;
mod error;
mod event;
mod fetch;
mod list;
mod locate;
mod model;
mod options;
mod url;

pub use cache::{cached_path, sha256, verify};
pub use error::PretrainedError;
pub use event::FetchEvent;
pub use fetch::{Fetched, fetch};
pub use list::{models, parse};
pub use locate::{Located, find, locate};
pub use model::{ClassList, Coco, ModelKind, PretrainedModel};
pub use options::FetchOptions;
pub use url::{UrlError, UrlOptions, get_bytes, get_file, public_url, url_file_name};
