//! Signals during training and prediction.
//!
//! In training:
//!
//! | signal | effect | exit status |
//! |---|---|---|
//! | SIGINT (Ctrl-C) | a checkpoint after the current step, then the end; a second one ends immediately | 130 |
//! | SIGTERM (`kill`, a scheduler) | like SIGINT | 143 |
//! | SIGHUP (the terminal closes) | like SIGINT, unless it is ignored (`nohup`) | 129 |
//! | SIGUSR1 (Slurm's `--signal`) | a checkpoint after the current step, then the run continues | |
//!
//! `predict` writes the results of the images or frames that it has predicted and ends with exit status 1 (0 for a
//! camera); a second signal ends it immediately.

use crate::terminal::note;
use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// The work of a training run after Ctrl-C, for [`Requests::catch`].
pub const SAVING: &str = "saving a checkpoint after this step";

/// Requests of the signals so far.
#[derive(Clone, Debug, Default)]
pub struct Requests(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    /// The signal that ended the run; 0 if there was none.
    end: AtomicI32,
    save: AtomicBool,
}

impl Requests {
    /// Catches the signals of this process. At the first one, `announce` is printed to stderr, if given: the work that
    /// the command finishes before it ends.
    pub fn catch(announce: Option<&'static str>) -> Self {
        let requests = Self::default();
        if let Err(error) = system::catch(requests.clone(), announce) {
            note!("warning: signals end the run without a checkpoint: {error}");
        }
        requests
    }

    /// Whether a signal requested the end of the run.
    pub fn is_end_requested(&self) -> bool {
        self.0.end.load(Ordering::SeqCst) != 0
    }

    /// Whether a checkpoint was requested since the last call.
    pub fn take_save(&self) -> bool {
        self.0.save.swap(false, Ordering::SeqCst)
    }

    /// The exit status of a run that was ended by a signal, as a shell reports it.
    pub fn exit_code(&self) -> u8 {
        let signal = self.0.end.load(Ordering::SeqCst);
        u8::try_from(128 + signal).unwrap_or(1)
    }

    fn raise_end(&self, signal: i32) -> bool {
        let first = self
            .0
            .end
            .compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
        first.is_ok()
    }
}

/// Catches the signals of a process that only waits for others, and returns those to forward to them. SIGINT is caught
/// but not forwarded: Ctrl-C reaches the other processes directly, and a forwarded SIGINT would be their second.
pub fn relayed() -> Result<impl FnMut() -> Option<i32>> {
    system::relayed().context("cannot catch signals")
}

#[cfg(unix)]
mod system {
    use super::{Requests, note};
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::exit;
    use std::io;
    use std::sync::atomic::Ordering;

    pub fn catch(requests: Requests, announce: Option<&'static str>) -> io::Result<()> {
        let mut signals = Signals::new(caught()?)?;
        let listen = move || {
            for signal in signals.forever() {
                receive(&requests, signal, announce);
            }
        };
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(listen)?;
        Ok(())
    }

    fn receive(requests: &Requests, signal: i32, announce: Option<&str>) {
        if signal == SIGUSR1 {
            requests.0.save.store(true, Ordering::SeqCst);
            return;
        }
        if requests.raise_end(signal) {
            if let Some(last) = announce {
                note!("\n{last}, then ending; Ctrl-C again ends immediately");
            }
        } else if signal != SIGHUP {
            // A closing terminal may send several SIGHUPs; they do not count as a second Ctrl-C.
            exit(128 + signal);
        }
    }

    pub fn relayed() -> io::Result<impl FnMut() -> Option<i32>> {
        let mut signals = Signals::new(caught()?)?;
        Ok(move || signals.pending().find(|signal| *signal != SIGINT))
    }

    fn caught() -> io::Result<Vec<i32>> {
        let mut caught = vec![SIGINT, SIGTERM, SIGUSR1];
        if !hangup_is_ignored()? {
            caught.push(SIGHUP);
        }
        Ok(caught)
    }

    /// Whether the program was started by `nohup`, so that it must outlive its terminal.
    #[allow(unsafe_code)]
    fn hangup_is_ignored() -> io::Result<bool> {
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        // SAFETY: no Rust code runs in an ignored signal's handler, and the old action is restored.
        let old = unsafe {
            let old = sigaction(Signal::SIGHUP, &ignore)?;
            sigaction(Signal::SIGHUP, &old)?;
            old
        };
        Ok(matches!(old.handler(), SigHandler::SigIgn))
    }
}

#[cfg(not(unix))]
mod system {
    use super::{Requests, note};
    use std::io;

    /// Number of SIGINT: shells report a program that Ctrl-C ended with status 128 + 2.
    const INTERRUPT: i32 = 2;

    pub fn catch(requests: Requests, announce: Option<&'static str>) -> io::Result<()> {
        let receive = move || {
            if !requests.raise_end(INTERRUPT) {
                std::process::exit(128 + INTERRUPT);
            }
            if let Some(last) = announce {
                note!("\n{last}, then ending; Ctrl-C again ends immediately");
            }
        };
        ctrlc::set_handler(receive).map_err(io::Error::other)
    }

    pub fn relayed() -> io::Result<impl FnMut() -> Option<i32>> {
        ctrlc::set_handler(|| ()).map_err(io::Error::other)?;
        Ok(|| None)
    }
}
