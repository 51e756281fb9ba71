//! Splits a COCO-like JSON file into the elements of its lists without parsing them.

use super::element::{Element, Section};
use super::encoding::{not_utf8, open_text};
use super::foreign::{Foreign, Shape};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use std::io::Read;
use std::path::Path;

/// Longest element; the largest polygons and masks take some hundred kilobytes.
const LONGEST_ELEMENT: usize = 256 << 20;
const CHUNK: usize = 1 << 18;

/// Calls `each` with every element of the lists of a file, in their order. Returns what the file seems to
/// be where it is not COCO, and the error with its line and column where it is not JSON.
pub(crate) fn scan(
    path: &Path,
    each: &mut dyn FnMut(Element) -> Result<(), String>,
) -> Result<Option<Foreign>, ScanError> {
    scan_text(open_text(path).map_err(ScanError::Io)?, each)
}

/// As [`scan`], from UTF-8 text.
pub(crate) fn scan_text(
    reader: Box<dyn Read>,
    each: &mut dyn FnMut(Element) -> Result<(), String>,
) -> Result<Option<Foreign>, ScanError> {
    let mut scanner = Scanner {
        reader,
        buffer: Vec::new(),
        at: 0,
        line: 1,
        line_start: 0,
        offset: 0,
        ended: false,
    };
    scanner.file(each)
}

/// Why a file could not be scanned.
#[derive(Debug)]
pub(crate) enum ScanError {
    Io(std::io::Error),
    Json(String),
}

impl From<String> for ScanError {
    fn from(reason: String) -> Self {
        Self::Json(reason)
    }
}

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

/// The text with NaN and Infinity, which Python writes, replaced by null outside strings; `None` where there
/// are none.
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

/// Length of the string literal that `text` begins with; `None` where it does not end.
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

struct Scanner {
    reader: Box<dyn Read>,
    /// Bytes that are not used up, from `at`.
    buffer: Vec<u8>,
    at: usize,
    line: u64,
    /// Offset in the file of the current line's first byte, and of the buffer's first byte.
    line_start: u64,
    offset: u64,
    ended: bool,
}

impl Scanner {
    /// Reads more; false at the end of the file.
    fn fill(&mut self) -> Result<bool, ScanError> {
        if self.ended {
            return Ok(false);
        }
        if self.at > CHUNK {
            self.buffer.drain(..self.at);
            self.offset += self.at as u64;
            self.at = 0;
        }
        let start = self.buffer.len();
        self.buffer.resize(start + CHUNK, 0);
        let count = loop {
            match self.reader.read(&mut self.buffer[start..]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.map_err(ScanError::Io)?,
            }
        };
        self.buffer.truncate(start + count);
        self.ended = count == 0;
        Ok(count > 0)
    }

    fn column(&self) -> u64 {
        self.offset + self.at as u64 - self.line_start + 1
    }

    fn error(&self, reason: &str) -> ScanError {
        ScanError::Json(format!(
            "{reason} at line {} column {}",
            self.line,
            self.column()
        ))
    }

    /// Skips white space; the next byte.
    fn peek(&mut self) -> Result<Option<u8>, ScanError> {
        loop {
            match self.buffer.get(self.at).copied() {
                Some(b'\n') => {
                    self.at += 1;
                    self.line += 1;
                    self.line_start = self.offset + self.at as u64;
                }
                Some(b' ' | b'\t' | b'\r') => self.at += 1,
                Some(byte) => return Ok(Some(byte)),
                None if !self.fill()? => return Ok(None),
                None => {}
            }
        }
    }

    fn next_is(&mut self, wanted: u8) -> Result<bool, ScanError> {
        let found = self.peek()? == Some(wanted);
        self.at += usize::from(found);
        Ok(found)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), ScanError> {
        if self.next_is(wanted)? {
            return Ok(());
        }
        let wanted = wanted as char;
        Err(match self.peek()? {
            None => self.error(&format!("the file ends where `{wanted}` is expected")),
            Some(_) => self.error(&format!("`{wanted}` is expected")),
        })
    }

