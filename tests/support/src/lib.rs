//! Shared by the tests of several crates: requirements, skipped tests, and a watchdog.
//!
//! A test that needs something the machine lacks is skipped with a line on stderr, but fails if
//! `MRCNN_REQUIRE` contains it (`wgpu`, `golden`, `data`, `tensorboard`, `results`, separated by commas; CI sets it). Each
//! test executable ends with a list of what it skipped.

use mrcnn_backends::{Selected, watchdog};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

/// Skipped requirements, with the reason and the number of tests.
static SKIPPED: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

/// Whether `what` is present. If not, the caller skips its test.
///
/// # Panics
/// If `what` is missing and `MRCNN_REQUIRE` contains it.
pub fn found(is_present: bool, what: &str, detail: &str) -> bool {
    if is_present {
        return true;
    }
    let required = std::env::var("MRCNN_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|name| name.trim() == what);
    assert!(
        !is_required,
        "MRCNN_REQUIRE names `{what}`, which is missing: {detail}"
    );
    skip(&format!("{what} is missing: {detail}"));
    false
}

/// Records a skipped test.
pub fn skip(reason: &str) {
    static AT_EXIT: Once = Once::new();
    // SAFETY: the function is `extern "C"`, takes nothing and does not unwind.
    AT_EXIT.call_once(|| unsafe {
        libc::atexit(list_skipped);
    });
    let mut skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
    *skipped.entry(reason.into()).or_default() += 1;
}

/// Prints past libtest's capture, which hides the output of passing tests.
extern "C" fn list_skipped() {
    let skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stderr = std::io::stderr();
    for (reason, count) in skipped.iter() {
        let tests = if *count == 1 { "test" } else { "tests" };
        let _ = writeln!(stderr, "SKIPPED, {count} {tests}: {reason}");
    }
}

/// Ends the test executable with an error if the device of a test makes no progress for 20 minutes, or
/// for `MRCNN_WATCHDOG_S`. A deadlock would otherwise block CI until its limit, without a message.
pub fn watch_device(selected: &Selected) {
    static STARTED: Once = Once::new();
    let device = selected.to_string();
    let is_software = selected.is_software;
    STARTED.call_once(move || {
        let limit = match watchdog::limit_from_env() {
            Ok(Some(limit)) if limit == watchdog::DEFAULT_LIMIT => Duration::from_secs(1200),
            Ok(Some(limit)) => limit,
            Ok(None) => return,
            Err(message) => panic!("{message}"),
        };
        watchdog::watch(limit, is_software, move |stall| {
            let (idle, operation) = (stall.idle.as_secs(), stall.operation);
            let _ = writeln!(
                std::io::stderr(),
                "error: {device} has made no progress for {idle} s while {operation}"
            );
            watchdog::exit_now(1);
        });
    });
}

/// The watched operation of the test that runs on this thread.
pub fn test_operation() -> watchdog::Operation {
    let thread = std::thread::current();
    watchdog::operation(format!(
        "running the test {}",
        thread.name().unwrap_or("main")
    ))
}
