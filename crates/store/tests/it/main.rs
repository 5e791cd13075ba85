//! Suite K over the store's drivers, and the store as several processes see it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests fail by panicking and speak through their output")]

mod child;
mod data_dir;
mod desk;
mod files;
mod processes;
mod speed;
mod suite;

use desk::Desk;

/// Every law of the suite holds for SQLite, asked directly and through the owner's socket.
macro_rules! suite {
    ($($law:ident),* $(,)?) => {
        mod sqlite_as_owner {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $law() { crate::suite::$law(&crate::Desk::owner()).await })*
        }
        mod sqlite_through_the_socket {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $law() { crate::suite::$law(&crate::Desk::remote()).await })*
        }
    };
}

suite!(
    connections_are_found_by_name_or_id_and_made_once,
    fifty_makers_of_one_name_get_one_connection,
    pages_stay_whole_while_rows_arrive,
    a_request_that_fails_leaves_nothing_of_itself,
    one_of_fifty_claims_wins_and_the_next_has_a_larger_fence,
    a_refused_claim_says_who_holds_it,
    a_lease_runs_out_by_the_stores_clock_and_the_stale_run_saves_nothing,
    a_lease_that_is_renewed_does_not_run_out,
    a_dropped_claim_writes_nothing_more,
    a_run_is_finished_once,
    a_saved_position_comes_back_as_it_was,
    saves_repeat_but_never_go_back,
    a_drawn_generation_forgets_its_stream_and_only_that,
    a_generation_keeps_its_target_and_a_new_one_has_none_yet,
    adoption_goes_either_way,
    a_reset_outranks_what_destinations_recall,
    schemas_are_kept_when_they_differ,
    many_savers_share_commits,
    every_change_may_be_asked_twice,
    deleting_a_connection_leaves_nothing,
);
