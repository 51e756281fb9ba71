//! Seeds: files of annotation tools, and lists of classes.

use super::seeds;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// CVAT for images: polygons, an ellipse, brush masks and groups of them; a file of a project with subsets.
pub fn cvat() -> Vec<Vec<u8>> {
    let task = r#"<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels><label><name>R&amp;D</name></label>
<label><name>b</name></label></labels></task></meta>
<image id="0" name="a&amp;b.png" width="40" height="30">
<polygon label="R&amp;D" points="4.5,3;24,3;24,20;4.5,20" group_id="7"><attribute name="x">1</attribute></polygon>
<mask label="R&amp;D" rle="1, 2, 3, 4, 2" left="30" top="25" width="4" height="3" group_id="7"/>
<mask label="b" rle="0, 6" left="38" top="28" width="3" height="2"/>
<ellipse label="b" cx="15" cy="16" rx="8" ry="5" rotation="30.00"/>
<box label="b" xtl="1" ytl="1" xbr="9" ybr="9"></box><tag label="b"></tag></image></annotations>"#;
    let project = r#"<annotations><meta><project><labels><label><name>c</name></label></labels></project></meta>
<image name="1.png" subset="Train" width="40" height="30"><polygon label="c" points="1,1;9,1;9,9"/></image>
<image name="2.png" subset="Val" width="9" height="7"><mask label="c" rle="30,3,30" left="0" top="0" width="9" height="7"/>
</image></annotations>"#;
    [task, project].map(|text| text.as_bytes().to_vec()).into()
}

/// labelme: polygons in a group, a circle, and a mask that is a PNG.
pub fn labelme() -> Vec<Vec<u8>> {
    let polygon = |points: &[[f64; 2]], group| serde_json::json!({"label": "a", "points": points, "group_id": group, "shape_type": "polygon", "flags": {}});
    let png = seeds::images().swap_remove(0);
    let mask = serde_json::json!({"label": "b", "points": [[-2, 3], [10, 11]], "shape_type": "mask",
        "mask": BASE64_STANDARD.encode(png)});
    let circle =
        serde_json::json!({"label": 3, "points": [[20, 15], [25, 15]], "shape_type": "circle"});
    let file = |shapes: Vec<serde_json::Value>| {
        let file = serde_json::json!({"version": "5.0.1", "shapes": shapes, "imagePath": "a.png", "imageData": null,
            "imageHeight": 30, "imageWidth": 40});
        file.to_string().into_bytes()
    };
    let triangles = [
        polygon(&[[1.0, 2.0], [9.5, 2.0], [5.0, 9.0]], Some(1)),
        polygon(&[[21.0, 2.0], [29.5, 2.0], [25.0, 9.0]], Some(1)),
    ];
    let ungrouped = polygon(&[[1.0, 12.0], [9.5, 12.0], [5.0, 19.0]], None);
    vec![
        file([&triangles[..], &[circle, ungrouped]].concat()),
        file(vec![mask]),
    ]
}

/// VIA 2, whole and exported, and VIA 1, which numbers its regions.
pub fn via() -> Vec<Vec<u8>> {
    let polygon = serde_json::json!({"name": "polygon", "all_points_x": [1, 9, 9, 1], "all_points_y": [2, 2, 8, 8]});
    let ellipse =
        serde_json::json!({"name": "ellipse", "cx": 20, "cy": 15, "rx": 6, "ry": 4, "theta": 0.5});
    let circle = serde_json::json!({"name": "circle", "cx": 30, "cy": 15, "r": 4.5});
    let region = |shape: &serde_json::Value, class: serde_json::Value| serde_json::json!({"shape_attributes": shape, "region_attributes": {"class": class}});
    let regions = [
        region(&polygon, "a".into()),
        region(&ellipse, serde_json::json!({"b": true, "c": false})),
        region(&circle, 3.into()),
    ];
    let entry = |regions: serde_json::Value| serde_json::json!({"a.png123": {"filename": "a.png", "size": 123, "regions": regions, "file_attributes": {}}});
    let exported = entry(regions.to_vec().into());
    let numbered = entry(serde_json::json!({"0": regions[0], "1": regions[2]}));
    let whole = serde_json::json!({"_via_settings": {}, "_via_img_metadata": exported, "_via_attributes": {}});
    let files = [exported, numbered, whole].map(|file| file.to_string().into_bytes());
    files.into()
}

pub fn class_lists() -> Vec<Vec<u8>> {
    let file = serde_json::json!({"images": [], "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]});
    vec![file.to_string().into_bytes()]
}
