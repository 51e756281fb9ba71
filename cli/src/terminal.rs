//! Output of the program. Nothing else in this crate writes to the terminal: `println!` and
//! `eprintln!` panic if the reader is gone or the disk is full, and would end a training run.
//!
//! - [`note!`] writes a line to standard error. Failures are ignored: a run whose terminal is
//!   gone continues, and its lines are also in the run folder's log ([`log_to`]).
//! - [`out!`] writes a line of results to standard output, and [`raw`] output for programs.
//!   The first failure is kept and reported once by [`finish`]; a closed pipe is not a failure.

use std::borrow::Cow;
use std::fmt::Arguments;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Writes a line of progress, a warning or an error to standard error.
macro_rules! note {
    ($($arg:tt)*) => { $crate::terminal::write_note(format_args!($($arg)*)) };
}

/// Writes a line of results to standard output.
macro_rules! out {
    ($($arg:tt)*) => { $crate::terminal::write_out(format_args!($($arg)*)) };
}

pub(crate) use {note, out};

/// Number of characters of a line that are printed. Longer lines are cut in the middle,
/// so that the file at the start of an error and its fix at the end are both kept.
const LONGEST_LINE: usize = 2000;

/// The first failure of standard output.
static FAILURE: Mutex<Option<io::Error>> = Mutex::new(None);

/// The log of the run folder.
static LOG: Mutex<Option<File>> = Mutex::new(None);

pub fn write_note(line: Arguments<'_>) {
    let line = printable(&line.to_string());
    log(&line);
    // A failure cannot be reported anywhere.
    let _ = write_line(&mut io::stderr().lock(), &line);
}

pub fn write_out(line: Arguments<'_>) {
    let line = printable(&line.to_string());
    log(&line);
    keep_failure(write_line(&mut io::stdout().lock(), &line));
}

/// Writes text for programs (JSON) to standard output unchanged, with a newline.
pub fn raw(text: &str) {
    keep_failure(write_line(&mut io::stdout().lock(), text));
}

/// Writes a line to the run folder's log only.
pub fn log(line: &str) {
    if let Some(file) = &mut *locked(&LOG) {
        // A run must not fail because of its log.
        let _ = write_line(file, line);
    }
}

/// From now on, everything that is printed is also appended to `path`.
pub fn log_to(path: &Path) {
    match OpenOptions::new().create(true).append(true).open(path) {
        Ok(file) => *locked(&LOG) = Some(file),
        Err(error) => note!("warning: {}: {error}; there will be no log", path.display()),
    }
}

/// The error to report at the end if the results could not be written to standard output.
pub fn finish() -> Option<anyhow::Error> {
    keep_failure(io::stdout().lock().flush());
    let error = locked(&FAILURE).take()?;
    // `predict | head`: the reader has all that it needs.
    let is_closed = error.kind() == ErrorKind::BrokenPipe;
    (!is_closed).then(|| anyhow::anyhow!("standard output: {error}; the results were not printed"))
}

/// An error with its causes, without those that its text contains already.
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn write_line(to: &mut dyn Write, line: &str) -> io::Result<()> {
    to.write_all(format!("{line}\n").as_bytes())?;
    to.flush()
}

/// Keeps the first failure of standard output, for [`finish`].
pub fn keep_failure(result: io::Result<()>) {
    if let Err(error) = result {
        locked(&FAILURE).get_or_insert(error);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Text that is safe on a terminal: control characters and characters that change the direction of text
/// are escaped (the name of a class or a file could clear the screen or forge a line), and overlong
/// lines are cut in the middle.
fn printable(text: &str) -> String {
    let lines: Vec<Cow<str>> = text.split('\n').map(line).collect();
    lines.join("\n")
}

fn line(text: &str) -> Cow<'_, str> {
    let is_plain = !text.chars().any(is_unsafe) && text.len() <= LONGEST_LINE;
    if is_plain {
        return Cow::Borrowed(text);
    }
    let text = shortened(text);
    let escape = |c: char| match is_unsafe(c) {
        true => c.escape_unicode().to_string(),
        false => c.to_string(),
    };
    Cow::Owned(text.chars().map(escape).collect())
}

fn is_unsafe(c: char) -> bool {
    let changes_direction =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && c != '\t') || changes_direction
}

fn shortened(text: &str) -> Cow<'_, str> {
    let count = text.chars().count();
    if count <= LONGEST_LINE {
        return Cow::Borrowed(text);
    }
    let (start, end) = (LONGEST_LINE * 2 / 3, LONGEST_LINE / 3);
    let first: String = text.chars().take(start).collect();
    let last: String = text.chars().skip(count - end).collect();
    let left_out = count - start - end;
    Cow::Owned(format!(
        "{first} ... [{left_out} characters left out] ... {last}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_escapes_are_shown_and_not_obeyed() {
        assert_eq!(printable("a\tb\nc"), "a\tb\nc");
        assert_eq!(
            printable("cat\u{1b}[2J\u{7}\r"),
            "cat\\u{1b}[2J\\u{7}\\u{d}"
        );
        assert_eq!(printable("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(printable("photo\u{202e}gnp.exe"), "photo\\u{202e}gnp.exe");
        assert_eq!(printable("Zürich 猫"), "Zürich 猫");
    }

    #[test]
    fn overlong_lines_keep_their_beginning_and_their_end() {
        let text = format!("model.pth: {}: remove it", "x".repeat(1 << 20));
        let shown = printable(&format!("{text}\nsecond"));
        assert!(shown.len() < LONGEST_LINE + 100, "{}", shown.len());
        assert!(shown.starts_with("model.pth: xxx"), "{shown}");
        assert!(shown.ends_with("xxx: remove it\nsecond"), "{shown}");
        assert!(shown.contains("[1046599 characters left out]"), "{shown}");
    }
}
