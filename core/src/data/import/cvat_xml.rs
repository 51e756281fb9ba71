//! XML parser of CVAT for images 1.1: images with polygons, masks and ellipses.
//!
//! hotcoco's reader leaves out masks, groups, subsets and the labels of projects and jobs, and keeps entities such as
//! `&amp;` in names.

use super::shape::Point;
use crate::budget::Budget;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::collections::HashMap;
use std::io::BufRead;

/// The contents of a file.
#[derive(Debug, Default, PartialEq)]
pub struct Document {
    /// Labels of the task, project or job, in order.
    pub labels: Vec<String>,
    pub images: Vec<Image>,
    /// Number of shapes without a mask, by element.
    pub left_out: HashMap<String, usize>,
}

#[derive(Debug, Default, PartialEq)]
pub struct Image {
    pub name: String,
    pub width: u32,
    pub height: u32,
    /// The subset, if the file has one.
    pub subset: String,
    pub shapes: Vec<Shape>,
}

#[derive(Debug, PartialEq)]
pub struct Shape {
    pub label: String,
    /// Shapes with the same group are one object; 0 is no group.
    pub group: u64,
    pub outline: Outline,
}

#[derive(Debug, PartialEq)]
pub enum Outline {
    Polygon(Vec<Point>),
    Ellipse {
        center: Point,
        radii: [f64; 2],
        /// Rotation, clockwise in degrees.
        rotation: f64,
    },
    /// A brush mask: row-major run lengths in its box, starting with background.
    Mask {
        runs: Vec<u32>,
        left: u32,
        top: u32,
        width: u32,
        height: u32,
    },
}

impl Shape {
    /// Its memory in bytes.
    fn memory(&self) -> usize {
        let outline = match &self.outline {
            Outline::Polygon(points) => size_of_val(&points[..]),
            Outline::Mask { runs, .. } => size_of_val(&runs[..]),
            Outline::Ellipse { .. } => 0,
        };
        size_of::<Self>() + self.label.len() + outline
    }
}

/// Elements of an image that are not shapes.
const NO_SHAPES: [&str; 2] = ["tag", "attribute"];

/// Parses a file; the error contains the byte offset. What is kept of the file is charged to `budget`.
pub fn parse(source: impl BufRead, budget: &Budget) -> Result<Document, String> {
    let mut xml = Reader::from_reader(source);
    xml.config_mut().trim_text(true);
    let mut document = Document::default();
    // Names of the open elements.
    let mut open: Vec<String> = Vec::new();
    let mut label = String::new();
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let event = xml.read_event_into(&mut buffer);
        let at = |reason: String| {
            format!(
                "near byte {}: {reason}",
                xml.error_position().max(xml.buffer_position())
            )
        };
        match event.map_err(|error| at(error.to_string()))? {
            Event::Start(element) => {
                document.element(&element, &open, budget).map_err(at)?;
                if open.len() == DEEPEST {
                    return Err(at(format!("more than {DEEPEST} elements in each other")));
                }
                open.push(String::from_utf8_lossy(element.name().as_ref()).into_owned());
                label.clear();
            }
            Event::Empty(element) => document.element(&element, &open, budget).map_err(at)?,
            Event::End(_) => {
                if is_label_name(&open) && !label.is_empty() {
                    let charged = budget.bytes(label.len() + size_of::<String>());
                    charged.map_err(|error| at(error.to_string()))?;
                    document.labels.push(std::mem::take(&mut label));
                }
                open.pop();
            }
            Event::Text(text) if is_label_name(&open) => {
                label.push_str(&text.decode().map_err(|error| at(error.to_string()))?);
            }
            Event::GeneralRef(entity) if is_label_name(&open) => {
                let name = entity.decode().map_err(|error| at(error.to_string()))?;
                let text =
                    quick_xml::escape::unescape(&format!("&{name};")).map(|text| text.into_owned());
                label.push_str(&text.map_err(|error| at(error.to_string()))?);
            }
            Event::Eof => break,
            _ => {}
        }
    }
    match open.last() {
        Some(name) => Err(format!("<{name}> is not closed: the file was cut short")),
        None => Ok(document),
    }
}

/// Maximum nesting depth; elements of CVAT's files are at most 8 deep.
const DEEPEST: usize = 64;

/// Whether the innermost element is the `<name>` of a label: `<meta>` has `<task>`, `<project>` or `<job>` around it.
fn is_label_name(open: &[String]) -> bool {
    let parts: Vec<&str> = open.iter().map(String::as_str).collect();
    matches!(parts[..], [.., "labels", "label", "name"]) && parts.contains(&"meta")
}

