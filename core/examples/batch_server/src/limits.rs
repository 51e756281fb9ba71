//! Settings and limits of the server.

use mrcnn_core::BackendKind;
use std::net::SocketAddr;
use std::time::Duration;

/// Settings, each with a default.
///
/// They bound the memory: `connections * bytes` for bodies, and for each image of the current batch 3 bytes per pixel and
/// about 12 while it is resized (`batch * pixels * 15`).
#[derive(Clone, Debug)]
pub struct Limits {
    pub listen: SocketAddr,
    pub backend: BackendKind,
    /// Score threshold.
    pub score: f32,
    /// Maximum number of images per batch.
    pub batch: usize,
    /// Maximum wait of the first image of a batch for others.
    pub wait: Duration,
    /// Maximum number of waiting images; further requests get status 503.
    pub queue: usize,
    /// Maximum number of open connections; others wait to be accepted.
    pub connections: usize,
    /// Maximum size of a body in bytes.
    pub bytes: usize,
    /// Maximum number of pixels of an image, checked by its header before decoding.
    pub pixels: u64,
    /// Maximum duration of the head of a request, and of an idle connection.
    pub head: Duration,
    /// Maximum duration of a body.
    pub body: Duration,
    /// Maximum duration of a response, from the complete body to the prediction; then the status is 504.
    pub predict: Duration,
    /// Maximum duration for which a client accepts no bytes of a response.
    pub write: Duration,
    /// Maximum duration of accepted requests after Ctrl-C.
    pub stop: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            backend: BackendKind::Auto,
            score: 0.5,
            batch: 8,
            wait: Duration::from_millis(5),
            queue: 64,
            connections: 128,
            bytes: 8 << 20,
            pixels: 25_000_000,
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            predict: Duration::from_secs(60),
            write: Duration::from_secs(10),
            stop: Duration::from_secs(60),
        }
    }
}

/// Upper bound of queue, batch and connections, which are allocated at the start.
const MAX_COUNT: usize = 1 << 16;

impl Limits {
    pub const HELP: &str = "keys: listen=127.0.0.1:8080 backend=auto score=0.5 batch=8 wait_ms=5 \
        queue=64 connections=128 bytes=8388608 pixels=25000000 head_ms=10000 body_ms=10000 predict_ms=60000 \
        write_ms=10000 stop_ms=60000";

    /// The defaults with settings of the form `key=value`.
    pub fn parse(settings: &[String]) -> Result<Self, String> {
        let mut limits = Self::default();
        for setting in settings {
            let known = match setting.split_once('=') {
                Some((key, value)) => limits.set(key, value),
                None => None,
            };
            known.ok_or_else(|| format!("`{setting}` is not a valid setting; {}", Self::HELP))?;
        }
        Ok(limits)
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        let count = |max: usize| {
            let count = value.parse().ok();
            count.filter(|count| (1..=max).contains(count))
        };
        let duration = || value.parse().ok().map(Duration::from_millis);
        match key {
            "listen" => self.listen = value.parse().ok()?,
            "backend" => self.backend = value.parse().ok()?,
            "score" => self.score = value.parse().ok()?,
            "batch" => self.batch = count(MAX_COUNT)?,
            "wait_ms" => self.wait = duration()?,
            "queue" => self.queue = count(MAX_COUNT)?,
            "connections" => self.connections = count(MAX_COUNT)?,
            "bytes" => self.bytes = count(1 << 30)?,
            "pixels" => self.pixels = value.parse().ok()?,
            "head_ms" => self.head = duration()?,
            "body_ms" => self.body = duration()?,
            "predict_ms" => self.predict = duration()?,
            "write_ms" => self.write = duration()?,
            "stop_ms" => self.stop = duration()?,
            _ => return None,
        }
        Some(())
    }
}
