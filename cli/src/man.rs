//! `mrcnn-cli man`: one manual page for all commands.

use crate::terminal;
use anyhow::Result;
use clap::{Args, Command};
use clap_mangen::Man;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ManArgs {}

const EXAMPLES: &str = "\
Examples:
  mrcnn-cli man > ~/.local/share/man/man1/mrcnn-cli.1 && man mrcnn-cli";

/// Prints the manual page of `program`.
pub fn run(_: &ManArgs, mut program: Command) -> Result<()> {
    // Gives commands their full names.
    program.build();
    let mut page = Vec::new();
    let man = Man::new(program.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    man.render_extra_section(&mut page)?;
    let mut text = String::from_utf8(page)?;
    for command in leaves(&program) {
        text += &section(command)?;
    }
    let text = text.replace("H EXTRA\nExamples:\n", "H EXAMPLES\n");
    let text = text.replace("S EXTRA\nExamples:\n", "S EXAMPLES\n");
    // Every rendered part begins with this definition; one is kept.
    let text = text.replace(APOSTROPHE, "");
    terminal::raw(&format!("{APOSTROPHE}{}", text.trim_end()));
    Ok(())
}

/// Defines a string that `roff` uses for apostrophes.
const APOSTROPHE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// Every command without subcommands.
fn leaves(command: &Command) -> Vec<&Command> {
    let below = command
        .get_subcommands()
        .filter(|below| below.get_name() != "help");
    let (mut found, mut is_leaf) = (Vec::new(), true);
    for below in below {
        found.extend(leaves(below));
        is_leaf = false;
    }
    match is_leaf {
        true => vec![command],
        false => found,
    }
}

/// A command as a section of the page; its own sections become subsections.
fn section(command: &Command) -> Result<String> {
    let man = Man::new(command.clone());
    let mut part = Vec::new();
    man.render_description_section(&mut part)?;
    man.render_synopsis_section(&mut part)?;
    man.render_options_section(&mut part)?;
    man.render_extra_section(&mut part)?;
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let part = String::from_utf8(part)?;
    Ok(format!(
        ".SH \"{}\"\n{}",
        name.to_uppercase(),
        part.replace(".SH ", ".SS ")
    ))
}
