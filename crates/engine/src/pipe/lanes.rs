//! Lanes as a source yields them: pulled one at a time, several sources of lanes one after the other.

use std::{collections::VecDeque, panic::AssertUnwindSafe};

use futures::{FutureExt, StreamExt, stream::BoxStream};
use linkspan_core::{Lane, Result};

#[derive(Default)]
pub(super) struct Lanes {
    queue: VecDeque<BoxStream<'static, Result<Box<dyn Lane>>>>,
}

impl Lanes {
    pub fn push(&mut self, lanes: BoxStream<'static, Result<Box<dyn Lane>>>) {
        self.queue.push_back(lanes);
    }
    pub fn clear(&mut self) {
        self.queue.clear();
    }
    pub fn is_exhausted(&self) -> bool {
        self.queue.is_empty()
    }
    /// The next lane, or `None` when one source of lanes is exhausted. May be dropped at any time: nothing is lost.
    pub async fn next(&mut self) -> Option<Result<Box<dyn Lane>>> {
        let lanes = self.queue.front_mut()?;
        let next = AssertUnwindSafe(lanes.next()).catch_unwind().await;
        match next {
            Ok(Some(lane)) => Some(lane),
            Ok(None) => {
                self.queue.pop_front();
                None
            }
            Err(_) => {
                self.queue.pop_front();
                Some(Err(super::panicked("the source")))
            }
        }
    }
}
