//! Predicts with weights from memory; a program with the library as its only dependency.

use mrcnn_core::data::Classes;
use mrcnn_core::image::RgbImage;
use mrcnn_core::weights::{Checkpoint, state_dict};
use mrcnn_core::{BackendKind, Config, MaskRcnn, Predictor, backends::select};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let network = [
        "model.backbone=resnet18",
        "model.width=8",
        "model.fpn_channels=16",
        "model.num_classes=2",
        "model.box_head.hidden=32",
        "model.mask_head.convs=[16]",
        "model.mask_head.hidden=16",
        "image.min_size=96",
    ];
    let config = Config::default().with(&network)?;
    let device = select(BackendKind::Auto)?.device;
    let model = MaskRcnn::new(&config.model, 1, &device);
    let weights = Checkpoint {
        config,
        classes: Classes {
            names: vec!["thing".into()],
            ids: vec![1],
        },
        training: None,
        tensors: state_dict(&model),
    };

    let weights = weights.to_bytes()?;
    let predictor = Predictor::builder().weights(&weights).build()?;
    let image = RgbImage::from_fn(80, 60, |x, y| [(x * 7) as u8, (y * 5) as u8, 90].into());
    let prediction = predictor.predict(&image)?;
    let best = prediction.iter().next().ok_or("random weights detect no object")?;
    println!(
        "{} of {} objects: {} {:.2} {:?}, {} polygons, {} COCO results",
        1,
        prediction.len(),
        best.name,
        best.score,
        best.bbox,
        best.polygons().len(),
        prediction.to_coco(1).len()
    );
    assert_eq!(prediction.draw(&image).dimensions(), (80, 60));
    Ok(())
}
