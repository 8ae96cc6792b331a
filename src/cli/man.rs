//! The manual: one page, with a subsection for each command.

use clap::{Command, CommandFactory};

use super::args::Cli;
use super::{printed, say};
use crate::cli::exit::Exit;

/// Options of every command, described once at the top.
const COMMON: [&str; 2] = ["help", "log_level"];

pub(super) fn run() -> Exit {
    let mut command = Cli::command();
    command.build();
    match page(&command) {
        Ok(page) => printed(&page),
        Err(error) => {
            say::failure("error:", error);
            Exit::NoAnswer
        }
    }
}

/// The completion script for a shell.
pub(super) fn completions(shell: clap_complete::Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tensorseal", &mut script);
    printed(&String::from_utf8_lossy(&script))
}

fn page(command: &Command) -> std::io::Result<String> {
    let mut name = Vec::new();
    clap_mangen::Man::new(command.clone()).render_name_section(&mut name)?;
    // No date: it would be that of the build at best.
    let mut page =
        concat!(".TH TENSORSEAL 1 \"\" \"tensorseal ", env!("CARGO_PKG_VERSION"), "\" \"Tensorseal manual\"\n")
            .to_owned();
    page += &String::from_utf8_lossy(&name);
    page += ".SH SYNOPSIS\n.nf\n";
    for (name, leaf) in leaves(command, "tensorseal") {
        page += &format!("\\fB{name}\\fR{}\n", escaped(&arguments(leaf)));
    }
    page += ".fi\n.SH DESCRIPTION\n";
    page += "Tensorseal signs machine\\-learning models and verifies them. A signature is a bundle of OpenSSF Model \
             Signing (OMS v1.0), which any verifier of that format reads. Options may be written with underscores for \
             hyphens, as in Python's \\fBmodel_signing\\fR.\n.SH OPTIONS\n";
    page += &options(command)?;
    page += ".SH COMMANDS\n";
    for (name, leaf) in leaves(command, "tensorseal") {
        page += &format!(".SS {name}\n{}.\n", escaped(&leaf.get_about().unwrap_or_default().to_string()));
        let leaf = COMMON.into_iter().fold(leaf.clone(), |leaf, id| leaf.mut_arg(id, |arg| arg.hide(true)));
        page += &options(&leaf)?;
        page += &literal(leaf.get_after_help());
    }
    let tail = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (codes, example) = tail.split_once("\n\n").unwrap_or((&tail, ""));
    for (heading, text) in [("EXIT STATUS", codes), ("EXAMPLE", example)] {
        let text = text.split_once('\n').map_or("", |(_, lines)| lines);
        page += &format!(".SH \"{heading}\"\n.nf\n{}\n.fi\n", escaped(text));
    }
    Ok(page)
}

/// The list of options, with the headings of `--help` as paragraphs.
fn options(command: &Command) -> std::io::Result<String> {
    let mut section = Vec::new();
    clap_mangen::Man::new(command.clone()).render_options_section(&mut section)?;
    let mut text = String::new();
    for line in String::from_utf8_lossy(&section).lines() {
        match line.strip_prefix(".SH ") {
            Some("OPTIONS") => {}
            Some(heading) => {
                // clap_mangen writes headings in capitals, which in this page are for its own sections.
                let heading = heading.trim_matches('"');
                let (first, rest) = heading.split_at_checked(1).unwrap_or((heading, ""));
                text += &format!(".PP\n\\fI{first}{}:\\fR\n", rest.to_lowercase());
            }
            None => text += &format!("{line}\n"),
        }
    }
    Ok(text)
}

/// Commands that do something, with the words that call them.
fn leaves<'c>(command: &'c Command, name: &str) -> Vec<(String, &'c Command)> {
    let subs = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    let all: Vec<_> = subs.flat_map(|sub| leaves(sub, &format!("{name} {}", sub.get_name()))).collect();
    if all.is_empty() { vec![(name.to_owned(), command)] } else { all }
}

/// What must follow a command: its positional arguments and its required options.
fn arguments(command: &Command) -> String {
    let optional =
        command.get_arguments().any(|arg| !arg.is_required_set() && !COMMON.contains(&arg.get_id().as_str()));
    let mut text = String::from(if optional { " [OPTIONS]" } else { "" });
    let (positional, named): (Vec<_>, Vec<_>) =
        command.get_arguments().filter(|arg| arg.is_required_set()).partition(|arg| arg.is_positional());
    for arg in named.into_iter().chain(positional) {
        text += &format!(" {arg}");
    }
    text
}

fn literal(help: Option<&clap::builder::StyledStr>) -> String {
    help.map_or_else(String::new, |help| format!(".PP\n.nf\n{}\n.fi\n", escaped(&help.to_string())))
}

/// Text that roff shows as it is.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let guarded =
        text.lines().map(|line| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() });
    guarded.collect::<Vec<_>>().join("\n")
}
