//! Load test of the server with valid and invalid requests.

mod client;
mod images;
mod process;

use client::{Sending, connect, head, post, read_response};
use images::{TestImage, bomb, good_images, weights};
use mrcnn_core::Rle;
use mrcnn_core::data::DetectionRecord;
use process::Server;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// An invalid request and the expected status.
struct Bad {
    body: Vec<u8>,
    sending: Sending,
    status: u16,
}

fn bad_bodies(good: &[u8]) -> Vec<Bad> {
    let bad = |body: &[u8], sending, status| Bad {
        body: body.to_vec(),
        sending,
        status,
    };
    let mut damaged = good.to_vec();
    damaged.truncate(good.len() / 2);
    vec![
        bad(b"this is not an image", Sending::Normal, 415),
        bad(b"", Sending::Normal, 415),
        // A complete header and half of the pixels.
        bad(&damaged, Sending::Normal, 415),
        bad(&bomb(), Sending::Normal, 413),
        bad(&vec![7; 700_000], Sending::Normal, 413),
        bad(good, Sending::Truncated, 400),
        bad(good, Sending::Slow, 408),
    ]
}

/// Clients that send requests until the server accepts no more, and never read a response.
struct UnreadClients(Vec<TcpStream>);

impl UnreadClients {
    const COUNT: usize = 64;

    /// Connects all clients. Returns when the server accepts no more bytes from any of them, because the buffers of
    /// both sockets are full of responses.
    fn connect(server: SocketAddr) -> Self {
        let client = || {
            let mut stream = connect(server);
            let requests = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
            stream
                .set_write_timeout(Some(Duration::from_millis(300)))
                .expect("a timeout");
            // Far more responses than all buffers hold.
            for _ in 0..1000 {
                if let Err(error) = stream.write_all(&requests) {
                    assert!(
                        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                        "{error}"
                    );
                    return stream;
                }
            }
            panic!("the server reads requests of a client that reads no response");
        };
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..Self::COUNT).map(|_| scope.spawn(client)).collect();
            let clients = clients.into_iter().map(|client| client.join());
            Self(clients.map(|client| client.expect("a client")).collect())
        })
    }

    /// Number of connections that the server has closed.
    fn closed(self) -> usize {
        let is_closed = |mut stream: TcpStream| {
            let limit = Some(Duration::from_secs(2));
            stream.set_read_timeout(limit).expect("a timeout");
            let mut bytes = [0; 1 << 16];
            loop {
                match stream.read(&mut bytes) {
                    Ok(0) => return true,
                    Ok(_) => {}
                    Err(error) => {
                        let is_open =
                            matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                        return !is_open;
                    }
                }
            }
        };
        self.0
            .into_iter()
            .filter_map(|stream| is_closed(stream).then_some(()))
            .count()
    }
}

/// Number of requests, and how many are concurrent.
const REQUESTS: usize = 1000;
const CONCURRENCY: usize = 16;

/// Every n-th request is invalid.
const BAD_EVERY: usize = 8;

#[test]
fn a_thousand_requests_with_invalid_ones_are_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let weights = weights(folder.path());
    let good = good_images(&weights);
    let bad = bad_bodies(&good[0].bytes);
    let settings = [
        "score=0.3",
        "body_ms=3000",
        "bytes=600000",
        "pixels=1000000",
        "write_ms=3000",
        "connections=64",
    ];
    let server = Server::start(&weights, &settings);

    // Valid requests only, to measure their memory.
    work(64, |index| {
        good[index % good.len()].check(server.address, index)
    });
    let peak_before = server.peak();
    let (next_good, next_bad) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // They occupy every connection until their write deadline.
    let unread = UnreadClients::connect(server.address);
    let started = Instant::now();
    work(REQUESTS, |index| match index % BAD_EVERY {
        0 => {
            let number = next_bad.fetch_add(1, Ordering::SeqCst);
            let Bad {
                body,
                sending,
                status,
            } = &bad[number % bad.len()];
            let answer = post(server.address, index, body, *sending);
            let answer = answer.unwrap_or_else(|| panic!("bad body {number} got no response"));
            assert_eq!(answer.status, *status, "bad body {number}: {answer:?}");
            assert!(answer.body.contains("error"), "{answer:?}");
        }
        _ => {
            let number = next_good.fetch_add(1, Ordering::SeqCst);
            good[number % good.len()].check(server.address, index);
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    let peak = server.peak();
    assert_eq!(
        unread.closed(),
        UnreadClients::COUNT,
        "clients that read nothing are still connected"
    );
    server.terminate();
    let output = server.end();
    let (good, bad) = (next_good.into_inner(), next_bad.into_inner());
    println!(
        "{REQUESTS} requests ({bad} bad), {CONCURRENCY} concurrent, {} clients that read nothing: {seconds:.1} s, \
         {:.1} per second; \
         peak {:?} MB, {:?} MB before; {output}",
        UnreadClients::COUNT,
        REQUESTS as f64 / seconds,
        peak.map(|bytes| bytes / 1_000_000),
        peak_before.map(|bytes| bytes / 1_000_000)
    );
    assert!(
        output.contains(&format!("{} images", good + 64)),
        "{output}"
    );
    let largest = output
        .rsplit(' ')
        .next()
        .and_then(|n| n.trim().parse().ok());
    assert!(largest.is_some_and(|n: usize| n > 1), "no batch: {output}");
    if let (Some(peak), Some(before)) = (peak, peak_before) {
        // One decoded bomb has 100 MB as gray and 300 MB as RGB.
        assert!(peak < before + 100_000_000, "{before} -> {peak} bytes");
    }
}

/// Runs `count` tasks, [`CONCURRENCY`] of them concurrently.
fn work(count: usize, task: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CONCURRENCY {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    if index >= count {
                        return;
                    }
                    task(index);
                }
            });
        }
    });
}

