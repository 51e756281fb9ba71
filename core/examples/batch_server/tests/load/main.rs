//! The server under load, with clients that misbehave among those that do not.

mod client;
mod pictures;
mod process;

use client::{Manner, answer, connect, head, post};
use mrcnn_core::Rle;
use mrcnn_core::data::DetectionRecord;
use pictures::{Picture, bomb, good_pictures, weights};
use process::Server;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What a stranger posts, and the status that answers it.
struct Bad {
    body: Vec<u8>,
    manner: Manner,
    status: u16,
}

fn bad_bodies(good: &[u8]) -> Vec<Bad> {
    let bad = |body: &[u8], manner, status| Bad {
        body: body.to_vec(),
        manner,
        status,
    };
    let mut damaged = good.to_vec();
    damaged.truncate(good.len() / 2);
    vec![
        bad(b"this is no picture at all", Manner::Well, 415),
        bad(b"", Manner::Well, 415),
        // A whole head of a picture, half of its pixels.
        bad(&damaged, Manner::Well, 415),
        bad(&bomb(), Manner::Well, 413),
        bad(&vec![7; 700_000], Manner::Well, 413),
        bad(good, Manner::Cut, 400),
        bad(good, Manner::Slowly, 408),
    ]
}

/// Requests, and how many at once: what the issue asks for.
const REQUESTS: usize = 1000;
const CONCURRENCY: usize = 16;

/// Every n-th request is a bad one.
const BAD_EVERY: usize = 8;

#[test]
fn a_thousand_requests_and_bad_ones_among_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let weights = weights(folder.path());
    let good = good_pictures(&weights);
    let bad = bad_bodies(&good[0].bytes);
    let settings = ["score=0.3", "body_ms=400", "bytes=600000", "pixels=1000000"];
    let server = Server::start(&weights, &settings);

    // A first wave of good ones shows what they take.
    work(64, |index| {
        good[index % good.len()].check(server.address, index)
    });
    let usual = server.peak();
    let (next_good, next_bad) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let started = Instant::now();
    work(REQUESTS, |index| match index % BAD_EVERY {
        0 => {
            let number = next_bad.fetch_add(1, Ordering::SeqCst);
            let Bad {
                body,
                manner,
                status,
            } = &bad[number % bad.len()];
            let answer = post(server.address, index, body, *manner);
            let answer = answer.unwrap_or_else(|| panic!("bad body {number} has no answer"));
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
    server.terminate();
    let said = server.end();
    let (good, bad) = (next_good.into_inner(), next_bad.into_inner());
    println!(
        "{REQUESTS} requests ({bad} bad), {CONCURRENCY} at once: {seconds:.1} s, {:.1} a second; \
         peak {:?} MB, {:?} MB before; {said}",
        REQUESTS as f64 / seconds,
        peak.map(|bytes| bytes / 1_000_000),
        usual.map(|bytes| bytes / 1_000_000)
    );
    assert!(said.contains(&format!("{} pictures", good + 64)), "{said}");
    let largest = said.rsplit(' ').next().and_then(|n| n.trim().parse().ok());
    assert!(largest.is_some_and(|n: usize| n > 1), "no batch: {said}");
    if let (Some(peak), Some(usual)) = (peak, usual) {
        // One bomb decoded is 100 MB of grey and 300 of colour.
        assert!(peak < usual + 100_000_000, "{usual} -> {peak} bytes");
    }
}

/// Does `count` pieces of work, [`CONCURRENCY`] at once.
fn work(count: usize, piece: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CONCURRENCY {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    if index >= count {
                        return;
                    }
                    piece(index);
                }
            });
        }
    });
}

