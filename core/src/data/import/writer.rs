//! Writing a split of a COCO folder.

use super::{ImportError, Imported};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A mask as COCO writes it.
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
struct Picture {
    id: u64,
    file_name: String,
    width: u32,
    height: u32,
}

/// An object of a picture.
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

/// A split in the making: pictures are written at once, annotations at the end.
pub(super) struct Writer {
    split: String,
    annotations: PathBuf,
    folder: PathBuf,
    pictures: Vec<Picture>,
    objects: Vec<Object>,
    names: HashSet<String>,
    ids: HashSet<u64>,
    left_out: BTreeMap<&'static str, usize>,
}

impl Writer {
    pub fn new(out: &Path, split: &str) -> Result<Self, ImportError> {
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
            pictures: Vec::new(),
            objects: Vec::new(),
            names: HashSet::new(),
            ids: HashSet::new(),
            left_out: BTreeMap::new(),
        })
    }

    /// Counts something that is left out.
    pub fn leave_out(&mut self, reason: &'static str) {
        *self.left_out.entry(reason).or_default() += 1;
    }

    /// Adds a picture by linking to the file or copying it. Without an id it gets the next one.
    pub fn link(
        &mut self,
        from: &Path,
        id: Option<u64>,
        (width, height): (u32, u32),
    ) -> Result<u64, ImportError> {
        let name = from.file_name().unwrap_or_default().to_string_lossy();
        let (id, to) = self.picture(&name, id, (width, height))?;
        let linked = match std::fs::hard_link(from, &to) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                std::fs::copy(from, &to).map(|_| ())
            }
            // What an import that was broken off has left.
            Err(_) => std::fs::remove_file(&to).and_then(|()| std::fs::copy(from, &to).map(|_| ())),
            linked => linked,
        };
        linked.map_err(|error| ImportError::io(&to, error))?;
        Ok(id)
    }

    /// Adds a picture of encoded bytes.
    pub fn write(
        &mut self,
        name: &str,
        bytes: &[u8],
        id: Option<u64>,
        size: (u32, u32),
    ) -> Result<u64, ImportError> {
        let (id, to) = self.picture(name, id, size)?;
        std::fs::write(&to, bytes).map_err(|error| ImportError::io(&to, error))?;
        Ok(id)
    }

    /// Id and path of a new picture; a name in use gets the id in front.
    fn picture(
        &mut self,
        name: &str,
        id: Option<u64>,
        (width, height): (u32, u32),
    ) -> Result<(u64, PathBuf), ImportError> {
        let id = id.unwrap_or(self.pictures.len() as u64 + 1);
        if !self.ids.insert(id) {
            let reason = format!("picture id {id} comes twice, the second time for {name}");
            return Err(ImportError::source(&self.folder, reason));
        }
        // Names come from files that others wrote: none of them leaves the folder.
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
        self.pictures.push(Picture {
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

    /// Writes the annotations, as a whole or not at all.
    pub fn finish(self, categories: &[Category]) -> Result<Imported, ImportError> {
        #[derive(Serialize)]
        struct File<'a> {
            images: &'a [Picture],
            annotations: &'a [Object],
            categories: &'a [Category],
        }
        let file = File {
            images: &self.pictures,
            annotations: &self.objects,
            categories,
        };
        if self.pictures.is_empty() {
            let reason = "no picture that could be used".to_string();
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
            pictures: self.pictures.len(),
            objects: self.objects.len(),
            left_out: self.left_out,
        })
    }
}
