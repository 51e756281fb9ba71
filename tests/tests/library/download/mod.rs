//! Downloads of pretrained models from a server on this machine: whole, broken off, wrong, slow, and refused.

mod broken;
mod urls;

use mrcnn_core::pretrained::{
    FetchOptions, Fetched, PretrainedError, PretrainedModel, fetch, parse, sha256,
};
use mrcnn_tests::http_server::{Server, send, send_file};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file that takes several reads.
fn content() -> Vec<u8> {
    (0..700_001u32)
        .map(|index| (index.wrapping_mul(index) >> 7) as u8)
        .collect()
}

fn digest(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bytes).expect("a file");
    sha256(file.path()).expect("a hash")
}

/// A model `cells` at `url`, with the hash of [`content`] unless another is given.
fn model(url: &str, hash: Option<&str>) -> PretrainedModel {
    let known = digest(&content());
    let hash = hash.unwrap_or(&known);
    let text = format!(
        "[[model]]\nname = \"cells\"\nurl = \"{url}/w/cells.safetensors\"\nsize = 700001\nsha256 = \"{hash}\""
    );
    parse(&text).expect("a model").remove(0)
}

struct Cache {
    _folder: tempfile::TempDir,
    options: FetchOptions,
}

impl Cache {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = FetchOptions {
            folder: folder.path().join("models"),
            base_url: None,
            offline: false,
            timeout: Duration::from_secs(20),
            attempts: 3,
            pause: Duration::from_millis(1),
        };
        Self {
            _folder: folder,
            options,
        }
    }

    fn fetch(&self, model: &PretrainedModel) -> Result<Fetched, PretrainedError> {
        fetch(model, &self.options, &mut |_| ())
    }

    #[track_caller]
    fn refused(&self, model: &PretrainedModel) -> String {
        self.fetch(model).expect_err("an error").to_string()
    }

    fn part(&self) -> PathBuf {
        self.options.folder.join("cells.safetensors.partial")
    }

    fn write_part(&self, bytes: &[u8]) {
        std::fs::create_dir_all(&self.options.folder).expect("a folder");
        std::fs::write(self.part(), bytes).expect("a part");
    }

    /// The files in the cache, without the lock.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.options.folder).expect("the cache");
        let names = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| !name.ends_with(".lock")).collect()
    }

    #[track_caller]
    fn holds_the_file(&self, fetched: &Fetched) {
        assert_eq!(self.files(), ["cells.safetensors"]);
        assert!(std::fs::read(fetched.path()).expect("the file") == content());
        assert_eq!(fetched.sha256(), digest(&content()));
    }
}

#[test]
fn a_file_is_downloaded_once_and_checked() {
    let server = Server::of_file(content());
    let (cache, model) = (Cache::new(), model(&server.url(), None));
    let mut events = Vec::new();
    let fetched = fetch(&model, &cache.options, &mut |event| {
        events.push(format!("{event:?}"))
    });
    cache.holds_the_file(&fetched.expect("the file"));
    // The size is known before the first request.
    assert!(
        events[0].starts_with("Starting") && events[0].contains("Some(700001)"),
        "{events:?}"
    );
    assert!(events.contains(&"Received { done: 700001, total: Some(700001) }".into()));
    assert_eq!(events.last().expect("an event"), "Checking");

    cache.holds_the_file(&cache.fetch(&model).expect("the cached file"));
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].target, "/w/cells.safetensors");
    assert!(
        requests[0]
            .header("user-agent")
            .is_some_and(|agent| agent.starts_with("mrcnn/"))
    );

    let mirrored = FetchOptions {
        base_url: Some(format!("{}/mirror/", server.url())),
        ..Cache::new().options
    };
    fetch(&model, &mirrored, &mut |_| ()).expect("the file of the mirror");
    assert_eq!(server.requests()[1].target, "/mirror/cells.safetensors");
}

#[test]
fn a_wrong_file_is_not_kept() {
    let server = Server::of_file(b"<html>log in first</html>".to_vec());
    let (cache, wanted) = (Cache::new(), model(&server.url(), None));
    let error = cache.refused(&wanted);
    assert!(
        error.contains(&digest(&content()))
            && error.contains(&digest(b"<html>log in first</html>")),
        "{error}"
    );
    assert!(
        error.contains("/w/cells.safetensors") && error.contains("not kept"),
        "{error}"
    );
    assert!(cache.files().is_empty(), "{:?}", cache.files());
    assert_eq!(
        server.requests().len(),
        1,
        "another attempt would give the same file"
    );
    let mirrored = FetchOptions {
        base_url: Some(format!("{}/w", server.url())),
        ..cache.options.clone()
    };
    let error = fetch(&wanted, &mirrored, &mut |_| ())
        .expect_err("another file")
        .to_string();
    assert!(
        error.contains("the mirror of MRCNN_MODEL_BASE_URL") && error.contains("MRCNN_MODELS"),
        "{error}"
    );

    // A file that was put there by hand, or damaged since.
    std::fs::write(cache.options.folder.join("cells.safetensors"), "damaged").expect("a file");
    let error = cache.refused(&wanted);
    assert!(
        error.contains("remove the file") && error.contains("models fetch cells"),
        "{error}"
    );
}

