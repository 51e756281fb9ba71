//! Gathering of the detections of all ranks for the report of a run.

use super::DatasetDetections;
use crate::detection::Detection;
use crate::train::error::TrainError;
use mrcnn_backends::comm::{CommError, Communicator};
use vernier_mask::Rle;

/// Serialized detection: bits of box and score, label, height, width and runs of the mask.
type Sent = ([u32; 4], u32, usize, [u32; 2], Vec<u32>);

/// The detections of every rank, in the order of the ranks, on rank 0; empty on the others.
pub(crate) fn detections_of_all(
    comm: &dyn Communicator,
    mine: DatasetDetections,
) -> Result<DatasetDetections, TrainError> {
    if comm.is_alone() {
        return Ok(mine);
    }
    let sent: Vec<(u64, Vec<Sent>)> = mine
        .iter()
        .map(|(id, found)| (*id, found.iter().map(packed).collect()))
        .collect();
    let other_version = |rank| CommError::Differs {
        ranks: vec![rank],
        what: "detections".into(),
        help: "start the same binary on every machine",
    };
    let bytes = serde_json::to_vec(&sent).map_err(|_| other_version(comm.rank()))?;
    let all = comm.all_gather_bytes(&bytes)?;
    if comm.rank() > 0 {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for (rank, bytes) in all.iter().enumerate() {
        let images: Vec<(u64, Vec<Sent>)> =
            serde_json::from_slice(bytes).map_err(|_| other_version(rank))?;
        let images = images.into_iter();
        found.extend(images.map(|(id, sent)| (id, sent.into_iter().map(unpacked).collect())));
    }
    Ok(found)
}

fn packed(detection: &Detection) -> Sent {
    let Detection {
        bbox,
        label,
        score,
        mask,
    } = detection;
    let counts = mask.counts.to_vec();
    (
        bbox.map(f32::to_bits),
        score.to_bits(),
        *label,
        [mask.h, mask.w],
        counts,
    )
}

fn unpacked((bbox, score, label, [h, w], counts): Sent) -> Detection {
    Detection {
        bbox: bbox.map(f32::from_bits),
        label,
        score: f32::from_bits(score),
        mask: Rle::from_counts(h, w, counts),
    }
}
