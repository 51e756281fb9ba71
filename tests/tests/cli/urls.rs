//! `predict` of images and videos by URL, from a server on this machine.

use crate::video::{has_ffmpeg, lines, render_clip, streams};
use crate::{binary, cli_ok, render_shapes, shown, train_args};
use mrcnn_tests::http_server::{Request, Server, send, send_file};
use serde_json::Value;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};

/// `predict` with the weights of `base`, with a network.
fn predict(at: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command
        .args([
            "predict",
            "--backend=cpu",
            "--weights=base/last.safetensors",
        ])
        .args(args)
        .current_dir(at);
    // The proxy of this machine does not reach this machine.
    for name in ["MRCNN_OFFLINE", "ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.output().expect("the program")
}

fn results(at: &Path, file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(at.join(file)).expect("results");
    serde_json::from_str(&text).expect("JSON")
}

/// A server of the first validation image, a page, and a video.
fn serve(at: &Path) -> Server {
    let image = std::fs::read(at.join("shapes/val/000000.png")).expect("an image");
    let clip = std::fs::read(at.join("clip.mp4")).unwrap_or_default();
    Server::start(move |_, request: &Request, stream: &mut TcpStream| {
        let path = request.target.split('?').next().unwrap_or_default();
        match path {
            "/my%20photo.png" | "/image" => send_file(request, stream, &image),
            "/clip.mp4" => send_file(request, stream, &clip),
            "/page.png" => send(stream, "200 OK", &[], b"<html>log in first</html>"),
            _ => send(stream, "404 Not Found", &[], b"no"),
        }
    })
}

#[test]
fn images_and_videos_are_predicted_by_their_url() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    cli_ok(at, &[&train_args()[..], &["--out=base"]].concat());
    let has_ffmpeg = has_ffmpeg();
    if has_ffmpeg {
        render_clip(&at.join("clip.mp4"), 1);
    }
    let server = serve(at);
    let base = server.url();

    let urls = ["my%20photo.png?key=secret", "image?id=1", "image?id=2"]
        .map(|path| format!("{base}/{path}"));
    let mut args: Vec<&str> = urls.iter().map(String::as_str).collect();
    args.extend([
        "shapes/val/000000.png",
        "--score=0",
        "--out=found",
        "--save=overlay,labelme",
    ]);
    let output = predict(at, &args);
    let text = shown(&output);
    assert!(
        output.status.success() && !text.contains("secret"),
        "{text}"
    );
    let names: Vec<String> = results(at, "found/images.json")
        .iter()
        .map(|image| image["file_name"].as_str().expect("a name").to_string())
        .collect();
    let wanted = [
        format!("{base}/my%20photo.png"),
        format!("{base}/image"),
        format!("{base}/image#2"),
        "shapes/val/000000.png".into(),
    ];
    assert_eq!(names, wanted);
    for file in [
        "0001_my photo.png",
        "0002_image.png",
        "0003_image.png",
        "labelme/0001_my photo.png",
    ] {
        assert!(at.join("found").join(file).is_file(), "{file}");
    }
    // The same pixels give the same objects.
    let records = results(at, "found/detections.json");
    let masks = |name: &String| -> Vec<String> {
        let of_image = records
            .iter()
            .filter(|record| record["file_name"] == **name);
        of_image
            .map(|record| record["segmentation"].to_string())
            .collect()
    };
    assert!(!masks(&names[0]).is_empty() && masks(&names[0]) == masks(&names[3]));

    let requests = server.requests().len();
    let output = predict(at, &[&args[..3], &["--resume", "--out=found"]].concat());
    assert!(shown(&output).contains("3 of 3 images are already done"));
    assert_eq!(server.requests().len(), requests);

    failures(at, &base);
    if has_ffmpeg {
        let output = predict(at, &[&format!("{base}/clip.mp4?key=secret"), "--out=clip"]);
        assert!(output.status.success(), "{}", shown(&output));
        let found = streams(&at.join("clip/0001_clip.mp4"));
        assert_eq!(found["video"]["nb_read_frames"], "10");
        assert!(found["audio"].is_object());
        assert_eq!(lines(&at.join("clip/0001_clip.jsonl")).len(), 10);
        let files = std::fs::read_dir(at.join("clip"))
            .expect("a folder")
            .count();
        assert_eq!(files, 2, "the download is removed");
        let error = shown(&predict(at, &[&format!("{base}/none.mp4")]));
        assert!(
            error.contains("/none.mp4: the server answered 404"),
            "{error}"
        );
    }
}

/// Each is one error that names the URL, and the other images are predicted.
fn failures(at: &Path, base: &str) {
    let offline = ["--offline"];
    for (path, reason, more) in [
        (
            "none.png",
            "the server answered 404 Not Found; check the URL",
            &[][..],
        ),
        ("page.png", "it is an HTML page", &[][..]),
        (
            "image",
            "--offline or MRCNN_OFFLINE forbids the network",
            &offline[..],
        ),
    ] {
        let url = format!("{base}/{path}");
        let args = [&["shapes/val/000000.png", &url, "--out=failed"][..], more].concat();
        let output = predict(at, &args);
        let text = shown(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains(&format!("error: {url}: ")) && text.contains(reason),
            "{text}"
        );
        assert!(text.contains("1 of 2 images could not be read"), "{text}");
    }
    let text = shown(&predict(at, &["ftp://example.org/photo.jpg"]));
    assert!(text.contains("URLs of http and https are read"), "{text}");
    let text = shown(&predict(
        at,
        &["http://127.0.0.1:9/photo.jpg", "--out=failed"],
    ));
    assert!(text.contains("Connection refused"), "{text}");
}
