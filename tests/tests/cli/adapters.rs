//! The program on a machine without a Vulkan driver, with or without OpenGL.

use crate::{binary, shown};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// `mrcnn-cli` where the Vulkan loader finds no driver.
fn without_vulkan(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    Command::new(binary())
        .args(args)
        .current_dir(folder.path())
        .env("VK_DRIVER_FILES", "/nonexistent")
        .env("VK_ICD_FILENAMES", "/nonexistent")
        .env_remove("WGPU_BACKEND")
        .output()
        .expect("the program starts")
}

#[cfg(target_os = "linux")]
#[test]
fn opengl_is_named_and_not_used() {
    let started = Instant::now();
    let doctor = without_vulkan(&["doctor", "--format=json"]);
    let facts: serde_json::Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    let backends = facts["backends"].as_array().expect("backends");
    let wgpu = backends
        .iter()
        .find(|backend| backend["kind"] == "wgpu")
        .expect("the wgpu backend");
    assert_eq!(wgpu["devices"], serde_json::json!([]), "{facts}");
    assert_eq!(facts["selected"], "cpu", "{facts}");

    let run = ["benchmark", "inference", "--backend=wgpu", "--steps=1"];
    let output = without_vulkan(&run);
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("no device for the wgpu backend"), "{text}");
    assert!(text.contains("--backend cpu"), "{text}");
    let skipped = wgpu["skipped"].as_array().expect("a list");
    if let Some(adapter) = skipped.iter().find(|adapter| adapter["api"] == "OpenGL") {
        let name = adapter["name"].as_str().expect("a name");
        assert!(text.contains(name), "{name} is not named: {text}");
        assert!(text.contains("--backend wgpu-gl"), "{text}");
    }
    assert!(started.elapsed() < Duration::from_secs(60), "nothing waits");
}

#[cfg(target_os = "linux")]
#[test]
fn auto_takes_the_cpu() {
    let run = ["benchmark", "inference", "--config=quickstart", "--steps=1"];
    let output = without_vulkan(&run);
    let text = shown(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("backend: cpu"), "{text}");
}

#[test]
fn a_limit_that_is_no_number_is_refused() {
    let output = Command::new(binary())
        .args(["benchmark", "inference", "--backend=wgpu", "--steps=1"])
        .env("MRCNN_WATCHDOG_S", "soon")
        .output()
        .expect("the program starts");
    let text = shown(&output);
    // If there is no adapter, that is the error.
    let expected = [
        "MRCNN_WATCHDOG_S is `soon`",
        "no device for the wgpu backend",
    ];
    assert!(expected.iter().any(|part| text.contains(part)), "{text}");
    assert_eq!(output.status.code(), Some(1), "{text}");
}
