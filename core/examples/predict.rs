//! Finds objects in a picture and draws them:
//! `cargo run --release --example predict -- best.safetensors photo.jpg found.png`

use mrcnn_core::Predictor;
use mrcnn_core::image::decode::decode;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [weights, photo, drawn] = &args[..] else {
        return Err("usage: predict WEIGHTS PICTURE DRAWN".into());
    };
    let predictor = Predictor::builder().weights(weights).score(0.5).build()?;
    let image = decode(photo)?;
    let found = predictor.predict(&image)?;
    for object in &found {
        println!("{} {:.2} {:?}", object.name, object.score, object.bbox);
    }
    found.draw(&image).save(drawn)?;
    Ok(())
}
