//! Classes from the categories of a file.

use super::{Place, Reader};
use crate::data::classes::Classes;
use crate::data::segmentation::Fault;
use std::collections::HashMap;

impl Reader<'_> {
    pub(super) fn make_classes(&mut self) -> Classes {
        let mut categories = Vec::new();
        for (index, category) in std::mem::take(&mut self.categories) {
            let entry = category.and_then(|category| {
                let id = category.id.required("id")?.0;
                Ok((id, category.name.required("name")?.0))
            });
            match entry {
                Ok(entry) => categories.push(entry),
                Err(reason) => {
                    let reason = format!("categories[{index}]: {reason}");
                    let fix = "give it a whole number as id, and a name";
                    self.error(Place::default(), Fault::new("category entry", reason, fix));
                }
            }
        }
        categories.sort_by_key(|(id, _)| *id);
        let (mut classes, mut names) = (Classes::default(), HashMap::new());
        for (id, name) in categories {
            if classes.ids.last() == Some(&id) {
                let reason = format!("category id {id} is used twice");
                let fault = Fault::new(
                    "category id twice",
                    reason,
                    "give every category an id of its own",
                );
                self.error(Place::default(), fault);
                continue;
            }
            let first = names.get(&name).copied();
            names.entry(name.clone()).or_insert(id);
            if let (Some(first), true) = (first, self.checks.limits.repair) {
                let reason = format!("categories {first} and {id} are both called `{name}`");
                self.warn(Fault::new(
                    "category name twice",
                    reason,
                    "they are one now",
                ));
                self.merged.insert(id, first);
                continue;
            }
            if let Some(first) = first {
                let reason = format!(
                    "categories {first} and {id} are both called `{name}`, but stay two classes"
                );
                let fix = "give them one id if they are the same (`dataset check --fix OUT`)";
                self.warn(Fault::new("category name twice", reason, fix));
            }
            classes.ids.push(id);
            classes.names.push(name);
        }
        classes
    }
}
