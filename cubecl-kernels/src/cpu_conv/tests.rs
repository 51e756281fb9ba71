//! Every instruction set of this CPU compared with sums in f64, over random shapes.

use super::geometry::ConvShape;
use super::isa::{Isa, available};
use super::output::Output;
use super::product::{Epilogue, forward, input_gradient};
use super::weight_gradient::weight_gradient;
use super::weights::Weights;

/// A linear congruential generator: the same cases in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }

    fn pick<const N: usize>(&mut self, of: [usize; N]) -> usize {
        of[self.below(N)]
    }

    fn values(&mut self, len: usize) -> Vec<f32> {
        let unit = |bits: u64| bits as f32 / (1u64 << 30) as f32 - 1.0;
        (0..len).map(|_| unit(self.next())).collect()
    }

    fn shape(&mut self) -> ConvShape {
        ConvShape {
            images: 1 + self.below(3),
            inputs: self.pick([1, 2, 3, 7, 8, 16, 19, 40]),
            outputs: self.pick([1, 3, 7, 8, 9, 12, 16, 23]),
            size: [1 + self.below(20), 1 + self.below(40)],
            kernel: self.pick([1, 3, 5, 7]),
            stride: 1 + self.below(3),
        }
    }
}

struct Case {
    shape: ConvShape,
    input: Vec<f32>,
    weight: Vec<f32>,
    scale: Vec<f32>,
    grad: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<f32>,
}

impl Case {
    fn new(shape: ConvShape, random: &mut Random) -> Self {
        Self {
            shape,
            input: random.values(shape.input_len()),
            weight: random.values(shape.weight_len()),
            scale: random.values(shape.outputs),
            grad: random.values(shape.output_len()),
            bias: random.values(shape.outputs),
            residual: random.values(shape.output_len()),
        }
    }

    /// Output, gradient of the input and gradient of the weights, in f64.
    fn expected(&self) -> [Vec<f64>; 3] {
        let shape = &self.shape;
        let mut output = vec![0.0; shape.output_len()];
        let mut input_gradient = vec![0.0; shape.input_len()];
        let mut weight_gradient = vec![0.0; shape.weight_len()];
        let row = shape.inputs * shape.taps();
        self.for_each_product(|o, i, w| {
            let weight = f64::from(self.weight[w]) * f64::from(self.scale[w / row]);
            output[o] += f64::from(self.input[i]) * weight;
            input_gradient[i] += f64::from(self.grad[o]) * weight;
            weight_gradient[w] += f64::from(self.grad[o]) * f64::from(self.input[i]);
        });
        [output, input_gradient, weight_gradient]
    }

    /// Indices of output, input and weight of every product of the convolution.
    fn for_each_product(&self, mut product: impl FnMut(usize, usize, usize)) {
        let ConvShape {
            images,
            inputs,
            outputs,
            size: [h, w],
            kernel,
            stride,
        } = self.shape;
        let [rows, columns] = self.shape.output_size();
        let place = |out: usize, k: usize, size: usize| {
            (out * stride + k)
                .checked_sub(kernel / 2)
                .filter(|&at| at < size)
        };
        for image in 0..images {
            for (o, y, x) in grid(outputs, rows, columns) {
                for (c, ky, kx) in grid(inputs, kernel, kernel) {
                    if let (Some(iy), Some(ix)) = (place(y, ky, h), place(x, kx, w)) {
                        product(
                            ((image * outputs + o) * rows + y) * columns + x,
                            ((image * inputs + c) * h + iy) * w + ix,
                            ((o * inputs + c) * kernel + ky) * kernel + kx,
                        );
                    }
                }
            }
        }
    }

    /// Output without epilogue, with a bias and with all of it, gradient of the input and of the weights.
    fn results(&self, isa: &Isa) -> [Vec<f32>; 5] {
        let shape = &self.shape;
        let weights = Weights {
            values: &self.weight,
            scale: Some(&self.scale),
        };
        let run = |epilogue| {
            written(shape.output_len(), |out| {
                forward(isa, shape, &self.input, weights, epilogue, out);
            })
        };
        let all = Epilogue {
            bias: Some(&self.bias),
            residual: Some(&self.residual),
            relu: true,
        };
        let bias = Epilogue {
            bias: Some(&self.bias),
            ..Epilogue::default()
        };
        [
            run(Epilogue::default()),
            run(bias),
            run(all),
            written(shape.input_len(), |out| {
                input_gradient(isa, shape, weights, &self.grad, out);
            }),
            written(shape.weight_len(), |out| {
                weight_gradient(isa, shape, &self.input, &self.grad, out);
            }),
        ]
    }

