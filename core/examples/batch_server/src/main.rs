//! Detection server: POST an image, get COCO results.
//!
//!     cd core/examples/batch_server
//!     cargo run --release -- best.safetensors listen=127.0.0.1:8080
//!     curl --data-binary @photo.jpg 'http://127.0.0.1:8080/predict?image_id=7'
//!
//! Waiting requests are predicted in batches. Requests are limited in size and time (`limits.rs`). If the queue is full, the
//! response is 503 with Retry-After. Ctrl-C and SIGTERM end the server after all accepted requests are answered.

mod batcher;
mod deadline;
mod limits;
mod refusal;
mod routes;
mod serve;

use limits::Limits;
use mrcnn_core::Predictor;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [weights, settings @ ..] = &args[..] else {
        return Err(format!(
            "usage: batch_server WEIGHTS [KEY=VALUE ...]\n{}",
            Limits::HELP
        )
        .into());
    };
    let limits = Limits::parse(settings)?;
    let predictor = Predictor::builder()
        .weights(weights)
        .score(limits.score)
        .backend(limits.backend)
        .build()?;
    let (queue, worker) = batcher::start(predictor, &limits);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    // The last connection drops the queue, which ends the worker.
    runtime.block_on(serve::serve(routes::router(queue, &limits), &limits))?;
    drop(runtime);
    let totals = worker.join().map_err(|_| "the worker panicked")?;
    println!(
        "stopped: {} images in {} batches, the largest of {}",
        totals.images, totals.batches, totals.largest
    );
    Ok(())
}
