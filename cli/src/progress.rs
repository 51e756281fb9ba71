//! Progress of a run on the terminal, or as periodic lines if there is none.

use crate::interrupt::Requests;
use crate::terminal::{self, note};
use indicatif::{FormattedDuration, ProgressBar, ProgressStyle};
use mrcnn_backends::{buffer_reads, count_buffer_reads};
use mrcnn_core::data::printable;
use mrcnn_core::eval::{Metrics, shown_metric};
use mrcnn_core::report::LeftOutImage;
use mrcnn_core::train::{MemoryPlan, Observer, StepReport};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Maximum time between lines: large networks take a minute per step on a CPU.
const LINE_PERIOD: Duration = Duration::from_secs(60);

/// Environment variable with which every rank prints the number of buffers that each step reads from a wgpu device; for
/// tests of several ranks, which are processes of their own.
const COUNT_READS: &str = "MRCNN_COUNT_READS";

/// Shows the progress of a training run on stderr.
pub struct Progress {
    bar: ProgressBar,
    eval: Option<ProgressBar>,
    is_lead: bool,
    steps: usize,
    started: Instant,
    /// The first step of this process: runs may be resumed.
    first: Option<usize>,
    /// Running mean of the images per second.
    rate: f64,
    /// Running mean of the loss, which fluctuates less.
    loss: Option<f32>,
    /// Number of steps between lines in the log, and on stderr if it is not a terminal.
    line_every: usize,
    /// Time of the next line, whatever its step is.
    line_due: Instant,
    terminal: bool,
    requests: Requests,
    /// Number of buffers that were read before this step, if they are counted.
    reads: Option<usize>,
}

impl Progress {
    /// A bar over `steps`; with several ranks only the first one shows it. Signals end the run after saving.
    pub fn new(steps: usize, is_lead: bool, requests: Requests) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = match is_lead {
            true => bar(steps, "{bar:30} {pos}/{len} {msg} ETA {eta}"),
            false => ProgressBar::hidden(),
        };
        let started = Instant::now();
        Self {
            bar,
            eval: None,
            is_lead,
            steps,
            started,
            first: None,
            rate: 0.0,
            loss: None,
            line_every: (steps / 20).max(1),
            line_due: started + LINE_PERIOD,
            terminal,
            requests,
            reads: counted_reads(),
        }
    }

    /// Prints the number of buffers that a step has read, if they are counted.
    fn note_reads(&mut self, step: usize) {
        if let Some(before) = &mut self.reads {
            let all = buffer_reads();
            let count = all - *before;
            self.bar
                .suspend(|| note!("step {step}: {count} buffers read"));
            *before = all;
        }
    }
}

/// Starts to count the reads of buffers, if the environment requests it.
fn counted_reads() -> Option<usize> {
    std::env::var_os(COUNT_READS)?;
    count_buffer_reads(true).then(buffer_reads)
}

/// A progress bar with a template; draws nothing if stderr is not a terminal.
pub fn bar(length: usize, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar());
    let bar = ProgressBar::new(length as u64).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

impl Observer for Progress {
    fn on_plan(&mut self, plan: &MemoryPlan, warning: Option<&str>) {
        if !self.is_lead {
            return;
        }
        note!("{plan}");
        if let Some(warning) = warning {
            note!("warning: {warning}");
        }
    }

    fn on_step(&mut self, report: &StepReport) {
        self.note_reads(report.step);
        if let (true, Some(scale)) = (report.is_skipped && self.is_lead, report.loss_scale) {
            let step = report.step;
            let line = format!("step {step}: overflow with a loss scale of {scale}, skipped");
            self.bar.suspend(|| note!("{line}"));
        }
        self.first.get_or_insert(report.step);
        let now = report.loss();
        let loss = match self.loss {
            Some(old) if now.is_finite() => 0.95 * old + 0.05 * now,
            Some(old) => old,
            None => now,
        };
        self.loss = Some(loss).filter(|loss| loss.is_finite());
        let rate = report.images_per_second;
        self.rate = if self.rate == 0.0 {
            rate
        } else {
            0.9 * self.rate + 0.1 * rate
        };
        let text = format!(
            "loss {loss:.3} lr {:.5} {:.2} images/s",
            report.learning_rate, self.rate
        );
        let is_due = report.step.is_multiple_of(self.line_every) || Instant::now() >= self.line_due;
        if self.is_lead && is_due {
            self.line_due = Instant::now() + LINE_PERIOD;
            // In a resumed run, only the steps of this process count.
            let spent = self.started.elapsed().as_secs_f64();
            let done = report.step + 1 - self.first.unwrap_or(report.step);
            let left = spent / done as f64 * (self.steps - report.step) as f64;
            let left = FormattedDuration(Duration::from_secs_f64(left));
            let line = format!("step {}/{} {text} ETA {left}", report.step, self.steps);
            match self.terminal {
                true => terminal::log(&line),
                false => note!("{line}"),
            }
        }
        self.bar.set_message(text);
        self.bar.set_position(report.step as u64);
    }

    fn on_left_out(&mut self, image: &LeftOutImage, count: usize) {
        if !self.is_lead {
            return;
        }
        let LeftOutImage {
            split, image_id, ..
        } = image;
        let line = format!(
            "warning: {split} image {image_id} is left out ({count} so far): {}",
            printable(&image.description())
        );
        self.bar.suspend(|| note!("{line}"));
    }

    fn on_eval_progress(&mut self, done: usize, all: usize) {
        if !self.is_lead {
            return;
        }
        let eval = self
            .eval
            .get_or_insert_with(|| bar(all, "evaluating {bar:30} {pos}/{len}"));
        eval.set_position(done as u64);
    }

    fn on_eval(&mut self, step: usize, metrics: &Metrics) {
        if !self.is_lead {
            return;
        }
        if let Some(eval) = self.eval.take() {
            eval.finish_and_clear();
        }
        let line = format!(
            "step {step}: box AP {}, mask AP {}, mask AP50 {}",
            shown_metric(metrics.box_ap()),
            shown_metric(metrics.mask_ap()),
            shown_metric(metrics.segm[1])
        );
        self.bar.suspend(|| note!("{line}"));
        if step >= self.steps {
            self.bar.finish_and_clear();
        }
    }

    fn on_early_stop(&mut self, step: usize, evaluations: usize) {
        if !self.is_lead {
            return;
        }
        let line =
            format!("step {step}: no better mask AP in {evaluations} evaluations, stopping early");
        self.bar.suspend(|| note!("{line}"));
        self.bar.finish_and_clear();
    }

    fn should_save(&mut self) -> bool {
        let save = self.requests.take_save();
        if save && self.is_lead {
            self.bar
                .suspend(|| note!("saving a checkpoint because of SIGUSR1"));
        }
        save
    }

    fn should_stop(&self) -> bool {
        self.requests.is_end_requested()
    }
}
