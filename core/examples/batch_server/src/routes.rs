//! `POST /predict` and `GET /health`.

use crate::batcher::Queue;
use crate::limits::Limits;
use crate::refusal::Refusal;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Query, Request, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use mrcnn_core::data::DetectionRecord;
use mrcnn_core::image::decode::dimensions_bytes;
use serde::Deserialize;
use std::path::Path;
use std::sync::Arc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

struct Server {
    queue: Queue,
    limits: Limits,
}

/// Routes of the server.
pub fn router(queue: Queue, limits: &Limits) -> Router {
    let limits = limits.clone();
    Router::new()
        .route("/predict", post(predict))
        .route("/health", get(|| async { "ok" }))
        .layer(DefaultBodyLimit::max(limits.bytes))
        .with_state(Arc::new(Server { queue, limits }))
}

#[derive(Deserialize)]
struct Parameters {
    /// Returned in every result.
    #[serde(default)]
    image_id: u64,
}

/// Predicts the image in the body, and returns COCO results.
async fn predict(
    State(server): State<Arc<Server>>,
    Query(parameters): Query<Parameters>,
    request: Request,
) -> Result<Json<Vec<DetectionRecord>>, Refusal> {
    let body = Bytes::from_request(request, &server);
    let bytes = match timeout(server.limits.body, body).await {
        Err(_) => return Err(Refusal::Slow),
        Ok(Err(error)) => return Err(Refusal::Body(error.status(), error.body_text())),
        Ok(Ok(bytes)) => bytes,
    };
    // Checked by the header alone, because a small file can declare gigabytes.
    let header = bytes.clone();
    // On another thread, because other connections wait while this one works.
    let size = spawn_blocking(move || dimensions_bytes(&header, Path::new("the image")));
    let size = size.await.map_err(|_| Refusal::Failed)?;
    let size = size.map_err(Refusal::of_header)?;
    let (pixels, max) = (u64::from(size.0) * u64::from(size.1), server.limits.pixels);
    if pixels > max {
        let (width, height) = size;
        let error = format!("the image has {width}x{height} pixels; the limit is {max} pixels");
        return Err(Refusal::Pixels(error));
    }
    // An image that is given up is not predicted: the worker skips jobs that nobody waits for.
    let prediction = timeout(server.limits.predict, server.queue.predict(bytes, size)).await;
    let prediction = prediction.map_err(|_| Refusal::Late)??;
    Ok(Json(prediction.to_coco(parameters.image_id)))
}
