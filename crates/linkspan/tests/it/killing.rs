//! Kill -9 at random moments: the part that is the same for every pair of systems.

use std::time::Duration;

use linkspan_testkit::{
    chaos::mix,
    process::{Process, Signal},
    scale,
};

/// The longest that a run which nobody disturbs may take.
pub const LONG: Duration = Duration::from_secs(120);

/// `LINKSPAN_TEST_SEED`, or one of the moment; printed, so that a failure can be played again.
#[allow(clippy::print_stdout, reason = "a failure is played again with it")]
pub fn seed() -> u64 {
    let given = std::env::var("LINKSPAN_TEST_SEED").ok().and_then(|s| s.parse().ok());
    let seed = given.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    println!("LINKSPAN_TEST_SEED={seed}");
    seed
}

/// Kills as many runs as the scale says, anywhere in their work. `whole` is how long a run takes: measured once by the caller, then
/// followed, so that most kills meet a running program. `before` prepares a round (kills so far, rounds so far), `after` looks at what
/// the kill left (kills so far).
pub async fn kill_at_random(
    mut whole: Duration,
    start: impl Fn() -> Process,
    before: impl AsyncFn(usize, usize),
    after: impl AsyncFn(usize),
) {
    let mut seed = seed();
    let (mut hit, mut missed) = (0, 0);
    while hit < scale().kills {
        before(hit, hit + missed).await;
        seed = mix(seed);
        let mut run = start();
        if run.wait_at_most(whole.mul_f64((seed % 1_000) as f64 / 1_000.0)).is_none() {
            hit += 1;
            whole = whole.mul_f64(1.02);
        } else {
            missed += 1;
            whole = whole.mul_f64(0.9);
            assert!(missed <= 4 * scale().kills, "the runs end before they can be killed");
        }
        run.signal(Signal::Kill);
        run.wait(LONG);
        after(hit).await;
    }
}
