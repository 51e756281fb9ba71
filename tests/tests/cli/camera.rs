//! `predict` of cameras: ffmpeg's test source in their place, their end, and sources that cannot be opened.

use crate::video::{interrupted, lines, streams, with_weights};
use crate::{cli, cli_error, shown};
use std::path::Path;
use std::time::{Duration, Instant};

const PREDICT: [&str; 3] = [
    "predict",
    "--backend=cpu",
    "--weights=base/last.safetensors",
];

/// Numbers of the predicted frames, which ascend, and of the frames of the annotated video, which keeps its time.
fn frames(at: &Path, stem: &str) -> (Vec<u64>, u64) {
    let lines = lines(&at.join(format!("{stem}.jsonl")));
    let numbers: Vec<u64> = lines
        .iter()
        .filter_map(|line| line["frame"].as_u64())
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let found = streams(&at.join(format!("{stem}.mp4")));
    assert!(found.get("audio").is_none());
    let encoded = found["video"]["nb_read_frames"].as_str().expect("a number");
    let encoded: u64 = encoded.parse().expect("a number");
    assert_eq!(Some(&(encoded - 1)), numbers.last(), "{numbers:?}");
    (numbers, encoded)
}

#[test]
fn a_live_source_is_predicted_in_its_time() {
    let Some(folder) = with_weights() else {
        return;
    };
    let at = folder.path();
    let source = "lavfi:testsrc=duration=2:size=160x120:rate=10";
    let started = Instant::now();
    let output = cli(at, &[&PREDICT[..], &[source, "--out=live"]].concat());
    let text = shown(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        started.elapsed() > Duration::from_millis(1500),
        "it waits for its frames"
    );
    let (numbers, encoded) = frames(at, "live/0001_testsrc");
    assert!(
        numbers[0] == 0 && (15..=20).contains(&encoded),
        "{numbers:?}"
    );
    // Frames that came too fast are counted.
    assert_eq!(
        numbers.len() < 20,
        text.contains("of 20 frames were predicted"),
        "{text}"
    );

    // A source without an end, of which the second half of each second is left out.
    let source = "lavfi:testsrc=size=64x48:rate=8";
    let more = [source, "--end=1.5", "--stride=2", "--out=part"];
    let output = cli(at, &[&PREDICT[..], &more].concat());
    assert!(output.status.success(), "{}", shown(&output));
    let part = lines(&at.join("part/0001_testsrc.jsonl"));
    assert!((3..=6).contains(&part.len()), "{part:?}");
    for line in &part {
        let [frame, time] = ["frame", "time"].map(|key| line[key].as_f64().expect("a number"));
        assert!(
            frame % 2.0 == 0.0 && time == frame / 8.0 && time < 1.5,
            "{line}"
        );
    }
}

#[test]
fn sources_that_cannot_be_opened_are_one_error() {
    let Some(folder) = with_weights() else {
        return;
    };
    let at = folder.path();
    let error = |more: &[&str]| {
        let text = cli_error(at, &[&PREDICT[..], more].concat());
        assert_eq!(text.matches("error: ").count(), 1, "{text}");
        text
    };
    let text = error(&["lavfi:nonsense"]);
    assert!(
        text.contains("lavfi:nonsense: ffmpeg cannot open it: ") && text.contains("No such filter"),
        "{text}"
    );
    assert!(error(&["lavfi:testsrc", "--start=1"]).contains("leave --start out"));
    if cfg!(target_os = "linux") {
        for camera in ["77", "/dev/video77", "webcam:/dev/video77"] {
            let text = error(&[camera]);
            assert!(
                text.contains(&format!("{camera}: ffmpeg cannot open it: "))
                    && text.contains("No such file or directory"),
                "{text}"
            );
        }
        let text = error(&["webcam:No Such Camera"]);
        assert!(text.contains("no webcam has this name"), "{text}");
    }
    // A number is a file if there is one of this name.
    std::fs::copy(at.join("shapes/val/000000.png"), at.join("0")).expect("a file");
    let output = cli(at, &[&PREDICT[..], &["0", "--out=file"]].concat());
    assert!(output.status.success(), "{}", shown(&output));
    assert!(at.join("file/0001_0.png").is_file());
}

#[cfg(unix)]
#[test]
fn ctrl_c_is_the_end_of_a_camera() {
    let Some(folder) = with_weights() else {
        return;
    };
    let at = folder.path();
    let args = [
        &PREDICT[..],
        &["lavfi:testsrc=size=64x48:rate=10", "--out=live"],
    ]
    .concat();
    let output = interrupted(at, &args, &at.join("live/0001_testsrc.jsonl"));
    let text = shown(&output);
    assert!(
        output.status.success() && text.contains("finishing the annotated video"),
        "{text}"
    );
    assert!(frames(at, "live/0001_testsrc").0.len() >= 5);
}
