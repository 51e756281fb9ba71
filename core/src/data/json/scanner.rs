//! Scanner that splits a COCO-like JSON file into the elements of its lists without parsing them.

use super::element::{Element, Section};
use super::encoding::open_text;
use super::foreign::{Foreign, Shape};
use super::parse::parse_element;
use std::io::Read;
use std::path::Path;

/// Maximum length of an element in bytes; the largest polygons and masks take some hundred kilobytes.
const LONGEST_ELEMENT: usize = 256 << 20;
const CHUNK: usize = 1 << 18;

/// Calls `each` with every element of the lists of a file, in order. Returns the kind of the
/// file if it is not COCO, and an error with its line and column if it is not JSON.
pub(crate) fn scan(
    path: &Path,
    each: &mut dyn FnMut(Element) -> Result<(), String>,
) -> Result<Option<Foreign>, ScanError> {
    scan_text(open_text(path).map_err(ScanError::Io)?, each)
}

/// As [`scan`], for UTF-8 text.
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

/// Errors of a scan.
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

struct Scanner {
    reader: Box<dyn Read>,
    /// Buffered bytes; those from `at` on are not consumed.
    buffer: Vec<u8>,
    at: usize,
    line: u64,
    /// Offset in the file of the current line's first byte, and of the buffer's first byte.
    line_start: u64,
    offset: u64,
    ended: bool,
}

impl Scanner {
    /// Reads more; returns false at the end of the file.
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

    /// Skips white space and returns the next byte.
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
                    shape.record_element(&element);
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
                    self.list(section, &mut |element| {
                        shape.record_list(&element);
                        each(element)
                    })?;
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
                    shape.record_entry(key, &value);
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

    /// Range of the next value in the buffer; the value is consumed.
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
                    // The escaped byte may lie beyond the end of the buffer.
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
mod tests;
