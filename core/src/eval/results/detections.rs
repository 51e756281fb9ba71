//! The results of a file.

use super::boxes::misread;
use super::entries::annotation;
use super::faults::Faults;
use super::input::Input;
use super::matching::{by_class_names, by_file_names};
use crate::data::consistency::{Agreement, compare};
use crate::data::entries::numbers;
use crate::data::json::{Field, Number, Section, parse_element};
use crate::data::raw::RawAnnotation;
use crate::data::segmentation::mask;
use crate::eval::EvalError;
use hotcoco::Annotation;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// The results of a file, with image ids of the ground truth.
pub(super) fn read_results(
    input: &Input,
    annotations: &Path,
    gt: &hotcoco::Dataset,
) -> Result<(Vec<Annotation>, Vec<String>), EvalError> {
    let (mut raw, mut faults) = (Vec::<(usize, RawAnnotation)>::new(), Faults::default());
    let (mut is_list, mut notes) = (true, Vec::new());
    input.scan(&mut |element| {
        input.charge_entry::<(usize, RawAnnotation)>()?;
        is_list &= element.section == Section::Top;
        match parse_element(element.text, (element.line, element.column))? {
            Ok(result) => raw.push((element.index, result)),
            Err(reason) => faults.push(format!("result {}: {reason}", element.index)),
        }
        Ok(())
    })?;
    if !is_list || (raw.is_empty() && faults.count == 0 && !input.begins_with_list()) {
        return Err(input.json("it is an object, not a list".into()));
    }
    let renamed = by_file_names(&mut raw, gt, &mut faults);
    if renamed > 0 {
        notes.push(format!(
            "the images of {renamed} results are taken from their `file_name`"
        ));
    }
    let named = by_class_names(&mut raw, gt, &mut faults);
    if named > 0 {
        notes.push(format!(
            "the classes of {named} results are taken from their names"
        ));
    }
    let images = gt.images.iter();
    let sizes: HashMap<u64, (u32, u32)> = images
        .map(|image| (image.id, (image.width, image.height)))
        .collect();
    let is_known = |(_, result): &(usize, RawAnnotation)| {
        result
            .image_id
            .clone()
            .value()
            .is_some_and(|id| sizes.contains_key(&id.0))
    };
    if faults.count == 0 && !raw.is_empty() && !raw.iter().any(is_known) {
        return Err(EvalError::NoImage {
            path: input.path.into(),
            annotations: annotations.into(),
        });
    }
    let classes: HashSet<u64> = gt.categories.iter().map(|category| category.id).collect();
    let mut results = Vec::with_capacity(raw.len());
    let (mut compared, mut contradictions, mut cause) = (0, 0, String::new());
    for (index, result) in raw {
        let score = match &result.score {
            Field::Value(Number(score)) if score.is_finite() => Ok(()),
            Field::Missing => Err("`score` is missing or not a number".to_string()),
            Field::Value(Number(score)) => Err(format!("`score` is {score}")),
            Field::Bad(shown) => Err(format!("`score` is {shown}")),
        };
        let shape = contradiction(&result, &sizes, input);
        let checked = score.and_then(|()| annotation(result, &sizes, &classes, input));
        let checked = checked.and_then(|result| match (&result.bbox, &result.segmentation) {
            (None, None) => Err("it has neither a box nor a mask".into()),
            (Some([x, y, w, h]), _) if *w < 0.0 || *h < 0.0 => Err(format!(
                "image {}: the box [{x}, {y}, {w}, {h}] has a negative width or height",
                result.image_id
            )),
            _ => Ok(result),
        });
        match checked {
            Ok(result) => results.push(result),
            Err(reason) => faults.push(format!("result {index}: {reason}")),
        }
        if let Some(shape) = shape {
            compared += 1;
            if let Some(reason) = shape {
                contradictions += 1;
                if cause.is_empty() {
                    cause = format!("result {index}: {reason}");
                }
            }
        }
    }
    let with_masks = results
        .iter()
        .filter(|result| result.segmentation.is_some())
        .count();
    if with_masks > 0 && with_masks < results.len() {
        faults.push(format!(
            "{} of {} results have no mask",
            results.len() - with_masks,
            results.len()
        ));
    }
    // A model may cause a few contradictions; if most boxes contradict, the program that wrote them is wrong.
    if 2 * contradictions > compared {
        faults.push(format!(
            "{contradictions} of {compared} boxes do not match their masks, e.g. {cause}"
        ));
    }
    if let Some(reason) = misread(&results, &sizes) {
        faults.push(reason.into());
    }
    faults.refuse(
        input.path,
        "write the results again with the ids and sizes of the ground truth",
    )?;
    fill_boxes(&mut results, &sizes);
    Ok((results, notes))
}

/// Compares the box of a result with its mask; `None` if one of them is missing.
fn contradiction(
    result: &RawAnnotation,
    sizes: &HashMap<u64, (u32, u32)>,
    input: &Input,
) -> Option<Option<String>> {
    let id = result.image_id.clone().value()?.0;
    let &(width, height) = sizes.get(&id)?;
    let bbox = numbers(&result.bbox).ok().flatten()?;
    // A file over its budget is rejected by the check of the same result.
    let size = (width, height);
    input.charge_drawing(&result.segmentation, size).ok()?;
    let drawn = mask(&result.segmentation, height, width).ok()?;
    if drawn.mask.area() == 0 {
        return None;
    }
    Some(match compare(bbox, &drawn.mask, &result.segmentation) {
        Agreement::Contradiction(fault) if fault.kind != "box and mask apart" => Some(fault.reason),
        _ => None,
    })
}

/// Results with masks only get the bounding boxes of the masks, as in pycocotools.
fn fill_boxes(results: &mut [Annotation], sizes: &HashMap<u64, (u32, u32)>) {
    if results.iter().any(|result| result.bbox.is_some()) {
        return;
    }
    for result in results {
        let Some(&(width, height)) = sizes.get(&result.image_id) else {
            continue;
        };
        let rle = result
            .segmentation
            .as_ref()
            .and_then(|mask| mask.to_rle(height, width).ok());
        let counts = rle.map(|rle| rle.counts.to_vec());
        result.bbox = counts.map(|counts| {
            vernier_mask::Rle::from_counts(height, width, counts)
                .bbox()
                .map(f64::from)
        });
    }
}
