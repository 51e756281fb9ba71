//! `mrcnn-cli convert`.

use crate::terminal::{note, out};
use crate::weights::{FetchArgs, RequiredPart};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use mrcnn_backends::{BackendKind, select};
use mrcnn_core::MaskRcnn;
use mrcnn_core::data::Classes;
use mrcnn_core::weights::import::{
    Detectron2Config, Format, ImportOptions, Imported, export_torchvision,
};
use mrcnn_core::weights::{Checkpoint, StoredAs, f16_overflows, load_state_dict, transfer};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ConvertArgs {
    /// Weights: the name of a pretrained model (see `models`), torchvision .pth or .safetensors, Detectron2 .pkl or
    /// .pth, a TensorFlow checkpoint (PREFIX or PREFIX.index), or a file of this program
    #[arg(value_name = "NAME|FILE")]
    input: PathBuf,
    #[command(flatten)]
    fetch: FetchArgs,
    /// Program that reads the result
    #[arg(long, value_enum, default_value = "mrcnn")]
    to: Target,
    /// Output file; by default INPUT.mrcnn.safetensors or INPUT.torchvision.safetensors, beside a file, and
    /// for the name of a model in the current folder
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Dtype of the tensors
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    /// With --dtype f16: clamp values beyond 65504 to 65504; otherwise they are an error
    #[arg(long)]
    allow_overflow: bool,
    /// Class names: a text file with one per line, or a COCO JSON file; by default COCO's if their number matches
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// In a file with several models, the prefix of the tensor names of the model to read, e.g. ema_model.
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Configuration of a Detectron2 model that is not in its model zoo: the config.yaml in its OUTPUT_DIR
    #[arg(long, value_name = "FILE")]
    detectron2_config: Option<PathBuf>,
    /// Change one setting of the result, e.g. --set model.norm_eps=0; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  mrcnn-cli convert maskrcnn_resnet50_fpn --dtype f16
  mrcnn-cli convert maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth
  mrcnn-cli convert model_final_f10217.pkl --out d2.safetensors
  mrcnn-cli convert output/model_final.pth --detectron2-config output/config.yaml
  mrcnn-cli convert resnet-nhwc-2018-02-07/model.ckpt-112603
  mrcnn-cli convert runs/train/best.safetensors --to torchvision --dtype f16";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// This program; the file contains the configuration and the class names
    Mrcnn,
    /// torchvision: `load_state_dict(load_file(FILE), strict=True)`
    Torchvision,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Dtype {
    /// 24 bits of significand, as in training
    F32,
    /// 11 bits of significand, in half the space
    F16,
}

impl ConvertArgs {
    fn stored_as(&self) -> StoredAs {
        match (self.dtype, self.allow_overflow) {
            (Dtype::F32, _) => StoredAs::F32,
            (Dtype::F16, false) => StoredAs::F16,
            (Dtype::F16, true) => StoredAs::F16Clamped,
        }
    }
}

pub fn run(args: &ConvertArgs) -> Result<()> {
    let out = args.out.clone().unwrap_or_else(|| output_name(args));
    ensure!(
        !out.exists(),
        "{}: it exists; give another --out or remove it",
        out.display()
    );
    let settings = out.with_extension("toml");
    ensure!(
        matches!(args.to, Target::Torchvision) || !settings.exists() && settings != out,
        "{}: the settings would be written there; give another --out",
        settings.display()
    );
    let classes = args.classes.as_deref().map(Classes::read).transpose()?;
    let prefix = args.prefix.clone();
    let theirs = args.detectron2_config.as_deref();
    let detectron2 = theirs.map(Detectron2Config::read).transpose()?;
    let source = args
        .fetch
        .source(&args.input, RequiredPart::Backbone, true)?;
    let mut imported = source.import(&ImportOptions {
        classes,
        prefix,
        detectron2,
    })?;
    let config = imported.checkpoint.config.with(&args.set)?;
    imported.checkpoint.config = config;
    describe(&imported);
    check(&imported.checkpoint, &args.input)?;
    let checkpoint = &imported.checkpoint;
    let stored_as = args.stored_as();
    if stored_as == StoredAs::F16Clamped
        && let Some((count, name, value)) = f16_overflows(&checkpoint.tensors)
    {
        note!(
            "warning: {count} values are beyond 65504 and become 65504, the first {value} in {name}"
        );
    }
    match args.to {
        Target::Mrcnn => {
            checkpoint.save(&out, stored_as)?;
            std::fs::write(&settings, toml::to_string(&checkpoint.config)?)
                .with_context(|| settings.display().to_string())?;
            out!(
                "settings: {} (a copy; the weights contain them)",
                settings.display()
            );
        }
        Target::Torchvision => {
            for difference in export_torchvision(&out, checkpoint, stored_as)? {
                out!("set in torchvision: {difference}");
            }
        }
    }
    let size = out.metadata().map_or(0, |metadata| metadata.len());
    out!("weights:  {} ({:.1} MB)", out.display(), size as f64 / 1e6);
    if imported.format == Format::Backbone {
        out!(
            "train on: mrcnn-cli train --weights {} --data DIR",
            out.display()
        );
    }
    Ok(())
}

fn describe(imported: &Imported) {
    let model = &imported.checkpoint.config.model;
    let count = imported.checkpoint.tensors.len();
    out!("format:   {}, {count} tensors", imported.format);
    let backbone = format!("{:?}", model.backbone).to_lowercase();
    match model.num_classes {
        0 => out!("network:  {backbone} without detection heads"),
        classes => out!("network:  {backbone}, {classes} classes with the background"),
    }
    for note in &imported.notes {
        out!("note:     {note}");
    }
    if let Some(first) = imported.ignored.first() {
        let count = imported.ignored.len();
        out!("left out: {count} entries that are not weights of the network ({first}, ...)");
    }
}

/// Rejects weights that lack tensors of the network that they describe.
fn check(checkpoint: &Checkpoint, path: &Path) -> Result<()> {
    let device = select(BackendKind::Cpu)?.device;
    let mut config = checkpoint.config.clone();
    if config.model.num_classes == 0 {
        config.model.num_classes = 2;
        config.check()?;
        let model = MaskRcnn::new(&config.model, 0, &device);
        transfer(model, checkpoint.clone(), None, path)?;
    } else {
        config.check()?;
        let tensors = checkpoint.tensors.clone();
        load_state_dict(MaskRcnn::new(&config.model, 0, &device), tensors, path)?;
    }
    Ok(())
}

/// `weights.pth` -> `weights.mrcnn.safetensors`, beside it.
fn output_name(args: &ConvertArgs) -> PathBuf {
    let name = args.input.file_name().unwrap_or_default().to_string_lossy();
    let known = [".safetensors", ".pth", ".pt", ".pkl", ".index"];
    let stem = known
        .iter()
        .find_map(|extension| name.strip_suffix(extension));
    let target = match args.to {
        Target::Mrcnn => "mrcnn",
        Target::Torchvision => "torchvision",
    };
    let stem = stem.unwrap_or(&name);
    // The name of a model has no folder, so this is in the current one.
    args.input
        .with_file_name(format!("{stem}.{target}.safetensors"))
}
