//! Prefixes of wrappers before the names of weights, and parts of files.

use super::detectron2_names::{background_last, detectron2_name, without_background};
use super::{assert_same, named, old_name, read, small, written};
use mrcnn_core::weights::StateDict;
use mrcnn_core::weights::import::{Format, ImportOptions, import};
use mrcnn_tests::torch_file::{self, Named};

/// Every tensor is found, whatever prefix the wrappers and modules around the model add to its name.
#[test]
fn prefixes_of_wrappers_are_removed() {
    let (_, wanted) = small();
    let of_detectron2 = without_background(wanted.clone());
    let folder = tempfile::tempdir().expect("a folder");
    let prefixes = [
        "",
        "module.",
        "model.",
        "model.module.",
        "_orig_mod.",
        "model._orig_mod.",
        "_fsdp_wrapped_module.",
        "net.",
        "lightning.model.detector.",
    ];
    for (index, prefix) in prefixes.iter().enumerate() {
        let mut theirs = named(&wanted, |name| format!("{prefix}{}", old_name(name)));
        // Another entry of a Lightning module, beside the model.
        theirs.push(("criterion.weight".into(), vec![2], vec![1.0, 2.0]));
        let bytes = torch_file::zipped(&theirs);
        let imported = read(&written(folder.path(), &format!("{index}.ckpt"), &bytes));
        assert_eq!(imported.format, Format::Torchvision, "{prefix}");
        let beside = "criterion.weight";
        let mut found = imported.checkpoint.tensors;
        match imported.ignored.iter().any(|name| name == beside) {
            true => assert!(
                imported
                    .notes
                    .iter()
                    .any(|note| note.contains("which is removed")),
                "{prefix}"
            ),
            // Without a prefix it is reported when the model is loaded.
            false => assert!(found.remove(beside).is_some(), "{prefix}"),
        }
        assert_same(&found, &wanted);

        let theirs = named(&wanted, detectron2_name)
            .into_iter()
            .map(background_last);
        let theirs: Vec<Named> = theirs
            .map(|(name, shape, values)| (format!("{prefix}{name}"), shape, values))
            .collect();
        let bytes = torch_file::zipped(&theirs);
        let imported = read(&written(folder.path(), &format!("{index}.pth"), &bytes));
        assert_eq!(imported.format, Format::Detectron2, "{prefix}");
        assert_same(&imported.checkpoint.tensors, &of_detectron2);
    }
}

/// A submodule that was compiled or wrapped alone, an encoder in a self-supervised model, several models in a file.
#[test]
fn wrapped_parts_and_several_models_are_distinguished() {
    let (_, wanted) = small();
    let folder = tempfile::tempdir().expect("a folder");
    let file =
        |name: &str, tensors: &[Named]| written(folder.path(), name, &torch_file::zipped(tensors));
    let inner = named(&wanted, |name| {
        name.replace("backbone.body.", "backbone._orig_mod.body.")
            .replace("roi_heads.", "roi_heads.module.")
    });
    assert_same(
        &read(&file("inner.pth", &inner)).checkpoint.tensors,
        &wanted,
    );

    let body: StateDict = wanted
        .iter()
        .filter(|(name, _)| name.starts_with("backbone.body."))
        .map(|(name, data)| (name.clone(), data.clone()))
        .collect();
    let mut encoder = named(&body, |name| {
        name.replace("backbone.body.", "module.encoder_q.")
    });
    encoder.push(("module.encoder_q.fc.bias".into(), vec![1], vec![1.0]));
    encoder.push(("module.queue".into(), vec![1], vec![1.0]));
    let imported = read(&file("encoder.pth", &encoder));
    assert_eq!(imported.format, Format::Backbone);
    assert_same(&imported.checkpoint.tensors, &body);

    let mut both = named(&wanted, |name| format!("model.{name}"));
    both.extend(named(&without_background(wanted.clone()), |name| {
        format!("ema_model.module.{name}")
    }));
    let path = file("both.pth", &both);
    let refused = import(&path, &ImportOptions::default())
        .expect_err("two models")
        .to_string();
    assert!(
        refused.contains("`ema_model.`, `model.`") && refused.contains("--prefix"),
        "{refused}"
    );
    let options = ImportOptions {
        prefix: Some("model".into()),
        ..ImportOptions::default()
    };
    let imported = import(&path, &options).unwrap_or_else(|error| panic!("{error}"));
    assert_same(&imported.checkpoint.tensors, &wanted);
}

/// Names of no supported model: the error has the prefix that all of them share.
#[test]
fn the_prefix_of_unknown_names_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let tensors = ["a", "b"].map(|name| (format!("my.net.{name}.weight"), vec![1], vec![1.0]));
    let path = written(folder.path(), "unknown.pth", &torch_file::zipped(&tensors));
    let refused = import(&path, &ImportOptions::default())
        .expect_err("unknown names")
        .to_string();
    assert!(
        refused.contains("all of them begin with `my.net.`"),
        "{refused}"
    );
}
