//! Instances of the samples from checked annotations.

use super::{Place, Reader};
use crate::data::classes::Classes;
use crate::data::dataset::Instance;
use crate::data::entries::Checked;
use crate::data::problem::Severity;
use crate::data::segmentation::Fault;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Objects that are the same as another one of their image.
#[derive(Default)]
struct Copies {
    /// Annotation ids by the hash of image, class, box and mask.
    first_ids: HashMap<u64, u64>,
    count: usize,
    /// Annotation ids of the first pair.
    first: Option<(u64, u64)>,
}

impl Copies {
    /// Adds an object; returns whether it is a copy.
    fn add(&mut self, image: u64, instance: &Instance) -> bool {
        let mut hasher = DefaultHasher::new();
        (image, instance.label, instance.is_crowd).hash(&mut hasher);
        instance.bbox.map(f32::to_bits).hash(&mut hasher);
        instance.mask.counts.hash(&mut hasher);
        let id = instance.annotation_id;
        let original = *self.first_ids.entry(hasher.finish()).or_insert(id);
        let is_copy = original != id;
        if is_copy {
            self.count += 1;
            self.first.get_or_insert((original, id));
        }
        is_copy
    }
}

impl Reader<'_> {
    pub(super) fn add_instances(&mut self, checked: Vec<Checked>, classes: &Classes) {
        let samples = self.samples.iter().enumerate();
        let by_id: HashMap<u64, usize> = samples.map(|(index, s)| (s.image_id, index)).collect();
        let labels: HashMap<u64, usize> = classes.ids.iter().copied().zip(1..).collect();
        let known: Vec<String> = classes.ids.iter().take(8).map(u64::to_string).collect();
        let known = known.join(", ");
        let highest = checked
            .iter()
            .filter_map(|checked| checked.id)
            .max()
            .unwrap_or(0);
        let (mut seen, mut numbered) = (HashSet::new(), Vec::new());
        let mut copies = Copies::default();
        for checked in checked {
            let image = match checked.image {
                Ok(image) => image,
                Err(reason) => {
                    let reason = format!("annotations[{}]: {reason}", checked.index);
                    let place = Place {
                        image: None,
                        annotation: checked.id,
                    };
                    self.error(
                        place,
                        Fault::new("annotation image_id", reason, "write the id of its image"),
                    );
                    continue;
                }
            };
            let Some(&index) = by_id.get(&image) else {
                if !self.dropped.contains(&image) {
                    let place = Place {
                        image: Some(image),
                        annotation: checked.id,
                    };
                    let reason = format!("image id {image} does not exist");
                    self.error(
                        place,
                        Fault::new("unknown image", reason, "correct image_id or delete it"),
                    );
                }
                continue;
            };
            let repeated = checked.id.is_some_and(|id| seen.contains(&id));
            let own_id = checked
                .id
                .filter(|_| !(repeated && self.checks.limits.repair));
            let id = own_id.unwrap_or_else(|| {
                numbered.push(checked.index);
                highest.saturating_add(numbered.len() as u64)
            });
            let place = Place {
                image: Some(image),
                annotation: Some(id),
            };
            if !seen.insert(id) {
                let reason = format!("annotation id {id} is used twice");
                let fault = Fault::new(
                    "annotation id twice",
                    reason,
                    "give every annotation its own id (`dataset check --fix OUT` numbers them)",
                );
                self.error(place, fault);
                continue;
            }
            let label = checked.category.and_then(|category| {
                let category = self.merged.get(&category).unwrap_or(&category);
                labels
                    .get(category)
                    .copied()
                    .ok_or_else(|| match known.is_empty() {
                        true => format!(
                            "category id {category} does not exist: the file has no categories"
                        ),
                        false => format!("category id {category} does not exist (ids: {known})"),
                    })
            });
            let label = label.map_err(|reason| {
                Fault::new(
                    "unknown category",
                    reason,
                    "correct category_id or add the category",
                )
            });
            for note in checked.notes {
                self.report(Severity::Warning, place, note);
            }
            match label.and_then(|label| Ok((label, checked.object?))) {
                Ok((label, object)) => {
                    let instance = Instance {
                        annotation_id: id,
                        label,
                        bbox: object.bbox,
                        area: object.area,
                        mask: object.mask,
                        is_crowd: object.is_crowd,
                    };
                    let is_copy = copies.add(image, &instance);
                    if !(is_copy && self.checks.limits.repair) {
                        self.samples[index].instances.push(instance);
                    }
                }
                Err(fault) => self.error(place, fault),
            }
        }
        if let Some((first, copy)) = copies.first {
            let count = copies.count;
            let reason = format!(
                "{count} annotations are copies of another one of their image, with the same class, box and mask: the \
                 first is {copy}, a copy of {first}"
            );
            let fix = match self.checks.limits.repair {
                true => "they are left out",
                false => {
                    "delete them (`dataset check --fix OUT` does): each counts as an object of its own"
                }
            };
            self.warn(Fault::new("annotation copies", reason, fix));
        }
        if let Some(first) = numbered.first() {
            let count = numbered.len();
            let reason = format!(
                "{count} annotations have no whole number of their own as id, the first is annotations[{first}]"
            );
            self.warn(Fault::new("annotation ids", reason, "they are numbered"));
        }
    }
}
