//! Convolutions with "same" padding as sums over taps at constant offsets.
//!
//! The source is read as *strips*: the rows of all images of a channel, one after the other, with a
//! gap of zeros after each row and after each image that is as wide as the reach of the kernel. A tap is
//! then one offset for every pixel, and results in the gaps are dropped. With stride 2 the
//! source is split into phases (even and odd rows and columns), each with a strip of its own.

/// A convolution with an odd kernel, padded by half of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Number of images.
    pub images: usize,
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Height and width of the input.
    pub size: [usize; 2],
    /// Height and width of the kernel: 1, 3, 5, 7.
    pub kernel: usize,
    /// 1 or more.
    pub stride: usize,
}

impl ConvShape {
    /// Height and width of the output.
    pub fn output_size(&self) -> [usize; 2] {
        self.size.map(|size| size.div_ceil(self.stride))
    }

    /// Number of taps of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    /// Number of values of the input.
    pub fn input_len(&self) -> usize {
        self.images * self.inputs * self.size[0] * self.size[1]
    }

    /// Number of values of the output.
    pub fn output_len(&self) -> usize {
        let [h, w] = self.output_size();
        self.images * self.outputs * h * w
    }

    /// Number of values of the weights.
    pub fn weight_len(&self) -> usize {
        self.outputs * self.inputs * self.taps()
    }
}

/// One tap: the weight, the phase, and the offset in rows and columns.
#[derive(Clone, Copy, Debug)]
pub struct Tap {
    /// Index into the kernel, row-major.
    pub weight: usize,
    /// Index into [`View::phases`].
    pub phase: usize,
    /// Offset from the pixel in rows and columns.
    pub away: [isize; 2],
}

/// Access pattern of a source for one grid of results.
#[derive(Clone, Debug)]
pub struct View {
    pub images: usize,
    /// Height and width of the source.
    pub size: [usize; 2],
    /// Distance between rows or columns of a phase, in the source.
    pub step: usize,
    /// First row and column of each phase.
    pub phases: Vec<[usize; 2]>,
    /// Height and width of the results.
    pub grid: [usize; 2],
    /// Rows and columns of zeros after each image and each row.
    pub gap: [usize; 2],
    pub taps: Vec<Tap>,
}

impl View {
    /// The input of `shape`, for its output.
    pub fn forward(shape: &ConvShape) -> Self {
        let pad = (shape.kernel / 2) as isize;
        let step = shape.stride as isize;
        let axis = |k: usize| {
            let reach = k as isize - pad;
            (reach.rem_euclid(step) as usize, reach.div_euclid(step))
        };
        let taps = (0..shape.kernel).flat_map(|ky| {
            (0..shape.kernel).map(move |kx| {
                let ((ry, qy), (rx, qx)) = (axis(ky), axis(kx));
                (ky * shape.kernel + kx, [ry, rx], [qy, qx])
            })
        });
        Self::new(
            shape.images,
            shape.size,
            shape.stride,
            shape.output_size(),
            taps,
        )
    }

    /// The gradient of the output of `shape`, for rows and columns `phase + i * stride` of the
    /// gradient of its input.
    pub fn backward(shape: &ConvShape, phase: [usize; 2]) -> Self {
        let pad = (shape.kernel / 2) as isize;
        let step = shape.stride as isize;
        let axis = |k: usize, phase: usize| {
            let reach = phase as isize + pad - k as isize;
            (reach % step == 0).then(|| reach / step)
        };
        let taps = (0..shape.kernel).flat_map(|ky| {
            (0..shape.kernel).filter_map(move |kx| {
                let away = [axis(ky, phase[0])?, axis(kx, phase[1])?];
                Some((ky * shape.kernel + kx, [0, 0], away))
            })
        });
        let size = shape.output_size();
        Self::new(shape.images, size, 1, size, taps)
    }

    /// A source read pixel by pixel in the rows of the grid of `other`, with its gaps.
    pub fn beside(other: &Self) -> Self {
        Self {
            images: other.images,
            size: other.grid,
            step: 1,
            phases: vec![[0, 0]],
            grid: other.grid,
            gap: other.gap,
            taps: Vec::new(),
        }
    }

