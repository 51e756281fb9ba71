//! Predictions as pixels: label maps and cut-outs.

use crate::Prediction;
use ::image::{ImageBuffer, Luma, RgbImage, Rgba, RgbaImage};

impl Prediction {
    /// The number of the object that each pixel belongs to, from 1 in the order of the detections; 0 is the background.
    /// Where objects overlap, it is the one with the highest score.
    pub fn label_map(&self) -> ImageBuffer<Luma<u16>, Vec<u16>> {
        let mut map = ImageBuffer::new(self.width, self.height);
        for (index, detection) in self.detections.iter().enumerate().rev() {
            let number = u16::try_from(index + 1).unwrap_or(u16::MAX);
            if (detection.mask.w, detection.mask.h) != (self.width, self.height) {
                continue;
            }
            detection.mask.for_each_fg_span(|x, rows| {
                for y in rows {
                    map.put_pixel(x, y, Luma([number]));
                }
            });
        }
        map
    }

    /// The pixels of an object within the bounds of its mask, transparent outside of the mask; `image` is the image
    /// that was predicted. `None` if there is no such object, its mask is empty, or the image has another size.
    pub fn cutout(&self, index: usize, image: &RgbImage) -> Option<RgbaImage> {
        let detection = self.detections.get(index)?;
        let bitmap = detection.bitmap();
        let fits = (detection.mask.w, detection.mask.h) == image.dimensions();
        (fits && !bitmap.cells.is_empty()).then(|| {
            let [left, top] = [bitmap.x, bitmap.y].map(|start| start as u32);
            RgbaImage::from_fn(bitmap.width as u32, bitmap.height as u32, |x, y| {
                let cell = bitmap.cells[y as usize * bitmap.width + x as usize];
                let [r, g, b] = image.get_pixel(left + x, top + y).0;
                match cell {
                    0 => Rgba([0; 4]),
                    _ => Rgba([r, g, b, 255]),
                }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn label_maps_and_cutouts_are_the_masks() {
        let prediction = example();
        let map = prediction.label_map();
        let count = |number: u16| map.pixels().filter(|pixel| pixel.0[0] == number).count() as u64;
        let masks: Vec<_> = prediction
            .iter()
            .map(|object| object.mask.clone())
            .collect();
        assert_eq!(count(1), masks[0].area());
        let hidden = masks[0].intersect_area(&masks[1]).unwrap();
        assert!(hidden > 0);
        assert_eq!(count(2), masks[1].area() - hidden);
        assert_eq!(count(3), masks[2].area());
        let image = RgbImage::from_fn(80, 60, |x, y| ::image::Rgb([x as u8, y as u8, 9]));
        let ring = prediction.cutout(1, &image).unwrap();
        let [left, top, width, height] = masks[1].bbox();
        assert_eq!(ring.dimensions(), (width, height));
        let opaque = ring.pixels().filter(|pixel| pixel.0[3] == 255).count() as u64;
        assert_eq!(opaque, masks[1].area());
        let (x, y) = (25, 3);
        assert_eq!(
            ring.get_pixel(x, y),
            &Rgba([(left + x) as u8, (top + y) as u8, 9, 255])
        );
        assert_eq!(ring.get_pixel(30 - left, 30 - top), &Rgba([0; 4]));
        assert!(prediction.cutout(3, &image).is_none());
        assert!(prediction.cutout(0, &RgbImage::new(4, 4)).is_none());
    }
}
