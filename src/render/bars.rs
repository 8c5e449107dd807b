//! Progress bars, for anything that takes over a second, where stderr is a terminal.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::progress::{Progress, Reporter, Unit};

pub struct Bars {
    all: MultiProgress,
    started: Instant,
    on: bool,
}

impl Default for Bars {
    fn default() -> Self {
        let on = std::io::stderr().is_terminal() && !super::setting(super::QUIET);
        let all = MultiProgress::with_draw_target(if on {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        });
        Bars {
            all,
            started: Instant::now(),
            on,
        }
    }
}

/// Shorter jobs show nothing.
const PATIENCE: Duration = Duration::from_secs(1);

impl Reporter for Bars {
    fn work(&self, name: &str, unit: Unit) -> Box<dyn Progress> {
        Box::new(Bar {
            all: self.all.clone(),
            name: crate::text::escape(name),
            unit,
            bar: Mutex::new(None),
            started: self.started,
            on: self.on,
        })
    }

    fn say(&self, line: &str) {
        self.all.suspend(|| super::note(&crate::text::escape(line)));
    }
}

struct Bar {
    all: MultiProgress,
    name: String,
    unit: Unit,
    bar: Mutex<Option<ProgressBar>>,
    started: Instant,
    on: bool,
}

impl Progress for Bar {
    fn at(&self, position: u64, total: u64) {
        if !self.on || self.started.elapsed() < PATIENCE {
            return;
        }
        let Ok(mut bar) = self.bar.lock() else { return };
        let bar = bar.get_or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new(total));
            let template = match self.unit {
                Unit::Steps => "  {msg:24} {wide_bar} {percent:>3}%",
                Unit::Bytes => {
                    "  {msg:24} {wide_bar} {binary_bytes}/{binary_total_bytes} \
                    {binary_bytes_per_sec} {eta}"
                }
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(self.name.clone());
            bar
        });
        bar.set_length(total);
        bar.set_position(position);
        if position >= total {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Ok(Some(bar)) = self.bar.lock().map(|mut b| b.take()) {
            bar.finish_and_clear();
        }
    }
}
