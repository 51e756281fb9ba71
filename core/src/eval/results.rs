//! Evaluates results files, of any program, against annotation files. Nothing that would silently lower a
//! number is taken: unknown images and classes, masks of another size, missing scores.

mod input;

use super::{EvalError, EvalOptions, Metrics, category_name, numbers_of};
use crate::data::consistency::{Agreement, compare};
use crate::data::entries::numbers;
use crate::data::json::{Counts, Field, Number, Numbers, RawSegmentation, Section, parse_element};
use crate::data::raw::{RawAnnotation, RawCategory, RawImage};
use crate::data::segmentation::mask;
use hotcoco::{Annotation, COCO, Category, Image, IouType, Segmentation};
use input::{Faults, Input, length, opener};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// The numbers of a results file, and what a reader of them should know.
#[derive(Clone, Debug)]
pub struct ResultsEvaluation {
    /// COCO's numbers; those of masks are undefined (-1) where no result has a mask.
    pub metrics: Metrics,
    /// Remarks, such as images without results.
    pub notes: Vec<String>,
}

/// Evaluates a COCO results file against a COCO annotation file. Results that name their image
/// (`file_name`) are matched by it, the others by `image_id`.
pub fn evaluate_files(
    annotations: &Path,
    results: &Path,
    options: &EvalOptions,
) -> Result<ResultsEvaluation, EvalError> {
    let (open_truth, open_results) = (opener(annotations), opener(results));
    evaluate_inputs(
        &Input::new(annotations, length(annotations), &open_truth),
        &Input::new(results, length(results), &open_results),
        options,
    )
}

/// As [`evaluate_files`], from the bytes of both files.
#[cfg(feature = "fuzzing")]
pub(crate) fn evaluate_bytes(
    annotations: &[u8],
    results: &[u8],
    options: &EvalOptions,
) -> Result<ResultsEvaluation, EvalError> {
    let open = |bytes: &[u8]| {
        let text = std::io::Cursor::new(bytes.to_vec());
        move || crate::data::json::decode_text(text.clone())
    };
    let (open_truth, open_results) = (open(annotations), open(results));
    let path = Path::new("fuzzed");
    evaluate_inputs(
        &Input::new(path, annotations.len() as u64, &open_truth),
        &Input::new(path, results.len() as u64, &open_results),
        options,
    )
}

fn evaluate_inputs(
    annotations: &Input,
    results: &Input,
    options: &EvalOptions,
) -> Result<ResultsEvaluation, EvalError> {
    let truth = ground_truth(annotations)?;
    let (found, mut notes) = read_results(results, annotations.path, &truth)?;
    let truth = Arc::new(COCO::from_dataset(truth));
    let with_results: HashSet<u64> = found.iter().map(|result| result.image_id).collect();
    let images = truth.get_img_ids(&[], &[]).len();
    if with_results.len() < images {
        let without = images - with_results.len();
        notes.push(format!("{without} of {images} images have no result"));
    }
    let masks = found.is_empty() || found.iter().any(|result| result.segmentation.is_some());
    let metrics = Metrics {
        bbox: numbers_of(&truth, &found, IouType::Bbox, options)?,
        segm: match masks {
            true => numbers_of(&truth, &found, IouType::Segm, options)?,
            false => [-1.0; 12],
        },
        protocol: options.protocol,
    };
    if !masks {
        notes.push("the results have boxes only, so that the mask numbers are undefined".into());
    }
    Ok(ResultsEvaluation { metrics, notes })
}

