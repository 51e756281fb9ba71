//! The options of `train`.

use super::{Table, evaluations, is_offline, losses, setting, tensor, text, trained};
use crate::{cli, cli_error, cli_ok, render_shapes, shown};

pub const TRAIN: Table = &[
    ("--config", |at| {
        // The nuclei preset, reduced to the size of the others.
        let small = [
            "--config=nuclei",
            "--set=image.min_size=96",
            "--set=image.max_size=128",
        ];
        let run = trained(at, "config", &small);
        assert_eq!(setting(&run, "weight_decay"), "0.01");
        assert_eq!(setting(&at.join("base"), "weight_decay"), "0.05");
    }),
    ("--data", |at| {
        let other = at.join("elsewhere");
        std::fs::create_dir_all(&other).expect("a folder");
        render_shapes(&other, 5, 1);
        let run = trained(at, "data", &["--data=elsewhere/shapes"]);
        assert_eq!(setting(&run, "dir"), "\"elsewhere/shapes\"");
        assert!(losses(&run) != losses(&at.join("base")));
    }),
    ("--images", |at| {
        let file = at.join("shapes/annotations/instances_train.json");
        std::fs::create_dir_all(at.join("alone")).expect("a folder");
        std::fs::copy(file, at.join("alone/labels.json")).expect("annotations");
        let run = trained(
            at,
            "images",
            &["--data=alone/labels.json", "--images=shapes/train"],
        );
        assert_eq!(setting(&run, "images"), "\"shapes/train\"");
        // One of four images is held out, and the run reports it.
        assert_eq!(setting(&run, "val_fraction"), "0.1");
        assert_eq!(setting(&at.join("base"), "val_fraction"), "0.0");
        let eval = ["eval", "--backend=cpu", "--weights=images/last.safetensors"];
        let found = crate::cli_ok(at, &eval);
        assert!(
            found.contains("1 images of") && found.contains("held out"),
            "{found}"
        );
    }),
    ("--out", |at| {
        assert!(trained(at, "out", &[]).join("metrics.jsonl").is_file())
    }),
    ("--resume", |at| {
        let run = trained(at, "resume", &[]);
        cli_ok(
            at,
            &[
                "train",
                "--resume=resume",
                "--backend=cpu",
                "--set=train.steps=4",
            ],
        );
        assert_eq!(losses(&run).len(), 4);
    }),
    ("--weights", |at| {
        let run = trained(at, "weights", &["--weights=base/last.safetensors"]);
        let (first, fresh) = (losses(&run)[0], losses(&at.join("base"))[0]);
        assert!(first != fresh, "{first}: it started anew");
    }),
    ("--offline", |at| {
        is_offline(
            at,
            &[
                "train",
                "--data=shapes",
                "--backend=cpu",
                "--weights=resnet18",
            ],
        );
    }),
    ("--seed", |at| {
        let run = trained(at, "seed", &["--seed=7"]);
        assert!(losses(&run) != losses(&at.join("base")));
        assert_eq!(setting(&run, "seed"), "7");
        // The same value in both is accepted; another value is an error for every option.
        for (option, set, is_error) in [
            ("--seed=7", "train.seed=7", false),
            ("--seed=7", "train.seed = 4", true),
            ("--eval-every=1", "train.eval_every=2", true),
            ("--precision=f32", "train.precision=\"bf16\"", true),
            ("--weights=none", "data.dir=other", true),
            (
                "--weights=base/last.safetensors",
                "train.weights=none",
                true,
            ),
        ] {
            let set = format!("--set={set}");
            let mut args = crate::train_args();
            args.extend([option, &set, "--set=train.steps=1", "--out=contradiction"]);
            let output = cli(at, &args);
            assert_eq!(output.status.success(), !is_error, "{}", shown(&output));
            if is_error {
                let text = shown(&output);
                let key = set.split(['=', ' ']).nth(1).expect("a key");
                assert!(text.contains("contradicts") && text.contains(key), "{text}");
            }
        }
    }),
    ("--epochs", |at| {
        // Four images with two per step: five epochs are ten steps.
        let run = trained(at, "epochs", &["--epochs=5"]);
        assert_eq!(losses(&run).len(), 10);
        // 100 for 3 steps, scaled to ten steps.
        assert_eq!(setting(&run, "warmup_steps"), "333");
    }),
    ("--recipe", |at| {
        let weights = "--weights=base/last.safetensors";
        let run = trained(at, "auto", &[weights, "--recipe=auto"]);
        // The steps are given with --set, and the rest follows them; four images are few.
        assert_eq!(losses(&run).len(), 3);
        assert_eq!(setting(&run, "milestones"), "[2, 2]");
        assert_eq!(setting(&run, "freeze_at"), "3");
        assert_eq!(setting(&run, "eval_every"), "1");
        let log = std::fs::read_to_string(run.join("train.log")).expect("a log");
        assert!(
            log.contains("model.freeze_at=3: 4 images are too few"),
            "{log}"
        );
        // Weights of this program contain a recipe, which is kept.
        let own = trained(at, "own", &[weights]);
        assert_eq!(
            setting(&own, "freeze_at"),
            setting(&at.join("base"), "freeze_at")
        );
        let error = cli_error(at, &[&crate::train_args()[..], &["--recipe=auto"]].concat());
        assert!(error.contains("add --weights FILE"), "{error}");
    }),
    ("--accumulate", |at| {
        let started = |out: &str, more: &[&str]| {
            let mut args = crate::train_args();
            args.extend(["--set=train.replicas=1", out]);
            args.extend(more);
            let output = cli(at, &args);
            assert!(output.status.success(), "{}", shown(&output));
            shown(&output)
        };
        // The memory estimate has half of the images, and the first loss is the same.
        assert!(started("--out=whole", &[]).contains(" 2 x "));
        assert!(started("--out=parts", &["--accumulate=2"]).contains(" 1 x "));
        let [whole, parts] = ["whole", "parts"].map(|out| losses(&at.join(out))[0]);
        assert!((whole - parts).abs() < 1e-3 * whole, "{whole}, {parts}");
        let args = [&crate::train_args()[..], &["--accumulate=2"]].concat();
        let error = cli_error(at, &args);
        assert!(error.contains("set train.replicas to 1"), "{error}");
    }),
    ("--eval-every", |at| {
        assert_eq!(
            evaluations(&trained(at, "eval-every", &["--eval-every=1"])),
            3
        );
        assert_eq!(evaluations(&at.join("base")), 1);
    }),
    ("--patience", |at| {
        let still = [
            "--eval-every=1",
            "--patience=1",
            "--set=train.learning_rate=0",
        ];
        assert_eq!(losses(&trained(at, "patience", &still)).len(), 2);
    }),
    ("--freeze-at", |at| {
        let stem = |out: &str, parts: &str| {
            let args = [parts, "--set=train.warmup_steps=0"];
            let weights = trained(at, out, &args).join("last.safetensors");
            let of = |name: &str| tensor(&weights, &format!("backbone.body.{name}.weight"));
            (of("conv1"), of("layer1.0.conv1"), of("layer2.0.conv1"))
        };
        let [none, one, two] =
            ["0", "1", "2"].map(|n| stem(&format!("freeze{n}"), &format!("--freeze-at={n}")));
        let start = trained(at, "start", &["--set=train.learning_rate=0"]);
        let start = |name: &str| {
            tensor(
                &start.join("last.safetensors"),
                &format!("backbone.body.{name}.weight"),
            )
        };
        let [stem, first, second] = ["conv1", "layer1.0.conv1", "layer2.0.conv1"].map(start);
        assert!(none.0 != stem && none.1 != first && none.2 != second);
        assert!(one.0 == stem && one.1 != first && one.2 != second);
        assert!(two.0 == stem && two.1 == first && two.2 != second);
    }),
    ("--finetune-bn", |at| {
        let common = [
            "--freeze-at=1",
            "--set=train.replicas=1",
            "--set=model.norm=frozen_bn",
        ];
        let frozen = trained(at, "frozen", &common);
        // --set would contradict it.
        let tuned = trained(at, "tuned", &[common[0], common[1], "--finetune-bn"]);
        assert_eq!(setting(&tuned, "norm"), "\"batch_norm\"");
        for (name, learns) in [
            ("bn1", false),
            ("layer1.0.bn1", true),
            ("layer4.1.bn2", true),
        ] {
            for part in ["weight", "running_mean", "running_var"] {
                let name = format!("backbone.body.{name}.{part}");
                let [a, b] = [&frozen, &tuned].map(|r| tensor(&r.join("last.safetensors"), &name));
                assert_eq!(a != b, learns, "{name}");
            }
        }
        // The result can be fine-tuned from frozen weights without a warning.
        let start = "--weights=frozen/last.safetensors";
        trained(at, "on", &[start, common[0], common[1], "--finetune-bn"]);
    }),
    ("--backend", |at| {
        // The tests are built without CUDA.
        let error = cli_error(
            at,
            &[
                "train",
                "--config=quickstart",
                "--data=shapes",
                "--backend=cuda",
            ],
        );
        assert!(error.contains("cuda backend"), "{error}");
    }),
    ("--precision", |at| {
        let run = trained(at, "half", &["--precision=f16"]);
        assert_eq!(setting(&run, "precision"), "\"f16\"");
        let base = at.join("base");
        assert_eq!(setting(&base, "precision"), "\"f32\"", "what auto took");
        let (half, whole) = (losses(&run), losses(&base));
        assert!(half != whole && (half[0] - whole[0]).abs() < 0.02 * whole[0]);
        assert!(text(&run.join("metrics.jsonl")).contains("\"loss_scale\":"));
        assert!(!text(&base.join("metrics.jsonl")).contains("loss_scale"));
        let mut args = crate::train_args();
        args.extend(["--out=refused", "--precision=tf32"]);
        let error = cli_error(at, &args);
        assert!(error.contains("precision tf32 on the CPU"), "{error}");
        assert!(error.contains("use f32"), "{error}");
    }),
    ("--gpus", |at| {
        // The tests are built without CUDA; each of the two processes refuses --backend=cpu.
        let mut args = crate::train_args();
        args.extend(["--out=gpus", "--gpus=2"]);
        let error = cli_error(at, &args);
        assert!(error.contains("use mpirun"), "{error}");
        assert!(error.contains("the others were stopped"), "{error}");
    }),
    ("--comm-timeout", |at| {
        // tests/tests/mpi checks that it ends a waiting rank; this build supports one rank.
        let output = cli(at, &["train", "--data=shapes", "--comm-timeout=0"]);
        assert!(shown(&output).contains("0 is not in 1.."), "{output:?}");
        trained(at, "patient", &["--comm-timeout=1"]);
    }),
    ("--set", |at| {
        let run = trained(at, "set", &["--set=train.steps=2", "--set=train.flip=0"]);
        assert_eq!(losses(&run).len(), 2);
        assert_eq!(setting(&run, "flip"), "0.0");
    }),
    ("--area", |at| {
        let mut args = crate::train_args();
        args.extend(["--out=area", "--area=box"]);
        assert!(cli_ok(at, &args).contains("box area"));
        assert!(text(&at.join("area/metrics.jsonl")).contains("\"kind\":\"eval\""));
    }),
];
