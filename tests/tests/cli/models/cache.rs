//! The command `models`, the cache, and the network around it.

use super::{DETECTOR, Models, error_of};
use crate::shown;
use mrcnn_tests::http_server::{Server, send, send_file};
use std::process::Stdio;
use std::time::Duration;

/// The names in the cache, without locks.
fn files(models: &Models) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(models.cache()) else {
        return Vec::new();
    };
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.ends_with(".lock")).collect()
}

#[test]
fn models_are_listed_fetched_and_verified() {
    let models = Models::new(DETECTOR, b"the weights".to_vec());
    let line = |text: &str, name: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let words: Vec<String> = line
            .expect(name)
            .split_whitespace()
            .map(String::from)
            .collect();
        words
    };
    let list = models.ok(&["models"]);
    assert_eq!(
        line(&list, "tiny_coco")[1..],
        ["12.5", "11.5", "5.0", "MB", "no", "CC0-1.0"]
    );
    assert_eq!(
        line(&list, "maskrcnn_resnet50_fpn")[1..6],
        ["37.9", "34.6", "178.1", "MB", "no"]
    );
    assert_eq!(line(&list, "resnet50")[1..3], ["-", "-"]);
    assert!(
        models.server.requests().is_empty(),
        "a list uses no network"
    );

    let path = models.ok(&["models", "path", "tiny_coco"]);
    assert_eq!(path, "cache/models/tiny_coco.pth\n");
    assert!(models.ok(&["models", "verify"]).contains("no model is in"));
    let output = models.run(&["models", "fetch", "tiny_coco"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), path);
    // The size by the list, before the first request.
    assert!(
        shown(&output).contains("downloading tiny_coco (5.0 MB) from http://127.0.0.1"),
        "{}",
        shown(&output)
    );
    assert_eq!(models.ok(&["models", "fetch", "tiny_coco"]), path);
    assert_eq!(models.server.requests().len(), 1);
    assert_eq!(
        line(&models.ok(&["models"]), "tiny_coco")[3..6],
        ["0.0", "MB", "yes"]
    );
    assert_eq!(models.ok(&["models", "verify"]), "tiny_coco: correct\n");

    std::fs::write(models.cache().join("tiny_coco.pth"), "other weights").expect("a file");
    let text = models.error(&["models", "verify"]);
    assert!(
        text.contains("is expected: remove the file") && text.contains("1 of 1 files"),
        "{text}"
    );
    let text = models.error(&["models", "fetch", "resnet18", "tiny_coc"]);
    assert!(text.contains("the nearest names are tiny_coco"), "{text}");
    assert_eq!(
        files(&models),
        ["tiny_coco.pth"],
        "names are checked before downloads"
    );
}

#[test]
fn one_of_several_processes_downloads() {
    let mut models = Models::new(DETECTOR, Vec::new());
    let bytes = b"the weights".to_vec();
    std::fs::write(models.at().join("served"), &bytes).expect("a file");
    let hash = mrcnn_core::pretrained::sha256(&models.at().join("served")).expect("a hash");
    models.server = Server::start(move |_, request, stream| {
        // Long enough for all processes to start.
        std::thread::sleep(Duration::from_secs(2));
        send_file(request, stream, &bytes);
    });
    models.write_list(
        &DETECTOR
            .replace("HASH", &hash)
            .replace("URL", &models.server.url()),
    );
    let start = || {
        let mut command = models.command(&["models", "fetch", "tiny_coco"]);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program")
    };
    let processes: Vec<_> = (0..4).map(|_| start()).collect();
    let outputs = processes
        .into_iter()
        .map(|process| process.wait_with_output().expect("an end"));
    let texts: Vec<String> = outputs
        .map(|output| {
            assert!(output.status.success(), "{}", shown(&output));
            shown(&output)
        })
        .collect();
    assert_eq!(models.server.requests().len(), 1, "{texts:?}");
    let waits = |text: &&String| text.contains("another process downloads tiny_coco");
    assert!(texts.iter().filter(waits).count() >= 1, "{texts:?}");
    assert_eq!(files(&models), ["tiny_coco.pth"]);
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    let bytes = b"the weights".to_vec();
    let models = Models::new(
        &DETECTOR.replace("URL", "http://models.invalid"),
        bytes.clone(),
    );
    let proxy = Server::start(move |_, request, stream| match request.method.as_str() {
        "CONNECT" => send(stream, "200 Connection established", &[], b""),
        _ => send_file(request, stream, &bytes),
    });
    for (variable, is_used) in [
        ("HTTP_PROXY", true),
        ("https_proxy", true),
        ("NO_PROXY", false),
    ] {
        let _ = std::fs::remove_dir_all(models.cache());
        let before = proxy.requests().len();
        let mut command = models.command(&["models", "fetch", "tiny_coco"]);
        match is_used {
            true => command.env(variable, proxy.url()),
            false => command
                .env("HTTP_PROXY", proxy.url())
                .env(variable, "models.invalid"),
        };
        let output = command.output().expect("the program");
        assert_eq!(
            output.status.success(),
            is_used,
            "{variable}: {}",
            shown(&output)
        );
        let requests = proxy.requests().split_off(before);
        let targets: Vec<_> = requests
            .iter()
            .map(|request| request.target.as_str())
            .collect();
        match is_used {
            true => assert_eq!(targets, ["models.invalid:80", "/w/tiny_coco.pth"]),
            false => assert!(targets.is_empty(), "{targets:?}"),
        }
    }
}

