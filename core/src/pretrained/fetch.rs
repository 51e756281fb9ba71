//! Downloads into the cache: one process at a time, in parts if the connection breaks, checked before use.

use super::cache::{cache_error, cached_path, lock, sha256, verify};
use super::client::{Answer, Client, Failure};
use super::error::PretrainedError;
use super::list::PretrainedModel;
use super::options::FetchOptions;
use crate::disk::{parent, partial, sync_folder};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A step of [`fetch`], for a program that shows its progress.
#[derive(Clone, Copy, Debug)]
pub enum FetchEvent<'a> {
    /// Another process downloads the model.
    Waiting,
    /// The download begins.
    Starting {
        /// The URL.
        url: &'a str,
        /// The path of the file in the cache.
        path: &'a Path,
        /// Length of the file in bytes, by the list.
        size: Option<u64>,
    },
    /// Some of the file has arrived.
    Received {
        /// Number of bytes so far, those of an earlier attempt included.
        done: u64,
        /// Length of the file in bytes, by the server.
        total: Option<u64>,
    },
    /// The connection failed; another attempt follows.
    Retrying {
        /// What failed.
        reason: &'a str,
        /// The time until then.
        pause: Duration,
    },
    /// The hash of the file is computed.
    Checking,
}

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

/// Number of bytes that count as progress: with more, a failed attempt is the first one again.
const PROGRESS: u64 = 1 << 20;

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
            let client = Client::new(options)?;
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

struct Download<'a> {
    model: &'a PretrainedModel,
    options: &'a FetchOptions,
    client: Client,
    url: String,
    path: &'a Path,
    /// The file while it is incomplete.
    part: PathBuf,
    /// The server's name of the version that `part` is of.
    tag: Option<String>,
    on_event: &'a mut dyn FnMut(FetchEvent<'_>),
}

impl Download<'_> {
    /// Downloads, checks and renames the file; returns its SHA-256.
    fn run(&mut self) -> Result<String, PretrainedError> {
        if self.model.sha256.is_none() {
            // Nothing would show that an older part is of another version.
            self.remove_part();
        }
        let was_begun = self.received() > 0;
        self.receive()?;
        let mut checked = self.check();
        if was_begun && matches!(checked, Err(PretrainedError::Hash { .. })) {
            self.receive()?;
            checked = self.check();
        }
        let digest = checked?;
        let renamed = std::fs::rename(&self.part, self.path);
        renamed
            .and_then(|()| sync_folder(parent(self.path)))
            .map_err(|source| cache_error(self.path, source))?;
        Ok(digest)
    }

    /// Requests the file, and the rest of it after each failure, until it is complete.
    fn receive(&mut self) -> Result<(), PretrainedError> {
        let (mut failures, mut mark) = (0, self.received());
        loop {
            let reason = match self.attempt()? {
                Ok(()) => return Ok(()),
                Err(Failure::Final(reason)) => return Err(self.failed(reason)),
                Err(Failure::Temporary(reason) | Failure::Part(reason)) => reason,
            };
            let received = self.received();
            if received >= mark + PROGRESS {
                (failures, mark) = (0, received);
            }
            failures += 1;
            if failures >= self.options.attempts {
                return Err(self.failed(format!("{reason}, in the last of {failures} attempts")));
            }
            let pause = self.options.pause * 2u32.pow(failures.min(6) - 1);
            (self.on_event)(FetchEvent::Retrying {
                reason: &reason,
                pause,
            });
            std::thread::sleep(pause);
        }
    }

    /// One request, written to the partial file. The outer error is one of the cache.
    fn attempt(&mut self) -> Result<Result<(), Failure>, PretrainedError> {
        let answer = self
            .client
            .get(&self.url, self.received(), self.tag.as_deref());
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(Failure::Part(_)) if self.is_complete()? => return Ok(Ok(())),
            Err(Failure::Part(reason)) => {
                self.remove_part();
                return Ok(Err(Failure::Temporary(reason)));
            }
            Err(failure) => return Ok(Err(failure)),
        };
        self.tag = answer.tag.take();
        let result = self.write(&mut answer);
        if result.is_err() {
            // A full disk stays full with it.
            self.remove_part();
        }
        result.map_err(|source| cache_error(&self.part, source))
    }

    /// Appends the body to the partial file, or replaces it if the body is the whole file.
    fn write(&mut self, answer: &mut Answer) -> std::io::Result<Result<(), Failure>> {
        let mut open = File::options();
        match answer.start {
            0 => open.write(true).create(true).truncate(true),
            _ => open.append(true),
        };
        let mut file = open.open(&self.part)?;
        let (mut done, total, mut block) = (answer.start, answer.total, vec![0; 1 << 18]);
        loop {
            (self.on_event)(FetchEvent::Received { done, total });
            let length = match answer.body.read(&mut block) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Ok(Err(Failure::Temporary(format!(
                        "{error} after {done} bytes"
                    ))));
                }
            };
            file.write_all(&block[..length])?;
            done += length as u64;
        }
        file.sync_all()?;
        Ok(match total {
            Some(total) if done != total => Err(Failure::Temporary(format!(
                "the connection ended after {done} of {total} bytes"
            ))),
            _ => Ok(()),
        })
    }

    /// Compares the hash of the complete file; a wrong file is removed.
    fn check(&mut self) -> Result<String, PretrainedError> {
        (self.on_event)(FetchEvent::Checking);
        let found = sha256(&self.part).map_err(|source| cache_error(&self.part, source))?;
        if self.model.has_digest(&found) != Some(false) {
            return Ok(found);
        }
        self.remove_part();
        Err(PretrainedError::Hash {
            what: self.url.clone(),
            found,
            expected: self.model.sha256.clone().unwrap_or_default(),
            fix: "the server has another file, or a proxy replaced it; the file was not kept. Download it in another \
                  way, or set MRCNN_MODEL_BASE_URL to a mirror"
                .into(),
        })
    }

    /// Whether the partial file is the whole one: the process was killed before it could rename it.
    fn is_complete(&self) -> Result<bool, PretrainedError> {
        let found = sha256(&self.part).map_err(|source| cache_error(&self.part, source))?;
        Ok(self.model.has_digest(&found) == Some(true))
    }

    fn received(&self) -> u64 {
        self.part.metadata().map_or(0, |file| file.len())
    }

    fn remove_part(&self) {
        // If it cannot be removed, it cannot be replaced either, and that is the error to report.
        let _ = std::fs::remove_file(&self.part);
    }

    fn failed(&self, reason: String) -> PretrainedError {
        PretrainedError::Download {
            url: self.url.clone(),
            reason,
            path: self.path.into(),
        }
    }
}
