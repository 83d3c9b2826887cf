//! `completions`: commands and options for the completion of a shell.

use clap::{Args, ValueEnum};
use clap_complete::{Shell as Generator, generate};

use super::common::print;
use crate::error::{Context, Result};

/// Print completions of commands and options for a shell
#[derive(Args)]
#[command(after_help = "\
  bash: posttrain completions bash > ~/.local/share/bash-completion/completions/posttrain
  zsh:  posttrain completions zsh > FOLDER/_posttrain, where FOLDER is in $fpath
  fish: posttrain completions fish > ~/.config/fish/completions/posttrain.fish")]
pub struct Arguments {
    /// The shell
    shell: Shell,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shell {
    /// Bash
    Bash,
    /// Z shell
    Zsh,
    /// Fish
    Fish,
}

/// Prints them.
pub fn main(arguments: &Arguments, command: &mut clap::Command) -> Result<()> {
    let generator = match arguments.shell {
        Shell::Bash => Generator::Bash,
        Shell::Zsh => Generator::Zsh,
        Shell::Fish => Generator::Fish,
    };
    let name = command.get_name().to_owned();
    let mut text = Vec::new();
    generate(generator, command, name, &mut text);
    print(&String::from_utf8(text).context("completions are text")?)
}
