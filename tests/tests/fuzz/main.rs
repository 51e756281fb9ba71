//! Mutated files through every parser, in one process: no panic, memory within 64 times the input and 64 MB, and each
//! execution within a second of work.
//!
//! Seeds are written by our own writers; mutations are bit flips, cuts, insertions, copies within and between seeds,
//! numbers with special values, and words of the format. `MRCNN_FUZZ_RUNS` is the number of executions per target
//! (`.ci/fuzz`: 1,000,000); `MRCNN_FUZZ_TARGET` selects targets by name, separated by commas, which are run in that order.

mod annotations;
mod mutate;
mod seeds;
mod tools;

use mrcnn_core::fuzzing;
use mutate::Mutator;
use peak_alloc::PeakAlloc;
use std::time::{Duration, Instant};

#[global_allocator]
static PEAK: PeakAlloc = PeakAlloc;

/// A target: its name, parser, seeds and words.
struct Target {
    name: &'static str,
    parse: fn(&[u8]) -> bool,
    seeds: Vec<Vec<u8>>,
    words: &'static [&'static [u8]],
}

fn targets() -> Vec<Target> {
    let target = |name, parse, seeds, words| Target {
        name,
        parse,
        seeds,
        words,
    };
    vec![
        target(
            "decode",
            fuzzing::decode as fn(&[u8]) -> bool,
            seeds::images(),
            mutate::IMAGE,
        ),
        target(
            "safetensors",
            fuzzing::safetensors,
            seeds::safetensors(),
            mutate::JSON,
        ),
        target("pickle", fuzzing::pickle, seeds::pickles(), mutate::PICKLE),
        target(
            "torch_zip",
            fuzzing::torch_zip,
            seeds::torch_zip(),
            mutate::PICKLE,
        ),
        target(
            "torch_legacy",
            fuzzing::torch_legacy,
            seeds::torch_legacy(),
            mutate::PICKLE,
        ),
        target("table", fuzzing::table, seeds::tables(), &[]),
        target("tfrecord", fuzzing::tfrecord, seeds::records(), &[]),
        target("data_yaml", fuzzing::data_yaml, seeds::yaml(), mutate::YAML),
        target(
            "yolo_label",
            fuzzing::yolo_label,
            seeds::labels(),
            mutate::NUMBERS,
        ),
        target("voc_mask", fuzzing::voc_mask, seeds::masks(), mutate::IMAGE),
        target(
            "config_toml",
            fuzzing::config_toml,
            seeds::configs(),
            mutate::TOML,
        ),
        target(
            "progress_json",
            fuzzing::progress_json,
            seeds::progress(),
            mutate::JSON,
        ),
        target("coco", fuzzing::coco, annotations::coco(), mutate::COCO),
        target(
            "annotation",
            fuzzing::annotation,
            annotations::annotations(),
            mutate::COCO,
        ),
        target("rle", fuzzing::rle, annotations::rle(), mutate::NUMBERS),
        target(
            "results",
            fuzzing::results,
            annotations::results(),
            mutate::COCO,
        ),
        target("lvis", fuzzing::lvis, annotations::lvis(), mutate::COCO),
        target("cvat", fuzzing::cvat, tools::cvat(), mutate::CVAT),
        target("labelme", fuzzing::labelme, tools::labelme(), mutate::TOOLS),
        target("via", fuzzing::via, tools::via(), mutate::TOOLS),
        target(
            "class_list",
            fuzzing::class_list,
            tools::class_lists(),
            mutate::JSON,
        ),
        target(
            "rendezvous_hello",
            fuzzing::rendezvous_hello,
            vec![fuzzing::hello()],
            &[],
        ),
    ]
}

/// Executions per target in an ordinary test run.
const RUNS: usize = 1000;

/// An image of a few bytes may declare 100 megapixels, which its format allows: decoding it is limited by that and not
/// by the length of the file.
fn allowed_memory(name: &str, length: usize) -> usize {
    let pixels = if ["decode", "voc_mask", "labelme"].contains(&name) {
        1200 << 20
    } else {
        0
    };
    64 * length + (64 << 20) + pixels
}

#[test]
fn mutated_files_do_no_harm() {
    let variable = |name: &str| std::env::var(name).ok();
    let runs = variable("MRCNN_FUZZ_RUNS")
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(RUNS);
    let targets = targets();
    let names = variable("MRCNN_FUZZ_TARGET");
    let names: Vec<&str> = match &names {
        Some(names) => names.split(',').collect(),
        None => targets.iter().map(|target| target.name).collect(),
    };
    for name in names {
        let target = targets.iter().find(|target| target.name == name);
        fuzz(target.unwrap_or_else(|| panic!("no target {name}")), runs);
    }
}

fn fuzz(target: &Target, runs: usize) {
    assert!(!target.seeds.is_empty());
    for (index, seed) in target.seeds.iter().enumerate() {
        // A seed that is rejected would only test the first check.
        assert!(
            (target.parse)(seed),
            "{}: seed {index} is rejected",
            target.name
        );
    }
    let mut mutator = Mutator::new(0x9e37_79b9_7f4a_7c15, target.words);
    let (started, mut accepted, mut slowest, mut largest) = (Instant::now(), 0, Duration::ZERO, 0);
    for run in 0..runs {
        let input = mutator.mutate(&target.seeds);
        PEAK.reset_peak_usage();
        let before = PEAK.current_usage();
        let begun = Instant::now();
        let parsed = std::panic::catch_unwind(|| (target.parse)(&input));
        let (took, used) = (begun.elapsed(), PEAK.peak_usage().saturating_sub(before));
        let keep = || {
            let path = std::env::temp_dir().join(format!("mrcnn-fuzz-{}-{run}", target.name));
            std::fs::write(&path, &input).expect("a file");
            format!("{} ({} bytes)", path.display(), input.len())
        };
        let Ok(parsed) = parsed else {
            panic!("{}: panicked on {}", target.name, keep());
        };
        let allowed = allowed_memory(target.name, input.len());
        assert!(
            used <= allowed,
            "{}: {used} bytes of {allowed} for {}",
            target.name,
            keep()
        );
        // An execution may take a second of CPU time; a busy machine gets more wall time.
        assert!(
            took < Duration::from_secs(20),
            "{}: {took:?} for {}",
            target.name,
            keep()
        );
        accepted += usize::from(parsed);
        slowest = slowest.max(took);
        largest = largest.max(used);
    }
    println!(
        "{:<16} {runs} executions in {:.1} s, {accepted} accepted, slowest {:.1} ms, most memory {:.1} MB",
        target.name,
        started.elapsed().as_secs_f64(),
        slowest.as_secs_f64() * 1e3,
        largest as f64 / 1e6
    );
}
