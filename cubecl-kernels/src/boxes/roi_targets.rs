//! Boxes, classes and deltas of sampled RoIs.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
use super::have_kernels;
use super::{encode_by_operations, rows_at};
use crate::sampling::Choice;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use burn::backend::DispatchDevice;
use burn::tensor::{Int, Tensor};

/// Sampled RoIs of `n` images in `k` slots, with their targets.
#[derive(Clone, Debug)]
pub struct RoiTargets {
    /// In pixels; in padded slots the first candidate of the image, `[n, k, 4]`.
    pub boxes: Tensor<3>,
    /// Deltas to the matched objects, see [`encode_boxes`](super::encode_boxes); zeros elsewhere, `[n, k, 4]`.
    pub deltas: Tensor<3>,
    /// Class of the matched object; 0 for background and padding, `[n, k]`.
    pub labels: Tensor<2, Int>,
}

/// The chosen RoIs, of which the candidates are the proposals and then the ground truth, as in
/// [`match_proposals`](crate::match_proposals). Not differentiable.
///
/// * `proposals` - `[n, b, 4]`, `gt` - `[n, t, 4]`, f32, in pixels.
/// * `labels` - classes of the ground truth, `[n, t]`.
/// * `weights` - multipliers of the deltas.
///
/// # Panics
///
/// If the shapes do not match.
pub fn roi_targets(
    proposals: Tensor<3>,
    gt: Tensor<3>,
    labels: Tensor<2, Int>,
    choice: &Choice,
    weights: [f32; 4],
) -> RoiTargets {
    let ([n, _], [_, total, _]) = (choice.matched.dims(), proposals.dims());
    let [_, slots] = labels.dims();
    assert_eq!(
        choice.candidates.dims(),
        choice.matched.dims(),
        "roi_targets: a candidate per match"
    );
    assert_eq!(
        (proposals.dims(), gt.dims(), labels.dims()),
        ([n, total, 4], [n, slots, 4], [n, slots]),
        "roi_targets: proposals [n, b, 4], gt [n, t, 4] and labels [n, t] of the {n} images of the choice"
    );
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if has_kernel(&proposals, &gt) && choice.matched.shape().num_elements() > 0 {
        let ([boxes, deltas], labels) =
            super::cube::targets(proposals, gt, labels, choice, weights);
        return RoiTargets {
            boxes,
            deltas,
            labels,
        };
    }
    targets_by_operations(proposals, gt, labels, choice, weights)
}

/// Whether the kernel can read the boxes, and the device can bind its buffers: WebGPU guarantees only seven beside
/// CubeCL's own.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn has_kernel(proposals: &Tensor<3>, gt: &Tensor<3>) -> bool {
    const BUFFERS: u32 = 8;
    let can_bind = match proposals.device().as_dispatch() {
        DispatchDevice::Cube(device) => {
            device.client().properties().hardware.max_bindings >= BUFFERS
        }
        _ => false,
    };
    can_bind && have_kernels(&[proposals, gt])
}

fn targets_by_operations(
    proposals: Tensor<3>,
    gt: Tensor<3>,
    labels: Tensor<2, Int>,
    choice: &Choice,
    weights: [f32; 4],
) -> RoiTargets {
    let matched = choice.matched.clone();
    let candidates = Tensor::cat(vec![proposals, gt.clone()], 1);
    let boxes = rows_at(candidates, choice.candidates.clone());
    let objects = matched.clone().clamp_min(0);
    let labels = labels.gather(1, objects.clone());
    RoiTargets {
        labels: labels.mask_fill(matched.clone().lower_elem(0), 0),
        deltas: encode_by_operations(rows_at(gt, objects), boxes.clone(), matched, weights),
        boxes,
    }
}
