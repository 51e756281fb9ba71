//! Arguments of `mrcnn-cli predict`.

use super::draw::DrawArgs;
use super::filter::FilterArgs;
use super::save::Form;
use super::tile::TileArgs;
use super::video::VideoArgs;
use crate::shared::{ModelArgs, PrintFormat};
use crate::weights::FetchArgs;
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PredictArgs {
    /// Images, folders of images, datasets, patterns such as 'photos/**/*.jpg', videos, URLs of images and videos,
    /// cameras (0, /dev/video0 or webcam:NAME), or - for an image from standard input
    #[arg(required = true, value_name = "IMAGES")]
    pub images: Vec<OsString>,
    /// Split of a dataset; by default val, or the only one
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
    /// Include subfolders
    #[arg(long)]
    pub recursive: bool,
    /// Skip images that are already done in --out
    #[arg(long)]
    pub resume: bool,
    /// The name of a pretrained model (see `models`), weights of `train` or `convert`, or any that `convert` reads; by
    /// default the newest best.safetensors under runs/
    #[arg(long, value_name = "NAME|FILE")]
    pub weights: Option<PathBuf>,
    #[command(flatten)]
    pub fetch: FetchArgs,
    /// Folder for the results; a number is appended if it exists
    #[arg(long, value_name = "DIR", default_value = "runs/predict")]
    pub out: PathBuf,
    /// Score threshold: detections with a lower score are left out
    #[arg(long, default_value_t = 0.5)]
    pub score: f32,
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Results to write, separated by commas. detections.json (COCO results) and images.json are always written
    #[arg(
        long,
        value_enum,
        value_name = "FORMS",
        value_delimiter = ',',
        default_value = "overlay"
    )]
    pub save: Vec<Form>,
    /// Format of the printed results; the files are written in any case
    #[arg(long, value_enum, default_value = "table")]
    pub format: PrintFormat,
    #[command(flatten)]
    pub drawing: DrawArgs,
    #[command(flatten)]
    pub tiles: TileArgs,
    #[command(flatten)]
    pub video: VideoArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

const EXAMPLES: &str = "\
Examples:
  mrcnn-cli predict photo.jpg --weights maskrcnn_resnet50_fpn
  mrcnn-cli predict photos 'more/**/*.png' --weights best.safetensors --score 0.7
  mrcnn-cli predict photo.jpg --set image.min_size=400 --backend wgpu
  mrcnn-cli predict shapes --split val --weights best.safetensors --score 0.05
  mrcnn-cli predict photos --classes cat,dog --area 400.. --max-detections 20
  mrcnn-cli predict photos --save coco-dataset,labelme,csv   # to correct in CVAT, Label Studio or labelme
  mrcnn-cli predict photos --draw contours,labels --color instance
  mrcnn-cli predict satellite.tif --tile 2000 --overlap 0.2
  mrcnn-cli predict clip.mp4 --stride 2 --start 0:30 --end 1:00   # needs ffmpeg
  mrcnn-cli predict https://example.com/photo.jpg
  mrcnn-cli predict 0 --end 1:00   # a webcam, through ffmpeg
  mrcnn-cli predict photo.jpg --tta   # slower and usually better
  import -window root png:- | mrcnn-cli predict -
  mrcnn-cli predict photo.jpg --format json | jq '.[].bbox'";
