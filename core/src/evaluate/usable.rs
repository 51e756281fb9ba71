//! Reading of images that may be unusable.

use crate::data::{LeftOut, OnProblem, Sample, size_mismatch};
use crate::image::RgbImage;
use crate::train::error::LoadError;
use mrcnn_backends::comm::{CommError, Communicator};

/// The image of a sample, which must have the size of its entry. With [`OnProblem::Skip`], an image that cannot be used
/// is added to `left_out` instead, with the reason.
pub(crate) fn usable_image(
    sample: &Sample,
    on_problem: OnProblem,
    left_out: &mut Vec<LeftOut>,
) -> Result<Option<RgbImage>, LoadError> {
    let (error, reason) = match super::retry::read(sample) {
        Ok(image) => match size_mismatch(sample, image.dimensions()) {
            None => return Ok(Some(image)),
            Some(reason) => {
                let path = sample.path.clone();
                let error = LoadError::Size {
                    path,
                    reason: reason.clone(),
                };
                (error, reason)
            }
        },
        Err(error) => {
            let reason = error.to_string();
            (error.into(), reason)
        }
    };
    if on_problem == OnProblem::Refuse {
        return Err(error);
    }
    left_out.push(LeftOut {
        image_id: sample.image_id,
        path: sample.path.clone(),
        reason,
    });
    Ok(None)
}

/// The images that any rank leaves out, in the order of the ranks, on every rank.
pub(crate) fn left_out_of_all(
    comm: &dyn Communicator,
    mine: Vec<LeftOut>,
) -> Result<Vec<LeftOut>, CommError> {
    if comm.is_alone() {
        return Ok(mine);
    }
    let other_version = |rank| CommError::Differs {
        ranks: vec![rank],
        what: "images that are left out".into(),
        help: "start the same binary on every machine",
    };
    let sent: Vec<(u64, String, &str)> = mine
        .iter()
        .map(|image| {
            let path = image.path.display().to_string();
            (image.image_id, path, image.reason.as_str())
        })
        .collect();
    let bytes = serde_json::to_vec(&sent).map_err(|_| other_version(comm.rank()))?;
    let mut images = Vec::new();
    for (rank, bytes) in comm.all_gather_bytes(&bytes)?.iter().enumerate() {
        let sent: Vec<(u64, String, String)> =
            serde_json::from_slice(bytes).map_err(|_| other_version(rank))?;
        images.extend(sent.into_iter().map(|(image_id, path, reason)| LeftOut {
            image_id,
            path: path.into(),
            reason,
        }));
    }
    Ok(images)
}
