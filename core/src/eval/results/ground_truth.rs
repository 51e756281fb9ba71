//! The ground truth of an annotation file.

use super::entries::annotation;
use super::faults::Faults;
use super::input::Input;
use crate::data::json::{Field, Section, parse_element};
use crate::data::raw::{RawAnnotation, RawCategory, RawImage};
use crate::eval::{EvalError, category_name};
use hotcoco::{Category, Image};
use std::collections::{HashMap, HashSet};

/// An annotation file with its numbers as written.
pub(super) fn ground_truth(input: &Input) -> Result<hotcoco::Dataset, EvalError> {
    let mut gt = hotcoco::Dataset::default();
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
                .map(|image| gt.images.push(image)),
            Section::Categories => parse_element::<RawCategory>(element.text, place)?
                .and_then(category)
                .map(|category| gt.categories.push(category)),
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
    for image in &gt.images {
        if sizes
            .insert(image.id, (image.width, image.height))
            .is_some()
        {
            faults.push(format!("image id {} is used twice", image.id));
        }
    }
    let mut classes = HashSet::new();
    for category in &gt.categories {
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
            Ok(annotation) => gt.annotations.push(annotation),
            Err(reason) => faults.push(format!("{shown}: {reason}")),
        }
    }
    // hotcoco reports ids; matching needs unique ones.
    for (id, annotation) in (1..).zip(&mut gt.annotations) {
        annotation.id = id;
    }
    faults.refuse(input.path, "correct them (see `mrcnn-cli dataset check`)")?;
    Ok(gt)
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
