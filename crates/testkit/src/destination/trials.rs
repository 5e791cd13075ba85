//! The list of the trials of a destination (D), chosen by its capability.

use std::sync::Arc;

use linkspan_core::{Atomic, Visible, WriteMode};

use super::{DestinationHarness, bench::Bench};
use crate::Trials;

pub(super) async fn run<H: DestinationHarness>(t: &mut Trials, harness: Arc<H>) {
    let b = Bench::new(harness);
    let can = b.destination().capability();
    let has = |mode| can.modes.contains(&mode);
    let any = can.modes[0];
    let atomic = can.atomic != Atomic::None;

    t.run("refuses_a_mode_it_does_not_have", b.refuses_other_modes()).await;
    t.run("knows_nothing_of_a_stranger", b.knows_no_stranger()).await;
    t.run("says_what_stands_at_the_target", b.says_what_stands(any)).await;
    t.run("an_empty_commit_is_fine", b.empty_commit(any)).await;
    t.run("leases_are_given_back_before_the_commit", b.gives_leases_back(any)).await;
    t.run("many_tiny_batches_are_one_commit", b.tiny_batches(any)).await;
    t.run("a_row_of_ten_megabytes_is_a_row", b.big_row(any)).await;
    t.run("a_dropped_session_leaves_nothing_visible", b.dropped_session(any)).await;
    t.run("a_cut_connection_is_a_retryable_error", b.cut(any)).await;
    t.run("odd_names_are_kept_or_refused", b.odd_names(any)).await;
    t.run("every_type_reads_back_or_is_a_declared_loss", b.torture(any)).await;
    t.run("forgetting_drops_positions_and_keeps_rows", b.forgets(any)).await;
    t.run("columns_that_the_rows_lack_stay_null", b.fewer_columns(any)).await;
    for mode in can.modes.clone() {
        t.run(&format!("a_crash_at_every_failpoint_loses_nothing_{}", mode_name(mode)), b.crashes(mode)).await;
    }
    if has(WriteMode::Append) {
        t.run("append_keeps_every_row", b.appends()).await;
    }
    if has(WriteMode::Merge) {
        t.run("merge_keeps_the_last_row_of_a_key", b.merges()).await;
        t.run("merge_refuses_a_null_key", b.null_key()).await;
        t.run("merge_folds_a_feed_column_by_column", b.folds_a_feed()).await;
        if can.deletes {
            t.run("merge_deletes", b.deletes()).await;
        }
    }
    if has(WriteMode::Replace) {
        t.run("an_interrupted_replace_leaves_the_old_rows", b.interrupted_replace()).await;
        t.run("an_abandoned_generation_is_cleaned_away", b.abandoned_generation()).await;
        t.run("an_empty_replace_empties_the_table", b.empty_replace()).await;
        t.run("a_rewrite_shows_the_same_rows", b.rewrite()).await;
        t.run("publishing_twice_is_publishing_once", b.publishes_twice()).await;
    }
    if has(WriteMode::Append) || has(WriteMode::Merge) {
        let mode = if has(WriteMode::Append) { WriteMode::Append } else { WriteMode::Merge };
        t.run("a_truncate_takes_effect_with_the_commit", b.truncates(mode)).await;
        if can.add_column {
            t.run("a_new_column_keeps_the_old_rows", b.adds_a_column(mode)).await;
        }
        if can.widen_column {
            t.run("a_widened_column_keeps_the_old_values", b.widens_a_column(mode)).await;
        }
        if can.drop_not_null {
            t.run("a_column_can_become_nullable", b.drops_not_null(mode)).await;
        }
        if atomic && can.commit_visible == Visible::Atomic {
            t.run("nothing_is_visible_before_the_commit", b.invisible_before_commit(mode)).await;
        }
    }
    if atomic {
        t.run("a_commit_is_compare_and_set", b.compare_and_set(any)).await;
        t.run("recall_tells_what_was_committed", b.recalls(any)).await;
        t.run("a_new_generation_counts_from_the_start", b.new_generation(any)).await;
        if can.parallel {
            t.run("two_lanes_of_one_run_commit_side_by_side", b.parallel_lanes(any)).await;
        }
    }
    if atomic && can.fences {
        t.run("a_stale_fence_is_refused", b.stale_fence(any)).await;
        if has(WriteMode::Replace) {
            t.run("a_stale_run_cannot_publish", b.stale_publish()).await;
        }
    }
    if can.atomic == Atomic::Session {
        t.run("one_commit_shows_every_stream_of_the_lane_or_none", b.all_streams_or_none(any)).await;
    }
}

pub(super) fn mode_name(mode: WriteMode) -> &'static str {
    match mode {
        WriteMode::Append => "append",
        WriteMode::Replace => "replace",
        WriteMode::Merge => "merge",
    }
}
