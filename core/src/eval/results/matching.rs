//! Images of results by their file names.

use super::faults::Faults;
use crate::data::json::Field;
use crate::data::raw::RawAnnotation;
use std::collections::HashMap;

/// Replaces the image ids of results by those of the images with their `file_name`. Returns the number of changed ids.
pub(super) fn by_file_names(
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