    fn new(
        images: usize,
        size: [usize; 2],
        step: usize,
        grid: [usize; 2],
        taps: impl Iterator<Item = (usize, [usize; 2], [isize; 2])>,
    ) -> Self {
        let mut phases = Vec::new();
        let taps: Vec<_> = taps
            .map(|(weight, start, away)| {
                let known = phases.iter().position(|&phase| phase == start);
                let phase = known.unwrap_or_else(|| {
                    phases.push(start);
                    phases.len() - 1
                });
                Tap {
                    weight,
                    phase,
                    away,
                }
            })
            .collect();
        let gap = [0, 1].map(|axis| {
            let reach = taps.iter().map(|tap| tap.away[axis].unsigned_abs());
            reach.max().unwrap_or(0)
        });
        Self {
            images,
            size,
            step,
            phases,
            grid,
            gap,
            taps,
        }
    }

    /// Distance between rows of a strip.
    pub fn pitch(&self) -> usize {
        self.grid[1] + self.gap[1]
    }

    /// Number of rows of all strips: those of every image and the gaps between them.
    pub fn rows(&self) -> usize {
        self.images * (self.grid[0] + self.gap[0])
    }

    /// Number of rows above and below that taps read.
    fn margins(&self) -> [usize; 2] {
        let rows = || self.taps.iter().map(|tap| tap.away[0]);
        let above = rows().min().unwrap_or(0).min(0).unsigned_abs();
        let below = rows().max().unwrap_or(0).max(0) as usize;
        [above, below]
    }

    /// Whether a strip has the memory layout of the source.
    pub fn is_dense(&self) -> bool {
        self.step == 1 && self.gap == [0, 0] && self.size == self.grid
    }
}

/// Values per cache line.
const ALIGNMENT: usize = 16;

/// The layout of the strips of one block of rows.
#[derive(Clone, Debug)]
pub struct Strips<'a> {
    view: &'a View,
    above: usize,
    below: usize,
    lead: usize,
    /// Values of one phase of one channel.
    pub phase_len: usize,
    /// Pixels of the results, rounded up to whole tiles.
    pub pixels: usize,
    /// Offsets of the taps from a pixel in the strip of a channel.
    pub offsets: Vec<isize>,
}

impl<'a> Strips<'a> {
    /// Strips for blocks of up to `rows` rows, whose pixels are rounded up to a multiple of `tile`.
    pub fn new(view: &'a View, rows: usize, tile: usize) -> Self {
        let [above, below] = view.margins();
        let pitch = view.pitch();
        let pixels = (rows * pitch).next_multiple_of(tile);
        // The columns that a tap may reach precede the first pixel, as whole vectors for alignment.
        let lead = view.gap[1].next_multiple_of(ALIGNMENT);
        let phase_len = pixels + (above + below) * pitch + lead + view.gap[1];
        let phase_len = phase_len.next_multiple_of(ALIGNMENT);
        let offset = |tap: &Tap| {
            let row = above as isize + tap.away[0];
            let start = (tap.phase * phase_len + lead) as isize;
            start + row * pitch as isize + tap.away[1]
        };
        Self {
            view,
            above,
            below,
            lead,
            phase_len,
            pixels,
            offsets: view.taps.iter().map(offset).collect(),
        }
    }

    /// Offset of the first pixel of a phase.
    pub fn lead(&self) -> usize {
        self.lead
    }

    /// Distance between channels.
    pub fn channel_stride(&self) -> usize {
        self.phase_len * self.view.phases.len()
    }

    /// Writes `rows` of the channels from `first` on of `source [images, channels, h, w]`, as many channels as
    /// `strips` holds; every value of `strips` is written.
    pub fn fill(
        &self,
        source: &[f32],
        channels: usize,
        first: usize,
        rows: std::ops::Range<usize>,
        strips: &mut [f32],
    ) {
        if self.view.phases.is_empty() {
            return;
        }
        for (index, strip) in strips.chunks_exact_mut(self.channel_stride()).enumerate() {
            for (strip, &phase) in strip
                .chunks_exact_mut(self.phase_len)
                .zip(&self.view.phases)
            {
                self.fill_phase(source, channels, first + index, phase, rows.clone(), strip);
            }
        }
    }

