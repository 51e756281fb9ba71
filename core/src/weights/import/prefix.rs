//! Prefixes that wrappers add to the names of tensors: Lightning, DataParallel, `torch.compile`, FSDP.

use crate::budget::excerpt;
use crate::weights::state::StateDict;
use std::collections::BTreeSet;

/// Parts of names that wrappers add, at any depth. No supported model has a module with such a name.
const WRAPPERS: [&str; 4] = [
    "module",                     // DataParallel, DistributedDataParallel, AveragedModel
    "_orig_mod",                  // torch.compile
    "_fsdp_wrapped_module",       // FullyShardedDataParallel
    "_checkpoint_wrapped_module", // activation checkpointing
];

/// The start of the names of a backbone, by system, the most specific first.
const ROOTS: [&str; 3] = [
    "backbone.bottom_up.",   // Detectron2
    "backbone.body.",        // torchvision's detectors
    "layer1.0.conv1.weight", // a ResNet alone
];

/// Parts of names outside a ResNet that belong to a detector of another kind.
const DETECTOR_PARTS: [&str; 8] = [
    "rpn",
    "rpn_head",
    "roi_head",
    "roi_heads",
    "bbox_head",
    "box_head",
    "mask_head",
    "neck",
];

/// Number of prefixes that an error lists.
const SHOWN: usize = 5;

/// Tensors of one model, by the names in its own program.
pub struct Model {
    /// The model's tensors without the prefix.
    pub tensors: StateDict,
    /// Names outside the prefix.
    pub others: Vec<String>,
    /// The prefix, with its last dot; empty if the names have none.
    pub prefix: String,
}

/// Removes wrappers and the prefix of the model from all names. A file with several models needs `wanted`, the prefix
/// of one of them.
pub fn strip(tensors: StateDict, wanted: Option<&str>) -> Result<Model, String> {
    let tensors = without_wrappers(tensors)?;
    let wanted = wanted.map(|prefix| {
        joined(
            prefix
                .trim_matches('.')
                .split('.')
                .filter(|part| !part.is_empty()),
        )
    });
    let found = prefixes(&tensors);
    let prefix = match (wanted, found.len()) {
        (Some(wanted), _) if found.contains(wanted.as_str()) => wanted,
        (Some(wanted), _) => {
            return Err(format!(
                "no model has the prefix `{}`; the prefixes are {}",
                excerpt(&wanted),
                listed(&found)
            ));
        }
        (None, 0 | 1) => found
            .iter()
            .next()
            .map(|prefix| (*prefix).to_string())
            .unwrap_or_default(),
        (None, count) => {
            return Err(format!(
                "it has {count} models, with the prefixes {}: choose one with `mrcnn-cli convert --prefix PREFIX`",
                listed(&found)
            ));
        }
    };
    let is_bare = !prefix.is_empty() && {
        let root = ROOTS[2];
        tensors.contains_key(&format!("{prefix}{root}"))
    };
    let mut model = Model {
        tensors: StateDict::new(),
        others: Vec::new(),
        prefix,
    };
    for (name, data) in tensors {
        match name.strip_prefix(&model.prefix) {
            Some(own) => drop(model.tensors.insert(own.to_string(), data)),
            None => model.others.push(name),
        }
    }
    let of_detector = |name: &&String| name.split('.').any(|part| DETECTOR_PARTS.contains(&part));
    match model.others.iter().find(of_detector) {
        Some(name) if is_bare => Err(format!(
            "it is a detector of a program that is not supported ({}); Mask R-CNN with FPN of torchvision and Detectron2 \
             is. To start from its backbone alone, save the tensors that begin with `{}`",
            excerpt(name),
            model.prefix
        )),
        _ => Ok(model),
    }
}

/// The prefix that all names have, with its last dot; empty if there is none.
pub fn common(tensors: &StateDict) -> String {
    let mut names = tensors.keys();
    let Some(first) = names.next() else {
        return String::new();
    };
    let parts: Vec<&str> = first.split('.').collect();
    let shared = names.fold(parts.len() - 1, |shared, name| {
        let same = name.split('.').zip(&parts[..shared]);
        same.take_while(|(a, b)| a == *b).count()
    });
    joined(parts[..shared].iter().copied())
}

/// Prefixes of the models of a file: what comes before the backbone.
fn prefixes(tensors: &StateDict) -> BTreeSet<&str> {
    let of_root = |root: &str| -> BTreeSet<&str> {
        let before = |name: &'_ str| -> Option<usize> {
            let starts = name.match_indices(root).map(|(start, _)| start);
            starts
                .into_iter()
                .find(|&start| start == 0 || name.as_bytes()[start - 1] == b'.')
        };
        let prefixes = tensors
            .keys()
            .filter_map(|name| Some(&name[..before(name)?]));
        prefixes.collect()
    };
    ROOTS
        .iter()
        .map(|root| of_root(root))
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

