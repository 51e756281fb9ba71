use super::layers::{ConvLayer, Layers};
use super::*;
use burn::tensor::FloatDType;

fn tiny() -> Config {
    let overrides = [
        "image.min_size=64",
        "image.max_size=64",
        "model.num_classes=5",
    ];
    let config = Config::preset("quickstart").and_then(|config| config.with(&overrides));
    config.expect("the preset and the overrides are valid")
}

#[test]
fn the_convolutions_of_resnet_50_have_its_weights_and_flops() {
    let mut config = Config::default();
    (config.image.min_size, config.image.max_size) = (224, 224);
    let mut layers = Layers::default();
    layers.add_backbone(&config, &Scene::new(&config, 1));
    let sum = |of: &dyn Fn(&ConvLayer) -> usize| -> usize {
        layers
            .convs
            .iter()
            .map(|(layer, occurrences)| of(layer) * occurrences.outputs)
            .sum()
    };
    // torchvision: 25,557,032 parameters, of which 2,049,000 are the classifier's and 53,120 batch norms'.
    assert_eq!(sum(&|layer| layer.elements()[1]), 23_454_912);
    // torchvision: 4.09 billion multiply-adds.
    let billions = sum(&ConvLayer::flops) as f64 / 2e9;
    assert!((billions - 4.09).abs() < 0.01, "{billions}");
}

/// The RPN computes the outputs of every level, and gradients of the windows of the sampled anchors.
#[test]
fn the_rpn_has_gradients_of_its_windows() {
    for convs in [1, 2] {
        let mut config = Config::default();
        config.model.rpn.convs = convs;
        let scene = Scene::new(&config, 2);
        let layers = Layers::of(&config, &scene);
        let (rows, columns) = scene.grids[0];
        let count = |channels: usize, kernel: usize, sizes: [usize; 3]| {
            let [n, rows, columns] = sizes;
            let mut convs = layers.convs.iter();
            let found = convs.find(|(layer, _)| {
                layer.sizes == [n, 256, channels, rows, columns] && layer.kernel == kernel
            });
            found.map(|(_, count)| (count.outputs, count.gradients))
        };
        // One of them is the FPN's.
        assert_eq!(count(256, 3, [2, rows, columns]), Some((1 + convs, 1)));
        assert_eq!(count(15, 1, [2, rows, columns]), Some((1, 0)));
        let of_windows = (convs == 2).then_some((1, 1));
        assert_eq!(count(256, 3, [512, 5, 5]), of_windows);
        for linear in [[512, 9 * 256, 256], [512, 256, 15]] {
            assert!(layers.linears.contains(&(linear, 1)), "{linear:?}");
        }
    }
}

#[test]
fn every_kernel_is_timed_on_the_cpu() {
    let spec = KernelSpec {
        batch_size: 2,
        warmup: 0,
        steps: 1,
        dtype: FloatDType::F32,
        only: Vec::new(),
    };
    let report = benchmark_kernels(&spec, &tiny(), &Device::flex(), &mut |_| {});
    let report = report.expect("the benchmark runs");
    for kernel in [
        "output",
        "input gradient",
        "weight gradient",
        "RoIAlign",
        "top-k",
        "NMS",
        "SGD",
    ] {
        assert!(
            report
                .kernels
                .iter()
                .any(|result| result.kernel.contains(kernel)),
            "{kernel}"
        );
    }
    for result in &report.kernels {
        assert!(result.ms.p50 > 0.0 && result.floor_ms > 0.0, "{result:?}");
    }
}
