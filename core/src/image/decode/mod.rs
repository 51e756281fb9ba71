//! Decoding of image files, with their EXIF orientation applied.

mod depth;
mod error;

pub use error::DecodeError;

use super::foreign::described;
use super::{frames, jpeg};
use crate::config::Depth;
use ::image::{
    DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage, metadata::Orientation,
};
use depth::{stretch, used_bits};
use error::format_error;
use std::io::{BufRead, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

/// Maximum number of pixels of an image, because a small file can declare a size of gigabytes.
pub const MAX_PIXELS: u64 = 100_000_000;

/// The limit of [`decode_large`].
pub const MAX_PIXELS_LARGE: u64 = 250_000_000;

/// A decoded image with metadata from its file.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The pixels, with the EXIF orientation applied.
    pub image: RgbImage,
    /// EXIF orientation, 1 to 8; 1 is upright.
    pub orientation: u8,
    /// Significant bits of a 16-bit image, at least 8; `None` for other images.
    pub used_bits: Option<u32>,
    /// Whether the file has more frames or pages, which are not read. `false` if this was not checked.
    pub has_more: bool,
}

/// Reads an image as RGB: EXIF orientation applied, gray expanded, 16 bits reduced to 8, transparency dropped.
///
/// Incomplete files, such as truncated JPEGs, are errors.
pub fn decode(path: impl AsRef<Path>) -> Result<RgbImage, DecodeError> {
    let path = path.as_ref();
    Ok(decode_from(open(path)?, path, Depth::Full, Reading::Quick)?.image)
}

/// As [`decode`], with a choice of the conversion from 16 bits to 8, and with metadata. Also detects
/// JPEGs that end early although they have an end marker.
pub fn decode_with(path: impl AsRef<Path>, depth: Depth) -> Result<Decoded, DecodeError> {
    let path = path.as_ref();
    decode_whole(open(path)?, path, depth, Reading::Thorough)
}

/// As [`decode_with`], with up to 250 megapixels: for single images, which may be predicted in tiles.
pub fn decode_large(path: impl AsRef<Path>, depth: Depth) -> Result<Decoded, DecodeError> {
    let path = path.as_ref();
    decode_whole(open(path)?, path, depth, Reading::Large)
}

/// As [`decode_large`], from memory; `name` is the file's name in errors.
pub fn decode_large_bytes(bytes: &[u8], name: &Path, depth: Depth) -> Result<Decoded, DecodeError> {
    decode_whole(Cursor::new(bytes), name, depth, Reading::Large)
}

/// Checks and limits of reading an image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Without the check for JPEGs that end early.
    Quick,
    /// With that check.
    Thorough,
    /// With that check, and with more pixels.
    Large,
}

impl Reading {
    fn max_pixels(self) -> u64 {
        match self {
            Self::Large => MAX_PIXELS_LARGE,
            Self::Quick | Self::Thorough => MAX_PIXELS,
        }
    }
}

fn decode_whole(
    mut file: impl BufRead + Seek,
    path: &Path,
    depth: Depth,
    reading: Reading,
) -> Result<Decoded, DecodeError> {
    let has_more = frames::has_more(&mut file);
    file.rewind().map_err(|source| DecodeError::Io {
        path: path.into(),
        source,
    })?;
    let decoded = decode_from(file, path, depth, reading)?;
    Ok(Decoded {
        has_more,
        ..decoded
    })
}

/// As [`decode_with`], without the check for JPEGs that end early: for images that were checked before.
pub(crate) fn decode_quick(path: &Path, depth: Depth) -> Result<Decoded, DecodeError> {
    decode_from(open(path)?, path, depth, Reading::Quick)
}

/// As [`decode`], from memory; `name` is the file's name in errors.
pub fn decode_bytes(bytes: &[u8], name: &Path) -> Result<RgbImage, DecodeError> {
    Ok(decode_from(Cursor::new(bytes), name, Depth::Full, Reading::Quick)?.image)
}

/// Whether the first bytes of a file are those of a supported image format.
pub fn is_image(path: &Path) -> bool {
    let mut start = [0; 32];
    let read = std::fs::File::open(path).and_then(|mut file| {
        let mut length = 0;
        loop {
            match file.read(&mut start[length..])? {
                0 => return Ok(length),
                count => length += count,
            }
        }
    });
    let Ok(length) = read else { return false };
    let format = ::image::guess_format(&start[..length]);
    format.is_ok_and(|format| READ.contains(&format))
}

const READ: [ImageFormat; 5] = [
    ImageFormat::Png,
    ImageFormat::Jpeg,
    ImageFormat::WebP,
    ImageFormat::Tiff,
    ImageFormat::Bmp,
];

/// Width and height in pixels, EXIF orientation applied, without decoding the pixels.
pub fn dimensions(path: &Path) -> Result<(u32, u32), DecodeError> {
    oriented(decoder(open(path)?, path, MAX_PIXELS)?)
}

/// As [`dimensions`], from memory, to bound the work before an untrusted image is decoded. `name`
/// is the file's name in errors.
pub fn dimensions_bytes(bytes: &[u8], name: &Path) -> Result<(u32, u32), DecodeError> {
    oriented(decoder(Cursor::new(bytes), name, MAX_PIXELS)?)
}

/// Whether the EXIF orientation of a file swaps its width and height, without decoding the pixels.
pub(crate) fn has_swapped_sides(path: &Path) -> Result<bool, DecodeError> {
    let mut decoder = decoder(open(path)?, path, MAX_PIXELS)?;
    Ok(is_turned(orientation_of(&mut decoder)))
}

