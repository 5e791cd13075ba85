//! Both ends of a run, open: what they offer to a plan, and what is set aside for the run so that no lane of it waits for another.

use std::{ptr, sync::Arc};

use linkspan_core::{Connector, Context, Destination, Ends, Reserved, Result, Source};

use super::job::Job;

pub(super) struct OpenEnds {
    from: Arc<dyn Connector>,
    to: Arc<dyn Connector>,
    /// Opened for this run alone.
    own: [bool; 2],
}

/// What the rows move between, and in how many lanes at once.
pub(super) struct Moving {
    pub source: Arc<dyn Source>,
    pub destination: Arc<dyn Destination>,
    pub lanes: usize,
}

impl OpenEnds {
    /// Both ends are one connector where the job names the same twice: its limits count for both together.
    pub fn open(job: &Job, context: &Context) -> Result<Self> {
        let from = job.from.open(context.clone())?;
        let to = if from.pool().is_some() && job.from.is_same(&job.to) { from.clone() } else { job.to.open(context.clone())? };
        Ok(Self { from, to, own: [&job.from, &job.to].map(|end| !end.is_kept_open()) })
    }

    /// Both ends as they are without anything set aside.
    pub fn offered(&self, job: &Job) -> Result<(Arc<dyn Source>, Arc<dyn Destination>)> {
        both(job, &self.from, &self.to)
    }

    /// Waits until both ends have what a run of so many lanes needs, or of fewer.
    pub async fn reserved(&self, job: &Job, lanes: usize) -> Result<Moving> {
        let mut lanes = lanes;
        let mut found = [self.from.clone(), self.to.clone()];
        for (end, at) in self.in_order() {
            if let Some(Reserved { connector, lanes: least }) = found[at[0]].reserve(end, lanes).await? {
                at.iter().for_each(|at| found[*at] = connector.clone());
                lanes = lanes.min(least);
            }
        }
        let [from, to] = &found;
        let (source, destination) = both(job, from, to)?;
        Ok(Moving { source, destination, lanes })
    }

    /// By address, so that two runs that cross each other ask in the same order.
    fn in_order(&self) -> Vec<(Ends, &'static [usize])> {
        let (from, to) = (Arc::as_ptr(&self.from).cast::<()>(), Arc::as_ptr(&self.to).cast::<()>());
        let mut order: Vec<(Ends, &'static [usize])> = vec![(Ends::Source, &[0]), (Ends::Destination, &[1])];
        match () {
            () if ptr::eq(from, to) => order = vec![(Ends::Both, &[0, 1])],
            () if to < from => order.reverse(),
            () => {}
        }
        order
    }

    /// Ends the sessions of what was opened for this run.
    pub async fn close(&self) {
        for (own, connector) in self.own.iter().zip([&self.from, &self.to]) {
            if *own {
                connector.close().await;
            }
        }
    }
}

fn both(job: &Job, from: &Arc<dyn Connector>, to: &Arc<dyn Connector>) -> Result<(Arc<dyn Source>, Arc<dyn Destination>)> {
    Ok((job.from.source_of(from)?, job.to.destination_of(to)?))
}
