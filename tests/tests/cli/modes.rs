//! `benchmark` and `doctor`.

use crate::{SMALL, cli_ok, render_shapes};
use mrcnn_backends::BackendKind;
use serde_json::Value;

fn benchmark<'a>(mode: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["benchmark", mode, "--config=quickstart", "--backend=cpu"];
    args.extend(SMALL);
    args.extend(["--warmup=1", "--steps=4", "--json=found.json"]);
    args.extend(more);
    args
}

#[test]
fn benchmarks_time_both_modes_on_both_kinds_of_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    for mode in ["train", "inference"] {
        for data in [&[][..], &["--data=shapes"]] {
            let mut more = vec!["--batch-size=1,3"];
            more.extend(data);
            let table = cli_ok(at, &benchmark(mode, &more));
            assert_eq!(table.lines().count(), 3, "{table}");
            let text = std::fs::read_to_string(at.join("found.json")).expect("JSON");
            let found: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(found["mode"], mode);
            let source = if data.is_empty() {
                "rendered"
            } else {
                "shapes"
            };
            assert_eq!(found["data"], source);
            let results = found["results"].as_array().expect("results");
            assert_eq!(results.len(), 2);
            for (result, batch) in results.iter().zip([1, 3]) {
                assert_eq!(result["batch_size"], batch);
                assert!(result.get("profile").is_none(), "{result}");
                if data.is_empty() {
                    assert_eq!(result["padded"], serde_json::json!([128, 192]));
                }
                let ms = |key: &str| result["step_ms"][key].as_f64().expect("milliseconds");
                let ranks = ["min", "p50", "p90", "p95", "p99", "max"].map(ms);
                assert!(ranks.is_sorted() && ranks[0] > 0.0, "{ranks:?}");
                assert!((ranks[0]..=ranks[5]).contains(&ms("mean")));
                // Images per second are computed from the mean step.
                let speed = result["images_per_second"].as_f64().expect("a speed");
                assert!((speed * ms("mean") / 1e3 / batch as f64 - 1.0).abs() < 1e-6);
                let waited = result["data_wait"].as_f64().expect("a fraction");
                assert!((0.0..1.0).contains(&waited));
                assert!(
                    !data.is_empty() || waited < 0.01,
                    "rendered images cost none"
                );
            }
        }
    }
}

#[test]
fn a_profile_lists_the_kernels_of_a_gpu() {
    let is_present = mrcnn_backends::select(BackendKind::Wgpu).is_ok();
    if !mrcnn_test_support::found(is_present, "wgpu", "no adapter") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let mut args = benchmark("inference", &["--profile"]);
    let backend = args.iter_mut().find(|arg| **arg == "--backend=cpu");
    *backend.expect("an option") = "--backend=wgpu";
    let text = cli_ok(at, &args);
    assert!(text.contains("launches per step"), "{text}");
    let found = std::fs::read_to_string(at.join("found.json")).expect("JSON");
    let found: Value = serde_json::from_str(&found).expect("JSON");
    let profile = &found["results"][0]["profile"];
    let kernels = profile["kernels"].as_array().expect("a list");
    let sum = |key: &str| {
        let numbers = kernels.iter().filter_map(|kernel| kernel[key].as_f64());
        numbers.sum::<f64>()
    };
    let launches = profile["launches"].as_f64().expect("a number");
    assert!(launches > 50.0, "{profile}");
    assert!((sum("launches") / launches - 1.0).abs() < 1e-6, "{profile}");
    if let Some(busy) = profile["busy_ms"].as_f64() {
        // One queue runs one kernel after the other.
        let ratio = sum("ms") / busy;
        assert!(busy > 0.0 && (0.9..1.1).contains(&ratio), "{profile}");
        assert!(profile["span_ms"].as_f64() >= Some(busy), "{profile}");
    }
    let is_convolution = |kernel: &Value| {
        let problem = kernel["problem"].as_str().unwrap_or_default();
        problem.starts_with("3x3") && problem.contains("output")
    };
    assert!(kernels.iter().any(is_convolution), "{profile}");
}

#[test]
fn doctor_lists_the_cpu_and_the_selected_backend() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = cli_ok(folder.path(), &["doctor"]);
    for wanted in ["system", "memory", "cpu      ", "f32", "selected", "advice"] {
        assert!(text.contains(wanted), "{wanted} is missing: {text}");
    }
    let json = cli_ok(folder.path(), &["doctor", "--format=json"]);
    let found: Value = serde_json::from_str(&json).expect("JSON");
    let backends = found["backends"].as_array().expect("backends");
    assert_eq!(backends.len(), 3);
    let cpu = backends
        .iter()
        .find(|backend| backend["kind"] == "cpu")
        .expect("cpu");
    assert!(cpu["devices"][0]["dtypes"].to_string().contains("f32"));
    let selected = found["selected"].as_str().expect("a backend");
    assert!(["cpu", "wgpu", "cuda"].contains(&selected));
    let line = format!("selected {selected}: ");
    assert!(text.contains(&line), "{text}");
}
