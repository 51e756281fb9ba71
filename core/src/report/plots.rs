//! The curves of a run.

use super::curves::{Panel, render_svg};
use super::record::Record;
use std::collections::{BTreeMap, BTreeSet};

type Lines = BTreeMap<String, Vec<(f64, f64)>>;

/// Charts of losses, AP, learning rate, speed and memory, as one SVG.
pub fn curves(records: &[Record]) -> String {
    let mut lines = Lines::new();
    for record in records {
        for (name, value) in record.scalars() {
            // -1 means that there is no ground truth; the norm of a gradient that overflowed is not finite.
            if value >= 0.0 && value.is_finite() {
                let points = lines.entry(name).or_default();
                points.push((record.at() as f64, value));
            }
        }
    }
    let loss = [("train", "train/loss"), ("validation", "val/loss")];
    let names: BTreeSet<&String> = records.iter().flat_map(Record::loss_names).collect();
    let keys: Vec<String> = names.iter().map(|name| format!("train/{name}")).collect();
    let parts: Vec<(&str, &str)> = keys
        .iter()
        .map(|key| (key.trim_start_matches("train/loss_"), key.as_str()))
        .collect();
    let precision = [
        ("box AP", "val/box_AP"),
        ("mask AP", "val/mask_AP"),
        ("mask AP50", "val/mask_AP50"),
    ];
    let memory = [
        ("process", "train/memory_mb"),
        ("device", "train/device_memory_mb"),
    ];
    let mut panels = vec![
        panel(&lines, "loss", &loss),
        panel(&lines, "loss by part, training", &parts),
        panel(&lines, "average precision, validation", &precision),
        panel(&lines, "learning rate", &[("", "train/lr")]),
        panel(&lines, "gradient norm", &[("", "train/grad_norm")]),
        panel(
            &lines,
            "images per second",
            &[("", "train/images_per_second")],
        ),
        panel(
            &lines,
            "fraction of the step waiting for data",
            &[("", "train/data_wait")],
        ),
        panel(&lines, "memory, MB", &memory),
    ];
    if lines.contains_key("train/loss_scale") {
        panels.push(panel(&lines, "loss scale", &[("", "train/loss_scale")]));
    }
    render_svg(&panels, 2)
}

fn panel(lines: &Lines, title: &str, named: &[(&str, &str)]) -> Panel {
    let curves = named.iter().filter_map(|(label, key)| {
        let points = lines.get(*key)?;
        Some((label.to_string(), points.clone()))
    });
    Panel {
        title: title.into(),
        x_label: "step".into(),
        curves: curves.collect(),
    }
}
