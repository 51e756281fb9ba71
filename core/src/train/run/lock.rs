//! The lock of a run folder, which a single process writes to.

use crate::train::error::TrainError;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Lock held by the process that writes to a run folder; the operating system releases it when the process ends.
#[derive(Debug)]
pub(super) struct RunLock {
    _file: File,
}

impl RunLock {
    /// The file's name in the run folder.
    pub(super) const NAME: &str = ".lock";

    /// Locks a run folder, or returns an error with the process that holds the lock.
    pub(super) fn take(folder: &Path) -> Result<Self, TrainError> {
        let path = folder.join(Self::NAME);
        let io = |source| TrainError::Io {
            path: path.clone(),
            source,
        };
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false);
        let mut file = file.open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Without the holder's name, the error is still correct.
                let _ = (&mut file).take(200).read_to_string(&mut holder);
                return Err(TrainError::InUse {
                    path: folder.into(),
                    holder: match holder.trim() {
                        "" => "another process".into(),
                        holder => holder.into(),
                    },
                });
            }
            // Some network file systems have no locks; the run then continues without one.
            Err(TryLockError::Error(error)) if is_unsupported(&error) => {}
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        let holder = match host.trim() {
            "" => format!("process {}\n", std::process::id()),
            host => format!("process {} on {host}\n", std::process::id()),
        };
        // Information for people only, so a full disk must not stop a run from being resumed.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(holder.as_bytes()));
        Ok(Self { _file: file })
    }
}

fn is_unsupported(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::Unsupported
}
