//! Several ranks give the results of one process.

use crate::{
    SEED, binary, cli, cli_ok, distance, loss_difference, records, render_shapes, shown, train,
};

/// Tolerance of losses and weights: sums over the images of a batch have another order, and each f32 rounding differs
/// by at most 6e-8 relative; 20 steps with a small learning rate stay below this.
pub const TOLERANCE: f64 = 1e-5;

#[test]
fn ranks_train_as_one_process() {
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    // 7 images with 4 per step: an epoch ends within a batch. 9 images are 3 evaluation batches, so one of 4 ranks has
    // none.
    render_shapes(&binary, at, 7, 9);
    let args = ["--set=train.steps=20", "--set=train.eval_every=10", SEED];
    let run = |ranks: usize, out: &str, accumulate: &str| {
        let out = format!("--out={out}");
        let more = [&args[..], &[&out, accumulate]].concat();
        cli_ok(&binary, ranks, at, &train(&more));
    };
    run(1, "one", "--accumulate=1");
    let start = [
        "--set=train.steps=1",
        "--set=train.learning_rate=1e-30",
        "--out=start",
        SEED,
    ];
    cli_ok(&binary, 1, at, &train(&start));
    let last = |run: &str| at.join(run).join("last.safetensors");
    let moved = distance(&last("one"), &last("start"));
    assert!(moved > 1e-4, "20 steps moved the weights by {moved}");
    // Also with the shard of each rank in micro-batches.
    for (ranks, out, accumulate) in [
        (2, "two", "--accumulate=1"),
        (4, "four", "--accumulate=1"),
        (2, "parts", "--accumulate=2"),
    ] {
        run(ranks, out, accumulate);
        let losses = loss_difference(&at.join("one"), &at.join(out));
        let weights = distance(&last("one"), &last(out));
        println!("{ranks} ranks: losses {losses:.1e}, weights {weights:.1e}, moved {moved:.1e}");
        assert!(
            losses <= TOLERANCE,
            "{ranks} ranks: losses differ by {losses}"
        );
        assert!(
            weights <= TOLERANCE,
            "{ranks} ranks: weights differ by {weights}"
        );
        // Also relative to the change of the weights: a ReLU unit that activates a step earlier changes 1e-4 of it.
        assert!(
            weights <= 1e-3 * moved,
            "{ranks} ranks went {weights} elsewhere"
        );
    }
}

/// Evaluation with any number of ranks, also more ranks than images, gives the same text.
#[test]
fn ranks_evaluate_bit_equal() {
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(&binary, at, 4, 10);
    cli_ok(
        &binary,
        1,
        at,
        &train(&["--out=run", "--set=train.steps=3"]),
    );
    let eval = |ranks: usize, area: &str| {
        let json = format!("found-{ranks}-{area}.json");
        let (json_arg, area) = (format!("--json={json}"), format!("--area={area}"));
        let weights = "--weights=run/best.safetensors";
        let args = ["eval", weights, "--backend=cpu", &json_arg, &area];
        let table = cli_ok(&binary, ranks, at, &args);
        let found = std::fs::read(at.join(json)).expect("detections");
        (table, found)
    };
    for area in ["mask", "box"] {
        let wanted = eval(1, area);
        assert!(wanted.0.contains("10 images") && wanted.1.len() > 1000);
        for ranks in [2, 3, 12] {
            let found = eval(ranks, area);
            assert_eq!(found.0, wanted.0, "{ranks} ranks");
            assert!(found.1 == wanted.1, "{ranks} ranks: other detections");
        }
    }
}