    fn file(
        &mut self,
        each: &mut dyn FnMut(Element) -> Result<(), String>,
    ) -> Result<Option<Foreign>, ScanError> {
        let mut shape = Shape::default();
        match self.peek()? {
            None => return Err(self.error("the file is empty")),
            Some(b'[') => {
                shape.is_list = true;
                self.list(Section::Top, &mut |element| {
                    shape.see_element(&element);
                    each(element)
                })?;
            }
            Some(b'{') => self.object(&mut shape, each)?,
            Some(_) => return Err(self.error("the file does not begin with `{` or `[`")),
        }
        match self.peek()? {
            None => Ok(shape.foreign()),
            Some(_) => Err(self.error("trailing characters")),
        }
    }

    fn object(
        &mut self,
        shape: &mut Shape,
        each: &mut dyn FnMut(Element) -> Result<(), String>,
    ) -> Result<(), ScanError> {
        self.expect(b'{')?;
        if self.next_is(b'}')? {
            return Ok(());
        }
        loop {
            if self.peek()? != Some(b'"') {
                return Err(self.error("a key in quotes is expected"));
            }
            let (line, column) = (self.line, self.column());
            let key = self.value()?;
            let key: String = parse_element(&key, (line, column))?.map_err(ScanError::Json)?;
            self.expect(b':')?;
            match Section::named(&key) {
                Some(section) if self.peek()? == Some(b'[') => {
                    if shape.keys.contains(&key) {
                        return Err(self.error(&format!("duplicate field `{key}`")));
                    }
                    self.list(section, each)?;
                    shape.keys.push(key);
                }
                Some(_) => {
                    let value = self.value()?;
                    if value != b"null" {
                        return Err(self.error(&format!("`{key}` is not a list")));
                    }
                    shape.keys.push(key);
                }
                None => {
                    let value = self.value()?;
                    shape.see_entry(key, &value);
                }
            }
            if self.next_is(b'}')? {
                return Ok(());
            }
            self.expect(b',')?;
            if self.peek()? == Some(b'}') {
                return Err(self.error("trailing comma"));
            }
        }
    }

    fn list(
        &mut self,
        section: Section,
        each: &mut dyn FnMut(Element) -> Result<(), String>,
    ) -> Result<(), ScanError> {
        self.expect(b'[')?;
        if self.next_is(b']')? {
            return Ok(());
        }
        for index in 0.. {
            self.peek()?;
            let (line, column) = (self.line, self.column());
            let (start, end) = self.span()?;
            each(Element {
                section,
                index,
                text: &self.buffer[start..end],
                line,
                column,
            })?;
            if self.next_is(b']')? {
                return Ok(());
            }
            self.expect(b',')?;
            if self.peek()? == Some(b']') {
                return Err(self.error("trailing comma"));
            }
        }
        Ok(())
    }

    /// The text of the next value.
    fn value(&mut self) -> Result<Vec<u8>, ScanError> {
        let (start, end) = self.span()?;
        Ok(self.buffer[start..end].to_vec())
    }

