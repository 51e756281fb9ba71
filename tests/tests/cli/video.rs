//! `predict` on videos: frames, the annotated video with its audio, and the ends of a run.

use crate::{
    binary, cli, cli_error, cli_ok, line_count, render_shapes, shown, train_args, wait_until,
};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Whether videos can be made and read here; otherwise the test is skipped.
pub fn has_ffmpeg() -> bool {
    let version = |program: &str| Command::new(program).arg("-version").output().is_ok();
    let found = version("ffmpeg") && version("ffprobe");
    if !found {
        mrcnn_test_support::skip("videos: ffmpeg and ffprobe are not on the PATH");
    }
    found
}

/// Writes a video of 10 frames per second with audio.
pub fn render_clip(path: &Path, seconds: u32) {
    let video = format!("testsrc=size=97x64:rate=10:duration={seconds}");
    let audio = format!("sine=duration={seconds}");
    let output = Command::new("ffmpeg")
        .args([
            "-v", "error", "-y", "-f", "lavfi", "-i", &video, "-f", "lavfi", "-i", &audio,
        ])
        .args(["-c:v", "mpeg4", "-c:a", "aac"])
        .arg(path)
        .output()
        .expect("ffmpeg");
    assert!(output.status.success(), "{}", shown(&output));
}

/// The streams of a video by their type, with the number of their frames.
pub fn streams(path: &Path) -> Value {
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-of",
            "json",
            "-count_frames",
            "-show_entries",
        ])
        .arg("stream=codec_type,nb_read_frames,avg_frame_rate,width,height,duration")
        .arg(path)
        .output()
        .expect("ffprobe");
    assert!(
        output.status.success(),
        "{}: {}",
        path.display(),
        shown(&output)
    );
    let probe: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let streams = probe["streams"].as_array().expect("streams").clone();
    let name = |stream: &Value| stream["codec_type"].as_str().expect("a type").to_string();
    streams
        .into_iter()
        .map(|stream| (name(&stream), stream))
        .collect()
}

/// The lines of a video's results.
pub fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    lines.collect()
}

/// A folder with the weights of a short run in `base`; `None` without ffmpeg.
pub fn with_weights() -> Option<TempDir> {
    if !has_ffmpeg() {
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    render_shapes(at, 4, 1);
    cli_ok(at, &[&train_args()[..], &["--out=base"]].concat());
    Some(folder)
}

#[test]
fn a_video_is_annotated_with_its_rate_and_audio() {
    let Some(folder) = with_weights() else {
        return;
    };
    let at = folder.path();
    render_clip(&at.join("clip.mp4"), 2);
    let predict = [
        "predict",
        "--backend=cpu",
        "--weights=base/last.safetensors",
        "--score=0",
    ];
    let output = cli(at, &[&predict[..], &["clip.mp4", "--out=found"]].concat());
    let text = shown(&output);
    assert!(output.status.success(), "{text}");
    for wanted in [
        "20 frames, ",
        "20 frames in ",
        "decoding worked",
        "annotated video in found",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let found = streams(&at.join("found/0001_clip.mp4"));
    // Sides are even in 4:2:0.
    assert_eq!(
        (&found["video"]["width"], &found["video"]["height"]),
        (&98.into(), &64.into())
    );
    assert_eq!(found["video"]["avg_frame_rate"], "10/1");
    assert_eq!(found["video"]["nb_read_frames"], "20");
    let seconds: f64 = found["audio"]["duration"]
        .as_str()
        .and_then(|s| s.parse().ok())
        .unwrap();
    assert!((1.9..2.2).contains(&seconds), "{seconds}");
    let lines = lines(&at.join("found/0001_clip.jsonl"));
    let times: Vec<f64> = lines
        .iter()
        .filter_map(|line| line["time"].as_f64())
        .collect();
    let expected: Vec<f64> = (0..20).map(|frame| f64::from(frame) / 10.0).collect();
    assert_eq!(times, expected);
    let object = &lines[3]["detections"][0];
    assert!(object["class"].is_string() && object["segmentation"]["counts"].is_string());
    assert_eq!(object["image_id"], 3);

    let error = |more: &[&str]| cli_error(at, &[&predict[..], more].concat());
    std::fs::write(at.join("broken.mp4"), "no video").expect("a file");
    assert!(error(&["broken.mp4"]).contains("broken.mp4: ffprobe cannot read it as a video"));
    let text = error(&["clip.mp4", "--save=yolo"]);
    assert!(
        text.contains("--save yolo") && text.contains("frames/%06d.png"),
        "{text}"
    );
    assert!(error(&["clip.mp4", "--start=9"]).contains("it has 2.0 s"));
    assert!(error(&["clip.mp4", "--resume"]).contains("without --resume"));
    assert!(error(&["clip.mp4", "shapes/val"]).contains("without images"));
    // Without ffmpeg: the command that installs it, before anything is loaded.
    let output = Command::new(binary())
        .args(predict)
        .arg("clip.mp4")
        .env("PATH", "")
        .current_dir(at)
        .output()
        .expect("mrcnn-cli");
    let text = shown(&output);
    assert!(text.contains("not on the PATH; install it: "), "{text}");
}

/// Runs the program in `at` and presses Ctrl-C once `results` has five lines.
#[cfg(unix)]
pub fn interrupted(at: &Path, args: &[&str], results: &Path) -> Output {
    let child = Command::new(binary())
        .args(args)
        .current_dir(at)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mrcnn-cli");
    wait_until("frames", || line_count(results) >= 5);
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.is_ok_and(|status| status.success()));
    child.wait_with_output().expect("the end")
}

#[cfg(unix)]
#[test]
fn an_interrupted_video_is_playable() {
    let Some(folder) = with_weights() else {
        return;
    };
    let at = folder.path();
    render_clip(&at.join("long.mp4"), 120);
    let args = [
        "predict",
        "long.mp4",
        "--backend=cpu",
        "--weights=base/last.safetensors",
        "--out=found",
    ];
    let results = at.join("found/0001_long.jsonl");
    let output = interrupted(at, &args, &results);
    let text = shown(&output);
    assert!(
        !output.status.success() && text.contains("stopped after "),
        "{text}"
    );
    let frames = lines(&results).len();
    let found = streams(&at.join("found/0001_long.mp4"));
    assert_eq!(found["video"]["nb_read_frames"], frames.to_string());
    assert!(
        frames < 1200 && found["audio"].is_object(),
        "{frames} {found}"
    );
}
