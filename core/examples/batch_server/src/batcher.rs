//! Worker thread that predicts waiting images in batches.

use crate::limits::Limits;
use crate::refusal::Refusal;
use axum::body::Bytes;
use mrcnn_core::image::{RgbImage, decode::decode_bytes};
use mrcnn_core::{Prediction, Predictor};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

type Response = Result<Prediction, Refusal>;

/// A waiting image, still encoded, because decoded images would take too much memory.
struct Job {
    bytes: Bytes,
    /// Height and width of its input tensor.
    input: (usize, usize),
    response: oneshot::Sender<Response>,
}

/// Queue of waiting images.
#[derive(Clone)]
pub struct Queue {
    jobs: SyncSender<Job>,
    predictor: Arc<Predictor>,
}

impl Queue {
    /// Predicts an encoded image of `width x height` pixels. Refused immediately if the queue is full.
    pub async fn predict(&self, bytes: Bytes, (width, height): (u32, u32)) -> Response {
        let (response, result) = oneshot::channel();
        let input = self.predictor.input_size(width, height);
        let job = Job {
            bytes,
            input,
            response,
        };
        self.jobs.try_send(job).map_err(|_| Refusal::Busy)?;
        result.await.unwrap_or(Err(Refusal::Failed))
    }
}

/// Totals of the worker.
#[derive(Default)]
pub struct Totals {
    pub images: usize,
    pub batches: usize,
    pub largest: usize,
}

/// Starts the worker. It ends when the last [`Queue`] is dropped and all its requests are answered.
pub fn start(predictor: Predictor, limits: &Limits) -> (Queue, JoinHandle<Totals>) {
    let (jobs, waiting) = sync_channel(limits.queue);
    let predictor = Arc::new(predictor);
    let queue = Queue {
        jobs,
        predictor: predictor.clone(),
    };
    let (max_batch, wait) = (limits.batch, limits.wait);
    let worker = std::thread::spawn(move || {
        let mut totals = Totals::default();
        while let Ok(first) = waiting.recv() {
            let mut jobs = gather(first, &waiting, max_batch, wait);
            // Padding changes results near the border. Only images with the same input size are predicted together, so
            // the results are those of one image at a time.
            jobs.sort_by_key(|job| job.input);
            while !jobs.is_empty() {
                let same = jobs.iter().filter(|job| job.input == jobs[0].input).count();
                let group: Vec<Job> = jobs.drain(..same).collect();
                // A panic fails the requests of this group with status 500, and not the server.
                let count = catch_unwind(AssertUnwindSafe(|| respond(&predictor, group)));
                let images = count.unwrap_or_default();
                totals.images += images;
                totals.batches += usize::from(images > 0);
                totals.largest = totals.largest.max(images);
            }
        }
        totals
    });
    (queue, worker)
}

/// Collects jobs that arrive within `wait` after the first one, up to `max_batch` in total.
fn gather(first: Job, waiting: &Receiver<Job>, max_batch: usize, wait: Duration) -> Vec<Job> {
    let end = Instant::now() + wait;
    let mut jobs = vec![first];
    while jobs.len() < max_batch {
        let left = end.saturating_duration_since(Instant::now());
        match waiting.recv_timeout(left) {
            Ok(job) => jobs.push(job),
            Err(_) => break,
        }
    }
    jobs
}

/// Predicts a group and sends the responses. Returns the number of predicted images.
fn respond(predictor: &Predictor, group: Vec<Job>) -> usize {
    let mut images: Vec<RgbImage> = Vec::new();
    let mut responses = Vec::new();
    // Clients that closed the connection need no response.
    for job in group.into_iter().filter(|job| !job.response.is_closed()) {
        match decode_bytes(&job.bytes, Path::new("the image")) {
            Ok(image) => {
                images.push(image);
                responses.push(job.response);
            }
            Err(error) => drop(job.response.send(Err(Refusal::Image(error.to_string())))),
        }
    }
    match predictor.predict_batch(&images) {
        Ok(predictions) => {
            for (response, prediction) in responses.into_iter().zip(predictions) {
                drop(response.send(Ok(prediction)));
            }
        }
        Err(error) => {
            eprintln!("error: {error}");
            for response in responses {
                drop(response.send(Err(Refusal::Failed)));
            }
        }
    }
    images.len()
}
