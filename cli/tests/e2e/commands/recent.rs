//! The last decisions are told to whoever comes later, and who talks to whom.

use std::net::SocketAddr;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Failure, Process, Tested, until};
use serde_json::{Value, json};

use crate::fixtures::command::Answer;
use crate::fixtures::observer::{Observer, parts};
use crate::fixtures::seen::Seen;
use crate::fixtures::stage::{Stage, as_member};

const RULES: &str = "redirect outbound -> 15001
deny outbound tcp 25
deny outbound udp 25
exclude outbound tcp 3306";

const PATIENCE: Duration = Duration::from_secs(10);

/// What `observe --since` tells of the last minutes.
fn recalled(stage: &Stage, arguments: &[&str]) -> Result<Vec<Value>, Failure> {
    let arguments: Vec<_> = ["--since", "5m"].iter().chain(arguments).collect();
    let answer = Answer::of(stage.meshc().args(["--format", "json", "observe"]).args(arguments))?.done()?;
    Ok(answer.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn text(stage: &Stage, arguments: &[&str]) -> Result<Answer, Failure> {
    Answer::of(stage.meshc().env_remove("NO_COLOR").args(arguments))?.done()
}

#[test]
fn the_last_decisions_are_told_though_nobody_looked() -> Tested {
    let stage = Stage::ruled(RULES)?;
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    assert_eq!(stage.dial("10.0.3.9:25")?, Seen::Denied);
    assert_eq!(stage.dial("[fd10::9]:3306")?, Seen::Straight);
    as_member(&stage.batch(), || drop(Client::to(([10, 0, 3, 9], 25).into()).dial()))?;
    let told = |arguments: &[&str]| -> Result<Value, Failure> {
        let all = recalled(&stage, arguments)?;
        Ok(all.iter().map(|line| json!(parts(line, &["workload", "destination", "verdict"]))).collect())
    };
    let [web, mail, data, batch] = [
        json!(["cart", "10.0.3.9:80", "redirected"]),
        json!(["cart", "10.0.3.9:25", "denied"]),
        json!(["cart", "[fd10::9]:3306", "excluded"]),
        json!(["batch", "10.0.3.9:25", "denied"]),
    ];
    assert_eq!(told(&[])?, json!([web, mail, data, batch]));
    assert_eq!(told(&["cart -> 10.0.0.0/8 tcp", "--verdict", "denied"])?, json!([mail]));
    assert_eq!(told(&["--member", "batch"])?, json!([batch]));
    assert_eq!(told(&["--rule", "exclude outbound"])?, json!([data]));
    assert_eq!(told(&["-n", "2"])?, json!([data, batch]), "the last ones, in their order");
    assert_eq!(told(&["--uid", "77"])?, json!([]));
    // As they were told when they happened.
    for line in recalled(&stage, &[])? {
        assert!(line["pid"].as_u64().is_some_and(|pid| pid > 0) && line["rule"]["line"].is_u64(), "{line}");
        assert_eq!((&line["times"], &line["generation"]), (&json!(1), &json!(1)));
    }
    std::thread::sleep(Duration::from_millis(1100));
    let answer = Answer::of(stage.meshc().args(["--format", "json", "observe", "--since", "1s"]))?.done()?;
    assert_eq!(answer.stdout, "", "{answer:#?}");
    Ok(())
}

#[test]
fn each_decision_is_cited_by_its_own_generation() -> Tested {
    let stage = Stage::ruled(RULES)?;
    stage.dial("10.0.3.9:25")?;
    // The same rule in another line, and another rule in its line.
    stage.apply_rules("redirect outbound -> 15001\nexclude outbound tcp 25\n\ndeny outbound tcp 80")?;
    stage.dial("10.0.3.9:25")?;
    stage.dial("10.0.3.9:80")?;
    stage.ask(&["rollback"])?;
    stage.dial("10.0.3.9:25")?;
    let lines = recalled(&stage, &[])?;
    let told: Vec<_> = lines
        .iter()
        .map(|line| json!([line["generation"], line["verdict"], line["rule"]["text"], line["rule"]["line"]]))
        .collect();
    let refused = |generation| json!([generation, "denied", "deny outbound tcp 25", 5]);
    assert_eq!(
        json!(told),
        json!([
            refused(1),
            [2, "excluded", "exclude outbound tcp 25", 5],
            [2, "denied", "deny outbound tcp 80", 7],
            refused(3),
        ])
    );
    Ok(())
}

/// Dials each of these, and one of them again and again.
fn dial_all(there: impl Iterator<Item = SocketAddr>) {
    there.for_each(|there| drop(Client::to(there).dial()));
}

#[test]
fn equal_decisions_take_one_place_and_a_kind_does_not_push_out_another() -> Tested {
    let stage = Stage::ruled(RULES)?;
    assert_eq!(stage.dial("10.0.3.9:3306")?, Seen::Straight);
    let again: SocketAddr = ([10, 0, 3, 9], 25).into();
    as_member(&stage.cart(), || dial_all(std::iter::repeat_n(again, 50)))?;
    let lines = recalled(&stage, &["--verdict", "denied"])?;
    let times = lines.iter().filter_map(|line| line["times"].as_u64()).collect::<Vec<_>>();
    assert_eq!(times.iter().sum::<u64>(), 50, "{times:?}");
    assert!(times.len() < 10, "{times:?}");
    assert_eq!(
        recalled(&stage, &[])?.len(),
        times.len() + 1,
        "nothing was forgotten, and nothing is said of it"
    );

    // More than there is room for, each to another address.
    let many = (0..5000u32).map(|n| SocketAddr::from(([198, 18, (n >> 8) as u8, n as u8], 25)));
    as_member(&stage.cart(), || dial_all(many))?;
    let lines = recalled(&stage, &[])?;
    let [since, straight, denied @ ..] = lines.as_slice() else { return Err("no lines".into()) };
    assert_eq!(since["lost"], Value::Null, "{since}");
    assert_eq!(straight["destination"], "10.0.3.9:3306");
    assert_eq!(denied.len(), 4096);
    assert_eq!(since["whole_since"], denied[0]["time"], "{since}");
    let last = denied.last().map(|line| &line["destination"]);
    assert_eq!(last, Some(&json!("198.18.19.135:25")));
    // Of what was not asked for nothing is said.
    assert_eq!(recalled(&stage, &["--verdict", "excluded"])?.len(), 1);
    let answer = text(&stage, &["observe", "--since", "5m", "--verdict", "denied"])?;
    assert!(answer.stderr.contains("older decisions made room"), "{}", answer.stderr);
    assert_eq!(answer.stdout.lines().count(), 4096 + 1);
    Ok(())
}

#[test]
fn with_follow_the_past_goes_over_into_what_happens() -> Tested {
    let stage = Stage::ruled(RULES)?;
    stage.dial("10.0.3.9:25")?;
    let following = Observer::start(&stage, "following", &["--since", "5m", "--follow", "-n", "3"])?;
    following.wait(1)?;
    stage.dial("10.0.3.9:80")?;
    stage.dial("10.0.3.9:25")?;
    let lines = following.wait(3)?;
    let told: Vec<_> = lines.iter().map(|line| line["destination"].clone()).collect();
    assert_eq!(json!(told), json!(["10.0.3.9:25", "10.0.3.9:80", "10.0.3.9:25"]));
    assert!(until(PATIENCE, || stage.ask(&["status"]).is_ok_and(|status| status["observers"] == 0)));
    let answer = Answer::of(stage.meshc().args(["observe", "--follow"]))?;
    assert_eq!(answer.code, 2, "{answer:?}");
    let answer = Answer::of(stage.meshc().args(["observe", "--since", "1m", "--for", "1s"]))?;
    assert!(answer.code == 2 && answer.stderr.contains("--follow"), "{answer:?}");
    Ok(())
}

#[test]
fn top_counts_who_talks_to_whom() -> Tested {
    let stage = Stage::ruled(RULES)?;
    let netns = stage.pair().server.path().display().to_string();
    stage.ask(&["attach", "--name", "far-1", "--netns", &netns, "--address", "10.0.3.9"])?;
    // It goes on until its time is over, and prints once.
    let log = stage.ground().dir().join("top.log");
    let live = Process::start(stage.meshc().args(["observe", "cart", "--top", "--for", "3s"]), &log)?;
    live.wait_until_it_says("observing")?;
    for _ in 0..3 {
        stage.dial("10.0.3.9:25")?;
    }
    stage.dial("10.0.3.9:80")?;
    stage.dial("[fd10::9]:3306")?;
    let answer =
        Answer::of(stage.meshc().args(["--format", "json", "observe", "cart", "--top", "--since", "5m"]))?;
    let top = answer.done()?.json()?;
    assert_eq!((&top["decisions"], &top["lost"], &top["others"]), (&json!(5), &json!(0), &json!(0)));
    let rows = top["rows"].as_array().ok_or("no rows")?;
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            let parts = parts(row, &["count", "workload", "address", "destination_port", "verdict", "port"]);
            json!([parts, row["peer"]["member"], row["rule"]["line"]])
        })
        .collect();
    assert_eq!(told[0], json!([[3, "cart", "10.0.3.9", 25, "denied", null], "far-1", 5]));
    assert!(
        told.contains(&json!([[1, "cart", "10.0.3.9", 80, "redirected", 15001], "far-1", 4])),
        "{told:#?}"
    );
    assert!(told.contains(&json!([[1, "cart", "fd10::9", 3306, "excluded", null], null, 7])), "{told:#?}");
    assert_eq!(told.len(), 3);

    assert!(until(PATIENCE, || live.output().is_ok_and(|output| output.contains("5 decisions"))));
    let output = live.output()?;
    let policy = stage.ground().dir().join("policy.mesh").display().to_string();
    let table: Vec<_> = output.lines().skip_while(|line| !line.starts_with("COUNT")).collect();
    let [titles, first, .., sum] = table.as_slice() else { return Err(output.into()) };
    for column in ["FROM", "TO", "RULE"] {
        let at = titles.find(column).ok_or("no such column")?;
        assert!(
            first.is_char_boundary(at) && first.get(at - 1..=at).is_some_and(|edge| edge.starts_with(' ')),
            "{output}"
        );
    }
    let words: Vec<_> = first.split_whitespace().collect();
    let line = format!("{policy}:5");
    let expected = ["3", "denied", "out", "bookstore/cart", "far-1:25", "tcp", "bookstore:", "deny"];
    assert_eq!(words.get(..8), Some(expected.as_slice()), "{output}");
    assert_eq!(words.last(), Some(&line.as_str()), "{output}");
    assert_eq!(*sum, "5 decisions");
    assert_eq!(output.matches("COUNT").count(), 1, "in a pipe it prints once: {output}");
    Ok(())
}

