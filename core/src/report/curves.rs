//! Line charts as a self-contained SVG.

use super::markup::escaped;
use std::fmt::Write;

/// A curve: its name and its points.
pub type Curve = (String, Vec<(f64, f64)>);

/// One chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panel {
    /// Title.
    pub title: String,
    /// Label of the x axis.
    pub x_label: String,
    /// Curves; points that are not finite are skipped.
    pub curves: Vec<Curve>,
}

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 260.0;
/// Left, top, right and bottom margins of a panel.
const MARGIN: [f64; 4] = [52.0, 30.0, 12.0, 34.0];
const COLORS: [&str; 10] = [
    "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#e377c2", "#17a2b8",
    "#7f7f7f", "#9a9a00",
];

/// Renders panels in rows of `columns`.
pub fn render_svg(panels: &[Panel], columns: usize) -> String {
    let columns = columns.clamp(1, panels.len().max(1));
    let rows = panels.len().div_ceil(columns);
    let (width, height) = (columns as f64 * WIDTH, rows as f64 * HEIGHT);
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' \
         viewBox='0 0 {width} {height}' \
         font-family='sans-serif' font-size='11'><rect width='100%' height='100%' fill='white'/>"
    );
    for (index, panel) in panels.iter().enumerate() {
        let (x, y) = (
            (index % columns) as f64 * WIDTH,
            (index / columns) as f64 * HEIGHT,
        );
        // Writing to a string cannot fail.
        let _ = write!(
            svg,
            "<g transform='translate({x} {y})'>{}</g>",
            draw_panel(panel)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_panel(panel: &Panel) -> String {
    let finite = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        points
            .iter()
            .copied()
            .filter(|(x, y)| x.is_finite() && y.is_finite())
            .collect()
    };
    let curves: Vec<(&str, Vec<(f64, f64)>)> = panel
        .curves
        .iter()
        .map(|(name, points)| (name.as_str(), finite(points)))
        .collect();
    let all = || curves.iter().flat_map(|(_, points)| points);
    let x_axis = Axis::new(all().map(|p| p.0), MARGIN[0], WIDTH - MARGIN[2]);
    let y_axis = Axis::new(
        all().map(|p| p.1).chain([0.0]),
        HEIGHT - MARGIN[3],
        MARGIN[1],
    );
    let mut out = format!(
        "<text x='{}' y='18' text-anchor='middle' font-size='13'>{}</text>",
        WIDTH / 2.0,
        escaped(&panel.title)
    );
    draw_grid(&mut out, &x_axis, &y_axis, &panel.x_label);
    for (index, (name, points)) in curves.iter().enumerate() {
        let color = COLORS[index % COLORS.len()];
        let smooth = smoothed(points);
        if points.len() > MAX_RAW_POINTS {
            draw_line(&mut out, points, &x_axis, &y_axis, color, 0.25);
        }
        draw_line(&mut out, &smooth, &x_axis, &y_axis, color, 1.0);
        let y = MARGIN[1] + 12.0 + 14.0 * index as f64;
        let x = WIDTH - MARGIN[2] - 4.0;
        let name = escaped(name);
        let _ = write!(
            out,
            "<text x='{x}' y='{y}' text-anchor='end' fill='{color}'>{name}</text>"
        );
    }
    out
}

fn draw_grid(out: &mut String, x_axis: &Axis, y_axis: &Axis, x_label: &str) {
    let (left, right) = (MARGIN[0], WIDTH - MARGIN[2]);
    let (top, bottom) = (MARGIN[1], HEIGHT - MARGIN[3]);
    for tick in y_axis.ticks() {
        let y = y_axis.position(tick);
        let _ = write!(out, "<path d='M{left} {y}H{right}' stroke='#ddd'/>");
        let (x, y) = (left - 5.0, y + 4.0);
        let _ = write!(
            out,
            "<text x='{x}' y='{y}' text-anchor='end'>{}</text>",
            tick_label(tick)
        );
    }
    for tick in x_axis.ticks() {
        let x = x_axis.position(tick);
        let _ = write!(out, "<path d='M{x} {top}V{bottom}' stroke='#eee'/>");
        let y = bottom + 14.0;
        let _ = write!(
            out,
            "<text x='{x}' y='{y}' text-anchor='middle'>{}</text>",
            tick_label(tick)
        );
    }
    let (x, y) = ((left + right) / 2.0, HEIGHT - 6.0);
    let label = escaped(x_label);
    let _ = write!(
        out,
        "<text x='{x}' y='{y}' text-anchor='middle'>{label}</text>"
    );
    let _ = write!(
        out,
        "<path d='M{left} {top}V{bottom}H{right}' fill='none' stroke='#555'/>"
    );
}

fn draw_line(
    out: &mut String,
    points: &[(f64, f64)],
    x: &Axis,
    y: &Axis,
    color: &str,
    opacity: f64,
) {
    // More points than the panel has pixels would not be visible.
    let every = points.len().div_ceil(MAX_POINTS).max(1);
    let coordinates: Vec<String> = points
        .iter()
        .step_by(every)
        .map(|p| format!("{:.1},{:.1}", x.position(p.0), y.position(p.1)))
        .collect();
    let _ = write!(
        out,
        "<polyline points='{}' fill='none' stroke='{color}' stroke-opacity='{opacity}'/>",
        coordinates.join(" ")
    );
    if points.len() <= MAX_DOTS {
        for p in points {
            let (x, y) = (x.position(p.0), y.position(p.1));
            let _ = write!(
                out,
                "<circle cx='{x:.1}' cy='{y:.1}' r='2.5' fill='{color}'/>"
            );
        }
    }
}

/// Maximum number of points per line.
const MAX_POINTS: usize = 800;

/// Lines with at most this many points get a dot per point, because a single evaluation has no line.
const MAX_DOTS: usize = 20;

/// Lines with more points than this are drawn raw and smoothed.
const MAX_RAW_POINTS: usize = 50;

/// The running mean over 1/40 of the points.
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MAX_RAW_POINTS {
        return points.to_vec();
    }
    let window = points.len() / 40 + 1;
    let mut sums = vec![0.0];
    sums.extend(points.iter().scan(0.0, |sum, point| {
        *sum += point.1;
        Some(*sum)
    }));
    let mean = |end: usize| {
        let start = (end + 1).saturating_sub(window);
        (sums[end + 1] - sums[start]) / (end + 1 - start) as f64
    };
    (0..points.len()).map(|i| (points[i].0, mean(i))).collect()
}

struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
            (l.min(v), h.max(v))
        });
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let high = if high - low < 1e-12 { low + 1.0 } else { high };
        Self {
            low,
            high,
            from,
            to,
        }
    }

    fn position(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Multiples of 1, 2 or 5 times a power of ten, about five of them.
    fn ticks(&self) -> Vec<f64> {
        let rough = (self.high - self.low) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power);
        let step = step
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last).map(|n| n as f64 * step).collect()
    }
}

fn tick_label(value: f64) -> String {
    let text = if value.abs() >= 1000.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.4}")
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').into()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_data_gives_a_chart() {
        let panel = |points: &[(f64, f64)]| Panel {
            title: "a < b".into(),
            curves: vec![("loss".into(), points.to_vec())],
            ..Panel::default()
        };
        let many: Vec<(f64, f64)> = (0..200).map(|i| (i as f64, (i % 7) as f64)).collect();
        let panels = [
            panel(&[]),
            panel(&[(1.0, f64::NAN)]),
            panel(&[(3.0, 2.0)]),
            panel(&many),
        ];
        let svg = render_svg(&panels, 2);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.contains("a &lt; b"));
        assert_eq!(svg.matches("<polyline").count(), 5);
        assert_eq!(
            svg.matches("<circle").count(),
            1,
            "a single point is visible"
        );
        render_svg(&[], 2);
    }
}
