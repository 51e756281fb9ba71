//! Checks of image files: whether they decode, have the size of their entries, and have the expected meaning.

use super::dataset::{Origin, Sample};
use super::problem::{Problem, Severity};
use crate::config::Depth;
use crate::image::decode::{Decoded, MAX_PIXELS, dimensions, has_swapped_sides};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// Decodes every image, on all cores. Errors name images that cannot be used, warnings those that are
/// suspicious.
pub(crate) fn check_images(samples: &[Sample]) -> Vec<Problem> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let memory = PixelBudget::default();
    let work = || {
        let mut problems = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(sample) = samples.get(index) else {
                return problems;
            };
            let _held = memory.take(pixels(sample));
            problems.extend(image_problems(sample));
        }
    };
    let mut problems: Vec<Problem> = match threads {
        1 => work(),
        _ => std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .flat_map(|worker| worker.join().unwrap_or_default())
                .collect()
        }),
    };
    problems.sort_by_key(|problem| problem.image_id);
    problems
}

/// Limit on the pixels that all threads decode at once, because a large image takes a gigabyte while it is decoded.
#[derive(Default)]
struct PixelBudget {
    used: Mutex<u64>,
    freed: Condvar,
}

struct Held<'a>(&'a PixelBudget, u64);

impl PixelBudget {
    /// Waits until `pixels` more can be decoded. One image is always admitted.
    fn take(&self, pixels: u64) -> Held<'_> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while *used > 0 && *used + pixels > MAX_PIXELS {
            used = self
                .freed
                .wait(used)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *used += pixels;
        Held(self, pixels)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.0.used.lock().unwrap_or_else(PoisonError::into_inner) -= self.1;
        self.0.freed.notify_all();
    }
}

/// Number of pixels of an image's file, whose size may differ from that of its entry.
fn pixels(sample: &Sample) -> u64 {
    let (width, height) = match sample.origin {
        Origin::File => dimensions(&sample.path).unwrap_or((0, 0)),
        Origin::Source(..) => (sample.width, sample.height),
    };
    (u64::from(width) * u64::from(height)).min(MAX_PIXELS)
}

fn image_problems(sample: &Sample) -> Vec<Problem> {
    let problem = |severity, kind, reason: String, fix: &str| Problem {
        severity,
        file: sample.path.clone(),
        image_id: Some(sample.image_id),
        annotation_id: None,
        kind,
        reason,
        fix: fix.into(),
    };
    let decoded = match sample.checked_image() {
        Ok(decoded) => decoded,
        Err(error) => {
            let fix = "replace the file or delete its entry";
            return vec![problem(
                Severity::Error,
                "unreadable image",
                error.to_string(),
                fix,
            )];
        }
    };
    if let Some(reason) = size_mismatch(sample, decoded.image.dimensions()) {
        let fix = "correct width and height, or the orientation";
        return vec![problem(Severity::Error, "image size differs", reason, fix)];
    }
    let mut problems = Vec::new();
    if has_doubtful_orientation(&decoded) {
        problems.push(problem(
            Severity::Warning,
            "EXIF orientation",
            format!("its EXIF orientation is {}, which is applied", decoded.orientation),
            "look at `mrcnn-cli dataset preview`: annotations that were drawn on the stored pixels are misplaced",
        ));
    }
    if let (Some(bits @ ..=14), Depth::Full) = (decoded.used_bits, sample.depth) {
        problems.push(problem(
            Severity::Warning,
            "narrow 16 bits",
            format!("it uses {bits} of its 16 bits and is nearly black as 8 bits"),
            "--set image.depth=auto scales by the bits that are used",
        ));
    }
    if decoded.has_more {
        problems.push(problem(
            Severity::Warning,
            "several images in one file",
            "it has more than one frame or page, and only the first is read".into(),
            "save each frame or page as a file of its own",
        ));
    }
    problems
}

/// Whether the EXIF orientation changes the image without changing its size.
fn has_doubtful_orientation(decoded: &Decoded) -> bool {
    let (width, height) = decoded.image.dimensions();
    match decoded.orientation {
        2..=4 => true,
        5..=8 => width == height,
        _ => false,
    }
}

/// The difference in size between a decoded image and its entry; `None` if there is none.
pub(crate) fn size_mismatch(sample: &Sample, (width, height): (u32, u32)) -> Option<String> {
    let declared = (sample.width, sample.height);
    if declared == (width, height) {
        return None;
    }
    let turned = if declared != (height, width) {
        ""
    } else if is_turned(sample) {
        " (its EXIF orientation is a quarter turn that the annotations do not have)"
    } else {
        " (width and height are swapped)"
    };
    Some(format!(
        "the image is {width}x{height}, but {}x{} in its entry{turned}",
        declared.0, declared.1
    ))
}

/// Whether the EXIF orientation of the file swaps its width and height.
fn is_turned(sample: &Sample) -> bool {
    match sample.origin {
        Origin::File => has_swapped_sides(&sample.path).unwrap_or(false),
        Origin::Source(..) => sample
            .checked_image()
            .is_ok_and(|decoded| decoded.orientation > 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn all_threads_together_decode_at_most_one_large_image() {
        let (budget, used, most) = (PixelBudget::default(), AtomicU64::new(0), AtomicU64::new(0));
        let work = |pixels: u64| {
            for _ in 0..50 {
                let _held = budget.take(pixels);
                let now = used.fetch_add(pixels, Ordering::SeqCst) + pixels;
                most.fetch_max(now, Ordering::SeqCst);
                std::thread::yield_now();
                used.fetch_sub(pixels, Ordering::SeqCst);
            }
        };
        std::thread::scope(|scope| {
            for pixels in [60_000_000, 60_000_000, 30_000_000, MAX_PIXELS] {
                let work = &work;
                scope.spawn(move || work(pixels));
            }
        });
        assert!(most.into_inner() <= MAX_PIXELS);
        assert_eq!(*budget.used.lock().unwrap(), 0);
    }

    #[test]
    fn the_file_counts_and_not_its_entry() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        image::RgbImage::new(70, 50).save(&path).unwrap();
        let sample = Sample::new(1, path, (1, 1), Vec::new());
        assert_eq!(pixels(&sample), 3500);
        let missing = Sample::new(2, folder.path().join("none.png"), (9000, 9000), Vec::new());
        assert_eq!(pixels(&missing), 0);
    }
}
