//! `meshc observe`: decisions as they happen, and the last ones.

mod filter;
mod lines;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mesh_runtime::{Decided, Filter, Observer, ObserverEvent, Recalled, Runtime, State, VerdictFilter};
use serde_json::{Value, json};

use crate::args::{Observe, Verdict};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::{failure, open};
use crate::output::Output;
use crate::render::decision::{self, Layout, Row};
use crate::render::time::{self, Zone};
use crate::render::traffic::Traffic;
use crate::sidecars::Heard;
use lines::Lines;

/// Between two looks of a terminal at who talks to whom.
const REFRESH: Duration = Duration::from_secs(1);
/// Longer than anybody waits.
const EVER: Duration = Duration::from_secs(1 << 32);

/// Prints decisions: those that are kept, those that happen, or one after the other.
pub fn run(output: &Output, args: &Observe) -> Result<Exit, Failure> {
    let runtime = open(&args.instance)?;
    let mut filter = wanted(args)?;
    if filter.nodes.is_some() {
        filter.nodes = Some(runtime.own_addresses().map_err(failure)?);
    }
    if args.since.is_some() && !args.follow && args.for_time.is_some() {
        return Err(Failure::usage(
            "`--for` says how long to wait for what happens, and `--since` shows the past",
        )
        .help("with `--follow`, it goes on with what happens"));
    }
    let mut show = Show::new(output, &runtime, args);
    if let (Some(since), false) = (args.since, args.follow) {
        let recalled = runtime.recall(&filter, since).map_err(failure)?;
        output.info(&format!("times are {}", show.zone.name(now())));
        if recalled.decisions.is_empty() {
            output.info("nothing like that was decided in that time");
        }
        show.past(recalled);
        show.end();
        return Ok(Exit::Done);
    }
    let mut observer = runtime.observe(filter, args.buffer).map_err(failure)?;
    let recalled = args.since.map(|since| observer.recall(since)).transpose().map_err(failure)?;
    introduce(output, &runtime, &observer, &show.zone)?;
    if let Some(recalled) = recalled {
        show.past(recalled);
    }
    show.live(&mut observer, args.for_time)?;
    show.end();
    Ok(Exit::Done)
}

/// What is to be known before the first decision.
fn introduce(
    output: &Output,
    runtime: &Runtime,
    observer: &Observer<'_>,
    zone: &Zone,
) -> Result<(), Failure> {
    if !observer.knows_workload() {
        output.warn("the live policy has no workload of that name; its decisions are shown once one has");
    }
    let head = runtime.head().map_err(failure)?;
    if head.state == State::Paused {
        output.warn(&format!(
            "generation {} is paused: connections go straight, and nothing is decided until `meshc resume`",
            head.generation
        ));
    }
    output.info(&format!("observing, times are {}; Ctrl-C ends it", zone.name(now())));
    Ok(())
}

/// Microseconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// How decisions are shown, and what of them is left to be shown.
struct Show<'a> {
    output: &'a Output,
    runtime: &'a Runtime,
    zone: Zone,
    layout: Layout,
    top: Option<Traffic>,
    lines: Lines,
    heard: Heard,
    left: u64,
    /// Whether the titles were shown.
    is_headed: bool,
    /// Nobody reads any more.
    is_alone: bool,
}

impl<'a> Show<'a> {
    fn new(output: &'a Output, runtime: &'a Runtime, args: &Observe) -> Self {
        let is_of_past = args.since.is_some();
        Self {
            output,
            runtime,
            zone: Zone::local(),
            layout: Layout::new(output, Zone::local(), is_of_past),
            top: args.top.then(Traffic::default),
            lines: Lines::default(),
            heard: Heard::default(),
            left: args.count.unwrap_or(u64::MAX),
            is_headed: false,
            is_alone: false,
        }
    }

    fn row(&mut self, decided: Box<Decided>, heard: Option<bool>) -> Row {
        let place = self.lines.place(self.runtime, &decided);
        Row { decided, place, heard }
    }

