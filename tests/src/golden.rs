//! Reading of golden values.

use mrcnn_core::image::RgbImage;
use mrcnn_core::image::decode::decode;
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::HashMap;
use std::path::PathBuf;

/// The folder of the golden values; a relative `MRCNN_GOLDEN` is relative to the root of the repository.
pub fn folder() -> PathBuf {
    let folder = std::env::var_os("MRCNN_GOLDEN").map_or("../shared/golden".into(), PathBuf::from);
    crate::root().join(folder)
}

/// A photo that golden values were computed from, by its entry with `file`; `None`, with a line in the list of skipped
/// tests, if it is not among the golden images. The original JPEG file is no substitute, because another decoder gives other
/// pixels, which change the order of near-ties of scores.
pub fn photo(entry: &Value) -> Option<RgbImage> {
    let file = entry["file"].as_str().expect("file");
    let path = folder().join("images").join(file);
    if !path.is_file() {
        mrcnn_test_support::skip(&format!("values of {file}: {} is missing", path.display()));
        return None;
    }
    Some(decode(&path).expect("a golden image"))
}

/// A stored tensor; integers and bytes are widened to f64, which holds them exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Row-major values.
    pub values: Vec<f64>,
    /// Shape.
    pub shape: Vec<usize>,
}

impl Stored {
    /// The values as f32, which is exact unless they were integers.
    pub fn f32(&self) -> Vec<f32> {
        self.values.iter().map(|&v| v as f32).collect()
    }

    /// The values as indices.
    pub fn indices(&self) -> Vec<usize> {
        self.values.iter().map(|&v| v as usize).collect()
    }

    /// Rows of four values.
    pub fn boxes(&self) -> Vec<[f32; 4]> {
        self.f32().as_chunks::<4>().0.to_vec()
    }

    /// The single value of a scalar.
    pub fn scalar(&self) -> f64 {
        assert_eq!(self.values.len(), 1, "not a scalar: {:?}", self.shape);
        self.values[0]
    }
}

/// A `.safetensors` file and the `.json` beside it.
pub struct Golden {
    tensors: HashMap<String, Stored>,
    /// Cases and parameters; null without a `.json` file.
    pub json: Value,
}

impl Golden {
    /// Opens the file `name`; without golden values, prints that the test is skipped.
    pub fn open(name: &str) -> Option<Self> {
        let folder = folder();
        if !crate::found(folder.is_dir(), "golden", &folder.display().to_string()) {
            return None;
        }
        let tensors = match std::fs::read(folder.join(format!("{name}.safetensors"))) {
            Ok(bytes) => read_tensors(&bytes),
            Err(_) => HashMap::new(),
        };
        let json = match std::fs::read_to_string(folder.join(format!("{name}.json"))) {
            Ok(text) => serde_json::from_str(&text).expect("golden JSON"),
            Err(_) => Value::Null,
        };
        assert!(
            !tensors.is_empty() || !json.is_null(),
            "{name}: no golden file of that name"
        );
        Some(Self { tensors, json })
    }

    /// A required tensor.
    pub fn get(&self, key: &str) -> &Stored {
        self.tensors
            .get(key)
            .unwrap_or_else(|| panic!("no golden tensor {key}"))
    }

    /// An optional tensor.
    pub fn find(&self, key: &str) -> Option<&Stored> {
        self.tensors.get(key)
    }

    /// The cases of a JSON list.
    pub fn cases(&self) -> Vec<Case<'_>> {
        let list = self.json.as_array().expect("a list of cases");
        list.iter()
            .map(|json| Case { golden: self, json })
            .collect()
    }
}

/// One case of a golden file.
pub struct Case<'a> {
    golden: &'a Golden,
    /// Its parameters.
    pub json: &'a Value,
}

impl Case<'_> {
    /// `c000`
    pub fn name(&self) -> &str {
        self.json["case"].as_str().expect("a case has a name")
    }

    /// The tensor `c000.key`.
    pub fn get(&self, key: &str) -> &Stored {
        self.golden.get(&format!("{}.{key}", self.name()))
    }

    /// The tensor `c000.key`, if any.
    pub fn find(&self, key: &str) -> Option<&Stored> {
        self.golden.find(&format!("{}.{key}", self.name()))
    }

    /// A numeric parameter.
    pub fn number(&self, key: &str) -> f64 {
        self.json[key]
            .as_f64()
            .unwrap_or_else(|| panic!("{}: no number {key}", self.name()))
    }

    /// A boolean parameter.
    pub fn flag(&self, key: &str) -> bool {
        self.json[key]
            .as_bool()
            .unwrap_or_else(|| panic!("{}: no flag {key}", self.name()))
    }
}

/// A pair such as `[height, width]`.
pub fn pair(json: &Value) -> (u32, u32) {
    let side = |index: usize| json[index].as_u64().expect("a pair of lengths") as u32;
    (side(0), side(1))
}

fn read_tensors(bytes: &[u8]) -> HashMap<String, Stored> {
    let file = SafeTensors::deserialize(bytes).expect("golden safetensors");
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => data
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|&b| f32::from_le_bytes(b) as f64)
                    .collect(),
                Dtype::F64 => data
                    .as_chunks::<8>()
                    .0
                    .iter()
                    .map(|&b| f64::from_le_bytes(b))
                    .collect(),
                Dtype::I64 => data
                    .as_chunks::<8>()
                    .0
                    .iter()
                    .map(|&b| i64::from_le_bytes(b) as f64)
                    .collect(),
                Dtype::U8 | Dtype::BOOL => data.iter().map(|&b| b as f64).collect(),
                other => panic!("{name}: golden tensors of {other:?} are not read"),
            };
            (
                name,
                Stored {
                    values,
                    shape: view.shape().to_vec(),
                },
            )
        })
        .collect()
}
