//! The worker: takes what waits, predicts it together, answers each.

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

type Answer = Result<Prediction, Refusal>;

/// A picture that waits, still encoded: decoded ones would fill the memory.
struct Job {
    bytes: Bytes,
    /// Height and width of what the network sees of it.
    input: (usize, usize),
    answer: oneshot::Sender<Answer>,
}

/// Where pictures wait.
#[derive(Clone)]
pub struct Queue {
    jobs: SyncSender<Job>,
    predictor: Arc<Predictor>,
}

impl Queue {
    /// What is in an encoded picture of `width x height` pixels; refused at once where too many wait.
    pub async fn predict(&self, bytes: Bytes, (width, height): (u32, u32)) -> Answer {
        let (answer, found) = oneshot::channel();
        let input = self.predictor.input_size(width, height);
        let job = Job {
            bytes,
            input,
            answer,
        };
        self.jobs.try_send(job).map_err(|_| Refusal::Busy)?;
        found.await.unwrap_or(Err(Refusal::Failed))
    }
}

/// What the worker did.
#[derive(Default)]
pub struct Done {
    pub pictures: usize,
    pub batches: usize,
    pub largest: usize,
}

/// Starts the worker; it ends when the last [`Queue`] is gone and everything in it answered.
pub fn start(predictor: Predictor, limits: &Limits) -> (Queue, JoinHandle<Done>) {
    let (jobs, waiting) = sync_channel(limits.queue);
    let predictor = Arc::new(predictor);
    let queue = Queue {
        jobs,
        predictor: predictor.clone(),
    };
    let (most, wait) = (limits.batch, limits.wait);
    let worker = std::thread::spawn(move || {
        let mut done = Done::default();
        while let Ok(first) = waiting.recv() {
            let mut jobs = gather(first, &waiting, most, wait);
            // Padding changes what is found near the border: only pictures that become tensors of one
            // size are predicted together, and each is found what it would be alone.
            jobs.sort_by_key(|job| job.input);
            while !jobs.is_empty() {
                let same = jobs.iter().filter(|job| job.input == jobs[0].input).count();
                let group: Vec<Job> = jobs.drain(..same).collect();
                // A panic costs the group its answers (they become 500), not the server.
                let found = catch_unwind(AssertUnwindSafe(|| answer(&predictor, group)));
                let pictures = found.unwrap_or_default();
                done.pictures += pictures;
                done.batches += usize::from(pictures > 0);
                done.largest = done.largest.max(pictures);
            }
        }
        done
    });
    (queue, worker)
}

/// The first job and those that come soon after it.
fn gather(first: Job, waiting: &Receiver<Job>, most: usize, wait: Duration) -> Vec<Job> {
    let end = Instant::now() + wait;
    let mut jobs = vec![first];
    while jobs.len() < most {
        let left = end.saturating_duration_since(Instant::now());
        match waiting.recv_timeout(left) {
            Ok(job) => jobs.push(job),
            Err(_) => break,
        }
    }
    jobs
}

/// Predicts a group and answers it; how many pictures were predicted.
fn answer(predictor: &Predictor, group: Vec<Job>) -> usize {
    let mut images: Vec<RgbImage> = Vec::new();
    let mut answers = Vec::new();
    // Who has gone needs no answer.
    for job in group.into_iter().filter(|job| !job.answer.is_closed()) {
        match decode_bytes(&job.bytes, Path::new("the picture")) {
            Ok(image) => {
                images.push(image);
                answers.push(job.answer);
            }
            Err(error) => drop(job.answer.send(Err(Refusal::Picture(error.to_string())))),
        }
    }
    match predictor.predict_batch(&images) {
        Ok(found) => {
            for (answer, found) in answers.into_iter().zip(found) {
                drop(answer.send(Ok(found)));
            }
        }
        Err(error) => {
            eprintln!("error: {error}");
            for answer in answers {
                drop(answer.send(Err(Refusal::Failed)));
            }
        }
    }
    images.len()
}
