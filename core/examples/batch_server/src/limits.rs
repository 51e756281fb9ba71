//! What the server takes on.

use mrcnn_core::BackendKind;
use std::net::SocketAddr;
use std::time::Duration;

/// Settings, each with a default.
///
/// Memory is bounded by them: `connections * bytes` for bodies, and for each picture of the batch that is
/// worked on 3 bytes a pixel and some 12 while it is resized (`batch * pixels * 15`).
#[derive(Clone, Debug)]
pub struct Limits {
    pub listen: SocketAddr,
    pub backend: BackendKind,
    /// Weaker objects are left out.
    pub score: f32,
    /// Pictures predicted together at most.
    pub batch: usize,
    /// How long the first picture of a batch waits for others.
    pub wait: Duration,
    /// Pictures that may wait; more are answered 503.
    pub queue: usize,
    /// Connections that are open at once; more wait to be accepted.
    pub connections: usize,
    /// Size of a body.
    pub bytes: usize,
    /// Pixels of a picture, by its header: checked before anything is decoded.
    pub pixels: u64,
    /// How long the head of a request may take, and a connection may idle.
    pub head: Duration,
    /// How long a body may take.
    pub body: Duration,
    /// How long accepted requests have after Ctrl-C.
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
            stop: Duration::from_secs(60),
        }
    }
}

/// Pictures and connections at most: their places are made at the start.
const MOST: usize = 1 << 16;

impl Limits {
    pub const HELP: &str = "keys: listen=127.0.0.1:8080 backend=auto score=0.5 batch=8 wait_ms=5 \
        queue=64 connections=128 bytes=8388608 pixels=25000000 head_ms=10000 body_ms=10000 stop_ms=60000";

    /// The defaults, changed by `key=value`.
    pub fn parse(settings: &[String]) -> Result<Self, String> {
        let mut limits = Self::default();
        for setting in settings {
            let known = match setting.split_once('=') {
                Some((key, value)) => limits.set(key, value),
                None => None,
            };
            known.ok_or_else(|| format!("`{setting}` is not understood; {}", Self::HELP))?;
        }
        Ok(limits)
    }

    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        let count = |most: usize| {
            let count = value.parse().ok();
            count.filter(|count| (1..=most).contains(count))
        };
        let duration = || value.parse().ok().map(Duration::from_millis);
        match key {
            "listen" => self.listen = value.parse().ok()?,
            "backend" => self.backend = value.parse().ok()?,
            "score" => self.score = value.parse().ok()?,
            "batch" => self.batch = count(MOST)?,
            "wait_ms" => self.wait = duration()?,
            "queue" => self.queue = count(MOST)?,
            "connections" => self.connections = count(MOST)?,
            "bytes" => self.bytes = count(1 << 30)?,
            "pixels" => self.pixels = value.parse().ok()?,
            "head_ms" => self.head = duration()?,
            "body_ms" => self.body = duration()?,
            "stop_ms" => self.stop = duration()?,
            _ => return None,
        }
        Some(())
    }
}
