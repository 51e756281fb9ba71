//! Statistics of a split: sizes, aspect ratios, objects per image, areas and classes.

use super::dataset::Dataset;
use super::problem::printable;
use std::fmt::{self, Write};

/// Histogram of a quantity.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// The quantity, with its unit.
    pub name: &'static str,
    /// Name and count of each range, in order.
    pub bins: Vec<(String, usize)>,
}

impl Histogram {
    /// Count of the fullest bin, at least 1: the length of the longest bar.
    fn most(&self) -> usize {
        let counts = self.bins.iter().map(|(_, count)| *count);
        counts.max().unwrap_or(0).max(1)
    }
}

/// Statistics of a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Name of the split.
    pub split: String,
    /// Number of images.
    pub images: usize,
    /// Number of objects, without crowds.
    pub objects: usize,
    /// Number of crowds.
    pub crowds: usize,
    /// Smallest, median and largest value of several quantities.
    pub ranges: Vec<(&'static str, [f64; 3])>,
    /// Histograms; the classes are last.
    pub histograms: Vec<Histogram>,
}

/// Upper bounds of COCO's small and medium objects, in square pixels.
const SMALL: f64 = 32.0 * 32.0;
const MEDIUM: f64 = 96.0 * 96.0;

impl Statistics {
    /// Computes the statistics of a split.
    pub fn of(split: &str, dataset: &Dataset) -> Self {
        let samples = &dataset.samples;
        let all = || samples.iter().flat_map(|sample| &sample.instances);
        let objects = || all().filter(|instance| !instance.is_crowd);
        let longer: Vec<f64> = samples
            .iter()
            .map(|s| f64::from(s.width.max(s.height)))
            .collect();
        let aspect: Vec<f64> = samples
            .iter()
            .map(|s| f64::from(s.width) / f64::from(s.height))
            .collect();
        let count: Vec<f64> = samples
            .iter()
            .map(|s| s.instances.iter().filter(|i| !i.is_crowd).count() as f64)
            .collect();
        let area: Vec<f64> = objects().map(|instance| instance.area).collect();
        let mut classes = vec![0; dataset.classes.len() + 1];
        for instance in objects() {
            classes[instance.label] += 1;
        }
        let classes = classes.into_iter().enumerate().skip(1);
        Self {
            split: split.into(),
            images: samples.len(),
            objects: area.len(),
            crowds: all().count() - area.len(),
            ranges: [
                ("longer side in pixels", &longer),
                ("width / height", &aspect),
                ("objects per image", &count),
                ("object area in pixels", &area),
            ]
            .into_iter()
            .filter_map(|(name, values)| Some((name, range(values)?)))
            .collect(),
            histograms: vec![
                histogram(
                    "longer side in pixels",
                    &longer,
                    &[256.0, 512.0, 1024.0, 2048.0, 4096.0],
                ),
                histogram("width / height", &aspect, &[0.5, 0.75, 1.0, 1.34, 2.0]),
                histogram(
                    "objects per image",
                    &count,
                    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 101.0],
                ),
                histogram(
                    "object area (small, medium, large of COCO)",
                    &area,
                    &[SMALL, MEDIUM],
                ),
                Histogram {
                    name: "objects per class",
                    bins: classes
                        .map(|(label, count)| (dataset.classes.name(label), count))
                        .collect(),
                },
            ],
        }
    }

    /// An HTML page with the statistics of all splits.
    pub fn html(all: &[Self]) -> String {
        let mut page = String::from(
            "<!doctype html><meta charset=\"utf-8\"><title>Dataset statistics</title><style>\
             body{font:14px sans-serif;margin:2em;max-width:60em}td,th{padding:2px 8px;text-align:right}\
             td:first-child,th:first-child{text-align:left}.bar{background:#4a7fb5;height:12px}</style>\n",
        );
        for split in all {
            // Writing to a String cannot fail.
            write_split(&mut page, split).ok();
        }
        page
    }
}

