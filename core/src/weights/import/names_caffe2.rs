//! Names of Caffe2 in the backbones that Detectron2 starts from: `R-50.pkl`, `R-101.pkl`, `X-101-32x8d.pkl`.

use crate::weights::state::StateDict;
use burn::tensor::TensorData;

/// Whether a tensor name is from one of these files.
pub fn is_known(name: &str) -> bool {
    name == "conv1_w" || name == "res_conv1_bn_s"
}

/// Our name of a tensor: `res2_0_branch2a_w` -> `backbone.body.layer1.0.conv1.weight`. `None` for the classifier.
pub fn rename(name: &str) -> Option<String> {
    let ours = match name {
        "conv1_w" => "conv1.weight".into(),
        "res_conv1_bn_s" => "bn1.weight".into(),
        "res_conv1_bn_b" => "bn1.bias".into(),
        _ => of_block(name)?,
    };
    Some(format!("backbone.body.{ours}"))
}

fn of_block(name: &str) -> Option<String> {
    let mut parts = name.strip_prefix("res")?.splitn(4, '_');
    let stage = parts.next()?.parse::<usize>().ok()?.checked_sub(1)?;
    let block = parts.next()?.parse::<usize>().ok()?;
    let [conv, norm] = match parts.next()? {
        "branch1" => ["downsample.0", "downsample.1"],
        "branch2a" => ["conv1", "bn1"],
        "branch2b" => ["conv2", "bn2"],
        "branch2c" => ["conv3", "bn3"],
        _ => return None,
    };
    let layer = match parts.next()? {
        "w" => format!("{conv}.weight"),
        "bn_s" => format!("{norm}.weight"),
        "bn_b" => format!("{norm}.bias"),
        _ => return None,
    };
    Some(format!("layer{stage}.{block}.{layer}"))
}

/// Adds the statistics of the batch norms, which these files have folded into scale and shift: a mean of 0 and a
/// variance of 1, as Detectron2 does.
pub fn add_statistics(tensors: &mut StateDict) {
    let norms: Vec<(String, usize)> = tensors
        .iter()
        .filter_map(|(name, data)| {
            let norm = name.strip_suffix(".bias")?;
            Some((norm.to_string(), data.num_elements()))
        })
        .collect();
    for (norm, channels) in norms {
        for (statistic, value) in [("running_mean", 0.0f32), ("running_var", 1.0)] {
            let data = TensorData::new(vec![value; channels], [channels]);
            tensors.insert(format!("{norm}.{statistic}"), data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_ours() {
        for (theirs, ours) in [
            ("conv1_w", "conv1.weight"),
            ("res_conv1_bn_b", "bn1.bias"),
            ("res2_0_branch1_w", "layer1.0.downsample.0.weight"),
            ("res3_1_branch2a_bn_s", "layer2.1.bn1.weight"),
            ("res5_22_branch2c_bn_b", "layer4.22.bn3.bias"),
        ] {
            assert_eq!(rename(theirs), Some(format!("backbone.body.{ours}")));
        }
        for other in [
            "fc1000_w",
            "pred_b",
            "conv1_b",
            "res2_0_branch3_w",
            "res2_x_branch1_w",
        ] {
            assert_eq!(rename(other), None, "{other}");
        }
    }
}
