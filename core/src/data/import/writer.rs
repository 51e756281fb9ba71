//! Writer of a split in COCO's folder layout.

use super::spec::{ImportError, Imported};
use crate::budget::excerpt;
use crate::data::locate::Locator;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::io::{BufWriter, Error, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A mask in COCO's format.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Mask {
    Polygons(Vec<Vec<f64>>),
    Rle { size: [u32; 2], counts: String },
    Runs { size: [u32; 2], counts: Vec<u32> },
}

impl Mask {
    pub fn rle(mask: &vernier_mask::Rle) -> Self {
        let crate::data::RleRecord { size, counts } = crate::data::RleRecord::new(mask);
        Self::Rle { size, counts }
    }
}

#[derive(Serialize)]
struct Image {
    id: u64,
    file_name: String,
    width: u32,
    height: u32,
}

/// An object of an image.
#[derive(Serialize)]
pub(super) struct Object {
    pub id: u64,
    pub image_id: u64,
    pub category_id: u64,
    /// `x, y, width, height` in pixels.
    pub bbox: [f64; 4],
    pub area: f64,
    pub iscrowd: u8,
    pub segmentation: Mask,
}

#[derive(Serialize)]
pub(super) struct Category {
    pub id: u64,
    pub name: String,
}

/// Creates the image `to` with `contents`, as a link to `from` if there is such a file and the file system allows it.
/// Existing identical images, such as those of an interrupted import, are kept; another file
/// of that name is an error, because it may be the only copy.
fn place(
    to: &Path,
    contents: &dyn Fn() -> std::io::Result<Vec<u8>>,
    from: Option<&Path>,
) -> std::io::Result<()> {
    if to.exists() {
        return match std::fs::read(to)? == contents()? {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::AlreadyExists,
                "another image has this name already: move it away, or write to another folder",
            )),
        };
    }
    if from.is_some_and(|from| std::fs::hard_link(from, to).is_ok()) {
        return Ok(());
    }
    // Written atomically.
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::write(&partial, contents()?)?;
    std::fs::rename(&partial, to)
}

/// A split that is being written: images are written immediately, annotations at the end.
pub(super) struct Writer {
    split: String,
    annotations: PathBuf,
    folder: PathBuf,
    images: Vec<Image>,
    objects: Vec<Object>,
    names: HashSet<String>,
    ids: HashSet<u64>,
    left_out: BTreeMap<&'static str, usize>,
    notes: Vec<String>,
}

impl Writer {
    pub fn new(out: &Path, split: &str) -> Result<Self, ImportError> {
        let is_name =
            !split.is_empty() && !split.starts_with('.') && !split.contains(['/', '\\', '\0']);
        if !is_name {
            let reason = format!(
                "`{}` is not a valid name for a split, which is a folder of the output: give one with --split",
                excerpt(split)
            );
            return Err(ImportError::source(out, reason));
        }
        let name = format!("instances_{split}.json");
        let annotations = out.join("annotations").join(name);
        if annotations.exists() {
            return Err(ImportError::Exists { path: annotations });
        }
        let folder = out.join(split);
        for folder in [&folder, &out.join("annotations")] {
            std::fs::create_dir_all(folder).map_err(|error| ImportError::io(folder, error))?;
        }
        Ok(Self {
            split: split.into(),
            annotations,
            folder,
            images: Vec::new(),
            objects: Vec::new(),
            names: HashSet::new(),
            ids: HashSet::new(),
            left_out: BTreeMap::new(),
            notes: Vec::new(),
        })
    }

    /// Adds notes on images of this split that were found under another name.
    pub fn note_names(&mut self, locator: &mut Locator) {
        let remarks = std::mem::take(&mut locator.remarks).faults();
        self.notes
            .extend(remarks.into_iter().map(|remark| remark.reason));
    }

    /// Counts an object or image that is left out.
    pub fn leave_out(&mut self, reason: &'static str) {
        *self.left_out.entry(reason).or_default() += 1;
    }

    /// Adds an image by linking to the file or copying it. Without an id it gets the next one.
    pub fn link(
        &mut self,
        from: &Path,
        id: Option<u64>,
        (width, height): (u32, u32),
    ) -> Result<u64, ImportError> {
        let name = from.file_name().unwrap_or_default().to_string_lossy();
        let (id, to) = self.image(&name, id, (width, height))?;
        place(&to, &|| std::fs::read(from), Some(from))
            .map_err(|error| ImportError::io(&to, error))?;
        Ok(id)
    }

