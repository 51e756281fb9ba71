use super::display::matrix_units;
use super::*;
use crate::Precision;

fn device(is_gpu: bool) -> DeviceFacts {
    DeviceFacts {
        name: "a".into(),
        api: None,
        driver: None,
        dtypes: vec!["f32"],
        precisions: vec![Precision::F32],
        auto_precision: "f32: no other".into(),
        target: None,
        is_gpu,
    }
}

fn backend(kind: BackendKind, devices: Vec<DeviceFacts>) -> BackendFacts {
    BackendFacts {
        kind,
        devices,
        skipped: Vec::new(),
        missing: None,
    }
}

#[test]
fn every_case_has_a_reason_and_advice() {
    let none = [
        backend(BackendKind::Cuda, vec![]),
        backend(BackendKind::Wgpu, vec![]),
    ];
    let gpu = ["NVIDIA H100, 570.1, 81559 MiB".to_string()];
    assert!(advice(&none, &gpu)[0].contains("libnvrtc"));
    let software = [
        backend(BackendKind::Cuda, vec![]),
        backend(BackendKind::Wgpu, vec![device(false)]),
    ];
    assert!(advice(&software, &[])[0].contains("Vulkan driver"));
    assert!(reason(Some(BackendKind::Cpu), &software).contains("software adapter"));
    let mut refused = [backend(BackendKind::Wgpu, vec![])];
    refused[0].skipped.push(SkippedAdapter {
        name: "a GPU".into(),
        api: "Vulkan",
        driver: String::new(),
        reason: "its driver is old".into(),
        is_refused: true,
    });
    assert_eq!(advice(&refused, &[]), ["a GPU (Vulkan): its driver is old"]);
    let real = [backend(BackendKind::Wgpu, vec![device(true)])];
    assert_eq!(advice(&real, &[]), ["nothing is missing"]);
    assert!(reason(Some(BackendKind::Wgpu), &real).contains("has a GPU"));
}

#[test]
fn matrix_units_follow_the_architecture() {
    assert!(matrix_units("ptx_sm90").contains("TF32"));
    assert!(matrix_units("cuda_sm_75").contains("f16 only"));
    assert_eq!(matrix_units("ptx_sm61"), "no matrix units");
}

#[cfg(feature = "flex")]
#[test]
fn the_cpu_computes_in_f32() {
    let found = diagnose();
    let cpu = found.backends.iter().find(|b| b.kind == BackendKind::Cpu);
    let cpu = &cpu.unwrap().devices[0];
    assert!(cpu.dtypes.contains(&"f32") && cpu.precisions.contains(&Precision::F16));
    assert!(cpu.auto_precision.starts_with("f32: "));
    assert!(found.selected.is_some() && found.to_string().contains("selected"));
}