#[test]
fn without_a_network_the_error_names_the_path_of_the_file() {
    let models = Models::new(
        &DETECTOR.replace("URL", "http://models.invalid"),
        b"the weights".to_vec(),
    );
    let text = models.error(&["models", "fetch", "tiny_coco"]);
    for part in [
        "http://models.invalid/w/tiny_coco.pth",
        "cache/models/tiny_coco.pth",
        "MRCNN_MODEL_BASE_URL",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let mut offline = models.command(&["models", "fetch", "tiny_coco"]);
    let text = error_of(
        &offline
            .env("MRCNN_OFFLINE", "1")
            .output()
            .expect("the program"),
    );
    assert!(text.contains("MRCNN_OFFLINE forbids"), "{text}");
    // As the error advises, the file is put there by hand.
    std::fs::create_dir_all(models.cache()).expect("a folder");
    std::fs::copy(
        models.at().join("served"),
        models.cache().join("tiny_coco.pth"),
    )
    .expect("a file");
    assert!(offline.output().expect("the program").status.success());
    let mut certificates = models.command(&["models", "fetch", "resnet18"]);
    let text = error_of(
        &certificates
            .env("SSL_CERT_FILE", "none.pem")
            .output()
            .expect("the program"),
    );
    assert!(
        text.contains("none.pem") && text.contains("SSL_CERT_FILE"),
        "{text}"
    );
}

#[test]
fn an_invalid_list_is_named() {
    let models = Models::new("", Vec::new());
    for (text, part) in [
        ("[[model]]\nname = \"a\"", "missing field `url`"),
        (
            "[[model]]\nname = \"resnet50\"\nurl = \"https://example.org/a\"",
            "`resnet50` is used twice",
        ),
        (
            "[[model]]\nname = \"a\"\nurl = \"https://example.org/resnet18-f37072fd.pth\"",
            "another model has a file",
        ),
    ] {
        models.write_list(text);
        let text = models.error(&["models"]);
        assert!(
            text.contains("models.toml") && text.contains(part),
            "{text}"
        );
    }
    std::fs::remove_file(models.at().join("models.toml")).expect("the list");
    assert!(
        models
            .error(&["models"])
            .contains("MRCNN_MODELS names this file")
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_and_a_read_only_disk_are_one_error() {
    use crate::full_disk::Tmpfs;
    let models = Models::new(DETECTOR, vec![7; 3 << 20]);
    let Some(disk) = Tmpfs::mount(models.at().join("cache"), 2 << 20) else {
        mrcnn_test_support::skip("a full cache: this user may not mount a tmpfs");
        return;
    };
    let text = models.error(&["models", "fetch", "tiny_coco"]);
    assert!(
        text.contains("No space left") && text.contains("free space"),
        "{text}"
    );
    assert!(files(&models).is_empty(), "{:?}", files(&models));

    let small = Models::new(DETECTOR, b"the weights".to_vec());
    std::fs::copy(
        small.at().join("models.toml"),
        models.at().join("models.toml"),
    )
    .expect("the list");
    models.ok(&["models", "fetch", "tiny_coco"]);
    disk.make_read_only();
    // Cached files can be used; nothing can be added.
    models.ok(&["models", "fetch", "tiny_coco"]);
    let text = models.error(&["models", "fetch", "resnet18"]);
    assert!(
        text.contains("Read-only file system") && text.contains("MRCNN_CACHE"),
        "{text}"
    );
}
