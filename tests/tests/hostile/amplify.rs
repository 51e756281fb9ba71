//! Small files that request much memory or time, as found by an audit. Each is rejected (or read)
//! within the memory limit of the test and within seconds, by a budget of work instead of a clock.

use crate::{File, refused, with_header};
use mrcnn_core::Config;
use mrcnn_core::weights::import::{ImportOptions, import};
use mrcnn_tests::protobuf::masked_crc;
use mrcnn_tests::torch_file::Pickle;
use std::path::Path;

/// Length of a text that a file would copy many times.
const LONG: usize = 1 << 20;

/// A pickle that stores a long text as value 0, and then performs `again` many times.
fn repeated(count: usize, again: impl Fn(&mut Pickle)) -> Vec<u8> {
    let mut pickle = Pickle::default();
    pickle.text(&"x".repeat(LONG)).op(b'q').op(0).op(b'0');
    for _ in 0..count {
        again(&mut pickle);
    }
    pickle.op(b'}').op(b'.');
    pickle.0
}

/// A pickle that stores a callable as value 0 and its arguments as value 1, and then calls it `count` times.
fn called(arguments: impl Fn(&mut Pickle), module: &str, name: &str, count: usize) -> Vec<u8> {
    let mut pickle = Pickle::default();
    arguments(&mut pickle);
    pickle.op(b'q').op(1).op(b'0');
    pickle.global(module, name).op(b'q').op(0).op(b'0');
    for _ in 0..count {
        pickle.op(b'h').op(0).op(b'h').op(1).op(b'R').op(b'0');
    }
    pickle.op(b'}').op(b'.');
    pickle.0
}

pub fn pickles(file: File) {
    let recall = |pickle: &mut Pickle| {
        pickle.op(b'h').op(0);
    };
    // A name of two megabytes for every three bytes.
    let names = repeated(150_000, |pickle| {
        recall(pickle);
        recall(pickle);
        pickle.op(0x93).op(b'0');
    });
    refused(&file("names.pkl", &names), "to no supported model");
    // A megabyte of bytes from each call.
    let encoded = repeated(50_000, |pickle| {
        pickle.global("_codecs", "encode").op(b'(');
        recall(pickle);
        pickle.op(b't').op(b'R').op(b'0');
    });
    refused(&file("encoded.pkl", &encoded), "more than");
    // A call with many arguments, many times.
    let arguments = |pickle: &mut Pickle| {
        pickle.op(b'(');
        (0..200_000).for_each(|_| {
            pickle.op(b'N');
        });
        pickle.op(b't');
    };
    let calls = called(arguments, "collections", "Counter", 100_000);
    refused(&file("calls.pkl", &calls), "to no supported model");
    // A dict of the same many pairs, many times.
    let pairs = |pickle: &mut Pickle| {
        pickle.op(b'N').op(b'N').op(0x86).op(b'q').op(2).op(b'0');
        pickle.op(b'(');
        (0..200_000).for_each(|_| {
            pickle.op(b'h').op(2);
        });
        pickle.op(b'l').op(0x85);
    };
    let dicts = called(pairs, "collections", "OrderedDict", 10_000);
    refused(&file("dicts.pkl", &dicts), "more than");
    // Entries without a tensor under one long name, each of which is listed.
    let mut ignored = Pickle::default();
    ignored
        .op(b'}')
        .op(b'(')
        .text(&"x".repeat(LONG))
        .op(b'q')
        .op(0);
    ignored.op(b']');
    for _ in 0..150_000 {
        ignored.op(b'h').op(0).op(b']');
    }
    ignored.op(b'u').op(b'.');
    refused(&file("ignored.pkl", &ignored.0), "more than");
    // Only a part of a forbidden name is shown.
    let mut long = Pickle::default();
    long.global("os", &"x".repeat(LONG))
        .op(b')')
        .op(b'R')
        .op(b'.');
    let path = file("long.pkl", &long.0);
    let error = import(&path, &ImportOptions::default()).expect_err("a call");
    assert!(
        error.to_string().len() < 1000,
        "{} bytes",
        error.to_string().len()
    );
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A table block of entries `(shared, own bytes, value)`, with its checksum.
fn block(entries: &[(usize, &[u8], Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (shared, own, value) in entries {
        bytes.extend(varint(*shared));
        bytes.extend(varint(own.len()));
        bytes.extend(varint(value.len()));
        bytes.extend(*own);
        bytes.extend(value);
    }
    bytes.extend([0, 0, 0, 0, 1, 0, 0, 0]);
    bytes.push(0);
    let crc = masked_crc(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

pub fn tables(folder: &Path) {
    // Four bytes per entry, each with a key of 4096 bytes that shares almost all of them with the one before.
    let long = vec![b'k'; 4096];
    let mut entries: Vec<(usize, &[u8], Vec<u8>)> = vec![(0, &long, Vec::new())];
    entries.extend((0..400_000).map(|_| (4096, &[][..], Vec::new())));
    let data = block(&entries);
    let handle = [varint(0), varint(data.len() - 5)].concat();
    let index = block(&[(0, b"k", handle)]);
    let mut table = data.clone();
    table.extend(&index);
    let mut footer = [
        varint(0),
        varint(0),
        varint(data.len()),
        varint(index.len() - 5),
    ]
    .concat();
    footer.resize(40, 0);
    footer.extend(0xdb47_7524_8b80_fb57u64.to_le_bytes());
    table.extend(footer);
    let path = folder.join("keys.ckpt.index");
    std::fs::write(&path, table).expect("an index");
    refused(&path, "more than");
}

/// A weights file of this crate with a configuration and one small tensor.
fn own(settings: &[&str]) -> Vec<u8> {
    let config = Config::default().with(settings).expect("settings");
    let text = serde_json::to_string(&toml_of(&config)).expect("text");
    let classes = serde_json::to_string(r#"{"names":["a"],"ids":[1]}"#).expect("text");
    let header = format!(
        r#"{{"__metadata__":{{"format":"mrcnn","config":{text},"classes":{classes}}},"a":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}}}"#
    );
    with_header(&header, &[0; 8])
}

fn toml_of(config: &Config) -> String {
    let settings = config.settings().expect("settings");
    let lines = settings
        .iter()
        .map(|(key, value)| format!("{key} = {value}\n"));
    lines.collect()
}

pub fn networks(file: File) {
    for (name, settings, wanted) in [
        ("width", &["model.width=4096"][..], "values in the network"),
        (
            "fpn",
            &["model.fpn_channels=16384"],
            "values in the network",
        ),
        ("divisor", &["image.size_divisor=32768"], "from 1 to 1024"),
        (
            "side",
            &["image.min_size=32768", "image.max_size=32768"],
            "pixels in",
        ),
        // Each number and their product are possible, but the tensors are missing.
        (
            "large",
            &["model.width=256"],
            "not the weights of that network",
        ),
    ] {
        refused(
            &file(&format!("{name}.safetensors"), &own(settings)),
            wanted,
        );
    }
}

/// NaN and infinity, with which a network silently predicts nothing.
pub fn values(file: File) {
    let config = [
        "model.backbone=resnet18",
        "model.width=4",
        "model.fpn_channels=8",
    ];
    let small = own(&config);
    let header = u64::from_le_bytes(*small.first_chunk().expect("a length")) as usize;
    for (name, value) in [("nan", f32::NAN), ("infinite", f32::INFINITY)] {
        let mut bytes = small.clone();
        bytes[8 + header..][..4].copy_from_slice(&value.to_le_bytes());
        let path = file(&format!("{name}.safetensors"), &bytes);
        refused(&path, "a has 1 values that are not finite");
    }
}
