//! Shows a run as it goes: bars where a person watches, plain lines where a file does, JSON lines for programs.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use linkspan_app::run::{Counter, Tally, rate};
use linkspan_core::StreamName;
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle};

use crate::terminal::{Terminal, grouped, megabytes};

/// More bars than this only flicker; the summary names every stream anyway.
const MOST_BARS: usize = 16;
const TICKS: u64 = 1_000;

/// A shower of progress; `finish` takes it off the screen.
pub struct Progress {
    done: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Progress {
    /// Starts to show the tally in the way that fits where the words go.
    pub fn start(tally: Arc<Tally>, terminal: Arc<Terminal>) -> Self {
        let (done, listen) = watch::channel(false);
        let mut show = Show::new(tally, terminal);
        let task = tokio::spawn(async move {
            let mut listen = listen;
            loop {
                tokio::select! {
                    _ = listen.wait_for(|done| *done) => break,
                    () = tokio::time::sleep(show.every()) => show.tick(),
                }
            }
            show.end();
        });
        Self { done, task }
    }
    pub async fn finish(self) {
        self.done.send_replace(true);
        let _ = self.task.await;
    }
}

struct Show {
    tally: Arc<Tally>,
    terminal: Arc<Terminal>,
    since: Instant,
    way: Way,
}

enum Way {
    Bars(Bars),
    /// Rows at the last line, by stream, so that a quiet stream says nothing.
    Lines(BTreeMap<StreamName, u64>),
    Events(BTreeMap<StreamName, u64>),
    Quiet,
}

impl Show {
    fn new(tally: Arc<Tally>, terminal: Arc<Terminal>) -> Self {
        let way = match () {
            () if terminal.stdout_is_taken() => Way::Quiet,
            () if terminal.json() => Way::Events(BTreeMap::new()),
            () if terminal.person_watches() => Way::Bars(Bars::new()),
            () => Way::Lines(BTreeMap::new()),
        };
        Self { tally, terminal, since: Instant::now(), way }
    }
    fn every(&self) -> Duration {
        match self.way {
            Way::Bars(_) => Duration::from_millis(120),
            Way::Events(_) => Duration::from_secs(1),
            Way::Lines(_) | Way::Quiet => Duration::from_secs(3),
        }
    }
    fn tick(&mut self) {
        self.notes();
        let streams = self.tally.streams();
        let elapsed = self.since.elapsed();
        match &mut self.way {
            Way::Bars(bars) => bars.draw(&streams, elapsed),
            Way::Lines(last) => {
                for (name, counter) in moved(&streams, last) {
                    self.terminal.err(&format!("{name}: {}", words(counter, elapsed)));
                }
            }
            Way::Events(last) => {
                for (name, counter) in moved(&streams, last) {
                    self.terminal.json_line(&event(name, counter, elapsed));
                }
            }
            Way::Quiet => {}
        }
    }
    fn notes(&mut self) {
        for note in self.tally.take_notes() {
            match &self.way {
                Way::Bars(bars) => bars.all.suspend(|| self.terminal.err(&note)),
                Way::Lines(_) => self.terminal.err(&note),
                Way::Events(_) => self.terminal.json_line(&json!({ "event": "note", "text": note })),
                Way::Quiet => {}
            }
        }
    }
    fn end(&mut self) {
        self.notes();
        if let Way::Bars(bars) = &mut self.way {
            let _ = bars.all.clear();
        }
    }
}

/// The streams whose rows have moved since the last look.
fn moved<'a>(streams: &'a [(StreamName, Arc<Counter>)], last: &mut BTreeMap<StreamName, u64>) -> Vec<(&'a StreamName, &'a Counter)> {
    let mut out = Vec::new();
    for (name, counter) in streams {
        let rows = counter.rows.load(Relaxed);
        if last.insert(name.clone(), rows) != Some(rows) && rows > 0 {
            out.push((name, counter.as_ref()));
        }
    }
    out
}

