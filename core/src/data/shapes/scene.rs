//! Rendering of a scene: a textured background, overlapping shapes, shading and sensor noise.

use super::spec::ShapesSpec;
use super::texture::Texture;
use crate::random::Stream;
use ::image::{Rgb, RgbImage};
use vernier_mask::Rle;

/// A rendered image and the visible parts of its shapes.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The image.
    pub image: RgbImage,
    /// Its shapes, without those that are mostly hidden.
    pub instances: Vec<SceneInstance>,
}

/// A shape.
#[derive(Clone, Debug)]
pub struct SceneInstance {
    /// Index into `CLASSES`, from 1.
    pub label: usize,
    /// Its visible part.
    pub mask: Rle,
}

/// A shape to render.
struct Shape {
    label: usize,
    center: (f32, f32),
    radius: f32,
    rotation: (f32, f32),
    color: [f32; 3],
    texture: Texture,
    shadow: bool,
}

/// Renders image `index` of `split`.
pub fn scene(split: &str, index: u64, spec: &ShapesSpec) -> Scene {
    let stream = Stream::named(split, spec.seed).fork(index);
    let steps = (spec.size_max.saturating_sub(spec.size_min) / 16 + 1) as u64;
    let side = |key| spec.size_min + 16 * (stream.bits(key) % steps) as u32;
    scene_of_size(stream, side(1), side(2), spec.max_objects)
}

/// Renders an image of `width` and `height` with at most `max_objects` shapes, from the random numbers of `stream`.
pub(crate) fn scene_of_size(stream: Stream, width: u32, height: u32, max_objects: usize) -> Scene {
    let mut pixels = ground(stream.fork(3), width, height);
    let count = 2 + stream.bits(4) % (max_objects.max(2) as u64 - 1);
    let shapes: Vec<Shape> = (0..count)
        .map(|i| Shape::random(stream.fork(100 + i), width, height))
        .collect();
    // The topmost shape of each pixel, from 1; 0 is the background.
    let mut owner = vec![0usize; (width * height) as usize];
    let mut full_area = Vec::with_capacity(shapes.len());
    for (number, shape) in shapes.iter().enumerate() {
        full_area.push(shape.paint(&mut pixels, &mut owner, number + 1, width, height));
    }
    let image = develop(pixels, stream.fork(5), width, height);
    let instances = shapes
        .iter()
        .zip(full_area)
        .enumerate()
        .filter_map(|(number, (shape, full))| {
            let visible: Vec<u8> = owner.iter().map(|&o| u8::from(o == number + 1)).collect();
            let area = visible.iter().map(|&v| v as usize).sum::<usize>();
            let mask = Rle::from_row_major_raster_bytes(&visible, height, width).ok()?;
            (area >= MIN_PIXELS && area * 4 >= full).then_some(SceneInstance {
                label: shape.label,
                mask,
            })
        })
        .collect();
    Scene { image, instances }
}

/// Shapes with fewer visible pixels, or with less than a quarter of their pixels visible, are not labeled.
const MIN_PIXELS: usize = 60;

/// Shapes are rotated by up to half of this angle in both directions, in radians.
const MAX_TILT: f32 = 1.2;

fn ground(stream: Stream, width: u32, height: u32) -> Vec<[f32; 3]> {
    let texture = Texture::new(stream.fork(0));
    let color = hue(
        stream.uniform(1) as f32,
        0.25,
        0.25 + 0.45 * stream.uniform(2) as f32,
    );
    let slope = (
        stream.uniform(3) as f32 - 0.5,
        stream.uniform(4) as f32 - 0.5,
    );
    let contrast = 0.08 + 0.14 * stream.uniform(5) as f32;
    let pixel = |index: u32| {
        let (x, y) = ((index % width) as f32, (index / width) as f32);
        let light = 1.0 + 0.5 * (slope.0 * x / width as f32 + slope.1 * y / height as f32);
        let value = contrast * texture.at(x, y);
        color.map(|c| (c + value) * light)
    };
    (0..width * height).map(pixel).collect()
}

