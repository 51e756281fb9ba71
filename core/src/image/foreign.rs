//! Descriptions of files that are not images.

/// Description of a file without the signature of an image, by its first bytes; `None` if it is unknown.
pub(crate) fn described(start: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(start).trim_start().to_lowercase();
    let is_brand = |brands: &[&[u8]]| {
        start.get(4..8) == Some(b"ftyp")
            && start
                .get(8..12)
                .is_some_and(|brand| brands.contains(&brand))
    };
    Some(if start.is_empty() {
        "the file is empty"
    } else if text.starts_with("version https://git-lfs") {
        "it is a Git LFS pointer; `git lfs pull` downloads the image"
    } else if text.starts_with("<!doctype html") || text.starts_with("<html") {
        "it is an HTML page, as of a failed download"
    } else if text.starts_with("<svg") || text.starts_with("<?xml") {
        "it is an SVG or XML text"
    } else if start.starts_with(b"%PDF") {
        "it is a PDF"
    } else if is_brand(&[b"heic", b"heix", b"hevc", b"mif1", b"msf1"]) {
        "it is HEIC; convert it to JPEG or PNG"
    } else if start.iter().all(|&byte| byte == 0) {
        "its first bytes are zero"
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_images_are_named() {
        let cases: [(&[u8], Option<&str>); 6] = [
            (b"", Some("empty")),
            (
                b"version https://git-lfs.github.com/spec/v1\n",
                Some("Git LFS"),
            ),
            (b"\n<!DOCTYPE html><html>", Some("HTML")),
            (b"\0\0\0\x18ftypheic\0\0\0\0", Some("HEIC")),
            (b"\0\0\0\0", Some("zero")),
            (b"hello", None),
        ];
        for (start, wanted) in cases {
            let found = described(start);
            assert_eq!(found.is_some(), wanted.is_some(), "{found:?}");
            assert!(
                found
                    .unwrap_or_default()
                    .contains(wanted.unwrap_or_default())
            );
        }
    }
}
