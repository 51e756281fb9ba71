//! Multi-scale training and large-scale jitter.

use crate::config::ImageConfig;
use crate::image::Placement;
use crate::random::Stream;

/// The size of an image of `original` rows and columns, with a shorter side sampled from `min_sizes`;
/// if there are none, the size that `image` configures.
pub(crate) fn sampled_size(
    (height, width): (u32, u32),
    image: &ImageConfig,
    min_sizes: &[u32],
    stream: Stream,
) -> (u32, u32) {
    if min_sizes.is_empty() {
        return image.resized(height, width);
    }
    let choice = stream.bits(0) % min_sizes.len() as u64;
    let image = ImageConfig {
        min_size: min_sizes[choice as usize],
        ..image.clone()
    };
    image.resized(height, width)
}

/// Large-scale jitter: the image is resized to fit a square of `frame`, times a factor in
/// `low..=high`, and cropped to a random part of the frame's size, or placed at its upper left corner.
pub(crate) fn jittered(
    original: (u32, u32),
    flip: bool,
    (low, high): (f64, f64),
    frame: u32,
    stream: Stream,
) -> Placement {
    let factor = low + (high - low) * stream.uniform(0);
    let longer = original.0.max(original.1).max(1) as f64;
    let scale = factor * frame as f64 / longer;
    let side = |length: u32| ((length as f64 * scale) as u32).max(1);
    let resized = (side(original.0), side(original.1));
    let start = |length: u32, index| {
        let places = length.saturating_sub(frame) as u64 + 1;
        (stream.bits(index) % places) as u32
    };
    Placement {
        original,
        flip,
        resized,
        origin: (start(resized.0, 1), start(resized.1, 2)),
        size: (frame, frame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shorter_side_is_picked_about_as_often() {
        let sizes = [640, 672, 704, 736, 768, 800];
        let image = ImageConfig::default();
        let mut counts = [0; 6];
        for index in 0..1200 {
            let stream = Stream::named("scale", index);
            let (height, width) = sampled_size((480, 640), &image, &sizes, stream);
            let choice = sizes.iter().position(|&side| side == height);
            counts[choice.expect("a side of the list")] += 1;
            assert_eq!(width, (height as f64 * 640.0 / 480.0) as u32);
        }
        // 200 each; the standard deviation of 1200 samples is 13.
        assert!(
            counts.iter().all(|&count| (140..260).contains(&count)),
            "{counts:?}"
        );
        // An elongated image is bound by its longer side.
        assert_eq!(
            sampled_size((100, 900), &image, &[800], Stream::named("", 0)),
            (148, 1333)
        );
    }

    #[test]
    fn the_frame_is_full_or_shows_all_of_the_image() {
        let mut sides = Vec::new();
        for index in 0..500 {
            let stream = Stream::named("jitter", index);
            let placed = jittered((480, 640), false, (0.1, 2.0), 256, stream);
            assert_eq!(placed.size, (256, 256));
            sides.push(placed.resized.1);
            for (origin, resized) in [
                (placed.origin.0, placed.resized.0),
                (placed.origin.1, placed.resized.1),
            ] {
                assert!(origin == 0 || origin + 256 <= resized, "{placed:?}");
            }
            let ratio = placed.resized.1 as f64 / placed.resized.0 as f64;
            assert!((ratio - 4.0 / 3.0).abs() < 0.1, "{placed:?}");
        }
        sides.sort_unstable();
        assert!((25..35).contains(&sides[0]) && (500..=512).contains(&sides[499]));
    }
}
