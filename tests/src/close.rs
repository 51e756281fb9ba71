//! Comparison of floats, with a message that shows where they differ.

/// Largest absolute difference and its index. NaN and infinity equal themselves only.
pub fn max_abs_error(actual: &[f32], expected: &[f32]) -> (f64, usize) {
    assert_eq!(actual.len(), expected.len(), "lengths differ");
    let mut worst = (0.0, 0);
    for (index, (&a, &e)) in actual.iter().zip(expected).enumerate() {
        let same = a == e || (a.is_nan() && e.is_nan());
        let error = if same {
            0.0
        } else {
            (a as f64 - e as f64).abs()
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

/// Panics if a value differs by more than `tolerance`.
#[track_caller]
pub fn assert_close(name: &str, actual: &[f32], expected: &[f32], tolerance: f64) {
    let (error, index) = max_abs_error(actual, expected);
    assert!(
        error <= tolerance,
        "{name}: value {index} is {}, expected {}: difference {error:.3e}, tolerance {tolerance:.3e}",
        actual[index],
        expected[index]
    );
}

/// Largest magnitude of the finite values.
pub fn magnitude(values: &[f32]) -> f64 {
    values
        .iter()
        .filter(|v| v.is_finite())
        .fold(0.0, |max, v| max.max(v.abs() as f64))
}
