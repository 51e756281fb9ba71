//! Reports kernel tuning, and ends the process if a device stops responding.

use mrcnn_backends::watchdog::{self, Stall};
use mrcnn_backends::{BackendKind, Selected, count_tuned_kernels, tuned_kernels};
use std::io::Write;

/// Reports tuned kernels on stderr, and ends the process with one error if the device stalls. The CPU
/// backend has neither tuning nor stalls: a step of a large network may take any time.
pub fn watch(selected: &Selected) -> anyhow::Result<()> {
    if selected.kind == BackendKind::Cpu {
        return Ok(());
    }
    count_tuned_kernels(report_tuning);
    let Some(limit) = watchdog::limit_from_env().map_err(anyhow::Error::msg)? else {
        return Ok(());
    };
    let device = selected.to_string();
    watchdog::watch(limit, selected.is_software, move |stall| {
        let message = message(&device, tuned_kernels(), &stall);
        // A closed stderr must not keep the process from ending.
        let _ = writeln!(std::io::stderr(), "error: {message}");
        // Threads that wait for the device cannot be ended one by one, and destructors would wait for it.
        watchdog::exit_now(1);
    });
    Ok(())
}

/// The line about the first kernel.
const FIRST_KERNEL: &str =
    "tuning kernels for this device, only in the first run with this network and image size\n";

/// The first kernel, then every tenth: on a GPU, tuning is over quickly.
fn report_tuning(count: usize) {
    let line = match count {
        1 => FIRST_KERNEL.to_string(),
        _ if count.is_multiple_of(10) => format!("tuned {count} kernels\n"),
        _ => return,
    };
    // One write, so that the line is whole if other ranks write to the same terminal.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

fn message(device: &str, tuned: usize, stall: &Stall) -> String {
    format!(
        "{device} has made no progress for {} s while {} ({tuned} kernels tuned before); update the \
         driver, use --backend cpu, or set MRCNN_WATCHDOG_S to more seconds. Results and checkpoints \
         written so far are kept",
        stall.idle.as_secs(),
        stall.operation
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_message_names_device_operation_and_remedy() {
        let stall = Stall {
            operation: "predicting an image of 640x480".into(),
            idle: Duration::from_secs(600),
        };
        let text = message("wgpu-gl (llvmpipe, OpenGL)", 3, &stall);
        for part in ["llvmpipe", "600 s", "640x480", "3 kernels", "--backend cpu"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