#[test]
fn times_are_local_and_verdicts_have_colours() -> Tested {
    let stage = Stage::ruled(RULES)?;
    stage.dial("10.0.3.9:25")?;
    let json = recalled(&stage, &[])?;
    let utc = json[0]["time"].as_str().ok_or("no time")?.to_owned();
    let of = |zone: &str, arguments: &[&str]| {
        let mut command = stage.meshc();
        command.env("TZ", zone).env_remove("NO_COLOR").args(arguments).args(["observe", "--since", "5m"]);
        Answer::of(&mut command)?.done()
    };
    let there = of("XYZ-5:30", &[])?;
    let [titles, line] = there.stdout.lines().collect::<Vec<_>>()[..] else {
        return Err(there.stdout.into());
    };
    assert!(titles.starts_with("TIME +05:30 ") && there.stderr.contains("UTC+05:30"), "{there:#?}");
    let hour: u32 = utc.get(11..13).ok_or("no hour")?.parse()?;
    let minute: u32 = utc.get(14..16).ok_or("no minute")?.parse()?;
    let minutes = (hour * 60 + minute + 330) % (24 * 60);
    assert_eq!(line.get(6..12), Some(format!("{:02}:{:02}:", minutes / 60, minutes % 60).as_str()), "{line}");
    assert!(line.contains("  denied      bookstore/cart"), "{line}");
    assert!(!there.stdout.contains('\u{1b}'));
    let colored = of("UTC", &["--color", "always"])?;
    assert!(colored.stdout.contains("\u{1b}[31;1mdenied\u{1b}[0m"), "{colored:#?}");
    let plain: String = uncolored(&colored.stdout);
    assert_eq!(plain, of("UTC", &[])?.stdout);
    Ok(())
}