fn without_wrappers(tensors: StateDict) -> Result<StateDict, String> {
    let is_wrapped = |name: &String| name.split('.').any(|part| WRAPPERS.contains(&part));
    if !tensors.keys().any(is_wrapped) {
        return Ok(tensors);
    }
    let mut bare = StateDict::new();
    for (name, data) in tensors {
        let parts: Vec<&str> = name
            .split('.')
            .filter(|part| !WRAPPERS.contains(part))
            .collect();
        let short = parts.join(".");
        if bare.insert(short.clone(), data).is_some() {
            return Err(format!(
                "it has {} with and without the prefix of a wrapper (module., _orig_mod.): save one of the two models",
                excerpt(&short)
            ));
        }
    }
    Ok(bare)
}

/// Parts with a dot after each.
fn joined<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    parts.into_iter().flat_map(|part| [part, "."]).collect()
}

fn listed(prefixes: &BTreeSet<&str>) -> String {
    let shown = prefixes
        .iter()
        .take(SHOWN)
        .map(|prefix| match prefix.is_empty() {
            true => "'' (none)".to_string(),
            false => format!("`{}`", excerpt(prefix)),
        });
    let mut shown: Vec<String> = shown.collect();
    if prefixes.len() > SHOWN {
        shown.push("...".into());
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    fn tensors(names: &[&str]) -> StateDict {
        let tensor = |name: &&str| (name.to_string(), TensorData::from([1.0f32]));
        names.iter().map(tensor).collect()
    }

    fn names(model: &Model) -> Vec<&str> {
        model.tensors.keys().map(String::as_str).collect()
    }

    #[test]
    fn any_prefix_is_found_by_the_backbone() {
        for prefix in [
            "",
            "module.",
            "model.",
            "model.module.",
            "_orig_mod.",
            "net.",
            "trainer.model._orig_mod.",
        ] {
            for own in [
                "backbone.body.conv1.weight",
                "backbone.bottom_up.stem.conv1.weight",
                "layer1.0.conv1.weight",
            ] {
                let model =
                    strip(tensors(&[&format!("{prefix}{own}"), "loss.weight"]), None).unwrap();
                let wanted = if model.prefix.is_empty() {
                    vec![own, "loss.weight"]
                } else {
                    vec![own]
                };
                assert_eq!(names(&model), wanted, "{prefix}");
                assert_eq!(model.tensors.len() + model.others.len(), 2);
            }
        }
    }

    #[test]
    fn wrappers_within_names_are_removed() {
        let model = strip(
            tensors(&["backbone._orig_mod.body.module.conv1.weight"]),
            None,
        )
        .unwrap();
        assert_eq!(names(&model), ["backbone.body.conv1.weight"]);
        let twice = strip(
            tensors(&["module.backbone.body.a", "backbone.body.a"]),
            None,
        );
        assert!(twice.err().unwrap().contains("with and without"));
    }

    #[test]
    fn several_models_need_a_choice() {
        let both = || {
            tensors(&[
                "ema.model.backbone.body.a",
                "model.backbone.body.a",
                "model.rpn.b",
            ])
        };
        let refused = strip(both(), None).err().unwrap();
        assert!(
            refused.contains("`ema.model.`, `model.`") && refused.contains("--prefix"),
            "{refused}"
        );
        let chosen = strip(both(), Some("model")).unwrap();
        assert_eq!(names(&chosen), ["backbone.body.a", "rpn.b"]);
        assert_eq!(chosen.others, ["ema.model.backbone.body.a"]);
        assert!(
            strip(both(), Some("other."))
                .err()
                .unwrap()
                .contains("no model has the prefix `other.`")
        );
    }

    #[test]
    fn detectors_of_other_programs_are_no_backbones() {
        let refused = strip(
            tensors(&["backbone.layer1.0.conv1.weight", "rpn_head.rpn_conv.weight"]),
            None,
        );
        assert!(refused.err().unwrap().contains("rpn_head.rpn_conv.weight"));
        let encoder = strip(
            tensors(&["encoder.layer1.0.conv1.weight", "projector.0.weight"]),
            None,
        )
        .unwrap();
        assert_eq!(names(&encoder), ["layer1.0.conv1.weight"]);
    }

    #[test]
    fn the_prefix_of_all_names_is_named() {
        assert_eq!(common(&tensors(&["a.b.c.d", "a.b.e"])), "a.b.");
        assert_eq!(common(&tensors(&["a.b", "c"])), "");
        assert_eq!(common(&tensors(&["a.b"])), "a.");
        assert_eq!(common(&StateDict::new()), "");
    }
}
