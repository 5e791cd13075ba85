//! Suite K over the store's drivers, and the store as several processes see it.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod desk;
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

suite!(connections_are_found_by_name_or_id_and_made_once,);
