//! Two ranks on a wgpu device give the results of one process, and read few buffers.

use crate::equality::TOLERANCE;
use crate::{TRAIN, binary, cli_ok, command, distance, loss_difference, shown};
use mrcnn_backends::BackendKind;

/// On a wgpu device the ranks match and sample on it, and exchange only three sample counts, reduced before the losses
/// are divided. The device's own sums have another order than the CPU's, so it is compared with one process on the same
/// device. A step of one process reads one buffer, the losses with the gradient norm. Under `mpirun` it also reads the
/// sample counts and each bucket of gradients; the gradients of this network are one bucket.
#[test]
fn ranks_on_a_gpu_train_as_one_process() {
    if std::env::var_os("MRCNN_MPI_WGPU").is_none() {
        // Each rank tunes its kernels, which takes many minutes if the CPU renders.
        mrcnn_test_support::skip("MRCNN_MPI_WGPU is not set, for two ranks on a GPU: run .ci/mpi");
        return;
    }
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    // `devices` prints that there is none.
    if !mrcnn_tests::devices().any(|(kind, _)| kind == BackendKind::Wgpu) {
        return;
    }
    // Images of one size, so that only the first two steps tune kernels, which reads clocks. Ranks with images of
    // several sizes are tested in one process (tests/library/ranks.rs).
    let shapes = [
        "dataset",
        "shapes",
        "--out=shapes",
        "--train=4",
        "--val=1",
        "--size",
        "96",
        "96",
    ];
    cli_ok(&binary, 1, at, &shapes);
    let common = TRAIN.map(|argument| match argument {
        "--backend=cpu" => "--backend=wgpu",
        other => other,
    });
    let args = [
        "--set=train.steps=4",
        "--set=train.batch_size=2",
        "--set=image.min_size=96",
        "--set=image.max_size=128",
    ];
    let reads = [(1, "--out=one"), (2, "--out=two")].map(|(ranks, out)| {
        let args = [&common[..], &args, &[out]].concat();
        let mut command = command(&binary, ranks);
        command.args(args).env("MRCNN_COUNT_READS", "1");
        let output = command.current_dir(at).output().expect("mpirun");
        let text = shown(&output);
        assert!(output.status.success(), "{ranks} ranks: {text}");
        reads_of_steps(&text, ranks, 4)
    });
    let losses = loss_difference(&at.join("one"), &at.join("two"));
    let last = |run: &str| at.join(run).join("last.safetensors");
    let weights = distance(&last("one"), &last("two"));
    println!(
        "2 ranks on wgpu: losses {losses:.1e}, weights {weights:.1e}, reads per step {reads:?}"
    );
    // The losses with the gradient norm; with 2 ranks also the sample counts and the gradients.
    let wanted = [1usize, 3].map(|count| vec![count; 2]);
    assert_eq!(
        reads, wanted,
        "buffers that steps 3 and 4 read with 1 and 2 ranks"
    );
    // Kernels are tuned for each number of images, and sum in other orders: ten times the tolerance of the CPU.
    assert!(losses <= 10.0 * TOLERANCE, "losses differ by {losses}");
    assert!(weights <= TOLERANCE, "weights differ by {weights}");
}

/// Number of buffers that each step from the third on reads: the largest number of all ranks. The first steps do not
/// count: they tune kernels, which reads clocks, and the number of the first includes the reads of the start.
fn reads_of_steps(text: &str, ranks: usize, steps: usize) -> Vec<usize> {
    let of_step = |step: usize| {
        let start = format!("step {step}: ");
        let number = |line: &str| -> Option<usize> {
            let rest = line.strip_prefix(&start)?;
            rest.strip_suffix(" buffers read")?.parse().ok()
        };
        let numbers: Vec<usize> = text.lines().filter_map(number).collect();
        assert_eq!(numbers.len(), ranks, "step {step}: {text}");
        numbers.into_iter().max().expect("a rank")
    };
    (3..=steps).map(of_step).collect()
}
