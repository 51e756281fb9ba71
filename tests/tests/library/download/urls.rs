//! Downloads of files by URL: into memory and to a file, refused, too large, slow, and broken off.

use super::content;
use mrcnn_core::pretrained::{UrlError, UrlOptions, get_bytes, get_file};
use mrcnn_tests::http_server::{Server, send, send_file};
use std::time::Duration;

fn options(limit: u64) -> UrlOptions {
    UrlOptions {
        limit,
        offline: false,
        timeout: Duration::from_secs(20),
        attempts: 3,
        pause: Duration::from_millis(1),
    }
}

#[track_caller]
fn refused(url: &str, options: &UrlOptions) -> String {
    get_bytes(url, options).expect_err("an error").to_string()
}

#[test]
fn a_url_is_downloaded_into_memory_or_a_file() {
    let server = Server::of_file(content());
    let url = format!("{}/a/photo.jpg?key=secret", server.url());
    let limit = content().len() as u64;
    assert!(get_bytes(&url, &options(limit)).expect("bytes") == content());
    assert_eq!(server.requests()[0].target, "/a/photo.jpg?key=secret");

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("photo.jpg");
    let mut last = (0, None);
    let saved = get_file(&url, &path, &options(limit), &mut |done, total| {
        last = (done, total);
    });
    saved.expect("a file");
    assert!(std::fs::read(&path).expect("the file") == content());
    assert_eq!(last, (limit, Some(limit)));

    let error = get_file(&url, &path.join("below"), &options(limit), &mut |_, _| ());
    let error = error.expect_err("a file is no folder");
    assert!(matches!(&error, UrlError::File { path, .. } if path.ends_with("below")));
}

#[test]
fn a_file_above_the_limit_is_refused_with_and_without_its_length() {
    let server = Server::start(|index, request, stream| match index {
        0 => send_file(request, stream, &content()),
        _ => send(stream, "200 OK", &[], &content()),
    });
    for _ in 0..2 {
        let error = refused(&server.url(), &options(content().len() as u64 - 1));
        assert!(error.contains("larger than 0 MB, the limit"), "{error}");
    }
    assert_eq!(server.requests().len(), 2, "it would be as large again");
    // Without a length, the end of the connection is the end of the file.
    assert!(get_bytes(&server.url(), &options(1 << 30)).expect("bytes") == content());
}

#[test]
fn refusals_name_the_url_without_its_query() {
    for status in ["404 Not Found", "403 Forbidden"] {
        let server = Server::start(move |_, _, stream| send(stream, status, &[], b"no"));
        let url = format!("{}/photo.jpg?key=secret", server.url());
        let error = refused(&url, &options(1000));
        assert!(
            error.contains(status) && error.contains(&format!("{}/photo.jpg:", server.url())),
            "{error}"
        );
        assert!(!error.contains("secret"), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
    let url = "http://127.0.0.1:9/photo.jpg";
    let error = refused(url, &options(1000));
    assert!(
        error.contains("Connection refused") && error.contains("check the URL and the network"),
        "{error}"
    );
    let offline = UrlOptions {
        offline: true,
        ..options(1000)
    };
    assert!(refused(url, &offline).contains("MRCNN_OFFLINE"));
}

#[test]
fn a_download_that_fails_begins_anew() {
    let server = Server::start(|index, request, stream| match index {
        0 => send(stream, "503 Service Unavailable", &[], b""),
        1 => send(
            stream,
            "200 OK",
            &["Content-Length: 700001".into()],
            &content()[..300_000],
        ),
        _ => send_file(request, stream, &content()),
    });
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("clip.mp4");
    get_file(&server.url(), &path, &options(1 << 30), &mut |_, _| ()).expect("a file");
    assert!(std::fs::read(&path).expect("the file") == content());
    assert_eq!(server.requests().len(), 3);

    // Each attempt ends early.
    let server = Server::start(|_, _, stream| {
        send(stream, "200 OK", &["Content-Length: 9".into()], b"part");
    });
    let error = refused(&server.url(), &options(1000));
    assert!(error.contains("in the last of 3 attempts"), "{error}");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_server_that_stays_silent_is_given_up() {
    let server = Server::start(|_, _, _| std::thread::sleep(Duration::from_secs(60)));
    let impatient = UrlOptions {
        timeout: Duration::from_millis(200),
        attempts: 2,
        ..options(1000)
    };
    let error = refused(&server.url(), &impatient);
    assert!(
        error.contains("timeout") && error.contains("last of 2 attempts"),
        "{error}"
    );
}