fn orientation_of(decoder: &mut impl ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

fn oriented(mut decoder: impl ImageDecoder) -> Result<(u32, u32), DecodeError> {
    let (width, height) = decoder.dimensions();
    Ok(if is_turned(orientation_of(&mut decoder)) {
        (height, width)
    } else {
        (width, height)
    })
}

fn open(path: &Path) -> Result<std::io::BufReader<std::fs::File>, DecodeError> {
    let io_error = |source| DecodeError::Io {
        path: path.into(),
        source,
    };
    // Reading a pipe may never end, and a folder is not an image.
    if !std::fs::metadata(path).map_err(io_error)?.is_file() {
        return Err(io_error(std::io::Error::other("not a regular file")));
    }
    std::fs::File::open(path)
        .map(std::io::BufReader::new)
        .map_err(io_error)
}

fn decoder<'a, R: BufRead + Seek + 'a>(
    reader: R,
    path: &Path,
    most: u64,
) -> Result<impl ImageDecoder + 'a, DecodeError> {
    let mut reader = ImageReader::new(reader)
        .with_guessed_format()
        .map_err(|e| format_error(path, &e))?;
    if reader.format().is_none() {
        let (mut start, mut reader) = (Vec::new(), reader.into_inner());
        let read = reader
            .rewind()
            .and_then(|()| reader.take(64).read_to_end(&mut start));
        let what = read.ok().and_then(|_| described(&start));
        let reason = what.unwrap_or("its format could not be determined");
        return Err(format_error(path, &reason));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(1 << 30);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|e| format_error(path, &e))?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 || width as u64 * height as u64 > most {
        return Err(DecodeError::Size {
            path: path.into(),
            width,
            height,
            most,
        });
    }
    Ok(decoder)
}

fn decode_from<R: BufRead + Seek>(
    mut reader: R,
    path: &Path,
    depth: Depth,
    reading: Reading,
) -> Result<Decoded, DecodeError> {
    let io_error = |source| DecodeError::Io {
        path: path.into(),
        source,
    };
    let mut start = [0; 3];
    let is_jpeg = reader.read_exact(&mut start).is_ok() && start == [0xFF, 0xD8, 0xFF];
    reader.seek(SeekFrom::Start(0)).map_err(io_error)?;
    if !is_jpeg {
        return decode_any(reader, path, depth, reading);
    }
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(io_error)?;
    let mut header = decoder(Cursor::new(&bytes[..]), path, reading.max_pixels())?;
    let orientation = orientation_of(&mut header);
    drop(header);
    let whole = jpeg::decode_whole(&bytes).map_err(|reason| format_error(path, &reason))?;
    if reading != Reading::Quick {
        jpeg::check_blocks(&bytes).map_err(|reason| format_error(path, &reason))?;
    }
    match whole {
        Some(image) => Ok(oriented_rgb(image, orientation, depth)),
        None => decode_any(Cursor::new(&bytes[..]), path, depth, reading),
    }
}

fn decode_any<R: BufRead + Seek>(
    file: R,
    path: &Path,
    depth: Depth,
    reading: Reading,
) -> Result<Decoded, DecodeError> {
    let mut decoder = decoder(file, path, reading.max_pixels())?;
    let orientation = orientation_of(&mut decoder);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| format_error(path, &error))?;
    Ok(oriented_rgb(image, orientation, depth))
}

fn oriented_rgb(mut image: DynamicImage, orientation: Orientation, depth: Depth) -> Decoded {
    let used_bits = used_bits(&image);
    if let (Depth::Auto, Some(bits)) = (depth, used_bits) {
        stretch(&mut image, 16 - bits);
    }
    image.apply_orientation(orientation);
    Decoded {
        image: image.into_rgb8(),
        orientation: orientation.to_exif(),
        used_bits,
        has_more: false,
    }
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

    /// A JPEG of 20x10 pixels with the EXIF orientation of a quarter turn clockwise.
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
        for broken in [&bytes[..0], &bytes[..60], b"not an image"] {
            let error = decode_bytes(broken, Path::new("bad.jpg")).unwrap_err();
            assert!(error.to_string().contains("bad.jpg"), "{error}");
        }
    }

    #[test]
    fn narrow_16_bit_images_are_recognized_and_scaled() {
        let folder = tempfile::tempdir().unwrap();
        let save = |name: &str, factor: u16| {
            let gray = |x: u32, _: u32| ::image::Luma([(x as u16) * factor]);
            let image = ::image::ImageBuffer::from_fn(256, 2, gray);
            let path = folder.path().join(name);
            DynamicImage::ImageLuma16(image).save(&path).unwrap();
            path
        };
        let (twelve, full) = (save("twelve.png", 16), save("full.tiff", 257));
        let decoded = decode_with(&twelve, Depth::Full).unwrap();
        assert_eq!(
            (decoded.used_bits, decoded.image.get_pixel(255, 0).0),
            (Some(12), [16; 3])
        );
        let decoded = decode_with(&twelve, Depth::Auto).unwrap();
        assert_eq!(decoded.image.get_pixel(255, 0).0, [254; 3]);
        let decoded = decode_with(&full, Depth::Auto).unwrap();
        assert_eq!(
            (decoded.used_bits, decoded.image.get_pixel(100, 1).0),
            (Some(16), [100; 3])
        );
        assert!(is_image(&full) && !is_image(folder.path()));
    }
}
