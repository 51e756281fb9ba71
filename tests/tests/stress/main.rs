//! Detection on a wgpu adapter with an empty tuning cache, with fusion and tuning on, many times.
//!
//! Fused operations tune their kernels on the fusion server's thread, which waits for the device's thread,
//! which waits for the adapter. A deadlock among the three would show as a child process that does not end.
//! `MRCNN_STRESS_RUNS` sets the number of runs (default 1, a minute on lavapipe; 20 before a release).

#[allow(dead_code)] // the library tests use the rest
#[path = "../library/small.rs"]
mod small;

use mrcnn_backends::{BackendKind, select};
use mrcnn_core::data::Classes;
use mrcnn_core::{MaskRcnn, Predictor};
use mrcnn_tests::found;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Far more than a run takes: a minute on two cores and lavapipe, seven if others use them too.
const LIMIT: Duration = Duration::from_secs(1800);
const CHILD: &str = "MRCNN_STRESS_CHILD";

#[test]
fn detection_from_a_cold_cache_ends() {
    if let Err(error) = select(BackendKind::Wgpu) {
        found(false, "wgpu", &error.to_string());
        return;
    }
    let runs = std::env::var("MRCNN_STRESS_RUNS").map_or(1, |text| text.parse().expect("a number"));
    for run in 0..runs {
        let folder = tempfile::tempdir().expect("a folder");
        // CubeCL stores its autotune results in this folder, which is empty.
        let settings = "[environment]\npath = \"local\"\n";
        std::fs::write(folder.path().join("cubecl.toml"), settings).expect("settings");
        let started = Instant::now();
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "child_predicts_in_two_threads", "--nocapture"])
            .current_dir(folder.path())
            .env(CHILD, "1")
            .env("CUBECL_AUTOTUNE_LEVEL", "1")
            .stdout(Stdio::null())
            .spawn()
            .expect("the child starts");
        let status = wait(&mut child);
        assert!(status, "run {run} failed or did not end in {LIMIT:?}");
        println!("run {run}: {:.1} s", started.elapsed().as_secs_f64());
    }
}

/// Whether the child ends in time and succeeds.
fn wait(child: &mut Child) -> bool {
    let started = Instant::now();
    while started.elapsed() < LIMIT {
        if let Some(status) = child.try_wait().expect("the child's status") {
            return status.success();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    child.kill().expect("the child is killed");
    child.wait().expect("the child is gone");
    false
}

/// The body of a child process: two threads share one device, so that tuning in one overlaps with the launches
/// and dropped tensors of the other.
#[test]
fn child_predicts_in_two_threads() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let device = select(BackendKind::Wgpu).expect("an adapter").device;
    let config = small::config();
    let model = MaskRcnn::new(&config.model, 1, &device);
    let classes = Classes {
        names: vec!["cat".into(), "dog".into()],
        ids: vec![1, 2],
    };
    let builder = Predictor::builder().model(model, classes).config(config);
    let predictor = builder.build().expect("a predictor");
    std::thread::scope(|scope| {
        for width in [90, 150] {
            let predictor = &predictor;
            scope.spawn(move || {
                let image = small::small_image(width, 90);
                predictor.predict(&image).expect("a prediction");
            });
        }
    });
    device.sync().expect("the device ends its work");
}
