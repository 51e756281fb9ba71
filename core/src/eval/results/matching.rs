//! Matching of results to images by file name, and to classes by class name.

use super::faults::Faults;
use crate::data::json::Field;
use crate::data::raw::RawAnnotation;
use std::collections::HashMap;

/// Replaces the image ids of results by those of the images with their `file_name`. Returns the number of changed ids.
pub(super) fn by_file_names(
    results: &mut [(usize, RawAnnotation)],
    gt: &hotcoco::Dataset,
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
    for image in gt.images.iter().filter(|image| !image.file_name.is_empty()) {
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

/// Sets the category ids of results with class names, which are in `category_name` or in place of the id. A name that
/// contradicts the id is a fault. Returns the number of results that had no id.
pub(super) fn by_class_names(
    results: &mut [(usize, RawAnnotation)],
    gt: &hotcoco::Dataset,
    faults: &mut Faults,
) -> usize {
    let mut ids: HashMap<&str, Option<u64>> = HashMap::new();
    for category in &gt.categories {
        let id = ids.entry(category.name.as_str());
        id.and_modify(|id| *id = None).or_insert(Some(category.id));
    }
    let known: Vec<String> = gt
        .categories
        .iter()
        .take(8)
        .map(|category| format!("`{}`", category.name))
        .collect();
    let known = known.join(", ");
    let mut named = 0;
    for (index, result) in results {
        let name = match (&result.category_name, &result.category_id) {
            (Field::Value(name), _) => Some(name.0.clone()),
            (_, Field::Bad(shown)) => serde_json::from_str::<String>(shown).ok(),
            _ => None,
        };
        let Some(name) = name.filter(|name| !name.is_empty() && !ids.is_empty()) else {
            continue;
        };
        let own = result.category_id.clone().value().map(|id| id.0);
        match (ids.get(name.as_str()), own) {
            (Some(&Some(id)), Some(own)) if own != id => faults.push(format!(
                "result {index}: `category_id` is {own}, but `{name}` has the id {id} in the ground truth"
            )),
            (Some(&Some(id)), None) => {
                named += 1;
                result.category_id = Field::Value(crate::data::json::Id(id));
            }
            (Some(_), _) => {}
            (None, _) => faults.push(format!(
                "result {index}: the ground truth has no class `{name}` (it has {known})"
            )),
        }
    }
    named
}