fn event(name: &StreamName, c: &Counter, elapsed: Duration) -> serde_json::Value {
    json!({
        "event": "progress", "stream": name.to_string(), "rows_read": c.rows.load(Relaxed), "bytes_read": c.bytes.load(Relaxed),
        "written": c.written.load(Relaxed), "share": c.share(), "seconds": (elapsed.as_secs_f64() * 10.0).round() / 10.0,
    })
}

/// `1,200,000 rows  34.5 MB  400,000 rows/s  45 %  ETA 12 s`.
fn words(c: &Counter, elapsed: Duration) -> String {
    let rows = c.rows.load(Relaxed);
    let elapsed = c.elapsed().unwrap_or(elapsed);
    let rate = rate(rows, elapsed);
    let mut text = format!("{} rows  {} MB  {} rows/s", grouped(rows), megabytes(c.bytes.load(Relaxed)), grouped(rate));
    if let Some(share) = c.share().filter(|s| *s > 0.0 && *s < 1.0) {
        let left = elapsed.as_secs_f64() * (1.0 - share) / share;
        text.push_str(&format!("  {:.0} %  ETA {}", share * 100.0, span(left)));
    } else if rows > c.settled() && !c.ended.load(Relaxed) {
        text.push_str("  committing");
    }
    text
}

fn span(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

/// One moving bar per stream.
struct Bars {
    all: MultiProgress,
    bars: BTreeMap<StreamName, ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        Self { all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)), bars: BTreeMap::new() }
    }
    fn draw(&mut self, streams: &[(StreamName, Arc<Counter>)], elapsed: Duration) {
        let width = streams.iter().map(|(n, _)| n.to_string().chars().count()).max().unwrap_or(0);
        for (name, counter) in streams {
            if !self.bars.contains_key(name) {
                if self.bars.len() >= MOST_BARS || counter.ended.load(Relaxed) {
                    continue;
                }
                self.bars.insert(name.clone(), self.all.add(ProgressBar::new(TICKS)));
            }
            let Some(bar) = self.bars.get(name).filter(|b| !b.is_finished()) else { continue };
            self.update(bar, &format!("{:width$}", name.to_string()), counter, elapsed);
        }
    }
    fn update(&self, bar: &ProgressBar, prefix: &str, counter: &Counter, elapsed: Duration) {
        let share = counter.share();
        bar.set_style(style(share.is_some()));
        bar.set_prefix(prefix.to_owned());
        bar.set_position((share.unwrap_or(0.0) * TICKS as f64) as u64);
        bar.set_message(words(counter, elapsed));
        if counter.ended.load(Relaxed) {
            bar.set_position(TICKS);
            bar.finish();
        } else {
            bar.tick();
        }
    }
}

fn style(sized: bool) -> ProgressStyle {
    let template = if sized { "{prefix} {bar:24.cyan/dim} {wide_msg}" } else { "{prefix} {spinner:.cyan} {wide_msg}" };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_say_rows_size_rate_and_what_is_left() {
        let counter = Counter::default();
        counter.rows.store(500_000, Relaxed);
        counter.bytes.store(10_000_000, Relaxed);
        counter.expected_rows.store(1_000_000, Relaxed);
        let text = words(&counter, Duration::from_secs(2));
        assert_eq!(text, "500,000 rows  10.0 MB  250,000 rows/s  50 %  ETA 2 s");
        assert_eq!((span(61.2), span(7300.0)), ("1 min 1 s".into(), "2 h 1 min".into()));
    }

    #[test]
    fn a_stream_that_rests_says_nothing() {
        let tally = Tally::default();
        let s = StreamName::new(None, "s");
        let mut last = BTreeMap::new();
        tally.read(&s, 1, 1);
        assert_eq!(moved(&tally.streams(), &mut last).len(), 1);
        assert_eq!(moved(&tally.streams(), &mut last).len(), 0);
    }
}
