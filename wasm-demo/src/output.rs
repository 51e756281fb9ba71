//! Conversion of predictions to JavaScript objects.

use js_sys::{Array, Object, Reflect, Uint8Array};
use mrcnn_core::Detection;
use mrcnn_core::data::{Classes, RleRecord};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// Milliseconds since the worker started.
    #[wasm_bindgen(js_namespace = performance)]
    fn now() -> f64;
}

/// Milliseconds per stage.
pub struct Timings {
    start: f64,
    last: f64,
    stages: Object,
}

impl Timings {
    pub fn start() -> Self {
        let start = now();
        Self {
            start,
            last: start,
            stages: Object::new(),
        }
    }

    /// Ends the stage that began at the end of the previous one.
    pub fn end(&mut self, stage: &str) {
        let now = now();
        set(&self.stages, stage, now - self.last);
        self.last = now;
    }
}

/// `{ detections, timings: { prepare, boxes, masks, paste, total } }`
pub fn result(detections: Array, timings: Timings) -> JsValue {
    set(&timings.stages, "total", timings.last - timings.start);
    let result = Object::new();
    set(&result, "detections", detections);
    set(&result, "timings", timings.stages);
    result.into()
}

/// `[{ label, id, name }]`
pub fn classes(classes: &Classes) -> JsValue {
    let all = (1..=classes.len()).map(|label| {
        let class = Object::new();
        set(&class, "label", label as f64);
        set(&class, "id", category_id(classes, label));
        set(&class, "name", classes.name(label));
        JsValue::from(class)
    });
    all.collect::<Array>().into()
}

/// `[{ box, label, categoryId, name, score, rle, bitmap }]`
pub fn detections(detections: &[Detection], classes: &Classes) -> Array {
    let all = detections.iter().map(|detection| {
        let object = Object::new();
        set(&object, "box", numbers(detection.bbox.map(f64::from)));
        set(&object, "label", detection.label as f64);
        set(&object, "categoryId", category_id(classes, detection.label));
        set(&object, "name", classes.name(detection.label));
        set(&object, "score", f64::from(detection.score));
        set(&object, "rle", rle(detection));
        set(&object, "bitmap", bitmap(detection));
        JsValue::from(object)
    });
    all.collect()
}

fn category_id(classes: &Classes, label: usize) -> f64 {
    classes.category_id(label).unwrap_or_default() as f64
}

fn rle(detection: &Detection) -> Object {
    let record = RleRecord::new(&detection.mask);
    let object = Object::new();
    set(&object, "size", numbers(record.size.map(f64::from)));
    set(&object, "counts", record.counts);
    object
}

fn bitmap(detection: &Detection) -> Object {
    let bitmap = detection.bitmap();
    let object = Object::new();
    set(&object, "x", bitmap.x as f64);
    set(&object, "y", bitmap.y as f64);
    set(&object, "width", bitmap.width as f64);
    set(&object, "height", bitmap.height as f64);
    set(&object, "data", Uint8Array::from(bitmap.cells.as_slice()));
    object
}

fn numbers<const N: usize>(values: [f64; N]) -> Array {
    values.into_iter().map(JsValue::from).collect()
}

fn set(object: &Object, key: &str, value: impl Into<JsValue>) {
    // Setting a property of a fresh plain object cannot fail.
    let _ = Reflect::set(object, &key.into(), &value.into());
}
