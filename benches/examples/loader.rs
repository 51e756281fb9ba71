//! Images per second of the data loader, for `benches/loader/run.py`; prints one line of JSON.
//!
//! - `loader batches DIR PASSES WORKERS` loads a dataset PASSES times: decode, flip, resize to 800/1333, normalize, masks,
//!   batches of 2.
//! - `loader decode DIR ROUNDS` only decodes its images.
//! - `loader resize ROUNDS` times resizing of a noise image beside fast_image_resize.

use fast_image_resize::images::Image;
use fast_image_resize::pixels::{F32x3, U8x3};
use fast_image_resize::{FilterType, PixelTrait, PixelType, ResizeAlg, ResizeOptions, Resizer};
use mrcnn_core::Config;
use mrcnn_core::config::ImageConfig;
use mrcnn_core::data::{Dataset, OnProblem};
use mrcnn_core::image::RgbImage;
use mrcnn_core::image::decode::decode;
use mrcnn_core::image::transform::{Planes, prepare};
use mrcnn_core::random::Stream;
use mrcnn_core::train::parts::{Loader, Rank};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["batches", dir, passes, workers] => batches(dir, passes.parse()?, workers.parse()?),
        ["decode", dir, rounds] => decode_all(dir, rounds.parse()?),
        ["resize", rounds] => resize(rounds.parse()?),
        _ => Err("loader batches DIR PASSES WORKERS | decode DIR ROUNDS | resize ROUNDS".into()),
    }
}

fn batches(dir: &str, passes: usize, workers: usize) -> Result<(), Failure> {
    let (dataset, _) = Dataset::open(Path::new(dir), "train", OnProblem::Skip)?;
    let mut config = Config::default();
    config.data.workers = workers;
    config.train.batch_size = 2;
    let count = dataset.samples.len();
    // The first pass is not timed; it reads the files into the page cache.
    config.train.steps = count * (passes + 1) / 2;
    let loader = Loader::start(Arc::new(dataset), &config, 0, Rank::SINGLE)?;
    let (mut images, mut sum, mut objects) = (0, 0.0f64, 0);
    let (mut started, mut used) = (Instant::now(), cpu_seconds());
    while let Some(batch) = loader.next_batch() {
        let batch = batch?;
        images += batch.image_ids.len();
        objects += batch.gts.iter().map(|gt| gt.masks.len()).sum::<usize>();
        sum += batch
            .values
            .iter()
            .step_by(1009)
            .map(|&v| v as f64)
            .sum::<f64>();
        if images == count {
            (started, used) = (Instant::now(), cpu_seconds());
        }
    }
    let (images, seconds) = (images - count, started.elapsed().as_secs_f64());
    let used = cpu_seconds() - used;
    println!(
        "{{\"images\": {images}, \"seconds\": {seconds:.3}, \"cpu_seconds\": {used:.2}, \
         \"objects\": {objects}, \"sum\": {sum:.3}}}"
    );
    Ok(())
}

fn decode_all(dir: &str, rounds: usize) -> Result<(), Failure> {
    let (dataset, _) = Dataset::open(Path::new(dir), "train", OnProblem::Skip)?;
    let mut fastest = f64::MAX;
    for _ in 0..rounds {
        let used = cpu_seconds();
        for sample in &dataset.samples {
            std::hint::black_box(decode(&sample.path)?);
        }
        fastest = fastest.min(cpu_seconds() - used);
    }
    let ms = fastest * 1e3 / dataset.samples.len() as f64;
    println!("{{\"decode_ms\": {ms:.2}}}");
    Ok(())
}

/// CPU seconds of all threads of this process.
fn cpu_seconds() -> f64 {
    cpu_time::ProcessTime::now().as_duration().as_secs_f64()
}

