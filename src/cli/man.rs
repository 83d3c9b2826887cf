//! `man`: the manual page of the program, or of one of its commands.

use clap::{Args, Command};
use clap_mangen::Man;

use super::common::print;
use crate::error::{Context, Result, user};
use crate::pipeline::names::complete;

/// Print the manual page of the program, or of a command (`posttrain man run | man -l -`)
#[derive(Args)]
pub struct Arguments {
    /// A command
    command: Option<String>,
}

/// Prints it.
pub fn main(arguments: &Arguments, mut program: Command) -> Result<()> {
    program.build();
    let page = match &arguments.command {
        None => program,
        Some(word) => {
            let names: Vec<&str> = program
                .get_subcommands()
                .filter(|own| !own.is_hide_set())
                .map(Command::get_name)
                .collect();
            let Some(name) = complete(word, names.iter().copied(), "commands")? else {
                return Err(user(format!("there is no command `{word}`"))
                    .hint(format!("commands: {}", names.join(", ")))
                    .into());
            };
            program.find_subcommand(name).context("the command was just listed")?.clone()
        }
    };
    let mut text = Vec::new();
    Man::new(page).render(&mut text).context("the manual page cannot be written")?;
    print(&String::from_utf8(text).context("a manual page is text")?)
}
