//! Suite K over the store's drivers, and the store as several processes see it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests fail by panicking and speak through their output")]

mod child;
mod data_dir;
mod desk;
mod documents;
mod files;
mod processes;
mod queue;
mod speed;
mod suite;

use desk::Desk;

/// Every law of the suite holds for SQLite, asked directly and through the owner's socket.
macro_rules! suite {
    ($laws:ident: $owner:ident, $remote:ident: $($law:ident),* $(,)?) => {
        mod $owner {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $law() { crate::$laws::$law(&crate::Desk::owner()).await })*
        }
        mod $remote {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $law() { crate::$laws::$law(&crate::Desk::remote()).await })*
        }
    };
}
mod of_the_queue {
    macro_rules! laws {
        ($($law:ident),* $(,)?) => { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                crate::queue::$law(&crate::Desk::owner()).await;
                crate::queue::$law(&crate::Desk::remote()).await;
            }
        )* };
    }
    laws!(
        a_run_waits_once_and_a_connection_has_one_that_waits_or_goes,
        a_tick_has_one_run,
        a_run_that_waits_can_be_cancelled_and_is_then_not_started,
        a_run_waits_again_until_its_attempts_are_used_up,
        what_a_dead_process_held_waits_again_or_failed,
        requests_of_the_queue_may_be_asked_twice,
        runs_are_listed_by_project,
    );
}

suite!(suite: sqlite_as_owner, sqlite_through_the_socket:
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

suite!(documents: documents_as_owner, documents_through_the_socket:
    a_change_is_whole_or_nothing,
    a_name_is_unique_in_its_kind_and_project,
    a_document_is_found_by_id_or_name_and_in_its_project_only,
    pages_of_documents_stay_whole_while_others_are_made_and_renamed,
    of_fifty_updates_of_one_version_one_wins,
    what_is_observed_raises_no_version,
    an_idempotency_key_gets_the_first_answer_again,
    a_change_asked_twice_is_done_once,
    a_deleted_document_takes_its_secret_and_history_but_not_its_audit,
    a_history_keeps_its_newest,
    a_secret_is_kept_set_turned_and_removed,
    a_data_key_with_secrets_under_it_stays,
    an_erased_secret_is_in_no_file,
);