impl Document {
    fn element(
        &mut self,
        element: &BytesStart,
        open: &[String],
        budget: &Budget,
    ) -> Result<(), String> {
        let name = String::from_utf8_lossy(element.name().as_ref()).into_owned();
        match open {
            [] if name != "annotations" => {
                return Err(format!(
                    "<{name}> in place of <annotations>: no file of CVAT for images 1.1"
                ));
            }
            [_] if name == "track" => {
                return Err("it is CVAT for video; export CVAT for images 1.1 or COCO 1.0".into());
            }
            [_] if name == "image" => {
                let image = image(&Attributes::of(element)?)?;
                let kept = size_of::<Image>() + image.name.len() + image.subset.len();
                budget.bytes(kept).map_err(|error| error.to_string())?;
                self.images.push(image);
            }
            [_, parent] if parent == "image" && !NO_SHAPES.contains(&name.as_str()) => {
                let shape = shape(&name, element).map_err(|reason| {
                    let image = self.images.last().map_or("", |image| &image.name);
                    format!("<{name}> of {image}: {reason}")
                })?;
                match (shape, self.images.last_mut()) {
                    (Some(shape), Some(image)) => {
                        let charged = budget.bytes(shape.memory());
                        charged.map_err(|error| error.to_string())?;
                        image.shapes.push(shape);
                    }
                    _ => match self.left_out.get_mut(&name) {
                        Some(count) => *count += 1,
                        None => {
                            let kept = name.len() + size_of::<(String, usize)>();
                            budget.bytes(kept).map_err(|error| error.to_string())?;
                            self.left_out.insert(name, 1);
                        }
                    },
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn image(attributes: &Attributes) -> Result<Image, String> {
    let image = Image {
        name: attributes.text("name")?.to_string(),
        width: attributes.number("width")?,
        height: attributes.number("height")?,
        subset: attributes.0.get("subset").cloned().unwrap_or_default(),
        shapes: Vec::new(),
    };
    match image.name.is_empty() {
        true => Err("an <image> has an empty name".into()),
        false => Ok(image),
    }
}

/// A shape with a mask; `None` for other kinds.
fn shape(name: &str, element: &BytesStart) -> Result<Option<Shape>, String> {
    if !["polygon", "ellipse", "mask"].contains(&name) {
        return Ok(None);
    }
    let attributes = Attributes::of(element)?;
    let outline = match name {
        "polygon" => Outline::Polygon(points(attributes.text("points")?)?),
        "ellipse" => Outline::Ellipse {
            center: [attributes.number("cx")?, attributes.number("cy")?],
            radii: [attributes.number("rx")?, attributes.number("ry")?],
            rotation: match attributes.0.contains_key("rotation") {
                true => attributes.number("rotation")?,
                false => 0.0,
            },
        },
        _ => {
            let runs = attributes.text("rle")?.split(',');
            let runs: Result<Vec<u32>, _> = runs.map(|run| run.trim().parse()).collect();
            Outline::Mask {
                runs: runs.map_err(|error| format!("`rle`: {error}"))?,
                left: attributes.number("left")?,
                top: attributes.number("top")?,
                width: attributes.number("width")?,
                height: attributes.number("height")?,
            }
        }
    };
    let group = match attributes.0.contains_key("group_id") {
        true => attributes.number("group_id")?,
        false => 0,
    };
    let label = attributes.text("label")?.to_string();
    Ok(Some(Shape {
        label,
        group,
        outline,
    }))
}

/// `x,y;x,y;...`
fn points(text: &str) -> Result<Vec<Point>, String> {
    let point = |pair: &str| {
        let (x, y) = pair.split_once(',')?;
        let point = [x.trim().parse().ok()?, y.trim().parse().ok()?];
        point
            .iter()
            .all(|value: &f64| value.is_finite())
            .then_some(point)
    };
    let pairs = text.split(';').filter(|pair| !pair.trim().is_empty());
    pairs
        .map(|pair| point(pair).ok_or_else(|| format!("`points` has `{pair}`, which is not x,y")))
        .collect()
}

/// The attributes of an element.
struct Attributes(HashMap<String, String>);

impl Attributes {
    fn of(element: &BytesStart) -> Result<Self, String> {
        let mut found = HashMap::new();
        for attribute in element.attributes() {
            let attribute = attribute.map_err(|error| error.to_string())?;
            let key = String::from_utf8_lossy(attribute.key.as_ref()).into_owned();
            let value = std::str::from_utf8(&attribute.value)
                .map_err(|_| format!("`{key}` is not UTF-8"))?;
            let value =
                quick_xml::escape::unescape(value).map_err(|error| format!("`{key}`: {error}"))?;
            found.insert(key, value.into_owned());
        }
        Ok(Self(found))
    }

    fn text(&self, name: &str) -> Result<&str, String> {
        let text = self.0.get(name).map(String::as_str);
        text.ok_or_else(|| format!("`{name}` is missing"))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, String> {
        let text = self.text(name)?;
        text.trim()
            .parse()
            .map_err(|_| format!("`{name}` is `{text}`"))
    }
}

#[cfg(test)]
mod tests;
