//! Placement of labels: beside their objects, not above each other, and on masks only where nothing else is free.

use super::canvas::{Canvas, Rect};
use super::color::ink;
use super::occupancy::Occupancy;
use super::text::Font;

/// A label of an object.
pub(super) struct Request {
    /// Box of the object.
    pub bounds: Rect,
    pub color: [u8; 3],
    pub name: Option<String>,
    pub score: Option<String>,
}

impl Request {
    fn text(&self, with_score: bool) -> String {
        let score = self
            .score
            .as_ref()
            .filter(|_| with_score || self.name.is_none());
        let parts = [self.name.as_ref(), score].into_iter().flatten();
        parts.cloned().collect::<Vec<_>>().join(" ")
    }
}

/// With more objects than this, a label that can be placed only on masks is left out.
const CROWD: usize = 12;

/// Part of the image that labels may cover, without and with a crowd.
const LARGEST_PART: [f32; 2] = [0.3, 0.15];

/// A label with its place.
struct Placed {
    request: usize,
    text: String,
    at: Rect,
}

/// Draws the labels, best first. Text becomes smaller, and then loses its scores, if more labels can be placed that
/// way.
pub(super) fn draw(
    canvas: &mut Canvas,
    requests: &[Request],
    occupancy: &Occupancy,
    font: &Font,
    [size, smallest]: [f32; 2],
) {
    let small = (size * 0.75).max(smallest);
    let mut best: (f32, Vec<Placed>) = (size, Vec::new());
    for (size, with_score) in [(size, true), (small, true), (small, false)] {
        let placed = place(canvas, requests, occupancy, (font, size, with_score));
        // Accepted only with over an eighth more labels.
        if placed.len() * 8 > best.1.len() * 9 {
            best = (size, placed);
        }
        if best.1.len() == requests.len() {
            break;
        }
    }
    let (size, placed) = best;
    for label in placed.iter().rev() {
        let color = requests[label.request].color;
        canvas.panel(label.at, size * 0.2, color, 0.92);
        let text = Rect {
            x: label.at.x + padding(size),
            ..label.at
        };
        font.write(canvas, &label.text, size, text, ink(color));
    }
}

/// Pixels beside a text.
fn padding(size: f32) -> i64 {
    (size * 0.25).round() as i64
}

fn place(
    canvas: &Canvas,
    requests: &[Request],
    occupancy: &Occupancy,
    (font, size, with_score): (&Font, f32, bool),
) -> Vec<Placed> {
    let mut placed: Vec<Placed> = Vec::new();
    let is_crowd = requests.len() > CROWD;
    let mut left = LARGEST_PART[usize::from(is_crowd)] * (canvas.width() * canvas.height()) as f32;
    let free = (canvas.width() - 2 * padding(size)) as f32;
    for (request, label) in requests.iter().enumerate() {
        let Some(text) = font.fit(&label.text(with_score), size, free) else {
            continue;
        };
        let width = font.width(&text, size).ceil() as i64 + 2 * padding(size);
        let height = (size * 1.25).round() as i64;
        let area = (width * height) as f32;
        // The best object has a label even in a small image.
        if text.is_empty() || height > canvas.height() || (area > left && !placed.is_empty()) {
            continue;
        }
        let taken: Vec<Rect> = placed.iter().map(|placed| placed.at).collect();
        let at = position(canvas, label.bounds, (width, height), &taken, occupancy);
        let Some((at, covered)) = at else { continue };
        if is_crowd && covered > 0.6 {
            continue;
        }
        left -= area;
        placed.push(Placed { request, text, at });
    }
    placed
}

