//! Pretrained models by name, from a server on this machine.

mod cache;
mod use_by_name;

use crate::{binary, shown};
use burn::tensor::Device;
use mrcnn_core::MaskRcnn;
use mrcnn_core::config::ModelConfig;
use mrcnn_core::pretrained::sha256;
use mrcnn_tests::http_server::Server;
use mrcnn_tests::recipe;
use mrcnn_tests::torch_file::{self, Named};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A list of models in a folder, and the server of their file.
struct Models {
    folder: tempfile::TempDir,
    server: Server,
}

impl Models {
    /// A server of one file, and a list of `entries`, in which `URL` is the server and `HASH` that of the file.
    fn new(entries: &str, bytes: Vec<u8>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("served"), &bytes).expect("a file");
        let hash = sha256(&folder.path().join("served")).expect("a hash");
        let models = Self {
            folder,
            server: Server::of_file(bytes),
        };
        let entries = entries.replace("HASH", &hash);
        models.write_list(&entries.replace("URL", &models.server.url()));
        models
    }

    fn at(&self) -> &Path {
        self.folder.path()
    }

    fn write_list(&self, text: &str) {
        std::fs::write(self.at().join("models.toml"), text).expect("a list");
    }

    /// The folder of the cache.
    fn cache(&self) -> PathBuf {
        self.at().join("cache/models")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).current_dir(self.at());
        for (name, value) in [("MRCNN_MODELS", "models.toml"), ("MRCNN_CACHE", "cache")] {
            command.env(name, value);
        }
        // The proxy of this machine does not reach this machine.
        for name in [
            "MRCNN_OFFLINE",
            "MRCNN_MODEL_BASE_URL",
            "ALL_PROXY",
            "HTTPS_PROXY",
            "HTTP_PROXY",
        ] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program")
    }

    /// Standard output of a command that succeeds.
    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", shown(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Standard error of a command that fails with one error.
    #[track_caller]
    fn error(&self, args: &[&str]) -> String {
        error_of(&self.run(args))
    }
}

/// Standard error of a command that failed with one error.
#[track_caller]
fn error_of(output: &Output) -> String {
    let text = shown(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.matches("error: ").count() == 1 && !text.contains("panicked"),
        "{text}"
    );
    text
}

/// An entry of a detector with torchvision's classes.
const DETECTOR: &str = r#"
[[model]]
name = "tiny_coco"
url = "URL/w/tiny_coco.pth"
sha256 = "HASH"
size = 5_000_000
classes = "coco_91"
box_ap = 12.5
mask_ap = 11.5
weights_license = "CC0-1.0"
settings = ["model.norm_eps=0", "image.min_size=96", "model.rpn.post_nms_test=50"]
"#;

/// A file of torchvision with a narrow Mask R-CNN for COCO.
fn detector() -> Vec<u8> {
    let config = recipe::narrow_config(90);
    torch_file::zipped(&named(&config, |name| Some(name.to_string())))
}

/// A file of torchvision with a narrow ResNet-50.
fn backbone() -> Vec<u8> {
    let config = ModelConfig {
        width: 4,
        fpn_channels: 8,
        num_classes: 2,
        ..ModelConfig::default()
    };
    let of_body = |name: &str| Some(name.strip_prefix("backbone.body.")?.to_string());
    torch_file::zipped(&named(&config, of_body))
}

/// Recipe weights of a network under other names; those without one are left out.
fn named(config: &ModelConfig, rename: impl Fn(&str) -> Option<String>) -> Vec<Named> {
    let tensors = recipe::tensors(&MaskRcnn::new(config, 0, &Device::flex()), 3);
    let tensors = tensors.iter().filter_map(|(name, data)| {
        Some((
            rename(name)?,
            data.shape().to_vec(),
            data.iter::<f32>().collect(),
        ))
    });
    tensors.collect()
}
