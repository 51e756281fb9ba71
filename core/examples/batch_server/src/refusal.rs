//! Reasons for refusing a request, with status and JSON body.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use mrcnn_core::image::decode::DecodeError;

#[derive(Debug)]
pub enum Refusal {
    /// The body is incomplete or larger than the limit; with the status of axum.
    Body(StatusCode, String),
    /// The body was too slow.
    Slow,
    /// Not an image, or a damaged one.
    Image(String),
    /// More pixels than the limit.
    Pixels(String),
    /// The queue is full.
    Busy,
    /// The prediction took too long.
    Late,
    /// The device or the worker failed.
    Failed,
}

impl Refusal {
    /// The refusal for an error in the header of an image.
    pub fn of_header(error: DecodeError) -> Self {
        match error {
            DecodeError::Size { .. } => Self::Pixels(error.to_string()),
            _ => Self::Image(error.to_string()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Self::Body(status, error) => (status, error),
            Self::Slow => (
                StatusCode::REQUEST_TIMEOUT,
                "the body was too slow; send it faster".into(),
            ),
            Self::Image(error) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, error),
            Self::Pixels(error) => (StatusCode::PAYLOAD_TOO_LARGE, error),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too many images are waiting; try again later".into(),
            ),
            Self::Late => (
                StatusCode::GATEWAY_TIMEOUT,
                "the prediction took too long; try again later".into(),
            ),
            Self::Failed => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the prediction failed".into(),
            ),
        };
        let body = Json(serde_json::json!({ "error": error }));
        match status {
            StatusCode::SERVICE_UNAVAILABLE => {
                (status, [(header::RETRY_AFTER, "1")], body).into_response()
            }
            _ => (status, body).into_response(),
        }
    }
}