fn write_split(page: &mut String, split: &Statistics) -> fmt::Result {
    writeln!(page, "<h1>{}</h1>", escaped(&split.split))?;
    let Statistics {
        images,
        objects,
        crowds,
        ..
    } = split;
    writeln!(
        page,
        "<p>{images} images, {objects} objects, {crowds} crowds</p>"
    )?;
    writeln!(page, "<table><tr><th><th>smallest<th>median<th>largest")?;
    for (name, [low, median, high]) in &split.ranges {
        writeln!(
            page,
            "<tr><td>{name}<td>{}<td>{}<td>{}",
            short(*low),
            short(*median),
            short(*high)
        )?;
    }
    writeln!(page, "</table>")?;
    for histogram in &split.histograms {
        writeln!(page, "<h2>{}</h2><table>", histogram.name)?;
        let most = histogram.most();
        for (name, count) in &histogram.bins {
            let width = 400 * count / most;
            let name = escaped(name);
            writeln!(
                page,
                "<tr><td>{name}<td>{count}<td><div class=\"bar\" style=\"width:{width}px\"></div>"
            )?;
        }
        writeln!(page, "</table>")?;
    }
    Ok(())
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

/// Formats with at most two decimal places.
fn short(value: f64) -> String {
    let rounded = (value * 100.0).round() / 100.0;
    format!("{rounded}")
}

fn range(values: &[f64]) -> Option<[f64; 3]> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some([*sorted.first()?, sorted[sorted.len() / 2], *sorted.last()?])
}

/// Counts values below the first edge, between edges, and from the last edge on.
fn histogram(name: &'static str, values: &[f64], edges: &[f64]) -> Histogram {
    let mut counts = vec![0; edges.len() + 1];
    for value in values {
        counts[edges.partition_point(|edge| edge <= value)] += 1;
    }
    let named = |index: usize| match index {
        0 => format!("below {}", edges[0]),
        index if index == edges.len() => format!("{} and more", edges[index - 1]),
        index => format!("{} to {}", edges[index - 1], edges[index]),
    };
    Histogram {
        name,
        bins: counts
            .into_iter()
            .enumerate()
            .map(|(index, count)| (named(index), count))
            .collect(),
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let split = printable(&self.split);
        writeln!(
            f,
            "{split}: {} images, {} objects, {} crowds",
            self.images, self.objects, self.crowds
        )?;
        writeln!(
            f,
            "  {:<24} {:>10} {:>10} {:>10}",
            "", "smallest", "median", "largest"
        )?;
        for (name, values) in &self.ranges {
            let [low, median, high] = values.map(short);
            writeln!(f, "  {name:<24} {low:>10} {median:>10} {high:>10}")?;
        }
        for histogram in &self.histograms {
            writeln!(f, "  {}", histogram.name)?;
            let most = histogram.most();
            for (name, count) in &histogram.bins {
                let bar = "#".repeat(30 * count / most);
                writeln!(f, "    {:<20} {count:>8} {bar}", printable(name))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Classes, Instance, Sample};
    use vernier_mask::Rle;

    #[test]
    fn a_split_is_counted() {
        let mask = |side: f64| Rle::from_bbox([0.0, 0.0, side, side], 200, 400).unwrap();
        let mut crowd = Instance::new(1, mask(10.0));
        crowd.is_crowd = true;
        let first = vec![
            Instance::new(1, mask(10.0)),
            Instance::new(2, mask(100.0)),
            crowd,
        ];
        let dataset = Dataset {
            classes: Classes {
                names: vec!["<a>".into(), "b".into(), "c".into()],
                ids: vec![1, 2, 3],
            },
            samples: vec![
                Sample::new(1, "a", (400, 200), first),
                Sample::new(2, "b", (200, 100), Vec::new()),
            ],
            ..Dataset::default()
        };
        let found = Statistics::of("train", &dataset);
        assert_eq!((found.images, found.objects, found.crowds), (2, 2, 1));
        assert_eq!(
            found.ranges[0],
            ("longer side in pixels", [200.0, 400.0, 400.0])
        );
        let counts = |index: usize| {
            found.histograms[index]
                .bins
                .iter()
                .map(|bin| bin.1)
                .collect::<Vec<_>>()
        };
        assert_eq!(counts(0), [1, 1, 0, 0, 0, 0]);
        assert_eq!(counts(2), [1, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(counts(3), [1, 0, 1]);
        assert_eq!(counts(4), [1, 1, 0]);
        assert!(found.to_string().contains("2 images, 2 objects, 1 crowds"));
        let page = Statistics::html(&[found]);
        assert!(page.contains("&lt;a&gt;") && !page.contains("<a>"));
    }
}
