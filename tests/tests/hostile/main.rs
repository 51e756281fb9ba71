//! Malicious weights files: one clear error each, little memory, nothing executed.
//!
//! A test binary of its own, because it counts allocations.

mod amplify;
mod datasets;
mod folders;

use mrcnn_core::weights::import::{ImportOptions, import};
use mrcnn_tests::tensorflow_file;
use mrcnn_tests::torch_file::{Pickle, archive, legacy, zipped};
use peak_alloc::PeakAlloc;
use std::path::Path;

#[global_allocator]
static PEAK: PeakAlloc = PeakAlloc;

/// Maximum memory for reading a bad file.
const MAX_MEGABYTES: f32 = 512.0;

/// Reads a file that must be rejected with a message that names it and contains `wanted`.
#[track_caller]
fn refused(path: &Path, wanted: &str) {
    PEAK.reset_peak_usage();
    let before = PEAK.current_usage_as_mb();
    let error = import(path, &ImportOptions::default()).expect_err("a hostile file");
    let (message, used) = (error.to_string(), PEAK.peak_usage_as_mb() - before);
    println!("{used:.1} MB: {message}");
    let name = path.file_stem().expect("a name").to_string_lossy();
    assert!(message.contains(name.as_ref()), "no name in: {message}");
    assert!(message.contains(wanted), "wanted `{wanted}` in: {message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(used < MAX_MEGABYTES, "{used} MB: {message}");
}

/// A single test, so that no other test allocates beside it.
#[test]
fn hostile_files_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    };
    safetensors(&file);
    torch_archives(&file);
    pickles(&file, folder.path());
    tables(folder.path());
    amplify::pickles(&file);
    amplify::tables(folder.path());
    amplify::networks(&file);
    amplify::values(&file);
    datasets::coco(folder.path());
    datasets::results(folder.path());
    datasets::lvis(folder.path());
    folders::voc(folder.path());
    folders::pipe_among_images(folder.path());
    folders::classes_and_objects(folder.path());
    folders::flipped_bit(&mrcnn_tests::small_weights());
    refused(&folder.path().join("absent.pth"), "No such file");
    refused(&file("empty.safetensors", b""), "0 bytes");
    refused(
        &file("text.pth", b"Not Found: try again later\n\n\n\n\n\n\n\n\n"),
        "another format",
    );
}

type File<'a> = &'a dyn Fn(&str, &[u8]) -> std::path::PathBuf;

fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(data);
    bytes
}

fn safetensors(file: File) {
    let whole = with_header(
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        &[0; 8],
    );
    refused(
        &file("cut.safetensors", &whole[..whole.len() - 3]),
        "incomplete",
    );
    refused(&file("header_cut.safetensors", &whole[..20]), "truncated");
    let overlap = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
        "b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    refused(
        &file("overlap.safetensors", &with_header(overlap, &[0; 12])),
        "header is invalid",
    );
    let shape = r#"{"a":{"dtype":"F32","shape":[1000000000,1000000000],"data_offsets":[0,8]}}"#;
    refused(
        &file("shape.safetensors", &with_header(shape, &[0; 8])),
        "header is invalid",
    );
    let product =
        r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,16],"data_offsets":[0,8]}}"#;
    refused(
        &file("product.safetensors", &with_header(product, &[0; 8])),
        "header is invalid",
    );
    // 100 MB of header, which the format allows: two million entries.
    let entry =
        |i: usize| format!(r#""{i:08}":{{"dtype":"F32","shape":[],"data_offsets":[0,4]}},"#);
    let entries: String = (0..2_000_000).map(entry).collect();
    let header = format!("{{{}}}", entries.trim_end_matches(','));
    assert!(header.len() > 100_000_000);
    refused(
        &file("header.safetensors", &with_header(&header, &[0; 4])),
        "at most 4194304",
    );
    let mut huge = u64::MAX.to_le_bytes().to_vec();
    huge.extend([b'{'; 64]);
    refused(&file("length.safetensors", &huge), "another format");
    let no_model = with_header(
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        &[0; 8],
    );
    refused(
        &file("stranger.safetensors", &no_model),
        "to no supported model",
    );
}

fn small() -> Vec<(String, Vec<usize>, Vec<f32>)> {
    vec![
        ("a".into(), vec![100], vec![1.0; 100]),
        ("b".into(), vec![3], vec![2.0; 3]),
    ]
}

