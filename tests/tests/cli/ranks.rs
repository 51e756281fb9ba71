//! Several processes in a build without communication are refused, and never train independently.

use crate::{binary, render_shapes, shown, train_args};
use std::path::Path;
use std::process::{Command, Output};

fn launched(at: &Path, variables: &[(&str, &str)], more: &[&str]) -> Output {
    let output = Command::new(binary())
        .args(train_args())
        .args(["--out=run"])
        .args(more)
        .envs(variables.iter().copied())
        .current_dir(at)
        .output();
    output.expect("a process")
}

#[test]
fn ranks_that_cannot_communicate_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    let torchrun = [("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")];
    let nonsense = [("RANK", "two"), ("WORLD_SIZE", "2")];
    for (variables, wanted) in [
        (&torchrun[..], "start with mpirun"),
        (&nonsense, "RANK=two"),
    ] {
        let output = launched(at, variables, &[]);
        let text = shown(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains(wanted) && !text.contains("panicked"),
            "{text}"
        );
    }
    assert!(!at.join("run").exists(), "something was trained");
}

/// Failing workers end the job with an error of the supervisor and their own reason.
#[test]
fn gpus_needs_cuda_gpus() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    // `--backend=cpu` is among the arguments.
    let output = launched(at, &[], &["--gpus=2"]);
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("with --backend cpu use mpirun"), "{text}");
    assert!(text.contains("the others were stopped"), "{text}");
}
