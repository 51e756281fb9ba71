use super::*;
use crate::data::{Classes, Instance, Sample};
use std::path::PathBuf;
use vernier_mask::Rle;

fn square(x: f32, y: f32, side: f32) -> ([f32; 4], Rle) {
    let [x64, y64, side64] = [x, y, side].map(f64::from);
    let mask = Rle::from_bbox([x64, y64, side64, side64], 100, 100).unwrap();
    ([x, y, x + side, y + side], mask)
}

fn detection(label: usize, score: f32, (bbox, mask): ([f32; 4], Rle)) -> Detection {
    Detection {
        bbox,
        label,
        score,
        mask,
    }
}

/// Three images with a cat and a dog each.
fn pets() -> Dataset {
    let instance = |label, (bbox, mask)| Instance {
        annotation_id: 0,
        label,
        bbox,
        mask,
        area: 400.0,
        is_crowd: false,
    };
    let sample = |image_id| {
        let instances = vec![
            instance(1, square(10.0, 10.0, 20.0)),
            instance(2, square(60.0, 60.0, 20.0)),
        ];
        Sample::new(image_id, PathBuf::new(), (100, 100), instances)
    };
    Dataset {
        annotations: PathBuf::new(),
        classes: Classes {
            names: vec!["cat".into(), "dog".into()],
            ids: vec![3, 7],
        },
        samples: (1..=3).map(sample).collect(),
        ..Dataset::default()
    }
}

#[test]
fn every_mistake_is_counted_where_it_belongs() {
    let (cat, dog) = (square(10.0, 10.0, 20.0), square(60.0, 60.0, 20.0));
    let found = vec![
        // All correct.
        (
            1,
            vec![
                detection(1, 0.9, cat.clone()),
                detection(2, 0.9, dog.clone()),
            ],
        ),
        // The dog is detected as a cat, and one detection matches nothing.
        (
            2,
            vec![
                detection(1, 0.9, cat.clone()),
                detection(1, 0.8, dog.clone()),
                detection(2, 0.7, square(10.0, 70.0, 20.0)),
            ],
        ),
        // Only the cat is detected; a detection with a low score is not a mistake.
        (
            3,
            vec![
                detection(1, 0.9, cat),
                detection(1, 0.1, square(70.0, 5.0, 9.0)),
            ],
        ),
    ];
    let analysis = analyze(&pets(), &found, AreaProtocol::Mask).unwrap();
    let [cats, dogs] = [&analysis.classes[0], &analysis.classes[1]];
    assert_eq!((cats.name.as_str(), cats.objects), ("cat", 3));
    assert_eq!(cats.mask_ap50, Some(1.0), "three hits come before the miss");
    // One of three dogs: precision 1 up to a recall of 1/3.
    let recalls = (0..=100).filter(|r| *r as f64 / 100.0 <= 1.0 / 3.0).count();
    let (found, wanted) = (dogs.mask_ap50.unwrap(), recalls as f64 / 101.0);
    // Summed in another order.
    assert!((found - wanted).abs() < 1e-12, "{found}, wanted {wanted}");
    assert_eq!(dogs.precision.len(), 101);

    assert_eq!(analysis.confusion.names, ["cat", "dog", "background"]);
    assert_eq!(analysis.confusion.counts, [[3, 0, 0], [1, 1, 1], [0, 1, 0]]);
    let worst = &analysis.images;
    assert_eq!(
        (worst[0].image_id, worst[0].missed, worst[0].wrong),
        (2, 1, 2)
    );
    assert_eq!(
        (worst[1].image_id, worst[1].missed, worst[1].wrong),
        (3, 1, 0)
    );
    assert_eq!((worst[2].image_id, worst[2].found), (1, 2));
    let count = |name: &str| {
        let kind = analysis.errors.iter().find(|kind| kind.name == name);
        kind.map(|kind| kind.count)
    };
    assert_eq!(count("right place, wrong class"), Some(1));
    assert_eq!(count("found twice"), Some(0));
    let [first, second] = [&analysis.errors[0], &analysis.errors[1]];
    assert!(first.delta_ap >= second.delta_ap && first.delta_ap > 0.0);
}

#[test]
fn nothing_found_is_no_error() {
    let nothing: Vec<(u64, Vec<Detection>)> = (1..=3).map(|id| (id, Vec::new())).collect();
    let analysis = analyze(&pets(), &nothing, AreaProtocol::Mask).unwrap();
    assert_eq!(analysis.classes[0].mask_ap, Some(0.0));
    assert_eq!(analysis.confusion.counts[0], [0, 0, 3]);
    assert_eq!(analysis.images.len(), 3);
}
