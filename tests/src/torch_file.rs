//! Weight files in the formats of PyTorch and numpy, so that tests need no Python.
//!
//! The opcodes are those that `pickletools.dis` shows for files of torch 2.15, of torch 1.0, and for
//! Detectron2's model zoo.

use std::io::{Cursor, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A named f32 tensor.
pub type Named = (String, Vec<usize>, Vec<f32>);

/// A pickle under construction, protocol 2.
#[derive(Clone, Debug)]
pub struct Pickle(pub Vec<u8>);

impl Default for Pickle {
    fn default() -> Self {
        Self(vec![0x80, 2])
    }
}

impl Pickle {
    /// An opcode without arguments.
    pub fn op(&mut self, code: u8) -> &mut Self {
        self.0.push(code);
        self
    }

    /// A class or function by name.
    pub fn global(&mut self, module: &str, name: &str) -> &mut Self {
        self.0.extend(format!("c{module}\n{name}\n").bytes());
        self
    }

    /// A string.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.op(b'X').0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.bytes());
        self
    }

    /// An integer.
    pub fn int(&mut self, value: u64) -> &mut Self {
        self.0.extend([0x8a, 8]);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A tuple of integers.
    pub fn ints(&mut self, values: &[usize]) -> &mut Self {
        self.op(b'(');
        for &value in values {
            self.int(value as u64);
        }
        self.op(b't')
    }

    /// `OrderedDict()`
    pub fn ordered_dict(&mut self) -> &mut Self {
        self.global("collections", "OrderedDict").op(b')').op(b'R')
    }

    /// A tensor that covers storage `key`. `views` is written by torch before 1.6.
    fn tensor(&mut self, key: &str, shape: &[usize], views: bool) {
        let count: usize = shape.iter().product();
        let strides: Vec<usize> = (0..shape.len())
            .map(|axis| shape[axis + 1..].iter().product())
            .collect();
        self.global("torch._utils", "_rebuild_tensor_v2")
            .op(b'(')
            .op(b'(');
        self.text("storage")
            .global("torch", "FloatStorage")
            .text(key)
            .text("cpu");
        self.int(count as u64);
        if views {
            self.op(b'N');
        }
        self.op(b't')
            .op(b'Q')
            .int(0)
            .ints(shape)
            .ints(&strides)
            .op(0x89);
        self.ordered_dict().op(b't').op(b'R');
    }
}

fn state_dict(tensors: &[Named], views: bool) -> Vec<u8> {
    let mut pickle = Pickle::default();
    pickle.ordered_dict().op(b'(');
    for (index, (name, shape, _)) in tensors.iter().enumerate() {
        pickle.text(name).tensor(&index.to_string(), shape, views);
    }
    pickle.op(b'u').op(b'.');
    pickle.0
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A zip archive of `data.pkl` and other entries with the names of `torch.save`.
pub fn archive(pickle: &[u8], entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut add = |name: &str, bytes: &[u8]| {
        zip.start_file(format!("archive/{name}"), stored)
            .expect("an entry");
        zip.write_all(bytes).expect("memory");
    };
    add("data.pkl", pickle);
    add("byteorder", b"little");
    for (name, bytes) in entries {
        add(name, bytes);
    }
    zip.finish().expect("an archive").into_inner()
}

/// `torch.save(state_dict)` since 1.6.
pub fn zipped(tensors: &[Named]) -> Vec<u8> {
    let entries: Vec<_> = tensors
        .iter()
        .enumerate()
        .map(|(index, (_, _, values))| (format!("data/{index}"), bytes(values)))
        .collect();
    archive(&state_dict(tensors, false), &entries)
}

/// `torch.save(state_dict)` before 1.6.
pub fn legacy(tensors: &[Named]) -> Vec<u8> {
    let mut file = vec![0x80, 2, 0x8a, 10];
    file.extend([
        0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.',
    ]);
    file.extend([0x80, 2, b'M', 0xe9, 0x03, b'.']);
    let mut machine = Pickle::default();
    machine
        .op(b'}')
        .op(b'(')
        .text("little_endian")
        .op(0x88)
        .op(b'u')
        .op(b'.');
    file.extend(machine.0);
    file.extend(state_dict(tensors, true));
    let mut keys = Pickle::default();
    keys.op(b']').op(b'(');
    for index in 0..tensors.len() {
        keys.text(&index.to_string());
    }
    keys.op(b'e').op(b'.');
    file.extend(keys.0);
    for (_, _, values) in tensors {
        file.extend((values.len() as u64).to_le_bytes());
        file.extend(bytes(values));
    }
    file
}

/// `pickle.dump({"model": {name: ndarray}, "__author__": ...})`, as Detectron2 writes it.
pub fn arrays(tensors: &[Named]) -> Vec<u8> {
    arrays_in("model", tensors)
}

/// As [`arrays`], with another key in place of "model"; Caffe2 writes "blobs".
pub fn arrays_in(key: &str, tensors: &[Named]) -> Vec<u8> {
    let mut pickle = Pickle::default();
    pickle.op(b'}').op(b'(').text(key).op(b'}').op(b'(');
    for (name, shape, values) in tensors {
        pickle.text(name);
        pickle.global("numpy.core.multiarray", "_reconstruct");
        pickle.global("numpy", "ndarray").int(0).op(0x85);
        pickle.0.extend(b"C\x01b");
        pickle.op(0x87).op(b'R').op(b'(').int(1).ints(shape);
        pickle
            .global("numpy", "dtype")
            .text("f4")
            .int(0)
            .int(1)
            .op(0x87)
            .op(b'R');
        pickle.op(b'(').int(3).text("<").op(b'N').op(b'N').op(b'N');
        pickle.op(b'J').0.extend([0xff; 4]);
        pickle.op(b'J').0.extend([0xff; 4]);
        pickle.int(0).op(b't').op(b'b').op(0x89);
        pickle
            .op(b'B')
            .0
            .extend((4 * values.len() as u32).to_le_bytes());
        pickle.0.extend(bytes(values));
        pickle.op(b't').op(b'b');
    }
    pickle
        .op(b'u')
        .text("__author__")
        .text("a test")
        .op(b'u')
        .op(b'.');
    pickle.0
}
