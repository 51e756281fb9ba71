//! Ctrl-C and SIGTERM (`kill`, a scheduler that takes its machine back): save, then end.

use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that the first Ctrl-C or SIGTERM raises; the second ends the process at once. `say` tells so
/// on stderr.
pub fn stop_flag(say: bool) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let handler = ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        if say {
            eprintln!("\nstopping after this step; Ctrl-C again quits at once");
        }
    });
    if let Err(error) = handler {
        eprintln!("warning: Ctrl-C will not save: {error}");
    }
    #[cfg(unix)]
    if let Err(error) = on_terminate(&stop) {
        eprintln!("warning: SIGTERM will not save: {error}");
    }
    stop
}

/// For a process that only waits for others: a flag that SIGTERM raises, to be handed on to them. Ctrl-C
/// reaches them by itself; handed on, it would be their second.
pub fn handed_on() -> Result<Arc<AtomicBool>> {
    ctrlc::set_handler(|| ()).context("cannot catch Ctrl-C")?;
    let stop = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    signal_hook::flag::register(signal_hook::consts::SIGTERM, stop.clone())
        .context("cannot catch SIGTERM")?;
    Ok(stop)
}

/// SIGTERM alone: ctrlc would take SIGHUP too, and a run under `nohup` is to outlive its terminal.
#[cfg(unix)]
fn on_terminate(stop: &Arc<AtomicBool>) -> std::io::Result<()> {
    use signal_hook::consts::SIGTERM;
    use signal_hook::flag;
    flag::register_conditional_shutdown(SIGTERM, 143, stop.clone())?;
    flag::register(SIGTERM, stop.clone())?;
    Ok(())
}
