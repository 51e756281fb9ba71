//! Aspect-ratio buckets: images of similar aspect ratio are padded to one shape, so that few shapes occur.

use super::augment::Augment;
use crate::config::Config;
use crate::data::{Dataset, Sample};
use crate::image::transform::padded_size;
use std::collections::HashMap;
use std::ops::Range;

/// Rows and columns of a padded batch.
pub type Shape = (usize, usize);

/// The buckets of the training images, if `data.buckets` is set.
pub(crate) fn buckets(dataset: &Dataset, config: &Config) -> Option<Buckets> {
    let (augment, image) = (Augment::new(config), &config.image);
    let shape = |sample: &Sample| {
        let largest = augment.largest((sample.height, sample.width));
        padded_size(
            [largest].into_iter(),
            image.size_divisor,
            image.smallest_batch(),
        )
    };
    let shapes = || dataset.samples.iter().map(shape).collect::<Vec<_>>();
    (config.data.buckets > 0).then(|| Buckets::new(&shapes(), config.data.buckets))
}

/// The assignment of images to padded shapes.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// Shapes of the buckets, from portrait to landscape.
    shapes: Vec<Shape>,
    /// The shape that holds every image.
    largest: Shape,
    /// The bucket of each image.
    of: Vec<u16>,
}

impl Buckets {
    /// Groups images of `sizes` (padded rows and columns) so that padding each to its bucket's shape
    /// takes the fewest pixels in total. Batches that mix buckets get a shape of their own; it counts towards `most`,
    /// the largest number of shapes.
    pub fn new(sizes: &[Shape], most: usize) -> Self {
        let mut counts: HashMap<Shape, usize> = HashMap::new();
        for size in sizes {
            *counts.entry(*size).or_default() += 1;
        }
        let mut counted: Vec<(Shape, usize)> = counts.into_iter().collect();
        // Aspect ratios compared without rounding: w1 / h1 against w2 / h2.
        counted.sort_by(|(a, _), (b, _)| (a.1 * b.0).cmp(&(b.1 * a.0)).then(a.cmp(b)));
        let shape = |group: &Range<usize>| {
            let sizes = counted[group.clone()].iter();
            sizes.fold((1, 1), |sum, (size, _)| hull(sum, *size))
        };
        let largest = shape(&(0..counted.len()));
        let mut groups = groups(&counted, most.max(1));
        if groups.len() == most && !groups.iter().any(|group| shape(group) == largest) {
            groups = self::groups(&counted, most - 1);
        }
        let shapes: Vec<Shape> = groups.iter().map(shape).collect();
        let bucket_of: HashMap<Shape, u16> = (0..)
            .zip(&groups)
            .flat_map(|(bucket, group)| counted[group.clone()].iter().map(move |c| (c.0, bucket)))
            .collect();
        Self {
            of: sizes.iter().map(|size| bucket_of[size]).collect(),
            shapes,
            largest,
        }
    }

    /// Number of buckets.
    pub fn len(&self) -> usize {
        self.shapes.len()
    }

    /// The bucket of image `index`.
    pub fn of(&self, index: usize) -> usize {
        self.of[index] as usize
    }

    /// The shape of a batch of these images: the smallest that holds the buckets of all of them.
    pub fn shape(&self, images: impl Iterator<Item = usize>) -> Shape {
        let wanted = images.fold((1, 1), |sum, index| hull(sum, self.shapes[self.of(index)]));
        let holds = |shape: &&Shape| shape.0 >= wanted.0 && shape.1 >= wanted.1;
        let smallest = self
            .shapes
            .iter()
            .filter(holds)
            .min_by_key(|shape| shape.0 * shape.1);
        smallest.copied().unwrap_or(self.largest)
    }

    /// Every shape that a batch can have.
    pub fn shapes(&self) -> Vec<Shape> {
        let mut shapes = self.shapes.clone();
        if !shapes.contains(&self.largest) {
            shapes.push(self.largest);
        }
        shapes
    }
}

fn hull(a: Shape, b: Shape) -> Shape {
    (a.0.max(b.0), a.1.max(b.1))
}

/// Splits sizes, sorted by aspect ratio, into at most `most` runs, each padded to its maximum, with the
/// fewest pixels in total.
fn groups(sizes: &[(Shape, usize)], most: usize) -> Vec<Range<usize>> {
    let n = sizes.len();
    // best[k][end]: pixels of the first `end` sizes in k + 1 runs, and the start of the last run.
    let mut best: Vec<Vec<(usize, usize)>> = Vec::new();
    for runs in 0..most.min(n) {
        let mut row = vec![(usize::MAX, 0); n + 1];
        row[0] = (0, 0);
        for (end, best_of_end) in row.iter_mut().enumerate().skip(1) {
            let (mut shape, mut count) = ((1, 1), 0);
            for start in (0..end).rev() {
                shape = hull(shape, sizes[start].0);
                count += sizes[start].1;
                let before = match runs {
                    0 if start > 0 => continue,
                    0 => 0,
                    _ => best[runs - 1][start].0,
                };
                let pixels = before.saturating_add(count * shape.0 * shape.1);
                if pixels < best_of_end.0 {
                    *best_of_end = (pixels, start);
                }
            }
        }
        best.push(row);
    }
    let mut cuts = Vec::new();
    let mut end = n;
    for row in best.iter().rev() {
        if end > 0 {
            cuts.push(row[end].1..end);
            end = row[end].1;
        }
    }
    cuts.reverse();
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Total pixels when every image is padded to its bucket.
    fn pixels(buckets: &Buckets) -> usize {
        let area = |bucket: &u16| {
            let (h, w) = buckets.shapes[*bucket as usize];
            h * w
        };
        buckets.of.iter().map(area).sum()
    }

    #[test]
    fn few_shapes_hold_every_image_with_little_padding() {
        // COCO's sizes at 800 to 1333 px, with roughly their frequencies.
        let mut sizes = vec![(800, 1088); 600];
        sizes.extend([(1088, 800); 220]);
        sizes.extend([(800, 1216); 120]);
        sizes.extend([(800, 800); 40]);
        sizes.extend([(800, 1344), (1344, 800), (448, 1344)].repeat(7));
        let needed: usize = sizes.iter().map(|(h, w)| h * w).sum();
        let mut before = usize::MAX;
        for most in 1..=7 {
            let buckets = Buckets::new(&sizes, most);
            assert!(buckets.shapes().len() <= most, "{most}: {buckets:?}");
            for (index, (h, w)) in sizes.iter().enumerate() {
                let shape = buckets.shape([index].into_iter());
                assert!(shape.0 >= *h && shape.1 >= *w);
            }
            assert!(
                pixels(&buckets) <= before,
                "{most}: more padding than with fewer"
            );
            before = pixels(&buckets);
        }
        assert_eq!(Buckets::new(&sizes, 1).shapes(), [(1344, 1344)]);
        // Six for the seven sizes and one for batches of landscape and portrait images: all sizes but the
        // very elongated ones have their own.
        assert!(before as f64 / (needed as f64) < 1.01);
        let four = Buckets::new(&sizes, 4);
        assert!(pixels(&four) as f64 / (needed as f64) < 1.09);
        assert_eq!(four.shape([0, 601].into_iter()), (1344, 1344));
    }

    #[test]
    fn one_size_is_one_bucket() {
        let buckets = Buckets::new(&[(64, 96); 5], 4);
        assert_eq!((buckets.len(), buckets.shapes()), (1, vec![(64, 96)]));
        assert_eq!(Buckets::new(&[], 3).len(), 0);
    }
}
