//! `mrcnn-cli completions`.

use crate::terminal;
use anyhow::Result;
use clap::{Args, Command};
use clap_complete::{Shell, generate};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// The shell that reads the script
    #[arg(value_enum)]
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  mrcnn-cli completions bash > ~/.local/share/bash-completion/completions/mrcnn-cli
  mrcnn-cli completions zsh > ~/.zfunc/_mrcnn-cli    # with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc
  mrcnn-cli completions fish > ~/.config/fish/completions/mrcnn-cli.fish
  mrcnn-cli completions powershell >> $PROFILE";

/// Prints the script that completes `program`.
pub fn run(args: &CompletionsArgs, mut program: Command) -> Result<()> {
    let (mut script, name) = (Vec::new(), program.get_name().to_string());
    generate(args.shell, &mut program, &name, &mut script);
    let script = String::from_utf8(script)?;
    // For a program with a dash in its name, the bash script of clap_complete 4.6.11 uses two different names, so that
    // no command is recognized.
    let [wrong, right] = ["__subcmd__", "__"].map(|separator| name.replace('-', separator));
    terminal::raw(script.replace(&wrong, &right).trim_end());
    Ok(())
}
