//! Parser of single elements of a JSON file, which accepts NaN and Infinity as Python writes them.

use super::encoding::not_utf8;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// Parses an element. A file that is not JSON is an error; a value of another type than `T` is `Ok(Err)`
/// with the reason.
pub(crate) fn parse_element<T: DeserializeOwned>(
    text: &[u8],
    (line, column): (u64, u64),
) -> Result<Result<T, String>, String> {
    let parsed = serde_json::from_slice(text).or_else(|error| match without_nan(text) {
        Some(cleaned) => serde_json::from_slice(&cleaned),
        None => Err(error),
    });
    parsed.map(Ok).or_else(|error| {
        let text_line = error.line() as u64;
        let column = error.column() as u64 + if text_line == 1 { column - 1 } else { 0 };
        let line = line + text_line - 1;
        let full = error.to_string();
        let reason = full
            .rsplit_once(" at line ")
            .map_or(full.as_str(), |(reason, _)| reason);
        match error.classify() {
            Category::Data => Ok(Err(reason.into())),
            _ if reason.contains("unicode code point") => Err(not_utf8_at(line, column)),
            _ => Err(format!("{reason} at line {line} column {column}")),
        }
    })
}

fn not_utf8_at(line: u64, column: u64) -> String {
    format!("{} (line {line})", not_utf8(column))
}

/// The text with NaN and Infinity, which Python writes, replaced by null outside strings; `None` if it contains
/// none.
fn without_nan(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let (mut at, mut found) = (0, false);
    while at < text.len() {
        if text[at] == b'"' {
            let end = at + string_end(&text[at..]).unwrap_or(text.len() - at);
            out.extend(&text[at..end]);
            at = end;
            continue;
        }
        let rest = &text[at..];
        let word = [&b"-Infinity"[..], b"Infinity", b"NaN"]
            .into_iter()
            .find(|word| rest.starts_with(word));
        match word {
            Some(word) => {
                out.extend(b"null");
                (at, found) = (at + word.len(), true);
            }
            None => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    found.then_some(out)
}

/// Length of the string literal at the start of `text`; `None` if it does not end.
fn string_end(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_becomes_null_outside_strings_only() {
        let text = br#"{"a": NaN, "NaN \" Infinity": [-Infinity, 1]}"#;
        let wanted = br#"{"a": null, "NaN \" Infinity": [null, 1]}"#;
        assert_eq!(without_nan(text).unwrap(), wanted);
        assert_eq!(without_nan(b"[\"NaN\"]"), None);
    }
}