    /// `rows` of a channel of a source whose strips have its layout, one slice per image.
    pub fn dense_rows<'s>(
        &self,
        source: &'s [f32],
        channels: usize,
        channel: usize,
        rows: std::ops::Range<usize>,
    ) -> impl Iterator<Item = &'s [f32]> + use<'s> {
        let [h, w] = self.view.size;
        let images = rows.start / h.max(1)..rows.end.div_ceil(h.max(1));
        images.map(move |image| {
            let rows = rows.start.max(image * h)..rows.end.min((image + 1) * h);
            let plane = &source[(image * channels + channel) * h * w..][..h * w];
            &plane[(rows.start - image * h) * w..(rows.end - image * h) * w]
        })
    }

    fn fill_phase(
        &self,
        source: &[f32],
        channels: usize,
        channel: usize,
        [first_row, first_col]: [usize; 2],
        rows: std::ops::Range<usize>,
        strip: &mut [f32],
    ) {
        let view = self.view;
        let ([h, w], pitch) = (view.size, view.pitch());
        let image_rows = view.grid[0] + view.gap[0];
        let (lead, body) = strip.split_at_mut(self.lead);
        lead.fill(0.0);
        let count = rows.len() + self.above + self.below;
        let (body, rest) = body.split_at_mut(count * pitch);
        rest.fill(0.0);
        if view.is_dense() {
            let mut body = body;
            for from in self.dense_rows(source, channels, channel, rows) {
                let (to, rest) = body.split_at_mut(from.len());
                to.copy_from_slice(from);
                body = rest;
            }
            return;
        }
        let plane = |image: usize| &source[(image * channels + channel) * h * w..][..h * w];
        let columns = w
            .saturating_sub(first_col)
            .div_ceil(view.step)
            .min(view.grid[1]);
        for (index, line) in body.chunks_exact_mut(pitch).enumerate() {
            let row = (rows.start + index).checked_sub(self.above);
            let place = row.map(|row| (row / image_rows, row % image_rows));
            let from = place.and_then(|(image, y)| {
                let y = y * view.step + first_row;
                (image < view.images && y < h).then(|| &plane(image)[y * w..][..w])
            });
            let Some(from) = from else {
                line.fill(0.0);
                continue;
            };
            let (line, gap) = line.split_at_mut(columns);
            gap.fill(0.0);
            match view.step {
                1 => copy_row(&from[first_col..][..columns], line),
                step => copy_strided(step, from.get(first_col..).unwrap_or_default(), line),
            }
        }
    }
}

/// Copies a row. Most rows of small images are too short for a call of `memcpy` to pay off.
pub fn copy_row(from: &[f32], to: &mut [f32]) {
    const CHUNK: usize = 8;
    assert_eq!(from.len(), to.len());
    if from.len() > 8 * CHUNK {
        to.copy_from_slice(from);
        return;
    }
    let (from, from_rest) = from.as_chunks::<CHUNK>();
    let (to, to_rest) = to.as_chunks_mut::<CHUNK>();
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
    let (from, from_rest) = from_rest.as_chunks::<2>();
    let (to, to_rest) = to_rest.as_chunks_mut::<2>();
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
    if let ([to], [from]) = (to_rest, from_rest) {
        *to = *from;
    }
}

/// Copies the first of every `step` values.
pub fn copy_strided(step: usize, from: &[f32], to: &mut [f32]) {
    if step != 2 {
        for (to, from) in to.iter_mut().zip(from.iter().step_by(step)) {
            *to = *from;
        }
        return;
    }
    for (to, from) in to.iter_mut().zip(from.chunks_exact(2)) {
        *to = from[0];
    }
    if let (Some(last), [value]) = (to.get_mut(from.len() / 2), from.chunks_exact(2).remainder()) {
        *last = *value;
    }
}
