//! Throughput report: images per second, and the thread that limits them.

use std::time::Duration;

/// Images (or frames) per second, and the percentage of the time in which each thread worked.
pub fn throughput((count, noun): (usize, &str), elapsed: Duration, busy: [Duration; 3]) -> String {
    let seconds = elapsed.as_secs_f64().max(1e-9);
    let part = |busy: Duration| format!("{:.0}%", 100.0 * busy.as_secs_f64() / seconds);
    format!(
        "{count} {noun} in {seconds:.1} s ({:.1} per second); decoding worked {} of the time, inference {}, output {}",
        count as f64 / seconds,
        part(busy[0]),
        part(busy[1]),
        part(busy[2])
    )
}
