//! Compiled and tuned CUDA kernels on disk, so that a second run of the same program starts at once.
//!
//! CubeCL keeps them in one database per GPU model, driver and program: the tuning results of another GPU are not the
//! best here, and kernels of another build may differ under the same name. The folder is `mrcnn` in the user's cache
//! folder of CubeCL; `MRCNN_KERNEL_CACHE` names another one, and `MRCNN_KERNEL_CACHE=off` keeps nothing.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
#[cfg(any(feature = "cuda", test))]
use std::time::SystemTime;

/// Number of databases that are kept: enough for several GPUs and a developer's last builds.
#[cfg(any(feature = "cuda", test))]
const KEPT: usize = 8;

/// The variable that names the folder, or is `off`.
const VARIABLE: &str = "MRCNN_KERNEL_CACHE";

/// The folder, or `None` if kernels are not kept: by the variable, or because this build has no CUDA.
pub fn folder() -> Option<PathBuf> {
    match std::env::var_os(VARIABLE) {
        Some(value) if value == "off" => None,
        Some(value) if !value.is_empty() => Some(value.into()),
        _ => usual_folder(),
    }
}

#[cfg(feature = "cuda")]
fn usual_folder() -> Option<PathBuf> {
    let cache = cubecl_runtime::config::cache::CacheConfig::Global;
    Some(cache.root().join("mrcnn"))
}

#[cfg(not(feature = "cuda"))]
fn usual_folder() -> Option<PathBuf> {
    None
}

/// Bytes of all databases in the folder.
pub fn size(folder: &Path) -> u64 {
    let files = databases(folder).unwrap_or_default();
    files.iter().map(|(_, file)| file.len()).sum()
}

/// Deletes all databases and returns their bytes. Other files are left.
pub fn clear(folder: &Path) -> io::Result<u64> {
    let mut freed = 0;
    for (path, file) in databases(folder)? {
        std::fs::remove_file(path)?;
        freed += file.len();
    }
    Ok(freed)
}

/// The database's name, without its extension, for a GPU, a driver and this program.
#[cfg(feature = "cuda")]
pub(crate) fn name(gpu: &str, driver: &impl std::fmt::Display) -> String {
    let program = std::env::current_exe().and_then(std::fs::metadata);
    let program = program.map_or(String::new(), |file| {
        let age = modified(&file).duration_since(SystemTime::UNIX_EPOCH);
        let nanoseconds = age.map_or(0, |age| age.as_nanos());
        format!("{:x}-{nanoseconds:x}", file.len())
    });
    let version = env!("CARGO_PKG_VERSION");
    format!("{gpu}, CUDA {driver}, {version} {program}")
}

/// Deletes all databases except the [`KEPT`] that were written last.
#[cfg(any(feature = "cuda", test))]
pub(crate) fn prune(folder: &Path) -> io::Result<()> {
    let mut files = databases(folder)?;
    let is_main = |path: &Path| path.extension().is_some_and(|extension| extension == "db");
    let mut main: Vec<(PathBuf, SystemTime)> = files
        .iter()
        .filter(|(path, _)| is_main(path))
        .map(|(path, file)| (path.clone(), modified(file)))
        .collect();
    main.sort_by_key(|(_, modified)| std::cmp::Reverse(*modified));
    main.truncate(KEPT);
    // A database has files beside it, such as `NAME.db-wal`.
    let is_kept = |path: &Path| {
        let path = path.as_os_str().as_encoded_bytes();
        main.iter()
            .any(|(kept, _)| path.starts_with(kept.as_os_str().as_encoded_bytes()))
    };
    files.retain(|(path, _)| !is_kept(path));
    files
        .into_iter()
        .try_for_each(|(path, _)| std::fs::remove_file(path))
}

#[cfg(any(feature = "cuda", test))]
fn modified(file: &Metadata) -> SystemTime {
    file.modified().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The files of databases; none if there is no folder.
fn databases(folder: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let file = entry.metadata()?;
        let is_database = entry
            .file_name()
            .as_encoded_bytes()
            .windows(3)
            .any(|part| part == b".db");
        if file.is_file() && is_database {
            files.push((entry.path(), file));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn folder_of(names: &[String]) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("mrcnn-kernel-cache-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        for (age, name) in names.iter().enumerate() {
            let path = folder.join(name);
            std::fs::write(&path, [0; 10]).expect("a file");
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - age as u64);
            let file = std::fs::File::options().write(true).open(path);
            file.and_then(|file| file.set_modified(time))
                .expect("a time");
        }
        folder
    }

    #[test]
    fn the_last_databases_are_kept_and_other_files_are_left() {
        let mut names: Vec<String> = (0..KEPT + 3).map(|n| format!("gpu {n:02}.db")).collect();
        names.extend(["gpu 00.db-wal", "gpu 09.db-wal", "notes.txt"].map(String::from));
        let folder = folder_of(&names);
        assert_eq!(size(&folder), 10 * (KEPT as u64 + 5));
        prune(&folder).expect("pruned");
        let exists = |name: &str| folder.join(name).exists();
        assert!(exists("gpu 00.db") && exists("gpu 00.db-wal") && exists("gpu 07.db"));
        assert!(!exists("gpu 08.db") && !exists("gpu 09.db-wal"));
        assert_eq!(clear(&folder).expect("cleared"), 10 * (KEPT as u64 + 1));
        assert!(exists("notes.txt"));
        assert_eq!(size(&folder), 0);
        std::fs::remove_dir_all(&folder).expect("removed");
        assert_eq!(clear(&folder).expect("no folder is empty"), 0);
    }
}
