//! The settings of a Detectron2 `config.yaml` that change predictions but not the shapes of weights.

use crate::config::{ChannelOrder, Config};
use crate::data::json;
use crate::weights::error::WeightsError;
use crate::yaml;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use yaml_rust2::Yaml;

/// Maximum length of a file in bytes: a complete dump has 10 KB.
const LONGEST: u64 = 1 << 20;

/// Maximum number of files that are based on each other.
const MAX_BASES: usize = 8;

/// A Detectron2 configuration: a file and those that it is based on.
#[derive(Clone, Debug)]
pub struct Detectron2Config {
    path: PathBuf,
    /// The file first, then its bases; the first that has a key gives its value.
    documents: Vec<Yaml>,
}

impl Detectron2Config {
    /// Reads a file and its `_BASE_` files, which are relative to it.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let io_error = |path: &Path, source| WeightsError::Io {
            path: path.into(),
            source,
        };
        let mut documents = Vec::new();
        let mut next = Some(path.to_path_buf());
        while let Some(file) = next.take() {
            let text = read_text(&file).map_err(|error| io_error(&file, error))?;
            let document = yaml::load(&text).map_err(|reason| unsupported(&file, reason))?;
            if document.as_hash().is_none() {
                return Err(unsupported(&file, "it has no `KEY: value` lines".into()));
            }
            if let Some(base) = document["_BASE_"].as_str() {
                let at = file.parent().unwrap_or(Path::new("")).join(base);
                if !at.is_file() || documents.len() + 1 == MAX_BASES {
                    let reason = format!(
                        "its _BASE_ {base} cannot be read; give the complete config.yaml that Detectron2 writes to a run's \
                         OUTPUT_DIR"
                    );
                    return Err(unsupported(&file, reason));
                }
                next = Some(at);
            }
            documents.push(document);
        }
        Ok(Self {
            path: path.into(),
            documents,
        })
    }

    /// The value of `MODEL.RPN.NMS_THRESH`, if a file has it.
    fn get(&self, key: &str) -> Option<&Yaml> {
        let in_document = |document| {
            let value = key
                .split('.')
                .fold(document, |value: &Yaml, part| &value[part]);
            (!value.is_badvalue()).then_some(value)
        };
        self.documents.iter().find_map(in_document)
    }

    fn numbers(&self, key: &str, default: &[f64]) -> Result<Vec<f64>, String> {
        let Some(value) = self.get(key) else {
            return Ok(default.to_vec());
        };
        flat(value).ok_or_else(|| format!("{key} is not a number or a list of numbers"))
    }

    fn array<const N: usize>(&self, key: &str, default: [f64; N]) -> Result<[f32; N], String> {
        let found = self.numbers(key, &default)?;
        let count = found.len();
        let found: [f64; N] = found
            .try_into()
            .map_err(|_| format!("{key} has {count} values, expected {N}"))?;
        Ok(found.map(|value| value as f32))
    }

    fn number(&self, key: &str, default: f64) -> Result<f64, String> {
        Ok(self.array(key, [default])?[0].into())
    }

    fn count(&self, key: &str, default: usize) -> Result<usize, String> {
        let value = self.number(key, default as f64)?;
        match value >= 0.0 && value.fract() == 0.0 && value < 1e9 {
            true => Ok(value as usize),
            false => Err(format!("{key} = {value} is not a non-negative integer")),
        }
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool, String> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| format!("{key} is neither true nor false")),
        }
    }

    fn word(&self, key: &str, default: &str) -> String {
        let value = self.get(key).and_then(Yaml::as_str);
        value.unwrap_or(default).into()
    }

    /// Copies the settings to `config`. Missing keys have the values of Detectron2's `config/defaults.py`.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), String> {
        let named = |reason| format!("{}: {reason}", self.path.display());
        self.refuse_others().map_err(named)?;
        self.take(config).map_err(named)
    }

    fn take(&self, config: &mut Config) -> Result<(), String> {
        let (image, model) = (&mut config.image, &mut config.model);
        image.channels = match self.word("INPUT.FORMAT", "BGR").as_str() {
            "BGR" => ChannelOrder::Bgr,
            "RGB" => ChannelOrder::Rgb,
            other => {
                return Err(format!(
                    "INPUT.FORMAT = {other}; only BGR and RGB are supported"
                ));
            }
        };
        // `image.mean` and `image.std` are those of R, G and B in 0..=1.
        let planes = image.channels.planes();
        let in_order = |values: [f32; 3]| planes.map(|plane| values[plane] / 255.0);
        image.mean = in_order(self.array("MODEL.PIXEL_MEAN", [103.53, 116.28, 123.675])?);
        image.std = in_order(self.array("MODEL.PIXEL_STD", [1.0; 3])?);
        image.min_size = self.count("INPUT.MIN_SIZE_TEST", 800)? as u32;
        image.max_size = self.count("INPUT.MAX_SIZE_TEST", 1333)? as u32;
        model.stride_in_1x1 = self.flag("MODEL.RESNETS.STRIDE_IN_1X1", true)?;

        let rpn = &mut model.rpn;
        let single = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        let sizes = [32.0, 64.0, 128.0, 256.0, 512.0];
        rpn.anchor_sizes = single(self.numbers("MODEL.ANCHOR_GENERATOR.SIZES", &sizes)?);
        let ratios = [0.5, 1.0, 2.0];
        rpn.anchor_ratios = single(self.numbers("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", &ratios)?);
        rpn.anchor_offset = self.number("MODEL.ANCHOR_GENERATOR.OFFSET", 0.0)? as f32;
        rpn.pre_nms_test = self.count("MODEL.RPN.PRE_NMS_TOPK_TEST", 6000)?;
        rpn.post_nms_test = self.count("MODEL.RPN.POST_NMS_TOPK_TEST", 1000)?;
        rpn.nms_iou = self.number("MODEL.RPN.NMS_THRESH", 0.7)?;

        let roi = &mut model.roi;
        roi.aligned = self.word(BOX_POOLER, "ROIAlignV2") == "ROIAlignV2";
        roi.sampling_ratio = self.count("MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", 0)?;
        let weights = [10.0, 10.0, 5.0, 5.0];
        roi.box_weights = self.array("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", weights)?;
        roi.score_threshold = self.number("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.05)? as f32;
        roi.nms_iou = self.number("MODEL.ROI_HEADS.NMS_THRESH_TEST", 0.5)?;
        roi.max_detections = self.count("TEST.DETECTIONS_PER_IMAGE", 100)?;
        model.mask_head.pool = self.count("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", 14)?;
        Ok(())
    }

    /// Refuses networks that this crate does not have: their weights might load and give wrong results.
    fn refuse_others(&self) -> Result<(), String> {
        for (key, only) in [
            ("MODEL.META_ARCHITECTURE", "GeneralizedRCNN"),
            ("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone"),
            ("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
            ("MODEL.FPN.FUSE_TYPE", "sum"),
        ] {
            let found = self.word(key, only);
            if found != only {
                return Err(format!("{key} = {found}; only {only} is supported"));
            }
        }
        for key in [
            "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK",
            "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG",
        ] {
            if self.flag(key, false)? {
                return Err(format!("{key} = true is not supported"));
            }
        }
        if self.array("MODEL.RPN.BBOX_REG_WEIGHTS", [1.0; 4])? != [1.0; 4] {
            return Err("MODEL.RPN.BBOX_REG_WEIGHTS must be 1, 1, 1, 1".into());
        }
        if self.number("MODEL.RESNETS.RES5_DILATION", 1.0)? != 1.0 {
            return Err("MODEL.RESNETS.RES5_DILATION must be 1".into());
        }
        let boxes = self.word(BOX_POOLER, "ROIAlignV2");
        let masks = self.word("MODEL.ROI_MASK_HEAD.POOLER_TYPE", "ROIAlignV2");
        let ratio = |head| self.count(&format!("MODEL.{head}.POOLER_SAMPLING_RATIO"), 0);
        let is_same = boxes == masks && ratio("ROI_BOX_HEAD")? == ratio("ROI_MASK_HEAD")?;
        if !is_same || !["ROIAlign", "ROIAlignV2"].contains(&boxes.as_str()) {
            return Err(format!(
                "POOLER_TYPE and POOLER_SAMPLING_RATIO must be the same in ROI_BOX_HEAD and ROI_MASK_HEAD, and ROIAlign or \
                 ROIAlignV2; they are {boxes} and {masks}"
            ));
        }
        Ok(())
    }
}

const BOX_POOLER: &str = "MODEL.ROI_BOX_HEAD.POOLER_TYPE";

/// The numbers of a value: one, a list, or lists in a list, such as the anchor sizes of each level.
fn flat(value: &Yaml) -> Option<Vec<f64>> {
    match value {
        Yaml::Integer(number) => Some(vec![*number as f64]),
        Yaml::Real(_) => Some(vec![value.as_f64().filter(|number| number.is_finite())?]),
        Yaml::Array(list) => list
            .iter()
            .map(flat)
            .collect::<Option<Vec<_>>>()
            .map(|lists| lists.concat()),
        _ => None,
    }
}

fn read_text(path: &Path) -> Result<String, Error> {
    let length = std::fs::metadata(path)?.len();
    if length > LONGEST {
        let reason = format!("{length} bytes are too many for a config.yaml");
        return Err(Error::new(ErrorKind::InvalidData, reason));
    }
    json::read_text(path)
}

fn unsupported(path: &Path, reason: String) -> WeightsError {
    WeightsError::Unsupported {
        path: path.into(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        folder
    }

    fn applied(text: &str) -> Result<Config, String> {
        let folder = written(&[("config.yaml", text)]);
        let read = Detectron2Config::read(&folder.path().join("config.yaml"));
        let mut config = Config::default();
        read.map_err(|error| error.to_string())?
            .apply(&mut config)?;
        Ok(config)
    }

    /// Model zoo files have a base; its values are replaced one by one.
    #[test]
    fn a_file_replaces_values_of_its_base() {
        let base = "MODEL:\n  RPN: {PRE_NMS_TOPK_TEST: 1000, NMS_THRESH: 0.65}\n  ANCHOR_GENERATOR:\n    SIZES: [[32], [64], \
                    [128], [256], [512]]\n  ROI_HEADS: {NAME: StandardROIHeads}\nINPUT: {MIN_SIZE_TEST: 640}\n";
        let file = "_BASE_: ../Base.yaml\nMODEL:\n  PIXEL_STD: [57.375, 57.120, 58.395]\n  RESNETS: {STRIDE_IN_1X1: False}\n\
                    INPUT:\n  MAX_SIZE_TEST: !!python/tuple [1000]\n";
        let folder = written(&[("Base.yaml", base), ("COCO/x101.yaml", file)]);
        let read = Detectron2Config::read(&folder.path().join("COCO/x101.yaml")).expect("both");
        let mut config = Config::default();
        read.apply(&mut config).expect("supported");
        let (image, model) = (&config.image, &config.model);
        assert_eq!((image.min_size, image.max_size), (640, 1000));
        assert_eq!(image.channels, ChannelOrder::Bgr);
        // Of R, G and B.
        assert_eq!(
            image.std,
            [58.395, 57.12, 57.375].map(|value: f32| value / 255.0)
        );
        assert_eq!(
            image.mean,
            [123.675, 116.28, 103.53].map(|value: f32| value / 255.0)
        );
        assert!(!model.stride_in_1x1 && model.roi.aligned && model.roi.sampling_ratio == 0);
        assert_eq!(
            (model.rpn.pre_nms_test, model.rpn.nms_iou as f32),
            (1000, 0.65)
        );
        assert_eq!(model.rpn.anchor_sizes, [32.0, 64.0, 128.0, 256.0, 512.0]);
    }

    #[test]
    fn missing_keys_have_the_defaults_of_detectron2() {
        let config = applied("VERSION: 2").expect("supported");
        assert!(config.model.stride_in_1x1 && config.model.roi.aligned);
        assert_eq!(config.model.rpn.pre_nms_test, 6000);
        assert_eq!(config.image.std, [1.0 / 255.0; 3]);
    }

    /// As editors on Windows write it.
    #[test]
    fn a_byte_order_mark_is_skipped() {
        let config = applied("\u{feff}INPUT: {FORMAT: RGB}").expect("supported");
        assert_eq!(config.image.channels, ChannelOrder::Rgb);
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for (text, reason) in [
            (
                "MODEL: {ROI_HEADS: {NAME: CascadeROIHeads}}",
                "CascadeROIHeads",
            ),
            (
                "MODEL: {ROI_MASK_HEAD: {CLS_AGNOSTIC_MASK: True}}",
                "CLS_AGNOSTIC_MASK",
            ),
            (
                "MODEL: {ANCHOR_GENERATOR: {OFFSET: [0, 1]}}",
                "OFFSET has 2 values, expected 1",
            ),
            (
                "MODEL: {ROI_BOX_HEAD: {POOLER_SAMPLING_RATIO: 2}}",
                "must be the same",
            ),
            ("MODEL: {PIXEL_MEAN: [1.0]}", "has 1 values, expected 3"),
            ("INPUT: {FORMAT: L}", "only BGR and RGB"),
            ("INPUT: {MIN_SIZE_TEST: -3}", "MIN_SIZE_TEST = -3"),
            (
                "_BASE_: detectron2://x.yaml",
                "_BASE_ detectron2://x.yaml cannot be read",
            ),
            ("_BASE_: config.yaml", "_BASE_ config.yaml cannot be read"),
            ("just text", "no `KEY: value` lines"),
        ] {
            let error = applied(text).expect_err(text);
            assert!(
                error.contains(reason) && error.contains("config.yaml"),
                "{error}"
            );
        }
    }
}
