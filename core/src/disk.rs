//! Atomic file writes: after a kill, an error or a power cut a file is complete or absent.

use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::{Path, PathBuf};

/// Writes a file atomically: a temporary file beside it is written and synced, renamed, and the folder is synced. After
/// an interruption `path` has its old contents or the new ones; the temporary file is removed if anything fails.
pub fn write_durably(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let temporary = partial(path);
    let result = fill(&temporary, write).and_then(|()| std::fs::rename(&temporary, path));
    if result.is_err() {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&temporary);
    }
    result?;
    sync_folder(parent(path))
}

/// Creates a file, writes it and syncs it.
fn fill(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    write(&mut out)?;
    let file = out.into_inner().map_err(|error| error.into_error())?;
    file.sync_all()
}

/// The temporary path of a file while it is written. The name is fixed, so that the next attempt replaces the leftovers
/// of a killed one.
pub fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".partial");
    path.with_file_name(name)
}

/// Removes temporary files that killed writes of these files left behind.
#[cfg(any(feature = "train", test))]
pub fn remove_partial(paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        match std::fs::remove_file(partial(path)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The folder of a file; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Creates a folder and its parents, and syncs them, so that they survive a power cut.
#[cfg(any(feature = "train", test))]
pub fn create_folder(path: &Path) -> Result<()> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
        .collect();
    std::fs::create_dir_all(path)?;
    for folder in missing.into_iter().rev() {
        sync_folder(parent(folder))?;
    }
    Ok(())
}

/// Syncs a folder, so that new names in it survive a power cut.
#[cfg(unix)]
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)?.sync_all()
}

/// Windows has no such call; a rename survives there anyway.
#[cfg(not(unix))]
pub fn sync_folder(_folder: &Path) -> Result<()> {
    Ok(())
}

/// Free bytes for this user on the file system of `path`, if the system reports them.
// The types differ between systems.
#[allow(clippy::useless_conversion)]
#[cfg(all(unix, feature = "train"))]
pub fn free_bytes(path: &Path) -> Option<u64> {
    let found = nix::sys::statvfs::statvfs(path).ok()?;
    let blocks = u64::try_from(found.blocks_available()).ok()?;
    let size = u64::try_from(found.fragment_size()).ok()?;
    blocks.checked_mul(size)
}

/// Not queried on this system.
#[cfg(all(not(unix), feature = "train"))]
pub fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

/// Whether an error means that the disk or the quota is full.
#[cfg(any(feature = "train", test))]
pub fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, ErrorKind};

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("args.toml");
        write_durably(&path, |out| out.write_all(b"old")).unwrap();
        let failed = write_durably(&path, |out| {
            out.write_all(&[0; 3 << 20])?;
            Err(Error::from(ErrorKind::StorageFull))
        });
        assert!(is_full(&failed.unwrap_err()));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        // What a kill left is replaced, or removed on request.
        std::fs::write(partial(&path), "half").unwrap();
        remove_partial(&[path.clone(), folder.path().join("none")]).unwrap();
        assert!(!partial(&path).exists());
    }

    #[test]
    #[cfg(unix)]
    fn files_have_the_mode_that_the_umask_gives() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let [ours, plain] = ["ours", "plain"].map(|name| folder.path().join(name));
        write_durably(&ours, |out| out.write_all(b"1")).unwrap();
        std::fs::write(&plain, b"1").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn folders_are_created_with_their_parents() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        create_folder(&deep).unwrap();
        create_folder(&deep).unwrap();
        assert!(deep.is_dir());
        assert_eq!(parent(Path::new("x.toml")), Path::new("."));
        assert_eq!(parent(Path::new("a/x.toml")), Path::new("a"));
    }

    #[test]
    #[cfg(all(unix, feature = "train"))]
    fn free_space_is_reported() {
        assert!(free_bytes(&std::env::temp_dir()).unwrap() > 0);
    }
}
