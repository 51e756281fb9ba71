//! Records of steps: every loss is logged and drawn by its name, and numbers that are not finite round-trip.

use mrcnn_core::report::{Record, curves};
use mrcnn_core::train::{LossValues, Losses, StepReport};

fn report(losses: LossValues, grad_norm: f32, is_skipped: bool) -> StepReport {
    StepReport {
        step: 3,
        losses,
        learning_rate: 0.1,
        grad_norm,
        loss_scale: Some(65536.0),
        is_skipped,
        images_per_second: 2.0,
        data_wait: 0.0,
        exchange: 0.0,
        seconds: 1.0,
        memory: 0,
        device_memory: None,
    }
}

#[test]
fn numbers_that_are_not_finite_round_trip() {
    let losses = LossValues::from_fn(|name| match name {
        "loss_classifier" => 0.5,
        "loss_box_reg" => f32::NAN,
        _ => f32::INFINITY,
    });
    let record = report(losses, f32::INFINITY, true).record();
    let line = serde_json::to_string(&record).expect("a line");
    assert!(line.contains("\"skipped\":true") && line.contains("\"grad_norm\":null"));
    let record: Record = serde_json::from_str(&line).expect("a record");
    let scalars = record.scalars();
    let value = |name: &str| scalars.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
    assert_eq!(value("train/loss_classifier"), Some(0.5));
    assert_eq!(value("train/loss_box_reg"), None);
    assert_eq!(
        (value("train/loss"), value("train/grad_norm")),
        (None, None)
    );
    assert_eq!(value("train/loss_scale"), Some(65536.0));
    assert_eq!(value("train/skipped"), Some(1.0));
}

#[test]
fn every_loss_is_logged_and_drawn_by_its_name() {
    let mut values = (1..).map(|value| value as f32);
    let losses = LossValues::from_fn(|_| values.next().expect("endless"));
    let record = report(losses, 1.0, false).record();
    let scalars = record.scalars();
    for (name, value) in losses.named() {
        let logged = scalars.iter().find(|(n, _)| *n == format!("train/{name}"));
        assert_eq!(logged.map(|(_, v)| *v), Some(f64::from(value)), "{name}");
    }
    let count = Losses::NAMES.len();
    assert_eq!(losses.total(), (count * (count + 1) / 2) as f32);
    let drawing = curves(&[record]);
    for name in Losses::NAMES {
        let label = name.trim_start_matches("loss_");
        assert!(drawing.contains(label), "{label} is not drawn");
    }
}
