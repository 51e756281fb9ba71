//! Reading of images that may be unusable.

use crate::data::{OnProblem, Sample, size_mismatch};
use crate::image::RgbImage;
use crate::train::error::LoadError;

/// The image of a sample, which must have the size of its entry; `None` if it cannot be used and is left
/// out.
pub(crate) fn usable_image(
    sample: &Sample,
    on_problem: OnProblem,
) -> Result<Option<RgbImage>, LoadError> {
    let image = super::retry::read(sample).map_err(LoadError::from);
    let image = image.and_then(|image| match size_mismatch(sample, image.dimensions()) {
        None => Ok(image),
        Some(reason) => Err(LoadError::Size {
            path: sample.path.clone(),
            reason,
        }),
    });
    match image {
        Ok(image) => Ok(Some(image)),
        Err(_) if on_problem == OnProblem::Skip => Ok(None),
        Err(error) => Err(error),
    }
}
