//! Conversion of datasets in other formats to COCO folders, which training reads.

mod cvat;
pub(crate) mod cvat_xml;
pub(crate) mod data_yaml;
mod detect;
#[cfg(feature = "convert")]
pub(crate) mod fuzzing;
mod labelme;
mod lvis;
pub(crate) mod records;
mod repair;
mod shape;
mod shards;
mod spec;
mod via;
pub(crate) mod voc;
mod writer;
pub(crate) mod yolo;

pub use repair::{Repaired, repair};
pub use spec::{Format, ImportError, ImportSpec, Imported};

/// Reads a dataset and writes it as `OUT/SPLIT/` with the images (hard links if possible, otherwise
/// copies) and `OUT/annotations/instances_SPLIT.json`.
///
/// Objects without masks are left out and counted; everything else that is wrong is an error.
pub fn import(spec: &ImportSpec) -> Result<Vec<Imported>, ImportError> {
    std::fs::metadata(&spec.source).map_err(|error| ImportError::io(&spec.source, error))?;
    let format = match spec.format {
        Format::Auto => detect::detect(&spec.source)?,
        format => format,
    };
    match format {
        Format::Auto => Err(ImportError::source(
            &spec.source,
            "no known format; name it with --from",
        )),
        Format::Cvat => cvat::read(spec),
        Format::Labelme => labelme::read(spec),
        Format::Via => via::read(spec),
        Format::Lvis => lvis::read(spec),
        Format::Voc => voc::read(spec),
        Format::Yolo => yolo::read(spec),
        Format::Tfrecord => shards::read(spec),
    }
}
