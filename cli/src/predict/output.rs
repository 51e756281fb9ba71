//! JSON lists that are valid at any moment: each addition is one write that ends with the closing bracket.

use anyhow::{Context, Result, bail};
use serde_json::value::RawValue;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A JSON list on disk, to which elements are appended.
pub struct JsonList {
    file: File,
    path: PathBuf,
    /// Length of the file without its closing bracket.
    length: u64,
    is_empty: bool,
}

const END: &[u8] = b"\n]";

impl JsonList {
    /// Creates a list with some elements.
    pub fn create(path: &Path, elements: &[Box<RawValue>]) -> Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path);
        let mut list = Self {
            file: file.with_context(|| path.display().to_string())?,
            path: path.into(),
            length: 1,
            is_empty: true,
        };
        list.write(0, b"[\n]")?;
        let elements: Vec<String> = elements
            .iter()
            .map(|element| element.get().to_string())
            .collect();
        list.push(&elements)?;
        Ok(list)
    }

    /// The elements of an existing list; empty if there is no file.
    pub fn read(path: &Path) -> Result<Vec<Box<RawValue>>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        match serde_json::from_str(&text) {
            Ok(elements) => Ok(elements),
            Err(error) => bail!(
                "{}: {error}; delete the folder and start again",
                path.display()
            ),
        }
    }

    /// Appends elements, each of them JSON.
    pub fn push(&mut self, elements: &[String]) -> Result<()> {
        if elements.is_empty() {
            return Ok(());
        }
        let separator = if self.is_empty { "\n" } else { ",\n" };
        let text = format!("{separator}{}", elements.join(",\n"));
        let bytes = [text.as_bytes(), END].concat();
        if let Err(error) = self.write(self.length, &bytes) {
            // A full disk still has space for the bytes that were there before.
            self.file.set_len(self.length).ok();
            self.write(self.length, END).ok();
            return Err(error);
        }
        self.length += text.len() as u64;
        self.is_empty = false;
        Ok(())
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let written = self
            .file
            .seek(SeekFrom::Start(at))
            .and_then(|_| self.file.write_all(bytes));
        written.with_context(|| self.path.display().to_string())
    }

    /// The whole text.
    pub fn text(&self) -> Result<String> {
        std::fs::read_to_string(&self.path).with_context(|| self.path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_list_is_json_after_every_addition() {
        let path = std::env::temp_dir().join(format!("mrcnn-list-{}.json", std::process::id()));
        let mut list = JsonList::create(&path, &[]).unwrap();
        let parsed =
            |list: &JsonList| serde_json::from_str::<Value>(&list.text().unwrap()).unwrap();
        assert_eq!(parsed(&list), json!([]));
        let additions: [&[&str]; 4] = [&["1"], &[], &["{\"a\": 2}", "3"], &["[4]"]];
        for addition in additions {
            let addition: Vec<String> = addition.iter().map(ToString::to_string).collect();
            list.push(&addition).unwrap();
            parsed(&list);
        }
        assert_eq!(parsed(&list), json!([1, {"a": 2}, 3, [4]]));
        let elements = JsonList::read(&path).unwrap();
        let list = JsonList::create(&path, &elements[1..]).unwrap();
        assert_eq!(parsed(&list), json!([{"a": 2}, 3, [4]]));
        std::fs::remove_file(&path).unwrap();
        assert!(JsonList::read(&path).unwrap().is_empty());
    }
}
