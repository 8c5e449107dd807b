//! Progress bars for anything that takes more than a second, if stderr is a terminal.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::json_output;
use crate::progress::{Progress, ProgressUnit, Reporter};

pub(crate) struct TerminalProgress {
    all: MultiProgress,
    started: Instant,
    on: bool,
}

impl Default for TerminalProgress {
    fn default() -> Self {
        let on = std::io::stderr().is_terminal() && !super::setting_bit(super::QUIET);
        let all = MultiProgress::with_draw_target(if on {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        });
        TerminalProgress {
            all,
            started: Instant::now(),
            on,
        }
    }
}

/// Jobs that take less time show no bar.
const PATIENCE: Duration = Duration::from_secs(1);

impl Reporter for TerminalProgress {
    fn start_counted(&self, name: &str, unit: ProgressUnit) -> Box<dyn Progress> {
        Box::new(CountedBar {
            all: self.all.clone(),
            name: crate::text::escape_text(name),
            unit,
            bar: Mutex::new(None),
            detail: Mutex::default(),
            told: Mutex::default(),
            started: self.started,
            on: self.on,
        })
    }

    fn step_done(&self, address: &str) {
        json_output::event(&serde_json::json!({ "event": "step", "address": address }));
    }

    fn print_line(&self, line: &str) {
        json_output::event(&serde_json::json!({ "event": "line", "text": line }));
        self.all
            .suspend(|| super::print_note(&crate::text::escape_text(line)));
    }
}

/// Returns whether a bar beside its numbers would not fit into one line.
fn is_narrow() -> bool {
    let size = terminal_size::terminal_size_of(std::io::stderr());
    size.is_some_and(|(width, _)| width.0 < 80)
}

struct CountedBar {
    all: MultiProgress,
    name: String,
    unit: ProgressUnit,
    bar: Mutex<Option<ProgressBar>>,
    detail: Mutex<String>,
    /// When a program was last told.
    told: Mutex<Option<Instant>>,
    started: Instant,
    on: bool,
}

impl CountedBar {
    /// Tells a program, once a second and at the end.
    fn tell_program(&self, position: u64, total: u64) {
        let Ok(mut told) = self.told.lock() else {
            return;
        };
        if position < total && told.is_some_and(|t| t.elapsed() < PATIENCE) {
            return;
        }
        *told = Some(Instant::now());
        let unit = match self.unit {
            ProgressUnit::Steps => "steps",
            ProgressUnit::Bytes => "bytes",
        };
        json_output::event(&serde_json::json!({
            "event": "progress",
            "job": self.name,
            "position": position,
            "total": total,
            "unit": unit,
        }));
    }
}

impl Progress for CountedBar {
    fn set_position(&self, position: u64, total: u64) {
        if json_output::streams() {
            self.tell_program(position, total);
        }
        if !self.on || self.started.elapsed() < PATIENCE {
            return;
        }
        let Ok(mut bar) = self.bar.lock() else { return };
        let bar = bar.get_or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new(total));
            let template = match (self.unit, is_narrow()) {
                (ProgressUnit::Steps, false) => "  {prefix:24} {wide_bar} {percent:>3}%  {msg:.24}",
                (ProgressUnit::Steps, true) => "  {prefix:.24} {percent:>3}%",
                (ProgressUnit::Bytes, false) => {
                    "  {prefix:24} {wide_bar} {binary_bytes}/{binary_total_bytes} \
                    {binary_bytes_per_sec} {eta}  {msg:.24}"
                }
                (ProgressUnit::Bytes, true) => {
                    "  {prefix:.12} {binary_bytes} {binary_bytes_per_sec}"
                }
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_prefix(self.name.clone());
            // What was there before is no speed.
            bar.set_position(position);
            bar.reset_eta();
            bar
        });
        if let Ok(detail) = self.detail.lock()
            && bar.message() != *detail
        {
            bar.set_message(detail.clone());
        }
        bar.set_length(total);
        bar.set_position(position);
        if position >= total {
            bar.finish_and_clear();
        }
    }

    fn set_detail(&self, detail: &str) {
        if let Ok(mut d) = self.detail.lock() {
            *d = crate::text::escape_text(detail);
        }
    }
}

impl Drop for CountedBar {
    fn drop(&mut self) {
        if let Ok(Some(bar)) = self.bar.lock().map(|mut b| b.take()) {
            bar.finish_and_clear();
        }
    }
}
