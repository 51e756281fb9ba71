//! The file of a model: from the cache, or downloaded by one process at a time; checked before use.

use super::cache::{cache_error, cached_path, lock, verify};
use super::client::Client;
use super::download::Download;
use super::error::PretrainedError;
use super::event::FetchEvent;
use super::model::PretrainedModel;
use super::options::FetchOptions;
use crate::disk::{parent, partial};
use std::path::{Path, PathBuf};

/// A model whose file is in the cache and has the hash of the list; from [`fetch`].
#[derive(Clone, Debug)]
pub struct Fetched {
    model: PretrainedModel,
    path: PathBuf,
    sha256: String,
}

impl Fetched {
    /// The model.
    pub fn model(&self) -> &PretrainedModel {
        &self.model
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The SHA-256 of the file in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// The file of a model: from the cache, or downloaded into it.
///
/// The hash is checked in both cases. Several processes may call this at once: one downloads, the others wait. What
/// an interrupted download has received is kept, and the next one requests the rest.
///
/// # Errors
///
/// If the network fails or is forbidden, the file has another hash (it is removed), or the cache cannot be written.
pub fn fetch(
    model: &PretrainedModel,
    options: &FetchOptions,
    on_event: &mut dyn FnMut(FetchEvent<'_>),
) -> Result<Fetched, PretrainedError> {
    let path = cached_path(model, options);
    if !path.exists() {
        let url = match &options.base_url {
            Some(base) => format!("{}/{}", base.trim_end_matches('/'), model.file_name()),
            None => model.url.clone(),
        };
        if options.offline {
            let name = model.name.clone();
            return Err(PretrainedError::Offline { name, url, path });
        }
        let folder = parent(&path);
        std::fs::create_dir_all(folder).map_err(|source| cache_error(folder, source))?;
        let _lock = lock(&path, || on_event(FetchEvent::Waiting))?;
        if !path.exists() {
            let client = Client::new(options.timeout)?;
            let size = model.size;
            on_event(FetchEvent::Starting {
                url: &url,
                path: &path,
                size,
            });
            let mut download = Download {
                model,
                options,
                client,
                url,
                part: partial(&path),
                path: &path,
                tag: None,
                on_event,
            };
            let sha256 = download.run()?;
            return Ok(Fetched {
                model: model.clone(),
                path,
                sha256,
            });
        }
    }
    on_event(FetchEvent::Checking);
    let sha256 = verify(model, &path)?;
    Ok(Fetched {
        model: model.clone(),
        path,
        sha256,
    })
}