fn torch_archives(file: File) {
    let whole = zipped(&small());
    refused(
        &file("cut.pth", &whole[..whole.len() / 2]),
        "not a readable PyTorch file",
    );
    refused(
        &file("magic.pth", &[b"PK\x03\x04".as_slice(), &[7; 500]].concat()),
        "PyTorch",
    );
    // The end record declares a billion entries.
    let mut many = whole.clone();
    let end = many.len() - 22;
    assert_eq!(&many[end..end + 4], b"PK\x05\x06");
    many[end + 8..end + 12].fill(0xff);
    refused(&file("entries.pth", &many), "not a readable PyTorch file");
    let mut storage = tensor_pickle(1 << 40, &[1 << 40], &[1]);
    refused(
        &file("storage.pth", &archive(&storage, &[])),
        "larger than the file allows",
    );
    // A hundred numbers, expanded to ten thousand million by strides of zero.
    storage = tensor_pickle(100, &[100_000, 100_000], &[0, 0]);
    let numbers = ("data/0".to_string(), vec![0; 400]);
    let path = file(
        "strides.pth",
        &archive(&storage, std::slice::from_ref(&numbers)),
    );
    refused(&path, "larger than the file allows");
    storage = tensor_pickle(100, &[10], &[20]);
    refused(
        &file("reach.pth", &archive(&storage, &[numbers])),
        "reaches beyond its storage",
    );

    let old = legacy(&small());
    refused(&file("cut_old.pth", &old[..old.len() - 5]), "truncated");
    refused(&file("cut_old_pickle.pth", &old[..60]), "truncated");
}

/// A state dict of one tensor with the given declaration.
fn tensor_pickle(count: u64, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let mut pickle = Pickle::default();
    pickle.op(b'}').op(b'(').text("a");
    pickle
        .global("torch._utils", "_rebuild_tensor_v2")
        .op(b'(')
        .op(b'(');
    pickle
        .text("storage")
        .global("torch", "FloatStorage")
        .text("0")
        .text("cpu")
        .int(count);
    pickle
        .op(b't')
        .op(b'Q')
        .int(0)
        .ints(shape)
        .ints(strides)
        .op(0x89);
    pickle.ordered_dict().op(b't').op(b'R').op(b'u').op(b'.');
    pickle.0
}

fn pickles(file: File, folder: &Path) {
    let marker = folder.join("executed");
    let mut call = Pickle::default();
    call.global("os", "system").op(b'(');
    call.text(&format!("touch {}", marker.display()))
        .op(b't')
        .op(b'R')
        .op(b'.');
    refused(&file("call.pkl", &call.0), "`os.system`");
    refused(&file("call.pth", &archive(&call.0, &[])), "`os.system`");
    let mut object = Pickle::default();
    object.global("posix", "system").op(b')').op(0x81).op(b'.');
    refused(&file("new.pkl", &object.0), "`posix.system`");
    assert!(!marker.exists(), "a pickle was executed");

    let mut deep = Pickle::default();
    for _ in 0..900_000 {
        deep.op(b'(');
    }
    for _ in 0..900_000 {
        deep.op(b't');
    }
    deep.op(b'.');
    refused(&file("deep.pkl", &deep.0), "steps");
    let mut nested = Pickle::default();
    nested.op(b')');
    for _ in 0..400_000 {
        nested.op(0x85);
    }
    nested.op(b'.');
    refused(&file("nested.pkl", &nested.0), "bytes of memory");
    let mut endless = Pickle::default();
    endless.0.extend(std::iter::repeat_n(b'N', 50_000_000));
    refused(&file("endless.pkl", &endless.0), "steps");
    refused(
        &file("length.pkl", &[&[0x80, 4, 0x8e][..], &[0xff; 8]].concat()),
        "truncated",
    );
    refused(
        &file("underflow.pkl", &[0x80, 2, b'R', b'.']),
        "a value that is missing",
    );
    refused(
        &file("memo.pkl", &[0x80, 2, b'h', 9, b'.']),
        "before it is defined",
    );
    refused(&file("unknown.pkl", &[0x80, 2, 0xee, b'.']), "0xee");
}

fn tables(folder: &Path) {
    let prefix = folder.join("model.ckpt");
    tensorflow_file::write(
        &prefix,
        &[("conv2d/kernel".into(), vec![2, 2], vec![1.0; 4])],
    );
    let index = folder.join("model.ckpt.index");
    let whole = std::fs::read(&index).expect("an index");
    let with = |bytes: &[u8], wanted: &str| {
        std::fs::write(&index, bytes).expect("an index");
        refused(&index, wanted);
    };
    with(&whole[..whole.len() - 4], "does not end like a table");
    with(&[], "too short");
    let mut far = whole.clone();
    // The index block's handle: an offset of 2^62.
    let footer = far.len() - 48;
    far[footer..footer + 20].copy_from_slice(&[
        0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40, 1, 0x80, 0x80, 0x80, 0x80, 0x80,
        0x80, 0x80, 0x80, 0x40, 1,
    ]);
    with(&far, "reaches beyond its end");
    for place in 0..footer {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x55;
        std::fs::write(&index, &damaged).expect("an index");
        // Wherever the damage is, there is an error and never a panic.
        assert!(
            import(&index, &ImportOptions::default()).is_err(),
            "byte {place}"
        );
    }
    with(&whole, "not possible for it");
}
