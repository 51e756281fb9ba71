//! A checkpoint's folder on disk, which is complete or absent.
//!
//! Files are written and synced under a temporary name, then the folder is renamed: a process that is
//! killed at any moment leaves every older checkpoint as it was.

use crate::disk::sync_folder;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Error, ErrorKind, Result, Write};
use std::path::{Path, PathBuf};

/// Length and checksum of every file.
const MANIFEST: &str = "manifest.json";

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    bytes: u64,
    crc32c: u32,
}

type Manifest = BTreeMap<String, Entry>;

/// A checkpoint file, created when it is written, so that only one is in memory at a time.
pub(crate) type Contents<'a> = (&'a str, &'a dyn Fn() -> Result<Vec<u8>>);

/// Callback before every step of a write; tests use it to simulate a killed process.
pub(crate) type Step<'a> = &'a mut dyn FnMut(&str) -> Result<()>;

/// Writes the checkpoint of `step` into `parent`, then removes all but this one and the `keep - 1` before it.
/// Checkpoints of later steps are removed too: the run was resumed from an earlier step, so they are obsolete.
pub(crate) fn write(
    parent: &Path,
    step: usize,
    files: &[Contents<'_>],
    keep: usize,
    before: Step<'_>,
) -> Result<PathBuf> {
    let folder = parent.join(format!("{step:08}"));
    let temporary = parent.join(format!(".writing-{step:08}"));
    fill(&temporary, files, before)?;
    before("move an old one of this step away")?;
    discard(&folder)?;
    before("rename")?;
    std::fs::rename(&temporary, &folder)?;
    before("sync the parent")?;
    sync_folder(parent)?;
    let (later, kept): (Vec<_>, Vec<_>) = list(parent)?
        .into_iter()
        .partition(|(number, _)| *number > step);
    for (_, old) in later.into_iter().chain(kept.into_iter().skip(keep.max(1))) {
        before("remove an old one")?;
        discard(&old)?;
    }
    remove_leftovers(parent)?;
    Ok(folder)
}

/// Writes all files and the manifest into a new folder, and waits until they are on the disk.
fn fill(temporary: &Path, files: &[Contents<'_>], before: Step<'_>) -> Result<()> {
    before("create")?;
    if temporary.exists() {
        std::fs::remove_dir_all(temporary)?;
    }
    std::fs::create_dir_all(temporary)?;
    let mut manifest = Manifest::new();
    for (name, contents) in files {
        let bytes = contents()?;
        write_file(&temporary.join(name), &bytes, before)?;
        let entry = Entry {
            bytes: bytes.len() as u64,
            crc32c: crc32c::crc32c(&bytes),
        };
        manifest.insert(name.to_string(), entry);
    }
    let manifest = serde_json::to_vec_pretty(&manifest)?;
    write_file(&temporary.join(MANIFEST), &manifest, before)?;
    before("sync the folder")?;
    sync_folder(temporary)
}

fn write_file(path: &Path, bytes: &[u8], before: Step<'_>) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    before(&format!("create {name}"))?;
    let mut file = File::create(path)?;
    let (start, end) = bytes.split_at(bytes.len() / 2);
    file.write_all(start)?;
    before(&format!("write the rest of {name}"))?;
    file.write_all(end)?;
    before(&format!("sync {name}"))?;
    file.sync_all()
}

/// Removes a checkpoint; it is first renamed to a name that no reader accepts.
fn discard(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let doomed = folder.with_file_name(format!(".removing-{name}"));
    if doomed.exists() {
        std::fs::remove_dir_all(&doomed)?;
    }
    std::fs::rename(folder, &doomed)?;
    std::fs::remove_dir_all(doomed)
}

/// Removes leftovers of writes and removals that were killed. A complete checkpoint that lacks its final name, because
/// a checkpoint of the same step was being replaced, is renamed to it.
pub(super) fn remove_leftovers(parent: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(parent) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = entry.path();
        if let Some(step) = name.strip_prefix(".writing-") {
            let folder = parent.join(step);
            match !folder.exists() && check(&path).is_ok() {
                true => std::fs::rename(&path, folder)?,
                false => std::fs::remove_dir_all(path)?,
            }
        } else if name.starts_with(".removing-") {
            std::fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

/// The checkpoints in `parent` with their steps, newest first; empty if the folder is missing.
pub(crate) fn list(parent: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let entries = match std::fs::read_dir(parent) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths: Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let step = |path: &PathBuf| path.file_name()?.to_str()?.parse::<usize>().ok();
    // A file with such a name is not a checkpoint.
    let mut numbered: Vec<(usize, PathBuf)> = paths?
        .into_iter()
        .filter(|path| path.is_dir())
        .filter_map(|path| Some((step(&path)?, path)))
        .collect();
    numbered.sort_unstable_by(|a, b| b.cmp(a));
    Ok(numbered)
}

/// Reads a file of a checkpoint that [`check`] found intact.
pub(crate) fn read(folder: &Path, name: &str) -> Result<Vec<u8>> {
    std::fs::read(folder.join(name))
}

/// Compares every file with the manifest; the error names the damaged file.
pub(crate) fn check(folder: &Path) -> Result<()> {
    let damaged = |text: String| Error::new(ErrorKind::InvalidData, text);
    let named = |name: &str, error: Error| Error::new(error.kind(), format!("{name}: {error}"));
    let manifest = read(folder, MANIFEST).map_err(|error| named(MANIFEST, error))?;
    let manifest: Manifest = serde_json::from_slice(&manifest)
        .map_err(|error| damaged(format!("{MANIFEST}: {error}")))?;
    for (name, wanted) in manifest {
        let bytes = read(folder, &name).map_err(|error| named(&name, error))?;
        let found = Entry {
            bytes: bytes.len() as u64,
            crc32c: crc32c::crc32c(&bytes),
        };
        if found.bytes != wanted.bytes {
            let (found, wanted) = (found.bytes, wanted.bytes);
            return Err(damaged(format!("{name} has {found} of {wanted} bytes")));
        }
        if found != wanted {
            return Err(damaged(format!("{name} is damaged (checksum)")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes the checkpoint of `step`, killed before its `fault`th step; returns whether the write completed.
    fn killed(parent: &Path, step: usize, fault: usize) -> bool {
        let contents = || Ok(vec![step as u8; 1000]);
        let files: [Contents; 4] = ["a", "b", "c", "d"].map(|name| (name, &contents as _));
        let mut left = fault;
        let mut before = |_: &str| match left.checked_sub(1) {
            Some(rest) => {
                left = rest;
                Ok(())
            }
            None => Err(Error::other("killed")),
        };
        write(parent, step, &files, 2, &mut before).is_ok()
    }

    fn newest_whole(parent: &Path) -> Option<u8> {
        let folders = list(parent).unwrap();
        let (_, whole) = folders.iter().find(|(_, folder)| check(folder).is_ok())?;
        Some(read(whole, "d").unwrap()[999])
    }

    #[test]
    fn a_kill_at_any_point_leaves_a_whole_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let parent = folder.path();
        for step in [1, 2, 3] {
            assert!(killed(parent, step, usize::MAX));
        }
        assert_eq!(list(parent).unwrap().len(), 2, "the oldest is removed");
        let mut fault = 0;
        // A newer checkpoint each time, while leftovers of the killed write are still there.
        while !killed(parent, 4 + fault, fault) {
            let newest = newest_whole(parent).unwrap() as usize;
            assert!(newest == 3 || newest == 4 + fault, "{newest} after {fault}");
            fault += 1;
        }
        assert!(fault >= 20, "only {fault} points");
        assert_eq!(newest_whole(parent), Some(4 + fault as u8));
        let names = std::fs::read_dir(parent).unwrap();
        let hidden = names.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with('.')
        });
        assert_eq!(hidden.count(), 0, "what the killed ones left is gone");
    }

    #[test]
    fn a_run_that_continues_from_an_earlier_step_keeps_its_checkpoints() {
        let folder = tempfile::tempdir().unwrap();
        let parent = folder.path();
        for step in [3, 12] {
            assert!(killed(parent, step, usize::MAX));
        }
        std::fs::write(parent.join("00000012/b"), b"damaged").unwrap();
        let contents = || Ok(vec![9; 10]);
        write(parent, 9, &[("d", &contents)], 1, &mut |_| Ok(())).unwrap();
        let left: Vec<usize> = list(parent)
            .unwrap()
            .iter()
            .map(|(step, _)| *step)
            .collect();
        assert_eq!(left, [9]);
    }

    /// The only checkpoint is replaced by one of the same step, and killed between the two renames, too.
    #[test]
    fn replacing_the_only_checkpoint_never_leaves_none() {
        let mut fault = 0;
        loop {
            let folder = tempfile::tempdir().unwrap();
            let parent = folder.path();
            let contents = || Ok(vec![1; 10]);
            write(parent, 7, &[("d", &contents)], 1, &mut |_| Ok(())).unwrap();
            let mut left = fault;
            let mut before = |_: &str| match left {
                0 => Err(Error::other("killed")),
                _ => {
                    left -= 1;
                    Ok(())
                }
            };
            let done = write(parent, 7, &[("d", &contents)], 1, &mut before).is_ok();
            remove_leftovers(parent).unwrap();
            let found = list(parent).unwrap();
            assert_eq!(found.len(), 1, "after {fault}");
            check(&found[0].1).unwrap();
            if done {
                break;
            }
            fault += 1;
        }
        assert!(fault >= 8, "only {fault} points");
    }

    #[test]
    fn a_file_among_the_checkpoints_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("9"), "a note").unwrap();
        assert!(killed(folder.path(), 3, usize::MAX));
        assert_eq!(list(folder.path()).unwrap().len(), 1);
        assert!(folder.path().join("9").is_file());
    }

    #[test]
    fn damage_is_found_and_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(killed(folder.path(), 7, usize::MAX));
        let at = folder.path().join("00000007");
        check(&at).unwrap();
        let message = |name: &str, bytes: &[u8]| {
            let whole = read(&at, name).unwrap();
            std::fs::write(at.join(name), bytes).unwrap();
            let message = check(&at).unwrap_err().to_string();
            std::fs::write(at.join(name), whole).unwrap();
            message
        };
        assert_eq!(message("b", &[7; 999]), "b has 999 of 1000 bytes");
        assert_eq!(message("b", &[8; 1000]), "b is damaged (checksum)");
        assert!(message(MANIFEST, b"{").contains(MANIFEST));
        std::fs::remove_file(at.join("a")).unwrap();
        assert!(check(&at).unwrap_err().to_string().starts_with("a: "));
        assert!(list(&folder.path().join("none")).unwrap().is_empty());
    }
}