impl Shape {
    fn random(stream: Stream, width: u32, height: u32) -> Self {
        let side = width.min(height) as f32;
        // Objects in photographs are mostly upright.
        let angle = (stream.uniform(0) as f32 - 0.5) * MAX_TILT;
        let color = hue(
            stream.uniform(1) as f32,
            0.55 + 0.4 * stream.uniform(2) as f32,
            0.45 + 0.5 * stream.uniform(3) as f32,
        );
        Self {
            label: 1 + (stream.bits(4) % 4) as usize,
            center: (
                (0.1 + 0.8 * stream.uniform(5) as f32) * width as f32,
                (0.1 + 0.8 * stream.uniform(6) as f32) * height as f32,
            ),
            radius: (0.09 + 0.15 * stream.uniform(7) as f32) * side,
            rotation: (angle.cos(), angle.sin()),
            color,
            texture: Texture::new(stream.fork(8)),
            shadow: stream.bits(9).is_multiple_of(2),
        }
    }

    /// Whether a point is inside.
    fn contains(&self, x: f32, y: f32) -> bool {
        let (dx, dy) = (
            (x - self.center.0) / self.radius,
            (y - self.center.1) / self.radius,
        );
        let u = dx * self.rotation.0 + dy * self.rotation.1;
        let v = dy * self.rotation.0 - dx * self.rotation.1;
        match self.label {
            1 => u * u + v * v <= 1.0,
            2 => u.abs().max(v.abs()) <= 0.82,
            // Equilateral, with its corners on the unit circle and one of them on top.
            3 => v <= 0.5 && -v <= 1.0 - 3f32.sqrt() * u.abs(),
            _ => in_star(-v, u),
        }
    }

    /// Renders the shape with 4x4 samples per pixel. Returns the number of covered pixels.
    fn paint(
        &self,
        pixels: &mut [[f32; 3]],
        owner: &mut [usize],
        number: usize,
        width: u32,
        height: u32,
    ) -> usize {
        let reach = self.radius * 1.3 + 6.0;
        let range = |center: f32, limit: u32| {
            let low = (center - reach).max(0.0) as u32;
            low..((center + reach).max(0.0) as u32 + 1).min(limit)
        };
        let mut area = 0;
        for row in range(self.center.1, height) {
            for column in range(self.center.0, width) {
                let cell = (row * width + column) as usize;
                let (x, y) = (column as f32, row as f32);
                let coverage = self.coverage(x, y);
                if coverage < 1.0 && self.shadow {
                    let dark = 1.0 - 0.35 * self.coverage(x - 3.0, y - 4.0) * (1.0 - coverage);
                    pixels[cell] = pixels[cell].map(|c| c * dark);
                }
                if coverage > 0.0 {
                    let shade = self.shade(x, y);
                    for (pixel, color) in pixels[cell].iter_mut().zip(self.color) {
                        *pixel = *pixel * (1.0 - coverage) + color * shade * coverage;
                    }
                }
                if coverage >= 0.5 {
                    owner[cell] = number;
                    area += 1;
                }
            }
        }
        area
    }

    /// Fraction of a pixel's samples that are inside the shape; the upper left corner of the pixel is at `x, y`.
    fn coverage(&self, x: f32, y: f32) -> f32 {
        // Samples are at most 0.54 px from the middle of the pixel: most pixels are decided by its distance alone.
        const SLACK: f32 = 0.6;
        let middle = (x + 0.5 - self.center.0, y + 0.5 - self.center.1);
        let distance = (middle.0 * middle.0 + middle.1 * middle.1).sqrt();
        if distance > OUTER * self.radius + SLACK {
            return 0.0;
        }
        if distance < INNER * self.radius - SLACK {
            return 1.0;
        }
        self.sampled_coverage(x, y)
    }

    fn sampled_coverage(&self, x: f32, y: f32) -> f32 {
        let samples = (0..16).filter(|sample| {
            let (dx, dy) = ((sample % 4) as f32 + 0.5, (sample / 4) as f32 + 0.5);
            self.contains(x + dx / 4.0, y + dy / 4.0)
        });
        samples.count() as f32 / 16.0
    }