/// The best free position of a label and the part of it that covers masks.
fn position(
    canvas: &Canvas,
    bounds: Rect,
    (width, height): (i64, i64),
    taken: &[Rect],
    occupancy: &Occupancy,
) -> Option<(Rect, f32)> {
    let [right, bottom] = [bounds.x + bounds.width, bounds.y + bounds.height];
    let middle = bounds.x + (bounds.width - width) / 2;
    // Outside of the box, and then in its corners and on the object.
    let wanted = [
        [bounds.x, bounds.y - height],
        [bounds.x, bottom],
        [right - width, bounds.y - height],
        [right - width, bottom],
        [right, bounds.y],
        [bounds.x - width, bounds.y],
        [right, bottom - height],
        [bounds.x - width, bottom - height],
        [bounds.x, bounds.y],
        [right - width, bounds.y],
        [bounds.x, bottom - height],
        [right - width, bottom - height],
        [middle, bounds.y - height],
        [middle, bounds.y + (bounds.height - height) / 2],
    ];
    let mut best: Option<(f32, Rect, f32)> = None;
    for (rank, [x, y]) in wanted.into_iter().enumerate() {
        let at = Rect {
            x: x.min(canvas.width() - width).max(0),
            y: y.min(canvas.height() - height).max(0),
            width,
            height,
        };
        let grown = Rect {
            x: at.x - 1,
            y: at.y - 1,
            width: width + 2,
            height: height + 2,
        };
        if taken.iter().any(|other| grown.shared(other) > 0) {
            continue;
        }
        let covered = occupancy.part(at);
        let own = at.shared(&bounds) as f32 / at.area() as f32;
        let moved = ((at.x - x).abs() + (at.y - y).abs()) as f32 / height as f32;
        let cost = covered + 0.3 * own + 0.02 * rank as f32 + 0.2 * moved;
        if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
            best = Some((cost, at, covered));
        }
    }
    best.map(|(_, at, covered)| (at, covered))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::RgbImage;

    fn rect(x: i64, y: i64, width: i64, height: i64) -> Rect {
        Rect {
            x,
            y,
            width,
            height,
        }
    }

    fn request(bounds: Rect, name: &str) -> Request {
        Request {
            bounds,
            color: [200; 3],
            name: Some(name.into()),
            score: Some("0.99".into()),
        }
    }

    fn placed(size: u32, requests: &[Request]) -> Vec<Placed> {
        let canvas = Canvas::new(RgbImage::new(size, size));
        let occupancy = Occupancy::new(size, size);
        place(
            &canvas,
            requests,
            &occupancy,
            (&Font::embedded(), 10.0, true),
        )
    }

    #[test]
    fn labels_neither_cover_each_other_nor_their_objects() {
        let bounds = (0..9).map(|i| rect(20 + i % 3 * 130, 40 + i / 3 * 120, 80, 70));
        let requests: Vec<_> = bounds.map(|bounds| request(bounds, "circle")).collect();
        let found = placed(400, &requests);
        assert_eq!(found.len(), 9);
        for (index, label) in found.iter().enumerate() {
            assert_eq!(label.text, "circle 0.99");
            assert!(
                requests
                    .iter()
                    .all(|other| label.at.shared(&other.bounds) == 0)
            );
            assert!(
                found[..index]
                    .iter()
                    .all(|other| label.at.shared(&other.at) == 0)
            );
        }
        // Objects with one box: a label each, at different places, as long as there is space.
        let stacked: Vec<_> = (0..4)
            .map(|_| request(rect(100, 100, 90, 60), "star"))
            .collect();
        assert_eq!(placed(400, &stacked).len(), 4);
    }

    #[test]
    fn without_space_the_best_labels_stay() {
        let many: Vec<_> = (0..60)
            .map(|i| request(rect(i % 8 * 12, i / 8 * 12, 11, 11), "nucleus"))
            .collect();
        let found = placed(100, &many);
        assert!((1..5).contains(&found.len()), "{}", found.len());
        assert_eq!(found[0].request, 0);
        let long = [request(rect(10, 10, 9, 9), "a very long name of a class")];
        let found = placed(60, &long);
        assert!(found[0].text.ends_with('\u{2026}') && found[0].at.width <= 60);
        assert!(placed(3, &long).is_empty());
    }
}
