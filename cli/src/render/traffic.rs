//! Who talks to whom: equal decisions are one row, with their count.

use std::collections::BTreeMap;

use mesh_bpf::flow::{Direction, Protocol, Verdict};
use serde_json::{Value, json};

use super::counted;
use super::decision::{self, Row};
use super::table::{Cell, Columns, cut, width};
use super::time;
use crate::output::{Output, Painted};
use crate::tint::Color;

/// Rows that are kept apart. A member that dials port after port makes no more of them.
const ROWS: usize = 4096;
/// No name makes a column of all rows wider.
const BOUND: usize = 48;
/// So wide a rule is beside the flow at least; where there is less room it is below it.
const RULE: usize = 24;
/// Lines beside the rows: what is above and below them, and where the cursor is.
const FRAME: usize = 4;

/// What decisions of one row have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    direction: Direction,
    protocol: Protocol,
    /// Who the member is, and who or what the other end.
    member: String,
    peer: String,
    port: u16,
    verdict: (&'static str, Option<u16>),
    reason: String,
}

/// One row.
#[derive(Debug)]
struct Sum {
    count: u64,
    first: u64,
    last: Row,
}

/// All rows.
#[derive(Debug, Default)]
pub struct Traffic {
    rows: BTreeMap<Key, Sum>,
    /// Decisions, those of no row included.
    decisions: u64,
    /// Of no row, since there were too many.
    others: u64,
    /// Not read.
    lost: u64,
    /// What was lost could not be counted.
    gap: bool,
    /// Lines on the terminal that the next ones take the place of.
    shown: usize,
}

impl Traffic {
    /// One more decision.
    pub fn add(&mut self, row: Row) {
        let decided = &row.decided;
        let key = Key {
            direction: decided.direction,
            protocol: decided.protocol,
            member: decision::who(decided),
            peer: peer(&row),
            port: decided.destination.1,
            verdict: (decided.verdict.word(), decided.verdict.port()),
            reason: decision::reason(decided, row.place.as_ref()),
        };
        let times = decided.times;
        self.decisions += times;
        if let Some(sum) = self.rows.get_mut(&key) {
            sum.count += times;
            sum.last = row;
        } else if self.rows.len() < ROWS {
            self.rows.insert(key, Sum { count: times, first: row.decided.time, last: row });
        } else {
            self.others += times;
        }
    }

    /// Decisions that were not read; none: nobody knows how many.
    pub fn lose(&mut self, lost: Option<u64>) {
        self.lost += lost.unwrap_or_default();
        self.gap |= lost.is_none();
    }