    /// Adds an image of encoded bytes.
    pub fn write(
        &mut self,
        name: &str,
        bytes: &[u8],
        id: Option<u64>,
        size: (u32, u32),
    ) -> Result<u64, ImportError> {
        let (id, to) = self.image(name, id, size)?;
        place(&to, &|| Ok(bytes.to_vec()), None).map_err(|error| ImportError::io(&to, error))?;
        Ok(id)
    }

    /// Id and path of a new image; if the name is taken, it is prefixed with the id.
    fn image(
        &mut self,
        name: &str,
        id: Option<u64>,
        (width, height): (u32, u32),
    ) -> Result<(u64, PathBuf), ImportError> {
        let id = id.unwrap_or(self.images.len() as u64 + 1);
        if !self.ids.insert(id) {
            let reason = format!("image id {id} is used twice, the second time for {name}");
            return Err(ImportError::source(&self.folder, reason));
        }
        // Names come from untrusted files and must not point outside the folder.
        let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
        let mut file_name = match last {
            "" | "." | ".." => format!("{id}.jpg"),
            name => name.to_string(),
        };
        if !self.names.insert(file_name.clone()) {
            file_name = format!("{id}_{file_name}");
            self.names.insert(file_name.clone());
        }
        let path = self.folder.join(&file_name);
        self.images.push(Image {
            id,
            file_name,
            width,
            height,
        });
        Ok((id, path))
    }

    /// Adds an object, whose `id` is set here.
    pub fn object(&mut self, mut object: Object) {
        object.id = self.objects.len() as u64 + 1;
        self.objects.push(object);
    }

    /// Writes the annotations atomically.
    pub fn finish(self, categories: &[Category]) -> Result<Imported, ImportError> {
        #[derive(Serialize)]
        struct File<'a> {
            images: &'a [Image],
            annotations: &'a [Object],
            categories: &'a [Category],
        }
        let file = File {
            images: &self.images,
            annotations: &self.objects,
            categories,
        };
        if self.images.is_empty() {
            let reason = "no image that could be used".to_string();
            let left: Vec<String> = self
                .left_out
                .iter()
                .map(|(r, n)| format!("{n} x {r}"))
                .collect();
            let reason = [reason, left.join(", ")].join("; ");
            return Err(ImportError::source(&self.folder, reason));
        }
        let temporary = self.annotations.with_extension("json.partial");
        let written = std::fs::File::create(&temporary).and_then(|file_out| {
            let mut out = BufWriter::new(file_out);
            serde_json::to_writer(&mut out, &file)?;
            out.flush()?;
            std::fs::rename(&temporary, &self.annotations)
        });
        written.map_err(|error| ImportError::io(&self.annotations, error))?;
        Ok(Imported {
            split: self.split,
            images: self.images.len(),
            objects: self.objects.len(),
            left_out: self.left_out,
            notes: self.notes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(out: &Path) -> Writer {
        Writer::new(out, "train").unwrap()
    }

    #[test]
    fn images_that_lie_in_the_split_already_stay() {
        let out = tempfile::tempdir().unwrap();
        let at = out.path().join("train/a.jpg");
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(&at, "the original").unwrap();
        writer(out.path()).link(&at, None, (3, 2)).unwrap();
        assert_eq!(std::fs::read_to_string(&at).unwrap(), "the original");
    }

    #[test]
    fn a_split_stays_in_its_folder() {
        let out = tempfile::tempdir().unwrap();
        for split in ["..", "../x", "a/b", "", "/tmp/x", ".hidden"] {
            let error = Writer::new(&out.path().join("deep"), split)
                .err()
                .expect(split);
            assert!(error.to_string().contains("--split"), "{error}");
        }
        assert!(!out.path().join("deep").exists(), "nothing is written");
    }

    #[test]
    fn an_interrupted_import_continues_and_another_image_is_not_replaced() {
        let [out, source] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [mine, theirs] = ["a.jpg", "b.jpg"].map(|name| source.path().join(name));
        std::fs::write(&mine, "one").unwrap();
        std::fs::write(&theirs, "two").unwrap();
        for _ in 0..2 {
            let mut writer = writer(out.path());
            writer.link(&mine, None, (3, 2)).unwrap();
            writer.write("c.png", b"three", None, (3, 2)).unwrap();
        }
        let there = out.path().join("train/b.jpg");
        std::fs::write(&there, "the only one").unwrap();
        let linked = writer(out.path()).link(&theirs, None, (3, 2));
        let written = writer(out.path()).write("b.jpg", b"four", None, (3, 2));
        assert!(written.is_err());
        let error = linked.unwrap_err().to_string();
        assert!(
            error.contains("b.jpg") && error.contains("move it away"),
            "{error}"
        );
        assert_eq!(std::fs::read_to_string(&there).unwrap(), "the only one");
        assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "two");
    }
}
