//! Which rows exist and what happens to each in a round. Pure arithmetic on (seed, id, round): nothing is kept, so any
//! position can be resumed and any later state can be predicted.

/// Which of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Customers,
    Orders,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Customers, Self::Orders];
    pub fn name(self) -> &'static str {
        match self {
            Self::Customers => "customers",
            Self::Orders => "orders",
        }
    }
    pub fn salt(self) -> u64 {
        match self {
            Self::Customers => 0x6375_7374_6f6d_6572,
            Self::Orders => 0x6f72_6465_7273_0001,
        }
    }
}

/// What a round does to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Insert,
    Update,
    Delete,
}

/// A row to send: its id, the round whose content it shows, and what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Happening {
    pub id: u64,
    pub version: u64,
    pub op: Op,
}

/// How many times rarer deletes are than updates.
const DELETES_RARER: u64 = 5;

#[derive(Clone, Debug)]
pub(super) struct Table {
    pub kind: Kind,
    salt: u64,
    initial: u64,
    every: u64,
    customers: u64,
}

impl Table {
    pub fn new(kind: Kind, seed: u64, initial: u64, every: u64, customers: u64) -> Self {
        Self { kind, salt: mix(seed ^ kind.salt()), initial, every, customers }
    }
    /// How many rows round 0 has.
    pub fn initial(&self) -> u64 {
        self.initial
    }
    pub fn customers(&self) -> u64 {
        self.customers
    }
    /// Names the rows that this table can make: a position of another table cannot be resumed here.
    pub fn fingerprint(&self) -> String {
        format!("{:016x}", mix(self.salt ^ mix(self.initial) ^ mix(self.every ^ 0x5bd1).rotate_left(9) ^ mix(!self.customers)))
    }
    /// The highest id that any round up to this one has.
    pub fn last_id(&self, round: u64) -> u64 {
        self.initial.saturating_add(round.saturating_mul(self.inserts()))
    }
    /// The bits that a row's content is drawn from.
    pub fn bits(&self, id: u64, version: u64) -> u64 {
        mix(self.salt ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ version.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }
    /// What `round` (1 and up) does to the row, if anything.
    pub fn happens(&self, id: u64, round: u64) -> Option<Happening> {
        let birth = self.birth(id);
        if birth >= round {
            return (birth == round).then_some(Happening { id, version: round, op: Op::Insert });
        }
        let fate = self.fate(id);
        let death = next_at(fate % (self.every * DELETES_RARER), self.every * DELETES_RARER, birth);
        let phase = (fate >> 32) % self.every;
        if death <= round {
            return (death == round).then(|| Happening { id, version: self.updated_by(phase, birth, round - 1), op: Op::Delete });
        }
        (round % self.every == phase).then_some(Happening { id, version: round, op: Op::Update })
    }
    /// The version of a row that is alive after `round`; `None` for one that is not.
    #[cfg(test)]
    pub fn alive(&self, id: u64, round: u64) -> Option<u64> {
        let birth = self.birth(id);
        if self.every == 0 {
            return Some(0);
        }
        let fate = self.fate(id);
        let death = next_at(fate % (self.every * DELETES_RARER), self.every * DELETES_RARER, birth);
        (birth <= round && death > round).then(|| self.updated_by((fate >> 32) % self.every, birth, round))
    }
    fn inserts(&self) -> u64 {
        if self.every == 0 { 0 } else { self.initial.div_ceil(self.every) }
    }
    /// The round that brings the row.
    fn birth(&self, id: u64) -> u64 {
        if id <= self.initial { 0 } else { (id - self.initial - 1) / self.inserts().max(1) + 1 }
    }
    fn fate(&self, id: u64) -> u64 {
        mix(self.salt.rotate_left(17) ^ id)
    }
    /// The last round up to `round` that updated the row, or the one that brought it.
    fn updated_by(&self, phase: u64, birth: u64, round: u64) -> u64 {
        let since = (round + self.every - phase) % self.every;
        if round >= since && round - since > birth { round - since } else { birth }
    }
}

/// The first round after `birth` that is `phase` modulo `period`.
fn next_at(phase: u64, period: u64, birth: u64) -> u64 {
    let first = birth + 1;
    first + (phase + period - first % period) % period
}

/// SplitMix64's finisher.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn applying_every_round_gives_the_rows_that_are_alive() {
        let table = Table::new(Kind::Orders, 7, 2_000, 20, 500);
        let mut rows: BTreeMap<u64, u64> = (1..=2_000).map(|id| (id, 0)).collect();
        for round in 1..=60 {
            for id in 1..=table.last_id(round) {
                match table.happens(id, round) {
                    Some(Happening { op: Op::Insert, version, .. }) => assert!(rows.insert(id, version).is_none()),
                    Some(Happening { op: Op::Update, version, .. }) => assert!(rows.insert(id, version).is_some()),
                    Some(Happening { op: Op::Delete, version, .. }) => assert_eq!(rows.remove(&id), Some(version)),
                    None => {}
                }
            }
            let alive: BTreeMap<u64, u64> = (1..=table.last_id(round)).filter_map(|id| Some((id, table.alive(id, round)?))).collect();
            assert_eq!(rows, alive, "round {round}");
        }
    }

    #[test]
    fn a_round_changes_about_as_much_as_it_says() {
        let table = Table::new(Kind::Customers, 7, 200_000, 100, 200_000);
        let mut counts = [0u64; 3];
        for id in 1..=table.last_id(1) {
            if let Some(h) = table.happens(id, 1) {
                counts[h.op as usize] += 1;
            }
        }
        assert_eq!(counts[0], 2_000);
        assert!((1_800..2_200).contains(&counts[1]), "{counts:?}");
        assert!((300..500).contains(&counts[2]), "{counts:?}");
    }
}
