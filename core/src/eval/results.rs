//! Evaluates results files, of any program, against annotation files. Anything that would silently lower a
//! metric is an error: unknown images and classes, masks of another size, missing scores.

use super::{EvalError, EvalOptions, Metrics, numbers_of};
use crate::data::consistency::{Agreement, compare};
use crate::data::entries::numbers;
use crate::data::json::{
    Counts, Field, Number, Numbers, RawSegmentation, ScanError, Section, parse_element, scan,
};
use crate::data::printable;
use crate::data::raw::{RawAnnotation, RawCategory, RawImage};
use crate::data::segmentation::mask;
use hotcoco::{Annotation, COCO, Category, Image, IouType, Segmentation};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// The metrics of a results file, with notes.
#[derive(Clone, Debug)]
pub struct ResultsEvaluation {
    /// COCO's metrics; those of masks are undefined (-1) if no result has a mask.
    pub metrics: Metrics,
    /// Notes, for example about images without results.
    pub notes: Vec<String>,
}

/// Evaluates a COCO results file against a COCO annotation file. Results with a
/// `file_name` are matched by it, the others by `image_id`.
pub fn evaluate_files(
    annotations: &Path,
    results: &Path,
    options: &EvalOptions,
) -> Result<ResultsEvaluation, EvalError> {
    let truth = ground_truth(annotations)?;
    let (found, mut notes) = read_results(results, annotations, &truth)?;
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
        notes.push("the results have boxes only, so the mask metrics are undefined".into());
    }
    Ok(ResultsEvaluation { metrics, notes })
}

fn scan_error(path: &Path, error: ScanError) -> EvalError {
    match error {
        ScanError::Io(source) => EvalError::Io {
            path: path.into(),
            source,
        },
        ScanError::Json(reason) => EvalError::Json {
            path: path.into(),
            reason,
        },
    }
}

/// Faults of a file; the first few are shown.
#[derive(Default)]
struct Faults {
    count: usize,
    first: Vec<String>,
}

impl Faults {
    fn push(&mut self, fault: String) {
        self.count += 1;
        if self.first.len() < 3 {
            self.first.push(fault);
        }
    }

    fn refuse(self, path: &Path, fix: &'static str) -> Result<(), EvalError> {
        match self.count {
            0 => Ok(()),
            count => Err(EvalError::Refused {
                path: path.into(),
                count,
                first: self
                    .first
                    .iter()
                    .map(|fault| printable(fault))
                    .collect::<Vec<_>>()
                    .join("\n"),
                fix,
            }),
        }
    }
}

/// An annotation file with its numbers as written.
fn ground_truth(path: &Path) -> Result<hotcoco::Dataset, EvalError> {
    let mut truth = hotcoco::Dataset::default();
    let (mut annotations, mut faults) = (Vec::new(), Faults::default());
    let foreign = scan(path, &mut |element| {
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
    if let Some(foreign) = foreign.map_err(|error| scan_error(path, error))? {
        let reason = foreign.advice().into();
        return Err(EvalError::Json {
            path: path.into(),
            reason,
        });
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
        match annotation(raw, &sizes, &classes) {
            Ok(annotation) => truth.annotations.push(annotation),
            Err(reason) => faults.push(format!("{shown}: {reason}")),
        }
    }
    // hotcoco reports ids; matching needs unique ones.
    for (id, annotation) in (1..).zip(&mut truth.annotations) {
        annotation.id = id;
    }
    faults.refuse(path, "correct them (see `mrcnn-cli dataset check`)")?;
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
    Ok(Category {
        id: raw.id.required("id")?.0,
        name: raw.name.value().map(|name| name.0).unwrap_or_default(),
        ..Default::default()
    })
}

/// An annotation or a result of a known image and class, with a valid mask if it has one.
fn annotation(
    raw: RawAnnotation,
    sizes: &HashMap<u64, (u32, u32)>,
    classes: &HashSet<u64>,
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
        mask(&raw.segmentation, height, width).map_err(fault)?;
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
    path: &Path,
    annotations: &Path,
    truth: &hotcoco::Dataset,
) -> Result<(Vec<Annotation>, Vec<String>), EvalError> {
    let (mut raw, mut faults) = (Vec::<(usize, RawAnnotation)>::new(), Faults::default());
    let (mut is_list, mut notes) = (true, Vec::new());
    scan(path, &mut |element| {
        is_list &= element.section == Section::Top;
        match parse_element(element.text, (element.line, element.column))? {
            Ok(result) => raw.push((element.index, result)),
            Err(reason) => faults.push(format!("result {}: {reason}", element.index)),
        }
        Ok(())
    })
    .map_err(|error| scan_error(path, error))?;
    if !is_list || (raw.is_empty() && faults.count == 0 && !begins_with_list(path)) {
        return Err(EvalError::Json {
            path: path.into(),
            reason: "it is an object, not a list".into(),
        });
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
            path: path.into(),
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
        let shape = contradiction(&result, &sizes);
        let checked = score.and_then(|()| annotation(result, &sizes, &classes));
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
    // A few contradictions come from a model; if all boxes contradict, the program that wrote them is wrong.
    if 2 * contradictions > compared {
        faults.push(format!(
            "{contradictions} of {compared} boxes do not match their masks, e.g. {cause}"
        ));
    }
    faults.refuse(
        path,
        "write the results again with the ids and sizes of the ground truth",
    )?;
    fill_boxes(&mut results, &sizes);
    Ok((results, notes))
}

/// Whether a file without elements is an empty list.
fn begins_with_list(path: &Path) -> bool {
    let text = crate::data::json::read_text(path).unwrap_or_default();
    text.trim_start().starts_with('[')
}

/// Compares the box of a result with its mask; `None` if one of them is missing.
fn contradiction(
    result: &RawAnnotation,
    sizes: &HashMap<u64, (u32, u32)>,
) -> Option<Option<String>> {
    let id = result.image_id.clone().value()?.0;
    let &(width, height) = sizes.get(&id)?;
    let bbox = numbers(&result.bbox).ok().flatten()?;
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

/// Replaces the image ids of results by those of the images with their `file_name`. Returns the number of changed ids.
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
                "result {index}: `file_name` {name} is not an image of the ground truth"
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