#[test]
fn where_too_many_wait_the_answer_is_503_and_a_later_one_is_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let weights = weights(folder.path());
    let good = good_pictures(&weights);
    let server = Server::start(&weights, &["score=0.3", "queue=1", "batch=1"]);
    let busy = AtomicUsize::new(0);
    work(64, |index| {
        let picture = &good[index % good.len()];
        loop {
            let answer = post(server.address, index, &picture.bytes, Manner::Well);
            let answer = answer.expect("an answer");
            if answer.status != 503 {
                picture.must_be(&answer, index);
                return;
            }
            assert_eq!(answer.retry_after, Some(1));
            busy.fetch_add(1, Ordering::SeqCst);
            // Sooner than asked for: the test has more to do.
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let busy = busy.into_inner();
    assert!(busy > 0, "16 at once and a queue of 1");
    println!("{busy} answers of 503 on the way to 64 right ones");
}

#[test]
fn what_was_accepted_is_answered_after_the_signal_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let weights = weights(folder.path());
    let good = good_pictures(&weights);
    let server = Server::start(&weights, &["score=0.3", "head_ms=700"]);
    // A head that never ends costs nobody but its sender.
    let mut stuck = connect(server.address);
    stuck
        .write_all(b"POST /predict HTTP/1.1\r\nHo")
        .expect("a part");
    // The server says "100 Continue" when it begins to read the body: the request is accepted.
    let mut accepted: Vec<(TcpStream, &Picture)> = good[..4]
        .iter()
        .enumerate()
        .map(|(index, picture)| {
            let mut stream = connect(server.address);
            let head = head(index, picture.bytes.len(), "Expect: 100-continue\r\n");
            stream.write_all(head.as_bytes()).expect("a head");
            let mut go_on = [0; 25];
            stream.read_exact(&mut go_on).expect("100 Continue");
            assert!(go_on.starts_with(b"HTTP/1.1 100"));
            (stream, picture)
        })
        .collect();
    server.terminate();
    let refused = Instant::now();
    while TcpStream::connect(server.address).is_ok() {
        assert!(
            refused.elapsed() < Duration::from_secs(20),
            "it still listens"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    for (index, (stream, picture)) in accepted.iter_mut().enumerate() {
        stream.write_all(&picture.bytes).expect("a body");
        picture.must_be(&answer(stream).expect("an answer"), index);
    }
    assert!(server.end().contains("stopped: 4 pictures"));
}

/// IoU of two masks of one picture.
fn overlap(a: &DetectionRecord, b: &DetectionRecord) -> f64 {
    assert_eq!(a.segmentation.size, b.segmentation.size);
    let [a, b] = [a, b].map(|record| {
        let [height, width] = record.segmentation.size;
        let counts = record.segmentation.counts.as_bytes();
        Rle::from_string_bytes(counts, height, width).expect("a mask")
    });
    let shared = a.intersect_area(&b).expect("one size");
    match a.area() + b.area() - shared {
        0 => 1.0,
        union => shared as f64 / union as f64,
    }
}

impl Picture {
    fn check(&self, server: std::net::SocketAddr, index: usize) {
        let answer = post(server, index, &self.bytes, Manner::Well);
        self.must_be(&answer.expect("an answer"), index);
    }

    /// The answer is what the library finds in the picture alone. Not to the bit: in a batch a product has
    /// another height and may be summed in another order, and a pixel at the threshold falls either way.
    #[track_caller]
    fn must_be(&self, answer: &client::Answer, index: usize) {
        assert_eq!(answer.status, 200, "{answer:?}");
        let found: Vec<DetectionRecord> = serde_json::from_str(&answer.body).expect("COCO results");
        assert_eq!(found.len(), self.wanted.len(), "request {index}");
        for (found, wanted) in found.iter().zip(&self.wanted) {
            assert_eq!(found.image_id, index as u64);
            assert_eq!(found.category_id, wanted.category_id);
            assert!((found.score - wanted.score).abs() < 1e-5);
            let moved = found
                .bbox
                .iter()
                .zip(wanted.bbox)
                .map(|(a, b)| (a - b).abs());
            assert!(moved.fold(0.0, f32::max) < 1e-3);
            assert!(overlap(found, wanted) > 0.999);
        }
    }
}