    /// What is kept: the last ones, if only some are wanted.
    fn past(&mut self, recalled: Recalled) {
        let Recalled { decisions, whole_since } = recalled;
        let skipped = decisions.len().saturating_sub(usize::try_from(self.left).unwrap_or(usize::MAX));
        if let Some(since) = whole_since.filter(|_| skipped == 0) {
            let older = "older decisions made room for later ones";
            let text = format!("all are kept since {}; {older}", self.zone.clock(since, true));
            self.missed(&json!({ "lost": null, "whole_since": time::micros(since) }), &text);
        }
        let rows: Vec<_> =
            decisions.into_iter().skip(skipped).map(|it| self.row(Box::new(it), None)).collect();
        // All are known, so that the first of them are aligned with the last.
        rows.iter().for_each(|row| self.layout.fit(row));
        for row in rows {
            self.show(row);
        }
    }

    /// What happens, until as many came as were asked for, the time is over, the reader goes away, or the process is
    /// asked to end.
    fn live(&mut self, observer: &mut Observer<'_>, time: Option<Duration>) -> Result<(), Failure> {
        let began = Instant::now();
        let mut refreshed = None;
        while self.left > 0 && !self.is_alone {
            let left = time.map_or(EVER, |time| time.saturating_sub(began.elapsed()));
            if left.is_zero() {
                break;
            }
            let mut patience = left;
            if let Some(top) = self.top.as_mut().filter(|_| !self.output.is_json()) {
                if refreshed.is_none_or(|last: Instant| last.elapsed() >= REFRESH) {
                    self.is_alone = !top.refresh(self.output);
                    refreshed = Some(Instant::now());
                }
                patience = patience.min(REFRESH);
            }
            match observer.wait(patience).map_err(failure)? {
                ObserverEvent::Decision(decided) => {
                    let heard = self.heard.of(self.runtime, &decided);
                    let row = self.row(decided, heard);
                    self.show(row);
                }
                ObserverEvent::Lost(lost) => self.lost(Some(lost)),
                ObserverEvent::Gap => self.lost(None),
                ObserverEvent::Silence => {}
                ObserverEvent::Ended => break,
            }
        }
        Ok(())
    }

    fn show(&mut self, row: Row) {
        self.left = self.left.saturating_sub(1);
        if let Some(top) = &mut self.top {
            return top.add(row);
        }
        let Self { output, layout, is_headed, .. } = self;
        let text = || {
            let mut text = output.painted();
            if !std::mem::replace(is_headed, true) {
                layout.head(&mut text, now());
            }
            layout.put(&mut text, &row);
            text
        };
        self.is_alone |= !output.stream(&decision::object(&row), text);
    }

    /// Decisions that were not read; none: nobody knows how many.
    fn lost(&mut self, lost: Option<u64>) {
        if let Some(top) = &mut self.top {
            return top.lose(lost);
        }
        let text = match lost {
            None => {
                "this process was stopped for too long; what was decided meanwhile is not shown".to_owned()
            }
            Some(lost) => format!(
                "{lost} {} not shown: the buffer was full (a narrower filter, or a larger `--buffer`, shows more)",
                if lost == 1 { "decision is" } else { "decisions are" }
            ),
        };
        self.missed(&json!({ "lost": lost }), &text);
    }

    /// What cannot be shown is said where it is missing: between the others for scripts, beside them for people.
    fn missed(&self, object: &Value, text: &str) {
        if self.output.is_json() && self.top.is_none() {
            self.output.json(object);
        } else {
            self.output.print_error(&format!("warning: {text}"));
        }
    }

    fn end(&mut self) {
        if let Some(top) = &mut self.top {
            top.end(self.output);
        }
    }
}

fn wanted(args: &Observe) -> Result<Filter, Failure> {
    let flow = args.filter.as_deref().map(filter::parse).transpose()?.unwrap_or_default();
    let verdict = |verdict: &Verdict| match verdict {
        Verdict::Redirected => VerdictFilter::Redirected,
        Verdict::Excluded => VerdictFilter::Excluded,
        Verdict::Denied => VerdictFilter::Denied,
        Verdict::Exempt => VerdictFilter::Exempt,
    };
    Ok(Filter {
        verdicts: args.verdicts.iter().map(verdict).collect(),
        member: args.member.clone(),
        uid: args.uid,
        rule: args.rule.clone(),
        ..flow
    })
}
