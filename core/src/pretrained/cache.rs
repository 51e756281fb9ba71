//! The folder of downloaded models: paths, hashes, and the lock of a download.

use super::error::PretrainedError;
use super::model::PretrainedModel;
use super::options::FetchOptions;
use sha2::{Digest, Sha256};
use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The path of a model in the cache, whether it is there or not.
pub fn cached_path(model: &PretrainedModel, options: &FetchOptions) -> PathBuf {
    options.folder.join(model.file_name())
}

/// Compares a file with the hash of the list; returns its SHA-256 in hexadecimal.
///
/// # Errors
///
/// If the file cannot be read or has another hash.
pub fn verify(model: &PretrainedModel, path: &Path) -> Result<String, PretrainedError> {
    let found = sha256(path).map_err(|source| cache_error(path, source))?;
    match model.has_digest(&found) {
        Some(false) => Err(PretrainedError::Hash {
            what: path.display().to_string(),
            found,
            expected: model.sha256.clone().unwrap_or_default(),
            fix: format!(
                "remove the file, then run `mrcnn-cli models fetch {}`",
                model.name
            ),
        }),
        _ => Ok(found),
    }
}

/// The SHA-256 of a file in hexadecimal.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut hash, mut block) = (Sha256::new(), vec![0; 1 << 18]);
    loop {
        match file.read(&mut block)? {
            0 => break,
            length => hash.update(&block[..length]),
        }
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// An error of the cache, with what to do about it.
pub(super) fn cache_error(path: &Path, source: io::Error) -> PretrainedError {
    let fix = match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "free space, or set MRCNN_CACHE to a folder on another disk"
        }
        _ => "set MRCNN_CACHE to a folder that can be written",
    };
    PretrainedError::Cache {
        path: path.into(),
        source,
        fix: fix.into(),
    }
}

/// Waits until no other process downloads `path`; the returned file holds the lock. `on_wait` is called before waiting.
///
/// The file stays: removing it would let a third process lock a new one while a second one still waits for the old.
pub(super) fn lock(path: &Path, on_wait: impl FnOnce()) -> Result<File, PretrainedError> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".lock");
    let path = path.with_file_name(name);
    let open = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = open.map_err(|source| cache_error(&path, source))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => on_wait(),
        // A file system without locks: two processes may download the same file, and the last one wins.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
            return Ok(file);
        }
        Err(TryLockError::Error(source)) => return Err(cache_error(&path, source)),
    }
    file.lock().map_err(|source| cache_error(&path, source))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_standard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path).unwrap(), digest);
        let mut model = super::super::find("resnet18").unwrap();
        model.sha256 = Some(digest[..8].into());
        assert_eq!(verify(&model, &path).unwrap(), digest);
        model.sha256 = Some("ba7816be".into());
        let error = verify(&model, &path).unwrap_err().to_string();
        assert!(
            error.contains(digest) && error.contains("ba7816be is expected"),
            "{error}"
        );
    }

    #[test]
    fn one_process_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.pth");
        let held = lock(&path, || panic!("nobody else has it")).unwrap();
        let (waits, waiting) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || lock(&path, || waits.send(()).unwrap()).map(drop));
        waiting.recv().unwrap();
        drop(held);
        other.join().unwrap().unwrap();
    }
}
