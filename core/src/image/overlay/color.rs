//! Colors of classes and objects.

use std::sync::OnceLock;

/// Assignment of colors to classes or objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColorBy {
    /// The objects of a class have the same color in every image.
    #[default]
    Class,
    /// Every object of an image has another color.
    Instance,
}

impl ColorBy {
    /// The color of the object `index` of an image, with a label from 1.
    pub(super) fn color(self, index: usize, label: usize) -> [u8; 3] {
        let palette = palette();
        match self {
            Self::Class => palette[label.saturating_sub(1) % palette.len()],
            Self::Instance => palette[index % palette.len()],
        }
    }
}

/// Number of different colors.
const COLORS: usize = 128;

/// Colors of which each is as far from all before it as possible, as in Glasbey et al., "Colour displays for
/// categorical images" (2007), in OKLab.
fn palette() -> &'static [[u8; 3]] {
    static PALETTE: OnceLock<Vec<[u8; 3]>> = OnceLock::new();
    PALETTE.get_or_init(|| {
        let steps = || (0..=255u8).step_by(15);
        let cube = steps().flat_map(|r| steps().flat_map(move |g| steps().map(move |b| [r, g, b])));
        // Dark, pale and gray colors do not stand out from images, and fully saturated ones glare.
        let candidates: Vec<([u8; 3], [f32; 3])> = cube
            .map(|color| (color, oklab(color)))
            .filter(|(_, [l, a, b])| {
                (0.55..0.88).contains(l) && (0.12..0.24).contains(&a.hypot(*b))
            })
            .collect();
        let mut nearest = vec![f32::MAX; candidates.len()];
        let mut chosen = vec![[255, 75, 60]];
        while chosen.len() < COLORS {
            let last = oklab(chosen[chosen.len() - 1]);
            let mut best = 0;
            for (index, (_, color)) in candidates.iter().enumerate() {
                nearest[index] = nearest[index].min(difference(*color, last));
                if nearest[index] > nearest[best] {
                    best = index;
                }
            }
            chosen.push(candidates[best].0);
        }
        chosen
    })
}

/// The squared distance of two colors in OKLab.
fn difference(a: [f32; 3], b: [f32; 3]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// A color in OKLab (Ottosson, "A perceptual color space for image processing", 2020).
fn oklab(color: [u8; 3]) -> [f32; 3] {
    let [r, g, b] = color.map(|value| (f32::from(value) / 255.0).powf(2.2));
    let l = (0.412_221_5 * r + 0.536_332_5 * g + 0.051_445_9 * b).cbrt();
    let m = (0.211_903_5 * r + 0.680_699_5 * g + 0.107_396_9 * b).cbrt();
    let s = (0.088_302_5 * r + 0.281_718_8 * g + 0.629_978_7 * b).cbrt();
    [
        0.210_454_3 * l + 0.793_617_8 * m - 0.004_072_0 * s,
        1.977_998_5 * l - 2.428_592_2 * m + 0.450_593_7 * s,
        0.025_904_0 * l + 0.782_771_8 * m - 0.808_675_8 * s,
    ]
}

/// Black or white, whichever is easier to read on a color.
pub(super) fn ink(color: [u8; 3]) -> [u8; 3] {
    match oklab(color)[0] > 0.65 {
        true => [0; 3],
        false => [255; 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_stay_apart() {
        let min_distance = |count: usize| {
            let colors = palette()[..count].iter().map(|&color| oklab(color));
            let colors: Vec<_> = colors.collect();
            let pairs = (1..count).flat_map(|i| (0..i).map(move |j| (i, j)));
            pairs
                .map(|(i, j)| difference(colors[i], colors[j]).sqrt())
                .fold(f32::MAX, f32::min)
        };
        // 0.02 is a just noticeable difference.
        assert!(min_distance(8) > 0.15, "{}", min_distance(8));
        assert!(min_distance(20) > 0.08, "{}", min_distance(20));
        assert!(min_distance(COLORS) > 0.03, "{}", min_distance(COLORS));
        assert_eq!(ColorBy::Class.color(4, 3), ColorBy::Class.color(9, 3));
        assert_ne!(ColorBy::Instance.color(4, 3), ColorBy::Instance.color(9, 3));
    }
}
