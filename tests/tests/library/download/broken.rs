//! Downloads over connections that break, stall, or come back.

use super::{Cache, content, model};
use mrcnn_core::pretrained::{FetchEvent, fetch};
use mrcnn_tests::http_server::{Server, send, send_file};
use std::time::{Duration, Instant};

#[test]
fn a_broken_connection_is_continued() {
    let server = Server::start(|index, request, stream| match index {
        // Two answers that end early, the second one after a few bytes.
        0 => send(
            stream,
            "200 OK",
            &["Content-Length: 700001".into()],
            &content()[..300_000],
        ),
        1 => {
            let headers = [
                "Content-Length: 400001".into(),
                "Content-Range: bytes 300000-700000/700001".into(),
            ];
            send(
                stream,
                "206 Partial Content",
                &headers,
                &content()[300_000..300_100],
            );
        }
        _ => send_file(request, stream, &content()),
    });
    let (cache, model) = (Cache::new(), model(&server.url(), None));
    cache.holds_the_file(&cache.fetch(&model).expect("the file"));
    let starts: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.start())
        .collect();
    assert_eq!(starts, [None, Some(300_000), Some(300_100)]);
}

#[test]
fn what_an_earlier_process_received_is_used() {
    let server = Server::of_file(content());
    let (cache, model) = (Cache::new(), model(&server.url(), None));
    cache.write_part(&content()[..500_000]);
    cache.holds_the_file(&cache.fetch(&model).expect("the file"));
    assert_eq!(server.requests()[0].start(), Some(500_000));

    // A process that was killed before it renamed the file.
    let cache = Cache::new();
    cache.write_part(&content());
    cache.holds_the_file(&cache.fetch(&model).expect("the file"));

    // A part of another version of the file: if it is not longer than the file, the hash differs; if it is longer, the
    // server refuses the range.
    for part in [vec![1; 500_000], vec![1; 700_001], vec![1; 800_000]] {
        let cache = Cache::new();
        cache.write_part(&part);
        cache.holds_the_file(&cache.fetch(&model).expect("the file"));
    }
}

#[test]
fn a_server_without_ranges_sends_everything_again() {
    let server = Server::start(|_, _, stream| {
        send(
            stream,
            "200 OK",
            &["Content-Length: 700001".into()],
            &content(),
        );
    });
    let (cache, model) = (Cache::new(), model(&server.url(), None));
    cache.write_part(&content()[..500_000]);
    cache.holds_the_file(&cache.fetch(&model).expect("the file"));
    assert_eq!(server.requests()[0].start(), Some(500_000));
}

#[test]
fn a_file_without_a_known_hash_is_not_continued_from_another_version() {
    let server = Server::start(|index, request, stream| match index {
        0 => {
            let headers = ["Content-Length: 700001".into(), "ETag: \"v1\"".into()];
            send(stream, "200 OK", &headers, &content()[..300_000]);
        }
        _ => send_file(request, stream, &content()),
    });
    let (cache, mut model) = (Cache::new(), model(&server.url(), None));
    model.sha256 = None;
    cache.write_part(&[1; 500_000]);
    cache.holds_the_file(&cache.fetch(&model).expect("the file"));
    let requests = server.requests();
    assert_eq!(requests[0].start(), None);
    assert_eq!(requests[1].start(), Some(300_000));
    assert_eq!(requests[1].header("if-range"), Some("\"v1\""));
}

#[test]
fn overloaded_servers_are_asked_again() {
    let server = Server::start(|index, request, stream| match index {
        0 => send(stream, "503 Service Unavailable", &[], b""),
        1 => send(stream, "429 Too Many Requests", &[], b""),
        _ => send_file(request, stream, &content()),
    });
    let (cache, model) = (Cache::new(), model(&server.url(), None));
    let mut retries = 0;
    let fetched = fetch(&model, &cache.options, &mut |event| {
        retries += usize::from(matches!(event, FetchEvent::Retrying { .. }));
    });
    cache.holds_the_file(&fetched.expect("the file"));
    assert_eq!(retries, 2);
}

#[test]
fn a_server_that_stops_sending_is_left() {
    let server = Server::start(|index, _, stream| {
        if index > 0 {
            send(
                stream,
                "200 OK",
                &["Content-Length: 700001".into()],
                &content()[..1000],
            );
        }
        std::thread::sleep(Duration::from_secs(30));
    });
    let (mut cache, model) = (Cache::new(), model(&server.url(), None));
    (cache.options.timeout, cache.options.attempts) = (Duration::from_millis(200), 2);
    let started = Instant::now();
    let error = cache.refused(&model);
    assert!(
        error.contains("timeout") && error.contains("2 attempts"),
        "{error}"
    );
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );
    // The received part is kept for the next attempt.
    assert_eq!(cache.part().metadata().expect("the part").len(), 1000);
}