/// An annotation file with its numbers as they are written.
fn ground_truth(input: &Input) -> Result<hotcoco::Dataset, EvalError> {
    let mut truth = hotcoco::Dataset::default();
    let (mut annotations, mut faults) = (Vec::new(), Faults::default());
    let foreign = input.scan(&mut |element| {
        match element.section {
            Section::Images => input.charge_entry::<Image>()?,
            Section::Categories => input.charge_entry::<Category>()?,
            Section::Annotations => input.charge_entry::<(usize, RawAnnotation)>()?,
            Section::Top => {}
        }
        let place = (element.line, element.column);
        let entry = match element.section {
            Section::Images => parse_element::<RawImage>(element.text, place)?
                .and_then(image)
                .map(|image| truth.images.push(image)),
            Section::Categories => parse_element::<RawCategory>(element.text, place)?
                .and_then(category)
                .map(|category| truth.categories.push(category)),
            Section::Annotations => parse_element::<RawAnnotation>(element.text, place)?
                .map(|annotation| annotations.push((element.index, annotation))),
            Section::Top => Ok(()),
        };
        if let Err(reason) = entry {
            faults.push(format!(
                "{:?}[{}]: {reason}",
                element.section, element.index
            ));
        }
        Ok(())
    });
    if let Some(foreign) = foreign? {
        return Err(input.json(foreign.advice().into()));
    }
    let mut sizes = HashMap::new();
    for image in &truth.images {
        if sizes
            .insert(image.id, (image.width, image.height))
            .is_some()
        {
            faults.push(format!("image id {} is used twice", image.id));
        }
    }
    let mut classes = HashSet::new();
    for category in &truth.categories {
        if !classes.insert(category.id) {
            faults.push(format!("category id {} is used twice", category.id));
        }
    }
    let mut ids = HashSet::new();
    for (index, raw) in annotations {
        let id = raw.id.clone().value().map(|id| id.0);
        let shown = id.map_or(format!("annotations[{index}]"), |id| {
            format!("annotation {id}")
        });
        if id.is_some_and(|id| !ids.insert(id)) {
            faults.push(format!("{shown}: its id is used twice"));
        }
        match annotation(raw, &sizes, &classes, input) {
            Ok(annotation) => truth.annotations.push(annotation),
            Err(reason) => faults.push(format!("{shown}: {reason}")),
        }
    }
    // hotcoco reports ids; matching needs them to differ.
    for (id, annotation) in (1..).zip(&mut truth.annotations) {
        annotation.id = id;
    }
    faults.refuse(input.path, "correct them (see `mrcnn-cli dataset check`)")?;
    Ok(truth)
}

fn image(raw: RawImage) -> Result<Image, String> {
    // Boxes are evaluated without a size.
    let side = |field: Field<crate::data::json::Id>, name| -> Result<u32, String> {
        let side = field.optional(name)?.map_or(0, |side| side.0);
        u32::try_from(side).map_err(|_| format!("`{name}` is {side}"))
    };
    Ok(Image {
        id: raw.id.required("id")?.0,
        file_name: raw.file_name.value().map(|name| name.0).unwrap_or_default(),
        width: side(raw.width, "width")?,
        height: side(raw.height, "height")?,
        ..Default::default()
    })
}

fn category(raw: RawCategory) -> Result<Category, String> {
    let (id, name) = (raw.id.required("id")?.0, raw.name.value());
    Ok(Category {
        id,
        name: category_name(id, name.map(|name| name.0).as_deref()),
        ..Default::default()
    })
}

/// An annotation or a result of a known image and class, with a sound mask if it has one.
fn annotation(
    raw: RawAnnotation,
    sizes: &HashMap<u64, (u32, u32)>,
    classes: &HashSet<u64>,
    input: &Input,
) -> Result<Annotation, String> {
    let image_id = raw.image_id.required("image_id")?.0;
    let category_id = raw.category_id.required("category_id")?.0;
    let Some(&(width, height)) = sizes.get(&image_id) else {
        return Err(format!(
            "image id {image_id} does not exist in the ground truth"
        ));
    };
    if !classes.is_empty() && !classes.contains(&category_id) {
        let mut known: Vec<u64> = classes.iter().copied().collect();
        known.sort_unstable();
        let known: Vec<String> = known.iter().take(8).map(u64::to_string).collect();
        return Err(format!(
            "image {image_id}: category id {category_id} does not exist in the ground truth (ids: {})",
            known.join(", ")
        ));
    }
    let fault =
        |fault: crate::data::segmentation::Fault| format!("image {image_id}: {}", fault.reason);
    let bbox = numbers(&raw.bbox).map_err(fault)?;
    if raw.segmentation != RawSegmentation::Missing {
        if width == 0 || height == 0 {
            return Err(format!(
                "image {image_id} has no width and height in the ground truth"
            ));
        }
        input
            .charge_drawing(&raw.segmentation, (width, height))
            .map_err(|reason| format!("image {image_id}: {reason}"))?;
        let drawn = mask(&raw.segmentation, height, width).map_err(fault)?;
        input.charge_mask(&drawn.mask)?;
    }
    Ok(Annotation {
        image_id,
        category_id,
        bbox,
        area: raw
            .area
            .optional("area")?
            .map(|area| area.0)
            .filter(|area| area.is_finite()),
        iscrowd: raw
            .iscrowd
            .optional("iscrowd")?
            .is_some_and(|crowd| crowd.0),
        segmentation: segmentation(raw.segmentation),
        score: raw.score.value().map(|score| score.0),
        ..Default::default()
    })
}

