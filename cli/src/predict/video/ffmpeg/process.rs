//! The program `ffmpeg`.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::process::Command;

/// `ffmpeg` with its messages in a file, so that it never waits for a reader. Ctrl-C does not reach it: a decoder ends
/// when nobody reads it, and an encoder finishes its file when its input ends.
pub(super) fn ffmpeg(messages: &File) -> Result<Command> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y"]);
    command.stderr(messages.try_clone().context("a temporary file")?);
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        command.process_group(0);
    }
    Ok(command)
}

/// The first message of a program.
pub(super) fn first_message(messages: &mut File) -> Option<String> {
    let mut text = String::new();
    messages.rewind().ok()?;
    BufReader::new(messages).read_line(&mut text).ok()?;
    let line = text.trim();
    (!line.is_empty()).then(|| line.into())
}