fn resize(rounds: usize) -> Result<(), Failure> {
    let (width, height) = (640, 480);
    let stream = Stream::named("noise", 0);
    let bytes: Vec<u8> = (0..3 * width * height)
        .map(|i| stream.bits(i.into()) as u8)
        .collect();
    let image =
        RgbImage::from_raw(width, height, bytes).ok_or("the noise image has a wrong size")?;
    let config = ImageConfig::default();
    let expected = prepare(&image, &config);
    let mrcnn = best(rounds, || prepare(&image, &config));
    let floats = best(rounds, || resized_floats(&image, &config, &expected));
    let bytes = best(rounds, || resized_bytes(&image, &config, &expected));
    let error = |actual: &Planes| {
        let pairs = actual.values.iter().zip(&expected.values);
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max)
    };
    println!(
        "{{\"mrcnn_ms\": {:.2}, \"floats_ms\": {:.2}, \"floats_error\": {:e}, \"bytes_ms\": {:.2}, \
         \"bytes_error\": {:e}}}",
        mrcnn.0,
        floats.0,
        error(&floats.1),
        bytes.0,
        error(&bytes.1)
    );
    Ok(())
}

/// Milliseconds of the fastest round, and the last result.
fn best(rounds: usize, mut run: impl FnMut() -> Planes) -> (f64, Planes) {
    let mut fastest = f64::MAX;
    let mut result = run();
    for _ in 0..rounds {
        let started = Instant::now();
        result = run();
        fastest = fastest.min(started.elapsed().as_secs_f64() * 1e3);
    }
    (fastest, result)
}

/// Bilinear interpolation without anti-aliasing, as torch's `interpolate`. `Resizer::resize` would compile all 13 pixel
/// types into this program, for more than a minute.
fn resize_typed<P: PixelTrait>(source: &Image, target: &mut Image) {
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Interpolation(FilterType::Bilinear));
    let types = "the pixel type is that of the images";
    let source = source.typed_image::<P>().expect(types);
    let mut target = target.typed_image_mut::<P>().expect(types);
    let resized = Resizer::new().resize_typed(&source, &mut target, &options);
    resized.expect("neither size is zero");
}

/// Normalized first, then resized as floats, as in the loader of mrcnn.
fn resized_floats(image: &RgbImage, config: &ImageConfig, to: &Planes) -> Planes {
    let tables: [[f32; 256]; 3] = std::array::from_fn(|c| {
        std::array::from_fn(|v| (v as f32 / 255.0 - config.mean[c]) / config.std[c])
    });
    let floats = image.as_raw().as_chunks::<3>().0.iter();
    let floats = floats.flat_map(|p| [0, 1, 2].map(|c| tables[c][p[c] as usize].to_ne_bytes()));
    let bytes: Vec<u8> = floats.flatten().collect();
    let (width, height) = image.dimensions();
    let source = Image::from_vec_u8(width, height, bytes, PixelType::F32x3)
        .expect("the size fits the bytes");
    let mut target = Image::new(to.width as u32, to.height as u32, PixelType::F32x3);
    resize_typed::<F32x3>(&source, &mut target);
    let values = target
        .buffer()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|v| f32::from_ne_bytes(*v));
    planes(values, to)
}

/// Resized as bytes, then normalized: less memory, but rounded to 1/255.
fn resized_bytes(image: &RgbImage, config: &ImageConfig, to: &Planes) -> Planes {
    let tables: [[f32; 256]; 3] = std::array::from_fn(|c| {
        std::array::from_fn(|v| (v as f32 / 255.0 - config.mean[c]) / config.std[c])
    });
    let (width, height) = image.dimensions();
    let raw = image.as_raw().clone();
    let source =
        Image::from_vec_u8(width, height, raw, PixelType::U8x3).expect("the size fits the bytes");
    let mut target = Image::new(to.width as u32, to.height as u32, PixelType::U8x3);
    resize_typed::<U8x3>(&source, &mut target);
    let values = target.buffer().iter().enumerate();
    planes(values.map(|(i, v)| tables[i % 3][*v as usize]), to)
}

/// Converts interleaved values to planes.
fn planes(values: impl Iterator<Item = f32>, to: &Planes) -> Planes {
    let area = to.height * to.width;
    let mut planes = Planes {
        values: vec![0.0; 3 * area],
        height: to.height,
        width: to.width,
    };
    for (index, value) in values.enumerate() {
        planes.values[index % 3 * area + index / 3] = value;
    }
    planes
}