fn segmentation(raw: RawSegmentation) -> Option<Segmentation> {
    let size = |size: Field<Numbers>| {
        let numbers = size.value().map(|numbers| numbers.0).unwrap_or_default();
        <[f64; 2]>::try_from(numbers)
            .ok()
            .map(|size| size.map(|side| side as u32))
    };
    match raw {
        RawSegmentation::Polygons(mut polygons) => {
            polygons.retain(|polygon| polygon.len() >= 6);
            Some(Segmentation::Polygon(polygons))
        }
        RawSegmentation::Rle {
            size: sides,
            counts: Counts::Compressed(counts),
        } => Some(Segmentation::CompressedRle {
            size: size(sides)?,
            counts,
        }),
        RawSegmentation::Rle {
            size: sides,
            counts: Counts::Runs(counts),
        } => Some(Segmentation::UncompressedRle {
            size: size(sides)?,
            counts,
        }),
        _ => None,
    }
}

/// The results of a file, with image ids of the ground truth.
fn read_results(
    input: &Input,
    annotations: &Path,
    truth: &hotcoco::Dataset,
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
    let renamed = by_file_names(&mut raw, truth, &mut faults);
    if renamed > 0 {
        notes.push(format!(
            "the images of {renamed} results are taken from their `file_name`"
        ));
    }
    let images = truth.images.iter();
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
    let classes: HashSet<u64> = truth
        .categories
        .iter()
        .map(|category| category.id)
        .collect();
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
    // A few odd shapes are a model's; all of them are a mistake of the program that wrote them.
    if 2 * contradictions > compared {
        faults.push(format!(
            "{contradictions} of {compared} boxes do not fit their masks, e.g. {cause}"
        ));
    }
    faults.refuse(
        input.path,
        "write the results again with the ids and sizes of the ground truth",
    )?;
    fill_boxes(&mut results, &sizes);
    Ok((results, notes))
}

/// Compares the box of a result with its mask; `None` where it lacks one of them.
fn contradiction(
    result: &RawAnnotation,
    sizes: &HashMap<u64, (u32, u32)>,
    input: &Input,
) -> Option<Option<String>> {
    let id = result.image_id.clone().value()?.0;
    let &(width, height) = sizes.get(&id)?;
    let bbox = numbers(&result.bbox).ok().flatten()?;
    // A file that asks for too much is refused by the check of the same result.
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

/// Results of masks alone get the boxes of the masks, as in pycocotools.
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

/// Replaces the image ids of results by those of the images that they name. Returns how many ids changed.
fn by_file_names(
    results: &mut [(usize, RawAnnotation)],
    truth: &hotcoco::Dataset,
    faults: &mut Faults,
) -> usize {
    let named = results
        .iter()
        .filter(|(_, result)| matches!(result.file_name, Field::Value(_)))
        .count();
    if named == 0 {
        return 0;
    }
    let last = |name: &str| {
        name.rsplit(['/', '\\'])
            .next()
            .unwrap_or_default()
            .to_string()
    };
    let mut exact: HashMap<&str, u64> = HashMap::new();
    let mut by_last: HashMap<String, Option<u64>> = HashMap::new();
    for image in truth
        .images
        .iter()
        .filter(|image| !image.file_name.is_empty())
    {
        exact.insert(&image.file_name, image.id);
        by_last
            .entry(last(&image.file_name))
            .and_modify(|id| *id = None)
            .or_insert(Some(image.id));
    }
    let (mut changed, mut images_of) = (0, HashMap::<String, u64>::new());
    for (index, result) in results {
        let Field::Value(name) = &result.file_name else {
            faults.push(format!(
                "result {index} has no `file_name`, unlike others of the file"
            ));
            continue;
        };
        let name = &name.0;
        let found = exact.get(name.as_str()).copied();
        let found = found.or_else(|| by_last.get(&last(name)).copied().flatten());
        let Some(id) = found else {
            faults.push(format!(
                "result {index}: `file_name` {name} is no image of the ground truth"
            ));
            continue;
        };
        let own = result.image_id.clone().value().map(|id| id.0);
        if let Some(own) = own {
            let first = *images_of.entry(name.clone()).or_insert(own);
            if first != own {
                faults.push(format!(
                    "result {index}: {name} has the image ids {first} and {own}"
                ));
            }
        }
        changed += usize::from(own != Some(id));
        result.image_id = Field::Value(crate::data::json::Id(id));
    }
    changed
}
