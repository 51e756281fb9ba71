//! Instances of the samples from checked annotations.

use super::{Place, Reader};
use crate::data::classes::Classes;
use crate::data::dataset::Instance;
use crate::data::entries::Checked;
use crate::data::problem::Severity;
use crate::data::segmentation::Fault;
use std::collections::{HashMap, HashSet};

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
                    "give every annotation its own id",
                );
                self.error(place, fault);
                continue;
            }
            let label = checked.category.and_then(|category| {
                let category = self.merged.get(&category).unwrap_or(&category);
                labels
                    .get(category)
                    .copied()
                    .ok_or_else(|| format!("category id {category} does not exist (ids: {known})"))
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
                Ok((label, object)) => self.samples[index].instances.push(Instance {
                    annotation_id: id,
                    label,
                    bbox: object.bbox,
                    area: object.area,
                    mask: object.mask,
                    crowd: object.crowd,
                }),
                Err(fault) => self.error(place, fault),
            }
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
