//! A server that finds objects: POST a picture, get COCO results.
//!
//!     cd core/examples/batch_server
//!     cargo run --release -- best.safetensors listen=127.0.0.1:8080
//!     curl --data-binary @photo.jpg 'http://127.0.0.1:8080/predict?image_id=7'
//!
//! Requests that wait are predicted together. What a stranger may send is limited (`limits.rs`); where
//! too many wait, the answer is 503 with Retry-After. Ctrl-C and SIGTERM end it after the requests that
//! were accepted are answered.

mod batcher;
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
    // The queue goes with the last connection; without it the worker ends.
    runtime.block_on(serve::serve(routes::router(queue, &limits), &limits))?;
    drop(runtime);
    let done = worker.join().map_err(|_| "the worker panicked")?;
    println!(
        "stopped: {} pictures in {} batches, the largest of {}",
        done.pictures, done.batches, done.largest
    );
    Ok(())
}
