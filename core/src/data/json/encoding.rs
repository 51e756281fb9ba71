//! Text encodings: UTF-8 with or without a byte order mark, and UTF-16.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

/// Bytes read from the disk at once.
const BUFFER: usize = 1 << 18;

/// Opens a regular file as UTF-8 text. A byte order mark is skipped and UTF-16 is converted; special files
/// such as pipes and devices are rejected, since they may never end.
pub(crate) fn open_text(path: &Path) -> io::Result<Box<dyn Read>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file; give a file"));
    }
    decode_text(BufReader::with_capacity(BUFFER, File::open(path)?))
}

/// Decodes the bytes of a text file to UTF-8; see [`open_text`].
pub(crate) fn decode_text(mut reader: impl BufRead + 'static) -> io::Result<Box<dyn Read>> {
    let start = reader.fill_buf()?;
    let (mark, utf16) = match start {
        [0xEF, 0xBB, 0xBF, ..] => (3, None),
        [0xFF, 0xFE, ..] => (2, Some(u16::from_le_bytes as fn([u8; 2]) -> u16)),
        [0xFE, 0xFF, ..] => (2, Some(u16::from_be_bytes as fn([u8; 2]) -> u16)),
        // The start of ASCII text in UTF-16 without a mark.
        [first, 0, _, 0, ..] if *first != 0 => (0, Some(u16::from_le_bytes as fn([u8; 2]) -> u16)),
        [0, first, 0, _, ..] if *first != 0 => (0, Some(u16::from_be_bytes as fn([u8; 2]) -> u16)),
        _ => (0, None),
    };
    reader.consume(mark);
    let Some(unit) = utf16 else {
        return Ok(Box::new(reader));
    };
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    let units = bytes.as_chunks::<2>().0.iter().map(|pair| unit(*pair));
    let text: Result<String, _> = char::decode_utf16(units).collect();
    let text = text.map_err(|_| io::Error::other("broken UTF-16; save the file as UTF-8"))?;
    Ok(Box::new(Cursor::new(text.into_bytes())))
}

/// Reads a whole text file; see [`open_text`] for the encodings.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    open_text(path)?.read_to_end(&mut bytes)?;
    String::from_utf8(bytes)
        .map_err(|error| io::Error::other(not_utf8(error.utf8_error().valid_up_to() as u64)))
}

/// The error message for text in another encoding than UTF-8 or UTF-16.
pub(super) fn not_utf8(offset: u64) -> String {
    format!("byte {offset} is not UTF-8 text; save the file as UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_marks_and_utf16_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let text = "{\"name\": \"\u{5706}\"}";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let variants = [
            text.as_bytes().to_vec(),
            [b"\xEF\xBB\xBF", text.as_bytes()].concat(),
            [b"\xFF\xFE", &little[..]].concat(),
            [b"\xFE\xFF", &big[..]].concat(),
            little,
            big,
        ];
        for bytes in variants {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read_text(&path).unwrap(), text);
        }
        // GBK.
        std::fs::write(&path, b"{\"name\": \"\xd4\x42\"}").unwrap();
        let error = read_text(&path).unwrap_err().to_string();
        assert!(error.contains("byte 10 is not UTF-8"), "{error}");
        assert!(
            read_text(folder.path())
                .unwrap_err()
                .to_string()
                .contains("regular file")
        );
    }
}
