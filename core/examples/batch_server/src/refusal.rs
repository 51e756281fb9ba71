//! Why a request is refused, as status and JSON.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use mrcnn_core::image::decode::DecodeError;

#[derive(Debug)]
pub enum Refusal {
    /// The body is cut, or larger than the limit: the status that axum gives it.
    Body(StatusCode, String),
    /// The body came too slowly.
    Slow,
    /// Not a picture, or a damaged one.
    Picture(String),
    /// More pixels than the limit.
    Pixels(String),
    /// Too many pictures wait.
    Busy,
    /// The device failed, or the worker.
    Failed,
}

impl Refusal {
    /// What a picture's header says, or that there is none.
    pub fn of_header(error: DecodeError) -> Self {
        match error {
            DecodeError::Size { .. } => Self::Pixels(error.to_string()),
            _ => Self::Picture(error.to_string()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Self::Body(status, error) => (status, error),
            Self::Slow => (
                StatusCode::REQUEST_TIMEOUT,
                "the body came too slowly".into(),
            ),
            Self::Picture(error) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, error),
            Self::Pixels(error) => (StatusCode::PAYLOAD_TOO_LARGE, error),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too many pictures wait".into(),
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
