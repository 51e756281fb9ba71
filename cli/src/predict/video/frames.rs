//! Prediction of the frames of a video, with decoding, inference and writing in three threads.

use super::ffmpeg::{Decoder, Frame};
use super::sink::Sink;
use crate::interrupt::Requests;
use crate::predict::run::{QUEUE, Run};
use anyhow::Result;
use indicatif::ProgressBar;
use mrcnn_core::Prediction;
use std::panic::resume_unwind;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::scope;
use std::time::{Duration, Instant};

/// Results of the prediction of a video.
pub struct Finished {
    /// The last prediction, and the time that it took.
    pub last: Option<(Prediction, Duration)>,
    /// Number of frames that were decoded.
    pub decoded: u64,
    /// Times of decoding and of inference.
    pub busy: [Duration; 2],
}

impl Run<'_> {
    /// Decodes, predicts and writes the frames. The annotated video is complete also after a stop.
    pub fn frames(
        &self,
        decoder: Decoder,
        sink: &mut Sink,
        requests: &Requests,
        bar: &ProgressBar,
    ) -> Result<Finished> {
        let (to_predict, decoded) = sync_channel::<Frame>(QUEUE);
        let (to_write, predicted) = sync_channel::<(Frame, Prediction)>(QUEUE);
        scope(|scope| {
            let reader = scope.spawn(move || read(decoder, &to_predict));
            let writer = scope.spawn(move || sink.frames(&predicted, bar));
            let mut busy = Duration::ZERO;
            let mut last = None;
            let predict = || -> Result<()> {
                for frame in decoded {
                    if requests.is_end_requested() {
                        break;
                    }
                    let started = Instant::now();
                    let found = self.found(&frame.image, &mut |_, _| {})?;
                    busy += started.elapsed();
                    last = Some((found.clone(), started.elapsed()));
                    // The writer has ended, and reports its error.
                    if to_write.send((frame, found)).is_err() {
                        break;
                    }
                }
                Ok(())
            };
            let inference = predict();
            drop(to_write);
            let reading = reader.join().unwrap_or_else(|panic| resume_unwind(panic));
            let writing = writer.join().unwrap_or_else(|panic| resume_unwind(panic));
            inference.and(writing)?;
            let (decoded, decoding) = reading?;
            Ok(Finished {
                last,
                decoded,
                busy: [decoding, busy],
            })
        })
    }
}

/// Reads frames until the receiver is dropped; returns their number and the time of decoding. Frames of a live source
/// are dropped while the queue is full, so that the predicted frames are recent.
fn read(mut decoder: Decoder, to_predict: &SyncSender<Frame>) -> Result<(u64, Duration)> {
    let mut busy = Duration::ZERO;
    loop {
        let started = Instant::now();
        let frame = decoder.frame()?;
        busy += started.elapsed();
        let Some(frame) = frame else { break };
        let has_receiver = match decoder.is_live {
            true => !matches!(
                to_predict.try_send(frame),
                Err(TrySendError::Disconnected(_))
            ),
            false => to_predict.send(frame).is_ok(),
        };
        if !has_receiver {
            break;
        }
    }
    Ok((decoder.decoded, busy))
}
