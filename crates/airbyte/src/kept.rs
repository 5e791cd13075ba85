//! A source's config where a house keeps it: read again before a token that is good for one use is spent, and written before its
//! successor is used.

use std::sync::Arc;

use linkspan_core::{Holding, Keeper, Place, Result};
use serde_json::{Map, Value};

use crate::{
    config::{Prepared, Spec},
    dpath::{self, Step},
};

/// Whose config it is, and how the source sees it.
pub struct Kept {
    keeper: Arc<dyn Keeper>,
    /// The source's config lies in this place of what is kept.
    within: Place,
    root: Arc<Value>,
}

/// The config, in one hand for a while.
pub struct InHand<'a> {
    kept: &'a Kept,
    pub holding: Box<dyn Holding>,
}

/// Values at their places in the source's config.
pub type Changes<'a> = Vec<(&'a [Step], Value)>;

impl Kept {
    pub fn new(keeper: Arc<dyn Keeper>, within: Place, root: Arc<Value>) -> Self {
        Self { keeper, within, root }
    }

    /// A credential that is not kept, and of which nothing is to be told.
    pub fn hush(&self, credential: &str) {
        self.keeper.hush(credential);
    }

    /// Takes the config; with it comes what the source is to see from now on: what others kept is in it.
    pub async fn hold(&self, places: &[&[Step]]) -> Result<(InHand<'_>, Value)> {
        let places: Vec<Place> = places.iter().map(|place| self.whole(place)).collect();
        let hand = InHand { kept: self, holding: self.keeper.hold(&places).await? };
        let now = hand.prepared()?.config;
        Ok((hand, now))
    }

    fn whole(&self, place: &[Step]) -> Place {
        self.within.iter().cloned().chain(place.iter().map(Step::shown)).collect()
    }
}

impl InHand<'_> {
    /// What is kept, as the source's config.
    fn stands(&self) -> Value {
        let inner = self.kept.within.iter().try_fold(self.holding.config(), |value, name| value.get(name));
        inner.cloned().unwrap_or_default()
    }
    fn prepared(&self) -> Result<Prepared> {
        let stands = self.stands();
        match Spec::of(&self.kept.root)? {
            Some(spec) => spec.prepare(stands),
            None => Ok(Prepared { config: stands, migrated: None }),
        }
    }

    /// Keeps the values, and what the manifest migrated, durably; the answer is the config that the source is to see now.
    pub async fn keep(self, values: Changes<'_>) -> Result<Value> {
        let Prepared { mut config, migrated } = self.prepared()?;
        let mut changes: Vec<(Place, Value)> = migrated.map_or_else(Vec::new, |migrated| self.migrated(&migrated));
        for (place, value) in values {
            dpath::put(&mut config, place, value.clone())?;
            changes.push((self.kept.whole(place), value));
        }
        self.holding.keep(&changes).await?;
        Ok(config)
    }

    /// Top fields that the manifest's migrations changed: they come before the tokens, which go into what they made.
    fn migrated(&self, migrated: &Value) -> Vec<(Place, Value)> {
        let nothing = Map::new();
        let stands = self.stands();
        let (old, new) = (stands.as_object().unwrap_or(&nothing), migrated.as_object().unwrap_or(&nothing));
        let place = |name: &String| self.kept.within.iter().chain([name]).cloned().collect();
        let gone = old.keys().filter(|name| !new.contains_key(*name)).map(|name| (place(name), Value::Null));
        let changed = new.iter().filter(|(name, value)| old.get(*name) != Some(value)).map(|(name, value)| (place(name), value.clone()));
        gone.chain(changed).collect()
    }
}
