//! Pretrained models on the command line: downloads with their progress.

use crate::progress::bar;
use crate::terminal::note;
use anyhow::Result;
use indicatif::ProgressBar;
use mrcnn_core::pretrained::{FetchEvent, FetchOptions, Fetched, PretrainedModel, fetch};

/// [`fetch`] with its progress on stderr if `print`.
pub fn fetch_shown(
    model: &PretrainedModel,
    options: &FetchOptions,
    print: bool,
) -> Result<Fetched> {
    let name = &model.name;
    let mut progress: Option<ProgressBar> = None;
    let mut show = |event: FetchEvent<'_>| match event {
        _ if !print => {}
        FetchEvent::Waiting => note!("another process downloads {name}; waiting for it"),
        FetchEvent::Starting { url, path, size } => {
            let size = size.map_or("size not known".into(), megabytes);
            note!(
                "downloading {name} ({size}) from {url} to {}",
                path.display()
            );
        }
        FetchEvent::Received { done, total } => {
            let template = "downloading {bar:30} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}";
            let length = total.unwrap_or_default() as usize;
            let bar = progress.get_or_insert_with(|| bar(length, template));
            bar.set_position(done);
        }
        FetchEvent::Retrying { reason, pause } => {
            let seconds = pause.as_secs_f32();
            note!("warning: {name}: {reason}; the next attempt is in {seconds} s");
        }
        FetchEvent::Checking => {}
    };
    let fetched = fetch(model, options, &mut show);
    if let Some(bar) = progress {
        bar.finish_and_clear();
        if let (None, Ok(fetched)) = (&model.sha256, &fetched) {
            let digest = fetched.sha256();
            note!("warning: no hash of {name} is published; the file has the SHA-256 {digest}");
        }
    }
    Ok(fetched?)
}

/// A size in MB.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
