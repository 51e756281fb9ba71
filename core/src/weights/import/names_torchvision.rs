//! torchvision's names: this crate has the current ones; older files and classification weights differ.

/// Our name of a detection tensor. Files of torchvision before 0.13 lack an index in three places.
pub fn detection(name: &str) -> String {
    for prefix in ["backbone.fpn.inner_blocks.", "backbone.fpn.layer_blocks."] {
        if let Some([level, kind]) = split(name, prefix) {
            return format!("{prefix}{level}.0.{kind}");
        }
    }
    if let Some(kind) = name.strip_prefix("rpn.head.conv.")
        && !kind.contains('.')
    {
        return format!("rpn.head.conv.0.0.{kind}");
    }
    if let Some([index, kind]) = split(name, "roi_heads.mask_head.mask_fcn")
        && let Ok(index @ 1..) = index.parse::<usize>()
    {
        return format!("roi_heads.mask_head.{}.0.{kind}", index - 1);
    }
    name.into()
}

/// `prefix A.B` -> `[A, B]`, neither with a dot.
fn split<'a>(name: &'a str, prefix: &str) -> Option<[&'a str; 2]> {
    let (first, second) = name.strip_prefix(prefix)?.split_once('.')?;
    (!second.contains('.')).then_some([first, second])
}

/// Whether a tensor name is from torchvision before 0.13, as in the published COCO weights.
pub fn is_old(name: &str) -> bool {
    detection(name) != name
}

/// Our name of a tensor of a classification ResNet; `None` for its classifier.
pub fn classification(name: &str) -> Option<String> {
    (!name.starts_with("fc.")).then(|| format!("backbone.body.{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_become_new_ones() {
        for (old, new) in [
            (
                "backbone.fpn.inner_blocks.2.bias",
                "backbone.fpn.inner_blocks.2.0.bias",
            ),
            (
                "backbone.fpn.layer_blocks.0.weight",
                "backbone.fpn.layer_blocks.0.0.weight",
            ),
            ("rpn.head.conv.weight", "rpn.head.conv.0.0.weight"),
            (
                "roi_heads.mask_head.mask_fcn4.bias",
                "roi_heads.mask_head.3.0.bias",
            ),
        ] {
            assert_eq!(detection(old), new);
            assert_eq!(detection(new), new);
            assert!(is_old(old) && !is_old(new));
        }
        assert_eq!(classification("fc.bias"), None);
    }
}
