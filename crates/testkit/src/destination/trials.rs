//! The trials of a destination.
use std::sync::Arc;

use crate::{Trials, destination::DestinationHarness};

pub(super) async fn run<H: DestinationHarness>(_trials: &mut Trials, _harness: Arc<H>) {}
