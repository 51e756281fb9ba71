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
        let mut similar = HashMap::new();
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
            self.note_name(id, &name, &mut similar);
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

    /// A warning about a category without a name, or with one that differs only by case or spaces from that of another
    /// category. `similar` has the first category of every name.
    fn note_name(&mut self, id: u64, name: &str, similar: &mut HashMap<String, (u64, String)>) {
        let words: Vec<&str> = name.split_whitespace().collect();
        if words.is_empty() {
            let reason = format!("category {id} has an empty name");
            self.warn(Fault::new("category name", reason, "give it a name"));
            return;
        }
        let key = words.join(" ").to_lowercase();
        let (first, other) = similar.entry(key).or_insert_with(|| (id, name.into()));
        if other != name {
            let reason = format!(
                "categories {first} and {id}, `{other}` and `{name}`, differ only by case or spaces and stay two classes"
            );
            let fix = "give their objects one category id if they are the same";
            self.warn(Fault::new("similar category names", reason, fix));
        }
    }
}
