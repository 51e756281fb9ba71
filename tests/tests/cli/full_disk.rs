//! A disk that fills up during a run: one error with the sizes, no temporary files, and the run can be resumed once there
//! is space. `tests/tests/fault` makes every write fail instead, on any disk.
#![cfg(target_os = "linux")]

use crate::evidence::records;
use crate::resume::tensors;
use crate::{cli, cli_ok, render_shapes, shown, train_args};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small disk in memory, mounted for the lifetime of this value.
pub struct Tmpfs(pub PathBuf);

impl Tmpfs {
    const BYTES: u64 = 64 << 20;

    /// A disk of this size; `None` if this user may not mount.
    pub fn mount(at: PathBuf, bytes: u64) -> Option<Self> {
        std::fs::create_dir(&at).expect("a folder");
        let size = format!("size={bytes}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at);
        let output = mount.output().ok()?;
        output.status.success().then_some(Self(at))
    }

    /// Forbids writing.
    pub fn make_read_only(&self) {
        let mut mount = Command::new("mount");
        let status = mount.args(["-o", "remount,ro"]).arg(&self.0).status();
        assert!(status.expect("mount").success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // A lazy unmount, because a failed test may have left a process that uses the disk.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> u64 {
    let entries = folder.read_dir().expect("a folder").flatten();
    entries
        .map(|entry| match entry.path() {
            path if path.is_dir() => size(&path),
            path => path.metadata().map_or(0, |file| file.len()),
        })
        .sum()
}

#[test]
fn a_full_disk_is_one_error_and_the_run_resumes_with_space() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let Some(disk) = Tmpfs::mount(at.join("disk"), Tmpfs::BYTES) else {
        mrcnn_test_support::skip("a full disk: this user may not mount a tmpfs");
        return;
    };
    render_shapes(at, 4, 1);
    let arguments = |out: &'static str| {
        let mut args = train_args();
        args.extend([
            out,
            "--set=train.steps=8",
            "--set=train.checkpoint_every=2",
            "--set=train.eval_every=4",
            "--set=log.report=false",
        ]);
        args
    };
    cli_ok(at, &arguments("--out=whole"));
    let checkpoint = size(&at.join("whole/checkpoints/00000008"));
    let weights = at.join("whole/last.safetensors").metadata();
    let weights = weights.expect("weights").len();
    // Space for the first checkpoint, but not for the second beside it.
    let room = checkpoint * 8 / 5 + weights / 2;
    let ballast = disk.0.join("ballast");
    let bytes = vec![0; (Tmpfs::BYTES - room) as usize];
    std::fs::write(&ballast, bytes).expect("the ballast");

    let output = cli(at, &arguments("--out=disk/run"));
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.matches("error: ").count(), 1, "{text}");
    assert!(!text.contains("panicked"), "{text}");
    assert!(text.contains("MB") && text.contains("free"), "{text}");
    let checkpoints = disk.0.join("run/checkpoints");
    let names: Vec<String> = checkpoints
        .read_dir()
        .expect("checkpoints")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, ["00000002"], "{text}");
    let partial = std::fs::read_dir(disk.0.join("run")).expect("the run");
    let partial = partial.flatten().any(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().ends_with(".partial")
    });
    assert!(!partial, "a temporary file keeps the disk full");

    // Still full: the same error, and the checkpoint stays.
    let resume = ["train", "--backend=cpu", "--resume=disk/run"];
    let text = shown(&cli(at, &resume));
    assert_eq!(text.matches("error: ").count(), 1, "{text}");
    assert!(
        checkpoints.join("00000002/manifest.json").is_file(),
        "{text}"
    );
    std::fs::remove_file(&ballast).expect("the ballast");
    cli_ok(at, &resume);
    let losses = |run: &Path| -> Vec<String> {
        let steps = records(run, "step").into_iter();
        steps
            .map(|step| format!("{} {}", step["loss"], step["grad_norm"]))
            .collect()
    };
    assert_eq!(losses(&disk.0.join("run")), losses(&at.join("whole")));
    for file in [
        "last.safetensors",
        "checkpoints/00000008/optimizer.safetensors",
    ] {
        let [found, wanted] = ["disk/run", "whole"].map(|run| tensors(&at.join(run).join(file)));
        assert!(found == wanted, "{file} differs");
    }
}
