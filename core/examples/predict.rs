//! Detects objects in an image and draws them:
//! `cargo run --release --example predict -- best.safetensors photo.jpg prediction.png`

use mrcnn_core::Predictor;
use mrcnn_core::image::decode::decode;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [weights, photo, out] = &args[..] else {
        return Err("usage: predict WEIGHTS IMAGE OUT".into());
    };
    let predictor = Predictor::builder().weights(weights).score(0.5).build()?;
    let image = decode(photo)?;
    let prediction = predictor.predict(&image)?;
    for object in &prediction {
        println!("{} {:.2} {:?}", object.name, object.score, object.bbox);
    }
    prediction.draw(&image).save(out)?;
    Ok(())
}