    /// The most frequent first.
    fn sorted(&self) -> Vec<(&Key, &Sum)> {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.count));
        rows
    }

    /// Shows on a terminal what there is so far, in the place of what was shown before; whether somebody still reads it.
    pub fn refresh(&mut self, output: &Output) -> bool {
        let Some((columns, lines)) = output.screen() else { return true };
        let text = self.text(output, Some(columns), lines.saturating_sub(FRAME).max(1));
        let before = std::mem::replace(&mut self.shown, text.lines());
        output.put_in_place(before, &text)
    }

    /// Shows all there is, once and for all.
    pub fn end(&mut self, output: &Output) {
        if self.shown > 0 {
            output.put_in_place(std::mem::take(&mut self.shown), &output.painted());
        }
        let columns = output.screen().map(|(columns, _)| columns);
        output.stream(&self.object(), || self.text(output, columns, usize::MAX));
    }

    fn text(&self, output: &Output, wide: Option<usize>, most: usize) -> Painted {
        let titles =
            ["COUNT", "VERDICT", "DIR", "FROM", "TO"].map(|title| Cell::new(title).colored(Color::Bold));
        let rows = self.sorted();
        let all: Vec<_> = rows.iter().map(|(key, sum)| cells(key, sum)).collect();
        let mut columns = Columns::new(&["COUNT".len(), "redirected".len()], BOUND);
        columns.fit(&titles);
        all.iter().take(most).for_each(|row| columns.fit(row));
        let left = wide.map_or(usize::MAX, |wide| wide.saturating_sub(columns.total() + 2));
        let below = left < RULE;
        // Where not even the ends are beside each other, the other one is below, too.
        let beside =
            if wide.is_some_and(|wide| columns.total() > wide) { titles.len() - 1 } else { titles.len() };
        let most = if below { most / 2 } else { most };
        let mut out = output.painted();
        columns.put(&mut out, titles.get(..beside).unwrap_or_default());
        if !below {
            out.push("  ");
            out.paint(Some(Color::Bold), "RULE");
        }
        out.end_line();
        for (row, (key, _)) in all.iter().zip(&rows).take(most) {
            columns.put(&mut out, row.get(..beside).unwrap_or_default());
            let left = if below {
                out.end_line();
                out.push(&" ".repeat(columns.indent()));
                let left = wide.map_or(usize::MAX, |wide| wide.saturating_sub(columns.indent()));
                let other = row.get(beside).map(|to| format!("to {}  ", to.text())).unwrap_or_default();
                let other = cut(&other, left);
                out.push(&other);
                left.saturating_sub(width(&other))
            } else {
                out.push("  ");
                left
            };
            out.paint(Some(Color::Dim), &cut(&key.reason, left));
            out.end_line();
        }
        out.push(&self.sum(rows.len(), most.min(rows.len())));
        out.end_line();
        out
    }

    /// What stands below the rows.
    fn sum(&self, rows: usize, shown: usize) -> String {
        let mut sum = counted(self.decisions, "decision");
        if shown < rows {
            sum += &format!(", {} of {rows} rows", shown);
        }
        if self.others > 0 {
            sum += &format!(", {} of them of further rows", self.others);
        }
        if self.lost > 0 {
            sum += &format!("; {} more did not fit the buffer", self.lost);
        }
        if self.gap {
            sum += "; some more are not known: this process was stopped for too long";
        }
        sum
    }

    fn object(&self) -> Value {
        let row = |(key, sum): (&Key, &Sum)| {
            let decided = &sum.last.decided;
            let (mesh, workload) = decision::names(decided.workload.as_deref());
            let address = match decided.direction {
                Direction::Outbound => decided.destination.0,
                Direction::Inbound => decided.source.0,
            };
            json!({
                "count": sum.count, "first": time::micros(sum.first), "last": time::micros(decided.time),
                "workload": workload, "mesh": mesh, "member": decided.member,
                "direction": key.direction.to_string(), "protocol": key.protocol.to_string(),
                "peer": decided.peer.as_ref().map(decision::peer_object),
                "address": address.map(|address| address.to_string()), "destination_port": key.port,
                "verdict": decided.verdict.word(), "port": decided.verdict.port(),
                "rule": decision::rule(&decided.reason, sum.last.place.as_ref()),
                "generation": decided.generation,
            })
        };
        json!({
            "decisions": self.decisions, "others": self.others,
            "lost": (!self.gap).then_some(self.lost),
            "rows": self.sorted().into_iter().map(row).collect::<Vec<_>>(),
        })
    }
}

/// The other end by its name, or else by its address.
fn peer(row: &Row) -> String {
    let decided = &row.decided;
    if let Some(peer) = &decided.peer {
        return decision::peer(peer);
    }
    let address = match decided.direction {
        Direction::Outbound => decided.destination.0,
        Direction::Inbound => decided.source.0,
    };
    address.map_or_else(|| "?".to_owned(), |address| address.to_string())
}

fn cells(key: &Key, sum: &Sum) -> [Cell<'static>; 5] {
    let verdict = sum.last.decided.verdict;
    let (from, to) = match key.direction {
        Direction::Outbound => (&key.member, &key.peer),
        Direction::Inbound => (&key.peer, &key.member),
    };
    // An address of IPv6 has colons of its own.
    let to = if to.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{to}]") } else { to.clone() };
    let sidecar = match verdict {
        Verdict::Redirected { port, .. } => format!(" by {port}"),
        Verdict::Denied | Verdict::Excluded => String::new(),
    };
    [
        Cell::new(sum.count.to_string()).right(),
        decision::verdict(verdict),
        Cell::new(match key.direction {
            Direction::Outbound => "out",
            Direction::Inbound => "in",
        }),
        Cell::new(from.clone()),
        Cell::new(format!("{to}:{} {}{sidecar}", key.port, key.protocol)),
    ]
}
