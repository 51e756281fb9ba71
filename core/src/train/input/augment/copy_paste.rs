//! Simple copy-paste augmentation (Ghiasi et al., 2021): objects of one image are pasted onto another.

use crate::random::Stream;
use crate::train::input::batch::{GroundTruth, TrainSample};
use crate::train::input::masks::InstanceMask;

/// Pastes each object of `source` onto `target` with probability one half.
///
/// Pixels that a pasted object covers are removed from the masks below it, and the boxes are recomputed from
/// the remaining masks; an object without remaining pixels is removed. Edges are not blurred:
/// blurring did not improve the paper's results.
pub fn paste(target: &mut TrainSample, source: &TrainSample, stream: Stream) {
    let frame = (target.planes.height, target.planes.width);
    let mut pasted = GroundTruth::default();
    for (index, mask) in source.gt.masks.iter().enumerate() {
        if stream.bits(index as u64) & 1 == 0 {
            continue;
        }
        let visible = mask.framed(frame);
        // An object that the frame cuts off or removes has another box or none.
        let Some(bounds) = visible.bounds() else {
            continue;
        };
        let whole = visible.area() == mask.area();
        let bbox = source.gt.boxes[index];
        let inside = bbox[2] <= frame.1 as f32 && bbox[3] <= frame.0 as f32;
        pasted
            .boxes
            .push(if whole && inside { bbox } else { bounds });
        pasted.labels.push(source.gt.labels[index]);
        pasted.masks.push(visible);
    }
    for mask in &pasted.masks {
        copy_pixels(target, source, mask);
    }
    hide(&mut target.gt, &pasted.masks);
    target.gt.boxes.extend(pasted.boxes);
    target.gt.labels.extend(pasted.labels);
    target.gt.masks.extend(pasted.masks);
}

fn copy_pixels(target: &mut TrainSample, source: &TrainSample, mask: &InstanceMask) {
    let (to, from) = (&mut target.planes, &source.planes);
    let areas = (to.height * to.width, from.height * from.width);
    for (row, column) in mask.pixels() {
        for plane in 0..3 {
            to.values[plane * areas.0 + row * to.width + column] =
                from.values[plane * areas.1 + row * from.width + column];
        }
    }
}

/// Removes the pixels that `above` covers from the objects of `gt`.
fn hide(gt: &mut GroundTruth, above: &[InstanceMask]) {
    let GroundTruth {
        boxes,
        labels,
        masks,
    } = std::mem::take(gt);
    for ((mut bbox, label), mut mask) in boxes.into_iter().zip(labels).zip(masks) {
        let before = mask.area();
        for other in above {
            mask.subtract(other);
        }
        if mask.area() < before {
            match mask.bounds() {
                Some(bounds) => bbox = bounds,
                None => continue,
            }
        }
        gt.boxes.push(bbox);
        gt.labels.push(label);
        gt.masks.push(mask);
    }
}
