//! Text in the embedded font, or in a font file.

use super::canvas::{Canvas, Rect};
use ab_glyph::{Font as _, FontArc, PxScale, ScaleFont, point};
use std::path::Path;
use std::sync::OnceLock;
use unicode_normalization::UnicodeNormalization;

/// DejaVu Sans Condensed Bold: Latin, Greek and Cyrillic. Its license lies beside it.
static EMBEDDED: &[u8] = include_bytes!("../font/DejaVuSansCondensed-Bold.ttf");

/// Drawn in place of a character that a font lacks.
const REPLACEMENT: char = '\u{25a1}';

/// A font of labels.
#[derive(Clone, Debug)]
pub struct Font(FontArc);

impl Font {
    /// The font of this library, with the Latin, Greek and Cyrillic scripts.
    pub fn embedded() -> Self {
        static FONT: OnceLock<FontArc> = OnceLock::new();
        let font = FONT
            .get_or_init(|| FontArc::try_from_slice(EMBEDDED).expect("the embedded font is valid"));
        Self(font.clone())
    }

    /// A TrueType or OpenType font, for names in other scripts; of a collection (`.ttc`), the first font.
    ///
    /// # Errors
    /// If the file cannot be read, or is no font with outlines.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        let bytes = std::fs::read(path)?;
        let font = FontArc::try_from_vec(bytes).map_err(|_| {
            let reason = "it is not a TrueType or OpenType font; give a .ttf, .otf or .ttc file";
            std::io::Error::new(std::io::ErrorKind::InvalidData, reason)
        })?;
        Ok(Self(font))
    }

    /// Whether the font has a glyph for every character of a text.
    pub fn has_all(&self, text: &str) -> bool {
        text.nfc().all(|character| self.has(character))
    }

    fn has(&self, character: char) -> bool {
        character.is_whitespace() || self.0.glyph_id(character).0 != 0
    }

    /// A name as it is drawn: a square in place of each character without a glyph, and then the number of the class, so
    /// that names stay different.
    pub(super) fn shown(&self, name: &str, label: usize) -> String {
        let drawn = name.nfc().filter(|character| !character.is_control());
        let drawn: String = drawn
            .map(|character| match self.has(character) {
                true => character,
                false => REPLACEMENT,
            })
            .collect();
        match self.has_all(name) {
            true => drawn,
            false => format!("{drawn} #{label}"),
        }
    }

    /// Width of a text in pixels; `size` is that of a line.
    pub(super) fn width(&self, text: &str, size: f32) -> f32 {
        let end = self
            .layout(text, size)
            .last()
            .map(|(id, x)| x + self.advance(id, size));
        end.unwrap_or_default()
    }

    /// The start of a text that is at most `width` pixels wide, with an ellipsis if it is shortened. `None` if no
    /// character has space.
    pub(super) fn fit(&self, text: &str, size: f32, width: f32) -> Option<String> {
        if self.width(text, size) <= width {
            return Some(text.into());
        }
        let characters: Vec<char> = text.chars().collect();
        (1..characters.len()).rev().find_map(|count| {
            let start: String = characters[..count].iter().collect();
            let short = format!("{}\u{2026}", start.trim_end());
            (self.width(&short, size) <= width).then_some(short)
        })
    }

    fn scale(&self, size: f32) -> PxScale {
        PxScale::from(size * LINE)
    }

    fn advance(&self, glyph: ab_glyph::GlyphId, size: f32) -> f32 {
        self.0.as_scaled(self.scale(size)).h_advance(glyph)
    }

    /// Glyphs with their horizontal positions in pixels.
    fn layout(&self, text: &str, size: f32) -> impl Iterator<Item = (ab_glyph::GlyphId, f32)> {
        let font = self.0.as_scaled(self.scale(size));
        let (mut x, mut last) = (0.0, None);
        text.chars().map(move |character| {
            let glyph = font.glyph_id(character);
            x += last.map_or(0.0, |last| font.h_advance(last) + font.kern(last, glyph));
            last = Some(glyph);
            (glyph, x)
        })
    }

    /// Writes a text into a rectangle, from its left edge and vertically centered by the height of capital letters.
    pub(super) fn write(&self, canvas: &mut Canvas, text: &str, size: f32, at: Rect, ink: [u8; 3]) {
        let scale = self.scale(size);
        let capital = self.0.outline_glyph(self.0.glyph_id('H').with_scale(scale));
        let capital = capital.map_or(size * 0.73, |glyph| glyph.px_bounds().height());
        // On whole pixels, because the edges of small letters are sharper there.
        let baseline = at.y as f32 + ((at.height as f32 + capital) / 2.0).round();
        for (glyph, x) in self.layout(text, size).collect::<Vec<_>>() {
            let placed = glyph.with_scale_and_position(scale, point(at.x as f32 + x, baseline));
            let Some(outline) = self.0.outline_glyph(placed) else {
                continue;
            };
            let bounds = outline.px_bounds();
            let [left, top] = [bounds.min.x as i64, bounds.min.y as i64];
            outline.draw(|x, y, coverage| {
                canvas.blend(
                    left + i64::from(x),
                    top + i64::from(y),
                    ink,
                    coverage.min(1.0),
                );
            });
        }
    }
}

/// Ascent and descent per size of the text.
const LINE: f32 = 1.164;

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::RgbImage;

    #[test]
    fn scripts_without_glyphs_stay_different() {
        let font = Font::embedded();
        for name in [
            "café",
            "Größe",
            "łódź",
            "кошка",
            "γάτα",
            "cafe\u{301}",
            "5 µm · ½",
        ] {
            assert!(font.has_all(name), "{name}");
            assert!(!font.shown(name, 3).contains(['\u{25a1}', '#']), "{name}");
        }
        assert_eq!(font.shown("猫 A", 3), "\u{25a1} A #3");
        assert_ne!(font.shown("猫", 1), font.shown("犬", 2));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), EMBEDDED).unwrap();
        assert!(Font::read(file.path()).unwrap().has_all("é"));
        std::fs::write(file.path(), "no font").unwrap();
        let error = Font::read(file.path()).unwrap_err().to_string();
        assert!(error.contains(".ttf"), "{error}");
    }

    #[test]
    fn texts_fit_and_are_drawn() {
        let font = Font::embedded();
        let whole = font.width("potted plant", 12.0);
        assert!((50.0..90.0).contains(&whole), "{whole}");
        assert_eq!(
            font.fit("potted plant", 12.0, whole).unwrap(),
            "potted plant"
        );
        let short = font.fit("potted plant", 12.0, 40.0).unwrap();
        assert!(
            short.starts_with("po") && short.ends_with('\u{2026}'),
            "{short}"
        );
        assert_eq!(font.fit("potted plant", 12.0, 3.0), None);
        let mut canvas = Canvas::new(RgbImage::new(40, 20));
        let at = Rect {
            x: 2,
            y: 2,
            width: 36,
            height: 16,
        };
        font.write(&mut canvas, "Ag", 12.0, at, [255; 3]);
        let drawn = canvas.into_image();
        let lit = drawn.pixels().filter(|pixel| pixel.0[0] > 128).count();
        assert!((30..200).contains(&lit), "{lit}");
    }
}