#[test]
fn a_full_queue_answers_503_and_retries_succeed() {
    let folder = tempfile::tempdir().expect("a folder");
    let weights = weights(folder.path());
    let good = good_images(&weights);
    let server = Server::start(&weights, &["score=0.3", "queue=1", "batch=1"]);
    let busy = AtomicUsize::new(0);
    work(64, |index| {
        let image = &good[index % good.len()];
        loop {
            let answer = post(server.address, index, &image.bytes, Sending::Normal);
            let answer = answer.expect("a response");
            if answer.status != 503 {
                image.check_response(&answer, index);
                return;
            }
            assert_eq!(answer.retry_after, Some(1));
            busy.fetch_add(1, Ordering::SeqCst);
            // Sooner than Retry-After, to save time.
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let busy = busy.into_inner();
    assert!(busy > 0, "16 concurrent requests and a queue of 1");
    println!("{busy} responses 503 before 64 correct ones");
}

#[test]
fn accepted_requests_are_answered_after_the_signal() {
    let folder = tempfile::tempdir().expect("a folder");
    let weights = weights(folder.path());
    let good = good_images(&weights);
    let server = Server::start(&weights, &["score=0.3", "head_ms=700"]);
    // An incomplete head must not block other requests.
    let mut stuck = connect(server.address);
    stuck
        .write_all(b"POST /predict HTTP/1.1\r\nHo")
        .expect("part of a head");
    // The server sends "100 Continue" when it starts to read the body, so the request is accepted.
    let mut accepted: Vec<(TcpStream, &TestImage)> = good[..4]
        .iter()
        .enumerate()
        .map(|(index, image)| {
            let mut stream = connect(server.address);
            let head = head(index, image.bytes.len(), "Expect: 100-continue\r\n");
            stream.write_all(head.as_bytes()).expect("a head");
            let mut interim = [0; 25];
            stream.read_exact(&mut interim).expect("100 Continue");
            assert!(interim.starts_with(b"HTTP/1.1 100"));
            (stream, image)
        })
        .collect();
    server.terminate();
    let refused = Instant::now();
    while TcpStream::connect(server.address).is_ok() {
        assert!(
            refused.elapsed() < Duration::from_secs(20),
            "the server still listens"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    for (index, (stream, image)) in accepted.iter_mut().enumerate() {
        stream.write_all(&image.bytes).expect("a body");
        image.check_response(&read_response(stream).expect("a response"), index);
    }
    assert!(server.end().contains("stopped: 4 images"));
}

/// IoU of two masks of one image.
fn overlap(a: &DetectionRecord, b: &DetectionRecord) -> f64 {
    assert_eq!(a.segmentation.size, b.segmentation.size);
    let [a, b] = [a, b].map(|record| {
        let [height, width] = record.segmentation.size;
        let counts = record.segmentation.counts.as_bytes();
        Rle::from_string_bytes(counts, height, width).expect("a mask")
    });
    let shared = a.intersect_area(&b).expect("the sizes are equal");
    match a.area() + b.area() - shared {
        0 => 1.0,
        union => shared as f64 / union as f64,
    }
}

impl TestImage {
    fn check(&self, server: SocketAddr, index: usize) {
        let answer = post(server, index, &self.bytes, Sending::Normal);
        self.check_response(&answer.expect("a response"), index);
    }

    /// The response equals the result of the library for the single image. Not bit-equal: matrix products of a batch have
    /// another height and may sum in another order, and pixels at the threshold can change.
    #[track_caller]
    fn check_response(&self, answer: &client::Response, index: usize) {
        assert_eq!(answer.status, 200, "{answer:?}");
        let actual: Vec<DetectionRecord> =
            serde_json::from_str(&answer.body).expect("COCO results");
        assert_eq!(actual.len(), self.expected.len(), "request {index}");
        for (actual, expected) in actual.iter().zip(&self.expected) {
            assert_eq!(actual.image_id, index as u64);
            assert_eq!(actual.category_id, expected.category_id);
            assert!((actual.score - expected.score).abs() < 1e-5);
            let moved = actual
                .bbox
                .iter()
                .zip(expected.bbox)
                .map(|(a, b)| (a - b).abs());
            assert!(moved.fold(0.0, f32::max) < 1e-3);
            assert!(overlap(actual, expected) > 0.999);
        }
    }
}