    /// Where the next value lies in the buffer; it is used up.
    fn span(&mut self) -> Result<(usize, usize), ScanError> {
        if self.peek()?.is_none() {
            return Err(self.error("the file ends where a value is expected"));
        }
        // Bytes before `end` belong to the value.
        let (mut end, mut depth, mut in_string) = (self.at, 0usize, false);
        loop {
            let Some(&byte) = self.buffer.get(end) else {
                let used = end - self.at;
                if used > LONGEST_ELEMENT {
                    return Err(self.error("a value of more than 256 MB"));
                }
                if self.fill()? {
                    end = self.at + used;
                    continue;
                }
                match depth == 0 && !in_string && used > 0 {
                    true => break,
                    false => {
                        self.at = self.buffer.len();
                        return Err(self.error("EOF while parsing a value: the file is cut off"));
                    }
                }
            };
            end += 1;
            if in_string {
                match byte {
                    // The escaped byte may lie behind the end of the buffer.
                    b'\\' => {
                        if end >= self.buffer.len() {
                            let used = end - self.at;
                            self.fill()?;
                            end = self.at + used;
                        }
                        end += 1;
                    }
                    b'"' => {
                        in_string = false;
                        if depth == 0 {
                            break;
                        }
                    }
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => in_string = true,
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth > 1 => depth -= 1,
                b'}' | b']' if depth == 1 => break,
                b'}' | b']' | b',' if depth == 0 => {
                    end -= 1;
                    break;
                }
                b' ' | b'\n' | b'\r' | b'\t' if depth == 0 => {
                    end -= 1;
                    break;
                }
                _ => {}
            }
        }
        let end = end.min(self.buffer.len());
        if end == self.at {
            return Err(self.error("a value is expected"));
        }
        let span = (self.at, end);
        self.count_lines(end);
        self.at = end;
        Ok(span)
    }

    fn count_lines(&mut self, end: usize) {
        let newline = |byte: &u8| *byte == b'\n';
        let text = &self.buffer[self.at..end];
        if let Some(last) = text.iter().rposition(newline) {
            self.line += text.iter().filter(|byte| newline(byte)).count() as u64;
            self.line_start = self.offset + (self.at + last) as u64 + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(text: &str) -> Result<Vec<String>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut found = Vec::new();
        let result = scan(file.path(), &mut |element| {
            let text = String::from_utf8_lossy(element.text);
            found.push(format!("{:?} {}: {text}", element.section, element.index));
            Ok(())
        });
        match result {
            Ok(_) => Ok(found),
            Err(ScanError::Json(reason)) => Err(reason),
            Err(ScanError::Io(error)) => Err(error.to_string()),
        }
    }

    #[test]
    fn lists_are_split_into_their_elements() {
        let text = "{\"info\": {\"a\": [\"]}\"]}, \"images\" : [ {\"b\\\"\": [1, {}]} ,\n 7, null],\n\"annotations\":[]}";
        let wanted = [
            "Images 0: {\"b\\\"\": [1, {}]}",
            "Images 1: 7",
            "Images 2: null",
        ];
        assert_eq!(scanned(text).unwrap(), wanted);
        assert_eq!(scanned("[1, [2]]").unwrap(), ["Top 0: 1", "Top 1: [2]"]);
    }

    #[test]
    fn elements_across_buffers_are_whole() {
        let long = format!("\"{}\\\"x\"", "a".repeat(CHUNK - 3));
        let many: Vec<String> = (0..5).map(|_| long.clone()).collect();
        let found = scanned(&format!("[{}]", many.join(","))).unwrap();
        assert_eq!(found.len(), 5);
        for (index, text) in found.iter().enumerate() {
            assert_eq!(text, &format!("Top {index}: {long}"));
        }
    }

    #[test]
    fn errors_have_line_and_column() {
        let cases = [
            ("", "empty"),
            ("x", "does not begin"),
            ("{\"images\": [\n{\"id\": 1}, {\"id", "line 2"),
            ("{\"images\": [1],\n}", "trailing comma at line 2"),
            ("{\"images\": [1,]}", "trailing comma"),
            ("{\"images\": [1]} 2", "trailing characters"),
            (
                "{\"images\": [1], \"images\": []}",
                "duplicate field `images`",
            ),
            ("{\"images\": 7}", "not a list"),
            ("{\"images\": [1", "ends"),
            ("{images: [1]}", "a key in quotes"),
        ];
        for (text, wanted) in cases {
            let error = scanned(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
            assert!(error.contains("line "), "{text}: {error}");
        }
    }

    #[test]
    fn nan_becomes_null_outside_strings_only() {
        let text = br#"{"a": NaN, "NaN \" Infinity": [-Infinity, 1]}"#;
        let wanted = br#"{"a": null, "NaN \" Infinity": [null, 1]}"#;
        assert_eq!(without_nan(text).unwrap(), wanted);
        assert_eq!(without_nan(b"[\"NaN\"]"), None);
    }
}
