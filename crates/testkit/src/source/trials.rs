//! The trials of a source.
use std::sync::Arc;

use crate::{Trials, source::SourceHarness};

pub(super) async fn run<H: SourceHarness>(_trials: &mut Trials, _harness: Arc<H>) {}