    /// Shading with light from the upper left; each shape has its own texture.
    fn shade(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - self.center.0, y - self.center.1);
        1.0 - 0.15 * (dx + dy) / self.radius + 0.2 * self.texture.at(dx + 500.0, dy + 500.0)
    }
}

/// Every shape of radius 1 is inside the circle of this radius; the corners of the square are at 1.16.
const OUTER: f32 = 1.17;

/// Every shape of radius 1 contains the circle of this radius, that of a star's notches.
const INNER: f32 = 0.45;

/// A star with five points, by reflecting to the nearest point and testing one edge.
fn in_star(u: f32, v: f32) -> bool {
    let angle = v.atan2(u).rem_euclid(std::f32::consts::TAU / 5.0);
    let half = std::f32::consts::PI / 5.0;
    let (distance, angle) = (u.hypot(v), half - (angle - half).abs());
    // The edge from the tip (1, 0) to the notch at `half`.
    let (x, y) = (distance * angle.cos(), distance * angle.sin());
    let (notch_x, notch_y) = (INNER * half.cos(), INNER * half.sin());
    (notch_x - 1.0) * y - notch_y * (x - 1.0) >= 0.0
}

/// Color of a hue in `0..=1` with saturation and brightness.
fn hue(hue: f32, saturation: f32, value: f32) -> [f32; 3] {
    [5.0, 3.0, 1.0].map(|n: f32| {
        let k = (n + hue * 6.0) % 6.0;
        value * (1.0 - saturation * k.min(4.0 - k).clamp(0.0, 1.0))
    })
}

/// Adds sensor noise and rounds to bytes.
fn develop(pixels: Vec<[f32; 3]>, stream: Stream, width: u32, height: u32) -> RgbImage {
    let deviation = 0.01 + 0.025 * stream.uniform(0) as f32;
    RgbImage::from_fn(width, height, |x, y| {
        let index = (y * width + x) as usize;
        let mut channel = 0;
        Rgb(pixels[index].map(|value| {
            let noise = deviation * stream.normal(8 + 3 * index as u64 + channel) as f32;
            channel += 1;
            ((value + noise).clamp(0.0, 1.0) * 255.0).round() as u8
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_depends_on_its_address_alone() {
        let spec = ShapesSpec::default();
        let (a, b) = (scene("train", 3, &spec), scene("train", 3, &spec));
        assert_eq!(a.image, b.image);
        assert_ne!(a.image, scene("val", 3, &spec).image);
        assert_ne!(
            a.image,
            scene("train", 3, &ShapesSpec { seed: 1, ..spec }).image
        );
    }

    #[test]
    fn the_distance_decides_as_the_samples_do() {
        for key in 0..40 {
            let shape = Shape::random(Stream::named("shape", 7).fork(key), 160, 144);
            for (y, x) in (0..144).flat_map(|y| (0..160).map(move |x| (y as f32, x as f32))) {
                assert_eq!(shape.coverage(x, y), shape.sampled_coverage(x, y));
            }
        }
    }

    #[test]
    fn masks_are_visible_disjoint_and_of_all_classes() {
        let spec = ShapesSpec::default();
        let mut has_class = [false; 4];
        for index in 0..40 {
            let Scene { image, instances } = scene("val", index, &spec);
            let mut total = 0;
            for instance in &instances {
                has_class[instance.label - 1] = true;
                assert!(instance.mask.area() >= MIN_PIXELS as u64);
                total += instance.mask.area();
            }
            let masks: Vec<Rle> = instances.into_iter().map(|i| i.mask).collect();
            let union = Rle::merge(&masks, false).map_or(0, |union| union.area());
            assert_eq!(union, total, "masks overlap in image {index}");
            assert!(total < (image.width() * image.height()) as u64);
        }
        assert_eq!(has_class, [true; 4]);
    }
}