/// Evaluations, validation losses and report of a training run are bit-equal if the weights are equal.
#[test]
fn evaluation_while_training_is_bit_equal() {
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(&binary, at, 4, 9);
    // A learning rate of almost 0 does not change the weights.
    let args = [
        "--set=train.steps=2",
        "--set=train.learning_rate=1e-30",
        "--set=train.weight_decay=0",
    ];
    for (ranks, out) in [(1, "--out=one"), (3, "--out=three")] {
        cli_ok(&binary, ranks, at, &train(&[&args[..], &[out]].concat()));
    }
    let [wanted, found] = ["one", "three"].map(|run| {
        let mut records = records(&at.join(run), "eval");
        for record in &mut records {
            record["seconds"].take();
        }
        records
    });
    assert_eq!(wanted.len(), 1);
    assert!(wanted[0]["val_loss"]["loss_mask"].is_number());
    assert_eq!(found, wanted);
    let [wanted, found] = ["one", "three"].map(|run| worst_images(&at.join(run)));
    assert!(wanted.len() > 4, "more than the first rank's: {wanted:?}");
    assert_eq!(found, wanted);
}

/// Captions of the worst images in the report of a run.
fn worst_images(run: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(run.join("report.html")).expect("a report");
    let parts = text.split(['<', '>']);
    let captions = parts.filter(|part| part.contains(" found, ") && part.contains(" missed, "));
    captions.map(ToString::to_string).collect()
}

/// Fewer images than ranks, images without objects, a batch smaller than the number of ranks.
#[test]
fn uneven_and_empty_shards_do_not_change_results() {
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(&binary, at, 3, 1);
    without_objects(at, 2);
    let args = ["--set=train.steps=6", "--set=train.batch_size=3"];
    for (ranks, out) in [(1, "one"), (2, "two"), (5, "five")] {
        let out_arg = format!("--out={out}");
        let output = cli(
            &binary,
            ranks,
            at,
            &train(&[&args[..], &[&out_arg]].concat()),
        );
        let text = shown(&output);
        assert!(output.status.success(), "{text}");
        let warned = text.contains("leaves 2 of 5 ranks without images");
        assert_eq!(warned, ranks == 5, "{text}");
        let [wanted, found] = ["one", out].map(|run| at.join(run));
        let losses = loss_difference(&wanted, &found);
        assert!(
            losses <= TOLERANCE,
            "{ranks} ranks: losses differ by {losses}"
        );
    }
}

/// Removes the objects of all images except the first `but`.
fn without_objects(at: &std::path::Path, but: u64) {
    let path = [
        "shapes/annotations_train.json",
        "shapes/annotations/instances_train.json",
    ]
    .map(|name| at.join(name))
    .into_iter()
    .find(|path| path.is_file())
    .expect("annotations");
    let text = std::fs::read_to_string(&path).expect("annotations");
    let mut file: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let kept: Vec<u64> = file["images"]
        .as_array()
        .expect("images")
        .iter()
        .filter_map(|image| image["id"].as_u64())
        .take(but as usize)
        .collect();
    let annotations = file["annotations"].as_array_mut().expect("annotations");
    let before = annotations.len();
    annotations.retain(|a| kept.contains(&a["image_id"].as_u64().expect("an id")));
    assert!(annotations.len() < before);
    std::fs::write(&path, file.to_string()).expect("annotations");
}

#[test]
fn unsupported_settings_are_refused_by_name() {
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(&binary, at, 4, 1);
    for (setting, wanted) in [
        ("--set=train.replicas=2", "train.replicas: "),
        ("--set=model.norm=batch_norm", "model.norm: "),
        ("--set=model.head_norm=batch_norm", "model.head_norm: "),
        ("--set=train.wire=f16", "train.wire: "),
    ] {
        let output = cli(&binary, 2, at, &train(&["--out=run", setting]));
        let text = shown(&output);
        assert!(!output.status.success() && text.contains(wanted), "{text}");
    }
    // Ranks with other arguments: nothing may be trained.
    let common: Vec<String> = train(&["--out=run"])
        .iter()
        .map(|a| a.to_string())
        .collect();
    let mut command = crate::mpirun();
    for seed in ["1", "2"] {
        if seed == "2" {
            command.arg(":");
        }
        command
            .args(["-np", "1"])
            .arg(&binary)
            .args(&common)
            .args(["--seed", seed]);
    }
    let output = command.current_dir(at).output().expect("mpirun");
    let text = shown(&output);
    assert!(!output.status.success(), "{text}");
    assert!(
        text.contains("ranks [1] have other settings than rank 0"),
        "{text}"
    );
}
