//! What is being measured, in one line, while a terminal is there to see it.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tensorseal::bench::Event;

use crate::cli::say;

/// A line that is written anew for each measurement, and gone at the end. Nothing ticks in between: that would be measured, too.
pub(super) struct Shown {
    bar: Option<ProgressBar>,
    done: usize,
}

impl Shown {
    pub(super) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
        });
        Self { bar, done: 0 }
    }

    pub(super) fn tell(&mut self, event: &Event<'_>) {
        let now = match event {
            Event::Begun { what, name } => format!("measuring {what}: {}", say::name(name)),
            Event::Running { program, task } => format!("beside {}: {}", say::name(program), say::name(task)),
            Event::Line(_) | Event::Beside(_) => {
                self.done += 1;
                return;
            }
            _ => return,
        };
        if let Some(bar) = &self.bar {
            bar.set_message(format!("[{} done] {now}", self.done));
            bar.tick();
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
