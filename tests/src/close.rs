//! Comparing numbers, with a message that says where they differ.

/// Largest difference, and where it is. NaN and infinity equal themselves only.
pub fn max_abs_error(found: &[f32], wanted: &[f32]) -> (f64, usize) {
    assert_eq!(found.len(), wanted.len(), "lengths differ");
    let mut worst = (0.0, 0);
    for (index, (&f, &w)) in found.iter().zip(wanted).enumerate() {
        let same = f == w || (f.is_nan() && w.is_nan());
        let error = if same {
            0.0
        } else {
            (f as f64 - w as f64).abs()
        };
        if error > worst.0 || error.is_nan() {
            worst = (error, index);
            if error.is_nan() {
                return (f64::INFINITY, index);
            }
        }
    }
    worst
}

/// Fails where a value differs by more than `tolerance`.
#[track_caller]
pub fn assert_close(what: &str, found: &[f32], wanted: &[f32], tolerance: f64) {
    let (error, index) = max_abs_error(found, wanted);
    assert!(
        error <= tolerance,
        "{what}: value {index} is {}, wanted {}: off by {error:.3e}, allowed {tolerance:.3e}",
        found[index],
        wanted[index]
    );
}

/// The largest magnitude of finite values.
pub fn magnitude(values: &[f32]) -> f64 {
    values
        .iter()
        .filter(|v| v.is_finite())
        .fold(0.0, |max, v| max.max(v.abs() as f64))
}
