//! Real processes, killed and frozen at any moment.

use std::{process::Command, sync::atomic::Ordering, time::Duration};

use linkspan_core::*;
use linkspan_testkit::process::{Process, Signal};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::*;

const CHILD: &str = "LINKSPAN_LAKE_TEST_CHILD";
const SLICES: u64 = 60;

fn stream_of(write: &str) -> LoadStream {
    match write {
        "replace" => replace("public.t", 1),
        "merge" => merge("public.t"),
        _ => append("public.t"),
    }
}

/// Not a test of its own: what the tests below start as another process.
#[test]
fn the_child_that_is_killed() {
    let Ok(text) = std::env::var(CHILD) else { return };
    let told: Value = serde_json::from_str(&text).unwrap();
    let connection = ConnectionId(told["connection"].as_str().unwrap().parse::<Uuid>().unwrap());
    let world = World::other(told["config"].clone(), connection, told["fence"].as_u64().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!("child begins");
    runtime.block_on(run(&world, &stream_of(told["write"].as_str().unwrap()), SLICES, &Failpoints::default())).unwrap();
}

fn start(world: &World, write: &str) -> Process {
    // Each run's fence is larger than any earlier one's.
    let fence = world.fence.fetch_add(1, Ordering::Relaxed);
    let told = json!({"config": world.config, "connection": world.connection.to_string(), "fence": fence, "write": write});
    let mut command = Command::new(std::env::current_exe().unwrap());
    let child = Process::start(command.args(["--exact", "kills::the_child_that_is_killed", "--nocapture"]).env(CHILD, told.to_string()));
    assert!(child.wait_for_line("child begins", Duration::from_secs(30)), "{}", child.text());
    child
}

async fn kills_lose_and_repeat_nothing(write: &str) {
    let world = World::local();
    let stream = stream_of(write);
    for kill in 0..linkspan_testkit::scale().kills as u64 {
        let mut child = start(&world, write);
        // Spread over the time that a few commits take; a child that is done earlier is as good.
        let moment = Duration::from_micros(500 + (kill * 7_919) % 40_000);
        if child.wait_at_most(moment).is_none() {
            child.signal(Signal::Kill);
        }
        child.wait(Duration::from_secs(10));
    }
    run(&world, &stream, SLICES, &Failpoints::default()).await.unwrap();
    assert_eq!(world.ids(&stream.stream).await, (0..SLICES as i64 * 10).collect::<Vec<_>>());
    if write == "merge" {
        let last = |id: i64| (id / 10 + i64::from(id % 10 >= 5)).min(SLICES as i64 - 1);
        let expected = (0..SLICES as i64 * 10).map(|id| (id, format!("v{}", last(id)))).collect::<Vec<_>>();
        assert_eq!(world.names(&stream.stream).await, expected);
    }
    let left: Vec<_> = files_below(&world.root()).into_iter().filter(|f| f.contains("_linkspan/tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn appends_killed_at_any_moment_lose_and_repeat_nothing() {
    kills_lose_and_repeat_nothing("append").await;
}

#[tokio::test]
async fn a_replace_killed_at_any_moment_loses_and_repeats_nothing() {
    kills_lose_and_repeat_nothing("replace").await;
}

#[tokio::test]
async fn a_merge_killed_at_any_moment_has_each_key_once_and_as_it_came_last() {
    kills_lose_and_repeat_nothing("merge").await;
}

#[tokio::test]
async fn a_process_that_was_frozen_while_another_took_over_commits_no_more() {
    let world = World::local();
    let stream = stream_of("append");
    let mut frozen = start(&world, "append");
    frozen.signal(Signal::Stop);
    run(&world, &stream, SLICES, &Failpoints::default()).await.unwrap();
    let done = (0..SLICES as i64 * 10).collect::<Vec<_>>();
    assert_eq!(world.ids(&stream.stream).await, done);
    frozen.signal(Signal::Continue);
    frozen.wait(Duration::from_secs(30));
    assert_eq!(world.ids(&stream.stream).await, done);
}
