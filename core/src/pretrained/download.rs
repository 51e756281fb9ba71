//! A download: in parts if the connection breaks, checked before it gets its final name.

use super::cache::{cache_error, sha256};
use super::client::{Answer, Client, Failure};
use super::error::PretrainedError;
use super::event::FetchEvent;
use super::model::PretrainedModel;
use super::options::FetchOptions;
use crate::disk::{parent, sync_folder};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Number of received bytes after which failed attempts are counted from 1 again.
const PROGRESS: u64 = 1 << 20;

/// A download into the cache by the process that holds its lock.
pub(super) struct Download<'a> {
    pub model: &'a PretrainedModel,
    pub options: &'a FetchOptions,
    pub client: Client,
    pub url: String,
    pub path: &'a Path,
    /// The file while it is incomplete.
    pub part: PathBuf,
    /// ETag of the version of the file that `part` belongs to.
    pub tag: Option<String>,
    pub on_event: &'a mut dyn FnMut(FetchEvent<'_>),
}

impl Download<'_> {
    /// Downloads, checks and renames the file; returns its SHA-256.
    pub fn run(&mut self) -> Result<String, PretrainedError> {
        if self.model.sha256.is_none() {
            // Without a hash, an older part of another version could not be detected.
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
            // Left behind, it would keep a full disk full.
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
            fix: match self.options.base_url {
                None => {
                    "the server has another file, or a proxy replaced it; the file was not kept. Download it in another \
                     way, or set MRCNN_MODEL_BASE_URL to a mirror"
                }
                Some(_) => {
                    "the mirror of MRCNN_MODEL_BASE_URL has another file of this name, which was not kept. Put the \
                     published file there, or list a model of your own under its own name (MRCNN_MODELS, docs/models.md)"
                }
            }
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
