//! Sections of the report with numbers and tables.

use super::curves::{Panel, render_svg};
use super::markup::escaped;
use super::record::Record;
use super::run_report::RunReport;
use crate::eval::{ClassResult, ErrorKind};
use std::fmt::Write;

/// A value with three digits, or a dash if there is no ground truth.
fn formatted(value: Option<f64>) -> String {
    match value {
        Some(value) if value >= 0.0 => format!("{value:.3}"),
        _ => "&ndash;".into(),
    }
}

/// Tiles with the main numbers, and the table of facts.
pub fn summary(report: &RunReport) -> String {
    let metrics = report.metrics;
    let tiles = [
        ("mask AP", formatted(Some(metrics.mask_ap()))),
        ("mask AP50", formatted(Some(metrics.segm[1]))),
        ("box AP", formatted(Some(metrics.box_ap()))),
        (
            "steps",
            report.records.last().map_or(0, Record::at).to_string(),
        ),
    ];
    let tiles = tiles
        .map(|(name, value)| format!("<div class='tile'><b>{value}</b><span>{name}</span></div>"));
    let rows = report.facts.iter().map(|(name, value)| {
        format!(
            "<tr><td>{}</td><td style='text-align:left'>{}</td></tr>",
            escaped(name),
            escaped(value)
        )
    });
    let rows: String = rows.collect();
    format!(
        "<div class='tiles'>{}</div><section><table>{rows}</table></section>",
        tiles.concat()
    )
}

/// Table of the evaluations; the row with the best mask AP is bold.
pub fn evaluations(records: &[Record]) -> String {
    let rows: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::Eval {
                step,
                bbox,
                mask,
                val_loss,
                ..
            } => Some((step, bbox, mask, val_loss)),
            Record::Step { .. } | Record::LeftOut { .. } => None,
        })
        .collect();
    let ap = |values: &std::collections::BTreeMap<String, f64>| values.get("AP").copied();
    let best = rows.iter().filter_map(|row| ap(row.2)).fold(0.0, f64::max);
    let mut html = String::from(
        "<table><tr><th>step</th><th>mask AP</th><th>mask AP50</th><th>mask AP75</th>\
         <th>small</th><th>medium</th><th>large</th><th>box AP</th><th>box AP50</th>\
         <th>validation loss</th></tr>",
    );
    for (step, bbox, mask, val_loss) in rows {
        let number = |values: &std::collections::BTreeMap<String, f64>, key: &str| {
            formatted(values.get(key).copied())
        };
        let is_best = ap(mask).is_some_and(|value| value >= best && best > 0.0);
        let weight = if is_best {
            " style='font-weight:700'"
        } else {
            ""
        };
        let cells = [
            step.to_string(),
            number(mask, "AP"),
            number(mask, "AP50"),
            number(mask, "AP75"),
            number(mask, "APs"),
            number(mask, "APm"),
            number(mask, "APl"),
            number(bbox, "AP"),
            number(bbox, "AP50"),
            number(val_loss, "loss"),
        ];
        // Writing to a string cannot fail, here and below.
        let _ = write!(
            html,
            "<tr{weight}><td>{}</td></tr>",
            cells.join("</td><td>")
        );
    }
    html + "</table>"
}

fn bar(fraction: f64, color: &str) -> String {
    let width = (fraction.clamp(0.0, 1.0) * 230.0).round();
    format!("<td class='barcell'><span class='bar {color}' style='width:{width}px'></span></td>")
}

/// Table with a row per class.
pub fn classes(classes: &[ClassResult]) -> String {
    let mut sorted: Vec<&ClassResult> = classes.iter().collect();
    let weakest = |class: &ClassResult| class.mask_ap.unwrap_or(f64::INFINITY);
    sorted.sort_by(|a, b| weakest(a).total_cmp(&weakest(b)));
    let mut html = String::from(
        "<table><tr><th>class</th><th>objects</th><th>box AP</th><th>mask AP</th>\
         <th>mask AP50</th><th></th></tr>",
    );
    for class in sorted {
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>{}</tr>",
            escaped(&class.name),
            class.objects,
            formatted(class.box_ap),
            formatted(class.mask_ap),
            formatted(class.mask_ap50),
            bar(class.mask_ap.unwrap_or_default(), "")
        );
    }
    html + "</table>"
}

/// Maximum number of curves in one chart; classes with the most objects come first.
const MAX_CURVES: usize = 9;

/// Precision over recall of the most frequent classes, and the mean of all classes.
pub fn precision_recall(classes: &[ClassResult]) -> String {
    let points = |precision: &[f64]| -> Vec<(f64, f64)> {
        let last = precision.len().saturating_sub(1).max(1) as f64;
        let all = precision.iter().enumerate();
        all.map(|(i, &p)| (i as f64 / last, p)).collect()
    };
    let mut measured: Vec<&ClassResult> =
        classes.iter().filter(|c| c.mask_ap50.is_some()).collect();
    measured.sort_by_key(|class| std::cmp::Reverse(class.objects));
    let mut curves = Vec::new();
    if measured.len() > 1 {
        let length = measured[0].precision.len();
        let mean = |i: usize| {
            let all = measured.iter().filter_map(|class| class.precision.get(i));
            all.sum::<f64>() / measured.len() as f64
        };
        let mean: Vec<f64> = (0..length).map(mean).collect();
        curves.push(("mean of classes".to_string(), points(&mean)));
    }
    let named = measured.iter().take(MAX_CURVES);
    curves.extend(named.map(|class| (class.name.clone(), points(&class.precision))));
    let panel = Panel {
        title: "precision over recall".into(),
        x_label: "recall".into(),
        curves,
    };
    let left = measured.len().saturating_sub(MAX_CURVES);
    let note = match left {
        0 => String::new(),
        left => format!("<p class='note'>{left} classes with fewer objects are not shown.</p>"),
    };
    format!(
        "<div class='narrow'>{}</div>{note}",
        render_svg(&[panel], 1)
    )
}

/// Table of the error types with bars.
pub fn errors(errors: &[ErrorKind]) -> String {
    let largest = errors.iter().map(|e| e.delta_ap).fold(1e-9, f64::max);
    let mut html =
        String::from("<table><tr><th>type</th><th>count</th><th>AP50</th><th></th></tr>");
    for error in errors {
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>+{:.3}</td>{}</tr>",
            error.name,
            error.count,
            error.delta_ap,
            bar(error.delta_ap / largest, "red")
        );
    }
    html + "</table>"
}