#[test]
fn refusals_are_errors_with_what_to_do_without_a_network() {
    for status in ["404 Not Found", "403 Forbidden"] {
        let server = Server::start(move |_, _, stream| send(stream, status, &[], b"no"));
        let (cache, model) = (Cache::new(), model(&server.url(), None));
        let error = cache.refused(&model);
        assert!(
            error.contains(status) && error.contains(&server.url()),
            "{error}"
        );
        let path = cache
            .options
            .folder
            .join("cells.safetensors")
            .display()
            .to_string();
        assert!(
            error.contains(&path) && error.contains("MRCNN_MODEL_BASE_URL"),
            "{error}"
        );
        assert!(cache.files().is_empty());
        assert_eq!(server.requests().len(), 1);
    }
    let (cache, model) = (Cache::new(), model("http://127.0.0.1:9", None));
    let offline = FetchOptions {
        offline: true,
        ..cache.options.clone()
    };
    let error = fetch(&model, &offline, &mut |_| ())
        .expect_err("no network")
        .to_string();
    assert!(
        error.contains("http://127.0.0.1:9/w/cells.safetensors"),
        "{error}"
    );
    assert!(
        error.contains(&offline.folder.display().to_string()),
        "{error}"
    );
    assert!(
        !offline.folder.exists(),
        "nothing is written without a download"
    );
    // Nobody listens at the port.
    assert!(cache.refused(&model).contains("Connection refused"));
}

#[test]
fn redirects_are_followed() {
    let server = Server::start(|_, request, stream| match request.target.as_str() {
        "/w/cells.safetensors" => send(
            stream,
            "302 Found",
            &["Location: /elsewhere/1234".into()],
            b"",
        ),
        _ => send_file(request, stream, &content()),
    });
    let (cache, model) = (Cache::new(), model(&server.url(), None));
    cache.write_part(&content()[..500_000]);
    cache.holds_the_file(&cache.fetch(&model).expect("the file"));
    let requests = server.requests();
    assert_eq!(
        (requests[1].target.as_str(), requests[1].start()),
        ("/elsewhere/1234", Some(500_000))
    );
}

#[test]
fn a_cache_that_cannot_be_a_folder_is_named() {
    let server = Server::of_file(content());
    let (mut cache, model) = (Cache::new(), model(&server.url(), None));
    let file = cache
        .options
        .folder
        .parent()
        .expect("a folder")
        .join("file");
    std::fs::write(&file, "").expect("a file");
    cache.options.folder = file.join("models");
    let error = cache.refused(&model);
    assert!(
        error.contains("file") && error.contains("MRCNN_CACHE"),
        "{error}"
    );
    assert!(server.requests().is_empty() && !Path::new(&cache.part()).exists());
}

#[test]
fn the_documentation_lists_every_model() {
    let text = std::fs::read_to_string(mrcnn_tests::root().join("docs/models.md"))
        .expect("docs/models.md");
    // The other tables have fewer columns.
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| `") && line.matches('|').count() == 7);
    let rows: Vec<&str> = rows.collect();
    let models = mrcnn_core::pretrained::models().expect("the list");
    assert_eq!(rows.len(), models.len());
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.1}"));
    for (row, model) in rows.iter().zip(&models) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let size = match model.size {
            Some(bytes) => format!("{:.1}", bytes as f64 / 1e6),
            None => "not known".into(),
        };
        let wanted = [
            format!("`{}`", model.name),
            number(model.box_ap),
            number(model.mask_ap),
            size,
            model.code_license.clone().unwrap_or_default(),
            model.license().into(),
        ];
        assert_eq!(cells, wanted);
    }
    // The time and the memory of every model that predicts.
    let costs = |line: &&str| line.starts_with("| `") && line.matches('|').count() == 6;
    let costs: Vec<&str> = text.lines().filter(costs).collect();
    for model in models.iter().filter(|model| model.mask_ap.is_some()) {
        let name = format!("`{}`", model.name);
        assert!(costs.iter().any(|row| row.contains(&name)), "{name}");
    }
}
