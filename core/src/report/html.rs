//! `report.html`: one file without scripts or external resources.

use super::markup::escaped;
use super::run_report::RunReport;
use super::{exhibits, sections};
use std::fmt::Write;

/// Renders the report as HTML.
pub fn render_html(report: &RunReport) -> String {
    let title = escaped(report.title);
    let mut html = format!(
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>{title}</title>\
         <meta name='viewport' content='width=device-width'><style>{STYLE}</style></head><body>\
         <h1>{title}</h1>"
    );
    html.push_str(&sections::summary(report));
    let curves = super::plots::curves(report.records);
    section(
        &mut html,
        "Curves",
        "",
        &format!("<div class='wide'>{curves}</div>"),
    );
    section(
        &mut html,
        "Evaluations",
        "COCO metrics on the validation split; AP over IoU 0.50 to 0.95.",
        &sections::evaluations(report.records),
    );
    section(
        &mut html,
        "Classes",
        "AP per class in the last evaluation, lowest mask AP first.",
        &sections::classes(&report.analysis.classes),
    );
    section(
        &mut html,
        "Precision and recall",
        "Masks at IoU 0.5.",
        &sections::precision_recall(&report.analysis.classes),
    );
    section(
        &mut html,
        "Errors",
        "Error types of TIDE, with the mask AP50 that fixing each type alone would add.",
        &sections::errors(&report.analysis.errors),
    );
    section(
        &mut html,
        "Confusion",
        "Ground truth (rows) and confident detections (columns), masks matched at IoU 0.5. \
         Last column: missed objects. Last row: detections without an object.",
        &exhibits::confusion(&report.analysis.confusion),
    );
    section(
        &mut html,
        "Worst images",
        "Images with the most errors among confident detections; ground truth left, prediction right.",
        &exhibits::images(&report.worst),
    );
    let settings = escaped(report.settings);
    section(
        &mut html,
        "Settings",
        "",
        &format!("<details><summary>args.toml</summary><pre>{settings}</pre></details>"),
    );
    html.push_str("</body></html>\n");
    html
}

fn section(html: &mut String, title: &str, note: &str, body: &str) {
    let note = match note {
        "" => String::new(),
        note => format!("<p class='note'>{note}</p>"),
    };
    // Writing to a string cannot fail.
    let _ = write!(html, "<section><h2>{title}</h2>{note}{body}</section>");
}

const STYLE: &str = "\
body{font:15px/1.45 system-ui,sans-serif;max-width:1060px;margin:2rem auto;padding:0 1rem;\
color:#1d2433;background:#f4f6fa}\
h1{font-size:1.5rem;margin:0 0 1rem}h2{font-size:1.1rem;margin:0 0 .3rem}\
section{background:#fff;border-radius:10px;padding:1rem 1.3rem;margin:1rem 0;\
box-shadow:0 1px 3px #0002;overflow-x:auto}\
.note{color:#5b6577;margin:.1rem 0 .8rem}\
.tiles{display:flex;flex-wrap:wrap;gap:.8rem;margin:0 0 1rem}\
.tile{background:#fff;border-radius:10px;padding:.7rem 1.1rem;box-shadow:0 1px 3px #0002}\
.tile b{display:block;font-size:1.5rem}.tile span{color:#5b6577}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid #e4e8ef}\
th{color:#5b6577;font-weight:600}th:first-child,td:first-child{text-align:left}\
.bar{display:inline-block;height:.7rem;border-radius:3px;background:#3b76d6;vertical-align:middle}\
.bar.red{background:#d65a3b}td.barcell{text-align:left;width:240px}\
.matrix td{text-align:center;min-width:2.2rem}.matrix th{max-width:9rem}\
.wide svg{width:100%;max-width:1000px;height:auto}.narrow svg{width:100%;max-width:640px;\
height:auto}.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(440px,1fr));\
gap:1.2rem}figure{margin:0}figure img{width:100%;border-radius:6px}figcaption{color:#5b6577;margin-bottom:.3rem}pre{font-size:12.5px}";
