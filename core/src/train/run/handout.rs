//! Transfer of rank 0's checkpoint to the other ranks, which need no access to its folder.

use super::checkpoint::{Progress, Saved};
use crate::config::Config;
use crate::train::error::{CheckpointError, TrainError};
use crate::weights::{StateDict, from_bytes, to_bytes};
use mrcnn_backends::comm::Communicator;
use std::path::Path;

/// Sends the configuration and the checkpoint, on rank 0.
pub(crate) fn send(
    comm: &dyn Communicator,
    config: &Config,
    saved: &Saved,
) -> Result<(), TrainError> {
    if comm.is_alone() {
        return Ok(());
    }
    let io = |source: std::io::Error| CheckpointError::Io {
        path: saved.folder.clone(),
        source,
    };
    let text = toml::to_string(config)
        .map_err(std::io::Error::other)
        .map_err(io)?;
    let progress = serde_json::to_vec(&saved.progress).map_err(std::io::Error::other);
    let ema = saved.ema.as_ref().map(to_bytes).transpose();
    let parts = [
        text.into_bytes(),
        progress.map_err(io)?,
        to_bytes(&saved.weights).map_err(io)?,
        to_bytes(&saved.optimizer).map_err(io)?,
        ema.map_err(io)?.unwrap_or_default(),
    ];
    let mut bytes = Vec::new();
    for part in &parts {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part);
    }
    comm.all_gather_bytes(&bytes)?;
    Ok(())
}

/// Receives rank 0's configuration and checkpoint, on the other ranks.
pub(crate) fn receive(
    comm: &dyn Communicator,
    folder: &Path,
) -> Result<(Config, Saved), TrainError> {
    let bytes = comm.all_gather_bytes(&[])?.swap_remove(0);
    let mut rest = &bytes[..];
    let parts = [(); 5].map(|()| {
        let (length, after) = rest.split_first_chunk().unwrap_or((&[0; 8], &[]));
        let length = (u64::from_le_bytes(*length) as usize).min(after.len());
        let (part, after) = after.split_at(length);
        rest = after;
        part
    });
    let misfit = |error: serde_json::Error| CheckpointError::Misfit {
        path: folder.into(),
        reason: format!("rank 0 sent something else: {error}"),
    };
    let tensors =
        |part: &[u8]| -> Result<StateDict, CheckpointError> { Ok(from_bytes(folder, part)?) };
    let text = String::from_utf8_lossy(parts[0]);
    let config = Config::parse(&text, &folder.join("args.toml"), &[])?;
    let progress: Progress = serde_json::from_slice(parts[1]).map_err(misfit)?;
    let saved = Saved {
        folder: folder.into(),
        progress,
        weights: tensors(parts[2])?,
        optimizer: tensors(parts[3])?,
        ema: (!parts[4].is_empty())
            .then(|| tensors(parts[4]))
            .transpose()?,
    };
    Ok((config, saved))
}