/// The text without colours.
fn uncolored(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').map_or("", |(_, rest)| rest))
}

#[test]
fn who_has_left_is_still_called_by_name() -> Tested {
    let stage = Stage::ruled(&format!("{RULES}\nworkload box {{ label app = \"box\" }}"))?;
    let netns = stage.pair().client.path().display().to_string();
    stage.ask(&["attach", "--name", "pod-1", "--label", "app=box", "--netns", &netns])?;
    as_member(&stage.beside(), || drop(Client::to(([10, 0, 3, 9], 25).into()).dial()))?;
    stage.ask(&["detach", "--name", "pod-1"])?;
    let lines = recalled(&stage, &["--member", "pod-1"])?;
    let told: Vec<_> = lines.iter().map(|line| parts(line, &["workload", "member", "verdict"])).collect();
    assert_eq!(json!(told), json!([["box", "pod-1", "denied"]]));
    Ok(())
}

#[test]
fn nothing_is_kept_where_that_is_not_wanted() -> Tested {
    let stage = Stage::ruled(RULES)?;
    let keeps = || stage.ask(&["status"]).map(|status| status["keeps_decisions"].clone());
    stage.dial("10.0.3.9:25")?;
    assert_eq!((recalled(&stage, &[])?.len(), keeps()?), (1, json!(true)));
    let policy = stage.ground().dir().join("policy.mesh").display().to_string();
    stage.ask(&["apply", &policy, "--keep-decisions", "off"])?;
    assert_eq!(keeps()?, false);
    let refused = |arguments: &[&str]| -> Result<(), Failure> {
        let answer = Answer::of(stage.meshc().args(["--format", "json", "observe"]).args(arguments))?;
        assert_eq!(
            (answer.code, &answer.json()?["error"]["code"]),
            (1, &json!("nothing-kept")),
            "{answer:#?}"
        );
        Ok(())
    };
    refused(&["--since", "1m"])?;
    refused(&["--since", "1m", "--follow"])?;
    stage.dial("10.0.3.9:25")?;
    // Another policy, and a new set of maps: it stays as it was said.
    stage.apply_rules("deny outbound tcp 25")?;
    assert_eq!(keeps()?, false);
    stage.ask(&["detach", "--all"])?;
    stage.ask(&["restore"])?;
    assert_eq!(keeps()?, false);
    let observer = Observer::start(&stage, "observed", &[])?;
    stage.dial("10.0.3.9:25")?;
    assert_eq!(observer.wait(1)?[0]["verdict"], "denied", "who looks is told all the same");
    stage.ask(&["apply", &policy, "--keep-decisions", "on"])?;
    assert_eq!(recalled(&stage, &[])?.len(), 0, "what was kept before is gone");
    stage.dial("10.0.3.9:25")?;
    assert_eq!((recalled(&stage, &[])?.len(), keeps()?), (1, json!(true)));
    Ok(())
}