    fn check(&self, isa: &Isa) {
        let shape = &self.shape;
        let [output, input_gradient, weight_gradient] = self.expected();
        let [rows, columns] = shape.output_size();
        let bias = |at: usize| f64::from(self.bias[at / (rows * columns) % shape.outputs]);
        let with_bias = output.iter().enumerate().map(|(at, sum)| sum + bias(at));
        let with_bias: Vec<f64> = with_bias.collect();
        let with_epilogue = with_bias.iter().zip(&self.residual);
        let with_epilogue =
            with_epilogue.map(|(sum, &residual)| (sum + f64::from(residual)).max(0.0));
        let terms = [
            shape.inputs * shape.taps(),
            shape.inputs * shape.taps() + 1,
            shape.inputs * shape.taps() + 2,
            shape.outputs * shape.taps(),
            shape.images * rows * columns,
        ];
        let with_epilogue = with_epilogue.collect();
        let expected = [
            output,
            with_bias,
            with_epilogue,
            input_gradient,
            weight_gradient,
        ];
        let names = [
            "output",
            "output with bias",
            "output with epilogue",
            "input gradient",
            "weight gradient",
        ];
        for (index, got) in self.results(isa).iter().enumerate() {
            // Terms are at most 1: each partial sum and each scaled weight is rounded by at most half of its
            // size.
            let bound = (terms[index] + 1) as f64 * f64::from(f32::EPSILON);
            for (at, (got, want)) in got.iter().zip(&expected[index]).enumerate() {
                let error = (f64::from(*got) - want).abs();
                let what = names[index];
                assert!(
                    error <= bound,
                    "{what} of {shape:?}, {}, at {at}: {got}, not {want}",
                    isa.name
                );
            }
        }
    }
}

fn grid(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a * b * c).map(move |at| (at / (b * c), at / c % b, at % c))
}

/// The values that `write` writes; NaN where it writes nothing.
fn written(len: usize, write: impl FnOnce(Output)) -> Vec<f32> {
    let mut values = vec![f32::NAN; len];
    // SAFETY: the values outlive the call, and are not used during it.
    write(unsafe { Output::from_raw(values.as_mut_ptr(), len) });
    values
}

fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.expect("a pool of threads").install(work)
}

#[test]
fn every_instruction_set_computes_the_sums() {
    let sets = available();
    for known in ["avx512", "avx2", "neon", "simd128", "plain"] {
        match sets.iter().find(|isa| isa.name == known) {
            Some(_) => eprintln!("{known}: tested"),
            None => eprintln!("SKIPPED: this CPU has no {known}"),
        }
    }
    let mut random = Random(1);
    for _ in 0..150 {
        let case = Case::new(random.shape(), &mut random);
        sets.iter().for_each(|isa| case.check(isa));
    }
}

/// More channels than one pass sums, more pixels than a block has, and planes without an edge.
#[test]
fn blocks_and_passes_fit_together() {
    let shape = |images, inputs, outputs, size, kernel, stride| ConvShape {
        images,
        inputs,
        outputs,
        size,
        kernel,
        stride,
    };
    let shapes = [
        shape(1, 300, 16, [3, 5], 1, 1),
        shape(1, 70, 9, [4, 6], 3, 1),
        shape(2, 3, 70, [33, 129], 3, 1),
        shape(1, 5, 8, [40, 70], 1, 1),
        // Stored tile by tile: planes of one tile, with a part of one, several images, and groups that share a strip.
        shape(2, 20, 16, [6, 8], 1, 1),
        shape(2, 20, 16, [4, 6], 1, 1),
        shape(3, 33, 11, [20, 61], 1, 1),
        shape(2, 40, 43, [37, 61], 1, 1),
        // Without input channels the output is the bias.
        shape(2, 0, 16, [6, 8], 1, 1),
        shape(1, 0, 9, [5, 7], 3, 1),
        shape(5, 9, 20, [14, 14], 3, 1),
        shape(1, 3, 16, [50, 61], 7, 2),
        shape(2, 33, 17, [31, 30], 3, 2),
        shape(2, 20, 9, [15, 16], 1, 2),
        shape(1, 2, 3, [1, 2500], 3, 1),
    ];
    let mut random = Random(2);
    for shape in shapes {
        let case = Case::new(shape, &mut random);
        available().iter().for_each(|isa| case.check(isa));
    }
}

/// An image without objects gives the mask head no RoI: the gradient of its weights is zero.
#[test]
fn no_images_give_no_gradient() {
    for kernel in [1, 3] {
        let shape = ConvShape {
            images: 0,
            inputs: 5,
            outputs: 9,
            size: [14, 14],
            kernel,
            stride: 1,
        };
        let case = Case::new(shape, &mut Random(4));
        for isa in available() {
            let [output, _, _, input_gradient, weight_gradient] = case.results(isa);
            assert!(output.is_empty() && input_gradient.is_empty());
            assert_eq!(weight_gradient, vec![0.0; shape.weight_len()]);
        }
    }
}

#[test]
fn no_bit_depends_on_the_number_of_threads() {
    let mut random = Random(3);
    let mut shapes: Vec<_> = (0..10).map(|_| random.shape()).collect();
    shapes.push(ConvShape {
        images: 1,
        inputs: 70,
        outputs: 64,
        size: [40, 60],
        kernel: 3,
        stride: 1,
    });
    shapes.push(ConvShape {
        images: 2,
        inputs: 20,
        outputs: 72,
        size: [40, 61],
        kernel: 1,
        stride: 1,
    });
    for shape in shapes {
        let case = Case::new(shape, &mut random);
        for isa in available() {
            let bits = |threads| {
                let results = on_threads(threads, || case.results(isa));
                results.map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>())
            };
            let one = bits(1);
            for threads in [1, 2, 4, 7] {
                assert!(
                    one == bits(threads),
                    "{shape:?}, {}, {threads} threads",
                    isa.name
                );
            }
        }
    }
}
