//! Decoding picture files, with the orientation their EXIF data asks for.

use ::image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage, metadata::Orientation};
use std::io::{BufRead, Cursor, Seek};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Pictures with more pixels are refused: a small file can claim gigabytes.
pub const MAX_PIXELS: u64 = 100_000_000;

/// Why a picture could not be read.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// The file cannot be opened.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no picture, or a damaged one.
    #[error("{path}: not a readable picture ({reason}); PNG, JPEG, BMP and WebP are read")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A [`DatasetSource`](crate::data::DatasetSource) could not give the picture.
    #[error("{path}: its data set cannot give the picture: {reason}")]
    Source {
        /// What stands for the picture.
        path: PathBuf,
        /// What the source said.
        reason: String,
    },
    /// The picture has no pixels or too many.
    #[error("{path}: {width}x{height} pixels; 1 to 100 megapixels are read")]
    Size {
        /// The file.
        path: PathBuf,
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
}

/// Reads a picture as RGB: EXIF orientation applied, grey widened, 16 bits cut to 8, transparency
/// dropped.
pub fn decode(path: impl AsRef<Path>) -> Result<RgbImage, DecodeError> {
    let path = path.as_ref();
    decode_from(open(path)?, path)
}

/// As [`decode`], from memory; `name` stands for the file in errors.
pub fn decode_bytes(bytes: &[u8], name: &Path) -> Result<RgbImage, DecodeError> {
    decode_from(Cursor::new(bytes), name)
}

/// Width and height in pixels, EXIF orientation applied, without decoding the pixels.
pub fn dimensions(path: &Path) -> Result<(u32, u32), DecodeError> {
    oriented(decoder(open(path)?, path)?)
}

/// As [`dimensions`], from memory: what to ask before a picture of a stranger is decoded. `name` stands
/// for the file in errors.
pub fn dimensions_bytes(bytes: &[u8], name: &Path) -> Result<(u32, u32), DecodeError> {
    oriented(decoder(Cursor::new(bytes), name)?)
}

fn oriented(mut decoder: impl ImageDecoder) -> Result<(u32, u32), DecodeError> {
    let (width, height) = decoder.dimensions();
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok(if is_turned(orientation) {
        (height, width)
    } else {
        (width, height)
    })
}

fn open(path: &Path) -> Result<std::io::BufReader<std::fs::File>, DecodeError> {
    std::fs::File::open(path)
        .map(std::io::BufReader::new)
        .map_err(|source| DecodeError::Io {
            path: path.into(),
            source,
        })
}

fn decoder<'a, R: BufRead + Seek + 'a>(
    reader: R,
    path: &Path,
) -> Result<impl ImageDecoder + 'a, DecodeError> {
    let format_error = |reason: String| DecodeError::Format {
        path: path.into(),
        reason,
    };
    let mut reader = ImageReader::new(reader)
        .with_guessed_format()
        .map_err(|e| format_error(one_line(&e)))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(1 << 30);
    reader.limits(limits);
    let decoder = reader
        .into_decoder()
        .map_err(|e| format_error(one_line(&e)))?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 || width as u64 * height as u64 > MAX_PIXELS {
        return Err(DecodeError::Size {
            path: path.into(),
            width,
            height,
        });
    }
    Ok(decoder)
}

fn decode_from<R: BufRead + Seek>(reader: R, path: &Path) -> Result<RgbImage, DecodeError> {
    let mut decoder = decoder(reader, path)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| DecodeError::Format {
        path: path.into(),
        reason: one_line(&error),
    })?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// Some decoders explain themselves over several lines.
fn one_line(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_turned(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::codecs::jpeg::JpegEncoder;
    use ::image::{ExtendedColorType, ImageEncoder};

    /// A JPEG of 20x10 pixels whose EXIF says "turn a quarter clockwise".
    fn turned_jpeg() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        let exif = [
            b"II*\0\x08\0\0\0".as_slice(),
            b"\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0",
        ]
        .concat();
        encoder.set_exif_metadata(exif).unwrap();
        encoder
            .write_image(&[128; 20 * 10 * 3], 20, 10, ExtendedColorType::Rgb8)
            .unwrap();
        bytes
    }

    #[test]
    fn exif_orientation_is_applied() {
        let bytes = turned_jpeg();
        let image = decode_bytes(&bytes, Path::new("turned.jpg")).unwrap();
        assert_eq!(image.dimensions(), (10, 20));
        let file = tempfile::NamedTempFile::with_suffix(".jpg").unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        assert_eq!(dimensions(file.path()).unwrap(), (10, 20));
        let name = Path::new("turned.jpg");
        assert_eq!(dimensions_bytes(&bytes, name).unwrap(), (10, 20));
    }

    #[test]
    fn damaged_files_are_named() {
        let bytes = turned_jpeg();
        for broken in [&bytes[..0], &bytes[..60], b"not a picture"] {
            let error = decode_bytes(broken, Path::new("bad.jpg")).unwrap_err();
            assert!(error.to_string().contains("bad.jpg"), "{error}");
        }
    }
}
